"""An HTTP role on a wsi that only notes what is done to it: no socket, no loop, no clock."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from wsd.access import Gate
from wsd.admission import Admission
from wsd.binding import Binding
from wsd.config import Auth, Compression, Limits, Timeouts
from wsd.counters import Counters
from wsd.errors import Reject
from wsd.http1 import Http1, State
from wsd.protocol import Protocol
from wsd.web import Http
from wsd.wire.http import Headers, Request, Response
from wsd.wsi import Wsi as RealWsi

FAILED = RealWsi.FAILED
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Wsi:
    """What the role uses of a wsi.  `room` is what the kernel takes; None: everything at once."""

    FAILED = FAILED
    is_client = False

    def __init__(self, http: Binding, fallback: Binding, protocols: dict[str, Binding]) -> None:
        default = next(iter(protocols.values()), None)
        self.menu = SimpleNamespace(
            bindings=protocols, default=default, paths={}, allowed_origins=(), answer_headers=(), doors=None
        )
        self.menu.static_folder = ""
        self.menu.config = SimpleNamespace(compression=Compression(), auth=Auth())
        self.menu.http = http
        self.context = SimpleNamespace(
            stopping=False,
            fallback_http=fallback,
            counters=Counters(),
            gate=Gate(lambda: None),
            now=0.0,
        )
        self.context.admission = Admission(self.context, (), lambda: None)  # type: ignore[arg-type]
        http.apply(Limits(max_body_bytes=100), Timeouts(), None)
        self.binding, self.budget = http, http.budget
        self.tag = "test#1"
        self.identity: str | None = None
        self.request: Request | None = None
        self.session: Any = None
        self.out = b""
        self.unsent = 0
        self.is_choked = False
        self.deadlines: list[float | None] = []
        self.is_asked = False
        self.is_paused = False
        self.is_closing = False
        self.ends: list[str] = []
        self.failures: list[tuple[str, BaseException]] = []
        self.upgraded: tuple[Any, ...] | None = None
        self.role = Http1(self)  # type: ignore[arg-type]

    @property
    def deadline(self) -> float | None:
        return self.deadlines[-1]

    def put(self, data: bytes) -> None:
        self.out += data
        self.unsent += len(data) if self.is_choked else 0

    def set_deadline(self, seconds: float | None) -> None:
        self.deadlines.append(seconds)

    def want_writable(self) -> None:
        self.is_asked = True

    def pause_reading(self, paused: bool) -> None:
        self.is_paused = paused

    def bind(self, binding: Binding) -> None:
        self.binding = binding

    def finish(self) -> None:
        self.ends.append("finish")
        self.is_closing = True

    close = finish

    def abort(self, why: str = "") -> None:
        self.ends.append("abort")
        self.is_closing = True

    def upgrade(self, *arguments: Any) -> None:
        self.upgraded = arguments

    def call(self, name: str, hook: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return hook(*arguments)
        except Reject:
            raise
        except Exception as error:
            self.failures.append((name, error))
            return FAILED

    # -- what a test does ------------------------------------------------------------------------------------------

    def serve(self, turns: int = 1000) -> None:
        """The write pass, as often as it was asked for."""
        while self.is_asked and not self.ends and turns:
            turns -= 1
            self.is_asked = False
            self.unsent = 0
            self.role.writable()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Give bytes to the role and let everything happen; gives the answers as (status, body)."""
        self.role.receive(data)
        self.serve()
        return self.answers()

    @property
    def is_verifying(self) -> bool:
        """Whether the role waits to hear whose request it is."""
        return self.role.state is State.IDENTITY

    def answers(self) -> list[tuple[int, bytes]]:
        """The answers so far, taken off `out`.  Only those with a length."""
        found = []
        while self.out:
            head, _, rest = self.out.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            size = int(length[1]) if length else 0
            found.append((int(head.split(b" ")[1]), rest[:size]))
            self.out = rest[size:]
        return found


class Echo(Protocol):
    """A WebSocket protocol whose hooks before the 101 can be set."""

    name = "echo"
    Session = dict

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.filter: Callable[[Wsi], Any] = lambda wsi: None
        self.headers: list[tuple[str, str]] = []
        self.confirm: Callable[[Wsi], Any] = lambda wsi: None

    def on_filter_protocol_connection(self, wsi: Any, request: Request) -> Any:
        self.calls.append(f"filter {request.path} {wsi.session} {wsi.binding.protocol.name}")
        return self.filter(wsi)

    def on_confirm_extension(self, wsi: Any, name: str, params: dict[str, str | None]) -> Any:
        self.calls.append(f"confirm {name} {params}")
        return self.confirm(wsi)

    def on_add_headers(self, wsi: Any, headers: Headers) -> None:
        self.calls.append("headers")
        for name, value in self.headers:
            headers.add(name, value)


class Site(Protocol):
    """An HTTP protocol that answers what it is told to."""

    name = "site"

    def __init__(self) -> None:
        self.answer: Callable[[Any, Request], Any] = lambda wsi, request: Response(body=request.path)
        self.pieces: list[bytes] = []
        self.closed = 0

    def on_http(self, wsi: Any, request: Request) -> Any:
        return self.answer(wsi, request)

    def on_closed_http(self, wsi: Any) -> None:
        self.closed += 1


def bound(protocol: Protocol) -> Binding:
    return Binding(protocol, Limits(), Timeouts(), None)


def wsi_with(http: Protocol | None = None, *protocols: Protocol) -> Wsi:
    builtin = Http()
    builtin.on_protocol_init(None, None)  # type: ignore[arg-type]
    fallback = bound(builtin)
    served = {protocol.name: bound(protocol) for protocol in protocols}
    return Wsi(bound(http) if http is not None else fallback, fallback, served)


def upgrade(*more: str, without: str = "-") -> bytes:
    lines = ["Host: a", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}"]
    lines = [line for line in [*lines, "Sec-WebSocket-Version: 13"] if not line.startswith(without)]
    return "\r\n".join(["GET /chat HTTP/1.1", *lines, *more, "", ""]).encode()
