"""wsd/sender.py: what leaves, in which order, and what a write in the wrong place is told."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.loopless import Loopless
from wsd import BINARY, CLOSE, OK, TEXT, Protocol
from wsd.stream import LOW_WATER
from wsd.wire.fast import mask

KEY = bytes.fromhex("01020304")


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame of at most 125 bytes, as a client sends it."""
    return bytes([first, 0x80 | len(payload)]) + KEY + mask(payload, KEY)


class Writer(Protocol):
    """Runs the functions it was given, one per `on_writeable`."""

    name = "writer"

    def __init__(self, *steps: Callable[[Any], Any]) -> None:
        self.steps = list(steps)
        self.calls = 0

    def on_receive(self, wsi: Any, data: bytes) -> Any:
        wsi.callback_on_writable()

    def on_writeable(self, wsi: Any) -> Any:
        self.calls += 1
        return self.steps.pop(0)(wsi) if self.steps else None


def written(*steps: Callable[[Any], Any]) -> bytes:
    """What a connection sends whose protocol does `steps`, one per turn."""
    line = Loopless(Writer(*steps))
    for _ in range(len(steps)):
        line.wsi.callback_on_writable()
        line.context.turn()
    line.context.turn()
    return line.sent()


class TestWrite:
    def test_str_is_text_and_bytes_are_binary(self) -> None:
        assert written(lambda wsi: wsi.write("ü"), lambda wsi: wsi.write(b"\x00")) == b"\x81\x02\xc3\xbc\x82\x01\x00"

    def test_all_of_one_hook_leaves_in_one_send(self) -> None:
        line = Loopless(Writer(lambda wsi: [wsi.write(str(i)) for i in range(9)] and None))
        line.wsi.callback_on_writable()
        line.context.turn()
        assert len(line.pipe.sent) == 1

    def test_fragments_continue_without_being_told(self) -> None:
        def step(wsi: Any) -> None:
            wsi.write("a", final=False)
            wsi.write("b", final=False)
            wsi.write("c")

        assert written(step) == b"\x01\x01a\x00\x01b\x80\x01c"

    def test_an_opcode_says_what_the_type_cannot(self) -> None:
        assert written(lambda wsi: wsi.write(b"a", opcode=TEXT)) == b"\x81\x01a"

    def test_a_mutable_buffer_is_copied(self) -> None:
        buffer = bytearray(b"before")

        def step(wsi: Any) -> None:
            wsi.write(buffer)
            buffer[:] = b"after!"

        assert written(step) == b"\x82\x06before"

    def test_another_message_inside_one_is_refused(self) -> None:
        def step(wsi: Any) -> None:
            wsi.write("a", final=False)
            with pytest.raises(ValueError, match="a fragmented message is open"):
                wsi.write(b"b", opcode=BINARY)

        assert written(step) == b"\x01\x01a"

    @pytest.mark.parametrize("opcode", [0, 3, 8, 9, 10])
    def test_no_other_opcode_begins_a_message(self, opcode: int) -> None:
        def step(wsi: Any) -> None:
            with pytest.raises(ValueError, match=f"opcode {opcode} cannot begin a message"):
                wsi.write(b"a", opcode=opcode)

        assert written(step) == b""

    def test_outside_the_hook_it_says_what_to_do(self) -> None:
        line = Loopless(Writer())
        with pytest.raises(RuntimeError, match=r"callback_on_writable\(\).*wsi\.send\(\)"):
            line.wsi.write("x")

    @pytest.mark.parametrize("size", [125, 126, 4096, 4097, 65535, 65536])
    def test_every_length_form(self, size: int) -> None:
        data = written(lambda wsi: wsi.write(bytes(size)))
        header = {125: "827d", 126: "827e007e", 4096: "827e1000", 4097: "827e1001", 65535: "827effff"}
        expected = bytes.fromhex(header.get(size, "827f0000000000010000")) + bytes(size)
        assert data == expected


BUFFERS = [
    ("\u20ac", TEXT, "\u20ac".encode()),
    ("", TEXT, b""),
    ("\U0001f600\0", TEXT, b"\xf0\x9f\x98\x80\0"),
    (b"\xff\0", BINARY, b"\xff\0"),
    (b"", BINARY, b""),
    (bytearray(b"abc"), BINARY, b"abc"),
    (memoryview(b"abc"), BINARY, b"abc"),
    (memoryview(b"abcdef")[1:4], BINARY, b"bcd"),
    (memoryview(b"abcdef")[::2], BINARY, b"ace"),
    (memoryview(b"abc")[::-1], BINARY, b"cba"),
    (memoryview(b"abcdef").cast("B", [2, 3]), BINARY, b"abcdef"),
    (memoryview(array.array("H", [1, 2])), BINARY, array.array("H", [1, 2]).tobytes()),
    (memoryview(array.array("d", [1.5, 2.5]))[::2], BINARY, array.array("d", [1.5]).tobytes()),
]
"""What can be sent, the opcode it gets, and its payload."""

