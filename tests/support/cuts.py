"""The ways in which bytes can arrive."""

from __future__ import annotations

from collections.abc import Iterator


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """`data` whole, byte by byte, and cut in two at every place."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
