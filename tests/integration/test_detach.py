"""`wsd.daemonize()` in a program of one's own: real processes, told by their exit status, lock, pidfile and text."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import close_frame, connect
from tests.support.daemon import ROOT, lock_holder, wait_gone
from tests.support.timing import PATIENCE, wait_until

NAME = "gauge.py"

# What every program below begins with; `log` gets the lines of its log, `told` whatever a test wants to know.
HEAD = """
import atexit, json, os, signal, socket, sys, threading, time
from pathlib import Path
from wsd import Context, Protocol, daemonize, log

folder = Path(sys.argv[1])


def emit(level, line):
    with (folder / "log").open("a") as file:
        file.write(line + "\\n")


def tell(**facts):
    (folder / "told.new").write_text(json.dumps(facts))
    (folder / "told.new").rename(folder / "told")


class Echo(Protocol):
    name = "echo"

    def on_message(self, wsi, message):
        wsi.send(message)


log.set_level(log.DEFAULT, emit)
"""

SERVING = """
with daemonize(folder / "run" / "gauge.pid") as daemon, Context([Echo()]) as context:
    listener = context.listen(port=0)
    signal.signal(signal.SIGTERM, lambda number, frame: context.stop())
    tell(port=listener.port)
    daemon.say(f"listening on {listener.url}")
    daemon.ready()
    context.run()