NO_MESSAGES = [5, True, 1.5, None, [1, 2], (1, 2), {1}, object()]


class TestWhatCanBeSent:
    """By `send` and `write` alike."""

    @pytest.mark.parametrize(("message", "opcode", "payload"), BUFFERS)
    def test_text_and_any_buffer(self, message: Any, opcode: int, payload: bytes) -> None:
        expected = bytes([0x80 | opcode, len(payload)]) + payload
        line = Loopless(Writer())
        assert line.wsi.send(message) == OK
        line.context.turn()
        assert line.sent() == expected
        assert written(lambda wsi: wsi.write(message)) == expected

    @pytest.mark.parametrize(("message", "opcode", "payload"), BUFFERS)
    def test_as_fragments(self, message: Any, opcode: int, payload: bytes) -> None:
        frames = bytes([opcode, len(payload)]) + payload + bytes([0x80, len(payload)]) + payload
        assert written(lambda wsi: wsi.write(message, final=False) or wsi.write(message)) == frames

    @pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
    def test_what_may_change_is_copied(self, kind: Callable[[bytes], Any]) -> None:
        line = Loopless(Writer())
        buffer = kind(b"before")
        line.wsi.send(buffer)
        buffer[:] = b"after!"
        line.context.turn()
        assert line.sent() == b"\x82\x06before"

    @pytest.mark.parametrize("message", NO_MESSAGES)
    def test_nothing_else(self, message: Any) -> None:
        """bytes(5) are five zeros, and bytes([1, 2]) two bytes that nobody meant."""
        line = Loopless(Writer())
        with pytest.raises(TypeError, match="bytes-like"):
            line.wsi.send(message)

        def step(wsi: Any) -> None:
            with pytest.raises(TypeError, match="bytes-like"):
                wsi.write(message)

        assert written(step) == b""

    @pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\udc80b"])
    def test_no_lone_surrogate(self, text: str) -> None:
        """It raises in the plugin's hands; nothing was sent, and no message was begun."""
        line = Loopless(Writer())
        with pytest.raises(UnicodeEncodeError):
            line.wsi.send(text)

        def step(wsi: Any) -> None:
            with pytest.raises(UnicodeEncodeError):
                wsi.write(text, final=False)
            wsi.write(b"a")

        assert written(step) == b"\x82\x01a"

    def test_a_mistake_inside_a_message_leaves_it_open(self) -> None:
        def step(wsi: Any) -> None:
            wsi.write("a", final=False)
            for wrong, error in ((5, TypeError), ("\ud800", UnicodeEncodeError)):
                with pytest.raises(error):
                    wsi.write(wrong)
            with pytest.raises(ValueError, match="a fragmented message is open"):
                wsi.write(b"b", opcode=BINARY)
            wsi.write("b")

        assert written(step) == b"\x01\x01a\x80\x01b"

    @pytest.mark.parametrize("opcode", [None, 0, TEXT])
    def test_a_fragment_continues_whatever_its_type(self, opcode: int | None) -> None:
        def step(wsi: Any) -> None:
            wsi.write(b"a", opcode=TEXT, final=False)
            wsi.write(b"b", opcode=opcode, final=False)
            wsi.write("c", opcode=opcode)

        assert written(step) == b"\x01\x01a\x00\x01b\x80\x01c"

    def test_a_message_may_stay_open_from_one_hook_to_the_next(self) -> None:
        parts = [lambda wsi, part=part: wsi.write(part, final=part == "c") for part in "abc"]
        assert written(*parts) == b"\x01\x01a\x00\x01b\x80\x01c"


class TestAsking:
    def test_many_requests_are_one_call(self) -> None:
        protocol = Writer()
        line = Loopless(protocol)
        for _ in range(5):
            line.wsi.callback_on_writable()
        line.context.turn()
        line.context.turn()
        assert protocol.calls == 1

    def test_asking_again_inside_the_hook_is_for_the_next_turn(self) -> None:
        protocol = Writer(lambda wsi: wsi.callback_on_writable() and None)
        line = Loopless(protocol)
        line.wsi.callback_on_writable()
        line.context.turn()
        assert protocol.calls == 1
        line.context.turn()
        assert protocol.calls == 2

    def test_the_hook_waits_while_the_pipe_is_choked(self) -> None:
        protocol = Writer(lambda wsi: wsi.write(b"x" * LOW_WATER) and None)
        line = Loopless(protocol)
        line.pipe.room = 10
        line.wsi.callback_on_writable()
        line.context.turn()
        line.wsi.callback_on_writable()
        line.context.turn()
        assert protocol.calls == 1
        line.allow()
        assert protocol.calls == 2


