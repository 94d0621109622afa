"""A bookkeeping of what wsd announces for other loops: every announcement must be possible, and none may be missing."""

from __future__ import annotations

import os
import threading
from select import POLLIN, POLLOUT


class Ledger:
    """What wsd wants polled, as its announcements have it.

    Attributes:
        table: Each descriptor and its events.
        history: Every announcement: "add", "del", "set" or "clear", the descriptor, and the events (of "del": 0).
        faults: What cannot be, in words.  A hook's exception ends in wsd's log, so that they are kept for `check`.
        threads: In which announcements were made.
    """

    def __init__(self) -> None:
        self.table: dict[int, int] = {}
        self.history: list[tuple[str, int, int]] = []
        self.faults: list[str] = []
        self.threads: set[int] = set()

    def add(self, fd: int, events: int) -> None:
        self._note("add", fd, events)
        self._expect(fd not in self.table, f"add {fd}: it is there")
        self._expect(not events & ~(POLLIN | POLLOUT), f"add {fd}: {events:#x}")
        self.table[fd] = events

    def delete(self, fd: int) -> None:
        self._note("del", fd, 0)
        self._expect(fd in self.table, f"del {fd}: it is not there")
        self.table.pop(fd, None)

    def set(self, fd: int, events: int) -> None:
        self._note("set", fd, events)
        before = self._before("set", fd, events)
        self._expect(not before & events, f"set {fd}: {events:#x} though it has {before:#x}")
        self.table[fd] = before | events

    def clear(self, fd: int, events: int) -> None:
        self._note("clear", fd, events)
        before = self._before("clear", fd, events)
        self._expect(before & events == events, f"clear {fd}: {events:#x} though it has {before:#x}")
        self.table[fd] = before & ~events

    def of(self, fd: int) -> list[tuple[str, int]]:
        """What was announced of one number, in order."""
        return [(what, events) for what, number, events in self.history if number == fd]

    def check(self) -> None:
        """Every announcement so far was possible."""
        assert self.faults == [], self.history

    def check_ended(self) -> None:
        """And nothing is left to be polled."""
        self.check()
        assert self.table == {}

    def _before(self, what: str, fd: int, events: int) -> int:
        self._expect(fd in self.table, f"{what} {fd}: it is not there")
        self._expect(events in (POLLIN, POLLOUT, POLLIN | POLLOUT), f"{what} {fd}: {events:#x}")
        return self.table.get(fd, 0)

    def _note(self, what: str, fd: int, events: int) -> None:
        self.history.append((what, fd, events))
        self.threads.add(threading.get_ident())
        try:
            os.fstat(fd)
        except OSError:
            self.faults.append(f"{what} {fd}: it is not open")

    def _expect(self, condition: bool, text: str) -> None:
        if not condition:
            self.faults.append(text)
