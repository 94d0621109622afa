"""The messages of sd_notify(3), read from a socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsd.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(1)
        yield manager


@pytest.fixture
def notifier(tmp_path: Path, manager: socket.socket) -> Iterator[Notifier]:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    yield notifier
    notifier.close()


def test_each_message_as_the_manual_has_it(notifier: Notifier, manager: socket.socket) -> None:
    assert notifier.is_active
    notifier.ready("1 of 2")
    assert manager.recv(1000).decode() == f"READY=1\nSTATUS=1 of 2\nMAINPID={os.getpid()}"
    notifier.stopping("bye")
    assert manager.recv(1000) == b"STOPPING=1\nSTATUS=bye"
    notifier.status("one\nREADY=1")
    assert manager.recv(1000) == b"STATUS=one READY=1"
    notifier.watchdog()
    assert manager.recv(1000) == b"WATCHDOG=1"
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    reloading, usec = manager.recv(1000).decode().splitlines()
    assert reloading == "RELOADING=1"
    assert before <= int(usec.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_a_full_socket_does_not_wait_and_does_not_raise(notifier: Notifier, manager: socket.socket) -> None:
    for _ in range(1000):
        notifier.watchdog()


def test_a_manager_that_is_gone_does_not_raise(notifier: Notifier, manager: socket.socket, tmp_path: Path) -> None:
    manager.close()
    notifier.watchdog()
    os.unlink(tmp_path / "notify")
    notifier.watchdog()


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    assert not notifier.is_active
    notifier.ready("")
    notifier.close()


def test_the_variables_are_taken_out() -> None:
    environ = {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "7", "PATH": "/bin"}
    Notifier(environ)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", "", 30.0),
        pytest.param("500000", str(os.getpid()), 0.5, id="ours"),
        ("30000000", "1", 0.0),
        ("", "", 0.0),
        ("-5", "", 0.0),
        ("soon", "", 0.0),
    ],
)
def test_the_watchdogs_interval(usec: str, pid: str, seconds: float) -> None:
    assert Notifier({"WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}).watchdog_seconds == seconds
