"""External polling: somebody else's loop polls, and is told what for.  LWS: LWS_EXTERNAL_POLL.

Owns what that loop has been told: an `Announcer` is to the service loop what a `Poller` is, but it calls hooks instead
of the system.  Must not know what the descriptors are for, nor which loop it is that listens.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Final

Tell = Callable[..., Any]
"""Calls one of protocol 0's hooks for descriptors: its name, then its arguments."""

# What the loop's functions know; POLLNVAL says that the other loop polls what we have closed.
_KNOWN: Final = select.POLLIN | select.POLLOUT | select.POLLERR | select.POLLHUP


class PollFd:
    """A descriptor, what it is polled for, and what it is ready for, in bits of `select.POLL*`.  LWS: struct pollfd."""

    __slots__ = ("events", "fd", "revents")

    def __init__(self, fd: int, events: int = 0, revents: int = 0) -> None:
        self.fd = fd
        self.events = events
        self.revents = revents

    def __repr__(self) -> str:
        return f"PollFd(fd={self.fd}, events={self.events:#x}, revents={self.revents:#x})"


class Announcer:
    """Tells what is to be polled, from `begin()` on; what was added before is told then.

    Args:
        tell: Calls a hook.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._masks: dict[int, int] = {}
        self._has_begun = False
        self._suspects: set[int] = set()  # of which no event has come yet

    def begin(self) -> None:
        """There is somebody to tell."""
        if not self._has_begun:
            self._has_begun = True
            for fd, mask in tuple(self._masks.items()):
                self._tell("on_add_poll_fd", fd, mask)

    def end(self) -> None:
        """Who was told goes away; what there is, is taken back."""
        if self._has_begun:
            self._has_begun = False
            for fd in tuple(self._masks):
                self._tell("on_del_poll_fd", fd)

    def add(self, fd: int, mask: int) -> None:
        self._masks[fd] = mask
        self._suspects.add(fd)
        if self._has_begun:
            self._tell("on_add_poll_fd", fd, mask)

    def change(self, fd: int, mask: int) -> None:
        before, self._masks[fd] = self._masks[fd], mask
        if self._has_begun:
            if mask & ~before:
                self._tell("on_set_mode_poll_fd", fd, mask & ~before)
            if before & ~mask:
                self._tell("on_clear_mode_poll_fd", fd, before & ~mask)

    def remove(self, fd: int) -> None:
        del self._masks[fd]
        self._suspects.discard(fd)
        if self._has_begun:
            self._tell("on_del_poll_fd", fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Raises RuntimeError: it is not ours to poll."""
        raise RuntimeError("this context does not poll: it was made with external_poll=True; use service_fd()")

    def checked(self, fd: int, events: int) -> int:
        """The events that may be believed.

        The other loop has polled, then serves one descriptor after the other; one that is closed meanwhile, by us or by
        others in that loop, gives its number away, and what it was ready for would be told to the new owner.  So the
        first event of each is looked at again.
        """
        if fd in self._suspects:
            self._suspects.discard(fd)
            poll = select.poll()
            poll.register(fd, self._masks[fd])
            events = dict(poll.poll(0)).get(fd, 0)
        return events & _KNOWN

    def close(self) -> None:
        """There is nothing that is ours."""