"""


class Program:
    """A program of somebody's own, in a folder of its own; a context manager that leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pidfile = folder / "run" / "gauge.pid"
        self.source = folder / NAME
        self.write(SERVING)

    def write(self, body: str) -> None:
        self.source.write_text(HEAD + body)

    def popen(self, *prefix: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*prefix, sys.executable, str(self.source), str(self.folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *prefix: str) -> tuple[int, str]:
        """Start it; the exit status of the starter, and what that said."""
        with self.popen(*prefix) as process:
            said = process.communicate(timeout=3 * PATIENCE)[1]
        return process.returncode, said

    def start(self, *prefix: str) -> int:
        """Start it; the pid of the daemon."""
        status, said = self.run(*prefix)
        assert status == 0, said
        pid = lock_holder(self.pidfile)
        assert pid, "the starter ended, and nobody holds the lock"
        return pid

    def told(self, name: str) -> int:
        """A fact that the program has told."""
        wait_until((self.folder / "told").exists)
        found: int = json.loads((self.folder / "told").read_text())[name]
        return found

    def logged(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        pid = lock_holder(self.pidfile)
        if pid:
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid)
            wait_until(lambda: lock_holder(self.pidfile) is None)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    made.kill()


def stop(program: Program, pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    wait_gone(pid)


# -- a start that succeeds --------------------------------------------------------------------------------------------


def test_the_starter_ends_when_the_program_is_ready(program: Program) -> None:
    status, said = program.run()
    pid = lock_holder(program.pidfile)
    assert pid
    port = program.told("port")
    assert (status, said) == (0, f"{NAME}: listening on ws://127.0.0.1:{port}/\n")
    assert program.pidfile.read_text() == f"{pid}\n"
    assert os.getsid(pid) not in (pid, os.getsid(0))
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    with connect(port, "echo") as client:
        client.send_text("hello")
        assert client.receive_message() == "hello"


def test_a_signal_stops_it_in_order_and_the_pidfile_goes(program: Program) -> None:
    pid = program.start()
    with connect(program.told("port"), "echo") as client:
        os.kill(pid, signal.SIGTERM)
        assert client.receive_close().close_code == 1001
        client.send(close_frame(1001))
        wait_gone(pid)
    assert not program.pidfile.exists()
    assert lock_holder(program.pidfile) is None


def test_nothing_of_the_program_runs_in_the_starter_after_the_call(program: Program) -> None:
    ends = "atexit.register(lambda: emit(4, f'atexit in {os.getpid()}'))\nemit(4, 'once')\ntry:"
    program.write(ends + SERVING.replace("\n", "\n    ") + "\nfinally:\n    emit(4, f'finally in {os.getpid()}')\n")
    pid = program.start()
    assert program.logged() == "once\n"
    stop(program, pid)
    assert program.logged() == f"once\nfinally in {pid}\natexit in {pid}\n"


def test_only_what_is_to_be_preserved_stays_open(program: Program) -> None:
    keeping = 'kept = (folder / "kept").open("w")\nleft = (folder / "left").open("w")\nnumber = os.dup(kept.fileno())\n'
    program.write(keeping + SERVING.replace('"gauge.pid"', '"gauge.pid", files_preserve=(kept, number)'))
    pid = program.start()
    held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert held.count(str(program.folder / "kept")) == 2
    assert str(program.folder / "left") not in held
    assert not [name for name in held if name.startswith("pipe:")]
    stop(program, pid)


def test_what_it_makes_is_for_it_and_its_group(program: Program) -> None:
    program.write(SERVING.replace("tell(", '(folder / "made").touch(); tell('))
    program.start()
    assert (program.folder / "made").stat().st_mode & 0o777 == 0o640


def test_a_child_that_it_forks_does_not_take_the_pidfile_along(program: Program) -> None:
    forking = "daemon.ready()\n    child = os.fork()\n    if not child:\n        sys.exit()\n    os.waitpid(child, 0)\n"
    program.write(SERVING.replace("daemon.ready()\n", forking + "    tell(port=listener.port, waited=1)\n"))
    pid = program.start()
    wait_until(lambda: "waited" in (program.folder / "told").read_text())
    assert program.pidfile.read_text() == f"{pid}\n"
    stop(program, pid)
    assert not program.pidfile.exists()


# -- one at a time ----------------------------------------------------------------------------------------------------


def test_a_second_start_is_refused_with_the_first_ones_pid(program: Program) -> None:
    pid = program.start()
    assert program.run() == (1, f"{NAME}: already running, pid {pid}\n")
    assert lock_holder(program.pidfile) == pid
    assert program.pidfile.read_text() == f"{pid}\n"


def test_many_starts_at_once_leave_one(program: Program) -> None:
    starters = [program.popen() for _ in range(4)]
    ended = [(starter.communicate(timeout=3 * PATIENCE)[1], starter.returncode) for starter in starters]
    assert sorted(status for _, status in ended) == [0, 1, 1, 1], ended
    pid = lock_holder(program.pidfile)
    assert pid
    for said, status in ended:
        assert status == 0 or f"already running, pid {pid}" in said


@pytest.mark.parametrize("content", ["", "nonsense\n", "{dead}\n"])
def test_a_stale_pidfile_is_replaced_and_mentioned(program: Program, content: str) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    program.pidfile.parent.mkdir()
    program.pidfile.write_text(content.format(dead=ended.pid))
    status, said = program.run()
    assert status == 0
    assert f"{NAME}: removed stale pidfile {program.pidfile}" in said
    assert "removed stale pidfile" in program.logged()
    assert program.pidfile.read_text() == f"{lock_holder(program.pidfile)}\n"


def test_after_a_kill_the_next_start_serves(program: Program) -> None:
    first = program.start()
    program.kill()
    assert program.pidfile.read_text() == f"{first}\n"
    second = program.start()
    assert program.pidfile.read_text() == f"{second}\n"


def test_what_is_no_file_in_the_pidfiles_place_is_refused_untouched(program: Program) -> None:
    program.pidfile.mkdir(parents=True)
    status, said = program.run()
    assert status == 1
    assert said.startswith(f"{NAME}: {program.pidfile} is a folder, where a regular file belongs")
    assert program.pidfile.is_dir()


# -- a start that fails -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failing", "status", "said"),
    [
        ('raise RuntimeError("no sensor")', 1, "RuntimeError: no sensor\n"),
        ('context.listen(unix="/nowhere/at/all.sock")', 1, f"{NAME}: cannot listen on /nowhere/at/all.sock: "),
        ('sys.exit("no sensor")', 1, f"{NAME}: no sensor\n"),
        ("sys.exit(5)", 5, ""),
        ("sys.exit()", 1, f"{NAME}: ended before it was ready\n"),
        ("sys.exit(0)", 1, f"{NAME}: ended before it was ready\n"),
        ("context.stop(); daemon.close(); context.run()", 1, f"{NAME}: ended before it was ready\n"),
        ("os._exit(0)", 1, f"{NAME}: the daemon ended before it was ready, without a word\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, f"{NAME}: the daemon ended before it was ready, without a word\n"),
    ],
)
def test_what_fails_before_ready_is_said_by_the_starter(program: Program, failing: str, status: int, said: str) -> None:
    program.write(SERVING.replace("daemon.ready()", f"{failing}\n    daemon.ready()"))
    ended, text = program.run()
    assert ended == status
    assert said in text
    assert lock_holder(program.pidfile) is None
    if "_exit" not in failing and "KILL" not in failing:
        assert not program.pidfile.exists()
    # It can be tried again at once.
    program.write(SERVING)
    program.start()


def test_a_block_that_ends_without_ready_is_a_failure(program: Program) -> None:
    program.write('with daemonize(folder / "run" / "gauge.pid"):\n    pass\n')
    assert program.run() == (1, f"{NAME}: ended before it was ready\n")


def test_lines_are_seen_while_it_starts(program: Program) -> None:
    """A slow start tells the terminal how far it is."""
    slow = (
        'daemon.say("half way")\n    while not (folder / "go").exists():\n        time.sleep(0.01)\n    daemon.ready()'
    )
    program.write(SERVING.replace("daemon.ready()", slow))
    with program.popen() as starter:
        assert starter.stderr is not None
        assert starter.stderr.readline().startswith(f"{NAME}: listening on")
        assert starter.stderr.readline() == f"{NAME}: half way\n"
        assert starter.poll() is None
        # The lock is held by then: who comes meanwhile is refused.
        assert program.run() == (1, f"{NAME}: already running, pid {lock_holder(program.pidfile)}\n")
        (program.folder / "go").touch()
        assert starter.wait(3 * PATIENCE) == 0


def test_a_starter_that_is_interrupted_says_that_it_does_not_know(program: Program) -> None:
    slow = 'while not (folder / "go").exists():\n        time.sleep(0.01)\n    daemon.ready()'
    program.write(SERVING.replace("daemon.ready()", slow))
    with program.popen() as starter:
        assert starter.stderr is not None
        starter.stderr.readline()
        starter.send_signal(signal.SIGINT)
        said = starter.communicate(timeout=3 * PATIENCE)[1]
    assert (starter.returncode, said) == (1, f"{NAME}: interrupted; the daemon may still be starting\n")
    (program.folder / "go").touch()
    with connect(program.told("port"), "echo") as client:
        client.send_text("nobody waits for me")
        assert client.receive_message() == "nobody waits for me"


def test_what_ends_it_later_is_in_its_log(program: Program) -> None:
    program.write(SERVING.replace("context.run()", 'raise RuntimeError("the sensor is gone\\nroot: logged in")'))
    assert program.run()[0] == 0
    wait_until(lambda: lock_holder(program.pidfile) is None)
    lines = program.logged().splitlines()
    assert lines[0] == f"{NAME} ended"
    assert lines[-2:] == ["| RuntimeError: the sensor is gone", "| root: logged in"]
    assert not program.pidfile.exists()


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("threading.Thread(target=time.sleep, args=(0.1,)).start()", "RuntimeError: threads run already"),
        ('daemonize(folder / "other.pid", detach=False)', "RuntimeError: this process is a daemon already"),
    ],
)
def test_a_call_at_the_wrong_moment_is_an_exception(program: Program, before: str, said: str) -> None:
    program.write(before + SERVING)
    status, text = program.run()
    assert status == 1
    assert said in text
    assert not program.pidfile.parent.exists()


