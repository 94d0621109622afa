"""wsd/wsi.py without a loop: what is delivered and when, what a piece says of itself, closes, timers, keepalive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, close_frame, frame
from tests.support.loopless import REQUEST, Loopless
from wsd import CLOSE, Protocol
from wsd.config import Keepalive
from wsd.wsi import PIECES_PER_TURN

FINISHED = b"\x88\x02\x03\xe8"
"""Close 1000, as the server sends it."""


class Notes(Protocol):
    """Notes every hook; `on` runs a function in one of them and gives what it answers."""

    name = "notes"

    def __init__(self, **on: Callable[..., Any]) -> None:
        self.on = on
        self.notes: list[Any] = []

    def _note(self, hook: str, *what: Any) -> Any:
        self.notes.append((hook, *what[1:]))
        function = self.on.get(hook)
        return function(*what) if function else None

    def on_established(self, wsi: Any) -> Any:
        return self._note("established", wsi)

    def on_receive(self, wsi: Any, data: bytes) -> Any:
        return self._note("receive", wsi, data)

    def on_writeable(self, wsi: Any) -> Any:
        return self._note("writeable", wsi)

    def on_pong(self, wsi: Any, payload: bytes) -> Any:
        return self._note("pong", wsi, payload)

    def on_peer_close(self, wsi: Any, code: int, close_reason: str) -> Any:
        return self._note("peer_close", wsi, code, close_reason)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self._note("closed", wsi, code, close_reason)

    def on_timer(self, wsi: Any) -> Any:
        return self._note("timer", wsi)

    def received(self) -> list[bytes]:
        return [note[1] for note in self.notes if note[0] == "receive"]

    def count(self, hook: str) -> int:
        return sum(note[0] == hook for note in self.notes)


def line_of(**on: Callable[..., Any]) -> tuple[Loopless, Notes]:
    protocol = Notes(**on)
    return Loopless(protocol), protocol


class TestFacts:
    def test_its_tag_names_protocol_number_and_peer(self) -> None:
        line, _ = line_of()
        assert line.wsi.tag == "notes#1 192.0.2.1:9"
        assert repr(line.wsi) == "<Wsi notes#1 192.0.2.1:9>"

    def test_what_a_plugin_may_look_at(self) -> None:
        line, protocol = line_of()
        wsi = line.wsi
        assert wsi.protocol is protocol
        assert wsi.request is REQUEST
        assert (wsi.subprotocol, wsi.extensions, wsi.is_client, wsi.fileno()) == ("notes", (), False, 7)
        assert (wsi.is_established, wsi.is_closing) == (True, False)
        wsi.close()
        assert (wsi.is_established, wsi.is_closing) == (False, True)

    def test_outside_a_receive_there_is_no_piece(self) -> None:
        line, _ = line_of()
        line.receive(frame(BINARY, b"x"))
        wsi = line.wsi
        assert (wsi.is_first_fragment, wsi.is_final_fragment, wsi.frame_is_binary) == (False, False, False)
        assert wsi.remaining_packet_payload == 0


class TestPieces:
    def test_flags_of_fragments_and_of_pieces_of_one_frame(self) -> None:
        seen: list[tuple[bytes, bool, bool, int, bool]] = []

        def look(wsi: Any, data: bytes) -> None:
            seen.append(
                (
                    data,
                    wsi.is_first_fragment,
                    wsi.is_final_fragment,
                    wsi.remaining_packet_payload,
                    wsi.frame_is_binary,
                )
            )

        line, _ = line_of(receive=look)
        line.receive(frame(TEXT, b"whole"))
        line.receive(frame(BINARY, b"one", final=False))
        late = frame(CONTINUATION, b"twothree")
        line.receive(late[:9], late[9:])
        assert seen == [
            (b"whole", True, True, 0, False),
            (b"one", True, False, 0, True),
            (b"two", False, False, 5, True),
            (b"three", False, True, 0, True),
        ]

    def test_what_came_with_the_request_is_delivered_after_established(self) -> None:
        line, protocol = line_of()
        line.wsi.upgrade(line.binding, REQUEST, None, b"101", frame(TEXT, b"early"))
        assert protocol.notes[1:] == [("established",), ("receive", b"early")]

    def test_so_many_in_a_turn_and_the_rest_in_the_next(self) -> None:
        line, protocol = line_of()
        line.receive(frame(TEXT, b"x") * (PIECES_PER_TURN + 10))
        assert protocol.count("receive") == PIECES_PER_TURN
        line.context.turn()
        assert protocol.count("receive") == PIECES_PER_TURN + 10
        assert line.context.backlogs == []

    def test_a_close_behind_many_pieces_waits_for_them(self) -> None:
        line, protocol = line_of()
        line.receive(frame(TEXT, b"x") * (PIECES_PER_TURN + 10) + close_frame(4000))
        assert protocol.count("peer_close") == 0
        line.context.turn()
        assert protocol.notes[-2:] == [("receive", b"x"), ("peer_close", 4000, "")]


class TestFlowControl:
    def test_it_stops_inside_one_read_and_goes_on_in_order(self) -> None:
        line, protocol = line_of(receive=lambda wsi, data: wsi.rx_flow_control(data != b"2"))
        line.receive(b"".join(frame(TEXT, str(i)) for i in range(5)))
        assert protocol.received() == [b"0", b"1", b"2"]
        assert line.context.interest == 0
        line.context.turn()
        assert len(protocol.received()) == 3
        line.wsi.rx_flow_control(True)
        assert len(protocol.received()) == 3, "a hook ran inside the call"
        line.context.turn()
        assert protocol.received() == [b"0", b"1", b"2", b"3", b"4"]
        assert line.context.interest == 1

    def test_off_and_on_inside_one_hook_changes_nothing(self) -> None:
        line, protocol = line_of(receive=lambda wsi, data: wsi.rx_flow_control(False) or wsi.rx_flow_control(True))
        line.receive(frame(TEXT, b"a") + frame(TEXT, b"b"))
        line.context.turn()
        assert protocol.received() == [b"a", b"b"]

    def test_a_violation_behind_held_pieces_waits_for_them(self) -> None:
        line, protocol = line_of(receive=lambda wsi, data: wsi.rx_flow_control(False))
        line.receive(frame(TEXT, b"a") + frame(TEXT, b"b") + frame(3, b""))
        line.context.turn()
        assert line.sent() == b""
        for _ in range(3):
            line.wsi.rx_flow_control(True)
            line.context.turn()
        assert protocol.received() == [b"a", b"b"]
        assert b"\x03\xea" in line.sent()

    def test_off_before_established_holds_what_came_with_the_request(self) -> None:
        line, protocol = line_of(established=lambda wsi: wsi.rx_flow_control(False))
        line.wsi.upgrade(line.binding, REQUEST, None, b"", frame(TEXT, b"a"))
        line.context.turn()
        assert protocol.received() == []
        line.wsi.rx_flow_control(True)
        line.context.turn()
        assert protocol.received() == [b"a"]

    def test_nothing_is_delivered_after_a_close_that_lay_before_it(self) -> None:
        line, protocol = line_of(receive=lambda wsi, data: CLOSE)
        line.receive(frame(TEXT, b"a") + frame(TEXT, b"b"))
        line.context.turn()
        assert protocol.received() == [b"a"]
        assert line.sent() == FINISHED


class TestPeerClose:
    @pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
    def test_the_code_is_echoed_and_told(self, code: int) -> None:
        line, protocol = line_of()
        line.receive(close_frame(code, "bye"))
        line.context.turn()
        assert line.sent() == b"\x88\x02" + code.to_bytes(2, "big")
        line.receive(b"")
        line.wsi.reap()
        assert protocol.notes[1:] == [("peer_close", code, "bye"), ("closed", code, "bye")]

    def test_without_a_code_it_is_1005_and_the_echo_has_none(self) -> None:
        line, protocol = line_of()
        line.receive(close_frame(None))
        line.context.turn()
        assert line.sent() == b"\x88\x00"
        line.wsi.abort()
        line.wsi.reap()
        assert protocol.notes[-1] == ("closed", 1005, "")

    def test_close_as_the_answer_ends_without_an_echo(self) -> None:
        line, _ = line_of(peer_close=lambda wsi, code, reason: CLOSE)
        line.receive(close_frame(1000))
        line.context.turn()
        assert line.sent() == b""
        assert line.pipe.is_shut

    def test_the_hook_may_answer_with_another_code(self) -> None:
        line, _ = line_of(peer_close=lambda wsi, code, reason: wsi.close(4001) and None)
        line.receive(close_frame(1000))
        line.context.turn()
        assert line.sent() == b"\x88\x02\x0f\xa1"

    def test_ours_crosses_theirs(self) -> None:
        line, protocol = line_of()
        line.wsi.close(4000)
        line.context.turn()
        assert line.sent() == b"\x88\x02\x0f\xa0"
        line.receive(frame(TEXT, b"late") + close_frame(1001))
        line.context.turn()
        assert line.sent() == b""
        assert line.pipe.is_shut
        line.receive(b"")
        line.wsi.reap()
        assert protocol.notes[1:] == [("closed", 1001, "")]

    def test_a_stream_that_ends_while_our_close_cannot_leave_is_not_awaited(self) -> None:
        line, _ = line_of()
        line.pipe.room = 0
        line.wsi.send("x")
        line.context.turn()
        line.wsi.close(4000)
        line.receive(b"")
        line.allow()
        line.context.turn()
        assert line.sent() == b"\x81\x01x\x88\x02\x0f\xa0"
        assert line.context.dead == [line.wsi], "it waits for an answer that cannot come"

    def test_pausing_in_the_last_hook_call_does_not_cut_the_end_short(self) -> None:
        line, _ = line_of(
            receive=lambda wsi, data: wsi.callback_on_writable(),
            writeable=lambda wsi: wsi.rx_flow_control(False),
        )
        line.receive(frame(TEXT, b"a") + close_frame(1000))
        line.context.turn()
        line.context.turn()
        assert line.sent() == FINISHED
        assert line.context.dead == [], "closed with input unread: the peer would see a reset"
        assert line.pipe.is_shut
        line.receive(b"")
        assert line.context.dead == [line.wsi]


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


def test_after_the_end_nothing_runs_whatever_comes() -> None:
    line, protocol = line_of()
    line.receive(frame(TEXT, b"x") * (PIECES_PER_TURN + 5))
    line.wsi.callback_on_writable()
    line.wsi.abort()
    line.wsi.reap()
    before = list(protocol.notes)
    assert before[-1] == ("closed", 1006, "")
    line.wsi.resume()
    line.wsi.service_write()
    line.receive(frame(TEXT, b"y"), b"")
    line.wsi.abort()
    line.context.pass_time(1000)
    assert protocol.notes == before
