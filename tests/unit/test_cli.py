"""The commands: what they print, their exit status, and that a mistake never ends in a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import wsd
from wsd import config, control, daemon
from wsd.cli import cli, main
from wsd.credentials import Tokens, parse_password_line, parse_token_line
from wsd.errors import StartError
from wsd.wire.fast import IMPLEMENTATION

COMMANDS = ["run", "start", "stop", "reload", "status", "check", "plugins"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A configuration whose daemon does not run."""
    (tmp_path / "plugins").mkdir()
    file = tmp_path / "wsd.toml"
    file.write_text(
        f'[daemon]\npidfile = "{tmp_path}/wsd.pid"\n[plugins]\nfolders = ["plugins"]\n[[listen]]\nport = 0\n'
    )
    return file


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """`main` as the shell calls it; its exit status."""
    monkeypatch.setattr(sys, "argv", ["wsd", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    code = caught.value.code
    assert isinstance(code, int) or code is None
    return code or 0


def test_the_version_says_what_runs() -> None:
    answer = invoke("--version")
    assert answer.exit_code == 0
    assert answer.output.startswith(f"wsd {wsd.__version__} ({IMPLEMENTATION}), CPython 3.")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_configuration_after_its_name(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shown by the file that is not there: each names it, with the status of a configuration problem."""
    missing = tmp_path / "missing.toml"
    for option in ("-c", "--config"):
        status = run_main(monkeypatch, command, option, str(missing))
        said = capsys.readouterr()
        if command in ("stop", "status", "reload"):  # they ask the daemon, however wrong the file is
            assert str(missing) in said.err or "not running" in said.out
        else:
            assert status == 78
            assert str(missing) in said.err
            assert "Traceback" not in said.err


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--nonsense"], ["run", "--log", "loud"], ["new-plugin"]])
def test_usage_is_status_2(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_main(monkeypatch, *arguments) == 2


def test_unknown_levels_are_answered_with_the_known() -> None:
    assert "notice" in invoke("run", "--log", "err,loud").output


def test_nothing_runs(site: Path) -> None:
    for command, status in (("stop", 0), ("status", 3), ("reload", 1)):
        answer = invoke(command, "-c", str(site))
        assert answer.exit_code == status
        assert "wsd is not running" in answer.output
    answer = invoke("status", "--json", "-c", str(site))
    assert (answer.exit_code, json.loads(answer.output)) == (3, {"pid": None})


STATUS = {
    "ok": True,
    "version": "1",
    "stopping": False,
    "pid": 77,
    "uptime_seconds": 3725.5,
    "config": "/etc/wsd.toml",
    "connections": 2,
    "max_connections": 10,
    "descriptors": {"limit": 1024, "held": 12, "reserved": 64},
    "listeners": [{"address": "ws://127.0.0.1:1/", "protocols": ["echo"], "connections": 2}],
    "protocols": [{"name": "echo", "generation": 3, "leaving": True, "connections": 1, "file": "/x/echo.py"}],
    "counters": {"accepted": 3},
    "certificates": [
        {
            "file": "/x/cert.pem",
            "names": ["a.example", "b.example"],
            "not_after": "2027-02-21T16:15:56+00:00",
            "days_left": 6,
            "warning": "/x/cert.pem: it ends",
        }
    ],
}


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Callable[[control.Answer], None]:
    """A daemon with pid 77 that gives a certain answer."""
    monkeypatch.setattr(daemon, "holder", lambda pidfile: 77)

    def set_answer(answer: control.Answer) -> None:
        monkeypatch.setattr(control, "ask", lambda path, request, seconds: dict(answer))

    return set_answer


def test_the_status_for_people_and_for_programs(site: Path, running: Callable[[control.Answer], None]) -> None:
    running(STATUS)
    text = invoke("status", "-c", str(site)).output
    for part in (
        "pid 77",
        "up 1:02:05",
        "2 of 10 connections; of 1024 descriptors 12",
        "ws://127.0.0.1:1/",
        "generation 3, leaving",
        "/x/echo.py",
        "  certificate for a.example, b.example  until 2027-02-21, 6 days  /x/cert.pem\n",
        "    warning: /x/cert.pem: it ends",
    ):
        assert part in text
    answer = json.loads(invoke("status", "--json", "-c", str(site)).output)
    assert answer == {key: value for key, value in STATUS.items() if key != "ok"}


def test_a_refused_reload(site: Path, running: Callable[[control.Answer], None]) -> None:
    running({"ok": False, "exit": 78, "text": "one\ntwo"})
    answer = invoke("reload", "-c", str(site))
    assert answer.exit_code == 78
    assert "wsd: one\nwsd: two\n" in answer.output
    assert "goes on as before" in answer.output


def test_a_daemon_that_does_not_answer(
    site: Path, running: Callable[[control.Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    running({})

    def silence(*arguments: object) -> None:
        raise control.NoAnswer("no answer")

    monkeypatch.setattr(control, "ask", silence)
    answer = invoke("status", "-c", str(site))
    assert isinstance(answer.exception, StartError)
    assert "pid 77, but does not answer: no answer" in str(answer.exception)
    monkeypatch.setattr(daemon, "wait_released", lambda pidfile, seconds: True)
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    answer = invoke("stop", "-c", str(site))
    assert killed == [(77, 15)]
    assert "sending SIGTERM" in answer.output
    assert "wsd stopped (pid 77)" in answer.output


def test_a_stop_that_does_not_come(
    site: Path, running: Callable[[control.Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    running({"ok": True, "seconds": 7})
    monkeypatch.setattr(daemon, "wait_released", lambda pidfile, seconds: False)
    answer = invoke("stop", "-c", str(site))
    assert isinstance(answer.exception, StartError)
    assert answer.exception.exit_status == 1
    assert "still runs after 12 s" in str(answer.exception)


@pytest.mark.parametrize("broken", ["nonsense = 1", "nonsense = ["])
def test_a_broken_file_still_tells_where_the_pidfile_is(site: Path, broken: str) -> None:
    site.write_text(site.read_text() + broken)
    answer = invoke("stop", "-c", str(site))
    assert answer.exit_code == 0
    assert f"{site.parent}/wsd.pid.lock" in answer.output


def test_check_prints_ok_and_warnings(site: Path) -> None:
    answer = invoke("check", "-c", str(site))
    assert answer.exit_code == 0
    assert f"{site}: ok" in answer.output
    (site.parent / "plugins" / "broken.py").write_text("import no_such_module")
    assert invoke("check", "-c", str(site)).exit_code == 0
    answer = invoke("check", "--strict", "-c", str(site))
    assert answer.exit_code == 78
    assert "no_such_module" in answer.output


def test_config_default_and_schema() -> None:
    assert invoke("config", "default").output == config.default_text()
    assert json.loads(invoke("config", "schema").output) == config.schema()


def test_plugins_lists_what_is_found_and_what_is_not(site: Path) -> None:
    folder = site.parent / "plugins"
    (folder / "mine.py").write_text(
        "from wsd import Protocol\nclass Mine(Protocol):\n    name = 'mine'\nprotocols = [Mine]\n"
    )
    answer = invoke("plugins", "-c", str(site))
    assert answer.exit_code == 0
    assert f"mine  {folder / 'mine.py'}\n" in answer.output
    assert "(shipped: served where a listener names it)" in answer.output
    (folder / "broken.py").write_text("import no_such_module")
    assert invoke("plugins", "-c", str(site)).exit_code == 78


def test_new_plugin(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = site.parent / "plugins"
    answer = invoke("new-plugin", "lucky", "-c", str(site))
    assert answer.output.split() == [str(folder / "lucky.py"), str(folder / "test_lucky.py")]
    assert run_main(monkeypatch, "new-plugin", "lucky", "-c", str(site)) == 1
    assert str(folder / "lucky.py") in capsys.readouterr().err
    assert run_main(monkeypatch, "new-plugin", "no/good", "-c", str(site)) == 2
    site.write_text("[plugins]\nfolders = []\n")
    assert run_main(monkeypatch, "new-plugin", "lucky", "-c", str(site)) == 78


def test_the_version_loads_next_to_nothing() -> None:
    code = "import sys\nsys.argv[1:] = ['--version']\nfrom wsd.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(answer.stdout.split())
    assert not loaded & {"pydantic", "httptools", "OpenSSL", "daemon", "lockfile", "wsd.context", "wsd.plugins"}


def test_a_start_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """What is in `needless` takes long to import, and serves those alone who use it."""
    said = tmp_path / "modules"
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "tell.py").write_text(
        "import pathlib, sys\nfrom wsd import Protocol\n\n"
        "class Tell(Protocol):\n    name = 'tell'\n\n"
        "    def on_protocol_init(self, context, options):\n"
        f"        pathlib.Path({str(said)!r}).write_text(' '.join(sys.modules))\n"
        "        raise RuntimeError('enough')\n\n"
        "protocols = [Tell]\n"
    )
    config = tmp_path / "wsd.toml"
    config.write_text('[daemon]\npidfile = "wsd.pid"\n[plugins]\nfolders = ["plugins"]\n[[listen]]\nport = 0\n')
    command = [sys.executable, "-m", "wsd", "run", "-c", str(config)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "enough" in answer.stderr
    needless = {"asyncio", "concurrent", "cryptography", "html", "multiprocessing", "OpenSSL", "ssl"}
    needless |= {"unittest", "xml", "wsd.certificates", "wsd.credentials", "wsd.manual", "wsd.scaffold", "wsd.tls"}
    assert not needless & set(said.read_text().split())


# -- who may come in --------------------------------------------------------------------------------------------------


def test_a_password_is_the_first_line_of_the_input(tmp_path: Path) -> None:
    answer = CliRunner().invoke(cli, ["password", "alice"], input="open sesame\r\nmore\n")
    assert answer.exit_code == 0
    assert parse_password_line(answer.stdout.strip()).matches("open sesame")
    file = tmp_path / "passwords"
    for said in ("a", "another"):
        answer = CliRunner().invoke(cli, ["password", "alice", str(file)], input="open sesame\n")
        assert answer.output == f"{file}: alice has {said} password now\n"
    assert len(file.read_text().splitlines()) == 1
    assert "sesame" not in file.read_text() + answer.output


def test_a_token_is_printed_once_and_stored_hashed(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    tokens = [invoke("token", "bob", str(file)).stdout.strip() for _ in range(2)]
    assert [Tokens(str(file)).find(token, 0) for token in tokens] == ["bob", "bob"]
    assert not any(token in file.read_text() for token in tokens)
    alone = invoke("token", "bob")
    assert parse_token_line(alone.stderr.strip()).digest == sha256(alone.stdout.strip().encode()).digest()


@pytest.mark.parametrize(
    "arguments", [["password", "a:b"], ["token", ""], ["password"], ["token"], ["password", "alice"]]
)
def test_what_cannot_be_a_name_or_a_password_is_status_2(arguments: list[str]) -> None:
    answer = CliRunner().invoke(cli, arguments, input="\n" if arguments == ["password", "alice"] else "x\n")
    assert answer.exit_code == 2
    assert "Traceback" not in answer.output


def test_a_file_that_cannot_be_written_is_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "token", "bob", str(tmp_path / "missing" / "tokens")) == 1
    assert capsys.readouterr().err == f"wsd: {tmp_path}/missing/tokens: cannot be written: No such file or directory\n"
