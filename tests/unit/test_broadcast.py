"""wsd/wire/broadcast.py: one message for many, encoded once for each form in which somebody gets it."""

from __future__ import annotations

import array
import zlib
from typing import Any

import pytest

from tests.support.hearing import Hearing
from tests.support.loopless import SETTINGS
from wsd.wire.broadcast import Broadcast
from wsd.wire.deflate import Deflater
from wsd.wire.extensions import Settings
from wsd.wire.frames import BINARY, FIN, RSV1, TEXT

TEXT_1000 = "Hello, " * 143


def deflater(window_bits: int = 12, takeover: bool = True, **settings: Any) -> Deflater:
    return Deflater(window_bits, takeover, SETTINGS._replace(**settings))


def inflated(payload: bytes, window_bits: int) -> bytes:
    return zlib.decompressobj(-window_bits).decompress(payload + b"\0\0\xff\xff")


class TestUncompressed:
    def test_text_and_binary(self) -> None:
        assert Broadcast("\u20ac").frame == b"\x81\x03\xe2\x82\xac"
        assert Broadcast("\u20ac").parts == (FIN | TEXT, b"\xe2\x82\xac")
        assert Broadcast(b"\xff").frame == b"\x82\x01\xff"
        assert Broadcast(b"\xff").parts == (FIN | BINARY, b"\xff")

    @pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
    def test_the_frame_is_what_a_peer_reads(self, size: int) -> None:
        hearing = Hearing()
        hearing.hear(Broadcast(bytes(size)).frame)
        assert hearing.messages == [(BINARY, bytes(size))]

    def test_a_mutable_buffer_is_copied(self) -> None:
        buffer = bytearray(b"before")
        message = Broadcast(buffer)
        buffer[:] = b"after!"
        assert message.frame == b"\x82\x06before"
        assert message.parts == (FIN | BINARY, b"before")

    @pytest.mark.parametrize(
        ("buffer", "payload"),
        [
            (memoryview(b"abcdef")[::2], b"ace"),
            (memoryview(array.array("H", [1, 2])), array.array("H", [1, 2]).tobytes()),
            (memoryview(b"abcd").cast("B", [2, 2]), b"abcd"),
        ],
    )
    def test_any_memoryview(self, buffer: memoryview, payload: bytes) -> None:
        assert Broadcast(buffer).parts == (FIN | BINARY, payload)

    def test_what_cannot_be_sent_raises_before_anybody_gets_it(self) -> None:
        with pytest.raises(UnicodeEncodeError):
            Broadcast("\ud800")
        with pytest.raises(TypeError, match="bytes-like"):
            Broadcast(5)  # type: ignore[arg-type]


class TestCompressed:
    @pytest.mark.parametrize("bits", range(8, 16))
    def test_every_window_at_least_as_large_can_read_it(self, bits: int) -> None:
        first, payload = Broadcast(TEXT_1000).parts_for(deflater(bits))
        assert first == FIN | TEXT | RSV1
        assert len(payload) < 50
        for theirs in range(max(bits, 9), 16):
            assert inflated(payload, theirs).decode() == TEXT_1000

    @pytest.mark.parametrize("message", ["", b"", "a", bytes(200_000)])
    def test_any_message(self, message: str | bytes) -> None:
        first, payload = Broadcast(message).parts_for(deflater())
        assert first == FIN | RSV1 | (TEXT if isinstance(message, str) else BINARY)
        assert inflated(payload, 12) == (message.encode() if isinstance(message, str) else message)

    def test_once_for_each_window(self) -> None:
        """Whether they agreed on context takeover or not."""
        message = Broadcast(TEXT_1000)
        found = message.parts_for(deflater(12))
        assert message.parts_for(deflater(12)) is found
        assert message.parts_for(deflater(12, takeover=False)) is found
        assert message.parts_for(deflater(10)) is not found
        assert message.parts_for(deflater(10)) is message.parts_for(deflater(10))

    def test_once_for_each_way_of_compressing(self) -> None:
        message = Broadcast(TEXT_1000)
        none, best = message.parts_for(deflater(level=0)), message.parts_for(deflater(level=9))
        assert len(none[1]) > len(TEXT_1000) > len(best[1])
        assert inflated(none[1], 12) == inflated(best[1], 12)

    def test_what_is_too_small_is_left_as_it_is(self) -> None:
        message = Broadcast("12345678")
        assert message.parts_for(deflater(min_bytes=9)) is message.parts
        assert message.parts_for(deflater(min_bytes=8))[0] & RSV1

    def test_it_does_not_depend_on_what_the_first_receiver_got_before(self) -> None:
        used, settings = deflater(), Settings(*SETTINGS)
        used.encode(FIN | TEXT, TEXT_1000.encode())
        assert Broadcast(TEXT_1000).parts_for(used) == Broadcast(TEXT_1000).parts_for(Deflater(12, True, settings))
