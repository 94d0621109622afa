"""When the heap's holes are given back, and that they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wsd import heap
from wsd.heap import Heap, trim


class Clock:
    """Timers that are run by hand; `trims` counts what came of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timers: list[Callable[[], None]] = []
        self.trims = 0
        self.heap = Heap(lambda seconds, function: self.timers.append(function))
        monkeypatch.setattr(heap, "trim", self._trim)

    def _trim(self) -> None:
        self.trims += 1

    def shake(self, count: int) -> None:
        for _ in range(count):
            self.heap.shaken()

    def pass_time(self) -> None:
        """What was set is due."""
        timers, self.timers = self.timers, []
        for timer in timers:
            timer()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_burst_is_followed_by_one_trim(clock: Clock) -> None:
    clock.shake(500)
    assert len(clock.timers) == 1
    clock.pass_time()  # more came since it was set
    assert clock.trims == 0
    clock.pass_time()
    assert clock.trims == 1
    assert clock.timers == []


def test_while_more_come_it_waits(clock: Clock) -> None:
    clock.shake(32)
    for _ in range(5):
        clock.shake(1)
        clock.pass_time()
    assert clock.trims == 0
    clock.pass_time()
    assert clock.trims == 1


def test_a_few_are_not_worth_it_until_they_are_many(clock: Clock) -> None:
    clock.shake(31)
    assert clock.timers == []
    clock.shake(1)
    clock.pass_time()
    assert clock.trims == 1
    clock.shake(31)
    assert clock.timers == []


def _private_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private"))


def test_holes_go_back_to_the_system() -> None:
    kept = [bytearray(5000 if number % 2 else 17_000) for number in range(4000)]
    kept = kept[1::2]  # what is left is strewn over 44 MB
    before = _private_bytes()
    assert trim()
    assert before - _private_bytes() > 16 << 20
    assert len(kept) == 2000
