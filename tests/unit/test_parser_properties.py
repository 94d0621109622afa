"""The parser under hypothesis: whatever a good peer sends arrives as it was sent, and nothing else raises."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.client import frame
from tests.support.feeding import Message, cut, feed
from wsd.wire.frames import BINARY, CONTINUATION, INVALID_PAYLOAD, PING, PONG, TEXT

KEYS = st.binary(min_size=4, max_size=4)
CONTROL = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
SIZES = st.one_of(st.integers(0, 6), st.sampled_from([125, 126, 127, 128, 300]), st.sampled_from([65535, 65536]))
BINARIES = st.builds(lambda size, part: (part * size)[:size], SIZES, st.binary(min_size=1, max_size=9))
DATA = st.one_of(
    st.tuples(st.just(TEXT), st.text(max_size=40).map(str.encode)),
    st.tuples(st.just(BINARY), BINARIES),
)
CUTS = st.lists(st.integers(0, 1 << 18), max_size=8)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[Message], bytes]:
    """What was said, in the order in which it becomes complete, and its bytes on the wire."""
    said: list[Message] = []
    stream = b""

    def maybe_control() -> None:
        nonlocal stream
        for opcode, payload in draw(st.lists(CONTROL, max_size=1)):
            said.append((opcode, payload))
            stream += frame(opcode, payload, mask=draw(KEYS))

    for opcode, payload in draw(st.lists(DATA, max_size=4)):
        fragments = cut(payload, places(draw(st.lists(st.integers(0, 1 << 17), max_size=4)), len(payload)))
        for index, fragment in enumerate(fragments):
            maybe_control()
            kind = CONTINUATION if index else opcode
            stream += frame(kind, fragment, final=index == len(fragments) - 1, mask=draw(KEYS))
        said.append((opcode, payload))
    maybe_control()
    return said, stream


def places(cuts: list[int], size: int) -> list[int]:
    return sorted(at % (size + 1) for at in cuts)


@given(conversations(), CUTS)
def test_what_was_sent_arrives(conversation: tuple[list[Message], bytes], cuts: list[int]) -> None:
    said, stream = conversation
    heard = feed(cut(stream, places(cuts, len(stream))))
    assert heard.messages == said
    assert (heard.failure, heard.close, heard.partial) == (None, None, None)


@given(conversations())
def test_byte_by_byte(conversation: tuple[list[Message], bytes]) -> None:
    said, stream = conversation
    stream = stream[:5000]
    assert feed([stream]) == feed([stream[at : at + 1] for at in range(len(stream))])
    assert feed([stream]).messages == said[: len(feed([stream]).messages)]


# Garbage that gets past the first byte: a good first byte, a masked length, small limits.
FRAMES = st.builds(
    lambda first, second, rest: bytes([first, second | 0x80]) + rest,
    st.sampled_from([0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A, 0x83, 0xC1]),
    st.one_of(st.integers(0, 12), st.integers(120, 127)),
    st.binary(max_size=24),
)
GARBAGE = st.one_of(st.binary(max_size=200), st.lists(FRAMES, max_size=12).map(b"".join))


@given(GARBAGE, CUTS, st.sampled_from([0, 1, 20, 200]), st.sampled_from([1, 3, 100]))
@example(bytes.fromhex("01 82 00000000 eda0 89 80 00000000"), [], 0, 100)
def test_garbage_never_raises_and_is_the_same_however_it_comes(
    stream: bytes, cuts: list[int], max_message_bytes: int, max_fragments: int
) -> None:
    whole = feed([stream], max_message_bytes, max_fragments)
    ways = [[stream[at : at + 1] for at in range(len(stream))], cut(stream, places(cuts, len(stream)))]
    for chunks in ways:
        heard = feed(chunks, max_message_bytes, max_fragments)
        if whole.failure == INVALID_PAYLOAD:
            heard = heard._replace(partial=whole.partial)  # how much of a bad text comes out depends on the cuts
        assert heard == whole
