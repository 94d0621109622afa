"""RFC 6455 section 5, the receiving side: bytes in, pieces out, nothing held back.

Owns the state of the frame and of the message that are being received, and every check that section 5 and 8.1 ask
for.  Must not know who reads the bytes, who gets the pieces, or what is answered.

Message state moves by data frames only: a control frame between two fragments touches none of it.
"""

from __future__ import annotations

import codecs
from typing import Final

from wsd.errors import ProtocolError
from wsd.wire.frames import (
    CLOSE_FRAME,
    FIN,
    INVALID_PAYLOAD,
    MASKED,
    MAX_CONTROL_BYTES,
    POLICY,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    parse_close,
)
from wsd.wire.mask import mask, rotate

Piece = tuple[int, bytes, bool, bool, int]
"""`(opcode, payload, is_first, is_final, remaining)`: of a data message its opcode (never CONTINUATION), the payload
as far as it has arrived, whether this is the message's first and last piece, and how many bytes of this frame are
still to come.  A Ping or Pong is one piece; a Close is none, see `Parser.close`.  A plain tuple: a class with names
costs ten times as much to make."""

OPCODE, PAYLOAD, FIRST, FINAL, REMAINING = range(5)

_RSV: Final = 0x70
_CONTROL: Final = 0x08
# Indexed by opcode.  Section 5.2: 3-7 and B-F are reserved; "If an unknown opcode is received, the receiving endpoint
# MUST _Fail the WebSocket Connection_".
_KNOWN: Final = tuple(opcode in (0, 1, 2, 8, 9, 10) for opcode in range(16))
_LONGEST: Final = 1 << 63  # "the most significant bit MUST be 0"
_new_decoder: Final = codecs.getincrementaldecoder("utf-8")


