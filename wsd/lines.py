"""Lines and messages, the one made into the other; and lines on their way to standard output, which never waits.

Owns where a line ends, what a message looks like to a program and to somebody at a terminal, and what standard output
has not taken yet.  Must not know connections.
"""

from __future__ import annotations

import codecs
import html
import os
import re
import stat
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from wsd.descriptor import DescriptorPipe
from wsd.errors import PipeBroken
from wsd.log import escape
from wsd.transport import ERROR, WRITE, Output, text_of

if TYPE_CHECKING:
    from wsd.loop import Loop

_PARAGRAPH: Final = re.compile(r"<p(?:\s[^>]*)?>(.*?)</p>", re.DOTALL | re.IGNORECASE)
_TAG: Final = re.compile(r"<[^>]*>")


class LineCutter:
    """Cuts what comes, in whatever pieces, into lines; an unfinished one is kept, however long it grows."""

    def __init__(self) -> None:
        self._unfinished = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends."""
        first, *others = data.split(b"\n")
        self._unfinished += first
        if not others:
            return []
        lines = [bytes(self._unfinished), *others[:-1]]
        self._unfinished = bytearray(others[-1])
        return lines

    def end(self) -> list[bytes]:
        """What came behind the last end of a line, if anything did: a file need not end with one."""
        rest, self._unfinished = bytes(self._unfinished), bytearray()
        return [rest] if rest else []


# -- what a message looks like ----------------------------------------------------------------------------------------


class Shape(Protocol):
    """Makes the pieces of messages, as `on_receive` gets them, what is written to standard output."""

    def piece(self, data: bytes, *, first: bool, final: bool, binary: bool) -> bytes:
        """What is written for one piece."""

    def cut_off(self) -> bytes:
        """What is written when no more pieces of the message that was begun will come."""


class PlainShape:
    """For a program: the bytes as they came, and the end of a line behind each message."""

    def piece(self, data: bytes, *, first: bool, final: bool, binary: bool) -> bytes:
        """As `Shape.piece`."""
        return data + b"\n" if final else data

    def cut_off(self) -> bytes:
        """Nothing: half a line says that the rest is missing."""
        return b""


class ScreenShape:
    """For somebody at a terminal: `< ` before each message, and nothing in it that a terminal would obey.

    A message of several lines is indented, so that no part of it can pass for another message.  A binary one is shown
    as Python writes bytes.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_open = False

    def piece(self, data: bytes, *, first: bool, final: bool, binary: bool) -> bytes:
        """As `Shape.piece`."""
        self._is_open = not final
        if binary:
            # With a " among them, Python puts bytes between two ' whatever else they are.
            text = repr(b'"' + data)[3:-1]
            text = f"< b'{text}" if first else text
            return (text + "'\n" if final else text).encode()
        if first:
            self._decoder.reset()
        text = "\n  ".join(_harmless(line) for line in self._decoder.decode(data).split("\n"))
        return f"{'< ' if first else ''}{text}{chr(10) if final else ''}".encode()

    def cut_off(self) -> bytes:
        """The cursor goes to the next line."""
        was_open, self._is_open = self._is_open, False
        return b"\n" if was_open else b""


def _harmless(line: str) -> str:
    """A line without what moves the cursor, changes colours or titles, or types by itself; tabs stay."""
    return "\t".join(map(escape, line.split("\t")))


def first_words(body: bytes) -> str:
    """What a server says about its refusal, in one line: the first line of a text, the first paragraph of a page."""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("<"):
        paragraph = _PARAGRAPH.search(text)
        text = html.unescape(_TAG.sub("", paragraph[1])).strip() if paragraph else ""
    return text.partition("\n")[0].strip()


# -- standard streams -------------------------------------------------------------------------------------------------


def own_descriptor(fd: int, flags: int) -> int:
    """A descriptor of what `fd` is open for, to be closed by who gets it.

    A pipe or terminal is opened anew, since O_NONBLOCK belongs to the open file: what we make non-blocking would be so
    for the shell and for everything that it started beside us, and stay so if we were killed.

    Args:
        flags: `os.O_RDONLY` or `os.O_WRONLY`.
    """
    if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
        try:
            return os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:  # a terminal of somebody else's (su), no /proc
            pass
    return os.dup(fd)


class _FilePipe:
    """A file as a byte pipe: what cannot be polled takes all that it is given."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def send(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except OSError as error:
            raise PipeBroken(text_of(error)) from None

    def send_many(self, buffers: Sequence[bytes | memoryview]) -> int:
        return self.send(b"".join(buffers))

    def close(self) -> None:
        os.close(self._fd)


class Printer:
    """Standard output that never waits: what it does not take now goes when it can.

    Args:
        fd: A descriptor that is this printer's to close.
        relieved: Called when everything has left, after `is_full`.
        lost: Called once, when it cannot be written to any more; with the reason, empty if its reader has gone.
    """

    def __init__(self, loop: Loop, fd: int, relieved: Callable[[], None], lost: Callable[[str], None]) -> None:
        self._loop = loop
        self._relieved = relieved
        self._lost = lost
        self._is_noted = False
        self.is_lost = False
        self._pipe: DescriptorPipe | _FilePipe
        try:
            self._pipe = DescriptorPipe(fd)
        except ValueError:
            self._pipe = _FilePipe(fd)
        self._output = Output(self._pipe)  # type: ignore[arg-type]  # it asks for no more than these methods
        self._is_watched = isinstance(self._pipe, DescriptorPipe)
        if self._is_watched:
            # A reader that goes is heard of even by who has nothing to say to it.
            loop.watch(fd, 0, self._on_events)

    @property
    def unsent(self) -> int:
        """Bytes that were put and have not left."""
        return self._output.size

    def put(self, data: bytes) -> None:
        """Add bytes, which leave at the end of this turn, all together."""
        if self.is_lost or not data:
            return
        self._output.put(data)
        if not self._is_noted:
            self._is_noted = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_noted = False
        if self.is_lost:
            return
        output = self._output
        was_choked = output.is_choked
        try:
            output.flush()
            while output.size and not self._is_watched:  # a file took a part, as one does that is nearly full
                output.flush()
        except PipeBroken as broken:
            self._lose("" if str(broken) == "EPIPE" else str(broken))
            return
        if output.is_choked != was_choked:
            self._loop.set_interest(self._pipe.fileno(), WRITE if output.is_choked else 0)
        if not output.size:
            self._relieved()

    def _on_events(self, events: int) -> None:
        if events & ERROR:
            self._lose("")
        elif events & WRITE:
            self._flush()

    def _lose(self, why: str) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._unwatch()
            self._output = Output(self._pipe)  # type: ignore[arg-type]  # as above
            self._lost(why)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._loop.unwatch(self._pipe.fileno())

    def close(self) -> None:
        """Give the descriptor back, before the loop is closed; what has not left is gone."""
        self._unwatch()
        self._pipe.close()
