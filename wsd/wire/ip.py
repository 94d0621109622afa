"""IP addresses, each in one form only, so that equal ones are equal texts.

Pure.  Used for what a proxy says about whom it speaks for.
"""

from __future__ import annotations

import ipaddress


def canonical(address: str | bytes) -> str:
    """An address as wsd writes it everywhere: RFC 5952, and an IPv4 address that travels as IPv6 as what it is.

    Args:
        address: As text, or in its 4 or 16 bytes.

    Raises:
        ValueError: no IPv4 or IPv6 address, or one with a zone (`fe80::1%eth0`), which means nothing elsewhere.
    """
    if isinstance(address, str) and "%" in address:
        raise ValueError(f"an address with a zone: {address!r}")
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found)
