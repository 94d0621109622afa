"""What well-behaved clients do: everything that they say must come back as it was, whatever the others do.

Each is given an open connection, a source of randomness, and an event that is set when the load ends.  An exception is
the daemon's fault.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.support.client import PING, frame, upgrade_request
from tests.support.talker import Talker, until

ECHOES = ("echo", "messages")
"""The protocols that give back: the shipped plugin, piece by piece, and one that waits for whole messages."""

LETTERS = "ab c\nö€\N{EARTH GLOBE EUROPE-AFRICA}"
"""Characters of one to four bytes."""

LARGE_BYTES = 300_000
"""More than the kernel takes at once, and below max_message_bytes in characters of four bytes as well."""

Good = Callable[[Talker, random.Random, asyncio.Event], Awaitable[None]]


def message(chance: random.Random, size: int) -> str | bytes:
    """Text, or bytes, of a size up to this."""
    size = chance.randrange(size + 1)
    if chance.random() < 0.5:
        return chance.randbytes(size)
    text = "".join(chance.choices(LETTERS, k=200))
    return (text * (size // 200 + 1))[: size // 2]


async def expect(talker: Talker, wanted: str | bytes) -> None:
    got = await talker.hear()
    assert got == wanted, f"{wanted[:40]!r} of {len(wanted)} came back as {got[:40]!r} of {len(got)}"


async def small(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """Question and answer, and then many at once."""
    await talker.upgrade(chance.choice(ECHOES))
    for _ in range(5):
        said = message(chance, 200)
        await talker.say(said)
        await expect(talker, said)
    many = [message(chance, 200) for _ in range(20)]
    for said in many:
        await talker.say(said)
    for said in many:
        await expect(talker, said)
    await talker.finish()


async def large(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    await talker.upgrade(chance.choice(ECHOES))
    for _ in range(2):
        said = message(chance, LARGE_BYTES)
        await talker.say(said)
        await expect(talker, said)
    await talker.finish()


async def fragmented(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """With a ping among the fragments, and fragments that cut characters."""
    await talker.upgrade(chance.choice(ECHOES))
    for _ in range(4):
        said = message(chance, 5000)
        sizes = [chance.randrange(300) for _ in range(chance.randrange(1, 12))]
        talker.put(frame(PING, b"early"))
        await talker.say(said, sizes)
        await expect(talker, said)
    await talker.finish()


async def compressed(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    await talker.upgrade(chance.choice(ECHOES), compressed=True)
    assert talker.deflater is not None, "no compression was agreed to"
    for size in (200, 2000, 20_000, 200):
        said = message(chance, size)
        await talker.say(said, [chance.randrange(100)] if chance.random() < 0.5 else ())
        await expect(talker, said)
    await talker.finish()


async def pings(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """Each Ping is answered, as long as its Pong is read."""
    await talker.upgrade(chance.choice(ECHOES))
    for number in range(10):
        payload = b"%d" % number + chance.randbytes(chance.randrange(100))
        talker.put(frame(PING, payload))
        await talker.say("behind it")
        await expect(talker, "behind it")
        assert talker.pongs.pop() == payload
    await talker.finish()


async def room(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """Where everybody hears everybody, one hears oneself in order too."""
    await talker.upgrade("room", compressed=chance.random() < 0.3)
    name = f"{chance.getrandbits(64):016x}"
    for number in range(5):
        said = f"{name} {number} " + "x" * chance.randrange(300)
        await talker.say(said)
        while not str(heard := await talker.hear()).startswith(name):
            pass
        assert heard == said, f"{said!r} came back as {heard!r}"
    await talker.finish()


async def lingering(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """A connection that outlives reloads, and is silent for longer than until the daemon's ping."""
    await talker.upgrade(chance.choice(ECHOES))
    for number in range(chance.randrange(1, 4)):
        await talker.say(f"still here {number}")
        await expect(talker, f"still here {number}")
        await until(talker.hear(), end, chance.uniform(0, 2))  # which answers pings
    await talker.say("and now")
    await expect(talker, "and now")
    await talker.finish()


async def piecemeal(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """Head and frames in bits, each of which is a packet."""
    head = upgrade_request(protocols="messages")
    data = head + frame(1, "in bits")
    while data:
        size = chance.randrange(1, 60)
        await talker.send(data[:size])
        await asyncio.sleep(0)  # others may speak between them
        data = data[size:]
    await talker.upgraded()
    await expect(talker, "in bits")
    await talker.finish()


async def pages(talker: Talker, chance: random.Random, end: asyncio.Event) -> None:
    """Plain requests on one connection that is kept alive, and an upgrade at its end."""
    for path, status in (("/", 200), ("/nothing/here", 404), ("/", 200)):
        await talker.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        got, headers = await talker.head()
        assert got == status, f"{path} was answered with {got}"
        await talker.reader.readexactly(int(headers["content-length"]))
    await talker.upgrade("messages")
    await talker.say("after pages")
    await expect(talker, "after pages")
    await talker.finish()


GOOD: tuple[Good, ...] = (small, large, fragmented, compressed, pings, room, lingering, piecemeal, pages)
