"""What `make bench-micro` measures in small: each case as a function that does it once, and how much "it" is.

Through the names that the rest of wsd uses, so that a case measures whatever stands behind them: C or Python.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from itertools import count, cycle
from typing import Any, Final, NamedTuple

from bench.building import ROOT
from wsd import Context, Protocol
from wsd.plugins import load
from wsd.timers import Timers
from wsd.wire.deflate import Deflater, Inflater
from wsd.wire.extensions import Settings
from wsd.wire.fast import frame, is_utf8, mask
from wsd.wire.handshake import accept_key, check_upgrade, encode_101
from wsd.wire.http import parse_head
from wsd.wire.parser import Parser

Do = Callable[[], object]

_KEY: Final = b"\x37\xfa\x21\x3d"
_SMALL: Final = bytes(range(32, 96))
_LARGE: Final = bytes(range(256)) * 256
_MIXED: Final = ("Grüße aus Köln, " * 256).encode()
# Different ones, since a compressor that sees the same again has nothing to do.
_JSON: Final = [
    json.dumps([{"id": n * n, "name": f"sensor-{n % 7}", "value": n * 37 % 1000} for n in range(at, at + 22)]).encode()
    for at in range(0, 6400, 100)
]
_SETTINGS: Final = Settings(level=3, memory_level=5, window_bits=12, context_takeover=True, min_bytes=128)
_REQUEST: Final = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: example.org:7681\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Origin: https://example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)


class Case(NamedTuple):
    """One thing that is measured.

    Attributes:
        make: Prepares it; what that gives does it.
        units: How many of what the title names are done by one call.
    """

    name: str
    title: str
    make: Callable[[], Do]
    units: int = 1


def masked(payload: bytes, first: int = 0x82) -> bytes:
    """A client's frame, made without the code that is measured."""
    size = len(payload)
    if size < 126:
        length = struct.pack("!B", 0x80 | size)
    elif size < 65536:
        length = struct.pack("!BH", 0x80 | 126, size)
    else:
        length = struct.pack("!BQ", 0x80 | 127, size)
    return bytes([first]) + length + _KEY + bytes(byte ^ _KEY[at & 3] for at, byte in enumerate(payload))


# -- wire/ ------------------------------------------------------------------------------------------------------------


def _parse(data: bytes) -> Callable[[], Do]:
    def make() -> Do:
        parser = Parser(1 << 20, 4096)
        receive, view = parser.receive, memoryview(data)
        assert receive(view), "no message came out"
        return lambda: receive(view)

    return make


def _parse_cut() -> Do:
    """A frame that comes in two reads."""
    parser = Parser(1 << 20, 4096)
    data = masked(_SMALL)
    first, second = data[:40], data[40:]

    def do() -> None:
        parser.receive(first)
        parser.receive(second)

    return do


def _deflate() -> Do:
    deflater, texts = Deflater(12, True, _SETTINGS), cycle(_JSON)
    return lambda: deflater.encode(0x81, next(texts))


def _inflate() -> Do:
    payload = Deflater(12, False, _SETTINGS).encode(0x81, _JSON[0])[1]
    inflater = Inflater(12, True)

    def do() -> None:
        inflater.feed(payload)
        inflater.finish()
        while not inflater.is_drained:
            inflater.read(65536)

    return do


def _handshake() -> Do:
    def do() -> bytes:
        return encode_101(accept_key(check_upgrade(parse_head(_REQUEST)).key), "chat")

    return do


# -- a whole connection in a context ----------------------------------------------------------------------------------


class _Nothing(Protocol):
    """Takes what comes: what is left is wsd's own way to the hook."""

    name = "nothing"

    def on_receive(self, wsi: Any, data: bytes) -> None:
        pass


def _shipped(plugin: str) -> Protocol:
    found = load(ROOT / "plugins" / f"{plugin}.py")
    assert found.error is None, found.error
    return found.protocols[0]


def _converse(protocol: Protocol) -> tuple[Context, socket.socket]:
    """A context with one established connection, and its other end."""
    context = Context([protocol])
    return context, _join(context, protocol)


_OFFER: Final = b"Sec-WebSocket-Extensions"


