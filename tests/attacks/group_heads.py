"""Heads of requests that are slow, huge, or made to be read in two ways."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable
from typing import Final

from tests.attacks.attempt import FLOOD_BYTES, Attempt, counted, responses
from tests.attacks.model import Attack, Group, Setup
from tests.support.client import KEY, TEXT, Client, close_frame, frame, upgrade_request

IMPATIENT: Final = Setup("impatient", more="[timeouts]\nhandshake_seconds = 0.5\nbody_seconds = 0.5")
WIDE: Final = Setup("wide heads", more="[limits]\nmax_head_bytes = 131072\nmax_uri_bytes = 65536")

SLOW_CLIENTS: Final = 200

# Behind whatever is smuggled in front of it, this must never be answered.
SECOND: Final = b"GET /protocols.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def request(*pieces: bytes) -> Callable[[Attempt], str]:
    """Sends these bytes, and tells what comes."""

    def play(attempt: Attempt) -> str:
        client = attempt.client()
        client.send(*pieces)
        return responses(client)

    return play


def upgrade(*headers: str, second: bytes = SECOND) -> Callable[[Attempt], str]:
    """An upgrade request with these lines in front of its end, and a second request behind it."""
    head = upgrade_request().removesuffix(b"\r\n")
    return request(head, "".join(headers).encode("latin-1"), b"\r\n", second)


# -- slow -------------------------------------------------------------------------------------------------------------


def drip(head: bytes) -> Callable[[Attempt], str]:
    """Many clients that send a byte, and one more each time a round of the companion's is over."""

    def play(attempt: Attempt) -> str:
        clients = [attempt.client() for _ in range(SLOW_CLIENTS)]
        waiting = dict.fromkeys(clients)
        for at in range(len(head)):
            for client in waiting:
                client.send(head[at : at + 1])
            attempt.companion.go_round()
            ended = readable(waiting)
            for client in ended:
                del waiting[client]
            if not waiting:
                break
        return counted([responses(client) for client in clients])

    return play


def readable(clients: Iterable[Client]) -> list[Client]:
    """Those to whom something has come."""
    by_socket = {client.socket: client for client in clients}
    ready, _, _ = select.select(list(by_socket), [], [], 0)
    return [by_socket[sock] for sock in ready]


def silent(attempt: Attempt) -> str:
    clients = [attempt.client() for _ in range(SLOW_CLIENTS)]
    attempt.companion.go_round(10)
    return counted([responses(client) for client in clients])


def slow_body(attempt: Attempt) -> str:
    """A body is announced, to a path that a plugin takes bodies for, and does not come."""
    client = attempt.client()
    client.send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nslow")
    return responses(client)


BODIES: Final = """
from wsd import Protocol
from wsd import Response


class Bodies(Protocol):
    name = "bodies"

    def on_http_body(self, wsi, data):
        pass

    def on_http_body_completion(self, wsi):
        return Response(200, b"thanks", content_type="text/plain")


protocols = [Bodies]
"""

TAKES_BODIES: Final = Setup(
    "bodies",
    listen=('port = 0\nhttp_protocol = "bodies"\ndefault_protocol = "echo"',),
    more="[timeouts]\nbody_seconds = 0.5\n[limits]\nmax_body_bytes = 4096",
    plugins=(("bodies", BODIES),),
)


# -- many things in one head ------------------------------------------------------------------------------------------


def ten_frames(attempt: Attempt) -> str:
    """They lie in the segment of the request."""
    client = attempt.client()
    client.send(upgrade_request(), *[frame(TEXT, str(at)) for at in range(10)], close_frame(1000))
    assert client.receive_response().status == 101
    assert [client.receive_message() for _ in range(10)] == [str(at) for at in range(10)]
    return "101, 10 x echo in their order, Close " + str(client.receive_close().close_code)


