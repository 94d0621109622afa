"""The same conversations over wsd's own loop and over each of those in docs/examples: nothing may tell them apart.

With a loop that is not wsd's own, what was announced to it is checked too: see tests/support/ledger.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, Client, Frame, close_frame, connect, frame
from tests.support.context import running
from tests.support.echoes import EchoMessages, EchoPieces
from tests.support.loops import BUILT_IN, LOOPS, OtherLoop, loop_of
from tests.support.outgoing import dialing
from tests.support.server import Server, refusing_port
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.config import Limits, Timeouts
from wsd.protocol import Protocol
from wsd.stream import LOW_WATER
from wsd.timers import Timer


@pytest.fixture(params=LOOPS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def loop(kind: str) -> Iterator[OtherLoop | None]:
    with loop_of(kind) as other:
        yield other


def ended(client: Client) -> None:
    """The server ended its stream and said nothing more; it waits for the end of ours."""
    assert client.receive_end() == b""
    client.disconnect()


class TestMessages:
    def test_echo_of_every_length_encoding(self, loop: OtherLoop | None) -> None:
        with running([EchoMessages()], loop=loop) as served, connect(served.port) as client:
            for size in (0, 1, 125, 126, 65_535, 65_536, 700_000):
                client.send_binary(bytes(size))
                assert client.receive_message() == bytes(size)

    def test_many_connections_each_get_their_own(self, loop: OtherLoop | None) -> None:
        with ExitStack() as stack:
            served = stack.enter_context(running([EchoMessages()], loop=loop))
            clients = [stack.enter_context(connect(served.port)) for _ in range(50)]
            for number, client in enumerate(clients):
                client.send_text(f"from {number}")
            for number, client in enumerate(clients):
                assert client.receive_message() == f"from {number}"

    @pytest.mark.parametrize("protocol", [EchoMessages, EchoPieces])
    def test_fragments_with_a_ping_between_and_byte_by_byte(self, loop: OtherLoop | None, protocol: type) -> None:
        message = [
            frame(TEXT, "one ", final=False),
            frame(PING, "p"),
            frame(CONTINUATION, "two ", final=False),
            frame(CONTINUATION, "three"),
        ]
        with running([protocol()], loop=loop) as served, connect(served.port) as client:
            client.send(*message)
            assert client.receive_frame() == Frame(PONG, b"p")
            assert client.receive_message() == "one two three"
            client.send_slowly(b"".join(message))
            assert client.receive_message() == "one two three"

    def test_ten_thousand_messages_in_one_go(self, loop: OtherLoop | None) -> None:
        """Far more than a turn delivers; the descriptor is not readable any more while the rest waits."""
        with running([EchoMessages()], loop=loop) as served, connect(served.port) as client:
            sender = threading.Thread(target=client.send, args=[frame(TEXT, str(n)) for n in range(10_000)])
            sender.start()
            assert [client.receive_message() for _ in range(10_000)] == [str(n) for n in range(10_000)]
            sender.join()
            assert served.idle_turns() <= 1

    def test_plain_http_and_a_second_request_behind_the_first(self, loop: OtherLoop | None) -> None:
        with running([EchoMessages()], loop=loop) as served, Client(served.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            assert [client.receive_response().status for _ in range(2)] == [200, 200]

    def test_several_protocols_and_a_unix_socket(self, loop: OtherLoop | None, tmp_path: Any) -> None:
        with running([EchoMessages(), EchoPieces()], loop=loop, unix=str(tmp_path / "sock")) as served:
            for name in ("messages", "pieces"):
                with connect(served.context.listeners[0].sockname, name) as client:
                    client.send_text(name)
                    assert client.receive_message() == name


class TestEnds:
    def test_closed_by_the_peer(self, loop: OtherLoop | None) -> None:
        protocol = EchoMessages()
        with running([protocol], loop=loop) as served, connect(served.port) as client:
            assert client.finish(4000, "bye").close_code == 4000
            client.disconnect()
            assert protocol.end() == (4000, "bye")

    def test_closed_in_a_hook_behind_what_was_written(self, loop: OtherLoop | None) -> None:
        class Closing(EchoMessages):
            def on_message(self, wsi: Any, message: Any) -> None:
                wsi.send("last")
                wsi.close(4001, "enough")

        protocol = Closing()
        with running([protocol], loop=loop) as served, connect(served.port) as client:
            client.send_text("x")
            assert client.receive_message() == "last"
            assert client.receive_close() == Frame(8, b"\x0f\xa1enough")
            client.send(close_frame(4001))
            ended(client)
            assert protocol.end() == (4001, "")

    def test_closed_from_outside_of_every_hook(self, loop: OtherLoop | None) -> None:
        protocol = EchoMessages()
        with running([protocol], loop=loop) as served, connect(served.port) as client:
            served.call(lambda: next(iter(protocol.wsis)).close(4002, "from outside"))
            assert client.receive_close() == Frame(8, b"\x0f\xa2from outside")
            client.send(close_frame(4002))
            ended(client)
            assert protocol.end() == (4002, "")

    @pytest.mark.parametrize("how", ["reset", "end"])
    def test_the_peer_vanishes(self, loop: OtherLoop | None, how: str) -> None:
        protocol = EchoMessages()
        with running([protocol], loop=loop) as served, connect(served.port) as client:
            if how == "reset":
                client.reset()
            else:
                client.disconnect()
            assert protocol.end() == (1006, "")
            wait_until(lambda: served.context.wsi_count == 0)

    def test_a_peer_that_does_not_end_its_stream(self, loop: OtherLoop | None) -> None:
        protocol = EchoMessages()
        with running([protocol], loop=loop, timeouts=Timeouts(close_seconds=100 * MS)) as served:
            with connect(served.port) as client:
                client.send(close_frame(1000))
                assert client.receive_close().close_code == 1000
                assert protocol.end() == (1000, "")

    def test_a_peer_that_says_nothing_is_gone_after_its_deadline(self, loop: OtherLoop | None) -> None:
        with running([EchoMessages()], loop=loop, timeouts=Timeouts(handshake_seconds=100 * MS)) as served:
            with Client(served.port) as client:
                client.receive_end()
                client.disconnect()
                wait_until(lambda: served.context.wsi_count == 0)

    def test_the_peer_vanishes_while_paused(self, kind: str, loop: OtherLoop | None) -> None:
        """At once, where the loop polls for errors alone; else when it is read again."""
        protocol = EchoMessages()
        with running([protocol], loop=loop) as served, connect(served.port) as client:
            wsi = served.call(lambda: next(iter(protocol.wsis)))
            served.call(lambda: wsi.rx_flow_control(False))
            client.send_text("never read")
            client.reset()
            if kind not in (BUILT_IN, "poll"):
                assert served.idle_turns() <= 1
                assert served.call(lambda: wsi.rx_flow_control(True)) == 0
            assert protocol.end() == (1006, "")

    @pytest.mark.parametrize("count", [0, 1, 20])
    def test_stop_says_1001_to_everybody(self, loop: OtherLoop | None, count: int) -> None:
        protocol = EchoMessages()
        with ExitStack() as stack:
            served = stack.enter_context(running([protocol], loop=loop))
            clients = [stack.enter_context(connect(served.port)) for _ in range(count)]
            served.call(served.context.stop)
            for client in clients:
                assert client.receive_close().close_code == 1001
                client.send(close_frame(1001))
                ended(client)
            served.thread.join(PATIENCE)
            assert not served.thread.is_alive()
            assert served.context.wsi_count == 0
            assert len(served.context.timers) == 0


class TestFlow:
    def test_a_slow_reader_gets_all_of_it_and_costs_nothing_meanwhile(self, loop: OtherLoop | None) -> None:
        protocol = EchoMessages()
        with running([protocol], loop=loop) as served, connect(served.port, receive_buffer=4096) as client:
            served.call(lambda: next(iter(protocol.wsis)).send(bytes(8 << 20)))
            assert served.idle_turns() <= 2  # it has been written, and is not in the queue any more
            client.send_text("behind it")
            assert served.idle_turns() <= 2
            with connect(served.port) as other:
                other.send_text("not disturbed")
                assert other.receive_message() == "not disturbed"
            assert client.receive_message() == bytes(8 << 20)
            assert client.receive_message() == "behind it"

    def test_a_reader_that_takes_nothing_is_closed(self, loop: OtherLoop | None) -> None:
        protocol = EchoMessages()
        timeouts = Timeouts(slow_reader_seconds=100 * MS)
        with running([protocol], loop=loop, timeouts=timeouts) as served:
            with connect(served.port, receive_buffer=4096):
                served.call(lambda: next(iter(protocol.wsis)).send(bytes(8 << 20)))
                assert protocol.end() == (1006, "")

    def test_writing_until_choked(self, loop: OtherLoop | None) -> None:
        class Writer(Protocol):
            name = "writer"
            left = 3000
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
        with running([protocol], loop=loop) as served, connect(served.port, receive_buffer=4096) as client:
            assert served.idle_turns() <= 2
            assert protocol.left, "the kernel took it all: the test shows nothing"
            for number in range(2999, -1, -1):
                assert client.receive_message() == number.to_bytes(2, "big") * 1000
            assert protocol.most <= 2 * LOW_WATER

    def test_flow_control_goes_on_where_it_stopped(self, loop: OtherLoop | None) -> None:
        class Stopping(EchoMessages):
            def on_message(self, wsi: Any, message: Any) -> None:
                wsi.send(message)
                wsi.rx_flow_control(False)
                wsi.set_timer(0)

            def on_timer(self, wsi: Any) -> None:
                wsi.rx_flow_control(True)

        with running([Stopping()], loop=loop) as served, connect(served.port) as client:
            client.send(*(frame(TEXT, str(n)) for n in range(300)))
            assert [client.receive_message() for _ in range(300)] == [str(n) for n in range(300)]

    def test_a_plugin_that_always_asks_to_write_starves_nobody(self, loop: OtherLoop | None) -> None:
        class Greedy(EchoMessages):
            calls = 0

            def on_established(self, wsi: Any) -> None:
                if wsi.request.path == "/greedy":
                    wsi.callback_on_writable()

            def on_writeable(self, wsi: Any) -> None:
                self.calls += 1
                wsi.callback_on_writable()

        protocol, done = Greedy(), threading.Event()
        with running([protocol], loop=loop) as served, connect(served.port, path="/greedy"):
            with connect(served.port) as client:  # who comes in beside it
                served.call(lambda: served.context.call_later(10 * MS, done.set))
                for number in range(30):
                    client.send_text(str(number))
                    assert client.receive_message() == str(number)
                assert done.wait(PATIENCE)
            assert 0 < protocol.calls <= served.context.counters.turns

    def test_at_the_connection_limit_others_wait(self, loop: OtherLoop | None) -> None:
        with running([EchoMessages()], loop=loop, limits=Limits(max_connections=1)) as served:
            with connect(served.port) as one, Client(served.port) as two:
                two.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert served.idle_turns() <= 1
                assert served.context.wsi_count == 1
                assert served.context.counters.accept_pauses == 1
                one.disconnect()
                assert two.receive_response().status == 200


class TestTimersAndWakeUps:
    def test_idle_is_idle(self, loop: OtherLoop | None) -> None:
        with running([EchoMessages()], loop=loop) as served, connect(served.port), Client(served.port):
            assert served.idle_turns() <= 1

    def test_call_later_in_order_from_a_hook_and_from_outside(self, loop: OtherLoop | None) -> None:
        with running([EchoMessages()], loop=loop) as served:
            calls: list[str] = []
            done = threading.Event()

            def last() -> None:
                calls.append("last")
                done.set()

            def first() -> None:
                calls.append("first")
                never.cancel()
                served.context.call_later(0, lambda: calls.append("second"))

            def arrange() -> Timer:
                served.context.call_later(60 * MS, last)
                served.context.call_later(20 * MS, first)
                return served.context.call_later(40 * MS, lambda: calls.append("never"))

            never = served.call(arrange)
            assert done.wait(PATIENCE)
            assert calls == ["first", "second", "last"]
            assert len(served.context.timers) == 0
            assert served.idle_turns() <= 1

    def test_a_timer_of_a_wsi_and_its_timeout(self, loop: OtherLoop | None) -> None:
        class Timed(EchoMessages):
            timers = 0

            def on_established(self, wsi: Any) -> None:
                wsi.set_timer(10 * MS)
                wsi.set_timeout(100 * MS)

            def on_timer(self, wsi: Any) -> None:
                self.timers += 1
                wsi.send("tick")

        protocol = Timed()
        with running([protocol], loop=loop) as served, connect(served.port) as client:
            assert client.receive_message() == "tick"
            assert client.receive_close().close_code == 1008
            assert protocol.timers == 1

    def test_a_broadcast_from_another_thread_by_a_wake_up(self, loop: OtherLoop | None) -> None:
        class Woken(EchoMessages):
            threads: list[int] = []

            def on_wakeup(self) -> None:
                self.threads.append(threading.get_ident())
                self.broadcast("awake")

        protocol = Woken()
        with running([protocol], loop=loop) as served, connect(served.port) as one, connect(served.port) as two:
            served.context.cancel_service()
            assert one.receive_message() == two.receive_message() == "awake"
            assert set(protocol.threads) == {served.thread.ident}

    def test_all_announcements_are_made_in_the_loops_thread(self, loop: OtherLoop | None) -> None:
        with running([EchoMessages()], loop=loop) as served, connect(served.port, receive_buffer=4096) as client:
            if loop is not None:
                loop.ledger.threads.clear()  # it was begun in ours
            client.send_binary(bytes(1 << 20))
            assert client.receive_message() == bytes(1 << 20)
            client.finish()
            client.disconnect()
            wait_until(lambda: served.context.wsi_count == 0)
            if loop is not None:
                assert loop.ledger.threads == {served.thread.ident}


class TestClients:
    def test_a_connection_that_we_open_and_the_server_closes(self, loop: OtherLoop | None) -> None:
        with dialing(loop=loop) as dial, Server() as server:
            dial.connect(server.url)
            connection = server.accept_websocket("Sec-WebSocket-Protocol: out")
            wsi = dial.established()
            connection.send_text("hello")
            assert dial.message() == "hello"
            dial.call(lambda: wsi.send("from outside of every hook"))
            assert connection.receive_message() == "from outside of every hook"
            assert connection.finish(4000).close_code == 4000
            assert dial.closed() == (4000, "")

    def test_one_that_we_close(self, loop: OtherLoop | None) -> None:
        with dialing(loop=loop) as dial, Server() as server:
            dial.connect(server.url)
            connection = server.accept_websocket("Sec-WebSocket-Protocol: out")
            dial.call(dial.established().close)
            assert connection.receive_close().close_code == 1000
            connection.send_close(1000)
            connection.disconnect()
            assert dial.closed() == (1000, "")

    def test_one_that_is_refused(self, loop: OtherLoop | None) -> None:
        with dialing(loop=loop) as dial, refusing_port() as port:
            dial.connect(f"ws://127.0.0.1:{port}/")
            assert dial.error().cause == "refused"

    def test_a_name_is_looked_up_in_a_thread_whose_answer_wakes_the_loop(self, loop: OtherLoop | None) -> None:
        with dialing(loop=loop) as dial, Server() as server:
            dial.connect(f"ws://localhost:{server.port}/")
            connection = server.accept_websocket("Sec-WebSocket-Protocol: out")
            dial.established()
            connection.finish()
            assert dial.closed() == (1000, "")

    def test_to_ourselves_both_ends_in_one_loop(self, loop: OtherLoop | None) -> None:
        with dialing(EchoMessages(), loop=loop) as dial:
            dial.connect(f"ws://127.0.0.1:{dial.served.port}/", subprotocols=["messages"])
            wsi = dial.established()
            for data in (b"x", bytes(1_000_000)):
                dial.call(lambda data=data: wsi.send(data))
                assert dial.message() == data
            dial.call(wsi.close)
            assert dial.closed() == (1000, "")

    def test_binary_stays_binary(self, loop: OtherLoop | None) -> None:
        with running([EchoPieces()], loop=loop) as served, connect(served.port) as client:
            client.send(frame(BINARY, b"a", final=False), frame(CONTINUATION, b"b"))
            assert [client.receive_frame() for _ in range(2)] == [
                Frame(BINARY, b"a", final=False),
                Frame(CONTINUATION, b"b"),
            ]
