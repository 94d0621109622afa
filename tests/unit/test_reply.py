"""`wsd.wire.reply`: the heads of responses by RFC 9112, literal bytes in, a reply or the text of a refusal out."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.cuts import every_cut
from wsd.errors import ConnectError
from wsd.wire.reply import MAX_BODY_START_BYTES, BodyStart, Reply, ReplyReader

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\n\r\n"
)
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"

Outcome = tuple[str, object]


def outcome(pieces: list[bytes], **limits: int) -> Outcome:
    """What a reader makes of bytes that come in these pieces: the head and the rest, or why it refused."""
    reader = ReplyReader(**limits)
    for at, piece in enumerate(pieces):
        try:
            found = reader.feed(piece)
        except ConnectError as error:
            return f"refused, {error.cause}", error.text
        if found is not None:
            return "read", (found[0].raw, found[1] + b"".join(pieces[at + 1 :]))
    return "waiting", None


def read(data: bytes, **limits: int) -> tuple[bytes, bytes]:
    """The head and the rest that are found in `data`, however it is cut."""
    found = {outcome(pieces, **limits) for pieces in every_cut(data)}
    assert len(found) == 1, found
    kind, value = found.pop()
    assert kind == "read", (kind, value)
    assert isinstance(value, tuple)
    return value


def refusal(data: bytes, **limits: int) -> str:
    """The text that `data` is refused with, however it is cut."""
    found = {outcome(pieces, **limits) for pieces in every_cut(data)}
    assert len(found) == 1, found
    kind, text = found.pop()
    assert kind == "refused, reply", (kind, text)
    assert isinstance(text, str)
    return text


class TestReply:
    def test_what_it_tells(self) -> None:
        reply = Reply(SWITCH)
        assert (reply.http_version, reply.status, reply.reason) == ("1.1", 101, "Switching Protocols")
        assert reply.headers.get("upgrade") == "websocket"
        assert reply.headers.get_all("Set-Cookie") == ["a=b", "c=d"]
        assert len(reply.headers) == 5
        assert repr(reply) == "<Reply 101 Switching Protocols>"

    def test_it_keeps_the_raw_head_alone(self) -> None:
        reply = Reply(SWITCH)
        assert reply.raw == SWITCH
        assert not hasattr(reply, "__dict__")
        assert reply.headers is not reply.headers


class TestPieces:
    """RFC 9112 2.2: the end of a head is found in the bytes, however they come."""

    def test_the_head_and_what_follows_it(self) -> None:
        assert read(SWITCH + b"\x81\x02hi") == (SWITCH, b"\x81\x02hi")

    def test_frames_that_look_like_a_head_are_none(self) -> None:
        assert read(SWITCH + SWITCH) == (SWITCH, SWITCH)

    def test_nothing_is_not_a_refusal(self) -> None:
        reader = ReplyReader()
        assert reader.feed(b"") is None
        assert reader.is_empty
        assert reader.feed(b"H") is None
        assert not reader.is_empty

    def test_half_a_head_is_waited_for(self) -> None:
        assert {outcome(pieces) for pieces in every_cut(SWITCH[:-1])} == {("waiting", None)}


class TestStatusLine:
    """RFC 9112 4: HTTP-version SP status-code SP [ reason-phrase ]."""

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            (b"HTTP/1.1 200 OK", ("1.1", 200, "OK")),
            (b"HTTP/1.0 200 Connection established", ("1.0", 200, "Connection established")),
            (b"HTTP/1.1 404 ", ("1.1", 404, "")),
            (b"HTTP/1.1 404", ("1.1", 404, "")),  # without the space that MUST be there
            (b"HTTP/1.1 599 a\tb \xe4", ("1.1", 599, "a\tb \xe4")),
            (b"HTTP/1.1 101  Two spaces ", ("1.1", 101, "Two spaces")),
        ],
    )
    def test_good(self, line: bytes, told: tuple[str, int, str]) -> None:
        head, rest = read(line + b"\r\n\r\n")
        reply = Reply(head)
        assert (reply.http_version, reply.status, reply.reason) == told
        assert len(reply.headers) == 0
        assert rest == b""

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", id="SSH"),
            pytest.param(b"220 mail.example ESMTP\r\n", id="SMTP"),
            pytest.param(b"\x15\x03\x03\x00\x02\x02\x46", id="TLS"),
            pytest.param(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", id="HTTP/2"),
            pytest.param(b"\x81\x02hi", id="a frame"),
            pytest.param(b"ICY 200 OK\r\n\r\n", id="another protocol"),
            pytest.param(b"<html>", id="HTTP/0.9"),
            pytest.param(b"http/1.1 200 OK\r\n\r\n", id="small letters"),
            pytest.param(b"\r\nHTTP/1.1 200 OK\r\n\r\n", id="an empty line before it"),
            pytest.param(b" HTTP/1.1 200 OK\r\n\r\n", id="a space before it"),
        ],
    )
    def test_not_http(self, data: bytes) -> None:
        assert refusal(data) == "the answer is not HTTP"

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param(b"HTTP/1.1 OK", id="no status"),
            pytest.param(b"HTTP/1.1 20 OK", id="two digits"),
            pytest.param(b"HTTP/1.1 2000 OK", id="four digits"),
            pytest.param(b"HTTP/1.1 +20 OK", id="sign"),
            pytest.param(b"HTTP/1.1 099 OK", id="below 100"),
            pytest.param(b"HTTP/1.1 600 OK", id="above 599"),
            pytest.param(b"HTTP/1.1  200 OK", id="two spaces"),
            pytest.param(b"HTTP/1.1\t200 OK", id="tab"),
            pytest.param(b"HTTP/1.1200 OK", id="no space"),
            pytest.param(b"HTTP/1 200 OK", id="no minor version"),
            pytest.param(b"HTTP/1.10 200 OK", id="minor version of two digits"),
            pytest.param(b"HTTP/1.1 200 a\0b", id="NUL"),
            pytest.param(b"HTTP/1.1 200 a\x1b[2Jb", id="ESC"),
            pytest.param(b"HTTP/1.1 200 a\rb", id="bare CR"),
            pytest.param("HTTP/1.1 \uff12\uff10\uff10 OK".encode(), id="digits of another script"),
            pytest.param(b"HTTP/", id="nothing"),
        ],
    )
    def test_bad(self, line: bytes) -> None:
        assert refusal(line + b"\r\n\r\n") == "the first line of the answer is not HTTP/1.1 STATUS REASON"

    @pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0"])
    def test_other_versions(self, version: bytes) -> None:
        assert refusal(b"HTTP/%b 200 OK\r\n\r\n" % version) == f"the answer is in HTTP/{version.decode()}"

    def test_it_is_refused_before_the_head_is_complete(self) -> None:
        """A server of another protocol may wait for us to speak; our deadline would be all that ends it."""
        assert refusal(b"S") == "the answer is not HTTP"
        assert refusal(b"HTTP/2.0 200 OK\r\n") == "the answer is in HTTP/2.0"


class TestHeaderLines:
    """RFC 9112 5: as strict as with a request's."""

    @pytest.mark.parametrize(
        ("lines", "text"),
        [
            pytest.param(b"A: b\nC: d\r\n", "a line ends without CR", id="bare LF"),
            pytest.param(b"A: b\r\n c\r\n", "a header is continued on a second line", id="obs-fold"),
            pytest.param(b" A: b\r\n", "a header is continued on a second line", id="space before the first"),
            pytest.param(b"A : b\r\n", "bad header name, or space before the colon", id="space before the colon"),
            pytest.param(b"A\r\n", "bad header name, or space before the colon", id="no colon"),
            pytest.param(b": b\r\n", "bad header name, or space before the colon", id="no name"),
            pytest.param(b"A: \0\r\n", "control character in a header", id="NUL"),
            pytest.param(b"A: b\rC: d\r\n", "control character in a header", id="bare CR"),
        ],
    )
    def test_bad(self, lines: bytes, text: str) -> None:
        assert text in refusal(b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\n")

    def test_a_status_line_without_cr(self) -> None:
        assert refusal(b"HTTP/1.1 101 Switching Protocols\n\n") == (
            "the first line of the answer is not HTTP/1.1 STATUS REASON"
        )

    def test_an_empty_line_without_cr(self) -> None:
        assert "without CR" in refusal(b"HTTP/1.1 101 Switching Protocols\r\n\n")

    def test_lengths_that_contradict_each_other_frame_nothing_here(self) -> None:
        """RFC 9112 6.3, 1: a 101 ends with its head "regardless of the header fields present in the message"."""
        head = b"HTTP/1.1 101 X\r\nContent-Length: 1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert read(head + b"\x81\x00") == (head, b"\x81\x00")


class TestInterim:
    """RFC 9110 15.2: "A client MUST be able to parse one or more 1xx responses received prior to a final response"."""

    @pytest.mark.parametrize(
        "before",
        [
            pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="100"),
            pytest.param(b"HTTP/1.1 102 Processing\r\n\r\n", id="102"),
            pytest.param(EARLY, id="103"),
            pytest.param(b"HTTP/1.1 199 \r\nContent-Length: 5\r\n\r\n", id="unknown"),
            pytest.param(EARLY + b"HTTP/1.1 100 \r\n\r\n" + EARLY, id="several"),
        ],
    )
    @pytest.mark.parametrize("final", [SWITCH, b"HTTP/1.1 404 Not Found\r\n\r\n"], ids=["101", "404"])
    def test_they_are_passed_over(self, before: bytes, final: bytes) -> None:
        assert read(before + final + b"rest") == (final, b"rest")

    def test_one_alone_is_no_answer(self) -> None:
        assert {outcome(pieces) for pieces in every_cut(EARLY)} == {("waiting", None)}
        reader = ReplyReader()
        assert reader.feed(EARLY) is None
        assert not reader.is_empty

    def test_they_are_checked_as_well(self) -> None:
        assert "control character" in refusal(b"HTTP/1.1 100 Continue\r\nA: \0\r\n\r\n" + SWITCH)
        assert refusal(EARLY + b"SSH-2.0\r\n") == "the answer is not HTTP"

    def test_their_bytes_are_limited_together(self) -> None:
        two = EARLY * 2 + SWITCH
        assert read(two, max_head_bytes=len(two)) == (SWITCH, b"")
        assert "larger than" in refusal(two, max_head_bytes=len(two) - 1)
        assert "larger than" in refusal(EARLY * 5, max_head_bytes=4 * len(EARLY))