class Parser:
    """The server's reader of one connection.

    Args:
        max_message_bytes: Largest message, in bytes, over all its fragments; 0: no limit.  Refused with 1009 from the
            frame's header, before any of the payload is waited for.
        max_fragments: Most frames that one message may come in; more is 1008.

    Attributes:
        failure: What the peer did wrong, once it did; nothing is read after it.
        close: Code and reason of the peer's Close, once it came; nothing is read after it (section 5.5.1).
    """

    __slots__ = (
        "_control",
        "_decoder",
        "_fin",
        "_first",
        "_fragments",
        "_key",
        "_message",
        "_opcode",
        "_received",
        "_remaining",
        "_stash",
        "close",
        "failure",
        "max_fragments",
        "max_message_bytes",
    )

    def __init__(self, max_message_bytes: int, max_fragments: int) -> None:
        self.max_message_bytes = max_message_bytes
        self.max_fragments = max_fragments
        self.failure: ProtocolError | None = None
        self.close: tuple[int, str] | None = None
        self._stash = b""  # the start of a header that is not complete
        # The frame whose payload is being received.
        self._opcode = 0
        self._fin = False
        self._key = b""
        self._remaining = 0
        self._control = b""  # what has come of a control frame's payload
        # The message that is being received; data frames alone touch these.
        self._message = 0  # its opcode, 0 between messages
        self._first = False  # its first piece is still to be handed out
        self._received = 0
        self._fragments = 0
        self._decoder: codecs.IncrementalDecoder | None = None

    @property
    def is_mid_message(self) -> bool:
        """Reports whether a message has begun and not ended."""
        return self._message != 0

    def receive(self, data: bytes | memoryview) -> list[Piece]:
        """The pieces that `data` completes or continues; all that was complete before a violation among them.

        Look at `failure` and `close` after having handled the pieces.  Never raises for what a peer sent.
        """
        pieces: list[Piece] = []
        if self.failure is None and self.close is None:
            try:
                self._parse(data, pieces)
            except ProtocolError as failure:
                self.failure = failure
        return pieces

    def _parse(self, data: bytes | memoryview, pieces: list[Piece]) -> None:
        """Hot: one pass over what one read brought; the whole small frame is the straight way through."""
        if self._stash:
            data = self._stash + bytes(data)
            self._stash = b""
        at, end = 0, len(data)
        if self._remaining:
            at = self._continue_frame(data, 0, end, pieces)
        while at < end and self.close is None:
            if end - at < 2:
                self._stash = bytes(data[at:])
                return
            head, second = data[at], data[at + 1]
            self._check_start(head, second)
            length = second & 0x7F
            payload_at = at + 6
            if length >= 126:
                size = 2 if length == 126 else 8
                if end - at < 2 + size:
                    self._stash = bytes(data[at:])
                    return
                length = int.from_bytes(data[at + 2 : at + 2 + size], "big")
                # "the minimal number of bytes MUST be used to encode the length"
                if length < 126 or (size == 8 and not 65536 <= length < _LONGEST):
                    raise ProtocolError(PROTOCOL_ERROR, "bad length")
                payload_at += size
            if not head & _CONTROL and self.max_message_bytes:
                received = self._received if self._message else 0
                if received + length > self.max_message_bytes:
                    raise ProtocolError(TOO_BIG, f"message over {self.max_message_bytes} bytes")
            if end < payload_at:
                self._stash = bytes(data[at:])
                return
            self._begin_frame(head, length)
            key = bytes(data[payload_at - 4 : payload_at])
            at = payload_at + length
            if at <= end:
                self._remaining = 0
                self._payload(mask(data[payload_at:at], key) if length else b"", pieces)
            else:
                self._key = key
                self._remaining = length
                at = self._continue_frame(data, payload_at, end, pieces)

    def _check_start(self, head: int, second: int) -> None:
        """All that the first two bytes of a frame can be wrong in; called again when they were stashed."""
        opcode = head & 0x0F
        if head & _RSV:
            # "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values"
            raise ProtocolError(PROTOCOL_ERROR, "reserved bit set")
        if not _KNOWN[opcode]:
            raise ProtocolError(PROTOCOL_ERROR, f"reserved opcode {opcode}")
        if not second & MASKED:
            # Section 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
            raise ProtocolError(PROTOCOL_ERROR, "frame not masked")
        if opcode & _CONTROL:
            if not head & FIN:
                raise ProtocolError(PROTOCOL_ERROR, "fragmented control frame")
            if second & 0x7F > MAX_CONTROL_BYTES:
                raise ProtocolError(PROTOCOL_ERROR, "control frame over 125 bytes")
        elif opcode:
            if self._message:
                raise ProtocolError(PROTOCOL_ERROR, "new message inside a fragmented one")
        elif not self._message:
            raise ProtocolError(PROTOCOL_ERROR, "continuation without a message")

    def _begin_frame(self, head: int, length: int) -> None:
        """Note what the header said; a data frame opens or continues the message."""
        opcode = self._opcode = head & 0x0F
        if opcode & _CONTROL:
            return
        self._fin = head >= FIN
        if opcode:
            self._message = opcode
            self._first = True
            self._received = length
            self._fragments = 1
        else:
            self._received += length
            self._fragments += 1
            if self._fragments > self.max_fragments:
                raise ProtocolError(POLICY, f"message of over {self.max_fragments} fragments")

    def _continue_frame(self, data: bytes | memoryview, at: int, end: int, pieces: list[Piece]) -> int:
        """Take what has arrived of the current frame's payload; answers where the next frame begins."""
        size = min(self._remaining, end - at)
        if size:
            chunk = mask(data[at : at + size], self._key)
            self._remaining -= size
            self._key = rotate(self._key, size)
            self._payload(chunk, pieces)
        return at + size

    def _payload(self, chunk: bytes, pieces: list[Piece]) -> None:
        """Hand out payload of the current frame; `_remaining` is already what comes after it."""
        if self._opcode & _CONTROL:
            self._control_payload(chunk, pieces)
            return
        final = self._fin and not self._remaining
        if self._message == TEXT:
            self._check_text(chunk, final)
        # A fragment without payload that does not end the message tells a plugin nothing.
        if chunk or final:
            pieces.append((self._message, chunk, self._first, final, self._remaining))
            self._first = False
        if final:
            self._message = 0

    def _control_payload(self, chunk: bytes, pieces: list[Piece]) -> None:
        """A control frame is handed out whole: it is at most 125 bytes."""
        if self._remaining:
            self._control += chunk
            return
        payload = self._control + chunk if self._control else chunk
        self._control = b""
        if self._opcode == CLOSE_FRAME:
            self.close = parse_close(payload)
        else:
            pieces.append((self._opcode, payload, True, True, 0))

    def _check_text(self, chunk: bytes, final: bool) -> None:
        """Section 8.1, at the first byte that cannot be right; a character may be cut anywhere between pieces."""
        decoder = self._decoder
        if self._first and final and decoder is None:
            if chunk.isascii():
                return
            try:
                chunk.decode()
            except UnicodeDecodeError:
                raise ProtocolError(INVALID_PAYLOAD, "text is not UTF-8") from None
            return
        if decoder is None:
            decoder = self._decoder = _new_decoder()
        try:
            decoder.decode(chunk, final)
        except UnicodeDecodeError:
            raise ProtocolError(INVALID_PAYLOAD, "text is not UTF-8") from None
        if final:
            self._decoder = None  # most connections never need one again
        elif chunk and chunk[-1] >= 0xA0 and _is_half_surrogate(decoder.getstate()[0]):
            raise ProtocolError(INVALID_PAYLOAD, "text is not UTF-8")


def _is_half_surrogate(pending: bytes) -> bool:
    """Reports whether a decoder waits for the rest of a surrogate: Python's does, for "surrogatepass" to work."""
    return len(pending) == 2 and pending[0] == 0xED and pending[1] >= 0xA0


__all__ = ["FINAL", "FIRST", "OPCODE", "PAYLOAD", "REMAINING", "Parser", "Piece"]
