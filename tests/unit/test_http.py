"""`wsd.wire.http`, `headers`, `body` and `response`: RFC 9110 and 9112, literal bytes in, literal bytes out."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.errors import HandshakeError
from wsd.wire.body import MAX_CHUNK_LINE_BYTES, ChunkedBody, LengthBody, body_reader
from wsd.wire.headers import Headers
from wsd.wire.http import HeadReader, Request, Response, error_page, parse_head
from wsd.wire.response import encode_chunk, encode_response_head

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


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """`data` whole, byte by byte, and cut in two at every place."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def status_of(data: bytes, **limits: int) -> int:
    """The status that `data` is refused with, however it is cut."""
    found = {outcome(pieces, **limits) for pieces in every_cut(data)}
    assert len(found) == 1, found
    kind, status = found.pop()
    assert kind == "refused", (kind, status)
    assert isinstance(status, int)
    return status


# -- heads ----------------------------------------------------------------------------------------------------------


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
            start = time.perf_counter()
            for at in range(len(head)):
                reader.feed(head[at : at + 1])
            best = min(best, time.perf_counter() - start)
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


# -- headers --------------------------------------------------------------------------------------------------------


def test_headers_are_found_in_any_case_and_kept_in_order() -> None:
    headers = Headers([("A", "1"), ("b", "2"), ("a", " 3\t")])
    assert (headers.get("a"), headers.get("B"), headers.get("c"), headers.get("c", "x")) == ("1", "2", None, "x")
    assert headers.get_all("a") == ["1", "3"]
    assert ("A" in headers, "c" in headers, len(headers)) == (True, False, 3)
    headers.set("a", "4")
    assert list(headers) == [("b", "2"), ("a", "4")]
    assert Headers([("X", "a,, B ,"), ("x", "c")]).tokens("X") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nY: b"),
        ("X", "a\rb"),
        ("X", "a\nb"),
        ("X", "a\n"),
        ("X", "a\0"),
        ("X", "a\x7f"),
        ("X", "\u20ac"),
        ("X\r\nY", "a"),
        ("X:", "a"),
        ("X ", "a"),
        ("X\n", "a"),
        ("", "a"),
        ("\xe4", "a"),
    ],
)
def test_response_splitting_is_refused(name: str, value: str) -> None:
    headers = Headers([("X", "before")])
    with pytest.raises(ValueError, match="header"):
        headers.add(name, value)
    with pytest.raises(ValueError, match="header"):
        headers.set(name, value)
    with pytest.raises(ValueError, match="header"):
        Response(headers=[(name, value)])
    assert list(headers) == [("X", "before")]


# -- bodies ---------------------------------------------------------------------------------------------------------


def read_chunks(pieces: list[bytes], max_bytes: int = 1000) -> tuple[bytes, bytes] | int | None:
    """The body and what came after it; the status it was refused with; None: not complete."""
    body = ChunkedBody(max_bytes)
    out = b""
    for at, piece in enumerate(pieces):
        try:
            out += body.feed(piece)
        except HandshakeError as error:
            return error.status
        if body.is_done:
            return out, body.leftover + b"".join(pieces[at + 1 :])
    return None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"0\r\n\r\n", (b"", b"")),
        (b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET", (b"abcde", b"GET")),
        (b"A\r\n0123456789\r\n00\r\n\r\n", (b"0123456789", b"")),
        (b"1;name=value\r\na\r\n0;x\r\n\r\n", (b"a", b"")),
        (b"1 ; x\r\na\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", (b"a", b"")),
        (b"2\r\n\r\n\r\n0\r\n\r\n", (b"\r\n", b"")),
        (b"3\r\nab", None),
        (b"1\r\nab\r\n0\r\n\r\n", 400),
        (b"1\na\r\n0\r\n\r\n", 400),
        (b"1\r\na\n0\r\n\r\n", 400),
        (b"\r\n", 400),
        (b"x\r\n", 400),
        (b"0x1\r\na\r\n", 400),
        (b"+1\r\na\r\n", 400),
        (b"-1\r\na\r\n", 400),
        (b" 1\r\na\r\n", 400),
        (b"1_0\r\n", 400),
        (b"1 a\r\n", 400),
        (b"1;\0\r\n", 400),
        (b"10000000000000000\r\n", 400),
        (b"ffffffffffffffff\r\n", 413),
        (b"3e9\r\n", 413),
        (b"3e8\r\n" + b"a" * 1000 + b"\r\n1\r\n", 413),
        (b"0\r\nTrailer : x\r\n\r\n", 400),
        (b"0\r\n folded\r\n\r\n", 400),
        (b"1;" + b"x" * (MAX_CHUNK_LINE_BYTES + 1), 400),
        ((b"1;" + b"x" * 200 + b"\r\na\r\n") * 30, 400),
        (b"0\r\n" + (b"T: " + b"x" * 200 + b"\r\n") * 30, 400),
    ],
)
def test_chunked_bodies(data: bytes, expected: object) -> None:
    cuts = list(every_cut(data)) if len(data) < 300 else [[data], [data[at : at + 1] for at in range(len(data))]]
    assert all(read_chunks(pieces) == expected for pieces in cuts)


