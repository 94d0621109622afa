"""The byte pipe of a plain descriptor: a pipe, FIFO, tty, eventfd or inotify; read and write, no socket calls.

Owns the system calls on it, what their errors mean, and its O_NONBLOCK, which belongs to everybody who has the same
open file: a shell whose terminal was left non-blocking reads its end of input.  Must not know wsi or the loop.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import termios
from struct import Struct
from typing import ClassVar, Final

from wsd.errors import PipeBroken
from wsd.syscalls import MAX_BUFFERS, RETRY
from wsd.transport import text_of

# Of an eventfd one number is written at a time; newer kernels refuse anything longer (eventfd(2)).
_EVENTFD_BYTES: Final = 8

_INT: Final = Struct("i")  # what the ioctl fills in


class _Blocking:
    """An open file that was blocking until we had it, and will be again when the last of our descriptors of it goes."""

    __slots__ = ("fds",)

    def __init__(self, fd: int) -> None:
        self.fds = {fd}


# The open files that we made non-blocking.
_changed: Final[list[_Blocking]] = []


class DescriptorPipe:
    """A descriptor that can be polled as a byte pipe; it is ours to close.

    Raises:
        ValueError: what cannot be polled, like a regular file, or is no descriptor.
    """

    __slots__ = ("_fd", "_is_eventfd", "_is_fifo", "_is_tty")

    is_direct: ClassVar[bool] = True
    tls: ClassVar[None] = None

    def has_pending(self) -> bool:
        """Nothing is kept here."""
        return False

    def __init__(self, fd: int) -> None:
        check_pollable(fd)
        self._fd = fd
        self._is_fifo = stat.S_ISFIFO(os.fstat(fd).st_mode)
        self._is_tty = os.isatty(fd)
        self._is_eventfd = name_of(fd) == "anon_inode:[eventfd]"
        _set_nonblocking(fd)

    def fileno(self) -> int:
        """The descriptor, or -1 once closed."""
        return self._fd

    def receive_into(self, buffer: bytearray) -> int:
        """As `SocketPipe.receive_into`.

        Raises:
            PipeBroken: the system refused; EBADF: it is open for writing only.
        """
        try:
            return os.readv(self._fd, [buffer])
        except OSError as error:
            if error.errno in RETRY:
                return -1
            if error.errno == errno.EIO and self._is_tty:
                return 0  # the end of a terminal that hung up, as its master sees it (pty(7) does not say so)
            raise PipeBroken(text_of(error)) from None

    def send(self, data: bytes | memoryview) -> int:
        """As `SocketPipe.send`.

        Raises:
            PipeBroken: nobody reads it any more, or it is open for reading only (EBADF).
        """
        if self._is_eventfd:
            data = data[:_EVENTFD_BYTES]
        try:
            return os.write(self._fd, data)
        except OSError as error:
            if error.errno in RETRY:
                return 0
            raise PipeBroken(text_of(error)) from None

    def send_many(self, buffers: list[bytes | memoryview]) -> int:
        """As `SocketPipe.send_many`; raises as `send`."""
        if self._is_eventfd:
            return self.send(buffers[0])
        try:
            return os.writev(self._fd, buffers[:MAX_BUFFERS])
        except OSError as error:
            if error.errno in RETRY:
                return 0
            raise PipeBroken(text_of(error)) from None

    def in_flight(self) -> int:
        """How many bytes the kernel took and nobody has read: of a pipe or a tty; elsewhere that cannot be asked,
        and is 0."""
        request = termios.TIOCOUTQ if self._is_tty else termios.FIONREAD if self._is_fifo else None
        if request is None:
            return 0
        try:
            answer = fcntl.ioctl(self._fd, request, bytes(_INT.size))
        except OSError:  # a terminal that hung up
            return 0
        return _INT.unpack(answer)[0]  # type: ignore[no-any-return]

    def shutdown_write(self) -> None:
        """Nothing: a descriptor has no half that could end before the other."""

    def close(self) -> None:
        """Give the descriptor back, and the open file as it was.  Linux has released it whatever it answers."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _restore(fd)
            with contextlib.suppress(OSError):
                os.close(fd)

    def error_text(self) -> str:
        """What a poll with POLLERR means on what is no socket: nobody has the other end open."""
        return "nobody reads it any more"


def check_pollable(fd: int) -> None:
    """Refuse what no poll can wait for.  The kernel is asked: /dev/null is a character device as a tty is one.

    Raises:
        ValueError: a regular file, a folder, a device that is always ready, no descriptor.
    """
    try:
        os.fstat(fd)  # before there is an epoll, which would get a number that is free
        with select.epoll() as epoll:
            epoll.register(fd, 0)
    except PermissionError:  # epoll_ctl(2): "EPERM The target file fd does not support epoll"
        raise ValueError(f"descriptor {fd} ({name_of(fd)}) cannot be polled: it is always ready") from None
    except OSError as error:
        raise ValueError(f"descriptor {fd}: {error.strerror}") from None


def name_of(fd: int) -> str:
    """What the kernel calls it: `/dev/pts/0`, `pipe:[4711]`, `anon_inode:inotify`."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # no /proc
        return f"descriptor {fd}"


# -- O_NONBLOCK -------------------------------------------------------------------------------------------------------


def _set_nonblocking(fd: int) -> None:
    if os.get_blocking(fd):
        os.set_blocking(fd, False)
        _changed.append(_Blocking(fd))
    else:
        for changed in _changed:
            if _is_same_file(fd, next(iter(changed.fds))):
                changed.fds.add(fd)


def _is_same_file(fd: int, other: int) -> bool:
    """Reports whether two non-blocking descriptors share one open file, as 0 and 1 of a shell do: O_NONBLOCK is the
    file's, so what is done to one is seen at the other.  (kcmp(2) would tell, and Python has no way to call it.)"""
    os.set_blocking(fd, True)
    try:
        return os.get_blocking(other)
    finally:
        os.set_blocking(fd, False)


def _restore(fd: int) -> None:
    for changed in _changed:
        if fd in changed.fds:
            changed.fds.remove(fd)
            if not changed.fds:
                _changed.remove(changed)
                os.set_blocking(fd, True)
            return
