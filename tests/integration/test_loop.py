"""The service loop with real sockets: idle is idle, nobody starves, order is kept, wake-ups come once.  What could be
otherwise in a loop that is not wsd's own is in test_loops.py.

That it does not spin is counted in turns (returns of select), not timed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import BINARY, TEXT, Client, connect, frame
from tests.support.context import running
from tests.support.timing import MS, wait_until
from wsd.context import Context
from wsd.protocol import Protocol


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


class TestIdle:
    """One or two turns may be somebody's last step; a spin makes thousands."""

    def test_with_nobody_there(self) -> None:
        with running([Echo()]) as served:
            assert served.idle_turns() == 0

    def test_with_connections_that_say_nothing(self) -> None:
        with running([Echo()]) as served, connect(served.port) as one, connect(served.port):
            assert served.idle_turns() <= 1
            one.send_text("still there")
            assert one.receive_message() == "still there"

    def test_an_http_connection_before_and_between_requests(self) -> None:
        with running([Echo()]) as served, Client(served.port) as fresh, Client(served.port) as used:
            assert used.request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
            fresh.send(b"GET / HT")
            assert served.idle_turns() <= 1
            assert used.request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 200

    def test_half_closed_by_the_peer(self) -> None:
        """Ended without a Close, with a message that the peer does not read, so that we cannot end it either."""
        protocol = Echo()
        with running([protocol]) as served, connect(served.port, receive_buffer=4096) as client:
            served.call(lambda: protocol.only.send(bytes(8 << 20)))
            client.shut_down_writing()
            assert served.idle_turns() <= 2
            assert served.context.wsi_count == 1

    def test_half_closed_after_the_last_word(self) -> None:
        """The peer owes us the end of its stream and keeps it back."""
        with running([Echo()]) as served, connect(served.port) as client:
            client.send(frame(3))
            assert client.receive_close().close_code == 1002
            assert served.idle_turns() <= 1
            assert served.context.wsi_count == 1

    def test_a_reader_that_does_not_read(self) -> None:
        protocol = Echo()
        with running([protocol]) as served, connect(served.port, receive_buffer=4096) as client:
            served.call(lambda: protocol.only.send(bytes(8 << 20)))
            assert served.idle_turns() <= 2
            client.send_text("more")  # which is not read either, as long as it does not
            assert served.idle_turns() <= 1
            assert len(client.receive_message()) == 8 << 20
            assert client.receive_message() == "more"

    def test_paused_with_data_waiting(self) -> None:
        protocol = Echo()
        with running([protocol]) as served, connect(served.port) as client:
            served.call(lambda: protocol.only.rx_flow_control(False))
            client.send(frame(TEXT, "waits") * 1000)
            assert served.idle_turns() <= 1
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
            assert served.idle_turns() <= 1
            assert len(protocol.received) == 1

    def test_paused_and_then_half_closed(self) -> None:
        protocol = Echo()
        with running([protocol]) as served, connect(served.port) as client:
            served.call(lambda: protocol.only.rx_flow_control(False))
            client.send_text("last")
            client.shut_down_writing()
            assert served.idle_turns() <= 1
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
            assert served.idle_turns() <= 1
            assert served.context.wsi_count == 0

    def test_a_timer_is_one_turn(self) -> None:
        with running([Echo()]) as served:
            calls: list[int] = []
            served.call(lambda: served.context.call_later(100 * MS, lambda: calls.append(1)))
            assert served.idle_turns() <= 2
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


class TestWakeUps:
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


class Nesting(Echo):
    """Its hook wants another turn, in the way that is asked for."""

    name = "nesting"

    def on_message(self, wsi: Any, message: Any) -> None:
        ways: dict[str, Callable[[], object]] = {
            "service": lambda: wsi.context.service(0),
            "run": wsi.context.run,
            "service_fd": lambda: wsi.context.service_fd(None),
        }
        ways[message]()


@pytest.mark.parametrize("way", ["service", "run", "service_fd"])
def test_a_turn_in_a_turn_is_the_plugins_mistake(way: str) -> None:
    with (
        running([Nesting(), Echo()]) as served,
        connect(served.port, "echo") as other,
        connect(served.port, "nesting") as client,
    ):
        client.send_text(way)
        assert client.receive_close().close_code == 1011
        other.send_text("unharmed")
        assert other.receive_message() == "unharmed"
        assert served.context.counters.plugin_errors == 1
