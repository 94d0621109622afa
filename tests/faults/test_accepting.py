"""accept(2) that fails: those who wait are served as soon as it can be, and nobody spins meanwhile."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.plugins import Echo
from tests.faults.syscalls import DOCUMENTED, Effect, Errno, Schedule
from tests.faults.world import World, new_door
from tests.support.timing import MS

# accept(2) says of these: "the application should detect [them] and treat them like EAGAIN by retrying"; and
# libwebsockets does the same with a connection that was gone before we came, or that a firewall did not want.
GONE = [
    "ECONNABORTED",
    "EPROTO",
    "ENETDOWN",
    "ENOPROTOOPT",
    "EHOSTDOWN",
    "ENONET",
    "EHOSTUNREACH",
    "EOPNOTSUPP",
    "ENETUNREACH",
    "EPERM",
    "EINTR",
]

EXHAUSTED = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]


def failing(number: int, times: int) -> Schedule:
    """The first `times` calls of accept fail."""
    left = [times]

    def choose(_: int, call: str) -> Effect | None:
        if call != "accept" or not left[0]:
            return None
        left[0] -= 1
        return Errno(number)

    return Schedule(choose=choose)


@pytest.mark.parametrize("name", GONE)
def test_one_that_is_gone_does_not_hold_up_the_next(name: str) -> None:
    number = getattr(errno, name)
    with new_door() as door, World(door, failing(number, 1), (Echo,)) as world:
        before, started = world.context.counters.turns, world.clock.now
        first, second = world.client(), world.client()
        second.open()
        second.say("hello")
        assert second.receive_message() == "hello"
        assert world.clock.now == started  # nobody had to wait
        assert world.context.counters.accept_pauses == 0
        assert world.context.counters.turns - before < 10
        assert world.context.counters.accepted == (2 if name == "EINTR" else 1)
        first.disconnect()
        second.finish()
        world.finish()


@pytest.mark.parametrize("name", EXHAUSTED)
@pytest.mark.parametrize("times", [1, 5])
def test_with_nothing_to_be_had_accepting_rests(name: str, times: int) -> None:
    schedule = failing(getattr(errno, name), times)
    with new_door() as door, World(door, schedule, (Echo,)) as world:
        before, started = world.context.counters.turns, world.clock.now
        peer = world.client()
        world.turn()
        assert schedule.calls.count("accept") == 1  # and not 64 times, as often as a turn accepts
        assert not world.is_ready(20 * MS)  # the loop sleeps, though somebody waits
        world.beside_speaks()  # the others are served as ever
        assert world.beside.receive_message() == "beside 0"
        assert world.clock.now == started
        peer.open()
        assert schedule.calls.count("accept") == times + 2  # one that went well, and one that found nobody else
        assert world.clock.now - started == pytest.approx(times * 0.1)
        assert world.context.counters.turns - before < 10 + 2 * times
        assert world.context.counters.accept_pauses == times
        peer.finish()
        world.finish()


@pytest.mark.parametrize("number", sorted(set(DOCUMENTED["accept"])), ids=errno.errorcode.get)
def test_whatever_it_says_time_and_again_no_loop_spins(number: int) -> None:
    schedule = failing(number, 200)
    with new_door() as door, World(door, schedule, (Echo,)) as world:
        before = world.context.counters.turns
        peers = [world.client() for _ in range(3)]
        world.sleep(2)
        # A turn that finds connections gone takes 64 of them; one that is told of anything else rests a tenth of a
        # second.  EAGAIN and EINTR are told while somebody waits there only by a schedule like this one.
        harmless = number in (errno.EAGAIN, errno.EINTR)
        assert world.context.counters.turns - before < (210 if harmless else 60)
        for peer in peers:
            peer.disconnect()
        world.finish()


def test_a_listener_rests_with_all_others() -> None:
    with new_door() as door, new_door() as other, World(door, failing(errno.EMFILE, 1), (Echo,)) as world:
        second = world.context.listen(sock=other.dup(), protocols=world.protocols)
        peer = world.client()
        world.turn()
        assert second._mask == world.listener._mask == 0
        peer.open()
        assert second._mask == world.listener._mask != 0
        peer.finish()
        world.context.remove_listener(second)
        world.finish()


@contextmanager
def no_descriptors_left() -> Iterator[list[int]]:
    """The process has all the descriptors that it may have; gives those that fill the gaps."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    plugs = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                plugs.append(os.dup(plugs[0]))
        yield plugs
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for plug in plugs:
            os.close(plug)


def test_at_the_limit_of_descriptors_itself() -> None:
    schedule = Schedule()
    with new_door() as door, World(door, schedule, (Echo,)) as world:
        peers = [world.client() for _ in range(3)]
        with no_descriptors_left() as plugs:
            before = world.context.counters.turns
            for _ in range(5):
                world.turn()
            assert schedule.calls.count("accept") == 1
            world.sleep(1)
            assert world.context.counters.accepted == 0
            assert world.context.counters.turns - before <= 5 + 2 * 10  # one to resume and one to fail, ten times
            for plug in (plugs.pop(), plugs.pop()):  # room for two
                os.close(plug)
            peers[0].open()
            peers[1].open()
            world.beside_speaks()
            assert world.beside.receive_message() == "beside 0"
            assert world.context.counters.accepted == 2
            peers[0].finish()  # which makes room for the third
            peers[2].open()
        peers[1].finish()
        peers[2].finish()
        world.finish()
