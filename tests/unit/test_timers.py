"""wsd/timers.py: order, cancelling at every moment, and that dead entries do not pile up."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.timers import Timer, Timers


def names(timers: Timers, now: float) -> list[Any]:
    """Run what is due; the functions of most of these tests answer their own name."""
    found: list[Any] = []
    for function in timers.due(now):
        answering: Any = function
        found.append(answering())
    return found


def add(timers: Timers, when: float, name: str) -> Timer:
    function: Any = lambda: name  # noqa: E731
    return timers.add(when, function)


def test_soonest_first_and_equals_in_the_order_they_were_set() -> None:
    timers = Timers()
    for when, name in [(3, "c"), (1, "a1"), (2, "b"), (1, "a2"), (1, "a3")]:
        add(timers, when, name)
    assert names(timers, 2.5) == ["a1", "a2", "a3", "b"]
    assert names(timers, 2.5) == []
    assert names(timers, 3) == ["c"]


def test_a_deadline_is_due_at_its_very_moment() -> None:
    timers = Timers()
    add(timers, 5.0, "x")
    assert names(timers, 4.999) == []
    assert names(timers, 5.0) == ["x"]


def test_the_next_deadline_is_that_of_the_soonest_alive() -> None:
    timers = Timers()
    assert timers.next_deadline() is None
    first = add(timers, 1, "a")
    add(timers, 2, "b")
    assert timers.next_deadline() == 1
    first.cancel()
    assert timers.next_deadline() == 2
    assert names(timers, 2) == ["b"]
    assert timers.next_deadline() is None


def test_cancelling_twice_counts_once() -> None:
    timers = Timers()
    timer = add(timers, 1, "a")
    add(timers, 2, "b")
    timer.cancel()
    timer.cancel()
    assert len(timers) == 1
    assert names(timers, 9) == ["b"]
    assert len(timers) == 0


def test_cancelling_after_it_ran_changes_nothing() -> None:
    timers = Timers()
    timer = add(timers, 1, "a")
    assert names(timers, 1) == ["a"]
    timer.cancel()
    assert len(timers) == 0


def test_one_may_cancel_another_that_is_due_at_the_same_time() -> None:
    timers = Timers()
    timers.add(1, lambda: second.cancel())
    second = add(timers, 1, "never")
    assert names(timers, 1) == [None]
    assert len(timers) == 0


def test_one_that_sets_itself_again_waits_for_the_next_call() -> None:
    timers = Timers()
    calls: list[int] = []

    def again() -> None:
        calls.append(len(calls))
        timers.add(0, again)

    timers.add(0, again)
    names(timers, 1)
    assert calls == [0]
    names(timers, 1)
    assert calls == [0, 1]


def test_a_moved_deadline_costs_no_memory() -> None:
    """What every received message does to an idle limit, a hundred thousand times."""
    timers = Timers()
    keep = add(timers, 1e9, "kept")
    timer = add(timers, 1, "x")
    for i in range(100_000):
        timer.cancel()
        timer = add(timers, i, "x")
    assert len(timers) == 2
    assert len(timers._front) < 200
    timer.cancel()
    assert names(timers, 1e10) == ["kept"]
    assert keep.function is None


def test_cancelling_while_due_ones_run_survives_the_clean_up() -> None:
    timers = Timers()
    late = [add(timers, 10, "late") for _ in range(500)]

    def cancel_most() -> None:
        for timer in late[:450]:
            timer.cancel()

    timers.add(1, cancel_most)
    add(timers, 1, "after")
    assert names(timers, 1) == [None, "after"]
    assert len(timers) == 50
    assert names(timers, 10) == ["late"] * 50


def test_cancelled_ones_that_were_next_do_not_pile_up() -> None:
    timers = Timers()
    add(timers, 1.0, "next")
    assert timers.next_deadline() == 1  # so its bucket is open
    for _ in range(10_000):
        add(timers, 1.1, "x").cancel()
        assert timers.next_deadline() == 1
    assert len(timers._front) < 200
    assert names(timers, 2) == ["next"]


@pytest.mark.parametrize("when", [300.0, 300.1, 256.0, 255.9])
def test_equals_that_were_set_at_different_times_keep_their_order(when: float) -> None:
    """The first one fell into a wide bucket, the later ones into narrow ones, the last ones among what is next."""
    timers = Timers()
    found = []
    for now in (0, 100, 200, 255, when - 0.2, when - 0.05):
        found += names(timers, now)
        add(timers, when, f"set at {now}")
        add(timers, when + 1e-6, "just after")
        add(timers, when - 1e-6, "just before")
        assert timers.next_deadline() == when - 1e-6
    assert found == []
    assert names(timers, when - 1e-6) == ["just before"] * 6
    assert names(timers, when) == [f"set at {now}" for now in (0, 100, 200, 255, when - 0.2, when - 0.05)]
    assert names(timers, when + 1) == ["just after"] * 6


@given(st.lists(st.tuples(st.sampled_from(["set", "cancel", "due", "look"]), st.floats(0, 1000)), max_size=60))
def test_against_a_sorted_list(steps: list[tuple[str, float]]) -> None:
    """Sets, cancels and the passing of time in any order: the same as the obvious way to do it."""
    timers, now = Timers(), 0.0
    model: dict[str, tuple[float, Timer]] = {}
    for number, (step, value) in enumerate(steps):
        if step == "set":
            when = now + value // 10 if number % 2 else now + value / 100  # far and near, and many equals
            model[str(number)] = (when, add(timers, when, str(number)))
        elif step == "cancel" and model:
            model.pop(sorted(model)[int(value) % len(model)])[1].cancel()
        elif step == "due":
            now += value / 5
            due = sorted(
                (name for name in model if model[name][0] <= now), key=lambda name: (model[name][0], int(name))
            )
            assert names(timers, now) == due
            for name in due:
                del model[name]
        else:
            assert timers.next_deadline() == min((when for when, _ in model.values()), default=None)
        assert len(timers) == len(model)


def test_thousands_against_a_sorted_list() -> None:
    """Random sets and cancels: the same as the obvious way to do it."""
    rng = random.Random(7)
    timers = Timers()
    model: dict[int, tuple[float, Timer]] = {}
    for number in range(3000):
        when = rng.randrange(100)
        model[number] = (when, add(timers, when, str(number)))
        if model and rng.random() < 0.7:
            model.pop(rng.choice(list(model)))[1].cancel()
        assert len(timers) == len(model)
        assert timers.next_deadline() == min((when for when, _ in model.values()), default=None)
    expected = sorted(model, key=lambda number: (model[number][0], number))
    assert names(timers, 100) == [str(number) for number in expected]
