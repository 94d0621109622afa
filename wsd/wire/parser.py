"""RFC 6455 section 5, the receiving side: bytes in, pieces out, nothing held back.

Owns the state of the frame and of the message that are being received, and every check that section 5 and 8.1 ask
for; of compressed messages (RFC 7692) the bits, while the bytes are the inflater's.  Must not know who reads the bytes,
who gets the pieces, or what is answered.

Message state moves by data frames only: a control frame between two fragments touches none of it.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

from wsd.errors import ProtocolError
from wsd.wire.fast import is_utf8, mask, parse
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
_FIN_CLOSE: Final = FIN | CLOSE_FRAME
_LONGEST: Final = (1 << 63) - 1  # "the most significant bit MUST be 0"
_new_decoder: Final = codecs.getincrementaldecoder("utf-8")


class Parser:
    """The reader of one connection.

    Args:
        max_message_bytes: Largest message, in bytes, over all its fragments and after inflating; 0: no limit.  Refused
            with 1009, from the frame's header where that tells, before any of the payload is waited for.
        max_fragments: Most frames that one message may come in; more is 1008.
        max_frame_bytes: Longest payload of one of its frames, as it is on the wire; 0: no limit.  Refused with 1009
            from the frame's header.
        is_client: Whether we are the client: a server's frames are not masked.
        inflater: Of a connection with permessage-deflate.

    Attributes:
        failure: What the peer did wrong, once it did; nothing is read after it.
        close: Code and reason of the peer's Close, once it came; nothing is read after it (section 5.5.1).
        has_more: Whether more can be handed out of what was received: call `receive(b"")`.
        bound: The smaller of both limits in bytes: a whole message within it needs no second look.
        is_plain: Whether what comes next may be read by `fast.parse`, with `bound` as its limit: it begins with a
            client's frame, outside of any message, and somebody wants it.
    """

    __slots__ = (
        "_control",
        "_decoder",
        "_fin",
        "_first",
        "_fragments",
        "_inflater",
        "_is_compressed",
        "_is_skipping",
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
        "failure",
        "has_more",
        "is_plain",
        "max_fragments",
        "max_frame_bytes",
        "max_message_bytes",
    )

    def __init__(
        self,
        max_message_bytes: int,
        max_fragments: int,
        *,
        max_frame_bytes: int = 0,
        is_client: bool = False,
        inflater: Inflater | None = None,
    ) -> None:
        self.set_limits(max_message_bytes, max_fragments, max_frame_bytes)
        self.failure: ProtocolError | None = None
        self.close: tuple[int, str] | None = None
        self.has_more = False
        self.is_plain = not is_client
        self._mask_bit = 0 if is_client else MASKED
        self._key_bytes = 0 if is_client else 4
        self._inflater = inflater
        self._is_skipping = False
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

    @property
    def is_mid_message(self) -> bool:
        """Reports whether a message has begun and not ended."""
        return self._message != 0

    def set_limits(self, max_message_bytes: int, max_fragments: int, max_frame_bytes: int) -> None:
        """Have what comes from here on keep to these, whose meaning is written above."""
        self.max_message_bytes = max_message_bytes
        self.max_fragments = max_fragments
        self.max_frame_bytes = max_frame_bytes
        self.bound = min(max_message_bytes or _LONGEST, max_frame_bytes or _LONGEST, _LONGEST)

    @property
    def held(self) -> int:
        """How many bytes it keeps of what it was given."""
        return len(self._stash) + (self._inflater.held if self._inflater is not None else 0)

    def skip(self) -> None:
        """Only the peer's Close is of interest from here on: payload is neither inflated nor handed out.

        Nothing is kept, so nothing is limited: a message that would be too large does not hide the Close behind it.
        """
        self._is_skipping = True
        self.is_plain = False
        self.set_limits(0, _LONGEST, 0)
        if self.has_more:
            self.has_more = False
            self._end_of_payload()

    def receive(self, data: bytes | memoryview) -> list[Piece]:
        """The pieces that `data` completes or continues; all that was complete before a violation among them.

        Look at `failure` and `close` after having handled the pieces, and at `has_more` first: while that is true, the
        rest is to be fetched with `receive(b"")`.  Never raises for what a peer sent.
        """
        pieces: list[Piece] = []
        at = 0
        if self.is_plain:
            size = len(data)
            at = parse(data, size, self.bound, size, pieces)
            if at == size:
                return pieces
            # Nearly always what is no plain message is the Close at the end.
            length = size - at - 6
            if (
                data[at] == _FIN_CLOSE
                and 0 <= length <= MAX_CONTROL_BYTES
                and data[at + 1] == MASKED + length
                and self._take_close(data[at:])
            ):
                return pieces
        if self.failure is None and self.close is None:
            self._room = INFLATE_BYTES
            try:
                if self.has_more:
                    self._hand_out(pieces)
                if self.has_more:
                    self._stash += bytes(data)
                else:
                    self._parse(data, at, pieces)
            except ProtocolError as failure:
                # Without the tracebacks, whose frames hold us and all that we hold: such a ring would stay in memory
                # until the garbage collector comes by.
                failure.__context__ = None
                self.failure = failure.with_traceback(None)
                self.has_more = False
            self.is_plain = self._mask_bit != 0 and not (
                self._message or self._remaining or self._stash or self._is_skipping or self.failure or self.close
            )
        return pieces

    def _take_close(self, data: bytes | memoryview) -> bool:
        """Take a whole Close frame; reports whether there is nothing wrong with what it says."""
        try:
            self.close = parse_close(mask(data[6:], bytes(data[2:6])))
        except ProtocolError:
            return False  # it goes the way of all others
        self.is_plain = False
        return True

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
                if length < 126 or (size == 8 and not 65536 <= length <= _LONGEST):
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
        if head & _RSV and (head & _RSV != RSV1 or self._inflater is None):
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
        if self._is_skipping:
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
        assert self._inflater is not None
        self._inflater.feed(chunk)
        if self._fin and not self._remaining:
            self._inflater.finish()
        self._hand_out(pieces)

    def _hand_out(self, pieces: list[Piece]) -> None:
        """Inflate what is there of the current frame, as far as this call's room goes."""
        inflater, limit = self._inflater, self.max_message_bytes
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


__all__ = ["FINAL", "FIRST", "OPCODE", "PAYLOAD", "REMAINING", "Parser", "Piece"]
