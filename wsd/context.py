"""All that the service loop serves: protocols, listeners, connections in and out; and how it stops.

Owns who is served, the limit on connections, and the reaper.  It is given `Protocol` objects and does not know that
plugin files or a configuration file exist: a whole server can be embedded.  The loop itself is `Loop`.

One thread.  The only call that other threads may make is `cancel_service()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from wsd import compiled, faults, log
from wsd.access import Gate
from wsd.admission import Admission
from wsd.arrivals import Arrivals
from wsd.binding import Binding
from wsd.config import Keepalive, Limits, Listen, Timeouts, Tls
from wsd.errors import PluginError
from wsd.heap import Heap
from wsd.lanes import Lanes
from wsd.limits import ConnectionLimit, connection_limit
from wsd.listener import Listener, bind, server_tls
from wsd.memory import Memory
from wsd.protocol import Protocol
from wsd.reasons import Reason
from wsd.spread import spread
from wsd.transport import READ
from wsd.web import Http
from wsd.wire.frames import GOING_AWAY

if TYPE_CHECKING:
    import socket

    from wsd.config import ProtocolTable
    from wsd.tls_server import ServerTls
    from wsd.wire.broadcast import Broadcast
    from wsd.wsi import Wsi

# At the limit every connection that ends lets one in, which is at the limit again: one line a minute will do.
_warnings = log.Throttle()


class Context(Arrivals):
    """The loop and all it serves.  LWS: struct lws_context.

    Args:
        protocols: Served by every listener that names none; the first is protocol 0.
        limits, timeouts, keepalive: Models of `wsd.config`; None: their defaults.
        external_poll: It polls nothing, but tells protocol 0 what is to be polled, and waits for `service_fd()`.

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
        external_poll: bool = False,
    ) -> None:
        super().__init__(external_poll)
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self.keepalive = keepalive or Keepalive()
        self.stopping = False
        self.is_closed = False
        self.listeners: list[Listener] = []
        # In the order they were added; retired ones are not in it.  By instance, not by name: while a reload swaps one
        # protocol for another of the same name, there are two.
        self.bindings: dict[Protocol, Binding] = {}
        self.retired: list[Binding] = []
        self._wsis: dict[Wsi, None] = {}  # a set would take up to twice the memory, by how it grows
        self._next_number = 0
        self._accepting = True
        self.connection_limit = ConnectionLimit(0, 0, 0, 0, 0)
        self.max_connections = 0
        self.renew_limit()
        self.memory = Memory(self.counters, self.limits.max_memory_bytes)
        self.lanes = Lanes(self.call_soon)  # in which our clients connect
        self.heap = Heap(self.call_at)
        self.gate = Gate(self._verified)
        self.admission = Admission(self, self._wsis, self._resume_accepting)
        try:
            for protocol in protocols:
                self.add_protocol(protocol)
            # What answers where no plugin does; in the daemon it is protocol 0 itself.
            first = next(iter(self.bindings.values()), None)
            is_builtin = first is not None and isinstance(first.protocol, Http)
            self.fallback_http = first if first and is_builtin else self._bind_builtin()
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
        # It is known before its `on_protocol_init` runs, the usual place to connect out from.
        binding = self.bindings[protocol] = self._bind(protocol, options, table)
        try:
            self._initialise(binding)
        except PluginError:
            del self.bindings[protocol]
            for wsi in [wsi for wsi in self._wsis if wsi.binding is binding]:
                wsi.close()
            raise
        if self._announcer is not None:
            self._announcer.begin()
        return binding

    def retire_protocol(self, protocol: Protocol, on_destroyed: Callable[[], None] | None = None) -> None:
        """Stop serving `protocol` to new connections; it is destroyed when its last wsi is closed."""
        binding = self.bindings[protocol]
        announcer = self._announcer if binding is self.protocol_0 else None
        if announcer is not None:
            announcer.end()
        del self.bindings[protocol]
        if announcer is not None and self.bindings:
            announcer.begin()
        binding.on_destroyed = on_destroyed
        binding.is_retired = True
        self.retired.append(binding)
        # Its peers end the connections that came in; those that it made, and its descriptors, nobody else would.
        for wsi in [wsi for wsi in self._wsis if wsi.binding is binding]:
            if wsi.is_client or wsi.is_descriptor:
                wsi.close(GOING_AWAY, "protocol replaced")
        self.call_soon(self._destroy_unused)

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
        binding.options = protocol.Options() if options is None and protocol.Options is not None else options
        protocol.context = self
        protocol._members = {}
        return binding

    def _bind_builtin(self) -> Binding:
        binding = self._bind(Http(), None)
        self._initialise(binding)
        return binding

    def _initialise(self, binding: Binding) -> None:
        """Run `on_protocol_init`; raises PluginError if that raises."""
        hook, name = binding.hooks.on_protocol_init, binding.protocol.name
        if hook is None:
            return
        try:
            hook(self, binding.options)
        except faults.CATCHABLE as error:
            faults.report_exception(f"{name}.on_protocol_init", error)
            raise PluginError(
                f"{name}: on_protocol_init raised {type(error).__name__}: {error}", *faults.place_of(error)
            ) from error

    def spread(self, wsis: Iterable[Wsi], message: Broadcast) -> list[Wsi]:
        """Send one message to each of `wsis` for which that is next to nothing; answers the others: see `spread.py`."""
        listed: list[Wsi] = []
        try:
            rest: list[Wsi] = spread(self, wsis, message.frame, listed)
        finally:
            if listed:
                self.note_writers(listed)
        return rest

    def callback_on_writable_all_protocol(self, protocol: Protocol) -> None:
        """Ask for `on_writeable` on every established wsi of `protocol`.  LWS: the same name."""
        for wsi in tuple(protocol._members):
            wsi.callback_on_writable()

    def callback_all_protocol(self, protocol: Protocol, reason: int, data: Any = None) -> None:
        """Have `on_user(wsi, reason, data)` called on every wsi of `protocol` that is established, or raw.

        The loop does that, oldest first, outside of every hook: for those that are there then and have not been closed.
        LWS: the same name, but there the calls are made at once.

        Args:
            reason: A number of your own, from `Reason.USER` (1000) on.

        Raises:
            ValueError: a reason below that.
        """
        if reason < Reason.USER:
            raise ValueError(f"a reason of one's own is {Reason.USER.value} or more, found {reason}")
        self.call_soon(lambda: self._call_user(protocol, reason, data))

    def _call_user(self, protocol: Protocol, reason: int, data: Any) -> None:
        for wsi in tuple(protocol._members):
            hook = wsi.binding.hooks.on_user
            if hook is not None and wsi.is_established:
                wsi.call("on_user", hook, wsi, reason, data)

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
        tls: Tls | ServerTls | None = None,
        **fields: Any,
    ) -> Listener:
        """Accept connections.

        Args:
            listen: Its configuration; None: made of `fields`, for example `port=0`.
            protocols: Whom it serves; None: every protocol of the context.
            sock: A socket that listens already; None: one is bound as `listen` says.
            http: Whose HTTP hooks it uses; None: protocol 0.
            tls: The certificate and all that goes with it, in place of `listen.tls`; or what was made of it before.

        Raises:
            StartError: the address cannot be listened on.
            ConfigError: `listen.tls` names a certificate, or anything else, that cannot be used; or `listen.auth` names
                a file.
            PluginError: two protocols of one name.
            pydantic.ValidationError: `fields` that make no `Listen`.
        """
        config = listen if listen is not None else Listen(**fields)
        bindings, http_binding = self.bindings_of(protocols), self.http_binding(http)
        for binding in (http_binding, *bindings):
            self.gate.access(config.auth, binding.auth)  # its files are read now, and not with the first request
        if isinstance(tls, Tls):
            config, tls = config.model_copy(update={"tls": tls}), None
        tls = tls or server_tls(config)
        listener = Listener(self, config, sock if sock is not None else bind(config), tls)
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

    def binding_of(self, protocol: Protocol | str | None) -> Binding:
        """How the context serves one protocol; None: the first.  Of two of one name, while a reload swaps them, the
        newer.

        Raises:
            ValueError: it serves none such.
        """
        if protocol is None:
            found = self.bindings_of(None)[:1]
        elif isinstance(protocol, str):
            found = [binding for binding in self.bindings.values() if binding.protocol.name == protocol][-1:]
        else:
            found = [binding for binding in self.bindings.values() if binding.protocol is protocol]
        if found:
            return found[0]
        name = "" if protocol is None else f" {protocol}" if isinstance(protocol, str) else f" {protocol.name}"
        raise ValueError(f"this context serves no protocol{name}")

    def http_binding(self, http: Protocol | None) -> Binding:
        """How the context serves `http`; None: protocol 0."""
        return self.protocol_0 if http is None else self.bindings[http]

    def remove_listener(self, listener: Listener) -> None:
        """Stop accepting there; its connections live on."""
        self.listeners.remove(listener)
        self.unwatch(listener.fileno())
        listener.close()

    # -- connections ----------------------------------------------------------------------------------------------

    def next_number(self) -> int:
        """The number of the next wsi, for its tag."""
        self._next_number += 1
        return self._next_number

    def add_wsi(self, wsi: Wsi) -> None:
        """Serve a connection, which a client need not have yet; at the limit all listeners pause."""
        self._wsis[wsi] = None
        wsi.watch()
        if len(self._wsis) >= self.max_connections:
            if _warnings.allow("limit", self.now) is not None:
                log.warn("connection limit reached (%d); accepting pauses", self.max_connections)
            self.pause_accepting()

    def renew_limit(self) -> None:
        """Set `max_connections` anew, by `limits`, by the descriptor limit, and by what this process holds open now.

        A context does so when it is made; call this when the program has opened or closed much since.
        """
        before = self.connection_limit
        limit = connection_limit(self.limits.max_connections, sum(wsi.fileno() >= 0 for wsi in self._wsis))
        self.connection_limit, self.max_connections = limit, limit.connections
        if limit.is_short and not (before.is_short and before.wanted == limit.wanted):
            log.warn("limits.max_connections = %d is more than the descriptor limit allows: %s", limit.wanted, limit)
        if self.wsi_count >= self.max_connections:
            self.pause_accepting()
        elif not self._accepting:
            self.pause_accepting(0)  # they wait for a connection to end, and now there may be room without that

    def renew_budgets(self) -> None:
        """Have every connection look at its limits and times again, after they were changed in place.

        Times count from when the connection was opened; or from now, where it had none so far.
        """
        self.memory.limit = self.limits.max_memory_bytes
        for wsi in self._wsis:
            if wsi.is_established:
                wsi.renew_budget()

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

    def _verified(self) -> None:
        """A password has been compared; in a thread of the verifier."""
        self.call_soon(self.gate.verifier.deliver)
        self.rouse()

    def _tell_poll_fd(self, name: str, *arguments: int) -> None:
        protocol_0 = self.protocol_0
        hook = getattr(protocol_0.hooks, name)
        if hook is not None:
            self._guard(f"{protocol_0.protocol.name}.{name}", lambda: hook(*arguments))

    def _wake_protocols(self) -> None:
        """`on_wakeup` on every protocol that lives now: one may have been destroyed since the wake-up."""
        for binding in (*self.bindings.values(), *self.retired):
            hook = binding.hooks.on_wakeup
            if hook is not None:
                self._guard(f"{binding.protocol.name}.on_wakeup", hook)

    def _reap(self) -> None:
        """The only place where a connection's descriptor is closed, so that no number changes owner in a turn."""
        dead, self._dead = self._dead, []
        for wsi in dead:
            self._wsis.pop(wsi, None)
            self.admission.left(wsi)
            if wsi.listener is not None:
                wsi.listener.count -= 1
            wsi.unwatch()
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
        self.rouse()

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
        self._close_resolver()
        self.gate.close()
        self._close_wakeup()
        for binding in (*self.bindings.values(), *self.retired):
            self.destroy_protocol(binding)
        self.bindings.clear()
        self.retired.clear()
        self._poller.close()


compiled.install(Context)
