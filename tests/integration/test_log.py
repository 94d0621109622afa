"""The log as plugins and embedders use it: what each level says of a real context, alone, and changed while it runs."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import BINARY, TEXT, Client, connect, frame, upgrade_request
from tests.support.context import Running, running
from tests.support.timing import PATIENCE, wait_until
from wsd import Context, Limits, Protocol, Wsi, log

ROOT = Path(log.__file__).parent.parent
ALL = sum(log.NAMES.values())

COUNT = itertools.count()

DEFLATE = ("Sec-WebSocket-Extensions", "permessage-deflate")


class Talker(Protocol):
    """Does what it is told, so that each level has something to say."""

    name = "talker"

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        if isinstance(message, bytes):
            log.hexdump(message)
        elif message == "fail":
            # In a file of its own: one place is reported once a minute, and several tests come by.
            exec(compile('raise RuntimeError("told to")', f"fault-{next(COUNT)}", "exec"))
        elif message == "flood":
            for _ in range(3):
                wsi.send("x" * 4000)
        elif message == "dawdle":
            time.sleep(0.012)  # a turn is slow from 10 ms on
        elif message.startswith("levels "):
            log.set_level(log.parse_levels(message.split()[1:]))
        elif message.startswith("call "):
            self.context.client_connect(message.partition(" ")[2], protocol=self)
        else:
            log.user("heard %s", message)
        wsi.send("done")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    bits, emitter = log.level(), log.emitter()
    yield
    log.set_level(bits, emitter)


@pytest.fixture
def lines() -> list[tuple[int, str]]:
    """What is emitted from now on, at the default levels."""
    found: list[tuple[int, str]] = []
    log.set_level(log.DEFAULT, lambda level, line: found.append((level, line)))
    return found


@pytest.fixture
def served(lines: list[tuple[int, str]]) -> Iterator[Running]:
    with running([Talker()], limits=Limits(max_queue_bytes=4096)) as made:
        yield made


def say(client: Client, text: str) -> None:
    """Have the plugin do something, and wait until it has."""
    client.send_text(text)
    assert client.receive_message() == "done"


def converse(served: Running, dead: Path) -> None:
    """Some of everything: for each level at least one thing that it tells."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(dead))
    listener = served.call(lambda: served.context.listen(unix=str(dead)))
    served.call(lambda: served.context.remove_listener(listener))
    with connect(served.port, "talker", headers=[DEFLATE]) as client:
        say(client, "dawdle")
        say(client, "anything")
        client.send(frame(BINARY, b"\x00\xff"))
        assert client.receive_message() == "done"
        say(client, f"call ws://127.0.0.1:{served.port}/")
        client.finish()
    for last in ("fail", "flood"):
        with connect(served.port, "talker") as client:
            client.send_text(last)
            client.receive_close()
    wait_until(lambda: served.call(lambda: served.context.wsi_count) <= 2)  # the call and its other end


# -- the levels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", log.NAMES)
def test_each_level_says_something_and_nothing_of_another(
    name: str, served: Running, lines: list[tuple[int, str]], tmp_path: Path
) -> None:
    log.set_level(log.NAMES[name])
    converse(served, tmp_path / "dead.sock")
    assert {level for level, _ in lines} == {log.NAMES[name]}


def test_by_default_there_are_errors_warnings_notices_and_what_plugins_say(
    served: Running, lines: list[tuple[int, str]], tmp_path: Path
) -> None:
    converse(served, tmp_path / "dead.sock")
    assert {level for level, _ in lines} == {log.ERR, log.WARN, log.NOTICE, log.USER} == set(_bits(log.DEFAULT))


def _bits(levels: int) -> Iterator[int]:
    return (bit for bit in log.NAMES.values() if levels & bit)


def test_without_any_level_there_is_silence(served: Running, lines: list[tuple[int, str]], tmp_path: Path) -> None:
    log.set_level(0)
    converse(served, tmp_path / "dead.sock")
    assert lines == []


def test_a_line_about_a_connection_begins_with_its_tag(served: Running, lines: list[tuple[int, str]]) -> None:
    log.set_level(ALL & ~log.USER & ~log.LATENCY)
    with connect(served.port, "talker", headers=[DEFLATE]) as client:
        tag = served.call(lambda: next(iter(served.context.protocols[0].wsis)).tag)
        before = len(lines)
        say(client, "anything")
        client.send(frame(TEXT, b"\xff"))  # 1007
        client.receive_close()
    wait_until(lambda: any("closed, 1006" in line for _, line in lines[before:]))
    assert tag.startswith("talker#")
    assert len(lines) - before >= 4
    assert [line for _, line in lines[before:] if not line.startswith(f"{tag}: ")] == []


