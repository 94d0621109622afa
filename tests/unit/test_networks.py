"""wsd/networks.py: what is in a set of networks, and what a network is."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.networks import Networks, check_network


@pytest.mark.parametrize(
    ("networks", "inside", "outside"),
    [
        (["10.0.0.0/8"], ["10.0.0.0", "10.255.255.255"], ["11.0.0.0", "9.255.255.255", "::10.0.0.1", "", "/run/x"]),
        (["192.0.2.7"], ["192.0.2.7"], ["192.0.2.6", "192.0.2.8"]),
        (["0.0.0.0/0"], ["0.0.0.0", "255.255.255.255"], ["::", "::1"]),
        (["::/0"], ["::", "2001:db8::1", "fe80::1%eth0"], ["1.2.3.4"]),
        (["2001:db8::/32", "::1"], ["2001:db8:ffff::", "::1"], ["2001:db9::", "::2"]),
        (["fe80::/10"], ["fe80::1%eth0", "fe80::1"], ["fec0::1%eth0"]),
        (["10.0.0.0/8", "172.16.0.0/12", "10.1.0.0/16"], ["10.9.9.9", "172.31.0.1"], ["172.32.0.1"]),
        (["unix"], ["", "/run/x", "./10.0.0.1"], ["10.0.0.1", "::1"]),
        (["unix", "::1"], ["", "::1"], ["::2"]),
        ([], [], ["", "::1", "127.0.0.1"]),
    ],
)
def test_membership(networks: list[str], inside: list[str], outside: list[str]) -> None:
    found = Networks(networks)
    assert [address for address in inside if address not in found] == []
    assert [address for address in outside if address in found] == []
    assert bool(found) is bool(networks)


@given(
    st.lists(st.ip_addresses(v=4).flatmap(lambda a: st.integers(0, 32).map(lambda n: (a, n))), max_size=5), st.data()
)
def test_the_same_as_ipaddress_says(parts: list[tuple[ipaddress.IPv4Address, int]], data: st.DataObject) -> None:
    networks = [ipaddress.IPv4Network((int(address) >> 32 - size << 32 - size, size)) for address, size in parts]
    found = Networks(map(str, networks))
    nearby = [st.sampled_from([int(n.broadcast_address) + step for step in (-1, 0, 1)]) for n in networks]
    number = data.draw(st.one_of(st.integers(0, 2**32 - 1), *nearby))
    address = ipaddress.IPv4Address(min(max(number, 0), 2**32 - 1))
    assert (str(address) in found) is any(address in network for network in networks)


@pytest.mark.parametrize(
    "text", ["unix", "10.0.0.0/8", "10.0.0.1", "10.0.0.1/32", "::/0", "2001:db8::/32", "::1", "0.0.0.0/0"]
)
def test_networks(text: str) -> None:
    check_network(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.1/8", 'the network "10.0.0.0/8", or an address alone'),
        ("2001:db8::1/32", 'the network "2001:db8::/32"'),
        ("::ffff:10.0.0.0/104", '"10.0.0.0/8"'),
        ("::ffff:10.0.0.1", '"10.0.0.1/32"'),
        ("", '"10.0.0.0/8"'),
        ("example.com", "allowed: a network such as"),
        ("10.0.0.0/33", "allowed: a network such as"),
        ("10.0.0", "allowed: a network such as"),
        ("10.0.0.1-10.0.0.9", "allowed: a network such as"),
        ("Unix", 'or "unix"'),
    ],
)
def test_what_is_no_network(text: str, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        check_network(text)
    assert said in str(raised.value)
