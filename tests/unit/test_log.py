"""The log: what is said, in one line, to whom; and that it never waits and never raises."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.timing import MS
from wsd import log
from wsd.log import Syslog, Throttle, escape

NAMES = ["err", "warn", "notice", "info", "debug", "parser", "header", "ext", "client", "latency", "user"]
ALL = sum(log.NAMES.values())


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    bits, emitter = log.level(), log._emitter
    yield
    log.set_level(bits, emitter)


@pytest.fixture
def lines() -> list[tuple[int, str]]:
    """Everything that is logged, at every level."""
    found: list[tuple[int, str]] = []
    log.set_level(ALL, lambda level, line: found.append((level, line)))
    return found


# -- levels -----------------------------------------------------------------------------------------------------------


def test_the_bits_are_those_of_libwebsockets() -> None:
    assert list(log.NAMES) == NAMES
    assert list(log.NAMES.values()) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert log.DEFAULT == 1 | 2 | 4 | 1024


@pytest.mark.parametrize("name", NAMES)
def test_each_level_is_on_alone(name: str, lines: list[tuple[int, str]]) -> None:
    bit = log.NAMES[name]
    log.set_level(bit)
    for other in NAMES:
        getattr(log, other)("%s says %d", other, 1)
        log.log(log.NAMES[other], "%s again", other)
    assert lines == [(bit, f"{name} says 1"), (bit, f"{name} again")]
    assert [log.is_on(log.NAMES[other]) for other in NAMES] == [other == name for other in NAMES]
    assert log.level() == bit


def test_no_emitter_leaves_the_one_there_is(lines: list[tuple[int, str]]) -> None:
    log.set_level(log.ERR, None)
    log.err("x")
    assert lines == [(log.ERR, "x")]


def test_the_emitter_can_be_had_to_wrap_it(lines: list[tuple[int, str]]) -> None:
    inner = log.emitter()
    log.set_level(log.ERR, lambda level, line: inner(level, f"wrapped: {line}"))
    log.err("x")
    assert lines == [(log.ERR, "wrapped: x")]
    log.set_level(log.ERR, inner)
    assert log.emitter() is inner


def test_nothing_is_formatted_that_is_not_shown(lines: list[tuple[int, str]]) -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    log.set_level(log.ERR)
    log.debug("%s", Costly())
    assert lines == []


def test_names_become_bits() -> None:
    assert log.parse_levels(["err", "debug", "err"]) == log.ERR | log.DEBUG
    assert log.parse_levels([]) == 0
    with pytest.raises(ValueError, match=r"^no such log level: 'wran'; allowed: err, warn, notice, info, .*, user$"):
        log.parse_levels(["err", "wran"])


# -- one line ---------------------------------------------------------------------------------------------------------


def test_what_a_peer_sent_is_one_line_and_drives_no_terminal(lines: list[tuple[int, str]]) -> None:
    log.info("GET %s", "/\n<8>fake\x1b[2J\x00\x7f\x9b\r\u2028é")
    assert lines == [(log.INFO, "GET /\\x0a<8>fake\\x1b[2J\\x00\\x7f\\x9b\\x0d\\u2028é")]


ESCAPED = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@given(st.text() | st.text("ab\u061c\u200e\u2028\u202e\u2069\u202f\u206a"))
def test_an_escaped_text_has_no_control_characters_and_the_rest_is_left(text: str) -> None:
    escaped = escape(text)
    assert not ESCAPED.search(escaped)
    if not ESCAPED.search(text):
        assert escaped == text


def test_what_turns_the_direction_of_writing_is_told_and_not_done() -> None:
    assert escape("txt.\u202ecod\u2066 é") == "txt.\\u202ecod\\u2066 é"


def test_a_line_end_of_ones_own_is_dropped(lines: list[tuple[int, str]]) -> None:
    """Those who come from libwebsockets write it."""
    log.user("hello\n")
    log.user("hello\n\n")
    assert [line for _, line in lines] == ["hello", "hello\\x0a"]


def test_a_percent_sign_without_arguments_is_text(lines: list[tuple[int, str]]) -> None:
    log.user("100 %")
    assert lines[0][1] == "100 %"


def test_wrong_arguments_still_make_a_line(lines: list[tuple[int, str]]) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    log.user("%d", "x")
    log.user("%s %s", "x")
    log.user("%s", Broken())
    assert [line for _, line in lines] == [
        "%d [bad log arguments: TypeError]",
        "%s %s [bad log arguments: TypeError]",
        "%s [bad log arguments: RuntimeError]",
    ]


@pytest.mark.parametrize("character", ["x", "é", "\U0001f600", "\x00", "\udc80"])
def test_a_long_line_is_cut_and_says_so(character: str, lines: list[tuple[int, str]]) -> None:
    log.user("%s", character * 100_000)
    (line,) = (line for _, line in lines)
    assert line.endswith(" ... (cut; it had 100000 characters)")
    assert len(line.encode("utf-8", "backslashreplace")) <= log.LINE_BYTES + 40
    assert line.startswith(character.encode("utf-8", "backslashreplace").decode() if character > " " else "\\x00\\x00")


def test_a_line_that_just_fits_is_not_cut(lines: list[tuple[int, str]]) -> None:
    log.user("x" * log.LINE_BYTES)
    log.user("x" * (log.LINE_BYTES + 1))
    assert [len(line) for _, line in lines] == [
        log.LINE_BYTES,
        log.LINE_BYTES + len(" ... (cut; it had 3501 characters)"),
    ]


def test_a_block_is_a_line_each_and_nothing_in_it_passes_for_another(lines: list[tuple[int, str]]) -> None:
    log.block(log.ERR, "100 % wrong", "Traceback\n  x\nError: bad\nwsd[1]: root logged in\x1b\n")
    assert lines == [
        (log.ERR, "100 % wrong"),
        (log.ERR, "| Traceback"),
        (log.ERR, "|   x"),
        (log.ERR, "| Error: bad"),
        (log.ERR, "| wsd[1]: root logged in\\x1b"),
    ]
    log.set_level(log.WARN)
    log.block(log.ERR, "more", "x")
    assert len(lines) == 5


def test_a_dump_shows_bytes_and_text(lines: list[tuple[int, str]]) -> None:
    log.hexdump(b"GET / HTTP/1.1\r\n\xff")
    assert lines == [
        (log.DEBUG, "0000: 47 45 54 20 2f 20 48 54 54 50 2f 31 2e 31 0d 0a  GET / HTTP/1.1.."),
        (log.DEBUG, "0010: ff" + " " * 47 + "."),
    ]
    lines.clear()
    log.hexdump(memoryview(b"x" * 2000), log.PARSER)
    assert len(lines) == 65
    assert lines[-1] == (log.PARSER, "0400: ... 976 more bytes")
    lines.clear()
    log.set_level(log.ERR)
    log.hexdump(b"x")
    assert lines == []


# -- emitters that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), RecursionError()])
def test_an_emitter_that_raises_breaks_nothing(error: BaseException, capfd: pytest.CaptureFixture[str]) -> None:
    def emit(level: int, line: str) -> None:
        raise error

    log.set_level(log.ERR, emit)
    log.err("important")
    said = capfd.readouterr().err
    assert "important\n" in said
    assert f"the log emitter raised {type(error).__name__}" in said


def test_an_emitter_may_log(capfd: pytest.CaptureFixture[str]) -> None:
    seen = []

    def emit(level: int, line: str) -> None:
        seen.append(line)
        log.err("from inside")

    log.set_level(log.ERR, emit)
    log.err("one")
    log.err("two")
    assert seen == ["one", "two"]
    assert capfd.readouterr().err.count("from inside") == 2


# -- standard error ---------------------------------------------------------------------------------------------------


@pytest.fixture
def standard_error(tmp_path: Path) -> Iterator[list[int]]:
    """What a test sets descriptor 2 to is undone."""
    saved = os.dup(2)
    opened: list[int] = []
    yield opened
    os.dup2(saved, 2)
    for descriptor in (saved, *opened):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    log._stderr.dropped = 0


def test_for_a_terminal_there_is_the_time_and_the_level(capfd: pytest.CaptureFixture[str]) -> None:
    log.set_level(ALL, log.emit_stderr)
    log.notice("started")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} NOTICE started\n", capfd.readouterr().err)


@pytest.mark.parametrize(("name", "priority"), list(zip(NAMES, [3, 4, 5, 6, 7, 7, 7, 7, 7, 7, 6], strict=True)))
def test_for_the_journal_there_is_the_priority(name: str, priority: int, capfd: pytest.CaptureFixture[str]) -> None:
    log.set_level(ALL, log.emit_stderr_journal)
    getattr(log, name)("é\udc80")
    assert capfd.readouterr().err == f"<{priority}>é\\udc80\n"


def test_a_full_pipe_drops_lines_and_tells_when_it_takes_them_again(standard_error: list[int]) -> None:
    reader, writer = os.pipe()
    standard_error += [reader, writer]
    os.dup2(writer, 2)
    log.set_level(log.ERR, log.emit_stderr_journal)
    began = time.monotonic()
    for number in range(2000):
        log.err("%d %s", number, "x" * 90)
    assert time.monotonic() - began < 5000 * MS
    dropped = log._stderr.dropped
    assert 0 < dropped < 2000
    taken = b""
    while not taken.endswith(b"\n") or b"<3>%d " % (1999 - dropped) not in taken:
        taken += os.read(reader, 65536)
    assert taken.count(b"\n") == 2000 - dropped  # whole lines, none cut
    log.err("again")
    assert os.read(reader, 65536).decode() == f"<3>{dropped} lines dropped: standard error took none\n<3>again\n"


def test_a_standard_error_that_is_gone_is_no_error(standard_error: list[int]) -> None:
    log.set_level(log.ERR, log.emit_stderr)
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)
    os.close(reader)
    log.err("EPIPE")
    assert log._stderr.dropped == 1
    os.close(2)
    log.err("EBADF")
    os.open("/dev/full", os.O_WRONLY)  # the lowest number that is free: 2
    log.err("ENOSPC")
    assert log._stderr.dropped == 3


def test_a_daemon_without_standard_error_logs_on() -> None:
    program = "from wsd import log\nfor n in range(9): log.err('x')\nprint('alive')"
    root = Path(log.__file__).parent.parent
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=20_000 * MS,
        check=True,
    )
    assert done.stdout == "alive\n"


# -- syslog -----------------------------------------------------------------------------------------------------------


class Receiver:
    """A syslog daemon: a datagram socket at a path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def take(self) -> list[str]:
        taken = []
        with contextlib.suppress(BlockingIOError):
            while True:
                taken.append(self.socket.recv(65536).decode())
        return taken

    def texts(self) -> list[str]:
        return [line.partition("]: ")[2] for line in self.take()]

    def vanish(self) -> None:
        self.socket.close()
        self.path.unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def receiver(path: Path) -> Iterator[Receiver]:
    made = Receiver(path)
    yield made
    made.socket.close()


