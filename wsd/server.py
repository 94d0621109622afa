"""The daemon from its configuration to its end: the order of start-up, signals, reload, status, stop.

Owns the order in which things happen and who is told.  How each is done is elsewhere: `daemon` (process), `assembly`
(protocols and listeners), `control` (socket), `systemd` (manager).

The order: refuse if locked, detach, lock and pidfile, bind, drop privileges, signals, load plugins and their options,
`on_protocol_init`, READY=1, loop.  What comes before the drop is what needs privileges, and nothing else.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from wsd import __version__, control, faults, log, privileges
from wsd import daemon as process
from wsd.assembly import Assembly, needed_again
from wsd.config import load
from wsd.context import Context
from wsd.errors import EXIT_RUNTIME, ConfigError, PluginError, StartError, WsdError
from wsd.systemd import Notifier
from wsd.transport import READ
from wsd.web import Http

if TYPE_CHECKING:
    from wsd.config import Config

# Beyond close_seconds, in which every peer may answer our Close: the time for the last turns and on_closed hooks.
STOP_MARGIN_SECONDS: Final = 2.0

# A second SIGTERM that finds the first unheard for so long means that a plugin blocks the loop.
_UNHEARD_SECONDS: Final = 1.0

_STATUS_SECONDS: Final = 10.0  # how often STATUS= is renewed where no watchdog timer does it
_SYSLOG_RETRY_SECONDS: Final = 1.0

_STOPPING: Final = {signal.SIGTERM, signal.SIGINT}


def run(config: Config, levels: int | None = None) -> int:
    """Serve in the foreground; returns the exit status.  `levels` overrides the configured log levels."""
    check_start(config, foreground=True)
    return _serve(config, process.Readiness(), levels)


def start(config: Config) -> int:
    """Serve detached; returns once the daemon listens, or has failed and said why on standard error."""
    check_start(config, foreground=False)
    status = process.launch(lambda readiness: _serve(config, readiness, None))
    if status:
        process.wait_released(pidfile(config, foreground=False).path, process.GONE_SECONDS)
    return status


def check_start(config: Config, *, foreground: bool) -> None:
    """Refuse what would only fail later, where nobody watches.

    Raises:
        ConfigError: the user or group is unknown.
        StartError: another daemon holds the lock, or we could not become the user.
    """
    account = privileges.resolve_account(config)
    privileges.check_may_become(account)
    pidfile(config, foreground=foreground).check()


def pidfile(config: Config, *, foreground: bool) -> process.Pidfile:
    account = privileges.resolve_account(config)
    owner = (account.uid, account.gid) if account else None
    return process.Pidfile(process.pidfile_path(config.daemon.pidfile), owner, optional=foreground)


def stop_seconds(config: Config) -> float:
    """How long a stop may take: every peer's closing deadline, and a margin."""
    closing = [config.timeouts.close_seconds]
    closing += [listen.timeouts.close_seconds or 0.0 for listen in config.listen]
    closing += [table.timeouts.close_seconds or 0.0 for table in config.protocols.values()]
    return max(closing) + STOP_MARGIN_SECONDS


def _serve(config: Config, readiness: process.Readiness, levels: int | None) -> int:
    """Everything from the detaching to the end; whatever ends it is said to the starter, and logged."""
    target = LogTarget(readiness, levels)
    try:
        _serve_or_raise(config, readiness, target)
        status = 0
    except (ConfigError, PluginError, StartError) as error:
        _tell(readiness, str(error))
        status = error.exit_status
    except Exception:
        import traceback

        _tell(readiness, f"this is a bug in wsd, please report it\n{traceback.format_exc()}")
        status = EXIT_RUNTIME
    target.close()
    readiness.done(status)
    return status


def _tell(readiness: process.Readiness, text: str) -> None:
    """What ended us: to the starter, and to the log where that is another place."""
    for line in text.splitlines():
        readiness.say(f"wsd: {line}")
        if readiness.is_detached:
            log.err("%s", line)


