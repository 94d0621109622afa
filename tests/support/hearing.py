"""What a peer makes of the bytes that a wsi sent: frames, and the messages in them, inflated by plain zlib.

On purpose it shares no code with wsd, so that a mistake in one is seen by the other.
"""

from __future__ import annotations

import zlib
from typing import Any

from tests.support.client import CLOSE, CONTINUATION, Frame, apply_mask


class Hearing:
    """The ear of one connection; takes bytes as they left, and asserts that a peer may take them.

    Args:
        is_masked: Whether it hears a client.
        window_bits: Of the sender's window; 0: nothing was agreed of permessage-deflate.
        takeover: Whether a message may refer to those before.

    Attributes:
        frames: All of them, unmasked, in the order in which they travelled.
        keys: The masking keys.
        messages: Opcode and payload of each message, as it became complete.
        is_mid_message: A message has begun and not ended.
        payload: Of the message at hand, as far as it has come; each fragment is readable when it comes.
    """

    def __init__(self, *, is_masked: bool = False, window_bits: int = 0, takeover: bool = True) -> None:
        self.is_masked = is_masked
        self.window_bits = window_bits
        self.takeover = takeover
        self.frames: list[Frame] = []
        self.keys: list[bytes] = []
        self.messages: list[tuple[int, bytes]] = []
        self.is_mid_message = False
        self._opcode = 0
        self.payload = b""
        self._is_compressed = False
        self._inflate: Any = None
        self._rest = b""

    def hear(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        self._rest += data
        before = len(self.frames)
        while (frame := self._next()) is not None:
            assert not self.frames or self.frames[-1].opcode != CLOSE, "something came after the Close"
            self.frames.append(frame)
            if frame.opcode < CLOSE:
                self._take(frame)
            else:
                assert frame.final, frame
                assert not frame.rsv, frame
        return self.frames[before:]

    def _next(self) -> Frame | None:
        data = self._rest
        if len(data) < 2:
            return None
        length, at = data[1] & 0x7F, 2
        assert bool(data[1] & 0x80) is self.is_masked
        if length > 125:
            at = 4 if length == 126 else 10
            if len(data) < at:
                return None
            length = int.from_bytes(data[2:at], "big")
            assert length > (65535 if at == 10 else 125), "not the shortest form"
        if self.is_masked:
            at += 4
        if len(data) < at + length:
            return None
        payload = data[at : at + length]
        if self.is_masked:
            self.keys.append(data[at - 4 : at])
            payload = apply_mask(payload, self.keys[-1])
        self._rest = data[at + length :]
        return Frame(data[0] & 0x0F, payload, bool(data[0] & 0x80), data[0] >> 4 & 7)

    def _take(self, frame: Frame) -> None:
        assert (frame.opcode == CONTINUATION) is self.is_mid_message, frame
        assert not frame.rsv or (frame.rsv == 4 and self.window_bits and frame.opcode), frame
        if frame.opcode:
            self._opcode, self.payload, self._is_compressed = frame.opcode, b"", frame.rsv == 4
        self.payload += self._inflated(frame) if self._is_compressed else frame.payload
        self.is_mid_message = not frame.final
        if frame.final:
            self.messages.append((self._opcode, self.payload))

    def _inflated(self, frame: Frame) -> bytes:
        if self._inflate is None:
            self._inflate = zlib.decompressobj(-self.window_bits)
        payload: bytes = self._inflate.decompress(frame.payload + (b"\0\0\xff\xff" if frame.final else b""))
        assert not self._inflate.unconsumed_tail
        if frame.final and not self.takeover:
            self._inflate = None
        return payload

    @property
    def texts(self) -> list[str]:
        """The messages, read as text whatever they were sent as."""
        return [payload.decode() for _, payload in self.messages]

    @property
    def closes(self) -> list[Frame]:
        """The Close frames."""
        return [frame for frame in self.frames if frame.opcode == CLOSE]
