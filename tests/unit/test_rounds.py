"""wsd/rounds.py: when somebody is looked at and with whom, leaving at every moment, and that nothing is left behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from wsd.rounds import LOOKS_PER_TURN, Rounds
from wsd.timers import Timer, Timers


class Loop:
    """A service loop whose time the test has."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers = Timers()
        self.soon: list[Callable[[], None]] = []

    def call_at(self, seconds: float, function: Callable[[], None]) -> Timer:
        return self.timers.add(self.now + seconds, function)

    def call_soon(self, function: Callable[[], None]) -> None:
        self.soon.append(function)

    def turn(self, seconds: float = 0) -> None:
        self.now += seconds
        for due in self.timers.due(self.now):
            due()
        soon, self.soon = self.soon, []
        for function in soon:
            function()


class Who:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.looked: list[float] = []

    def look(self) -> None:
        self.looked.append(self._loop.now)


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_one_alone_is_looked_at_in_its_own_time_and_once(loop: Loop) -> None:
    one, rounds = Who(loop), Rounds(loop)
    rounds.join(one, 20, 1)
    loop.turn(19.9)
    assert one.looked == []
    loop.turn(0.1)
    loop.turn(100)
    assert one.looked == [1020]
    assert len(loop.timers) == 0


def test_those_who_come_within_the_slack_go_together_and_nobody_further_off(loop: Loop) -> None:
    rounds, many = Rounds(loop), [Who(loop) for _ in range(100)]
    for one in many:
        rounds.join(one, 20, 1)
        loop.turn(0.1)
    assert len(loop.timers) == 10
    for _ in range(300):
        loop.turn(0.1)
    for number, one in enumerate(many):
        (when,) = one.looked
        assert abs(when - (1020 + number * 0.1)) < 1 + 0.1 + 0.001
    assert len(loop.timers) == 0


def test_two_slacks_never_meet(loop: Loop) -> None:
    """As after a reload has changed the times: 20 s of one and 40 s of the other have the same place in a row."""
    soon, late, rounds = Who(loop), Who(loop), Rounds(loop)
    loop.now = 0.0
    assert rounds.join(soon, 20, 1) is not rounds.join(late, 40, 2)
    loop.turn(20)
    assert (len(soon.looked), len(late.looked)) == (1, 0)
    loop.turn(20)
    assert (len(soon.looked), len(late.looked)) == (1, 1)


def test_one_that_leaves_is_not_looked_at_and_the_others_are(loop: Loop) -> None:
    gone, other, rounds = Who(loop), Who(loop), Rounds(loop)
    joined = rounds.join(gone, 20, 1)
    assert rounds.join(other, 20, 1) is joined
    joined.leave(gone)
    joined.leave(gone)
    loop.turn(20)
    assert (gone.looked, other.looked) == ([], [1020])
    joined.leave(other)  # it is over


def test_when_the_last_has_left_nothing_is_left(loop: Loop) -> None:
    one, rounds = Who(loop), Rounds(loop)
    for _ in range(1000):
        rounds.join(one, 3600, 1).leave(one)
        loop.turn(1)
    assert len(loop.timers) == 0
    assert not rounds._rounds


def test_an_old_round_that_empties_leaves_its_successor_alone(loop: Loop) -> None:
    """While a large one is gone through, a new one may begin in its place."""
    rounds, many = Rounds(loop), [Who(loop) for _ in range(2 * LOOKS_PER_TURN + 1)]
    for one in many:
        old = rounds.join(one, 20.2, 1)
    loop.turn(20.2)
    (left,) = old
    late = Who(loop)
    new = rounds.join(late, 0.1, 1)
    assert new is not old
    old.leave(left)
    loop.turn(0.1)
    assert late.looked == [loop.now]
    assert [len(one.looked) for one in many].count(1) == 2 * LOOKS_PER_TURN


def test_a_crowd_is_gone_through_in_portions(loop: Loop) -> None:
    rounds, many = Rounds(loop), [Who(loop) for _ in range(LOOKS_PER_TURN * 2 + 10)]
    for one in many:
        rounds.join(one, 20, 1)
    seen = []
    loop.turn(20)
    for _ in range(4):
        seen.append(sum(len(one.looked) for one in many))
        loop.turn()
    assert seen[0] <= LOOKS_PER_TURN
    assert all(after - before <= LOOKS_PER_TURN for before, after in itertools.pairwise(seen))
    while loop.soon:
        loop.turn()
    assert all(len(one.looked) == 1 for one in many)


def test_one_that_leaves_while_its_crowd_is_gone_through(loop: Loop) -> None:
    rounds, many = Rounds(loop), [Who(loop) for _ in range(LOOKS_PER_TURN * 4)]
    for one in many:
        joined = rounds.join(one, 20, 1)
    loop.turn(20)
    gone = [one for one in many if one in joined]
    assert len(gone) == LOOKS_PER_TURN * 2
    for one in gone:
        joined.leave(one)
    while loop.soon:
        loop.turn()
    assert [one.looked for one in gone] == [[]] * len(gone)
