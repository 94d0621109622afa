"""dumb-increment-protocol, hook by hook; its wire behaviour is tested in tests/integration."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.fakes import FakeWsi, shipped
from wsd.binding import Hooks, bind_hooks

PERIOD = 0.05


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def hooks() -> Hooks:
    return bind_hooks(shipped("dumb_increment.py"))


@pytest.fixture
def wsi(clock: Clock, hooks: Any) -> FakeWsi:
    protocol = shipped("dumb_increment.py")
    wsi = FakeWsi(protocol)
    hooks.on_established(wsi)
    return wsi


def tick(hooks: Any, wsi: FakeWsi) -> list[Any]:
    wsi.is_asked = False
    hooks.on_timer(wsi)
    assert wsi.is_asked
    hooks.on_writeable(wsi)
    return wsi.take()


def receive(hooks: Any, wsi: FakeWsi, data: bytes, final: bool = True) -> None:
    wsi.is_final_fragment = final
    hooks.on_receive(wsi, data)


def test_it_counts_as_text_from_zero(hooks: Any, wsi: FakeWsi) -> None:
    assert wsi.timer == pytest.approx(PERIOD)
    assert [tick(hooks, wsi) for _ in range(3)] == [[("0", None, True)], [("1", None, True)], [("2", None, True)]]


def test_a_spurious_call_writes_nothing(hooks: Any, wsi: FakeWsi) -> None:
    hooks.on_writeable(wsi)
    tick(hooks, wsi)
    hooks.on_writeable(wsi)
    assert wsi.take() == []


def test_lateness_does_not_add_up(hooks: Any, wsi: FakeWsi, clock: Clock) -> None:
    for late in (0.0, 0.01, 0.002, 0.03):
        clock.now += (wsi.timer or 0) + late
        tick(hooks, wsi)
    # Five periods after the start the fifth number is due, however late the four before it were.
    assert clock.now + (wsi.timer or 0) == pytest.approx(100 + 5 * PERIOD)


def test_after_a_long_stop_it_goes_on_at_its_rate(hooks: Any, wsi: FakeWsi, clock: Clock) -> None:
    """Ten seconds of standstill are not two hundred numbers at once."""
    clock.now += 10
    tick(hooks, wsi)
    assert wsi.timer == 0
    tick(hooks, wsi)
    assert wsi.timer == pytest.approx(PERIOD)


def test_what_could_not_be_written_is_not_counted(hooks: Any, wsi: FakeWsi) -> None:
    """A reader that is behind misses ticks and no numbers."""
    for _ in range(5):
        hooks.on_timer(wsi)
    hooks.on_writeable(wsi)
    assert wsi.take() == [("0", None, True)]


@pytest.mark.parametrize(
    "pieces", [[b"reset\n"], [b"res", b"et\n"], [b"reset\n and more"], [b"r", b"", b"eset\n", b""]]
)
def test_reset(hooks: Any, wsi: FakeWsi, pieces: list[bytes]) -> None:
    tick(hooks, wsi)
    tick(hooks, wsi)
    for piece in pieces[:-1]:
        receive(hooks, wsi, piece, final=False)
    receive(hooks, wsi, pieces[-1])
    assert tick(hooks, wsi) == [("0", None, True)]


@pytest.mark.parametrize("message", [b"", b"reset", b"Reset\n", b" reset\n", b"x" * 5000])
def test_anything_else_changes_nothing(hooks: Any, wsi: FakeWsi, message: bytes) -> None:
    tick(hooks, wsi)
    receive(hooks, wsi, message)
    assert tick(hooks, wsi) == [("1", None, True)]
    assert wsi.closed is None
    assert wsi.session.command == b""


def test_two_messages_are_two(hooks: Any, wsi: FakeWsi) -> None:
    receive(hooks, wsi, b"clo")
    receive(hooks, wsi, b"seme\n")
    assert wsi.closed is None


def test_closeme(hooks: Any, wsi: FakeWsi) -> None:
    receive(hooks, wsi, b"closeme\n")
    assert wsi.closed == (1001, "seeya")