@pytest.fixture
def syslog(path: Path) -> Iterator[Syslog]:
    made = Syslog(path)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("name", "priority"), list(zip(NAMES, [27, 28, 29, 30, 31, 31, 31, 31, 31, 31, 30], strict=True))
)
def test_lines_are_those_of_rfc_3164(name: str, priority: int, receiver: Receiver, syslog: Syslog) -> None:
    log.set_level(ALL, syslog)
    getattr(log, name)("grüße\n<8>x")
    (line,) = receiver.take()
    months = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
    assert re.fullmatch(rf"<{priority}>({months}) [ \d]\d \d\d:\d\d:\d\d wsd\[{os.getpid()}\]: grüße\\x0a<8>x", line)


def test_the_day_is_padded_with_a_space_and_the_ident_is_ones_own(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "localtime", lambda: time.struct_time((2024, 2, 9, 8, 7, 6, 4, 40, 0)))
    with contextlib.closing(Syslog(receiver.path, ident="other")) as syslog:
        syslog(log.NOTICE, "x")
    assert receiver.take() == [f"<29>Feb  9 08:07:06 other[{os.getpid()}]: x"]


def test_one_that_never_spoke_is_closed_without_a_socket(path: Path) -> None:
    Syslog(path).close()
    with contextlib.closing(Syslog(path)) as syslog:
        assert syslog.error == ""
    assert syslog.error == "closed"  # and nobody was looked for


