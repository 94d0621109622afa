"""A real daemon process for foreign peers to talk to."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.interop.c_program import compile_with_libwebsockets
from tests.interop.tls import WHO, tls_tables
from tests.support.ca import Authority
from tests.support.timing import PATIENCE, wait_until


class Daemon:
    """`wsd run` in the foreground, on a port of 127.0.0.1.

    Args:
        folder: Where its configuration, pidfile and log go.
        protocols: Those of its one listener.
        tables: Further text of the configuration; it begins inside the listener's table.
        plugins: Sources of plugins, by the name of their file without `.py`.
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        protocols: list[str],
        tables: str = "",
        plugins: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "wsd.log"
        config = folder / "wsd.toml"
        folders = [str(folder / "plugins"), str(root / "plugins")]
        (folder / "plugins").mkdir(exist_ok=True)
        for name, source in (plugins or {}).items():
            (folder / "plugins" / f"{name}.py").write_text(source)
        config.write_text(
            f"[daemon]\npidfile = {json.dumps(str(folder / 'wsd.pid'))}\n"
            '[log]\nlevels = ["err", "warn", "notice", "info", "user"]\n'
            f"[plugins]\nfolders = {json.dumps(folders)}\nentry_points = false\n"
            f'[[listen]]\ninterface = "127.0.0.1"\nport = {self.port}\nprotocols = {json.dumps(protocols)}\n{tables}'
        )
        command = [sys.executable, "-m", "wsd", "run", "-c", str(config)]
        with self.log.open("wb") as log:
            environment = {**os.environ, "PYTHONPATH": str(root)}
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=folder
            )
        wait_until(self._answers, what="the daemon listens")

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    def read_log(self) -> str:
        return self.log.read_text(errors="replace")

    def complaints(self) -> list[str]:
        """What it logged at ERR or WARN, but that it serves as root, which is how CI runs."""
        lines = self.read_log().splitlines()
        return [line for line in lines if re.search(" (ERR|WARN) |Traceback", line) and "serving as root" not in line]

    def wait_log(self, text: str) -> None:
        wait_until(lambda: text in self.read_log(), what=f"{text!r} in the log")

    def wait_closed(self, protocol: str, code: int) -> None:
        """Wait until a connection of `protocol` has ended with `code`."""
        ended = re.compile(rf" {re.escape(protocol)}#\d+ \S+: closed, {code} ")
        wait_until(lambda: ended.search(self.read_log()), what=f"{protocol} closed with {code}")

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it in order; gives its exit status."""
        self.terminate()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.read_log()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def traffic_program(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program c/traffic.c, which speaks through libwebsockets."""
    target = tmp_path_factory.mktemp("c") / "traffic"
    return compile_with_libwebsockets(root / "tests" / "interop" / "c" / "traffic.c", target)


@pytest.fixture
def serve(tmp_path: Path, root: Path) -> Iterator[Callable[..., Daemon]]:
    """Start a daemon: `serve(["echo"], tables="...")`.  Each must stop with status 0 and without a complaint."""
    daemons: list[Daemon] = []

    def start(protocols: list[str], tables: str = "", **options: Any) -> Daemon:
        folder = tmp_path / f"daemon{len(daemons)}"
        folder.mkdir(exist_ok=True)
        daemons.append(Daemon(folder, root, protocols, tables, **options))
        return daemons[-1]

    try:
        yield start
        for daemon in daemons:
            assert daemon.stop() == 0, daemon.read_log()
            assert not daemon.complaints(), daemon.read_log()
    finally:
        for daemon in daemons:
            daemon.kill()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def serve_tls(serve: Callable[..., Daemon], authority: Authority) -> Callable[..., Daemon]:
    """Start a daemon with TLS and a certificate for localhost: `serve_tls("rsa", min_version="1.3")`, say, with options
    of [listen.tls].  It serves `who` (see tls.py) and the shipped plugins."""

    def start(key: Literal["ec", "rsa"] = "ec", **options: Any) -> Daemon:
        files = authority.issue(["localhost", "127.0.0.1"], key=key, file=f"localhost-{key}")
        protocols = ["who", "echo", "dumb-increment-protocol", "lws-mirror-protocol"]
        return serve(protocols, tls_tables(files, **options), plugins={"who": WHO})

    return start
