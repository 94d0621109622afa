"""permessage-deflate on bytes: RFC 7692 section 7.2, and what zlib adds to it."""

from __future__ import annotations

import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.client import frame
from tests.support.feeding import Heard, feed_all
from tests.support.inflating import inflate, inflate_all_ways, inflate_message, read_all
from wsd.errors import ProtocolError
from wsd.wire.deflate import Deflater, Inflater, compress_alone, make_pair
from wsd.wire.extensions import Agreement, Settings, accept_offer, encode_offers, parse_extensions
from wsd.wire.frames import BINARY, CONTINUATION, FIN, INVALID_PAYLOAD, PING, RSV1, TEXT
from wsd.wire.parser import Parser

ALWAYS = Settings(level=6, memory_level=8, window_bits=15, context_takeover=True, min_bytes=0)
WHOLE_TEXT, WHOLE_BINARY = FIN | TEXT, FIN | BINARY
COMPRESSED = WHOLE_TEXT | RSV1

# RFC 7692 7.2.3, each "Hello".
ONE_BLOCK = bytes.fromhex("f2 48 cd c9 c9 07 00")
AGAIN = bytes.fromhex("f2 00 11 00 00")
STORED = bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00")
BFINAL = bytes.fromhex("f3 48 cd c9 c9 07 00 00")
TWO_BLOCKS = bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00")
EMPTY = b"\x00"


def new_deflater(bits: int = 15, takeover: bool = True, settings: Settings = ALWAYS) -> Deflater:
    return Deflater(bits, takeover, settings)


def compressed(payload: bytes, level: int = 6, bits: int = 15, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    """One message, by zlib itself."""
    context = zlib.compressobj(level, zlib.DEFLATED, -bits, 8, strategy)
    return (context.compress(payload) + context.flush(zlib.Z_SYNC_FLUSH))[:-4]


def stream(payload: bytes) -> bytes:
    """A whole DEFLATE stream: its last block has BFINAL."""
    context = zlib.compressobj(wbits=-15)
    return context.compress(payload) + context.flush()


def test_a_ping_between_two_fragments() -> None:
    """A control frame touches nothing of a compressed message.  Five well-known libraries had that wrong: the rest of
    the message came out still compressed."""
    ping = frame(PING, b"between")
    for at in range(len(ONE_BLOCK) + 1):
        begin = frame(TEXT, ONE_BLOCK[:at], final=False, rsv=4)
        data = begin + ping + frame(CONTINUATION, ONE_BLOCK[at:]) + frame(TEXT, AGAIN, rsv=4)
        heard = feed_all(data, new_parser=inflating_parser)
        assert heard == Heard([(PING, b"between"), (TEXT, b"Hello"), (TEXT, b"Hello")])


def inflating_parser(max_message_bytes: int, max_fragments: int) -> Parser:
    return Parser(max_message_bytes, max_fragments, inflater=Inflater(15, True))


# -- inflating --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "texts"),
    [
        pytest.param([ONE_BLOCK], [b"Hello"], id="7.2.3.1 one block"),
        pytest.param([ONE_BLOCK, AGAIN], [b"Hello", b"Hello"], id="7.2.3.2 sharing the window"),
        pytest.param([STORED], [b"Hello"], id="7.2.3.3 no compression"),
        pytest.param([BFINAL], [b"Hello"], id="7.2.3.4 BFINAL"),
        pytest.param([TWO_BLOCKS], [b"Hello"], id="7.2.3.5 two blocks"),
        pytest.param([EMPTY], [b""], id="7.2.3.6 empty"),
        pytest.param(
            [EMPTY, EMPTY, ONE_BLOCK, EMPTY, AGAIN, EMPTY], [b"", b"", b"Hello", b"", b"Hello", b""], id="mix"
        ),
        pytest.param([STORED, AGAIN], [b"Hello", b"Hello"], id="what was stored is history too"),
        pytest.param([TWO_BLOCKS, AGAIN], [b"Hello", b"Hello"], id="what two blocks held is history too"),
    ],
)
def test_rfc_7692_examples(messages: list[bytes], texts: list[bytes]) -> None:
    assert inflate_all_ways(messages) == texts


