"""What a configuration and the plugins make of a context: protocols and listeners, at the start and at each reload.

Owns the one way from a `Config` to what is served: resolve, check, initialise, and only then swap.  A reload is the
same way with something there already; whatever fails, the context stays as it was.  Must not know the process, signals
or the control socket; the context is handed in.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wsd import access, log, plugins, renewal
from wsd.binding import Binding
from wsd.config import fill_options, packaged
from wsd.errors import ConfigError, PluginError, Problem, WsdError
from wsd.incoming import check_raw
from wsd.listener import bind
from wsd.problems import nearest, quote
from wsd.renewal import Holdings, Renewal

if TYPE_CHECKING:
    from wsd.config import Config, Listen
    from wsd.context import Context
    from wsd.listener import Listener
    from wsd.plugins import Found
    from wsd.protocol import Protocol

Address = tuple[Any, ...]
"""What a listener is bound to: two `[[listen]]` tables of one address are one socket to a reload."""

# Protocol 0, which `http_protocol` may name; it speaks no WebSocket.
_BUILT_IN: Final = "http"

Bound = dict[Address, tuple["Listen", socket.socket]]
"""Sockets that are bound and belong to no listener yet."""


@dataclass
class Served:
    """One protocol that is served, and what it was made from."""

    protocol: Protocol
    plugin: Found
    options: Any
    """The filled model, or None; compared by a reload."""
    generation: int = 0
    binding: Binding | None = None
    """From the context that serves it."""


@dataclass
class Plan:
    """What a configuration asks for, checked as far as that goes without running a plugin's hooks."""

    config: Config
    found: list[Found]
    served: dict[str, Served]
    gate: access.Gate
    warnings: list[str] = field(default_factory=list)

    def unload(self) -> None:
        for plugin in self.found:
            plugin.unload()


def plugin_folders(config: Config) -> list[Path]:
    """The folders that the configuration names; the shipped one is added by `plan`."""
    return list(config.plugins.folders)


def shipped_folder() -> Path | None:
    folder = packaged("plugins")
    return folder if folder.is_dir() else None


def needed_again(config: Config) -> list[Path]:
    """What is read after the drop of privileges: at each reload, and by plugins that import as they go."""
    shipped = shipped_folder()
    ours = [Path(os.__file__), Path(__file__)]
    credentials = [Path(file) for file in access.files(config)]
    keys = [Path(file) for listen in config.listen for file in listen.tls.files]
    return [config.path, *credentials, *keys, *plugin_folders(config), *([shipped] if shipped else []), *ours]


def find_plugins(config: Config) -> list[Found]:
    """Everything that the configuration lets wsd find, with what is wrong with it."""
    return plugins.discover(
        plugin_folders(config),
        entry_points=config.plugins.entry_points,
        shipped=shipped_folder(),
        user=config.daemon.user or None,
    )


def plan(config: Config) -> Plan:
    """Find the plugins, choose the protocols that listeners ask for, and fill their options.

    Raises:
        ConfigError: options of plugins that are wrong, or files of passwords and tokens, all of them at once.
        PluginError: a listener asks for a protocol that no plugin provides.
    """
    gate = access.read(config)
    found = find_plugins(config)
    made = Plan(config, found, {}, gate)
    made.warnings += [str(plugin.error) for plugin in found if plugin.error]
    try:
        _choose(made)
    except WsdError:
        made.unload()
        raise
    return made


def _choose(made: Plan) -> None:
    config, provided = made.config, plugins.by_name(made.found)
    problems = _unknown_tables(config, provided, made)
    missing: dict[str, None] = {}
    for index, listen in enumerate(config.listen):
        for name in asked_names(listen, made.found):
            if name in made.served:
                continue
            if name not in provided:
                missing[name] = None
                continue
            plugin, protocol = provided[name]
            try:
                options = _options(config, protocol)
            except ConfigError as error:
                problems += [problem for problem in error.problems if problem not in problems]
            else:
                made.served[name] = Served(protocol, plugin, options)
        problems += _raw_problems(made, index, listen)
    if missing:
        raise PluginError("\n".join(str(plugins.not_provided(name, made.found)) for name in missing), str(config.path))
    if problems:
        raise ConfigError(problems)


def _raw_problems(made: Plan, index: int, listen: Listen) -> list[Problem]:
    """A raw listener whose protocol could not do anything with what comes."""
    if listen.accept != "raw":
        return []
    name = listen.default_protocol or next(iter(spoken_names(listen, made.found)), None)
    try:
        if name is None or name in made.served:  # else it is missing, or its options are wrong, which is said as well
            check_raw(None if name is None else made.served[name].protocol)
    except PluginError as error:
        return [Problem(str(made.config.path), f"listen[{index}].accept", str(error))]
    return []


