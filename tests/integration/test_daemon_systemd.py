"""Under a service manager: its notification socket, its unit file, and what the unit takes away from the process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import ROOT, Site, monotonic_usec
from tests.support.programs import require_program
from tests.support.timing import PATIENCE


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


class Manager:
    """The manager's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE)
        self.seen: list[dict[str, str]] = []

    def receive(self) -> dict[str, str]:
        text = self.socket.recv(65536).decode()
        self.seen.append(dict(line.split("=", 1) for line in text.splitlines()))
        return self.seen[-1]

    def wait_for(self, key: str) -> dict[str, str]:
        while key not in (message := self.receive()):
            pass
        return message


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket:
        yield manager


def environment(site: Site, address: str, watchdog_usec: int = 0) -> dict[str, str]:
    watchdog = {"WATCHDOG_USEC": str(watchdog_usec)} if watchdog_usec else {}
    return site.environment({"NOTIFY_SOCKET": address, **watchdog})


# -- notification -----------------------------------------------------------------------------------------------------


def test_ready_reloading_and_stopping_are_told(site: Site, manager: Manager, tmp_path: Path) -> None:
    pid = site.run(env=environment(site, str(tmp_path / "notify")))
    ready = manager.wait_for("READY")
    assert ready["READY"] == "1"
    assert ready["MAINPID"] == str(pid)
    assert re.fullmatch(r"0 of \d+ connections, 1 listeners", ready["STATUS"])
    before = monotonic_usec()
    os.kill(pid, signal.SIGHUP)
    reloading = manager.wait_for("RELOADING")
    assert before <= int(reloading["MONOTONIC_USEC"]) <= monotonic_usec()
    manager.wait_for("READY")
    site.config.write_text("nonsense")
    os.kill(pid, signal.SIGHUP)
    manager.wait_for("RELOADING")
    manager.wait_for("READY")  # as before; the log says why
    os.kill(pid, signal.SIGTERM)
    assert manager.wait_for("STOPPING")["STOPPING"] == "1"
    assert site.wait_end() == 0


def test_a_name_in_the_abstract_namespace(site: Site) -> None:
    name = f"@wsd-test-{os.getpid()}"
    manager = Manager(name)
    with manager.socket:
        site.run(env=environment(site, name))
        manager.wait_for("READY")


def test_nobody_at_the_socket_stops_nothing(site: Site, tmp_path: Path) -> None:
    site.run(env=environment(site, str(tmp_path / "nobody")))
    assert site.status()["connections"] == 0


def test_a_manager_that_reads_nothing_holds_nobody_up(site: Site, manager: Manager, tmp_path: Path) -> None:
    pid = site.run(env=environment(site, str(tmp_path / "notify"), watchdog_usec=2000))
    with site.connect() as client:
        for number in range(100):
            client.send_text(str(number))
            assert client.receive_message() == str(number)
    os.kill(pid, signal.SIGTERM)
    assert site.wait_end() == 0


def test_status_tells_the_connections(site: Site, manager: Manager, tmp_path: Path) -> None:
    site.run(env=environment(site, str(tmp_path / "notify"), watchdog_usec=20_000))
    manager.wait_for("READY")
    with site.connect():
        while not manager.wait_for("STATUS")["STATUS"].startswith("1 of "):
            pass


def test_no_watchdog_while_a_plugin_blocks(site: Site, manager: Manager, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    site.plugin(
        "blocker",
        "from wsd import Protocol, log\nclass Blocker(Protocol):\n    name = 'blocker'\n"
        f"    def on_message(self, wsi, message):\n        open({str(fifo)!r}).read()\n        wsi.send('over')\n"
        "protocols = [Blocker]\n",
    )
    site.run(env=environment(site, str(tmp_path / "notify"), watchdog_usec=20_000))
    manager.wait_for("WATCHDOG")
    manager.wait_for("WATCHDOG")
    with site.connect("blocker") as client:
        client.send_text("block")
        with fifo.open("w"):  # opens when the plugin does: from here on it blocks
            manager.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    manager.receive()
            manager.socket.settimeout(0.3)  # fifteen times the interval that was asked for
            with pytest.raises(TimeoutError):
                manager.receive()
        assert client.receive_message() == "over"
        manager.socket.settimeout(PATIENCE)
        manager.wait_for("WATCHDOG")


def test_a_watchdog_for_another_process_is_not_ours(site: Site, manager: Manager, tmp_path: Path) -> None:
    variables = {**environment(site, str(tmp_path / "notify"), watchdog_usec=2000), "WATCHDOG_PID": "1"}
    pid = site.run(env=variables)
    manager.wait_for("READY")
    os.kill(pid, signal.SIGTERM)
    manager.wait_for("STOPPING")
    assert not [message for message in manager.seen if "WATCHDOG" in message]


def test_what_a_plugin_starts_does_not_speak_for_us(site: Site, manager: Manager, tmp_path: Path) -> None:
    site.plugin(
        "env",
        "import os\nfrom wsd import Protocol\nclass Env(Protocol):\n    name = 'env'\n"
        "    def on_message(self, wsi, message):\n        wsi.send(' '.join(sorted(os.environ)))\nprotocols = [Env]\n",
    )
    site.run(env=environment(site, str(tmp_path / "notify"), watchdog_usec=1_000_000))
    with site.connect("env") as client:
        client.send_text("")
        names = str(client.receive_message()).split()
    assert "PYTHONPATH" in names
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(names)


# -- the unit ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as `make install` makes it, for a PREFIX that is there."""
    program = tmp_path / "bin" / "wsd"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)
    path = tmp_path / "wsd.service"
    path.write_text((ROOT / "systemd/wsd.service.in").read_text().replace("@PREFIX@", str(tmp_path)))
    return path


