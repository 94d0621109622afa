"""permessage-deflate on bytes (RFC 7692 section 7.2): one half that inflates, one that deflates.

Owns the zlib contexts of a connection and when they are made and dropped.  Frames, their order and the RSV1 bit of
what arrives are the parser's; what was agreed is `extensions.py`'s.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from wsd.errors import ProtocolError
from wsd.wire.extensions import Agreement, Settings
from wsd.wire.frames import FIN, INVALID_PAYLOAD, RSV1

if TYPE_CHECKING:
    from zlib import _Compress, _Decompress

# Length of an empty stored block and its complement: how a flush ends.  Section 7.2.1: "Remove 4 octets (that are 0x00
# 0x00 0xff 0xff) from the tail end"; 7.2.2: "Append 4 octets [...] to the tail end of the payload".
_TAIL: Final = b"\x00\x00\xff\xff"
# A block that ends a stream and holds nothing: makes a stream end that stands between two blocks, and no other.
_LAST_BLOCK: Final = b"\x03\x00"
# Most compressed bytes that zlib is given in one call.  It copies what it leaves over, after each `limit` bytes of
# output and after each end of a stream; a message may be made of 2-byte streams.
_SLICE_BYTES: Final = 16384
# zlib refuses a raw window of 8 bits.  With 9 it reaches back at most 512 - 262 = 250 bytes (MAX_DIST in its
# deflate.h), which a receiver with 8 bits, 256 bytes, has.
_SMALLEST_BITS: Final = 9


class Inflater:
    """The receiving half of one connection.

    Feed it a message's payload as it arrives, `finish()` it, and `read()` until `is_drained`.  Its context is made
    when a message needs it, and dropped between messages if nothing is taken over.  Memory is bounded by what was fed
    and `limit`.

    A distance that goes beyond `window_bits` is an error only if zlib sees it: what is still in its output may be
    reached.

    Args:
        window_bits: 8 to 15, of the peer's window.
        context_takeover: Whether the peer may refer to messages before.
    """

    __slots__ = ("_at", "_context", "_data", "_is_ending", "_is_full", "_takeover", "_window_bits")

    def __init__(self, window_bits: int, context_takeover: bool) -> None:
        self._window_bits = window_bits
        self._takeover = context_takeover
        self._context: _Decompress | None = None
        self._data = b""  # fed, and not given to zlib before the offset `_at`
        self._at = 0
        self._is_full = False  # zlib filled its output: it may hold more
        self._is_ending = False

    @property
    def is_drained(self) -> bool:
        """Reports whether everything that was fed so far has been handed out."""
        return self._at == len(self._data) and not self._is_full

    @property
    def held(self) -> int:
        """How many bytes were fed and are not inflated yet."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Take compressed payload of the message at hand."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def finish(self) -> None:
        """The last byte of the message was fed."""
        self.feed(_TAIL)
        self._is_ending = True

    def read(self, limit: int) -> bytes:
        """At most `limit` bytes of what comes out, fewer at will; b"": there is no more of what was fed.

        Raises:
            ProtocolError: 1007: this is no DEFLATE, or the message ends inside a block.
            ValueError: `limit` is not positive.
        """
        if limit < 1:
            raise ValueError(f"a limit of {limit} bytes")
        try:
            payload = self._inflate(limit)
            if self.is_drained:
                self._data = b""
                self._at = 0
                if self._is_ending:
                    self._end_message()
        except zlib.error:
            raise ProtocolError(INVALID_PAYLOAD, "bad compressed data") from None
        return payload

    def _inflate(self, limit: int) -> bytes:
        """The next output there is."""
        while not self.is_drained:
            context = self._context
            if context is None:
                context = self._context = zlib.decompressobj(-self._window_bits)
            chunk = self._data[self._at : self._at + _SLICE_BYTES]
            payload = context.decompress(chunk, limit)
            if context.eof:
                # Section 7.2.3.4: blocks with BFINAL set to 1 may stand anywhere; another stream follows.
                self._at += len(chunk) - len(context.unused_data)
                self._is_full = False
                self._context = None
            else:
                self._at += len(chunk) - len(context.unconsumed_tail)
                self._is_full = len(payload) == limit
            if payload:
                return payload
        return b""

    def _end_message(self) -> None:
        """Check that the message ended between two blocks; else the next one would be read as the rest of this."""
        self._is_ending = False
        context = self._context
        if context is None:
            return
        if self._takeover:
            context = context.copy()
        else:
            self._context = None
        if context.decompress(_LAST_BLOCK) or not context.eof:
            raise ProtocolError(INVALID_PAYLOAD, "compressed message cut short")


class Deflater:
    """The sending half of one connection.

    Its context is made when a message needs it, and dropped between messages if nothing is taken over.

    Attributes:
        window_bits: 8 to 15, the most that our window may have.
        settings: Level, memory level and the smallest message worth it.

    Args:
        context_takeover: Whether a message may refer to those before.
    """

    __slots__ = ("_context", "_takeover", "settings", "window_bits")

    def __init__(self, window_bits: int, context_takeover: bool, settings: Settings) -> None:
        self.window_bits = window_bits
        self._takeover = context_takeover
        self.settings = settings
        self._context: _Compress | None = None

    def encode(self, first: int, payload: bytes) -> tuple[int, bytes]:
        """What to send for a data frame: its first byte, with RSV1 added where due, and its payload.

        A message in one frame that is shorter than `min_bytes` is left as it is.  One in several is compressed from
        its first frame on, since its size is not known then; each frame can be read when it arrives.

        Args:
            first: FIN and opcode.
            payload: Of this frame.
        """
        is_final = first >= FIN
        if first & 0x0F:
            if is_final and len(payload) < self.settings.min_bytes:
                return first, payload
            # Section 6.1: "An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first
            # fragments of a data message."
            first |= RSV1
        context = self._context
        if context is None:
            context = self._context = _new_compressor(self.window_bits, self.settings)
        data = context.compress(payload) + context.flush(zlib.Z_SYNC_FLUSH)
        if is_final:
            data = data[:-4]
            if not self._takeover:
                self._context = None
        return first, data

    def forget(self) -> None:
        """Start without history: a message goes out that another context compressed.

        The peer's window then holds that message, and ours would not.
        """
        self._context = None


def compress_alone(payload: bytes, window_bits: int, settings: Settings) -> bytes:
    """One whole message, compressed without history: for every receiver with a window of that size or a larger one.

    Each receiver's `Deflater` has to `forget()`.
    """
    context = _new_compressor(window_bits, settings)
    return (context.compress(payload) + context.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _new_compressor(window_bits: int, settings: Settings) -> _Compress:
    bits = max(window_bits, _SMALLEST_BITS)
    return zlib.compressobj(settings.level, zlib.DEFLATED, -bits, settings.memory_level)


def make_pair(agreement: Agreement, settings: Settings, *, is_client: bool) -> tuple[Inflater, Deflater]:
    """Both halves of one end of a connection.

    Of our own window and history we may always use less than was agreed, so our settings count too.
    """
    server = agreement.server_max_window_bits, not agreement.server_no_context_takeover
    client = agreement.client_max_window_bits, not agreement.client_no_context_takeover
    theirs, (bits, takeover) = (server, client) if is_client else (client, server)
    return Inflater(*theirs), Deflater(
        min(bits, settings.window_bits), takeover and settings.context_takeover, settings
    )
