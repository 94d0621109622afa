"""A context that connects out, and a protocol that notes what it is told: each connect has exactly one outcome."""

from __future__ import annotations

import queue
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.context import Running, running
from tests.support.server import Connection
from tests.support.timing import PATIENCE, wait_until
from wsd.errors import ConnectError
from wsd.protocol import Protocol


class Outgoing(Protocol):
    """Notes every hook in `calls`; `does` says, by the name of a hook, what it does besides."""

    name = "out"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.does: dict[str, Callable[..., Any]] = {}
        self.outcomes: queue.Queue[tuple[Any, ConnectError | None]] = queue.Queue()
        """Each wsi that was established (None) or not (its error)."""
        self.closes: queue.Queue[tuple[Any, int, str]] = queue.Queue()
        self.messages: queue.Queue[str | bytes] = queue.Queue()
        self.told: dict[Any, list[str]] = defaultdict(list)
        """By wsi, which of its outcomes it was told."""

    def _called(self, hook: str, *arguments: Any) -> Any:
        self.calls.append(hook)
        does = self.does.get(hook)
        return None if does is None else does(*arguments)

    def on_client_confirm_extension_supported(self, wsi: Any, name: str) -> Any:
        return self._called("confirm", wsi, name)

    def on_client_append_handshake_header(self, wsi: Any, headers: Any) -> Any:
        return self._called("append", wsi, headers)

    def on_client_filter_pre_establish(self, wsi: Any, response: Any) -> Any:
        return self._called("filter", wsi, response)

    def on_established(self, wsi: Any) -> Any:
        self.told[wsi].append("established")
        self.outcomes.put((wsi, None))
        return self._called("established", wsi)

    def on_client_connection_error(self, wsi: Any, error: ConnectError) -> Any:
        self.told[wsi].append("error")
        self.outcomes.put((wsi, error))
        return self._called("error", wsi, error)

    def on_message(self, wsi: Any, message: Any) -> Any:
        self.messages.put(message)
        return self._called("message", wsi, message)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.told[wsi].append("closed")
        self.closes.put((wsi, code, close_reason))
        self._called("closed", wsi, code, close_reason)


class Dialing:
    """A running context with `Outgoing`, and what a test does with it."""

    def __init__(self, served: Running, protocol: Outgoing) -> None:
        self.served = served
        self.context = served.context
        self.protocol = protocol
        self.wsis: list[Any] = []
        """What `connect` gave."""

    def connect(self, url: str, **options: Any) -> Any:
        """`client_connect` in the loop's thread."""
        options.setdefault("protocol", self.protocol)
        options.setdefault("timeout_seconds", PATIENCE)
        wsi = self.served.call(lambda: self.context.client_connect(url, **options))
        self.wsis.append(wsi)
        return wsi

    def outcome(self) -> tuple[Any, ConnectError | None]:
        """The next outcome of any connect."""
        return self.protocol.outcomes.get(timeout=PATIENCE)

    def error(self) -> ConnectError:
        """The next outcome, which must be an error."""
        _, error = self.outcome()
        assert error is not None, "it was established"
        return error

    def established(self) -> Any:
        """The wsi of the next outcome, which must not be an error."""
        wsi, error = self.outcome()
        assert error is None, (error.cause, error.text)
        return wsi

    def closed(self) -> tuple[int, str]:
        """What the next `on_closed` was told."""
        _, code, close_reason = self.protocol.closes.get(timeout=PATIENCE)
        return code, close_reason

    def message(self) -> str | bytes:
        return self.protocol.messages.get(timeout=PATIENCE)

    def read_bytewise(self, connection: Connection, data: bytes) -> None:
        """Have `connection` send `data` so that our end reads each byte by itself."""
        counters = self.context.counters
        for at in range(len(data)):
            read = self.call(lambda: counters.bytes_received)
            connection.send(data[at : at + 1])
            wait_until(lambda read=read: self.call(lambda: counters.bytes_received) == read + 1)  # type: ignore[misc]

    def call(self, function: Callable[[], Any]) -> Any:
        """Run `function` in the loop's thread."""
        return self.served.call(function)


@contextmanager
def dialing(*more: Protocol, protocol: Outgoing | None = None, **arguments: Any) -> Iterator[Dialing]:
    """A context with `Outgoing` and `more`, all of which it serves on a port as well, until the block ends.

    When it has ended, each wsi must have been told exactly one of `on_established` and `on_client_connection_error`,
    and `on_closed` if and only if it was the former.
    """
    outgoing = protocol or Outgoing()
    with running([outgoing, *more], **arguments) as served:
        dialing = Dialing(served, outgoing)
        yield dialing
    check_told(outgoing, dialing.wsis)


def check_told(protocol: Outgoing, wsis: Sequence[Any]) -> None:
    """Count what each wsi, those of `wsis` among them, was told."""
    for wsi in {*wsis, *protocol.told}:
        told = protocol.told.get(wsi)
        assert told in (["established", "closed"], ["error"]), (wsi, told)