class TestLimits:
    def test_what_just_fits(self) -> None:
        assert read(SWITCH + b"x" * 300, max_head_bytes=len(SWITCH), max_headers=5) == (SWITCH, b"x" * 300)

    def test_bytes(self) -> None:
        assert refusal(SWITCH, max_head_bytes=len(SWITCH) - 1) == (
            f"the head of the answer is larger than {len(SWITCH) - 1} bytes"
        )
        assert "larger than 100 bytes" in refusal(b"HTTP/1.1 200 " + b"a" * 100, max_head_bytes=100)
        assert "larger than 100 bytes" in refusal(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 200 + b"\n\n", max_head_bytes=100)

    def test_lines(self) -> None:
        assert refusal(SWITCH, max_headers=4) == "the answer has more than 4 header lines"

    def test_byte_by_byte_is_not_quadratic(self) -> None:
        """Sixteen times the bytes would take 256 times as long; a busy machine is forgiven a factor of four."""

        def took(size: int) -> float:
            best = 1e9
            for head in (b"HTTP/1.1 200 OK\r\nX: " + b"x" * size, b"HTTP/1.1 200 " + b"x" * size) * 3:
                reader = ReplyReader(1 << 30)
                start = time.process_time()
                for at in range(len(head)):
                    reader.feed(head[at : at + 1])
                best = min(best, time.process_time() - start)
            return best

        assert took(40000) < 64 * took(2500)


