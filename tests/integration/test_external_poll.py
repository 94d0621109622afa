"""External polling, step by step: what is announced, what one call serves, and that nothing is lost between the loops.

The other loop is the test itself, in one thread.  Whole conversations over real loops are in test_loops.py.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from select import POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT
from typing import Any

import pytest

from tests.support.client import TEXT, Client, close_frame, frame
from tests.support.ledger import Ledger
from tests.support.outgoing import Outgoing
from tests.support.server import Server, silent_port
from tests.support.stepped import STYLES, has_come, stepped
from tests.support.timing import PATIENCE
from wsd.config import Keepalive, Limits
from wsd.context import Context
from wsd.errors import PluginError
from wsd.external import PollFd
from wsd.protocol import Protocol
from wsd.stream import LOW_WATER
from wsd.wsi import PIECES_PER_TURN

QUIET = Keepalive(ping_seconds=0)
"""No timer runs on a connection that nobody waits for."""


class Echo(Protocol):
    """Echoes, and keeps what a test wants to look at; `hooks` are called besides, by the hook's name."""

    name = "echo"

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        self.hooks = hooks
        self.received: list[Any] = []
        self.closed: list[tuple[int, str]] = []
        self.calls: list[str] = []

    def on_message(self, wsi: Any, message: Any) -> Any:
        self.received.append(message)
        if "on_message" in self.hooks:
            return self.hooks["on_message"](wsi, message)
        return wsi.send(message)

    def on_writeable(self, wsi: Any) -> None:
        self.calls.append("writeable")

    def on_timer(self, wsi: Any) -> None:
        self.calls.append("timer")

    def on_wakeup(self) -> None:
        self.calls.append("wakeup")

    def on_user(self, wsi: Any, reason: int, data: Any) -> None:
        self.calls.append(f"user {reason} {data}")

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.closed.append((code, close_reason))

    @property
    def newest(self) -> Any:
        return list(self.wsis)[-1]


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class TestAnnouncements:
    def test_the_wake_up_first_then_listeners_as_they_come_and_go(self, style: str) -> None:
        with stepped([Echo()], style) as loop:
            other = loop.context.listen(port=0)
            assert loop.ledger.history == [
                ("add", loop.wakeup, POLLIN),
                ("add", loop.listener.fileno(), POLLIN),
                ("add", other.fileno(), POLLIN),
            ]
            fd = other.fileno()
            loop.context.remove_listener(other)
            assert loop.ledger.history[-1] == ("del", fd, 0)

    def test_a_connection_from_accept_to_end_is_polled_for_input_and_nothing_else(self, style: str) -> None:
        """Write before you arm: a kernel that takes all at once is never asked whether it would."""
        protocol = Echo()
        with stepped([protocol], style) as loop, loop.connect() as client:
            fd = protocol.newest.fileno()
            for number in range(50):
                client.send_text(str(number))
                assert loop.fetch(client) == str(number)
            client.send(close_frame(4000))
            loop.until(lambda: has_come(client))
            assert client.receive_close().close_code == 4000
            client.disconnect()
            loop.until(lambda: protocol.closed)
            assert loop.ledger.of(fd) == [("add", POLLIN), ("del", 0)]

    def test_paused_and_resumed(self, style: str) -> None:
        protocol = Echo()
        with stepped([protocol], style) as loop, loop.connect() as client:
            wsi = protocol.newest
            for pause in (True, True, False, False, True, False):
                wsi.rx_flow_control(not pause)
                assert loop.ledger.table[wsi.fileno()] == (0 if pause else POLLIN)
            assert loop.ledger.of(wsi.fileno())[1:] == [("clear", POLLIN), ("set", POLLIN)] * 2
            client.send_text("still")
            assert loop.fetch(client) == "still"

    def test_choked_and_drained(self, style: str) -> None:
        """Output is armed, input is not wanted while more than enough waits, and both come back."""
        protocol = Echo()
        with stepped([protocol], style) as loop, loop.connect(receive_buffer=4096) as client:
            wsi = protocol.newest
            wsi.send(bytes(8 << 20))
            loop.settle()
            assert loop.ledger.table[wsi.fileno()] == POLLOUT
            assert loop.ready() == {}
            while wsi.unsent:
                client.buffer += client.socket.recv(1 << 20)
                loop.batch()
            assert loop.ledger.table[wsi.fileno()] == POLLIN
            loop.settle()
            assert client.receive_message() == bytes(8 << 20)

    def test_choked_by_a_little_it_is_polled_for_both(self, style: str) -> None:
        protocol = Echo()
        with stepped([protocol], style) as loop, loop.connect(receive_buffer=4096) as client:
            wsi = protocol.newest
            while not wsi.unsent:
                wsi.send(bytes(1000))
                loop.settle()
            assert wsi.unsent < LOW_WATER
            assert loop.ledger.of(wsi.fileno()) == [("add", POLLIN), ("set", POLLOUT)]
            while wsi.unsent:
                client.buffer += client.socket.recv(1 << 20)
                loop.batch()
            assert loop.ledger.of(wsi.fileno())[2:] == [("clear", POLLOUT)]

    def test_a_listener_at_the_limit(self, style: str) -> None:
        with stepped([Echo()], style, limits=Limits(max_connections=1)) as loop:
            listener = loop.listener.fileno()
            with loop.connect() as client, Client(loop.port):
                assert loop.ledger.table[listener] == 0
                assert loop.ready() == {}
                client.disconnect()
                loop.until(lambda: loop.ledger.table[listener] == POLLIN)

    def test_connecting_is_polled_for_output_and_then_for_input(self, style: str) -> None:
        protocol = Outgoing()
        with stepped([protocol], style) as loop, Server() as server:
            wsi = loop.context.client_connect(server.url, protocol=protocol)
            loop.until(lambda: wsi.fileno() >= 0)
            assert loop.ledger.of(wsi.fileno()) == [("add", POLLOUT), ("del", 0), ("add", POLLIN)]
            connection = server.accept()
            connection.switch("Sec-WebSocket-Protocol: out")
            loop.until(lambda: protocol.calls[-1] == "established")
            connection.send_close()
            connection.disconnect()
            loop.until(lambda: protocol.calls[-1] == "closed")

    def test_what_is_there_before_protocol_0_is_announced_when_that_comes(self) -> None:
        ledger = Ledger()

        class Late(Protocol):
            name = "late"

            def on_protocol_init(self, context: Context, options: Any) -> None:
                context.listen(port=0, protocols=[]).pause()
                assert ledger.history == []

            def on_add_poll_fd(self, fd: int, events: int) -> None:
                ledger.add(fd, events)

            def on_del_poll_fd(self, fd: int) -> None:
                ledger.delete(fd)

        with Context(external_poll=True) as context:
            context.add_protocol(Late())
            assert [(what, events) for what, _, events in ledger.history] == [("add", POLLIN), ("add", 0)]
            context.add_protocol(Echo())
            assert len(ledger.history) == 2
        ledger.check_ended()

    def test_a_protocol_0_that_fails_is_told_nothing(self) -> None:
        told: list[int] = []

        class Failing(Protocol):
            name = "failing"

            def on_protocol_init(self, context: Context, options: Any) -> None:
                raise RuntimeError("no")

            def on_add_poll_fd(self, fd: int, events: int) -> None:
                told.append(fd)

        with pytest.raises(PluginError):
            Context([Failing()], external_poll=True)
        assert told == []

    def test_without_external_polling_nothing_is_announced(self) -> None:
        told: list[int] = []

        class Curious(Protocol):
            name = "curious"

            def on_add_poll_fd(self, fd: int, events: int) -> None:
                told.append(fd)

        with Context([Curious()]) as context:
            context.listen(port=0)
            context.service(0)
        assert told == []

    def test_a_hook_that_raises_is_logged_and_the_rest_goes_on(self, capfd: pytest.CaptureFixture[str]) -> None:
        class Broken(Protocol):
            name = "broken"

            def on_add_poll_fd(self, fd: int, events: int) -> None:
                raise RuntimeError("cannot poll this")

        with Context([Broken()], external_poll=True) as context:
            context.listen(port=0)
            assert context.service_fd(None) is None
            assert context.counters.plugin_errors == 2
            assert context.counters.bugs == 0

    @pytest.mark.parametrize("seed", range(8))
    def test_a_random_walk_ends_at_every_step_where_the_facts_say(self, seed: int) -> None:
        """Input while nobody pauses, output exactly while the kernel has refused some; a book of our own says which."""
        chance = random.Random(seed)
        protocol = Echo(on_message=lambda wsi, message: None)
        with stepped([protocol], keepalive=QUIET) as loop:
            clients: dict[Any, Client] = {}
            paused: set[Any] = set()
            try:
                for _ in range(120):
                    deed = chance.choice(["open", "close", "reset", "pause", "resume", "flood", "fetch", "say", "say"])
                    if deed == "open" and len(clients) < 5:
                        client = loop.connect(receive_buffer=4096)
                        clients[protocol.newest] = client
                    elif clients:
                        self.do(deed, *chance.choice(list(clients.items())), clients, paused)
                    loop.settle()
                    for wsi in clients:
                        events = loop.ledger.table[wsi.fileno()]
                        assert bool(events & POLLOUT) is (wsi.unsent > 0)
                        assert not (wsi in paused and events & POLLIN)
                        assert events & POLLIN or wsi in paused or wsi.unsent >= LOW_WATER
                    assert set(loop.ledger.table) == {
                        loop.wakeup,
                        loop.listener.fileno(),
                        *(wsi.fileno() for wsi in clients),
                    }
            finally:
                for client in clients.values():
                    client.disconnect()

    @staticmethod
    def do(deed: str, wsi: Any, client: Client, clients: dict[Any, Client], paused: set[Any]) -> None:
        if deed in ("close", "reset"):
            client.reset() if deed == "reset" else wsi.abort()
            client.disconnect()
            del clients[wsi]
            paused.discard(wsi)
        elif deed in ("pause", "resume"):
            wsi.rx_flow_control(deed == "resume")
            paused.add(wsi) if deed == "pause" else paused.discard(wsi)
        elif deed == "flood":
            if not wsi.unsent:  # more than the queue may hold would end it
                wsi.send(bytes(900_000))
        elif deed == "fetch":
            client.socket.setblocking(False)
            try:
                while client.socket.recv(1 << 20):
                    pass
            except BlockingIOError:
                pass
        else:
            client.socket.setblocking(True)
            client.send_text("said")


