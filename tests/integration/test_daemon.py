"""Start, second start, stale pidfile, stop: what happens to processes, told by their exit status, lock and text."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import CLOSE, close_frame, connect
from tests.support.daemon import WSD, Site, lock_holder, wait_gone
from tests.support.timing import PATIENCE, wait_until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


# -- start ------------------------------------------------------------------------------------------------------------


def test_start_returns_when_it_listens(site: Site) -> None:
    pid = site.start()
    assert site.pidfile.read_text() == f"{pid}\n"
    with site.connect() as client:
        client.send_text("hello")
        assert client.receive_message() == "hello"
    assert os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3


def test_a_detached_daemon_holds_no_descriptor_of_its_starter(site: Site, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        pid = site.start(pass_fds=[secret.fileno()])
    held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert str(tmp_path / "secret") not in held
    assert not [name for name in held if name.startswith("pipe:")]
    assert held.count("/dev/null") == 3


def test_run_prints_where_it_listens_also_when_notices_are_off(site: Site) -> None:
    site.run("--log", "err")
    site.wait_said("wsd: listening on ws://127.0.0.1:")
    assert not site.said("NOTICE")


def test_run_says_the_connection_limit(site: Site) -> None:
    site.configure(more="[limits]\nmax_connections = 17")
    site.run()
    site.wait_said("at most 17 connections")


OPENING = """
import os
from wsd import Protocol


class Opening(Protocol):
    name = "opening"

    def on_protocol_init(self, context, options):
        self.opened = [os.dup(0) for _ in range({count})]

    def on_protocol_destroy(self):
        for descriptor in self.opened:
            os.close(descriptor)


