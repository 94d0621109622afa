"""More than one's share: of connections, of handshakes, of memory, of messages, of time."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from tests.attacks.attempt import FLOOD_BYTES, Attempt, counted, frames, frames_of
from tests.attacks.group_doors import OTHER, REFUSED
from tests.attacks.group_heads import readable
from tests.attacks.model import Attack, Group, Setup
from tests.support.client import BINARY, TEXT, Client, frame, upgrade_request
from tests.support.daemon import ECHO

PER_ADDRESS: Final = Setup("per address", more="[limits]\nmax_connections_per_address = 10")
PER_SECOND: Final = Setup("per second", more="[limits]\nmax_handshakes_per_second = 20")
HANDSHAKES: Final = Setup("handshakes", more="[limits]\nmax_handshakes = 20\n[timeouts]\nhandshake_seconds = 30")
SMALL_MEMORY: Final = Setup(
    "memory", more="[limits]\nmax_memory_bytes = 8388608\n[timeouts]\nclose_seconds = 0.3", listen=("port = 0",)
)

# The companion speaks `echo`, and these hold for the other protocol alone.
RATED: Final = Setup(
    "rates and times",
    listen=('port = 0\ndefault_protocol = "echo"',),
    plugins=tuple((name, ECHO.format(name=name)) for name in ("chatty", "bulky", "framed", "first", "idle", "session")),
    more="""
[timeouts]
over_rate_seconds = 0.3
close_seconds = 0.3
[protocols.chatty.limits]
max_messages_per_second = 100
[protocols.bulky.limits]
max_message_bytes = 10000
max_bytes_per_second = 100000
[protocols.framed.limits]
max_frame_bytes = 1000
[protocols.first.timeouts]
first_message_seconds = 0.2
[protocols.idle.timeouts]
idle_seconds = 0.2
[protocols.session.timeouts]
session_seconds = 0.2
""",
)


def one_address(attempt: Attempt) -> str:
    """Connections of one address, and then one of another."""
    clients = [attempt.client(source=OTHER) for _ in range(40)]
    told = []
    for client in clients:
        try:
            client.send(upgrade_request(protocols="echo"))
            told.append(str(client.receive_response().status))
        except (ConnectionError, EOFError):
            told.append("closed")
    other = attempt.connect(source="127.0.0.3")
    other.send_text("and I?")
    return f"{counted(told)}; another address: {'echo' if other.receive_message() == 'and I?' else 'nothing'}"


def one_address_fast(attempt: Attempt) -> str:
    """As fast as can be; how many a second brings is the clock's."""
    told = []
    for _ in range(200):
        client = attempt.client(source=OTHER)
        try:
            client.send(upgrade_request(protocols="echo"))
            told.append(str(client.receive_response().status))
        except (ConnectionError, EOFError):
            told.append("closed")
        client.disconnect()
    assert 20 <= told.count("101") < 100, told.count("101")
    assert told[:20] == ["101"] * 20
    return "20 x 101, then closed, but for the rate"


def never_finished(attempt: Attempt) -> str:
    """As many connections without a request as may be, and one more; and then one that means it."""
    silent = [attempt.client() for _ in range(21)]
    good = attempt.connect()
    good.send_text("let me in")
    assert good.receive_message() == "let me in"
    ended = [client for client in silent if client in readable(silent)]
    assert 1 <= len(ended) <= 2, len(ended)
    assert all(client.receive_end() == b"" for client in ended)
    return "one that means it gets in, the oldest is closed"


def half_messages(attempt: Attempt) -> str:
    """Each within all limits of its own."""
    clients = [attempt.connect() for _ in range(24)]
    for client in clients:
        client.send(frame(BINARY, bytes(1_000_000), final=False))
        attempt.companion.go_round()
    attempt.wait_line(MEMORY)
    told = {frames_of(client)[0] for client in readable(clients)}
    return ", ".join(sorted(told))


MEMORY: Final = (
    "WARN <tag>: closed with 1013: all connections hold over max_memory_bytes (8388608), and it holds most, <*>"
)


def too_fast(protocol: str, message: bytes) -> Callable[[Attempt], str]:
    """Messages until no more are taken, and then all that has come; echoes are not counted: the clock has their
    number."""

    def play(attempt: Attempt) -> str:
        client = attempt.connect(protocol)
        sent = attempt.flood(client, message)
        assert sent < FLOOD_BYTES
        # How it ends behind the Close depends on how much of the flood has been read by then.
        return counted([word for word in frames_of(client)[:-1] if word != "echo"])

    return play


