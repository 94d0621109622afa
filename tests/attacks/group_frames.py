"""Frames that break the protocol, and those that cost the daemon more than their sender."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from typing import Final

from tests.attacks.attempt import FLOOD_BYTES, Attempt, counted, frames, frames_of
from tests.attacks.model import Attack, Group, Setup
from tests.support.client import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT, Client, close_frame, frame
from tests.support.deflating import RSV1, Deflating, bomb, fragments

VIOLATION: Final = "INFO <tag>: protocol violation, closing with "

MIB: Final = 1 << 20


def sends(*pieces: bytes) -> Callable[[Attempt], str]:
    """Sends these bytes on a WebSocket, and tells what comes."""

    def play(attempt: Attempt) -> str:
        client = attempt.connect()
        client.send(*pieces)
        return frames(client)

    return play


def each(payloads: Iterable[bytes]) -> Callable[[Attempt], str]:
    """Each on a connection of its own; the number in what the Close says is left out, so that many can be told once."""
    plays = [sends(payload) for payload in payloads]
    return lambda attempt: counted([re.sub(r"code \d+", "code N", play(attempt)) for play in plays])


def compressed(*pieces: bytes) -> Callable[[Attempt], str]:
    """Sends these bytes on a WebSocket with permessage-deflate."""

    def play(attempt: Attempt) -> str:
        address = attempt.address
        assert isinstance(address, int)
        client = attempt.enter(Deflating(address, "echo")).client
        client.send(*pieces)
        return frames(client)

    return play


def announced(length: int) -> bytes:
    """The header of a binary frame that announces so many bytes, in 64 bits."""
    return struct.pack("!BBQ", 0x80 | BINARY, 0x80 | 127, length) + MASK


def wrong(code: int, text: str) -> tuple[str, tuple[str, ...]]:
    """What a violation is answered with, and what the log says of it."""
    return f"Close {code} {text}, end", (f"{VIOLATION}{code}: {text}",)


def bad_frame(sent: str, text: str, *pieces: bytes, code: int = 1002, known: str = "") -> Attack:
    gets, log = wrong(code, text)
    return Attack(sent, gets, sends(*pieces), log, known)


FRAMES: Final = (
    bad_frame("a frame without a mask", "frame not masked", frame(TEXT, "hi", mask=None), known="RFC 6455 5.1"),
    bad_frame("RSV1 without an extension", "reserved bit set", frame(TEXT, "hi", rsv=4)),
    Attack(
        "RSV2, RSV3, all three",
        "3 x Close 1002 reserved bit set, end",
        each(frame(TEXT, "hi", rsv=rsv) for rsv in (2, 1, 7)),
        (VIOLATION + "1002: reserved bit set",),
    ),
    Attack(
        "opcodes 3 to 7 and 11 to 15",
        "10 x Close 1002 reserved opcode N, end",
        each(frame(opcode, "hi") for opcode in (*range(3, 8), *range(11, 16))),
        (VIOLATION + "1002: reserved opcode <n>",),
    ),
    bad_frame("a continuation of nothing", "continuation without a message", frame(CONTINUATION, "hi")),
    bad_frame(
        "a message inside another one's fragments",
        "new message inside a fragmented one",
        frame(TEXT, "a", final=False),
        frame(TEXT, "b"),
    ),
    bad_frame("a ping of 126 bytes", "control frame over 125 bytes", frame(PING, bytes(126)), known="CVE-2016-10518"),
    bad_frame(
        "a ping in fragments", "fragmented control frame", frame(PING, b"a", final=False), known="CVE-2016-10518"
    ),
    bad_frame(
        "5 bytes with a length of 16 bits",
        "bad length",
        b"\x82\xfe\x00\x05" + MASK + bytes(5),
        known="RFC 6455 5.2",
    ),
    bad_frame(
        "5 bytes with a length of 64 bits",
        "bad length",
        b"\x82\xff" + struct.pack("!Q", 5) + MASK + bytes(5),
        known="RFC 6455 5.2",
    ),
    Attack(
        "lengths of 2^63 and 2^64-1, and no payload",
        "2 x Close 1002 bad length, end",
        each([announced(1 << 63), announced((1 << 64) - 1)]),
        (VIOLATION + "1002: bad length",),
        "CVE-2020-13935, CVE-2020-27813, CVE-2026-50161",
    ),
    Attack(
        "lengths of 2 MiB and 2^63-1 with `max_message_bytes` at 1 MiB, and no payload",
        "2 x Close 1009 message over 1048576 bytes, end",
        each([announced(2 * MIB), announced((1 << 63) - 1)]),
        (VIOLATION + "1009: message over 1048576 bytes",),
        "CVE-2020-13935, CVE-2026-50161",
    ),
    Attack(
        "a message of 1 MiB in two fragments, and then a third that is announced and not sent",
        "Close 1009 message over 1048576 bytes, end",
        sends(
            frame(BINARY, bytes(MIB // 2), final=False),
            frame(CONTINUATION, bytes(MIB // 2), final=False),
            b"\x80\x81" + MASK,
        ),
        (VIOLATION + "1009: message over 1048576 bytes",),
        "CVE-2016-10542, CVE-2018-21035",
        memory_kib=1536,
    ),
    Attack(
        "a Close with a payload of 1 byte",
        "Close 1002 close frame of one byte, end",
        sends(frame(CLOSE, b"\x03")),
        (VIOLATION + "1002: close frame of one byte",),
    ),
    Attack(
        "Close with 0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535",
        "9 x Close 1002 close code N, end",
        each(close_frame(code) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535)),
        (VIOLATION + "1002: close code <n>",),
    ),
    Attack(
        "a Close whose reason is no UTF-8",
        "Close 1007 close reason is not UTF-8, end",
        sends(frame(CLOSE, b"\x03\xe8\xff")),
        (VIOLATION + "1007: close reason is not UTF-8",),
    ),
    Attack(
        "a Close of 126 bytes, and one in fragments",
        "Close 1002 control frame over 125 bytes, end, Close 1002 fragmented control frame, end",
        each([frame(CLOSE, b"\x03\xe8" + bytes(124)), frame(CLOSE, b"\x03\xe8", final=False)]),
        (VIOLATION + "1002: control frame over 125 bytes",),
    ),
    Attack(
        "a thousand messages behind a Close",
        "Close 1000, end",
        sends(close_frame(1000), frame(TEXT, "ignored") * 1000),
    ),
    Attack(
        "a wrong byte in the first of three fragments, of which no more are sent",
        "Close 1007 text is not UTF-8, end",
        sends(frame(TEXT, b"ok \xff", final=False)),
        (VIOLATION + "1007: text is not UTF-8",),
        "RFC 6455 8.1",
    ),
    Attack(
        "a surrogate, an overlong slash, a code point above U+10FFFF, a character without its end",
        "4 x Close 1007 text is not UTF-8, end",
        each(frame(TEXT, text) for text in (b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82")),
        (VIOLATION + "1007: text is not UTF-8",),
    ),
)


# -- floods -----------------------------------------------------------------------------------------------------------


def tiny_fragments(attempt: Attempt) -> str:
    client = attempt.connect()
    client.send(frame(TEXT, "", final=False), frame(CONTINUATION, "", final=False) * 200_000)
    return frames(client)


def many_messages_in_fragments(attempt: Attempt) -> str:
    """Each within the limits: the memory of one is free again when it is complete."""
    client = attempt.connect()
    message = frame(TEXT, "", final=False) + frame(CONTINUATION, "", final=False) * 4000 + frame(CONTINUATION, "")
    for _ in range(10):
        client.send(message)
        assert client.receive_message() == ""
    client.send(close_frame(1000))
    return "10 x echo, " + frames(client)


def numbered_pings(count: int) -> bytes:
    return b"".join(frame(PING, at.to_bytes(125, "big")) for at in range(count))


def ping_flood(attempt: Attempt) -> str:
    """Pings of which no pong is read before all were sent."""
    client = attempt.connect(receive_buffer=4096)
    client.send(numbered_pings(PINGS), close_frame(1000))
    *pongs, last = collect(client, PONG)
    assert [*pongs, last] == sorted({*pongs, last})
    assert int.from_bytes(last) == PINGS - 1
    assert len(pongs) < PINGS - 1, "the kernel's buffers held them all"
    return "some Pongs in their order, that of the last ping behind them, " + frames(client)


def collect(client: Client, opcode: int) -> list[bytes]:
    """The payloads of all frames of this kind that come before one of another, which is put back."""
    payloads: list[bytes] = []
    while True:
        got = client.receive_frame()
        if got.opcode != opcode:
            client.buffer[:0] = bytes([0x80 | got.opcode, len(got.payload)]) + got.payload
            return payloads
        payloads.append(got.payload)


def slow_ping_flood(attempt: Attempt) -> str:
    """The same, and the pongs are never read: the clock for slow readers ends it."""
    client = attempt.connect(receive_buffer=4096)
    client.send(numbered_pings(PINGS))
    attempt.wait_line(SLOW_READER)
    client.reset()
    return "dropped"


def control_flood(*opcodes: int) -> Callable[[Attempt], str]:
    """Control frames until no more are taken, and then all that has come."""

    def play(attempt: Attempt) -> str:
        told = []
        for opcode in opcodes:
            client = attempt.connect()
            sent = attempt.flood(client, frame(opcode, bytes(125)) * 100)
            assert sent < FLOOD_BYTES
            words = frames_of(client)[:-1]  # how it ends behind the Close depends on how much has been read by then
            assert words.count("Pong") <= 2000, "a second's worth at once, and what the time until the end brings"
            told.append(counted([word for word in words if word != "Pong"]))
        return counted(told)

    return play


def announced_and_slow(attempt: Attempt) -> str:
    """Many clients that each announce 1 MiB and send a byte at a time: what is announced is not kept ready."""
    clients = [attempt.connect() for _ in range(SLOW_CLIENTS)]
    head = struct.pack("!BBQ", 0x80 | BINARY, 0x80 | 127, MIB) + MASK
    for client in clients:
        client.send(head)
    for _ in range(20):
        for client in clients:
            client.send(b"x")
        attempt.companion.go_round()
    return f"{len(clients)} connections that cost what they sent"


def huge_declared_control(attempt: Attempt) -> str:
    return each([struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, 1 << 40) + MASK for opcode in (PING, PONG, CLOSE)])(
        attempt
    )


def half_frames(attempt: Attempt) -> str:
    """The first byte of a frame, on many connections, which then vanish."""
    clients = [attempt.connect() for _ in range(SLOW_CLIENTS)]
    for client in clients:
        client.send(b"\x82")
    attempt.companion.go_round()
    for client in clients:
        client.reset()
    attempt.wait_line("INFO <tag>: closed, 1006 (ECONNRESET)")
    return "on_closed with 1006"


def trickle(attempt: Attempt) -> str:
    """One frame in 50,000 segments of a byte."""
    client = attempt.connect()
    client.send_slowly(frame(BINARY, bytes(50_000)))
    assert client.receive_message() == bytes(50_000)
    return "echo"


PINGS: Final = 60_000
"""Their pongs are almost twice what a socket's send buffer grows to (tcp(7), tcp_wmem)."""

