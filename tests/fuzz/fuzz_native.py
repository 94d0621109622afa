"""Whatever bytes come, the C functions answer what their Python twins do, and what `parse` takes is what the parser
would have made of it; where nothing was compiled, the twins are held against the parser alone.

`make check-native` runs this on a build that AddressSanitizer and UndefinedBehaviorSanitizer watch.
"""

from __future__ import annotations

import socket
from array import array
from typing import Any

from tests.fuzz.engine import main
from tests.support.client import close_frame, frame
from tests.support.feeding import Heard, feed
from tests.support.native import NATIVE, TWINS
from wsd.wire.parser import Piece

SAMPLES = [
    frame(1, "text \u20ac \U0001d11e"),
    frame(2, b"\x00\xff" * 3),
    frame(1) + frame(2),
    frame(1, "seven b") + frame(1, "eight by") + frame(1, "\u20acnine\u20ac"),
    frame(2, bytes(125)) + frame(2, bytes(126)),
    frame(1, b"a" * 130 + "\u20ac".encode()),
    frame(2, bytes(65536)),
    frame(1, b"\xed\xa0\x80") + frame(1, b"\xf4\x90\x80\x80") + frame(1, b"\xc0\xaf") + frame(1, b"abcdefgh\xe2\x82"),
    frame(2, b"before") + frame(9, b"ping") + frame(2, b"behind"),
    frame(1, b"a", final=False) + frame(0, b"b"),
    frame(1, b"x", rsv=4) + close_frame(1000),
    frame(2, b"unmasked", mask=None),
    bytes.fromhex("82 fe 007d 00000000 82 ff 000000000000ffff 00000000 82 ff ffffffffffffffff 00000000"),
]
LIMITS, MANY = (0, 6, 125, 65535), 1 << 20
OURS, THEIRS = socket.socketpair()
OURS.setblocking(False)
MOST_SENT = 65536  # more might not fit into the kernel


def exact(data: bytes) -> memoryview:
    """A copy behind which nothing is ours: bytes has a zero there, and a new array has room, its slice has not."""
    return memoryview(array("B", data)[:])


def taken(functions: Any, data: memoryview, limit: int, most: int) -> tuple[int, list[Piece]]:
    """How many bytes `parse` takes of `data`, and what it makes of them."""
    pieces: list[Piece] = []
    return functions.parse(data, len(data), limit, most, pieces), pieces


def check(data: bytes) -> None:
    """The invariant."""
    key, offset = (data[1:5] + b"1234")[:4], data[0] if data else 0
    limit, most = LIMITS[offset % len(LIMITS)], MANY if offset & 64 else offset % 5
    whole = memoryview(data)
    size, pieces = taken(TWINS, whole, limit, most)
    check_against_parser(data[:size], limit, pieces)
    if NATIVE is None:
        return
    assert taken(NATIVE, exact(data), limit, most) == (size, pieces)
    half = offset % (len(data) + 1)
    for part in (data, data[:half], data[half:]):
        memory = exact(part)
        assert taken(NATIVE, memory, 0, MANY) == taken(TWINS, memoryview(part), 0, MANY)
        assert NATIVE.is_utf8(memory) is TWINS.is_utf8(part), part
        assert NATIVE.mask(memory, key, offset) == TWINS.mask(part, key, offset)
        assert NATIVE.frame(offset, part) == TWINS.frame(offset, part)
    if len(data) <= MOST_SENT:
        arguments = data, 1 + offset * len(data) // 100, key if offset & 1 else b"", offset
        assert received(NATIVE, *arguments) == received(TWINS, *arguments)


def received(functions: Any, data: bytes, size: int, key: bytes, offset: int) -> list[bytes]:
    """What `receive_payload` makes of `data` on a socket, by so many bytes at a time."""
    THEIRS.sendall(data)
    pieces: list[bytes] = []
    while type(piece := functions.receive_payload(OURS.fileno(), size, key, offset)) is bytes:
        pieces.append(piece)
        offset += len(piece)
    assert piece == -1, piece
    return pieces


def check_against_parser(data: bytes, limit: int, pieces: list[Piece]) -> None:
    """Five bytes at a time, so that no frame comes whole and `parse` has no part in it."""
    heard = feed([data[at : at + 5] for at in range(0, len(data), 5)], limit)
    assert heard == Heard([(opcode, payload) for opcode, payload, *_ in pieces]), (heard, pieces)


if __name__ == "__main__":
    main(check, SAMPLES)
