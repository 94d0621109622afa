"""Feeds bytes to the parser in every way they can arrive, and tells what came out in a form that is the same for all.

Every feed goes by way of one shared buffer that is overwritten after each read, as the service loop has it, so a
piece that kept a reference to it would be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from wsd.wire.frames import BINARY, INVALID_PAYLOAD
from wsd.wire.parser import INFLATE_BYTES, Parser, Piece

NO_LIMIT = 0
MANY = 1 << 20

NewParser = Callable[[int, int], Parser]

Message = tuple[int, bytes]
"""Opcode and payload of a whole message, or of a Ping or Pong."""


class Heard(NamedTuple):
    """What a parser made of some bytes."""

    messages: list[Message]
    """What was complete, in the order in which it became so."""
    failure: int | None = None
    """The close code of the violation."""
    close: tuple[int, str] | None = None
    partial: Message | None = None
    """The message that has begun and not ended, as far as it was handed out."""


class Assembler:
    """Joins pieces into messages, and checks of each piece all that its fields promise."""

    def __init__(self, is_inflating: bool = False) -> None:
        self.is_inflating = is_inflating
        self.messages: list[Message] = []
        self.partial: Message | None = None
        self.remaining = 0

    def take(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            opcode, payload, is_first, is_final, remaining = piece
            assert type(payload) is bytes, piece
            if opcode > BINARY:
                assert is_first, piece
                assert is_final, piece
                assert remaining == 0, piece
                assert self.is_inflating or self.remaining == 0, (
                    "a control frame came out of the middle of another frame"
                )
                self.messages.append((opcode, payload))
                continue
            assert opcode, "a piece tells its message's opcode, never CONTINUATION"
            assert is_first is (self.partial is None), piece
            assert payload or is_final, "a piece without payload that ends nothing tells nothing"
            if self.remaining and not self.is_inflating:
                assert remaining == self.remaining - len(payload), piece
            assert not (is_final and remaining), piece
            self.remaining = remaining
            before = self.partial or (opcode, b"")
            assert before[0] == opcode, piece
            self.partial = (opcode, before[1] + payload)
            if is_final:
                self.messages.append(self.partial)
                self.partial = None


def feed(
    chunks: Iterable[bytes],
    max_message_bytes: int = NO_LIMIT,
    max_fragments: int = MANY,
    new_parser: NewParser = Parser,
    *,
    is_awaited: bool = False,
) -> Heard:
    """What a new parser makes of `chunks`, one read each; `new_parser` makes one for the two limits.

    Args:
        is_awaited: What is `awaited` is unmasked here and handed over, as with large frames.
    """
    parser = new_parser(max_message_bytes, max_fragments)
    assembler = Assembler(is_inflating=parser.inflater is not None)
    for chunk in chunks:
        if is_awaited and (size := min(parser.awaited, len(chunk))):
            assembler.take(parser.receive_awaited(unmasked(chunk[:size], *parser.mask_of_awaited)))
            chunk = chunk[size:]
            if not chunk:
                continue
        shared = bytearray(chunk)
        pieces = parser.receive(memoryview(shared))
        shared[:] = b"\xa5" * len(shared)
        assembler.take(pieces)
        while parser.has_more:
            pieces = parser.receive(b"")
            # What stands uncompressed behind it comes along.
            assert sum(len(piece[1]) for piece in pieces) <= INFLATE_BYTES + len(chunk)
            assembler.take(pieces)
    code = None if parser.failure is None else parser.failure.code
    return Heard(assembler.messages, code, parser.close, assembler.partial)


def unmasked(data: bytes, key: bytes, offset: int) -> bytes:
    """By the words of section 5.3; without a key as it is."""
    return bytes(byte ^ key[(offset + at) % 4] for at, byte in enumerate(data)) if key else data


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    """`data` in pieces, cut at the given offsets."""
    return [data[start:end] for start, end in pairwise([0, *at, len(data)])]


def feed_all(
    data: bytes,
    max_message_bytes: int = NO_LIMIT,
    max_fragments: int = MANY,
    new_parser: NewParser = Parser,
) -> Heard:
    """Feed `data` whole, byte by byte and at every split (long data: at the splits near either end), compare, and give
    what all of them heard.

    How much of an unfinished text is handed out before it turns out to be no UTF-8 depends on how it arrived; all
    else must be the same.
    """
    size = len(data)
    splits = range(size + 1) if size <= 400 else [*range(40), *range(size - 40, size + 1)]
    step = 1 if size <= 400 else 997
    whole = feed([data], max_message_bytes, max_fragments, new_parser)
    feeds = [[data[at : at + step] for at in range(0, size, step)], *(cut(data, [at]) for at in splits)]
    for chunks in feeds:
        for is_awaited in (False, True):
            heard = feed(chunks, max_message_bytes, max_fragments, new_parser, is_awaited=is_awaited)
            if whole.failure == INVALID_PAYLOAD:
                heard = heard._replace(partial=whole.partial)
            assert heard == whole, ([len(chunk) for chunk in chunks], is_awaited)
    return whole
