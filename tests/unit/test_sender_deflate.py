"""What leaves of a connection with permessage-deflate, read as a peer would: by plain zlib, in wire order.

Messages come from `write`, `send` and `broadcast`; control frames and fragments lie between them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.client import BINARY, CONTINUATION, PING, TEXT
from tests.support.hearing import Hearing
from tests.support.loopless import SETTINGS, Loopless
from wsd import CLOSE, OK, Protocol
from wsd.stream import LOW_WATER
from wsd.wire.extensions import Agreement

HELLO = "Hello, hello, hello, hello"


class Writer(Protocol):
    """Does in `on_writeable` what a test tells it."""

    name = "writer"

    def __init__(self) -> None:
        self.step: Callable[[Any], Any] = lambda wsi: None

    def on_writeable(self, wsi: Any) -> Any:
        return self.step(wsi)


class Line:
    """A connection and the ear at its other end."""

    def __init__(
        self, bits: int = 12, takeover: bool = True, is_client: bool = False, min_bytes: int = 0, **limits: Any
    ) -> None:
        self.protocol = Writer()
        agreement = Agreement(not takeover, not takeover, bits, bits, ())
        settings = SETTINGS._replace(window_bits=bits, min_bytes=min_bytes)
        self.line = Loopless(self.protocol, is_client=is_client, agreement=agreement, settings=settings, **limits)
        self.wsi: Any = self.line.wsi
        self.hearing = Hearing(is_masked=is_client, window_bits=max(bits, 9), takeover=takeover)

    def write(self, *messages: str | bytes, **how: Any) -> None:
        """Write these in one `on_writeable`, and let what is due leave."""
        self.protocol.step = lambda wsi: [wsi.write(message, **how) for message in messages] and None
        self.wsi.callback_on_writable()
        self.turn()

    def turn(self) -> list[Any]:
        """The frames that leave in one turn."""
        self.line.context.turn()
        return self.hearing.hear(self.line.sent())


EVERY = pytest.mark.parametrize(
    ("bits", "takeover", "is_client"),
    [
        (bits, takeover, is_client)
        for bits in (8, 9, 12, 15)
        for takeover in (True, False)
        for is_client in (True, False)
    ],
)


class TestWhole:
    @EVERY
    def test_by_every_way(self, bits: int, takeover: bool, is_client: bool) -> None:
        line = Line(bits, takeover, is_client)
        for _ in range(3):
            line.wsi.send(HELLO)
            line.wsi.send(HELLO.encode())
            line.write(HELLO, HELLO.encode())
            line.protocol.broadcast(HELLO)
            line.turn()
        one = [(TEXT, HELLO.encode()), (BINARY, HELLO.encode())]
        assert line.hearing.messages == [*one, *one, one[0]] * 3
        assert all(frame.rsv == 4 for frame in line.hearing.frames)

    def test_a_message_refers_to_those_before(self) -> None:
        line = Line()
        line.wsi.send(HELLO)
        line.write(HELLO)
        first, second = line.hearing.frames
        assert len(second.payload) < len(first.payload) / 2

    def test_not_without_takeover(self) -> None:
        line = Line(takeover=False)
        line.write(HELLO, HELLO)
        first, second = line.hearing.frames
        assert first == second

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 4096, 4097, 65536, 1 << 20])
    def test_sizes(self, size: int) -> None:
        line = Line(max_queue_bytes=1 << 22)
        line.wsi.send(bytes(size))
        line.wsi.send(bytes(range(256)) * (size // 256))
        line.turn()
        line.turn()
        assert [len(payload) for _, payload in line.hearing.messages] == [size, size // 256 * 256]

    def test_smaller_than_what_is_worth_it(self) -> None:
        line = Line(min_bytes=10)
        line.write("123456789", "1234567890")
        line.wsi.send("123456789")
        line.protocol.broadcast("123456789")
        line.turn()
        assert [frame.rsv for frame in line.hearing.frames] == [0, 4, 0, 0]
        assert line.hearing.texts == ["123456789", "1234567890", "123456789", "123456789"]

    def test_extensions_are_told(self) -> None:
        line = Line()
        assert line.wsi.extensions == ("permessage-deflate",)
        line.wsi.abort()
        line.wsi.reap()
        assert line.wsi.send("x") == CLOSE


class TestFragments:
    @EVERY
    def test_each_can_be_read_when_it_comes(self, bits: int, takeover: bool, is_client: bool) -> None:
        line = Line(bits, takeover, is_client)
        for _ in range(2):
            so_far = ""
            for part in ("Hello, ", "", "hello, "):
                line.write(part, final=False)
                so_far += part
                assert line.hearing.payload.decode() == so_far
            line.write("hello")
        assert line.hearing.texts == ["Hello, hello, hello"] * 2
        assert [(frame.opcode, frame.rsv, frame.final) for frame in line.hearing.frames[:4]] == [
            (TEXT, 4, False),
            (CONTINUATION, 0, False),
            (CONTINUATION, 0, False),
            (CONTINUATION, 0, True),
        ]

    @pytest.mark.parametrize("parts", [("",), ("", ""), ("a", ""), ("", "a"), ("a", "", "")])
    def test_empty_ones(self, parts: tuple[str, ...]) -> None:
        line = Line()
        for _ in range(2):
            for part in parts[:-1]:
                line.write(part, final=False)
            line.write(parts[-1])
        assert line.hearing.texts == ["".join(parts)] * 2

    def test_compressed_however_small(self) -> None:
        """Its size is not known when it begins."""
        line = Line(min_bytes=1000)
        line.write("a", final=False)
        line.write("b")
        assert line.hearing.frames[0].rsv == 4
        assert line.hearing.texts == ["ab"]

    @EVERY
    def test_what_is_sent_meanwhile_waits_for_the_end(self, bits: int, takeover: bool, is_client: bool) -> None:
        """And a Ping does not: it lies between two fragments of a compressed message."""
        line = Line(bits, takeover, is_client)
        line.wsi.send(HELLO)
        line.write(HELLO, final=False)
        line.wsi.send("queued, " + HELLO)
        line.protocol.broadcast("broadcast, " + HELLO)
        line.wsi.ping(b"ping")
        assert [frame.opcode for frame in line.turn()] == [PING]
        line.write(" and more, " + HELLO, final=False)
        line.wsi.ping(b"ping")
        line.write(" and " + HELLO)
        line.write(HELLO)
        line.turn()
        long = f"{HELLO} and more, {HELLO} and {HELLO}"
        assert line.hearing.texts == [HELLO, long, "queued, " + HELLO, "broadcast, " + HELLO, HELLO]
        assert [frame.opcode for frame in line.hearing.frames].count(PING) == 2

    def test_an_unfinished_one_at_the_close(self) -> None:
        line = Line()
        line.write(HELLO, final=False)
        line.wsi.close(4000)
        (close,) = line.turn()
        assert close.close_code == 4000
        assert line.hearing.payload.decode() == HELLO


class TestBroadcast:
    @EVERY
    def test_messages_before_and_behind_it(self, bits: int, takeover: bool, is_client: bool) -> None:
        """It is compressed without history, so the sender starts without one behind it: the peer's window has it."""
        line = Line(bits, takeover, is_client)
        said = []
        for number in range(5):
            line.write(f"{number} {HELLO}")
            line.protocol.broadcast(f"{number} {HELLO} to all")
            line.wsi.send(f"{number} {HELLO} to one")
            line.turn()
            said += [f"{number} {HELLO}", f"{number} {HELLO} to all", f"{number} {HELLO} to one"]
        assert line.hearing.texts == said

    def test_the_history_is_forgotten(self) -> None:
        line = Line()
        line.write(HELLO, HELLO)
        line.protocol.broadcast("x" * 100)
        line.turn()
        line.write(HELLO)
        first, second, _, last = line.hearing.frames
        assert len(second.payload) < len(first.payload)
        assert last == first

    def test_not_by_one_that_was_not_compressed(self) -> None:
        line = Line(min_bytes=10)
        line.write(HELLO)
        line.protocol.broadcast("small")
        line.turn()
        line.write(HELLO)
        first, small, last = line.hearing.frames
        assert small.rsv == 0
        assert len(last.payload) < len(first.payload)

    def test_what_is_queued_is_counted_as_it_will_travel(self) -> None:
        line = Line(max_queue_bytes=1000)
        line.line.pipe.room = 0
        for _ in range(30):  # each some 20 bytes, and a thousand inflated
            line.protocol.broadcast("x" * 1000)
        assert not line.wsi.is_closing
        assert line.wsi.send("y" * 2000) == OK, "a message is taken while there is room for one byte"
        assert line.wsi.send("z") == CLOSE


