"""RFC 7692 as the receiving side has it: the RSV1 bit, what may be in a compressed message, and limits after inflating.

As in test_parser.py every stream is fed whole, byte by byte and at every split.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.support.compressed import deflated, message, new_parser, pieces_of, without_takeover
from tests.support.deflating import RSV1, RSV2, RSV3
from tests.support.feeding import Heard, cut, feed, feed_all
from wsd.wire.deflate import Inflater
from wsd.wire.parser import INFLATE_BYTES, Parser

K = "00000000"
"""A masking key that changes nothing."""


def heard(
    stream: bytes | str, max_message_bytes: int = 0, max_fragments: int = 1 << 20, new: Any = new_parser
) -> Heard:
    data = bytes.fromhex(stream) if isinstance(stream, str) else stream
    return feed_all(data, max_message_bytes, max_fragments, new)


# The one that five well-known libraries got wrong comes first.
@pytest.mark.parametrize("new", [new_parser, without_takeover])
@pytest.mark.parametrize("control", [frame(PING, b"?"), frame(PING), frame(PONG, b"\xf2\x48"), frame(PING, "a") * 3])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_ping_between_two_fragments_of_a_compressed_message(
    opcode: int, control: bytes, new: Callable[[int, int], Parser]
) -> None:
    """ "Control frames MAY be injected in the middle of a fragmented message": they are not compressed, and neither the
    message nor whether it is compressed, nor the inflater, is touched by them."""
    said = b"Hello, hello, hello"
    controls = feed([control], new_parser=new).messages
    for at in range(len(deflated(said)) + 1):
        stream = message(opcode, deflated(said), at, between=control)
        # Both messages end behind their controls; the second shows that nothing was left over.
        assert heard(stream * 2, new=new) == Heard([*controls, (opcode, said)] * 2)


class TestSection6_1:
    """6.1: what the "Per-Message Compressed" bit may stand on."""

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_a_message_in_one_frame(self, opcode: int) -> None:
        assert heard(frame(opcode, deflated("Hello"), rsv=RSV1)) == Heard([(opcode, b"Hello")])

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_a_message_that_is_not_compressed(self, opcode: int) -> None:
        """ "an endpoint MUST NOT [...] compress" is nowhere: each message tells by its bit."""
        assert heard(frame(opcode, "Hello")) == Heard([(opcode, b"Hello")])
        halves = frame(opcode, "Hel", final=False) + frame(CONTINUATION, "lo")
        assert heard(halves) == Heard([(opcode, b"Hello")])

    def test_both_kinds_in_turn_and_the_history_of_one(self) -> None:
        context = zlib.compressobj(wbits=-15)
        stream = b""
        for _ in range(3):
            stream += frame(TEXT, deflated("Hello", context), rsv=RSV1) + frame(TEXT, "plain")
        assert heard(stream) == Heard([(TEXT, b"Hello"), (TEXT, b"plain")] * 3)

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    @pytest.mark.parametrize("before", [b"", message(TEXT, deflated("Hello"), 3)[:9], frame(TEXT, "a", final=False)])
    def test_a_control_frame(self, opcode: int, before: bytes) -> None:
        """ "An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames" """
        assert heard(before + frame(opcode, b"\x03\xe8", rsv=RSV1)).failure == 1002

    @pytest.mark.parametrize("final", [True, False])
    @pytest.mark.parametrize("first", [RSV1, 0])
    def test_a_continuation(self, first: int, final: bool) -> None:
        """ "... and non-first fragments of a data message", whether the first has it or not."""
        start = frame(TEXT, deflated("He") if first else "He", rsv=first, final=False)
        assert heard(start + frame(CONTINUATION, deflated("llo"), rsv=RSV1, final=final)).failure == 1002

    @pytest.mark.parametrize("rsv", [RSV2, RSV3, RSV1 | RSV2, RSV1 | RSV3, RSV1 | RSV2 | RSV3])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION, CLOSE, PING])
    def test_the_other_bits(self, opcode: int, rsv: int) -> None:
        before = frame(TEXT, "a", final=False) if opcode == CONTINUATION else b""
        assert heard(before + frame(opcode, rsv=rsv)).failure == 1002

    def test_without_the_extension(self) -> None:
        assert feed_all(frame(TEXT, deflated("Hello"), rsv=RSV1)) == Heard([], 1002)

    @pytest.mark.parametrize("opcode", [3, 7, 0xB, 0xF])
    def test_a_reserved_opcode(self, opcode: int) -> None:
        assert heard(frame(opcode, rsv=RSV1)) == Heard([], 1002)


class TestSection7_2_3:
    """7.2.3, the examples."""

    @pytest.mark.parametrize(
        "stream",
        [
            pytest.param(f"c1 87 {K} f248cdc9c90700", id="one frame"),
            pytest.param(f"41 83 {K} f248cd 80 84 {K} c9c90700", id="two fragments"),
            pytest.param(f"c1 8b {K} 000500faff48656c6c6f00", id="no compression"),
            pytest.param(f"c1 88 {K} f348cdc9c9070000", id="BFINAL"),
            pytest.param(f"c1 8d {K} f24805000000ffffcac9c90700", id="two blocks"),
        ],
    )
    def test_hello(self, stream: str) -> None:
        assert heard(stream) == Heard([(TEXT, b"Hello")])

    def test_a_shared_window(self) -> None:
        stream = f"c1 87 {K} f248cdc9c90700 c1 85 {K} f200110000"
        assert heard(stream) == Heard([(TEXT, b"Hello")] * 2)

    def test_an_empty_message(self) -> None:
        """7.2.3.6: "a single 0x00 byte"; and the same by other ways."""
        for empty in (f"c1 81 {K} 00", f"41 80 {K} 80 81 {K} 00", f"c1 82 {K} 0200", f"c1 83 {K} 030000"):
            assert heard(empty * 2) == Heard([(TEXT, b"")] * 2), empty


class TestFragments:
    def test_cut_anywhere_with_empty_frames_in_between(self) -> None:
        data = deflated("Hello, hello, hello")
        empty = frame(CONTINUATION, final=False)
        for at in range(len(data) + 1):
            assert heard(message(TEXT, data, at, between=empty)) == Heard([(TEXT, b"Hello, hello, hello")])

    def test_a_byte_in_each(self) -> None:
        data = deflated("Hello, hello, hello")
        assert heard(message(BINARY, data, *range(1, len(data)))) == Heard([(BINARY, b"Hello, hello, hello")])

    def test_the_end_alone_in_an_empty_frame(self) -> None:
        """A sender that does not know yet that it has ended: a flushed fragment, then an empty last one."""
        context = zlib.compressobj(wbits=-15)
        first = context.compress(b"Hello") + context.flush(zlib.Z_SYNC_FLUSH)
        stream = frame(TEXT, first, rsv=RSV1, final=False) + frame(CONTINUATION, b"\x00")
        assert heard(stream * 2) == Heard([(TEXT, b"Hello")] * 2)

    def test_what_is_flushed_is_handed_out_before_the_message_ends(self) -> None:
        context = zlib.compressobj(wbits=-15)
        parser = new_parser()
        first = context.compress(b"Hel") + context.flush(zlib.Z_SYNC_FLUSH)
        assert parser.receive(frame(TEXT, first, rsv=RSV1, final=False)) == [(TEXT, b"Hel", True, False, 0)]
        assert parser.receive(frame(CONTINUATION, deflated("lo", context))) == [(TEXT, b"lo", False, True, 0)]


class TestBadData:
    @pytest.mark.parametrize("data", ["07", "ffffffff", "000500fafe48656c6c6f", "f248cdc9c907 ffff"])
    def test_no_deflate(self, data: str) -> None:
        stream = frame(BINARY, bytes.fromhex(data), rsv=RSV1)
        assert heard(frame(TEXT, "before") + stream + frame(TEXT, "behind")).failure == 1007
        assert heard(frame(TEXT, "before") + stream).messages == [(TEXT, b"before")]

    @pytest.mark.parametrize("new", [new_parser, without_takeover])
    def test_a_message_that_ends_inside_a_block(self, new: Callable[[int, int], Parser]) -> None:
        data = deflated(random.Random(1).randbytes(50))
        assert heard(frame(BINARY, data[:-9], rsv=RSV1), new=new).failure == 1007

    def test_a_message_without_a_byte(self) -> None:
        """Not even the first of the block that the receiver is to complete."""
        assert heard(f"c1 80 {K}") == Heard([], 1007)
        assert heard(f"41 80 {K} 80 80 {K}") == Heard([], 1007)

    def test_history_that_is_not_there(self) -> None:
        context = zlib.compressobj(wbits=-15)
        stream = b"".join(frame(TEXT, deflated("Hello, hello", context), rsv=RSV1) for _ in range(2))
        assert heard(stream) == Heard([(TEXT, b"Hello, hello")] * 2)
        assert heard(stream, new=without_takeover) == Heard([(TEXT, b"Hello, hello")], 1007)


class TestText:
    """8.1 over what comes out."""

    def test_a_character_cut_between_inflated_pieces(self) -> None:
        text = "\u20ac" * INFLATE_BYTES
        parser = new_parser()
        calls = pieces_of(parser, frame(TEXT, deflated(text), rsv=RSV1))
        pieces = [piece for call in calls for piece in call]
        assert len(calls) == 4
        assert any(len(piece[1]) % 3 for piece in pieces[:-1]), "no piece cuts a character: the test shows nothing"
        assert b"".join(piece[1] for piece in pieces).decode() == text
        assert parser.failure is None

    @pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"ok \xe2\x82", b"\xe2\x82ok"])
    def test_no_text(self, bad: bytes) -> None:
        assert heard(frame(TEXT, deflated(bad), rsv=RSV1)).failure == 1007
        assert heard(frame(BINARY, deflated(bad), rsv=RSV1)) == Heard([(BINARY, bad)])

    def test_no_text_is_known_before_the_message_ends(self) -> None:
        context = zlib.compressobj(wbits=-15)
        first = context.compress(b"ok \xff") + context.flush(zlib.Z_SYNC_FLUSH)
        assert heard(frame(TEXT, first, rsv=RSV1, final=False)).failure == 1007

    def test_text_that_is_wrong_and_too_long(self) -> None:
        """The byte that comes first decides, however all of them came."""
        wrong_first = frame(TEXT, deflated(b"\xff" + b"a" * 99), rsv=RSV1)
        assert heard(wrong_first, 50).failure == 1007
        long_first = frame(TEXT, deflated(b"a" * 99 + b"\xff"), rsv=RSV1)
        assert heard(long_first, 50) == Heard([], 1009, partial=(TEXT, b"a" * 50))


class TestLimits:
    """`max_message_bytes` counts what comes out."""

    @pytest.mark.parametrize("size", [1, 100, INFLATE_BYTES - 1, INFLATE_BYTES, INFLATE_BYTES + 1, 200_000])
    def test_at_the_limit_and_one_more(self, size: int) -> None:
        at, over = deflated(bytes(size)), deflated(bytes(size + 1))
        assert heard(frame(BINARY, at, rsv=RSV1), size) == Heard([(BINARY, bytes(size))])
        assert heard(frame(BINARY, over, rsv=RSV1), size) == Heard([], 1009, partial=(BINARY, bytes(size)))

    def test_over_fragments(self) -> None:
        at, over = deflated(bytes(100)), deflated(bytes(101))
        for place in range(1, min(len(at), len(over))):
            assert heard(message(BINARY, at, place), 100) == Heard([(BINARY, bytes(100))])
            assert heard(message(BINARY, over, place), 100).failure == 1009

    def test_each_message_has_the_whole_limit(self) -> None:
        stream = frame(BINARY, deflated(bytes(100)), rsv=RSV1) + frame(BINARY, bytes(100))
        assert heard(stream * 3, 100) == Heard([(BINARY, bytes(100))] * 6)

    def test_compressed_payload_may_be_longer_than_the_limit(self) -> None:
        """It may grow by compression, and then what counts is still the message."""
        said = random.Random(1).randbytes(100)
        data = deflated(said)
        assert len(data) > 100
        assert heard(frame(BINARY, data, rsv=RSV1), 100) == Heard([(BINARY, said)])

    def test_the_next_message_that_is_not_compressed_is_refused_from_its_header(self) -> None:
        stream = frame(BINARY, deflated(bytes(100)), rsv=RSV1) + frame(BINARY, bytes(101))[:6]
        assert heard(stream, 100) == Heard([(BINARY, bytes(100))], 1009)

    def test_fragments_are_counted(self) -> None:
        data = deflated("Hello, hello")
        three = message(TEXT, data, 3, 6)
        assert heard(three * 2, 0, 3) == Heard([(TEXT, b"Hello, hello")] * 2)
        assert heard(three, 0, 2).failure == 1008

    @pytest.mark.parametrize("limit", [1, 1000, 1 << 20])
    def test_a_bomb_is_inflated_to_one_byte_more_than_the_limit(self, limit: int) -> None:
        class Counting(Inflater):
            total = 0

            def read(self, limit: int) -> bytes:
                data = super().read(limit)
                self.total += len(data)
                return data

        inflater = Counting(15, True)
        parser = Parser(limit, 10, inflater=inflater)
        context = zlib.compressobj(9, wbits=-15)
        data = b"".join(context.compress(bytes(1 << 20)) for _ in range(64)) + context.flush(zlib.Z_SYNC_FLUSH)
        calls = pieces_of(parser, frame(BINARY, data[:-4], rsv=RSV1))
        assert parser.failure is not None
        assert parser.failure.code == 1009
        assert inflater.total == limit + 1
        assert sum(len(piece[1]) for call in calls for piece in call) == limit

    def test_a_frame_of_any_length_may_be_announced(self) -> None:
        """What it comes to is not known from its header; nothing of that size is set aside."""
        parser = new_parser(1000)
        head = bytes([0xC2, 0xFF]) + (1 << 62).to_bytes(8, "big") + bytes(4)
        assert parser.receive(head) == []
        assert parser.failure is None
        assert parser.receive(bytes.fromhex("f248cdc9c907")) == [(BINARY, b"Hello", True, False, (1 << 62) - 6)]


# -- random conversations ---------------------------------------------------------------------------------------------

SIZES = st.one_of(st.integers(0, 40), st.sampled_from([INFLATE_BYTES - 1, INFLATE_BYTES, INFLATE_BYTES + 1, 150_000]))
CUTS = st.lists(st.integers(0, 1 << 18), max_size=6)
SAID = st.tuples(SIZES, st.integers(0, 9), st.booleans(), CUTS, st.booleans())


@given(st.lists(SAID, max_size=6), CUTS, st.booleans(), st.integers(9, 15))
def test_what_was_sent_arrives(said: list[Any], cuts: list[int], takeover: bool, bits: int) -> None:
    """Any sizes, levels and flushes, compressed or not, fragmented anywhere with Pings in between, cut anywhere."""
    stream, expected = b"", []
    context: Any = None
    for number, (size, level, is_compressed, places, has_ping) in enumerate(said):
        payload = bytes(index * number & 0xFF for index in range(min(size, 300))) + bytes(max(0, size - 300))
        data = payload
        if is_compressed:
            context = context if takeover and context else zlib.compressobj(level, wbits=-bits)
            data = deflated(payload, context)
        at = sorted(place % (len(data) + 1) for place in places)
        ping = frame(PING, bytes([number])) if has_ping else b""
        frames = message(BINARY, data, *at, between=ping)
        stream += frames if is_compressed else bytes([frames[0] & 0xBF]) + frames[1:]
        expected += [(PING, bytes([number]))] * (len(at) * has_ping) + [(BINARY, payload)]
    chunks = cut(stream, sorted(place % (len(stream) + 1) for place in cuts))

    def new(max_message_bytes: int, max_fragments: int) -> Parser:
        return Parser(max_message_bytes, max_fragments, inflater=Inflater(bits, takeover))

    assert feed(chunks, new_parser=new) == Heard(expected)
