"""System calls that fail: a socket like any other, whose calls do what a schedule says instead of what they should.

Owns which errors Linux documents for which call, and how a call fails as the kernel has it: what a connection says
after it was reset, whose connection an `accept` that fails has used up.  Must not know wsd but for the two places
where it calls the system without a socket's method, nor what is done with the sockets.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple
from unittest import mock

import wsd.connector
import wsd.descriptor
import wsd.listener
import wsd.transport
from wsd import syscalls
from wsd.accepting import accept, shut_down
from wsd.transport import close_descriptor, give_back, socket_at
from wsd.wire.fast import mask, parse


def _errnos(names: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(getattr(errno, name) for name in names.split()))


# ip(7) and tcp(7) hand on what ICMP and the retransmission timer told the socket; accept(2): "Linux accept() passes
# already-pending network errors on the new socket as an error code from accept()".
_NETWORK: Final = "ENETDOWN EPROTO ENOPROTOOPT EHOSTDOWN ENONET EHOSTUNREACH EOPNOTSUPP ENETUNREACH"

DOCUMENTED: Final[Mapping[str, tuple[int, ...]]] = {
    "accept": _errnos(
        "EAGAIN EBADF ECONNABORTED EFAULT EINTR EINVAL EMFILE ENFILE ENOBUFS ENOMEM ENOTSOCK EOPNOTSUPP EPERM EPROTO "
        f"ENOSR ESOCKTNOSUPPORT EPROTONOSUPPORT ETIMEDOUT {_NETWORK}"
    ),
    "recv": _errnos(
        f"EAGAIN EBADF ECONNREFUSED EFAULT EINTR EINVAL ENOMEM ENOTCONN ENOTSOCK ECONNRESET ETIMEDOUT EPIPE {_NETWORK}"
    ),
    "recv behind MSG_PEEK": _errnos("EAGAIN EBADF ECONNRESET EINTR EINVAL ENOMEM ENOTCONN ENOTSOCK ETIMEDOUT"),
    "send": _errnos(
        "EACCES EAGAIN EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINTR EINVAL EISCONN EMSGSIZE ENOBUFS ENOMEM "
        f"ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE EPERM ETIMEDOUT {_NETWORK}"
    ),
    "connect": _errnos(
        "EACCES EPERM EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNREFUSED EFAULT EINPROGRESS "
        "EINTR EISCONN ENETUNREACH ENOTSOCK EPROTOTYPE ETIMEDOUT EHOSTUNREACH ECONNRESET"
    ),
    "read": _errnos("EAGAIN EBADF EFAULT EINTR EINVAL EIO EISDIR"),
    "write": _errnos("EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC EPERM EPIPE"),
    "socket": _errnos("EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT"),
    "getsockopt": _errnos("EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK"),
    "setsockopt": _errnos("EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK ENOMEM ENOBUFS"),
    "getsockname": _errnos("EBADF EFAULT EINVAL ENOBUFS ENOTSOCK"),
    "getpeername": _errnos("EBADF EFAULT EINVAL ENOBUFS ENOTCONN ENOTSOCK"),
    "epoll_ctl": _errnos("ENOMEM ENOSPC"),
    "shutdown": _errnos("EBADF EINVAL ENOTCONN ENOTSOCK"),
    "ioctl": _errnos("EBADF EFAULT EINVAL ENOTTY"),
    "close": _errnos("EBADF EINTR EIO ENOSPC EDQUOT"),
}
"""By call, the errors of its manual page (section 2) and of ip(7) and tcp(7)."""

DOCUMENTED_LATER: Final = _errnos("ECONNREFUSED ETIMEDOUT EHOSTUNREACH ENETUNREACH ECONNRESET EACCES EPERM")
"""What SO_ERROR may say of a connect(2) that went on in the background."""

TRANSIENT: Final = frozenset({errno.EAGAIN, errno.EINTR})

# An accept(2) that fails so has taken the connection out of the queue all the same.
_USES_UP: Final = frozenset(_errnos(f"ECONNABORTED EPERM ETIMEDOUT {_NETWORK}"))


# How many faults are told of, where a test fails.
_SHOWN: Final = 10


class Errno(NamedTuple):
    """The call fails, and nothing was done."""

    number: int

    def __repr__(self) -> str:
        return errno.errorcode[self.number]


class Cut(NamedTuple):
    """The call moves no more than `size` bytes."""

    size: int


class End(NamedTuple):
    """The peer's stream seems to be at its end, here and from here on."""


class Later(NamedTuple):
    """What SO_ERROR says, though the call itself goes well."""

    number: int

    def __repr__(self) -> str:
        return f"SO_ERROR {errno.errorcode[self.number]}"


