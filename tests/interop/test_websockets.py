"""The `websockets` library as client: it checks what we send as strictly as we check what it sends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection as SyncConnection
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.interop.conftest import Daemon
from tests.support.timing import PATIENCE

Serve = Callable[..., Daemon]

ECHO = Subprotocol("echo")
MIRROR = Subprotocol("lws-mirror-protocol")
LIMIT = 17 * 1024 * 1024
RAISED = f"[limits]\nmax_message_bytes = {LIMIT}\nmax_queue_bytes = {LIMIT}\n"


@pytest.fixture
def echo(serve: Serve) -> Iterator[SyncConnection]:
    daemon = serve(["echo"])
    with connect(daemon.url, subprotocols=[ECHO], compression=None, open_timeout=PATIENCE) as connection:
        assert connection.subprotocol == "echo"
        yield connection


@pytest.mark.parametrize("message", ["hello", "Grüße, 世界 🌍", "", b"\x00\xff bytes", b"", "x" * 70_000, b"y" * 125])
def test_echo(echo: SyncConnection, message: str | bytes) -> None:
    echo.send(message)
    answer = echo.recv(PATIENCE)
    assert answer == message
    assert type(answer) is type(message)


def test_echo_of_fragments(echo: SyncConnection) -> None:
    echo.send(["one ", "", "two ", "thrée"])
    assert echo.recv(PATIENCE) == "one two thrée"
    echo.send([b"a" * 5000, b"b" * 100_000])
    assert echo.recv(PATIENCE) == b"a" * 5000 + b"b" * 100_000


def test_many_small_messages_keep_their_order(echo: SyncConnection) -> None:
    for number in range(500):
        echo.send(str(number))
    assert [echo.recv(PATIENCE) for _ in range(500)] == [str(number) for number in range(500)]


def test_pings_are_answered(echo: SyncConnection) -> None:
    assert echo.ping().wait(PATIENCE)
    assert echo.ping(b"x" * 125).wait(PATIENCE)


def test_16_mib(serve: Serve) -> None:
    """The echo comes back while the message is still going out, so the client must read meanwhile, all of it."""
    daemon = serve(["echo"], tables=RAISED)
    message = os.urandom(16 * 1024 * 1024)

    async def scene() -> str | bytes:
        async with connect_async(
            daemon.url, subprotocols=[ECHO], compression=None, max_size=None, max_queue=None
        ) as connection:
            await connection.send(message)
            return await connection.recv()

    assert asyncio.run(asyncio.wait_for(scene(), 6 * PATIENCE)) == message


def test_too_big_is_1009(echo: SyncConnection) -> None:
    with pytest.raises(ConnectionClosedError) as caught:
        echo.send(b"x" * (1024 * 1024 + 1))
        echo.recv(PATIENCE)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1000, "bye"), (1001, "going"), (4000, "ours"), (3999, "")])
def test_our_close_is_echoed(echo: SyncConnection, code: int, reason: str) -> None:
    echo.close(code, reason)
    assert echo.close_code == code
    assert echo.protocol.close_rcvd is not None
    assert echo.protocol.close_rcvd.code == code
    assert echo.protocol.close_rcvd_then_sent is False


def test_the_server_closes(serve: Serve) -> None:
    daemon = serve(["dumb-increment-protocol"])
    with connect(daemon.url, subprotocols=[Subprotocol("dumb-increment-protocol")]) as connection:
        assert connection.recv(PATIENCE) == "0"
        connection.send("closeme\n")
        with pytest.raises(ConnectionClosedOK) as caught:
            while True:
                connection.recv(PATIENCE)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1001, "seeya")
    assert caught.value.rcvd_then_sent


def test_the_daemon_says_1001_when_it_stops(serve: Serve) -> None:
    daemon = serve(["echo"])
    with connect(daemon.url, subprotocols=[ECHO]) as connection:
        connection.send("there?")
        assert connection.recv(PATIENCE) == "there?"
        assert daemon.stop() == 0
        with pytest.raises(ConnectionClosed) as caught:
            connection.recv(PATIENCE)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001


def test_an_unknown_subprotocol_is_refused_with_a_reason(serve: Serve) -> None:
    with pytest.raises(InvalidStatus) as caught, connect(serve(["echo"]).url, subprotocols=[Subprotocol("nonsense")]):
        pass
    assert caught.value.response.status_code == 400
    assert caught.value.response.body


def test_chat(serve: Serve) -> None:
    daemon = serve(["chat"])
    with connect(daemon.url + "?name=Ada", subprotocols=[Subprotocol("chat")]) as ada:
        assert ada.recv(PATIENCE) == "* Ada came, 1 here"
        with connect(daemon.url + "?name=Bob", subprotocols=[Subprotocol("chat")]) as bob:
            assert ada.recv(PATIENCE) == bob.recv(PATIENCE) == "* Bob came, 2 here"
            bob.send("hello")
            assert ada.recv(PATIENCE) == bob.recv(PATIENCE) == "Bob: hello"
        assert ada.recv(PATIENCE) == "* Bob left"


def test_a_hundred_clients_on_the_mirror_each_hear_everything_in_order(serve: Serve) -> None:
    """Ten of a hundred send, each twenty messages; all must see all of them, and in one and the same order."""
    daemon = serve(["lws-mirror-protocol"])
    clients, senders, each = 100, 10, 20

    async def scene() -> list[list[str]]:
        connections: list[ClientConnection] = [
            await connect_async(daemon.url, subprotocols=[MIRROR], compression=None, ping_interval=None)
            for _ in range(clients)
        ]

        async def listen(connection: ClientConnection) -> list[str]:
            return [str(await connection.recv()) for _ in range(senders * each)]

        async def speak(name: int, connection: ClientConnection) -> None:
            for number in range(each):
                await connection.send(f"{name}:{number}")
                await asyncio.sleep(0)

        async with asyncio.timeout(6 * PATIENCE):
            listeners = [asyncio.create_task(listen(connection)) for connection in connections]
            await asyncio.gather(*(speak(name, connections[name]) for name in range(senders)))
            heard = await asyncio.gather(*listeners)
        await asyncio.gather(*(connection.close() for connection in connections))
        assert all(connection.close_code == 1000 for connection in connections)
        return heard

    heard = asyncio.run(scene())
    assert all(one == heard[0] for one in heard)
    for name in range(senders):
        assert [line for line in heard[0] if line.startswith(f"{name}:")] == [f"{name}:{n}" for n in range(each)]
