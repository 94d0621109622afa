"""A protocol that notes every hook, and a wsi of it without a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.loopless import Loopless
from wsd.protocol import Protocol


class Notes(Protocol):
    """Notes every hook; `on` runs a function in one of them and gives what it answers."""

    name = "notes"

    def __init__(self, **on: Callable[..., Any]) -> None:
        self.on = on
        self.notes: list[Any] = []

    def _note(self, hook: str, *what: Any) -> Any:
        self.notes.append((hook, *what[1:]))
        function = self.on.get(hook)
        return function(*what) if function else None

    def on_established(self, wsi: Any) -> Any:
        return self._note("established", wsi)

    def on_receive(self, wsi: Any, data: bytes) -> Any:
        return self._note("receive", wsi, data)

    def on_writeable(self, wsi: Any) -> Any:
        return self._note("writeable", wsi)

    def on_pong(self, wsi: Any, payload: bytes) -> Any:
        return self._note("pong", wsi, payload)

    def on_peer_close(self, wsi: Any, code: int, close_reason: str) -> Any:
        return self._note("peer_close", wsi, code, close_reason)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self._note("closed", wsi, code, close_reason)

    def on_timer(self, wsi: Any) -> Any:
        return self._note("timer", wsi)

    def received(self) -> list[bytes]:
        return [note[1] for note in self.notes if note[0] == "receive"]

    def count(self, hook: str) -> int:
        return sum(note[0] == hook for note in self.notes)


def line_of(**on: Callable[..., Any]) -> tuple[Loopless, Notes]:
    protocol = Notes(**on)
    return Loopless(protocol), protocol