def _serve_or_raise(config: Config, readiness: process.Readiness, target: LogTarget) -> None:
    foreground = not readiness.is_detached
    lock = pidfile(config, foreground=foreground)
    account = privileges.resolve_account(config)
    preserve = [] if readiness.descriptor is None else [readiness.descriptor]
    with contextlib.ExitStack() as stack:
        umask = int(config.daemon.umask, 8)
        stack.enter_context(process.open_context(lock, detach=not foreground, umask=umask, preserve=preserve))
        target.open(config)
        log.notice("wsd %s, pid %d, %s", __version__, os.getpid(), config.path)
        if lock.absent:
            log.warn("%s; going on without a pidfile, and without `wsd stop`, `reload` and `status`", lock.absent)
        if lock.stale:
            log.warn("%s", lock.stale)
        server = Server(config, readiness, target)
        stack.callback(server.close)
        server.open(None if lock.absent else control.control_path(lock.path))
        become(account)
        privileges.prove_readable(needed_again(config))
        server.begin(lock)
        server.loop()


def become(account: privileges.Account | None) -> None:
    """Drop to the account; say it where root keeps what it has."""
    if account is not None:
        privileges.drop(account)
    if os.geteuid() == 0:
        log.warn("serving as root: set daemon.user, so that a plugin's bug is not root's")


# -- the log ----------------------------------------------------------------------------------------------------------


