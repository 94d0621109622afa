"""The `websockets` library (its threaded API) as a peer, at either end."""

from __future__ import annotations

import gc
import queue
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.sync.server import serve
from websockets.typing import Subprotocol

from tests.interop.peers import Deflate, Fragmenting, Message, NotTheEnd, Server
from tests.support.timing import PATIENCE

# The limits are wsd's to show, and a thread that sends pings by the clock would only be in the way.
OPTIONS: dict[str, Any] = {
    "compression": None,
    "max_size": None,
    "max_queue": None,
    "ping_interval": None,
    "open_timeout": PATIENCE,
    "close_timeout": PATIENCE,
}


class WebsocketsPeer(Fragmenting):
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.subprotocol = connection.subprotocol
        assert connection.response is not None
        self.extensions = connection.response.headers.get("Sec-WebSocket-Extensions", "")

    def send(self, message: Message) -> None:
        self.connection.send(message)

    def send_fragments(self, fragments: Sequence[Message]) -> None:
        self.connection.send(fragments)

    def receive(self) -> Message:
        return self.connection.recv(PATIENCE)

    def ping(self, payload: bytes) -> None:
        assert self.connection.ping(payload).wait(PATIENCE), "no answer to a ping"

    def close(self, code: int, reason: str = "") -> int:
        self.connection.close(code, reason)
        received = self.connection.protocol.close_rcvd
        assert received is not None, "no Close frame came"
        assert self.connection.protocol.close_rcvd_then_sent is False
        return received.code

    def end(self) -> tuple[int, str]:
        try:
            message = self.connection.recv(PATIENCE)
        except ConnectionClosed as closed:
            end = closed
        else:
            raise NotTheEnd(f"{message[:200]!r}")
        assert end.rcvd is not None, "no Close frame came"
        assert end.rcvd_then_sent
        return end.rcvd.code, end.rcvd.reason


@contextmanager
def connect_websockets(url: str, subprotocol: str, deflate: Deflate | None) -> Iterator[WebsocketsPeer]:
    extensions = []
    if deflate is not None:
        bits = deflate.client_max_window_bits
        client = True if bits == 1 else bits or None
        extensions = [ClientPerMessageDeflateFactory(*deflate[:2], deflate.server_max_window_bits or None, client)]
    with connect(url, subprotocols=[Subprotocol(subprotocol)], extensions=extensions, **OPTIONS) as connection:
        yield WebsocketsPeer(connection)


class WebsocketsServer(Server):
    def __init__(self, port: int, accepted: queue.Queue[Connection]) -> None:
        self.port = port
        self.accepted = accepted

    def accept(self) -> WebsocketsPeer:
        return WebsocketsPeer(self.accepted.get(timeout=PATIENCE))


@contextmanager
def serve_websockets(
    subprotocol: str, deflate: Deflate | None, tls: ssl.SSLContext | None = None
) -> Iterator[WebsocketsServer]:
    extensions = []
    if deflate is not None:
        extensions = [ServerPerMessageDeflateFactory(*deflate[:2], *(bits or None for bits in deflate[2:]))]
    accepted: queue.Queue[Connection] = queue.Queue()
    done = threading.Event()

    def handle(connection: Connection) -> None:
        accepted.put(connection)
        done.wait()  # the test drives it; returning would close it

    options = {"subprotocols": [Subprotocol(subprotocol)], "extensions": extensions, "ssl": tls, **OPTIONS}
    server = serve(handle, "127.0.0.1", 0, **options)
    thread = threading.Thread(target=server.serve_forever, name="websockets server")
    thread.start()
    try:
        yield WebsocketsServer(server.socket.getsockname()[1], accepted)
    finally:
        done.set()
        server.shutdown()
        thread.join(PATIENCE)
        gc.collect()  # it leaves its selector open, in a cycle of references
