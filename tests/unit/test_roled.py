"""wsd/roled.py: what a role does to its wsi, without a loop: a script in the kernel's place."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.loopless import Loopless, ScriptedPipe
from tests.support.raws import Bytes
from wsd import CLOSE, OK
from wsd.errors import PipeBroken
from wsd.protocol import Peer
from wsd.raw import Raw
from wsd.stream import LOW_WATER, PARKED
from wsd.transport import ERROR, READ, WRITE
from wsd.wire.closing import DEAD, DRAINING, FINISHING
from wsd.wsi import Wsi

HANGUP = ERROR & ~8  # EPOLLHUP alone


class Line:
    """A raw wsi, and what its plugin was told."""

    def __init__(self, **does: Any) -> None:
        self.protocol = Bytes(**does)
        other = Loopless(self.protocol)  # for its context
        self.context, self.pipe = other.context, ScriptedPipe()
        self.watched: list[int | None] = []
        self.context.watch = lambda fd, mask, function: self.watched.append(mask)  # type: ignore[attr-defined]
        self.context.unwatch = lambda fd: self.watched.append(None)  # type: ignore[attr-defined]
        self.protocol.calls.clear()
        self.protocol.adopted.get()
        context: Any = self.context
        pipe: Any = self.pipe
        self.wsi = Wsi(context, other.binding, pipe, Peer("p", 1), Peer("l", 2), 2, is_client=False)
        self.role = Raw(self.wsi, wait=True)
        self.wsi.watch()

    def adopted(self, leftover: bytes = b"") -> Line:
        self.role.adopted(leftover)
        self.context.turn()
        return self

    def receive(self, *data: bytes | Exception) -> None:
        for piece in data:
            self.pipe.incoming.append(piece)
            self.wsi.on_events(READ)

    def sent(self) -> bytes:
        sent, self.pipe.sent[:] = b"".join(self.pipe.sent), []
        return sent

    def reap(self) -> list[str]:
        assert self.context.dead == [self.wsi]
        self.wsi.unwatch()
        self.wsi.reap()
        return self.protocol.calls


def test_nothing_is_read_before_the_plugin_is_told() -> None:
    line = Line()
    assert (line.watched, line.wsi.is_established) == ([0], False)
    line.adopted()
    assert (line.context.interest, line.wsi.is_established) == (READ, True)
    assert line.protocol.calls == ["raw_adopt"]


def test_bytes_in_and_out() -> None:
    line = Line(raw_receive=lambda wsi, data: wsi.send(data)).adopted()
    line.receive(b"abc", b"\xff")
    line.context.turn()
    assert line.sent() == b"abc\xff"


def test_all_of_one_turn_leaves_in_one_send() -> None:
    line = Line().adopted()
    for _ in range(9):
        line.wsi.send(b"x")
    line.context.turn()
    assert line.pipe.sent == [b"x" * 9]


def test_the_queue_is_before_the_hook() -> None:
    line = Line(raw_writeable=lambda wsi: wsi.write(b"hook")).adopted()
    line.wsi.callback_on_writable()
    line.wsi.send(bytes(LOW_WATER))
    line.wsi.send(b"queued")
    for _ in range(3):
        line.context.turn()
    assert line.sent() == bytes(LOW_WATER) + b"queuedhook"


def test_what_has_no_meaning_without_messages() -> None:
    wsi = Line().adopted().wsi
    assert wsi.ping() == CLOSE
    assert (wsi.is_final_fragment, wsi.remaining_packet_payload, wsi.extensions) == (False, 0, ())


class TestTheEnd:
    def test_the_peers(self) -> None:
        line = Line().adopted()
        line.receive(b"")
        line.context.turn()
        assert line.reap() == ["raw_adopt", "raw_close"]
        assert line.wsi.why == "the other end ended the stream"
        assert not line.pipe.is_shut

    def test_ours(self) -> None:
        line = Line().adopted()
        line.wsi.send(b"last")
        assert (line.wsi.close(), line.wsi.close()) == (OK, CLOSE)
        assert line.wsi._state == FINISHING
        line.context.turn()
        assert (line.sent(), line.wsi._state, line.pipe.is_shut) == (b"last", DRAINING, True)
        line.receive(b"dropped", b"")
        assert line.reap() == ["raw_adopt", "raw_close"]

    def test_a_bad_code_is_refused_here_as_everywhere(self) -> None:
        wsi = Line().adopted().wsi
        with pytest.raises(ValueError, match="close code 1006 must not be sent"):
            wsi.close(1006)
        assert wsi.is_established

    def test_nobody_answers_within_the_deadline(self) -> None:
        line = Line().adopted()
        line.wsi.close()
        line.context.pass_time(line.context.timeouts.close_seconds)
        assert line.wsi._state == DEAD

    def test_an_answer_that_nobody_reads(self) -> None:
        """The peer has ended, and what the plugin still wants to say does not leave."""

        def receive(wsi: Any, data: bytes) -> None:
            wsi.send(data)
            wsi.callback_on_writable()

        line = Line(raw_receive=receive).adopted()
        line.pipe.room = 0
        line.receive(b"x")
        line.context.turn()
        line.receive(b"y", b"")
        assert not line.wsi.is_closing
        line.context.pass_time(line.context.timeouts.close_seconds)
        assert line.wsi.why.startswith("the other end ended the stream")
        assert line.reap()[-1] == "raw_close"

    def test_a_broken_pipe(self) -> None:
        line = Line().adopted()
        line.receive(PipeBroken("ECONNRESET"))
        assert line.reap() == ["raw_adopt", "raw_close"]
        assert line.wsi.why == "ECONNRESET"

    def test_before_the_plugin_is_told(self) -> None:
        line = Line()
        line.wsi.on_events(ERROR)
        line.role.adopted()
        assert line.reap() == []

    def test_the_context_stops_before_the_plugin_is_told(self) -> None:
        line = Line()
        line.wsi.stop()
        line.context.turn()
        line.role.adopted()
        line.receive(b"")
        assert line.reap() == []

    def test_its_clocks_end_with_it(self) -> None:
        line = Line().adopted()
        line.wsi.set_timer(1)
        line.wsi.set_timeout(2)
        line.wsi.close()
        line.context.pass_time(3)
        assert "timer" not in line.protocol.calls
        assert line.wsi.why == "closed by us"


class TestHangUps:
    """poll reports them to who asked for nothing, as long as they last."""

    def test_what_lies_before_it_is_read(self) -> None:
        line = Line().adopted()
        line.pipe.incoming = [b"rest", b""]
        line.wsi.on_events(HANGUP)
        line.wsi.on_events(HANGUP)
        line.context.turn()
        assert line.protocol.wait_for_bytes(4) == b"rest"
        assert line.reap()[-1] == "raw_close"

    def test_while_paused_it_leaves_the_table(self) -> None:
        line = Line().adopted()
        line.wsi.rx_flow_control(False)
        line.wsi.on_events(HANGUP)
        assert (line.watched, line.wsi._mask) == ([0, None], PARKED)
        line.wsi.on_events(HANGUP)  # the same turn's, handed out already
        line.wsi.rx_flow_control(True)
        assert line.watched == [0, None, READ]

    def test_one_that_ends_there_is_not_taken_from_the_table_again(self) -> None:
        line = Line().adopted()
        line.wsi.rx_flow_control(False)
        line.wsi.on_events(HANGUP)
        line.wsi.abort()
        line.reap()
        assert line.watched == [0, None]

    def test_with_an_error_it_is_lost(self) -> None:
        line = Line().adopted()
        line.wsi.rx_flow_control(False)
        line.wsi.on_events(ERROR)
        assert line.wsi.why == "ECONNRESET"


class TestLeftovers:
    def test_they_come_after_the_wsi(self) -> None:
        line = Line().adopted(b"early")
        assert line.protocol.calls == ["raw_adopt", "raw_receive"]

    def test_they_wait_as_all_input_does(self) -> None:
        line = Line(raw_adopt=lambda wsi: wsi.rx_flow_control(False)).adopted(b"early")
        line.receive(b"later")
        assert line.protocol.received.empty()
        line.wsi.rx_flow_control(True)
        line.context.turn()
        line.wsi.on_events(READ)
        assert line.protocol.wait_for_bytes(10) == b"earlylater"

    def test_a_close_forgets_them(self) -> None:
        line = Line(raw_adopt=lambda wsi: wsi.rx_flow_control(False)).adopted(b"early")
        line.wsi.close()
        line.context.turn()
        line.receive(b"")
        assert line.reap() == ["raw_adopt", "raw_close"]

    def test_a_plugin_that_closes_at_once_gets_none(self) -> None:
        line = Line(raw_adopt=lambda wsi: CLOSE).adopted(b"early")
        line.context.turn()
        assert line.protocol.calls == ["raw_adopt"]


def test_more_that_is_queued_while_the_peer_reads_nothing_stops_the_input() -> None:
    line = Line(raw_receive=lambda wsi, data: wsi.send(bytes(LOW_WATER))).adopted()
    line.pipe.room = 0
    line.receive(b"x")
    line.context.turn()
    assert line.context.interest == WRITE
    line.pipe.room = 1 << 20
    line.wsi.on_events(WRITE)
    assert line.context.interest == READ