class LogTarget:
    """Sends the log where the configuration says, from the detaching on, and elsewhere when a reload changes that.

    Args:
        levels: In place of the configured ones, for once.
    """

    def __init__(self, readiness: process.Readiness, levels: int | None) -> None:
        self._readiness = readiness
        self._levels = levels
        self._syslog: log.Syslog | None = None
        self._context: Context | None = None

    def open(self, config: Config) -> None:
        """Log by `config` from now on."""
        old, self._syslog = self._syslog, None
        bits = log.parse_levels(config.log.levels) if self._levels is None else self._levels
        target = config.log.target
        if target == "auto":
            target = "syslog" if self._readiness.is_detached else "stderr"
        if target == "syslog":
            self._open_syslog(config.log.syslog_socket, bits)
        else:
            if self._readiness.is_detached:
                self._readiness.say(
                    'wsd: log.target = "stderr", and a detached daemon has none: nothing will be logged'
                )
            log.set_level(bits, log.emit_stderr_journal if is_journal() else log.emit_stderr)
        if old is not None:
            old.close()

    def close(self) -> None:
        """Send what can still be sent."""
        if self._syslog is not None:
            self._syslog.close()

    def serve(self, context: Context) -> None:
        """Have lines that syslog did not take sent later, by a timer that is there only while some wait."""
        self._context = context
        if self._syslog is not None and self._syslog.pending:
            self._retry_later()

    def _open_syslog(self, path: str, bits: int) -> None:
        syslog = self._syslog = log.Syslog(path)
        syslog.on_pending = self._retry_later
        log.set_level(bits, syslog)
        syslog.flush()
        if not syslog.connected:
            self._readiness.say(f"wsd: log.syslog_socket: {path}: {syslog.error}; it is tried again as it goes on")

    def _retry_later(self) -> None:
        if self._context is not None and not self._context.is_closed:
            self._context.call_later(_SYSLOG_RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        if self._syslog is not None and not self._syslog.flush():
            self._retry_later()


def is_journal() -> bool:
    """Reports whether standard error leads to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


# -- signals ----------------------------------------------------------------------------------------------------------


class Signals:
    """SIGTERM, SIGINT and SIGHUP as bytes on a descriptor of the loop: no Python code of ours runs between two others.

    The one exception is a second SIGTERM (or SIGINT) while a plugin holds the loop, so that nobody could read the
    first: `give_up` is called from the handler, and must not return.
    """

    def __init__(self, context: Context, handle: Callable[[set[int]], None], give_up: Callable[[], None]) -> None:
        self._context = context
        self._handle = handle
        self._give_up = give_up
        self._unheard_since: float | None = None
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        # A full buffer holds more signals than one turn tells apart; the rest may go.
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (*_STOPPING, signal.SIGHUP):
            signal.signal(number, self._note)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        context.watch(self._reader.fileno(), READ, self._readable)

    def close(self) -> None:
        """Hear no more signals: what comes from here on must not end us half way through our end."""
        for number in (*_STOPPING, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        if not self._context.is_closed:
            self._context.unwatch(self._reader.fileno())
        self._reader.close()
        self._writer.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number not in _STOPPING:
            return
        now = time.monotonic()
        if self._unheard_since is None:
            self._unheard_since = now
        elif now - self._unheard_since > _UNHEARD_SECONDS:
            self._give_up()

    def _readable(self, mask: int) -> None:
        """Take every signal that came; equal ones are one, which bounds a storm to one reload after this one."""
        numbers: set[int] = set()
        repeated = False
        with contextlib.suppress(BlockingIOError):
            while data := self._reader.recv(4096):
                repeated = repeated or sum(number in _STOPPING for number in data) > 1
                numbers.update(data)
        self._unheard_since = None
        self._handle(numbers)
        if repeated:
            self._handle(numbers & {int(number) for number in _STOPPING})


# -- the daemon -------------------------------------------------------------------------------------------------------


class Server:
    """A running daemon: a context, what it serves, and everybody who may tell it what to do."""

    def __init__(self, config: Config, readiness: process.Readiness, target: LogTarget) -> None:
        self.config = config
        self.readiness = readiness
        self.target = target
        self.context = Context([Http()], limits=config.limits, timeouts=config.timeouts, keepalive=config.keepalive)
        target.serve(self.context)
        self.assembly = Assembly(self.context, config)
        self.notifier = Notifier(os.environ)
        self.began = time.monotonic()
        self.channel: control.Control | None = None
        self.signals: Signals | None = None
        self.lock: process.Pidfile | None = None
        self.is_cut_short = False
        self._told = ""

    def open(self, channel: Path | None) -> None:
        """Bind everything: the control socket at `channel`, and the listeners.

        Raises:
            StartError: one of them cannot be bound.
        """
        if channel is not None:
            self.channel = control.Control(self.context, control.bind(channel), self.answer)
        self.assembly.bind()

    def begin(self, lock: process.Pidfile) -> None:
        """Listen to signals, load and initialise the plugins, and tell the starter and the manager.

        Raises:
            ConfigError, PluginError, StartError: what stops the start.
        """
        self.lock = lock
        # Before the first line that says we listen: a SIGHUP that somebody sends on reading it must not end us.  What
        # comes while plugins load is handled by the first turn.
        self.signals = Signals(self.context, self.handle, self.give_up)
        self.assembly.start()
        self.context.renew_limit()  # the listeners and the plugins have opened what they need
        log.notice("at most %s", self.context.connection_limit)
        self._print_addresses()
        self.notifier.ready(self.status_line())
        self.readiness.done(0)
        if self.notifier.is_active:
            self._sign_of_life()

    def loop(self) -> None:
        """Serve until a stop is over."""
        gc.enable()  # off since the command was read: `wsd.cli`
        # What the start has made is there to stay: a full pass of the cyclic collector need not go through it, and a
        # quarter of what there is with ten thousand connections is this, all of it with none.  docs/performance.md says
        # why the collector's thresholds are left alone.
        gc.freeze()
        context = self.context
        while not (self.is_cut_short or (context.stopping and not context.wsi_count)):
            context.service()
        log.notice("stopped")

    def close(self) -> None:
        """Let go of everything; what the start had not reached is not there to be closed."""
        gc.unfreeze()
        if self.channel is not None:
            self.channel.close()
        self.assembly.close()
        self.context.close()
        if self.signals is not None:
            self.signals.close()
        self.notifier.close()

    def _print_addresses(self) -> None:
        """Say where we listen to a person in front of a terminal who does not see the log's lines about it."""
        shown = log.is_on(log.NOTICE) and self.config.log.target != "syslog"
        if shown or self.readiness.is_detached:
            return
        for listener in self.context.listeners:
            print(f"wsd: listening on {listener.url}", flush=True)

    def _sign_of_life(self) -> None:
        """Tell the manager how we are, and do so again; a plugin that holds the loop stops this too."""
        seconds = self.notifier.watchdog_seconds
        if seconds:
            self.notifier.watchdog()
        line = self.status_line()
        if line != self._told:
            self._told = line
            self.notifier.status(line)
        self.context.call_later(seconds / 2 if seconds else _STATUS_SECONDS, self._sign_of_life)

    # -- being told -------------------------------------------------------------------------------------------------

    def handle(self, numbers: set[int]) -> None:
        """Do what the signals ask for."""
        if numbers & {int(number) for number in _STOPPING}:
            self.stop()
        elif signal.SIGHUP in numbers:
            self.reload()

    def answer(self, request: control.Request) -> control.Answer:
        """Answer one request on the control socket."""
        command = request.get("command")
        if command == "status":
            return {"ok": True, **self.status()}
        if command == "reload":
            failure = self.reload()
            if failure is None:
                return {"ok": True, "text": self.status_line()}
            return {"ok": False, "exit": getattr(failure, "exit_status", EXIT_RUNTIME), "text": str(failure)}
        if command == "stop":
            self.stop()
            return {"ok": True, "pid": os.getpid(), "seconds": stop_seconds(self.config)}
        return {"ok": False, "exit": 2, "text": f"no such command: {command!r}; there are status, reload, stop"}

    def stop(self) -> None:
        """Stop accepting, close everybody with 1001, and end when they are gone or at the deadline; twice: at once."""
        if self.context.stopping:
            log.notice("stopping at once: %d connections are cut", self.context.wsi_count)
            self.is_cut_short = True
            return
        log.notice("stopping: %d connections", self.context.wsi_count)
        self.notifier.stopping(self.status_line())
        self.context.stop(1001)
        self.context.call_later(stop_seconds(self.config), self._out_of_time)

    def _out_of_time(self) -> None:
        log.warn("%d connections did not close in time", self.context.wsi_count)
        self.is_cut_short = True

    def give_up(self) -> None:
        """End here and now, from a signal handler, below a plugin that does not return.

        No hook can run any more; the kernel closes the rest.  The pidfile is removed: a start need not wonder.
        """
        if self.lock is not None:
            self.lock.__exit__()
        with contextlib.suppress(OSError):
            os.write(2, b"wsd: ended by a second signal while a plugin held the loop\n")
        os._exit(EXIT_RUNTIME)

    def reload(self) -> WsdError | None:
        """Read everything again and serve it; or say what is wrong with it, log that, and go on as before."""
        if self.context.stopping:
            return StartError("the daemon is stopping")
        self.notifier.reloading()
        failure: WsdError | None = None
        try:
            self._reload()
        except WsdError as error:
            failure = error
        except Exception as error:  # the old configuration still serves
            faults.report_exception("reload", error)
            failure = StartError(f"this is a bug in wsd: {type(error).__name__}: {error}; see the log")
        for line in str(failure).splitlines() if failure else ():
            log.err("reload refused: %s", line)
        if failure is None:
            log.notice("reload done: %s", self.status_line())
        self.notifier.ready(self.status_line())
        return failure

    def _reload(self) -> None:
        config = load(self.config.path)
        gc.unfreeze()  # a class is a ring: of a plugin that this replaces nothing would ever go
        self.assembly.reload(config)
        old, self.config = self.config, config
        if config.log != old.log:
            self.target.open(config)

    # -- being asked --------------------------------------------------------------------------------------------------

    def status_line(self) -> str:
        context = self.context
        return f"{context.wsi_count} of {context.max_connections} connections, {len(context.listeners)} listeners"

    def _tls_library(self) -> str:
        """Which OpenSSL speaks TLS here, since updates of the system's do not reach it; empty if none is loaded."""
        if not self.assembly.renewal.status():
            return ""
        from wsd.tls import library

        return library()

    def status(self) -> dict[str, Any]:
        context = self.context
        return {
            "pid": os.getpid(),
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - self.began, 3),
            "config": str(self.config.path),
            "stopping": context.stopping,
            "connections": context.wsi_count,
            "max_connections": context.max_connections,
            "descriptors": context.connection_limit.as_dict(),
            "memory": {"held_bytes": context.memory.held, "limit_bytes": context.memory.limit},
            "listeners": self.assembly.listener_status(),
            "protocols": self.assembly.protocol_status(),
            "certificates": self.assembly.renewal.status(),
            "tls_library": self._tls_library(),
            "counters": context.counters.as_dict(),
        }
