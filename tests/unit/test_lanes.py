"""One at a time: who waits for whom, in which order they go, and that nobody is forgotten."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from wsd.lanes import Lane, Lanes


class Road:
    """Lanes whose `call_soon` is run by hand; `gone` is who went, in order."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.lanes = Lanes(self.soon.append)
        self.gone: list[str] = []

    def enter(self, name: str, *keys: str) -> Lane:
        return self.lanes.enter(keys, lambda: self.gone.append(name))

    def turn(self) -> list[str]:
        """Who has gone after all that was to be done soon is done."""
        while self.soon:
            self.soon.pop(0)()
        return self.gone


def test_the_first_goes_and_never_inside_the_call() -> None:
    road = Road()
    road.enter("a", "x")
    assert road.gone == []
    assert road.turn() == ["a"]
    assert road.turn() == ["a"]


def test_the_next_waits_until_the_one_before_it_has_left() -> None:
    road = Road()
    first, second = road.enter("a", "x"), road.enter("b", "x")
    road.enter("c", "x")
    assert road.turn() == ["a"]
    first.leave()
    first.leave()
    assert road.gone == ["a"]
    assert road.turn() == ["a", "b"]
    second.leave()
    assert road.turn() == ["a", "b", "c"]


def test_other_keys_do_not_wait() -> None:
    road = Road()
    road.enter("a", "x")
    road.enter("b", "y")
    assert road.turn() == ["a", "b"]


def test_one_of_several_keys_is_enough_to_wait_for_and_nobody_is_overtaken() -> None:
    road = Road()
    first = road.enter("a", "x")
    both = road.enter("b", "x", "y")
    road.enter("c", "y")
    assert road.turn() == ["a"]
    first.leave()
    assert road.turn() == ["a", "b"]
    both.leave()
    assert road.turn() == ["a", "b", "c"]


def test_who_gives_up_waiting_is_skipped() -> None:
    road = Road()
    first = road.enter("a", "x")
    road.enter("b", "x").leave()
    road.enter("c", "x")
    assert road.turn() == ["a"]
    first.leave()
    assert road.turn() == ["a", "c"]


def test_who_leaves_before_it_went_does_not_go() -> None:
    road = Road()
    road.enter("a", "x").leave()
    assert road.turn() == []
    road.enter("b", "x")
    assert road.turn() == ["b"]


@given(st.lists(st.sets(st.sampled_from("xyz"), min_size=1), max_size=12), st.randoms(use_true_random=False))
def test_everybody_goes_once_and_two_of_one_key_are_never_there_together(
    wanted: list[set[str]], chance: object
) -> None:
    road = Road()
    lanes = [road.enter(str(number), *keys) for number, keys in enumerate(wanted)]
    left: set[int] = set()
    while len(left) < len(lanes):
        here = [int(name) for name in road.turn() if int(name) not in left]
        assert here, "nobody goes any more"
        for key in "xyz":
            assert sum(key in wanted[number] for number in here) <= 1
        leaving = chance.choice(here)  # type: ignore[attr-defined]
        left.add(leaving)
        lanes[leaving].leave()
    assert sorted(map(int, road.turn())) == list(range(len(lanes)))
    assert road.lanes._queues == {}
