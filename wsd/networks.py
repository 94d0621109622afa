"""Sets of networks: which addresses are in one, and how a network is written.

Pure.  Addresses are text as a `Peer` has them; whatever is no IP address is the end of a Unix socket.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

__all__ = ["UNIX", "Networks", "check_network"]

UNIX: Final = "unix"
"""Stands for everybody who comes by a Unix socket."""


class Networks:
    """A set of networks.  Looking an address up takes as long as there are different sizes of networks in it, however
    many networks there are."""

    __slots__ = ("_by_version", "_has_unix")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._has_unix = False
        # By version: how many bits of an address are no part of the network, and the rest of each such network.
        self._by_version: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for text in texts:
            if text == UNIX:
                self._has_unix = True
                continue
            network = ipaddress.ip_network(text)
            shift = network.max_prefixlen - network.prefixlen
            numbers = self._by_version[network.version].setdefault(shift, set())
            numbers.add(int(network.network_address) >> shift)

    def __contains__(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])  # the kernel says `fe80::1%eth0`
        except ValueError:
            return self._has_unix
        number = int(found)
        return any(number >> shift in numbers for shift, numbers in self._by_version[found.version].items())

    def __bool__(self) -> bool:
        return self._has_unix or any(self._by_version.values())


def check_network(text: str) -> None:
    """Refuse what no peer could ever be in.

    Raises:
        ValueError: no network; the sentence says what to write in its place, where that can be known.
    """
    if text == UNIX:
        return
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                f'allowed: a network such as "10.0.0.0/8" or "2001:db8::/32", an address, or "{UNIX}"'
            ) from None
        raise ValueError(f'allowed: the network "{meant}", or an address alone') from None
    if isinstance(network, ipaddress.IPv6Network) and (mapped := network.network_address.ipv4_mapped) is not None:
        raise ValueError(f'write it as IPv4: "{mapped}/{max(0, network.prefixlen - 96)}"')
