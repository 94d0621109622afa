"""The service loop and all that it serves.

Owns the selector, the table of descriptors, the write list, the timers, the wake-up and the reaper.  It is given
`Protocol` objects and does not know that plugin files or a configuration file exist: a whole server can be embedded.

One thread.  The only call that other threads may make is `cancel_service()`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from wsd import faults, log
from wsd.config import Keepalive, Limits, Listen, Timeouts
from wsd.counters import Counters
from wsd.errors import PluginError
from wsd.listener import Listener, bind
from wsd.poller import Poller
from wsd.protocol import Binding, Protocol
from wsd.timers import Timer, Timers
from wsd.transport import READ
from wsd.web import Http
from wsd.wire.frames import GOING_AWAY

if TYPE_CHECKING:
    import socket

    from wsd.config import ProtocolTable
    from wsd.wsi import Wsi

# Fairness: bytes that one wsi may bring in a turn, in one receive; 64 KiB is redis's number too (networking.c).
READ_BYTES: Final = 65536

# Descriptors kept out of the connection limit: listeners, log, lock and control sockets, what plugins open.
RESERVED_DESCRIPTORS: Final = 64

# A turn longer than this is worth a LATENCY line: a tenth of what people notice.
_SLOW_TURN_SECONDS: Final = 0.01

_ROUSE: Final = 1 << 32  # added to the wake-up descriptor, it ends a wait and is no cancel_service()

# At the limit every connection that ends lets one in, which is at the limit again: one line a minute will do.
_warnings = log.Throttle()


class Context:
    """The loop and all it serves.  LWS: struct lws_context.

    Args:
        protocols: Served by every listener that names none; the first is protocol 0.
        limits, timeouts, keepalive: Models of `wsd.config`; None: their defaults.

    Raises:
        PluginError: a protocol cannot be used, or its `on_protocol_init` raised.
    """

    def __init__(
        self,
        protocols: Sequence[Protocol] = (),
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        keepalive: Keepalive | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self.keepalive = keepalive or Keepalive()
        self.counters = Counters()
        self.max_connections = connection_limit(self.limits.max_connections)
        self.buffer = bytearray(READ_BYTES)  # shared: no read allocates one
        self.view = memoryview(self.buffer)
        self.now = time.monotonic()  # of this turn
        self.stopping = False
        self.is_closed = False
        self.timers = Timers()
        self.listeners: list[Listener] = []
        # In the order they were added; retired ones are not in it.  By instance, not by name: while a reload swaps one
        # protocol for another of the same name, there are two.
        self.bindings: dict[Protocol, Binding] = {}
        self.retired: list[Binding] = []
        self._wsis: set[Wsi] = set()
        self._writers: list[Wsi] = []
        self._backlogs: list[Wsi] = []
        self._dead: list[Wsi] = []
        self._due: deque[Callable[[], None]] = deque()
        self._table: dict[int, Callable[[int], None]] = {}
        self._poller = Poller()
        self._next_number = 0
        self._accepting = True
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._wakeup, READ, self._woken)
        try:
            for protocol in protocols:
                self.add_protocol(protocol)
            # What answers where no plugin does; in the daemon it is protocol 0 itself.
            first = next(iter(self.bindings.values()), None)
            is_builtin = first is not None and isinstance(first.protocol, Http)
            self.fallback_http = first if first and is_builtin else self._bind(Http(), None)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- protocols ------------------------------------------------------------------------------------------------

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The protocols served to new connections, protocol 0 first."""
        return tuple(self.bindings)

    @property
    def protocol_0(self) -> Binding:
        """What HTTP goes to where a listener names no other: the first protocol, or the built-in if there is none."""
        return next(iter(self.bindings.values()), None) or self.fallback_http

    def add_protocol(self, protocol: Protocol, options: Any = None, table: ProtocolTable | None = None) -> Binding:
        """Initialise `protocol` and serve it: to the listeners that are opened or reconfigured from now on.

        Args:
            protocol: An instance that no other context serves.
            options: Its options; None: the defaults of its `Options` model.
            table: What the operator wrote for it: limits and times.

        Raises:
            PluginError: its hooks cannot be bound, or `on_protocol_init` raised.
        """
        binding = self.bindings[protocol] = self._bind(protocol, options, table)
        return binding

    def retire_protocol(self, protocol: Protocol, on_destroyed: Callable[[], None] | None = None) -> None:
        """Stop serving `protocol` to new connections; it is destroyed when its last wsi is closed."""
        binding = self.bindings.pop(protocol)
        binding.on_destroyed = on_destroyed
        self._retire(binding)

    def _retire(self, binding: Binding) -> None:
        binding.is_retired = True
        self.retired.append(binding)
        self._due.append(self._destroy_unused)

    def _destroy_unused(self) -> None:
        """Destroy every retired protocol that no wsi uses any more."""
        for binding in [binding for binding in self.retired if not binding.wsi_count]:
            self.retired.remove(binding)
            self.destroy_protocol(binding)

    def destroy_protocol(self, binding: Binding) -> None:
        """Run `on_protocol_destroy`."""
        hook = binding.hooks.on_protocol_destroy
        if hook is not None:
            self._guard(f"{binding.protocol.name}.on_protocol_destroy", hook)
        if binding.on_destroyed is not None:
            binding.on_destroyed()

    def _bind(self, protocol: Protocol, options: Any, table: ProtocolTable | None = None) -> Binding:
        binding = Binding(protocol, self.limits, self.timeouts, table)
        if options is None and protocol.Options is not None:
            options = protocol.Options()
        binding.options = options
        protocol.context = self
        protocol._members = {}
        hook = binding.hooks.on_protocol_init
        if hook is not None:
            try:
                hook(self, options)
            except faults.CATCHABLE as error:
                faults.report_exception(f"{protocol.name}.on_protocol_init", error)
                raise PluginError(
                    f"{protocol.name}: on_protocol_init raised {type(error).__name__}: {error}",
                    *faults.place_of(error),
                ) from error
        return binding

    def callback_on_writable_all_protocol(self, protocol: Protocol) -> None:
        """Ask for `on_writeable` on every established wsi of `protocol`.  LWS: the same name."""
        for wsi in tuple(protocol._members):
            wsi.callback_on_writable()

    def rx_flow_allow_all_protocol(self, protocol: Protocol) -> None:
        """`rx_flow_control(True)` on every established wsi of `protocol`.  LWS: the same name."""
        for wsi in tuple(protocol._members):
            wsi.rx_flow_control(True)

    # -- listeners ------------------------------------------------------------------------------------------------

    def listen(
        self,
        listen: Listen | None = None,
        *,
        protocols: Sequence[Protocol] | None = None,
        sock: socket.socket | None = None,
        http: Protocol | None = None,
        **fields: Any,
    ) -> Listener:
        """Accept connections.

        Args:
            listen: Its configuration; None: made of `fields`, for example `port=0`.
            protocols: Whom it serves; None: every protocol of the context.
            sock: A socket that listens already; None: one is bound as `listen` says.
            http: Whose HTTP hooks it uses; None: protocol 0.

        Raises:
            StartError: the address cannot be listened on.
            PluginError: two protocols of one name.
            pydantic.ValidationError: `fields` that make no `Listen`.
        """
        config = listen if listen is not None else Listen(**fields)
        bindings, http_binding = self.bindings_of(protocols), self.http_binding(http)
        listener = Listener(self, config, sock if sock is not None else bind(config))
        try:
            listener.serve(bindings, http_binding)
        except BaseException:
            listener.close()
            raise
        self.listeners.append(listener)
        self.watch(listener.fileno(), READ, listener.on_events)
        if not self._accepting:
            listener.pause()
        return listener

    def bindings_of(self, protocols: Sequence[Protocol] | None) -> list[Binding]:
        """How the context serves `protocols`; None: all of them but the built-in, which speaks no WebSocket."""
        if protocols is None:
            return [binding for binding in self.bindings.values() if not isinstance(binding.protocol, Http)]
        return [self.bindings[protocol] for protocol in protocols]

    def http_binding(self, http: Protocol | None) -> Binding:
        """How the context serves `http`; None: protocol 0."""
        return self.protocol_0 if http is None else self.bindings[http]

    def remove_listener(self, listener: Listener) -> None:
        """Stop accepting there; its connections live on."""
        self.listeners.remove(listener)
        self.unwatch(listener.fileno())
        listener.close()

    def next_number(self) -> int:
        """The number of the next wsi, for its tag."""
        self._next_number += 1
        return self._next_number

    def add_wsi(self, wsi: Wsi) -> None:
        """Serve an accepted connection; at the limit all listeners pause."""
        self._wsis.add(wsi)
        self.watch(wsi.fileno(), READ, wsi.on_events)
        if len(self._wsis) >= self.max_connections:
            if _warnings.allow("limit", self.now) is not None:
                log.warn("connection limit reached (%d); accepting pauses", self.max_connections)
            self.pause_accepting()

    def pause_accepting(self, seconds: float | None = None) -> None:
        """No listener accepts until a connection ends, or for `seconds`.

        They are not even polled: a listener that nobody empties stays readable, and the loop would spin.
        """
        if self._accepting:
            self._accepting = False
            self.counters.accept_pauses += 1
            for listener in self.listeners:
                listener.pause()
        if seconds is not None:
            self.call_at(seconds, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if not self._accepting and len(self._wsis) < self.max_connections and not self.stopping:
            self._accepting = True
            for listener in self.listeners:
                listener.resume()

    @property
    def wsi_count(self) -> int:
        """How many connections there are, in their handshake or closing too."""
        return len(self._wsis)

    # -- the table of descriptors ---------------------------------------------------------------------------------

    def watch(self, fd: int, mask: int, function: Callable[[int], None]) -> None:
        """Call `function(events)` when `fd` is ready for `mask`, in bits of `select.EPOLL*`."""
        self._poller.add(fd, mask)
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
        if os.eventfd_read(self._wakeup) % _ROUSE:
            self._due.append(self._wake_protocols)

    def _wake_protocols(self) -> None:
        """`on_wakeup` on every protocol that lives now: one may have been destroyed since the wake-up."""
        for binding in (*self.bindings.values(), *self.retired):
            hook = binding.hooks.on_wakeup
            if hook is not None:
                self._guard(f"{binding.protocol.name}.on_wakeup", hook)

    def _guard(self, where: str, function: Callable[[], Any]) -> None:
        """Run a plugin's function that belongs to no wsi; what it raises ends here."""
        try:
            function()
        except faults.CATCHABLE as error:
            self.counters.plugin_errors += 1
            faults.report_exception(where, error)

    # -- the loop -------------------------------------------------------------------------------------------------

    def service(self, timeout: float | None = None) -> None:
        """One turn: select, reads, one pass over the write list, timers, reap.

        Args:
            timeout: Longest wait in seconds; None: until something happens; 0: no wait.
        """
        events = self._poller.poll(self._wait(timeout))
        self.counters.turns += 1
        started = self.now = time.monotonic()
        # Hot: the loop over what is ready.
        table = self._table
        backlogs, self._backlogs = self._backlogs, []
        for fd, mask in events:
            # A descriptor may have left the table while its neighbours were served.
            function = table.get(fd)
            if function is not None:
                try:
                    function(mask)
                except Exception as error:
                    self._survive(function, error)
        for wsi in backlogs:
            self._run(wsi.resume)
        # Requests made during the pass go to a new list and belong to the next turn, whose select waits 0: a plugin
        # that always asks again starves nobody.
        writers, self._writers = self._writers, []
        for wsi in writers:
            try:
                wsi.service_write()
            except Exception as error:
                self._survive(wsi.service_write, error)
        for due in self.timers.due(time.monotonic()):
            self._run(due)
        for _ in range(len(self._due)):
            self._run(self._due.popleft())
        if self._dead:
            self._reap()
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

    def _reap(self) -> None:
        """The only place where a connection's descriptor is closed, so that no number changes owner in a turn."""
        dead, self._dead = self._dead, []
        for wsi in dead:
            self._wsis.discard(wsi)
            wsi.listener.count -= 1
            self.unwatch(wsi.fileno())
            self._run(wsi.reap)
        self._destroy_unused()
        if not self._accepting:
            self._resume_accepting()

    def run(self) -> None:
        """Serve until `stop()` was called and every connection has ended."""
        while not self.stopping or self._wsis:
            self.service()

    def stop(self, code: int = GOING_AWAY) -> None:
        """Stop accepting and close every connection, WebSockets with `code`; `run()` returns when all have ended.

        Each has its closing deadline for that.  LWS: lws_context_destroy, but with a Close frame.
        """
        if self.stopping:
            return
        self.stopping = True
        for listener in tuple(self.listeners):
            self.remove_listener(listener)
        for wsi in tuple(self._wsis):
            if wsi.is_established:
                wsi.close(code, "going away")
            elif not wsi.is_closing:
                wsi.stop()
                # An answer under way may have no end.
                self.call_at(self.timeouts.close_seconds, wsi.abort)
        # We may be in a signal handler, and the turn waiting in select: have it come round and see.
        os.eventfd_write(self._wakeup, _ROUSE)

    def close(self) -> None:
        """End now: every connection is cut, `on_closed` and `on_protocol_destroy` run, all descriptors are closed."""
        if self.is_closed:
            return
        self.is_closed = True
        self.stopping = True
        for listener in tuple(self.listeners):
            self.remove_listener(listener)
        for wsi in tuple(self._wsis):
            wsi.abort("daemon ended")
        self._reap()
        for binding in (*self.bindings.values(), *self.retired):
            self.destroy_protocol(binding)
        self.bindings.clear()
        self.retired.clear()
        self.unwatch(self._wakeup)
        # The number may be somebody else's in a moment, and other threads may still call cancel_service().
        wakeup, self._wakeup = self._wakeup, -1
        os.close(wakeup)
        self._poller.close()


def connection_limit(wanted: int) -> int:
    """How many connections this process may hold: the descriptor limit less a reserve, or `wanted` if that is lower.

    Args:
        wanted: `limits.max_connections`; 0: as many as the descriptor limit allows.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted or 1 << 20  # Linux caps it at fs.nr_open, whose default this is
    allowed = max(1, soft - min(RESERVED_DESCRIPTORS, soft // 2))
    if wanted > allowed:
        log.warn("max_connections = %d, but the descriptor limit of %d allows %d", wanted, soft, allowed)
    return min(wanted, allowed) if wanted else allowed
