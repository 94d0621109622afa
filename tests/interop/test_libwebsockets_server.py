"""Our client against libwebsockets' own test servers: their counter, their mirror and their status.

The second of them is the first with a poll loop of its own (external polling).
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.interop.our_client import OurClient, connect_wsd
from tests.support.client import connect
from tests.support.outgoing import dialing
from tests.support.ports import free_port
from tests.support.programs import require_program
from tests.support.timing import PATIENCE, wait_until
from wsd.config import Compression
from wsd.reconnect import Backoff

DUMB, MIRROR, STATUS = "dumb-increment-protocol", "lws-mirror-protocol", "lws-status"
PROGRAMS = ["libwebsockets-test-server", "libwebsockets-test-server-extpoll"]
COMPRESSION = [
    pytest.param(Compression(enabled=False), id="uncompressed"),
    pytest.param(Compression(), id="compressed"),
    pytest.param(Compression(min_bytes=0, context_takeover=True, window_bits=15), id="everything compressed"),
]


@contextmanager
def serving(name: str, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of its programs on `port` until the block ends."""
    program = require_program(name, package="libwebsockets-test-server")
    command = [program, "-p", str(port), "-i", "lo", "-d", "3", *options]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as it:
        try:
            wait_until(lambda: answers(port), what=f"{name} listens")
            yield it
            assert it.poll() is None, f"{name} has ended by itself"
        finally:
            it.terminate()
            it.wait(PATIENCE)


@pytest.fixture(params=PROGRAMS)
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server, one of each program."""
    port = free_port()
    with serving(request.param, port):
        yield port


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return False
    return True


def url(port: int) -> str:
    return f"ws://127.0.0.1:{port}/"


@pytest.mark.parametrize("compression", COMPRESSION)
def test_the_counter(port: int, compression: Compression) -> None:
    """It compresses nothing here: its buffers are too small."""
    with connect_wsd(url(port), DUMB, compression) as ours:
        assert ours.extensions == ""
        assert [ours.receive() for _ in range(5)] == ["0", "1", "2", "3", "4"]
        ours.send("reset\n")
        while ours.receive() != "0":
            pass
        assert [ours.receive() for _ in range(3)] == ["1", "2", "3"]
        ours.send("closeme\n")
        # It goes on counting behind its Close frame, which is no reason to hear another end.
        assert ours.closed() == (1001, "seeya")


@pytest.mark.parametrize("compression", COMPRESSION)
def test_the_mirror(port: int, compression: Compression) -> None:
    """It refuses compression, makes text of everything, and messages of pieces."""
    with connect_wsd(url(port), MIRROR, compression) as ours:
        assert ours.extensions == ""
        for message in ("d #000000 1 2 3 4;", "Grüße, 世界 🌍", ""):
            ours.send(message)
            assert ours.receive() == message
        ours.send(b"bytes")
        assert ours.receive() == "bytes"
        ours.send_fragments(["one ", "two"])
        assert ours.receive() == "one "
        assert ours.receive() == "two"
        ours.send("x" * 10_000)
        pieces = ""
        while len(pieces) < 10_000:
            pieces += str(ours.receive())
        assert pieces == "x" * 10_000
        ours.ping(b"there?")
        assert ours.pong() == b"there?"
        ours.close(4001, "bye")
        assert ours.closed() == (4001, "bye")


def read_status(ours: OurClient) -> list[dict[str, str]]:
    """Who is connected, out of the next message."""
    status: dict[str, Any] = json.loads(ours.receive())
    assert status["version"].startswith("4."), status
    connections: list[dict[str, str]] = status["conns"]
    return connections


@pytest.mark.parametrize("compression", COMPRESSION)
def test_the_status(port: int, compression: Compression) -> None:
    """To each who is connected it sends a message, compressed or in fragments, whenever somebody comes or goes."""
    with connect_wsd(url(port), STATUS, compression) as ours:
        assert ours.extensions == ("permessage-deflate" if compression.enabled else "")
        assert len(read_status(ours)) == 1
        for _ in range(3):
            with connect_wsd(url(port), STATUS, compression) as other:
                assert len(read_status(other)) == 2
                assert len(read_status(ours)) == 2
                other.send("it takes no notice, short as this is")
                other.send("nor of this, which is long enough to be compressed. " * 10)
                other.ping(b"there?")
                assert other.pong() == b"there?"
                other.close(1000)
                assert other.closed() == (1000, "")
            assert len(read_status(ours)) == 1


@pytest.mark.parametrize("offer", ["permessage-deflate", None])
def test_what_a_status_is_made_of(port: int, offer: str | None) -> None:
    """What the test before rests on, seen without wsd: several frames; compressed they become one, with the bit."""
    headers = [("Sec-WebSocket-Extensions", offer)] if offer else []
    with connect(port, STATUS, headers=headers) as client:
        frames = [client.receive_frame()]
        while not frames[-1].final:
            frames.append(client.receive_frame())
    assert [frame.rsv for frame in frames] == [4] if offer else [0, 0, 0]


def test_a_listener_that_came_later() -> None:
    """SIGUSR1 has it listen on the next port as well."""
    port = free_port(2)
    with serving(PROGRAMS[0], port) as server:
        server.send_signal(signal.SIGUSR1)
        wait_until(lambda: answers(port + 1), what="it listens on the next port")
        with connect_wsd(url(port + 1), MIRROR, None) as ours:
            ours.send("hello")
            assert ours.receive() == "hello"
            ours.close(1000)
            assert ours.closed() == (1000, "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_server_that_was_restarted(program: str) -> None:
    """It ends without a Close frame; our client comes back by itself, and counts from 0 again."""
    port = free_port()
    with dialing() as dial:
        with serving(program, port):
            first = dial.connect(url(port), subprotocols=[DUMB], reconnect=Backoff(table_seconds=(0.02,)))
            assert dial.established() is first
            assert [dial.message() for _ in range(3)] == ["0", "1", "2"]
        assert dial.closed() == (1006, "")
        with serving(program, port):
            wsi, error = dial.outcome()
            while error is not None:
                assert error.cause == "refused", error.text
                wsi, error = dial.outcome()
            assert wsi is not first
            while dial.message() != "0":  # what was left of the first connection
                pass
            assert [dial.message() for _ in range(3)] == ["1", "2", "3"]
            dial.call(wsi.reconnect.cancel)
