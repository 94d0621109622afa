"""The process: one per pidfile, detached or not.

Owns the lock and the pidfile, the way into the background and the word back to the starter, and the standard streams.
Must not know the loop, listeners or plugins: `server` says when each step is due.

Whether a daemon runs is told by a POSIX lock on `<pidfile>.lock` and by nothing else.  The kernel drops it with its
process, however that ends, and names its holder (`F_GETLK`); the text of the pidfile is for people and scripts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wsd.errors import EXIT_RUNTIME, StartError

if TYPE_CHECKING:
    from daemon import DaemonContext

# struct flock as the kernel reads it: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = struct.Struct("@hhqqi4x")

# O_NONBLOCK: the open of a FIFO that lies in the lock's place must not wait for its other end.
_SAFE_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

GONE_SECONDS: Final = 1.0
"""How long a starter waits for the end of a daemon that has failed: whoever tries again at once must not find it still
holding the lock."""


# -- the lock ---------------------------------------------------------------------------------------------------------


def pidfile_path(configured: str) -> Path:
    """The pidfile: the configured one, else the place that fits who runs us.

    systemd names the folder that it made for the unit in RUNTIME_DIRECTORY; that the service's user is not root must
    not lead `wsd status`, run by root, to another place.
    """
    if configured:
        return Path(configured)
    if os.geteuid() != 0:
        for folder in (os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0], os.environ.get("XDG_RUNTIME_DIR")):
            if folder and os.path.isabs(folder):
                return Path(folder, "wsd.pid")
    return Path("/run/wsd/wsd.pid")


def lock_path(pidfile: Path) -> Path:
    """The file that carries the lock; it is never unlinked, or two daemons could each lock their own."""
    return pidfile.with_name(pidfile.name + ".lock")


def holder(pidfile: Path) -> int | None:
    """The pid of the daemon that holds `pidfile`'s lock; None if there is none, 0 if it cannot be named from here.

    0 is a holder in another PID namespace.  Never call this in the daemon itself: POSIX drops a process's locks on a
    file when it closes any descriptor of it.

    Raises:
        StartError: something that is no lock lies there, or it cannot be opened.
    """
    try:
        descriptor = _open_lock(lock_path(pidfile), os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"cannot tell whether a daemon runs: {lock_path(pidfile)}: {error.strerror}") from None
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(descriptor)
    kind, _, _, _, pid = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else max(pid, 0)


def wait_released(pidfile: Path, seconds: float) -> bool:
    """Wait until nobody holds the lock, for at most `seconds`; reports whether that came."""
    deadline = time.monotonic() + seconds
    while holder(pidfile) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)  # F_SETLKW would wait without polling, but not for a bounded time
    return True


def already_running(pid: int) -> StartError:
    """The refusal of a second start."""
    return StartError(f"already running, {name_pid(pid)}")


def name_pid(pid: int) -> str:
    """`pid 123`, or what is known where the number means nothing here."""
    return f"pid {pid}" if pid else "in another PID namespace"


def _open_lock(path: Path, flags: int) -> int:
    """A descriptor of the regular file `path`; anything else in its place is refused untouched."""
    _refuse_irregular(path)
    descriptor = os.open(
        path, flags | _SAFE_OPEN, 0o600
    )  # 0600: who can open it can lock it, and keep us from starting
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(path, "changed while it was opened")
    return descriptor


def _refuse_irregular(path: Path) -> None:
    """Raise StartError if something other than a regular file lies at `path`; a symbolic link is not followed."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # not there; or not to be seen, which the open that follows says better
    if not stat.S_ISREG(mode):
        raise _irregular(path, f"is {_kind(mode)}")


def _irregular(path: Path, what: str) -> StartError:
    return StartError(f"{path} {what}, where a regular file belongs; remove it, or choose another pidfile")


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a FIFO" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


