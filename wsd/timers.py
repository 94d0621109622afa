"""Deadlines, soonest first.  Knows no clock: callers pass `now`, in seconds of `time.monotonic()`.

Most deadlines are cancelled or moved before they are due, so a cancelled one is only marked and thrown out when it
comes to the top, or when more than half of the heap is dead.  Setting one is O(log n), cancelling O(1).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import count

# Below this many dead entries a clean-up costs more than the memory it frees.
_FEW = 64


class Timer:
    """One deadline; `cancel()` it, or let `Timers.due` hand out its `function`."""

    __slots__ = ("_timers", "function", "is_queued", "when")

    def __init__(self, timers: Timers, when: float, function: Callable[[], None]) -> None:
        self._timers = timers
        self.when = when
        self.is_queued = True
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """Never call the function; cancelling twice, or after it was called, does nothing."""
        if self.function is not None:
            self.function = None
            if self.is_queued:
                self._timers.note_cancelled()


class Timers:
    """The deadlines of one context."""

    __slots__ = ("_dead", "_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()  # equal deadlines in the order they were set
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def add(self, when: float, function: Callable[[], None]) -> Timer:
        """Have `function` handed out by `due` from the time `when` on."""
        timer = Timer(self, when, function)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def next_deadline(self) -> float | None:
        """When the soonest deadline is due, or None."""
        heap = self._heap
        while heap and heap[0][2].function is None:
            heapq.heappop(heap)
            self._dead -= 1
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[Callable[[], None]]:
        """The functions whose time has come at `now`, soonest first.

        One that is set while these run is not among them, so that a timer that always asks again starves nobody; one
        that is cancelled while these run is skipped.
        """
        heap: list[tuple[float, int, Timer]] = self._heap
        ready: list[Timer] = []
        while heap and heap[0][0] <= now:
            timer = heapq.heappop(heap)[2]
            timer.is_queued = False
            if timer.function is None:
                self._dead -= 1
            else:
                ready.append(timer)
        for timer in ready:
            function, timer.function = timer.function, None
            if function is not None:
                yield function

    def note_cancelled(self) -> None:
        """Count one dead entry, and clean up when most of the heap is dead."""
        self._dead += 1
        if self._dead > _FEW and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].function is not None]
            heapq.heapify(self._heap)
            self._dead = 0