class TestQueue:
    def test_it_drains_before_the_hook_runs(self) -> None:
        line = Loopless(Writer(lambda wsi: wsi.write("hook") and None))
        line.wsi.callback_on_writable()
        line.wsi.send("queued")
        line.context.turn()
        assert line.sent() == b"\x81\x06queued\x81\x04hook"

    def test_it_waits_while_a_fragmented_message_is_open(self) -> None:
        line = Loopless(Writer(lambda wsi: wsi.write("a", final=False), lambda wsi: wsi.write("b")))
        line.wsi.callback_on_writable()
        line.context.turn()
        line.wsi.send("queued")
        line.context.turn()
        assert line.sent() == b"\x01\x01a"
        line.wsi.callback_on_writable()
        line.context.turn()
        line.context.turn()
        assert line.sent() == b"\x80\x01b\x81\x06queued"

    def test_one_message_of_any_size_is_taken_and_then_no_more(self) -> None:
        line = Loopless(Writer(), max_queue_bytes=1000)
        line.pipe.room = 0
        assert line.wsi.send(b"x" * 5000) == OK
        assert line.wsi.send(b"y") == CLOSE
        line.context.turn()
        line.allow()
        assert line.sent()[-24:].endswith(b"\x03\xf0outgoing queue is full")

    def test_what_waited_for_the_end_of_a_message_leaves_before_the_answer_to_a_close(self) -> None:
        """The last `on_writeable`, which answers what came before the peer's Close, ends the message."""
        line = Loopless(Writer(lambda wsi: wsi.write("a", final=False), lambda wsi: wsi.write("b")))
        line.wsi.callback_on_writable()
        line.context.turn()
        line.wsi.send("queued")
        line.receive(frame(0x81, b"x") + frame(0x88, bytes.fromhex("03e8")))
        line.context.turn()
        assert line.sent() == b"\x01\x01a\x80\x01b\x81\x06queued\x88\x02\x03\xe8"

    def test_what_waits_for_an_end_that_never_comes_is_given_up(self) -> None:
        line = Loopless(Writer(lambda wsi: wsi.write("a", final=False)))
        line.wsi.callback_on_writable()
        line.context.turn()
        line.wsi.send("queued")
        line.wsi.close()
        line.context.turn()
        assert line.sent() == b"\x01\x01a\x88\x02\x03\xe8"


class TestControlFrames:
    def test_each_ping_is_answered_while_not_choked(self) -> None:
        line = Loopless(Writer())
        line.receive(frame(0x89, b"a") + frame(0x89, b"b"))
        line.context.turn()
        assert line.sent() == b"\x8a\x01a\x8a\x01b"

    def test_only_the_latest_ping_is_answered_after_a_choke(self) -> None:
        line = Loopless(Writer())
        line.pipe.room = 0
        line.wsi.send("x")
        line.context.turn()
        line.receive(frame(0x89, b"a"), frame(0x89, b"b"))
        line.allow()
        assert line.sent() == b"\x81\x01x\x8a\x01b"

    def test_a_pong_that_waited_does_not_come_after_a_later_one(self) -> None:
        """The end of the choke and the next Ping come in one turn."""
        line = Loopless(Writer())
        line.pipe.room = 0
        line.wsi.send("x")
        line.context.turn()
        line.receive(frame(0x89, b"a"))
        line.pipe.incoming.append(frame(0x89, b"b"))
        line.pipe.room = 1 << 30
        line.wsi.on_events(1 | 4)
        line.context.turn()
        assert line.sent() == b"\x81\x01x\x8a\x01b"

    def test_a_ping_over_125_bytes_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at most 125 bytes"):
            Loopless(Writer()).wsi.ping(bytes(126))

    def test_its_payload_is_counted_in_bytes(self) -> None:
        line = Loopless(Writer())
        with pytest.raises(ValueError, match="at most 125 bytes"):
            line.wsi.ping(memoryview(array.array("Q", range(16))))  # type: ignore[arg-type]
        assert line.wsi.ping(bytearray(125)) == OK  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="bytes-like"):
            line.wsi.ping("text")  # type: ignore[arg-type]
        line.context.turn()
        assert line.sent() == b"\x89\x7d" + bytes(125)

    def test_a_ping_between_fragments_is_sent(self) -> None:
        line = Loopless(Writer(lambda wsi: wsi.write("a", final=False)))
        line.wsi.callback_on_writable()
        line.context.turn()
        line.wsi.ping(b"p")
        line.context.turn()
        assert line.sent() == b"\x01\x01a\x89\x01p"


