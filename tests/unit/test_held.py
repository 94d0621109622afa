"""wsd/held.py without a loop: what a connection tells of what it holds, and how it gives way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, TEXT, Frame, frame
from tests.support.hearing import Hearing
from tests.support.loopless import REQUEST, Loopless
from wsd.http1 import Http1, State
from wsd.protocol import Protocol
from wsd.wire.closing import DEAD
from wsd.wsi import Wsi


class Echo(Protocol):
    """Answers whole messages as often as `answers` says."""

    name = "echo"

    def __init__(self, answers: int = 1) -> None:
        self.answers = answers
        self.got: list[Any] = []
        self.closed: list[int] = []

    def on_message(self, wsi: Any, message: Any) -> None:
        self.got.append(message)
        for _ in range(self.answers):
            wsi.send(message)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.closed.append(code)


class Pieces(Protocol):
    """Takes pieces and keeps none."""

    name = "pieces"

    def on_receive(self, wsi: Any, data: bytes) -> None:
        pass


def held(line: Loopless) -> int:
    assert line.context.memory.held == line.wsi.held
    return line.wsi.held


def frames_of(line: Loopless) -> list[Frame]:
    return Hearing().hear(line.sent())


class TestWhatIsHeld:
    def test_nothing_of_what_passes_through(self) -> None:
        line = Loopless(Echo())
        line.receive(frame(BINARY, bytes(10_000)) * 5)
        assert held(line) == 0
        line.context.turn()
        assert held(line) == 0

    def test_a_message_that_has_come_in_part(self) -> None:
        line = Loopless(Echo())
        data = frame(BINARY, bytes(40_000))
        line.receive(data[:10_000])
        assert held(line) == 10_000 - 8
        line.receive(data[10_000:20_000])
        assert held(line) == 20_000 - 8
        line.receive(data[20_000:])
        assert held(line) == 0

    def test_its_fragments(self) -> None:
        line = Loopless(Echo())
        line.receive(frame(BINARY, bytes(100), final=False), frame(CONTINUATION, bytes(50), final=False))
        assert held(line) == 150
        line.receive(frame(CONTINUATION))
        assert held(line) == 0

    def test_pieces_that_a_plugin_takes_are_its_own(self) -> None:
        line = Loopless(Pieces())
        line.receive(frame(BINARY, bytes(40_000))[:30_000])
        assert held(line) == 0

    def test_what_a_peer_does_not_read(self) -> None:
        line = Loopless(Echo(4))
        line.allow(0)
        line.receive(frame(BINARY, bytes(50_000)))
        line.context.turn()
        assert 200_000 < held(line) < 200_300
        line.wsi.send(bytes(50_000))  # nothing is put or flushed, and it is told all the same
        assert 250_000 < held(line) < 250_400
        line.allow()
        line.context.turn()
        assert held(line) == 0

    def test_what_waits_for_the_end_of_a_fragmented_message(self) -> None:
        line = Loopless(Pieces())
        line.wsi._is_writing = True
        line.wsi.write(b"a", final=False)
        line.wsi._is_writing = False
        line.wsi.send(bytes(1000))
        assert 1000 < held(line) < 1100

    def test_what_was_read_and_not_delivered(self) -> None:
        line = Loopless(Pieces())
        line.wsi.rx_flow_control(False)
        line.wsi._hold = 0  # a read that is under way
        line.pipe.incoming.append(frame(TEXT, "0123456789") * 3000)
        line.wsi._read()
        assert held(line) > (3000 - 256) * 10
        before = held(line)
        line.context.turn()
        assert 0 < held(line) < before
        for _ in range(20):
            line.context.turn()
        assert held(line) == 0

    def test_how_much_pieces_need_beside_their_payload(self) -> None:
        line = Loopless(Pieces())
        line.receive(frame(TEXT, "") * 5000)
        assert held(line) > 4000 * 100

    def test_a_close_forgets_what_came(self) -> None:
        line = Loopless(Echo())
        line.receive(frame(BINARY, bytes(1000), final=False))
        line.wsi.close()
        assert held(line) == 0

    @pytest.mark.parametrize("end", ["abort", "close"])
    def test_the_reaper_leaves_nothing(self, end: str) -> None:
        line = Loopless(Echo(4))
        line.allow(0)
        line.receive(frame(BINARY, bytes(50_000)))
        line.receive(frame(BINARY, bytes(1000), final=False))
        line.context.turn()
        getattr(line.wsi, end)()
        line.context.pass_time(60)
        line.wsi.reap()
        assert line.context.memory.held == 0
        assert line.wsi.held == 0


class TestGivingWay:
    def test_one_that_holds_what_came_is_told(self) -> None:
        protocol = Echo()
        line = Loopless(protocol)
        line.receive(frame(BINARY, bytes(1000), final=False))
        line.wsi.give_way()
        assert held(line) == 0
        line.receive(frame(CONTINUATION, bytes(1000)))
        line.context.turn()
        (close,) = frames_of(line)
        assert (close.close_code, close.close_reason) == (1013, "the server is out of memory")
        assert protocol.got == []

    def test_one_whose_queue_is_long_loses_that(self) -> None:
        line = Loopless(Pieces())
        line.allow(0)
        for _ in range(20):
            line.wsi.send(bytes(10_000))
            line.context.turn()
        assert held(line) > 200_000
        line.wsi.give_way()
        assert held(line) < 100_000
        line.allow()
        line.context.turn()
        assert frames_of(line)[-1].close_code == 1013

    def test_one_that_reads_nothing_at_all_is_cut(self) -> None:
        protocol = Echo()
        line = Loopless(protocol)
        line.allow(0)
        line.wsi.send(bytes(500_000))
        line.context.turn()
        line.wsi.give_way()
        assert line.context.dead == [line.wsi]
        assert held(line) == 0
        line.wsi.reap()
        assert protocol.closed == [1006]

    def test_one_that_is_closing_is_cut(self) -> None:
        line = Loopless(Echo())
        line.wsi.close()
        line.wsi.give_way()
        assert line.wsi._state == DEAD

    def test_inside_of_the_hook_that_made_it_too_much(self) -> None:
        """`send` answers CLOSE, as for a queue that is full."""
        answers: list[int] = []

        class Much(Echo):
            def on_message(self, wsi: Any, message: Any) -> None:
                answers.extend(wsi.send(bytes(30_000)) for _ in range(5))

        line = Loopless(Much())
        line.context.memory.limit = 100_000
        line.allow(0)
        line.wsi.send(b"x")
        line.context.turn()
        line.receive(frame(TEXT, "go") + frame(TEXT, "again"))
        assert answers == [0, 0, 0, -1, -1]
        assert line.context.counters.over_max_memory_bytes == 1
        line.allow()
        line.context.turn()
        assert [one.opcode for one in frames_of(line)] == [BINARY, 8]

    def test_inside_of_a_message(self) -> None:
        line = Loopless(Echo(), max_message_bytes=1 << 20)
        line.context.memory.limit = 100_000
        line.receive(*[frame(BINARY if not at else CONTINUATION, bytes(30_000), final=False) for at in range(5)])
        line.context.turn()
        assert frames_of(line)[-1].close_code == 1013
        assert held(line) == 0


class TestOutgoing:
    def test_a_broadcast_is_the_same_in_all(self) -> None:
        one, other = Loopless(Pieces()), Loopless(Pieces())
        for line in (one, other):
            line.protocol._members[line.wsi] = None
            one.protocol._members[line.wsi] = None
            line.allow(10)
            line.wsi.send(bytes(20))
            line.context.turn()
        one.protocol.broadcast(bytes(70_000))
        for line in (one, other):
            line.allow(30_000)
            line.context.turn()
        keys = [{key for key, size in line.wsi.outgoing() if size > 1000} for line in (one, other)]
        assert len(keys[0]) == 1
        assert keys[0] == keys[1]

    def test_it_is_all_that_is_unsent(self) -> None:
        line = Loopless(Echo(3))
        line.allow(100)
        line.receive(frame(BINARY, bytes(60_000)))
        line.context.turn()
        line.wsi.send(b"12345")
        assert sum(size for _, size in line.wsi.outgoing()) == line.wsi.unsent + line.wsi._queue_bytes


class TestHttp:
    """Before the 101, and where there is none."""

    @pytest.fixture
    def line(self) -> Loopless:
        line = Loopless(Echo())
        wsi = line.wsi = Wsi(line.context, line.binding, line.pipe, line.wsi.peer, line.wsi.local, 2, line.wsi.listener)
        wsi.role = Http1(wsi)
        return line

    def test_a_head_that_has_come_in_part(self, line: Loopless) -> None:
        line.receive(b"GET / HTTP/1.1\r\n")
        assert held(line) == 16
        line.wsi.abort()
        assert held(line) == 16  # until it is reaped
        line.wsi.reap()
        assert line.context.memory.held == 0

    def test_what_is_behind_a_request_that_is_being_answered(self, line: Loopless) -> None:
        line.wsi.role.state = State.ANSWER  # type: ignore[union-attr]
        line.receive(b"x" * 50_000)
        assert held(line) == 50_000

    def test_an_upgrade_leaves_nothing(self, line: Loopless) -> None:
        line.receive(b"GET / HTTP/1.1\r\n")
        line.wsi.upgrade(line.binding, REQUEST, None, b"101", b"")
        line.context.turn()
        assert line.wsi.is_established
        assert held(line) == 0

    def test_it_gives_way_without_a_word(self, line: Loopless) -> None:
        line.receive(b"GET / HTTP/1.1\r\n")
        line.wsi.give_way()
        assert line.context.dead == [line.wsi]
        assert held(line) == 0
