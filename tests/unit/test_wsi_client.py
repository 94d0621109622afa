"""wsd/wsi.py as a client's end: the same hooks, and who ends the stream after an orderly close."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, TEXT, Frame
from tests.support.client import frame as any_frame
from tests.support.hearing import Hearing
from tests.support.loopless import REQUEST, Loopless, ScriptedPipe
from tests.support.notes import Notes
from wsd.errors import PipeBroken
from wsd.protocol import Peer
from wsd.wire.closing import DEAD, DRAINING
from wsd.wsi import Wsi


def frame(opcode: int, payload: bytes | str = b"", *, final: bool = True) -> bytes:
    """A frame of the server's."""
    return any_frame(opcode, payload, final=final, mask=None)


BYE = frame(CLOSE, b"\x0f\xa1bye")


class Line(Loopless):
    """A client's end, and what the server hears."""

    def __init__(self, **on: Any) -> None:
        self.notes = Notes(**on)
        super().__init__(self.notes, is_client=True)
        self.hearing = Hearing(is_masked=True)

    def turn(self) -> list[Frame]:
        self.context.turn()
        return self.hearing.hear(self.sent())

    def ended(self) -> list[Any]:
        """What `on_closed` was told, the reaper having come."""
        assert self.context.dead == [self.wsi]
        self.wsi.reap()
        return [note[1:] for note in self.notes.notes if note[0] == "closed"]


class TestFacts:
    def test_what_a_plugin_may_look_at(self) -> None:
        wsi = Line().wsi
        assert (wsi.is_client, wsi.listener, wsi.is_established) == (True, None, True)
        assert (wsi.subprotocol, wsi.extensions, wsi.reconnect) == ("notes", (), None)
        assert wsi.request is REQUEST

    def test_one_without_a_socket_yet(self) -> None:
        line = Line()
        wsi = Wsi(line.context, line.binding, None, Peer("", 0), Peer("", 0), 2)  # type: ignore[arg-type]
        assert (wsi.fileno(), wsi.is_client, wsi.is_established, wsi.is_closing) == (-1, True, False, False)
        assert wsi.send("x") == -1
        wsi.abort()
        wsi.reap()
        assert wsi.fileno() == -1


class TestReceiving:
    def test_pieces_and_control_frames(self) -> None:
        line = Line()
        line.receive(frame(TEXT, "whole") + frame(BINARY, "one", final=False) + frame(PING, "?"))
        line.receive(frame(CONTINUATION, "two"))
        assert line.notes.received() == [b"whole", b"one", b"two"]

    def test_a_masked_frame_is_1002(self) -> None:
        line = Line()
        line.receive(frame(TEXT, "good") + any_frame(TEXT, "bad"))
        (close,) = line.turn()
        assert (close.close_code, close.close_reason) == (1002, "frame masked")
        assert line.notes.received() == [b"good"]
        assert line.context.counters.protocol_errors == 1

    def test_what_came_with_the_answer_is_delivered_after_established(self) -> None:
        line = Line()
        line.wsi.establish("notes", frame(TEXT, "early"), None)
        assert line.notes.notes[1:] == [("established",), ("receive", b"early")]


class TestOrderlyClose:
    """7.1.1: "the underlying TCP connection, in most normal cases, SHOULD be closed first by the server, so that it
    holds the TIME_WAIT state and not the client"."""

    @pytest.mark.parametrize("is_ours_first", [True, False])
    def test_the_servers_end_is_awaited(self, is_ours_first: bool) -> None:
        line = Line()
        if is_ours_first:
            line.wsi.close(4000)
            assert [one.close_code for one in line.turn()] == [4000]
            line.receive(BYE)
            assert line.turn() == []
        else:
            line.receive(BYE)
            assert [one.close_code for one in line.turn()] == [4001]
        assert line.wsi._state == DRAINING
        assert not line.pipe.is_shut
        line.context.pass_time(line.binding.budget.close_seconds / 2)
        assert not line.pipe.is_shut
        line.receive(b"")
        assert line.ended() == [(4001, "bye")]

    @pytest.mark.parametrize("late", [frame(TEXT, "late"), b"\xff" * 100, BYE])
    def test_what_comes_before_it_is_discarded(self, late: bytes) -> None:
        line = Line()
        line.receive(BYE)
        line.turn()
        line.receive(late, b"")
        assert line.notes.received() == []
        assert line.ended() == [(4001, "bye")]

    def test_only_until_the_deadline(self) -> None:
        line = Line()
        line.receive(BYE)
        line.turn()
        line.context.pass_time(line.binding.budget.close_seconds + 1)
        assert not line.pipe.is_shut
        assert line.ended() == [(4001, "bye")]
        assert line.pipe.is_closed

    def test_a_reset_is_an_end_too(self) -> None:
        line = Line()
        line.receive(BYE)
        line.turn()
        line.receive(PipeBroken("ECONNRESET"))
        assert line.ended() == [(4001, "bye")]