@given(st.lists(st.binary(max_size=20)), st.binary(max_size=5), st.integers(1, 9))
def test_what_is_encoded_as_chunks_is_read_back(parts: list[bytes], after: bytes, size: int) -> None:
    data = b"".join(map(encode_chunk, parts)) + b"0\r\n\r\n" + after
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert read_chunks(pieces) == (b"".join(parts), after)


def test_a_body_of_known_length() -> None:
    body = LengthBody(5)
    assert (body.feed(b"abc"), body.is_done, body.leftover) == (b"abc", False, b"")
    assert (body.feed(b"defg"), body.is_done, body.leftover) == (b"de", True, b"fg")


def test_which_body_a_request_has() -> None:
    def reader(header: str) -> object:
        return body_reader(parse_head(f"POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n".encode()), 10)

    assert reader("") is None
    assert isinstance(reader("Content-Length: 10\r\n"), LengthBody)
    empty = reader("Content-Length: 0\r\n")
    assert isinstance(empty, LengthBody)
    assert empty.is_done
    assert isinstance(reader("Transfer-Encoding: Chunked\r\n"), ChunkedBody)
    with pytest.raises(HandshakeError, match="413"):
        reader("Content-Length: 11\r\n")


# -- answers --------------------------------------------------------------------------------------------------------


def test_a_response_on_the_wire() -> None:
    response = Response(200, "h\xe4", [("X", "y")])
    head, chunked, keep_alive = encode_response_head(response, date="Sun, 06 Nov 1994 08:49:37 GMT")
    assert head == (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX: y\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\r\n"
    )
    assert (response.body, chunked, keep_alive) == ("h\xe4".encode(), False, True)


@pytest.mark.parametrize(
    ("response", "version", "keep_alive", "expected"),
    [
        (Response(), "1.1", True, (b"Content-Length: 0\r\n", False, True)),
        (Response(), "1.1", False, (b"Content-Length: 0\r\nConnection: close\r\n", False, False)),
        (Response(), "1.0", True, (b"Content-Length: 0\r\nConnection: keep-alive\r\n", False, True)),
        (Response(stream=True), "1.1", True, (b"Transfer-Encoding: chunked\r\n", True, True)),
        (Response(stream=True), "1.0", True, (b"Connection: close\r\n", False, False)),
        (Response(stream=True, length=7), "1.0", True, (b"Length: 7\r\nConnection: keep-alive\r\n", False, True)),
        (Response(body=iter([b""]), length=3), "1.1", True, (b"Content-Length: 3\r\n", False, True)),
        (Response(204), "1.1", True, (b"HTTP/1.1 204 No Content\r\n", False, True)),
        (Response(304), "1.1", True, (b"HTTP/1.1 304 Not Modified\r\n", False, True)),
        (
            Response(426, headers=[("Upgrade", "websocket")]),
            "1.1",
            False,
            (b"Content-Length: 0\r\nConnection: Upgrade, close\r\n", False, False),
        ),
        (Response(599), "1.1", True, (b"HTTP/1.1 599 \r\nContent-Length: 0\r\n", False, True)),
    ],
)
def test_framing(response: Response, version: str, keep_alive: bool, expected: tuple[bytes, bool, bool]) -> None:
    head, chunked, stays = encode_response_head(response, http_version=version, keep_alive=keep_alive)
    assert head.endswith(expected[0] + b"\r\n")
    assert (chunked, stays) == expected[1:]


@pytest.mark.parametrize(
    "arguments",
    [
        {"status": 101},
        {"status": 600},
        {"headers": [("content-length", "1")]},
        {"headers": [("Transfer-Encoding", "chunked")]},
        {"headers": [("Connection", "close")]},
        {"content_type": "a\r\nb"},
        {"body": ["a list"]},
        {"body": 5},
        {"body": b"abc", "length": 2},
        {"body": iter([b"a"]), "length": -1},
        {"body": b"a", "stream": True},
        {"status": 204, "body": b"a"},
        {"status": 304, "stream": True},
        {"status": 304, "body": iter([b"a"])},
    ],
)
def test_responses_that_cannot_be_sent(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Response(**arguments)  # type: ignore[arg-type]


def test_a_content_type_of_ones_own_stays() -> None:
    assert Response(body="{}", content_type="application/json").headers.get_all("Content-Type") == ["application/json"]
    assert Response(body=b"x").headers.get("Content-Type") == "application/octet-stream"
    assert Response(body="x", headers=[("content-type", "a/b")]).headers.get_all("Content-Type") == ["a/b"]
    assert "Content-Type" not in Response().headers


def test_an_error_page_is_escaped_and_allows_nothing_but_its_own_style() -> None:
    page = error_page(404, 'nothing at /"><script>alert(1)</script> \ud800', [("X", "y")])
    assert isinstance(page.body, bytes)
    text = page.body.decode()
    assert "<title>404 Not Found</title>" in text
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    policy = page.headers.get("Content-Security-Policy") or ""
    style = re.search(r"<style>(.*)</style>", text)
    assert style is not None
    assert f"'sha256-{b64encode(sha256(style[1].encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert (page.status, page.headers.get("X")) == (404, "y")
    assert page.headers.get("Content-Type") == "text/html; charset=utf-8"
