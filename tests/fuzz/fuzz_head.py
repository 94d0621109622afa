"""Whatever bytes come, a request's head is accepted or refused with an HTTP status, the same whole as cut up."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from tests.fuzz.engine import main
from tests.support.client import upgrade_request
from wsd.errors import HandshakeError
from wsd.wire.body import body_reader
from wsd.wire.handshake import check_upgrade, origin_allowed
from wsd.wire.http import HeadReader, Request

SAMPLES = [
    upgrade_request("/chat?name=%41&x", "a, b", headers=[("Origin", "http://127.0.0.1:80")]),
    upgrade_request(headers=[("Connection", "keep-alive, Upgrade"), ("Sec-WebSocket-Extensions", 'x; y="a,b"')]),
    b"GET /%2e%2e/x?a=b&a=c HTTP/1.1\r\nHost: [::1]:7681\r\nAccept: */*\r\n\r\nrest",
    b"\r\nHEAD http://example.com/x HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
]
MAX_HEAD, MAX_HEADERS, MAX_URI = 400, 8, 60

Found = tuple[int, bytes, bytes]
"""The status of a refusal, or 0; the head; what followed it."""


def read(chunks: Iterable[bytes]) -> tuple[Found | None, Request | None]:
    """What a new reader finds first in `chunks`."""
    reader = HeadReader(MAX_HEAD, MAX_HEADERS, MAX_URI)
    parts = iter(chunks)
    try:
        for chunk in parts:
            found = reader.feed(chunk)
            if found is not None:
                request, leftover = found
                return (0, request.raw, leftover + b"".join(parts)), request
    except HandshakeError as error:
        return (error.status, b"", b""), None
    return None, None


def check(data: bytes) -> None:
    """The invariant."""
    whole, request = read([data])
    assert whole is None or whole[0] == 0 or 400 <= whole[0] < 600, whole
    half = len(data) // 2
    for chunks in ([data[at : at + 1] for at in range(len(data))], [data[:half], data[half:]]):
        heard, _ = read(chunks)
        assert heard == whole, (heard, whole)
    if request is not None:
        look_at(request, whole[2] if whole else b"")


def look_at(request: Request, rest: bytes) -> None:
    """Everything that is read from a good head raises nothing but a refusal."""
    for name in ("method", "http_version", "target", "raw_path", "path", "query", "args", "host", "keep_alive"):
        getattr(request, name)
    origin_allowed(request, [])
    with suppress(HandshakeError):
        if request.is_upgrade:
            check_upgrade(request)
    with suppress(HandshakeError):
        body = body_reader(request, 100)
        if body is not None and rest:
            body.feed(rest)


if __name__ == "__main__":
    main(check, SAMPLES)