protocols = [Opening]
"""

ULIMIT = ("/bin/sh", "-c", 'ulimit -n "$0" && exec "$@"')


def test_the_ulimit_less_what_it_holds_open_is_said_and_told(site: Site) -> None:
    site.plugin("opening", OPENING.format(count=0))
    pid = site.run(prefix=(*ULIMIT, "300"))
    few = site.status()
    assert few["descriptors"]["limit"] == 300
    assert few["descriptors"]["held"] >= 3 + 2 + 1  # standard streams, the loop, the listener
    assert few["max_connections"] == 300 - few["descriptors"]["held"] - few["descriptors"]["reserved"]
    assert site.said(f"at most {few['max_connections']} connections; of 300 descriptors")
    counted = (
        f"0 of {few['max_connections']} connections; of 300 descriptors {few['descriptors']['held']} are held open"
    )
    assert counted in site.wsd("status").stdout
    # A reload counts anew, and does not take connections for something else.
    with site.connect():
        site.plugin("opening", OPENING.format(count=50))
        os.kill(pid, signal.SIGHUP)
        site.wait_said("reload done")
        assert site.status()["max_connections"] == few["max_connections"] - 50


def test_a_configured_number_raises_the_descriptor_limit_at_start_and_reload(site: Site) -> None:
    soft = ("/bin/sh", "-c", 'ulimit -S -n "$0" && exec "$@"', "200")
    site.configure(more="[limits]\nmax_connections = 500")
    site.run(prefix=soft)
    assert site.status()["max_connections"] == 500
    site.configure(more="[limits]\nmax_connections = 1000")
    assert site.wsd("reload").returncode == 0
    status = site.status()
    assert status["max_connections"] == 1000
    assert status["descriptors"]["limit"] >= 1000


def test_a_second_start_is_refused_with_the_first_ones_pid(site: Site) -> None:
    pid = site.start()
    for command in ("start", "run"):
        done = site.wsd(command)
        assert (done.returncode, done.stderr) == (1, f"wsd: already running, pid {pid}\n")
    assert lock_holder(site.pidfile) == pid
    assert site.pidfile.read_text() == f"{pid}\n"


def test_many_starts_at_once_leave_one_daemon(site: Site) -> None:
    starters = [
        subprocess.Popen(
            [*WSD, "start", "-c", str(site.config)],
            env=site.environment(),
            cwd=site.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    ended = [(starter.communicate(timeout=3 * PATIENCE)[1], starter.returncode) for starter in starters]
    pid = lock_holder(site.pidfile)
    assert sorted(status for _, status in ended) == [0, 1, 1, 1, 1], ended
    assert all(f"already running, pid {pid}" in text for text, status in ended if status)


@pytest.mark.parametrize("command", ["start", "run"])
def test_a_wrong_configuration_is_said_whole_with_status_78(site: Site, command: str) -> None:
    site.configure(daemon='usr = "x"', listen="port = 99999")
    done = site.wsd(command)
    assert done.returncode == 78
    assert "daemon.usr" in done.stderr
    assert "listen[0].port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not site.pidfile.exists()


@pytest.mark.parametrize("command", ["start", "run"])
def test_an_unknown_user_is_a_configuration_problem(site: Site, command: str) -> None:
    site.configure(daemon='user = "no-such-user"\ngroup = "no-such-group"')
    done = site.wsd(command)
    assert done.returncode == 78
    assert "daemon.user: no such user: 'no-such-user'" in done.stderr
    assert "daemon.group: no such group" in done.stderr
    assert not site.pidfile.parent.exists()


@pytest.mark.parametrize("command", ["start", "run"])
def test_what_fails_after_the_detaching_reaches_the_terminal(site: Site, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        site.configure(listen=f"port = {other.getsockname()[1]}")
        done = site.wsd(command)
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1:" in done.stderr
    assert lock_holder(site.pidfile) is None, "the next start would be refused"
    assert not site.pidfile.exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "no_such_module"),
        ("raise SystemExit(0)", "SystemExit"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_plugin_that_is_asked_for_and_does_not_load_stops_the_start(site: Site, source: str, said: str) -> None:
    path = site.plugin("mine", source)
    site.configure(listen='port = 0\nprotocols = ["mine"]')
    done = site.wsd("start")
    assert done.returncode == 78
    assert said in done.stderr
    assert str(path) in done.stderr
    assert site.wsd("check").returncode == 78


def test_a_broken_plugin_that_nobody_asks_for_is_left_out(site: Site) -> None:
    site.plugin("broken", "import no_such_module")
    site.run()
    site.wait_said("no_such_module")
    assert [protocol["name"] for protocol in site.status()["protocols"]] == ["echo"]
    assert site.wsd("check").returncode == 0
    assert site.wsd("check", "--strict").returncode == 78


def test_a_failing_init_stops_the_start_and_is_said(site: Site) -> None:
    site.plugin(
        "bad",
        "from wsd import Protocol\nclass Bad(Protocol):\n    name = 'bad'\n"
        "    def on_protocol_init(self, context, options):\n        raise RuntimeError('no database')\n"
        "protocols = [Bad]\n",
    )
    done = site.wsd("start")
    assert done.returncode == 78
    assert "no database" in done.stderr


def test_a_plugin_that_ends_the_process_is_no_success(site: Site) -> None:
    site.plugin("exit", "import os\nos._exit(0)\n")
    done = site.wsd("start")
    assert done.returncode == 1
    assert "ended before it was ready" in done.stderr


def test_started_with_its_standard_streams_closed(site: Site) -> None:
    shell = ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh"]
    pid = site.start(prefix=shell)
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    with site.connect() as client:
        client.send_text("hello")
        assert client.receive_message() == "hello"


def test_run_with_its_standard_streams_closed(site: Site) -> None:
    pid = site.run(prefix=["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh"], wait=False)
    wait_until(lambda: site.wsd("status").returncode == 0)
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3


def test_run_without_a_writable_folder_goes_on_without_a_pidfile(site: Site) -> None:
    site.configure(daemon='pidfile = "/proc/nowhere/wsd.pid"')
    site.run()
    assert site.said("going on without a pidfile")
    with site.connect() as client:
        client.send_text("hello")
        assert client.receive_message() == "hello"
    done = site.wsd("start")
    assert done.returncode == 1
    assert "choose another pidfile" in done.stderr


# -- the pidfile ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["", "garbage\n", "99999999\n", pytest.param(f"{os.getpid()}\n", id="ours"), "\xff\xfe\x00"]
)
def test_a_stale_pidfile_is_replaced_and_mentioned(site: Site, content: str) -> None:
    site.pidfile.parent.mkdir()
    site.pidfile.write_bytes(content.encode("latin-1"))
    pid = site.run()
    assert site.pidfile.read_text() == f"{pid}\n"
    site.wait_said("removed stale pidfile")


def test_after_a_kill_the_next_start_serves(site: Site) -> None:
    first = site.start()
    os.kill(first, signal.SIGKILL)
    wait_gone(first)
    assert site.pidfile.read_text() == f"{first}\n"
    done = site.wsd("status")
    assert done.returncode == 3
    second = site.start()
    assert second != first
    assert site.pidfile.read_text() == f"{second}\n"
    assert site.status()["pid"] == second


def _symlink(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _dangling(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("not-there"))


def _folder(path: Path, victim: Path) -> None:
    path.mkdir()


def _fifo(path: Path, victim: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("command", ["start", "run"])
@pytest.mark.parametrize("suffix", ["", ".lock"])
@pytest.mark.parametrize("make", [_symlink, _dangling, _folder, _fifo])
def test_what_is_no_file_in_the_pidfiles_place_is_refused_untouched(
    site: Site, make: object, suffix: str, command: str
) -> None:
    victim = site.folder / "victim"
    victim.write_text("precious")
    site.pidfile.parent.mkdir()
    path = Path(f"{site.pidfile}{suffix}")
    make(path, victim)  # type: ignore[operator]
    before = os.lstat(path)
    done = site.wsd(command)
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert victim.read_text() == "precious"
    assert os.lstat(path) == before
    assert not (site.folder / "not-there").exists()


def test_a_symlink_for_the_control_socket_is_refused_untouched(site: Site) -> None:
    victim = site.folder / "victim"
    victim.write_text("precious")
    site.pidfile.parent.mkdir()
    site.pidfile.with_suffix(".ctl").symlink_to(victim)
    done = site.wsd("start")
    assert done.returncode == 1
    assert "control socket" in done.stderr
    assert victim.read_text() == "precious"


def test_the_files_of_a_running_daemon_are_its_own(site: Site) -> None:
    site.start()
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in site.pidfile.parent.iterdir()}
    assert modes == {"wsd.pid": "0o640", "wsd.pid.lock": "0o600", "wsd.ctl": "0o600"}


# -- stop -------------------------------------------------------------------------------------------------------------


def test_stop_waits_and_leaves_nothing_but_the_lock_file(site: Site) -> None:
    pid = site.start()
    done = site.wsd("stop")
    assert (done.returncode, done.stdout) == (0, f"wsd stopped (pid {pid})\n")
    assert lock_holder(site.pidfile) is None
    assert [path.name for path in site.pidfile.parent.iterdir()] == ["wsd.pid.lock"]


def test_stop_and_status_where_nothing_runs(site: Site) -> None:
    done = site.wsd("stop")
    assert done.returncode == 0
    assert "not running" in done.stdout
    assert site.wsd("status").returncode == 3
    assert site.wsd("status", "--json").returncode == 3
    assert site.wsd("reload").returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_orderly(site: Site, number: int) -> None:
    site.plugin(
        "last",
        "from wsd import Protocol, log\nclass Last(Protocol):\n    name = 'last'\n"
        "    def on_closed(self, wsi, code, close_reason):\n        log.user('closed %s', code)\n"
        "    def on_protocol_destroy(self):\n        log.user('destroyed')\n"
        "protocols = [Last]\n",
    )
    pid = site.run()
    with site.connect("last") as client:
        os.kill(pid, number)
        closing = client.receive_close()
        assert closing.close_code == 1001
        client.send(close_frame(1001))
        assert client.receive_end() == b""
        client.disconnect()  # it would be waited for
        assert site.wait_end() == 0
    assert site.said("closed 1001")
    assert site.said("destroyed")
    assert not site.pidfile.exists()


def test_a_stop_under_load_tells_everybody(site: Site) -> None:
    pid = site.run()
    clients = [site.connect() for _ in range(50)]
    try:
        for client in clients:
            for _ in range(20):
                client.send_text("x" * 1000)
        os.kill(pid, signal.SIGTERM)
        for client in clients:
            while (frame := client.receive_frame()).opcode != CLOSE:
                assert frame.payload == b"x" * 1000
            assert frame.close_code == 1001
            client.send(close_frame(1001))
            assert client.receive_end() == b""
            client.disconnect()
        assert site.wait_end() == 0
    finally:
        for client in clients:
            client.disconnect()


def test_a_stop_is_bounded_for_peers_that_never_answer(site: Site) -> None:
    site.configure(more="[timeouts]\nclose_seconds = 0.3")
    site.start()
    with site.connect():
        done = site.wsd("stop")
    assert done.returncode == 0, done.stderr


def test_a_second_sigterm_ends_it_at_once(site: Site) -> None:
    site.configure(more="[timeouts]\nclose_seconds = 3600")
    pid = site.run()
    with site.connect() as client:
        os.kill(pid, signal.SIGTERM)
        assert client.receive_close().close_code == 1001
        os.kill(pid, signal.SIGTERM)
        assert site.wait_end() == 0
    assert site.said("at once")
    assert not site.pidfile.exists()


BLOCKER = """
import time
from wsd import Protocol, log

