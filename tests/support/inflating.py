"""Feeds compressed messages to an `Inflater` in every way they can arrive, and tells what came out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tests.support.cuts import every_cut
from wsd.errors import ProtocolError
from wsd.wire.deflate import Inflater

Outcome = list[bytes | int]
"""The messages, and at the end the close code of a violation if there was one."""

LIMITS = (1, 2, 5, 65536)


def read_all(inflater: Inflater, limit: int) -> Iterator[bytes]:
    """What there is of what was fed, in parts; checks of each part all that `read` promises."""
    while not inflater.is_drained:
        part = inflater.read(limit)
        assert type(part) is bytes
        assert len(part) <= limit
        assert part or inflater.is_drained, "nothing came though there is more"
        yield part
    assert inflater.read(limit) == b""
    assert inflater.is_drained


def inflate_message(inflater: Inflater, chunks: Iterable[bytes], limit: int = 65536) -> bytes:
    """One message that arrives in `chunks`."""
    parts: list[bytes] = []
    for chunk in chunks:
        inflater.feed(chunk)
        parts += read_all(inflater, limit)
    inflater.finish()
    parts += read_all(inflater, limit)
    return b"".join(parts)


def inflate(inflater: Inflater, messages: Iterable[Iterable[bytes]], limit: int = 65536) -> Outcome:
    """Messages one after the other, each in its chunks."""
    found: Outcome = []
    try:
        for chunks in messages:
            found.append(inflate_message(inflater, chunks, limit))
    except ProtocolError as failure:
        found.append(failure.code)
    return found


def inflate_all_ways(messages: Sequence[bytes], window_bits: int = 15, context_takeover: bool = True) -> Outcome:
    """`inflate` each message whole, byte by byte and cut at every place, read in parts of different sizes; compare,
    and give what all of them found."""
    whole = inflate(Inflater(window_bits, context_takeover), [[message] for message in messages])
    for limit in LIMITS:
        for at, message in enumerate(messages):
            for chunks in every_cut(message):
                parts = [chunks if index == at else [other] for index, other in enumerate(messages)]
                found = inflate(Inflater(window_bits, context_takeover), parts, limit)
                assert found == whole, (found, whole, chunks, limit)
    return whole
