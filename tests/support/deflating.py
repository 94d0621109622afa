"""A raw client that speaks permessage-deflate (RFC 7692), by way of zlib and of what the 101 says.

Like `client.py`, on which it is built, it shares no code with wsd.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

from tests.support.client import BINARY, CLOSE, CONTINUATION, TEXT, Client, frame

OFFER = "permessage-deflate; client_max_window_bits"

RSV1, RSV2, RSV3 = 4, 2, 1
"""The reserved bits as `frame` and `Frame` have them."""

TAIL = b"\x00\x00\xff\xff"
"""What a sender takes off the end of a message, and a receiver puts back."""

# zlib refuses a raw window of 8 bits; with 9 it reaches back at most 250 bytes, which fits.
_SMALLEST_BITS = 9


def fragments(opcode: int, data: bytes, cuts: Iterable[int] = ()) -> list[bytes]:
    """The frames of a message with the compressed payload `data`, cut at these offsets."""
    places = [0, *cuts, len(data)]
    last = len(places) - 2
    return [
        frame(CONTINUATION if at else opcode, data[start:end], final=at == last, rsv=0 if at else RSV1)
        for at, (start, end) in enumerate(pairwise(places))
    ]


@functools.cache
def bomb(size: int) -> bytes:
    """The compressed payload of a message of `size` zeros, without history: about a thousandth of that."""
    context = zlib.compressobj(9, wbits=-15)
    block = bytes(min(size, 1 << 20))
    data = b"".join(context.compress(block) for _ in range(size // len(block)))
    return (data + context.compress(bytes(size % len(block))) + context.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


class Deflating:
    """A connection with permessage-deflate, if the server agrees; a context manager.

    Args:
        port: Of the server, on 127.0.0.1.
        protocols: What is asked for.
        offer: The Sec-WebSocket-Extensions of the request; None: it has none.

    Attributes:
        client: The raw client under it.
        params: What the server agreed to, by name; None: to nothing.
        sizes: How long the compressed payload of each message was that came.

    Raises:
        AssertionError: the server refused.
    """

    def __init__(self, port: int, protocols: str | None = None, *, offer: str | None = OFFER, path: str = "/") -> None:
        self.client = Client(port)
        self.params: dict[str, str | None] | None = None
        self.sizes: list[int] = []
        self._compressor: Any = None
        self._decompressor: Any = None
        try:
            headers = [] if offer is None else [("Sec-WebSocket-Extensions", offer)]
            answer = self.client.upgrade(path, protocols, headers=headers).header("Sec-WebSocket-Extensions")
        except BaseException:
            self.client.disconnect()
            raise
        if answer is not None:
            name, *params = (part.strip() for part in answer.split(";"))
            assert name == "permessage-deflate", answer
            pairs = [param.partition("=") for param in params]
            self.params = {key.strip(): value.strip() if equals else None for key, equals, value in pairs}
            assert len(self.params) == len(params), answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.client.disconnect()

    def _bits(self, end: str) -> int:
        """The window of one end, as it was agreed."""
        assert self.params is not None, "no compression was agreed on"
        return int(self.params.get(f"{end}_max_window_bits") or 15)

    def compress(self, payload: bytes) -> bytes:
        """The payload of our next message, as it travels; it has to be sent."""
        bits = max(self._bits("client"), _SMALLEST_BITS)
        assert self.params is not None
        if self._compressor is None or "client_no_context_takeover" in self.params:
            self._compressor = zlib.compressobj(wbits=-bits)
        data: bytes = self._compressor.compress(payload) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return data.removesuffix(TAIL)

    def inflate(self, data: bytes, *, ends: bool = True) -> bytes:
        """What the payload of a frame that came says; `ends`: it is the last of its message."""
        bits = self._bits("server")
        assert self.params is not None
        if self._decompressor is None:
            self._decompressor = zlib.decompressobj(-bits)
        payload: bytes = self._decompressor.decompress(data + (TAIL if ends else b""))
        assert not self._decompressor.eof, "a block with BFINAL, behind which nothing can be read"
        if ends and "server_no_context_takeover" in self.params:
            self._decompressor = None
        return payload

    def send(self, message: str | bytes, *, cuts: Iterable[int] = (), between: bytes = b"") -> None:
        """Send a message, compressed, in frames that are cut at these offsets, and `between` between them."""
        is_text = isinstance(message, str)
        data = self.compress(message.encode() if isinstance(message, str) else message)
        self.client.send(between.join(fragments(TEXT if is_text else BINARY, data, cuts)))

    def receive(self) -> str | bytes:
        """The next whole message, compressed or not; control frames before it and in it are skipped."""
        opcode, is_compressed, size, payload = CONTINUATION, False, 0, b""
        while True:
            got = self.client.receive_frame()
            assert got.opcode != CLOSE, got
            if got.opcode > CLOSE:
                assert not got.rsv, got
                continue
            assert bool(got.opcode) is not bool(opcode), got
            assert got.rsv in (0, RSV1) if got.opcode else not got.rsv, got
            if got.opcode:
                opcode, is_compressed = got.opcode, got.rsv == RSV1
            size += len(got.payload)
            payload += self.inflate(got.payload, ends=got.final) if is_compressed else got.payload
            if got.final:
                if is_compressed:
                    self.sizes.append(size)
                return payload.decode() if opcode == TEXT else payload