SLOW_READER: Final = "WARN <tag>: reader too slow, <n> bytes unsent; closed"
SLOW_CLIENTS: Final = 300

# Pings are bounded all the same, without a limit on their number.
UNLIMITED: Final = Setup("any number of pings", more="[limits]\nmax_control_frames_per_second = 0")
IMPATIENT_WITH_READERS: Final = Setup("slow readers", more=UNLIMITED.more + "\n[timeouts]\nslow_reader_seconds = 0.5")

FLOODS: Final = (
    Attack(
        "200,000 empty fragments of a message",
        "Close 1008 message of over 4096 fragments, end",
        tiny_fragments,
        (VIOLATION + "1008: message of over 4096 fragments",),
        "CVE-2026-48779, CVE-2026-62389, CVE-2026-12151",
    ),
    Attack(
        "ten messages of 4002 empty fragments each",
        "10 x echo, Close 1000, end",
        many_messages_in_fragments,
        known="CVE-2026-48779",
    ),
    Attack(
        "pings without end, and pongs that nobody asked for, at the default of `max_control_frames_per_second`",
        "2 x Close 1008 over max_control_frames_per_second",
        control_flood(PING, PONG),
        (
            "INFO <tag>: over max_control_frames_per_second (1000), reading pauses",
            "WARN <tag>: over max_control_frames_per_second (1000) for 0.3 s, closing with 1008",
        ),
        "CVE-2026-11586, GHSA-9fm3-97px-rjf6",
        Setup("control frames", more="[timeouts]\nover_rate_seconds = 0.3\nclose_seconds = 0.3"),
    ),
    Attack(
        f"without that limit {PINGS:,} pings of 125 bytes, no pong of which is read before all were sent",
        "some Pongs in their order, that of the last ping behind them, Close 1000, end",
        ping_flood,
        known="CVE-2026-11586, GHSA-9fm3-97px-rjf6",
        setup=UNLIMITED,
    ),
    Attack(
        "the same, and they are never read",
        "dropped",
        slow_ping_flood,
        (SLOW_READER, "INFO <tag>: closed, 1006 (reader too slow)"),
        "CVE-2026-11586, GHSA-9fm3-97px-rjf6",
        IMPATIENT_WITH_READERS,
    ),
    Attack(
        "pings, pongs and a Close of 1 TiB",
        "3 x Close 1002 control frame over 125 bytes, end",
        huge_declared_control,
        (VIOLATION + "1002: control frame over 125 bytes",),
        "CVE-2020-13935",
    ),
    Attack(
        f"{SLOW_CLIENTS} messages of 1 MiB, announced, of which 20 bytes come one by one",
        f"{SLOW_CLIENTS} connections that cost what they sent",
        announced_and_slow,
        known="CVE-2016-10542, CVE-2016-10544",
        memory_kib=2048,
    ),
    Attack(
        f"{SLOW_CLIENTS} frames of which only the first byte comes, then resets",
        "on_closed with 1006",
        half_frames,
        ("INFO <tag>: closed, 1006 (ECONNRESET)",),
        memory_kib=2048,
    ),
    Attack("a frame in 50,000 segments of a byte", "echo", trickle),
)


