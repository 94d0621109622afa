"""The loops that wsd runs in: its own, and those of docs/examples, each with a `Ledger` that hears what it hears."""

from __future__ import annotations

import asyncio
import importlib.util
import selectors
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tests.support.ledger import Ledger
from wsd.protocol import Protocol

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "docs" / "examples"

BUILT_IN = "built-in"
EXTERNAL = ("poll", "asyncio", "selectors")
LOOPS = (BUILT_IN, *EXTERNAL)


class OtherLoop(NamedTuple):
    """A loop that is not wsd's own."""

    protocol_0: Protocol
    run: Callable[[], None]
    """Until the context has stopped."""
    ledger: Ledger


@contextmanager
def loop_of(kind: str) -> Iterator[OtherLoop | None]:
    """One of LOOPS; None: the context's own."""
    protocol: Any
    if kind == "poll":
        protocol = _with_ledger(example("poll_loop").PollLoop)()
        yield OtherLoop(protocol, protocol.run, protocol.ledger)
    elif kind == "asyncio":
        with closing(asyncio.new_event_loop()) as events:
            protocol = _with_ledger(example("asyncio_loop").AsyncioLoop)(events)
            yield OtherLoop(protocol, lambda: events.run_until_complete(protocol.run()), protocol.ledger)
    elif kind == "selectors":
        with selectors.DefaultSelector() as selector:
            protocol = _with_ledger(example("selectors_loop").SelectorsLoop)(selector)
            yield OtherLoop(protocol, protocol.run, protocol.ledger)
    else:
        assert kind == BUILT_IN
        yield None


@cache
def example(name: str) -> ModuleType:
    """The module docs/examples/NAME.py."""
    spec = importlib.util.spec_from_file_location(f"docs_examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _with_ledger(loop: Any) -> Any:
    """`loop`, whose `ledger` hears what it hears."""

    class WithLedger(loop):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.ledger = Ledger()

        def on_add_poll_fd(self, fd: int, events: int) -> None:
            self.ledger.add(fd, events)
            super().on_add_poll_fd(fd, events)

        def on_del_poll_fd(self, fd: int) -> None:
            self.ledger.delete(fd)
            super().on_del_poll_fd(fd)

        def on_set_mode_poll_fd(self, fd: int, events: int) -> None:
            self.ledger.set(fd, events)
            super().on_set_mode_poll_fd(fd, events)

        def on_clear_mode_poll_fd(self, fd: int, events: int) -> None:
            self.ledger.clear(fd, events)
            super().on_clear_mode_poll_fd(fd, events)

    return WithLedger