class TestServiceFd:
    def test_revents_are_zeroed_if_it_was_ours(self) -> None:
        protocol = Echo()
        with stepped([protocol]) as loop, loop.connect() as client:
            client.send_text("x")
            fd = protocol.newest.fileno()
            assert loop.serve(fd, loop.wait_ready(fd)).revents == 0
            assert protocol.received == ["x"]
            assert loop.serve(fd, 0).revents == 0
            assert loop.serve(fd, POLLNVAL).revents == 0
            assert protocol.newest.is_established

    def test_what_is_not_ours_is_left_alone(self) -> None:
        with stepped([Echo()]) as loop:
            loop.context.call_later(PATIENCE, lambda: None)
            loop.settle()
            before = loop.context.counters.turns
            with socket.create_server(("127.0.0.1", 0)) as foreign:
                for fd, revents in ((foreign.fileno(), POLLIN | POLLHUP), (-1, POLLNVAL), (1 << 30, POLLIN)):
                    pollfd = loop.serve(fd, revents)
                    assert (pollfd.fd, pollfd.revents) == (fd, revents)
                    assert loop.answer is not None
                    assert 0 < loop.answer <= PATIENCE
            assert loop.context.counters.turns == before

    def test_one_that_has_left_is_not_ours_any_more(self) -> None:
        protocol = Echo()
        with stepped([protocol]) as loop, loop.connect():
            fd = protocol.newest.fileno()
            protocol.newest.abort()
            loop.settle()
            assert protocol.closed
            assert loop.serve(fd, POLLIN | POLLHUP).revents == POLLIN | POLLHUP

    def test_the_answer_is_the_time_to_the_next_timer(self) -> None:
        with stepped([Echo()]) as loop:
            assert loop.due() is None
            calls: list[str] = []
            later = loop.context.call_later(PATIENCE, lambda: calls.append("later"))
            loop.settle()
            assert loop.answer is not None
            assert PATIENCE / 2 < loop.answer <= PATIENCE
            loop.context.call_later(0, lambda: calls.append("now"))
            assert loop.due() is not None
            assert calls == ["now"]
            later.cancel()
            assert loop.due() is None

    def test_the_context_does_not_poll(self) -> None:
        with stepped([Echo()]) as loop:
            with pytest.raises(RuntimeError, match="external_poll"):
                loop.context.service(0)
            with pytest.raises(RuntimeError, match="external_poll"):
                loop.context.run()

    @pytest.mark.parametrize("revents", [POLLIN, POLLOUT, POLLIN | POLLOUT])
    def test_a_readiness_that_is_not_so_does_no_harm(self, revents: int) -> None:
        """Another loop may be told twice, or serve what its neighbour in the batch has used up."""
        protocol = Echo()
        with stepped([protocol]) as loop, loop.connect() as client:
            for fd in (loop.wakeup, loop.listener.fileno(), protocol.newest.fileno()):
                for _ in range(3):
                    assert loop.serve(fd, revents).revents == 0
            client.send_text("alive")
            assert loop.fetch(client) == "alive"
            assert protocol.calls == []

    @pytest.mark.parametrize("pause", [False, True])
    @pytest.mark.parametrize("revents", [POLLERR, POLLHUP, POLLERR | POLLHUP, POLLIN | POLLERR | POLLHUP])
    def test_errors_and_hang_ups_end_a_connection(self, revents: int, pause: bool) -> None:
        protocol = Echo()
        with stepped([protocol]) as loop, loop.connect() as client:
            wsi = protocol.newest
            wsi.rx_flow_control(not pause)
            client.reset()
            assert loop.wait_ready(wsi.fileno()) & POLLHUP
            loop.serve(wsi.fileno(), revents)
            assert protocol.closed == [(1006, "")]

    def test_a_hook_may_close_the_context(self) -> None:
        with stepped([Echo(on_message=lambda wsi, message: wsi.context.close())]) as loop, loop.connect() as client:
            client.send_text("x")
            loop.until(lambda: loop.context.is_closed)
            loop.ledger.check_ended()
            assert loop.serve(loop.wakeup, POLLIN).revents == POLLIN
            assert client.receive_end() == b""


