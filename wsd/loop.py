"""The service loop: one turn after the other over whatever is ready, wants to write, or is due.

Owns the selector, the table of descriptors, the write list, the timers and the wake-up.  Must not know protocols or
listeners, nor what a wsi is beyond the few methods it calls; `Context` is built on it.

One thread.  The only call that other threads may make is `cancel_service()`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from wsd import faults, log
from wsd.counters import Counters
from wsd.external import Announcer, PollFd
from wsd.poller import Poller
from wsd.rounds import Rounds
from wsd.timers import Timer, Timers
from wsd.transport import READ

if TYPE_CHECKING:
    from wsd.wsi import Wsi

# Fairness: bytes that one wsi may bring in a turn, in one receive; 64 KiB is redis's number too (networking.c).
READ_BYTES: Final = 65536

# A turn longer than this is worth a LATENCY line: a tenth of what people notice.
_SLOW_TURN_SECONDS: Final = 0.01

_ROUSE: Final = 1 << 32  # added to the wake-up descriptor, it ends a wait and is no cancel_service()


# Behind a deep read (`straight.DEEP_READ`): its sender waits for none of the answers, and if we came back at once, we
# would find it in the midst of saying the next ones and take them one by one, each with a receive and a send.  So we
# rest for about as long as those took.  Ten connections with 32 messages in flight then cost 1.4 us a message, for 2.0,
# and are served a fifth faster; with 20 us a single one of them is slower than without.
_REST_MICROSECONDS: Final = 10
_REST_SECONDS: Final = _REST_MICROSECONDS / 1e6
# With more of them, others wait for us.
_FEW_EVENTS: Final = 8

Survive = Callable[[Callable[..., None], Exception], None]
"""Gets what raised, and what it raised."""

# What makes work for a turn; when it is called outside of one, a loop that is not ours has to hear of that.
_MAKES_WORK: Final = ("note_writer", "note_writers", "note_backlog", "note_dead", "call_at", "call_soon")


def serve_events_in_python(
    events: list[tuple[int, int]], table: dict[int, Callable[[int], None]], survive: Survive
) -> None:
    """Hot: call `table[descriptor](mask)` for each event.

    A descriptor may have left the table while its neighbours were served.  An Exception goes to `survive`, with the
    function that raised it.
    """
    for fd, mask in events:
        function = table.get(fd)
        if function is not None:
            try:
                function(mask)
            except Exception as error:
                survive(function, error)


def serve_writers_in_python(writers: list[Wsi], survive: Survive) -> None:
    """Hot: call `service_write()` of each; of exceptions, the same."""
    for wsi in writers:
        try:
            wsi.service_write()
        except Exception as error:
            survive(wsi.service_write, error)


def rest_in_python(microseconds: int) -> None:
    """Not at all: `time.sleep` takes 50 us more than it is told, in which a peer may be done and wait."""


try:
    from wsd._native import rest, serve_events, serve_writers
except ImportError:
    rest, serve_events, serve_writers = rest_in_python, serve_events_in_python, serve_writers_in_python


class Loop:
    """The loop of a context.

    Args:
        external_poll: Somebody else polls, and calls `service_fd`.
    """

    # What is looked at for each message has a slot: `compiled.py` has the C functions find it there.
    __slots__ = ("__dict__", "__weakref__", "_is_serving", "_writers", "buffer", "counters", "is_deep", "now")

    def __init__(self, external_poll: bool = False) -> None:
        self.counters = Counters()
        self.buffer = bytearray(READ_BYTES)  # shared: no read allocates one
        self.view = memoryview(self.buffer)
        self.now = time.monotonic()  # of this turn
        self.timers = Timers()
        self.rounds = Rounds(self)
        self._writers: list[Wsi] = []
        self._backlogs: list[Wsi] = []
        self._dead: list[Wsi] = []
        self._due: deque[Callable[[], None]] = deque()
        self._table: dict[int, Callable[[int], None]] = {}
        self._announcer = Announcer(self._tell_poll_fd) if external_poll else None
        self._poller: Poller | Announcer = self._announcer or Poller()
        self._is_serving = False
        self.is_deep = False  # a read of this turn was
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._wakeup, READ, self._woken)
        if external_poll:
            for name in _MAKES_WORK:
                self._ring_after(name)

    def _ring_after(self, name: str) -> None:
        """Have a method ring the wake-up if it is called outside of a turn; in a loop of our own it costs nothing."""
        method = getattr(self, name)

        def method_and_ring(*arguments: Any) -> Any:
            answer = method(*arguments)
            if not self._is_serving:
                self.rouse()
            return answer

        setattr(self, name, method_and_ring)

    def _tell_poll_fd(self, name: str, *arguments: int) -> None:
        """Call protocol 0's hook for descriptors of that name."""
        raise NotImplementedError

    def _wake_protocols(self) -> None:
        """Somebody called `cancel_service()`."""
        raise NotImplementedError

    def _reap(self) -> None:
        """Release every wsi that was noted as dead."""
        raise NotImplementedError

    # -- the table of descriptors ---------------------------------------------------------------------------------

    def watch(self, fd: int, mask: int, function: Callable[[int], None]) -> None:
        """Call `function(events)` when `fd` is ready for `mask`, in bits of `select.EPOLL*`."""
        self._poller.add(fd, mask)
        self._table[fd] = function

    def listen_to(self, fd: int, function: Callable[[int], None]) -> None:
        """Call another function for `fd` from now on."""
        self._table[fd] = function

    def unwatch(self, fd: int) -> None:
        """The end of `watch`; before the descriptor is closed."""
        del self._table[fd]
        self._poller.remove(fd)

    def set_interest(self, fd: int, mask: int) -> None:
        """Change what `fd` is polled for; 0: only errors and hang-ups."""
        self._poller.change(fd, mask)

    # -- what a wsi notes -----------------------------------------------------------------------------------------

    def note_writer(self, wsi: Wsi) -> None:
        """`wsi` wants its part in the next write pass."""
        self._writers.append(wsi)

    def note_writers(self, wsis: list[Wsi]) -> None:
        """`note_writer` for many at once."""
        self._writers += wsis

    def note_backlog(self, wsi: Wsi) -> None:
        """`wsi` has something that was read and not delivered."""
        self._backlogs.append(wsi)

    def note_dead(self, wsi: Wsi) -> None:
        """`wsi` is for the reaper."""
        self._dead.append(wsi)

    # -- timers and wake-ups --------------------------------------------------------------------------------------

    def call_later(self, seconds: float, function: Callable[[], Any]) -> Timer:
        """Call `function()` once, `seconds` from now; `cancel()` what it answers to take that back."""
        name = getattr(function, "__qualname__", repr(function))
        return self.call_at(seconds, lambda: self._guard(f"call_later({name})", function))

    def call_at(self, seconds: float, function: Callable[[], None]) -> Timer:
        """`call_later` for wsd's own functions, which do not raise."""
        return self.timers.add(time.monotonic() + seconds, function)

    def cancel_service(self) -> None:
        """Have `on_wakeup` called on every protocol, soon.  Any thread may call this; nothing else.

        LWS: lws_cancel_service.
        """
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile: there is nobody left to wake
            os.eventfd_write(self._wakeup, 1)

    def _woken(self, mask: int) -> None:
        with contextlib.suppress(BlockingIOError):  # another loop may say it twice
            if os.eventfd_read(self._wakeup) % _ROUSE:
                self._due.append(self._wake_protocols)

    def rouse(self) -> None:
        """Have the turn that waits in select come round, without telling anybody; from any thread or signal handler."""
        with contextlib.suppress(OSError, ValueError):
            os.eventfd_write(self._wakeup, _ROUSE)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Run one of wsd's own functions at the end of this turn, outside of every hook."""
        self._due.append(function)

    def _guard(self, where: str, function: Callable[[], Any]) -> None:
        """Run a plugin's function that belongs to no wsi; what it raises ends here."""
        try:
            function()
        except faults.CATCHABLE as error:
            self.counters.plugin_errors += 1
            faults.report_exception(where, error)

    # -- the loop -------------------------------------------------------------------------------------------------

    def service(self, timeout: float | None = None) -> None:
        """One turn: select, reads, one pass over the write list, timers, reap.  LWS: lws_service.

        Args:
            timeout: Longest wait in seconds; None: until something happens; 0: no wait.

        Raises:
            RuntimeError: the context was made with `external_poll=True`; or this is called from inside of a hook.
        """
        self._refuse_nested()
        events = self._poller.poll(self._wait(timeout))
        self._turn(events)
        if self.is_deep:
            self.is_deep = False
            if len(events) <= _FEW_EVENTS and self._wait(_REST_SECONDS):
                rest(_REST_MICROSECONDS)

    def service_fd(self, pollfd: PollFd | None) -> float | None:
        """A turn for one descriptor that another loop has polled, of a context with `external_poll=True`.

        What is ready is read, then everything runs that is due.  LWS: lws_service_fd.

        Args:
            pollfd: `revents` says what it is ready for, and is 0 afterwards if the descriptor is ours; one that is
                not is left alone.  None: only what is due.

        Answers how many seconds the other loop may wait until it calls again with None: 0 if there is work left, None
        if no timer is set.  What makes work outside of a turn rings the wake-up, a descriptor like any other, and the
        answer of its turn is the new one.

        Raises:
            RuntimeError: this is called from inside of a hook.
        """
        self._refuse_nested()
        events: list[tuple[int, int]] = []
        if pollfd is not None:
            if pollfd.fd not in self._table:
                return self._wait(None)
            mask, pollfd.revents = pollfd.revents, 0
            if self._announcer is not None:
                mask = self._announcer.checked(pollfd.fd, mask)
            events = [(pollfd.fd, mask)] if mask else []
        self._turn(events)
        wait = self._wait(None)
        if wait == 0:
            self.rouse()
        return wait

    def _refuse_nested(self) -> None:
        # All read into one buffer, in which there may be more for the wsi whose hook runs.
        if self._is_serving:
            raise RuntimeError("a turn is under way: no hook can call service()")

    def _turn(self, events: list[tuple[int, int]]) -> None:
        """What a turn does with the events that were polled."""
        self.counters.turns += 1
        started = self.now = time.monotonic()
        self._is_serving = True
        try:
            backlogs, self._backlogs = self._backlogs, []
            serve_events(events, self._table, self._survive)
            for wsi in backlogs:
                self._run(wsi.resume)
            # Requests made during the pass go to a new list and belong to the next turn, whose select waits 0: a plugin
            # that always asks again starves nobody.
            writers, self._writers = self._writers, []
            serve_writers(writers, self._survive)
            for due in self.timers.due(time.monotonic()):
                self._run(due)
            for _ in range(len(self._due)):
                self._run(self._due.popleft())
            if self._dead:
                self._reap()
        finally:
            self._is_serving = False
        if log.is_on(log.LATENCY):
            self._log_latency(started, len(events))

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:
            self._survive(function, error)

    def _survive(self, function: Callable[..., None], error: Exception) -> None:
        """A bug of wsd's own costs the connection where it showed, and no other."""
        self.counters.bugs += 1
        faults.report_bug(error)
        owner = getattr(function, "__self__", None)
        if owner is not None and hasattr(owner, "abort"):
            owner.abort("a bug in wsd")

    def _wait(self, timeout: float | None) -> float | None:
        """How long select may wait."""
        if self._writers or self._backlogs or self._due or self._dead:
            return 0
        deadline = self.timers.next_deadline()
        if deadline is None:
            return timeout
        left = max(0.0, deadline - time.monotonic())
        return left if timeout is None else min(left, timeout)

    def _log_latency(self, started: float, events: int) -> None:
        took = time.monotonic() - started
        if took > _SLOW_TURN_SECONDS:
            log.latency("a turn of %d events took %.1f ms", events, took * 1000)

    def _close_wakeup(self) -> None:
        self.unwatch(self._wakeup)
        # The number may be somebody else's in a moment, and other threads may still call cancel_service().
        wakeup, self._wakeup = self._wakeup, -1
        os.close(wakeup)
