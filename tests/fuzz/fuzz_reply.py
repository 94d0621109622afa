"""Whatever bytes a server answers, the head is read or refused with a documented cause, the same whole as cut up."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from tests.fuzz.engine import main
from wsd.errors import ConnectError
from wsd.wire.client_handshake import check_reply
from wsd.wire.extensions import Settings
from wsd.wire.reply import BodyStart, Reply, ReplyReader

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
SUBPROTOCOLS = ("chat", "superchat")
SETTINGS = Settings(level=6, memory_level=5, window_bits=12, context_takeover=True, min_bytes=64)

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
SAMPLES = [
    SWITCH + b"\r\n\x81\x02hi",
    SWITCH + b"Sec-WebSocket-Protocol: chat\r\n\r\n",
    SWITCH + b'Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits="12"\r\n\r\n',
    SWITCH + b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover, x\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + SWITCH + b"Set-Cookie: a=b\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 500 \r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
    b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\nConnection: close\r\n\r\n",
    b"HTTP/1.0 200 Connection established\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://a/\r\n\r\n",
]
MAX_HEAD, MAX_HEADERS, MAX_BODY = 400, 8, 16

Found = tuple[str, bytes, bytes]
"""The text of a refusal, or nothing; the head; what followed it."""


def read(chunks: Iterable[bytes]) -> tuple[Found | None, Reply | None]:
    """What a new reader finds in `chunks`."""
    reader = ReplyReader(MAX_HEAD, MAX_HEADERS)
    parts = iter(chunks)
    try:
        for chunk in parts:
            found = reader.feed(chunk)
            if found is not None:
                reply, leftover = found
                return ("", reply.raw, leftover + b"".join(parts)), reply
    except ConnectError as error:
        return (f"{error.cause}: {error.text}", b"", b""), None
    return None, None


def in_pieces(data: bytes) -> list[list[bytes]]:
    """Byte by byte, and in two halves."""
    half = len(data) // 2
    return [[data[at : at + 1] for at in range(len(data))], [data[:half], data[half:]]]


def check(data: bytes) -> None:
    """The invariant."""
    whole, reply = read([data])
    assert whole is None or not whole[0] or whole[0].startswith("reply: "), whole
    for chunks in in_pieces(data):
        heard, _ = read(chunks)
        assert heard == whole, (heard, whole)
    if reply is not None:
        look_at(reply, whole[2] if whole else b"")


def look_at(reply: Reply, rest: bytes) -> None:
    """What is made of a good head raises nothing but a refusal, and of a body only so much is kept."""
    assert len(reply.raw) <= MAX_HEAD
    assert len(reply.headers) <= MAX_HEADERS
    assert reply.status == 101 or 200 <= reply.status < 600
    assert reply.http_version in ("1.0", "1.1")
    with suppress(ConnectError):
        subprotocol, agreement = check_reply(reply, KEY, SUBPROTOCOLS, SETTINGS)
        assert subprotocol in (None, *SUBPROTOCOLS)
        assert agreement is None or b"permessage-deflate" in reply.raw
    bodies = set()
    for chunks in ([rest], *in_pieces(rest)):
        body = BodyStart(reply, MAX_BODY)
        for chunk in chunks:
            body.feed(chunk)
        bodies.add((body.data, body.is_done))
    assert len(bodies) == 1, bodies
    assert len(bodies.pop()[0]) <= MAX_BODY


if __name__ == "__main__":
    main(check, SAMPLES)