def _join(context: Context, protocol: Protocol) -> socket.socket:
    """The other end of one more established connection."""
    established = context.counters.established
    ours, theirs = socket.socketpair()
    context.adopt_socket(ours, protocol)
    # Without compression: that is not the way of a plain message.
    theirs.sendall(b"".join(line for line in _REQUEST.splitlines(True) if not line.startswith((b"Origin", _OFFER))))
    while context.counters.established == established:
        context.service(0)
    context.service(0)
    assert theirs.recv(65536).startswith(b"HTTP/1.1 101"), "no WebSocket"
    return theirs


def _dispatch(messages: int) -> Callable[[], Do]:
    """From the socket to the plugin."""

    def make() -> Do:
        context, peer = _converse(_Nothing())
        data = masked(_SMALL) * messages
        send, service = peer.send, context.service

        def do() -> None:
            send(data)
            service(0)

        return do

    return make


def _echo(messages: int) -> Callable[[], Do]:
    """From the socket to the plugin and back to the socket."""

    def make() -> Do:
        context, peer = _converse(_shipped("echo"))
        data = masked(_SMALL) * messages
        send, service, receive = peer.send, context.service, peer.recv

        def do() -> None:
            send(data)
            service(0)
            receive(65536)

        return do

    return make


_RECEIVERS: Final = 100


def _broadcast() -> Do:
    """From one socket through the mirror plugin to all of them; what they read is thrown away."""
    mirror = _shipped("lws_mirror")
    context = Context([mirror])
    peers = [_join(context, mirror) for _ in range(_RECEIVERS)]
    data, service = masked(_SMALL), context.service

    def do() -> None:
        peers[0].send(data)
        service(0)
        for peer in peers:
            peer.recv(100)

    return do


# -- timers -----------------------------------------------------------------------------------------------------------


def _nothing() -> None:
    pass


def _set_and_cancel() -> Do:
    timers, times = Timers(), count()
    for when in range(1000):
        timers.add(1e9 + when, _nothing)

    def do() -> None:
        timers.add(next(times), _nothing).cancel()

    return do


def _set_and_fire() -> Do:
    timers, times = Timers(), count()
    for when in range(1000):
        timers.add(1e9 + when, _nothing)

    def do() -> None:
        now = next(times)
        timers.add(now, _nothing)
        for function in timers.due(now):
            function()

    return do


NOTHING: Final = Case("nothing", "the measuring itself", lambda: _nothing)

CASES: Final = (
    Case("frame-out", "frame out, 64 B", lambda: lambda: frame(0x82, _SMALL)),
    Case("parse", "frame in, 64 B", _parse(masked(_SMALL))),
    Case("parse-text", "frame in, 64 B of text", _parse(masked(_SMALL, 0x81))),
    Case("parse-32", "frame in, 64 B, of 32 in one read", _parse(masked(_SMALL) * 32), 32),
    Case("parse-cut", "frame in, 64 B, in two reads", _parse_cut),
    Case("parse-large", "frame in, 64 KiB", _parse(masked(_LARGE))),
    Case("mask", "masking, 64 B", lambda: lambda: mask(_SMALL, _KEY)),
    Case("mask-large", "masking, 64 KiB", lambda: lambda: mask(_LARGE, _KEY)),
    Case("utf8", "UTF-8, 64 B of ASCII", lambda: lambda: is_utf8(_SMALL)),
    Case("utf8-mixed", "UTF-8, 4 kB of German", lambda: lambda: is_utf8(_MIXED)),
    Case("deflate", "deflate, 1 kB of JSON", _deflate),
    Case("inflate", "inflate, 1 kB of JSON", _inflate),
    Case("handshake", "request for a WebSocket read, 101 made", _handshake),
    Case("dispatch", "from the socket to a hook, 64 B", _dispatch(1)),
    Case("dispatch-32", "from the socket to a hook, 64 B, of 32", _dispatch(32), 32),
    Case("echo", "through the echo plugin and back, 64 B", _echo(1)),
    Case("echo-32", "through the echo plugin and back, 64 B, of 32", _echo(32), 32),
    Case("broadcast", "through the mirror plugin, 64 B, to each of 100", _broadcast, _RECEIVERS),
    Case("timer-cancel", "timer set and cancelled, among 1000", _set_and_cancel),
    Case("timer-due", "timer set and due, among 1000", _set_and_fire),
)
