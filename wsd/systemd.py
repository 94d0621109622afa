"""The service manager's notification protocol (sd_notify(3)), in the few lines that it takes.

Owns the socket to the manager.  Knows no loop and no state of the daemon: callers say what is to be told.  Nothing here
waits and nothing here raises: a manager that does not listen must not stop a daemon.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping


class Notifier:
    """Tells the manager about this process; does nothing where there is none (`is_active` is False).

    Args:
        environ: Where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are taken from, so that a process which a plugin
            starts does not speak in our name.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        self.watchdog_seconds = _watchdog(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    @property
    def is_active(self) -> bool:
        return self._socket is not None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={_line(status)}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """CLOCK_MONOTONIC goes with it, so that the manager can tell this reload from the one before."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={_line(status)}")

    def watchdog(self) -> None:
        """A sign of life; sent by a timer of the loop, so that a plugin which blocks the loop is found out."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(errors="replace"), self._address)
        except OSError:
            pass  # full or gone: the next sign of life comes by itself, and there is nobody else to tell


def _address(value: str) -> str | bytes:
    """A path, or a name in the abstract namespace, which is written with `@` for its NUL."""
    if value.startswith("@"):
        return b"\0" + os.fsencode(value[1:])
    return value if value.startswith("/") else ""


def _watchdog(microseconds: str, pid: str) -> float:
    """How often the manager wants a sign of life, in seconds; 0.0: it wants none from this process."""
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(microseconds) / 1_000_000


def _line(text: str) -> str:
    return text.replace("\n", " ")