def spoken_names(listen: Listen, found: Iterable[Found]) -> list[str]:
    """The WebSocket protocols of a listener, in order and once; without a list, all that `folders` hold."""
    if listen.protocols is not None:
        names = list(listen.protocols)
    else:  # an installed package has no module of its own here, and shipped ones are served by name alone
        names = [item.name for plugin in found if not plugin.shipped and plugin.module for item in plugin.protocols]
    if listen.default_protocol:
        names.append(listen.default_protocol)
    return list(dict.fromkeys([*names, *listen.paths.values()]))


def asked_names(listen: Listen, found: Iterable[Found]) -> list[str]:
    """Every protocol that a listener needs from a plugin: those that it speaks, and the one for its HTTP requests."""
    names = spoken_names(listen, found)
    if listen.http_protocol not in (None, *names, _BUILT_IN):
        names.append(str(listen.http_protocol))
    return names


def _options(config: Config, protocol: Protocol) -> Any:
    """The filled options of a protocol; that its limits can be taken over is tried here as well."""
    table = config.protocols.get(protocol.name)
    key = f"protocols.{quote(protocol.name)}"
    options = fill_options(protocol.Options, table.options if table else {}, str(config.path), key)
    try:
        Binding(protocol, config.limits, config.timeouts, table)
    except PluginError as error:
        raise ConfigError([Problem(str(config.path), f"{key}.limits", str(error))]) from None
    return options


def _unknown_tables(config: Config, provided: Iterable[str], made: Plan) -> list[Problem]:
    """`[protocols.NAME]` tables for names that nobody provides: a typo would silently leave the defaults."""
    names = list(provided)
    problems = []
    for name in config.protocols:
        if name in names or name == _BUILT_IN:
            continue
        near = nearest(name, names)
        text = f"no plugin provides this protocol{f'; did you mean {near!r}?' if near else ''}"
        key = f"protocols.{quote(name)}"
        if any(plugin.error for plugin in made.found):  # it may be in the file that could not be loaded
            made.warnings.append(f"{config.path}: {key}: {text}")
        else:
            problems.append(Problem(str(config.path), key, text))
    return problems


def addresses(listens: Sequence[Listen]) -> list[tuple[Address, Listen]]:
    """Each listener with what tells it from the others: its address, and the how manieth of that it is (port 0)."""
    seen: Counter[Address] = Counter()
    keyed = []
    for listen in listens:
        key: Address = ("unix", listen.unix) if listen.unix else (listen.interface, listen.port, listen.v6_only)
        seen[key] += 1
        keyed.append(((*key, seen[key]), listen))
    return keyed


