"""The service loop with real sockets: idle is idle, nobody starves, order is kept, timers and wake-ups come once.

That it does not spin is counted in turns (returns of select), not timed.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.client import BINARY, TEXT, Client, connect, frame
from tests.support.context import Running, running
from tests.support.timing import MS, wait_until
from wsd.config import Limits
from wsd.context import Context
from wsd.protocol import Protocol
from wsd.stream import LOW_WATER
from wsd.timers import Timer


class Echo(Protocol):
    """Answers every message with itself, and keeps what a test wants to look at."""

    name = "echo"

    def __init__(self) -> None:
        self.received: list[str | bytes] = []
        self.closed: list[tuple[int, str]] = []

    def on_message(self, wsi: Any, message: Any) -> None:
        self.received.append(message)
        wsi.send(message)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.closed.append((code, close_reason))

    @property
    def only(self) -> Any:
        """The one wsi there is."""
        (wsi,) = self.wsis
        return wsi


def turns(served: Running, seconds: float = 300 * MS) -> int:
    """How often select returned while nothing was to be done."""
    time.sleep(30 * MS)  # what is under way settles
    before = served.context.counters.turns
    time.sleep(seconds)
    return served.context.counters.turns - before


class TestIdle:
    """One or two turns may be somebody's last step; a spin makes thousands."""

    def test_with_nobody_there(self) -> None:
        with running([Echo()]) as served:
            assert turns(served) == 0

    def test_with_connections_that_say_nothing(self) -> None:
        with running([Echo()]) as served, connect(served.port) as one, connect(served.port):
            assert turns(served) <= 1
            one.send_text("still there")
            assert one.receive_message() == "still there"

    def test_an_http_connection_before_and_between_requests(self) -> None:
        with running([Echo()]) as served, Client(served.port) as fresh, Client(served.port) as used:
            assert used.request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
            fresh.send(b"GET / HT")
            assert turns(served) <= 1
            assert used.request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 200

    def test_half_closed_by_the_peer(self) -> None:
        """Ended without a Close, with a message that the peer does not read, so that we cannot end it either."""
        protocol = Echo()
        with running([protocol]) as served, connect(served.port, receive_buffer=4096) as client:
            served.call(lambda: protocol.only.send(bytes(8 << 20)))
            client.shut_down_writing()
            assert turns(served) <= 2
            assert served.context.wsi_count == 1

    def test_half_closed_after_the_last_word(self) -> None:
        """The peer owes us the end of its stream and keeps it back."""
        with running([Echo()]) as served, connect(served.port) as client:
            client.send(frame(3))
            assert client.receive_close().close_code == 1002
            assert turns(served) <= 1
            assert served.context.wsi_count == 1

    def test_a_reader_that_does_not_read(self) -> None:
        protocol = Echo()
        with running([protocol]) as served, connect(served.port, receive_buffer=4096) as client:
            served.call(lambda: protocol.only.send(bytes(8 << 20)))
            assert turns(served) <= 2
            client.send_text("more")  # which is not read either, as long as it does not
            assert turns(served) <= 1
            assert len(client.receive_message()) == 8 << 20
            assert client.receive_message() == "more"

    def test_paused_with_data_waiting(self) -> None:
        protocol = Echo()
        with running([protocol]) as served, connect(served.port) as client:
            served.call(lambda: protocol.only.rx_flow_control(False))
            client.send(frame(TEXT, "waits") * 1000)
            assert turns(served) <= 1
            assert protocol.received == []
            served.call(lambda: protocol.only.rx_flow_control(True))
            wait_until(lambda: len(protocol.received) == 1000)

    def test_paused_after_some_of_a_read_was_delivered(self) -> None:
        class Pausing(Echo):
            def on_message(self, wsi: Any, message: Any) -> None:
                super().on_message(wsi, message)
                wsi.rx_flow_control(False)

        protocol = Pausing()
        with running([protocol]) as served, connect(served.port) as client:
            client.send(frame(TEXT, "x") * 1000)
            wait_until(lambda: protocol.received)
            assert turns(served) <= 1
            assert len(protocol.received) == 1

    def test_paused_and_then_half_closed(self) -> None:
        protocol = Echo()
        with running([protocol]) as served, connect(served.port) as client:
            served.call(lambda: protocol.only.rx_flow_control(False))
            client.send_text("last")
            client.shut_down_writing()
            assert turns(served) <= 1
            served.call(lambda: protocol.only.rx_flow_control(True))
            assert client.receive_message() == "last"
            assert client.receive_end() == b""
            wait_until(lambda: protocol.closed == [(1006, "")])

    @pytest.mark.parametrize("waiting", [b"", frame(TEXT, "x")])
    def test_paused_and_then_reset_is_closed_at_once(self, waiting: bytes) -> None:
        protocol = Echo()
        with running([protocol]) as served, connect(served.port) as client:
            served.call(lambda: protocol.only.rx_flow_control(False))
            client.send(waiting)
            client.reset()
            wait_until(lambda: protocol.closed == [(1006, "")])
            assert turns(served) <= 1
            assert served.context.wsi_count == 0

    def test_at_the_connection_limit_with_more_waiting(self) -> None:
        with (
            running([Echo()], limits=Limits(max_connections=2)) as served,
            connect(served.port) as one,
            connect(served.port),
            Client(served.port) as third,
        ):
            assert turns(served) <= 1
            assert served.context.wsi_count == 2
            assert served.context.counters.accept_pauses == 1
            one.disconnect()
            third.upgrade()

    def test_a_timer_is_one_turn(self) -> None:
        with running([Echo()]) as served:
            calls: list[int] = []
            served.call(lambda: served.context.call_later(100 * MS, lambda: calls.append(1)))
            assert turns(served) <= 2
            assert calls == [1]


