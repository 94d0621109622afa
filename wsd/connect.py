"""A conversation at a terminal or in a pipe: `wsd connect URL`.  Lines in, messages out.

Owns who is to wait for whom: standard input for a server that reads slowly, the server for a standard output that is
read slowly, the end of the conversation for the answers to its last line.  The connection is `Context.client_connect`'s
and standard input a descriptor that the context adopts.  Must not know the command line.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wsd import log
from wsd.config import Compression, Keepalive, Limits
from wsd.context import Context
from wsd.errors import EXIT_RUNTIME, ConnectError
from wsd.lines import LineCutter, PlainShape, Printer, ScreenShape, first_words, own_descriptor
from wsd.protocol import Protocol
from wsd.stream import LOW_WATER
from wsd.wire.client_handshake import parse_url
from wsd.wire.frames import ABNORMAL, GOING_AWAY, NO_STATUS, NORMAL

if TYPE_CHECKING:
    from wsd.tls_client import ClientTls
    from wsd.wsi import Wsi

# How much of standard input is read at once where it is a file; a pipe holds as much.
_FILE_BYTES: Final = 65536

# After the last line: how long to wait for the peer's answer to a Ping.  A peer that is dead is found out by the pings
# of the context; this is for one that lives and answers no Ping, though RFC 6455 5.5.2 says that it must.
_PONG_SECONDS: Final = 20.0

# See `Talk._say_goodbye`.
_LAST_PINGS: Final = (b"wsd connect 1", b"wsd connect 2")

# A peer may send messages of any length in as many frames as it likes: they are printed as they arrive.
_MANY: Final = 2**63 - 1


class Wanted(NamedTuple):
    """What the command line asks for; `Context.client_connect` has the same words."""

    url: str
    subprotocols: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    origin: str | None = None
    proxy: str = ""
    timeout_seconds: float = 5
    ping_seconds: float = 20
    compressed: bool = True
    binary: bool = False
    """Lines are sent as binary messages, and may hold any bytes."""
    ca: str = ""
    certificate: str = ""
    private_key: str = ""
    insecure: bool = False

    @property
    def tls(self) -> ClientTls | None:
        """How the server is verified; None: nothing was said about it.

        Raises:
            ValueError: what is wrong with the files.
        """
        if not (self.ca or self.certificate or self.private_key or self.insecure):
            return None
        from wsd.tls_client import ClientTls

        return ClientTls(ca=self.ca, certificate=self.certificate, private_key=self.private_key, insecure=self.insecure)


class Talk(Protocol):
    """One conversation.  It serves both wsi: the connection, and standard input.

    Args:
        note: Told, in sentences, what whoever sits there has to know.
    """

    name = "connect"
    max_message_bytes = 0  # pieces are printed as they arrive

    def __init__(self, wanted: Wanted, note: Callable[[str], None]) -> None:
        self.is_over = False
        self.status = 0
        self.farewell = ""  # what is noted below everything that came
        self._wanted = wanted
        self._note = note
        self._is_dialogue = os.isatty(0)
        self._shape = ScreenShape() if os.isatty(1) else PlainShape()
        self._cutter = LineCutter()
        self._lines: deque[bytes] = deque()  # read and not written
        self._line_bytes = 0
        self._lines_read = 0
        self._input: Wsi | None = None
        self._file = -1  # standard input, where it cannot be polled
        self._has_ended = False  # there are no more lines
        self._awaits_pong = False  # to one of the last two pings
        self._printer: Printer
        self._wsi: Wsi

    def begin(self) -> None:
        """Begin to connect; raises as `Context.client_connect`."""
        wanted = self._wanted
        parse_url(wanted.url)  # which refuses tcp://, that a context connects to as well
        self._wsi = self.context.client_connect(
            wanted.url,
            protocol=self,
            subprotocols=wanted.subprotocols,
            headers=wanted.headers,
            origin=wanted.origin,
            proxy=wanted.proxy,
            tls=wanted.tls,
            timeout_seconds=wanted.timeout_seconds,
            compression=Compression(enabled=wanted.compressed),
        )

    @property
    def is_printed(self) -> bool:
        """Whether everything that came is on its way to who reads it."""
        return self._printer.is_lost or not self._printer.unsent

    def interrupt(self) -> None:
        """Close in order, from inside of a signal handler."""
        self.context.cancel_service()

    def on_wakeup(self) -> None:
        """What `interrupt` asked for."""
        self._wsi.close(NORMAL)

    def on_protocol_init(self, context: Context, options: Any) -> None:
        """Open standard output."""
        self._printer = Printer(context, own_descriptor(1, os.O_WRONLY), self._output_relieved, self._output_lost)

    def on_protocol_destroy(self) -> None:
        """Give the descriptors back."""
        self._printer.close()
        self._close_file()

    # -- the connection -------------------------------------------------------------------------------------------

    def on_established(self, wsi: Wsi) -> None:
        """Standard input is opened only now: what is not wanted yet stays where it is."""
        if self._is_dialogue:
            speaking = f", speaking {log.escape(wsi.subprotocol)}" if wsi.subprotocol else ""
            self._note(f"connected to {self._wanted.url}{speaking}; Ctrl-D ends")
        fd = own_descriptor(0, os.O_RDONLY)
        try:
            self._input = self.context.adopt_descriptor(fd, self)
        except ValueError:  # a file: always ready
            self._file = fd
            wsi.callback_on_writable()

    def on_client_connection_error(self, wsi: Wsi, error: ConnectError) -> None:
        """There will be no conversation."""
        words = first_words(error.body)
        self._end(EXIT_RUNTIME, f"not connected: {error.text}" + (f" ({words})" if words else ""))

    def on_receive(self, wsi: Wsi, data: bytes) -> None:
        """A piece of a message; no more of them while standard output has enough."""
        first, final, binary = wsi.is_first_fragment, wsi.is_final_fragment, wsi.frame_is_binary
        self._printer.put(self._shape.piece(data, first=first, final=final, binary=binary))
        if self._printer.unsent >= LOW_WATER:
            wsi.rx_flow_control(False)

    def _output_relieved(self) -> None:
        self._wsi.rx_flow_control(True)
        if self._awaits_pong:
            self._wsi.set_timer(_PONG_SECONDS)  # it may be behind what we read only now

    def _output_lost(self, why: str) -> None:
        """Nobody reads what we print.  That ends it without a word, as it ends `yes` in `yes | head`."""
        self.status = EXIT_RUNTIME
        if why:
            self._note(f"standard output: {why}")
        self._wsi.close(GOING_AWAY)

    def on_closed(self, wsi: Wsi, code: int, close_reason: str) -> None:
        """The conversation is over."""
        self._printer.put(self._shape.cut_off())
        is_fine = code in (NORMAL, GOING_AWAY)
        farewell = ""
        if not self._printer.is_lost and (self._is_dialogue or not is_fine):
            why = {ABNORMAL: wsi.why, NO_STATUS: "no code was given"}.get(code, close_reason)
            farewell = f"closed with {code}" + (f": {why}" if why else "")
        self._end(0 if is_fine else EXIT_RUNTIME, farewell)

    def _end(self, status: int, farewell: str) -> None:
        self.is_over = True
        self.status = self.status or status
        self.farewell = log.escape(farewell)

    # -- what is said ---------------------------------------------------------------------------------------------

    def on_raw_receive(self, wsi: Wsi, data: bytes) -> None:
        """Standard input has something; no more of it while the server has enough."""
        self._hear(self._cutter.feed(data))
        if self._line_bytes >= LOW_WATER:
            wsi.rx_flow_control(False)

    def on_raw_close(self, wsi: Wsi) -> None:
        """Standard input has ended."""
        self._input = None
        self._end_of_input()

    def _read_file(self) -> None:
        try:
            data = os.read(self._file, _FILE_BYTES)
        except OSError as error:  # a folder, a disk that fails
            self._note(f"standard input: {error.strerror}")
            self.status, data = EXIT_RUNTIME, b""
        if data:
            self._hear(self._cutter.feed(data))
        else:
            self._close_file()
            self._end_of_input()

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _end_of_input(self) -> None:
        self._hear(self._cutter.end())
        self._has_ended = True

    def _hear(self, lines: list[bytes]) -> None:
        self._lines += lines
        self._line_bytes += sum(map(len, lines)) + len(lines)  # with their ends: empty ones count too
        self._wsi.callback_on_writable()

    def on_writeable(self, wsi: Wsi) -> None:
        """Send lines, as many as the server takes, and read more of them only then."""
        if not self._lines and self._file >= 0:
            self._read_file()
        while self._lines and not wsi.send_pipe_choked:
            self._say(wsi, self._lines.popleft())
        if self._lines or self._file >= 0:
            wsi.callback_on_writable()
        elif self._input is not None:
            self._input.rx_flow_control(True)
        elif self._has_ended:
            self._say_goodbye(wsi)

    def _say(self, wsi: Wsi, line: bytes) -> None:
        self._line_bytes -= len(line) + 1
        self._lines_read += 1
        if self._wanted.binary:
            wsi.write(line)
            return
        try:
            wsi.write(line.decode())
        except UnicodeDecodeError as error:
            self.status = EXIT_RUNTIME
            where = f"line {self._lines_read}, byte {error.start + 1}"
            self._note(f"standard input, {where}: no UTF-8, not sent; with --binary it could be")

    def _say_goodbye(self, wsi: Wsi) -> None:
        """Everything is said.  Answers may be under way, and what comes after our Close is heard by nobody.

        So we wait for a Pong: the server has read all that came before the Ping.  And for another: what it said in the
        turn in which it read the first Ping may have left behind the Pong, and left before the second.
        """
        self._has_ended = False  # once
        self._awaits_pong = True
        wsi.ping(_LAST_PINGS[0])
        wsi.set_timer(_PONG_SECONDS)

    def on_pong(self, wsi: Wsi, payload: bytes) -> None:
        """One of the last two."""
        if payload == _LAST_PINGS[0]:
            wsi.ping(_LAST_PINGS[1])
            wsi.set_timer(_PONG_SECONDS)
        elif payload == _LAST_PINGS[1]:
            wsi.close(NORMAL)

    def on_timer(self, wsi: Wsi) -> None:
        """No Pong.  While it is we who do not read, it may well be there."""
        if self._printer.unsent:
            wsi.set_timer(_PONG_SECONDS)
        else:
            wsi.close(NORMAL)


def run(wanted: Wanted, note: Callable[[str], None]) -> int:
    """Hold one conversation between standard input, standard output and a server; returns the exit status.

    0: it was closed with 1000 or 1001, every line could be sent, and all that came could be printed; 1: anything else.

    Args:
        note: Told, in sentences, what whoever sits there has to know.

    Raises:
        ValueError: what is wanted can never work.
    """
    talk = Talk(wanted, note)
    keepalive = Keepalive(ping_seconds=wanted.ping_seconds)
    with Context([talk], keepalive=keepalive, limits=Limits(max_fragments=_MANY)) as context:
        talk.begin()
        with _interrupted_by(talk.interrupt):
            while not (talk.is_over and talk.is_printed):
                context.service()
    if talk.farewell:
        note(talk.farewell)
    return talk.status


@contextmanager
def _interrupted_by(interrupt: Callable[[], None]) -> Iterator[None]:
    """Call `interrupt()` at the first SIGINT or SIGTERM; who asks twice means at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        interrupt()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
