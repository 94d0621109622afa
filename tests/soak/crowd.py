"""The crowd: a process with hundreds of seats, each of which connects, behaves well or badly, and comes again.

python -m tests.soak.crowd play PORT SECONDS SEED
    plays for so long and ends; it prints a tally as a JSON line each second, and at the end
python -m tests.soak.crowd talk PORT MANY
    opens so many connections, prints a line when all are there, and talks until it is killed
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tests.soak import bad, good
from tests.support.talker import Ended, Refused, Talker, patience, silence, until

SEATS = 400
"""As many connections at one time at most, beside those that are killed."""

PAUSE_SECONDS = 1.5
"""Between two turns of a seat, on the average: what bounds the load, to SEATS / PAUSE_SECONDS connections a second.
Times WSD_TEST_SLOW, as all that is waited for."""

GOOD_TIMES = 3
"""How often each good turn is in the deck, for one time of each bad one: more than two turns of three are good."""

LINGERING_TIMES = 10
"""How often that one is in the deck beside: those who stay make a crowd."""

SMALL_BUFFER = 4096
"""The receive buffer of a slow reader, which is soon full, in bytes."""

COMPLAINTS = 20
"""As many are told; the rest are counted."""

Turn = Callable[[Talker, random.Random, asyncio.Event], Awaitable[None]]


class Doors:
    """Where the daemon is found: a port, one with TLS, and the authority that vouches for it."""

    def __init__(self, port: str, tls_port: str, ca: str) -> None:
        self.port = int(port)
        self.tls_port = int(tls_port)
        self.tls = ssl.create_default_context(cafile=ca)

    async def enter(self, *, is_secure: bool, receive_buffer: int = 0) -> Talker:
        """A new connection."""
        if is_secure:
            return await Talker.open(self.tls_port, self.tls, receive_buffer)
        return await Talker.open(self.port, None, receive_buffer)


class Crowd:
    """All seats, and what became of their turns."""

    def __init__(self, doors: Doors, seed: int) -> None:
        self.doors = doors
        self.chance = random.Random(seed)
        self.end = asyncio.Event()
        self.deck: list[Turn] = []
        self.connected = 0
        self.turns: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.wrong_count = 0

    async def play(self, seconds: float) -> None:
        """Have all seats taken for so long; then wait until each has finished its turn."""
        seats = [asyncio.create_task(self._seat()) for _ in range(SEATS)]
        teller = asyncio.create_task(self._tell())
        await asyncio.wait(seats, timeout=seconds)
        self.end.set()
        await asyncio.gather(*seats)
        teller.cancel()
        self.tell()

    def draw(self) -> Turn:
        """The next turn; when the deck is through, every kind has been played."""
        if not self.deck:
            self.deck = [*good.GOOD * GOOD_TIMES, *[good.lingering] * LINGERING_TIMES, *bad.BAD]
            self.chance.shuffle(self.deck)
        return self.deck.pop()

    async def _seat(self) -> None:
        while not self.end.is_set():
            await until(silence(), self.end, self.chance.uniform(0, 2 * PAUSE_SECONDS))
            if not self.end.is_set():
                await self._take(self.draw())

    async def _take(self, turn: Turn) -> None:
        """One turn, from the connect to its end; what goes wrong with it is noted where the daemon owed something."""
        self.turns[turn.__name__] += 1
        try:
            async with patience():
                async with await self._enter(turn) as talker:
                    self.connected += 1
                    await turn(talker, self.chance, self.end)
        except (AssertionError, Ended, Refused, OSError, TimeoutError) as error:
            if turn in good.GOOD or turn in bad.BOUND_TO_ANSWER:
                self._note(turn, error)

    async def _enter(self, turn: Turn) -> Talker:
        """A connection for one turn, every second one under TLS."""
        if turn in bad.WITHOUT_TLS_WHERE_IT_IS_SPOKEN:
            return await Talker.open(self.doors.tls_port)
        small = SMALL_BUFFER if turn in bad.SLOW_READERS else 0
        return await self.doors.enter(is_secure=self.chance.random() < 0.5, receive_buffer=small)

    def _note(self, turn: Turn, error: Exception) -> None:
        self.wrong_count += 1
        if len(self.wrong) < COMPLAINTS:
            self.wrong.append(f"{turn.__name__}: {type(error).__name__}: {error}")

    async def _tell(self) -> None:
        while True:
            self.tell()
            await asyncio.sleep(1)

    def tell(self) -> None:
        tally: dict[str, Any] = {
            "connected": self.connected,
            "turns": self.turns,
            "wrong": self.wrong,
            "wrong_count": self.wrong_count,
        }
        print(json.dumps(tally), flush=True)


async def talk(doors: Doors, many: int) -> None:
    """Talk on all of them at once, for ever."""
    talkers = [await doors.enter(is_secure=number % 4 == 0) for number in range(many)]
    for number, talker in enumerate(talkers):
        await talker.upgrade(good.ECHOES[number % 2], compressed=number % 3 == 0)
    print(many, flush=True)

    async def chatter(talker: Talker) -> None:
        while True:
            await talker.say("to be cut off anywhere " * 500, [5000])
            await talker.hear()
            await asyncio.sleep(0.02)  # enough for all of them together to be in the middle of something

    await asyncio.gather(*(chatter(talker) for talker in talkers))


async def main(command: str, port: str, tls_port: str, ca: str, *arguments: str) -> None:
    doors = Doors(port, tls_port, ca)
    if command == "talk":
        await talk(doors, int(arguments[0]))
    else:
        await Crowd(doors, int(arguments[1])).play(float(arguments[0]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