def test_a_receiver_that_is_there_is_reached(receiver: Receiver, syslog: Syslog) -> None:
    assert not syslog.connected
    assert syslog.flush()
    assert (syslog.connected, syslog.error, syslog.pending, syslog.dropped) == (True, "", 0, 0)


def test_a_stalled_receiver_holds_up_nobody_and_gets_what_it_missed(receiver: Receiver, syslog: Syslog) -> None:
    began = time.monotonic()
    for number in range(500):
        syslog(log.INFO, str(number))
    assert time.monotonic() - began < 2000 * MS
    assert (syslog.connected, syslog.dropped) == (True, 0)
    assert syslog.pending > 400
    assert syslog.error
    taken = receiver.texts()
    while not syslog.flush():
        taken += receiver.texts()
    taken += receiver.texts()
    assert taken == [str(number) for number in range(500)]
    assert (syslog.pending, syslog.error) == (0, "")


def test_beyond_the_bound_the_oldest_are_dropped_and_that_is_said(receiver: Receiver) -> None:
    with contextlib.closing(Syslog(receiver.path, pending_lines=5)) as syslog:
        for number in range(100):
            syslog(log.INFO, str(number))
        before = receiver.texts()
        dropped = 100 - len(before) - 5
        assert (syslog.pending, syslog.dropped) == (5, dropped)
        syslog(log.INFO, "100")
        assert receiver.texts() == [
            f"{dropped} lines dropped: {receiver.path} took none", "95", "96", "97", "98", "99", "100"
        ]  # fmt: skip
        syslog(log.INFO, "101")
        assert receiver.texts() == ["101"]
        assert syslog.dropped == dropped  # since the start