def body_start(head: bytes, body: bytes, max_bytes: int = 8) -> tuple[bytes, bool]:
    """What is kept of `body`, and whether more is waited for; the same however it is cut."""
    found = set()
    for pieces in every_cut(body):
        start = BodyStart(Reply(head), max_bytes)
        done = start.is_done
        for piece in pieces:
            done = start.feed(piece)
        assert done is start.is_done
        found.add((start.data, done))
    assert len(found) == 1, found
    return found.pop()


class TestBodyStart:
    """RFC 9112 6.3: where a response's body ends."""

    @pytest.mark.parametrize(
        ("head", "body", "expected"),
        [
            pytest.param(b"HTTP/1.1 404 X\r\nContent-Length: 3\r\n\r\n", b"abcdef", (b"abc", True), id="length"),
            pytest.param(b"HTTP/1.1 404 X\r\nContent-Length: 3\r\n\r\n", b"ab", (b"ab", False), id="part of it"),
            pytest.param(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n", b"ab", (b"", True), id="empty"),
            pytest.param(b"HTTP/1.1 404 X\r\nContent-Length: 90\r\n\r\n", b"abcdefghij", (b"abcdefgh", True), id="cut"),
            pytest.param(b"HTTP/1.1 404 X\r\n\r\n", b"ab", (b"ab", False), id="until the end"),
            pytest.param(b"HTTP/1.1 404 X\r\n\r\n", b"abcdefghij", (b"abcdefgh", True), id="until the end, cut"),
            pytest.param(b"HTTP/1.1 404 X\r\nContent-Length: x\r\n\r\n", b"ab", (b"ab", False), id="no number"),
            pytest.param(
                b"HTTP/1.1 404 X\r\nTransfer-Encoding: Chunked\r\n\r\n",
                b"2\r\nab\r\n3;x=y\r\ncde\r\n0\r\nA: b\r\n\r\nrest",
                (b"abcde", True),
                id="chunks",
            ),
            pytest.param(
                b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"fffffff\r\nabcdefghij",
                (b"abcdefgh", True),
                id="a large chunk",
            ),
            pytest.param(
                b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                b"2\r\nab\r\n",
                (b"ab", False),
                id="chunks win",
            ),
            pytest.param(
                b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\nab\r\n", (b"", True), id="no chunks"
            ),
            pytest.param(
                b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"ffffffffffffffff\r\nab",
                (b"", True),
                id="absurd",
            ),
            pytest.param(b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", b"ab", (b"", True), id="204"),
            pytest.param(b"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", b"ab", (b"", True), id="304"),
            pytest.param(b"HTTP/1.1 101 X\r\nContent-Length: 5\r\n\r\n", b"ab", (b"", True), id="101"),
        ],
    )
    def test_where_it_ends(self, head: bytes, body: bytes, expected: tuple[bytes, bool]) -> None:
        assert body_start(head, body) == expected

    def test_a_chunk_that_breaks_leaves_what_came_before(self) -> None:
        start = BodyStart(Reply(b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n"))
        assert not start.feed(b"2\r\nab\r\n")
        assert start.feed(b"nonsense\r\n")
        assert start.feed(b"3\r\ncde\r\n")
        assert start.data == b"ab"
        assert body_start(b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nab\r\n-") == (b"ab", False)
        assert body_start(b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nab\r\n-\n") == (b"ab", True)

    def test_how_much_is_kept(self) -> None:
        start = BodyStart(Reply(b"HTTP/1.1 500 X\r\n\r\n"))
        assert start.feed(b"x" * 5000)
        assert start.data == b"x" * MAX_BODY_START_BYTES


LIMITS = {"max_head_bytes": 200, "max_headers": 4}

PARTS = st.sampled_from(
    (
        *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/", b" ", b"101", b"200", b"100", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b":"),
        *(b"HTTP/1.1 101 Switching Protocols\r\n", b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 404 Not Found\r\n"),
        *(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"A: b\r\n", b"\0", b"\xff", b"x" * 60),
        *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n"),
    )
)


class TestAnything:
    @given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
    def test_any_bytes(self, data: bytes, cuts: list[int]) -> None:
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        assert outcome([data[a:b] for a, b in pairwise(places)], **LIMITS) == outcome([data], **LIMITS)

    @given(st.lists(PARTS, max_size=12).map(b"".join), st.data())
    def test_anything_like_a_head_gives_the_same_however_it_is_cut(self, data: bytes, draw: st.DataObject) -> None:
        cut = draw.draw(st.integers(0, len(data)))
        whole = outcome([data], **LIMITS)
        assert outcome([data[:cut], data[cut:]], **LIMITS) == whole
        assert outcome([data[at : at + 1] for at in range(len(data))], **LIMITS) == whole
        if whole[0] == "read":
            assert isinstance(whole[1], tuple)
            reply = Reply(whole[1][0])
            assert reply.status == 101 or 200 <= reply.status <= 599
            assert len(reply.headers) <= LIMITS["max_headers"]
            start = BodyStart(reply, 10)
            start.feed(whole[1][1])
            assert len(start.data) <= 10
