"""`wsd connect` as a process, with a pipe, a file or a terminal at its standard streams."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from tests.support.client import PING, PONG, TEXT, frame
from tests.support.daemon import ROOT, WSD
from tests.support.server import Connection
from tests.support.timing import PATIENCE


class Outcome(NamedTuple):
    """How a conversation ended."""

    status: int
    out: bytes
    err: str


class Conversation:
    """One `wsd connect` that runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    @property
    def out(self) -> IO[bytes]:
        """Its standard output, a pipe."""
        assert self.process.stdout is not None
        return self.process.stdout

    def unread(self) -> int:
        """How many bytes it has printed that nobody has read yet."""
        (count,) = struct.unpack("i", fcntl.ioctl(self.out, termios.FIONREAD, bytes(4)))
        assert isinstance(count, int)
        return count

    def close_out(self) -> None:
        """Read its standard output no more."""
        self.out.close()
        self.process.stdout = None  # so that communicate() does not look for it

    def say(self, data: bytes) -> None:
        """Write to its standard input, a pipe."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None  # as above

    def end(self, said: bytes | None = None) -> Outcome:
        """Wait for its end, its input being what it is, or all of `said`; gives what it printed."""
        out, err = self.process.communicate(said, timeout=PATIENCE)
        return Outcome(self.process.returncode, out or b"", (err or b"").decode())


def environment() -> dict[str, str]:
    """In which `WSD` is ours."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def conversing(url: str, *options: str, program: tuple[str, ...] = WSD, **streams: Any) -> Iterator[Conversation]:
    """Run `wsd connect URL` until the block ends.

    Args:
        program: What stands before `connect`.
        streams: Further arguments of Popen; the standard streams are pipes unless said otherwise.
    """
    for name in ("stdin", "stdout", "stderr"):
        streams.setdefault(name, subprocess.PIPE)
    with subprocess.Popen([*program, "connect", *options, url], env=environment(), **streams) as process:
        try:
            yield Conversation(process)
        finally:
            process.kill()


def changed(**constants: float) -> tuple[str, ...]:
    """A `wsd` with other numbers in wsd/connect.py, for what would take long."""
    lines = "; ".join(f"connect.{name} = {value}" for name, value in constants.items())
    return sys.executable, "-c", f"from wsd import cli, connect; {lines}; cli.main()"


def answer_last_pings(connection: Connection, between: bytes = b"") -> None:
    """Answer the two Pings that come at the end of the input, here with frames between them."""
    for extra in (between, b""):
        got = connection.receive_frame()
        assert got.opcode == PING, got
        connection.send(frame(PONG, got.payload, mask=None), extra)


def receive_lines(connection: Connection, count: int) -> list[bytes]:
    """So many whole messages, all of them text."""
    frames = [connection.receive_frame() for _ in range(count)]
    assert {got.opcode for got in frames} <= {TEXT}
    return [got.payload for got in frames]


def accept_close(connection: Connection, code: int = 1000) -> None:
    """It closes, with `code`; we answer in kind, and nothing comes behind that."""
    assert connection.receive_close().close_code == code
    connection.send_close(code)
    connection.shut_down_writing()
    assert connection.receive_end() == b""


def finish(connection: Connection) -> None:
    """Do what every server does at the end of the input."""
    answer_last_pings(connection)
    accept_close(connection)


class Terminal:
    """A terminal's other end: what somebody types, and sees."""

    def __init__(self, master: int, slave: int) -> None:
        self.master, self.slave = master, slave
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, text: str) -> str:
        """What is seen up to `text`, which is not seen again; lines end with a newline."""
        wanted = text.replace("\n", "\r\n").encode()
        deadline = time.monotonic() + PATIENCE
        while (at := self.seen.find(wanted)) < 0:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"not seen: {text!r}; seen: {self.seen!r}"
            self.seen += os.read(self.master, 65536)
        shown, self.seen = self.seen[: at + len(wanted)], self.seen[at + len(wanted) :]
        return re.sub("\r+\n", "\n", shown.decode())

    def settings(self) -> list[Any]:
        """What `stty` would show, and whether the open file that the shell has is non-blocking."""
        return [termios.tcgetattr(self.slave), fcntl.fcntl(self.slave, fcntl.F_GETFL)]


@contextmanager
def at_terminal(url: str, *options: str) -> Iterator[tuple[Terminal, Conversation]]:
    """`wsd connect URL` at a terminal of its own, whose Ctrl-C reaches it."""
    master, slave = pty.openpty()
    try:
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
        take = {"start_new_session": True, "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)}
        with conversing(url, *options, **streams, **take) as conversation:
            yield Terminal(master, slave), conversation
    finally:
        os.close(master)
        os.close(slave)
