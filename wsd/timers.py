"""Deadlines, soonest first.  Knows no clock: callers pass `now`, in seconds of `time.monotonic()`.

Most deadlines are cancelled or moved before they are due.  So one that is set is only thrown into the bucket of its
quarter of a second, and cancelling takes it out again; both cost the same whatever else is set.  What is in a bucket is
put in order when its time comes, to the last digit: a small heap, the front.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Final

# The width of a bucket, in seconds, and of those that are further off than `_NEAR`; powers of two, so that nothing is
# rounded.  With ten thousand connections that are pinged every 20 s a fine one holds a hundred; of the coarse ones a
# day has 1350.
_FINE: Final = 0.25
_COARSE: Final = 64.0
_NEAR: Final = 128.0

# Below this many dead entries a clean-up costs more than the memory it frees.
_FEW: Final = 64

_when: Final = attrgetter("when")


class Timer:
    """One deadline; `cancel()` it, or let `Timers.due` hand out its `function`."""

    __slots__ = ("_home", "function", "when")

    # `Timers.add` fills these in: a call of `__init__` would be a third of what setting a deadline costs.
    when: float
    function: Callable[[], None] | None
    _home: dict[Timer, None]

    def cancel(self) -> None:
        """Never call the function; cancelling twice, or after it was called, does nothing."""
        if self.function is not None:
            self.function = None
            self._home.pop(self, None)


class Timers:
    """The deadlines of one context."""

    __slots__ = ("_at_front", "_buckets", "_front", "_now", "_order", "_starts")

    def __init__(self) -> None:
        self._now = 0.0  # as `due` was last told; only what is worth a fine bucket depends on it
        self._buckets: dict[float, dict[Timer, None]] = {}  # by the time at which each begins
        self._starts: list[float] = []  # a heap of these times
        # What comes next, and what falls into a bucket that was opened: a heap.  Of these entries the cancelled ones
        # stay until they come to the top, or are more than half.
        self._front: list[tuple[float, int, Timer]] = []
        self._at_front: dict[Timer, None] = {}  # those that are alive
        self._order = 0  # equal deadlines in the order they were set

    def __len__(self) -> int:
        return len(self._at_front) + sum(map(len, self._buckets.values()))

    def add(self, when: float, function: Callable[[], None]) -> Timer:
        """Have `function` handed out by `due` from the time `when` on."""
        timer = Timer()
        timer.when = when
        timer.function = function
        now = self._now
        start = when - when % (_COARSE if when - now > _NEAR else _FINE)
        if start <= now:
            self._put_in_front(timer)
            return timer
        home = self._buckets.get(start)
        if home is None:
            home = self._buckets[start] = {}
            heapq.heappush(self._starts, start)
        home[timer] = None
        timer._home = home
        return timer

    def _put_in_front(self, timer: Timer) -> None:
        timer._home = self._at_front
        timer._home[timer] = None
        self._order += 1
        heapq.heappush(self._front, (timer.when, self._order, timer))
        if len(self._front) > _FEW + 2 * len(self._at_front):
            self._front = [entry for entry in self._front if entry[2].function is not None]
            heapq.heapify(self._front)

    def _open(self) -> Iterable[Timer]:
        """Take out the first bucket.

        Of equal deadlines in two buckets, the one in the coarse bucket was set first, and that bucket is opened first:
        it begins earlier, or both are the same.
        """
        return self._buckets.pop(heapq.heappop(self._starts))

    def next_deadline(self) -> float | None:
        """When the soonest deadline is due, or None."""
        while True:
            front, starts = self._front, self._starts
            while front and front[0][2].function is None:
                heapq.heappop(front)
            if not starts or (front and front[0][0] < starts[0]):
                return front[0][0] if front else None
            for timer in self._open():
                self._put_in_front(timer)

    def due(self, now: float) -> Iterable[Callable[[], None]]:
        """The functions whose time has come at `now`, soonest first.

        One that is set while these run is not among them, so that a timer that always asks again starves nobody; one
        that is cancelled while these run is skipped.
        """
        self._now = now
        front, starts = self._front, self._starts
        ready: list[Timer] = []
        while front and front[0][0] <= now:
            timer = heapq.heappop(front)[2]
            if timer.function is not None:
                del self._at_front[timer]
                ready.append(timer)
        if starts and starts[0] <= now:
            while starts and starts[0] <= now:
                for timer in self._open():
                    if timer.when <= now:
                        ready.append(timer)
                    else:
                        self._put_in_front(timer)
            # Stable, so equals stay as they are: what was in front was set before what a bucket held.
            ready.sort(key=_when)
        return _hand_out(ready) if ready else ()


def _hand_out(ready: list[Timer]) -> Iterator[Callable[[], None]]:
    for timer in ready:
        function, timer.function = timer.function, None
        if function is not None:
            yield function
