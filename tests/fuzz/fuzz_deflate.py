"""Whatever a compressed message holds, it is inflated or refused with 1007, never more at once than was asked for, and
the same whole as cut up; and whatever is compressed comes out as it went in."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from tests.fuzz.engine import main
from tests.support.inflating import Outcome, inflate, inflate_message
from wsd.wire.deflate import Deflater, Inflater, compress_alone
from wsd.wire.extensions import Settings
from wsd.wire.frames import BINARY, CONTINUATION, FIN, RSV1

LIMITS = (1, 7, 4096)
# What a call of a few bytes may be made to hand out: they could ask for a thousand times their size.
MAX_PAYLOAD_BYTES = 300


def sample(*payloads: bytes, options: int = 0) -> bytes:
    """Messages as `parts` takes them apart."""
    return bytes([options]) + b"".join(bytes([len(payload)]) + payload for payload in payloads)


def compressed(text: bytes, level: int, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    context = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    return (context.compress(text) + context.flush(zlib.Z_SYNC_FLUSH))[:-4]


HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
SAMPLES = [
    sample(HELLO, bytes.fromhex("f2 00 11 00 00")),
    sample(bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00"), HELLO, options=1),
    sample(bytes.fromhex("f3 48 cd c9 c9 07 00 00"), b"\x00", b"\x03\x00\x03\x00\x00", options=2),
    sample(bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00"), options=4),
    sample(compressed(bytes(300), 9), compressed(b"abcabcabcd" * 9, 1), options=8),
    sample(compressed(bytes(range(200)) + b"dynamic codes" * 9, 9)[:250], options=16),
    sample(compressed(b"no distances", 6, zlib.Z_HUFFMAN_ONLY), compressed(b"fixed", 6, zlib.Z_FIXED), options=32),
]


def parts(data: bytes) -> Iterator[bytes]:
    """Payloads, each behind a byte with its length; of the last one what there is."""
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        yield data[at + 1 : end]
        at = end


def check(data: bytes) -> None:
    """The invariant; the first byte chooses takeover, limit and level."""
    options, messages = data[0] if data else 0, list(parts(data[1:]))[:4]
    messages = [message[:MAX_PAYLOAD_BYTES] for message in messages]
    takeover, limit = not options & 1, LIMITS[(options >> 1) % 3]
    # Of the largest window: beyond a smaller one zlib may still reach back into what it is just writing.
    whole = inflate(Inflater(15, takeover), [[message] for message in messages])
    assert all(isinstance(text, bytes) for text in whole[:-1]), whole
    assert not whole or isinstance(whole[-1], bytes) or whole[-1] == 1007, whole
    halves = [[message[: len(message) // 2], message[len(message) // 2 :]] for message in messages]
    singles = [[message[at : at + 1] for at in range(len(message))] for message in messages]
    for chunks in (halves, singles):
        found: Outcome = inflate(Inflater(15, takeover), chunks, limit)
        assert found == whole, (found, whole)
    look_at_deflating(messages, takeover, Settings(1 + (options >> 3) % 9, 1, 9, takeover, 0))


def look_at_deflating(texts: list[bytes], takeover: bool, settings: Settings) -> None:
    """The same bytes as texts: each as a message, all as the fragments of one, and one without history."""
    deflater, inflater = Deflater(9, takeover, settings), Inflater(9, takeover)
    for text in texts:
        first, payload = deflater.encode(FIN | BINARY, text)
        assert first == FIN | BINARY | RSV1
        assert inflate_message(inflater, [payload]) == text
    fragments = [deflater.encode(CONTINUATION if at else BINARY, text)[1] for at, text in enumerate(texts)]
    fragments.append(deflater.encode(FIN | (CONTINUATION if texts else BINARY), b"")[1])
    assert inflate_message(inflater, fragments) == b"".join(texts)
    deflater.forget()
    for text in texts:
        assert inflate_message(inflater, [compress_alone(text, 8, settings)]) == text


if __name__ == "__main__":
    main(check, SAMPLES)
