"""The control socket: `wsd stop`, `reload` and `status` speak to a running daemon over it.

Owns both ends of a Unix stream socket beside the pidfile: one request as a JSON line, one answer as a JSON line.  Must
not know what the commands do: the daemon's end is given one function that answers them.

The socket has mode 0600, and the kernel names the process at the other end: only root and the daemon's own user are
answered, wherever the socket lies.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wsd import log
from wsd.errors import StartError
from wsd.transport import READ, WRITE

if TYPE_CHECKING:
    from wsd.context import Context
    from wsd.timers import Timer

Request = dict[str, Any]
Answer = dict[str, Any]

_REQUEST_BYTES: Final = 4096  # a command with room to spare
_ANSWER_BYTES: Final = 4 << 20  # status of thousands of listeners, or all that is wrong with a configuration
_CLIENTS: Final = 8  # a person and some scripts; more wait in the backlog
_CLIENT_SECONDS: Final = 5.0  # for a request to arrive and its answer to be taken: both ends are on this machine
_EXHAUSTED_SECONDS: Final = 0.1  # until the next try where no descriptor was free; as long as a listener waits


def control_path(pidfile: Path) -> Path:
    """`wsd.ctl` beside `wsd.pid`.  (`wsd.sock` is what operators call a listener.)"""
    return pidfile.with_name((pidfile.stem if pidfile.suffix == ".pid" else pidfile.name) + ".ctl")


# -- the daemon's end -------------------------------------------------------------------------------------------------


def bind(path: Path) -> socket.socket:
    """The listening control socket.  Only the holder of the pidfile's lock may call this: a socket there is stale.

    Raises:
        StartError: something other than a socket lies there, or the folder cannot be written.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        mode = stat.S_IFSOCK
    else:
        if stat.S_ISSOCK(mode):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{path} is no socket, but the control socket belongs there; remove it")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    # bind() makes the file with what the umask leaves; a chmod() afterwards would come after the first connect.
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(_CLIENTS)
    except OSError as error:
        listener.close()
        raise StartError(f"cannot bind the control socket {path}: {error.strerror or error}") from None
    finally:
        os.umask(umask)
    return listener


class Control:
    """Serves the control socket in the context's loop.

    Args:
        listener: From `bind`.
        answer: Called with each request; what it returns is sent.  An exception is answered as a failure.
    """

    def __init__(self, context: Context, listener: socket.socket, answer: Callable[[Request], Answer]) -> None:
        self._context = context
        self._listener = listener
        self._answer = answer
        self._path = listener.getsockname()
        self._clients: dict[int, _Client] = {}
        self._pause: Timer | None = None
        context.watch(listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """Hang up on everybody and remove the socket file, if the folder is still ours."""
        for client in list(self._clients.values()):
            client.close()
        if self._pause is not None:
            self._pause.cancel()
        self._context.unwatch(self._listener.fileno())
        self._listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _accept(self, mask: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            # Taken back by its client; or no descriptor is free, and a socket that nobody empties stays readable, so to
            # be told of it at once again would be a spin.
            self._context.set_interest(self._listener.fileno(), 0)
            self._pause = self._context.call_later(_EXHAUSTED_SECONDS, self._resume)
            return
        uid = peer_uid(connection)
        if uid not in (0, os.geteuid()):
            log.warn("control socket: uid %d was refused", uid)
            connection.close()
            return
        connection.setblocking(False)
        if len(self._clients) >= _CLIENTS:
            next(iter(self._clients.values())).close()  # the oldest: it had the most time
        self._clients[connection.fileno()] = _Client(self._context, connection, self._answer, self._clients)

    def _resume(self) -> None:
        self._pause = None
        self._context.set_interest(self._listener.fileno(), READ)


class _Client:
    """One client's end in the daemon: collects a line, sends the answer, hangs up."""

    def __init__(
        self,
        context: Context,
        connection: socket.socket,
        answer: Callable[[Request], Answer],
        others: dict[int, _Client],
    ) -> None:
        self._context = context
        self._connection = connection
        self._answer = answer
        self._others = others
        self._received = b""
        self._unsent = memoryview(b"")
        self._deadline = context.call_later(_CLIENT_SECONDS, self.close)
        context.watch(connection.fileno(), READ, self._on_events)

    def close(self) -> None:
        if self._connection.fileno() < 0:
            return
        self._deadline.cancel()
        del self._others[self._connection.fileno()]
        self._context.unwatch(self._connection.fileno())
        self._connection.close()

    def _on_events(self, mask: int) -> None:
        if self._unsent:
            self._send()
        else:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        if not data or len(self._received) > _REQUEST_BYTES:
            self.close()
        elif b"\n" in self._received:
            self._unsent = memoryview(json.dumps(self._reply()).encode() + b"\n")
            self._context.set_interest(self._connection.fileno(), WRITE)
            self._send()

    def _reply(self) -> Answer:
        try:
            request = json.loads(self._received.partition(b"\n")[0])
        except (ValueError, RecursionError):  # a thousand brackets are enough for that one
            request = None
        if not isinstance(request, dict):
            return {"ok": False, "exit": 2, "text": "a request is a JSON object on one line"}
        try:
            return self._answer(request)
        except Exception as error:  # a bug of ours must not end the loop
            log.err("control socket: %r raised %s: %s", request.get("command"), type(error).__name__, error)
            return {"ok": False, "exit": 1, "text": f"internal error: {type(error).__name__}: {error}"}

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            pass  # the client did not wait for it
        self.close()


def peer_uid(connection: socket.socket) -> int:
    """Who connected, as the kernel noted it (SO_PEERCRED, unix(7))."""
    ucred = struct.Struct("3i")  # pid, uid, gid
    return int(ucred.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size))[1])


# -- the commands' end ------------------------------------------------------------------------------------------------


class NoAnswer(Exception):
    """The daemon could not be asked, or did not answer in time; the text says which."""


def ask(path: Path, request: Request, seconds: float) -> Answer:
    """Send `request` to the daemon whose control socket is `path`, and wait at most `seconds` for its answer.

    Raises:
        NoAnswer: there is nobody, or no answer came.
    """
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.settimeout(seconds)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            received = b""
            while not received.endswith(b"\n"):
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                data = connection.recv(65536)
                received += data
                if not data or len(received) > _ANSWER_BYTES:
                    raise NoAnswer(f"{path}: hung up without an answer")
            answer = json.loads(received)
        except TimeoutError:
            raise NoAnswer(f"{path}: no answer within {seconds:g} s") from None
        except OSError as error:
            raise NoAnswer(f"{path}: {error.strerror or error}") from None
        except ValueError:
            raise NoAnswer(f"{path}: the answer is no JSON") from None
    if not isinstance(answer, dict):
        raise NoAnswer(f"{path}: the answer is no JSON object")
    return answer
