"""Frames that nobody may send, beside good ones: any bits, any form of the length, any payload."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from tests.support.client import MASK, apply_mask
from wsd.wire.frames import BINARY, CLOSE_FRAME, CONTINUATION, PING, TEXT

RSV1 = 4
"""Of three bits: `per-message compressed`, where compression is agreed."""

SHORTEST, IN_16_BITS, IN_64_BITS, OVER_63_BITS = range(4)


class Raw(NamedTuple):
    """One frame.  `wrongly_masked`: not as its writer's role demands."""

    opcode: int
    payload: bytes = b""
    final: bool = True
    rsv: int = 0
    form: int = SHORTEST
    wrongly_masked: bool = False

    def encode(self, from_client: bool) -> bytes:
        first = (0x80 if self.final else 0) | self.rsv << 4 | self.opcode
        masked = from_client != self.wrongly_masked
        size = len(self.payload)
        form = self.form or (IN_64_BITS if size > 65535 else IN_16_BITS if size > 125 else SHORTEST)
        if form == SHORTEST:
            length = bytes([size])
        elif form == IN_16_BITS:
            length = b"\x7e" + size.to_bytes(2, "big")
        else:
            length = b"\x7f" + (size | (1 << 63 if form == OVER_63_BITS else 0)).to_bytes(8, "big")
        head = bytes([first, length[0] | (0x80 if masked else 0)]) + length[1:]
        return head + (MASK + apply_mask(self.payload, MASK) if masked else self.payload)


def encode(frames: list[Raw], from_client: bool = True) -> bytes:
    return b"".join(frame.encode(from_client) for frame in frames)


def deflated(payload: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """A message's payload compressed alone (RFC 7692 7.2.1); with Z_FINISH it ends with BFINAL (7.2.3.4)."""
    context = zlib.compressobj(wbits=-15)
    data = context.compress(payload) + context.flush(flush)
    return data[:-4] if flush == zlib.Z_SYNC_FLUSH else data + b"\x00"


def text(payload: str | bytes, final: bool = True, **fields: int) -> Raw:
    return Raw(TEXT, payload.encode() if isinstance(payload, str) else payload, final, **fields)


def binary(payload: bytes, final: bool = True, **fields: int) -> Raw:
    return Raw(BINARY, payload, final, **fields)


def more(payload: bytes, final: bool = True, **fields: int) -> Raw:
    """A continuation."""
    return Raw(CONTINUATION, payload, final, **fields)


def ping(payload: bytes = b"", final: bool = True, **fields: int) -> Raw:
    return Raw(PING, payload, final, **fields)


def close(code: int | None = 1000, reason: bytes = b"") -> Raw:
    return Raw(CLOSE_FRAME, b"" if code is None else code.to_bytes(2, "big") + reason)
