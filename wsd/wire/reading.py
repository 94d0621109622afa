"""RFC 6455 section 5, the frame and the message that are being received.

Owns their state, and every check that section 5 and 8.1 ask for; of compressed messages (RFC 7692) the bits, while the
bytes are the inflater's.  Must not know who reads the bytes, who gets the pieces, or what is answered; nor when there
is nothing under way, which is `Parser`'s.

Message state moves by data frames only: a control frame between two fragments touches none of it.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

from wsd.errors import ProtocolError
from wsd.wire.fast import is_utf8, mask
from wsd.wire.frames import (
    CLOSE_FRAME,
    FIN,
    INVALID_PAYLOAD,
    MASKED,
    MAX_CONTROL_BYTES,
    POLICY,
    PROTOCOL_ERROR,
    RSV1,
    TEXT,
    TOO_BIG,
    parse_close,
)

if TYPE_CHECKING:
    from wsd.wire.deflate import Inflater
    from wsd.wire.parser import Parser

Piece = tuple[int, bytes, bool, bool, int]
"""`(opcode, payload, is_first, is_final, remaining)`: of a data message its opcode (never CONTINUATION), the payload
as far as it has arrived, whether this is the message's first and last piece, and how many bytes of this frame are
still to come (while inflating, at least 1 before the frame's last piece).  A Ping or Pong is one piece; a Close is
none, see `Parser.close`.  A plain tuple: a class with names costs ten times as much to make."""

OPCODE, PAYLOAD, FIRST, FINAL, REMAINING = range(5)

# Inflated payload that one call hands out: a megabyte may hold a gigabyte, and this is all of it that there ever is.
INFLATE_BYTES: Final = 65536

_RSV: Final = 0x70
_CONTROL: Final = 0x08
# Indexed by opcode.  Section 5.2: 3-7 and B-F are reserved; "If an unknown opcode is received, the receiving endpoint
# MUST _Fail the WebSocket Connection_".
_KNOWN: Final = tuple(opcode in (0, 1, 2, 8, 9, 10) for opcode in range(16))
LONGEST: Final = (1 << 63) - 1  # "the most significant bit MUST be 0"
_new_decoder: Final = codecs.getincrementaldecoder("utf-8")


class Reading:
    """The frame and the message that are being received: of a connection that is within one, or whose frames are never
    read by `fast.parse`, or which inflates.  A third of what an idle connection needs would be this."""

    __slots__ = (
        "_control",
        "_decoder",
        "_fin",
        "_first",
        "_fragments",
        "_is_compressed",
        "_key",
        "_key_bytes",
        "_mask_bit",
        "_message",
        "_offset",
        "_opcode",
        "_received",
        "_remaining",
        "_room",
        "_stash",
        "bound",
        "close",
        "has_more",
        "inflater",
        "is_skipping",
        "max_fragments",
        "max_frame_bytes",
        "max_message_bytes",
    )

    def __init__(self, parser: Parser, is_client: bool, inflater: Inflater | None) -> None:
        self.take_limits(parser)
        self.close: tuple[int, str] | None = None
        self.has_more = False
        self._mask_bit = 0 if is_client else MASKED
        self._key_bytes = 0 if is_client else 4
        self.inflater = inflater
        self.is_skipping = False
        self._stash = b""  # received and not looked at: the start of a header, or what is behind `has_more`
        self._room = 0  # inflated bytes that this call may still hand out
        # The frame whose payload is being received.
        self._opcode = 0
        self._fin = False
        self._key = b""
        self._offset = 0  # how much of its payload was unmasked
        self._remaining = 0
        self._control = b""  # what has come of a control frame's payload
        # The message that is being received; data frames alone touch these.
        self._message = 0  # its opcode, 0 between messages
        self._is_compressed = False
        self._first = False  # its first piece is still to be handed out
        self._received = 0
        self._fragments = 0
        self._decoder: codecs.IncrementalDecoder | None = None

    def take_limits(self, parser: Parser) -> None:
        """Have what comes from here on keep to the parser's."""
        self.max_message_bytes = parser.max_message_bytes
        self.max_fragments = parser.max_fragments
        self.max_frame_bytes = parser.max_frame_bytes
        self.bound = parser.bound

    def skip(self) -> None:
        """As of `Parser`."""
        self.is_skipping = True
        if self.has_more:
            self.has_more = False
            self._end_of_payload()

    def receive(self, data: bytes | memoryview, at: int, pieces: list[Piece]) -> None:
        """As of `Parser`, from index `at` on.

        Raises:
            ProtocolError: what a peer must not send.
        """
        self._room = INFLATE_BYTES
        if self.has_more:
            self._hand_out(pieces)
        if self.has_more:
            self._stash += bytes(data)
        else:
            self._parse(data, at, pieces)

    @property
    def is_mid_message(self) -> bool:
        """As of `Parser`."""
        return self._message != 0

    @property
    def held(self) -> int:
        """As of `Parser`."""
        return len(self._stash) + (self.inflater.held if self.inflater is not None else 0)

    @property
    def is_at_rest(self) -> bool:
        """Whether what comes next may be read by `fast.parse`: as of `Parser.is_plain`."""
        return self._mask_bit != 0 and not (
            self._message or self._remaining or self._stash or self.is_skipping or self.close
        )

    @property
    def mask_of_awaited(self) -> tuple[bytes, int]:
        """As of `Parser`."""
        return self._key, self._offset

    @property
    def awaited(self) -> int:
        """As of `Parser`."""
        is_handed_out = self._message and not (self._is_compressed or self.is_skipping or self._opcode & _CONTROL)
        return self._remaining if is_handed_out else 0

    def receive_awaited(self, payload: bytes, pieces: list[Piece]) -> None:
        """As of `Parser`.

        Raises:
            ProtocolError: what a peer must not send.
        """
        self._remaining -= len(payload)
        self._offset += len(payload)
        self._data(payload, self._fin and not self._remaining, self._remaining, pieces)

    def _parse(self, data: bytes | memoryview, at: int, pieces: list[Piece]) -> None:
        """Everything but plain frames: one pass over what one read brought, from index `at`."""
        if self._stash:
            data = self._stash + bytes(data)
            self._stash = b""
        end = len(data)
        if self._remaining:
            at = self._continue_frame(data, at, end, pieces)
        while at < end and self.close is None:
            if end - at < 2 or self.has_more:
                self._stash = bytes(data[at:])
                return
            head, second = data[at], data[at + 1]
            self._check_start(head, second)
            length = second & 0x7F
            payload_at = at + 2 + self._key_bytes
            if length >= 126:
                size = 2 if length == 126 else 8
                if end - at < 2 + size:
                    self._stash = bytes(data[at:])
                    return
                length = int.from_bytes(data[at + 2 : at + 2 + size], "big")
                # "the minimal number of bytes MUST be used to encode the length"
                if length < 126 or (size == 8 and not 65536 <= length <= LONGEST):
                    raise ProtocolError(PROTOCOL_ERROR, "bad length")
                payload_at += size
            if not head & _CONTROL and (self._received if self._message else 0) + length > self.bound:
                self._check_size(head, length)
            if end < payload_at:
                self._stash = bytes(data[at:])
                return
            self._begin_frame(head, length)
            key = self._key = bytes(data[payload_at - 4 : payload_at]) if self._mask_bit else b""
            at = payload_at + length
            if at <= end:
                self._remaining = 0
                payload = data[payload_at:at]
                self._payload((mask(payload, key) if key else bytes(payload)) if length else b"", pieces)
            else:
                self._remaining = length
                self._offset = 0
                at = self._continue_frame(data, payload_at, end, pieces)
        if at < end:  # behind a Close: nobody reads it, but `held` tells that the peer went on
            self._stash = bytes(data[at : at + 1])

    def _check_start(self, head: int, second: int) -> None:
        """All that the first two bytes of a frame can be wrong in; called again when they were stashed."""
        opcode = head & 0x0F
        if head & _RSV and (head & _RSV != RSV1 or self.inflater is None):
            # "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values"
            raise ProtocolError(PROTOCOL_ERROR, "reserved bit set")
        if not _KNOWN[opcode]:
            raise ProtocolError(PROTOCOL_ERROR, f"reserved opcode {opcode}")
        if second & MASKED != self._mask_bit:
            # Section 5.1: "The server MUST close the connection upon receiving a frame that is not masked. [...] A
            # client MUST close a connection if it detects a masked frame."
            raise ProtocolError(PROTOCOL_ERROR, "frame not masked" if self._mask_bit else "frame masked")
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
        if head & RSV1 and not 0 < opcode < _CONTROL:
            # RFC 7692 6.1: "An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first
            # fragments of a data message. An endpoint receiving such a frame MUST _Fail the WebSocket Connection_."
            raise ProtocolError(PROTOCOL_ERROR, "compression bit on a control frame or a continuation")

    def _check_size(self, head: int, length: int) -> None:
        """Refuse a data frame that is over a limit; so far it is only known to be over the smaller one."""
        if self.max_frame_bytes and length > self.max_frame_bytes:
            raise ProtocolError(TOO_BIG, f"frame over {self.max_frame_bytes} bytes", "max_frame_bytes")
        received = self._received if self._message else 0
        if self.max_message_bytes and received + length > self.max_message_bytes and not self._is_of_compressed(head):
            raise ProtocolError(TOO_BIG, f"message over {self.max_message_bytes} bytes", "max_message_bytes")

    def _is_of_compressed(self, head: int) -> bool:
        """Reports whether a data frame is part of a compressed message, whose size its header does not tell."""
        return self._is_compressed if self._message else head & RSV1 != 0

    def _begin_frame(self, head: int, length: int) -> None:
        """Note what the header said; a data frame opens or continues the message."""
        opcode = self._opcode = head & 0x0F
        if opcode & _CONTROL:
            return
        self._fin = head >= FIN
        if opcode:
            self._message = opcode
            self._is_compressed = head & RSV1 != 0
            self._first = True
            self._received = 0
            self._fragments = 1
        else:
            self._fragments += 1
            if self._fragments > self.max_fragments:
                raise ProtocolError(POLICY, f"message of over {self.max_fragments} fragments", "max_fragments")
        if not self._is_compressed:
            self._received += length

    def _continue_frame(self, data: bytes | memoryview, at: int, end: int, pieces: list[Piece]) -> int:
        """Take what has arrived of the current frame's payload; answers where the next frame begins."""
        size = min(self._remaining, end - at)
        if size:
            self._remaining -= size
            if self._key:
                chunk = mask(data[at : at + size], self._key, self._offset)
                self._offset += size
            else:
                chunk = bytes(data[at : at + size])
            self._payload(chunk, pieces)
        return at + size

    def _payload(self, chunk: bytes, pieces: list[Piece]) -> None:
        """Hand out payload of the current frame; `_remaining` is already what comes after it."""
        if self._opcode & _CONTROL:
            self._control_payload(chunk, pieces)
            return
        if self.is_skipping:
            self._end_of_payload()
        elif self._is_compressed:
            self._inflate(chunk, pieces)
        else:
            self._data(chunk, self._fin and not self._remaining, self._remaining, pieces)

    def _data(self, chunk: bytes, final: bool, remaining: int, pieces: list[Piece]) -> None:
        """One piece of the message."""
        if self._message == TEXT:
            self._check_text(chunk, final)
        # A fragment without payload that does not end the message tells a plugin nothing.
        if chunk or final:
            pieces.append((self._message, chunk, self._first, final, remaining))
            self._first = False
        if final:
            self._message = 0

    def _inflate(self, chunk: bytes, pieces: list[Piece]) -> None:
        assert self.inflater is not None
        self.inflater.feed(chunk)
        if self._fin and not self._remaining:
            self.inflater.finish()
        self._hand_out(pieces)

    def _hand_out(self, pieces: list[Piece]) -> None:
        """Inflate what is there of the current frame, as far as this call's room goes."""
        inflater, limit = self.inflater, self.max_message_bytes
        assert inflater is not None
        self.has_more = True
        while self._room:
            # One byte over the limit is all that a bomb is ever inflated to.
            chunk = inflater.read(min(self._room, limit + 1 - self._received) if limit else self._room)
            self._room -= len(chunk)
            self._received += len(chunk)
            if limit and self._received > limit:
                # What is within the limit comes first, however it was cut on its way: it may be no UTF-8.
                self._data(chunk[:-1], False, self._remaining or 1, pieces)
                raise ProtocolError(TOO_BIG, f"message over {limit} bytes", "max_message_bytes")
            is_drained = inflater.is_drained
            final = is_drained and self._fin and not self._remaining
            self._data(chunk, final, self._remaining or int(not is_drained), pieces)
            if is_drained:
                self.has_more = False
                return

    def _end_of_payload(self) -> None:
        """The same for payload that nobody wants."""
        if self._fin and not self._remaining:
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
            if not is_utf8(chunk):
                raise ProtocolError(INVALID_PAYLOAD, "text is not UTF-8")
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
