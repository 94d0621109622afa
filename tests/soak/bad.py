"""What misbehaving clients do: violations, half requests, floods, reading slowly or not at all, vanishing.

Each is given what a good one is given.  Where the daemon owes an answer it is checked; of how else such a connection
ends nothing is said, but that it does.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import struct
import zlib
from collections.abc import Awaitable, Callable

from tests.soak.good import ECHOES
from tests.support.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    TEXT,
    close_frame,
    frame,
    upgrade_request,
)
from tests.support.talker import DEFLATE, RSV1, Talker, silence, until

Bad = Callable[[Talker, random.Random, asyncio.Event], Awaitable[None]]


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


BOMB = deflated(bytes(16 << 20))
"""16 MiB of zeros in 16 KiB."""

VIOLATIONS: dict[str, tuple[int, bytes]] = {
    **{f"opcode {opcode}": (1002, frame(opcode, "x")) for opcode in (3, 7, 11, 15)},
    **{f"RSV {rsv}": (1002, frame(TEXT, "x", rsv=rsv)) for rsv in (1, 2, 4)},
    "unmasked": (1002, frame(TEXT, "x", mask=None)),
    "long ping": (1002, frame(PING, b"x" * 126)),
    "fragmented ping": (1002, frame(PING, b"x", final=False)),
    "continuation of nothing": (1002, frame(CONTINUATION, "x")),
    "a message in a message": (1002, frame(TEXT, "x", final=False) + frame(TEXT, "y")),
    "length not in its shortest form": (1002, struct.pack("!BBH4s", 0x82, 0xFE, 5, MASK) + b"abcde"),
    "length of 64 bits": (1002, struct.pack("!BBQ4s", 0x82, 0xFF, 1 << 63, MASK)),
    "length over the limit": (1009, struct.pack("!BBQ4s", 0x82, 0xFF, 1 << 40, MASK)),
    "too many fragments": (1008, frame(TEXT, "", final=False) + frame(CONTINUATION, "", final=False) * 5000),
    "no UTF-8": (1007, frame(TEXT, b"\xff")),
    "half a character": (1007, frame(TEXT, b"\xc3")),
    "no UTF-8 in a fragment": (1007, frame(TEXT, b"\xed\xa0", final=False)),
    "close of one byte": (1002, frame(CLOSE, b"\x03")),
    **{f"close {code}": (1002, close_frame(code)) for code in (0, 999, 1005, 1006, 1015, 5000)},
    "close reason is no UTF-8": (1007, close_frame(1000, b"\xff")),
}
"""By name: the code of the Close frame that answers, and the bytes."""

COMPRESSED_VIOLATIONS: dict[str, tuple[int, bytes]] = {
    "bomb": (1009, frame(BINARY, BOMB, rsv=RSV1)),
    "not deflated": (1007, frame(BINARY, b"\xff\xff\xff\xff\xff", rsv=RSV1)),
    "RSV1 on a continuation": (1002, frame(TEXT, b"", final=False) + frame(CONTINUATION, b"", rsv=RSV1)),
    "RSV1 on a ping": (1002, frame(PING, b"x", rsv=RSV1)),
    "no UTF-8, compressed": (1007, frame(TEXT, deflated(b"\xff"), rsv=RSV1)),
}

_HOST = b"Host: 127.0.0.1\r\n"

HEADS: dict[str, tuple[int, bytes]] = {
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\n" + _HOST + _HOST + b"\r\n"),
    "a folded line": (400, b"GET / HTTP/1.1\r\n" + _HOST + b"X: a\r\n b\r\n\r\n"),
    "NUL": (400, b"GET / HTTP/1.1\r\n" + _HOST + b"X: \0\r\n\r\n"),
    "two lengths": (400, b"GET / HTTP/1.1\r\n" + _HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)),
    "too long": (431, b"GET / HTTP/1.1\r\n" + _HOST + b"X: " + b"x" * 20_000 + b"\r\n\r\n"),
    "too many": (431, b"GET / HTTP/1.1\r\n" + _HOST + b"X: y\r\n" * 200 + b"\r\n"),
    "long path": (414, b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + _HOST + b"\r\n"),
    "old version": (426, upgrade_request(headers=[("Sec-WebSocket-Version", "8")])),
    "no key": (400, upgrade_request(without=["Sec-WebSocket-Key"])),
    "unknown protocol": (400, upgrade_request(protocols="nonesuch")),
    "another page": (403, upgrade_request(headers=[("Origin", "http://evil.example")])),
    "POST": (405, upgrade_request().replace(b"GET", b"POST", 1)),
}
"""By name: the status that answers, and the bytes."""


async def violation(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """A message that is complete before it is delivered, and answered."""
    is_compressed = chance.random() < 0.25
    table = COMPRESSED_VIOLATIONS if is_compressed else VIOLATIONS
    name = chance.choice(list(table))
    code, data = table[name]
    await talker.upgrade(chance.choice(ECHOES), compressed=is_compressed)
    talker.put(frame(TEXT, "before"), data)
    heard = await talker.hear()
    assert heard == "before", f"{name}: {heard[:40]!r} came back"
    got = await talker.hear_close()
    assert got == code, f"{name} was answered with {got} and not with {code}"


async def bad_head(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    name = chance.choice(list(HEADS))
    wanted, data = HEADS[name]
    talker.put(data)
    status, _ = await talker.head()
    assert status == wanted, f"{name} was answered with {status} and not with {wanted}"
    await talker.wait_end()


async def noise(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """Random bytes, before or after the 101."""
    if chance.random() < 0.5:
        await talker.upgrade(chance.choice(ECHOES))
    talker.put(chance.randbytes(chance.randrange(1, 3000)))
    await until(talker.wait_end(), end, chance.uniform(0, 2))


async def half_head(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """It waits for the daemon to lose patience, or does so first."""
    data = upgrade_request(protocols="echo")
    talker.put(data[: chance.randrange(len(data))])
    await until(talker.wait_end(), end, chance.choice((0, 0.1, 1, 10)))


async def ping_flood(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """Nothing is read."""
    await talker.upgrade(chance.choice(ECHOES))
    talker.put(frame(PING, b"x" * 125) * 2000)
    await until(talker.writer.drain(), end, 1)


async def pong_flood(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    await talker.upgrade(chance.choice(ECHOES))
    talker.put(frame(PONG, b"nobody asked") * 2000)
    await until(talker.writer.drain(), end, 1)


async def fragment_flood(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """As many fragments as are allowed, of a message that never ends."""
    await talker.upgrade(chance.choice(ECHOES))
    talker.put(frame(BINARY, b"", final=False), frame(CONTINUATION, b"", final=False) * 4000)
    await until(talker.writer.drain(), end, 1)


async def close_flood(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    await talker.upgrade(chance.choice(ECHOES))
    talker.put(close_frame(1000) * 100, frame(TEXT, "and a message"))
    assert await talker.hear_close() == 1000


async def dictionary(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """It has the daemon compress, whose contexts are the largest that a connection can have, and is gone."""
    talker.put(upgrade_request(protocols="messages", headers=DEFLATE))
    talker.put(frame(TEXT, deflated(b"to be compressed, since it is long enough. " * 50), rsv=RSV1) * 20)
    await talker.upgraded()
    await talker.receive_frame()


async def never_reads(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """It has sent much, and does not take what comes back until it is closed for that."""
    await talker.upgrade(chance.choice(ECHOES))
    talker.put(UNREAD)
    await until(silence(), end, chance.choice((0.1, 1, 15)))


UNREAD = frame(BINARY, bytes(100_000)) * 60
"""More than the kernel keeps for both of us, 4 MB of the daemon's by tcp(7)."""