def test_systemd_verifies_the_unit_without_a_word(unit: Path) -> None:
    analyze = require_program("systemd-analyze", package="systemd")
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_exposure_is_the_one_we_print(unit: Path) -> None:
    analyze = require_program("systemd-analyze", package="systemd")
    command = [analyze, "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    match = re.search(r"Overall exposure level for wsd\.service: ([\d.]+)", done.stdout)
    assert match, done.stdout + done.stderr
    assert float(match[1]) <= 1.4


def lines(unit: Path) -> list[str]:
    return [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]


def test_the_unit_says_what_the_daemon_needs(unit: Path, tmp_path: Path) -> None:
    wanted = [
        "Type=notify",
        f"ExecStartPre={tmp_path}/bin/wsd check -c {tmp_path}/etc/wsd.toml",
        f"ExecStart={tmp_path}/bin/wsd run -c {tmp_path}/etc/wsd.toml",
        "Restart=on-failure",
        "RestartPreventExitStatus=2 78",
        "RuntimeDirectory=wsd",
        "User=wsd",
        "Group=wsd",
    ]
    assert set(wanted) <= set(lines(unit))


def test_the_stop_may_take_as_long_as_the_drain_does(unit: Path) -> None:
    from wsd.config import Config
    from wsd.server import stop_seconds

    (seconds,) = (int(line.partition("=")[2]) for line in lines(unit) if line.startswith("TimeoutStopSec="))
    assert seconds > stop_seconds(Config())


def test_callbacks_of_the_tls_library_are_not_forbidden(unit: Path) -> None:
    """MemoryDenyWriteExecute= breaks pyOpenSSL's callbacks: cffi makes them in memory that is written and executed."""
    assert not [line for line in lines(unit) if line.startswith("MemoryDenyWriteExecute")]


# -- what the unit takes away -----------------------------------------------------------------------------------------


def echoes(site: Site) -> None:
    with site.connect() as client:
        client.send_text("hello")
        assert client.receive_message() == "hello"


def test_without_new_privileges_and_with_an_empty_bounding_set(site: Site) -> None:
    setpriv = require_program("setpriv", package="util-linux")
    bounding = ["--bounding-set=-all"] if os.geteuid() == 0 else []
    site.start(prefix=[setpriv, "--no-new-privs", *bounding])
    echoes(site)
    assert site.wsd("reload").returncode == 0
    assert site.wsd("stop").returncode == 0


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts file systems in a namespace of its own")
def test_on_a_read_only_root(site: Site, tmp_path: Path) -> None:
    """ProtectSystem=strict and RuntimeDirectory=: everything is read-only but the folder of the pidfile."""
    unshare = require_program("unshare", package="util-linux")
    site.pidfile.parent.mkdir()
    script = (
        'run=$1; shift; mount --bind "$run" "$run" && mount -o remount,bind,ro / && '
        'for m in $(cut -d" " -f5 /proc/self/mountinfo); do case $m in "$run"|/proc*|/sys*|/dev*) ;; '
        '*) mount -o remount,bind,ro "$m" 2>/dev/null ;; esac; done; '
        'if touch /tmp/.wsd-read-only 2>/dev/null; then echo "/tmp is writable" >&2; exit 99; fi; exec "$@"'
    )
    prefix = [unshare, "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(site.pidfile.parent)]
    site.run(prefix=[*prefix, "setpriv", "--no-new-privs", "--bounding-set=-all"])
    echoes(site)
    assert site.wsd("reload").returncode == 0
    assert site.wsd("stop").returncode == 0
    assert not site.pidfile.exists()


# Installs a seccomp filter that answers EPERM to what SystemCallFilter= takes away, then becomes the command.
FILTERED = """
import ctypes, os, struct, sys

numbers = [int(number) for number in sys.argv[1].split(",")]
code = [(0x20, 0, 0, 0)]  # load the number
for number in numbers:
    code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | 1)]  # if it is this one: return EPERM
code += [(0x06, 0, 0, 0x7FFF0000)]  # allow
program = b"".join(struct.pack("=HBBI", *line) for line in code)
buffer = ctypes.create_string_buffer(program)
fprog = struct.pack("@HxxxxxxQ", len(code), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, fprog, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
os.execvp(sys.argv[2], sys.argv[2:])
"""

# x86-64: setuid, setgroups, setresuid, setreuid, setfsuid, capset, chown, fchown, lchown, fchownat, chroot, setrlimit.
FORBIDDEN = "105,116,117,113,122,126,92,93,94,260,161,160"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the system calls are those of x86-64")
def test_under_the_units_system_call_filter(site: Site) -> None:
    """python-daemon calls setuid() even where it changes nothing, and the filter answers EPERM."""
    prefix = [sys.executable, "-c", FILTERED, FORBIDDEN]
    probe = subprocess.run([*prefix, sys.executable, "-c", "import os; os.setuid(os.getuid())"], capture_output=True)
    assert b"PermissionError" in probe.stderr, "the filter does not filter"
    site.run(prefix=prefix)
    echoes(site)
    assert site.wsd("reload").returncode == 0
    assert site.wsd("stop").returncode == 0
    assert site.wait_end() == 0
