"""Where the log of a daemon goes: a syslog socket, also one that is away or stalls; a terminal; the journal."""

from __future__ import annotations

import os
import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import connect
from tests.support.daemon import Site
from tests.support.timing import PATIENCE, wait_until

CHATTER = """
from wsd import Protocol, log

class Chatter(Protocol):
    name = "chatter"

    def on_message(self, wsi, message):
        for number in range(int(message)):
            log.user("line %d", number)
        wsi.send("done")

protocols = [Chatter]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        site.plugin("chatter", CHATTER)
        site.configure(log=f'syslog_socket = "{tmp_path / "syslog"}"')
        yield site


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "syslog"))
        receiver.settimeout(PATIENCE)
        yield receiver


def receive_until(receiver: socket.socket, text: str) -> list[str]:
    lines: list[str] = []
    while not lines or text not in lines[-1]:
        lines.append(receiver.recv(65536).decode())
    return lines


def test_a_detached_daemon_logs_to_syslog(site: Site, receiver: socket.socket) -> None:
    pid = site.start()
    lines = receive_until(receiver, "at most")
    assert all(re.match(rf"<\d+>\w{{3}} [ \d]\d \d\d:\d\d:\d\d wsd\[{pid}\]: ", line) for line in lines)
    assert any("listening on ws://127.0.0.1:" in line for line in lines)
    site.wsd("stop")
    receive_until(receiver, "stopped")


def test_why_a_start_failed_is_in_the_log_as_well(site: Site, receiver: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        log = site.config.read_text()
        site.config.write_text(log.replace("port = 0", f"port = {other.getsockname()[1]}"))
        assert site.wsd("start").returncode == 1
    receive_until(receiver, "cannot listen on")


def test_a_stalled_receiver_holds_nobody_up(site: Site, receiver: socket.socket) -> None:
    site.start()
    with site.connect("chatter") as client:
        client.send_text("500")  # a datagram socket holds about ten
        assert client.receive_message() == "done"
        lines = receive_until(receiver, "line 499")
    numbers = [int(match[1]) for line in lines if (match := re.search(r"line (\d+)", line))]
    assert numbers == list(range(500))


def test_without_a_syslog_socket_it_starts_says_so_and_tries_again(site: Site, tmp_path: Path) -> None:
    done = site.wsd("start")
    assert done.returncode == 0
    assert f"{tmp_path / 'syslog'}: No such file or directory" in done.stderr
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "syslog"))
        receiver.settimeout(PATIENCE)
        lines = receive_until(receiver, "at most")
    assert any("listening on" in line for line in lines)


def test_a_detached_daemon_with_its_log_on_stderr_says_that_it_has_none(site: Site) -> None:
    site.configure(log='target = "stderr"')
    assert "nothing will be logged" in site.wsd("start").stderr


def test_in_the_journal_each_line_has_its_priority(site: Site) -> None:
    read, write = os.pipe()
    try:
        status = os.fstat(write)
        environment = site.environment({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        site.run(stderr=write, stdout=write, env=environment, wait=False)
        text = b""
        while b"at most" not in text:
            assert select.select([read], [], [], PATIENCE)[0], text
            text += os.read(read, 65536)
        assert all(re.match(rb"<[3-6]>", line) for line in text.splitlines()), text
    finally:
        os.close(read)
        os.close(write)


def test_a_reader_of_stderr_that_stalls_or_goes_holds_nobody_up(site: Site) -> None:
    read, write = os.pipe()
    try:
        site.run(stderr=write, stdout=write, wait=False)
        wait_until(lambda: site.wsd("status").returncode == 0)
        port = int(site.status()["listeners"][0]["address"].rstrip("/").rpartition(":")[2])
        with connect(port, "chatter") as client:
            client.send_text("5000")
            assert client.receive_message() == "done"
            os.close(read)
            read = -1
            client.send_text("5000")
            assert client.receive_message() == "done"
    finally:
        if read >= 0:
            os.close(read)
        os.close(write)