async def trickle(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """It reads, but slowly, and what it reads must be right for as long as it comes."""
    await talker.upgrade("messages")
    said = chance.randbytes(200_000)
    talker.put(frame(BINARY, said))
    while (head := await talker.exactly(2))[0] & 0x0F == PING:
        await talker.exactly(head[1])
    assert int.from_bytes(await talker.exactly(8), "big") == len(said)
    for start in range(0, 20_000, 2000):
        got = await talker.exactly(2000)
        assert got == said[start : start + 2000], "something else came back"
        await until(silence(), end, 0.05)


async def mute(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """A peer that is there, and answers no pings: half open, as far as the daemon can know."""
    await talker.upgrade(chance.choice(ECHOES))
    await until(talker.wait_end(), end, 30)


async def idle(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """Says nothing from the beginning."""
    await until(talker.wait_end(), end, chance.choice((0, 1, 10)))


async def vanish(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """Gone in the middle of something, by a reset (which the block's end is) or by a FIN without a Close."""
    data = upgrade_request(protocols="echo") + frame(TEXT, "whole") + frame(BINARY, bytes(5000), final=False)
    talker.put(data[: chance.randrange(len(data) + 1)])
    if chance.random() < 0.5:
        await until(talker.reader.read(1), end, 0.2)  # what it has asked for may be on its way
    if chance.random() < 0.5:
        await talker.writer.drain()
        talker.leave()
        await until(talker.wait_end(), end, 15)


# -- where TLS is spoken, and they do not -----------------------------------------------------------------------------


async def no_tls(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """It says something else than a ClientHello, and gets an alert or nothing."""
    talker.put(chance.choice((b"\x16\x03\x01", b"\x80\x2e\x01", b"SSH-2.0-x\r\n")) + chance.randbytes(200))
    await until(talker.wait_end(), end, 10)


async def half_tls(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """A ClientHello, or a part of it, and nothing after that."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = outgoing.read()
    talker.put(hello[: chance.randrange(1, len(hello) + 1)])
    await until(talker.wait_end(), end, chance.choice((0.1, 1, 10)))


async def plain_http(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    talker.put(chance.choice((upgrade_request(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")))
    status, _ = await talker.head()
    assert status == 400, f"plain HTTP was answered with {status}"
    await talker.wait_end()


BAD: tuple[Bad, ...] = (
    violation,
    bad_head,
    noise,
    half_head,
    ping_flood,
    pong_flood,
    fragment_flood,
    close_flood,
    dictionary,
    never_reads,
    trickle,
    mute,
    idle,
    vanish,
    no_tls,
    half_tls,
    plain_http,
)
WITHOUT_TLS_WHERE_IT_IS_SPOKEN = (no_tls, half_tls, plain_http)

SLOW_READERS = (never_reads, trickle)
"""Those that get a small receive buffer, or the kernel would read for them."""

BOUND_TO_ANSWER = (violation, bad_head, close_flood, trickle, plain_http)
"""Those to whom the daemon owes something; what goes wrong with another is its own affair."""
