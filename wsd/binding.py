"""One protocol as a context serves it: its hooks, resolved once, and what holds for its connections.

Owns how a class or a callback becomes slots that the loop calls directly, what is refused on the way, and which budget
holds on which listener.  Must not know sockets, the loop or plugin files.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from wsd import faults
from wsd.budget import Budget
from wsd.errors import PluginError
from wsd.options import Compression
from wsd.protocol import HOOKS, Callback, CallbackProtocol, Protocol
from wsd.reasons import CLIENT_REASONS, FILE_REASONS, REASONS, Reason
from wsd.wire.extensions import Settings

if TYPE_CHECKING:
    from wsd.config import Limits, ProtocolTable, Timeouts
    from wsd.incoming import Menu
    from wsd.wsi import Wsi

# RFC 9110 5.6.2 "token": the alphabet of a subprotocol's name (RFC 6455 4.1, point 10).
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")

# Hooks whose first argument is no wsi: the callback gets None for wsi and user there.
_WITHOUT_WSI = {
    "on_protocol_init",
    "on_protocol_destroy",
    "on_wakeup",
    "on_filter_network_connection",
    "on_verify_client_certificate",
    "on_add_poll_fd",
    "on_del_poll_fd",
    "on_set_mode_poll_fd",
    "on_clear_mode_poll_fd",
}


class Hooks:
    """The hooks of one protocol, resolved: a bound method in each slot, or None where there is none."""

    __slots__ = tuple(HOOKS)

    if TYPE_CHECKING:  # the slots, for the type checker

        def __getattr__(self, name: str) -> Callable[..., Any] | None: ...


class Binding:
    """One protocol as a context serves it: its hooks, resolved, and what holds for its connections.

    `limits` and `timeouts` are the context's; what the operator wrote for a listener wins over them, what the class of
    the protocol says over both, and what the operator wrote for the protocol (`table`) over all.

    Attributes:
        budget: What holds for connections that came in through no listener.
    """

    __slots__ = (
        "_budgets",
        "_limits",
        "_table",
        "_timeouts",
        "auth",
        "budget",
        "generation",
        "hooks",
        "is_retired",
        "on_destroyed",
        "options",
        "protocol",
        "verifies",
        "wsi_count",
    )

    def __init__(self, protocol: Protocol, limits: Limits, timeouts: Timeouts, table: ProtocolTable | None) -> None:
        self.protocol = protocol
        self.hooks = bind_hooks(protocol)
        # A callback gets every reason, and would let everybody in where it does not know this one.
        self.verifies = self.hooks.on_verify_authorization is not None and not isinstance(protocol, CallbackProtocol)
        self.options: Any = None
        self.generation = 1
        self.is_retired = False
        self.on_destroyed: Callable[[], None] | None = None
        self.wsi_count = 0  # every wsi bound to it, in its handshake too
        self.budget = Budget()
        self._budgets: WeakKeyDictionary[Menu, Budget] = WeakKeyDictionary()
        self.apply(limits, timeouts, table)

    def make_session(self, wsi: Wsi) -> Any:
        """Make `wsi.session` of the protocol's `Session`; answers as `wsi.call` does."""
        protocol: Any = self.protocol
        wsi.session = None
        if protocol.Session is None:
            return None

        def call() -> None:
            wsi.session = protocol.Session()

        return wsi.call("Session", call)

    def apply(self, limits: Limits, timeouts: Timeouts, table: ProtocolTable | None) -> None:
        """Take over what the operator wrote, at the start and again when a reload changed it.

        Limits and times change in place; `Context.renew_budgets` has the connections look at them again.  Compression
        is for connections from now on.

        Raises:
            PluginError: no limit on messages for a protocol that has them assembled.
        """
        self._limits, self._timeouts, self._table = limits, timeouts, table
        for menu in (None, *self._budgets):
            self.renew_budget(menu)
        self.auth = table.auth if table else None
        if not self.budget.max_message_bytes and self.hooks.on_message is not None:
            raise PluginError(
                f"{self.protocol.name}: max_message_bytes = 0 (no limit) is only for protocols with on_receive;"
                " this one has on_message, which needs a limit"
            )

    def budget_for(self, menu: Menu | None) -> Budget:
        """What holds for connections that came in by `menu`; None: by no listener.  The same object each time."""
        if menu is None:
            return self.budget
        budget = self._budgets.get(menu)
        if budget is None:
            budget = self._budgets[menu] = Budget()
            self.renew_budget(menu)
        return budget

    def renew_budget(self, menu: Menu | None) -> None:
        """What was written for `menu`, or for all, may have changed."""
        budget = self.budget if menu is None else self._budgets.get(menu)
        if budget is None:
            return  # nobody came in by it
        table, listen = self._table, menu and menu.config
        budget.resolve(
            self._limits,
            self._timeouts,
            (
                listen and listen.limits,
                listen and listen.timeouts,
                SimpleNamespace(max_message_bytes=self.protocol.max_message_bytes),
                table and table.limits,
                table and table.timeouts,
            ),
        )

    def compression(self, base: Compression | None) -> Settings | None:
        """How this end would compress messages on a connection of this protocol; None: not at all.

        Args:
            base: What the listener says; None: there is none, so the defaults.
        """
        chosen = Compression() if base is None else base
        if self._table is not None:
            chosen = self._table.compression.over(chosen)
        if not chosen.enabled:
            return None
        return Settings(
            level=chosen.level,
            memory_level=chosen.memory_level,
            window_bits=chosen.window_bits,
            context_takeover=chosen.context_takeover,
            min_bytes=chosen.min_bytes,
        )


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
            setattr(hooks, name, _callback_slot(protocol.callback, name))
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
        if name in own and not faults.is_plain(hook, count):
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
    if _is_plain_class(factory):
        return
    try:
        inspect.signature(factory).bind()
    except TypeError:
        text = "Session is called without arguments (with `self` if it is a function in the class)"
        raise faults.plugin_error(factory, f"{protocol.name}: {text}") from None
    except ValueError:  # a built-in type that does not tell, like dict
        pass


