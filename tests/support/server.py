"""A raw WebSocket server: what it answers is what the test says, and every frame that comes is checked.

It is `tests/support/client.py` seen from the other end, and like it shares no code with wsd.  The test plays the
server: it accepts, reads and answers in its own thread, with a deadline on every wait.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.client import BINARY, CLOSE, TEXT, Client, Frame, apply_mask, frame
from tests.support.timing import PATIENCE

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Asked(NamedTuple):
    """The head of a request, as it came."""

    raw: bytes
    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """Every value of that name, in any case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of that name, which must not be there twice."""
        values = self.all(name)
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None


def accept_value(key: str) -> str:
    """RFC 6455 4.2.2, 5.4."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


def answer(status: str, *headers: str, body: bytes | str = b"") -> bytes:
    """A response with just these header lines, for example `answer("403 Forbidden", "Content-Length: 0")`."""
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")
    return head + (body.encode() if isinstance(body, str) else body)


def switching(asked: Asked, *headers: str, without: Iterable[str] = (), **fields: str) -> bytes:
    """A 101 that is right for `asked`, but for what is said otherwise.

    Args:
        headers: Further header lines, as they stand.
        without: Names of headers that are left out.
        fields: Other values for `upgrade`, `connection` or `accept`.
    """
    lines = {
        "Upgrade": fields.get("upgrade", "websocket"),
        "Connection": fields.get("connection", "Upgrade"),
        "Sec-WebSocket-Accept": fields.get("accept", accept_value(asked.header("Sec-WebSocket-Key") or "")),
    }
    kept = [f"{name}: {value}" for name, value in lines.items() if name not in set(without)]
    return answer("101 Switching Protocols", *kept, *headers)


class Connection(Client):
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.buffer = bytearray()
        self.socket = sock
        sock.settimeout(patience)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asked: Asked
        """The request that came last."""
        self.keys: list[bytes] = []
        """The masking keys of all frames that came."""

    def receive_request(self) -> Asked:
        """The head of a request; raises as `receive_exactly` does."""
        raw = self.receive_until(b"\r\n\r\n")
        line, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = line.split(" ")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        self.asked = Asked(raw, method, target, version, headers)
        return self.asked

    def switch(self, *headers: str, then: bytes = b"") -> Asked:
        """Read a request and answer it with a good 101 and `headers`; `then` leaves in the same segment."""
        asked = self.receive_request()
        self.send(switching(asked, *headers), then)
        return asked

    def send_text(self, text: str) -> None:
        self.send(frame(TEXT, text, mask=None))

    def send_binary(self, data: bytes) -> None:
        self.send(frame(BINARY, data, mask=None))

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
        self.send(frame(CLOSE, payload, mask=None))

    def receive_frame(self) -> Frame:
        """The next frame; raises as `receive_exactly` does, and AssertionError for what no client may send."""
        first, second = self.receive_exactly(2)
        assert second & 0x80, "a client must mask (RFC 6455 5.1)"
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(self.receive_exactly(2), "big")
            assert length > 125, "not the shortest form of the length (RFC 6455 5.2)"
        elif length == 127:
            length = int.from_bytes(self.receive_exactly(8), "big")
            assert length > 65535, "not the shortest form of the length (RFC 6455 5.2)"
        key = self.receive_exactly(4)
        self.keys.append(key)
        payload = apply_mask(self.receive_exactly(length), key)
        return Frame(first & 0x0F, payload, bool(first & 0x80), first >> 4 & 7)

    def finish(self, code: int | None = 1000, reason: str = "") -> Frame:
        """Do the closing handshake from our side; gives the client's Close frame, after which nothing came.

        We end the stream first: "the underlying TCP connection, in most normal cases, SHOULD be closed first by the
        server" (RFC 6455 7.1.1), and a client waits for that.
        """
        self.send_close(code, reason)
        got = self.receive_close()
        self.shut_down_writing()
        assert self.receive_end() == b""
        return got


class Server:
    """A listening socket; a context manager that closes it and every connection that came by it."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, patience: float = PATIENCE) -> None:
        self.host = host
        self.patience = patience
        self.connections: list[Connection] = []
        self.socket = _bound(host, port)
        self.socket.settimeout(patience)
        self.socket.listen(128)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Its WebSocket URL, with the address in numbers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.port}/"

    def accept(self) -> Connection:
        """The next connection, of which nothing has been read."""
        sock, _ = self.socket.accept()
        self.connections.append(Connection(sock, self.patience))
        return self.connections[-1]

    def accept_websocket(self, *headers: str, then: bytes = b"") -> Connection:
        """The next connection, its request answered with a good 101: see `Connection.switch`."""
        connection = self.accept()
        connection.switch(*headers, then=then)
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()
        for connection in self.connections:
            connection.disconnect()


def _bound(host: str, port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


@contextmanager
def refusing_port(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that refuses every connection, and that nobody else is given meanwhile: bound, but nobody listens."""
    with _bound(host, port) as sock:
        yield int(sock.getsockname()[1])


@contextmanager
def silent_port(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that answers no attempt to connect, as behind a firewall: the kernel drops them, its queue being full."""
    with _bound(host, port) as sock:
        sock.listen(0)
        with socket.create_connection(sock.getsockname()[:2], PATIENCE):
            yield int(sock.getsockname()[1])
