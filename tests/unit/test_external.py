"""What another loop is told of our descriptors, and which of its events are believed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from select import POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT
from typing import Any

import pytest

from wsd.external import Announcer, PollFd


class Ear:
    """What was told, and the table that a loop would make of it; what cannot be is an error."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.table: dict[int, int] = {}

    def __call__(self, name: str, fd: int, events: int = 0) -> None:
        self.told.append((name, fd, events))
        match name:
            case "on_add_poll_fd":
                assert fd not in self.table
                self.table[fd] = events
            case "on_set_mode_poll_fd":
                assert events
                assert not self.table[fd] & events
                self.table[fd] |= events
            case "on_clear_mode_poll_fd":
                assert events
                assert self.table[fd] & events == events
                self.table[fd] &= ~events
            case "on_del_poll_fd":
                del self.table[fd]
            case _:
                raise AssertionError(name)


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_before_there_is_anybody_to_tell_it_only_remembers(ear: Ear) -> None:
    announcer = Announcer(ear)
    announcer.add(5, POLLIN)
    announcer.add(6, POLLIN)
    announcer.change(5, POLLIN | POLLOUT)
    announcer.remove(6)
    assert ear.told == []
    announcer.begin()
    announcer.begin()
    assert ear.told == [("on_add_poll_fd", 5, POLLIN | POLLOUT)]


def test_bits_that_come_and_bits_that_go(ear: Ear) -> None:
    announcer = Announcer(ear)
    announcer.begin()
    announcer.add(5, POLLIN)
    announcer.change(5, POLLOUT)
    announcer.change(5, POLLOUT)
    announcer.change(5, 0)
    announcer.remove(5)
    assert ear.told == [
        ("on_add_poll_fd", 5, POLLIN),
        ("on_set_mode_poll_fd", 5, POLLOUT),
        ("on_clear_mode_poll_fd", 5, POLLIN),
        ("on_clear_mode_poll_fd", 5, POLLOUT),
        ("on_del_poll_fd", 5, 0),
    ]
    assert ear.table == {}


def test_who_goes_away_is_told_so_and_the_next_one_hears_of_all(ear: Ear) -> None:
    announcer = Announcer(ear)
    announcer.begin()
    announcer.add(5, POLLIN)
    announcer.add(6, POLLOUT)
    announcer.end()
    announcer.end()
    assert ear.table == {}
    announcer.remove(6)
    announcer.begin()
    assert ear.table == {5: POLLIN}


def test_it_polls_nothing_itself(ear: Ear) -> None:
    with pytest.raises(RuntimeError, match="service_fd"):
        Announcer(ear).poll(0)


def test_events_are_believed_but_for_those_that_nobody_knows(ear: Ear, pipe: tuple[int, int]) -> None:
    announcer = Announcer(ear)
    announcer.add(pipe[0], POLLIN)
    announcer.checked(pipe[0], POLLIN)
    assert announcer.checked(pipe[0], POLLIN | POLLHUP | POLLNVAL) == POLLIN | POLLHUP
    assert announcer.checked(pipe[0], POLLNVAL) == 0


def test_the_first_event_may_be_that_of_the_numbers_former_owner(ear: Ear, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    announcer = Announcer(ear)
    announcer.add(reader, POLLIN)
    assert announcer.checked(reader, POLLIN | POLLERR) == 0
    assert announcer.checked(reader, POLLIN) == POLLIN, "once is enough: the next batch was polled after that"
    announcer.remove(reader)
    announcer.add(reader, POLLIN)
    os.write(writer, b"x")
    assert announcer.checked(reader, POLLERR) == POLLIN


def test_how_a_pollfd_shows() -> None:
    assert repr(PollFd(3, POLLIN | POLLOUT, POLLIN)) == "PollFd(fd=3, events=0x5, revents=0x1)"
    assert (PollFd(3).events, PollFd(3).revents) == (0, 0)
