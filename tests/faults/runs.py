"""One conversation under one schedule, and every schedule with a single fault."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator

from tests.faults.conversations import CONVERSATIONS, Conversation
from tests.faults.peers import Stalled, SteppedServer
from tests.faults.syscalls import Effect, Schedule
from tests.faults.world import World, descriptors


def run(
    door: socket.socket,
    conversation: Conversation,
    schedule: Schedule,
    *,
    is_whole: bool = False,
    make: Callable[..., World] | None = None,
    whole: list[bytes] | None = None,
) -> list[bytes]:
    """Play a conversation and check what must hold in the end, whatever befell it.

    Args:
        is_whole: It must come to its end all the same.
        make: Makes the world; None: it speaks no TLS.
        whole: What this answers where nothing befalls the conversation: what comes must be its beginning.

    Answers what each peer heard that speaks no WebSocket.

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
        heard = [
            # A client of ours says something else each time: its key, and its masks.
            b"" if peer.ear or isinstance(peer, SteppedServer) else peer.heard
            for peer in world.peers
            if peer is not world.beside
        ]
    assert descriptors() == before, f"with {schedule!r}"
    if whole is not None:
        for some, all_of_it in zip(heard, whole, strict=False):
            assert not all_of_it or is_beginning(some, all_of_it), f"with {schedule!r}: {some[:200]!r}"
    return heard


def is_beginning(some: bytes, whole: bytes) -> bool:
    """Reports whether bytes are the beginning of others, which may themselves be of a peer that did not listen to the
    end; or of other answers up to one that tells of a fault."""
    if whole.startswith(some) or some.startswith(whole):  # nearly always, and a hundred times faster than what follows
        return True
    size = next((at for at, (one, other) in enumerate(zip(some, whole, strict=False)) if one != other), len(some))
    return size == len(some) or some[:size].endswith(b"HTTP/1.1 ")


def calls_of(door: socket.socket, name: str, make: Callable[..., World] | None = None) -> tuple[list[str], list[bytes]]:
    """The system calls of a conversation that nothing befalls, and what its peers hear."""
    schedule = Schedule()
    heard = run(door, CONVERSATIONS[name], schedule, make=make)
    return schedule.calls, heard


def single_faults(calls: list[str], effects_of: Callable[[str], list[Effect]]) -> Iterator[tuple[int, Effect]]:
    """Every fault that can befall one of these calls; where a call is made again and again, all of them twice, and then
    a sixth each time: what one place makes of a thing does not depend on how often it was there."""
    seen: Counter[str] = Counter()
    for number, call in enumerate(calls):
        seen[call] += 1
        effects = effects_of(call)
        yield from ((number, effect) for effect in (effects if seen[call] < 3 else effects[seen[call] % 6 :: 6]))
