"""Comparing passwords with their hashes, without holding up the loop.

Owns the threads that compute scrypt, the bounded queue before them, and what is remembered of those that were right.
Must not know wsi or the loop: it is given a function that rouses it, and the loop calls `deliver()`.

As in `resolver.py` nobody waits for a thread: what one finds after the end is dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from wsd.credentials import PasswordHash

# Each computes for a fifth of a second and holds 16 MiB meanwhile.  One processor is left to the loop.
MAX_THREADS: Final = 4

# Passwords that wait while all threads compute.  On a machine of two processors the last of them waits three seconds,
# within handshake_seconds; more would be answered when their clients have given up.
MAX_WAITING: Final = 16

# Passwords that were right and are not computed again, such as those of browsers, which show theirs with each request.
# Each costs some 150 bytes.
REMEMBERED: Final = 4096

# The threads step back where the processor is wanted by somebody else, the loop above all (nice(2)).
_NICENESS: Final = 10

Verdict = bool | None
"""Whether a password is right; None: that could not be computed."""


class Check:
    """One wish to know whether a password is right."""

    __slots__ = ("_done",)

    def __init__(self, done: Callable[[Verdict], None]) -> None:
        self._done: Callable[[Verdict], None] | None = done

    def cancel(self) -> None:
        """Never call back."""
        self._done = None

    def finish(self, verdict: Verdict) -> None:
        """Call back, unless that was done or cancelled."""
        done, self._done = self._done, None
        if done is not None:
            done(verdict)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for this."""
        return self._done is not None


class _Work(NamedTuple):
    """A password to be compared, and all who want to know."""

    mark: bytes
    stored: PasswordHash
    password: str
    checks: list[Check]


class Verifier:
    """Compares passwords in threads; each thread ends as soon as nothing waits.

    Args:
        rouse: Makes the loop call `deliver()` soon; called from any thread.
    """

    def __init__(self, rouse: Callable[[], None]) -> None:
        self._rouse = rouse
        self._lock = threading.Lock()  # held for a few instructions each time, and never while something is computed
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, None] = OrderedDict()  # the loop's alone
        self._works: dict[bytes, _Work] = {}  # being computed, or in _waiting
        self._waiting: deque[_Work] = deque()
        self._verdicts: deque[tuple[_Work, Verdict]] = deque()
        self._threads = 0
        self._max_threads = max(1, min(MAX_THREADS, len(os.sched_getaffinity(0)) - 1))
        self._is_closed = False

    def remembers(self, stored: PasswordHash, password: str) -> bool:
        """Reports whether that password was right not long ago; costs a microsecond."""
        mark = self._mark(stored, password)
        if mark not in self._remembered:
            return False
        self._remembered.move_to_end(mark)
        return True

    def verify(self, stored: PasswordHash, password: str, done: Callable[[Verdict], None]) -> Check | None:
        """Find out whether `password` is the one of `stored`.  `done` is told by `deliver()`, never inside this call.

        Who asks what is being computed already shares the verdict: a hundred clients of one name that come back after
        a restart cost one computation.  Answers None where too many wait: `done` is not called then.
        """
        check = Check(done)
        mark = self._mark(stored, password)
        with self._lock:
            if self._is_closed:
                return check
            work = self._works.get(mark)
            if work is not None:
                work.checks.append(check)
                return check
            if len(self._waiting) >= MAX_WAITING and not self._drop_unwanted():
                return None
            work = self._works[mark] = _Work(mark, stored, password, [check])
            self._waiting.append(work)
            if self._threads >= self._max_threads:  # each of them looks for more before it ends
                return check
            self._threads += 1
        self._start_thread()
        return check

    def deliver(self) -> None:
        """Tell whoever has a verdict; in the loop's thread."""
        for _ in range(len(self._verdicts)):
            work, verdict = self._verdicts.popleft()
            if verdict:
                self._remembered[work.mark] = None
                if len(self._remembered) > REMEMBERED:
                    self._remembered.popitem(last=False)
            for check in work.checks:
                check.finish(verdict)

    def close(self) -> None:
        """Tell nobody any more, and forget everything."""
        with self._lock:
            self._is_closed = True
            self._works.clear()
            self._waiting.clear()
            self._verdicts.clear()
            self._remembered.clear()

    def _mark(self, stored: PasswordHash, password: str) -> bytes:
        """What stands for a password and what it is compared with, to nobody but this process."""
        # The line's end is in neither part, so no two pairs are one text.  Of a changed password nothing is remembered.
        text = f"{stored.line}\n{password}".encode()
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    def _drop_unwanted(self) -> bool:
        """Make room by dropping what nobody waits for any more; reports whether there was such."""
        before, self._waiting = self._waiting, deque()
        for work in before:
            if any(check.is_wanted for check in work.checks):
                self._waiting.append(work)
            else:
                del self._works[work.mark]
        return len(self._waiting) < len(before)

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._work, name="wsd-verifier", daemon=True).start()
        except RuntimeError:  # no more threads for this process: those there are do the work, if there are any
            with self._lock:
                self._threads -= 1
                while self._waiting and not self._threads:
                    self._post(self._waiting.popleft(), None)

    def _work(self) -> None:
        """A thread's life: one password after the other, and the end when none waits."""
        with contextlib.suppress(OSError):  # a unit may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while (work := self._next()) is not None:
            verdict = compare(work.stored, work.password)
            with self._lock:
                self._post(work, verdict)

    def _next(self) -> _Work | None:
        with self._lock:
            while self._waiting:
                work = self._waiting.popleft()
                if any(check.is_wanted for check in work.checks):
                    return work
                del self._works[work.mark]
            self._threads -= 1
            return None

    def _post(self, work: _Work, verdict: Verdict) -> None:
        """Note a verdict for `deliver`.  Under the lock, so that nothing is roused that has been closed."""
        if not self._is_closed:
            del self._works[work.mark]
            self._verdicts.append((work, verdict))
            self._rouse()


def compare(stored: PasswordHash, password: str) -> Verdict:
    """Compute whether a password is right; raises nothing, since a thread that dies would leave its askers waiting."""
    try:
        return stored.matches(password)
    except Exception:  # no memory, or an OpenSSL that does not offer scrypt
        return None
