"""wsd/timed.py without a loop: the plugin's timer and timeout, and pings to a silent peer."""

from __future__ import annotations

import pytest

from tests.support.client import PING, PONG, TEXT, frame
from tests.support.loopless import Loopless
from tests.support.notes import Notes, line_of
from wsd.config import Keepalive

FINISHED = b"\x88\x02\x03\xe8"
"""Close 1000, as the server sends it."""


class TestTimers:
    def test_set_timer_is_once_and_the_latest_counts(self) -> None:
        line, protocol = line_of()
        line.wsi.set_timer(1)
        line.wsi.set_timer(3)
        line.context.pass_time(2)
        assert protocol.count("timer") == 0
        line.context.pass_time(2)
        line.context.pass_time(9)
        assert protocol.count("timer") == 1

    def test_none_takes_it_back(self) -> None:
        line, protocol = line_of()
        line.wsi.set_timer(1)
        line.wsi.set_timer(None)
        line.wsi.set_timeout(1)
        line.wsi.set_timeout(None)
        line.context.pass_time(2)
        assert protocol.count("timer") == 0
        assert line.wsi.is_established

    def test_set_timeout_closes_with_1008(self) -> None:
        line, _ = line_of()
        line.wsi.set_timeout(1)
        line.context.pass_time(2)
        line.context.turn()
        assert line.sent() == b"\x88\x0b\x03\xf0timed out"

    def test_a_close_takes_them_back(self) -> None:
        line, protocol = line_of()
        line.wsi.set_timer(1)
        line.wsi.set_timeout(1)
        line.wsi.close()
        line.context.pass_time(2)
        assert protocol.count("timer") == 0
        assert line.sent() == FINISHED


class TestKeepalive:
    @pytest.fixture
    def alive(self) -> tuple[Loopless, Notes]:
        """A line whose own pings go after 20 s, and that hangs up 10 s later."""
        line, protocol = line_of()
        line.context.keepalive = Keepalive(ping_seconds=20, hangup_seconds=10)
        line.wsi._schedule_keepalive(20)
        return line, protocol

    def ping(self, line: Loopless) -> bytes:
        """The payload of the ping that must be all that left."""
        line.context.turn()
        sent = line.sent()
        assert sent[0] == 0x80 | PING
        assert sent[1] == len(sent) - 2
        return sent[2:]

    def test_a_silent_peer_is_pinged_and_then_hung_up_on(self, alive: tuple[Loopless, Notes]) -> None:
        line, protocol = alive
        line.context.pass_time(19)
        assert line.sent() == b""
        line.context.pass_time(1)
        self.ping(line)
        line.context.pass_time(9)
        assert line.context.dead == []
        line.context.pass_time(1)
        assert line.context.dead == [line.wsi]
        assert line.context.counters.hangups == 1
        line.wsi.reap()
        assert protocol.notes[-1] == ("closed", 1006, "")

    def test_an_answer_keeps_it_and_is_not_the_plugins(self, alive: tuple[Loopless, Notes]) -> None:
        line, protocol = alive
        line.context.pass_time(20)
        payload = self.ping(line)
        line.context.now += 5
        line.receive(frame(PONG, payload))
        line.context.pass_time(5)
        assert line.context.dead == []
        assert protocol.count("pong") == 0
        line.context.pass_time(15)
        assert self.ping(line) != payload

    def test_one_that_answers_is_pinged_as_often_as_asked_however_long_the_hang_up(
        self, alive: tuple[Loopless, Notes]
    ) -> None:
        """What the proxy between relies on."""
        line, _ = alive
        line.context.keepalive = Keepalive(ping_seconds=20, hangup_seconds=300)
        for _ in range(5):
            line.context.pass_time(20)
            line.receive(frame(PONG, self.ping(line)))
        line.context.pass_time(20)
        self.ping(line)
        for _ in range(14):
            line.context.pass_time(20)
        assert line.sent() == b""
        assert line.context.dead == []
        line.context.pass_time(20)
        assert line.context.dead == [line.wsi]

    def test_any_sign_of_life_will_do(self, alive: tuple[Loopless, Notes]) -> None:
        line, _ = alive
        for _ in range(10):
            line.context.now += 15
            line.receive(frame(TEXT, b"x"))
            line.context.turn()
        assert line.sent() == b""
        assert line.context.dead == []

    def test_a_late_answer_to_an_older_ping_of_ours_is_not_the_plugins_either(
        self, alive: tuple[Loopless, Notes]
    ) -> None:
        line, protocol = alive
        line.context.pass_time(20)
        first = self.ping(line)
        line.receive(frame(TEXT, b"x"))  # alive, but its pong is late
        line.context.pass_time(10)
        line.context.pass_time(10)
        second = self.ping(line)
        line.receive(frame(PONG, first), frame(PONG, second))
        assert protocol.count("pong") == 0

    def test_a_plugins_own_ping_is_answered_to_it(self, alive: tuple[Loopless, Notes]) -> None:
        line, protocol = alive
        line.context.pass_time(20)
        self.ping(line)
        line.receive(frame(PONG, b""), frame(PONG, b"wsd "), frame(PONG, b"mine"))
        assert [note for note in protocol.notes if note[0] == "pong"] == [
            ("pong", b""),
            ("pong", b"wsd "),
            ("pong", b"mine"),
        ]

    def test_while_we_do_not_read_nobody_is_hung_up_on(self, alive: tuple[Loopless, Notes]) -> None:
        line, _ = alive
        line.context.pass_time(20)
        self.ping(line)
        line.wsi.rx_flow_control(False)
        for _ in range(10):
            line.context.pass_time(20)
        assert line.sent() == b""
        assert line.context.dead == []
        line.wsi.rx_flow_control(True)
        line.context.pass_time(20)
        self.ping(line)
        line.context.pass_time(10)
        assert line.context.dead == [line.wsi]
