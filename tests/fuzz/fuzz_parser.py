"""Whatever bytes come, the frame parser raises nothing, holds its limits, and hears the same whole as cut up; as a
server, as a client, and with compression."""

from __future__ import annotations

from tests.fuzz.engine import main
from tests.support.client import close_frame, frame
from tests.support.feeding import NewParser, feed
from wsd.wire.deflate import Inflater
from wsd.wire.frames import INVALID_PAYLOAD, TOO_BIG
from wsd.wire.parser import Parser

HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")

SAMPLES = [
    frame(1, "text \u20ac"),
    frame(2, b"\x00\xff" * 3),
    frame(1, b"\xe2\x82", final=False) + frame(9, b"\xff") + frame(0, b"\xac"),
    frame(1, b"\xed\x9f", final=False) + frame(0, b"\xbf", final=False) + frame(0),
    frame(2, bytes(126)),
    frame(2, bytes(200), final=False) + frame(0, bytes(130)),
    frame(9, b"ping") + frame(10, b"pong"),
    close_frame(1000, "bye"),
    close_frame(None),
    bytes.fromhex("82 ff 0000000000010000 00000000"),
    # RFC 7692 7.2.3: "Hello" compressed, in one frame and in two with a Ping between them, and an empty message.
    frame(1, HELLO, rsv=4),
    frame(1, HELLO[:3], rsv=4, final=False) + frame(9, b"x") + frame(0, HELLO[3:]) + frame(2, b"\0", rsv=4),
    frame(1, "unmasked", mask=None) + frame(9, b"x", mask=None) + frame(8, b"\x03\xe8", mask=None),
]
MAX_MESSAGE_BYTES, MAX_FRAGMENTS = 300, 5


def with_inflater(max_message_bytes: int, max_fragments: int) -> Parser:
    """Of the largest window: beyond a smaller one zlib may still reach back into what it is just writing."""
    return Parser(max_message_bytes, max_fragments, inflater=Inflater(15, True))


def of_client(max_message_bytes: int, max_fragments: int) -> Parser:
    """A client's; what it is fed is the same."""
    return Parser(max_message_bytes, max_fragments, is_client=True)


def check(data: bytes) -> None:
    """The invariant; `feed` itself checks every field of every piece."""
    for limit in (0, MAX_MESSAGE_BYTES):
        for new_parser in (Parser, with_inflater, of_client):
            check_one(data, limit, new_parser)


def check_one(data: bytes, limit: int, new_parser: NewParser) -> None:
    whole = feed([data], limit, MAX_FRAGMENTS, new_parser)
    assert whole.failure in (None, 1002, 1007, 1008, 1009), whole
    assert whole.failure is None or whole.close is None, whole
    for opcode, payload in whole.messages:
        assert not limit or len(payload) <= limit
        if opcode == 1:
            payload.decode()
    half = data[0] % (len(data) + 1) if data else 0
    for chunks in ([data[at : at + 1] for at in range(len(data))], [data[:half], data[half:]]):
        heard = feed(chunks, limit, MAX_FRAGMENTS, new_parser)
        # How much of an unfinished message was handed out before the fault depends on how it arrived.
        if whole.failure in (INVALID_PAYLOAD, TOO_BIG):
            heard = heard._replace(partial=whole.partial)
        assert heard == whole, (heard, whole)


if __name__ == "__main__":
    main(check, SAMPLES)
