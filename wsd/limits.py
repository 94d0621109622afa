"""How many connections this process may hold: what the system lets it open, less what it needs for itself.

Owns the sum, and the raising of the descriptor limit.  Must not know what a connection is, nor what happens at the
limit: `context` does.  Nothing is ever sized by the number: a limit of a million costs what one of a hundred costs.
"""

from __future__ import annotations

import os
import resource
from typing import Final, NamedTuple

RESERVED_DESCRIPTORS: Final = 64
"""Descriptors kept free for what comes later: a plugin's files and databases, name lookups, commands, files served."""

# Linux refuses a limit above fs.nr_open, whose default this is; "unlimited" can be no more.
_MOST_DESCRIPTORS: Final = 1 << 20

# Without /proc descriptors are tried one by one, those below this number: the kernel hands out the lowest that is free.
_TRIED_DESCRIPTORS: Final = 4096


class ConnectionLimit(NamedTuple):
    """How many connections there may be at one time, and why."""

    connections: int
    wanted: int
    """`limits.max_connections`; 0: as many as the descriptor limit allows."""
    descriptors: int
    """The descriptor limit of this process (RLIMIT_NOFILE, the soft one)."""
    held: int
    """Descriptors that are open and no connections: listeners, the log, files of the program."""
    reserved: int
    """Descriptors kept free for what the program opens later."""

    @property
    def is_short(self) -> bool:
        """Whether more are wanted than the descriptor limit allows."""
        return self.connections < self.wanted

    def __str__(self) -> str:
        how = ", as limits.max_connections says; of" if self.connections == self.wanted else "; of"
        counted = f"{self.descriptors} descriptors {self.held} are held open and {self.reserved} reserved"
        return f"{self.connections} connections{how} {counted}"

    def as_dict(self) -> dict[str, int]:
        """What `wsd status` tells of the descriptors."""
        return {"limit": self.descriptors, "held": self.held, "reserved": self.reserved}


def connection_limit(wanted: int, connected: int = 0) -> ConnectionLimit:
    """How many connections this process may hold.

    What it holds open now is left out, and `RESERVED_DESCRIPTORS` are kept free (of few, half).  Where more are wanted
    than that leaves, the descriptor limit is raised for this process, as far as its hard limit lets anybody.

    Args:
        wanted: `limits.max_connections`; 0: as many as the descriptor limit allows.
        connected: How many of the open descriptors are connections.
    """
    soft, hard = descriptor_limits()
    held = max(0, count_open(soft) - connected)
    if wanted:
        soft = _raise(soft, hard, wanted + held + RESERVED_DESCRIPTORS)
    reserved = _reserve(soft - held)
    allowed = max(1, soft - held - reserved)
    return ConnectionLimit(min(wanted or allowed, allowed), wanted, soft, held, reserved)


def most_connections() -> int:
    """How many connections `limits.max_connections` may ask for here: as many as the hard limit allows."""
    _, hard = descriptor_limits()
    left = hard - count_open(hard)
    return max(1, left - _reserve(left))


def descriptor_limits() -> tuple[int, int]:
    """The soft and the hard limit of this process's descriptors, "unlimited" as the number that it stands for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _as_number(soft), _as_number(hard)


def _as_number(limit: int) -> int:
    return _MOST_DESCRIPTORS if limit == resource.RLIM_INFINITY else limit


def count_open(below: int) -> int:
    """How many descriptors are open.

    Args:
        below: Those with this number and above are left out: opened before the limit was lowered, they take no room.
    """
    try:
        # One is what the listing itself has open; it is gone now.
        return max(0, sum(int(name) < below for name in os.listdir("/proc/self/fd")) - 1)
    except OSError:
        return sum(map(_is_open, range(min(below, _TRIED_DESCRIPTORS))))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _reserve(left: int) -> int:
    """How many of the descriptors that are left are kept free."""
    return max(0, min(RESERVED_DESCRIPTORS, left // 2))


def _raise(soft: int, hard: int, needed: int) -> int:
    """Raise the soft limit to `needed`, or as far as it goes; the limit that there is then."""
    target = min(needed, hard)
    if target <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    except (OSError, ValueError):  # a system call filter without @resources; the warning says what that allows
        return soft
    return target
