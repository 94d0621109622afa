"""`wsd.wire.http`: the heads of requests by RFC 9112, literal bytes in, a request or a status out."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.cuts import every_cut
from wsd.errors import HandshakeError
from wsd.wire.body import body_reader
from wsd.wire.http import HeadReader, Request, parse_head

GET = b"GET /a/b?x=1&y=%20z&x=2 HTTP/1.1\r\nHost: example.com:8080\r\nAccept: text/html\r\naccept: */*\r\n\r\n"

Outcome = tuple[str, object]


def outcome(pieces: list[bytes], **limits: int) -> Outcome:
    """What a reader makes of bytes that come in these pieces: the request's head and the rest, or the status."""
    reader = HeadReader(**limits)
    for at, piece in enumerate(pieces):
        try:
            found = reader.feed(piece)
        except HandshakeError as error:
            return "refused", error.status
        if found is not None:
            return "accepted", (found[0].raw, found[1] + b"".join(pieces[at + 1 :]))
    return "waiting", None


def status_of(data: bytes, **limits: int) -> int:
    """The status that `data` is refused with, however it is cut."""
    found = {outcome(pieces, **limits) for pieces in every_cut(data)}
    assert len(found) == 1, found
    kind, status = found.pop()
    assert kind == "refused", (kind, status)
    assert isinstance(status, int)
    return status


def test_a_head_in_any_pieces_gives_the_request_and_the_rest() -> None:
    for pieces in every_cut(GET + b"\x81\x80rest"):
        assert outcome(pieces) == ("accepted", (GET, b"\x81\x80rest"))


def test_what_a_request_tells() -> None:
    request = parse_head(GET)
    assert (request.method, request.http_version, request.target) == ("GET", "1.1", "/a/b?x=1&y=%20z&x=2")
    assert (request.path, request.raw_path, request.query) == ("/a/b", "/a/b", "x=1&y=%20z&x=2")
    assert request.args == {"x": ["1", "2"], "y": [" z"]}
    assert (request.arg("x"), request.arg("y"), request.arg("z"), request.arg("z", "-")) == ("1", " z", "", "-")
    assert request.host == "example.com:8080"
    assert list(request.headers) == [("Host", "example.com:8080"), ("Accept", "text/html"), ("accept", "*/*")]
    assert request.headers.combined("ACCEPT") == "text/html, */*"
    assert not request.is_upgrade


def test_how_it_shows_in_a_log() -> None:
    assert repr(Request(b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n")) == "<Request GET /a?b>"


def test_a_body_of_an_exabyte_is_refused_although_the_number_fits() -> None:
    assert status_of(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1234567890123456789\r\n\r\n") == 400


def test_a_request_keeps_the_raw_head_alone_when_it_is_told_to() -> None:
    request = parse_head(GET)
    assert request.headers is request.headers
    request.keep_parsed(False)
    assert request.headers is not request.headers
    assert request.headers.get("Host") == "example.com:8080"
    assert request.raw == GET
    assert not hasattr(request, "__dict__")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/%2e%2e/%00", "/../\0", ""),
        ("/a%2Fb", "/a/b", ""),
        ("/%zz%", "/%zz%", ""),
        ("/%ff", "/\N{REPLACEMENT CHARACTER}", ""),
        ("/?", "/", ""),
        ("/?a?b", "/", "a?b"),
        ("//evil.example/x", "//evil.example/x", ""),
        ("http://other.example/p?q", "/p", "q"),
        ("HTTP://other.example", "/", ""),
        ("https://other.example?q", "/", "q"),
    ],
)
def test_targets(target: str, path: str, query: str) -> None:
    request = parse_head(f"GET {target} HTTP/1.1\r\nHost: example.com\r\n\r\n".encode())
    assert (request.target, request.path, request.query) == (target, path, query)


def test_the_host_of_an_absolute_target_wins() -> None:
    """RFC 9112 3.2.2: "the origin server MUST ignore the received Host header field"."""
    request = parse_head(b"GET http://real.example:81/ HTTP/1.1\r\nHost: other.example\r\n\r\n")
    assert request.host == "real.example:81"


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Upgrade, Close", False),
        ("1.1", "keep-alive", True),
        ("1.0", None, False),
        ("1.0", "Keep-Alive", True),
        ("1.0", "keep-alive, close", False),
    ],
)
def test_keep_alive(version: str, connection: str | None, expected: bool) -> None:
    header = f"Connection: {connection}\r\n" if connection is not None else ""
    assert parse_head(f"GET / HTTP/{version}\r\nHost: a\r\n{header}\r\n".encode()).keep_alive is expected


@pytest.mark.parametrize("host", ["a", "", "a:80", "a:", "[::1]", "[::1]:80", "192.0.2.1:1", "xn--bcher-kva.example"])
def test_good_hosts(host: str) -> None:
    assert parse_head(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).host == host


