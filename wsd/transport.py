"""The plain byte pipe: a TCP or Unix socket, non-blocking.

Owns the system calls of one connection and what their errors mean; `errno` never leaves this file and `descriptor.py`,
which offers the same methods for what is no socket.  Must not know frames, wsi or the loop.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import termios
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from wsd.accepting import shut_down
from wsd.errors import PipeBroken
from wsd.syscalls import RETRY, receive, receive_payload, send

if TYPE_CHECKING:
    from wsd.config import Keepalive
    from wsd.tls_info import TlsInfo
    from wsd.wire.parser import Piece

# What a selector is asked for and tells, as epoll has it.
READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
BROKEN: Final = select.EPOLLERR
ERROR: Final = BROKEN | select.EPOLLHUP

# The longest that is looked at ahead: a whole PROXY header of version 1, or version 2 with addresses of any family
# (16 + 216 bytes) and room for what else it may say.
PEEK_BYTES: Final = 536

# Of what one read brought all are taken: as many as it can hold, of the smallest there are (6 bytes each).
MOST_FRAMES: Final = 1 << 16

_INT: Final = Struct("i")  # what the ioctl fills in


class Pipe(Protocol):
    """A byte pipe; what its methods mean is written at `SocketPipe`."""

    is_direct: ClassVar[bool]

    @property
    def tls(self) -> TlsInfo | None: ...

    def has_pending(self) -> bool: ...
    def fileno(self) -> int: ...
    def receive_into(self, buffer: bytearray) -> int: ...
    def send(self, data: bytes | memoryview) -> int: ...
    def send_many(self, buffers: list[bytes | memoryview]) -> int: ...
    def in_flight(self) -> int: ...
    def shutdown_write(self) -> None: ...
    def close(self) -> None: ...
    def error_text(self) -> str: ...


class IndirectPipe(Pipe, Protocol):
    """A byte pipe whose descriptor is ready for something else than the bytes are; see `tls.TlsPipe`."""

    has_changed: bool
    is_usual: bool  # its descriptor is ready as the bytes are, for now

    def interest(self, mask: int) -> int: ...
    def translate(self, mask: int) -> int: ...
    def take_settled(self) -> Callable[[], None] | None: ...
    def send_on(self, answer: int, number: int) -> int: ...


class SocketPipe:
    """A connected stream socket as a byte pipe.

    Args:
        sock: A socket, or the number of its descriptor, which does not block then.
    """

    __slots__ = ("_fd", "_sock")

    is_direct: ClassVar[bool] = True
    """Whether the descriptor is readable and writable when the bytes are; else the pipe is an `IndirectPipe`."""

    @property
    def tls(self) -> TlsInfo | None:
        """What was agreed on, where the bytes are encrypted on their way."""
        return None

    def has_pending(self) -> bool:
        """Reports whether there is something to receive though the descriptor may be quiet."""
        return False

    def __init__(self, sock: socket.socket | int) -> None:
        self._sock: socket.socket | None = None
        if isinstance(sock, int):
            self._fd = sock
            return
        if sock.gettimeout() != 0:  # else `prepare` has done it, where a failure can be handled
            sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()

    @property
    def sock(self) -> socket.socket:
        """The socket as an object, which most never need: it is made when it is first asked for.

        Raises:
            OSError: the pipe is closed.
        """
        if self._sock is None:
            if self._fd < 0:
                raise OSError(errno.EBADF, "closed")
            self._sock = socket_at(self._fd)
        return self._sock

    def fileno(self) -> int:
        """The descriptor, or -1 once closed."""
        return self._fd

    def receive_into(self, buffer: bytearray) -> int:
        """Read what is there: the number of bytes, 0 at the end of the stream, -1 when nothing is there now.

        Raises:
            PipeBroken: the connection was reset or timed out.
        """
        size, _ = receive(self._fd, buffer, 0, 0, [])
        if size < -1:
            raise PipeBroken(name_of_error(-1 - size))
        return size

    def receive_frames(self, buffer: bytearray, limit: int, pieces: list[Piece]) -> tuple[int, int]:
        """Hot: `receive_into`, and the plain frames at the front of what came are parsed in the same call.

        Args:
            limit: Most bytes that a frame may have.
            pieces: Gets them; see `wire.twin.parse`.

        Answers what `receive_into` does, and how many bytes these frames took.

        Raises:
            PipeBroken: the connection was reset or timed out.
        """
        answer = receive(self._fd, buffer, limit, MOST_FRAMES, pieces)
        if answer[0] < -1:
            raise PipeBroken(name_of_error(-1 - answer[0]))
        return answer

    def receive_payload(self, size: int, key: bytes, offset: int) -> bytes | int:
        """As of `syscalls.receive_payload`; a number is 0 at the end of the stream, -1 when nothing is there now.

        Raises:
            PipeBroken: the connection was reset or timed out.
        """
        answer = receive_payload(self._fd, size, key, offset)
        if isinstance(answer, int) and answer < -1:
            raise PipeBroken(name_of_error(-1 - answer))
        return answer

    def send(self, data: bytes | memoryview) -> int:
        """Give `data` to the kernel: how many bytes it took, 0 when it takes none now.

        Raises:
            PipeBroken: the peer is gone.
        """
        return self.send_many([data])

    def send_many(self, buffers: list[bytes | memoryview]) -> int:
        """Hot: give several buffers to the kernel in one call; answers and raises as `send`."""
        sent = send(self._fd, buffers)
        if sent < 0:
            raise PipeBroken(name_of_error(-sent))
        return sent

    def in_flight(self) -> int:
        """How many bytes the kernel took and the peer has not acknowledged, roughly; 0 where it does not tell."""
        try:
            answer = fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(_INT.size))
        except OSError:
            return 0
        return _INT.unpack(answer)[0]  # type: ignore[no-any-return]

    def shutdown_write(self) -> None:
        """Tell the peer that no more comes (FIN); a peer that is gone already is no error."""
        shut_down(self._fd)

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1  # the number may be somebody else's in a moment
        if self._sock is not None:
            give_back(self._sock)
        elif fd >= 0:
            close_descriptor(fd)

    def error_text(self) -> str:
        """What the kernel has noted against this socket, as text; empty if nothing."""
        try:
            number = error_of(self.sock)
        except OSError as error:
            return text_of(error)
        return name_of_error(number) if number else ""


class PeekPipe(SocketPipe):
    """A socket whose first bytes are looked at before it is known what they are for; nothing is received through it.

    Args:
        look: Gets what lies in the kernel, up to PEEK_BYTES, empty at the end of the stream; answers how many of these
            bytes are its own, which are taken out, and whether it has seen enough.  It must take all that it got unless
            it has: what is left lying is told of again and again.
        settled: Called once when it has, by whom the pipe belongs to: see `take_settled`.
    """

    is_direct = False
    is_usual = True

    __slots__ = ("_look", "_settled", "has_changed")

    def __init__(
        self, sock: socket.socket, look: Callable[[bytes], tuple[int, bool]], settled: Callable[[], None]
    ) -> None:
        super().__init__(sock)
        self._look = look
        self._settled: Callable[[], None] | None = settled
        self.has_changed = False

    def close(self) -> None:
        """Give the descriptor back; nobody is told any more of what lies there."""
        self._look, self._settled = _look_away, None  # whom they belong to knows the pipe again: a ring, as in TlsPipe
        super().close()

    def interest(self, mask: int) -> int:
        """As of a plain socket."""
        return mask

    def translate(self, mask: int) -> int:
        """As of a plain socket."""
        return mask

    def take_settled(self) -> Callable[[], None] | None:
        """Whom to tell that enough was seen, once it was; once."""
        settled, self._settled = self._settled, None
        return settled

    def receive_into(self, buffer: bytearray) -> int:
        """Look at what has come.  Answers -1: there is nothing for the owner; or 0 at the end of the stream.

        Raises:
            PipeBroken: the connection was reset or timed out.
        """
        try:
            peeked = self.sock.recv(PEEK_BYTES, socket.MSG_PEEK)
        except OSError as error:
            if error.errno in RETRY:
                return -1
            raise PipeBroken(text_of(error)) from None
        taken, self.has_changed = self._look(peeked)
        if taken:
            self._take(taken)
        return -1 if peeked or self.has_changed else 0

    def _take(self, size: int) -> None:
        """Take out what lies there; if it stayed, it would be looked at twice."""
        try:
            if len(self.sock.recv(size)) == size:
                return
        except OSError:
            pass
        raise PipeBroken("what was looked at cannot be read")


def _look_away(peeked: bytes) -> tuple[int, bool]:
    return 0, False


class Output:
    """What one connection has to say and the kernel has not taken yet.

    Everything that is put here in one turn leaves in one system call (cork).  `is_choked` is true from the moment the
    kernel refused bytes until it has taken all of them; only then is there any use in polling for writeability.
    """

    __slots__ = ("_pipe", "buffers", "is_choked", "size", "taken")

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.buffers: list[bytes | memoryview] = []  # what waits; who adds to it by himself adds to `size` too
        self.size = 0  # bytes waiting
        self.taken = 0  # bytes that the kernel took, ever
        self.is_choked = False

    def put(self, data: bytes | memoryview) -> None:
        """Add bytes; `data` must not change afterwards."""
        self.buffers.append(data)
        self.size += len(data)

    def flush(self) -> int:
        """Hot: send what is waiting, as far as the kernel takes it; answers how many bytes it took.

        Raises:
            PipeBroken: the peer is gone.
        """
        if not self.size:
            return 0
        sent = self._pipe.send_many(self.buffers)
        self.note_sent(sent)
        return sent

    def note_sent(self, sent: int) -> None:
        """The kernel took the first `sent` bytes of what was waiting."""
        self.taken += sent
        if sent == self.size:
            self.buffers.clear()
            self.size = 0
            self.is_choked = False
        else:
            self.is_choked = True
            self._drop(sent)

    def _drop(self, sent: int) -> None:
        """Forget the first `sent` bytes."""
        self.size -= sent
        whole = 0
        for buffer in self.buffers:
            if sent < len(buffer):
                break
            sent -= len(buffer)
            whole += 1
        del self.buffers[:whole]
        if sent:
            self.buffers[0] = memoryview(self.buffers[0])[sent:]


def set_keepalive(sock: socket.socket, time_seconds: float, probes: int, interval_seconds: float) -> None:
    """Have the kernel probe an idle peer (LWS: ka_time, ka_probes, ka_interval); `time_seconds` 0 leaves it off.

    Linux sends no probes while data is unacknowledged, so TCP_USER_TIMEOUT bounds that case by the same total.
    """
    if not time_seconds:
        return
    idle, interval = max(1, round(time_seconds)), max(1, round(interval_seconds))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, (idle + probes * interval) * 1000)


def bequeath(listener: socket.socket, keepalive: Keepalive) -> None:
    """Set on a listening socket what its connections are to have: Linux gives them a copy of these options, so that
    nobody has to call the system six times for each of them (`prepare`)."""
    if listener.family == socket.AF_UNIX:
        return
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive.time_seconds:
        set_keepalive(listener, keepalive.time_seconds, keepalive.probes, keepalive.interval_seconds)
    else:  # a reload may have switched it off
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)


def prepare(sock: socket.socket, keepalive: Keepalive) -> None:
    """Set what every connection has, most of it over TCP only.

    Raises:
        OSError: it is gone already.
    """
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        # A message is sent whole and now; Nagle would have the small ones wait for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_keepalive(sock, keepalive.time_seconds, keepalive.probes, keepalive.interval_seconds)


def error_of(sock: socket.socket) -> int:
    """What the kernel has noted against a socket, or why it does not say; 0 if nothing."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError as error:
        return error.errno or errno.EIO


def give_back(sock: socket.socket) -> None:
    """Close a socket.  Linux has released the descriptor whatever it answers (close(2))."""
    with contextlib.suppress(OSError):
        sock.close()


def socket_at(fd: int) -> socket.socket:
    """The socket that a descriptor is."""
    return socket.socket(fileno=fd)


def close_descriptor(fd: int) -> None:
    """As `give_back`, of a descriptor."""
    with contextlib.suppress(OSError):
        os.close(fd)


def text_of(error: OSError) -> str:
    """The system's name for what went wrong: ECONNRESET."""
    return name_of_error(error.errno) if error.errno else str(error)


def name_of_error(number: int) -> str:
    """The system's name for an errno."""
    return errno.errorcode.get(number, str(number))
