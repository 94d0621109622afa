"""The body of a request on bytes (RFC 9112 sections 6 and 7): where it ends, and what was in its chunks.

Pure.  Which body a request has is read from its head (`http.py`); who gets the bytes is `wsd/http1.py`'s.
"""

from __future__ import annotations

import re
from typing import Final

from wsd.errors import HandshakeError
from wsd.wire.headers import TOKEN
from wsd.wire.http import Request

# RFC 9112 7.1.1: a recipient "ought to limit the total length of chunk extensions"; and trailers are skipped, so
# more than a page of either is somebody keeping us busy.
MAX_CHUNK_LINE_BYTES: Final = 256
MAX_EXTENSION_BYTES: Final = 4096
MAX_TRAILER_BYTES: Final = 4096

# chunk-size is 1*HEXDIG; sixteen digits are more than any limit.  Extensions are passed over, without controls.
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})([\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?)\Z")
_TRAILER: Final = re.compile(TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\Z")


class LengthBody:
    """A body of a known number of bytes."""

    __slots__ = ("leftover", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.leftover = b""
        """Bytes that came after the body."""

    @property
    def is_done(self) -> bool:
        """Reports whether the whole body has arrived."""
        return self.remaining == 0

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; gives the body's bytes in it."""
        piece = data[: self.remaining]
        self.leftover = data[len(piece) :]
        self.remaining -= len(piece)
        return piece


class ChunkedBody:
    """A chunked body.  Trailers are checked and dropped: none of them may change the head (RFC 9110 6.5.1)."""

    __slots__ = (
        "_extensions",
        "_line",
        "_remaining",
        "_state",
        "_trailers",
        "is_done",
        "leftover",
        "max_bytes",
        "total",
    )

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.total = 0
        self.is_done = False
        self.leftover = b""
        """Bytes that came after the body."""
        self._state = self._size_line
        self._line = bytearray()
        self._remaining = 0
        self._extensions = 0
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; gives the body's bytes in it.

        Raises:
            HandshakeError: 400 for broken framing, 413 for more than `max_bytes`.  It must not be fed again.
        """
        out: list[bytes] = []
        offset = 0
        while offset < len(data) and not self.is_done:
            if self._remaining:
                piece = data[offset : offset + self._remaining]
                out.append(piece)
                self._remaining -= len(piece)
                offset += len(piece)
            else:
                offset = self._feed_line(data, offset)
        self.leftover = data[offset:]
        return b"".join(out)

    def _feed_line(self, data: bytes, offset: int) -> int:
        """Collect one line of the framing and act on it; answers where the next byte is."""
        end = data.find(b"\n", offset)
        stop = len(data) if end < 0 else end + 1
        line = self._line
        if len(line) + stop - offset > MAX_CHUNK_LINE_BYTES + 2:
            raise HandshakeError(400, "a line of the chunked body's framing is too long")
        line += data[offset:stop]
        if end >= 0:
            if not line.endswith(b"\r\n"):
                raise HandshakeError(400, "a line of the chunked body's framing ends without CR")
            text = bytes(line[:-2])
            line.clear()
            self._state(text)
        return stop

    def _size_line(self, line: bytes) -> None:
        match = _CHUNK_LINE.match(line)
        if match is None:
            raise HandshakeError(400, "bad chunk size")
        self._extensions += len(match[2])
        if self._extensions > MAX_EXTENSION_BYTES:
            raise HandshakeError(400, "too many chunk extensions")
        size = int(match[1], 16)
        self.total += size
        if self.total > self.max_bytes:
            # From the chunk's header alone: none of it has been read.
            raise HandshakeError(413, f"the body is larger than {self.max_bytes} bytes", option="max_body_bytes")
        self._remaining = size
        self._state = self._data_end if size else self._trailer

    def _data_end(self, line: bytes) -> None:
        if line:
            raise HandshakeError(400, "a chunk is longer than its size")
        self._state = self._size_line

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.is_done = True
            return
        self._trailers += len(line)
        if self._trailers > MAX_TRAILER_BYTES or not _TRAILER.match(line):
            raise HandshakeError(400, "bad trailer")


BodyReader = LengthBody | ChunkedBody


def body_reader(request: Request, max_body_bytes: int) -> BodyReader | None:
    """What reads the body that `request` announces; None: it has none (which is not
    the same as an empty one: RFC 9112 6).

    Raises:
        HandshakeError: 413, before a byte of the body was read.
    """
    if request.is_chunked:
        return ChunkedBody(max_body_bytes)
    length = request.content_length
    if length is None:
        return None
    if length > max_body_bytes:
        raise HandshakeError(413, f"the body is larger than {max_body_bytes} bytes", option="max_body_bytes")
    return LengthBody(length)
