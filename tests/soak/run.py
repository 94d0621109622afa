"""The soak: a real daemon, the crowd, clients that are killed, reloads, and what the daemon is found to be at its end.

Owns the order of things, and the measuring.  What is good and bad about the results is in `verdict.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.soak import verdict
from tests.soak.verdict import Sample
from tests.support.ca import Authority
from tests.support.daemon import ECHO, ROOT, Site
from tests.support.memory import MIB, status_bytes
from tests.support.timing import MS, PATIENCE, wait_until

SAMPLE_SECONDS = 0.25
"""From one look at the daemon to the next."""
LINE_SECONDS = 10
RELOAD_SECONDS = 1.5
KILL_SECONDS = 2.5
SETTLE_SECONDS = 2000 * MS
"""How long a descriptor may be left when its connection is not: that of a command's, the last one's."""
KILLED_AT_ONCE = 20
"""Connections of a process that is killed."""

SHORT = 1000 * MS
CONFIGURATION = f"""
[timeouts]
# Short, so that each peer who is waited for is given up within the shortest run.
handshake_seconds = {5 * SHORT}
tls_handshake_seconds = {5 * SHORT}
close_seconds = {2 * SHORT}
http_idle_seconds = {5 * SHORT}
# Longer, since the good ones wait for their turn in a crowd.
slow_reader_seconds = {5 * SHORT}
[keepalive]
ping_seconds = {SHORT}
hangup_seconds = {5 * SHORT}
"""
LEVELS = 'levels = ["err", "warn", "notice", "info", "user"]'

ROOM = """
from wsd import Protocol


class Room(Protocol):
    name = "room"
    version = VERSION

    def on_message(self, wsi, message):
        self.broadcast(message)


protocols = [Room]
"""
BROKEN = "this is no Python\n"


class Result(NamedTuple):
    """What came out of it.

    Attributes:
        wrong: A line for each thing that is wrong; empty: it was a good soak.
        turns: How often each kind of turn was played.
        samples: The daemon's memory.
        counters: The daemon's own, at its end.
    """

    wrong: list[str]
    turns: dict[str, int]
    samples: list[Sample]
    counters: dict[str, int]


class Soak:
    """One run.

    Args:
        folder: Empty.
        say: Called with each line of the report.
        plugins: Sources in place of the usual ones, by name; then there are no reloads, which would replace them.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], plugins: dict[str, str]) -> None:
        self.folder = folder
        self.say = say
        self.site = Site(folder)
        self.authority = Authority(folder / "authority")
        issued = self.authority.issue(["localhost"])
        listen = 'port = 0\nprotocols = ["echo", "messages", "room"]\n'
        tls = f'[listen.tls]\ncertificate = "{issued.certificate}"\nprivate_key = "{issued.private_key}"\n'
        self.site.configure(log=LEVELS, listen=[listen, listen + tls], more=CONFIGURATION)
        for name, source in {**usual_plugins(), **plugins}.items():
            self.site.plugin(name, source)
        self.ports: list[str] = []
        self.is_reloaded = not plugins
        self.tally_file = folder / "tally"
        self.log = Tail(self.site.log)
        self.samples: list[Sample] = []
        self.refused_reloads = 0
        self.reloads = 0
        self.killed_connections = 0
        self.talkers: subprocess.Popen[str] | None = None
        self.began = 0.0

    def run(self, seconds: float, seed: int) -> Result:
        """Play for `seconds`, and a little longer until everybody has gone."""
        with self.site as site:
            pid = site.run()
            listeners = site.status()["listeners"]
            self.ports = [listener["address"].rstrip("/").rpartition(":")[2] for listener in listeners]
            before = len(descriptors(pid))
            crowd = self._start("play", str(seconds), str(seed), output=self.tally_file)
            try:
                self._watch(pid, crowd)
                self._kill_talkers()
            finally:
                end(crowd)
                if self.talkers is not None:
                    end(self.talkers)
            wrong = [f"the crowd ended with {crowd.returncode}"] if crowd.returncode else []
            wrong += self._settle(pid, before)
            status = site.status()
            assert site.process is not None
            site.process.send_signal(signal.SIGTERM)
            if code := site.wait_end():
                wrong.append(f"the daemon ended with {code}")
        return self._judge(status, wrong)

    def _start(self, command: str, *arguments: str, output: Path | None = None) -> subprocess.Popen[str]:
        """A process of the crowd, its standard output in a file or a pipe."""
        doors = [*self.ports, str(self.authority.certificate)]
        run = [sys.executable, "-m", "tests.soak.crowd", command, *doors, *arguments]
        with open(output or os.devnull, "w") as file:
            stdout = file if output else subprocess.PIPE
            return subprocess.Popen(run, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout, text=True)

    # -- while it goes on ---------------------------------------------------------------------------------------------

    def _watch(self, pid: int, crowd: subprocess.Popen[str]) -> None:
        """Sample, reload, kill and report until the crowd has gone."""
        self.began = time.monotonic()
        reloads = self._reloads(pid)
        due: dict[Callable[[], None], float] = {self._line: LINE_SECONDS, self._kill: KILL_SECONDS}
        if self.is_reloaded:
            due[lambda: next(reloads)] = RELOAD_SECONDS
        at = {deed: self.began + every for deed, every in due.items()}
        while True:
            try:
                crowd.wait(SAMPLE_SECONDS)
                return
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            assert self.site.process is not None
            if self.site.process.poll() is not None:
                raise AssertionError(f"the daemon has ended:\n{self.site.log.read_text()[-5000:]}")
            self.samples.append(Sample(now - self.began, status_bytes(pid, "VmRSS")))
            for deed, when in at.items():
                if when <= now:
                    deed()
                    at[deed] = now + due[deed]

    def _line(self) -> None:
        """How it is."""
        status, tally = self.site.status(), self.tally()
        counters = status["counters"]
        self.say(
            f"{self.samples[-1].seconds:5.0f} s: {status['connections']} connections of {counters['accepted']}, "
            f"{counters['bytes_received'] / MIB:.0f} MiB in, {counters['bytes_sent'] / MIB:.0f} MiB out, "
            f"{counters['protocol_errors']} violations, {counters['slow_readers']} slow readers, "
            f"{self.reloads} reloads; {len(descriptors(status['pid']))} descriptors, "
            f"{self.samples[-1].memory / MIB:.1f} MiB; {tally['wrong_count']} wrong"
        )

    def _reloads(self, pid: int) -> Iterator[None]:
        """A reload each time: nothing new, a new plugin and a new certificate, a plugin that is to be refused."""
        for version in itertools.count(1):
            self._reload(pid, "reload done")
            yield
            self.site.plugin("room", ROOM.replace("VERSION", str(version)))
            self.authority.issue(["localhost"])
            self._reload(pid, "reload done")
            yield
            sound = (self.site.plugins / "messages.py").read_text()
            self.site.plugin("messages", BROKEN)
            self.refused_reloads += 1
            self._reload(pid, "reload refused")
            self.site.plugin("messages", sound)
            yield

    def _reload(self, pid: int, answer: str) -> None:
        self.log.read()
        os.kill(pid, signal.SIGHUP)
        self.reloads += 1
        wait_until(lambda: any(answer in line for line in self.log.read()), 3 * PATIENCE, answer)

    def _kill(self) -> None:
        """Kill those who talk since the last time, in the middle of it, and have others come."""
        self._kill_talkers()
        self.talkers = self._start("talk", str(KILLED_AT_ONCE))

    def _kill_talkers(self) -> None:
        if self.talkers is not None:
            assert self.talkers.stdout is not None
            self.killed_connections += int(self.talkers.stdout.readline())
            end(self.talkers)

    def tally(self) -> dict[str, Any]:
        """The crowd's last line."""
        lines = self.tally_file.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        found: dict[str, Any] = json.loads(whole[-1]) if whole else {"wrong_count": 0}
        return found

    # -- when it is over ----------------------------------------------------------------------------------------------

    def _settle(self, pid: int, before: int) -> list[str]:
        """Wait until nobody is there and nothing is held; what is wrong with that."""
        try:
            wait_until(lambda: not self.site.status()["connections"], 3 * PATIENCE)
            wait_until(lambda: len(descriptors(pid)) <= before, SETTLE_SECONDS)
        except AssertionError:
            pass
        now = len(descriptors(pid))
        return [] if now == before else [f"{before} descriptors at the start, and {now} at the end"]

    def _judge(self, status: dict[str, Any], wrong: list[str]) -> Result:
        self.log.read()
        tally = self.tally()
        counters = status["counters"]
        lines = self.log.lines
        wrong = [
            *wrong,
            *(f"in the crowd: {line}" for line in tally["wrong"]),
            *verdict.judge_memory(self.samples),
            *verdict.judge_log(lines, self.refused_reloads),
            *verdict.judge_status(status),
            *verdict.judge_counters(counters, lines, tally["connected"] + self.killed_connections),
        ]
        return Result(wrong, tally["turns"], self.samples, counters)