def test_the_example_in_two_frames() -> None:
    """7.2.3.1: 0x41 0x03 0xf2 0x48 0xcd, then 0x80 0x04 0xc9 0xc9 0x07 0x00."""
    inflater = Inflater(15, True)
    inflater.feed(ONE_BLOCK[:3])
    assert b"".join(read_all(inflater, 10)) == b"He"
    inflater.feed(ONE_BLOCK[3:])
    inflater.finish()
    assert b"".join(read_all(inflater, 10)) == b"llo"


@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize("takeover", [True, False])
def test_every_window(bits: int, takeover: bool) -> None:
    texts = [b"Hello", b"", b"Hello, Hello" * 3]
    assert inflate_all_ways([*map(compressed, texts)], bits, takeover) == texts


@pytest.mark.parametrize(
    "payload",
    [
        compressed(b"", 0),
        compressed(b"stored", 0),
        compressed(b"fixed codes", strategy=zlib.Z_FIXED),
        compressed(b"codes alone, no distances, no distances", strategy=zlib.Z_HUFFMAN_ONLY),
        compressed(bytes(range(30)) + bytes(30), strategy=zlib.Z_RLE),
        compressed(bytes(300)),
        compressed(random.Random(1).randbytes(100)),
    ],
)
def test_every_kind_of_block(payload: bytes) -> None:
    whole = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
    assert inflate_all_ways([payload, payload]) == [whole, whole]


def test_without_takeover_nothing_can_be_referred_to() -> None:
    assert inflate_all_ways([ONE_BLOCK, ONE_BLOCK], context_takeover=False) == [b"Hello", b"Hello"]
    assert inflate_all_ways([ONE_BLOCK, AGAIN], context_takeover=False) == [b"Hello", INVALID_PAYLOAD]


def test_several_streams_in_a_message() -> None:
    """BFINAL may end a block anywhere; what follows begins anew, at a whole byte."""
    payload = stream(b"one ") + stream(b"") + stream(b"two ") + compressed(b"three ") + b"\x00\x00\xff\xff"
    assert inflate_all_ways([payload + BFINAL, EMPTY, BFINAL]) == [b"one two three Hello", b"", b"Hello"]


def test_bfinal_in_the_empty_block_that_ends_a_message() -> None:
    """Its header stays when the rest of it is left out; what follows begins anew."""
    last = ONE_BLOCK[:-1] + b"\x04"
    assert inflate_all_ways([b"\x01", last, last, ONE_BLOCK, AGAIN]) == [b"", b"Hello", b"Hello", b"Hello", b"Hello"]
    assert inflate_all_ways([last, AGAIN]) == [b"Hello", INVALID_PAYLOAD]


def test_a_new_stream_has_no_history() -> None:
    assert inflate_all_ways([BFINAL, AGAIN]) == [b"Hello", INVALID_PAYLOAD]
    assert inflate_all_ways([ONE_BLOCK, stream(b"") + AGAIN]) == [b"Hello", INVALID_PAYLOAD]


def test_a_message_of_very_many_streams() -> None:
    """64 KiB of 2-byte streams: each leaves over what follows it, which must not be copied as often as that."""
    inflater = Inflater(15, True)
    assert inflate_message(inflater, [b"\x03\x00" * 32768 + EMPTY]) == b""
    assert inflate_message(inflater, [ONE_BLOCK]) == b"Hello"


