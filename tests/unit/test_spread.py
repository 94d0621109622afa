"""One message to many: the same in C and in Python, and the same as `send_shared` for each."""

from __future__ import annotations

import gc
import random
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.client import upgrade_request
from tests.support.loopless import Loopless, NotingContext
from tests.support.native import require_native
from wsd import spread as module
from wsd.budget import Budget
from wsd.config import Keepalive, Limits
from wsd.context import Context
from wsd.protocol import Protocol
from wsd.spread import spread_in_python
from wsd.straight import Straight
from wsd.stream import LOW_WATER
from wsd.transport import Output
from wsd.wire.broadcast import Broadcast
from wsd.wire.closing import OPEN
from wsd.wire.extensions import Agreement
from wsd.wsi import Wsi

HELLO = Broadcast("hello")


def make_spread() -> Any:
    return require_native().make_spread(Straight, Output, Budget, OPEN, LOW_WATER)


@pytest.fixture(params=["in Python", "in C"])
def spread(request: pytest.FixtureRequest) -> Any:
    return spread_in_python if request.param == "in Python" else make_spread()


class Writer(Protocol):
    """Does `step` in its `on_writeable`, once."""

    name = "writer"
    step: Callable[[Any], Any] | None = None

    def on_writeable(self, wsi: Any) -> None:
        step, self.step = self.step, None
        if step is not None:
            step(wsi)

    def on_message(self, wsi: Any, message: Any) -> None:
        pass


def line(step: Callable[[Any], Any] | None = None, **options: Any) -> Any:
    protocol = Writer()
    made = Loopless(protocol, **options)
    if step is not None:
        protocol.step = step
        made.wsi.callback_on_writable()
        made.context.turn()
    return made


def choked() -> Any:
    made = line()
    made.pipe.room = 3
    made.wsi.send("more than that")
    made.context.turn()
    assert made.wsi.send_pipe_choked
    return made


def queued() -> Any:
    made = line(lambda wsi: wsi.write("open", final=False))
    made.wsi.send("waits")
    assert made.wsi._queue
    return made


def drained() -> Any:
    """It had a queue, which was emptied."""
    made = queued()
    made.protocol.step = lambda wsi: wsi.write("end")
    made.wsi.callback_on_writable()
    made.context.turn()
    made.context.turn()
    assert made.wsi._queue is None
    return made


def done(made: Any, *steps: Callable[[Any], Any]) -> Any:
    for step in steps:
        step(made.wsi)
    return made


def full(wsi: Any) -> None:
    while not wsi.send_pipe_choked:
        wsi.send(bytes(4000))


STRAIGHT: dict[str, Callable[[], Any]] = {
    "as it is": line,
    "listed": lambda: done(line(), lambda wsi: wsi.ping()),
    "asked": lambda: done(line(), lambda wsi: wsi.callback_on_writable()),
    "with something before it": lambda: done(line(), lambda wsi: wsi.send(b"first"), lambda wsi: wsi.send(b"second")),
    "paused": lambda: done(line(), lambda wsi: wsi.rx_flow_control(False)),
    "nearly over its queue": lambda: done(line(max_queue_bytes=8), lambda wsi: wsi.send(b"12345")),
    "with a queue that was emptied": drained,
}
LONG: dict[str, Callable[[], Any]] = {
    "choked": choked,
    "queued": queued,
    "in a message": lambda: line(lambda wsi: wsi.write("open", final=False)),
    "full": lambda: done(line(), full),
    "over its queue": lambda: done(line(max_queue_bytes=8), lambda wsi: wsi.send(b"123456")),
    "closing": lambda: done(line(), lambda wsi: wsi.close()),
    "closed": lambda: done(line(), lambda wsi: wsi.abort()),
    "reaped": lambda: done(line(), lambda wsi: wsi.abort(), lambda wsi: wsi.reap()),
    "counted": lambda: line(max_messages_per_second=1000),
    "a client": lambda: line(is_client=True),
    "compressed": lambda: line(agreement=Agreement(False, False, 12, 12, ())),
}


def shape(made: Any) -> list[Any]:
    """What can be seen of it."""
    wsi, output = made.wsi, made.wsi._output
    seen = [wsi._is_listed, wsi._state, wsi._is_asked, len(wsi._queue or ()), wsi._queue_bytes]
    return [*seen, [bytes(buffer) for buffer in output.buffers], output.size, output.is_choked]


