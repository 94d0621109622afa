"""Protocols that are told of everything, and a record of what they were told, which must make sense in the end.

Owns what a plugin may count on: which call follows which, and how often.  Must not know sockets or faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from wsd.protocol import Protocol
from wsd.wire.http import Request, Response

# By the call that begins something, those that may end it: exactly one of them, once.
_ENDS: Final = {
    "on_established": "on_closed",
    "on_raw_adopt": "on_raw_close",
}
_OUTCOMES: Final = ("on_established", "on_raw_adopt", "on_client_connection_error")


class Record:
    """What the protocols of one context were told.

    Attributes:
        calls: By wsi, the names of the hooks in order.
        messages: By wsi, what was received, whole messages.
        bytes: By wsi, what a raw wsi, or a request's body, brought.
        connects: Every wsi of `client_connect`, whose outcome is due.
        destroyed: The protocols that had `on_protocol_destroy`, in order.
    """

    def __init__(self) -> None:
        self.calls: dict[Any, list[str]] = {}
        self.messages: dict[Any, list[str | bytes]] = {}
        self.bytes: dict[Any, bytes] = {}
        self.connects: list[Any] = []
        self.destroyed: list[str] = []
        self.wrong: list[str] = []
        self._inside = ""

    def note(self, name: str, wsi: Any) -> None:
        """A hook was called; the record is kept until the end, since an exception would be the plugin's own."""
        if self._inside:
            self.wrong.append(f"{name} inside of {self._inside}")
        before = self.calls.setdefault(wsi, [])
        if before and before[-1] in ("on_closed", "on_raw_close", "on_client_connection_error"):
            self.wrong.append(f"{name} after {before[-1]}")
        before.append(name)

    def of(self, name: str) -> int:
        """How often a hook was called, for whichever wsi."""
        return sum(calls.count(name) for calls in self.calls.values())

    def problems(self) -> Iterator[str]:
        """What must not be, now that every connection has ended."""
        yield from self.wrong
        for wsi, calls in self.calls.items():
            for begin, end in _ENDS.items():
                if calls.count(begin) > 1 or calls.count(begin) != calls.count(end):
                    yield f"{wsi!r}: {begin} and {end} do not match: {calls}"
            asked = "on_http" in calls and "on_established" not in calls
            if calls.count("on_closed_http") != asked:
                yield f"{wsi!r}: on_closed_http does not match: {calls}"
            if sum(calls.count(outcome) for outcome in _OUTCOMES) > 1:
                yield f"{wsi!r}: more than one outcome: {calls}"
            if "on_client_connection_error" in calls and wsi not in self.connects:
                yield f"{wsi!r}: no connect, but {calls}"
        for wsi in self.connects:
            calls = self.calls.get(wsi, [])
            if sum(calls.count(outcome) for outcome in _OUTCOMES) != 1:
                yield f"{wsi!r}: a connect without an outcome: {calls}"


