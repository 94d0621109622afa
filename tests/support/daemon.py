"""Real daemons for tests: a folder with a configuration and plugins, the commands of `wsd`, and their processes.

Every wait ends with the event that it is for; nothing sleeps for a guessed time.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.client import Client, connect
from tests.support.timing import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
WSD = (sys.executable, "-m", "wsd")

ECHO = """
from wsd import Protocol


class Echo(Protocol):
    name = "{name}"

    def on_message(self, wsi, message):
        wsi.send(message)


protocols = [Echo]
"""


def lock_holder(pidfile: Path) -> int | None:
    """Who holds the daemon's lock, from /proc/locks: not by the code under test."""
    try:
        inode = os.stat(f"{pidfile}.lock").st_ino
    except FileNotFoundError:
        return None
    for line in Path("/proc/locks").read_text().splitlines():
        match = re.match(r"\d+: POSIX +ADVISORY +WRITE (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ", line)
        if match and int(match[2]) == inode:
            return int(match[1])
    return None


class Site:
    """A place where a daemon can live, and the one that does; a context manager that leaves no process behind.

    Args:
        folder: Empty; gets `wsd.toml`, `plugins/` (with an `echo`), and `run/` for the pidfile.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "wsd.toml"
        self.plugins = folder / "plugins"
        self.pidfile = folder / "run" / "wsd.pid"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.plugins.mkdir()
        self.plugin("echo", ECHO.format(name="echo"))
        self.configure()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pid = lock_holder(self.pidfile)
        if pid and (self.process is None or pid != self.process.pid):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: lock_holder(self.pidfile) is None)
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    # -- what lies there --------------------------------------------------------------------------------------------

    def configure(
        self, *, daemon: str = "", log: str = "", listen: str | Sequence[str] = "port = 0", more: str = ""
    ) -> None:
        """Write the configuration; each argument is the lines of its table, `listen` those of one or of several."""
        listens = [listen] if isinstance(listen, str) else listen
        pidfile = "" if "pidfile" in daemon else f'pidfile = "{self.pidfile}"\n'
        tables = [f"[daemon]\n{pidfile}{daemon}", f"[log]\n{log}", '[plugins]\nfolders = ["plugins"]', more]
        self.config.write_text("\n".join([*tables, *(f"[[listen]]\n{text}" for text in listens)]) + "\n")

    def plugin(self, name: str, source: str) -> Path:
        path = self.plugins / f"{name}.py"
        path.write_text(source)
        return path

    # -- the commands -----------------------------------------------------------------------------------------------

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **(extra or {})}

    def wsd(self, *arguments: str, prefix: Sequence[str] = (), **options: Any) -> subprocess.CompletedProcess[str]:
        """Run one command on this configuration to its end."""
        command = [*prefix, *WSD, *arguments, "-c", str(self.config)]
        options.setdefault("env", self.environment())
        options.setdefault("timeout", 3 * PATIENCE)
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, **options)

    def run(self, *arguments: str, prefix: Sequence[str] = (), wait: bool = True, **options: Any) -> int:
        """`wsd run` in the foreground, its standard error in `log`; gives its pid once it listens."""
        options.setdefault("env", self.environment())
        command = [*prefix, *WSD, "run", "-c", str(self.config), *arguments]
        with self.log.open("wb") as log:
            options.setdefault("stderr", log)
            options.setdefault("stdout", log)
            self.process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, **options)
        if wait:
            wait_until(lambda: self.said("listening on") or self.process.poll() is not None)  # type: ignore[union-attr]
            assert self.process.poll() is None, self.log.read_text()
        return self.process.pid

    def start(self, **options: Any) -> int:
        """`wsd start`; gives the pid of the daemon."""
        done = self.wsd("start", **options)
        assert done.returncode == 0, done.stderr
        pid = lock_holder(self.pidfile)
        assert pid, "the start returned, and nobody holds the lock"
        return pid

    def status(self) -> dict[str, Any]:
        done = self.wsd("status", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer

    # -- the daemon -------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The TCP port of its first listener."""
        said = self.log.read_text() if self.process else ""
        match = re.search(r"listening on (?:wss?|tcp|tls)://127\.0\.0\.1:(\d+)", said)
        if match:
            return int(match[1])
        return int(self.status()["listeners"][0]["address"].rstrip("/").rpartition(":")[2])

    def connect(self, protocol: str = "echo") -> Client:
        return connect(self.port, protocol)

    def said(self, text: str) -> bool:
        """Reports whether the foreground daemon's log has `text`."""
        return text in self.log.read_text()

    def wait_said(self, text: str) -> None:
        wait_until(lambda: self.said(text), what=f"{text!r} in the log")

    def wait_end(self) -> int:
        """The exit status of the foreground daemon, once it ends."""
        assert self.process is not None
        return self.process.wait(PATIENCE)


def wait_gone(pid: int) -> None:
    """Wait until a process that is not our child is gone (or a zombie that somebody else has to bury)."""

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(is_gone, what=f"pid {pid} is gone")


def monotonic_usec() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
