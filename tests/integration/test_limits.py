"""What a peer cannot make the daemon do: hold connections, wait for ever, or keep memory that nobody fetches."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import PING, PONG, TEXT, Client, connect, frame, upgrade_request
from tests.support.context import running
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.config import Keepalive, Limits, Timeouts
from wsd.protocol import Protocol

ROOT = Path(__file__).resolve().parent.parent.parent


class Echo(Protocol):
    """Answers every message with itself; `pongs` and `closed` are what came besides."""

    name = "echo"

    def __init__(self) -> None:
        self.pongs: list[bytes] = []
        self.closed: list[tuple[int, str]] = []

    def on_message(self, wsi: Any, message: Any) -> None:
        wsi.send(message)

    def on_pong(self, wsi: Any, payload: bytes) -> None:
        self.pongs.append(payload)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.closed.append((code, close_reason))

    @property
    def only(self) -> Any:
        """The one wsi there is."""
        (wsi,) = self.wsis
        return wsi


def is_alive(client: Client) -> bool:
    """Reports whether a round trip works."""
    client.send_text("round trip")
    return client.receive_message() == "round trip"


def has_answer(client: Client) -> bool:
    """Reports whether the server has said anything yet, without waiting long for it."""
    client.socket.settimeout(50 * MS)
    try:
        return bool(client.socket.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        client.socket.settimeout(PATIENCE)


class TestConnectionLimit:
    def test_those_over_it_wait_and_get_in_as_others_leave(self) -> None:
        with contextlib.ExitStack() as stack:
            served = stack.enter_context(running([Echo()], limits=Limits(max_connections=3)))
            inside = [stack.enter_context(connect(served.port)) for _ in range(3)]
            waiting = [stack.enter_context(Client(served.port)) for _ in range(3)]
            for client in waiting:
                client.send(upgrade_request())
            assert not any(map(has_answer, waiting))
            assert served.context.wsi_count == 3
            for gone, client in zip(inside, waiting, strict=True):
                gone.reset()
                assert client.receive_response().status == 101
                assert served.context.wsi_count == 3
            assert all(map(is_alive, waiting))

    def test_it_holds_over_several_listeners(self) -> None:
        with running([Echo()], limits=Limits(max_connections=1)) as served:
            other = served.call(lambda: served.context.listen(port=0))
            with connect(served.port) as one, Client(other.port) as two:
                two.send(upgrade_request())
                assert not has_answer(two)
                one.disconnect()
                assert two.receive_response().status == 101

    def test_a_listener_opened_at_the_limit_waits_too(self) -> None:
        with running([Echo()], limits=Limits(max_connections=1)) as served, connect(served.port) as one:
            other = served.call(lambda: served.context.listen(port=0))
            with Client(other.port) as two:
                two.send(upgrade_request())
                assert not has_answer(two)
                one.disconnect()
                assert two.receive_response().status == 101


# A daemon with two descriptors left, which takes orders on its standard input.
STARVED = """
import json, os, resource, sys
from tests.integration.test_limits import Echo
from wsd.context import Context

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
context = Context([Echo()])
listener = context.listen(port=0)
hogs = []
while True:
    try:
        hogs.append(os.dup(0))
    except OSError:
        break
for _ in range(2):
    os.close(hogs.pop())

def order(mask):
    for what in os.read(0, 100).decode().split():
        if what == "release":
            while hogs:
                os.close(hogs.pop())
        elif what == "stop":
            context.unwatch(0)
            context.stop()
        print(json.dumps({"connections": context.wsi_count, **context.counters.as_dict()}), flush=True)

context.watch(0, 1, order)
print(listener.port, context.max_connections, flush=True)
context.run()
context.close()
"""


class Starved:
    """The process that runs it; `tell` gives its counters."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        self._in, self._out = process.stdin, process.stdout
        port, limit = self._out.readline().split()
        self.port, self.max_connections = int(port), int(limit)

    def tell(self, what: str) -> dict[str, int]:
        self._in.write(what + "\n")
        self._in.flush()
        found: dict[str, int] = json.loads(self._out.readline())
        return found


