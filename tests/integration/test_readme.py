"""The README is true: its commands are run, its texts are those of the files, and its tables are complete.

Each ```sh block is run as it stands, in order, in a fresh copy of the tree.  A first line says what is special:
`# needs systemd` is not run, `# stays in the foreground` (at the end of a command) goes on in the background, and
`# after Ctrl-C` ends that first.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_install import ENVIRONMENT, IGNORED
from tests.support.browser import browser
from tests.support.client import Client
from tests.support.ports import free_port
from tests.support.programs import require_program
from tests.support.timing import PATIENCE, wait_until
from wsd import log
from wsd.cli import cli

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody who follows the README in a copy of the tree, at a port that is free here."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "wsd"
        self.home = folder / "home"
        self.destdir = folder / "destdir"
        self.home.mkdir()
        shutil.copytree(ROOT, self.tree, ignore=IGNORED)
        self.port = free_port()
        # The machine may well run a wsd already, with the default port and the default pidfile.
        config = self.tree / "etc/wsd.toml"
        text = config.read_text().replace("\nport = 7681\n", f"\nport = {self.port}\n")
        config.write_text(text.replace('\npidfile = ""\n', f'\npidfile = "{folder}/run/wsd.pid"\n'))
        # DESTDIR: what is installed must not touch this machine.
        self.environment = {**ENVIRONMENT, "HOME": str(self.home), "DESTDIR": str(self.destdir)}
        self.foreground: subprocess.Popen[bytes] | None = None
        self.output = ""

    def follow(self, block: str) -> str:
        """Run one block; gives its output."""
        if block.startswith("# needs systemd"):
            return ""
        if block.startswith("# after Ctrl-C"):
            self.interrupt()
        script = block.replace("7681", str(self.port))
        if "# stays in the foreground" in block:
            self.start(script)
            return ""
        answer = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.tree,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert answer.returncode == 0, f"{block}\n{answer.stdout}{answer.stderr}"
        return answer.stdout

    def start(self, script: str) -> None:
        with (self.home / "foreground.log").open("wb") as output:
            self.foreground = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.tree,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that Ctrl-C reaches all of it and nothing else
            )
        wait_until(self.is_served, 30 * PATIENCE, "the first command of the README serves")

    def is_served(self) -> bool:
        assert self.foreground is not None
        assert self.foreground.poll() is None, (self.home / "foreground.log").read_text()
        try:
            Client(self.port).disconnect()
        except ConnectionRefusedError:
            return False
        return True

    def interrupt(self) -> None:
        """What Ctrl-C does: SIGINT to the whole group."""
        if self.foreground is not None:
            os.killpg(self.foreground.pid, signal.SIGINT)
            self.foreground.wait(PATIENCE)
            self.foreground = None


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.interrupt()


def test_from_install_to_ones_own_plugin_in_a_browser(reader: Reader, tmp_path: Path) -> None:
    require_program("curl", package="curl")
    require_program("systemd-analyze", package="systemd")
    outputs = {}
    for block in BLOCKS:
        outputs[block] = reader.follow(block)
        if "new-plugin" in block:
            talk_to_hello(reader, tmp_path)
    together = "".join(outputs.values())
    assert '"chat"' in together  # /protocols.json
    assert "hello" in together
    assert "1 passed" in together
    assert "pid " in together  # status
    assert (reader.destdir / "opt/wsd/bin/wsd").is_symlink()
    # The exposure that the README tells is the one that is measured.
    told = re.search(r"an exposure of \*\*([\d.]+)\*\*", README)
    measured = re.search(r"exposure level for wsd.service: ([\d.]+)", together)
    assert told is not None
    assert measured is not None
    assert told[1] == measured[1]
    assert float(measured[1]) <= 2.0


def talk_to_hello(reader: Reader, folder: Path) -> None:
    """What the README says to do in the browser."""
    profile = folder / "browser"
    profile.mkdir()
    with browser(profile) as page:
        page.open(f"http://127.0.0.1:{reader.port}/")
        page.wait_for("#counter-state", "^open$")
        page.choose("#console-protocol", "hello")
        page.click("#console-connect")
        page.wait_for("#console-state", "^open: hello$")
        page.type("#console-text", "my first message")
        page.click("#console-send")
        page.wait_for("#console-log", "1: 'my first message'")
        assert page.complaints() == []


def test_nothing_is_left_out_but_what_needs_systemd() -> None:
    """The marks are few: who adds one has to think twice."""
    assert len(BLOCKS) >= 8
    assert sum(block.startswith("# needs systemd") for block in BLOCKS) == 1
    assert sum("# stays in the foreground" in block for block in BLOCKS) == 1
    assert sum(block.startswith("# after Ctrl-C") for block in BLOCKS) == 1


def test_the_plugin_shown_is_the_one_shipped() -> None:
    shown = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert shown == [(ROOT / "plugins/chat.py").read_text()]


def test_the_configuration_shown_is_accepted(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/wsd.toml").write_text(shown)
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins", ignore=IGNORED)
    tmp_path.chmod(0o755)
    command = [sys.executable, "-m", "wsd", "check", "-c", str(tmp_path / "etc/wsd.toml")]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    warnings = [line for line in answer.stderr.splitlines() if "serve as root" not in line]
    assert not warnings


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_is_in_the_table(command: str) -> None:
    assert f"\n| `wsd {command}` |" in README


@pytest.mark.parametrize("level", sorted(log.NAMES))
def test_every_level_is_in_the_table(level: str) -> None:
    assert re.search(rf"^\|.*`{level}`.*\|.*\|$", README, re.MULTILINE)


@pytest.mark.parametrize("document", ["README.md", "docs/design.md", "docs/plugins.md", "CHANGELOG.md"])
def test_links_lead_somewhere(document: str) -> None:
    file = ROOT / document
    targets = re.findall(r"\]\(([^)#]+)\)", file.read_text())
    gone = [target for target in targets if "://" not in target and not (file.parent / target).exists()]
    assert not gone