class Assembly:
    """What a context serves, by a configuration.

    `bind`, `start`, then any number of `reload`, then `close`.
    """

    def __init__(self, context: Context, config: Config) -> None:
        self.context = context
        self.config = config
        self.http = context.protocol_0
        self.served: dict[str, Served] = {}
        self.leaving: list[Served] = []
        """Replaced, and alive until their last wsi is closed."""
        self.listeners: dict[Address, Listener] = {}
        self.renewal = Renewal(context)
        self._bound: Bound = {}
        self._read: Holdings = {}  # read for the start, and not taken over yet
        self._generations: dict[str, int] = {}

    def bind(self) -> None:
        """Read keys and bind every listener: before privileges are dropped, and before any plugin runs.

        Raises:
            ConfigError: what is wrong with certificates and keys.
            StartError: which one cannot be bound, and why.
        """
        self._read = renewal.read(self.config, addresses(self.config.listen), {})
        self._bind(self.config, self._bound)

    def close(self) -> None:
        """Give up what was bound and is no listener yet; the context closes the others."""
        self.renewal.close()
        _discard(self._bound)

    def start(self) -> None:
        """Load, initialise and listen for the first time.

        Raises:
            ConfigError, PluginError, StartError: nothing is served then.
        """
        self._change(plan(self.config))

    def reload(self, config: Config) -> None:
        """Serve what `config` says from now on, or raise and go on as before.

        Raises:
            ConfigError, PluginError, StartError: what is wrong with it; nothing has changed.
        """
        _refuse_restart_only(self.config, config)
        new = plan(config)
        # At a start a broken plugin that nobody names is left out; here somebody may be connected to it.
        serving = {served.plugin.file for served in self.served.values()}
        if broken := [str(plugin.error) for plugin in new.found if plugin.error and plugin.file in serving]:
            new.unload()
            raise PluginError("\n".join(broken))
        self._change(new)

    def _change(self, new: Plan) -> None:
        for text in new.warnings:
            log.err("%s", text)
        kept = {name: self.served[name] for name, served in new.served.items() if self._is_unchanged(name, served)}
        added = {name: served for name, served in new.served.items() if name not in kept}
        fresh: Bound = {}
        try:
            tls = renewal.read(new.config, addresses(new.config.listen), self.renewal.held or self._read)
            self._bind(new.config, fresh)
            self._initialise(new.config, added)
        except BaseException:
            _discard(fresh)
            self._unload_unused(new.found)
            raise
        self._swap(new, {name: kept.get(name, served) for name, served in new.served.items()}, fresh, tls)

    def _is_unchanged(self, name: str, new: Served) -> bool:
        old = self.served.get(name)
        return old is not None and old.plugin.digest == new.plugin.digest and _plain(old.options) == _plain(new.options)

    def _bind(self, config: Config, fresh: Bound) -> None:
        """Bind what is not bound yet."""
        for key, listen in addresses(config.listen):
            if key in self._bound:
                fresh[key] = self._bound.pop(key)
            elif key not in self.listeners:
                fresh[key] = listen, bind(listen)

    def _initialise(self, config: Config, added: dict[str, Served]) -> None:
        """Run `on_protocol_init` of what is new; one failure destroys those that were initialised."""
        done: list[Served] = []
        try:
            for name, served in added.items():
                table = config.protocols.get(name)
                served.binding = self.context.add_protocol(served.protocol, served.options, table)
                done.append(served)
        except BaseException:
            for served in done:
                self._leave(served)
            raise

    def _swap(self, new: Plan, served: dict[str, Served], fresh: Bound, tls: Holdings) -> None:
        """Serve the new: nothing in here fails for a reason that an operator could have caused."""
        old, self.served, self.config = self.served, served, new.config
        for name, item in served.items():
            if old.get(name) is not item:
                item.generation = self._generations[name] = self._generations.get(name, 0) + 1
        self.context.gate.take_over(new.gate)
        self._apply_limits()
        self._swap_listeners(new, fresh, tls)
        self.context.renew_budgets()
        self.renewal.take_over(tls, addresses(new.config.listen), new.config.daemon.certificate_check_seconds)
        self._read = {}
        for name, item in old.items():
            if served.get(name) is not item:
                self._leave(item)
        self._unload_unused(new.found)

    def _apply_limits(self) -> None:
        context, config = self.context, self.config
        context.limits, context.timeouts, context.keepalive = config.limits, config.timeouts, config.keepalive
        context.renew_limit()
        for binding in (self.http, *(served.binding for served in self.served.values() if served.binding)):
            binding.apply(config.limits, config.timeouts, config.protocols.get(binding.protocol.name))

    def _swap_listeners(self, new: Plan, fresh: Bound, held: Holdings) -> None:
        context, wanted = self.context, dict(addresses(new.config.listen))
        for key in [key for key in self.listeners if key not in wanted]:
            listener = self.listeners.pop(key)
            log.notice("no longer listening on %s", listener.url)
            context.remove_listener(listener)
        for key, listen in wanted.items():
            chosen = [self.served[name].protocol for name in spoken_names(listen, new.found)]
            http = self.served[listen.http_protocol].protocol if listen.http_protocol in self.served else None
            tls = held[key].tls if key in held else None
            if key in self.listeners:
                self.listeners[key].reconfigure(listen, chosen, http, tls)
            else:
                self.listeners[key] = context.listen(listen, protocols=chosen, sock=fresh[key][1], http=http, tls=tls)
                log.notice("listening on %s", self.listeners[key].url)

    def _leave(self, served: Served) -> None:
        """Serve it to nobody new; after its last wsi it is destroyed, and then its modules go."""

        def destroyed() -> None:
            self.leaving.remove(served)
            log.info("protocol %s: generation %d is gone", served.protocol.name, served.generation)
            self._unload_unused([served.plugin])

        self.leaving.append(served)
        self.context.retire_protocol(served.protocol, destroyed)

    def _unload_unused(self, found: Iterable[Found]) -> None:
        """Forget the modules of plugins of which no protocol is served, or has a connection left."""
        used = {id(served.plugin) for served in (*self.served.values(), *self.leaving)}
        for plugin in found:
            if id(plugin) not in used:
                plugin.unload()

    # -- being asked --------------------------------------------------------------------------------------------------

    def listener_status(self) -> list[dict[str, Any]]:
        return [
            {"address": listener.url, "protocols": list(listener.bindings), "connections": listener.count}
            for listener in self.context.listeners
        ]

    def protocol_status(self) -> list[dict[str, Any]]:
        return [
            {
                "name": served.protocol.name,
                "generation": served.generation,
                "connections": served.binding.wsi_count if served.binding else 0,
                "leaving": served in self.leaving,
                "file": str(served.plugin.file),
            }
            for served in (*self.served.values(), *self.leaving)
        ]


def _discard(bound: Bound) -> None:
    """Close what was bound for nothing; a Unix socket's file goes with it."""
    for listen, sock in bound.values():
        sock.close()
        if listen.unix:
            Path(listen.unix).unlink(missing_ok=True)
    bound.clear()


def _plain(options: Any) -> Any:
    """Options as data: the models of two loads of one source are different classes, and never equal."""
    return None if options is None else options.model_dump()


_RESTART_ONLY = ("pidfile", "user", "group", "umask")


def _refuse_restart_only(old: Config, new: Config) -> None:
    changed = [key for key in _RESTART_ONLY if getattr(old.daemon, key) != getattr(new.daemon, key)]
    if changed:
        raise ConfigError(
            [
                Problem(str(new.path), f"daemon.{key}", "was changed, and only a restart can change it")
                for key in changed
            ]
        )
