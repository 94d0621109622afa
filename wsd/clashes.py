"""Options that are right one by one and wrong together: each as a `Clash`, in the words of the configuration file.

Owns those sentences.  Must not know what a single value may be, nor what the options do; it is handed the models.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from wsd.networks import UNIX
from wsd.problems import Clash, nearest, toml

if TYPE_CHECKING:
    from wsd.options import Listen
    from wsd.options_limits import Limits, ListenLimits
    from wsd.options_tls import Tls
    from wsd.table import Table


def _typed(table: Table, names: Iterable[str]) -> list[str]:
    """Those of the options that were set, and not to nothing."""
    return [name for name in names if name in table.model_fields_set and getattr(table, name) != ""]


def _assignments(table: Table, names: Iterable[str]) -> str:
    return " and ".join(f"{name} = {toml(getattr(table, name))}" for name in names)


def limit_clashes(limits: Limits | ListenLimits) -> Iterator[Clash]:
    """A part that is larger than the whole; a default is no such part, nor is what stands in another table."""
    if (
        limits.max_uri_bytes is not None
        and limits.max_head_bytes is not None
        and "max_uri_bytes" in limits.model_fields_set
        and limits.max_uri_bytes > limits.max_head_bytes
    ):
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


def door_clashes(listen: Listen) -> Iterator[Clash]:
    """Proxies that are trusted with nothing, and what none is trusted with."""
    trusted, using = listen.trusted_proxies, []
    if listen.proxy_protocol:
        using.append("proxy_protocol")
    if listen.forwarded != "none":
        using.append("forwarded")
    if trusted and not using:
        text = (
            f"found {_assignments(listen, ['trusted_proxies'])} without proxy_protocol and forwarded; set one of them"
        )
        yield Clash(("trusted_proxies",), text, (("proxy_protocol",), ("forwarded",)))
    for name in using:
        if not trusted:
            text = f"found {_assignments(listen, [name])} without trusted_proxies, from whom alone it would be believed"
            yield Clash((name,), text, (("trusted_proxies",),))
    if using and listen.unix and trusted and UNIX not in trusted:
        text = (
            f'found {_assignments(listen, ["trusted_proxies"])} beside unix; proxies come by the socket, so add "unix"'
        )
        yield Clash(("trusted_proxies",), text, (("unix",),))


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
    for name in ("paths", "allowed_origins", "static_folder", "http_protocol", "forwarded", "compression", "auth"):
        if getattr(listen, name) != type(listen).model_fields[name].default:
            yield Clash(
                (name,), f'found {name} beside accept = "raw", which speaks no HTTP; take it out', (("accept",),)
            )
    for name in ("plain_http", "hsts_seconds"):
        if name in _changed(listen.tls):
            text = (
                f'found tls.{_assignments(listen.tls, [name])} beside accept = "raw", which speaks no HTTP; take it out'
            )
            yield Clash(("tls", name), text, (("accept",),))


def tls_clashes(tls: Tls) -> Iterator[Clash]:
    """What is about TLS where there is none, and about clients' certificates where nobody asks for them."""
    if not tls.certificate:
        for name in _changed(tls):
            text = f"found {_assignments(tls, [name])} without certificate, so that nothing is encrypted; set it"
            yield Clash((name,), text, (("certificate",),))
        return
    if tls.client_certificates == "none":
        for name in ("client_ca", "client_crl"):
            if getattr(tls, name):
                text = (
                    f'found {_assignments(tls, [name])} beside client_certificates = "none", so that no client is asked'
                )
                yield Clash((name,), text, (("client_certificates",),))
    elif not tls.client_ca:
        text = f"found {_assignments(tls, ['client_certificates'])} without client_ca; set the file of whom to trust"
        yield Clash(("client_certificates",), text, (("client_ca",),))
    if tls.min_version == "1.3" and tls.ciphers:
        text = f"found {_assignments(tls, ['ciphers', 'min_version'])}; it is about TLS 1.2: see ciphersuites"
        yield Clash(("ciphers",), text, (("min_version",),))


def _changed(table: Table) -> list[str]:
    """The options that are not at their default."""
    return [name for name, field in type(table).model_fields.items() if getattr(table, name) != field.default]


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