@pytest.mark.parametrize("name", STRAIGHT)
def test_the_plain_case(spread: Any, name: str) -> None:
    made, other = STRAIGHT[name](), STRAIGHT[name]()
    was_listed, before = made.wsi._is_listed, len(made.context.writers)
    listed: list[Any] = []
    assert spread(made.context, [made.wsi], HELLO.frame, listed) == []
    assert listed == ([] if was_listed else [made.wsi])
    assert len(made.context.writers) == before, "who is listed is for the caller to note"
    assert made.wsi._is_listed
    assert made.wsi._output.buffers[-1] is HELLO.frame
    other.wsi.send_shared(HELLO)
    assert shape(made) == shape(other)
    made.context.note_writers(listed)
    for each in (made, other):
        each.context.turn()
    sent = other.sent()
    assert made.sent() == sent
    assert sent.endswith(HELLO.frame)


@pytest.mark.parametrize("name", LONG)
def test_whatever_else_is_left_as_it_is(spread: Any, name: str) -> None:
    made = LONG[name]()
    before = shape(made)
    listed: list[Any] = []
    assert spread(made.context, [made.wsi], HELLO.frame, listed) == [made.wsi]
    assert listed == []
    assert shape(made) == before


@pytest.mark.parametrize("name", [*STRAIGHT, *LONG])
def test_a_broadcast_is_send_shared_for_each(monkeypatch: pytest.MonkeyPatch, spread: Any, name: str) -> None:
    monkeypatch.setattr("wsd.context.spread", spread)
    made, other = {**STRAIGHT, **LONG}[name](), {**STRAIGHT, **LONG}[name]()
    other.wsi.send_shared(HELLO)
    made.protocol.broadcast("hello", to=[made.wsi])
    assert shape(made) == shape(other)
    for each in (made, other):
        each.context.turn()
        each.context.turn()
    if name != "a client":  # whose masks are drawn at random
        assert made.sent() == other.sent()


@pytest.mark.parametrize("name", [*STRAIGHT, *LONG])
def test_an_offer_is_that_or_nothing(monkeypatch: pytest.MonkeyPatch, spread: Any, name: str) -> None:
    monkeypatch.setattr("wsd.context.spread", spread)
    made, other = {**STRAIGHT, **LONG}[name](), {**STRAIGHT, **LONG}[name]()
    before = shape(made)
    rest = made.protocol.offer("hello", to=[made.wsi])
    if name in ("choked", "queued", "in a message", "full", "over its queue"):
        assert rest == [made.wsi]
        assert shape(made) == before
    else:
        assert rest == []
        other.wsi.send_shared(HELLO)
        assert shape(made) == shape(other)


def test_an_offer_to_one_that_is_not_plain_fills_it_as_far_as_any_other() -> None:
    """What waits in its queue, to be compressed, counts as if it were set aside."""
    made = line(agreement=Agreement(False, False, 12, 12, ()))
    incompressible = random.Random(1).randbytes(1000)
    said = 0
    while not made.protocol.offer(incompressible, to=[made.wsi]):
        said += 1
        assert said < 100
    assert said == LOW_WATER // 1000 + 1  # as long as it is below that, whatever comes


def test_who_they_are_and_in_which_order(spread: Any) -> None:
    """Those of another context go the long way, and so does what is no wsi at all."""
    made, other = line(), line()
    things: list[Any] = [choked().wsi, "text", other.wsi, None, made.wsi, 5]
    listed: list[Any] = []
    assert spread(made.context, iter(things), HELLO.frame, listed) == [*things[:4], 5]
    assert listed == [made.wsi]
    assert spread(made.context, (), HELLO.frame, listed) == []
    assert spread(made.context, {made.wsi: None}, HELLO.frame, listed) == []
    assert made.wsi._output.buffers == [HELLO.frame] * 2
    assert listed == [made.wsi]


def test_who_cannot_be_gone_through(spread: Any) -> None:
    def broken() -> Iterator[Any]:
        yield from [made.wsi]
        raise KeyError("no more")

    made = line()
    listed: list[Any] = []
    with pytest.raises(TypeError):
        spread(made.context, 5, HELLO.frame, listed)
    with pytest.raises(KeyError):
        spread(made.context, broken(), HELLO.frame, listed)
    assert not made.wsi._is_listed
    assert listed == []