class Tail:
    """A log that grows.

    Attributes:
        lines: Those that were read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self._at = 0

    def read(self) -> list[str]:
        """The whole lines that are new."""
        with self.path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._at += len(data)
        new = data.decode().splitlines()
        self.lines += new
        return new


def end(process: subprocess.Popen[str]) -> None:
    """Kill it, and let go of its output."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def usual_plugins() -> dict[str, str]:
    """The plugins that are served, by name."""
    return {
        "echo": (ROOT / "plugins" / "echo.py").read_text(),
        "messages": ECHO.format(name="messages"),
        "room": ROOM.replace("VERSION", "0"),
    }


def descriptors(pid: int) -> list[str]:
    """Those that a process has open."""
    return os.listdir(f"/proc/{pid}/fd")


def soak(
    folder: Path,
    seconds: float,
    *,
    say: Callable[[str], None] = print,
    seed: int | None = None,
    plugins: dict[str, str] | None = None,
) -> Result:
    """One run of so many seconds in an empty folder; without a seed each run is another one, and tells its own."""
    seed = random.randrange(1 << 32) if seed is None else seed
    say(f"soaking for {seconds:g} s; seed {seed}")
    result = Soak(folder, say, plugins or {}).run(seconds, seed)
    counters = result.counters
    first, last = result.samples[len(result.samples) // 2], result.samples[-1]
    say(
        f"{sum(result.turns.values())} turns, {counters['accepted']} connections; in the second half "
        f"{first.memory / MIB:.1f} to {last.memory / MIB:.1f} MiB, by the slope "
        f"{verdict.growth(result.samples) / 1024:+.0f} KiB"
    )
    for line in result.wrong:
        say(f"WRONG: {line}")
    return result
