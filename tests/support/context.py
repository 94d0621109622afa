"""A real `Context` in a thread of its own, so that a test can be its client with plain blocking sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.support.loops import OtherLoop
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.config import Listen
from wsd.context import Context
from wsd.protocol import Protocol

Result = TypeVar("Result")


class _Wakeup(Protocol):
    """Carries calls into the loop's thread: `cancel_service()` is the only call that other threads may make."""

    name = "test-wakeup"

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.lock = threading.Lock()

    def on_wakeup(self) -> None:
        with self.lock:
            due, self.waiting = self.waiting, []
        for function in due:
            function()


class Running:
    """A context that is being served by a thread.  `port` is that of its first listener, 0 for a Unix socket."""

    def __init__(self, context: Context, wakeup: _Wakeup, run: Callable[[], None] | None = None) -> None:
        self.context = context
        self._wakeup = wakeup
        self._run = run or context.run
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._serve, name="context", daemon=True)

    @property
    def port(self) -> int:
        return self.context.listeners[0].port

    def call(self, function: Callable[[], Result]) -> Result:
        """Run `function` in the loop's thread, between two turns' work, and give what it returns or raises."""
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        with self._wakeup.lock:
            self._wakeup.waiting.append(run)
        self.context.cancel_service()
        return future.result(PATIENCE)

    def idle_turns(self, seconds: float = 200 * MS) -> int:
        """How many turns there were while nothing was to be done, once what was under way has settled."""
        counters = self.context.counters

        def during(some: float) -> int:
            before = counters.turns
            time.sleep(some)
            return counters.turns - before

        wait_until(lambda: not during(30 * MS), what="it does not come to rest")
        return during(seconds)

    def _serve(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.error = error


@contextmanager
def running(
    protocols: Sequence[Protocol],
    *,
    unix: str = "",
    listen: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    loop: OtherLoop | None = None,
    **arguments: Any,
) -> Iterator[Running]:
    """Serve `protocols` on a free port of 127.0.0.1 (or on the Unix socket `unix`) until the block ends.

    Args:
        listen: Further fields of the listener (a `[[listen]]` table).
        options: By the protocol's name, what its `on_protocol_init` gets.
        loop: Which polls; None: the context's own.
        arguments: Given to `Context`: limits, timeouts, keepalive.
    """
    wakeup = _Wakeup()
    context = Context([loop.protocol_0], external_poll=True, **arguments) if loop else Context(**arguments)
    try:
        for protocol in protocols:
            context.add_protocol(protocol, (options or {}).get(protocol.name))
        context.add_protocol(wakeup)
        where = {"unix": unix} if unix else {"interface": "127.0.0.1", "port": 0}
        context.listen(Listen(**{**where, **(listen or {})}), protocols=protocols)
    except BaseException:
        context.close()
        raise
    served = Running(context, wakeup, loop.run if loop else None)
    served.thread.start()
    try:
        yield served
    finally:
        if served.thread.is_alive() and not context.stopping:  # else the test has stopped it, and nobody may answer
            served.call(context.stop)
        served.thread.join(PATIENCE)
        alive = served.thread.is_alive()
        if not alive:
            context.close()
        if served.error is not None:
            raise served.error
        assert not alive, "the context did not stop"
        assert not context.counters.bugs, "the context met a bug of its own; see the log"
        if loop is not None:
            loop.ledger.check_ended()
