"""wsd/ties.py: a pair of connections ends together, whichever of them ends, and however."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.client import Client, close_frame, connect
from tests.support.context import Running, running
from tests.support.raws import Bytes
from tests.support.server import Connection, Server, refusing_port
from tests.support.timing import MS, PATIENCE, wait_until
from wsd import Backoff
from wsd.config import Timeouts


@contextmanager
def websocket(protocol: Bytes, **arguments: Any) -> Iterator[tuple[Running, Client, Any]]:
    """A served WebSocket of `protocol`, its client, and its wsi."""
    with running([protocol], **arguments) as served, connect(served.port, "bytes") as client:
        yield served, client, protocol.wait_for_wsi()


def tied_pipe(served: Running, protocol: Bytes, parent: Any) -> tuple[Any, int]:
    """A child that reads from a pipe, and the pipe's other end."""
    reader, writer = os.pipe()
    child = served.call(lambda: served.context.adopt_descriptor(reader, "bytes", parent=parent))
    assert protocol.wait_for_wsi() is child
    return child, writer


def tied_socket(served: Running, protocol: Bytes, parent: Any) -> tuple[Any, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    child = served.call(lambda: served.context.adopt_socket(ours, protocol, raw=True, parent=parent))
    assert protocol.wait_for_wsi() is child
    return child, theirs


def finish(connection: Connection) -> None:
    """The server's answer to a client's Close, and its end of the stream."""
    connection.send_close()
    connection.shut_down_writing()
    assert connection.receive_end() == b""


def test_who_is_tied_to_whom() -> None:
    protocol = Bytes()
    with websocket(protocol) as (served, client, parent):
        assert (parent.parent, parent.children) == (None, ())
        one, first = tied_pipe(served, protocol, parent)
        other, second = tied_pipe(served, protocol, parent)
        assert (one.parent, other.parent, parent.children) == (parent, parent, (one, other))
        os.close(first)
        assert client.receive_close().close_code == 1000
        client.send(close_frame(1000))
        client.disconnect()
        assert {protocol.wait_for_end(), protocol.wait_for_end()} == {one, other}
        os.close(second)
        assert (one.parent, other.parent, parent.children) == (None, None, ())


class TestTheChildEnds:
    def test_in_order(self) -> None:
        protocol = Bytes()
        with websocket(protocol) as (served, client, parent):
            _, writer = tied_pipe(served, protocol, parent)
            os.close(writer)
            assert client.receive_close().close_code == 1000
            client.send(close_frame(1000))
            client.disconnect()
            assert protocol.wait_for_close() == (1000, "")

    def test_broken(self) -> None:
        protocol = Bytes()
        with websocket(protocol) as (served, client, parent):
            child, theirs = tied_socket(served, protocol, parent)
            served.call(child.abort)
            assert client.receive_close().close_code == 1001
            theirs.close()

    def test_closed_with_a_code(self) -> None:
        """On a raw wsi a code means nothing but to whom it is tied."""
        protocol = Bytes()
        with websocket(protocol) as (served, client, parent):
            child, theirs = tied_socket(served, protocol, parent)
            served.call(lambda: child.close(4001, "enough"))
            theirs.close()
            close = client.receive_close()
            assert (close.close_code, close.close_reason) == (4001, "enough")

    def test_not_connected(self) -> None:
        protocol = Bytes()
        with websocket(protocol) as (served, client, parent), refusing_port() as port:
            url = f"tcp://127.0.0.1:{port}"
            served.call(lambda: served.context.client_connect(url, protocol=protocol, parent=parent))
            assert client.receive_close().close_code == 1001
            assert protocol.errors.get(timeout=PATIENCE).cause == "refused"

    def test_what_the_plugin_says_about_it_wins(self) -> None:
        protocol = Bytes(client_connection_error=lambda wsi, error: wsi.parent.close(1014, error.cause) and None)
        with websocket(protocol) as (served, client, parent), refusing_port() as port:
            url = f"tcp://127.0.0.1:{port}"
            served.call(lambda: served.context.client_connect(url, protocol=protocol, parent=parent))
            close = client.receive_close()
            assert (close.close_code, close.close_reason) == (1014, "refused")


class TestTheParentEnds:
    @pytest.mark.parametrize(
        ("sent", "code", "reason"),
        [(close_frame(4000, "bye"), 4000, "bye"), (close_frame(None), 1000, ""), (b"", 1001, "")],
        ids=["with a code", "with none", "without a Close"],
    )
    def test_a_websocket_is_told_how(self, sent: bytes, code: int, reason: str) -> None:
        protocol = Bytes()
        with websocket(protocol) as (served, client, parent), Server() as server:
            served.call(lambda: served.context.client_connect(server.url, protocol=protocol, parent=parent))
            with server.accept_websocket("Sec-WebSocket-Protocol: bytes") as connection:
                protocol.wait_for_wsi()
                client.send(sent)
                client.disconnect()
                close = connection.receive_close()
                assert close.close_code == code
                assert reason in close.close_reason
                finish(connection)

    def test_a_raw_ones_output_leaves_first(self) -> None:
        protocol = Bytes()
        with websocket(protocol) as (served, client, parent):
            child, theirs = tied_socket(served, protocol, parent)
            served.call(lambda: child.send(bytes(1 << 19)))
            client.send(close_frame())
            client.disconnect()
            assert protocol.wait_for_close() == (1000, "")
            with theirs, theirs.makefile("rb") as file:
                assert len(file.read()) == 1 << 19
            assert protocol.wait_for_end() is child

    def test_before_the_child_is_connected(self) -> None:
        protocol = Bytes()
        with websocket(protocol) as (served, _, parent), Server() as server:

            def both() -> None:
                served.context.client_connect(server.url, protocol=protocol, parent=parent)
                parent.abort()

            served.call(both)
            assert protocol.errors.get(timeout=PATIENCE).cause == "closed"

    def test_a_parent_that_has_ended_already(self) -> None:
        protocol = Bytes()
        with websocket(protocol) as (served, client, parent), Server() as server:
            client.disconnect()
            protocol.wait_for_close()
            child = served.call(lambda: served.context.client_connect(server.url, protocol=protocol, parent=parent))
            assert protocol.errors.get(timeout=PATIENCE).cause == "closed"
            assert child.parent is None

    def test_a_raw_parent_of_a_websocket(self) -> None:
        """As a terminal and the connection it is for: the end of the terminal's input is Close 1000."""
        protocol = Bytes()
        reader, writer = os.pipe()
        with running([protocol]) as served, Server() as server:
            terminal = served.call(lambda: served.context.adopt_descriptor(reader, "bytes"))
            protocol.wait_for_wsi()
            served.call(lambda: served.context.client_connect(server.url, protocol=protocol, parent=terminal))
            with server.accept_websocket("Sec-WebSocket-Protocol: bytes") as connection:
                protocol.wait_for_wsi()
                os.close(writer)
                assert connection.receive_close().close_code == 1000
                finish(connection)
                assert protocol.wait_for_close() == (1000, "")


def test_all_of_a_family_end() -> None:
    """A grandchild too; and each is told once."""
    protocol = Bytes()
    with websocket(protocol) as (served, client, parent):
        child, one = tied_socket(served, protocol, parent)
        grandchild, two = tied_socket(served, protocol, child)
        client.disconnect()
        with one, two:
            assert one.recv(1) == b""
            one.close()
            assert two.recv(1) == b""
            two.close()
        assert protocol.wait_for_end() is child
        assert protocol.wait_for_end() is grandchild
        assert protocol.ended.empty()


def test_reconnecting_does_not_go_with_a_parent() -> None:
    protocol = Bytes()
    with websocket(protocol) as (served, _, parent), Server() as server:
        with pytest.raises(ValueError, match="reconnect and parent"):
            served.call(
                lambda: served.context.client_connect(server.url, protocol=protocol, parent=parent, reconnect=Backoff())
            )
        assert served.call(lambda: served.context.wsi_count) == 1


def test_a_stop_tells_each_one_once() -> None:
    protocol = Bytes()
    with websocket(protocol, timeouts=Timeouts(close_seconds=200 * MS)) as (served, client, parent):
        child, theirs = tied_socket(served, protocol, parent)
        served.call(served.context.stop)
        assert client.receive_close().close_code == 1001
        client.send(close_frame(1001))
        with theirs:
            assert theirs.recv(1) == b""
        client.disconnect()
        protocol.wait_for_end()
        protocol.wait_for_close()
        wait_until(lambda: not served.thread.is_alive())
        assert protocol.ended.empty()
        assert child.is_closing
