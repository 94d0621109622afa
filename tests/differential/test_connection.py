"""Whole connections, without sockets: an echo on a wsi and one on a `websockets` connection get the same bytes, and
whoever sent them hears the same from both."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame

from tests.differential.conversations import CUTS, Conversation, conversations, places
from tests.differential.raw import Raw, encode, text
from tests.differential.sides import AGREED, DEFLATED, PLAIN, Link, hear, is_utf8, their_end, their_frames
from tests.differential.violations import COMPRESSED_VIOLATIONS, VIOLATIONS
from tests.support.echoes import EchoMessages, EchoPieces, Noting
from tests.support.feeding import Heard, cut
from tests.support.loopless import Loopless
from wsd.wire.frames import BINARY, PING, PONG, TEXT

EXAMPLES = settings(max_examples=300, deadline=None)
ECHOES = [EchoMessages, EchoPieces]


def our_echo(link: Link, echo: type[Noting], chunks: Iterable[bytes]) -> Heard:
    """What the writer of `chunks` hears from an echo of ours."""
    limits = {"max_message_bytes": 1 << 20, "max_queue_bytes": 1 << 20}
    end = Loopless(
        echo(), is_client=not link.from_client, agreement=link.agreement, settings=link.settings, **limits
    )  # fmt: skip
    end.wsi.session = echo.Session() if echo.Session else None
    for chunk in filter(None, chunks):  # b"" would be the end of the stream
        end.pipe.incoming += [chunk[at : at + 65536] for at in range(0, len(chunk), 65536)]  # what one receive brings
        settle(end)
    return hear(link._replace(from_client=not link.from_client), [end.sent()])


def settle(end: Loopless) -> None:
    """Have turns, as a selector does that tells of what is still to be read, until nothing is left to do."""
    for _ in range(100_000):
        if end.pipe.incoming:
            end.wsi.on_events(1)
        elif not (end.context.writers or end.context.backlogs):
            return
        end.context.turn()
    raise AssertionError("there is no end to it")


def their_echo(link: Link, frames: Iterable[bytes]) -> Heard:
    """The same of one of theirs, that is given frame after frame: it answers nothing that came with a Close."""
    protocol = their_end(link, is_client=not link.from_client)
    opcode, parts = 0, b""
    for frame in frames:
        protocol.receive_data(frame)
        for event in protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode > BINARY:
                continue
            opcode = int(event.opcode) or opcode
            parts = bytes(event.data) if event.opcode else parts + bytes(event.data)
            if event.fin and opcode == TEXT and not is_utf8(parts):
                protocol.fail(1007)  # as their connections do when they decode it
                break
            if event.fin:
                (protocol.send_text if opcode == TEXT else protocol.send_binary)(parts)
    return hear(link._replace(from_client=not link.from_client), [b"".join(protocol.data_to_send())])


@pytest.mark.parametrize("echo", ECHOES)
@EXAMPLES
@given(st.one_of(PLAIN, DEFLATED), conversations(), CUTS)
def test_a_conversation(echo: type[Noting], link: Link, conversation: Conversation, cuts: list[int]) -> None:
    frames = their_frames(link, conversation)
    stream = b"".join(frames)
    ours = our_echo(link, echo, cut(stream, places(cuts, len(stream))))
    theirs = their_echo(link, frames)
    assert (ours.failure, theirs.failure) == (None, None)
    # Pongs may overtake messages (RFC 6455 5.5.2: "It SHOULD respond with Pong frame as soon as is practical").
    for is_pong in (True, False):
        said = [message for message in conversation.messages if message[0] not in (PING, PONG)]
        pongs = [(PONG, payload) for opcode, payload in conversation.messages if opcode == PING]
        expected = pongs if is_pong else said
        for heard in (ours, theirs):
            assert [message for message in heard.messages if (message[0] == PONG) is is_pong] == expected
    # Section 5.5.1: "When sending a Close frame in response, the endpoint typically echos the status code it received."
    # They echo the reason too.
    assert theirs.close == conversation.close
    assert ours.close == (conversation.close and (conversation.close[0], ""))


@pytest.mark.parametrize("from_client", [True, False])
@pytest.mark.parametrize(
    ("code", "frames", "link"),
    [
        *((code, frames, Link(True)) for code, frames in VIOLATIONS),
        *((code, frames, Link(True, AGREED)) for code, frames in COMPRESSED_VIOLATIONS),
    ],
)
def test_a_violation(code: int, frames: list[Raw], link: Link, from_client: bool) -> None:
    """Both answer what was complete before it, then close with the same code, and say no more."""
    link = link._replace(from_client=from_client)
    chunks = [encode([frame], from_client) for frame in [text("before"), *frames, text("after")]]
    ours, theirs = our_echo(link, EchoMessages, [b"".join(chunks)]), their_echo(link, chunks)
    assert sorted(ours.messages) == sorted(theirs.messages)  # Pongs may overtake
    assert (TEXT, b"before") in ours.messages
    assert (TEXT, b"after") not in ours.messages
    for heard in (ours, theirs):
        assert heard.failure is None
        assert heard.close is not None
        assert heard.close[0] == code
