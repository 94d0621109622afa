"""The lock, the pidfile and the word to the starter.  Other holders of a lock are real processes: locks are theirs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.timing import PATIENCE
from wsd import daemon
from wsd.daemon import Pidfile, Readiness, holder, lock_path, pidfile_path
from wsd.errors import StartError

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def pidfile(tmp_path: Path) -> Path:
    return tmp_path / "wsd.pid"


@pytest.fixture
def other(pidfile: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its input ends."""
    command = [sys.executable, "-c", HOLD, str(lock_path(pidfile))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def release(pidfile: Pidfile) -> None:
    """What the end of the process does."""
    pidfile._release()


# -- the lock ---------------------------------------------------------------------------------------------------------


def test_nobody_holds_a_lock_that_is_not_there(pidfile: Path) -> None:
    assert holder(pidfile) is None
    lock_path(pidfile).touch()
    assert holder(pidfile) is None


def test_the_holder_is_named_by_the_kernel_and_not_by_the_file(pidfile: Path, other: subprocess.Popen[str]) -> None:
    pidfile.write_text("1\n")
    assert holder(pidfile) == other.pid


def test_waiting_for_the_holder_to_go(pidfile: Path, other: subprocess.Popen[str]) -> None:
    assert not daemon.wait_released(pidfile, 0.01)
    other.kill()
    assert daemon.wait_released(pidfile, PATIENCE)


def test_a_running_daemon_refuses_check_and_entering(pidfile: Path, other: subprocess.Popen[str]) -> None:
    for optional in (False, True):
        with pytest.raises(StartError, match=f"already running, pid {other.pid}"):
            Pidfile(pidfile, optional=optional).check()
        with pytest.raises(StartError, match=f"already running, pid {other.pid}"):
            Pidfile(pidfile, optional=optional).__enter__()
    assert not pidfile.exists()


def test_a_holder_in_another_namespace_has_no_pid_here() -> None:
    assert "already running, in another PID namespace" in str(daemon.already_running(0))


@pytest.mark.parametrize(
    ("uid", "environment", "expected"),
    [
        (0, {"XDG_RUNTIME_DIR": "/run/user/0"}, "/run/wsd/wsd.pid"),
        (1000, {"XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000/wsd.pid"),
        (1000, {"XDG_RUNTIME_DIR": "/run/user/1000", "RUNTIME_DIRECTORY": "/run/wsd:/run/more"}, "/run/wsd/wsd.pid"),
        (1000, {"XDG_RUNTIME_DIR": "relative"}, "/run/wsd/wsd.pid"),
        (1000, {}, "/run/wsd/wsd.pid"),
    ],
)
def test_the_default_pidfile(
    monkeypatch: pytest.MonkeyPatch, uid: int, environment: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    for name in ("XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert pidfile_path("") == Path(expected)
    assert pidfile_path("/x/y.pid") == Path("/x/y.pid")


# -- the pidfile ------------------------------------------------------------------------------------------------------


def test_the_pidfile_is_there_while_it_is_entered(pidfile: Path) -> None:
    entered = Pidfile(pidfile)
    with entered:
        assert pidfile.read_text() == f"{os.getpid()}\n"
        assert entered.stale == ""
    assert not pidfile.exists()
    assert lock_path(pidfile).exists()
    release(entered)


def test_the_lock_outlives_the_pidfile(pidfile: Path) -> None:
    """Until the process is gone: who finds it free must find nobody left."""
    with Pidfile(pidfile) as entered:
        pass
    probe = "import fcntl, sys\nfcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", probe, str(lock_path(pidfile))]
    assert subprocess.run(command, capture_output=True).returncode == 1
    release(entered)
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_its_folder_is_made(tmp_path: Path) -> None:
    with Pidfile(tmp_path / "a" / "b" / "wsd.pid") as entered:
        assert entered.path.exists()
    release(entered)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "named no pid"), (b"x\n", "named no pid"), (b"\xff", "named no pid"), (b"77\n", "pid 77")],
)
def test_a_stale_pidfile_is_replaced(pidfile: Path, content: bytes, said: str) -> None:
    pidfile.write_bytes(content)
    with Pidfile(pidfile) as entered:
        assert pidfile.read_text() == f"{os.getpid()}\n"
        assert said in entered.stale
        assert str(pidfile) in entered.stale
    release(entered)


@pytest.mark.parametrize("suffix", ["", ".lock"])
@pytest.mark.parametrize("kind", ["a symbolic link", "a folder", "a FIFO", "a socket"])
def test_what_is_no_file_is_refused_at_both_times(pidfile: Path, suffix: str, kind: str) -> None:
    path = Path(f"{pidfile}{suffix}")
    if kind == "a symbolic link":
        path.symlink_to("/nowhere")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    before = os.lstat(path)
    with pytest.raises(StartError, match=f"{path} is {kind}"):
        Pidfile(pidfile, optional=True).check()
    with pytest.raises(StartError, match=f"{path} is {kind}"):
        Pidfile(pidfile, optional=True).__enter__()
    assert os.lstat(path) == before


def test_the_end_of_a_forked_child_is_not_the_daemons(pidfile: Path) -> None:
    with Pidfile(pidfile) as entered:
        child = os.fork()
        if child == 0:
            entered.__exit__()
            os._exit(0)
        os.waitpid(child, 0)
        assert pidfile.read_text() == f"{os.getpid()}\n"
    assert not pidfile.exists()
    release(entered)


def test_without_a_writable_folder(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    path = blocked / "run" / "wsd.pid"
    with pytest.raises(StartError, match="choose another pidfile"):
        Pidfile(path).__enter__()
    with Pidfile(path, optional=True) as entered:
        assert "Not a directory" in entered.absent


def test_where_it_cannot_be_removed_it_is_emptied(pidfile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    entered = Pidfile(pidfile).__enter__()
    monkeypatch.setattr(os, "unlink", refuse)
    entered.__exit__()
    monkeypatch.undo()
    assert pidfile.read_text() == ""
    release(entered)


# -- the word to the starter ------------------------------------------------------------------------------------------


def relay(say: bytes) -> int:
    reader, writer = os.pipe()
    os.write(writer, say)
    os.close(writer)
    try:
        return daemon._relay(reader, "wsd")
    finally:
        os.close(reader)


def test_text_and_status_go_through_the_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    readiness = Readiness(writer)
    assert readiness.is_detached
    readiness.say("a line with \0 and ü")
    readiness.done(78)
    readiness.done(0)
    readiness.say("too late")
    assert daemon._relay(reader, "wsd") == 78
    os.close(reader)
    assert capfd.readouterr().err == "a line with  and ü\n"


@pytest.mark.parametrize("said", [b"", b"cut off", b"text\n\0"])
def test_a_daemon_that_ends_without_its_status_is_a_failure(said: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    assert relay(said) == 1
    assert "ended before it was ready" in capfd.readouterr().err


def test_a_starter_that_went_away_does_not_matter() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    readiness = Readiness(writer)
    readiness.say("hello?")
    readiness.done(0)


def test_in_the_foreground_it_is_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    readiness = Readiness()
    readiness.say("hello")
    readiness.done(0)
    assert not readiness.is_detached
    assert capfd.readouterr().err == "hello\n"