def test_it_is_compressed_when_it_leaves_and_not_before() -> None:
    """A peer that does not read: what is queued meanwhile has to follow what was written before."""
    line = Line()
    line.line.pipe.room = 5
    line.write(HELLO * 10_000)
    line.wsi.send(HELLO)
    line.protocol.broadcast(HELLO)
    line.wsi.send(HELLO)
    assert line.hearing.messages == []
    line.line.allow()
    line.turn()
    assert line.hearing.texts == [HELLO * 10_000, HELLO, HELLO, HELLO]


def test_a_turn_sends_as_much_as_the_low_water_mark_counted_as_it_travels() -> None:
    noise = random.Random(1).randbytes(LOW_WATER)  # it does not become smaller
    for message, counts in ((noise, [1, 1, 1, 0]), (bytes(LOW_WATER), [3, 0, 0, 0])):
        line = Line(max_queue_bytes=1 << 30)
        for _ in range(3):
            line.wsi.send(message)
        assert [len(line.turn()) for _ in range(4)] == counts


# -- random interleavings ---------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.sampled_from(["write", "begin", "go on", "end", "send", "broadcast", "ping", "turn", "turn", "choke", "allow"]),
    min_size=5,
    max_size=30,
)


@settings(deadline=None)
@given(st.sampled_from([8, 9, 12, 15]), st.booleans(), st.booleans(), st.sampled_from([0, 12]), STEPS)
def test_whatever_is_mixed_can_be_read(
    bits: int, takeover: bool, is_client: bool, min_bytes: int, steps: list[str]
) -> None:
    """Each way's messages arrive in their order, and each as it was said."""
    line = Line(bits, takeover, is_client, min_bytes)
    said: dict[str, list[str]] = {"write": [], "queue": []}
    plan: list[tuple[str, bool]] = []
    opened = ""

    def step(wsi: Any) -> None:
        nonlocal opened
        while plan:
            text, final = plan.pop(0)
            wsi.write(text, final=final)
            opened += text
            if final:
                said["write"].append(opened)
                opened = ""

    line.protocol.step = step
    for number, name in enumerate([*steps, "allow", "end", "turn", "turn", "turn"]):
        text = f"{number} {HELLO}"[: 4 + 5 * (number % 9)]
        if name in ("write", "begin", "go on", "end"):
            plan.append(("w" + text, name in ("write", "end")))
            line.wsi.callback_on_writable()
        elif name in ("send", "broadcast"):
            said["queue"].append("q" + text)
            (line.wsi.send if name == "send" else line.protocol.broadcast)("q" + text)
        elif name == "ping":
            line.wsi.ping(b"p")
        elif name == "choke":
            line.line.pipe.room = 3
        elif name == "allow":
            line.line.allow()
        line.turn()
    assert [text for text in line.hearing.texts if text[0] == "w"] == said["write"]
    assert [text for text in line.hearing.texts if text[0] == "q"] == said["queue"]
    assert not line.hearing.is_mid_message
