"""The two system calls of the hot path, each with what surrounds it in one call: receive and parse, join and send.

In C where that was compiled (`wsd/_native.c`), else what stands here, which is what they do.  They say by a number what
`transport` says by an exception: an error is the rare case, and a frame of Python more per message is not nothing.
Must not know who reads, or what is done about an error.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from wsd.wire.fast import mask, parse

if TYPE_CHECKING:
    from wsd.wire.parser import Piece

# "Nothing now, come back": the two names that POSIX allows for it, and a signal in between.
RETRY: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})

# Linux takes at most this many buffers in one call (UIO_MAXIOV).
MAX_BUFFERS: Final = 1024

_read: Final = os.read

# Up to here, copying buffers into one costs less than the kernel's walk over a vector of them.
_JOIN_BYTES: Final = 32768


def receive_in_python(fd: int, buffer: bytearray, limit: int, most: int, pieces: list[Piece], /) -> tuple[int, int]:
    """Receive into `buffer` what is there, and take the plain frames at its front: `parse`, which has the arguments.

    Args:
        fd: A non-blocking stream socket.
        buffer: What came stands at its front afterwards, as far as no frame took it.

    Answers how many bytes came and how many of them the frames took.  The first is 0 at the end of the stream, -1 where
    nothing is there now, and for any other error -1 - errno; the second then is 0.

    Raises:
        ValueError: a negative number, or an empty buffer.
    """
    if limit < 0 or most < 0 or not buffer:
        raise ValueError("a negative number, or an empty buffer: nothing received would look like the end")
    try:
        # To bytes of its own: Python cuts these in half the time that a bytearray takes.
        data = _read(fd, len(buffer))
    except OSError as error:
        number = error.errno or errno.EIO
        return -1 if number in RETRY else -1 - number, 0
    received = len(data)
    taken = parse(data, received, limit, most, pieces)
    if taken != received:
        buffer[taken:received] = data[taken:]
    return received, taken


def receive_payload_in_python(fd: int, size: int, key: bytes, offset: int, /) -> bytes | int:
    """Receive what is there of one large frame's payload, straight into the object that a plugin gets.

    Args:
        fd: A non-blocking stream socket.
        size: Most bytes that are taken.
        key: What they are masked with; empty: nothing.
        offset: How far into the payload the first of them is.

    Answers them unmasked; where there are none, a number as `receive` does.

    Raises:
        ValueError: a negative number, a size of 0, or a key of another length.
    """
    if size < 1 or offset < 0 or len(key) not in (0, 4):
        raise ValueError("size is not positive, offset is negative, or a masking key is not 4 bytes")
    try:
        received = _read(fd, size)
    except OSError as error:
        number = error.errno or errno.EIO
        return -1 if number in RETRY else -1 - number
    if not received:
        return 0
    return mask(received, key, offset) if key else received


def send_in_python(fd: int, parts: list[bytes | memoryview], /) -> int:
    """Give the kernel what it takes of all parts, in order, with one call.

    Args:
        fd: A non-blocking stream socket.
        parts: What is to leave; it is not changed.

    Answers how many bytes were taken, 0 if none now, and for any other error -errno.

    Raises:
        TypeError: a part is neither bytes nor a memoryview.
    """
    if len(parts) == 1 and type(parts[0]) is bytes and parts[0]:
        vectors = parts
    else:
        if not all(isinstance(part, bytes | memoryview) for part in parts):
            raise TypeError("a part must be bytes or a memoryview")
        vectors = [part for part in parts if len(part)][:MAX_BUFFERS]
        if not vectors:
            return 0
    try:
        if len(vectors) > 1 and sum(map(len, vectors)) > _JOIN_BYTES:
            return os.writev(fd, vectors)
        return os.write(fd, b"".join(vectors) if len(vectors) > 1 else vectors[0])
    except OSError as error:
        number = error.errno or errno.EIO
        return 0 if number in RETRY else -number


try:
    from wsd._native import receive, receive_payload, send
except ImportError:
    receive, receive_payload, send = receive_in_python, receive_payload_in_python, send_in_python

__all__ = [
    "MAX_BUFFERS",
    "RETRY",
    "receive",
    "receive_in_python",
    "receive_payload",
    "receive_payload_in_python",
    "send",
    "send_in_python",
]