def test_what_a_peer_sent_is_escaped_at_every_level(served: Running, lines: list[tuple[int, str]]) -> None:
    log.set_level(ALL)
    with connect(served.port, "talker", path="/%0a\x1b[2J".replace("\x1b", "%1b")) as client:
        say(client, "line\nand\x1b[2J")
    with Client(served.port) as client:
        client.send(upgrade_request("/", "talker\x1b"))
        client.receive_response()
    assert (log.USER, "heard line\\x0aand\\x1b[2J") in lines
    assert not [line for _, line in lines if not line.isprintable()]


# -- while it runs ----------------------------------------------------------------------------------------------------


def test_a_hook_changes_the_levels_and_the_emitter_stays(served: Running, lines: list[tuple[int, str]]) -> None:
    with connect(served.port, "talker") as client:
        say(client, "one")
        say(client, "levels info")
        say(client, "two")
    wait_until(lambda: any("closed" in line for _, line in lines))
    assert [line for level, line in lines if level == log.USER] == ["heard one"]
    with connect(served.port, "talker") as client:
        say(client, "levels user err")
        say(client, "three")
        seen = len(lines)
    assert lines[-1] == (log.USER, "heard three")
    assert [level for level, _ in lines[:seen]].count(log.INFO) == 2  # closed, and established again


def test_another_emitter_takes_over_at_once(served: Running, lines: list[tuple[int, str]]) -> None:
    others: list[str] = []
    with connect(served.port, "talker") as client:
        say(client, "one")
        first = log.emitter()
        log.set_level(log.level(), lambda level, line: others.append(line))
        say(client, "two")
        log.set_level(log.level(), first)
        say(client, "three")
    assert [line for level, line in lines if level == log.USER] == ["heard one", "heard three"]
    assert others == ["heard two"]


def test_an_emitter_may_be_a_method_of_what_collects(served: Running) -> None:
    class Collector:
        def __init__(self) -> None:
            self.seen: list[tuple[int, str]] = []

        def emit(self, level: int, line: str) -> None:
            self.seen.append((level, line))

    collector = Collector()
    log.set_level(log.USER, collector.emit)
    with connect(served.port, "talker") as client:
        say(client, "x")
    assert collector.seen == [(log.USER, "heard x")]
    assert log.emitter() == collector.emit


def test_what_a_start_says_goes_to_the_emitter_that_was_set_before(lines: list[tuple[int, str]]) -> None:
    class Early(Protocol):
        name = "early"

        def on_protocol_init(self, context: Context, options: Any) -> None:
            log.notice("early is here")

    with Context([Early()]):
        assert lines == [(log.NOTICE, "early is here")]


# -- the shipped emitters, in a program -------------------------------------------------------------------------------

SPEAKING = """
import sys
from wsd import log

log.emit_syslog.socket_path = sys.argv[1]
log.set_level(log.ERR | log.DEBUG, {emitter})
log.err("an error")
log.warn("a warning")
log.hexdump(b"GET")
"""


def speak(emitter: str, path: Path) -> str:
    """Run a program that logs with `emitter`; what it left on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", SPEAKING.format(emitter=emitter), str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=True,
    )
    return done.stderr


@pytest.mark.parametrize("emitter", ["None", "log.emit_stderr"])
def test_standard_error_is_the_default(emitter: str, tmp_path: Path) -> None:
    first, second = speak(emitter, tmp_path / "log").splitlines()
    assert first.endswith(" ERR    an error")
    assert second.endswith(f" DEBUG  0000: {'47 45 54':<47}  GET")


def test_syslog_gets_the_same_lines_with_a_priority_each(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "log"))
        receiver.setblocking(False)
        assert speak("log.emit_syslog", tmp_path / "log") == ""
        first, second = receiver.recv(4096).decode(), receiver.recv(4096).decode()
        with pytest.raises(BlockingIOError):
            receiver.recv(4096)
    assert (first[:4], first.partition("]: ")[2]) == ("<27>", "an error")
    assert (second[:4], second.partition("]: ")[2]) == ("<31>", f"0000: {'47 45 54':<47}  GET")
