"""A server whose closing deadline ends nothing by itself, and one client of it that reads as little as it likes."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.support.client import BINARY, CLOSE, TEXT, Client, Frame, connect, frame
from tests.support.context import Running, running
from tests.support.timing import PATIENCE, wait_until
from wsd.config import Limits, Timeouts
from wsd.protocol import Protocol

LARGE = bytes(12 << 20)
"""More than the kernels of both sides take for a peer that reads nothing."""

NEVER_SECONDS = 600
"""A deadline that ends nothing here: what ends was ended by what the test did."""


class Ends(Protocol):
    """Notes what it gets; does in `on_receive` what a test tells it."""

    name = "ends"

    def __init__(self) -> None:
        self.ends: queue.Queue[tuple[int, str]] = queue.Queue()
        self.received: list[bytes] = []
        self.deed: Callable[[Any], Any] = lambda wsi: None
        self.writes: list[tuple[str, bool]] = []

    def on_receive(self, wsi: Any, data: bytes) -> Any:
        self.received.append(data)
        return self.deed(wsi)

    def on_writeable(self, wsi: Any) -> None:
        while self.writes:
            text, final = self.writes.pop(0)
            wsi.write(text, final=final)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.ends.put((code, close_reason))


class Scene(NamedTuple):
    """A server, a client that reads little, and the server's wsi of it."""

    served: Running
    protocol: Ends
    client: Client
    wsi: Any

    def do(self, deed: Callable[[Any], Any]) -> Any:
        """In the loop's thread, between two turns."""
        return self.served.call(lambda: deed(self.wsi))

    def wait_for(self, state: int) -> None:
        """Wait until the wsi is in this state of wsd/wire/closing.py."""
        wait_until(lambda: self.wsi._state == state, what=f"state {state}")

    def wait_for_piece(self) -> None:
        wait_until(lambda: self.protocol.received, what="a piece arrives")

    def end(self) -> tuple[int, str]:
        """What `on_closed` was told; the descriptor is closed."""
        ended = self.protocol.ends.get(timeout=PATIENCE)
        wait_until(lambda: self.served.context.wsi_count == 0, what="the connection is gone")
        assert self.wsi.fileno() == -1
        return ended


@contextmanager
def scene(close_seconds: float = NEVER_SECONDS, headers: Any = (), **limits: Any) -> Iterator[Scene]:
    """A connection of `Ends`; `headers` are added to the client's request, `limits` are fields of `Limits`."""
    protocol = Ends()
    timeouts = Timeouts(close_seconds=close_seconds, slow_reader_seconds=NEVER_SECONDS)
    sizes = Limits(**{"max_queue_bytes": 1 << 30, **limits})
    with running([protocol], timeouts=timeouts, limits=sizes) as served:
        with connect(served.port, "ends", receive_buffer=4096, headers=headers) as client:
            wait_until(lambda: protocol.wsis)
            (wsi,) = protocol.wsis
            yield Scene(served, protocol, client, wsi)
        assert protocol.ends.empty(), "on_closed came twice"


def rest(client: Client) -> list[Frame]:
    """All frames until the end of the stream, which has to be in order: a reset, or an end inside a frame, raises."""
    frames: list[Frame] = []
    while True:
        if not client.buffer:
            client.socket.settimeout(PATIENCE)
            data = client.socket.recv(65536)
            if not data:
                return frames
            client.buffer += data
        frames.append(client.receive_frame())


def codes(frames: list[Frame]) -> list[int | None]:
    """The codes of the Close frames; None stands for LARGE."""
    assert all(one.opcode == CLOSE or one == Frame(BINARY, LARGE) for one in frames)
    return [one.close_code if one.opcode == CLOSE else None for one in frames]


def send_large(wsi: Any) -> None:
    wsi.send(LARGE)


def choke(it: Scene) -> None:
    """A large message is on its way, and the kernel takes no more of it."""
    it.do(send_large)
    wait_until(lambda: it.wsi._output.is_choked, what="the kernel refuses bytes")


def begin_message(it: Scene) -> None:
    """Inside a message the peer is read on, however little it reads itself."""
    it.client.send(frame(TEXT, "begun", final=False))
    it.wait_for_piece()


def into_closing(it: Scene) -> None:
    """Our Close is a note: a large message lies before it."""
    choke(it)
    it.do(lambda wsi: wsi.close(4000))


def into_close_sent(it: Scene) -> None:
    """Our Close is at the peer, which does not answer."""
    it.do(lambda wsi: wsi.close(4000))
    assert it.client.receive_close().close_code == 4000
