"""wsd/timed.py: the rates and the times of a connection's budget, without a loop; the clock is the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, close_frame, frame
from tests.support.logged import logged
from tests.support.loopless import Loopless
from tests.support.notes import Notes
from wsd import log
from wsd.config import Timeouts
from wsd.protocol import Protocol
from wsd.stream import HOLD_RATE

GONE = b"\x88\x06\x03\xe9idle"
OVER = b"\x88\x0e\x03\xe9session over"


class Whole(Protocol):
    """Notes whole messages."""

    name = "whole"

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def on_message(self, wsi: Any, message: Any) -> None:
        self.messages.append(message)


def line_of(*, is_client: bool = False, on: dict[str, Any] | None = None, **options: Any) -> tuple[Loopless, Notes]:
    """A line with these limits and times; `on`: what hooks do."""
    protocol = Notes(**(on or {}))
    times = {name: options.pop(name) for name in list(options) if name.endswith("_seconds")}
    return Loopless(protocol, is_client=is_client, timeouts=Timeouts(**times), **options), protocol


def texts(count: int, text: str = "x") -> bytes:
    return frame(TEXT, text) * count


def is_paused(line: Loopless) -> bool:
    return bool(line.wsi._hold & HOLD_RATE)


class TestOff:
    def test_a_connection_without_rates_and_times_has_no_meter(self) -> None:
        line, protocol = line_of()
        line.receive(texts(5000))
        for _ in range(50):
            line.context.turn()
        assert protocol.count("receive") == 5000
        assert line.wsi._rare.meter is None
        assert line.wsi._rare.pace is None
        assert line.context.timers.next_deadline() is None

    def test_a_ping_makes_one_that_messages_do_not_meet(self) -> None:
        line, _ = line_of()
        line.receive(frame(PING))
        assert line.wsi._rare.pace is not None
        assert line.wsi._rare.meter is None

    def test_with_a_limit_of_0_a_ping_makes_none(self) -> None:
        line, _ = line_of(max_control_frames_per_second=0)
        line.receive(frame(PING) * 9000)
        for _ in range(50):
            line.context.turn()
        assert line.wsi._rare.pace is None


class TestMessages:
    def test_those_over_it_wait_and_nothing_is_read(self) -> None:
        line, protocol = line_of(max_messages_per_second=10)
        line.receive(texts(30))
        assert protocol.count("receive") == 11  # what shows that it is too much is delivered as well
        assert line.context.interest == 0
        line.context.turn()
        assert protocol.count("receive") == 11

    def test_they_come_at_the_rate(self) -> None:
        line, protocol = line_of(max_messages_per_second=10)
        line.receive(texts(40))
        seconds = 0.0
        while protocol.count("receive") < 40:
            line.context.pass_time(0.05)
            line.context.turn()
            seconds += 0.05
        assert 2.5 < seconds < 3.5
        line.context.pass_time(0.2)  # for the debt that the last one may have left
        assert not is_paused(line)
        assert line.wsi.is_established
        assert line.context.interest == 1

    def test_fragments_are_one_message(self) -> None:
        line, protocol = line_of(max_messages_per_second=2)
        line.receive(frame(TEXT, "a", final=False) + frame(CONTINUATION, "b", final=False) * 8)
        assert protocol.count("receive") == 9
        assert not is_paused(line)

    def test_who_does_not_let_up_is_closed(self) -> None:
        line, protocol = line_of(max_messages_per_second=10, over_rate_seconds=3)
        with logged(log.DEFAULT | log.INFO) as lines:
            line.receive(texts(300))
            for _ in range(100):
                line.context.pass_time(0.05)
            line.context.turn()
        assert line.sent() == b"\x88\x1e\x03\xf0over max_messages_per_second"
        assert 35 <= protocol.count("receive") <= 45
        counters = line.context.counters
        assert counters.over_max_messages_per_second == 1
        assert counters.rate_pauses > 10
        assert [text.partition(": ")[2] for text in lines] == [
            "over max_messages_per_second (10), reading pauses",
            "over max_messages_per_second (10) for 3 s, closing with 1008",
        ]
        line.wsi.reap()
        assert protocol.notes[-1] == ("closed", 1006, "")

    def test_who_keeps_to_it_between_bursts_is_not(self) -> None:
        line, protocol = line_of(max_messages_per_second=10, over_rate_seconds=3)
        for _ in range(20):
            line.receive(texts(15))
            for _ in range(60):
                line.context.pass_time(0.05)
        assert protocol.count("receive") == 300
        assert line.wsi.is_established

    def test_the_peers_close_behind_them_comes_in_its_turn(self) -> None:
        line, protocol = line_of(max_messages_per_second=10)
        line.receive(texts(15) + close_frame(1000))
        assert protocol.count("peer_close") == 0
        line.context.pass_time(0.7)
        line.context.turn()
        assert protocol.count("receive") == 15
        assert protocol.count("peer_close") == 1

    def test_our_own_close_ends_the_pause(self) -> None:
        line, _ = line_of(max_messages_per_second=10)
        line.receive(texts(15))
        line.wsi.close(1000)
        line.context.turn()
        assert line.sent() == b"\x88\x02\x03\xe8"
        line.receive(texts(15) + close_frame(1000))
        line.context.turn()
        assert line.pipe.is_shut
        line.context.pass_time(60)
        assert line.context.counters.over_max_messages_per_second == 0

    def test_the_plugins_flow_control_is_another(self) -> None:
        line, protocol = line_of(max_messages_per_second=10)
        line.receive(texts(15))
        line.wsi.rx_flow_control(False)
        line.context.pass_time(5)
        assert protocol.count("receive") == 11
        line.wsi.rx_flow_control(True)
        line.context.turn()
        assert protocol.count("receive") == 15

    def test_one_that_the_plugin_has_not_taken_is_not_counted_twice(self) -> None:
        line, protocol = line_of(
            max_messages_per_second=10, on={"receive": lambda wsi, data: wsi.rx_flow_control(False) and None}
        )
        line.receive(texts(10))
        for _ in range(9):
            line.wsi.rx_flow_control(True)
            line.context.turn()
        assert protocol.count("receive") == 10
        assert not is_paused(line)

    def test_it_holds_for_what_answers_us_too(self) -> None:
        line, protocol = line_of(is_client=True, max_messages_per_second=10)
        line.receive(frame(TEXT, "x", mask=None) * 30)
        assert protocol.count("receive") == 11


class TestBytes:
    def test_those_over_it_wait(self) -> None:
        line, protocol = line_of(max_bytes_per_second=1000)
        line.receive(texts(8, "x" * 300))
        assert protocol.count("receive") == 4
        line.context.pass_time(0.35)
        line.context.turn()
        assert protocol.count("receive") == 5

    def test_a_part_of_a_message_counts(self) -> None:
        line, _ = line_of(max_bytes_per_second=1000)
        line.receive(frame(BINARY, bytes(5000))[:2000])
        assert is_paused(line)

    def test_who_does_not_let_up_is_closed(self) -> None:
        line, _ = line_of(max_bytes_per_second=1000, over_rate_seconds=2)
        line.receive(texts(200, "x" * 300))
        for _ in range(100):
            line.context.pass_time(0.05)
        assert line.context.counters.over_max_bytes_per_second == 1
        assert b"\x03\xf0over max_bytes_per_second" in line.sent()

    def test_a_piece_that_would_take_longer_than_that_ends_when_it_is_over(self) -> None:
        line, _ = line_of(max_bytes_per_second=100, over_rate_seconds=2)
        line.receive(texts(1, "x" * 1000))
        line.context.pass_time(1.9)
        assert line.wsi.is_established
        line.context.pass_time(0.2)
        assert line.context.counters.over_max_bytes_per_second == 1


class TestControlFrames:
    @pytest.mark.parametrize("opcode", [PING, PONG])
    def test_those_over_it_wait(self, opcode: int) -> None:
        line, _ = line_of(max_control_frames_per_second=10)
        line.receive(frame(opcode) * 20 + texts(1))
        assert is_paused(line)
        line.context.turn()
        if opcode == PING:
            assert line.sent() == b"\x8a\x00" * 11

    def test_they_are_answered_by_and_by(self) -> None:
        line, protocol = line_of(max_control_frames_per_second=10)
        line.receive(frame(PING, "1") * 20 + texts(1))
        for _ in range(40):
            line.context.pass_time(0.05)
        assert line.sent() == b"\x8a\x011" * 20
        assert protocol.count("receive") == 1

    def test_a_flood_is_closed(self) -> None:
        line, _ = line_of(max_control_frames_per_second=10, over_rate_seconds=2)
        line.receive(frame(PING) * 200)
        for _ in range(100):
            line.context.pass_time(0.05)
        assert line.context.counters.over_max_control_frames_per_second == 1
        assert line.sent().endswith(b"\x03\xf0over max_control_frames_per_second")

    def test_by_default_a_thousand_are_no_flood(self) -> None:
        line, _ = line_of()
        line.receive(frame(PING) * 1000)
        for _ in range(10):
            line.context.turn()
        assert line.sent() == b"\x8a\x00" * 1000
        assert line.context.counters.rate_pauses == 0


class TestTimes:
    def test_idle(self) -> None:
        line, protocol = line_of(idle_seconds=10)
        line.context.pass_time(9.9)
        assert line.wsi.is_established
        with logged(log.INFO) as lines:
            line.context.pass_time(0.2)
        line.context.turn()
        assert line.sent() == GONE
        assert lines[0].endswith(": idle_seconds (10) are over, closing with 1001")
        assert line.context.counters.over_idle_seconds == 1
        line.receive(close_frame(1001))
        assert protocol.count("closed") == 0  # only the reaper tells

    @pytest.mark.parametrize("data", [frame(TEXT, "x"), frame(TEXT, "x", final=False), frame(BINARY, bytes(9))[:8]])
    def test_what_comes_of_a_message_puts_it_off(self, data: bytes) -> None:
        line, _ = line_of(idle_seconds=10)
        line.context.pass_time(9)
        line.receive(data)
        line.context.pass_time(9)
        assert line.wsi.is_established
        line.context.pass_time(1.1)
        assert not line.wsi.is_established

    @pytest.mark.parametrize("how", ["send", "write", "broadcast"])
    def test_what_goes_puts_it_off(self, how: str) -> None:
        line, protocol = line_of(idle_seconds=10, on={"writeable": lambda wsi: wsi.write("x") and None})
        line.context.pass_time(9)
        if how == "write":
            line.wsi.callback_on_writable()
        else:
            (line.wsi.send if how == "send" else protocol.broadcast)("x")
        line.context.turn()
        assert line.sent() == b"\x81\x01x"
        line.context.pass_time(9)
        assert line.wsi.is_established
        line.context.pass_time(1.1)
        assert not line.wsi.is_established

    def test_pings_do_not(self) -> None:
        line, _ = line_of(idle_seconds=10)
        for _ in range(5):
            line.context.pass_time(1.9)
            line.receive(frame(PING), frame(PONG))
            line.wsi.ping()
        assert line.wsi.is_established
        line.context.pass_time(1)
        assert not line.wsi.is_established

    def test_nobody_is_idle_whom_we_do_not_hear(self) -> None:
        line, _ = line_of(idle_seconds=10)
        line.wsi.rx_flow_control(False)
        for _ in range(5):
            line.context.pass_time(11)
        assert line.wsi.is_established
        line.wsi.rx_flow_control(True)
        line.context.pass_time(11)
        assert not line.wsi.is_established

    def test_the_first_message(self) -> None:
        line, _ = line_of(first_message_seconds=5)
        line.receive(frame(TEXT, "x", final=False), frame(PING))
        line.context.pass_time(5.1)
        line.context.turn()
        assert line.sent() == b"\x8a\x00\x88\x14\x03\xf0no message in time"
        assert line.context.counters.over_first_message_seconds == 1

    def test_once_it_is_there_it_is_there(self) -> None:
        line, _ = line_of(first_message_seconds=5)
        line.receive(frame(TEXT))
        line.context.pass_time(500)
        assert line.wsi.is_established
        assert line.context.timers.next_deadline() is None

    def test_a_session_ends_however_busy(self) -> None:
        line, _ = line_of(session_seconds=60)
        for _ in range(59):
            line.context.pass_time(1)
            line.receive(frame(TEXT, "x"))
        assert line.wsi.is_established
        line.context.pass_time(1.1)
        line.context.turn()
        assert line.sent() == OVER
        assert line.context.counters.over_session_seconds == 1

    def test_the_soonest_of_all_three(self) -> None:
        line, _ = line_of(session_seconds=60, idle_seconds=30, first_message_seconds=50)
        line.context.pass_time(29)
        line.receive(frame(TEXT))
        line.context.pass_time(29.9)
        assert line.wsi.is_established
        line.context.pass_time(0.2)
        assert line.context.counters.over_idle_seconds == 1

    def test_those_that_we_opened_have_none(self) -> None:
        line, _ = line_of(is_client=True, session_seconds=60, idle_seconds=30, first_message_seconds=50)
        line.context.pass_time(900)
        assert line.wsi.is_established
        assert line.wsi._rare.meter is None

    def test_a_close_takes_them_back(self) -> None:
        line, _ = line_of(session_seconds=1, idle_seconds=2, first_message_seconds=3, close_seconds=9)
        line.wsi.close()
        line.context.pass_time(5)
        counters = line.context.counters
        assert counters.over_session_seconds + counters.over_idle_seconds + counters.over_first_message_seconds == 0

    def test_the_reaper_leaves_none(self) -> None:
        line, _ = line_of(session_seconds=1, max_messages_per_second=1)
        line.receive(texts(9))
        line.wsi.abort()
        line.wsi.reap()
        assert len(line.context.timers) == 0


class TestRenewal:
    """A reload changes the numbers in place; `Context.renew_budgets` has each connection look at them."""

    def change(self, line: Loopless, **numbers: float) -> None:
        for name, value in numbers.items():
            setattr(line.wsi.budget, name, value)
        budget = line.wsi.budget
        budget.has_rates = bool(budget.max_messages_per_second or budget.max_bytes_per_second)
        budget.has_clocks = bool(budget.idle_seconds or budget.session_seconds or budget.first_message_seconds)
        line.wsi.renew_budget()

    def test_of_limits_on_messages(self) -> None:
        line, protocol = line_of()
        self.change(line, max_message_bytes=3, max_frame_bytes=2, max_fragments=1)
        line.receive(frame(TEXT, "ab"), frame(TEXT, "abc"))
        line.context.turn()
        assert protocol.received() == [b"ab"]
        assert b"\x03\xf1frame over 2 bytes" in line.sent()

    def test_of_rates(self) -> None:
        line, protocol = line_of()
        self.change(line, max_messages_per_second=2)
        line.receive(texts(9))
        assert protocol.count("receive") == 3
        self.change(line, max_messages_per_second=0)
        line.context.pass_time(2)
        line.context.turn()
        assert protocol.count("receive") == 9

    def test_of_times_which_count_from_then_where_there_were_none(self) -> None:
        line, _ = line_of()
        line.context.pass_time(100)
        self.change(line, session_seconds=30)
        line.context.pass_time(29)
        assert line.wsi.is_established
        line.context.pass_time(2)
        assert line.context.counters.over_session_seconds == 1

    def test_of_times_which_count_from_the_beginning_where_there_were(self) -> None:
        line, _ = line_of(session_seconds=300)
        line.context.pass_time(100)
        self.change(line, session_seconds=90)
        assert line.context.counters.over_session_seconds == 1

    def test_taken_back(self) -> None:
        line, _ = line_of(session_seconds=30)
        self.change(line, session_seconds=0)
        line.context.pass_time(100)
        assert line.wsi.is_established
        assert len(line.context.timers) == 0


def test_counting_costs_a_whole_message_nothing() -> None:
    """Messages are delivered as they were, with every limit on that this connection does not meet."""
    protocol = Whole()
    line = Loopless(
        protocol,
        timeouts=Timeouts(idle_seconds=5, session_seconds=50, first_message_seconds=5),
        max_messages_per_second=100,
        max_bytes_per_second=1000,
        max_frame_bytes=50,
    )
    line.receive(texts(3) + frame(TEXT, "a", final=False) + frame(PING) + frame(CONTINUATION, "b"))
    assert protocol.messages == ["x", "x", "x", "ab"]
