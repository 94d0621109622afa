"""wsd/poller.py on pipes: what it answers, and polling for nothing."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from wsd.poller import EVENTS_PER_TURN, Poller


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass  # the test closed it


@pytest.fixture
def poller() -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


def test_answers_descriptor_and_events(poller: Poller, pipe: tuple[int, int]) -> None:
    poller.add(pipe[0], select.EPOLLIN)
    assert poller.poll(0) == []
    os.write(pipe[1], b"x")
    assert poller.poll(0) == [(pipe[0], select.EPOLLIN)]


def test_with_no_events_only_the_end_is_told(poller: Poller, pipe: tuple[int, int]) -> None:
    poller.add(pipe[0], select.EPOLLIN)
    os.write(pipe[1], b"x")
    poller.change(pipe[0], 0)
    assert poller.poll(0) == []
    os.close(pipe[1])
    assert poller.poll(0) == [(pipe[0], select.EPOLLHUP)]


def test_what_was_removed_is_not_told(poller: Poller, pipe: tuple[int, int]) -> None:
    poller.add(pipe[0], select.EPOLLIN)
    os.write(pipe[1], b"x")
    poller.remove(pipe[0])
    assert poller.poll(0) == []


def test_all_that_is_ready_has_its_turn(poller: Poller) -> None:
    """Even where nobody reads it: those that were told last are told again when all others were."""
    pipes = [os.pipe() for _ in range(2 * EVENTS_PER_TURN + 10)]
    for reader, writer in pipes:
        poller.add(reader, select.EPOLLIN)
        os.write(writer, b"x")
    told = [poller.poll(0) for _ in range(3)]
    for fd in (fd for both in pipes for fd in both):
        os.close(fd)
    assert [len(events) for events in told] == [EVENTS_PER_TURN] * 3
    assert {fd for events in told for fd, _ in events} == {reader for reader, _ in pipes}


@pytest.mark.parametrize("timeout", [0.0001, 0.0015])
def test_a_short_wait_is_rounded_up_and_not_to_nothing(poller: Poller, timeout: float) -> None:
    waits: list[float] = []

    class Recorder:
        def poll(self, wait: float, most: int) -> list[tuple[int, int]]:
            waits.append(wait)
            return []

    poller._epoll = Recorder()  # type: ignore[assignment]
    poller.poll(timeout)
    assert waits[0] >= timeout
    assert waits[0] * 1000 == pytest.approx(round(waits[0] * 1000))
