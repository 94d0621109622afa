"""Lines and messages: where a line ends, what a message looks like, and a standard output that is never waited for."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.timing import MS
from wsd.context import Context
from wsd.lines import LineCutter, PlainShape, Printer, ScreenShape, Shape, first_words, own_descriptor
from wsd.wire.response import error_page

# More than a pipe holds.
MUCH = b"0123456789abcdef" * 65536


# -- lines ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=9) | st.sampled_from([b"\n", b"a\n", b"\n\n", b"\r\n"])))
def test_lines_are_those_of_the_whole_however_it_is_cut(pieces: list[bytes]) -> None:
    cutter = LineCutter()
    lines = [line for piece in pieces for line in cutter.feed(piece)] + cutter.end()
    *whole, rest = b"".join(pieces).split(b"\n")
    assert lines == whole + ([rest] if rest else [])


def test_a_line_is_kept_until_it_ends() -> None:
    cutter = LineCutter()
    assert cutter.feed(b"one") == []
    assert cutter.feed(b" two\nthree\n\nfo") == [b"one two", b"three", b""]
    assert cutter.end() == [b"fo"]
    assert cutter.end() == []


# -- shapes -----------------------------------------------------------------------------------------------------------


def shaped(shape: Shape, *pieces: bytes, binary: bool = False) -> bytes:
    """What is written for one message that comes in `pieces`."""
    last = len(pieces) - 1
    return b"".join(shape.piece(data, first=at == 0, final=at == last, binary=binary) for at, data in enumerate(pieces))


@pytest.mark.parametrize("binary", [False, True])
def test_a_program_gets_the_bytes_as_they_came(binary: bool) -> None:
    shape = PlainShape()
    assert shaped(shape, b"\x1b[2J\x00", b"\xff\n", binary=binary) == b"\x1b[2J\x00\xff\n\n"
    assert shaped(shape, b"", binary=binary) == b"\n"
    assert shape.cut_off() == b""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hello", "< hello\n"),
        ("", "< \n"),
        ("grüße, 世界 👋\ttab", "< grüße, 世界 👋\ttab\n"),
        ("{\n  1\n}", "< {\n    1\n  }\n"),
        ("a\n< b", "< a\n  < b\n"),
        ("\x1b[2J\x1b]0;title\x07", "< \\x1b[2J\\x1b]0;title\\x07\n"),
        ("over\rwritten\b\x7f", "< over\\x0dwritten\\x08\\x7f\n"),
        ("\x9b31m\u2028", "< \\x9b31m\\u2028\n"),
    ],
)
def test_a_terminal_obeys_nothing_that_a_peer_sent(text: str, shown: str) -> None:
    data = text.encode()
    assert shaped(ScreenShape(), data).decode() == shown
    assert shaped(ScreenShape(), *(data[at : at + 1] for at in range(len(data))), b"").decode() == shown


def test_a_binary_message_is_shown_as_python_writes_it() -> None:
    for data in (b"", b"plain", bytes(range(256)), b"it's", b'"', b"'\"\\"):
        shown = shaped(ScreenShape(), data, binary=True).decode()
        assert shown.startswith("< b'")
        assert shown.isascii()
        assert eval(shown.removeprefix("< ")) == data
        assert shaped(ScreenShape(), data[:3], data[3:], binary=True).decode() == shown


def test_a_message_that_was_cut_off_leaves_the_next_line_free() -> None:
    shape = ScreenShape()
    shape.piece("ü".encode()[:1], first=True, final=False, binary=False)
    assert shape.cut_off() == b"\n"
    assert shape.cut_off() == b""
    assert shaped(shape, b"new") == b"< new\n"
    assert shape.cut_off() == b""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", ""),
        ("  \nmembers only \r\nand more", "members only"),
        ("grün \udcff".encode("utf-8", "surrogateescape"), "grün \ufffd"),
        (error_page(403, "a <b> & 'c'").body, "a <b> & 'c'"),
        (error_page(403).body, ""),
        ("<html><pre>x</pre><P class='a'>\none <b>word</b>\nmore</P><p>2</p>", "one word"),
        ("<html><p>cut o", ""),
    ],
)
def test_what_a_server_says_about_a_refusal(body: str | bytes, words: str) -> None:
    assert first_words(body.encode() if isinstance(body, str) else body) == words


# -- descriptors -----------------------------------------------------------------------------------------------------


@contextmanager
def descriptors(*fds: int) -> Iterator[None]:
    """Close them when the block ends."""
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


def is_nonblocking(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_the_open_file_is_our_own_where_it_can_be(kind: str) -> None:
    far, near = os.pipe() if kind == "pipe" else pty.openpty()
    with descriptors(far, near):
        own = own_descriptor(near, os.O_WRONLY)
        with descriptors(own):
            assert is_nonblocking(own)
            assert not is_nonblocking(near)
            os.write(own, b"x")
            assert os.read(far, 9) == b"x"


def test_a_file_keeps_its_place(tmp_path: Path) -> None:
    """As in `(read line; wsd connect URL) < file`, and in `>> file`."""
    file = tmp_path / "file"
    file.write_bytes(b"one\ntwo\n")
    fd = os.open(file, os.O_RDWR)
    with descriptors(fd):
        os.read(fd, 4)
        with descriptors(own := own_descriptor(fd, os.O_RDONLY)):
            assert os.read(own, 9) == b"two\n"


def test_what_cannot_be_opened_anew_is_shared() -> None:
    near, far = socket.socketpair()
    with near, far, descriptors(own := own_descriptor(near.fileno(), os.O_RDONLY)):
        assert not is_nonblocking(own)
        far.send(b"x")
        assert os.read(own, 9) == b"x"


# -- the printer -----------------------------------------------------------------------------------------------------


class Stand:
    """A loop with a printer in it, and what the printer told."""

    def __init__(self, fd: int) -> None:
        self.loop = Context()
        self.relieved = 0
        self.lost: list[str] = []
        self.printer = Printer(self.loop, fd, self._relieved, self.lost.append)

    def _relieved(self) -> None:
        self.relieved += 1

    def turn(self) -> None:
        """One turn that waits for nothing."""
        self.loop.service(0)

    def close(self) -> None:
        self.printer.close()
        self.loop.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, Stand]]:
    reader, writer = os.pipe()
    with closing(Stand(writer)) as stand:
        yield reader, stand
    if is_open(reader):
        os.close(reader)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_what_one_turn_says_leaves_in_one_write(pipe: tuple[int, Stand]) -> None:
    reader, stand = pipe
    for word in (b"one\n", b"", b"two\n"):
        stand.printer.put(word)
    assert stand.printer.unsent == 8
    assert select.select([reader], [], [], 0) == ([], [], [])
    stand.turn()
    assert os.read(reader, 99) == b"one\ntwo\n"
    assert (stand.printer.unsent, stand.relieved) == (0, 1)


def test_a_slow_reader_gets_everything_and_nobody_waits_for_it(pipe: tuple[int, Stand]) -> None:
    reader, stand = pipe
    stand.printer.put(MUCH)
    stand.turn()
    assert 0 < stand.printer.unsent < len(MUCH)
    assert not stand.relieved
    stand.printer.put(b"end")  # meanwhile
    stand.turn()
    got = b""
    while not got.endswith(b"end"):
        got += os.read(reader, 65536)
        stand.turn()
    assert got == MUCH + b"end"
    assert (stand.printer.unsent, stand.relieved) == (0, 1)


def test_a_full_pipe_costs_no_turns(pipe: tuple[int, Stand]) -> None:
    _, stand = pipe
    stand.printer.put(MUCH)
    stand.turn()
    turns = stand.loop.counters.turns
    stand.loop.call_later(50 * MS, lambda: None)
    stand.loop.service(None)
    assert stand.loop.counters.turns == turns + 1


@pytest.mark.parametrize("is_choked", [False, True])
def test_a_reader_that_goes_is_heard_of_once(pipe: tuple[int, Stand], is_choked: bool) -> None:
    """Without a word to say, and with more than it took."""
    reader, stand = pipe
    if is_choked:
        stand.printer.put(MUCH)
        stand.turn()
    os.close(reader)
    for _ in range(3):
        stand.turn()
    assert stand.lost == [""]
    assert stand.printer.is_lost
    stand.printer.put(b"too late")
    stand.turn()
    assert stand.printer.unsent == 0
    assert not stand.relieved


def test_a_reader_that_goes_between_two_turns(pipe: tuple[int, Stand]) -> None:
    reader, stand = pipe
    stand.printer.put(b"x")
    os.close(reader)
    stand.turn()
    assert stand.lost == [""]
    stand.turn()
    assert stand.lost == [""]


def test_a_file_takes_everything(tmp_path: Path) -> None:
    with closing(Stand(os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT))) as stand:
        stand.printer.put(MUCH)
        stand.printer.put(b"!")
        stand.turn()
        assert (stand.printer.unsent, stand.lost) == (0, [])
    assert (tmp_path / "out").read_bytes() == MUCH + b"!"


def test_a_full_disk_is_no_reader() -> None:
    with closing(Stand(os.open("/dev/full", os.O_WRONLY))) as stand:
        stand.printer.put(b"x")
        stand.turn()
        assert stand.lost == ["ENOSPC"]


def test_a_terminal_gets_it_too() -> None:
    master, slave = pty.openpty()
    with descriptors(master):
        with closing(Stand(slave)) as stand:
            stand.printer.put(b"x\n")
            stand.turn()
            assert os.read(master, 9) == b"x\r\n"
