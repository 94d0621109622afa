"""Bad streams: both readers close with the same code, or the difference has a name and the RFC's words."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from tests.differential.conversations import CUTS, places
from tests.differential.differences import DIFFERENCES, Difference, Story
from tests.differential.raw import (
    IN_16_BITS,
    IN_64_BITS,
    OVER_63_BITS,
    RSV1,
    SHORTEST,
    Raw,
    binary,
    close,
    deflated,
    encode,
    more,
    ping,
    text,
)
from tests.differential.sides import AGREED, Link, hear, their_hear
from tests.differential.violations import COMPRESSED_VIOLATIONS, VIOLATIONS
from tests.support.feeding import Heard, cut
from wsd.wire.frames import BINARY, CONTINUATION, PING, PONG, TEXT


def both(story: Story, from_client: bool = True, cuts: tuple[int, ...] = ()) -> tuple[Heard, Heard]:
    """What each of the two hears of the same bytes in the same pieces."""
    link = Link(from_client, AGREED if story.is_deflated else None)
    stream = encode(story.frames, from_client)
    stream = stream[: len(stream) - story.cut]
    chunks = cut(stream, places(list(cuts), len(stream)))
    limit = story.max_message_bytes
    return hear(link, chunks, limit), their_hear(link, chunks, limit)


@pytest.mark.parametrize("from_client", [True, False])
@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.name)
def test_a_difference(difference: Difference, from_client: bool) -> None:
    """It is there, exactly so; where `websockets` changes its mind, this says it."""
    story = Story(difference.frames, difference.is_deflated, difference.max_message_bytes, difference.cut)
    ours, theirs = both(story, from_client)
    assert ours == difference.ours
    assert theirs == difference.theirs
    assert difference.may_be(story, ours, theirs)


@pytest.mark.parametrize("from_client", [True, False])
@pytest.mark.parametrize(("code", "frames"), VIOLATIONS, ids=str)
def test_a_violation_that_both_see(code: int, frames: list[Raw], from_client: bool) -> None:
    """What was complete before it is heard by both, and nothing after it by either."""
    before = [text("before"), ping(b"before")]
    ours, theirs = both(Story([*before, *frames, text("after")]), from_client)
    assert ours == theirs
    assert (ours.failure, ours.close) == (code, None)
    assert ours.messages[:2] == [(TEXT, b"before"), (PING, b"before")]
    assert (TEXT, b"after") not in ours.messages


@pytest.mark.parametrize("from_client", [True, False])
@pytest.mark.parametrize(("code", "frames"), COMPRESSED_VIOLATIONS, ids=str)
def test_a_violation_of_rfc_7692_that_both_see(code: int, frames: list[Raw], from_client: bool) -> None:
    ours, theirs = both(Story(frames, is_deflated=True), from_client)
    assert ours == theirs
    assert (ours.failure, ours.close) == (code, None)


@pytest.mark.parametrize("from_client", [True, False])
@pytest.mark.parametrize(
    "frames",
    [
        [binary(b"x" * 21)],
        [text("x" * 10, final=False), ping(b"1"), more(b"x" * 11)],
        [binary(deflated(bytes(21)), rsv=RSV1)],
        [binary(deflated(bytes(100_000)), rsv=RSV1)],
        [binary(deflated(bytes(21))[:3], final=False, rsv=RSV1), more(deflated(bytes(21))[3:])],
    ],
    ids=str,
)
def test_a_message_over_the_limit(frames: list[Raw], from_client: bool) -> None:
    story = Story([*frames, ping(b"after")], is_deflated=True, max_message_bytes=20)
    ours, theirs = both(story, from_client)
    assert ours == theirs
    assert ours.failure == 1009


# -- looking for more --------------------------------------------------------------------------------------------------

PAYLOADS = st.sampled_from([b"", b"a", b"some more of it", "größer".encode(), b"\xc3", b"\xb6", b"\xff", b"x" * 30])
COMPRESSED = st.builds(
    lambda payload, flush, damage: damage + deflated(payload, flush),
    st.sampled_from([b"", b"Hello", b"\xc3", bytes(19), bytes(20), bytes(21), bytes(3000)]),
    st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FINISH]),
    st.sampled_from([b"", b"", b"", b"\x07"]),
).flatmap(lambda data: st.sampled_from([data, data, data, data[:-1], data[: len(data) // 2]]))
DATA = st.one_of(
    st.tuples(st.sampled_from([TEXT, BINARY, CONTINUATION]), PAYLOADS, st.booleans()).map(lambda fields: Raw(*fields)),
    st.builds(lambda opcode, data: Raw(opcode, data, rsv=RSV1), st.sampled_from([TEXT, BINARY]), COMPRESSED),
)
CONTROL = st.one_of(
    st.tuples(st.sampled_from([PING, PONG]), st.sampled_from([b"", b"ping", b"x" * 30])).map(
        lambda fields: Raw(*fields)
    ),
    st.builds(close, st.sampled_from([1000, 1004, 3000]), st.sampled_from([b"", b"bye", b"\xff"])),
)
WRONG = st.builds(
    Raw, st.integers(0, 15), PAYLOADS, st.booleans(), st.sampled_from([0, 0, 1, 2, 4]),
    st.sampled_from([SHORTEST, SHORTEST, IN_16_BITS, IN_64_BITS, OVER_63_BITS]), st.sampled_from([False, False, True]),
)  # fmt: skip
STORIES = st.builds(
    Story,
    st.lists(st.one_of(DATA, DATA, CONTROL, WRONG), min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([0, 20]),
    st.sampled_from([0, 0, 0, 1, 5]),
)


@settings(max_examples=1500, deadline=None)
@given(STORIES, st.booleans(), CUTS.map(tuple))
@example(Story([text(b"\xf0", final=False), more(b"\x9f"), text("x")]), True, ())
def test_every_difference_has_a_name(story: Story, from_client: bool, cuts: tuple[int, ...]) -> None:
    ours, theirs = both(story, from_client, cuts)
    if ours == theirs:
        event("the same" if ours.failure is None else f"both close with {ours.failure}")
        return
    names = [difference.name for difference in DIFFERENCES if difference.may_be(story, ours, theirs)]
    assert names, f"{story}: ours {ours}, theirs {theirs}"
    event(names[0])
    # Up to where they part they have heard the same; a message cut short, or lost, is where they part.
    both_heard = min(len(ours.messages), len(theirs.messages))
    if not story.has_compressed:
        assert ours.messages[:both_heard] == theirs.messages[:both_heard]
