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
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.interop.c_program import compile_with_libwebsockets
from tests.interop.tls import WHO, tls_tables
from tests.support import leftovers
from tests.support.ca import Authority, Issued
from tests.support.ports import free_port
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
        self._seen = 0
        """How much of the log belongs to tests that are over."""
        self._is_terminated = False
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
        leftovers.STANDING.add(self.process.pid)
        wait_until(self._answers, what="the daemon listens")

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    def read_log(self) -> str:
        """What it has logged in this test."""
        return self.log.read_bytes()[self._seen :].decode(errors="replace")

    def complaints(self) -> list[str]:
        """What it logged at ERR or WARN, but that it serves as root, which is how CI runs."""
        lines = self.read_log().splitlines()
        return [line for line in lines if re.search(" (ERR|WARN) |Traceback", line) and "serving as root" not in line]

    def check(self) -> None:
        """Nothing is wrong with it at the end of a test, be it ended or not; the next test's log begins here."""
        has_ended = self.has_ended
        assert not has_ended or self.stop() == 0, self.read_log()
        said = self.read_log()
        assert not self.complaints(), said
        self._seen += len(said.encode())

    def wait_log(self, text: str) -> None:
        wait_until(lambda: text in self.read_log(), what=f"{text!r} in the log")

    def wait_closed(self, protocol: str, code: int) -> None:
        """Wait until a connection of `protocol` has ended with `code`."""
        ended = re.compile(rf" {re.escape(protocol)}#\d+ \S+: closed, {code} ")
        wait_until(lambda: ended.search(self.read_log()), what=f"{protocol} closed with {code}")

    @property
    def has_ended(self) -> bool:
        """Reports whether it was asked to end, or has ended."""
        return self._is_terminated or self.process.poll() is not None

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        self._is_terminated = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it in order; gives its exit status."""
        self.terminate()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        leftovers.STANDING.discard(self.process.pid)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.read_log()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            return False
        return True


@pytest.fixture(scope="session")
def traffic_program(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program c/traffic.c, which speaks through libwebsockets."""
    target = tmp_path_factory.mktemp("c") / "traffic"
    return compile_with_libwebsockets(root / "tests" / "interop" / "c" / "traffic.c", target)


class Serving:
    """Daemons for the tests of a module: who asks for the same as an earlier test gets that one, if it still runs.

    Call it as `serve(["echo"], tables="...")`; with `alone=True` for one that nobody else has.
    """

    def __init__(self, make_folder: Callable[[], Path], root: Path) -> None:
        self._make_folder = make_folder
        self._root = root
        self._shared: dict[str, Daemon] = {}
        self._used: list[Daemon] = []
        """Those of the running test."""

    def __call__(
        self, protocols: list[str], tables: str = "", plugins: Mapping[str, str] | None = None, alone: bool = False
    ) -> Daemon:
        what = repr((protocols, tables, plugins))
        daemon = None if alone else self._shared.get(what)
        if daemon is None or daemon.has_ended:
            daemon = Daemon(self._make_folder(), self._root, protocols, tables, plugins)
            if not alone:
                self._shared[what] = daemon
        if daemon not in self._used:
            self._used.append(daemon)
        return daemon

    def end_test(self) -> None:
        """Each that the test had stops with status 0, unless another test may want it, and has not complained."""
        used, self._used = self._used, []
        try:
            for daemon in used:
                if daemon not in self._shared.values():
                    daemon.terminate()
                daemon.check()
        finally:
            for daemon in used:
                if daemon.has_ended:
                    daemon.kill()

    def end_module(self) -> None:
        self._used = list(self._shared.values())
        self._shared.clear()
        self.end_test()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Serving]:
    serving = Serving(lambda: tmp_path_factory.mktemp("daemon"), root)
    yield serving
    serving.end_module()


@pytest.fixture
def serve(serving: Serving) -> Iterator[Serving]:
    """A daemon of this module's, see `Serving`.  Each must stop with status 0 and without a complaint."""
    yield serving
    serving.end_test()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def localhost(authority: Authority) -> Callable[[Literal["ec", "rsa"]], Issued]:
    """Certificates for localhost, by the kind of their key; the daemons that share one would see it change."""
    return cache(lambda key: authority.issue(["localhost", "127.0.0.1"], key=key, file=f"localhost-{key}"))


@pytest.fixture
def serve_tls(serve: Serving, localhost: Callable[[Literal["ec", "rsa"]], Issued]) -> Callable[..., Daemon]:
    """Start a daemon with TLS and a certificate for localhost: `serve_tls("rsa", min_version="1.3")`, say, with options
    of [listen.tls].  It serves `who` (see tls.py) and the shipped plugins."""

    def start(key: Literal["ec", "rsa"] = "ec", *, alone: bool = False, **options: Any) -> Daemon:
        protocols = ["who", "echo", "dumb-increment-protocol", "lws-mirror-protocol"]
        return serve(protocols, tls_tables(localhost(key), **options), plugins={"who": WHO}, alone=alone)

    return start