class TestFairness:
    def test_a_flood_does_not_delay_the_others_by_more_than_a_turn(self) -> None:
        """One thread, so that it can be counted: what is there of the flood is far more than a turn delivers."""

        class Counting(Protocol):
            name = "counting"
            received: list[bytes] = []

            def on_receive(self, wsi: Any, data: bytes) -> None:
                self.received.append(data)

        protocol = Counting()
        with Context([protocol]) as context:
            port = context.listen(port=0).port
            with Client(port) as flood, Client(port) as polite:
                for client in (flood, polite):
                    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
                    client.send(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
                while len(protocol.wsis) < 2:
                    context.service(1)
                flood.send(frame(TEXT, "f") * 9000)
                time.sleep(20 * MS)
                context.service(1)
                assert 0 < len(protocol.received) < 1000
                for _ in range(3):
                    protocol.received.clear()
                    polite.send_text("p")
                    time.sleep(20 * MS)
                    context.service(1)
                    assert protocol.received.count(b"p") == 1
                    assert len(protocol.received) < 1000

    def test_round_trips_go_on_beside_a_flood(self) -> None:
        class Half(Echo):
            def on_message(self, wsi: Any, message: Any) -> None:
                if message != "flood":
                    wsi.send(message)

        with running([Half()]) as served, connect(served.port) as flood, connect(served.port) as polite:
            over = threading.Event()

            def send() -> None:
                data = frame(TEXT, "flood") * 4000
                while not over.is_set():
                    flood.send(data)

            thread = threading.Thread(target=send)
            thread.start()
            try:
                for number in range(30):
                    polite.send_text(str(number))
                    assert polite.receive_message() == str(number)
            finally:
                over.set()
                thread.join()

    def test_a_plugin_that_always_asks_to_write_starves_nobody(self) -> None:
        class Greedy(Echo):
            calls = 0

            def on_established(self, wsi: Any) -> None:
                if wsi.request.path == "/greedy":
                    wsi.callback_on_writable()

            def on_writeable(self, wsi: Any) -> None:
                self.calls += 1
                wsi.callback_on_writable()

        protocol = Greedy()
        with running([protocol]) as served, connect(served.port, path="/greedy"), connect(served.port) as polite:
            done = threading.Event()
            served.call(lambda: served.context.call_later(10 * MS, done.set))
            for number in range(30):
                polite.send_text(str(number))
                assert polite.receive_message() == str(number)
            assert done.wait(5)
            assert 0 < protocol.calls <= served.context.counters.turns

    def test_a_new_connection_gets_in_beside_a_flood(self) -> None:
        class Endless(Echo):
            def on_established(self, wsi: Any) -> None:
                wsi.callback_on_writable()

            def on_writeable(self, wsi: Any) -> None:
                wsi.callback_on_writable()

        with running([Endless()]) as served, connect(served.port), connect(served.port) as client:
            client.send_text("in")
            assert client.receive_message() == "in"


class TestTimers:
    def test_set_timer_comes_once_and_set_timeout_closes(self) -> None:
        class Timed(Echo):
            timers = 0

            def on_established(self, wsi: Any) -> None:
                wsi.set_timer(20 * MS)
                wsi.set_timeout(150 * MS)

            def on_timer(self, wsi: Any) -> None:
                self.timers += 1
                wsi.send("tick")

        protocol = Timed()
        with running([protocol]) as served, connect(served.port) as client:
            assert client.receive_message() == "tick"
            assert client.receive_close().close_code == 1008
            assert protocol.timers == 1

    def test_call_later_in_order_and_cancelled(self) -> None:
        with running([Echo()]) as served:
            calls: list[str] = []
            done = threading.Event()

            def first() -> None:
                calls.append("first")
                never.cancel()

            def second() -> None:
                calls.append("second")
                done.set()

            def arrange() -> Timer:
                context = served.context
                context.call_later(40 * MS, second)
                context.call_later(20 * MS, first)
                return context.call_later(30 * MS, lambda: calls.append("never"))

            never = served.call(arrange)
            assert done.wait(5)
            assert calls == ["first", "second"]
            assert len(served.context.timers) == 0

    def test_a_wake_up_from_another_thread_is_one_hook_for_each_protocol(self) -> None:
        class Woken(Protocol):
            def __init__(self, name: str) -> None:
                self.name = name  # type: ignore[misc]
                self.threads: list[int | None] = []

            def on_wakeup(self) -> None:
                self.threads.append(threading.get_ident())

        one, two = Woken("one"), Woken("two")
        with running([one, two]) as served:
            served.context.cancel_service()
            wait_until(lambda: two.threads)
            time.sleep(20 * MS)
            assert one.threads == two.threads == [served.thread.ident]


class TestReceiving:
    def test_flow_control_goes_on_where_it_stopped_in_order(self) -> None:
        class Stopping(Echo):
            def on_message(self, wsi: Any, message: Any) -> None:
                self.received.append(message)
                if len(self.received) % 7 == 0:
                    wsi.rx_flow_control(False)
                    wsi.set_timer(1 * MS)

            def on_timer(self, wsi: Any) -> None:
                wsi.rx_flow_control(True)

        protocol = Stopping()
        with running([protocol]) as served, connect(served.port) as client:
            client.send(b"".join(frame(TEXT, str(number)) for number in range(200)))
            wait_until(lambda: len(protocol.received) == 200)
            assert protocol.received == [str(number) for number in range(200)]

    def test_a_large_frame_comes_in_pieces_that_say_what_is_left(self) -> None:
        class Pieces(Protocol):
            name = "pieces"
            seen: list[tuple[int, bool, bool, int, bool]] = []

            def on_receive(self, wsi: Any, data: bytes) -> None:
                flags = (wsi.is_first_fragment, wsi.is_final_fragment, wsi.remaining_packet_payload)
                self.seen.append((len(data), *flags, wsi.frame_is_binary))

        protocol = Pieces()
        size = 700_000
        with running([protocol]) as served, connect(served.port) as client:
            client.send(frame(BINARY, bytes(size)))
            wait_until(lambda: sum(piece[0] for piece in protocol.seen) == size)
            left = size
            for number, (length, first, final, remaining, is_binary) in enumerate(protocol.seen):
                left -= length
                assert (first, final, remaining, is_binary) == (number == 0, left == 0, left, True)
            assert len(protocol.seen) > 1


class TestSending:
    def test_writing_until_choked_bounds_what_waits(self) -> None:
        class Writer(Protocol):
            name = "writer"
            left = 4000
            most = 0

            def on_established(self, wsi: Any) -> None:
                wsi.callback_on_writable()

            def on_writeable(self, wsi: Any) -> None:
                while self.left and not wsi.send_pipe_choked:
                    self.left -= 1
                    wsi.write(self.left.to_bytes(2, "big") * 1000)
                self.most = max(self.most, wsi.unsent)
                if self.left:
                    wsi.callback_on_writable()

        protocol = Writer()
        with running([protocol]) as served, connect(served.port, receive_buffer=4096) as client:
            time.sleep(50 * MS)
            assert protocol.left, "the kernel took it all: the test shows nothing"
            for number in range(3999, -1, -1):
                assert client.receive_message() == number.to_bytes(2, "big") * 1000
            assert protocol.most <= 2 * LOW_WATER

    def test_what_one_turn_writes_comes_in_order_with_control_frames(self) -> None:
        class Mixed(Protocol):
            name = "mixed"

            def on_message(self, wsi: Any, message: Any) -> None:
                wsi.send("queued")
                wsi.ping(b"p")
                wsi.callback_on_writable()

            def on_writeable(self, wsi: Any) -> None:
                wsi.write("written")
                wsi.close(4000, "done")

        with running([Mixed()]) as served, connect(served.port) as client:
            client.send_text("go")
            got = [client.receive_frame() for _ in range(4)]
            assert {one.opcode for one in got[:2]} == {TEXT, 9}
            assert [one.payload for one in got[2:]] == [b"written", b"\x0f\xa0done"]
