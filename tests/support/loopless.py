"""A wsi without a loop, a socket or a clock: a pipe whose kernel is a script, and a context that only notes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsd.binding import Binding
from wsd.config import Keepalive, Limits, Listen, Timeouts
from wsd.context import Context
from wsd.counters import Counters
from wsd.memory import Memory
from wsd.protocol import Peer, Protocol
from wsd.rounds import Rounds
from wsd.timers import Timer, Timers
from wsd.wire.deflate import make_pair
from wsd.wire.extensions import Agreement, Settings
from wsd.wire.http import Request
from wsd.wsi import Wsi

SETTINGS = Settings(level=6, memory_level=5, window_bits=12, context_takeover=True, min_bytes=0)

REQUEST = Request(b"GET /chat?room=1 HTTP/1.1\r\nHost: x\r\n\r\n")


class ScriptedPipe:
    """A byte pipe: `room` is what the kernel takes before it refuses, `incoming` what the peer has sent."""

    is_direct = True
    has_changed = False
    tls = None

    def has_pending(self) -> bool:
        return False

    def __init__(self) -> None:
        self.room = 1 << 30
        self.incoming: list[bytes | Exception] = []
        self.sent: list[bytes] = []
        self.is_shut = False
        self.is_closed = False

    def fileno(self) -> int:
        return -1 if self.is_closed else 7

    def receive_into(self, buffer: bytearray) -> int:
        if not self.incoming:
            return -1
        data = self.incoming.pop(0)
        if isinstance(data, Exception):
            raise data
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: Any) -> int:
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        if taken:
            self.sent.append(taken)
        return len(taken)

    def send_many(self, buffers: Any) -> int:
        return self.send(b"".join(map(bytes, buffers)))

    def in_flight(self) -> int:
        return 0

    def shutdown_write(self) -> None:
        self.is_shut = True

    def close(self) -> None:
        self.is_closed = True

    def error_text(self) -> str:
        return "ECONNRESET"


class NotingContext:
    """What a wsi asks of its context.  `turn()` does with the notes what the loop does."""

    def __init__(self) -> None:
        self.now = 100.0
        self.limits, self.timeouts, self.keepalive = Limits(), Timeouts(), Keepalive(ping_seconds=0)
        self.counters = Counters()
        self.memory = Memory(self.counters, 0)
        self.buffer = bytearray(65536)
        self.view = memoryview(self.buffer)
        self.timers = Timers()
        self.rounds = Rounds(self)
        self.due: list[Callable[[], None]] = []
        self.interest = 1
        self.writers: list[Wsi] = []
        self.backlogs: list[Wsi] = []
        self.dead: list[Wsi] = []

    def note_writer(self, wsi: Wsi) -> None:
        self.writers.append(wsi)

    def note_writers(self, wsis: list[Wsi]) -> None:
        self.writers += wsis

    spread = Context.spread

    def note_backlog(self, wsi: Wsi) -> None:
        self.backlogs.append(wsi)

    def note_dead(self, wsi: Wsi) -> None:
        self.dead.append(wsi)

    def set_interest(self, fd: int, mask: int) -> None:
        self.interest = mask

    def call_at(self, seconds: float, function: Callable[[], None]) -> Timer:
        return self.timers.add(self.now + seconds, function)

    def call_soon(self, function: Callable[[], None]) -> None:
        self.due.append(function)

    def turn(self) -> None:
        """Backlogs, one write pass, timers; the dead stay, to be looked at."""
        backlogs, self.backlogs = self.backlogs, []
        for wsi in backlogs:
            wsi.resume()
        writers, self.writers = self.writers, []
        for wsi in writers:
            wsi.service_write()
        for due in self.timers.due(self.now):
            due()
        soon, self.due = self.due, []
        for function in soon:
            function()

    def pass_time(self, seconds: float) -> None:
        """Let time go by, then have a turn."""
        self.now += seconds
        self.turn()


class _Listener:
    """What of a listener a wsi uses."""

    def __init__(self, http: Binding) -> None:
        self.http = http
        self.config = Listen()
        self.budgets: dict[Binding, Any] = {}


class Loopless:
    """An established wsi of `protocol`; `context` and `pipe` are what it was given.

    Args:
        is_client: Whether it is the client's end.
        agreement: What was agreed of permessage-deflate; None: nothing.
        timeouts: None: the defaults.
        limits: Fields of `Limits`.
    """

    def __init__(
        self,
        protocol: Protocol,
        *,
        is_client: bool = False,
        agreement: Agreement | None = None,
        settings: Settings = SETTINGS,
        timeouts: Timeouts | None = None,
        **limits: Any,
    ) -> None:
        self.context = NotingContext()
        self.pipe = ScriptedPipe()
        self.protocol = protocol
        protocol._members = {}
        protocol.context = self.context  # type: ignore[assignment]
        self.context.limits = Limits(**limits)
        self.context.timeouts = timeouts or Timeouts()
        self.binding = Binding(protocol, self.context.limits, self.context.timeouts, None)
        peer, local = Peer("192.0.2.1", 9), Peer("192.0.2.2", 80)
        listener: Any = None if is_client else _Listener(self.binding)
        self.wsi = Wsi(self.context, self.binding, self.pipe, peer, local, 1, listener)  # type: ignore[arg-type]
        if is_client:
            self.wsi.request = REQUEST
            self.wsi.establish(protocol.name, b"", agreement and make_pair(agreement, settings, is_client=True))
        else:
            self.wsi.upgrade(self.binding, REQUEST, protocol.name, b"101", b"", agreement, settings)
        self.context.turn()
        assert self.sent() == (b"" if is_client else b"101")

    def receive(self, *data: bytes | Exception) -> None:
        """The peer sends each of `data`, read by one receive each; b"" is its end of stream."""
        for piece in data:
            self.pipe.incoming.append(piece)
            self.wsi.on_events(1)

    def sent(self) -> bytes:
        """What left since the last time."""
        sent, self.pipe.sent[:] = b"".join(self.pipe.sent), []
        return sent

    def allow(self, room: int = 1 << 30) -> None:
        """The kernel takes `room` more bytes, and the selector says so."""
        self.pipe.room = room
        self.wsi.on_events(4)
        self.context.turn()