def says_nothing(protocol: str) -> Callable[[Attempt], str]:
    return lambda attempt: frames(attempt.connect(protocol))


def says_all_the_time(attempt: Attempt) -> str:
    client = attempt.connect("session")
    client.socket.setblocking(False)
    while not readable_close(client):
        try:
            client.socket.send(frame(TEXT, "still here"))
        except (BlockingIOError, ConnectionError):
            break
        attempt.companion.go_round()
    client.socket.settimeout(client.patience)
    return counted([word for word in frames_of(client)[:-1] if word != "echo"])


def readable_close(client: Client) -> bool:
    """Reports whether a Close is among what has come."""
    try:
        data = client.socket.recv(1 << 20, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return b"\x88" in data


BUDGETS: Final = (
    Attack(
        "40 connections of one address where `max_connections_per_address` is 10",
        "10 x 101, 30 x closed; another address: echo",
        one_address,
        (REFUSED + "over limits.max_connections_per_address = 10",),
        "CWE-770",
        PER_ADDRESS,
    ),
    Attack(
        "200 connections of one address, one after the other, where `max_handshakes_per_second` is 20",
        "20 x 101, then closed, but for the rate",
        one_address_fast,
        (REFUSED + "over limits.max_handshakes_per_second = 20",),
        "CVE-2023-44487",
        PER_SECOND,
    ),
    Attack(
        "more connections without a request than `max_handshakes`",
        "one that means it gets in, the oldest is closed",
        never_finished,
        (
            "WARN limits.max_handshakes reached (20); those that take long are closed",
            "INFO <tag>: its handshake takes long, and others wait; closed",
        ),
        "CVE-2007-6750",
        HANDSHAKES,
    ),
    Attack(
        "24 halves of messages of 1 MB each where `max_memory_bytes` is 8 MiB",
        "Close 1013 the server is out of memory",
        half_messages,
        (MEMORY,),
        "CVE-2016-10542; CWE-770",
        SMALL_MEMORY,
        memory_kib=13_312,
    ),
    Attack(
        "messages without end where `max_messages_per_second` is 100",
        "Close 1008 over max_messages_per_second",
        too_fast("chatty", frame(TEXT, "x") * 1000),
        (
            "INFO <tag>: over max_messages_per_second (100), reading pauses",
            "WARN <tag>: over max_messages_per_second (100) for 0.3 s, closing with 1008",
        ),
        setup=RATED,
        memory_kib=1536,  # the messages of one read take one arena of Python's allocator more, of 1024 KiB
    ),
    Attack(
        "messages without end where `max_bytes_per_second` is 100,000",
        "Close 1008 over max_bytes_per_second",
        too_fast("bulky", frame(BINARY, bytes(10_000))),
        (
            "INFO <tag>: over max_bytes_per_second (100000), reading pauses",
            "WARN <tag>: over max_bytes_per_second (100000) for 0.3 s, closing with 1008",
        ),
        setup=RATED,
    ),
    Attack(
        "a frame of 1001 bytes, announced, where `max_frame_bytes` is 1000",
        "Close 1009 frame over 1000 bytes, end",
        lambda attempt: sent_to(attempt, "framed", frame(BINARY, bytes(1001))[:4]),
        ("INFO <tag>: protocol violation, closing with 1009: frame over 1000 bytes",),
        setup=RATED,
    ),
    Attack(
        "a WebSocket on which nothing is said, with `first_message_seconds`",
        "Close 1008 no message in time, end",
        says_nothing("first"),
        ("INFO <tag>: first_message_seconds (0.2) are over, closing with 1008",),
        setup=RATED,
    ),
    Attack(
        "the same with `idle_seconds`",
        "Close 1001 idle, end",
        says_nothing("idle"),
        ("INFO <tag>: idle_seconds (0.2) are over, closing with 1001",),
        setup=RATED,
    ),
    Attack(
        "a WebSocket that never ends, with `session_seconds`",
        "Close 1001 session over",
        says_all_the_time,
        ("INFO <tag>: session_seconds (0.2) are over, closing with 1001",),
        setup=RATED,
    ),
)


def sent_to(attempt: Attempt, protocol: str, *pieces: bytes) -> str:
    client = attempt.connect(protocol)
    client.send(*pieces)
    return frames(client)


GROUPS: Final = (Group(15, "More than one's share", BUDGETS),)