# -- in the foreground ------------------------------------------------------------------------------------------------


def test_in_the_foreground_it_is_the_same_but_for_the_terminal(program: Program) -> None:
    program.write(SERVING.replace('"gauge.pid"', '"gauge.pid", detach=False'))
    with program.popen() as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(f"{NAME}: listening on")
        assert lock_holder(program.pidfile) == process.pid
        assert program.run() == (1, f"{NAME}: already running, pid {process.pid}\n")
        process.terminate()
        assert process.wait(3 * PATIENCE) == 0
    assert not program.pidfile.exists()


def test_in_the_foreground_a_failure_is_an_exception(program: Program) -> None:
    failing = SERVING.replace("daemon.ready()", 'raise RuntimeError("no sensor")')
    program.write(failing.replace('"gauge.pid"', '"gauge.pid", detach=False'))
    status, said = program.run()
    assert status == 1
    assert said.count("RuntimeError: no sensor") == 1
    assert "before it was ready" not in said
    assert not program.pidfile.exists()


@contextlib.contextmanager
def receiving(path: Path) -> Iterator[socket.socket]:
    """A syslog daemon at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(PATIENCE)
        yield receiver


# -- its log ----------------------------------------------------------------------------------------------------------


def test_a_syslog_emitter_that_has_spoken_before_speaks_on(program: Program) -> None:
    """Its socket is closed with all else, and the number is somebody else's soon."""
    speaking = 'log.set_level(log.DEFAULT, log.Syslog(folder / "syslog", ident="gauge"))\nlog.user("before")\n'
    program.write(speaking + SERVING.replace("daemon.ready()", 'log.user("after")\n    daemon.ready()'))
    with receiving(program.folder / "syslog") as receiver:
        program.start()
        lines = [receiver.recv(4096).decode().partition("]: ")[2] for _ in range(2)]
        assert lines == ["before", "after"]
        with connect(program.told("port"), "echo") as client:
            client.send_text("the loop's descriptors are whole")
            assert client.receive_message() == "the loop's descriptors are whole"