def test_a_receiver_that_comes_late_gets_the_start(path: Path, syslog: Syslog) -> None:
    syslog(log.NOTICE, "started")
    assert (syslog.connected, syslog.pending, syslog.error) == (False, 1, "No such file or directory")
    receiver = Receiver(path)
    assert syslog.flush()
    assert receiver.texts() == ["started"]
    receiver.vanish()


def test_a_receiver_that_vanishes_and_returns_gets_what_it_missed(path: Path, syslog: Syslog) -> None:
    receiver = Receiver(path)
    syslog(log.INFO, "1")
    assert receiver.texts() == ["1"]
    receiver.vanish()
    syslog(log.INFO, "2")
    syslog(log.INFO, "3")
    assert (syslog.connected, syslog.pending) == (False, 2)
    receiver = Receiver(path)
    assert syslog.flush()
    syslog(log.INFO, "4")
    assert receiver.texts() == ["2", "3", "4"]
    receiver.vanish()


def test_a_receiver_that_was_restarted_is_found_with_the_next_line(path: Path, syslog: Syslog) -> None:
    receiver = Receiver(path)
    syslog(log.INFO, "1")
    receiver.vanish()
    receiver = Receiver(path)
    syslog(log.INFO, "2")
    assert receiver.texts() == ["2"]
    assert syslog.pending == 0
    receiver.vanish()


