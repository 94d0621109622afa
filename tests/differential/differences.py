"""Where wsd and the `websockets` library read the same bytes differently, and which words of the RFCs decide.

`test_invalid.py` shows each of them with its bytes, and lets hypothesis look for one that is not here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

from tests.differential.raw import IN_16_BITS, OVER_63_BITS, RSV1, Raw, binary, close, deflated, ping, text
from tests.support.feeding import Heard, Message
from wsd.wire.frames import BINARY, PING, TEXT

NOISE = zlib.compress(b"noise" * 3) + bytes(range(7, 251, 7))
"""Bytes that do not get smaller."""


class Difference(NamedTuple):
    """One class of input."""

    name: str
    frames: list[Raw]
    """A sample of it, from a client."""
    ours: Heard
    theirs: Heard
    words: str
    may_be: Callable[[Story, Heard, Heard], bool]
    """Whether this is what makes two readers differ about a story."""
    is_deflated: bool = False
    max_message_bytes: int = 0
    cut: int = 0
    """How many bytes of the last frame have not arrived."""


class Story(NamedTuple):
    """Frames as one reader after the other gets them, and the conditions."""

    frames: list[Raw]
    is_deflated: bool = False
    max_message_bytes: int = 0
    cut: int = 0

    def has(self, condition: Callable[[Raw], bool]) -> bool:
        return any(condition(frame) for frame in self.frames)

    @property
    def has_compressed(self) -> bool:
        return self.is_deflated and self.has(lambda frame: frame.rsv == RSV1 and 0 < frame.opcode <= BINARY)


def _is_over(story: Story) -> bool:
    """Whether a frame may be over the limit, by itself, with what came before, or once inflated."""
    size = sum(len(frame.payload) for frame in story.frames)
    return story.max_message_bytes > 0 and (size > story.max_message_bytes or story.has_compressed)


def _ends_its_stream(frame: Raw) -> bool:
    """Whether a compressed payload's first block has BFINAL, its lowest bit."""
    return frame.rsv == RSV1 and bool(frame.payload) and bool(frame.payload[0] & 1)


def _heard(*messages: Message, failure: int | None = None, close: tuple[int, str] | None = None) -> Heard:
    return Heard(list(messages), failure, close)