def test_a_log_on_standard_error_goes_to_syslog(program: Program) -> None:
    redirected = 'log.emit_syslog.socket_path = str(folder / "syslog")\nlog.set_level(log.DEFAULT, log.emit_stderr)\n'
    program.write(redirected + SERVING.replace("daemon.ready()", 'log.user("hello")\n    daemon.ready()'))
    with receiving(program.folder / "syslog") as receiver:
        pid = program.start()
        line = receiver.recv(4096).decode()
        assert line.startswith("<30>")
        assert line.endswith(f" {NAME}[{pid}]: hello")
        stop(program, pid)
    (program.folder / "syslog").unlink()
    status, said = program.run()
    assert status == 0
    assert said.startswith(f"{NAME}: no log: {program.folder}/syslog: No such file or directory; it is tried again")


# -- another account --------------------------------------------------------------------------------------------------


NOBODY = pwd.getpwnam("nobody")


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root (in a container) for these")
class TestAccount:
    @pytest.fixture
    def program(self) -> Iterator[Program]:
        """In a folder that everybody can reach; pytest's own are root's alone."""
        with tempfile.TemporaryDirectory(prefix="wsd-test-") as folder:
            Path(folder).chmod(0o777)
            made = Program(Path(folder))
            yield made
            made.kill()

    @pytest.mark.parametrize("drop", ["pass", "daemon.drop_privileges(); tell(uid=os.getuid())"])
    def test_privileges_are_dropped_when_it_is_ready_or_before(self, program: Program, drop: str) -> None:
        body = SERVING.replace('"gauge.pid"', '"gauge.pid", user="nobody"').replace("port=listener.port", "port=0")
        program.write(body.replace("daemon.ready()", f"{drop}\n    daemon.ready()"))
        pid = program.start("setpriv", "--groups", "4,27")
        lines = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}\n" in lines
        assert f"Gid:\t{NOBODY.pw_gid}\t{NOBODY.pw_gid}\t{NOBODY.pw_gid}\t{NOBODY.pw_gid}\n" in lines
        assert "CapEff:\t0000000000000000" in lines
        assert program.pidfile.parent.stat().st_uid == NOBODY.pw_uid
        assert drop == "pass" or program.told("uid") == NOBODY.pw_uid
        stop(program, pid)
        assert not program.pidfile.exists()

    def test_an_unknown_user_is_said(self, program: Program) -> None:
        program.write(SERVING.replace('"gauge.pid"', '"gauge.pid", user="no-such-user", group="no-such-group"'))
        status, said = program.run()
        assert status == 1
        assert said == (
            f"{NAME}: no such user: 'no-such-user'; create it or name another; "
            "no such group: 'no-such-group'; create it or name another\n"
        )