class Stuck(NamedTuple):
    """The socket has nothing and takes nothing any more, until the kernel gives the connection up."""


class Raises(NamedTuple):
    """The call raises what a library makes of its errors."""

    error: Exception


Effect = Errno | Raises | Cut | End | Later | Stuck


CUTS: Final = (Cut(1), Cut(2), Cut(13), Cut(1000))
"""In the middle of a frame's header, at its end, in the payload, and anywhere."""


def effects_of(call: str) -> list[Effect]:
    """Everything that may happen to a call, the sizes that it may be cut to among them."""
    effects: list[Effect] = [Errno(number) for number in DOCUMENTED[call]]
    if call in ("recv", "send"):
        effects += [*CUTS, Stuck()]
    if call in ("read", "write", "recv behind MSG_PEEK"):
        effects += CUTS
    if call == "recv":
        effects.append(End())
    if call == "getsockopt":
        effects += [Later(number) for number in DOCUMENTED_LATER]
    return effects


class Schedule:
    """What happens at which call of the sockets that it is in charge of.

    Args:
        effects: By the number of the call, from 0, what happens to it.  A number that an effect does not suit (a `Cut`
            of an `accept`) is left alone.
        choose: Makes an effect of a number and the name of the call, in place of `effects`.

    Attributes:
        calls: The name of every call so far.
        fired: What was done to which call: number, name, effect.
        sockets: Every socket that there was; all must be closed in the end.
        has_given_up: Whether the kernel has noticed that a peer is out of reach: what is stuck times out.
        is_armed: Whether calls count, and may fail; what is opened before that is left alone for good.
    """

    def __init__(
        self,
        effects: Mapping[int, Effect] | None = None,
        choose: Callable[[int, str], Effect | None] | None = None,
    ) -> None:
        self._choose = choose or (lambda number, call: (effects or {}).get(number))
        self.calls: list[str] = []
        self.fired: list[tuple[int, str, Effect]] = []
        self.sockets: list[FaultySocket] = []
        self.is_armed = False
        self.has_given_up = False

    def step(self, call: str, suits: tuple[type, ...] = (Errno,)) -> Effect | None:
        """A call is made: what happens to it, which is of one of the types `suits`, or nothing.

        Raises:
            OSError: it fails.
        """
        if not self.is_armed:
            return None
        number = len(self.calls)
        self.calls.append(call)
        effect = self._choose(number, call)
        if effect is None or not isinstance(effect, suits):
            return None
        self.fired.append((number, call, effect))
        if isinstance(effect, Errno):
            raise OSError(effect.number, os.strerror(effect.number))
        if isinstance(effect, Raises):
            raise effect.error.with_traceback(None)
        return effect

    def wrap(self, sock: socket.socket) -> FaultySocket:
        """The same open socket, in our charge."""
        return FaultySocket(self, sock.family, sock.type, sock.proto, sock.detach())

    def open(self, family: int, kind: int) -> FaultySocket:
        """What `socket.socket(family, kind)` is to the connector."""
        self.step("socket")
        return FaultySocket(self, family, kind)

    def socket_of(self, fd: int) -> FaultySocket | None:
        """Which of ours has that number; None: it is somebody else's."""
        return next((sock for sock in self.sockets if sock.fileno() == fd), None)

    @property
    def left_open(self) -> list[FaultySocket]:
        """The sockets that nobody has closed."""
        return [sock for sock in self.sockets if sock.fileno() >= 0]

    def __repr__(self) -> str:
        fired = [f"call {number} ({call}): {effect!r}" for number, call, effect in self.fired[:_SHOWN]]
        return ", ".join(fired) + ", ..." * (len(self.fired) > _SHOWN) or "no fault"


