"""wsd/addresses.py: how many connections an address has, how fast they come, and that memory has a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.addresses import Addresses, Unfinished, limited_part

MOST, RATE = "max_connections_per_address", "max_handshakes_per_second"


def enter(
    addresses: Addresses, number: int, address: str = "192.0.2.7", most: int = 0, rate: int = 0, now: float = 0
) -> str:
    return addresses.enter(number, address, most, rate, now)


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", None),
        ("/run/x", None),
        ("./10.0.0.1", None),
    ],
)
def test_what_is_counted_together(address: str, part: str | None) -> None:
    assert limited_part(address) == part


# -- how many ---------------------------------------------------------------------------------------------------------


def test_so_many_and_no_more() -> None:
    addresses = Addresses()
    assert [enter(addresses, number, most=2) for number in range(3)] == ["", "", MOST]
    assert enter(addresses, 3, "192.0.2.8", most=2) == ""
    addresses.leave(0)
    assert enter(addresses, 4, most=2) == ""
    assert enter(addresses, 5, most=2) == MOST
    assert len(addresses) == 3


def test_a_whole_64_is_one() -> None:
    addresses = Addresses()
    assert enter(addresses, 1, "2001:db8::1", most=1) == ""
    assert enter(addresses, 2, "2001:db8::ffff:1", most=1) == MOST
    assert enter(addresses, 3, "2001:db8:0:1::1", most=1) == ""


def test_unix_sockets_are_not_limited() -> None:
    addresses = Addresses()
    assert {enter(addresses, number, "", most=1, rate=1) for number in range(9)} == {""}
    assert len(addresses) == addresses.addresses == 0


def test_one_that_is_there_already_counts_once() -> None:
    addresses = Addresses()
    assert [enter(addresses, 1, most=1, rate=1) for _ in range(3)] == ["", "", ""]
    addresses.leave(1)
    assert len(addresses) == 0


def test_one_connection_of_two_people() -> None:
    """As a proxy's: it is counted for who asked last, and where that is one too many for nobody."""
    addresses = Addresses()
    assert enter(addresses, 1, "192.0.2.7", most=1) == ""
    assert enter(addresses, 1, "192.0.2.8", most=1) == ""
    assert enter(addresses, 2, "192.0.2.7", most=1) == ""
    assert enter(addresses, 1, "192.0.2.7", most=1) == MOST
    assert enter(addresses, 3, "192.0.2.8", most=1) == ""
    assert enter(addresses, 2, "", most=1) == ""
    assert len(addresses) == 1


def test_those_that_are_there_when_it_begins() -> None:
    addresses = Addresses()
    addresses.hold(1, "192.0.2.7")
    addresses.hold(1, "192.0.2.7")
    addresses.hold(2, "/run/x")
    assert len(addresses) == 1
    assert enter(addresses, 3, most=1) == MOST
    addresses.leave(1)
    assert enter(addresses, 3, most=1) == ""


def test_leaving_twice_is_nothing() -> None:
    addresses = Addresses()
    addresses.leave(7)
    enter(addresses, 1, most=1)
    addresses.leave(1)
    addresses.leave(1)
    assert addresses.addresses == 0


# -- how fast ---------------------------------------------------------------------------------------------------------


def test_a_seconds_worth_at_once_and_then_evenly() -> None:
    addresses = Addresses()
    said = [enter(addresses, number, rate=4, now=100) for number in range(6)]
    assert said == ["", "", "", "", RATE, RATE]
    assert enter(addresses, 6, rate=4, now=100.24) == RATE
    assert enter(addresses, 7, rate=4, now=100.25) == ""
    assert enter(addresses, 8, rate=4, now=100.25) == RATE
    assert enter(addresses, 9, "192.0.2.8", rate=4, now=100.25) == ""
    assert [enter(addresses, 10 + number, rate=4, now=200) for number in range(5)] == ["", "", "", "", RATE]


def test_one_a_second() -> None:
    addresses = Addresses()
    times = [0, 0.5, 0.999, 1.0, 1.5, 2.0, 2.1]
    said = [enter(addresses, number, rate=1, now=now) for number, now in enumerate(times)]
    assert said == ["", RATE, RATE, "", RATE, "", RATE]


def test_one_that_is_refused_is_not_counted() -> None:
    """Else whoever tries again and again would never come in."""
    addresses = Addresses()
    said = [enter(addresses, number, rate=1, now=number / 10) for number in range(25)]
    assert [number for number, over in enumerate(said) if not over] == [0, 10, 20]
    assert len(addresses) == 3


@given(st.integers(1, 9), st.lists(st.floats(0, 0.5), max_size=60))
def test_never_more_than_a_burst_and_the_rate(rate: int, gaps: list[float]) -> None:
    addresses, now, came = Addresses(), 50.0, []
    for number, gap in enumerate(gaps):
        now += gap
        if not enter(addresses, number, rate=rate, now=now):
            came.append(now)
    for start in range(len(came)):
        for end in range(start, len(came)):
            assert end - start + 1 <= rate + (came[end] - came[start]) * rate + 1e-3


# -- memory -----------------------------------------------------------------------------------------------------------


def test_who_is_gone_and_quiet_is_forgotten() -> None:
    addresses = Addresses()
    for number in range(1000):
        enter(addresses, number, f"10.0.{number // 256}.{number % 256}", most=5, rate=5, now=1)
        addresses.leave(number)
    assert addresses.addresses == 1000
    for number in range(1000):
        enter(addresses, number, f"10.1.{number // 256}.{number % 256}", rate=5, now=10 + number)
        addresses.leave(number)
    assert addresses.addresses == 1


def test_a_flood_from_everywhere_has_a_bound() -> None:
    addresses = Addresses(remembered=100)
    for number in range(1000):
        enter(addresses, number, f"2001:db8:{number:x}::1", rate=1, now=1)
        addresses.leave(number)
        assert addresses.addresses <= 100
    assert enter(addresses, 1, "2001:db8:3e7::1", rate=1, now=1) == RATE  # the last one is known still
    assert enter(addresses, 2, "2001:db8::1", rate=1, now=1) == ""  # the first is not


def test_a_rate_that_was_taken_away_is_forgotten() -> None:
    addresses = Addresses()
    enter(addresses, 1, rate=1)
    addresses.leave(1)
    enter(addresses, 2, "192.0.2.8", most=1)
    assert addresses.addresses == 1


# -- handshakes -------------------------------------------------------------------------------------------------------


def test_the_oldest_handshake() -> None:
    unfinished: Unfinished[str] = Unfinished()
    for now, name in enumerate("abc"):
        unfinished.begin(name, now)
    assert len(unfinished) == 3
    assert unfinished.oldest() == ("a", 0)
    assert unfinished.end("a")
    assert not unfinished.end("a")
    assert not unfinished.end("z")
    assert unfinished.oldest() == ("b", 1)
    assert unfinished.end("c")
    assert unfinished.oldest() == ("b", 1)