class TestClose:
    def test_what_was_sent_before_leaves_first(self) -> None:
        line = Loopless(Writer())
        line.wsi.send("bye")
        line.wsi.close(4000, "done")
        line.context.turn()
        assert line.sent() == b"\x81\x03bye\x88\x06\x0f\xa0done"

    def test_the_first_close_counts(self) -> None:
        line = Loopless(Writer())
        assert line.wsi.close(4000) == OK
        assert line.wsi.close(4001) == CLOSE
        line.context.turn()
        assert line.sent() == b"\x88\x02\x0f\xa0"

    @pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000])
    def test_a_code_that_must_not_be_sent_raises(self, code: int) -> None:
        with pytest.raises(ValueError, match=str(code)):
            Loopless(Writer()).wsi.close(code)

    def test_after_it_nothing_is_delivered_or_asked_for(self) -> None:
        protocol = Writer()
        line = Loopless(protocol)
        line.wsi.callback_on_writable()
        line.wsi.close()
        line.receive(frame(0x81, b"late"))
        line.context.turn()
        line.context.turn()
        assert protocol.calls == 0

    def test_nor_after_a_close_beside_an_earlier_request(self) -> None:
        """It asked to write and closed, both while one piece was delivered."""

        class Asking(Writer):
            def on_receive(self, wsi: Any, data: bytes) -> int:
                wsi.callback_on_writable()
                return CLOSE

        protocol = Asking()
        line = Loopless(protocol)
        line.receive(frame(0x81, b"a") + frame(0x81, b"b"))
        line.context.turn()
        line.context.turn()
        assert protocol.calls == 0
        assert line.sent() == b"\x88\x02\x03\xe8"

    def test_the_hooks_answer_close_is_1000(self) -> None:
        assert written(lambda wsi: CLOSE) == b"\x88\x02\x03\xe8"

    def test_answers_to_what_came_before_a_violation_leave_first(self) -> None:
        """One write per call, as libwebsockets has it, and two messages before the violation."""
        line = Loopless(Writer(lambda wsi: wsi.callback_on_writable() or wsi.write("1"), lambda wsi: wsi.write("2")))
        line.receive(frame(0x81, b"a") + frame(0x81, b"b") + b"\x83")
        line.receive(b"\x80")
        for _ in range(4):
            line.context.turn()
        assert line.sent() == b"\x81\x011\x81\x012\x88\x13\x03\xearreserved opcode 3".replace(b"\xearr", b"\xear")
        assert line.pipe.is_shut

    def test_one_that_asks_for_ever_does_not_hold_up_the_close(self) -> None:
        class Greedy(Writer):
            def on_writeable(self, wsi: Any) -> None:
                self.calls += 1
                wsi.callback_on_writable()

        protocol = Greedy()
        line = Loopless(protocol)
        line.receive(frame(0x81, b"a") + frame(0x88, b""))
        for _ in range(9):
            line.context.turn()
        assert line.sent() == b"\x88\x00"
        assert protocol.calls <= 2

    def test_one_that_sends_without_end_answers_nothing_that_came(self) -> None:
        """However much came: it asks in on_writeable, and not because of what it got."""

        class Endless(Protocol):
            name = "endless"

            def on_receive(self, wsi: Any, data: bytes) -> None:
                pass

            def on_writeable(self, wsi: Any) -> None:
                wsi.write("x")
                wsi.callback_on_writable()

        line = Loopless(Endless())
        line.wsi.callback_on_writable()
        line.context.turn()
        assert line.sent() == b"\x81\x01x"
        line.receive(frame(0x81, b"a") * 100, frame(0x88, b""))
        for _ in range(9):
            line.context.turn()
        assert line.sent() == b"\x88\x00"

    def test_close_inside_the_last_hook_call_is_no_second_close(self) -> None:
        line = Loopless(Writer(lambda wsi: wsi.close(4001) and None))
        line.receive(frame(0x81, b"a") + frame(0x88, bytes.fromhex("03e8")))
        for _ in range(4):
            line.context.turn()
        assert line.sent().count(b"\x88") == 1


def test_everything_is_inert_after_the_end() -> None:
    line = Loopless(Writer())
    line.wsi.abort()
    line.wsi.reap()
    wsi = line.wsi
    for call in (
        lambda: wsi.write("x"),
        lambda: wsi.send("x"),
        lambda: wsi.ping(),
        lambda: wsi.close(),
        lambda: wsi.callback_on_writable(),
        lambda: wsi.set_timer(1),
        lambda: wsi.set_timeout(1),
        lambda: wsi.rx_flow_control(False),
    ):
        assert call() == CLOSE
    assert wsi.fileno() == -1
    assert len(line.context.timers) == 0
