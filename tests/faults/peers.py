"""The peers of a world: raw clients and servers that let the context have its turns while they wait.

Owns what a peer has said and heard, and that what it heard is right.  Must not know faults, nor what is said.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tests.support.client import TEXT, Client, frame, upgrade_request
from tests.support.hearing import Hearing
from tests.support.server import Connection

if TYPE_CHECKING:
    from tests.faults.world import World


class Stalled(Exception):
    """Nobody has anything to do, and no time will change that: what is waited for does not come."""


class Stepped(Client):
    """A raw client that lets the context of a world have its turns while it waits.

    Attributes:
        said: The messages that were sent, which is what an echo is to bring back.
        awaits: The messages that are to come, if they are others.
    """

    def __init__(self, world: World, sock: socket.socket) -> None:
        self._take(world, sock)

    def _take(self, world: World, sock: socket.socket) -> None:
        self.world = world
        self.socket = sock
        sock.setblocking(False)
        self.patience = 0.0
        self.buffer = bytearray()
        self.said: list[bytes] = []
        self.awaits = self.said
        self.heard = b""
        self.sent = b""
        self.ear: Hearing | None = None
        world.peers.append(self)

    def send(self, *chunks: bytes) -> None:
        data = memoryview(b"".join(chunks))
        self.note_sent(bytes(data))
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                self.world.advance()

    def note_sent(self, data: bytes) -> None:
        """It was sent, or will be."""
        self.sent += data

    def say(self, payload: str | bytes, *frames: bytes) -> None:
        """Send a message: the frames that it travels in, or one of text."""
        self.said.append(payload.encode() if isinstance(payload, str) else payload)
        self.world.beside_speaks()
        self.send(*frames or [frame(TEXT, payload)])

    def _fill(self, deadline: float) -> None:
        while True:
            try:
                data = self.socket.recv(262144)
            except BlockingIOError:
                self.world.advance(self.socket)
                continue
            if not data:
                raise EOFError("the connection ended")
            self.take(data)
            return

    def take(self, data: bytes) -> None:
        """Something has come."""
        self.buffer += data
        self.heard += data
        if self.ear is not None:
            self.ear.hear(data)

    def listen(self, **options: Any) -> None:
        """From here on frames come, which must be right."""
        self.ear = Hearing(**options)
        self.ear.hear(bytes(self.buffer))

    def open(self, path: str = "/", protocols: str | None = "echo", *, window_bits: int = 0, **options: Any) -> None:
        """The opening handshake, from the client's end.

        Raises:
            EOFError: the answer is another one.
        """
        self.send(upgrade_request(path, protocols, **options))
        response = self.receive_response()
        if response.status != 101:
            raise EOFError(response)
        self.listen(window_bits=window_bits)

    def rest(self) -> None:
        """Everything until the end, or until nothing comes any more."""
        try:
            while True:
                self._fill(0)
        except (EOFError, OSError, Stalled):
            pass

    def problems(self) -> Iterator[str]:
        """What has come is a prefix of what was to come, to the byte."""
        if self.ear is None:
            return
        messages = [payload for _, payload in self.ear.messages]
        if messages != self.awaits[: len(messages)]:
            yield f"not what was sent: {short(messages)} of {short(self.awaits)}"
        elif self.ear.is_mid_message:
            whole = self.awaits[len(messages)] if len(messages) < len(self.awaits) else b""
            if not whole.startswith(self.ear.payload):
                yield f"not what was sent: {self.ear.payload[:40]!r}"


class SteppedServer(Stepped, Connection):
    """The server's end of a connection of ours."""

    def __init__(self, world: World, sock: socket.socket) -> None:
        self._take(world, sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.keys = []


def short(messages: Sequence[bytes]) -> list[str]:
    """Long messages by their beginning and length."""
    return [f"{message[:20]!r} ({len(message)})" for message in messages]