def pipelined(attempt: Attempt) -> str:
    """Requests until no more are taken, whose answers are larger than they are."""
    client = attempt.client(receive_buffer=4096)
    sent = attempt.flood(client, b"GET /protocols.json HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
    assert sent < FLOOD_BYTES
    client.reset()
    return "no more requests are read than answers"


def upgrades_and_breaks_off(attempt: Attempt) -> str:
    """Many handshakes, each cut off in the middle or dropped when it is done."""
    head = upgrade_request(protocols="echo")
    for _ in range(10):
        clients = [attempt.client() for _ in range(50)]
        for client in clients:
            client.send(head)
        for client in clients[::2]:
            assert client.receive_response().status == 101
        for client in clients:
            client.reset()
        attempt.companion.go_round()
    return "500 x 101 or nothing, as far as they waited"


def names(header: str, values: Iterable[str]) -> Callable[[Attempt], str]:
    """An upgrade for each value of a header."""

    def play(attempt: Attempt) -> str:
        told = []
        for value in values:
            client = attempt.client()
            client.send(upgrade_request(headers=[(header, value)]), close_frame(1000))
            told.append(responses(client))
        return counted(told)

    return play


KEYS: Final = ("__class__", "constructor", "__proto__", "__init__", "on_message")

_BAD = "INFO <tag>: refused with 400 "
_NO_BODY = _BAD + "an upgrade request has no body"
_ONE_LINE = _BAD + "a line ends without CR"
_CONTROL = _BAD + "control character in a header"
_NAME = _BAD + "bad header name, or space before the colon"

ATTACKS: Final = (
    Attack(
        f"slowloris: {SLOW_CLIENTS} connections, each with one byte of a head after the other",
        f"{SLOW_CLIENTS} x 408, end",
        drip(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000),
        ("INFO <tag>: refused with 408 the request took too long",),
        "CVE-2007-6750, websocketd 0.5; CWE-400",
        IMPATIENT,
        memory_kib=2048,
    ),
    Attack(
        f"{SLOW_CLIENTS} connections on which nothing is sent",
        f"{SLOW_CLIENTS} x end",
        silent,
        known="CVE-2007-6750",
        setup=IMPATIENT,
        memory_kib=2048,
    ),
    Attack(
        "4 of 1000 bytes of a body that a plugin waits for",
        "408, end",
        slow_body,
        ("INFO <tag>: refused with 408 the request took too long",),
        "R.U.D.Y., CWE-400",
        TAKES_BODIES,
    ),
    Attack(
        "a body larger than `max_body_bytes`, announced and not sent",
        "413, end",
        request(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n"),
        ("INFO <tag>: refused with 413 the body is larger than 4096 bytes",),
        setup=TAKES_BODIES,
    ),
    Attack(
        "2000 header lines",
        "431, end",
        request(upgrade_request(headers=[(f"X-{at}", "") for at in range(2000)])),
        ("INFO <tag>: refused with 431 the request head is larger than 16384 bytes",),
        "CVE-2024-37890",
    ),
    Attack(
        "101 header lines, within `max_head_bytes`",
        "431, end",
        request(upgrade_request(headers=[(f"X-{at}", "") for at in range(96)])),
        ("INFO <tag>: refused with 431 more than 100 header lines",),
        "CVE-2024-37890",
    ),
    Attack(
        "one header of 100 KiB",
        "431, end",
        request(upgrade_request(headers=[("X", "x" * 102_400)])),
        ("INFO <tag>: refused with 431 the request head is larger than 16384 bytes",),
        "CVE-2024-37890",
    ),
    Attack(
        "a path of 64 KiB",
        "414, end",
        request(upgrade_request("/" + "x" * 65_536)),
        ("INFO <tag>: refused with 414 the request target is longer than 8192 bytes",),
        "CVE-2024-37890",
    ),
    Attack(
        "1 MiB of empty lines in place of a request",
        "431, end",
        request(b"\r\n" * (1 << 19)),
        ("INFO <tag>: refused with 431 the request head is larger than 16384 bytes",),
    ),
    Attack(
        "a method without an end",
        "400, end",
        request(b"G" * 65_536),
        ("INFO <tag>: refused with 400 this is not HTTP",),
    ),
    Attack(
        "ReDoS: Sec-WebSocket-Extensions with a quoted value of 32,000 escapes and no end",
        "400, end",
        names("Sec-WebSocket-Extensions", ['a; b="' + "\\c" * 16_000]),
        (_BAD + "the Sec-WebSocket-Extensions header is malformed",),
        "CVE-2020-7662, CVE-2020-7663",
        WIDE,
    ),
    Attack(
        "ReDoS: Sec-WebSocket-Protocol with 32,000 spaces in a name",
        "400, end",
        names("Sec-WebSocket-Protocol", ["b" + " " * 32_000 + "x"]),
        ("INFO <tag>: refused with 400 a subprotocol's name is not a token",),
        "CVE-2021-32640",
        WIDE,
    ),
    Attack(
        "10,000 extensions in one header",
        "101, Close 1000, end",
        names("Sec-WebSocket-Extensions", [",".join(["permessage-deflate; client_max_window_bits=99"] * 2500)]),
        known="CWE-407",
        setup=WIDE,
        memory_kib=3072,
    ),
    Attack(
        "subprotocols named " + ", ".join(f"`{name}`" for name in KEYS),
        f"{len(KEYS)} x 400, end",
        names("Sec-WebSocket-Protocol", KEYS),
        ("INFO <tag>: refused with 400 none of these subprotocols is served here: __class__",),
        "GHSA-5v72-xg48-5rpm",
    ),
    Attack(
        "subprotocols named `../../etc/passwd` and `%00`",
        "2 x 400, end",
        names("Sec-WebSocket-Protocol", ["../../etc/passwd", "%00"]),
        (
            "INFO <tag>: refused with 400 a subprotocol's name is not a token",
            _BAD + "none of these subprotocols is served here: %00",
        ),
        "GHSA-5v72-xg48-5rpm",
    ),
    Attack(
        "extensions of the same names, with parameters of the same names",
        f"{len(KEYS)} x 101, Close 1000, end",
        names("Sec-WebSocket-Extensions", [f"{name}; {name}={name}" for name in KEYS]),
        known="GHSA-5v72-xg48-5rpm",
    ),
    Attack(
        "500 handshakes, broken off in the middle or behind the 101",
        "500 x 101 or nothing, as far as they waited",
        upgrades_and_breaks_off,
        memory_kib=1024,
    ),
    Attack(
        "ten messages in the segment of the upgrade request",
        "101, 10 x echo in their order, Close 1000",
        ten_frames,
    ),
    Attack(
        "pipelined requests without end whose answers are not read",
        "no more requests are read than answers",
        pipelined,
    ),
)

SMUGGLING: Final = (
    Attack(
        "Transfer-Encoding: chunked on an upgrade",
        "400, end",
        upgrade("Transfer-Encoding: chunked\r\n", second=b"0\r\n\r\n" + SECOND),
        (_NO_BODY,),
        "CVE-2025-43859",
    ),
    Attack(
        "Transfer-Encoding: ` chunked `, `chunked;x`, `CHUNKED, chunked`",
        "3 x 400, end",
        names("Transfer-Encoding", ["\tchunked ", "chunked;x", "CHUNKED, chunked"]),
        (_NO_BODY, _BAD + "the last transfer coding must be chunked"),
        "CVE-2025-43859",
    ),
    Attack("Content-Length: 5 on an upgrade", "400, end", upgrade("Content-Length: 5\r\n"), (_NO_BODY,)),
    Attack(
        "both",
        "400, end",
        upgrade("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        (_BAD + "Transfer-Encoding beside Content-Length, or in HTTP/1.0",),
        "CVE-2026-42585",
    ),
    Attack(
        "two Content-Length",
        "400, end",
        upgrade("Content-Length: 0\r\nContent-Length: 5\r\n"),
        (_BAD + "<*>Content-Length",),
    ),
    Attack(
        "Content-Length of +5, 5,5, 0x5, -1, and one of 30 digits",
        "5 x 400, end",
        names("Content-Length", ["+5", "5,5", "0x5", "-1", "9" * 30]),
        (_BAD + "<*>Content-Length<*>",),
    ),
    Attack(
        "two Host",
        "400, end",
        upgrade("Host: elsewhere\r\n"),
        (_BAD + "there must be exactly one Host header",),
    ),
    Attack(
        "Host with a path, a user, a space",
        "3 x 400, end",
        names("Host", ["a/b", "user@a", "a b"]),
        (_BAD + "bad Host header",),
    ),
    Attack(
        "a space in front of a colon: `X : a`",
        "400, end",
        upgrade("X : a\r\n"),
        (_NAME,),
        "CVE-2021-22959",
    ),
    Attack("a line that begins with a colon", "400, end", upgrade(": a\r\n"), (_NAME,)),
    Attack("a line without a colon", "400, end", upgrade("Transfer-Encoding\r\n"), (_NAME,)),
    Attack("a line that ends in LF alone", "400, end", upgrade("X: a\nContent-Length: 5\r\n"), (_ONE_LINE,)),
    Attack(
        "a whole head with LF alone",
        "400, end",
        request(upgrade_request().replace(b"\r\n", b"\n"), SECOND),
        (_BAD + "the request line is not METHOD TARGET HTTP/1.1",),
    ),
    Attack(
        "a header continued on a second line",
        "400, end",
        upgrade("X: a\r\n Content-Length: 5\r\n"),
        (_BAD + "a header is continued on a second line",),
    ),
    Attack(
        "the first header continued before it began",
        "400, end",
        request(b"GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", SECOND),
        (_BAD + "a header is continued on a second line",),
    ),
    Attack("CR inside a value", "400, end", upgrade("X: a\rContent-Length: 5\r\n"), (_CONTROL,), "CVE-2020-7695"),
    Attack("NUL inside a value", "400, end", upgrade("X: a\0b\r\n"), (_CONTROL,)),
    Attack("NUL inside a name", "400, end", upgrade("X\0: a\r\n"), (_NAME,)),
    Attack("bytes above 127 inside a name", "400, end", upgrade("X\xe9: a\r\n"), (_NAME,)),
    Attack(
        "two spaces, a tab, no version, HTTP/2's preface in the first line",
        "3 x 400, end, 505, end",
        lambda attempt: counted(
            [
                request(line + b"\r\nHost: a\r\n\r\n", SECOND)(attempt)
                for line in (b"GET  / HTTP/1.1", b"GET\t/ HTTP/1.1", b"GET /", b"PRI * HTTP/2.0")
            ]
        ),
        (
            _BAD + "the request line is not METHOD TARGET HTTP/1.1",
            "INFO <tag>: refused with 505 this server speaks HTTP/1.0 and HTTP/1.1",
        ),
    ),
    Attack(
        "a second upgrade in the first one's place of frames",
        "101, Close 1002 reserved bit set, end",
        request(upgrade_request(), upgrade_request()),
        ("INFO <tag>: protocol violation, closing with 1002: reserved bit set",),
    ),
    Attack(
        "two Sec-WebSocket-Key, and one of 15 bytes",
        "2 x 400, end",
        lambda attempt: counted(
            [
                upgrade(f"Sec-WebSocket-Key: {KEY}\r\n")(attempt),
                request(upgrade_request(headers=[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j")]))(attempt),
            ]
        ),
        (_BAD + "there must be one Sec-WebSocket-Key header, base64 of 16 bytes",),
    ),
    Attack(
        "POST, HTTP/1.0 and version 8 as an upgrade",
        "405, end, 400, end, 426, end",
        lambda attempt: counted(
            [
                request(upgrade_request().replace(b"GET", b"POST"))(attempt),
                request(upgrade_request().replace(b"HTTP/1.1", b"HTTP/1.0"))(attempt),
                request(upgrade_request(headers=[("Sec-WebSocket-Version", "8")]))(attempt),
            ]
        ),
        ("INFO <tag>: refused with 405 a WebSocket is opened with GET", "INFO <tag>: refused with 426 <*> version 13"),
    ),
)

GROUPS: Final = (
    Group(1, "Handshakes that are slow, huge or many", ATTACKS),
    Group(
        2,
        "Requests that can be read in two ways",
        SMUGGLING,
        "Each is followed by a second request in the same segment, which must not be answered: with the 400 the "
        "connection ends.",
    ),
)
