"""Signals and the log's target.  The order of start-up, reload and stop are shown on real processes."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsd import log, server
from wsd.config import Config
from wsd.context import Context
from wsd.daemon import Readiness
from wsd.server import LogTarget, Signals, is_journal, stop_seconds

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture
def context() -> Iterator[Context]:
    before = {number: signal.getsignal(number) for number in (*HEARD, signal.SIGPIPE)}
    with Context() as context:
        yield context
    for number, handler in before.items():
        signal.signal(number, handler)


class Heard:
    """What the loop was told."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.turns: list[set[int]] = []
        self.given_up = 0
        self.signals = Signals(context, self.turns.append, self._give_up)

    def _give_up(self) -> None:
        self.given_up += 1


@pytest.fixture
def heard(context: Context) -> Iterator[Heard]:
    heard = Heard(context)
    yield heard
    heard.signals.close()


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def test_signals_come_through_the_loop(heard: Heard) -> None:
    send(signal.SIGHUP)
    assert heard.turns == []
    heard.context.service(0)
    assert heard.turns == [{signal.SIGHUP}]


def test_a_storm_is_one_note(heard: Heard) -> None:
    send(*[signal.SIGHUP] * 5000)
    heard.context.service(0)
    heard.context.service(0)
    assert heard.turns == [{signal.SIGHUP}]


def test_two_stops_within_a_turn_are_two(heard: Heard) -> None:
    send(signal.SIGTERM, signal.SIGHUP, signal.SIGTERM)
    heard.context.service(0)
    assert heard.turns == [{signal.SIGTERM, signal.SIGHUP}, {signal.SIGTERM}]


def test_a_second_stop_that_finds_the_first_unheard_gives_up(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    send(signal.SIGTERM, signal.SIGTERM)
    assert heard.given_up == 0  # the loop has had no time to hear the first
    clock[0] += 5
    send(signal.SIGHUP)
    assert heard.given_up == 0
    send(signal.SIGINT)
    assert heard.given_up == 1


def test_after_the_end_stops_are_ignored(context: Context) -> None:
    Heard(context).signals.close()
    send(*HEARD)


@pytest.fixture
def quiet() -> Iterator[None]:
    level = log.level()
    yield
    log.set_level(level, log.emit_stderr)


@pytest.mark.usefixtures("quiet")
class TestLogTarget:
    def config(self, **table: object) -> Config:
        return Config.model_validate({"log": table})

    def test_levels_come_from_the_configuration_unless_they_are_given(self) -> None:
        LogTarget(Readiness(), None).open(self.config(levels=["err", "info"]))
        assert log.level() == log.ERR | log.INFO
        LogTarget(Readiness(), log.DEBUG).open(self.config(levels=["err"]))
        assert log.level() == log.DEBUG

    def test_syslog_that_is_not_there_is_said(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        target = LogTarget(Readiness(), None)
        target.open(self.config(target="syslog", syslog_socket=str(tmp_path / "log")))
        assert f"{tmp_path / 'log'}: No such file" in capfd.readouterr().err
        target.close()

    def test_what_syslog_did_not_take_is_sent_later(
        self, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "_SYSLOG_RETRY_SECONDS", 0.0)
        target = LogTarget(Readiness(), None)
        target.open(self.config(target="syslog", syslog_socket=str(tmp_path / "log")))
        log.warn("early")
        target.serve(context)
        assert context.timers.next_deadline() is not None
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(tmp_path / "log"))
            receiver.settimeout(1)
            context.service(0)
            assert receiver.recv(1000).endswith(b"early")
        assert context.timers.next_deadline() is None  # no timer where nothing waits
        target.close()

    def test_a_reload_changes_the_target(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        target = LogTarget(Readiness(), None)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(tmp_path / "log"))
            receiver.settimeout(1)
            target.open(self.config(target="syslog", syslog_socket=str(tmp_path / "log")))
            log.warn("there")
            assert receiver.recv(1000).endswith(b"there")
        target.open(self.config())
        log.warn("here")
        assert capfd.readouterr().err.endswith("here\n")


def test_the_journal_is_told_by_its_device_and_inode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert not is_journal()
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert is_journal()
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    assert not is_journal()


def test_a_stop_takes_as_long_as_the_slowest_close() -> None:
    assert stop_seconds(Config()) == 7.0
    assert stop_seconds(Config.model_validate({"protocols": {"slow": {"timeouts": {"close_seconds": 60}}}})) == 62.0