class TestOtherEnds:
    """Where no Close was heard, or none was sent, there is nothing to wait for."""

    def test_after_a_violation_we_end_it(self) -> None:
        line = Line()
        line.receive(frame(3))
        assert [one.close_code for one in line.turn()] == [1002]
        assert line.pipe.is_shut
        line.receive(b"")
        assert line.ended() == [(1006, "")]

    def test_after_a_violation_in_place_of_the_answer_to_our_close(self) -> None:
        line = Line()
        line.wsi.close(4000)
        line.turn()
        line.receive(frame(3))
        assert line.turn() == []
        assert line.pipe.is_shut
        line.receive(b"")
        assert line.ended() == [(1006, "")]

    def test_when_the_hook_wants_no_echo(self) -> None:
        line = Line(peer_close=lambda wsi, code, reason: -1)
        line.receive(BYE)
        assert line.turn() == []
        assert line.pipe.is_shut
        line.receive(b"")
        assert line.ended() == [(4001, "bye")]

    def test_a_server_that_never_answers(self) -> None:
        line = Line()
        line.wsi.close(4000)
        line.turn()
        line.context.pass_time(line.binding.budget.close_seconds + 1)
        assert line.ended() == [(1006, "")]

    def test_a_server_that_ends_the_stream_without_a_close(self) -> None:
        line = Line()
        line.wsi.send("on its way")
        line.receive(b"")
        assert line.turn() == [Frame(TEXT, b"on its way")]
        assert line.wsi._state == DEAD
        assert line.ended() == [(1006, "")]


class Reconnecting:
    """In place of `wsd.reconnect`: counts how often it was asked."""

    def __init__(self) -> None:
        self.count = 0

    def schedule(self) -> None:
        self.count += 1


ENDS: dict[str, bytes | Exception] = {
    "peer close": BYE,
    "violation": frame(3),
    "reset": PipeBroken("ECONNRESET"),
    "end": b"",
}


class TestReconnect:
    @pytest.mark.parametrize("how", [*ENDS, "timeout"])
    def test_an_end_that_was_not_the_plugins(self, how: str) -> None:
        line = Line()
        line.wsi.reconnect = again = Reconnecting()  # type: ignore[assignment]
        if how == "timeout":
            line.wsi.set_timeout(1)
            line.context.pass_time(2)
        else:
            line.receive(ENDS[how])
        line.turn()
        line.context.pass_time(line.binding.budget.close_seconds + 1)
        line.ended()
        assert again.count == 1

    @pytest.mark.parametrize("is_answered", [True, False])
    def test_not_when_the_plugin_closed_it(self, is_answered: bool) -> None:
        line = Line()
        line.wsi.reconnect = again = Reconnecting()  # type: ignore[assignment]
        line.wsi.close(4000)
        line.turn()
        if is_answered:
            line.receive(BYE)
        line.context.pass_time(line.binding.budget.close_seconds + 1)
        line.ended()
        assert again.count == 0

    def test_close_as_a_hooks_answer_is_the_plugins(self) -> None:
        line = Line(receive=lambda wsi, data: -1)
        line.wsi.reconnect = again = Reconnecting()  # type: ignore[assignment]
        line.receive(frame(TEXT, "x"))
        line.turn()
        line.wsi.abort()
        line.ended()
        assert again.count == 0


class Role:
    """A client's role that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def receive(self, data: bytes) -> None:
        self.heard.append(data)

    def writable(self) -> None:
        self.heard.append("writable")

    def write(self, data: bytes, final: bool) -> None:
        self.heard.append((data, final))

    def end_of_input(self) -> None:
        self.heard.append("end")

    def timed_out(self) -> None:
        self.heard.append("timed out")

    def close_asked(self) -> None:
        self.heard.append("close")

    def stop(self) -> None:
        self.heard.append("stop")

    def closed(self) -> None:
        self.heard.append("closed")


class TestBeforeEstablished:
    @pytest.fixture
    def line(self) -> Line:
        """A client that connects: it has a role and no socket."""
        line = Line()
        line.wsi = Wsi(line.context, line.binding, None, Peer("", 0), Peer("", 0), 2)  # type: ignore[arg-type]
        line.wsi.role = Role()
        line.context.watch = lambda fd, mask, function: None  # type: ignore[attr-defined]
        return line

    def heard(self, line: Line) -> list[Any]:
        assert isinstance(line.wsi.role, Role)
        return line.wsi.role.heard

    def test_its_socket_comes_and_the_role_hears_of_everything(self, line: Line) -> None:
        pipe = line.pipe = ScriptedPipe()
        line.wsi.attach(pipe, Peer("192.0.2.7", 80), Peer("192.0.2.8", 9))  # type: ignore[arg-type]
        assert (line.wsi.fileno(), str(line.wsi.peer.address)) == (7, "192.0.2.7")
        line.wsi.put(b"GET")
        line.wsi.callback_on_writable()
        line.context.turn()
        assert line.sent() == b"GET"
        line.receive(b"HTTP", b"")
        line.wsi.set_deadline(1)
        line.context.pass_time(2)
        line.wsi.stop()
        assert self.heard(line) == ["writable", b"HTTP", "end", "timed out", "stop"]

    def test_to_close_is_the_roles(self, line: Line) -> None:
        role = self.heard(line)
        line.wsi.close()
        line.wsi.abort()
        line.wsi.reap()
        assert role == ["close", "closed"]
        assert line.notes.notes == [("established",)], "on_closed is for those that were established"

    def test_write_is_the_roles(self, line: Line) -> None:
        line.wsi.write("a", final=False)
        line.wsi.write(bytearray(b"b"))
        line.wsi.write(memoryview(b"abc")[::2])
        assert self.heard(line) == [(b"a", False), (b"b", True), (b"ac", True)]
