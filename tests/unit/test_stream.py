"""wsd/stream.py: the choke, who holds input back, and how a connection ends in order."""

from __future__ import annotations

import pytest

from tests.support.loopless import Loopless
from wsd.errors import PipeBroken
from wsd.protocol import Protocol
from wsd.stream import LOW_WATER
from wsd.transport import ERROR, READ, WRITE
from wsd.wsi import Wsi

HI = bytes.fromhex("8182010203046968")[:6] + bytes([0x68 ^ 1, 0x69 ^ 2])


class Echo(Protocol):
    name = "echo"

    def __init__(self) -> None:
        self.closed: list[tuple[int, str]] = []
        self.received: list[bytes] = []

    def on_receive(self, wsi: object, data: bytes) -> None:
        self.received.append(data)

    def on_closed(self, wsi: object, code: int, close_reason: str) -> None:
        self.closed.append((code, close_reason))


@pytest.fixture
def line() -> Loopless:
    return Loopless(Echo())


class TestChoke:
    def test_the_selector_hears_of_writing_only_when_the_kernel_refused(self, line: Loopless) -> None:
        line.wsi.send("hi")
        line.context.turn()
        assert line.context.interest == READ
        line.pipe.room = 1
        line.wsi.send("hi")
        line.context.turn()
        assert line.context.interest == READ | WRITE

    def test_what_was_refused_follows_and_the_selector_is_told(self, line: Loopless) -> None:
        line.pipe.room = 3
        line.wsi.send("hello")
        line.context.turn()
        line.allow()
        assert line.sent() == b"\x81\x05hello"
        assert line.context.interest == READ

    def test_no_send_is_tried_while_choked(self, line: Loopless) -> None:
        line.pipe.room = 0
        line.wsi.send("a")
        line.context.turn()
        line.pipe.room = 1 << 30
        line.wsi.send("b")
        line.context.turn()
        assert line.sent() == b""
        line.allow()
        assert line.sent() == b"\x81\x01a\x81\x01b"

    def test_a_peer_that_does_not_read_is_not_read(self, line: Loopless) -> None:
        line.pipe.room = 0
        line.wsi.send(b"x" * LOW_WATER)
        line.context.turn()
        assert line.context.interest == WRITE
        line.allow()
        assert line.context.interest == READ

    def test_inside_a_message_it_is_read_on_to_its_end(self, line: Loopless) -> None:
        """A client that sends a large message before it reads anything would else wait for ever, and we for it."""
        line.receive(bytes.fromhex("018101020304") + b"i")
        line.pipe.room = 0
        line.wsi.send(b"x" * LOW_WATER)
        line.context.turn()
        assert line.context.interest == READ | WRITE
        line.receive(bytes.fromhex("808101020304") + b"i")
        assert line.context.interest == WRITE

    def test_what_is_queued_for_one_that_does_not_read_ends_its_reading(self) -> None:
        """Else it would go on to the limit of the queue, and be closed for it."""

        class Large(Protocol):
            name = "large"

            def on_message(self, wsi: Wsi, message: str) -> None:
                wsi.send(b"x" * LOW_WATER)

        line = Loopless(Large())
        line.pipe.room = 0
        line.wsi.send("choke")
        line.context.turn()
        assert line.context.interest == READ | WRITE
        line.receive(HI)
        assert line.context.interest == WRITE


class TestSlowReader:
    def choke(self, line: Loopless) -> None:
        line.pipe.room = 0
        line.wsi.send(b"x" * (4 * LOW_WATER))
        line.context.turn()

    def test_one_that_takes_nothing_is_cut(self, line: Loopless) -> None:
        self.choke(line)
        line.context.pass_time(line.binding.budget.slow_reader_seconds + 1)
        assert line.context.dead == [line.wsi]
        assert line.context.counters.slow_readers == 1

    def test_one_that_takes_a_buffer_in_time_lives(self, line: Loopless) -> None:
        self.choke(line)
        line.allow(LOW_WATER)
        line.context.pass_time(line.binding.budget.slow_reader_seconds + 1)
        assert line.context.dead == []
        line.context.pass_time(line.binding.budget.slow_reader_seconds + 1)
        assert line.context.dead == [line.wsi]

    def test_one_that_took_everything_is_forgotten(self, line: Loopless) -> None:
        self.choke(line)
        line.allow()
        line.context.pass_time(line.binding.budget.slow_reader_seconds + 1)
        assert line.context.dead == []


class TestHolds:
    def test_a_held_connection_is_polled_for_nothing(self, line: Loopless) -> None:
        line.wsi.rx_flow_control(False)
        assert line.context.interest == 0
        line.wsi.rx_flow_control(True)
        assert line.context.interest == READ

    def test_a_reset_while_held_is_the_end(self, line: Loopless) -> None:
        line.wsi.rx_flow_control(False)
        line.wsi.on_events(ERROR)
        assert line.context.dead == [line.wsi]
        line.wsi.reap()
        assert line.protocol.closed == [(1006, "")]  # type: ignore[attr-defined]


class TestEnd:
    def test_a_reset_is_noted_once(self, line: Loopless) -> None:
        line.receive(PipeBroken("ECONNRESET"))
        line.wsi.abort()
        assert line.context.dead == [line.wsi]

    def test_end_of_stream_without_a_close_lets_what_was_sent_leave(self, line: Loopless) -> None:
        line.receive(HI)
        line.wsi.send("last")
        line.receive(b"")
        line.context.turn()
        assert line.sent() == b"\x81\x04last"
        assert line.context.dead == [line.wsi]
        line.wsi.reap()
        assert line.protocol.closed == [(1006, "")]  # type: ignore[attr-defined]

    def test_after_both_closes_the_input_is_awaited_to_its_end(self, line: Loopless) -> None:
        line.wsi.close(1000)
        line.context.turn()
        line.receive(bytes.fromhex("88820102030402ea"))
        line.context.turn()
        assert line.pipe.is_shut
        assert line.context.dead == []
        line.receive(b"garbage", b"")
        assert line.context.dead == [line.wsi]

    def test_the_closing_deadline_ends_it_whatever_the_peer_does(self, line: Loopless) -> None:
        line.wsi.close(1000)
        line.context.turn()
        line.context.pass_time(line.binding.budget.close_seconds + 1)
        assert line.context.dead == [line.wsi]

    def test_reaping_leaves_no_timer(self, line: Loopless) -> None:
        line.wsi.set_timer(5)
        line.wsi.set_timeout(5)
        line.wsi.close(1000)
        line.wsi.abort()
        line.wsi.reap()
        assert len(line.context.timers) == 0
        assert line.pipe.is_closed
        assert line.binding.wsi_count == 0
