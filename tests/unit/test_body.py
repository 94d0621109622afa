"""`wsd.wire.body`: RFC 9112 sections 6 and 7, literal bytes in, the body or a status out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.errors import HandshakeError
from wsd.wire.body import MAX_CHUNK_LINE_BYTES, ChunkedBody, LengthBody, body_reader
from wsd.wire.http import parse_head
from wsd.wire.response import encode_chunk


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """`data` whole, byte by byte, and cut in two at every place."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


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
