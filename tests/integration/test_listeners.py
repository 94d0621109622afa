"""Where connections come in and what they become, many of them at once, and how all of it ends."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import BINARY, Client, close_frame, connect, frame, upgrade_request
from tests.support.context import running
from tests.support.timing import PATIENCE, wait_until
from wsd.config import Limits, Timeouts
from wsd.protocol import Protocol
from wsd.wire.response import Response


class Named(Protocol):
    """Says its name and what it sees of the connection to each newcomer, then echoes."""

    def __init__(self, name: str = "named") -> None:
        self.name = name  # type: ignore[misc]
        self.closed: list[tuple[int, str]] = []

    def on_established(self, wsi: Any) -> None:
        wsi.send(f"{self.name} {wsi.peer.address} {wsi.local.port}")

    def on_message(self, wsi: Any, message: Any) -> None:
        wsi.send(message)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.closed.append((code, close_reason))


def greeting(address: Any, protocols: str | None = None, path: str = "/") -> str | bytes:
    """What the protocol that took a connection says."""
    with connect(address, protocols, path) as client:
        return client.receive_message()


class TestAddresses:
    def test_ipv4(self) -> None:
        with running([Named()]) as served:
            assert greeting(served.port) == f"named 127.0.0.1 {served.port}"

    def test_ipv6(self) -> None:
        with running([Named()], listen={"interface": "::1"}) as served:
            assert greeting(("::1", served.port)) == f"named ::1 {served.port}"

    def test_both_on_one_socket_and_an_ipv4_peer_is_named_as_one(self) -> None:
        with running([Named()], listen={"interface": "::", "v6_only": False}) as served:
            assert greeting(("::1", served.port)) == f"named ::1 {served.port}"
            assert greeting(served.port) == f"named 127.0.0.1 {served.port}"

    def test_a_unix_socket_and_its_file_goes_at_the_end(self, tmp_path: Path) -> None:
        path = str(tmp_path / "wsd.sock")
        with running([Named()], unix=path):
            assert greeting(path) == "named  0"
        assert not os.path.exists(path)

    def test_several_listeners_with_protocols_of_their_own(self, tmp_path: Path) -> None:
        one, two = Named("one"), Named("two")
        path = str(tmp_path / "wsd.sock")
        with running([one, two]) as served:
            only = served.call(lambda: served.context.listen(port=0, protocols=[two]))
            served.call(lambda: served.context.listen(unix=path, protocols=[one]))
            assert str(greeting(served.port)).startswith("one ")
            assert str(greeting(only.port)).startswith("two ")
            assert str(greeting(path)).startswith("one ")
            assert str(greeting(served.port, "two")).startswith("two ")
            with Client(only.port) as client:
                client.send(upgrade_request(protocols="one"))
                assert client.receive_response().status == 400

    def test_a_removed_listener_keeps_its_connections(self) -> None:
        with running([Named()]) as served:
            listener = served.call(lambda: served.context.listen(port=0))
            port = listener.port
            with connect(port) as client:
                served.call(lambda: served.context.remove_listener(listener))
                with pytest.raises(ConnectionRefusedError):
                    Client(port)
                client.receive_message()
                client.send_text("still here")
                assert client.receive_message() == "still here"


class TestChoice:
    @pytest.mark.parametrize(
        ("protocols", "path", "taken"),
        [
            (None, "/", "two"),
            (None, "/one", "one"),
            (None, "/one?x=1", "one"),
            (None, "/one/more", "two"),
            ("one", "/", "one"),
            ("two", "/one", "two"),
            ("unknown, one, two", "/", "one"),
        ],
    )
    def test_by_subprotocol_then_path_then_default(self, protocols: str | None, path: str, taken: str) -> None:
        with running(
            [Named("one"), Named("two")], listen={"default_protocol": "two", "paths": {"/one": "one"}}
        ) as served:
            assert str(greeting(served.port, protocols, path)).startswith(taken)

    def test_without_a_default_it_is_the_first(self) -> None:
        with running([Named("one"), Named("two")]) as served:
            assert str(greeting(served.port)).startswith("one")


class TestMany:
    def test_five_hundred_come_and_go_and_nothing_is_left(self) -> None:
        protocol = Named()
        with running([protocol]) as served:
            served.call(lambda: None)
            before = len(os.listdir("/proc/self/fd"))
            timers = len(served.context.timers)
            for batch in range(5):
                with contextlib.ExitStack() as stack:
                    clients = [stack.enter_context(connect(served.port)) for _ in range(100)]
                    for number, client in enumerate(clients):
                        client.send_text(str(number))
                    for number, client in enumerate(clients):
                        client.receive_message()
                        assert client.receive_message() == str(number)
                    for client in clients[:: batch + 1]:
                        client.send(close_frame(1000))
                    for client in clients[:: batch + 1]:
                        assert client.receive_close().close_code == 1000
            wait_until(lambda: len(protocol.closed) == 500)
            wait_until(lambda: served.context.wsi_count == 0)
            assert served.context.counters.established == 500
            assert len(served.context.timers) == timers
            assert len(protocol.wsis) == 0
            assert served.context.listeners[0].count == 0
            assert served.context.bindings[protocol].wsi_count == 0
            assert len(os.listdir("/proc/self/fd")) == before

    def test_a_burst_larger_than_one_turn_accepts(self) -> None:
        with running([Named()]) as served, contextlib.ExitStack() as stack:
            gate = threading.Event()
            served.call(lambda: served.context.call_later(0, lambda: gate.wait(5)))
            clients = [stack.enter_context(Client(served.port)) for _ in range(200)]
            gate.set()
            for client in clients:
                client.upgrade()
            assert served.context.wsi_count == 200


class TestRude:
    def test_reset_before_or_after_accept(self) -> None:
        with running([Named()]) as served, connect(served.port) as good:
            for number in range(100):
                rude = Client(served.port)
                if number % 3 == 1:
                    rude.send(b"GET / HTTP/1.1\r\n")
                elif number % 3 == 2:
                    rude.send(upgrade_request())
                rude.reset()
            good.receive_message()
            good.send_text("undisturbed")
            assert good.receive_message() == "undisturbed"
            wait_until(lambda: served.context.wsi_count == 1)

    def test_reset_while_the_loop_is_busy_elsewhere(self) -> None:
        """Accepted with the reset already there: options cannot be set, or the first receive fails."""
        with running([Named()]) as served:
            gate = threading.Event()
            served.call(lambda: served.context.call_later(0, lambda: gate.wait(5)))
            for _ in range(20):
                Client(served.port).reset()
            half = Client(served.port)
            half.send(upgrade_request()[:20])
            half.reset()
            gate.set()
            with connect(served.port) as good:
                good.receive_message()
            wait_until(lambda: served.context.wsi_count == 0)

    def test_reset_with_an_answer_under_way(self) -> None:
        protocol = Named()
        with running([protocol]) as served:
            for _ in range(20):
                client = connect(served.port)
                client.send(frame(BINARY, bytes(300_000)))
                client.reset()
            wait_until(lambda: len(protocol.closed) == 20)
            assert protocol.closed == [(1006, "")] * 20
            assert served.context.wsi_count == 0


class TestStop:
    def test_everyone_gets_1001_under_load_and_run_returns(self) -> None:
        class Noisy(Named):
            def on_message(self, wsi: Any, message: Any) -> None:
                self.broadcast(message)

        protocol = Noisy()
        with running([protocol], limits=Limits(max_queue_bytes=64 << 20)) as served, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(served.port)) for _ in range(20)]
            for client in clients:
                client.send(frame(BINARY, bytes(1000)) * 20)
            served.call(served.context.stop)
            closes = []
            for client in clients:
                closes.append(client.receive_close())
                client.send(close_frame(1001))
                client.disconnect()
            assert [(close.close_code, close.close_reason) for close in closes] == [(1001, "going away")] * 20
            served.thread.join(PATIENCE)
            assert not served.thread.is_alive()
            assert protocol.closed == [(1001, "")] * 20
            assert served.context.wsi_count == 0

    def test_those_that_do_not_answer_hold_it_up_for_the_closing_deadline(self) -> None:
        protocol = Named()
        with (
            running([protocol], timeouts=Timeouts(close_seconds=0.1)) as served,
            connect(served.port),
            connect(served.port, receive_buffer=4096),
        ):
            served.call(lambda: protocol.broadcast(bytes(8 << 20)))
            served.call(served.context.stop)
            served.thread.join(PATIENCE)
            assert not served.thread.is_alive()
            assert protocol.closed == [(1006, "")] * 2

    def test_nobody_new_gets_in_and_idle_http_ends(self) -> None:
        with running([Named()]) as served, Client(served.port) as idle, connect(served.port) as client:
            port = served.port
            idle.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.receive_response().status == 200
            served.call(served.context.stop)
            with pytest.raises(ConnectionRefusedError):
                Client(port)
            assert idle.receive_end() == b""
            idle.disconnect()
            assert client.receive_close().close_code == 1001
            client.send(close_frame(1001))
            client.disconnect()
            served.thread.join(PATIENCE)
            assert not served.thread.is_alive()

    def test_an_http_answer_without_an_end_does_not_hold_it_up_for_ever(self) -> None:
        class Endless(Named):
            def on_http(self, wsi: Any, request: Any) -> Response:
                wsi.callback_on_writable()
                return Response(stream=True)

            def on_http_writeable(self, wsi: Any) -> None:
                wsi.write(b"more", final=False)
                wsi.callback_on_writable()

        with running([Endless()], timeouts=Timeouts(close_seconds=0.1)) as served, Client(served.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            client.receive_until(b"more")
            served.call(served.context.stop)
            served.thread.join(PATIENCE)
            assert not served.thread.is_alive()

    def test_one_that_is_cut_is_told_as_1006(self) -> None:
        protocol = Named()
        with running([protocol]) as served, connect(served.port) as client:
            client.receive_message()
            (wsi,) = protocol.wsis
            served.call(wsi.abort)
            assert client.receive_end() == b""
            wait_until(lambda: protocol.closed == [(1006, "")])


def test_a_socket_that_is_reset_before_accept_is_really_that() -> None:
    """The premise of the tests above: accept() gives such a connection out on Linux, and reading it fails."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        accepted, _ = listener.accept()
        with accepted, pytest.raises(ConnectionResetError):
            accepted.recv(1)
