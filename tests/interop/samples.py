"""What is said between two libraries: each form of the length, each kind, what compresses well, badly, not at all."""

from __future__ import annotations

import random

from tests.interop.peers import Message

# Seeded, so that a failure comes again.
_RANDOM = random.Random(7692)

PROSE = "The quick brown fox jumps over the lazy dog; größer, 世界 🌍. "

MESSAGES: dict[str, Message] = {
    "text": "hello",
    "not ASCII": "Grüße, 世界 🌍",
    "empty text": "",
    "bytes": b"\x00\xff bytes",
    "empty bytes": b"",
    "125": b"y" * 125,
    "126": b"y" * 126,
    "65535": b"z" * 65535,
    "65536": b"z" * 65536,
    "prose": PROSE * 2000,
    "random": _RANDOM.randbytes(200_000),
    "1 MB of zeros": bytes(1_000_000),
}

FRAGMENTS: list[list[Message]] = [
    ["one ", "", "two ", "thrée"],
    ["", "", "all in the last"],
    ["all in the first", ""],
    [PROSE, PROSE * 500, PROSE],
    [b"a" * 5000, b"b" * 100_000],
    [_RANDOM.randbytes(70_000), b"", bytes(70_000), _RANDOM.randbytes(1)],
]

CLOSES = [(1000, ""), (1000, "bye"), (1001, "going"), (1011, "größer"), (4000, "ours"), (3999, "x" * 123)]


def joined(fragments: list[Message]) -> Message:
    """The message that these are the fragments of."""
    if isinstance(fragments[0], str):
        return "".join(str(part) for part in fragments)
    return b"".join(part for part in fragments if isinstance(part, bytes))
