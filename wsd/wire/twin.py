"""In Python what `wsd/_native.c` has in C: masking, whole frames in and out, UTF-8, on bytes.

Each function answers what its namesake there does, and the tests hold both to that; so here is where to read what they
do.  Which of the two runs is settled in `fast.py`.  The pair of system calls is in `wsd/syscalls.py`.
"""

from __future__ import annotations

from codecs import utf_8_decode
from struct import Struct
from typing import TYPE_CHECKING, Final

from wsd.wire.frames import FIN, MASKED, TEXT, frame_header

if TYPE_CHECKING:
    from wsd.wire.parser import Piece

_FIN_TEXT: Final = FIN | TEXT
# First bytes of the plain case: a data message in one frame, without the bit of an extension.
_PLAIN: Final = (0x81, 0x82)

_short: Final = Struct("!BB").pack

# For payloads of up to 125 bytes as numbers: what repeats a key that stands in front often enough, and the payload's
# own bits.
_number: Final = int.from_bytes
_KEY: Final = (1 << 32) - 1
_REPEATS: Final = tuple(sum(1 << 32 * at for at in range(length // 4 + 2)) for length in range(126))
_ONES: Final = tuple((1 << 8 * length) - 1 for length in range(126))


def mask(data: bytes | bytearray | memoryview, key: bytes, offset: int = 0, /) -> bytes:
    """`data` xor the 4 bytes of `key`, repeated; masking and unmasking are the same (RFC 6455 5.3).

    Going by way of one big integer is the fastest that Python has for this (0.25 GB/s; a loop over bytes: 0.02).

    Args:
        data: A buffer of bytes.
        key: 4 bytes.
        offset: How far into its frame's payload `data` begins: where it was cut.

    Raises:
        ValueError: a key of another length, or a negative offset.
    """
    if len(key) != 4 or offset < 0:
        raise ValueError("a masking key is 4 bytes" if len(key) != 4 else "offset is negative")
    size = len(data)
    begin = offset & 3
    stream = (key * ((size + 6) >> 2))[begin : begin + size]
    # Native order of a list of bytes: both sides the same, and little needs no reversal on today's machines.
    return (int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")).to_bytes(size, "little")


def is_utf8(data: bytes | bytearray | memoryview, /) -> bool:
    """Reports whether `data` is UTF-8 (RFC 3629): no surrogates, nothing longer than it needs to be."""
    try:
        utf_8_decode(data, "strict", True)
    except UnicodeDecodeError:
        return False
    return True


def parse(buffer: bytes | bytearray | memoryview, size: int, limit: int, most: int, pieces: list[Piece], /) -> int:
    """Hot: take whole messages from the front of a buffer, as long as each is one plain frame.

    Plain is what nearly every frame that a server gets is: FIN, text or binary, no RSV bit, masked, its length in the
    fewest bytes, within the limit, come whole, and valid UTF-8 if it is text.  In front of the first frame that is
    anything else it stops, without a word: `parser.py` goes on there, with all its checks, and says what is wrong.

    Args:
        buffer: What was received; nothing of it is kept.
        size: How much of it counts.
        limit: Most bytes of payload; 0: no limit.
        most: So many frames are taken and no more.
        pieces: Each message is appended to it as `(opcode, payload, True, True, 0)`.

    Answers how many bytes the frames took.

    Raises:
        ValueError: a negative number, or a size over the buffer's.
    """
    if limit < 0 or most < 0 or not 0 <= size <= len(buffer):
        raise ValueError("a negative number, or size is more than the buffer holds")
    at = 0
    while most and size - at >= 6:
        most -= 1
        first, length = buffer[at], buffer[at + 1] - MASKED
        if length < 0 or first not in _PLAIN:
            break
        begin = at + 6
        if length >= 126:
            begin += 2 if length == 126 else 8
            if size < begin:
                break
            length = int.from_bytes(buffer[at + 2 : begin - 4], "big")
            # "the minimal number of bytes MUST be used to encode the length"
            if length < (126 if begin - at == 8 else 65536):
                break
        end = begin + length
        if end > size or (limit and length > limit):
            break
        if length < 126:
            # As `mask` does it, in a third of the time: the key in front is read with its payload, and multiplied.
            masked = _number(buffer[begin - 4 : end], "little")
            payload = ((masked ^ (masked & _KEY) * _REPEATS[length]) >> 32 & _ONES[length]).to_bytes(length, "little")
        else:
            payload = mask(buffer[begin:end], bytes(buffer[begin - 4 : begin]))
        if first == _FIN_TEXT and not payload.isascii() and not is_utf8(payload):
            break
        pieces.append((first - FIN, payload, True, True, 0))
        at = end
    return at


def frame(first: int, payload: bytes, /) -> bytes:
    """A whole frame as a server sends it, unmasked: `first` is FIN, RSV bits and opcode.

    Raises:
        ValueError: `first` is no byte.
    """
    length = len(payload)
    if length < 126 and 0 <= first <= 0xFF:
        return _short(first, length) + payload
    if not 0 <= first <= 0xFF:
        raise ValueError("first is not a byte")
    return frame_header(first, length) + payload
