"""From several addresses to one connected socket (RFC 8305, "Happy Eyeballs").

Owns the attempts of one connect: their order, how long one has before the next begins beside it, what the errors of
the system mean.  Must not know WebSockets or the deadline of the whole; who wants no more calls `cancel()`.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final

from wsd.errors import ConnectError
from wsd.resolver import Address, parse_numeric
from wsd.transport import WRITE, error_of, give_back, prepare

if TYPE_CHECKING:
    from wsd.context import Context
    from wsd.timers import Timer

# RFC 8305 section 8, "Connection Attempt Delay": "The recommended value is 250 ms."
ATTEMPT_DELAY_SECONDS: Final = 0.25

# What an attempt failed of, as a cause of ConnectError; any other error means that there is no way.
_CAUSES: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EMFILE: "limit",
    errno.ENFILE: "limit",
}

# Where the attempts failed differently, the cause that says most: a machine that refuses is there, one that is silent
# may be, and of no way at all there is one for each family that this machine does not have.
_MOST_TELLING: Final = ("refused", "reset", "timeout", "limit", "unreachable")

# The handshake goes on by itself; EINTR means the same to connect(2), unlike to all others.
_IN_PROGRESS: Final = frozenset({0, errno.EINPROGRESS, errno.EINTR})


class Connector:
    """Connects to the first of `addresses` that answers.

    Args:
        addresses: Best first, as a `Resolver` gives them.
        interface: An IP address to come from, or the name of a network device; empty: as the system decides.
        done: Gets the connected socket, or why there is none; once, and never inside this call.
    """

    def __init__(
        self,
        context: Context,
        addresses: Sequence[Address],
        interface: str,
        done: Callable[[socket.socket | ConnectError], None],
    ) -> None:
        self._context = context
        self._interface = interface
        self._source = _source(interface)
        self._untried = interleave(addresses)
        self._done = done
        self._attempts: dict[int, tuple[socket.socket, Address]] = {}  # under way, by descriptor
        self._losers: list[socket.socket] = []
        self._failures: list[tuple[Address, OSError]] = []
        self._timer: Timer | None = context.call_at(0, self._begin_next)

    @property
    def where(self) -> str:
        """The addresses that have not answered yet, for the text of a timeout."""
        return ", ".join(str(address) for _, address in self._attempts.values())

    def cancel(self) -> None:
        """Give every descriptor back and call nobody.  Not while a turn hands out events: see `_connected`."""
        self._stop()
        self._close_losers()

    def _stop(self) -> None:
        """End all attempts, and leave their descriptors in `_losers`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._untried.clear()
        for fd, (sock, _) in self._attempts.items():
            self._context.unwatch(fd)
            self._losers.append(sock)
        self._attempts.clear()

    def _close_losers(self) -> None:
        for sock in self._losers:
            give_back(sock)
        self._losers.clear()

    # -- the attempts ---------------------------------------------------------------------------------------------

    def _begin_next(self) -> None:
        """Begin one more attempt.  One that fails at once makes room for the next one at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._untried:
            address = self._untried.pop(0)
            try:
                self._begin(address)
            except OSError as error:
                self._failures.append((address, error))
                continue
            if self._untried:
                self._timer = self._context.call_at(ATTEMPT_DELAY_SECONDS, self._begin_next)
            return
        if not self._attempts:
            self._done(self._summary())

    def _begin(self, address: Address) -> None:
        """Begin to connect to one address.

        Raises:
            OSError: it failed already.
        """
        sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._prepare(sock)
            number = sock.connect_ex(address.sockaddr)
            if number not in _IN_PROGRESS:
                raise OSError(number, os.strerror(number))
            self._context.watch(sock.fileno(), WRITE, lambda mask: self._on_events(sock, address))
        except BaseException:
            give_back(sock)
            raise
        self._attempts[sock.fileno()] = sock, address

    def _prepare(self, sock: socket.socket) -> None:
        """Set what an accepted socket has too, and where it comes from."""
        prepare(sock, self._context.keepalive)
        if self._source is not None:
            if self._source.family != sock.family:
                raise OSError(errno.EADDRNOTAVAIL, f"not of one family with {self._interface}")
            sock.bind(self._source.sockaddr)
        elif self._interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._interface.encode())

    def _on_events(self, sock: socket.socket, address: Address) -> None:
        """The kernel has decided about an attempt."""
        number = error_of(sock)
        if not number and is_self_connected(sock):
            number = errno.ECONNREFUSED
        fd = sock.fileno()
        self._context.unwatch(fd)
        del self._attempts[fd]
        if not number:
            self._connected(sock)
            return
        give_back(sock)  # this turn has no more events for it
        self._failures.append((address, OSError(number, os.strerror(number))))
        self._begin_next()

    def _connected(self, sock: socket.socket) -> None:
        """The first wins.  The others are closed when this turn's events are all handed out: some may be theirs, and a
        number that is given back now may have a new owner then."""
        self._stop()
        if self._losers:
            self._context.call_soon(self._close_losers)
        self._done(sock)

    def _summary(self) -> ConnectError:
        """Why there is no connection: what happened at each address."""
        causes = {_CAUSES.get(error.errno or 0, "unreachable") for _, error in self._failures}
        cause = next(cause for cause in _MOST_TELLING if cause in causes)
        return ConnectError(cause, "; ".join(f"{address}: {error.strerror}" for address, error in self._failures))


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """The order of RFC 8305 section 4: the families alternate, beginning with that of the first address."""
    if not addresses:
        return []
    first = [address for address in addresses if address.family == addresses[0].family]
    others = [address for address in addresses if address.family != addresses[0].family]
    return [address for address in chain(*zip_longest(first, others)) if address is not None]


def is_self_connected(sock: socket.socket) -> bool:
    """Reports whether a socket is connected to itself.

    Where nobody listens on a port that the kernel gives to clients, a client of this machine may be given just that
    port, and TCP's simultaneous open then connects it to itself.  Who tries again and again meets that one day.
    """
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # reset since
        return False


def _source(interface: str) -> Address | None:
    """What to bind to; None where `interface` is no IP address."""
    try:
        ipaddress.ip_address(interface)
    except ValueError:
        return None
    return parse_numeric(interface, 0)
