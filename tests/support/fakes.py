"""A wsi without a connection, for tests of what a plugin says to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wsd.plugins import load
from wsd.protocol import Peer
from wsd.timers import Timer, Timers
from wsd.wire.broadcast import Broadcast
from wsd.wire.http import Request

PLUGINS = Path(__file__).resolve().parent.parent.parent / "plugins"


class FakeWsi:
    """Notes what a plugin asks of it.  `room` is how many writes fit until the pipe is choked."""

    is_client = False

    def __init__(self, protocol: Any, target: str = "/", session: Any = None) -> None:
        self.protocol = protocol
        self.request = Request(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.session = session if session is not None else protocol.Session and protocol.Session()
        self.peer = Peer("192.0.2.1", 1)
        self.written: list[tuple[bytes | str, int | None, bool]] = []
        self.sent: list[Any] = []
        self.room = 1 << 30
        self.is_asked = False
        self.is_reading = True
        self.timer: float | None = None
        self.closed: tuple[int, str] | None = None
        self.max_message_bytes = 1000
        self.is_final_fragment = True
        self.frame_is_binary = False

    @property
    def send_pipe_choked(self) -> bool:
        return self.room <= 0

    @property
    def is_closing(self) -> bool:
        return self.closed is not None

    def write(self, data: bytes | str, opcode: int | None = None, final: bool = True) -> int:
        self.room -= 1
        self.written.append((data, opcode, final))
        return 0

    def offer(self, data: bytes | str, opcode: int | None = None, final: bool = True) -> bool:
        if self.closed is None:
            if self.send_pipe_choked:
                return False
            self.write(data, opcode, final)
        return True

    def send_shared(self, message: Broadcast) -> int:
        self.sent.append(message.frame)
        return 0

    def take_shared(self, message: Broadcast) -> bool:
        if self.closed is None:
            if self.send_pipe_choked:
                return False
            first, payload = message.parts
            self.write(payload, first & 0x0F)
        return True

    def callback_on_writable(self) -> int:
        self.is_asked = True
        return 0

    def rx_flow_control(self, on: bool) -> int:
        self.is_reading = on
        return 0

    def set_timer(self, seconds: float | None) -> int:
        if self.closed is not None:
            return -1
        self.timer = seconds
        return 0

    def close(self, code: int = 1000, close_reason: str = "") -> int:
        self.closed = self.closed or (code, close_reason)
        return 0

    # -- what the loop does -----------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Call `on_writeable` as often as it was asked for and the pipe takes more."""
        while self.is_asked and not self.send_pipe_choked:
            self.is_asked = False
            self.protocol.on_writeable(self)

    def take(self) -> list[Any]:
        """What was written since the last time."""
        written, self.written = self.written, []
        return written


class FakeContext:
    """What a protocol, and not a wsi, asks of its context."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers = Timers()

    def spread(self, wsis: Iterable[FakeWsi], message: Broadcast) -> list[FakeWsi]:
        return list(wsis)

    def call_later(self, seconds: float, function: Callable[[], Any]) -> Timer:
        return self.timers.add(self.now + seconds, function)

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
        for due in self.timers.due(self.now):
            due()


def shipped(file: str, **options: Any) -> Any:
    """The first protocol of a shipped plugin, loaded as the daemon does and initialised with these options."""
    found = load(PLUGINS / file)
    assert found.error is None, found.error
    protocol = found.protocols[0]
    protocol._members = {}
    protocol.context = FakeContext()  # type: ignore[assignment]
    if protocol.Options is not None:
        protocol.on_protocol_init(protocol.context, protocol.Options(**options))  # type: ignore[arg-type]
    return protocol
