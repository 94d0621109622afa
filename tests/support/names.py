"""Names for tests, so that none depends on a name server: `socket.getaddrinfo` knows a table and may be silent.

Numeric addresses go to the real one, which asks nobody for them.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.timing import PATIENCE, wait_until

Found = list[tuple[int, int, int, str, tuple[Any, ...]]]


class Names:
    """What `socket.getaddrinfo` is while a test runs.

    `table` says for a name its addresses, or the error that is raised.  A name that is in `silent` blocks its thread
    until `release()`, as one does whose name server does not answer.
    """

    def __init__(self) -> None:
        self.table: dict[str, list[str] | Exception] = {}
        self.silent: set[str] = set()
        self.asked: list[str] = []
        """The names that were looked up, in the order in which that began."""
        self._released = threading.Event()
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Found:
        try:
            return self._real(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)  # type: ignore[return-value]
        except socket.gaierror:
            if flags & socket.AI_NUMERICHOST:
                raise
        self.asked.append(host)
        if host in self.silent:
            assert self._released.wait(PATIENCE), f"nobody released the lookup of {host}"
        found = self.table.get(host, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        if isinstance(found, Exception):
            raise found
        return [entry for address in found for entry in self(address, port, type=type, flags=socket.AI_NUMERICHOST)]

    def wait_asked(self, count: int) -> None:
        """Wait until that many lookups have begun."""
        wait_until(lambda: len(self.asked) >= count, what=f"{count} lookups, so far {self.asked}")

    def release(self) -> None:
        """Let every silent name be answered."""
        self._released.set()


@contextmanager
def known_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """Have `Names` in the place of the system's names until the block ends, and no thread left that asks for one."""
    names = Names()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", names)
        try:
            yield names
        finally:
            names.release()
            wait_until(lambda: "wsd-resolver" not in {thread.name for thread in threading.enumerate()})