class TestFairness:
    def test_what_one_turn_leaves_over_is_work_of_the_next_though_nothing_is_readable(self) -> None:
        protocol = Echo(on_message=lambda wsi, message: None)
        with stepped([protocol], keepalive=QUIET) as loop, loop.connect() as client:
            client.send(frame(TEXT, "x") * 9000)  # fits into one read, which is cut only where the kernel does
            fd = protocol.newest.fileno()
            loop.serve(fd, loop.wait_ready(fd))
            while len(protocol.received) < 9000:
                before = len(protocol.received)
                loop.due()
                assert len(protocol.received) - before <= PIECES_PER_TURN
                if len(protocol.received) < 9000:
                    assert loop.answer == 0
                    assert loop.wakeup in loop.ready(), "a loop that only polls sleeps now"
            loop.settle()
            assert loop.answer is None
            assert loop.ready() == {}

    def test_a_loop_that_ignores_the_answer_gets_all_of_it_by_the_wake_up(self) -> None:
        protocol = Echo()
        with stepped([protocol]) as loop, loop.connect() as client:
            client.send(*(frame(TEXT, str(number)) for number in range(10_000)))
            while len(protocol.received) < 10_000:
                assert loop.batch(PATIENCE), "nothing is ready, and not all of it is delivered"
                client.socket.setblocking(False)
                try:
                    client.buffer += client.socket.recv(1 << 20)
                except BlockingIOError:
                    pass
                client.socket.setblocking(True)
            loop.settle()
            assert [client.receive_message() for _ in range(10_000)] == [str(number) for number in range(10_000)]

    def test_others_are_served_between_the_parts(self) -> None:
        protocol = Echo(on_message=lambda wsi, message: None)
        with stepped([protocol]) as loop, loop.connect() as flood, loop.connect() as polite:
            one, other = list(protocol.wsis)
            flood.send(frame(TEXT, "f") * 9000)
            loop.wait_ready(one.fileno())
            loop.batch()
            polite.send_text("p")
            loop.wait_ready(other.fileno())
            loop.batch()
            assert protocol.received.count("p") == 1
            assert 0 < len(protocol.received) < 2000
            loop.settle()
            assert len(protocol.received) == 9001

    def test_a_plugin_that_always_asks_is_one_call_a_turn_and_the_answer_0(self) -> None:
        class Greedy(Echo):
            def on_writeable(self, wsi: Any) -> None:
                super().on_writeable(wsi)
                wsi.callback_on_writable()

        protocol = Greedy()
        with stepped([protocol]) as loop, loop.connect():
            protocol.newest.callback_on_writable()
            for number in range(1, 10):
                assert loop.due() == 0
                assert protocol.calls.count("writeable") == number


