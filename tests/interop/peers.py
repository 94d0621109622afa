"""What the tests ask of a foreign WebSocket library, whichever it is and at whichever end of the connection it stands.

`peer_websockets`, `peer_aiohttp` and `peer_node` fulfil it; their own APIs stay in their files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

Message = str | bytes


class Deflate(NamedTuple):
    """What a peer offers or answers for permessage-deflate (RFC 7692 7.1).

    A window is 8 to 15; 0 leaves the parameter out, and 1 as the client's offers it without a value.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 0
    client_max_window_bits: int = 0

    def __str__(self) -> str:
        """As it stands in the header; also the name of a test's parameter."""
        parts = ["permessage-deflate"]
        for name, value in self._asdict().items():
            if value:
                parts.append(name if value is True or value == 1 else f"{name}={value}")
        return "; ".join(parts)


class NotTheEnd(AssertionError):
    """Something came where a Close frame was awaited."""


class Peer(ABC):
    """A foreign library's end of one connection.  Every wait has a limit."""

    subprotocol: str | None
    extensions: str
    """The value of Sec-WebSocket-Extensions in the 101; empty without one."""

    @abstractmethod
    def send(self, message: Message) -> None: ...

    @abstractmethod
    def receive(self) -> Message:
        """The next message."""

    @abstractmethod
    def ping(self, payload: bytes) -> None:
        """Send a Ping, and wait for the Pong that answers it."""

    @abstractmethod
    def close(self, code: int, reason: str = "") -> int:
        """Do the closing handshake from here; gives the code of our Close frame."""

    @abstractmethod
    def end(self) -> tuple[int, str]:
        """Wait for our Close frame, and answer it; gives its code and reason.

        Raises:
            NotTheEnd: a message came first; it is used up.
        """


class Fragmenting(Peer):
    """A peer that can also send a message in fragments of its own choice."""

    @abstractmethod
    def send_fragments(self, fragments: Sequence[Message]) -> None: ...


class Server(ABC):
    """A foreign server on a free port of 127.0.0.1."""

    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    @abstractmethod
    def accept(self) -> Peer:
        """Its end of the connection that was established next."""


Connect = Callable[[str, str, Deflate | None], AbstractContextManager[Peer]]
"""Connect to an address with one subprotocol, and offer compression or none."""

Serve = Callable[[str, Deflate | None], AbstractContextManager[Server]]
"""Serve one subprotocol, and agree to compression within these parameters, or to none."""


def parameters(header: str) -> dict[str, str]:
    """The parameters of the one extension in a header's value; a missing value is ''."""
    name, *rest = (part.strip() for part in header.split(";"))
    assert name == "permessage-deflate", header
    return {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in rest)}
