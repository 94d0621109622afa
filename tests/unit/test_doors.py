"""wsd/doors.py: who may come in, whom a proxy speaks for, and that a connection may be of one and then of another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from wsd.config import Limits, Listen
from wsd.counters import Counters
from wsd.doors import Doors, doors_of, set_peer
from wsd.errors import HandshakeError
from wsd.protocol import Peer
from wsd.wire.http import Request

PROXY = Peer("10.0.0.1", 5000)
BALANCER = Peer("10.0.0.2", 6000)
CLIENT = Peer("192.0.2.7", 0)


def doors(**fields: Any) -> Doors:
    found = doors_of(Listen(**fields))
    assert found is not None
    return found


def behind(**fields: Any) -> Doors:
    return doors(trusted_proxies=["10.0.0.0/8"], **{"forwarded": "x-forwarded-for", **fields})


class Arrived:
    """What the doors use of a wsi."""

    def __init__(self, peer: Peer = PROXY, over: str = "") -> None:
        self.peer = peer
        self.proxy: Peer | None = None
        self.number = 7
        self.tag = "test#7"
        self.entered: list[Peer] = []
        self.over = over
        self.context = SimpleNamespace(counters=Counters(), admission=self)

    def enter(self, number: int, peer: Peer) -> str:
        assert number == self.number
        self.entered.append(peer)
        return self.over


def request(*lines: str) -> Request:
    return Request("\r\n".join(["GET / HTTP/1.1", "Host: a", *lines, "", ""]).encode())


def meet(door: Doors, wsi: Any, *lines: str, hop: Peer | None = None) -> Peer:
    return door.meet(wsi, hop, request(*lines))


# -- allow and deny ---------------------------------------------------------------------------------------------------


def test_without_doors_there_is_nothing() -> None:
    assert doors_of(Listen()) is None
    assert Limits().max_connections_per_address == 0


@pytest.mark.parametrize(
    ("fields", "address", "why"),
    [
        ({"deny": ["192.0.2.0/24"]}, "192.0.2.7", "denied"),
        ({"deny": ["192.0.2.0/24"]}, "192.0.3.7", ""),
        ({"deny": ["192.0.2.0/24"]}, "", ""),
        ({"deny": ["unix"]}, "", "denied"),
        ({"allow": ["192.0.2.0/24"]}, "192.0.2.7", ""),
        ({"allow": ["192.0.2.0/24"]}, "192.0.3.7", "not among those that are allowed"),
        ({"allow": ["192.0.2.0/24"]}, "", "not among those that are allowed"),
        ({"allow": ["192.0.2.0/24", "unix"]}, "/run/x", ""),
        ({"allow": ["192.0.2.0/24"], "deny": ["192.0.2.7"]}, "192.0.2.7", "denied"),
        ({"allow": ["192.0.2.7"], "deny": ["192.0.2.0/24"]}, "192.0.2.7", "denied"),
        ({"allow": ["::1"], "trusted_proxies": ["10.0.0.1"], "proxy_protocol": True}, "10.0.0.1", ""),
        ({"deny": ["10.0.0.1"], "trusted_proxies": ["10.0.0.1"], "proxy_protocol": True}, "10.0.0.1", "denied"),
    ],
)
def test_who_may_come_in(fields: dict[str, Any], address: str, why: str) -> None:
    assert doors(**fields).why_not(address) == why


def test_who_may_send_a_proxy_header() -> None:
    door = doors(trusted_proxies=["10.0.0.0/8", "unix"], proxy_protocol=True, deny=["10.0.0.9"])
    assert door.has_proxy_protocol
    assert door.why_no_proxy("10.0.0.1") == door.why_no_proxy("") == ""
    assert door.why_no_proxy("10.0.0.9") == "denied"
    assert door.why_no_proxy("11.0.0.1") == "no trusted proxy"
    assert not behind().has_proxy_protocol


def test_whose_requests_say_who_it_is() -> None:
    assert behind().awaits_request("10.0.0.1")
    assert not behind().awaits_request("192.0.2.7")
    assert not doors(trusted_proxies=["10.0.0.1"], proxy_protocol=True).awaits_request("10.0.0.1")


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_header_of_an_untrusted_peer_is_ignored() -> None:
    wsi = Arrived(Peer("192.0.2.1", 1))
    assert meet(behind(), wsi, "X-Forwarded-For: 192.0.2.7") == Peer("192.0.2.1", 1)
    assert (wsi.peer, wsi.proxy, wsi.entered) == (Peer("192.0.2.1", 1), None, [])


def test_the_other_header_is_ignored() -> None:
    wsi = Arrived()
    meet(behind(), wsi, "Forwarded: for=192.0.2.7")
    assert (wsi.peer, wsi.proxy) == (PROXY, None)
    meet(behind(forwarded="forwarded"), wsi, "X-Forwarded-For: 192.0.2.7")
    assert (wsi.peer, wsi.proxy) == (PROXY, None)


@pytest.mark.parametrize(
    ("forwarded", "lines"),
    [
        ("x-forwarded-for", ["X-Forwarded-For: 1.1.1.1, 192.0.2.7"]),
        ("x-forwarded-for", ["x-forwarded-for: 1.1.1.1", "X-FORWARDED-FOR: 192.0.2.7", "X-Forwarded-For: 10.9.9.9"]),
        ("forwarded", ["Forwarded: for=1.1.1.1", 'forwarded: for="192.0.2.7", for=10.9.9.9']),
    ],
)
def test_a_trusted_proxy_is_believed(forwarded: str, lines: list[str]) -> None:
    wsi = Arrived()
    assert meet(behind(forwarded=forwarded), wsi, *lines) == PROXY
    assert (wsi.peer, wsi.proxy, wsi.entered) == (CLIENT, PROXY, [CLIENT])


def test_one_connection_of_several_people() -> None:
    """Each request is judged by itself, by who is at the other end and not by who asked last."""
    wsi, door = Arrived(), behind()
    hop = meet(door, wsi, "X-Forwarded-For: 192.0.2.7")
    assert meet(door, wsi, "X-Forwarded-For: 192.0.2.8:99", hop=hop) == PROXY
    assert (wsi.peer, wsi.proxy) == (Peer("192.0.2.8", 99), PROXY)
    assert meet(door, wsi, hop=hop) == PROXY
    assert (wsi.peer, wsi.proxy) == (PROXY, None)
    assert wsi.entered == [CLIENT, Peer("192.0.2.8", 99), PROXY]


def test_behind_both_kinds_of_proxy() -> None:
    """What the kernel knows stays in `proxy`; whom the PROXY header names is the one whose requests are believed."""
    wsi, door = Arrived(BALANCER), behind(proxy_protocol=True)
    set_peer(wsi, PROXY)  # type: ignore[arg-type]
    assert (wsi.peer, wsi.proxy) == (PROXY, BALANCER)
    hop = meet(door, wsi, "X-Forwarded-For: 192.0.2.7")
    assert (hop, wsi.peer, wsi.proxy) == (PROXY, CLIENT, BALANCER)
    meet(door, wsi, hop=hop)
    assert (wsi.peer, wsi.proxy) == (PROXY, BALANCER)
    set_peer(wsi, BALANCER)  # type: ignore[arg-type]
    assert (wsi.peer, wsi.proxy) == (BALANCER, None)


def test_the_real_peer_is_judged() -> None:
    wsi = Arrived()
    with pytest.raises(HandshakeError) as raised:
        meet(behind(deny=["192.0.2.7"]), wsi, "X-Forwarded-For: 192.0.2.7")
    assert raised.value.status == 403
    assert wsi.context.counters.denied == 1
    assert (wsi.peer, wsi.entered) == (CLIENT, [])
    with pytest.raises(HandshakeError):
        meet(behind(allow=["198.51.100.0/24"]), Arrived(), "X-Forwarded-For: 192.0.2.7")
    meet(behind(allow=["192.0.2.0/24"]), Arrived(), "X-Forwarded-For: 192.0.2.7")
    meet(behind(allow=["192.0.2.0/24"]), Arrived())  # the proxy for itself


def test_somebody_hidden_is_not_let_in_as_the_proxy() -> None:
    wsi = Arrived()
    meet(behind(), wsi, "X-Forwarded-For: unknown")
    assert (wsi.peer, wsi.proxy, wsi.entered) == (PROXY, None, [PROXY])
    with pytest.raises(HandshakeError) as raised:
        meet(behind(allow=["192.0.2.0/24"]), wsi, "X-Forwarded-For: 192.0.2.7, unknown")
    assert raised.value.status == 403


def test_one_too_many() -> None:
    with pytest.raises(HandshakeError) as raised:
        meet(behind(), Arrived(over="over limits.x = 1"), "X-Forwarded-For: 192.0.2.7")
    assert raised.value.status == 429
    assert raised.value.headers == (("Retry-After", "1"),)
