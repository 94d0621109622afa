"""Ports for servers that want a number before they listen.

Never one of those that the kernel hands out itself: until its server listens, every connection made and every server on
port 0 in the tests beside it may get that one, and whoever waits for the server then meets somebody else.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

_LOWEST: Final = 10_000
"""Below are the ports of services that a machine may run."""

_BEYOND: Final = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
"""The first that the kernel hands out: 32768 unless somebody set it (ip(7))."""


def free_port(count: int = 1) -> int:
    """The first of `count` ports in a row on 127.0.0.1 that nobody has; any, so that two runs at once do not meet.

    Raises:
        AssertionError: a hundred attempts found none.
    """
    for _ in range(100):
        port = random.randrange(_LOWEST, _BEYOND - count)
        if all(_is_free(port + more) for more in range(count)):
            return port
    raise AssertionError(f"no {count} ports in a row are free from {_LOWEST} to {_BEYOND - 1}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that ended a moment ago are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
