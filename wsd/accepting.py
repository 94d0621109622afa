"""The system calls that a connection takes once: accepting it, with all that the system says about it, and ending it.

In C where that was compiled (`wsd/_arrival.c`), else what stands here, which is what they do.  They say by a number
what a socket would say by an exception, and know descriptors only: an object of `socket.socket` costs more than the
calls, and most connections never need one.  Must not know who accepts, or what is done about an error.
"""

from __future__ import annotations

import errno
import socket

Address = tuple[str, int] | str
"""Host and port; of a Unix socket its path, empty where it has none."""


def accept_in_python(fd: int, wants_local: bool, /) -> tuple[int, Address | None, Address | None]:
    """Accept a connection, non-blocking and closed on exec.

    Args:
        fd: A listening stream socket.
        wants_local: Whether the address of our end is asked for.

    Answers its descriptor, the peer's address, and that of our end, or None; or -errno and twice None.
    """
    try:
        listener = socket.socket(fileno=fd)
        try:
            sock, address = listener.accept()
        finally:
            listener.detach()
        with sock:
            sock.setblocking(False)
            local = _named(sock.getsockname()) if wants_local else None
            return sock.detach(), _named(address), local
    except (OSError, ValueError) as error:
        return -_number(error), None, None


def _number(error: OSError | ValueError) -> int:
    """The errno; the module `socket` has an error of its own for a negative descriptor."""
    return errno.EBADF if isinstance(error, ValueError) else error.errno or errno.EIO


def _named(address: object) -> Address:
    if isinstance(address, tuple):
        return str(address[0]), int(address[1])
    # One in the abstract namespace comes as bytes, and counts as none.
    return address if isinstance(address, str) else ""


def shut_down_in_python(fd: int, /) -> int:
    """End our direction of a stream socket, so that the peer hears that no more comes; answers 0, or errno."""
    try:
        sock = socket.socket(fileno=fd)
        try:
            sock.shutdown(socket.SHUT_WR)
        finally:
            sock.detach()
    except (OSError, ValueError) as error:
        return _number(error)
    return 0


try:
    from wsd._arrival import accept, shut_down
except ImportError:
    accept, shut_down = accept_in_python, shut_down_in_python

__all__ = ["Address", "accept", "accept_in_python", "shut_down", "shut_down_in_python"]