@pytest.fixture
def starved() -> Iterator[Starved]:
    with subprocess.Popen(
        [sys.executable, "-c", STARVED],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            daemon = Starved(process)
            yield daemon
            daemon.tell("stop")
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors
            assert errors.count("cannot accept: Too many open files") <= 1, errors
            assert "Traceback" not in errors
        finally:
            process.kill()


class TestNoDescriptors:
    def test_accepting_pauses_without_a_spin_and_resumes(self, starved: Starved) -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(starved.port)) for _ in range(5)]
            for client in clients:
                client.send(upgrade_request())
            for client in clients[:2]:
                assert client.receive_response().status == 101
            wait_until(lambda: starved.tell("count")["accept_pauses"] >= 1)
            before = starved.tell("count")["turns"]
            time.sleep(300 * MS)
            after = starved.tell("count")
            # Ten tries a second, and two turns each.
            assert after["turns"] - before < 20
            assert after["connections"] == 2
            assert all(map(is_alive, clients[:2]))
            starved.tell("release")
            for client in clients[2:]:
                assert client.receive_response().status == 101
            assert all(map(is_alive, clients))

    def test_a_connection_that_ends_lets_one_in(self, starved: Starved) -> None:
        with Client(starved.port) as one, Client(starved.port) as two, Client(starved.port) as three:
            for client in (one, two, three):
                client.send(upgrade_request())
            for client in (one, two):
                assert client.receive_response().status == 101
            assert not has_answer(three)
            one.disconnect()
            assert three.receive_response().status == 101

    def test_the_limit_is_what_the_system_allows_less_what_is_open_and_a_reserve(self, starved: Starved) -> None:
        # 64, less the standard streams, the loop's two, and half of what is left.
        assert starved.max_connections == 64 - 5 - 29


class TestDeadlines:
    def test_a_request_head_has_one_however_its_bytes_drip(self) -> None:
        with running([Echo()], timeouts=Timeouts(handshake_seconds=0.3)) as served, Client(served.port) as client:
            began = time.monotonic()
            for byte in b"GET / HTTP/1.1\r\n" + b"X" * 100:
                if has_answer(client):
                    break
                client.send(bytes([byte]))
            assert 0.3 <= time.monotonic() - began < 2
            assert client.receive_response().status == 408
            assert client.receive_end() == b""

    def test_one_that_says_nothing_gets_no_word(self) -> None:
        with running([Echo()], timeouts=Timeouts(handshake_seconds=0.1)) as served, Client(served.port) as client:
            assert client.receive_end() == b""
            client.disconnect()
            wait_until(lambda: served.context.wsi_count == 0)
            assert len(served.context.timers) == 0

    def test_an_idle_http_connection(self) -> None:
        with running([Echo()], timeouts=Timeouts(http_idle_seconds=0.1)) as served, Client(served.port) as client:
            assert client.request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
            assert client.receive_end() == b""

    def test_a_websocket_has_none(self) -> None:
        short = Timeouts(handshake_seconds=0.1, http_idle_seconds=0.1, close_seconds=0.1, slow_reader_seconds=0.1)
        with running([Echo()], timeouts=short) as served, connect(served.port) as client:
            time.sleep(300 * MS)
            assert is_alive(client)

    def test_the_answer_to_our_close(self) -> None:
        protocol = Echo()
        with running([protocol], timeouts=Timeouts(close_seconds=0.1)) as served, connect(served.port) as client:
            served.call(lambda: protocol.only.close(4000))
            assert client.receive_close().close_code == 4000
            assert client.receive_end() == b""
            wait_until(lambda: protocol.closed == [(1006, "")])

    def test_the_end_of_the_stream_after_both_closes(self) -> None:
        protocol = Echo()
        with running([protocol], timeouts=Timeouts(close_seconds=0.1)) as served, connect(served.port) as client:
            assert client.finish(1000).close_code == 1000
            wait_until(lambda: protocol.closed == [(1000, "")])  # though `client` has not closed its side
            assert served.context.wsi_count == 0

    def test_a_close_that_a_choked_peer_does_not_fetch(self) -> None:
        protocol = Echo()
        with (
            running([protocol], timeouts=Timeouts(close_seconds=0.1)) as served,
            connect(served.port, receive_buffer=4096),
        ):
            served.call(lambda: protocol.only.send(bytes(8 << 20)))
            served.call(lambda: protocol.only.close())
            wait_until(lambda: protocol.closed == [(1006, "")])


