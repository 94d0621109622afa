"""A context with external polling whose other loop is the test: one batch at a time, in one thread."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

from tests.support.client import Client, upgrade_request
from tests.support.ledger import Ledger
from tests.support.timing import MS, PATIENCE
from wsd.context import Context
from wsd.external import PollFd
from wsd.listener import Listener
from wsd.protocol import Protocol, callback_protocol
from wsd.reasons import Reason


class ByHooks(Protocol):
    """Protocol 0 in class style: tells a ledger."""

    name = "protocol-0"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def on_add_poll_fd(self, fd: int, events: int) -> None:
        self.ledger.add(fd, events)

    def on_del_poll_fd(self, fd: int) -> None:
        self.ledger.delete(fd)

    def on_set_mode_poll_fd(self, fd: int, events: int) -> None:
        self.ledger.set(fd, events)

    def on_clear_mode_poll_fd(self, fd: int, events: int) -> None:
        self.ledger.clear(fd, events)


def by_callback(ledger: Ledger) -> Protocol:
    """The same in callback style."""

    @callback_protocol("protocol-0")
    def callback(wsi: Any, reason: int, user: Any, data: Any) -> None:
        if reason == Reason.ADD_POLL_FD:
            ledger.add(*data)
        elif reason == Reason.DEL_POLL_FD:
            ledger.delete(data)
        elif reason == Reason.SET_MODE_POLL_FD:
            ledger.set(*data)
        elif reason == Reason.CLEAR_MODE_POLL_FD:
            ledger.clear(*data)

    return callback


STYLES: dict[str, Callable[[Ledger], Protocol]] = {"class": ByHooks, "callback": by_callback}


class Stepped:
    """The context, its ledger, and a listener that serves all protocols but protocol 0.

    Attributes:
        answer: Of the last `service_fd`: how long the loop may sleep.
        wakeup: The descriptor that was announced first.
    """

    def __init__(self, protocols: Sequence[Protocol], style: str = "class", **arguments: Any) -> None:
        self.ledger = Ledger()
        self.answer: float | None = None
        self.context = Context([STYLES[style](self.ledger), *protocols], external_poll=True, **arguments)
        self.wakeup = self.ledger.history[0][1]
        self.listener: Listener = self.context.listen(port=0, protocols=protocols)

    @property
    def port(self) -> int:
        return self.listener.port

    def ready(self, seconds: float = 0) -> dict[int, int]:
        """What is ready of all that was announced, within that time; a loop that slept would wake for it."""
        poll = select.poll()
        for fd, events in self.ledger.table.items():
            poll.register(fd, events)
        return dict(poll.poll(ceil(seconds * 1000)))

    def wait_ready(self, fd: int) -> int:
        """What `fd` is ready for, as soon as it is."""
        deadline = time.monotonic() + PATIENCE
        while not (events := self.ready(1).get(fd, 0)):
            assert time.monotonic() < deadline, f"{fd} does not become ready"
        return events

    def serve(self, fd: int, revents: int) -> PollFd:
        """One call of `service_fd`."""
        pollfd = PollFd(fd, self.ledger.table.get(fd, 0), revents)
        self.answer = self.context.service_fd(pollfd)
        return pollfd

    def due(self) -> float | None:
        """One call of `service_fd(None)`."""
        self.answer = self.context.service_fd(None)
        return self.answer

    def batch(self, seconds: float = 0) -> int:
        """Poll once for up to that time, and serve all that is ready; how many there were."""
        ready = self.ready(seconds)
        for fd, revents in ready.items():
            self.serve(fd, revents)
        return len(ready)

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Be a loop that sleeps as long as it was told that it may, until `condition()`."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"not so within {PATIENCE:g} s: {what}"
            if not self.batch(left if self.answer is None else min(left, self.answer)):
                self.due()

    def settle(self) -> None:
        """Serve all that is ready, until nothing is."""
        for _ in range(1000):
            if not self.batch() and self.answer != 0:
                return
        raise AssertionError("it does not come to rest")

    def connect(self, protocol: str | None = None, **options: Any) -> Client:
        """A client that is upgraded: the handshake is done here, since there is only one thread."""
        client = Client(self.port, **options)
        try:
            client.send(upgrade_request(protocols=protocol))
            before = self.context.counters.established
            self.until(lambda: self.context.counters.established > before)
            assert client.receive_response().status == 101
        except BaseException:
            client.disconnect()
            raise
        return client

    def fetch(self, client: Client) -> str | bytes:
        """The next message of a client, for which the context is served as long as it takes."""
        self.until(lambda: has_come(client))
        return client.receive_message()


def has_come(client: Client) -> bool:
    """Reports whether a client has something to read, or its end; a moment is given for it to come."""
    return bool(client.buffer or select.select([client.socket], [], [], 2 * MS)[0])


@contextmanager
def stepped(protocols: Sequence[Protocol], style: str = "class", **arguments: Any) -> Iterator[Stepped]:
    """`Stepped`, until the block ends; then every announcement must have been possible, and nothing be left."""
    loop = Stepped(protocols, style, **arguments)
    try:
        yield loop
    finally:
        loop.context.close()
    assert not loop.context.counters.bugs, "the context met a bug of its own; see the log"
    loop.ledger.check_ended()


@contextmanager
def plugged(fd: int) -> Iterator[None]:
    """No number below `fd` is free: if that is closed, who opens something next gets it."""
    plugs = []
    try:
        while (plug := os.dup(fd)) < fd:
            plugs.append(plug)
        os.close(plug)
        yield
    finally:
        for plug in plugs:
            os.close(plug)