class FaultySocket(socket.socket):
    """A real socket, each of whose calls asks a schedule first."""

    def __init__(
        self, schedule: Schedule, family: int = -1, kind: int = -1, proto: int = -1, fileno: int | None = None
    ) -> None:
        super().__init__(family, kind, proto, fileno)
        self._schedule = schedule
        self._is_ours = schedule.is_armed
        self._is_dead = False  # it has told its one fatal error
        self._is_stuck = False
        self._listens = False
        schedule.sockets.append(self)

    @classmethod
    def listening(cls, schedule: Schedule, sock: socket.socket) -> FaultySocket:
        """A listening socket, which stays whole itself: only `accept` fails, while the schedule is armed."""
        door = schedule.wrap(sock)
        door._listens = True
        return door

    def step(self, call: str, *suits: type) -> Effect | None:
        """`Schedule.step`, where this socket is in its charge."""
        if not self._is_ours:
            return None
        return self._schedule.step(call, (Errno, *suits))

    def is_connected_to(self, address: Any) -> bool:
        """Reports whether this is the other end of the socket with that address; no fault befalls that."""
        try:
            return self.family != socket.AF_UNIX and bool(super().getpeername() == address)
        except OSError:
            return False

    # -- listening ----------------------------------------------------------------------------------------------------

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            self._schedule.step("accept")
        except OSError as error:
            if error.errno in _USES_UP:
                super().accept()[0].close()
            raise
        sock, address = super().accept()
        return self._schedule.wrap(sock), address

    # -- connected ----------------------------------------------------------------------------------------------------

    def recv_into(self, buffer: Any, *rest: Any) -> int:  # type: ignore[override]
        if self._is_dead:
            return 0
        size = self._moved("recv", len(buffer))
        return super().recv_into(memoryview(buffer)[:size]) if size else 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self._is_dead:
            return b""
        size = self._moved("recv" if flags & socket.MSG_PEEK else "recv behind MSG_PEEK", size)
        return super().recv(size, flags) if size else b""

    def send(self, data: Any, *rest: Any) -> int:
        self._check_alive()
        return super().send(memoryview(data)[: self._moved("send", len(data))])

    def sendmsg(self, buffers: Any, *rest: Any) -> int:
        self._check_alive()
        room = self._moved("send", sum(map(len, buffers)))
        some = []
        for buffer in buffers:
            some.append(memoryview(buffer)[:room])
            room -= len(some[-1])
        return super().sendmsg(some)

    def _check_alive(self) -> None:
        if self._is_dead:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def _moved(self, call: str, size: int) -> int:
        """How many of `size` bytes may move; raises what the schedule says, which is the end if it is fatal."""
        if self._is_stuck:
            if self._schedule.has_given_up:
                self._is_dead = True
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        try:
            effect = self.step(call, Cut, End, Stuck)
        except OSError as error:
            self._is_dead = error.errno not in TRANSIENT
            raise
        if isinstance(effect, Stuck):
            self._is_stuck = True
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if isinstance(effect, End):
            if call == "recv":
                self._is_dead = True
                return 0
            return size
        return _size(effect, size)

    def connect_ex(self, address: Any) -> int:
        try:
            self.step("connect")
        except OSError as error:
            if error.errno in (errno.EINPROGRESS, errno.EINTR):  # it goes on by itself
                super().connect_ex(address)
            return error.errno or 0
        return super().connect_ex(address)

    def getsockopt(self, *arguments: Any) -> Any:
        effect = self.step("getsockopt", Later)
        found = super().getsockopt(*arguments)
        return effect.number if isinstance(effect, Later) else found

    def setsockopt(self, *arguments: Any) -> None:
        self.step("setsockopt")
        super().setsockopt(*arguments)

    def setblocking(self, flag: bool) -> None:
        if not self._listens:
            self.step("ioctl")
        super().setblocking(flag)

    def getsockname(self) -> Any:
        if not self._listens:
            self.step("getsockname")
        return super().getsockname()

    def getpeername(self) -> Any:
        self.step("getpeername")
        return super().getpeername()

    def shutdown(self, how: int) -> None:
        self.step("shutdown")
        super().shutdown(how)

    def close(self) -> None:
        """Linux gives the descriptor back whatever it answers (close(2), "Dealing with error returns")."""
        was_open = self.fileno() >= 0
        super().close()
        if was_open and not self._listens:
            self.step("close")


class _Instead:
    """A module as another one sees it, with some names replaced."""

    def __init__(self, module: ModuleType, **names: Any) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def instead(module: ModuleType, **names: Any) -> Any:
    """`module`, with `names` in the place of its own."""
    return _Instead(module, **names)


def _size(effect: Effect | None, size: int) -> int:
    return min(size, effect.size) if isinstance(effect, Cut) else size


def _receive(schedule: Schedule, fd: int, buffer: bytearray, *rest: Any) -> tuple[int, int]:
    """`wsd.syscalls.receive` by way of the socket's own method, which asks the schedule."""
    sock = schedule.socket_of(fd)
    if sock is None:
        return syscalls.receive(fd, buffer, *rest)
    try:
        size = sock.recv_into(buffer)
    except OSError as error:
        number = error.errno or errno.EIO
        return -1 if number in TRANSIENT else -1 - number, 0
    return size, parse(buffer, size, *rest)


