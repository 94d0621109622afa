"""Who is to be looked at again, and roughly when: those that are due at about the same time are looked at together.

Owns these rounds.  Must not know what is looked for, nor who is looked at beyond the one method that does it.

A timer of its own is 0.3 kB for each of ten thousand idle connections, and a heap operation when one comes or goes;
an entry in a round is a tenth of that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from wsd.timers import Timer

# Fairness: so many are looked at in a turn.  A round may be all who came back at once after a restart, and at some 3 us
# for each that is pinged this is a millisecond.
LOOKS_PER_TURN: Final = 256


Key = tuple[float, int]
"""The slack, and in such steps when."""


class Loop(Protocol):
    """What a round asks of the service loop."""

    now: float

    def call_at(self, seconds: float, function: Callable[[], None]) -> Timer: ...
    def call_soon(self, function: Callable[[], None]) -> None: ...


class Looked(Protocol):
    """A connection."""

    def look(self) -> None: ...


class Round(dict[Looked, None]):
    """Those who are looked at together."""

    __slots__ = ("_key", "_rounds", "_timer")

    def __init__(self, rounds: dict[Key, Round], key: Key, timer: Timer) -> None:
        self._rounds = rounds
        self._key = key
        self._timer = timer

    def leave(self, who: Looked) -> None:
        """Not `who`, unless it is next; one that is no longer in it changes nothing."""
        self.pop(who, None)
        if not self and self._rounds.get(self._key) is self:
            del self._rounds[self._key]
            self._timer.cancel()


class Rounds:
    """The rounds of one loop."""

    __slots__ = ("_loop", "_rounds")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._rounds: dict[Key, Round] = {}

    def __len__(self) -> int:
        """How many are in a round."""
        return sum(map(len, self._rounds.values()))

    def join(self, who: Looked, seconds: float, slack: float) -> Round:
        """Have `who.look()` called once, `seconds` from now, up to `slack` seconds sooner or later.

        The first of a round is looked at in its own time, and the others with it.
        """
        key = slack, int((self._loop.now + seconds) / slack)
        found = self._rounds.get(key)
        if found is None:
            found = self._rounds[key] = Round(self._rounds, key, self._loop.call_at(seconds, partial(self._begin, key)))
        found[who] = None
        return found

    def _begin(self, key: Key) -> None:
        self._go_on(self._rounds.pop(key))

    def _go_on(self, one: Round) -> None:
        for _ in range(min(len(one), LOOKS_PER_TURN)):
            self._loop.call_soon(one.popitem()[0].look)
        if one:
            self._loop.call_soon(partial(self._go_on, one))
