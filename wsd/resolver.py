"""Names to addresses, without holding up the loop.

Owns the threads that wait in `getaddrinfo`, and the way back of what they found.  Must not know wsi or the loop: it is
given a function that rouses it, and the loop calls `deliver()`.

The C library's resolver is used since only it knows what the system's administrator has configured (hosts file, search
list, nsswitch).  It cannot be interrupted.  So nobody ever waits for one of its threads, neither `close()` nor the end
of the process: they are daemon threads, and what they find after that is dropped.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

# A name whose server does not answer holds its thread for half a minute (resolv.conf(5): 2 attempts of 5 s at each of
# 3 servers).  With so many of them at once the next name waits; more threads would only wait for the same server.
MAX_THREADS: Final = 8


class Address(NamedTuple):
    """Where a socket can be connected to or bound."""

    family: int
    sockaddr: tuple[Any, ...]
    """(host, port), with flow label and scope behind them for IPv6."""

    def __str__(self) -> str:
        host, port = self.sockaddr[:2]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"


Answer = list[Address] | OSError
"""The addresses of a name, best first (RFC 6724); or why there are none."""


class Lookup:
    """One wish to know the addresses of a name."""

    __slots__ = ("_done",)

    def __init__(self, done: Callable[[Answer], None]) -> None:
        self._done: Callable[[Answer], None] | None = done

    def cancel(self) -> None:
        """Never call back.  It takes no lock, so a signal handler may do this too."""
        self._done = None

    def finish(self, answer: Answer) -> None:
        """Call back, unless that was done or cancelled."""
        done, self._done = self._done, None
        if done is not None:
            done(answer)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for this."""
        return self._done is not None


class _Question(NamedTuple):
    """One name that is being asked for, and all who want to know it."""

    host: str
    port: int
    lookups: list[Lookup]


class Resolver:
    """Looks names up in threads, at most MAX_THREADS at once; each ends as soon as there is nothing left to ask.

    Args:
        rouse: Makes the loop call `deliver()` soon; called from any thread.
    """

    def __init__(self, rouse: Callable[[], None]) -> None:
        self._rouse = rouse
        self._lock = threading.Lock()  # held for a few instructions each time, and never while a name is looked up
        self._questions: dict[tuple[str, int], _Question] = {}  # being asked, or in _waiting
        self._waiting: deque[_Question] = deque()
        self._answers: deque[tuple[list[Lookup], Answer]] = deque()
        self._threads = 0
        self._is_closed = False

    def resolve(self, host: str, port: int, done: Callable[[Answer], None]) -> Lookup:
        """Find the TCP addresses of `host`.  `done` gets them from `deliver()`, never inside this call.

        Who asks for a name that is being looked up already shares the answer: a client that tries again and again
        while a name server is silent occupies one thread and not all of them.
        """
        lookup = Lookup(done)
        numeric = parse_numeric(host, port)
        with self._lock:
            if self._is_closed:
                return lookup
            if numeric is not None:
                self._post([lookup], [numeric])
                return lookup
            question = self._questions.get((host, port))
            if question is not None:
                question.lookups.append(lookup)
                return lookup
            question = self._questions[host, port] = _Question(host, port, [lookup])
            self._waiting.append(question)
            if self._threads >= MAX_THREADS:  # each of them looks for more before it ends
                return lookup
            self._threads += 1
        self._start_thread()
        return lookup

    def deliver(self) -> None:
        """Call back whoever has an answer; in the loop's thread."""
        for _ in range(len(self._answers)):
            lookups, answer = self._answers.popleft()
            for lookup in lookups:
                lookup.finish(answer)

    def close(self) -> None:
        """Call back nobody any more; threads that wait for a name server are left to themselves."""
        with self._lock:
            self._is_closed = True
            self._questions.clear()
            self._waiting.clear()
            self._answers.clear()

    def _post(self, lookups: list[Lookup], answer: Answer) -> None:
        """Note an answer for `deliver`.  Under the lock, so that nothing is roused that has been closed."""
        self._answers.append((lookups, answer))
        self._rouse()

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._work, name="wsd-resolver", daemon=True).start()
        except RuntimeError:  # no more threads for this process: those there are do the work, if there are any
            with self._lock:
                self._threads -= 1
                while self._waiting and not self._threads:
                    self._answer(self._waiting.popleft(), OSError(errno.EAGAIN, "no thread can be started to ask"))

    def _work(self) -> None:
        """A thread's life: one question after the other, and the end when there is none."""
        while (question := self._next()) is not None:
            answer = look_up(question.host, question.port)
            with self._lock:
                self._answer(question, answer)

    def _next(self) -> _Question | None:
        with self._lock:
            while self._waiting:
                question = self._waiting.popleft()
                if any(lookup.is_wanted for lookup in question.lookups):
                    return question
                del self._questions[question.host, question.port]
            self._threads -= 1
            return None

    def _answer(self, question: _Question, answer: Answer) -> None:
        if not self._is_closed:
            del self._questions[question.host, question.port]
            self._post(question.lookups, answer)


def parse_numeric(host: str, port: int) -> Address | None:
    """The address that `host` writes in numbers; None: it is a name.  Asks nobody."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return Address(found[0][0], found[0][4])


def look_up(host: str, port: int) -> Answer:
    """Ask the system for the addresses of `host`; takes as long as it takes, and raises nothing."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except OSError as error:
        return error
    except UnicodeError as error:  # a label that is empty or over 63 characters
        return socket.gaierror(socket.EAI_NONAME, f"not a host name: {error}")
    except Exception as error:  # a thread that dies would leave its askers waiting
        return OSError(errno.EINVAL, f"{type(error).__name__}: {error}")
    # A hosts file that names an address twice gives it twice.
    return list(dict.fromkeys(Address(family, sockaddr) for family, _, _, _, sockaddr in found))


def reason_of(error: OSError) -> str:
    """What an error of this file, or of a socket, says to people."""
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))
