"""The straight way against the long one: the same bytes, the same hooks, in the same order.

Each conversation is played on each of WAYS, in one thread over a socketpair: on a connection as it is, which is in C
where that is there, on one with the methods of straight.py, and on one that goes the long way because it is told that
it is not plain.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, TEXT, close_frame, frame, upgrade_request
from tests.support.logged import logged
from wsd import compiled, log, loop
from wsd.config import Keepalive, Limits
from wsd.context import Context
from wsd.protocol import Protocol
from wsd.straight import DEEP_READ, PIECES_PER_TURN, Straight
from wsd.stream import LOW_WATER

Play = list[bytes]

WAYS = ("as it is", "in Python", "the long way")


class Noted(Protocol):
    """Notes every call, and echoes in `on_writeable`; `act` is done with each message."""

    name = "noting"
    Session = list

    def __init__(
        self, act: Callable[[Any, Any], Any] | None = None, writes: Callable[[Any], Any] | None = None
    ) -> None:
        self.calls: list[Any] = []
        self.act = act
        self.writes = writes

    def on_writeable(self, wsi: Any) -> Any:
        self.calls.append("writeable")
        if self.writes:
            return self.writes(wsi)
        while wsi.session and not wsi.send_pipe_choked:
            wsi.write(*wsi.session.pop(0))
        return None

    def on_pong(self, wsi: Any, payload: bytes) -> None:
        self.calls.append(("pong", payload))

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.calls.append(("closed", code, close_reason))


class Noting(Noted):
    """Piece by piece."""

    def on_receive(self, wsi: Any, data: bytes) -> Any:
        facts = wsi.is_first_fragment, wsi.is_final_fragment, wsi.remaining_packet_payload, wsi.frame_is_binary
        self.calls.append(("receive", data, *facts))
        wsi.session.append((data, BINARY if wsi.frame_is_binary else TEXT, wsi.is_final_fragment))
        wsi.callback_on_writable()
        return self.act(wsi, data) if self.act else None


class NotingMessages(Noted):
    """Whole messages."""

    def on_message(self, wsi: Any, message: str | bytes) -> Any:
        self.calls.append(("message", message, wsi.is_first_fragment, wsi.is_final_fragment, wsi.frame_is_binary))
        wsi.session.append((message,))
        wsi.callback_on_writable()
        return self.act(wsi, message) if self.act else None


def played(protocol: Noted, parts: Play, way: str = WAYS[0], limits: Limits | None = None) -> tuple[list[Any], bytes]:
    """What the plugin was told, and what its peer got, where each of `parts` comes in one read."""
    with (
        contextlib.ExitStack() as patches,
        Context([protocol], keepalive=Keepalive(ping_seconds=0), limits=limits) as context,
    ):
        if way == "in Python":
            patches.enter_context(mock.patch.multiple(Straight, **compiled.TWINS))
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            wsi = context.adopt_socket(ours, protocol)
            theirs.send(upgrade_request())
            context.service(0)
            head = theirs.recv(65536)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert wsi._is_plain
            if way == "the long way":
                wsi._is_plain = False
            heard = b""
            for part in parts:
                with contextlib.suppress(BrokenPipeError):  # it is over
                    theirs.send(part)
                for _ in range(6):
                    context.service(0)
                    heard += heard_by(theirs)
            calls, protocol.calls = protocol.calls, []
            return calls, heard


def heard_by(sock: socket.socket) -> bytes:
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        return sock.recv(1 << 20)
    return b""


def every_way(
    make: Callable[[], Noted], parts: Play, limits: Limits | None = None, ways: tuple[str, ...] = WAYS
) -> list[Any]:
    """Play it all ways, and give what all were told."""
    first, *others = (played(make(), parts, way, limits) for way in ways)
    for other in others:
        assert other == first
    return first[0]


HELLO = frame(TEXT, "hello")

CONVERSATIONS = {
    "one": [HELLO],
    "many in one read": [HELLO * 40],
    "more than a turn takes": [frame(BINARY, b"x") * (PIECES_PER_TURN + 50)],
    "empty ones": [frame(TEXT) + frame(BINARY) + HELLO],
    "all sizes": [frame(BINARY, bytes(size)) for size in (0, 1, 125, 126, 4096, 4097, 65000, 70_000)],
    "cut in the middle": [HELLO[:3], HELLO[3:] + HELLO[:1], HELLO[1:]],
    "plain ones behind a fragment": [frame(TEXT, "a", final=False) + frame(CONTINUATION, "b") + HELLO],
    "a fragment behind plain ones": [HELLO * 2 + frame(TEXT, "a", final=False), frame(CONTINUATION, "b"), HELLO],
    "pings between": [HELLO + frame(PING, b"1") + HELLO, frame(PING, b"2"), HELLO],
    "a Close behind": [HELLO * 3 + close_frame(4000, "bye")],
    "behind a Close": [close_frame(4000) + HELLO],
    "not masked": [HELLO + frame(TEXT, "x", mask=None)],
    "no UTF-8": [HELLO + frame(TEXT, b"\xff") + HELLO],
    "a reserved bit": [HELLO + frame(TEXT, "x", rsv=4)],
    "the end of the stream": [HELLO, b""],
}


@pytest.mark.parametrize("kind", [Noting, NotingMessages])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_same_as_the_long_way(name: str, kind: type[Noted]) -> None:
    every_way(kind, CONVERSATIONS[name])


@pytest.mark.parametrize("seed", range(30))
def test_the_same_for_anything(seed: int) -> None:
    """Frames of all kinds, cut anywhere."""
    source = random.Random(seed)
    kinds = [
        lambda: frame(TEXT, "é" * source.randrange(200)),
        lambda: frame(BINARY, source.randbytes(source.choice([1, 64, 5000]))),
        lambda: frame(PING, source.randbytes(source.randrange(126))),
        lambda: frame(TEXT, "a", final=False) + frame(CONTINUATION, "b" * source.randrange(9)),
    ]
    stream = b"".join(source.choice(kinds)() for _ in range(40))
    parts = []
    while stream:
        size = source.choice([1, 10, 100, 3000])
        parts.append(stream[:size])
        stream = stream[size:]
    assert every_way(Noting, parts)


def test_a_limit_on_messages() -> None:
    assert every_way(Noting, [HELLO + frame(TEXT, "x" * 101) + HELLO], Limits(max_message_bytes=100))


BEHIND = {
    "nothing": b"",
    "a Ping": frame(PING, b"1") + HELLO,
    "a Close": close_frame(4000, "bye"),
    "a violation": frame(TEXT, "x", rsv=4),
    "half a frame": HELLO[:-1],
    "too much for a turn": HELLO * PIECES_PER_TURN,
}


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda wsi, data: -1, id="answers CLOSE"),
        pytest.param(lambda wsi, data: True, id="answers True"),
        pytest.param(lambda wsi, data: wsi.close(4001, "enough") and None, id="closes"),
        pytest.param(lambda wsi, data: wsi.abort(), id="aborts"),
        pytest.param(lambda wsi, data: wsi.rx_flow_control(False) and None, id="pauses"),
        pytest.param(lambda wsi, data: wsi.send("from everywhere") and None, id="sends"),
        pytest.param(lambda wsi, data: wsi.send("von überall") and None, id="sends what is not ASCII"),
        pytest.param(lambda wsi, data: wsi.send(b"bytes") or wsi.send(b"more"), id="sends twice"),
        pytest.param(lambda wsi, data: wsi.send(bytes(5000)) and None, id="sends much"),
        pytest.param(lambda wsi, data: wsi.send(5), id="sends what is none"),
        pytest.param(lambda wsi, data: wsi.write(data), id="writes where it must not"),
        pytest.param(lambda wsi, data: sys.exit(1), id="wants to end the program"),
        pytest.param(lambda wsi, data: 1 / 0, id="raises"),
        pytest.param(lambda wsi, data: wsi.ping(b"?") and None, id="pings"),
    ],
)
@pytest.mark.parametrize("kind", [Noting, NotingMessages])
@pytest.mark.parametrize("behind", BEHIND)
def test_whatever_a_plugin_does_with_a_message(
    kind: type[Noted], act: Callable[[Any, bytes], Any], behind: str
) -> None:
    # What is sent waits in a queue on the long way, and a Pong goes past it; which of both is first matters to nobody.
    ways = WAYS[:2] if behind == "a Ping" else WAYS
    with logged(0):
        assert every_way(lambda: kind(act), [HELLO * 5 + BEHIND[behind], HELLO], ways=ways)


def fragments(wsi: Any) -> None:
    wsi.write("a", final=False)
    wsi.write(b"b")


@pytest.mark.parametrize(
    "writes",
    [
        pytest.param(lambda wsi: wsi.write("text"), id="text"),
        pytest.param(lambda wsi: wsi.write(bytearray(b"mutable")), id="mutable"),
        pytest.param(lambda wsi: wsi.write(b"as text", TEXT), id="bytes as text"),
        pytest.param(lambda wsi: wsi.write(bytes(5000)), id="long"),
        pytest.param(fragments, id="fragments"),
        pytest.param(lambda wsi: wsi.write(b"x", 9), id="a wrong opcode"),
        pytest.param(lambda wsi: wsi.write(b"x", 1 << 80), id="a huge opcode"),
        pytest.param(lambda wsi: wsi.write(b"x", "text"), id="a word as opcode"),
        pytest.param(lambda wsi: wsi.write("x", BINARY), id="text as bytes"),
        pytest.param(lambda wsi: wsi.write("ü" * 200, TEXT, True), id="not ASCII"),
        pytest.param(lambda wsi: wsi.write("\ud800"), id="a lone surrogate"),
        pytest.param(lambda wsi: wsi.write(data=b"x", opcode=TEXT), id="by name"),
        pytest.param(lambda wsi: wsi.write(b"x", final=True), id="partly by name"),
        pytest.param(lambda wsi: wsi.write(), id="nothing to write"),
        pytest.param(lambda wsi: wsi.write(*[b"x"] * 9), id="too much to write"),
        pytest.param(lambda wsi: wsi.write(b""), id="empty"),
        pytest.param(lambda wsi: wsi.write(b"x", CONTINUATION), id="a continuation of nothing"),
        pytest.param(lambda wsi: wsi.callback_on_writable(), id="asks again"),
        pytest.param(lambda wsi: wsi.close(4002), id="closes"),
        pytest.param(lambda wsi: -1, id="answers CLOSE"),
        pytest.param(lambda wsi: 1 / 0, id="raises"),
        pytest.param(lambda wsi: wsi.send("queued") and None, id="sends"),
        pytest.param(lambda wsi: None, id="nothing"),
    ],
)
def test_whatever_a_plugin_writes(writes: Callable[[Any], Any]) -> None:
    with logged(0):
        assert every_way(lambda: Noting(writes=writes), [HELLO, HELLO * 2])


def offering(*arguments: Any, **named: Any) -> Callable[[Any, Any], None]:
    """What is done with a message: to offer these, and note what comes of it."""

    def act(wsi: Any, data: Any) -> None:
        wsi.binding.protocol.calls.append(("offered", wsi.offer(*arguments, **named)))

    return act


def offered_by_and_by(wsi: Any, data: Any) -> None:
    """A message in three parts, of which the last is written."""
    assert wsi.offer("a", final=False)
    assert wsi.offer(b"b", CONTINUATION, False)
    wsi.session.insert(0, ("c",))


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(offering("text"), id="text"),
        pytest.param(offering(bytearray(b"mutable")), id="mutable"),
        pytest.param(offering(b"as text", TEXT), id="bytes as text"),
        pytest.param(offering(b"whole", BINARY, True), id="a whole message"),
        pytest.param(offering(bytes(5000)), id="long"),
        pytest.param(offered_by_and_by, id="fragments"),
        pytest.param(offering(b"x", 9), id="a wrong opcode"),
        pytest.param(offering(b"x", 1 << 80), id="a huge opcode"),
        pytest.param(offering(b"x", "text"), id="a word as opcode"),
        pytest.param(offering("ü" * 200, TEXT, True), id="not ASCII"),
        pytest.param(offering("\ud800"), id="a lone surrogate"),
        pytest.param(offering(data=b"x", opcode=TEXT), id="by name"),
        pytest.param(offering(), id="nothing"),
        pytest.param(offering(*[b"x"] * 9), id="too much"),
        pytest.param(offering(5), id="a number"),
        pytest.param(offering(b""), id="empty"),
        pytest.param(offering(b"x", CONTINUATION), id="a continuation of nothing"),
    ],
)
@pytest.mark.parametrize("kind", [Noting, NotingMessages])
def test_whatever_a_plugin_offers(kind: type[Noted], act: Callable[[Any, Any], Any]) -> None:
    with logged(0):
        assert every_way(lambda: kind(act), [HELLO * 5, HELLO])


class Silent(Noted):
    """Never answers anything by itself."""

    def on_receive(self, wsi: Any, data: bytes) -> None:
        """Nothing."""


@pytest.mark.parametrize("way", WAYS[:2])
class TestOffer:
    @pytest.fixture
    def context(self, way: str) -> Iterator[Context]:
        with (
            mock.patch.multiple(Straight, **compiled.TWINS) if way == "in Python" else contextlib.nullcontext(),
            Context([Silent()], keepalive=Keepalive(ping_seconds=0)) as context,
        ):
            yield context

    @pytest.fixture
    def pair(self, context: Context) -> Iterator[tuple[Any, socket.socket]]:
        """An open wsi, and its peer's socket."""
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            wsi = context.adopt_socket(ours, context.protocol_0.protocol)
            theirs.send(upgrade_request())
            context.service(0)
            assert theirs.recv(65536).startswith(b"HTTP/1.1 101 ")
            yield wsi, theirs

    def test_from_outside_of_a_turn(self, context: Context, pair: tuple[Any, socket.socket]) -> None:
        wsi, theirs = pair
        assert wsi.offer("one") is True
        assert wsi.offer(b"two") is True
        assert heard_by(theirs) == b""
        context.service(0)
        assert heard_by(theirs) == frame(TEXT, "one", mask=None) + frame(BINARY, b"two", mask=None)

    def test_not_to_who_does_not_read(self, context: Context, pair: tuple[Any, socket.socket]) -> None:
        wsi, theirs = pair
        offered = heard = 0
        while wsi.offer(bytes(1000)):
            offered += 1
            context.service(0)
        assert wsi.send_pipe_choked
        for _ in range(2 * offered):
            heard += len(heard_by(theirs))
            context.service(0)
        assert heard == offered * len(frame(BINARY, bytes(1000), mask=None))
        assert wsi.offer(b"again") is True

    def test_not_more_than_one_send_takes(self, pair: tuple[Any, socket.socket]) -> None:
        wsi, _ = pair
        offered = 0
        while wsi.offer(bytes(1000)):
            offered += 1000
        assert LOW_WATER <= offered < LOW_WATER + 2000

    def test_not_past_what_is_queued(self, context: Context, pair: tuple[Any, socket.socket]) -> None:
        wsi, theirs = pair
        while wsi.offer(bytes(1000)):
            context.service(0)
        wsi.send("queued")
        assert wsi.offer("overtaking") is False
        while not wsi.offer("behind"):
            heard_by(theirs)
            context.service(0)
        context.service(0)
        assert heard_by(theirs).endswith(frame(TEXT, "queued", mask=None) + frame(TEXT, "behind", mask=None))

    def test_an_open_message_goes_on_before_what_is_queued(
        self, context: Context, pair: tuple[Any, socket.socket]
    ) -> None:
        wsi, theirs = pair
        assert wsi.offer("a", final=False) is True
        wsi.send("queued")
        assert wsi.offer("b") is True
        context.service(0)
        parts = frame(TEXT, "a", final=False, mask=None), frame(CONTINUATION, "b", mask=None)
        assert heard_by(theirs) == b"".join(parts) + frame(TEXT, "queued", mask=None)

    def test_nobody_waits_for_one_that_closes(self, context: Context, pair: tuple[Any, socket.socket]) -> None:
        wsi, theirs = pair
        wsi.close(1000)
        assert wsi.offer("late") is True
        context.service(0)
        assert heard_by(theirs) == frame(CLOSE, b"\x03\xe8", mask=None)

    def test_before_it_is_open(self, context: Context) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            wsi = context.adopt_socket(ours, context.protocol_0.protocol)
            with pytest.raises(RuntimeError, match="one that is open"):
                wsi.offer("early")


