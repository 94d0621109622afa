"""aiohttp as a peer, at either end.  It sends no fragments, and of the parameters it can set the server's window."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector, WSMessage, WSMsgType, web

from tests.interop.peers import Deflate, Message, NotTheEnd, Peer, Server
from tests.support.timing import PATIENCE

Result = TypeVar("Result")


class Loop:
    """An event loop in a thread of its own, for plain calls from a test."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="aiohttp")
        self.thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, 3 * PATIENCE), self.loop).result()

    def stop(self) -> None:
        self.run(self.loop.shutdown_default_executor())  # large messages are compressed in its threads
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()


class AiohttpPeer(Peer):
    def __init__(
        self, loop: Loop, connection: ClientWebSocketResponse | web.WebSocketResponse, extensions: str
    ) -> None:
        self.loop = loop
        self.connection = connection
        self.subprotocol = connection.ws_protocol if isinstance(connection, web.WebSocketResponse) else None
        if isinstance(connection, ClientWebSocketResponse):
            self.subprotocol = connection.protocol
        self.extensions = extensions

    def send(self, message: Message) -> None:
        send = self.connection.send_str if isinstance(message, str) else self.connection.send_bytes
        self.loop.run(send(message))  # type: ignore[arg-type]

    def receive(self) -> Message:
        got = self._receive()
        while got.type is WSMsgType.PING:
            self.loop.run(self.connection.pong(got.data))
            got = self._receive()
        assert got.type in (WSMsgType.TEXT, WSMsgType.BINARY), got
        message = got.data
        assert isinstance(message, str if got.type is WSMsgType.TEXT else bytes)
        return message

    def _receive(self) -> WSMessage:
        return self.loop.run(self.connection.receive())

    def ping(self, payload: bytes) -> None:
        self.loop.run(self.connection.ping(payload))
        got = self._receive()
        assert got.type is WSMsgType.PONG, got
        assert got.data == payload

    def close(self, code: int, reason: str = "") -> int:
        self.loop.run(self.connection.close(code=code, message=reason.encode()))
        assert self.connection.close_code is not None
        return self.connection.close_code

    def end(self) -> tuple[int, str]:
        got = self._receive()
        if got.type is not WSMsgType.CLOSE:
            raise NotTheEnd(str(got)[:200])
        return got.data, got.extra


# autoping is off because with it a Pong is never seen.
OPTIONS: dict[str, Any] = {"max_msg_size": 0, "autoping": False}


@contextmanager
def connect_aiohttp(url: str, subprotocol: str, deflate: Deflate | None) -> Iterator[AiohttpPeer]:
    compress = 0 if deflate is None else deflate.server_max_window_bits or 15
    loop = Loop()

    async def enter() -> tuple[ClientSession, ClientWebSocketResponse]:
        # The library makes its own when it is imported, before a test has said whom to trust.
        session = ClientSession(connector=TCPConnector(ssl=ssl.create_default_context()))
        try:
            return session, await session.ws_connect(url, protocols=[subprotocol], compress=compress, **OPTIONS)
        except BaseException:
            await session.close()
            raise

    try:
        session, connection = loop.run(enter())
        try:
            yield AiohttpPeer(loop, connection, connection._response.headers.get("Sec-WebSocket-Extensions", ""))
        finally:
            loop.run(connection.close())
            loop.run(session.close())
    finally:
        loop.stop()


class AiohttpServer(Server):
    def __init__(self, port: int, accepted: queue.Queue[AiohttpPeer]) -> None:
        self.port = port
        self.accepted = accepted

    def accept(self) -> AiohttpPeer:
        return self.accepted.get(timeout=PATIENCE)


@contextmanager
def serve_aiohttp(subprotocol: str, deflate: Deflate | None) -> Iterator[AiohttpServer]:
    accepted: queue.Queue[AiohttpPeer] = queue.Queue()
    loop = Loop()
    done = asyncio.Event()

    async def handle(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(protocols=[subprotocol], compress=deflate is not None, **OPTIONS)
        await connection.prepare(request)
        accepted.put(AiohttpPeer(loop, connection, connection.headers.get("Sec-WebSocket-Extensions", "")))
        await done.wait()  # the test drives it; returning would end it
        return connection

    async def enter() -> web.AppRunner:
        application = web.Application()
        application.router.add_get("/", handle)
        runner = web.AppRunner(application, shutdown_timeout=PATIENCE)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def leave() -> None:
        done.set()
        await runner.cleanup()

    try:
        runner = loop.run(enter())
        try:
            yield AiohttpServer(runner.addresses[0][1], accepted)
        finally:
            loop.run(leave())
    finally:
        loop.stop()