DIFFERENCES = [
    Difference(
        "a length that is not in its shortest form",
        [text("a", form=IN_16_BITS)],
        _heard(failure=1002),
        _heard((TEXT, b"a")),
        'RFC 6455 5.2: "in all cases, the minimal number of bytes MUST be used to encode the length"',
        lambda story, ours, theirs: story.has(lambda frame: frame.form != 0) and ours.failure == 1002,
    ),
    Difference(
        "a length of over 63 bits",
        [binary(b"a", form=OVER_63_BITS)],
        _heard(failure=1002),
        _heard(),
        'RFC 6455 5.2: "a 64-bit unsigned integer (the most significant bit MUST be 0)"; they wait for the payload',
        lambda story, ours, theirs: (
            story.has(lambda frame: frame.form == OVER_63_BITS) and ours.failure == 1002 and theirs.failure != 1002
        ),
    ),
    Difference(
        "a Close between two fragments",
        [text("half", final=False), close(1000, b"bye")],
        _heard(close=(1000, "bye")),
        _heard(failure=1002),
        'RFC 6455 5.4: "Control frames [...] MAY be injected in the middle of a fragmented message"; 5.5.1 asks for an '
        "answer to a Close and makes no exception",
        lambda story, ours, theirs: ours.close is not None and theirs.failure == 1002,
    ),
    Difference(
        "a Close with a bad code and a bad reason",
        [close(1004, b"\xff")],
        _heard(failure=1002),
        _heard(failure=1007),
        "RFC 6455 7.4.1 forbids the code, 8.1 the reason; no word says which counts",
        lambda story, ours, theirs: (
            story.has(lambda frame: frame.opcode == 8) and (ours.failure, theirs.failure) == (1002, 1007)
        ),
    ),
    Difference(
        "text that is not UTF-8, in a message that goes on",
        [text(b"\xed\xa0", final=False), ping()],
        _heard(failure=1007),
        _heard((PING, b"")),
        'RFC 6455 8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not, '
        'in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_"; they look when the '
        "message is complete, which it may never be, or fail for something else first",
        lambda story, ours, theirs: (
            story.has(lambda frame: frame.opcode == TEXT)
            and story.has(lambda frame: not frame.payload.isascii())
            and ours.failure == 1007
        ),
    ),
    Difference(
        "a frame that is wrong as far as it has come",
        [ping(b"x" * 126)],
        _heard(failure=1002),
        _heard(),
        'RFC 6455 5.5: "All control frames MUST have a payload length of 125 bytes or less"; they look at a frame '
        "when it has come whole, at text and compressed data too",
        lambda story, ours, theirs: story.cut > 0 and ours.failure is not None and theirs.failure is None,
        cut=100,
    ),
    Difference(
        "a frame that is wrong and too large",
        [binary(b"x" * 30, rsv=1)],
        _heard(failure=1002),
        _heard(failure=1009),
        "RFC 6455 5.2 forbids the bit, 10.4 allows the limit; no word says which counts",
        lambda story, ours, theirs: _is_over(story) and (ours.failure, theirs.failure) == (1002, 1009),
        max_message_bytes=20,
    ),
    Difference(
        "a control frame that is larger than a message may be",
        [ping(b"x" * 30)],
        _heard((PING, b"x" * 30)),
        _heard(failure=1009),
        'RFC 6455 5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response"; 10.4 speaks '
        'of "the frame size or total message size after reassembly from multiple frames"',
        lambda story, ours, theirs: (
            _is_over(story) and story.has(lambda frame: frame.opcode >= 8) and theirs.failure == 1009
        ),
        max_message_bytes=20,
    ),
    Difference(
        "a compressed message that is small enough once inflated, and was not before",
        [binary(deflated(NOISE), rsv=RSV1)],
        _heard((BINARY, NOISE)),
        _heard(failure=1009),
        'RFC 6455 10.4: limits are of "the frame size or total message size after reassembly"; wsd has one limit, of '
        "what a plugin gets, counted after inflating",
        lambda story, ours, theirs: story.has_compressed and _is_over(story) and theirs.failure == 1009,
        is_deflated=True,
        max_message_bytes=len(NOISE),
    ),
    Difference(
        "compressed data that is no DEFLATE",
        [text(b"\x07", rsv=RSV1)],
        _heard(failure=1007),
        _heard(failure=1002),
        'RFC 6455 7.4.1: "1007 indicates that an endpoint is terminating the connection because it has received data '
        'within a message that was not consistent with the type of the message"; RFC 7692 names no code',
        lambda story, ours, theirs: story.has_compressed and (ours.failure, theirs.failure) == (1007, 1002),
        is_deflated=True,
    ),
    Difference(
        "a compressed message that ends inside a block",
        [binary(deflated(b"all of it")[:-4], rsv=RSV1)],
        _heard(failure=1007),
        _heard((BINARY, b"all of ")),
        'RFC 7692 7.2.1: "If the resulting data does not end with an empty DEFLATE block with no compression [...], '
        'append an empty DEFLATE block": a message ends between two blocks; else the next is read as the rest of it',
        lambda story, ours, theirs: story.has_compressed and ours.failure == 1007,
        is_deflated=True,
    ),
    Difference(
        "a compressed message after one that ends its stream",
        [text(deflated(b"Hello", zlib.Z_FINISH), rsv=RSV1), text(deflated(b"again"), rsv=RSV1)],
        _heard((TEXT, b"Hello"), (TEXT, b"again")),
        _heard((TEXT, b"Hello"), (TEXT, b"")),
        'RFC 7692 7.2.3.4: "implementors can choose to flush data using DEFLATE blocks with "BFINAL" set to 1"; they '
        "lose all that follows such a block",
        lambda story, ours, theirs: story.has_compressed and story.has(_ends_its_stream),
        is_deflated=True,
    ),
]