def test_one_of_both_runs() -> None:
    assert module.spread is spread_in_python or module.spread.__doc__ == "spread(context, wsis, framed, listed, /)"


class TestInC:
    """What only C can get wrong."""

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            [None, [], b"", [], None],
            [None, [], "text", []],
            [None, [], bytearray(b"x"), []],
            [None, [], b"", ()],
            [None, 5, b"", []],
        ],
    )
    def test_arguments_of_another_kind(self, arguments: list[Any]) -> None:
        with pytest.raises(TypeError):
            make_spread()(*arguments)
        with pytest.raises(TypeError):
            make_spread()(None, [], b"", listed=[])

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ([], TypeError),
            ([Straight, Output, Budget, OPEN], TypeError),
            ([Straight, Output, Budget, "1", LOW_WATER], TypeError),
            ([5, Output, Budget, OPEN, LOW_WATER], TypeError),
            ([Straight, object, Budget, OPEN, LOW_WATER], AttributeError),
            ([Output, Straight, Budget, OPEN, LOW_WATER], AttributeError),
            ([Straight, Output, type("Other", (), {"max_queue_bytes": 5}), OPEN, LOW_WATER], TypeError),
            ([Straight, Output, type("Other", (), {"max_queue_bytes": property()}), OPEN, LOW_WATER], TypeError),
            ([Straight, Output, Budget, 1 << 80, LOW_WATER], OverflowError),
        ],
    )
    def test_classes_without_such_slots(self, arguments: list[Any], error: type[Exception]) -> None:
        with pytest.raises(error):
            require_native().make_spread(*arguments)

    def test_it_says_what_it_takes(self) -> None:
        assert require_native().make_spread.__doc__ == "make_spread(wsi, output, budget, open, low_water, /)"

    @pytest.mark.parametrize(
        "slot",
        [
            *("wsi." + name for name in ("budget", "context", "_is_listed", "_is_plain", "_open_opcode", "_output")),
            *("wsi." + name for name in ("_queue", "_state")),
            *("output." + name for name in ("buffers", "is_choked", "size")),
            "budget.max_queue_bytes",
        ],
    )
    def test_whatever_lies_in_a_slot(self, slot: str) -> None:
        """Nothing, and things of any kind: at worst it is left to Python."""
        where, _, name = slot.partition(".")
        for value in (None, "text", 1.5, object(), 1 << 80, -1, -(1 << 80), [], (), Wsi, Text(b"x")):
            made = line()
            owner = {"wsi": made.wsi, "output": made.wsi._output, "budget": made.wsi.budget}[where]
            setattr(owner, name, value)
            listed: list[Any] = []
            # A queue may be of any kind if it is empty.
            may = value in (None, [], ()) if name == "_queue" else value == [] and name == "buffers"
            rest = make_spread()(made.context, [made.wsi], HELLO.frame, listed)
            assert rest == ([] if may else [made.wsi]), value
            delattr(owner, name)
            assert make_spread()(made.context, [made.wsi], HELLO.frame, listed) == [made.wsi]

    def test_one_that_was_never_made(self) -> None:
        empty = Wsi.__new__(Wsi)
        assert make_spread()(None, [empty], HELLO.frame, []) == [empty]

    def test_a_queue_that_does_something_when_it_is_asked(self) -> None:
        """Even with the receivers, and with itself."""

        class Queue(deque[Any]):
            def __len__(self) -> int:
                receivers.clear()
                del made.wsi._queue, made.wsi._output
                gc.collect()
                return 0

        class Raising(deque[Any]):
            def __len__(self) -> int:
                raise KeyError("no length")

        made, other = line(), line()
        made.wsi._queue, other.wsi._queue = Queue(), Raising()
        receivers = [made.wsi, other.wsi, "text"]
        assert make_spread()(made.context, receivers, HELLO.frame, []) == [made.wsi, other.wsi, "text"]
        assert receivers == []

    def test_it_lives_as_long_as_what_it_was_made_with(self) -> None:
        """And no longer."""

        class Mine(Straight):
            __slots__ = ()

        before = sys.getrefcount(Mine)
        made = require_native().make_spread(Mine, Output, Budget, OPEN, LOW_WATER)
        assert sys.getrefcount(Mine) == before + 1
        plain = line()
        assert made(plain.context, [plain.wsi], HELLO.frame, []) == [plain.wsi]
        del made
        assert sys.getrefcount(Mine) == before
        for _ in range(3):
            with pytest.raises(AttributeError):
                require_native().make_spread(Mine, Output, object, OPEN, LOW_WATER)
        assert sys.getrefcount(Mine) == before

    def test_nothing_is_leaked(self) -> None:
        spread = make_spread()
        framed = bytes(HELLO.frame[:4]) + bytes(300)
        made, slow = line(), choked()

        def all_ways() -> None:
            listed: list[Any] = []
            for receivers in ([made.wsi, slow.wsi, "text"], (made.wsi,), iter([made.wsi]), {made.wsi: None}):
                spread(made.context, receivers, framed, listed)
            made.context.note_writers(listed)
            made.context.turn()
            made.pipe.sent.clear()
            for wrong in ((made.context, 5, framed, listed), (made.context, [made.wsi], "text", listed)):
                try:
                    spread(*wrong)
                except TypeError:
                    pass

        all_ways()
        things = (framed, made.wsi, slow.wsi, made.context)
        held = [sys.getrefcount(thing) for thing in things]
        gc.collect()
        blocks = sys.getallocatedblocks()
        for _ in range(200):
            all_ways()
        gc.collect()
        assert [sys.getrefcount(thing) for thing in things] == held
        assert abs(sys.getallocatedblocks() - blocks) < 100