# -- compression ------------------------------------------------------------------------------------------------------


def bombed(size: int) -> bytes:
    (sent,) = fragments(BINARY, bomb(size))
    return sent


def bomb_in_fragments(attempt: Attempt) -> str:
    """Cut into the smallest fragments that the limit allows."""
    data = bomb(64 * MIB)
    return compressed(*fragments(BINARY, data, range(32, len(data), 32)))(attempt)


def good_bombs(attempt: Attempt) -> str:
    """Each just within `max_message_bytes`, a thousandth on the wire: the work is ours, the memory must not be."""
    address = attempt.address
    assert isinstance(address, int)
    client = attempt.enter(Deflating(address, "echo")).client
    for _ in range(20):
        client.send(bombed(MIB))
    for _ in range(20):
        assert client.receive_frame().opcode == BINARY
        attempt.companion.go_round()
    client.send(close_frame(1000))
    return "20 x echo, " + frames(client)


_GARBAGE: Final = bytes([0xFF]) * 50

COMPRESSION: Final = (
    Attack(
        "a bomb: 64 KiB that inflate to 64 MiB",
        "Close 1009 message over 1048576 bytes, end",
        compressed(bombed(64 * MIB)),
        (VIOLATION + "1009: message over 1048576 bytes",),
        "CVE-2018-1000518, CVE-2026-1526, CVE-2026-49855",
        memory_kib=3072,
    ),
    Attack(
        "the same in fragments of 32 bytes",
        "Close 1009 message over 1048576 bytes, end",
        bomb_in_fragments,
        (VIOLATION + "1009: message over 1048576 bytes",),
        "CVE-2018-1000518",
        memory_kib=3072,
    ),
    Attack(
        "a bomb with a broken block behind the limit",
        "Close 1009 message over 1048576 bytes, end",
        compressed(*fragments(BINARY, bomb(64 * MIB) + _GARBAGE)),
        (VIOLATION + "1009: message over 1048576 bytes",),
        "CVE-2026-85024",
        memory_kib=3072,
    ),
    Attack(
        "garbage in place of deflate blocks",
        "Close 1007 bad compressed data, end",
        compressed(*fragments(BINARY, _GARBAGE)),
        (VIOLATION + "1007: bad compressed data",),
        "CVE-2026-85024",
    ),
    Attack(
        "a message that ends inside a block",
        "Close 1007 bad compressed data, end",
        compressed(*fragments(BINARY, bomb(1000)[:-2])),
        (VIOLATION + "1007: bad compressed data",),
    ),
    Attack(
        "20 messages that inflate to 1 MiB each, within the limit",
        "20 x echo, Close 1000, end",
        good_bombs,
        memory_kib=4096,
    ),
    Attack(
        "a Close and a ping with RSV1, compressed",
        "2 x Close 1002 compression bit on a control frame or a continuation, end",
        lambda attempt: counted([compressed(frame(opcode, bomb(64), rsv=RSV1))(attempt) for opcode in (CLOSE, PING)]),
        (VIOLATION + "1002: compression bit on a control frame or a continuation",),
    ),
    Attack(
        "RSV1 on a fragment that is not the first",
        "Close 1002 compression bit on a control frame or a continuation, end",
        compressed(frame(BINARY, b"a", final=False), frame(CONTINUATION, b"b", rsv=RSV1)),
        (VIOLATION + "1002: compression bit on a control frame or a continuation",),
    ),
    Attack(
        "a Close between two fragments of a compressed message, and 64 MiB behind it",
        "Close 1000, end",
        compressed(frame(BINARY, bomb(MIB)[:100], final=False, rsv=RSV1), close_frame(1000), bombed(64 * MIB)),
    ),
)

GROUPS: Final = (
    Group(3, "Frames that break the protocol", FRAMES),
    Group(4, "Frames that cost more than they look", FLOODS),
    Group(5, "Compressed messages", COMPRESSION),
)
