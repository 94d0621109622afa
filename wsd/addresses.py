"""How many connections each address has, how fast it opens them, and which have not finished their handshake.

Pure.  The time is an argument, in seconds of `time.monotonic()`.  Memory is bounded: an address is forgotten when it
has no connection and its rate has recovered, and under a flood from very many the one that was quiet longest.
"""

from __future__ import annotations

import ipaddress
from typing import Final, TypeVar

__all__ = ["MAX_REMEMBERED", "Addresses", "Unfinished", "limited_part"]

MAX_REMEMBERED: Final = 65_536
"""Addresses whose rate is remembered: some 10 MB.  Each is for a second or two, and no loop accepts as many in that."""

# What one subscriber is given, and may choose any address of (RFC 6177 2: "at least a single /64").
_SUBSCRIBER_BITS: Final = 64

Who = TypeVar("Who")


class Addresses:
    """Who is there, by address.  An IPv6 address stands for its /64: whoever has one has all of them."""

    __slots__ = ("_counts", "_due", "_parts", "remembered")

    def __init__(self, remembered: int = MAX_REMEMBERED) -> None:
        self.remembered = remembered
        self._parts: dict[int, str] = {}  # of each connection, by its number
        self._counts: dict[str, int] = {}
        # By address: when its next connection would be due if they came evenly (GCRA, ITU-T I.371).  Quietest first.
        self._due: dict[str, float] = {}

    def __len__(self) -> int:
        """How many connections are counted."""
        return len(self._parts)

    @property
    def addresses(self) -> int:
        """How many addresses are known at all."""
        return len(self._counts.keys() | self._due.keys())

    def enter(self, number: int, address: str, most: int, rate: int, now: float) -> str:
        """Count a connection, or name the limit that it is over; empty: it is over none.

        One that was counted already, for another address, is counted for this one in its place; where it is one too
        many it is counted for none.

        Args:
            number: Of the connection.
            most: Connections that one address may have; 0: any number.
            rate: Connections that one address may open each second, and at once; 0: any number.
        """
        part = limited_part(address)
        if part is None:
            self.leave(number)
            return ""
        if self._parts.get(number) == part:
            return ""
        self.leave(number)
        if not rate:
            self._due.clear()
        if most and self._counts.get(part, 0) >= most:
            return "max_connections_per_address"
        if rate and not self._is_in_time(part, rate, now):
            return "max_handshakes_per_second"
        self._count(number, part)
        return ""

    def hold(self, number: int, address: str) -> None:
        """Count a connection that is there, whatever the limits say."""
        part = limited_part(address)
        if part is not None and number not in self._parts:
            self._count(number, part)

    def _count(self, number: int, part: str) -> None:
        self._parts[number] = part
        self._counts[part] = self._counts.get(part, 0) + 1

    def leave(self, number: int) -> None:
        """A connection is gone; one that was not counted may be told of as well."""
        part = self._parts.pop(number, None)
        if part is None:
            return
        left = self._counts[part] - 1
        if left:
            self._counts[part] = left
        else:
            del self._counts[part]

    def _is_in_time(self, part: str, rate: int, now: float) -> bool:
        """Reports whether one more connection of this address is within its rate, and counts it if so."""
        due = max(self._due.pop(part, now), now)
        # Whoever was quiet for a second may open a second's worth at once: a page that opens several, a restart.
        is_in_time = due - now <= (rate - 1) / rate + 1e-9
        if is_in_time:
            due += 1 / rate
        self._due[part] = due
        self._forget(now)
        return is_in_time

    def _forget(self, now: float) -> None:
        """Forget those whose rate has recovered, two for each that comes, so that there are ever fewer of them."""
        for _ in range(2):
            quietest = next(iter(self._due))
            if self._due[quietest] > now and len(self._due) <= self.remembered:
                return
            del self._due[quietest]


def limited_part(address: str) -> str | None:
    """What a limit for each address counts by: an IPv4 address, the first half of an IPv6 address; None for a Unix
    socket, whose other ends have none.

    A zone (`fe80::1%eth0`) is left out.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if found.version == 4:
        return str(found)
    return f"{ipaddress.IPv6Address(int(found) >> _SUBSCRIBER_BITS << _SUBSCRIBER_BITS)}/{_SUBSCRIBER_BITS}"


class Unfinished(dict[Who, float]):
    """Connections that have not finished their handshake, the oldest first, each with when it began."""

    __slots__ = ()

    def begin(self, who: Who, now: float) -> None:
        """A connection has come in."""
        self[who] = now

    def end(self, who: Who) -> bool:
        """Its handshake is done, or it is gone; reports whether it was among them."""
        return self.pop(who, None) is not None

    def oldest(self) -> tuple[Who, float]:
        """Who began first, and when.  There is one."""
        return next(iter(self.items()))