def _is_plain_class(factory: Any) -> bool:
    """Reports whether this surely is a class that is called without arguments; as `faults.is_plain`."""
    if type(factory) is not type:
        return False
    new, init = getattr(factory, "__new__", None), getattr(factory, "__init__", None)
    return new is object.__new__ and (init is object.__init__ or faults.is_plain(init, 1))


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


# -- the callback style: a slot turns a hook's arguments into the callback's four --------------------------------------


def _callback_slot(callback: Callback, hook: str) -> Callable[..., Any] | None:
    """The callable for one slot; None: no reason stands for that hook."""
    if hook == "on_user":
        return lambda wsi, reason, data: callback(wsi, reason, wsi.session, data)
    reason = REASONS.get(hook)
    if reason is None:
        return None
    if hook in _WITHOUT_WSI:
        return lambda *data: callback(None, reason, None, _pack(data))
    if reason in FILE_REASONS:
        return _raw_slot(callback, reason)
    client = CLIENT_REASONS.get(reason, reason)
    if HOOKS[hook] == 1:
        return lambda wsi: callback(wsi, client if wsi.is_client else reason, wsi.session, None)
    if HOOKS[hook] == 2:
        return lambda wsi, data: callback(wsi, client if wsi.is_client else reason, wsi.session, data)
    return lambda wsi, *data: callback(wsi, client if wsi.is_client else reason, wsi.session, data)


def _raw_slot(callback: Callback, reason: Reason) -> Callable[..., Any]:
    """A slot whose reason tells a descriptor from a socket, as libwebsockets' do."""
    client, file = CLIENT_REASONS.get(reason, reason), FILE_REASONS[reason]

    def slot(wsi: Any, *data: Any) -> Any:
        which = file if wsi.is_descriptor else client if wsi.is_client else reason
        return callback(wsi, which, wsi.session, _pack(data))

    return slot


def _pack(data: tuple[Any, ...]) -> Any:
    """LWS's one `in` argument: None, the one value, or all of them."""
    return data if len(data) > 1 else data[0] if data else None
