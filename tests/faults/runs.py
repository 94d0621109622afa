"""One conversation under one schedule, and every schedule with a single fault."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator

from tests.faults.conversations import CONVERSATIONS, Conversation
from tests.faults.syscalls import Effect, Schedule
from tests.faults.world import Stalled, World, descriptors


def run(door: socket.socket, conversation: Conversation, schedule: Schedule, *, is_whole: bool = False, make: Callable[..., World] | None = None) -> None:
    """Play a conversation and check what must hold in the end, whatever befell it.

    Args:
        is_whole: It must come to its end all the same.
        make: Makes the world; None: it speaks no TLS.

    Raises:
        AssertionError: something does not hold, or a conversation that nothing befell did not come to its end.
    """
    before = descriptors()
    with (make or World)(door, schedule, conversation.protocols, listen=conversation.listen) as world:
        try:
            conversation.play(world)
        except (EOFError, OSError, Stalled, AssertionError):
            if is_whole or not schedule.fired:
                raise
        world.finish(stops=conversation.stops)
    assert descriptors() == before, f"with {schedule!r}"


def calls_of(door: socket.socket, name: str, make: Callable[..., World] | None = None) -> list[str]:
    """The system calls of a conversation that nothing befalls."""
    schedule = Schedule()
    run(door, CONVERSATIONS[name], schedule, make=make)
    return schedule.calls


def single_faults(calls: list[str], effects_of: Callable[[str], list[Effect]]) -> Iterator[tuple[int, Effect]]:
    """Every fault that can befall one of these calls; of a call that is made again and again, a fourth each time: what
    one place makes of a thing does not depend on how often it was there."""
    seen: Counter[str] = Counter()
    for number, call in enumerate(calls):
        seen[call] += 1
        effects = effects_of(call)
        yield from ((number, effect) for effect in (effects if seen[call] < 4 else effects[seen[call] % 4 :: 4]))