def test_an_absent_receiver_is_not_tried_with_each_line(
    path: Path, syslog: Syslog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    syslog(log.INFO, "1")
    receiver = Receiver(path)
    now = 100.9
    syslog(log.INFO, "2")
    assert syslog.pending == 2
    now = 101.0
    syslog(log.INFO, "3")
    assert receiver.texts() == ["1", "2", "3"]
    receiver.vanish()


def test_the_owner_is_told_once_that_lines_wait(path: Path, syslog: Syslog) -> None:
    told: list[int] = []
    syslog.on_pending = lambda: told.append(syslog.pending)
    syslog(log.INFO, "1")
    syslog(log.INFO, "2")
    assert told == [1]
    receiver = Receiver(path)
    syslog.flush()
    receiver.vanish()
    syslog(log.INFO, "3")
    assert told == [1, 1]


@pytest.mark.parametrize("where", ["a\0b", "x" * 200, "/dev/null", ""])
def test_a_socket_that_cannot_be_is_no_error(where: str) -> None:
    with contextlib.closing(Syslog(where)) as syslog:
        syslog(log.ERR, "x")
        assert (syslog.connected, syslog.pending) == (False, 1)
        assert syslog.error


def test_a_stream_socket_in_its_place_is_no_error(path: Path, syslog: Syslog) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()
        syslog(log.ERR, "x")
    assert syslog.error == "Protocol wrong type for socket"


def test_a_closed_emitter_opens_again_with_the_next_line(receiver: Receiver, syslog: Syslog) -> None:
    syslog(log.INFO, "1")
    syslog.close()
    assert not syslog.connected
    syslog(log.INFO, "2")
    assert receiver.texts() == ["1", "2"]


def test_the_longest_line_fits_a_datagram(receiver: Receiver, syslog: Syslog) -> None:
    log.set_level(log.ERR, syslog)
    log.err("\U0001f600" * 10_000)
    (line,) = receiver.take()
    assert len(line.encode()) < 4096


def test_a_line_that_no_datagram_holds_keeps_nobody_waiting(receiver: Receiver, syslog: Syslog) -> None:
    syslog(log.INFO, "x" * 10_000_000)  # past log(), which would have cut it
    syslog(log.INFO, "next")
    assert receiver.texts() == [f"1 lines dropped: {receiver.path} took none", "next"]
    assert (syslog.pending, syslog.dropped) == (0, 1)


def test_the_shipped_emitter_speaks_to_dev_log() -> None:
    assert isinstance(log.emit_syslog, Syslog)
    assert log.emit_syslog.socket_path == "/dev/log"
    assert not log.emit_syslog.connected  # nothing is opened by importing


# -- throttle ---------------------------------------------------------------------------------------------------------


def test_once_per_key_and_minute_then_counted() -> None:
    throttle = Throttle()
    assert throttle.allow("a", 0.0) == 0
    assert [throttle.allow("a", now) for now in (0.0, 1.0, 59.9)] == [None, None, None]
    assert throttle.allow("b", 1.0) == 0
    assert throttle.allow("a", 60.0) == 3
    assert throttle.allow("a", 119.0) is None
    assert throttle.allow("a", 121.0) == 1
    assert throttle.allow("a", 500.0) == 0


def test_keys_are_bounded_and_those_beyond_share_one() -> None:
    throttle = Throttle(max_keys=3)
    assert [throttle.allow(key, 0.0) for key in range(10)] == [0, 0, 0, 0] + [None] * 6
    assert len(throttle._seen) == 4
    assert throttle.allow(11, 30.0) is None
    assert throttle.allow(12, 60.0) == 0  # the minute of the others is over: there is room again
    assert len(throttle._seen) <= 4


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 100)), max_size=200))
def test_nothing_is_lost_and_little_is_kept(steps: list[tuple[int, float]]) -> None:
    throttle, now, allowed = Throttle(max_keys=5), 0.0, []
    for key, later in steps:
        now += later
        if throttle.allow(key, now) is not None:
            allowed.append(now)
        assert len(throttle._seen) <= 6
    for start in allowed:
        assert sum(start <= moment < start + 60 for moment in allowed) <= 2 * 6