def test_who_wants_to_see_pieces_sees_all_of_them() -> None:
    with logged(log.PARSER) as lines:
        played(Noting(), [HELLO * 3])
    assert len(lines) == 3


def test_what_is_counted_is_not_plain() -> None:
    protocol = Noting()
    with Context([protocol], limits=Limits(max_messages_per_second=1000)) as context:
        ours, theirs = socket.socketpair()
        with theirs:
            wsi = context.adopt_socket(ours, protocol)
            theirs.send(upgrade_request())
            context.service(0)
            assert wsi.is_established
            assert not wsi._is_plain


class Asking(Noting):
    """Wants to write again, whatever it wrote."""

    def on_writeable(self, wsi: Any) -> Any:
        wsi.callback_on_writable()


def rests(messages: int, protocol: Noted, way: str, peers: int = 1) -> list[int]:
    """How long the loop rests behind a turn in which each of so many peers has said so many messages."""
    taken: list[int] = []
    with (
        contextlib.ExitStack() as stack,
        mock.patch.object(loop, "rest", taken.append),
        Context([protocol], keepalive=Keepalive(ping_seconds=0)) as context,
    ):
        if way == "in Python":
            stack.enter_context(mock.patch.multiple(Straight, **compiled.TWINS))
        pairs = [socket.socketpair() for _ in range(peers)]
        for ours, theirs in pairs:
            stack.enter_context(theirs)
            context.adopt_socket(ours, protocol)
            theirs.send(upgrade_request())
        context.service(0)
        for _, theirs in pairs:
            theirs.send(HELLO * messages)
        context.service(0)
        protocol.calls = []
        context.service(0)  # in which nobody says anything
    return taken


@pytest.mark.parametrize("way", WAYS[:2])
class TestRest:
    def test_behind_a_deep_read(self, way: str) -> None:
        assert rests(DEEP_READ, Noting(), way) == [10]
        assert rests(DEEP_READ, NotingMessages(), way) == [10]

    def test_not_behind_another(self, way: str) -> None:
        assert rests(DEEP_READ - 1, Noting(), way) == []

    def test_not_where_others_may_wait(self, way: str) -> None:
        assert rests(DEEP_READ, Noting(), way, peers=8) == [10]
        assert rests(DEEP_READ, Noting(), way, peers=9) == []

    def test_not_where_there_is_something_to_do(self, way: str) -> None:
        assert rests(DEEP_READ, Asking(), way) == []
