"""Faults that once broke something, each by itself; what they broke is in the name."""

from __future__ import annotations

import errno
import os
import tty

import pytest

from tests.faults.conversations import CONVERSATIONS
from tests.faults.payloads import LARGE, SMALL
from tests.faults.plugins import Bytes, Echo, Web
from tests.faults.runs import calls_of, run
from tests.faults.syscalls import Cut, Effect, Errno, Schedule
from tests.faults.world import World, new_door
from tests.support.client import BINARY, frame


def always(call: str, name: str) -> Schedule:
    """Every call of that name fails."""
    effect: Effect = Errno(getattr(errno, name))
    return Schedule(choose=lambda number, asked: effect if asked == call else None)


def at_nth(calls: list[str], call: str, nth: int, name: str) -> Schedule:
    """The nth call of that name fails, counted from 0."""
    places = [number for number, asked in enumerate(calls) if asked == call]
    return Schedule({places[nth]: Errno(getattr(errno, name))})


def test_a_slow_reader_lives_though_the_kernel_does_not_tell_what_it_has_read() -> None:
    with new_door() as door:
        schedule = always("ioctl", "ENOTTY")
        run(door, CONVERSATIONS["huge"], schedule, is_whole=True)
        assert schedule.fired


def test_a_terminal_that_hangs_up_while_it_is_written_to() -> None:
    """ioctl(TIOCOUTQ) of one end is EIO as soon as nobody has the other, which was taken for a bug of wsd's own."""
    with new_door() as door, World(door, Schedule(), (Bytes, Echo)) as world:
        master, slave = os.openpty()
        tty.setraw(slave)
        wsi = world.context.adopt_descriptor(slave, "bytes")
        world.settle()
        os.close(master)
        wsi._pipe.in_flight()
        wsi.send(LARGE)
        world.finish()


@pytest.mark.parametrize("name", ["echo", "http", "raw", "client", "descriptors"])
def test_on_closed_comes_though_the_descriptor_is_given_back_with_an_error(name: str) -> None:
    with new_door() as door:
        schedule = always("close", "EIO")
        run(door, CONVERSATIONS[name], schedule, is_whole=True)
        assert schedule.fired


def test_one_that_is_accepted_and_cannot_say_where_is_closed() -> None:
    # On a listener with several addresses each connection is asked which it came to.
    with new_door("0.0.0.0") as door, World(door, always("getsockname", "EINVAL"), (Echo,)) as world:
        peer = world.client()
        assert peer.receive_end() == b""
        world.finish()


def test_a_connect_whose_outcome_cannot_be_asked_for_fails() -> None:
    """The loop was told of the attempt again and again."""
    with new_door() as door:
        schedule = always("getsockopt", "ENOPROTOOPT")
        with World(door, schedule, (Echo,)) as world, new_door() as far:
            url = f"ws://127.0.0.1:{far.getsockname()[1]}/"
            world.record.connects.append(world.context.client_connect(url, protocol="echo"))
            world.finish()
            assert schedule.calls.count("getsockopt") == 1
            assert world.record.of("on_client_connection_error") == 1


@pytest.mark.parametrize("name", ["ENOSPC", "ENOMEM"])
@pytest.mark.parametrize("conversation", ["echo", "raw", "http", "stopped", "adopted", "descriptors"])
def test_what_the_selector_does_not_take_is_closed(conversation: str, name: str) -> None:
    """The reaper took a descriptor out of the table that was never in it, and the loop ended with a KeyError."""
    with new_door() as door:
        run(door, CONVERSATIONS[conversation], always("epoll_ctl", name))


@pytest.mark.parametrize("conversation", ["client", "client_raw", "client_by_proxy"])
def test_a_client_that_the_selector_takes_while_it_connects_and_not_after(conversation: str) -> None:
    with new_door() as door:
        calls, _ = calls_of(door, conversation)
        run(door, CONVERSATIONS[conversation], at_nth(calls, "epoll_ctl", 1, "ENOSPC"))


def test_the_selector_does_not_take_back_what_was_parked() -> None:
    """A descriptor whose other end is gone leaves the table while the plugin wants nothing, and then comes back."""
    with new_door() as door, World(door, always("epoll_ctl", "ENOSPC"), (Bytes, Echo, Web)) as world:
        world.schedule.is_armed = False
        near, end = os.pipe()
        wsi = world.context.adopt_descriptor(near, "bytes")
        world.settle()
        wsi.rx_flow_control(False)
        os.close(end)
        world.settle()
        world.schedule.is_armed = True
        wsi.rx_flow_control(True)
        world.finish()
        assert [calls[-1] for calls in world.record.calls.values()].count("on_raw_close") == 1
        assert world.schedule.fired


@pytest.mark.parametrize("effect", [Errno(errno.EAGAIN), Errno(errno.EINTR), Cut(1)], ids=repr)
def test_a_proxy_header_that_cannot_be_taken_out_is_not_looked_at_twice(effect: Effect) -> None:
    schedule = Schedule(choose=lambda number, call: effect if call == "recv behind MSG_PEEK" else None)
    listen = CONVERSATIONS["proxied"].listen
    with new_door() as door, World(door, schedule, (Echo,), listen=listen) as world:
        peer = world.client()
        peer.send(b"PROXY TCP4 192.0.2.7 19")
        assert peer.receive_end() == b""
        assert schedule.fired
        world.finish()


def test_a_reader_that_is_slow_and_then_resets() -> None:
    with new_door() as door, World(door, Schedule(), (Echo,)) as world:
        peer = world.client(**SMALL)
        peer.open()
        peer.say(LARGE * 4, frame(BINARY, LARGE * 4))
        peer.reset()
        world.finish()