def test_frames_without_payload() -> None:
    for chunks in ([b"", ONE_BLOCK, b""], [b"", b"", ONE_BLOCK[:3], b"", ONE_BLOCK[3:]]):
        inflater = Inflater(15, False)
        assert inflate_message(inflater, chunks) == inflate_message(inflater, chunks) == b"Hello"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x07", id="block type 3"),
        pytest.param(b"\x06", id="block type 3, more blocks"),
        pytest.param(bytes.fromhex("00 05 00 fa fe 48"), id="length and complement differ"),
        pytest.param(AGAIN, id="a distance before the beginning"),
        pytest.param(b"\xed\xff\xff\xff\xff", id="bad code lengths"),
        pytest.param(ONE_BLOCK + b"\xff" * 10, id="rubbish behind a message"),
        pytest.param(b"Hello", id="not compressed at all"),
        pytest.param(zlib.compress(b"Hello"), id="with zlib's header"),
    ],
)
@pytest.mark.parametrize("takeover", [True, False])
def test_bad_data(payload: bytes, takeover: bool) -> None:
    assert inflate_all_ways([payload], context_takeover=takeover) == [INVALID_PAYLOAD]
    assert inflate_all_ways([ONE_BLOCK, payload[:1] + b"\xff" + payload], context_takeover=takeover) == [
        b"Hello",
        INVALID_PAYLOAD,
    ]


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize(
    "payload",
    [ONE_BLOCK, STORED, BFINAL, EMPTY, compressed(b"dynamic codes: " + bytes(range(256)) * 2, 9)],
    ids=["one block", "stored", "BFINAL", "empty", "dynamic"],
)
def test_a_message_cut_short(payload: bytes, takeover: bool) -> None:
    """Wherever it is cut: the next message would be read as its rest."""
    for size in range(len(payload)):
        # An empty message, and a stored block that lacks just the 4 bytes that a receiver has to add (7.2.2).
        whole = {b"\x00": b"", STORED[:6]: b"H\x00\x00\xff\xff"}.get(payload[:size])
        for before in ([], [ONE_BLOCK]):
            found = inflate(Inflater(15, takeover), [[message] for message in (*before, payload[:size], payload)])
            expected: list[bytes | int] = [INVALID_PAYLOAD] if whole is None else [whole, b"Hello"]
            assert found == [b"Hello"] * len(before) + expected, size


def test_a_message_cut_between_two_blocks_is_whole() -> None:
    found = [inflate(Inflater(15, True), [[TWO_BLOCKS[:size]]]) for size in range(len(TWO_BLOCKS))]
    whole = {size: texts for size, texts in enumerate(found) if texts != [INVALID_PAYLOAD]}
    # Behind "He" and the header of the empty block; its other 4 bytes are those that a sender leaves out.
    assert whole[4] == [b"He"]
    assert all(texts in ([b"He"], [b"Hel"]) for texts in whole.values()), whole


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_positive(limit: int) -> None:
    """zlib takes 0 for no limit."""
    inflater = Inflater(15, True)
    inflater.feed(ONE_BLOCK)
    with pytest.raises(ValueError, match="limit"):
        inflater.read(limit)


def test_reading_before_anything_was_fed() -> None:
    inflater = Inflater(15, True)
    assert inflater.is_drained
    assert inflater.read(1) == b""


def test_more_is_fed_before_all_was_read() -> None:
    inflater = Inflater(15, True)
    payload = compressed(bytes(1000))
    found = b""
    for at in range(len(payload)):
        inflater.feed(payload[at : at + 1])
        found += inflater.read(7)
    inflater.finish()
    assert not inflater.is_drained
    assert found + b"".join(read_all(inflater, 7)) == bytes(1000)


