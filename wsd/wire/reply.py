"""RFC 9112 on bytes, as a client reads it: the head of a server's or a proxy's answer, and how its body begins.

Pure: no socket, no clock, no log.  Whether an answer opens a WebSocket is `client_handshake.py`'s to say; when bytes
are asked for, and for how long, is `wsd/client.py`'s.

As strict as `http.py` is with requests: an answer is read whole or refused with a `ConnectError`, never anything else.
`httptools` has no part in it: it takes a 101 without `Connection: Upgrade` for an error of its own, and whoever looks
for what a proxy has dropped would be told nonsense.
"""

from __future__ import annotations

import re
from typing import Final

from wsd.errors import ConnectError, HandshakeError
from wsd.wire.body import BodyReader, ChunkedBody, LengthBody
from wsd.wire.head import find_end, header_fault, read_headers
from wsd.wire.headers import Headers
from wsd.wire.http import MAX_HEAD_BYTES, MAX_HEADERS

MAX_BODY_START_BYTES: Final = 1024
"""How much of a refusal's body is of interest: the sentence that says why, or the title of an error page."""

_PROTOCOL: Final = b"HTTP/"
# RFC 9112 4.  The space behind the status MUST be sent "even when the reason-phrase is absent"; some proxies forget it,
# and then there is nothing that it could be taken for.  RFC 9110 15: a status is from 100 to 599.
_STATUS_LINE: Final = re.compile(rb"HTTP/([0-9]\.[0-9]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_DIGITS: Final = re.compile(r"[0-9]{1,18}\Z")

SWITCHING_PROTOCOLS: Final = 101
# RFC 9112 6.3, point 1.
_BODILESS: Final = frozenset({204, 304})
# Any body that is announced may be begun: only its start is kept.
_ANY_LENGTH: Final = 1 << 62


class Reply:
    """The head of a response.  Everything is read from `raw` when asked for, so that a connection keeps no dict.

    `ReplyReader` makes them, and checks what they are made of.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """The head as it arrived, from the status line to the empty line."""

    @property
    def http_version(self) -> str:
        """1.0 or 1.1."""
        return self.raw[5:8].decode("ascii")

    @property
    def status(self) -> int:
        """101, 200, 404, ..."""
        return int(self.raw[9:12])

    @property
    def reason(self) -> str:
        """The phrase behind the status; often empty, and nothing to rely on (RFC 9112 4)."""
        return self.raw[13 : self.raw.index(b"\r\n")].decode("latin-1").strip(" \t")

    @property
    def headers(self) -> Headers:
        """All header fields."""
        return read_headers(self.raw, self.raw.index(b"\n") + 1)

    def __repr__(self) -> str:
        return f"<Reply {self.status} {self.reason}>"


class ReplyReader:
    """Collects the head of one response from pieces of any size; no byte is looked at twice.

    What it finds does not depend on how the bytes were cut.
    """

    __slots__ = ("_buffer", "_line_checked", "_scanned", "_skipped", "max_head_bytes", "max_headers")

    def __init__(self, max_head_bytes: int = MAX_HEAD_BYTES, max_headers: int = MAX_HEADERS) -> None:
        self.max_head_bytes, self.max_headers = max_head_bytes, max_headers
        self._buffer = bytearray()
        self._scanned = 0  # no bare LF and no end of the head before this
        self._skipped = 0  # bytes of interim responses before this one
        self._line_checked = False

    @property
    def is_empty(self) -> bool:
        """Reports whether nothing has arrived: who closes now has refused without a word."""
        return not self._buffer and not self._skipped

    def feed(self, data: bytes) -> tuple[Reply, bytes] | None:
        """Take what arrived; once a final head is complete, give it and the bytes after it.

        "A client MUST be able to parse one or more 1xx responses received prior to a final response" (RFC 9110 15.2):
        they are passed over, all but 101, and count against `max_head_bytes` together with what follows.

        Raises:
            ConnectError: cause "reply".  The reader must not be fed again.
        """
        buffer = self._buffer
        buffer += data
        while True:
            end = self._find_end()
            if not end:
                return None
            reply = self._check(bytes(buffer[:end]))
            del buffer[:end]
            self._scanned, self._line_checked = 0, False
            if reply.status >= 200 or reply.status == SWITCHING_PROTOCOLS:
                leftover = bytes(buffer)
                buffer.clear()
                return reply, leftover
            self._skipped += end

    def _find_end(self) -> int:
        """Where the head at the start of the buffer ends; 0: more is needed."""
        buffer = self._buffer
        room = self.max_head_bytes - self._skipped
        if not self._line_checked:
            self._check_line(room)
        try:
            end = find_end(buffer, self._scanned, room)
        except ValueError as error:
            raise ConnectError("reply", f"in the head of the answer {error}") from None
        if not end and len(buffer) > room:
            raise ConnectError("reply", f"the head of the answer is larger than {self.max_head_bytes} bytes")
        self._scanned = len(buffer)
        return end

    def _check_line(self, room: int) -> None:
        """Refuse what is no HTTP as soon as it is seen: a server of another protocol may wait for us to speak."""
        buffer = self._buffer
        if not _PROTOCOL.startswith(bytes(buffer[: len(_PROTOCOL)])):
            raise ConnectError("reply", "the answer is not HTTP")
        if buffer.find(b"\n", self._scanned, room) < 0:
            return
        line = _STATUS_LINE.match(buffer)
        if line is None:
            raise ConnectError("reply", "the first line of the answer is not HTTP/1.1 STATUS REASON")
        if line[1] not in (b"1.0", b"1.1"):
            raise ConnectError("reply", f"the answer is in HTTP/{line[1].decode('ascii')}")
        self._line_checked = True

    def _check(self, raw: bytes) -> Reply:
        """Check the header lines of a whole head, and wrap it."""
        start = raw.index(b"\n") + 1
        # Unlike 9112 5.2, which has a user agent put a space in the place of an obs-fold: nobody who serves WebSockets
        # folds, but for those who try what gets past a proxy.
        fault = header_fault(raw, start)
        if fault:
            raise ConnectError("reply", f"in the head of the answer: {fault}")
        if raw.count(b"\n", start) - 1 > self.max_headers:
            raise ConnectError("reply", f"the answer has more than {self.max_headers} header lines")
        return Reply(raw)


class BodyStart:
    """Collects how the body of a refusal begins (RFC 9112 6.3), for the text of an error; a broken body just ends."""

    __slots__ = ("_left", "_reader", "data")

    def __init__(self, reply: Reply, max_bytes: int = MAX_BODY_START_BYTES) -> None:
        self._reader = _body_reader(reply)
        self._left = max_bytes
        self.data = b""
        """What came so far, at most `max_bytes`, without the framing of chunks."""

    @property
    def is_done(self) -> bool:
        """Reports whether there is nothing more to wait for."""
        return self._left == 0 or self._reader is None or self._reader.is_done

    def feed(self, data: bytes) -> bool:
        """Take what arrived; gives `is_done`."""
        # Byte by byte, so that what came before a broken chunk is kept.  There are few: framing has limits too.
        for at in range(len(data)):
            if self._left == 0 or self._reader is None or self._reader.is_done:
                break
            try:
                piece = self._reader.feed(data[at : at + 1])
            except HandshakeError:
                self._reader = None
                break
            self.data += piece
            self._left -= len(piece)
        return self.is_done


def _body_reader(reply: Reply) -> BodyReader | None:
    """What reads the body of `reply`; None: it has none.

    A Content-Length that is no number counts as none at all: the body then lasts until the connection ends.
    """
    if reply.status < 200 or reply.status in _BODILESS:
        return None
    headers = reply.headers
    if "chunked" in headers.tokens("Transfer-Encoding"):
        return ChunkedBody(_ANY_LENGTH)
    length = headers.get("Content-Length") or ""
    return LengthBody(int(length) if _DIGITS.match(length) else _ANY_LENGTH)
