"""The selector as the service loop wants it.

Owns what differs from `selectors.EpollSelector`, and nothing of what the descriptors are for.
"""

from __future__ import annotations

import select
import selectors


class Poller(selectors.EpollSelector):
    """`EpollSelector` without what the loop does not need: it answers (descriptor, events) as epoll gave them, and a
    descriptor may be polled for nothing but errors (`modify` with no events raises in the original)."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll: select.epoll = self._selector  # type: ignore[attr-defined]
        self.count = 0

    def add(self, fd: int, mask: int) -> None:
        self._epoll.register(fd, mask)
        self.count += 1

    def change(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self.count -= 1

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait up to `timeout` seconds, None without end; epoll counts in milliseconds, so it is rounded up lest the
        loop spins through the last one."""
        wait = -1.0 if timeout is None else -(-timeout * 1000 // 1) / 1000
        try:
            return self._epoll.poll(wait, max(self.count, 1))
        except InterruptedError:
            return []