@pytest.mark.parametrize(
    ("head", "accepted"),
    [
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", True),  # RFC 9112 2.2
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost:a\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\r\n\r\n", True),  # obs-text
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", True),
    ],
)
def test_unusual_and_allowed(head: bytes, accepted: bool) -> None:
    kinds = {outcome(pieces)[0] for pieces in every_cut(head)}
    assert kinds == {"accepted"}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", 400, id="bare LF everywhere"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400, id="bare LF after a header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, id="bare LF at the end"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, id="bare CR"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400, id="NUL"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x1bb\r\n\r\n", 400, id="ESC"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, id="obs-fold"),
        pytest.param(b"GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", 400, id="space before the first header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, id="space before the colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400, id="no colon"),
        pytest.param(b"GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n", 400, id="no name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX(): b\r\n\r\n", 400, id="name is no token"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, id="two Hosts"),
        pytest.param(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, id="two Hosts in 1.0"),
        pytest.param(b"GET / HTTP/1.1\r\nX: a\r\n\r\n", 400, id="no Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, id="space in Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, id="slash in Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, id="user in Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, id="port is no number"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", 400, id="IPv6 without brackets"),
        pytest.param(b"GET /\r\n\r\n", 400, id="HTTP/0.9"),
        pytest.param(b"GET / HTTP/0.9\r\n\r\n", 505, id="HTTP/0.9 that says so"),
        pytest.param(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, id="HTTP/1.2"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="HTTP/2"),
        pytest.param(b"GET / ICE/1.0\r\nHost: a\r\n\r\n", 400, id="another protocol"),
        pytest.param(b"GET / http/1.1\r\nHost: a\r\n\r\n", 400, id="small letters"),
        pytest.param(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="two spaces"),
        pytest.param(b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, id="space at the end"),
        pytest.param(b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="space in the target"),
        pytest.param(b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="not ASCII in the target"),
        pytest.param(b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="fragment"),
        pytest.param(b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="no slash"),
        pytest.param(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="asterisk with GET"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="asterisk"),
        pytest.param(b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="user in the target"),
        pytest.param(b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="absolute without host"),
        pytest.param(b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="another scheme"),
        pytest.param(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501, id="CONNECT"),
        pytest.param(b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, id="unknown method"),
        pytest.param(b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501, id="methods have a case"),
        pytest.param(b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="method is no token"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60, 400, id="TLS"),
        pytest.param(b"A" * 33, 400, id="no HTTP at all"),
        pytest.param(b"\0\n", 400, id="garbage"),
        pytest.param(b"X" * 33 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="method too long for one"),
        pytest.param(b"GET\r\n /" + b"a" * 60, 400, id="no target"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400, id="CL CL"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400, id="CL list"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400, id="CL sign"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, id="CL negative"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", 400, id="CL hexadecimal"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n", 400, id="CL as int() likes it"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400, id="CL empty"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\n", 400, id="CL huge"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, id="CL TE"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nCONTENT-LENGTH: 1\r\n\r\n", 400, id="TE CL"
        ),
        pytest.param(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, id="TE in 1.0"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400, id="TE not chunked"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, id="TE gzip"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            id="TE twice",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400, id="TE xchunked"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 400, id="TE VT"),
    ],
)
def test_refused_heads(head: bytes, status: int) -> None:
    assert status_of(head) == status


LIMITS = {"max_head_bytes": 200, "max_headers": 4, "max_uri_bytes": 50}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(b"GET /" + b"a" * 50 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, id="target"),
        pytest.param(b"GET /" + b"a" * 50, 414, id="target without an end"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: b\r\n" * 4 + b"\r\n", 431, id="count"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"b" * 200 + b"\r\n\r\n", 431, id="one header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X" * 200, 431, id="no end"),
        pytest.param(b"\r\n" * 101, 431, id="empty lines"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"b" * 200 + b"\n\n", 431, id="bare LF beyond the limit"),
    ],
)
def test_limits(head: bytes, status: int) -> None:
    assert status_of(head, **LIMITS) == status


def test_what_just_fits_is_accepted() -> None:
    start, end = b"GET /" + b"a" * 49 + b" HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: ", b"\r\n\r\n"
    head = start + b"c" * (200 - len(start) - len(end)) + end
    assert len(head) == 200
    assert {outcome(pieces, **LIMITS) for pieces in every_cut(head)} == {("accepted", (head, b""))}


def test_one_reader_reads_one_request_after_the_other() -> None:
    reader = HeadReader()
    found = reader.feed(GET + GET[:-1])
    assert found is not None
    empty = [reader.is_empty]
    assert reader.feed(found[1]) is None
    empty.append(reader.is_empty)
    assert empty == [True, False]
    found = reader.feed(b"\n")
    assert found is not None
    assert found[0].raw == GET


def test_byte_by_byte_is_not_quadratic() -> None:
    """Sixteen times the bytes would take 256 times as long if it were; a busy machine is forgiven a factor of four."""

    def took(size: int) -> float:
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * size
        best = 1e9
        for _ in range(3):
            reader = HeadReader(1 << 30, 100, 8192)
            start = time.process_time()
            for at in range(len(head)):
                reader.feed(head[at : at + 1])
            best = min(best, time.process_time() - start)
        return best

    assert took(40000) < 64 * took(2500)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_are_accepted_or_refused_and_nothing_else(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in pairwise(places)]
    assert outcome(pieces, **LIMITS) == outcome([data], **LIMITS)


PARTS = st.sampled_from(
    (
        *(b"GET", b"POST", b" ", b"/", b"http://a", b"*", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n"),
        *(b"Host: a\r\n", b"Host", b":", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"\0", b"\xff"),
        *(
            b"GET / HTTP/1.1\r\n",
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
            b"Sec-WebSocket-Key: a\r\n",
            b"x" * 60,
        ),
    )
)


@given(st.lists(PARTS, max_size=12).map(b"".join), st.data())
def test_anything_like_a_head_gives_the_same_however_it_is_cut(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    whole = outcome([data], **LIMITS)
    assert outcome([data[:cut], data[cut:]], **LIMITS) == whole
    assert outcome([data[at : at + 1] for at in range(len(data))], **LIMITS) == whole
    if whole[0] == "accepted":
        assert isinstance(whole[1], tuple)
        request = Request(whole[1][0])
        assert all(read(request) is not Ellipsis for read in READS)


READS: list[Callable[[Request], object]] = [
    lambda request: (request.method, request.target, request.path, request.query, request.args, request.host),
    lambda request: (request.is_upgrade, request.keep_alive, request.content_length, request.is_chunked),
    lambda request: body_reader(request, 1000),
]