class Blocker(Protocol):
    name = "blocker"

    def on_message(self, wsi, message):
        log.user("blocking")
        while True:
            time.sleep(1000)

protocols = [Blocker]
"""


def test_a_second_sigterm_ends_it_below_a_plugin_that_blocks(site: Site) -> None:
    site.plugin("blocker", BLOCKER)
    pid = site.run()
    with site.connect("blocker") as client:
        client.send_text("block")
        site.wait_said("blocking")
        done = site.wsd("status", timeout=3 * PATIENCE)
        assert done.returncode == 1
        assert f"pid {pid}, but does not answer" in done.stderr
        os.kill(pid, signal.SIGTERM)

        def again() -> bool:
            os.kill(pid, signal.SIGTERM)
            return site.process is not None and site.process.poll() is not None

        wait_until(again)
    assert site.wait_end() == 1
    assert site.said("a plugin held the loop")
    assert not site.pidfile.exists()


def test_stop_works_with_a_configuration_that_has_become_wrong(site: Site) -> None:
    site.start()
    site.config.write_text(site.config.read_text() + "\nnonsense = 1\n")
    assert site.wsd("reload").returncode == 78
    assert site.wsd("status").returncode == 0
    assert site.wsd("stop").returncode == 0
    assert lock_holder(site.pidfile) is None


def test_the_descriptors_after_connections_are_those_before(site: Site) -> None:
    pid = site.run()
    port = site.port
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(30):
        with connect(port, "echo") as client:
            client.finish()
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) == before)