class TestStopAndClose:
    def test_stop_is_over_when_all_have_ended(self, style: str) -> None:
        protocol = Echo()
        with stepped([protocol], style) as loop, loop.connect() as one, loop.connect() as two:
            loop.context.stop()
            loop.until(lambda: has_come(one) and has_come(two))
            for client in (one, two):
                assert client.receive_close().close_code == 1001
                client.send(close_frame(1001))
                client.disconnect()
            loop.until(lambda: not loop.context.wsi_count)
            assert protocol.closed == [(1001, "")] * 2
            assert loop.ledger.table == {loop.wakeup: POLLIN}
            assert loop.due() is None

    def test_close_takes_back_everything_before_protocol_0_is_destroyed(self, style: str) -> None:
        protocol = Echo()
        with stepped([protocol], style) as loop, loop.connect() as client, Client(loop.port), silent_port() as port:
            loop.context.client_connect(f"ws://127.0.0.1:{port}/", protocol=protocol)
            protocol.newest.send(bytes(900_000))
            loop.settle()
            assert len(loop.ledger.table) == 5
            loop.context.close()
            loop.ledger.check_ended()
            assert protocol.closed == [(1006, "")]
            assert client.receive_end()

    def test_closed_before_anything_was_served(self, style: str) -> None:
        with stepped([Echo()], style) as loop, Client(loop.port):
            pass
        assert [what for what, _, _ in loop.ledger.history] == ["add", "add", "del", "del"]

    def test_a_pollfd_of_ones_own_is_enough(self) -> None:
        with stepped([Echo()]) as loop:
            pollfd = PollFd(loop.wakeup)
            loop.context.rouse()
            pollfd.revents = POLLIN
            assert loop.context.service_fd(pollfd) is None
            assert pollfd.revents == 0
            assert loop.ready() == {}
