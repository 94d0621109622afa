"""wsd/admission.py: what happens when one address has too many connections, and when too many handshakes are under
way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from wsd.admission import PATIENCE_SECONDS, Admission
from wsd.config import Limits
from wsd.counters import Counters
from wsd.protocol import Peer
from wsd.timers import Timers


class Arrived:
    """What is used of a wsi."""

    def __init__(self, number: int, address: str = "192.0.2.7") -> None:
        self.number = number
        self.peer = Peer(address, 1)
        self.tag = f"test#{number}"
        self.listener: object = self
        self.is_established = True
        self.why = ""

    def abort(self, why: str) -> None:
        self.why = why


class World:
    """A context that notes, and its admission."""

    def __init__(self, **limits: int) -> None:
        self.limits = Limits(**limits)
        self.max_connections = 20_000
        self.counters = Counters()
        self.now = 100.0
        self.timers = Timers()
        self.is_accepting = True
        self.wsis: list[Any] = []
        self.admission = Admission(self, self.wsis, self.resume)  # type: ignore[arg-type]

    def accepts(self) -> bool:
        return self.is_accepting

    def pause_accepting(self) -> None:
        self.is_accepting = False

    def resume(self) -> None:
        self.is_accepting = True

    def call_at(self, seconds: float, function: Any) -> Any:
        return self.timers.add(self.now + seconds, function)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for due in self.timers.due(self.now):
            due()

    def enter(self, number: int, address: str = "192.0.2.7") -> str:
        return self.admission.enter(number, Peer(address, 1))

    def begin(self, number: int) -> Any:
        wsi = Arrived(number)
        self.admission.begin(wsi)  # type: ignore[arg-type]
        return wsi

    def left(self, number: int) -> None:
        self.admission.left(SimpleNamespace(number=number))  # type: ignore[arg-type]


# -- addresses --------------------------------------------------------------------------------------------------------


def test_ten_thousand_of_one_address_by_default() -> None:
    world = World()
    assert {world.enter(number) for number in range(10_000)} == {""}
    assert len(world.admission._addresses) == 0, "with no limit nobody is counted"


def test_one_too_many_is_told_with_the_option() -> None:
    world = World(max_connections_per_address=2)
    assert [world.enter(number) for number in range(3)] == ["", "", "over limits.max_connections_per_address = 2"]
    assert world.counters.over_max_connections_per_address == 1
    world.left(0)
    assert world.enter(3) == ""
    world.admission.forget(3)
    assert world.enter(4) == ""


def test_too_fast_is_told_with_the_option() -> None:
    world = World(max_handshakes_per_second=1)
    assert [world.enter(number) for number in range(2)] == ["", "over limits.max_handshakes_per_second = 1"]
    assert world.counters.over_max_handshakes_per_second == 1
    world.pass_time(1)
    assert world.enter(2) == ""


def test_a_reload_brings_the_limit_and_takes_it_away() -> None:
    world = World()
    world.wsis += [Arrived(1), Arrived(2), Arrived(3, "192.0.2.8"), Arrived(4), Arrived(5)]
    world.wsis[3].is_established = False
    world.wsis[4].listener = None  # a client, or adopted
    world.limits = Limits(max_connections_per_address=3)
    assert [world.enter(6), world.enter(7)] == ["", "over limits.max_connections_per_address = 3"]
    world.left(1)
    assert world.enter(8) == ""
    world.limits = Limits()
    assert world.enter(9) == ""
    assert len(world.admission._addresses) == 0
    world.left(8)


# -- handshakes -------------------------------------------------------------------------------------------------------


def test_done_and_gone_make_room() -> None:
    world = World(max_handshakes=2)
    first, second = world.begin(1), world.begin(2)
    assert world.admission.handshakes == 2
    assert not world.admission.has_room()
    assert not world.accepts()
    world.admission.done(first)
    assert world.accepts()
    assert world.admission.has_room()
    world.begin(3)
    assert not world.admission.has_room()
    world.admission.left(second)
    assert world.accepts()
    assert world.admission.has_room()
    assert (first.why, second.why, world.counters.over_max_handshakes) == ("", "", 0)


@pytest.mark.parametrize(("connections", "handshakes"), [(20_000, 4096), (1000, 500), (100, 64), (10, 64)])
def test_never_more_than_half_of_the_connections(connections: int, handshakes: int) -> None:
    world = World()
    world.max_connections = connections
    assert world.admission.most_handshakes == handshakes


def test_whoever_is_done_is_done_once() -> None:
    world = World(max_handshakes=1)
    wsi = world.begin(1)
    world.admission.done(wsi)
    world.is_accepting = False  # for another reason
    world.admission.done(wsi)
    assert not world.accepts()


def test_who_takes_long_makes_room() -> None:
    world = World(max_handshakes=2)
    first = world.begin(1)
    world.pass_time(PATIENCE_SECONDS / 2)
    second = world.begin(2)
    assert not world.admission.has_room()
    assert not world.admission.has_room()
    assert not world.accepts()
    assert len(world.timers) == 1, "one timer, however often it is asked"
    world.pass_time(PATIENCE_SECONDS / 2)
    assert world.accepts()
    assert world.admission.has_room()
    assert not first.why, "nobody has come yet"
    world.begin(3)
    assert first.why
    assert not second.why
    assert world.counters.over_max_handshakes == 1
    assert not world.admission.has_room()
    assert not world.accepts()
    assert len(world.timers) == 1
    world.pass_time(PATIENCE_SECONDS / 2)
    assert world.accepts()
    assert world.admission.has_room()
    third = world.begin(4)
    assert second.why
    assert not third.why
    assert world.admission.handshakes == 2


def test_when_it_is_over_at_once() -> None:
    """Nobody waits where the oldest has had its time already."""
    world = World(max_handshakes=1)
    first = world.begin(1)
    world.pass_time(PATIENCE_SECONDS)
    assert world.admission.has_room()
    second = world.begin(2)
    assert first.why
    assert not second.why
    assert world.accepts()
    assert len(world.timers) == 0