class TestSlowReader:
    def test_one_that_reads_nothing_is_cut_and_nobody_else_notices(self) -> None:
        protocol = Echo()
        timeouts = Timeouts(slow_reader_seconds=0.3)
        with running([protocol], timeouts=timeouts) as served, connect(served.port, receive_buffer=4096):
            slow = served.call(lambda: protocol.only)
            with connect(served.port) as polite:
                served.call(lambda: slow.send(bytes(8 << 20)))
                trips = 0
                while not protocol.closed:
                    assert is_alive(polite)
                    trips += 1
                    time.sleep(5 * MS)
                assert trips > 5
                assert protocol.closed == [(1006, "")]
                assert served.context.counters.slow_readers == 1
                assert is_alive(polite)

    def test_one_that_reads_slowly_but_reads_lives(self) -> None:
        protocol = Echo()
        size = 8 << 20
        with (
            running([protocol], timeouts=Timeouts(slow_reader_seconds=0.2)) as served,
            connect(served.port, receive_buffer=65536) as client,
        ):
            served.call(lambda: protocol.only.send(bytes(size)))
            left = size + 10
            until = time.monotonic() + 0.8
            while left:
                data = client.socket.recv(min(left, 1 << 18 if time.monotonic() < until else 1 << 22))
                assert data, "cut off"
                left -= len(data)
                if time.monotonic() < until:
                    time.sleep(20 * MS)
            assert is_alive(client)
            assert served.context.counters.slow_readers == 0

    def test_a_full_queue_is_answered_close_and_closed_with_1008(self) -> None:
        class Chatty(Echo):
            answers: list[int] = []

            def on_message(self, wsi: Any, message: Any) -> None:
                while not self.answers or self.answers[-1] == 0:
                    self.answers.append(wsi.send(bytes(10_000)))
                self.answers.append(wsi.send(b"after"))

        protocol = Chatty()
        with (
            running([protocol], limits=Limits(max_queue_bytes=200_000)) as served,
            connect(served.port),
            connect(served.port) as client,
        ):
            client.send_text("go")
            for _ in range(20):
                assert client.receive_message() == bytes(10_000)
            close = client.receive_close()
            assert (close.close_code, close.close_reason) == (1008, "outgoing queue is full")
            assert protocol.answers == [0] * 20 + [-1, -1]
            assert served.context.counters.queue_overflows == 1
            client.disconnect()
            wait_until(lambda: len(protocol.wsis) == 1)

    def test_a_broadcast_closes_only_those_whose_queue_is_full(self) -> None:
        protocol = Echo()
        with (
            running([protocol], limits=Limits(max_queue_bytes=100_000)) as served,
            connect(served.port, receive_buffer=4096),
            connect(served.port) as good,
        ):
            for number in range(400):
                data = number.to_bytes(2, "big") * 10_000
                served.call(partial(protocol.broadcast, data))
                assert good.receive_message() == data
            assert served.context.counters.queue_overflows == 1
            assert is_alive(good)


class TestKeepalive:
    def test_the_kernels_probes_reach_an_accepted_socket(self) -> None:
        protocol = Echo()
        keepalive = Keepalive(time_seconds=33, probes=4, interval_seconds=7)

        def options() -> list[int]:
            with socket.socket(fileno=socket.dup(protocol.only.fileno())) as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                names = [socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT, socket.TCP_KEEPINTVL, socket.TCP_USER_TIMEOUT]
                return [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names]

        with running([protocol], keepalive=keepalive) as served, connect(served.port):
            assert served.call(options) == [33, 4, 7, 61_000]

    def test_an_idle_peer_is_pinged_and_lives_as_long_as_it_answers(self) -> None:
        protocol = Echo()
        keepalive = Keepalive(ping_seconds=0.05, hangup_seconds=2)
        with running([protocol], keepalive=keepalive) as served, connect(served.port) as client:
            for _ in range(3):
                ping = client.receive_frame()
                assert ping.opcode == PING
                client.send(frame(PONG, ping.payload))
            client.send(frame(PONG, b"unasked"))
            wait_until(lambda: protocol.pongs)
            assert protocol.pongs == [b"unasked"]

    def test_one_that_does_not_answer_is_hung_up_on(self) -> None:
        protocol = Echo()
        keepalive = Keepalive(ping_seconds=0.05, hangup_seconds=0.1)
        with running([protocol], keepalive=keepalive) as served, connect(served.port) as client:
            assert client.receive_frame().opcode == PING
            assert client.receive_end() == b""
            wait_until(lambda: protocol.closed == [(1006, "")])
            assert served.context.counters.hangups == 1

    def test_while_paused_nobody_is_pinged_or_hung_up_on(self) -> None:
        protocol = Echo()
        keepalive = Keepalive(ping_seconds=0.05, hangup_seconds=0.1)
        with running([protocol], keepalive=keepalive) as served, connect(served.port) as client:
            ping = client.receive_frame()
            client.send(frame(PONG, ping.payload))
            served.call(lambda: protocol.only.rx_flow_control(False))
            time.sleep(300 * MS)
            assert served.context.counters.hangups == 0
            client.send(frame(TEXT, "alive"))
            served.call(lambda: protocol.only.rx_flow_control(True))
            assert client.receive_message() == "alive"

    def test_zero_is_never(self) -> None:
        with running([Echo()], keepalive=Keepalive(ping_seconds=0)) as served, connect(served.port):
            assert len(served.context.timers) == 0