class Told(Protocol):
    """What all have in common."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def on_protocol_destroy(self) -> None:
        self.record.destroyed.append(self.name)

    def on_established(self, wsi: Any) -> Any:
        self.record.note("on_established", wsi)

    def on_peer_close(self, wsi: Any, code: int, close_reason: str) -> Any:
        self.record.note("on_peer_close", wsi)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> Any:
        self.record.note("on_closed", wsi)

    def on_client_connection_error(self, wsi: Any, error: Any) -> Any:
        self.record.note("on_client_connection_error", wsi)

    def on_pong(self, wsi: Any, payload: bytes) -> Any:
        self.record.note("on_pong", wsi)


class Echo(Told):
    """Sends back each message; `close` is answered with a close, `all` goes to everybody."""

    name = "echo"

    def on_message(self, wsi: Any, message: Any) -> Any:
        self.record.note("on_message", wsi)
        self.record.messages.setdefault(wsi, []).append(message)
        if message == "close":
            wsi.close(4000, "as you wish")
        elif message == "ping":
            wsi.ping(b"from the plugin")
        elif message == "timer":
            wsi.set_timer(3600)
            wsi.set_timeout(7200)
        elif isinstance(message, str) and message.startswith("all"):
            self.broadcast(message)
        else:
            wsi.send(message)

    def on_writeable(self, wsi: Any) -> Any:
        self.record.note("on_writeable", wsi)


class Room(Echo):
    """The same, for those who are to hear what goes to everybody."""

    name = "room"


class Pieces(Told):
    """Takes pieces as they come and sends each message back in fragments, from `on_writeable`."""

    name = "pieces"

    # Smaller than what the kernel takes at once, larger than what is copied behind its header.
    FRAGMENT: Final = 20_000

    def on_established(self, wsi: Any) -> Any:
        super().on_established(wsi)
        wsi.session = ([], bytearray())  # what is to be sent, the message that is coming

    def on_receive(self, wsi: Any, data: bytes) -> Any:
        self.record.note("on_receive", wsi)
        waiting, message = wsi.session
        message += data
        if wsi.is_final_fragment:
            self.record.messages.setdefault(wsi, []).append(bytes(message))
            rest = bytes(message)
            while len(rest) > self.FRAGMENT:
                waiting.append((rest[: self.FRAGMENT], False))
                rest = rest[self.FRAGMENT :]
            waiting.append((rest, True))
            message.clear()
            wsi.callback_on_writable()
            if len(waiting) % 2:
                wsi.rx_flow_control(False)

    def on_writeable(self, wsi: Any) -> Any:
        self.record.note("on_writeable", wsi)
        waiting = wsi.session[0]
        if waiting:
            data, final = waiting.pop(0)
            wsi.write(data, final=final)
        if waiting:
            wsi.callback_on_writable()
        else:
            wsi.rx_flow_control(True)


class Bytes(Told):
    """Raw connections: sends back what comes, half of it at once and half when it may."""

    name = "bytes"

    def on_raw_adopt(self, wsi: Any) -> Any:
        self.record.note("on_raw_adopt", wsi)
        wsi.session = bytearray()

    def on_raw_receive(self, wsi: Any, data: bytes) -> Any:
        self.record.note("on_raw_receive", wsi)
        self.record.bytes[wsi] = self.record.bytes.get(wsi, b"") + data
        wsi.session += data
        wsi.callback_on_writable()

    def on_raw_writeable(self, wsi: Any) -> Any:
        self.record.note("on_raw_writeable", wsi)
        wsi.write(bytes(wsi.session))
        wsi.session.clear()

    def on_raw_close(self, wsi: Any) -> Any:
        self.record.note("on_raw_close", wsi)


class Web(Told):
    """Protocol 0: takes bodies, and answers in each of the three ways."""

    name = "web"

    PIECE: Final = b"0123456789" * 1500

    def on_http(self, wsi: Any, request: Request) -> Response | None:
        self.record.note("on_http", wsi)
        if request.path == "/iterator":
            return Response(200, iter([self.PIECE] * 5))
        if request.path == "/stream":
            wsi.session = 5
            wsi.callback_on_writable()
            return Response(200, stream=True, length=5 * len(self.PIECE))
        return None

    def on_http_body(self, wsi: Any, data: bytes) -> Any:
        self.record.note("on_http_body", wsi)
        self.record.bytes[wsi] = self.record.bytes.get(wsi, b"") + data

    def on_http_body_completion(self, wsi: Any) -> Any:
        self.record.note("on_http_body_completion", wsi)
        body = self.record.bytes.get(wsi, b"")
        return Response(200, body or "nothing") if wsi.request.path != "/missing" else None

    def on_http_writeable(self, wsi: Any) -> Any:
        self.record.note("on_http_writeable", wsi)
        wsi.session -= 1
        wsi.write(self.PIECE, final=not wsi.session)
        if wsi.session:
            wsi.callback_on_writable()

    def on_closed_http(self, wsi: Any) -> Any:
        self.record.note("on_closed_http", wsi)


class Relay(Told):
    """Each connection that comes in gets one that goes out, tied to it: what comes on one leaves on the other.

    Attributes:
        url: Where to.
        tls: How that is verified; None: nothing is encrypted.
    """

    name = "relay"
    url = ""
    tls: Any = None

    def on_established(self, wsi: Any) -> Any:
        super().on_established(wsi)
        if wsi.is_client:
            for message in wsi.parent.session if wsi.parent else ():
                wsi.send(message)
        else:
            wsi.session = []  # what came before there was anywhere for it to go
            self.record.connects.append(wsi.context.client_connect(self.url, protocol=self, parent=wsi, tls=self.tls))

    def on_message(self, wsi: Any, message: Any) -> Any:
        self.record.note("on_message", wsi)
        self.record.messages.setdefault(wsi, []).append(message)
        other = wsi.parent or next(iter(wsi.children), None)
        if other is None:
            return
        if other.is_established:
            other.send(message)
        elif not wsi.is_client:
            wsi.session.append(message)
