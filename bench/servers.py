"""The servers under load: how each is started, on the first core, and how one visit of the load generator is counted.

The load generator runs on the second core, so that the two share nothing but the loopback.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.building import BUILD, ROOT, certificate, load_generator, peer_command
from bench.processes import cpu_seconds, private_bytes
from bench.rows import PURE, WSD, Kind

# Below the ports that the kernel hands out to clients, each used once in a run: none waits for another's TIME_WAIT.
_ports = count(20_000)
# A server of Python takes up to a second to start; a machine may be busy.
_START_SECONDS = 20.0
# Between the opening of the connections and the measuring.
WARMUP_SECONDS = 0.3
# A server that uses less than a fiftieth of so long a time is done with what a visit left behind.
_QUIET_SECONDS = 0.05


class Failure(Exception):
    """A server or the load generator did not do what it is for."""


@cache
def cores() -> tuple[int, int]:
    """Where servers run; where the load comes from, and where we are: a server shares its core with nobody.

    Raises:
        Failure: there is only one.
    """
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        raise Failure("this takes two processor cores, one for the server and one for its load")
    os.sched_setaffinity(0, {mine[1]})
    return mine[0], mine[1]


def raise_descriptor_limit() -> int:
    """Let us and what we start have as many descriptors as we may; how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def popen(core: int, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """A process on one core."""
    return subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, {core}), **options)


def wsd_config(port: int, kind: Kind, more: str = "") -> Path:
    """A configuration as a user would write it: what is not needed is left at its default."""
    BUILD.mkdir(parents=True, exist_ok=True)
    text = f"""
[daemon]
pidfile = "wsd-{port}.pid"
[plugins]
folders = ["{ROOT / "plugins"}"]
[[listen]]
port = {port}
protocols = ["echo", "lws-mirror-protocol"]
"""
    if kind == "tls":
        public, private = certificate()
        text += f'[listen.tls]\ncertificate = "{public}"\nprivate_key = "{private}"\n'
    path = BUILD / f"wsd-{port}.toml"
    path.write_text(text + more)
    return path


def wsd_command(config: Path) -> list[str]:
    return [sys.executable, "-m", "wsd", "run", "-c", str(config)]


def environment(name: str, kind: Kind) -> dict[str, str]:
    """What a server finds in its environment."""
    found = {**os.environ, "PYTHONPATH": str(ROOT), "UVLOOP": "1"}
    # The last one would have wsd compiled at each start; where it was installed, it is compiled.
    for switch in ("WSD_PURE", "DEFLATE", "PYTHONDONTWRITEBYTECODE"):
        found.pop(switch, None)
    if name == PURE:
        found["WSD_PURE"] = "1"
    if kind == "deflate":
        found["DEFLATE"] = "1"
    return found


def free_port() -> int:
    """A port that nobody has."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Failure("no port is free")


@dataclass
class Visit:
    """What one visit of the load generator cost.

    Attributes:
        rate: Messages, or handshakes, in a second, as the client counted them.
        cpu_us: Processor time of the server for each of them, while the client measured.
        p99_us: Latency that 99 of 100 messages kept below.
        held: Private memory of the server with all connections open.
        before: The same before they were opened.
        bad: What went wrong, if anything did.
    """

    rate: float
    cpu_us: float
    p99_us: float
    opened: int
    held: int
    before: int
    bad: str


class Server:
    """One server that listens; a context manager.

    Args:
        name: wsd, wsd without its C functions, or a peer.
        more: What stands at the end of wsd's configuration.
        variables: More of the environment.

    Raises:
        Failure: it does not listen.
        Missing: it is not installed.
    """

    def __init__(self, name: str, kind: Kind, more: str = "", variables: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.kind = kind
        self.port = free_port()
        if name in (WSD, PURE):
            command = wsd_command(wsd_config(self.port, kind, more))
        else:
            command = [*peer_command(name), str(self.port)]
            if kind == "tls":
                command += map(str, certificate())
        self.log = BUILD / f"{name}-{self.port}.log"
        BUILD.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = popen(
                cores()[0],
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**environment(name, kind), **(variables or {})},
            )
        self.pid = self.process.pid
        try:
            wait_listening(self.port, self.process)
        except BaseException as error:  # Ctrl-C too: it must not stay behind
            self.kill()
            if isinstance(error, Failure):
                raise Failure(f"{name} does not listen on {self.port}; see {self.log}") from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it and its children at once; its log stays where it has something to tell."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        for path in BUILD.glob(f"wsd-{self.port}.*"):
            if path.suffix != ".log":
                path.unlink()
        if not self.log.stat().st_size:
            self.log.unlink()

    def visit(self, load: str, seconds: float, warmup: float = WARMUP_SECONDS) -> Visit:
        """Have the load generator at it for so long.

        Raises:
            Failure: the load generator ended without a result.
        """
        before = private_bytes(self.pid)
        with Load(self, load, seconds, warmup) as run:
            run.wait_begun()
            cpu, held = cpu_seconds(self.pid), private_bytes(self.pid)
            run.wait_ended()
            spent = cpu_seconds(self.pid) - cpu
            figures = run.figures()
        self.wait_quiet()
        failed, dropped, wrong = figures["failed"], figures["dropped"], figures["wrong"]
        bad = f"failed {failed}, dropped {dropped}, wrong {wrong}: {figures['first_failure']}"
        return Visit(
            figures["rate"],
            spent / max(figures["messages"], 1) * 1e6,
            figures["p99_us"],
            figures["opened"],
            held,
            before,
            bad if failed or dropped or wrong else "",
        )

    def wait_quiet(self) -> None:
        """Until it has closed what the load generator left: the next server shares its core.

        Ten thousand connections take `websockets` seconds.
        """
        deadline = time.monotonic() + _START_SECONDS
        spent, before = cpu_seconds(self.pid), -1.0
        while spent - before > _QUIET_SECONDS / 50 and time.monotonic() < deadline:
            time.sleep(_QUIET_SECONDS)
            before, spent = spent, cpu_seconds(self.pid)


class Load:
    """The load generator at work; a context manager that leaves none behind.

    Raises:
        Missing: it cannot be built.
    """

    def __init__(self, server: Server, load: str, seconds: float, warmup: float = WARMUP_SECONDS) -> None:
        program = load_generator(server.kind)
        options = f"--port {server.port} --seconds {seconds} --warmup {warmup} {load}"
        self.name = server.name
        self.process = popen(
            cores()[1], [str(program), *options.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_begun(self) -> None:
        """Until its connections are open and it measures."""
        self._wait("begin")

    def wait_ended(self) -> None:
        """Until it has measured."""
        self._wait("end")

    def _wait(self, word: str) -> None:
        for line in self.process.stderr or ():
            if line == f"{word}\n":
                return
        raise Failure(f"the load generator failed against {self.name}")

    def figures(self) -> dict[str, Any]:
        """What it counted."""
        figures: dict[str, Any] = json.loads(self.process.communicate()[0])
        return figures


def wait_listening(port: int, process: subprocess.Popen[Any]) -> None:
    """Until somebody can connect.

    Raises:
        Failure: nobody can, or the process has ended.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.001)
    raise Failure(f"nobody listens on {port}")
