"""A client connection of ours, driven by a test step by step like the peer at its other end."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.interop.peers import Message
from tests.support.outgoing import Dialing, Outgoing, dialing
from tests.support.timing import PATIENCE
from wsd import ClientTls
from wsd.config import Compression, Limits

# What is in one message of samples.py, and in all of them together.
LIMITS = Limits(max_message_bytes=2_000_000, max_queue_bytes=8_000_000)


class Driver(Outgoing):
    """Notes Pongs too, and writes fragments."""

    def __init__(self) -> None:
        super().__init__()
        self.pongs: queue.Queue[bytes] = queue.Queue()
        self.fragments: list[Message] = []

    def on_pong(self, wsi: Any, payload: bytes) -> None:
        self.pongs.put(payload)

    def on_writeable(self, wsi: Any) -> None:
        fragments, self.fragments = self.fragments, []
        for index, part in enumerate(fragments):
            wsi.write(part, final=index == len(fragments) - 1)


class OurClient:
    """An established client wsi; its calls are made in the loop's thread."""

    def __init__(self, dial: Dialing, driver: Driver, wsi: Any) -> None:
        self.dial = dial
        self.driver = driver
        self.wsi = wsi
        self.extensions: str = wsi.response.headers.get("Sec-WebSocket-Extensions") or ""

    def send(self, message: Message) -> None:
        assert not self.dial.call(lambda: self.wsi.send(message))

    def send_fragments(self, fragments: Sequence[Message]) -> None:
        def ask() -> int:
            self.driver.fragments = list(fragments)
            answer: int = self.wsi.callback_on_writable()
            return answer

        assert not self.dial.call(ask)

    def receive(self) -> Message:
        return self.dial.message()

    def ping(self, payload: bytes) -> None:
        self.dial.call(lambda: self.wsi.ping(payload))

    def pong(self) -> bytes:
        """The payload of the next Pong."""
        return self.driver.pongs.get(timeout=PATIENCE)

    def close(self, code: int, reason: str = "") -> None:
        self.dial.call(lambda: self.wsi.close(code, reason))

    def closed(self) -> tuple[int, str]:
        """What `on_closed` was told."""
        return self.dial.closed()


@contextmanager
def connect_wsd(
    url: str,
    subprotocol: str,
    compression: Compression | None,
    limits: Limits = LIMITS,
    tls: ClientTls | None = None,
) -> Iterator[OurClient]:
    """Connect, and wait until it is established; at the end what it was told is counted."""
    driver = Driver()
    with dialing(protocol=driver, limits=limits) as dial:
        dial.connect(url, subprotocols=[subprotocol], compression=compression, tls=tls)
        yield OurClient(dial, driver, dial.established())