class Pidfile:
    """The lock with the pidfile on top, as the context manager that python-daemon enters after its last fork.

    Args:
        path: The pidfile, absolute.
        owner: (uid, gid) of who the daemon becomes: a folder that is made for the pidfile is given to it, so that it
            can tidy up.
        optional: Without a writable folder go on without lock and pidfile (`absent` then says why).
    """

    def __init__(self, path: Path, owner: tuple[int, int] | None = None, *, optional: bool = False) -> None:
        self.path = path
        self.owner = owner
        self.optional = optional
        self.absent = ""
        self.stale = ""
        self._descriptors: list[int] = []
        self._owned_by = 0  # the pid of who has entered it and not left

    def check(self) -> None:
        """Refuse what `__enter__` would refuse, while there is still a terminal to say it on.

        Raises:
            StartError: a daemon holds the lock, or something other than a file lies in the way.
        """
        _refuse_irregular(self.path)
        _refuse_irregular(lock_path(self.path))
        try:
            pid = holder(self.path)
        except StartError:
            if self.optional:
                return
            raise
        if pid is not None:
            raise already_running(pid)

    def __enter__(self) -> Pidfile:
        try:
            self._make_folder()
            self._lock()
            self._write()
        except OSError as error:
            self._release()
            problem = f"cannot write {error.filename or self.path}: {error.strerror}"
            if not self.optional:
                raise StartError(f"{problem}; make its folder writable, or choose another pidfile") from None
            self.absent = problem
        except StartError:
            self._release()
            raise
        else:
            self._owned_by = os.getpid()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Remove the pidfile.  The lock stays until the process is gone: who finds it free finds nobody left."""
        if self.absent or self._owned_by != os.getpid():
            return  # without one; or in a process that the daemon has forked, whose end is not the daemon's
        self._owned_by = 0
        try:
            os.unlink(self.path)
        except OSError:
            # The folder is not ours any more since the drop of privileges; an empty file names no living process.
            os.ftruncate(self._descriptors[-1], 0)

    def _make_folder(self) -> None:
        folder = self.path.parent
        if folder.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True)
        if self.owner is not None and os.geteuid() == 0:
            with contextlib.suppress(OSError):  # root without CAP_CHOWN: `__exit__` knows what to do then
                os.chown(folder, *self.owner, follow_symlinks=False)

    def _lock(self) -> None:
        descriptor = _open_lock(lock_path(self.path), os.O_RDWR | os.O_CREAT)
        self._descriptors.append(descriptor)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise already_running(holder(self.path) or 0) from None

    def _write(self) -> None:
        """Write the pidfile, in place of a stale one: whoever left it does not hold the lock that we hold."""
        from lockfile import LockError
        from lockfile.pidlockfile import PIDLockFile

        _refuse_irregular(self.path)
        file = PIDLockFile(str(self.path))
        if file.is_locked():
            pid = _read_pid(self.path)
            self.stale = f"removed stale pidfile {self.path} ({f'pid {pid}' if pid else 'it named no pid'})"
            file.break_lock()
        try:
            file.acquire()  # O_CREAT | O_EXCL: a link that slipped in is not followed
        except LockError as error:
            cause = error.__context__
            raise OSError(getattr(cause, "errno", 0), getattr(cause, "strerror", str(error)), str(self.path)) from None
        self._descriptors.append(os.open(self.path, os.O_WRONLY | _SAFE_OPEN))

    def _release(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


def _read_pid(path: Path) -> int | None:
    """What a stale pidfile says; None for an empty one, for garbage, and where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _SAFE_OPEN)
        try:
            return int(os.read(descriptor, 32))
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return None


# -- into the background ----------------------------------------------------------------------------------------------


