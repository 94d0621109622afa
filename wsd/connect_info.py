"""What a connect is asked for, checked before anybody is asked.  LWS: struct lws_client_connect_info.

Owns the meaning of the arguments of `Context.client_connect`: what can never work is refused here, at once and in the
caller's hands.  Must not know how a connection is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from wsd.binding import Binding
from wsd.config import Compression
from wsd.protocol import Protocol
from wsd.wire.client_handshake import (
    NONCE_BYTES,
    Target,
    basic_authorization,
    encode_request,
    is_tcp,
    new_key,
    parse_tcp,
    parse_url,
)
from wsd.wire.extensions import Settings
from wsd.wire.headers import Headers

if TYPE_CHECKING:
    from wsd.context import Context
    from wsd.tls_client import ClientTls

# Linux: IFNAMSIZ is 16 with its NUL, and the kernel cuts a longer name instead of refusing it.
_DEVICE: Final = re.compile(r"[!-.0-~]{1,15}\Z")

_PROXY: Final = re.compile(r"http://(?:([^/?#]*)@)?([^/?#@]*)/?\Z", re.IGNORECASE)


class Proxy(NamedTuple):
    """An HTTP proxy that is asked to CONNECT."""

    host: str
    port: int
    authorization: str | None
    """The value of Proxy-Authorization."""


class ConnectInfo(NamedTuple):
    """What a connect was asked for."""

    binding: Binding
    target: Target
    subprotocols: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    origin: str | None
    timeout_seconds: float
    interface: str
    """An IP address, or the name of a device; empty: as the system decides."""
    proxy: Proxy | None
    settings: Settings | None
    """What is offered for compression; None: nothing."""
    session: Any
    is_raw: bool
    """Whether there is no handshake: a tcp:// or tls:// URL."""
    tls: ClientTls | None
    """How the server is verified; None: nothing is encrypted."""


def make_connect_info(
    context: Context,
    url: str,
    *,
    protocol: Protocol | str | None,
    subprotocols: Sequence[str] | None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    origin: str | None,
    timeout_seconds: float,
    interface: str,
    proxy: str,
    compression: Compression | None,
    session: Any,
    tls: ClientTls | None,
) -> ConnectInfo:
    """Check the arguments of `Context.client_connect`, which see.

    Raises:
        ValueError: something that can never work.
        TypeError: something that is not of its type.
    """
    binding = context.binding_of(protocol)
    is_raw = is_tcp(url)
    fields = tuple(headers.items() if isinstance(headers, Mapping) else headers)
    if is_raw:
        _check_raw(subprotocols=subprotocols, headers=fields, origin=origin, compression=compression)
    target = parse_tcp(url) if is_raw else parse_url(url)
    info = ConnectInfo(
        binding,
        target,
        () if is_raw else _subprotocols(binding, subprotocols),
        fields,
        origin,
        _check_timeout(timeout_seconds),
        _check_interface(interface),
        parse_proxy(proxy) if proxy else None,
        None if is_raw else binding.compression(compression),
        session,
        is_raw,
        _check_tls(context, target, tls),
    )
    if is_raw:
        return info
    # What a request cannot say is better heard of by who asked than by `on_client_connection_error` later.
    key = new_key(bytes(NONCE_BYTES))
    encode_request(info.target, key, subprotocols=info.subprotocols, origin=info.origin, headers=Headers(info.headers))
    return info


def _check_raw(**arguments: object) -> None:
    """Refuse what only a handshake could say.

    Raises:
        ValueError: which it is.
    """
    if said := [name for name, value in arguments.items() if value]:
        raise ValueError(
            f"{said[0]}: a tcp:// or tls:// URL opens a raw connection, which has no request to say this in"
        )


def _check_tls(context: Context, target: Target, tls: ClientTls | None) -> ClientTls | None:
    if target.secure:
        return tls or context.client_tls
    if tls is not None:
        raise ValueError("tls: nothing is encrypted on a ws:// or tcp:// URL; wss:// and tls:// are")
    return None


def _subprotocols(binding: Binding, subprotocols: Sequence[str] | None) -> tuple[str, ...]:
    if subprotocols is None:
        return (binding.protocol.name,)
    if isinstance(subprotocols, str):  # a sequence too, of its letters
        raise TypeError(f"subprotocols is a sequence of names, found the string {subprotocols!r}")
    return tuple(subprotocols)


def _check_timeout(seconds: float) -> float:
    if not 0 < seconds < math.inf:
        raise ValueError(f"timeout_seconds: a time above 0, found {seconds!r}")
    return seconds


def _check_interface(interface: str) -> str:
    try:
        ip_address(interface)
    except ValueError:
        if interface and not _DEVICE.match(interface):
            raise ValueError(f"interface: neither an IP address nor a device: {interface!r}") from None
    return interface


def parse_proxy(url: str) -> Proxy:
    """Where a proxy is and how it knows us, from `http://[user:password@]host:port`.

    Raises:
        ValueError: it is not of that form.  The text does not repeat it, since it may hold a password.
    """
    match = _PROXY.match(url)
    if match is None:
        raise ValueError("proxy: http://[user:password@]host:port is wanted")
    login, address = match.groups()
    try:
        target = parse_url(f"ws://{address}")  # what a host may be is the same here and there
        user, _, password = (login or "").partition(":")
        authorization = None if login is None else basic_authorization(unquote(user), unquote(password))
    except ValueError as error:
        raise ValueError(f"proxy: {error}") from None
    return Proxy(target.host, target.port, authorization)