def _receive_payload(schedule: Schedule, fd: int, size: int, key: bytes, offset: int) -> bytes | int:
    """`wsd.syscalls.receive_payload`, likewise."""
    sock = schedule.socket_of(fd)
    if sock is None:
        return syscalls.receive_payload(fd, size, key, offset)
    buffer = bytearray(size)
    try:
        received = sock.recv_into(buffer)
    except OSError as error:
        number = error.errno or errno.EIO
        return -1 if number in TRANSIENT else -1 - number
    payload = bytes(buffer[:received])
    return (mask(payload, key, offset) if key else payload) or 0


def _send(schedule: Schedule, fd: int, parts: list[Any]) -> int:
    """`wsd.syscalls.send`, likewise."""
    sock = schedule.socket_of(fd)
    if sock is None:
        return syscalls.send(fd, parts)
    try:
        return sock.send(parts[0]) if len(parts) == 1 else sock.sendmsg(parts)
    except OSError as error:
        number = error.errno or errno.EIO
        return 0 if number in TRANSIENT else -number


def _accept(schedule: Schedule, fd: int, wants_local: bool) -> tuple[int, Any, Any]:
    """`wsd.accepting.accept`, likewise."""
    door = schedule.socket_of(fd)
    if door is None:
        return accept(fd, wants_local)
    try:
        sock, address = door.accept()
    except OSError as error:
        return -(error.errno or errno.EIO), None, None
    try:
        socket.socket.setblocking(sock, False)  # which the call does itself
        return sock.fileno(), address, sock.getsockname() if wants_local else None
    except OSError as error:
        give_back(sock)
        return -(error.errno or errno.EIO), None, None


def _shut_down(schedule: Schedule, fd: int) -> int:
    """`wsd.accepting.shut_down`, likewise."""
    sock = schedule.socket_of(fd)
    if sock is None:
        return shut_down(fd)
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _close(schedule: Schedule, fd: int) -> None:
    """`wsd.transport.close_descriptor`, likewise."""
    sock = schedule.socket_of(fd)
    if sock is None:
        close_descriptor(fd)
    else:
        give_back(sock)


@contextmanager
def in_charge(schedule: Schedule) -> Iterator[None]:
    """What is called without a socket's method asks the schedule too: the connector's `socket()`, the pipe's ioctl, all
    that is done to a plain descriptor."""

    def ioctl(sock: Any, *arguments: Any) -> Any:
        if isinstance(sock, FaultySocket):
            sock.step("ioctl")
        return fcntl.ioctl(sock, *arguments)

    def read(fd: int, buffers: Sequence[Any]) -> int:
        return os.readv(fd, [memoryview(buffers[0])[: _size(schedule.step("read", (Errno, Cut)), len(buffers[0]))]])

    def write(fd: int, data: Any) -> int:
        return os.write(fd, memoryview(data)[: _size(schedule.step("write", (Errno, Cut)), len(data))])

    def write_many(fd: int, buffers: Sequence[Any]) -> int:
        return write(fd, b"".join(buffers))

    def close(fd: int) -> None:
        os.close(fd)
        schedule.step("close")

    def ioctl_of_descriptor(fd: int, *arguments: Any) -> Any:
        schedule.step("ioctl")
        return fcntl.ioctl(fd, *arguments)

    with ExitStack() as stack:
        system = instead(os, readv=read, write=write, writev=write_many, close=close)
        stack.enter_context(mock.patch.object(wsd.descriptor, "os", system))
        stack.enter_context(mock.patch.object(wsd.descriptor, "fcntl", instead(fcntl, ioctl=ioctl_of_descriptor)))
        stack.enter_context(mock.patch.object(wsd.connector, "socket", instead(socket, socket=schedule.open)))
        stack.enter_context(mock.patch.object(wsd.transport, "fcntl", instead(fcntl, ioctl=ioctl)))
        stack.enter_context(mock.patch.object(wsd.transport, "receive", partial(_receive, schedule)))
        stack.enter_context(mock.patch.object(wsd.transport, "receive_payload", partial(_receive_payload, schedule)))
        stack.enter_context(mock.patch.object(wsd.transport, "send", partial(_send, schedule)))
        stack.enter_context(mock.patch.object(wsd.listener, "accept", partial(_accept, schedule)))
        stack.enter_context(mock.patch.object(wsd.transport, "shut_down", partial(_shut_down, schedule)))
        for module in (wsd.listener, wsd.transport):
            stack.enter_context(mock.patch.object(module, "close_descriptor", partial(_close, schedule)))
        stack.enter_context(
            mock.patch.object(wsd.transport, "socket_at", lambda fd: schedule.socket_of(fd) or socket_at(fd))
        )
        yield