def bomb(mebibytes: int) -> bytes:
    """A message of that many MiB of zeros."""
    chunk = bytes(1 << 20)
    context = zlib.compressobj(9, wbits=-15)
    return (b"".join(context.compress(chunk) for _ in range(mebibytes)) + context.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_a_bomb_costs_one_output_buffer() -> None:
    payload = bomb(64)
    assert len(payload) < 70_000
    inflater = Inflater(15, True)
    tracemalloc.start()
    try:
        inflater.feed(payload)
        inflater.finish()
        total = sum(map(len, read_all(inflater, 65536)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 64 << 20
    # What was fed, a slice of it and what is left of that, zlib's 42 kB, and three times the output: what was handed
    # out before, and zlib's blocks, and these joined.
    assert peak < len(payload) + 2 * 16384 + 42_000 + 4 * 65536


def test_what_a_connection_keeps() -> None:
    """Contexts are made when first needed, and kept only if something is taken over; zlib asks Python for memory."""
    text = json.dumps([{"number": number, "text": str(number) * 9} for number in range(400)]).encode()
    small = ALWAYS._replace(memory_level=5, window_bits=12)

    def kept(takeover: bool, use: Callable[[Inflater, Deflater], object]) -> int:
        use(Inflater(12, takeover), Deflater(12, takeover, small))  # what is kept once, for all of them
        tracemalloc.start()
        try:
            pair = Inflater(12, takeover), Deflater(12, takeover, small)
            use(*pair)
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    def converse(inflater: Inflater, deflater: Deflater) -> None:
        assert inflate_message(inflater, [deflater.encode(WHOLE_BINARY, text)[1]]) == text

    assert kept(True, lambda inflater, deflater: None) < 1000
    assert kept(False, converse) < 1000
    assert kept(True, converse) < 55_000


# -- deflating --------------------------------------------------------------------------------------------------------


def test_rfc_7692_examples_out() -> None:
    deflater = new_deflater()
    assert deflater.encode(WHOLE_TEXT, b"Hello") == (COMPRESSED, ONE_BLOCK)
    assert deflater.encode(WHOLE_TEXT, b"Hello") == (COMPRESSED, AGAIN)
    assert deflater.encode(WHOLE_BINARY, b"") == (WHOLE_BINARY | RSV1, EMPTY)
    assert deflater.encode(WHOLE_BINARY, b"") == (WHOLE_BINARY | RSV1, EMPTY)


def test_without_takeover_each_message_stands_alone() -> None:
    deflater = new_deflater(takeover=False)
    for _ in range(2):
        assert deflater.encode(WHOLE_TEXT, b"Hello") == (COMPRESSED, ONE_BLOCK)
        assert deflater.encode(WHOLE_TEXT, b"") == (COMPRESSED, EMPTY)


def test_min_bytes() -> None:
    """Shorter messages are sent as they are, and are no history."""
    deflater = new_deflater(settings=ALWAYS._replace(min_bytes=5))
    assert deflater.encode(WHOLE_TEXT, b"Hell") == (WHOLE_TEXT, b"Hell")
    assert deflater.encode(WHOLE_TEXT, b"") == (WHOLE_TEXT, b"")
    assert deflater.encode(WHOLE_TEXT, b"Hello") == (COMPRESSED, ONE_BLOCK)
    assert deflater.encode(WHOLE_TEXT, b"olle") == (WHOLE_TEXT, b"olle")
    assert deflater.encode(WHOLE_TEXT, b"Hello") == (COMPRESSED, AGAIN)


@pytest.mark.parametrize("takeover", [True, False])
def test_each_fragment_can_be_read_when_it_arrives(takeover: bool) -> None:
    """However short the message: how long it gets is not known at its first fragment."""
    deflater, inflater = new_deflater(9, takeover, ALWAYS._replace(min_bytes=1000)), Inflater(9, takeover)
    for _ in range(2):
        for number, text in enumerate([b"one ", b"", b"two, one ", b"", b"three"]):
            first, data = deflater.encode(CONTINUATION if number else TEXT, text)
            # "An endpoint MUST NOT set the "Per-Message Compressed" bit of [...] non-first fragments".
            assert first == (CONTINUATION if number else TEXT | RSV1)
            # Nothing new to flush: the empty block that it would have begun with ended with the frame before.
            assert data.endswith(b"\x00\x00\xff\xff") or not text
            inflater.feed(data)
            assert b"".join(read_all(inflater, 100)) == text
        first, data = deflater.encode(FIN | CONTINUATION, b" end")
        assert first == FIN | CONTINUATION
        assert not data.endswith(b"\x00\x00\xff\xff")
        assert inflate_message(inflater, [data]) == b" end"


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("parts", [[b"", b""], [b"a", b""], [b"", b"a"], [b"", b"", b""], [b"a", b"", b"", b"b", b""]])
def test_fragments_without_payload(parts: list[bytes], takeover: bool) -> None:
    deflater = new_deflater(15, takeover)
    inflater = Inflater(15, takeover)
    for _ in range(3):
        frames = encode_fragments(deflater, parts)
        assert inflate_message(inflater, frames) == b"".join(parts)
        assert frames[-1], "an empty payload is no end of a message: 7.2.3.6"


def encode_fragments(deflater: Deflater, parts: list[bytes]) -> list[bytes]:
    """The payloads of a binary message in several frames; their first bytes are checked."""
    frames = []
    for index, part in enumerate(parts):
        opcode = CONTINUATION if index else BINARY
        final = FIN if index == len(parts) - 1 else 0
        first, data = deflater.encode(final | opcode, part)
        assert first == final | opcode | (0 if index else RSV1)
        frames.append(data)
    return frames


def test_forget() -> None:
    """A message that another context compressed goes out: the peer knows what we do not."""
    deflater, inflater = new_deflater(), Inflater(15, True)
    for text in (b"Hello", b"Hello, Hello"):
        assert inflate_message(inflater, [deflater.encode(WHOLE_TEXT, text)[1]]) == text
        deflater.forget()
        assert inflate_message(inflater, [compress_alone(b"Hello to all", 15, ALWAYS)]) == b"Hello to all"
    assert deflater.encode(WHOLE_TEXT, b"Hello") == (COMPRESSED, ONE_BLOCK)


@pytest.mark.parametrize("bits", range(8, 16))
def test_compress_alone_is_for_all_with_such_a_window(bits: int) -> None:
    text = b"Hello " * 1000 + random.Random(bits).randbytes(3000) * 2
    payload = compress_alone(text, bits, ALWAYS)
    for larger in range(bits, 16):
        for takeover in (True, False):
            inflater = Inflater(larger, takeover)
            assert [inflate_message(inflater, [message]) for message in (ONE_BLOCK, payload)] == [b"Hello", text]


def test_compress_alone_of_nothing() -> None:
    assert compress_alone(b"", 15, ALWAYS) == EMPTY


@pytest.mark.parametrize("level", range(1, 10))
def test_a_window_of_8_bits(level: int) -> None:
    """zlib has none to compress with; what it makes with 9 bits reaches back 250 bytes, never 256."""
    deflater = new_deflater(8, settings=ALWAYS._replace(level=level))
    source = random.Random(level)
    # Repeated after each distance from where 8 bits are enough to where 9 are.
    texts = [source.randbytes(distance) * 3 for distance in range(240, 520, 7)]
    texts += [bytes(source.choices(b"abcd", k=2000)), bytes(2000)]
    inflater = Inflater(8, True)
    for text in texts:
        # Read byte by byte zlib has nothing but its window to look back to.
        assert inflate_message(inflater, [deflater.encode(WHOLE_BINARY, text)[1]], limit=1) == text


def test_the_window_is_what_was_agreed() -> None:
    """A distance of 300 is in a window of 9 bits but not of 8."""
    text = random.Random(1).randbytes(300) * 2
    reached = [compressed(text, bits=bits) for bits in (9, 10)]
    assert len(reached[0]) > 600 > 350 > len(reached[1])
    with pytest.raises(ProtocolError):
        inflate_message(Inflater(8, True), [reached[1]], limit=1)


# -- both halves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_client", [True, False])
def test_make_pair(is_client: bool) -> None:
    """Each half follows the end whose messages it handles."""
    agreement = Agreement(True, False, 10, 12, ())
    inflater, deflater = make_pair(agreement, ALWAYS, is_client=is_client)
    assert deflater.settings is ALWAYS
    ours, theirs = ((12, True), (10, False)) if is_client else ((10, False), (12, True))
    assert (deflater.window_bits, takes_over(deflater)) == ours
    assert (inflater._window_bits, inflater._takeover) == theirs


@pytest.mark.parametrize("is_client", [True, False])
def test_make_pair_uses_no_more_than_our_settings(is_client: bool) -> None:
    agreement = Agreement(False, False, 15, 15, ())
    small = ALWAYS._replace(window_bits=9, context_takeover=False)
    inflater, deflater = make_pair(agreement, small, is_client=is_client)
    assert (deflater.window_bits, takes_over(deflater)) == (9, False)
    # The peer's were not limited.
    assert (inflater._window_bits, inflater._takeover) == (15, True)


def takes_over(deflater: Deflater) -> bool:
    """Whether the second of two equal messages refers to the first."""
    one, two = (deflater.encode(WHOLE_TEXT, b"Hello")[1] for _ in range(2))
    return len(two) < len(one)


SETTINGS = st.builds(
    Settings,
    level=st.integers(1, 9),
    memory_level=st.integers(1, 9),
    window_bits=st.integers(8, 15),
    context_takeover=st.booleans(),
    min_bytes=st.integers(0, 20),
)
TEXTS = st.builds(
    lambda parts, times: b"".join(parts) * times,
    st.lists(st.sampled_from([b"Hello", b", ", bytes(300), bytes(range(256))]) | st.binary(max_size=20), max_size=4),
    st.sampled_from([1, 1, 2, 40]),
)
MESSAGES = st.lists(st.lists(TEXTS, min_size=1, max_size=3), max_size=4)


@settings(deadline=None)
@given(SETTINGS, SETTINGS, MESSAGES, st.booleans(), st.sampled_from([1, 100, 65536]))
def test_any_two_ends_understand_each_other(
    client: Settings, server: Settings, messages: list[list[bytes]], client_speaks: bool, limit: int
) -> None:
    agreement = accept_offer(parse_extensions([encode_offers(client)]), server)
    assert agreement is not None
    halves = make_pair(agreement, client, is_client=True), make_pair(agreement, server, is_client=False)
    (_, deflater), (inflater, _) = halves if client_speaks else halves[::-1]
    for parts in messages:
        if len(parts) > 1:
            assert inflate_message(inflater, encode_fragments(deflater, parts), limit) == b"".join(parts)
            continue
        first, data = deflater.encode(WHOLE_BINARY, parts[0])
        if first & RSV1:
            assert inflate_message(inflater, [data], limit) == parts[0]
        else:
            assert data == parts[0]
            assert len(data) < deflater.settings.min_bytes


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=3), st.booleans(), st.lists(st.integers(0, 5000), max_size=5))
def test_cut_anywhere(texts: list[bytes], takeover: bool, cuts: list[int]) -> None:
    deflater, inflater = new_deflater(12, takeover), Inflater(12, takeover)
    for text in texts:
        payload = deflater.encode(WHOLE_BINARY, text)[1]
        places = [0, *sorted(at % (len(payload) + 1) for at in cuts), len(payload)]
        chunks = [payload[start:end] for start, end in pairwise(places)]
        assert inflate_message(inflater, chunks, limit=37) == text


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=3), st.booleans())
@example([b"\x03\x00\x03\x00", b""], True)
@example([b"\x01", b"\xf2\x00\x11\x00\x00"], True)
def test_any_bytes_are_read_or_refused_the_same_way(messages: list[bytes], takeover: bool) -> None:
    found = inflate_all_ways(messages, 15, takeover)
    assert all(isinstance(text, bytes) for text in found[:-1])
    assert not found or isinstance(found[-1], bytes) or found[-1] == INVALID_PAYLOAD


@given(st.binary(max_size=40), st.integers(0, 400), st.integers(1, 255))
def test_damage(text: bytes, at: int, flip: int) -> None:
    """One byte of a good message changed: another text or a refusal, and the same however it arrives."""
    payload = bytearray(compressed(text * 2))
    payload[at % len(payload)] ^= flip
    inflate_all_ways([ONE_BLOCK, bytes(payload)])
