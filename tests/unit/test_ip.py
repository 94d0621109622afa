"""wsd/wire/ip.py: one text for each address."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.wire.ip import canonical


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("::1", "::1"),
        (b"\xc0\x00\x02\x01", "192.0.2.1"),
        (bytes(15) + b"\x01", "::1"),
        (bytes(10) + b"\xff\xff\xc0\x00\x02\x01", "192.0.2.1"),
    ],
)
def test_one_form(written: str | bytes, meant: str) -> None:
    assert canonical(written) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "01.2.3.4",
        "1.2.3.4/32",
        " 1.2.3.4",
        "fe80::1%eth0",
        "[::1]",
        ":::",
        b"abc",
    ],
)
def test_what_is_none(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        canonical(text)


@given(st.ip_addresses())
def test_every_address_keeps_its_form(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    once = canonical(str(address))
    assert canonical(once) == once
    assert canonical(address.packed) == once
    assert canonical(address.exploded.upper()) == once