class Text(bytes):
    """Bytes with something of their own."""


class Room(Protocol):
    """All hear all; for who does not take it, a message is kept with him."""

    name = "room"
    Session = deque

    def on_message(self, wsi: Any, message: Any) -> None:
        late = [other for other in self.wsis if other.session]
        late += self.offer(message, to=[other for other in self.wsis if not other.session])
        for other in late:
            other.session.append(message)
            other.callback_on_writable()

    def on_writeable(self, wsi: Any) -> None:
        while wsi.session and not wsi.send_pipe_choked:
            wsi.write(wsi.session.popleft())
        if wsi.session:
            wsi.callback_on_writable()


def test_who_does_not_read_costs_the_others_neither_messages_nor_turns() -> None:
    """Through real sockets, in one thread."""
    room = Room()
    with Context([room], keepalive=Keepalive(ping_seconds=0), limits=Limits(max_queue_bytes=1 << 20)) as context:
        ours, theirs = zip(*(socket.socketpair() for _ in range(5)), strict=True)
        try:
            for sock, peer in zip(ours, theirs, strict=True):
                peer.setblocking(False)
                context.adopt_socket(sock, room)
                peer.send(upgrade_request())
                context.service(0)
                assert peer.recv(65536).startswith(b"HTTP/1.1 101 ")
            *quick, slow = theirs
            everything = b""
            for number in range(200):
                message = b"%04d" % number + bytes(10_000)
                room.on_message(None, message)
                framed = Broadcast(message).frame
                everything += framed
                context.service(0)
                assert [peer.recv(1 << 20) for peer in quick] == [framed] * 4
            assert context.counters.queue_overflows == 0
            (behind,) = [wsi for wsi in room.wsis if wsi.session]
            assert behind.send_pipe_choked
            heard = b""
            while len(heard) < len(everything):
                heard += slow.recv(1 << 20)
                context.service(0)
            assert heard == everything
            assert not behind.session
        finally:
            for peer in theirs:
                peer.close()


def test_who_is_listed_is_noted_though_the_rest_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set aside leaves in this turn whatever comes after it."""

    def half(context: Any, wsis: Any, framed: bytes, listed: list[Any]) -> Any:
        spread_in_python(context, wsis, framed, listed)
        raise MemoryError

    monkeypatch.setattr("wsd.context.spread", half)
    made = line()
    with pytest.raises(MemoryError):
        made.protocol.broadcast("hello")
    made.context.turn()
    assert made.sent() == HELLO.frame


def test_the_loops_own_list() -> None:
    with Context() as context:
        made, other = line().wsi, line().wsi
        context.note_writer(made)
        context.note_writers([other])
        assert context._writers == [made, other]
        context._writers.clear()


assert NotingContext.spread is Context.spread
