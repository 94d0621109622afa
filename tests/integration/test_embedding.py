"""The programs that docs/embedding.md shows: each is run as a process and does what the page says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, connect
from tests.support.context import running
from tests.support.daemon import ROOT, lock_holder, wait_gone
from tests.support.timing import PATIENCE
from wsd import Protocol, Wsi, log

PAGE = ROOT / "docs" / "embedding.md"
PROGRAMS = {
    block.partition("\n")[0].removeprefix("# "): block
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
}

FREE_PORT = {"port=7681": "port=0"}


class Shown:
    """A program of the page, being run."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stdin is not None
        self.stdout, self.stdin = process.stdout, process.stdin

    def wait_port(self) -> int:
        line = self.stdout.readline()
        found = re.fullmatch(r"listening on ws://127\.0\.0\.1:(\d+)/\n", line)
        assert found, line or self.process.communicate()[1]
        return int(found[1])

    def end(self) -> str:
        """Its exit with status 0, which somebody has asked it for; what it said on standard error."""
        said = self.process.communicate(timeout=3 * PATIENCE)[1]
        assert self.process.returncode == 0, said
        return said


@contextlib.contextmanager
def shown(folder: Path, name: str, *arguments: str, instead: Mapping[str, str] = FREE_PORT) -> Iterator[Shown]:
    """Run the program of that name, with other words in the place of some."""
    source = PROGRAMS[name]
    for old, new in instead.items():
        source = source.replace(old, new)
    (folder / name).write_text(source)
    with subprocess.Popen(
        [sys.executable, str(folder / name), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Shown(process)
        finally:
            process.kill()


def echoes(client: Client) -> None:
    client.send_text("hello")
    assert client.receive_message() == "hello"


def tells_the_time(client: Client) -> None:
    for _ in range(2):
        assert re.fullmatch(r"\d\d:\d\d:\d\d", str(client.receive_message()))


@pytest.mark.parametrize(
    ("name", "protocol", "does"),
    [
        ("serve.py", "echo", echoes),
        ("polled.py", "echo", echoes),
        ("beside.py", "board", tells_the_time),
        ("clock.py", "board", tells_the_time),
    ],
)
def test_a_server_serves_until_it_is_told_to_stop(
    tmp_path: Path, name: str, protocol: str, does: Callable[[Client], None]
) -> None:
    with (
        shown(tmp_path, name, instead={**FREE_PORT, "1.0": "0.05"}) as program,
        connect(program.wait_port(), protocol) as client,
    ):
        does(client)
        program.process.send_signal(signal.SIGTERM)
        assert client.receive_close().close_code == 1001
        client.disconnect()
        assert program.end() == ""


def test_the_clock_lets_nobody_listen_for_ever(tmp_path: Path) -> None:
    with shown(tmp_path, "clock.py", instead={**FREE_PORT, "3600": "0.05"}) as program:
        with connect(program.wait_port(), "board") as client:
            close = client.receive_close()
            assert (close.close_code, close.close_reason) == (1000, "an hour is enough")


class Echo(Protocol):
    name = "echo"

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        wsi.send(message)


def test_the_client_asks_prints_and_ends(tmp_path: Path) -> None:
    with running([Echo()]) as served:
        with shown(tmp_path, "ask.py", instead={":7681": f":{served.port}"}) as program:
            assert program.stdout.read() == "hello\n"
            assert program.end() == ""
        port = served.port
    with shown(tmp_path, "ask.py", instead={":7681": f":{port}"}) as program:
        assert "refused" in program.end()


def test_standard_input_is_told_to_everybody(tmp_path: Path) -> None:
    with shown(tmp_path, "tell.py") as program, connect(program.wait_port(), "board") as client:
        program.stdin.write("hello\n")
        program.stdin.flush()
        assert client.receive_message() == "hello\n"
        program.stdin.close()
        assert client.receive_close().close_code == 1001
        client.disconnect()
        assert program.process.wait(3 * PATIENCE) == 0


def test_the_daemon_starts_once_and_stops(tmp_path: Path) -> None:
    pidfile = tmp_path / "gauge.pid"
    with shown(tmp_path, "gauge.py", str(pidfile)) as starter:
        said = starter.end()
    pid = lock_holder(pidfile)
    assert pid
    try:
        port = re.search(r"gauge\.py: listening on ws://127\.0\.0\.1:(\d+)/\n", said)
        assert port
        with connect(int(port[1]), "gauge") as one, connect(int(port[1]), "gauge") as two:
            one.send_text("42")
            assert (one.receive_message(), two.receive_message()) == ("42", "42")
        with shown(tmp_path, "gauge.py", str(pidfile)) as second:
            assert second.process.communicate(timeout=3 * PATIENCE)[1] == f"gauge.py: already running, pid {pid}\n"
            assert second.process.returncode == 1
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_gone(pid)
    assert not pidfile.exists()


def test_the_emitter_gets_what_is_on(tmp_path: Path) -> None:
    with shown(tmp_path, "listening.py") as program:
        lines: list[dict[str, Any]] = [json.loads(line) for line in program.stdout]
        said = program.end()
    assert lines == [
        {"level": log.USER, "line": "42 %"},
        {"level": log.DEBUG, "line": f"0000: {'81 02 68 69':<47}  ..hi"},
    ]
    assert re.fullmatch(r"\S+ \S+ WARN   from now on on standard error\n", said)


def test_each_program_of_the_page_is_run_here() -> None:
    source = Path(__file__).read_text()
    assert len(PROGRAMS) == 8
    assert [name for name in PROGRAMS if f'"{name}"' not in source] == []


def test_the_levels_of_the_page_are_those_there_are() -> None:
    rows = re.findall(r"^\| `log\.([A-Z]+)` \| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert [(name, int(bit)) for name, bit in rows] == [(name.upper(), bit) for name, bit in log.NAMES.items()]


def test_what_the_page_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE.read_text())
    assert len(links) > 5
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
