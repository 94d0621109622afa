"""What a plugin author reads: `Protocol`, its hooks, the callback style, and how hooks are resolved.

Owns the plugin contract (libwebsockets' `struct lws_protocols` and its callback reasons).  Must not know sockets, the
loop, plugin files or the configuration file: a wsi and a context are handed in and used by their documented names.

One instance of a protocol serves one context and all its listeners, so `self` is where rooms and counters live.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from wsd import faults
from wsd.errors import PluginError
from wsd.options import Compression
from wsd.reasons import CLIENT_REASONS, REASONS, Reason
from wsd.wire.broadcast import Broadcast
from wsd.wire.extensions import Settings

if TYPE_CHECKING:
    from wsd.config import Limits, ProtocolTable, Timeouts
    from wsd.context import Context
    from wsd.errors import ConnectError
    from wsd.wire.http import Headers, Request, Response
    from wsd.wire.reply import Reply
    from wsd.wsi import Wsi

Answer = int | None
"""What a hook returns: None or `OK` to go on, `CLOSE` to close the connection.  Anything else truthy is a bug."""

# RFC 9110 5.6.2 "token": the alphabet of a subprotocol's name (RFC 6455 4.1, point 10).
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")


class Peer(NamedTuple):
    """The other end of a connection, as the kernel names it.

    `address` is an IP address, or the path of a Unix socket (empty when the peer bound none); `port` is 0 there.
    """

    address: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.address or "unix"
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Protocol:
    """A named handler of WebSocket connections.  Subclass it, give it a `name`, and write the hooks you need.

    Hooks are resolved once, when the protocol is loaded; one that is not overridden costs nothing.  No hook runs
    inside another.  An exception in a hook is logged with your file and line and closes that one wsi with 1011.
    """

    name: ClassVar[str] = ""
    """The subprotocol's name: a token, unique in a context."""

    Session: ClassVar[Callable[[], Any] | None] = None
    """Called without arguments once per wsi, before `on_filter_protocol_connection`; gives `wsi.session`."""

    Options: ClassVar[type[Any] | None] = None
    """A `wsd.Options` model, filled from this protocol's table in the configuration."""

    max_message_bytes: ClassVar[int | None] = None
    """Largest message accepted, in bytes, both styles; None: the context's limit; 0: none (only with `on_receive`).
    The operator's `[protocols.NAME.limits]` wins over it."""

    context: Context
    """The context that this protocol was added to; set before `on_protocol_init`."""

    _members: dict[Wsi, None]

    # -- the protocol itself ------------------------------------------------------------------------------------

    def on_protocol_init(self, context: Context, options: Any) -> None:
        """Called once per context, before any connection.  `options` is an `Options` (None if there is no model).

        LWS: PROTOCOL_INIT.  An exception stops the start, or refuses the reload.
        """

    def on_protocol_destroy(self) -> None:
        """Called once, always, when the context ends or a reload has replaced this protocol.  LWS: PROTOCOL_DESTROY."""

    def on_wakeup(self) -> None:
        """Called once, on every protocol, after `context.cancel_service()`.  LWS: EVENT_WAIT_CANCELLED."""

    # -- before a connection is established -----------------------------------------------------------------------

    def on_filter_network_connection(self, peer: Peer) -> Answer:
        """Called on protocol 0 for each accepted connection, before a byte is read.  CLOSE refuses it."""

    def on_filter_protocol_connection(self, wsi: Wsi, request: Request) -> Answer:
        """Called when a valid upgrade request asks for this protocol.

        Raise `Reject(status, text, headers)` to answer with that HTTP status; CLOSE is 403.
        """

    def on_confirm_extension(self, wsi: Wsi, name: str, params: dict[str, str | None]) -> Answer:
        """Called when the client offers an extension that we would agree to: "permessage-deflate".

        `params` is what our answer would say, for example `{"server_max_window_bits": "12"}`; None stands for a
        parameter without a value.  CLOSE: the connection goes on without the extension.
        Reason: CONFIRM_EXTENSION_OKAY.
        """

    def on_add_headers(self, wsi: Wsi, headers: Headers) -> Answer:
        """Called before the 101 is sent; `headers.add(name, value)` puts a header into it.  CLOSE is 403."""

    # -- before a client connection is established ------------------------------------------------------------------

    def on_client_confirm_extension_supported(self, wsi: Wsi, name: str) -> Answer:
        """Called before we ask a server for an extension: "permessage-deflate".  CLOSE: it is not offered."""

    def on_client_append_handshake_header(self, wsi: Wsi, headers: Headers) -> Answer:
        """Called before our request is sent; `headers.add(name, value)` puts a header into it.

        CLOSE gives the connection up: `on_client_connection_error` follows, cause "plugin".
        """

    def on_client_filter_pre_establish(self, wsi: Wsi, response: Reply) -> Answer:
        """Called with the server's answer when it is a good 101.

        CLOSE refuses it: `on_client_connection_error` follows, cause "filter".
        """

    def on_client_connection_error(self, wsi: Wsi, error: ConnectError) -> Answer:
        """Called when `context.client_connect()` comes to nothing; `on_established` and `on_closed` are not called.

        `error.cause` is one word, `error.text` a sentence; `error.status` and `error.body` are what the server or the
        proxy answered.  Where reconnecting was asked for, CLOSE ends it.
        """

    # -- a WebSocket connection -----------------------------------------------------------------------------------

    def on_established(self, wsi: Wsi) -> Answer:
        """Called when the handshake is done.  Reason: ESTABLISHED, CLIENT_ESTABLISHED."""

    def on_receive(self, wsi: Wsi, data: bytes) -> Answer:
        """Called for each piece of a message as it arrives; `data` is yours to keep.

        See `wsi.is_first_fragment`, `wsi.is_final_fragment`, `wsi.remaining_packet_payload`, `wsi.frame_is_binary`.
        A message that arrived whole is one piece; an empty message is one empty piece; text may be cut inside a
        character.  Reason: RECEIVE, CLIENT_RECEIVE.
        """

    def on_message(self, wsi: Wsi, message: Any) -> Answer:
        """Called with each whole message, `str` for text and `bytes` for binary; instead of `on_receive`."""

    def on_writeable(self, wsi: Wsi) -> Answer:
        """Called once after any number of `wsi.callback_on_writable()`, when more can be sent; may be spurious.

        The place for `wsi.write()`; write until `wsi.send_pipe_choked`.  Reason: SERVER_WRITEABLE,
        CLIENT_WRITEABLE.
        """

    def on_pong(self, wsi: Wsi, payload: bytes) -> Answer:
        """Called for each Pong but the answers to the daemon's own pings.

        Reason: RECEIVE_PONG, CLIENT_RECEIVE_PONG.
        """

    def on_peer_close(self, wsi: Wsi, code: int, close_reason: str) -> Answer:
        """Called when the peer's Close arrives (1005: it carried no code).

        OK: the Close is echoed for you; CLOSE: the connection ends without an echo.
        Reason: WS_PEER_INITIATED_CLOSE.
        """

    def on_closed(self, wsi: Wsi, code: int, close_reason: str) -> None:
        """Called exactly once for each wsi that had `on_established`, when its descriptor is gone.

        `code` is the peer's close code; 1005 if its Close carried none; 1006 if no Close came.  Reason: CLOSED,
        CLIENT_CLOSED.
        """

    def on_timer(self, wsi: Wsi) -> Answer:
        """Called when the time given to `wsi.set_timer(seconds)` is over.  Reason: TIMER."""

    # -- HTTP, on protocol 0 or the listener's http_protocol -----------------------------------------------------

    def on_http(self, wsi: Wsi, request: Request) -> Response | Answer:
        """Called for a request that is no upgrade.

        Return a `Response`; None leaves it to the built-in (static files, 404), or, for a request with a body
        where `on_http_body_completion` is defined, waits for the body; CLOSE hangs up.  Reason: HTTP.
        """

    def on_http_body(self, wsi: Wsi, data: bytes) -> Answer:
        """Called for each piece of a request's body, decoded when it was chunked.  Reason: HTTP_BODY."""

    def on_http_body_completion(self, wsi: Wsi) -> Response | Answer:
        """Called when a request's body is complete; answers as `on_http` does.  Reason: HTTP_BODY_COMPLETION."""

    def on_http_writeable(self, wsi: Wsi) -> Answer:
        """Called after `wsi.callback_on_writable()` while a `Response(stream=True)` is being sent.

        `wsi.write(data, final=False)` sends a part of the body, `final=True` ends it.  Reason: HTTP_WRITEABLE.
        """

    def on_closed_http(self, wsi: Wsi) -> None:
        """Called when a connection on which `on_http` ran ends without becoming a WebSocket.  Reason: CLOSED_HTTP."""

    # -- deeds ----------------------------------------------------------------------------------------------------

    @property
    def wsis(self) -> Collection[Wsi]:
        """The established wsi of this protocol, oldest first; a live view: copy it before you close any."""
        return self._members.keys()

    def broadcast(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send one message to every established wsi of this protocol; it is framed once, and compressed once.

        Each wsi queues it as `wsi.send()` does; one whose queue is full is closed with 1008, the others go on.
        """
        shared = Broadcast(message)
        for wsi in tuple(self._members):
            wsi.send_shared(shared)


HOOKS: dict[str, int] = {
    name: len(inspect.signature(method).parameters) - 1
    for name, method in vars(Protocol).items()
    if name.startswith("on_")
}
"""Every hook's name and how many arguments it gets after `self`."""


class Hooks:
    """The hooks of one protocol, resolved: a bound method in each slot, or None where there is none."""

    __slots__ = tuple(HOOKS)

    if TYPE_CHECKING:  # the slots, for the type checker

        def __getattr__(self, name: str) -> Callable[..., Any] | None: ...


class Binding:
    """One protocol as a context serves it: its hooks, resolved, and what holds for its connections.

    `limits` and `timeouts` are the context's; what the protocol's class says wins over them, and what the operator
    wrote for the protocol (`table`) over both.
    """

    __slots__ = (
        "_compression",
        "close_seconds",
        "generation",
        "hooks",
        "is_retired",
        "max_fragments",
        "max_message_bytes",
        "max_queue_bytes",
        "on_destroyed",
        "options",
        "protocol",
        "slow_reader_seconds",
        "wsi_count",
    )

    def __init__(self, protocol: Protocol, limits: Limits, timeouts: Timeouts, table: ProtocolTable | None) -> None:
        self.protocol = protocol
        self.hooks = bind_hooks(protocol)
        self.options: Any = None
        self.generation = 1
        self.is_retired = False
        self.on_destroyed: Callable[[], None] | None = None
        self.wsi_count = 0  # every wsi bound to it, in its handshake too
        self.apply(limits, timeouts, table)

    def apply(self, limits: Limits, timeouts: Timeouts, table: ProtocolTable | None) -> None:
        """Take over what the operator wrote, at the start and again when a reload changed it.

        Limits and times hold for messages from now on, compression for connections from now on.

        Raises:
            PluginError: no limit on messages for a protocol that has them assembled.
        """
        own = table.limits if table else None
        time = table.timeouts if table else None
        class_limit = self.protocol.max_message_bytes
        default = limits.max_message_bytes if class_limit is None else class_limit
        self.max_message_bytes: int = _first(own and own.max_message_bytes, default)
        self.max_queue_bytes: int = _first(own and own.max_queue_bytes, limits.max_queue_bytes)
        self.max_fragments: int = _first(own and own.max_fragments, limits.max_fragments)
        self.close_seconds: float = _first(time and time.close_seconds, timeouts.close_seconds)
        self.slow_reader_seconds: float = _first(time and time.slow_reader_seconds, timeouts.slow_reader_seconds)
        self._compression = table.compression if table else None
        if not self.max_message_bytes and self.hooks.on_message is not None:
            raise PluginError(
                f"{self.protocol.name}: max_message_bytes = 0 (no limit) is only for protocols with on_receive;"
                " this one has on_message, which needs a limit"
            )

    def compression(self, base: Compression | None) -> Settings | None:
        """How this end would compress messages on a connection of this protocol; None: not at all.

        Args:
            base: What the listener says; None: there is none, so the defaults.
        """
        chosen = Compression() if base is None else base
        if self._compression is not None:
            chosen = self._compression.over(chosen)
        if not chosen.enabled:
            return None
        return Settings(
            level=chosen.level,
            memory_level=chosen.memory_level,
            window_bits=chosen.window_bits,
            context_takeover=chosen.context_takeover,
            min_bytes=chosen.min_bytes,
        )


def _first(value: Any, default: Any) -> Any:
    return default if value is None else value


class CallbackProtocol(Protocol):
    """A protocol in callback style: one function for all reasons.  Made by `callback_protocol`."""

    def __init__(self, name: str, callback: Callable[[Any, Reason, Any, Any], Any], session: Any, options: Any) -> None:
        # The class attributes are per protocol here, since each such protocol is its own instance.
        self.name = name  # type: ignore[misc]
        self.Session = session  # type: ignore[misc]
        self.Options = options  # type: ignore[misc]
        self.callback = callback


def callback_protocol(
    name: str, session: Callable[[], Any] | None = None, options: type[Any] | None = None
) -> Callable[[Callable[[Any, Reason, Any, Any], Any]], CallbackProtocol]:
    """Make a protocol out of one `callback(wsi, reason, user, data)`, as in libwebsockets.

    Args:
        name: The subprotocol's name, a token.
        session: Called once per wsi; its result is `user`.
        options: A `wsd.Options` model for the protocol's table in the configuration.

    `data` is the hook's one argument after the wsi, or a tuple of them in the order of the hook's signature; `wsi`
    and `user` are None where there is none.
    """

    def decorate(callback: Callable[[Any, Reason, Any, Any], Any]) -> CallbackProtocol:
        return CallbackProtocol(name, callback, session, options)

    return decorate


# Hooks whose first argument is no wsi: the callback gets None for wsi and user there.
_WITHOUT_WSI = {"on_protocol_init", "on_protocol_destroy", "on_wakeup", "on_filter_network_connection"}


def bind_hooks(protocol: Protocol) -> Hooks:
    """Resolve every hook of `protocol` once.

    Raises:
        PluginError: an unknown `on_*` name, a coroutine or generator hook, a wrong number of arguments,
            `on_receive` beside `on_message`, both styles at once, a name that is no token, `max_message_bytes` of 0
            without `on_receive`.
    """
    if not isinstance(protocol.name, str) or not TOKEN.match(protocol.name):
        raise faults.plugin_error(
            type(protocol), f"the name of a protocol must be an HTTP token, found {protocol.name!r}"
        )
    _check_session(protocol)
    hooks = Hooks()
    own = _class_hooks(protocol)
    if isinstance(protocol, CallbackProtocol):
        if own:
            raise faults.plugin_error(
                own[sorted(own)[0]], f"{protocol.name}: hooks beside a callback function; use one style"
            )
        faults.check_callable(protocol.callback, 4, protocol.name, "callback(wsi, reason, user, data)")
        for name in HOOKS:
            reason = REASONS.get(name)
            setattr(hooks, name, None if reason is None else _callback_slot(protocol.callback, reason, name))
        return hooks
    if own.keys() >= {"on_receive", "on_message"}:
        raise faults.plugin_error(
            own["on_message"], f"{protocol.name}: on_receive and on_message exclude each other; keep one"
        )
    limit = protocol.max_message_bytes
    if limit == 0 and "on_message" in own:
        raise faults.plugin_error(
            own["on_message"], f"{protocol.name}: max_message_bytes = 0 (no limit) needs on_receive"
        )
    for name, count in HOOKS.items():
        # The bound method is what the loop calls, so a static or class method is judged by what it really takes.
        hook = getattr(protocol, name) if name in own else None
        if name in own:
            faults.check_callable(hook, count, protocol.name, _signature_text(name))
        setattr(hooks, name, hook)
    return hooks


def _check_session(protocol: Any) -> None:
    """Raise unless `Session` can be called without arguments, as far as that can be known before."""
    factory = protocol.Session
    if factory is None:
        return
    if not callable(factory):
        found = type(factory).__name__
        raise faults.plugin_error(
            type(protocol), f"{protocol.name}: Session must be a class or function, found {found}"
        )
    try:
        inspect.signature(factory).bind()
    except TypeError:
        text = "Session is called without arguments (with `self` if it is a function in the class)"
        raise faults.plugin_error(factory, f"{protocol.name}: {text}") from None
    except ValueError:  # a built-in type that does not tell, like dict
        pass


def _class_hooks(protocol: Protocol) -> dict[str, Callable[..., Any]]:
    """Every `on_*` that the protocol's classes define below `Protocol`; an unknown one is an error."""
    own: dict[str, Callable[..., Any]] = {}
    for name in dir(type(protocol)):
        method = getattr(type(protocol), name)
        if not name.startswith("on_") or method is getattr(Protocol, name, None):
            continue
        if name not in HOOKS:
            raise faults.plugin_error(method, f"{protocol.name}: no such hook: {name}{_nearest(name)}")
        own[name] = method
    return own


def _nearest(name: str) -> str:
    import difflib  # only ever needed on the way to an error

    close = difflib.get_close_matches(name, HOOKS, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _signature_text(hook: str) -> str:
    return f"{hook}({', '.join(inspect.signature(getattr(Protocol, hook)).parameters)})"


def _callback_slot(callback: Callable[[Any, Reason, Any, Any], Any], reason: Reason, hook: str) -> Callable[..., Any]:
    """The callable for one slot: it turns the hook's arguments into the callback's four."""
    if hook in _WITHOUT_WSI:
        return lambda *data: callback(None, reason, None, _pack(data))
    client = CLIENT_REASONS.get(reason, reason)
    if HOOKS[hook] == 1:
        return lambda wsi: callback(wsi, client if wsi.is_client else reason, wsi.session, None)
    if HOOKS[hook] == 2:
        return lambda wsi, data: callback(wsi, client if wsi.is_client else reason, wsi.session, data)
    return lambda wsi, *data: callback(wsi, client if wsi.is_client else reason, wsi.session, data)


def _pack(data: tuple[Any, ...]) -> Any:
    """LWS's one `in` argument: None, the one value, or all of them."""
    return data if len(data) > 1 else data[0] if data else None
