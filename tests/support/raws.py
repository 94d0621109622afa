"""A protocol that notes what happens to raw connections, and what a test does with one."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from tests.support.timing import PATIENCE
from wsd.protocol import Protocol


class Bytes(Protocol):
    """Notes every hook in `calls`; `does` says, by the name of a hook without `on_`, what it does besides."""

    name = "bytes"

    def __init__(self, **does: Callable[..., Any]) -> None:
        self.calls: list[str] = []
        self.does = does
        self.adopted: queue.Queue[Any] = queue.Queue()
        self.received: queue.Queue[bytes] = queue.Queue()
        self.ended: queue.Queue[Any] = queue.Queue()
        self.errors: queue.Queue[Any] = queue.Queue()
        self.closes: queue.Queue[tuple[int, str]] = queue.Queue()

    def _called(self, hook: str, *arguments: Any) -> Any:
        self.calls.append(hook)
        does = self.does.get(hook)
        return None if does is None else does(*arguments)

    def on_raw_adopt(self, wsi: Any) -> Any:
        self.adopted.put(wsi)
        return self._called("raw_adopt", wsi)

    def on_raw_receive(self, wsi: Any, data: bytes) -> Any:
        self.received.put(data)
        return self._called("raw_receive", wsi, data)

    def on_raw_writeable(self, wsi: Any) -> Any:
        return self._called("raw_writeable", wsi)

    def on_raw_close(self, wsi: Any) -> Any:
        self.ended.put(wsi)
        return self._called("raw_close", wsi)

    def on_client_connection_error(self, wsi: Any, error: Any) -> Any:
        self.errors.put(error)
        return self._called("client_connection_error", wsi, error)

    def on_timer(self, wsi: Any) -> Any:
        return self._called("timer", wsi)

    def on_user(self, wsi: Any, reason: int, data: Any) -> Any:
        return self._called("user", wsi, reason, data)

    def on_established(self, wsi: Any) -> Any:
        self.adopted.put(wsi)
        return self._called("established", wsi)

    def on_message(self, wsi: Any, message: Any) -> Any:
        return self._called("message", wsi, message)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.closes.put((code, close_reason))
        self._called("closed", wsi, code, close_reason)

    # -- what a test does ------------------------------------------------------------------------------------------

    def wait_for_wsi(self) -> Any:
        """The next wsi that was adopted, or established."""
        return self.adopted.get(timeout=PATIENCE)

    def wait_for_bytes(self, size: int) -> bytes:
        """The next `size` bytes that were received, and not one more."""
        data = b""
        while len(data) < size:
            data += self.received.get(timeout=PATIENCE)
        assert len(data) == size, data
        return data

    def wait_for_end(self) -> Any:
        """The next wsi that had `on_raw_close`."""
        return self.ended.get(timeout=PATIENCE)

    def wait_for_close(self) -> tuple[int, str]:
        """What the next `on_closed` was told."""
        return self.closes.get(timeout=PATIENCE)


def echo(wsi: Any, data: bytes) -> None:
    """A `raw_receive` that sends back what it got."""
    wsi.send(data)
