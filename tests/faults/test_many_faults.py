"""Several faults in one conversation: drawn by hypothesis, which finds the fewest that break something; and storms of
those that cost nothing, in which every conversation must reach its end."""

from __future__ import annotations

import errno
import random
import socket

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.faults.conversations import CONVERSATIONS
from tests.faults.runs import run
from tests.faults.syscalls import CUTS, Effect, Errno, Schedule, effects_of
from tests.faults.world import new_door

HARMLESS: dict[str, list[Effect]] = {
    "recv": [Errno(errno.EAGAIN), Errno(errno.EINTR), *CUTS],
    "send": [Errno(errno.EAGAIN), Errno(errno.EINTR), *CUTS],
    "read": [Errno(errno.EAGAIN), Errno(errno.EINTR), *CUTS],
    "write": [Errno(errno.EAGAIN), Errno(errno.EINTR), *CUTS],
    "accept": [Errno(number) for number in (errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOBUFS)],
    "connect": [Errno(errno.EINPROGRESS), Errno(errno.EINTR)],
    "shutdown": [Errno(errno.ENOTCONN)],
    "close": [Errno(errno.EINTR), Errno(errno.EIO)],
}
"""By call, what must not show in what a peer and a plugin get."""

# A conversation has 15 to 60 calls, and more where something is asked again.
CALLS = st.integers(0, 60)

# Which of a call's effects, counted round.
CHOICES = st.integers(0, 59)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_any_faults(name: str) -> None:
    with new_door() as door:
        _draw(door, name)


def _draw(door: socket.socket, name: str) -> None:
    # The same schedules each time; what hypothesis finds is put into `test_found.py`.
    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=60,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.dictionaries(CALLS, CHOICES, min_size=1, max_size=6))
    def any_faults(drawn: dict[int, int]) -> None:
        def choose(number: int, call: str) -> Effect | None:
            effects = effects_of(call)
            return effects[drawn[number] % len(effects)] if number in drawn else None

        run(door, CONVERSATIONS[name], Schedule(choose=choose))

    any_faults()


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_storm_of_what_must_not_matter(name: str) -> None:
    with new_door() as door:
        for seed in range(40):
            chance = random.Random(f"{name} {seed}")

            def choose(
                number: int, call: str, chance: random.Random = chance, share: float = 0.1 + seed / 50
            ) -> Effect | None:
                return chance.choice(HARMLESS[call]) if call in HARMLESS and chance.random() < share else None

            run(door, CONVERSATIONS[name], Schedule(choose=choose), is_whole=True)
