"""The opening handshake from the peer's side: reading what wsd the client asks, and answering it; one echo to see that
a connection is open."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.conformance.model import BYE, WHOLE, Message, text
from tests.conformance.peer import Peer
from tests.support.client import TEXT
from tests.support.timing import PATIENCE

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Asked(NamedTuple):
    """What wsd the client asked for."""

    accept: bytes
    """The right value of Sec-WebSocket-Accept."""
    extensions: str
    subprotocols: str | None


class Opening:
    """The peer's end of a connection until it is open, as the server."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.rest = b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive_head(self) -> bytes:
        """The request's head."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, self.rest = data.partition(b"\r\n\r\n")
        assert not self.rest, "a client does not speak before the answer (RFC 6455 4.1)"
        return head

    def receive_end(self) -> bytes:
        """Everything until the connection ends; by a reset, too: wsd refused what it was sent."""
        data = b""
        try:
            while True:
                data += self._receive()
        except (EOFError, ConnectionResetError):
            return data

    def _receive(self) -> bytes:
        self.socket.settimeout(PATIENCE)
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the connection ended")
        return data

    def send(self, data: bytes) -> None:
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):  # wsd has refused what came before
            pass

    def half_close(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # it is closed from the other side
            pass


def check_request(head: bytes) -> Asked:
    """RFC 6455 4.1, "The requirements for this handshake are as follows", 1 to 11."""
    line, *lines = head.decode("latin-1").split("\r\n")
    assert re.fullmatch(r"GET /\S* HTTP/1\.1", line), line
    fields: dict[str, list[str]] = {}
    for name, _, value in (line.partition(":") for line in lines):
        fields.setdefault(name.lower(), []).append(value.strip())

    def one(name: str) -> str:
        assert len(fields.get(name, [])) == 1, f"{name}: {fields.get(name)}"
        return fields[name][0]

    assert re.fullmatch(r"127\.0\.0\.1:\d+", one("host"))
    assert "websocket" in one("upgrade").lower()
    assert "upgrade" in re.split(r"\s*,\s*", one("connection").lower())
    assert one("sec-websocket-version") == "13"
    assert len(base64.b64decode(one("sec-websocket-key"), validate=True)) == 16
    digest = hashlib.sha1(one("sec-websocket-key").encode() + _GUID).digest()
    subprotocols = fields.get("sec-websocket-protocol")
    return Asked(
        base64.b64encode(digest),
        ", ".join(fields.get("sec-websocket-extensions", [])),
        ", ".join(subprotocols) if subprotocols else None,
    )


def reply_to(request: Asked, extensions: str = "") -> bytes:
    """A good 101."""
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + request.accept,
    ]
    if extensions:
        lines.append(b"Sec-WebSocket-Extensions: " + extensions.encode())
    return b"\r\n".join([*lines, b"", b""])


def echo_works(peer: Peer, before: Sequence[Message] = ()) -> None:
    """Use a connection that was just opened, and end it in order; the echoes of `before` come first."""
    peer.play([text("open"), BYE], WHOLE)
    peer.finish()
    assert peer.heard.messages == [*before, (TEXT, b"open")]
    assert peer.close == (1000, "")
    peer.socket.close()
