"""Options that are right one by one and wrong together: each as a `Clash`, in the words of the configuration file.

Owns those sentences.  Must not know what a single value may be, nor what the options do; it is handed the models.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from wsd.problems import Clash, nearest, toml

if TYPE_CHECKING:
    from wsd.options import Listen
    from wsd.options_limits import Limits
    from wsd.table import Table


def _typed(table: Table, names: Iterable[str]) -> list[str]:
    """Those of the options that were set, and not to nothing."""
    return [name for name in names if name in table.model_fields_set and getattr(table, name) != ""]


def _assignments(table: Table, names: Iterable[str]) -> str:
    return " and ".join(f"{name} = {toml(getattr(table, name))}" for name in names)


def limit_clashes(limits: Limits) -> Iterator[Clash]:
    """A part that is larger than the whole; a default is no such part."""
    if "max_uri_bytes" in limits.model_fields_set and limits.max_uri_bytes > limits.max_head_bytes:
        pair = _assignments(limits, ["max_uri_bytes", "max_head_bytes"])
        yield Clash(("max_uri_bytes",), f"found {pair}; the first is part of the second", (("max_head_bytes",),))


def address_clashes(listen: Listen) -> Iterator[Clash]:
    """Where a listener listens: one place, and only what is about that place."""
    tcp = _typed(listen, ("interface", "port"))
    if listen.unix and tcp:
        text = f"found {_assignments(listen, [*tcp, 'unix'])}; a listener has the one or the other"
        yield Clash(("unix",), text, tuple((name,) for name in tcp))
    if not listen.unix and not listen.interface:
        yield Clash(("interface",), 'found interface = "" and no unix; set one of them', (("unix",),))
    if not listen.unix:
        for name in ("unix_mode", "unix_owner", "unix_group"):
            if getattr(listen, name) != type(listen).model_fields[name].default:
                yield Clash(
                    (name,), f"found {_assignments(listen, [name])} without unix; set both or none", (("unix",),)
                )
    if not listen.v6_only and (listen.unix or ":" not in listen.interface):
        other = "unix" if listen.unix else "interface"
        text = (
            f'found {_assignments(listen, ["v6_only", other])}; it is about an IPv6 address, such as interface = "::"'
        )
        yield Clash(("v6_only",), text, ((other,),))


def protocol_clashes(listen: Listen) -> Iterator[Clash]:
    """Protocols that are named for clients and not served."""
    if listen.protocols is None:
        return  # all that the folders hold, and what is named here
    named = [(("default_protocol",), listen.default_protocol)] if listen.default_protocol is not None else []
    for key, name in [*named, *((("paths", path), name) for path, name in listen.paths.items())]:
        if name not in listen.protocols:
            near = nearest(name, listen.protocols)
            text = f"found {toml(name)}, which is not in protocols = {toml(listen.protocols)}"
            yield Clash(key, f"{text}; did you mean {toml(near)}?" if near else text, (("protocols",),))


def raw_clashes(listen: Listen) -> Iterator[Clash]:
    """What is about HTTP or WebSockets, where nothing of the kind is spoken."""
    if listen.accept != "raw":
        return
    for name in ("paths", "allowed_origins", "static_folder", "http_protocol", "compression"):
        if getattr(listen, name) != type(listen).model_fields[name].default:
            yield Clash(
                (name,), f'found {name} beside accept = "raw", which speaks no HTTP; take it out', (("accept",),)
            )


def listener_clashes(listeners: tuple[Listen, ...]) -> Iterator[Clash]:
    """Two listeners of one address: the second could not be bound."""
    for (first, one), (second, other) in itertools.combinations(enumerate(listeners), 2):
        if _same_address(one, other):
            keys = ["unix"] if other.unix else ["interface", "port"]
            text = f"found {_assignments(other, keys)}; listen[{first}] has {_assignments(one, keys)} already"
            involved = itertools.product(("listen",), (first, second), ("interface", "port", "unix"))
            yield Clash(("listen", second, keys[-1]), text, tuple(involved))


def _same_address(one: Listen, other: Listen) -> bool:
    if one.unix or other.unix:
        return one.unix == other.unix
    return one.port == other.port != 0 and (_covers(one, other) or _covers(other, one))


def _covers(one: Listen, other: Listen) -> bool:
    """Whether `one` takes the address of `other` too, of the same port."""
    if one.interface == "0.0.0.0":
        return ":" not in other.interface
    mine, theirs = (_canonical(listen.interface) for listen in (one, other))
    return mine == theirs or (mine == "::" and (":" in theirs or not one.v6_only))


def _canonical(interface: str) -> str:
    try:
        return str(ipaddress.ip_address(interface))
    except ValueError:
        return interface.lower()