def mend_standard_streams() -> None:
    """Open /dev/null for each of stdin, stdout and stderr that the process was started without.

    Otherwise the next descriptor opened, a listener perhaps, would become "stderr", and python-daemon would find None
    where it asks for a descriptor.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, name) is None:
            stream = open(descriptor, "r" if descriptor == 0 else "w", closefd=False)  # noqa: SIM115 (for good)
            setattr(sys, name, stream)


def open_context(pidfile: Pidfile, *, detach: bool, umask: int, preserve: Iterable[int] = ()) -> DaemonContext:
    """Become the daemon: fork into the background if `detach`, close what was inherited, lock, write the pidfile.

    Sockets, the selector and the log are opened after this, since it closes every descriptor but `preserve`.

    Raises:
        StartError: the pidfile is refused, or the system refuses a step.
    """
    import daemon.daemon

    sys.stdout.flush()
    sys.stderr.flush()
    # python-daemon calls setgid() and setuid() even where they change nothing, and a system call filter without
    # @privileged (our unit's) answers EPERM.  It also drops incompletely; `drop_privileges` does it, after binding.
    daemon.daemon.change_process_owner = _keep_owner
    null = open(os.devnull, "r+b", buffering=0) if detach else None  # noqa: SIM115 (closed below, in the child)
    context = daemon.DaemonContext(
        detach_process=detach,  # its own guess fails on a closed stdin and under PID 1
        files_preserve=list(preserve),
        pidfile=pidfile,
        umask=umask,
        signal_map={},  # ours are set when there is a loop to hear them
        stdin=null or sys.stdin,
        stdout=null or sys.stdout,
        stderr=null or sys.stderr,
    )
    try:
        context.open()
    except daemon.daemon.DaemonError as error:
        raise StartError(f"cannot become a daemon: {error}") from error
    if null is not None:
        null.close()
    return context


def _keep_owner(uid: int, gid: int, initgroups: bool = False) -> None:
    """Stands in for python-daemon's `change_process_owner`."""


class Readiness:
    """The daemon's word to whoever started it: a pipe to the starter, or the terminal itself in the foreground.

    On the pipe: UTF-8 text, then a NUL, the exit status in decimal and a newline.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = descriptor
        self.is_done = False

    @property
    def is_detached(self) -> bool:
        return self.descriptor is not None

    def say(self, text: str) -> None:
        """A line for the terminal.  Nothing after `done`: the starter is gone."""
        if self.descriptor is None:
            print(text, file=sys.stderr, flush=True)
        elif not self.is_done:
            self._send(text.replace("\0", "") + "\n")

    def done(self, status: int) -> None:
        """Let the starter go, with its exit status: 0 when the daemon serves."""
        if self.is_done:
            return
        self.is_done = True
        if self.descriptor is not None:
            self._send(f"\0{status}\n")
            os.close(self.descriptor)

    def _send(self, text: str) -> None:
        assert self.descriptor is not None
        data = text.encode(errors="replace")
        try:
            while data:
                data = data[os.write(self.descriptor, data) :]
        except BrokenPipeError:
            pass  # the starter was interrupted; nobody is left to be told


def launch(serve: Callable[[Readiness], int]) -> int:
    """Run `serve` in a child and wait for its word; returns the exit status for this process, the starter.

    In the child this does not return.
    """
    word = fork_daemon("wsd", ": see `wsd status`")
    if isinstance(word, Readiness):
        sys.exit(serve(word))
    return word


def fork_daemon(name: str, hint: str = "") -> Readiness | int:
    """Fork.  The child gets the way to speak to its starter; the starter waits, and gets the exit status that is due.

    Args:
        name: The program's, which begins the starter's own lines.
        hint: Where somebody who interrupts the starter can look how it goes on.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        return Readiness(writer)
    os.close(writer)
    try:
        status = _relay(reader, name)
        os.waitpid(child, 0)  # python-daemon's first fork ended it long ago, or its failure did
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the daemon may still be starting{hint}", file=sys.stderr)
        return EXIT_RUNTIME
    finally:
        os.close(reader)
    return status


def _relay(reader: int, name: str) -> int:
    """Print what the daemon says until it is done; the exit status that it gave."""
    held = b""
    while b"\0" not in held or not held.endswith(b"\n"):
        data = os.read(reader, 4096)
        if not data:
            _print_error(held)
            print(f"{name}: the daemon ended before it was ready, without a word", file=sys.stderr)
            return EXIT_RUNTIME
        held += data
        if b"\0" not in held:  # whole lines at once, so that a slow start is seen
            lines, newline, held = held.rpartition(b"\n")
            _print_error(lines + newline)
    text, _, status = held.partition(b"\0")
    _print_error(text)
    return int(status)


def _print_error(text: bytes) -> None:
    sys.stderr.write(text.decode(errors="replace"))
    sys.stderr.flush()
