"""What a connection is made of that does nothing, or nothing any more.  Sizes are counted, no memory is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, Client, frame, upgrade_request
from tests.support.fakes import shipped
from tests.support.stepped import Stepped, stepped
from tests.support.timing import MS
from tests.support.weighing import weigh
from wsd.config import Keepalive
from wsd.protocol import Protocol
from wsd.wsi import Wsi

# The head of the request is kept as it came, and is the client's to choose; all else is ours.  It is about 1050 now,
# which with that head, an echo's session and its entries in four tables makes the 1.5 kB of docs/performance.md.  Room
# is left for a few slots, of 8 bytes each, and for what the next Python adds; a dict, deque or timer that nobody misses
# is 200 or more.
MOST_BYTES = 1150

# The session of an echo: two numbers and a list.
SESSION_BYTES = 120


class Keeping(Protocol):
    """Answers each piece, and keeps nothing."""

    name = "keeping"

    def on_receive(self, wsi: Wsi, data: bytes) -> None:
        wsi.send(data)


def weight(loop: Stepped, wsi: Wsi) -> Counter[str]:
    """As of now, when nothing is under way."""
    loop.settle()
    return weigh(loop.context, wsi)


def test_an_idle_connection() -> None:
    protocol = Keeping()
    with stepped([protocol]) as loop, loop.connect(), loop.connect(), loop.connect():
        _, wsi, _ = protocol.wsis
        found = weight(loop, wsi)
        assert len(wsi.request.raw) == len(upgrade_request(protocols=None))
        assert found.total() - len(wsi.request.raw) <= MOST_BYTES, found


def test_an_idle_connection_of_the_shipped_echo() -> None:
    protocol = shipped("echo.py")
    with stepped([protocol]) as loop, loop.connect() as client, loop.connect():
        wsi, _ = protocol.wsis
        client.send(frame(BINARY, b"x" * 100), frame(TEXT, "x"))
        loop.settle()
        assert [client.receive_message() for _ in range(2)] == [b"x" * 100, "x"]
        found = weight(loop, wsi)
        assert found["Backlog"]
        assert found.total() - len(wsi.request.raw) <= MOST_BYTES + SESSION_BYTES, found


def say_whole_messages(loop: Stepped, client: Client) -> None:
    client.send(*(frame(BINARY, b"x" * 100) for _ in range(50)))
    loop.settle()
    for _ in range(50):
        assert client.receive_message() == b"x" * 100


def say_one_in_fragments(loop: Stepped, client: Client) -> None:
    client.send(frame(TEXT, "one ", final=False), frame(CONTINUATION, "message"))
    loop.settle()
    assert [client.receive_message() for _ in range(2)] == [b"one ", b"message"]


def say_half_a_frame_at_a_time(loop: Stepped, client: Client) -> None:
    whole = frame(BINARY, b"x" * 200)
    for half in (whole[:3], whole[3:]):
        client.send(half)
        loop.settle()
    assert client.receive_message() == b"x" * 200


def answer_a_ping(loop: Stepped, client: Client) -> None:
    loop.until(lambda: all(wsi._pinged for wsi in loop.context._wsis if wsi.is_established), "nobody was pinged")
    loop.context.keepalive = Keepalive(ping_seconds=3600)
    loop.settle()
    ping = client.receive_frame()
    assert ping.opcode == PING
    client.send(frame(PONG, ping.payload))


@pytest.mark.parametrize("life", [say_whole_messages, say_one_in_fragments, say_half_a_frame_at_a_time, answer_a_ping])
def test_one_that_has_lived_needs_no_more(life: Callable[[Stepped, Client], None]) -> None:
    """Not even a meter of control frames, unless it has sent some of its own accord."""
    protocol = Keeping()
    keepalive = Keepalive(ping_seconds=10 * MS) if life is answer_a_ping else Keepalive(ping_seconds=3600)
    with stepped([protocol], keepalive=keepalive) as loop, loop.connect(), loop.connect() as client:
        _, wsi = protocol.wsis
        idle = weight(loop, wsi)
        life(loop, client)
        found = weight(loop, wsi)
        more = found - idle
        del more["float"], more["int"]  # of when, and how much
        assert more.total() <= 0, more
