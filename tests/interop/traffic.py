"""Our client's half of the random traffic that tests/interop/c/traffic.c makes, message for message the same.

Each connection sends its messages, in fragments of random sizes with pings between them, and checks that every message
comes to everybody who should get it, once, whole and in order.  For the form of a message see the C program.
"""

from __future__ import annotations

import queue
import random
import zlib
from collections import Counter

from wsd import ConnectError, Protocol, Wsi

HEAD = 2 + 8
CHECKSUM = 8
WINDOW = 16
"""Messages of one sender that may be under way: what bounds the server's queues."""
PING_EVERY = 50
LETTERS = "x\nö€\N{EARTH GLOBE EUROPE-AFRICA}"
"""Characters of one to four bytes, which fragments cut anywhere."""


def random_message(chance: random.Random, sender: int, number: int) -> bytes | str:
    """Binary or text, mostly short, some of several reads, with its checksum."""
    size = chance.randrange(chance.choices((200, 5000, 70_000), (80, 15, 5))[0])
    head = f"{sender:02x}{number:08x}"
    if chance.random() < 0.5:
        text = head + "".join(chance.choices(LETTERS, k=size // 2))
        return f"{text}{zlib.crc32(text.encode()):08x}"
    data = head.encode() + chance.randbytes(size)
    return data + b"%08x" % zlib.crc32(data)


def read(message: bytes | str) -> tuple[int, int]:
    """The sender and number of a message that is as it was made.

    Raises:
        ValueError: it is not.
    """
    data = message.encode() if isinstance(message, str) else message
    if len(data) < HEAD + CHECKSUM or int(data[-CHECKSUM:], 16) != zlib.crc32(data[:-CHECKSUM]):
        raise ValueError(f"a message of {len(data)} bytes is wrong")
    return int(data[:2], 16), int(data[2:HEAD], 16)


class Traffic:
    """One connection, and what it has still to say."""

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self.chance = random.Random(seed + number)
        self.made = 0
        self.returned = 0
        self.total = 0
        self.expected: Counter[int] = Counter()  # by sender: the number of its next message
        self.rest: bytes = b""  # of a message that was begun
        self.pings = 0
        self.pongs = 0


class TrafficClient(Protocol):
    """Opens connections when told to, and puts what became of it all into `results`: None, or what was wrong.

    Args:
        connections: How many.
        messages: How many each sends.
        is_mirror: Whether every message comes to every connection, or to its sender alone.
    """

    name = "traffic"

    def __init__(self, connections: int, messages: int, is_mirror: bool, seed: int) -> None:
        self.connections = connections
        self.messages = messages
        self.senders = connections if is_mirror else 1
        self.seed = seed
        self.received = 0
        self.results: queue.Queue[str | None] = queue.Queue()
        self._closed = 0

    def connect(self, url: str, subprotocol: str) -> None:
        for number in range(self.connections):
            self.context.client_connect(
                url, protocol=self, subprotocols=[subprotocol], session=Traffic(number, self.seed)
            )

    def on_client_connection_error(self, wsi: Wsi, error: ConnectError) -> None:
        self.results.put(f"no connection: {error.text}")

    def on_established(self, wsi: Wsi) -> None:
        if len(self.wsis) == self.connections:  # all begin together, so that a mirror sends everything to everybody
            self.context.callback_on_writable_all_protocol(self)

    def on_writeable(self, wsi: Wsi) -> None:
        traffic: Traffic = wsi.session
        while not wsi.send_pipe_choked:
            if traffic.rest:
                self._continue(wsi, traffic)
            elif traffic.made < self.messages and traffic.made - traffic.returned < WINDOW:
                self._begin(wsi, traffic)
            else:
                return  # a message that comes back asks again
        wsi.callback_on_writable()

    def _begin(self, wsi: Wsi, traffic: Traffic) -> None:
        message = random_message(traffic.chance, traffic.number, traffic.made)
        traffic.made += 1
        if traffic.made % PING_EVERY == 0:
            traffic.pings += 1
            wsi.ping(b"%d" % traffic.pings)
        if traffic.chance.random() < 0.75:
            wsi.write(message)
        else:
            begin, traffic.rest = message[:1], message[1:].encode() if isinstance(message, str) else message[1:]
            wsi.write(begin, final=False)

    def _continue(self, wsi: Wsi, traffic: Traffic) -> None:
        size = traffic.chance.randint(0, 2 * len(traffic.rest))
        part, traffic.rest = traffic.rest[:size], traffic.rest[size:]
        wsi.write(part, final=not traffic.rest)

    def on_message(self, wsi: Wsi, message: bytes | str) -> None:
        traffic: Traffic = wsi.session
        self.received += 1
        try:
            sender, number = read(message)
            if sender >= self.connections or (self.senders == 1 and sender != traffic.number):
                raise ValueError(f"connection {traffic.number} got a message of {sender}")
            if number != traffic.expected[sender]:
                raise ValueError(f"connection {traffic.number} got message {number} of {sender} out of order")
        except ValueError as error:
            self.results.put(str(error))
            wsi.close(1008)
            return
        traffic.expected[sender] += 1
        traffic.total += 1
        if sender == traffic.number:
            traffic.returned += 1
            wsi.callback_on_writable()
        self._close_if_complete(wsi, traffic)

    def on_pong(self, wsi: Wsi, payload: bytes) -> None:
        traffic: Traffic = wsi.session
        # A server may answer only the latest of several pings (RFC 6455 5.5.3).
        traffic.pongs = int(payload)
        self._close_if_complete(wsi, traffic)

    def _close_if_complete(self, wsi: Wsi, traffic: Traffic) -> None:
        if traffic.total == self.senders * self.messages and traffic.pongs == traffic.pings:
            wsi.close(1000, "done")

    def on_closed(self, wsi: Wsi, code: int, close_reason: str) -> None:
        self._closed += 1
        if (code, close_reason) != (1000, "done"):
            self.results.put(f"connection {wsi.session.number} was closed with {code} {close_reason}: {wsi.why}")
        elif self._closed == self.connections:
            self.results.put(None)
