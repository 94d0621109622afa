"""Levels and emitters: what is said, to whom, and that saying it can never hurt.

Owns the level bits of libwebsockets, one line per call with nothing in it that could be taken for another line, and the
emitters for standard error, the journal and syslog.  None of them waits and none of them raises: a log that cannot
be written is counted and said later.  Must not know the configuration, the loop, or what the lines are about.

The bits are independent: `set_level(ERR | DEBUG)` shows no warnings.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Final

ERR: Final = 1
WARN: Final = 2
NOTICE: Final = 4
INFO: Final = 8
DEBUG: Final = 16
PARSER: Final = 32
HEADER: Final = 64
EXT: Final = 128
CLIENT: Final = 256
LATENCY: Final = 512
USER: Final = 1024

DEFAULT: Final = ERR | WARN | NOTICE | USER

NAMES: Final[dict[str, int]] = {
    "err": ERR,
    "warn": WARN,
    "notice": NOTICE,
    "info": INFO,
    "debug": DEBUG,
    "parser": PARSER,
    "header": HEADER,
    "ext": EXT,
    "client": CLIENT,
    "latency": LATENCY,
    "user": USER,
}

Emitter = Callable[[int, str], None]
"""`emit(level, line)`: exactly one bit is set in `level`; `line` is one line, escaped, without its end."""

LINE_BYTES: Final = 3500
"""A longer line is cut.  With any emitter's prefix it fits PIPE_BUF (4096 bytes), within which a write to a pipe is
whole or not at all."""

_HEXDUMP_BYTES: Final = 1024

# syslog(3).  As in libwebsockets all that is below INFO is DEBUG; it has no case for USER, which would make that DEBUG
# too, where most systems drop it: but USER is on by default because somebody wants to read it.
_PRIORITY: Final[dict[int, int]] = {ERR: 3, WARN: 4, NOTICE: 5, INFO: 6, USER: 6}
_DEBUG_PRIORITY: Final = 7
_FACILITY_DAEMON: Final = 3 << 3

_TITLE: Final[dict[int, str]] = {bit: name.upper() for name, bit in NAMES.items()}

# C0, DEL and C1 start a new line or drive a terminal; the two Unicode separators end a line for some readers; the
# marks, embeddings and isolates of the bidirectional algorithm show the rest of a line in another order
# (CVE-2021-42574).
_ESCAPES: Final[dict[int, str]] = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (0x2028, 0x2029)},
    **{code: f"\\u{code:04x}" for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}


def escape(text: str) -> str:
    """Answer `text` with every control character written as `\\x..`, so that it is one line and moves no cursor."""
    return text if text.isprintable() else text.translate(_ESCAPES)


# -- levels -----------------------------------------------------------------------------------------------------------


def set_level(bits: int, emitter: Emitter | None = None) -> None:
    """Say what is logged, and to whom.

    Args:
        bits: The levels to show, or-ed together.
        emitter: Called as `emitter(level, line)`; None leaves the one there is.
    """
    global shown, _emitter
    shown = bits
    if emitter is not None:
        _emitter = emitter


def emitter() -> Emitter:
    """Answer the emitter that there is: for one that wraps it, or to put it back."""
    return _emitter


def level() -> int:
    """Answer the levels that are shown."""
    return shown


def is_on(bit: int) -> bool:
    """Tell whether a line of this level would be shown; ask before building what is costly to build."""
    return shown & bit != 0


def parse_levels(names: Iterable[str]) -> int:
    """Turn names of levels into bits.

    Raises:
        ValueError: an unknown name; the text names it and those that are allowed.
    """
    bits = 0
    for name in names:
        if name not in NAMES:
            raise ValueError(f"no such log level: {escape(repr(name))}; allowed: {', '.join(NAMES)}")
        bits |= NAMES[name]
    return bits


# -- saying something -------------------------------------------------------------------------------------------------


def log(bit: int, text: str, *args: object) -> None:
    """Log one line at level `bit`.  `text` is %-formatted with `args`, only if the level is on."""
    if shown & bit:
        _emit(bit, _format(text, args))


def err(text: str, *args: object) -> None:
    """A plugin raised; a bug in wsd; a listener lost."""
    if shown & ERR:
        _emit(ERR, _format(text, args))


def warn(text: str, *args: object) -> None:
    """A limit was hit; something is about to go wrong."""
    if shown & WARN:
        _emit(WARN, _format(text, args))


def notice(text: str, *args: object) -> None:
    """Start, listening, loaded, reloaded, stopped."""
    if shown & NOTICE:
        _emit(NOTICE, _format(text, args))


def info(text: str, *args: object) -> None:
    """Connections opened, closed with their code, refused."""
    if shown & INFO:
        _emit(INFO, _format(text, args))


def debug(text: str, *args: object) -> None:
    """Frames and states."""
    if shown & DEBUG:
        _emit(DEBUG, _format(text, args))


def parser(text: str, *args: object) -> None:
    """What the frame parser sees."""
    if shown & PARSER:
        _emit(PARSER, _format(text, args))


def header(text: str, *args: object) -> None:
    """Request and response heads."""
    if shown & HEADER:
        _emit(HEADER, _format(text, args))


def ext(text: str, *args: object) -> None:
    """Extensions."""
    if shown & EXT:
        _emit(EXT, _format(text, args))


def client(text: str, *args: object) -> None:
    """Connecting out."""
    if shown & CLIENT:
        _emit(CLIENT, _format(text, args))


def latency(text: str, *args: object) -> None:
    """Slow turns and slow hooks."""
    if shown & LATENCY:
        _emit(LATENCY, _format(text, args))


def user(text: str, *args: object) -> None:
    """What plugins say."""
    if shown & USER:
        _emit(USER, _format(text, args))


def block(bit: int, heading: str, text: str) -> None:
    """Log a heading and then each line of `text` on a line of its own, for tracebacks.

    Every line but the first starts with `| `: text from a peer inside an exception cannot pass for a line of its own.
    """
    if shown & bit:
        _emit(bit, _format(heading, ()))
        for line in text.splitlines():
            _emit(bit, _format("| " + line, ()))


def hexdump(data: bytes | bytearray | memoryview, bit: int = DEBUG) -> None:
    """Log bytes as hexadecimal and text, 16 a line; those beyond the first 1024 are only counted."""
    if not shown & bit:
        return
    view = memoryview(data).cast("B")
    begin = bytes(view[:_HEXDUMP_BYTES])
    for start in range(0, len(begin), 16):
        row = begin[start : start + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        _emit(bit, f"{start:04x}: {row.hex(' '):<47}  {text}")
    if len(view) > len(begin):
        _emit(bit, f"{len(begin):04x}: ... {len(view) - len(begin)} more bytes")


def _format(text: str, args: tuple[object, ...]) -> str:
    """Make the one line: formatted, escaped, cut.  Whatever is wrong with the arguments, there is a line."""
    try:
        line = text % args if args else text
    except Exception as error:  # a plugin's bug (or a failing __str__) must not become an outage
        line = f"{text} [bad log arguments: {type(error).__name__}]"
    whole = len(line)
    if whole > LINE_BYTES:
        line = line[: LINE_BYTES + 1]  # escaping only ever makes it longer: this is cut below
    # Those who come from libwebsockets end their lines themselves.
    line = escape(line[:-1] if line.endswith("\n") and whole <= LINE_BYTES else line)
    encoded = line.encode("utf-8", "backslashreplace")
    if len(encoded) > LINE_BYTES:
        return f"{encoded[:LINE_BYTES].decode('utf-8', 'ignore')} ... (cut; it had {whole} characters)"
    return line


def _emit(bit: int, line: str) -> None:
    """Hand a line to the emitter.  One that raises, or logs itself, does not take the program with it."""
    global _emitting
    if _emitting:
        emit_stderr(bit, line)
        return
    _emitting = True
    try:
        _emitter(bit, line)
    except (Exception, SystemExit) as error:
        emit_stderr(bit, line)
        emit_stderr(ERR, f"the log emitter raised {type(error).__name__}; the line above went here instead")
    finally:
        _emitting = False


# -- standard error ---------------------------------------------------------------------------------------------------


class _Stderr:
    """Writes whole lines to descriptor 2, or drops and counts them: a full pipe or a stopped terminal holds up nobody.

    The descriptor is asked before each write instead of being made non-blocking, for that would also change it for the
    shell that we share it with.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._poll = select.poll()
        self._poll.register(2, select.POLLOUT)

    def write(self, prefix: str, line: str) -> None:
        if self.dropped:
            if not self._put(f"{prefix}{self.dropped} lines dropped: standard error took none"):
                self.dropped += 1
                return
            self.dropped = 0
        if not self._put(prefix + line):
            self.dropped += 1

    def _put(self, line: str) -> bool:
        try:
            events = self._poll.poll(0)
            if not events or not events[0][1] & select.POLLOUT:
                return False
            os.write(2, line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError:  # EPIPE, EAGAIN, EBADF, ENOSPC, EIO: the line is lost, the daemon is not
            return False
        return True


_stderr = _Stderr()


def emit_stderr(level: int, line: str) -> None:
    """Write to standard error with the local time and the level's name: for a terminal."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    _stderr.write(f"{stamp}.{int(now * 1000) % 1000:03d} {_TITLE.get(level, level):<6} ", line)


def emit_stderr_journal(level: int, line: str) -> None:
    """Write to standard error with the priority as `<N>`, sd-daemon(3): for the journal, which knows the time."""
    _stderr.write(f"<{_PRIORITY.get(level, _DEBUG_PRIORITY)}>", line)


# -- syslog -----------------------------------------------------------------------------------------------------------

# RFC 3164 4.1.2 names the months in English, which strftime would only do in the C locale.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

PENDING_LINES: Final = 1000
"""How many lines wait for a receiver that stalls or is away; the oldest give way.  At 100 bytes each that is 0.1 MB."""

_RETRY_SECONDS: Final = 1.0


class Syslog:
    """An emitter that sends RFC 3164 datagrams to a Unix socket and never waits for it.

    What the receiver does not take is kept, up to `PENDING_LINES`, and goes out first when it takes lines again, with a
    note of how many were lost.  That happens at the next line, or at `flush()`; `on_pending` tells when there is a
    reason to call it.  Make it after the process has detached, for that closes every descriptor.
    """

    def __init__(
        self, socket_path: str | os.PathLike[str] = "/dev/log", ident: str = "wsd", pending_lines: int = PENDING_LINES
    ) -> None:
        self.socket_path = os.fspath(socket_path)
        self.ident = ident
        self.dropped = 0
        """Lines lost since the start."""
        self.error = ""
        """Why the socket cannot be reached or takes nothing; empty while it does."""
        self.on_pending: Callable[[], None] | None = None
        """Called when a first line had to be kept."""
        self._socket: socket.socket | None = None
        self._pending: deque[bytes] = deque(maxlen=pending_lines)
        self._unsaid = 0  # dropped, and the receiver has not been told yet
        self._retry_at = 0.0

    def __call__(self, level: int, line: str) -> None:
        """Send a line, or keep it."""
        datagram = self._datagram(level, line)
        if (self._socket or time.monotonic() >= self._retry_at) and self.flush() and self._send(datagram):
            return
        if len(self._pending) == self._pending.maxlen:
            self._drop()
        self._pending.append(datagram)
        if len(self._pending) == 1 and self.on_pending is not None:
            self.on_pending()

    @property
    def pending(self) -> int:
        """How many lines wait for the receiver."""
        return len(self._pending)

    @property
    def connected(self) -> bool:
        """Whether the socket could be reached when it was last tried."""
        return self._socket is not None

    def flush(self) -> bool:
        """Send what waits, as far as it is taken; connect if need be.  Answers whether nothing waits any more."""
        if self._socket is None and not self._connect():
            return False
        if self._unsaid:
            note = f"{self._unsaid} lines dropped: {self.socket_path} took none"
            if not self._send(self._datagram(WARN, note)):
                return False
            self._unsaid = 0
        while self._pending:
            if not self._send(self._pending[0]):
                return False
            self._pending.popleft()
        return True

    def close(self) -> None:
        """Send what can be sent and let go of the socket; a later line opens it again."""
        if self._socket is not None or self._pending:
            self.flush()
        self._disconnect("closed")
        self._retry_at = 0.0

    def _datagram(self, level: int, line: str) -> bytes:
        priority = _FACILITY_DAEMON | _PRIORITY.get(level, _DEBUG_PRIORITY)
        now = time.localtime()
        stamp = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2d} {now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d}"
        text = f"<{priority}>{stamp} {self.ident}[{os.getpid()}]: {line}"
        return text.encode("utf-8", "backslashreplace")

    def _drop(self) -> None:
        self.dropped += 1
        self._unsaid += 1

    def _connect(self) -> bool:
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.connect(self.socket_path)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            self._disconnect(getattr(error, "strerror", None) or str(error))
            return False
        self.error = ""
        return True

    def _disconnect(self, why: str) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.error = why
        self._retry_at = time.monotonic() + _RETRY_SECONDS

    def _send(self, datagram: bytes) -> bool:
        """Send one datagram, or give it up; a receiver that was restarted is found again at once."""
        for _ in range(2):
            if self._socket is None:
                return False
            try:
                self._socket.send(datagram)
            except (BlockingIOError, InterruptedError) as error:
                self.error = error.strerror or "stalled"
                return False
            except OSError as error:
                if error.errno == errno.EMSGSIZE:  # it will never fit, and must not keep those behind it waiting
                    self._drop()
                    return True
                self._disconnect(error.strerror or str(error))
                self._connect()
            else:
                self.error = ""
                return True
        return False


emit_syslog: Final = Syslog()
"""The shipped emitter to /dev/log; it opens its socket with the first line."""


# -- saying it less often ---------------------------------------------------------------------------------------------


class Throttle:
    """Lets one event per key and period pass and counts the others.  Pure: the time is an argument.

    At most `max_keys` keys are told apart within a period; those beyond share one, so neither memory nor the log grows
    with what a peer or a plugin can invent.
    """

    _OVERFLOW: Final = object()

    def __init__(self, period: float = 60.0, max_keys: int = 256) -> None:
        self.period = period
        self.max_keys = max_keys
        # key -> [when its period began, how many were held back since]; the oldest period comes first.
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def allow(self, key: Hashable, now: float) -> int | None:
        """Tell whether to log this event.

        Args:
            key: What makes two events the same, for example a plugin's file and line.
            now: Seconds on any clock that does not go back.

        Returns:
            None: hold it back.  Else log it; the number is how many were held back since the last one.
        """
        if key not in self._seen and len(self._seen) >= self.max_keys:
            self._forget(now)
            if len(self._seen) >= self.max_keys:
                key = self._OVERFLOW
        began, held = self._seen.get(key, (now - self.period, 0))
        if now - began < self.period:
            self._seen[key] = (began, held + 1)
            return None
        self._seen.pop(key, None)  # re-inserted at the end: the oldest stays first
        self._seen[key] = (now, 0)
        return held

    def _forget(self, now: float) -> None:
        """Drop the keys whose period is over."""
        for key, (began, _) in tuple(self._seen.items()):
            if now - began < self.period:
                break
            del self._seen[key]


shown = DEFAULT
_emitter: Emitter = emit_stderr
_emitting = False
