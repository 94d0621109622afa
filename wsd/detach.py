"""A program of one's own as a daemon: in the background, one per pidfile, with a start that tells the truth.

Owns what `wsd start` and such a program do not share: where the program's own lines run, and how their failure reaches
the starter.  The lock, the pidfile, the forks and the word to the starter are those of `daemon`, the drop of privileges
is that of `privileges`.  Must not know contexts: whatever the program serves is its own affair.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from wsd import daemon as process
from wsd import log, privileges
from wsd.errors import EXIT_RUNTIME, StartError, WsdError

if TYPE_CHECKING:
    from _typeshed import HasFileno
    from daemon import DaemonContext


UMASK: Final = 0o027
"""Files that the daemon makes are for it and its group; the configuration's `daemon.umask` has the same default."""

_current: Daemonized | None = None  # what this process became


def daemonize(
    pidfile: str | os.PathLike[str],
    *,
    user: str = "",
    group: str = "",
    umask: int = UMASK,
    files_preserve: Iterable[int | HasFileno] = (),
    detach: bool = True,
) -> Daemonized:
    """Become a daemon.  Call it early, in a `with` statement; what it gives has `ready()`.

    From here on the program runs in the background: a child of a child, in a session of its own, in the folder `/`,
    standard streams on /dev/null, every other descriptor closed.  The process that called, the starter, waits for
    `ready()` and exits with status 0, without running any `finally` or `atexit`; if the program fails before that, the
    starter prints why on standard error and exits with status 1.  One that runs already refuses with its pid, a stale
    pidfile is replaced.  At the end of the block the pidfile is removed.

    A log that went to standard error goes to `log.emit_syslog` from then on, under the program's name; any other
    emitter is left.  Signal handlers are left as they are.  LWS: lws_daemonize.

    Args:
        pidfile: Where the pid is written; beside it lies the lock, which is what counts.  Its folder is made.
        user, group: Whom to become at `ready()`, or at `drop_privileges()`; names or numbers; takes root.
        umask: Permissions that the files it makes do not get.
        files_preserve: Descriptors, or what has a `fileno()`, that stay open.
        detach: False: the same in the foreground, under a service manager or to look for a mistake.  Standard streams
            stay, nobody waits, and failures after the start are exceptions as everywhere.

    Raises:
        SystemExit: with status 1 in the starter: it runs already, or cannot be had that way; standard error says why.
        RuntimeError: threads run, which a fork does not take along; or this process is such a daemon already.
    """
    global _current
    if _current is not None:
        raise RuntimeError("this process is a daemon already")
    if detach and threading.active_count() > 1:
        raise RuntimeError("threads run already, and the daemon would be without them; call daemonize() first")
    name = os.path.basename(sys.argv[0]) or "python"
    preserve = [item if isinstance(item, int) else item.fileno() for item in files_preserve]
    process.mend_standard_streams()
    try:
        account = privileges.find_account(user, group)
        privileges.check_may_become(account)
        lock = process.Pidfile(Path(pidfile).absolute(), (account.uid, account.gid) if account else None)
        lock.check()
    except StartError as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(EXIT_RUNTIME) from None
    readiness = _fork(name, lock.path) if detach else process.Readiness()
    _current = Daemonized(name, lock, account, readiness)
    _current._open(umask, preserve)
    return _current


def _fork(name: str, pidfile: Path) -> process.Readiness:
    """Go on in a child; the starter ends here."""
    word = process.fork_daemon(name)
    if isinstance(word, process.Readiness):
        return word
    if word:
        process.wait_released(pidfile, process.GONE_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(word)  # what the program would do at its end, the daemon does at its own


class Daemonized:
    """What `daemonize()` gives: this process, as the daemon that it became.  A context manager.

    Attributes:
        pidfile: Its path, absolute.
    """

    def __init__(
        self, name: str, lock: process.Pidfile, account: privileges.Account | None, readiness: process.Readiness
    ) -> None:
        self.pidfile = lock.path
        self._name = name
        self._lock = lock
        self._account = account
        self._readiness = readiness
        self._context: DaemonContext | None = None

    def say(self, text: str) -> None:
        """A line on the starter's standard error; after `ready()` nobody is there to read it, and it goes nowhere."""
        self._readiness.say(f"{self._name}: {text}")

    def drop_privileges(self) -> None:
        """Become `user` and `group`, wholly and for good; once all is bound and read that takes root.

        Raises:
            StartError: the system refuses.
        """
        account, self._account = self._account, None
        if account is not None:
            privileges.drop(account)

    def ready(self) -> None:
        """Say that the program serves: the starter exits with status 0.  Drops privileges before, if that is due.

        Raises:
            StartError: privileges could not be dropped.
        """
        self.drop_privileges()
        self._readiness.done(0)

    def close(self) -> None:
        """Remove the pidfile, and tell a starter that still waits that this came to nothing."""
        if self._readiness.is_detached and not self._readiness.is_done:
            self._fail("ended before it was ready")
        if self._context is not None:
            self._context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._readiness.is_detached:
            self._tell(error)
        self.close()

    def _open(self, umask: int, preserve: list[int]) -> None:
        """Detach, lock, write the pidfile; what fails here ends the process, after the starter was told."""
        _let_go_of_syslog()
        if self._readiness.descriptor is not None:
            preserve.append(self._readiness.descriptor)
        try:
            self._context = process.open_context(
                self._lock, detach=self._readiness.is_detached, umask=umask, preserve=preserve
            )
        except StartError as error:
            self._fail(str(error))
            raise SystemExit(EXIT_RUNTIME) from None
        if self._readiness.is_detached and log.emitter() in (log.emit_stderr, log.emit_stderr_journal):
            self._log_to_syslog()
        if self._lock.stale:
            self.say(self._lock.stale)
            if self._readiness.is_detached:
                log.warn("%s", self._lock.stale)

    def _log_to_syslog(self) -> None:
        """Standard error is /dev/null by now, and nobody wants a log there."""
        syslog = log.emit_syslog
        syslog.ident = self._name
        log.set_level(log.level(), syslog)
        syslog.flush()
        if not syslog.connected:
            self.say(f"no log: {syslog.socket_path}: {syslog.error}; it is tried again as it goes on")

    def _tell(self, error: BaseException) -> None:
        """What ended the block: to the starter, or to the log where the starter is gone."""
        if not self._readiness.is_done:
            self._fail(*_text_and_status(error))
        elif not isinstance(error, SystemExit):
            log.block(log.ERR, f"{self._name} ended", "".join(traceback.format_exception(error)))

    def _fail(self, text: str, status: int = EXIT_RUNTIME) -> None:
        for line in text.splitlines():
            self.say(line)
        self._readiness.done(status)


def _text_and_status(error: BaseException) -> tuple[str, int]:
    """What the starter prints for an exception, and how it exits: as Python would, but never with status 0."""
    if isinstance(error, SystemExit):
        if isinstance(error.code, int) and error.code:
            return "", error.code
        return str(error.code or "ended before it was ready"), EXIT_RUNTIME
    if isinstance(error, WsdError):
        return str(error), EXIT_RUNTIME
    return "".join(traceback.format_exception(error)), EXIT_RUNTIME


def _let_go_of_syslog() -> None:
    """Close the socket of a syslog emitter that has spoken already: its number is about to be somebody else's."""
    log.emit_syslog.close()
    emitter = log.emitter()
    if isinstance(emitter, log.Syslog):
        emitter.close()
