"""Whatever bytes come, the frame parser raises nothing, holds its limits, and hears the same whole as cut up."""

from __future__ import annotations

from tests.fuzz.engine import main
from tests.support.client import close_frame, frame
from tests.support.feeding import feed
from wsd.wire.frames import INVALID_PAYLOAD

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
]
MAX_MESSAGE_BYTES, MAX_FRAGMENTS = 300, 5


def check(data: bytes) -> None:
    """The invariant; `feed` itself checks every field of every piece."""
    for limit in (0, MAX_MESSAGE_BYTES):
        whole = feed([data], limit, MAX_FRAGMENTS)
        assert whole.failure in (None, 1002, 1007, 1008, 1009), whole
        assert whole.failure is None or whole.close is None, whole
        for opcode, payload in whole.messages:
            assert len(payload) <= (limit or len(data))
            if opcode == 1:
                payload.decode()
        half = data[0] % (len(data) + 1) if data else 0
        for chunks in ([data[at : at + 1] for at in range(len(data))], [data[:half], data[half:]]):
            heard = feed(chunks, limit, MAX_FRAGMENTS)
            if whole.failure == INVALID_PAYLOAD:
                heard = heard._replace(partial=whole.partial)
            assert heard == whole, (heard, whole)


if __name__ == "__main__":
    main(check, SAMPLES)
