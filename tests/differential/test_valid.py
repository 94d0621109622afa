"""Good conversations, written by either side: both readers hear the same, and it is what was said."""

from __future__ import annotations

from hypothesis import given, settings

from tests.differential.conversations import CUTS, Conversation, conversations, places
from tests.differential.sides import DEFLATED, PLAIN, Link, hear, tell, their_hear, their_tell
from tests.support.feeding import Heard, cut
from wsd.wire.frames import PONG

# A second or two for each test; `make fuzz` is for long runs.
EXAMPLES = settings(max_examples=500, deadline=None)


def check(link: Link, conversation: Conversation, stream: bytes, cuts: list[int]) -> None:
    expected = Heard(conversation.messages, None, conversation.close)
    chunks = cut(stream, places(cuts, len(stream)))
    assert hear(link, chunks) == expected
    assert their_hear(link, chunks) == expected


@EXAMPLES
@given(PLAIN, conversations(), CUTS)
def test_they_write(link: Link, conversation: Conversation, cuts: list[int]) -> None:
    check(link, conversation, their_tell(link, conversation), cuts)


@EXAMPLES
@given(DEFLATED, conversations(), CUTS)
def test_they_write_compressed(link: Link, conversation: Conversation, cuts: list[int]) -> None:
    check(link, conversation, their_tell(link, conversation), cuts)


def without_pongs(conversation: Conversation) -> Conversation:
    """What a plugin can say."""
    return conversation._replace(steps=[step for step in conversation.steps if step.opcode != PONG])


@EXAMPLES
@given(PLAIN, conversations().map(without_pongs), CUTS)
def test_we_write(link: Link, conversation: Conversation, cuts: list[int]) -> None:
    check(link, conversation, tell(link, conversation), cuts)


@EXAMPLES
@given(DEFLATED, conversations().map(without_pongs), CUTS)
def test_we_write_compressed(link: Link, conversation: Conversation, cuts: list[int]) -> None:
    check(link, conversation, tell(link, conversation), cuts)
