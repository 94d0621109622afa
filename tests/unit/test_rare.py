"""wsd/rare.py: nobody writes into what all share, and one's own begins with the same values."""

from __future__ import annotations

import pytest

from wsd.rare import NOTHING, Rare
from wsd.timers import Timer, Timers

FACTS = [name for name in Rare.__annotations__ if not name.startswith("_")] + [
    name for name, value in vars(Rare).items() if value in (0, False) and not name.startswith("_")
]


@pytest.mark.parametrize("name", sorted(set(FACTS)))
def test_what_all_share_stays_as_it_is(name: str) -> None:
    before = getattr(NOTHING, name)
    with pytest.raises(AttributeError, match=f"{name}: this is what all connections share"):
        setattr(NOTHING, name, 1)
    assert getattr(NOTHING, name) is before


def test_one_of_ones_own_begins_with_the_same_and_is_nobody_elses() -> None:
    mine, theirs = Rare(), Rare()
    assert [getattr(mine, name) for name in FACTS] == [getattr(NOTHING, name) for name in FACTS]
    mine.backlog_at = 7
    assert (theirs.backlog_at, NOTHING.backlog_at) == (0, 0)


CLOCKS = ("timer", "timeout", "clock", "rate_timer")


def timers_of(rare: Rare, *names: str) -> dict[str, Timer]:
    timers = Timers()
    found = {name: timers.add(1, lambda: None) for name in names}
    for name, timer in found.items():
        setattr(rare, name, timer)
    return found


def test_stop_clocks_stops_those_of_an_open_connection() -> None:
    rare = Rare()
    timers = timers_of(rare, *CLOCKS, "slow_timer")
    rare.stop_clocks()
    assert [name for name, timer in timers.items() if timer.function is not None] == ["slow_timer"]


def test_the_end_lets_go_of_all_that_only_a_live_one_needs() -> None:
    rare = Rare()
    timers = timers_of(rare, *CLOCKS, "slow_timer")
    rare.assembled = bytearray(1000)
    rare.stop_clocks()
    rare.end()
    assert [name for name, timer in timers.items() if timer.function is not None] == []
    assert [getattr(rare, name) for name in (*CLOCKS, "slow_timer", "assembled")] == [None] * 6
