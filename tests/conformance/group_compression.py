"""Compressed messages: RFC 7692 sections 6 and 7.2, and what RFC 6455 asks of what is in them.

The compressed bytes are made with zlib here, or stand in the RFC; what comes back is inflated within exactly the window
and the context that were agreed on.
"""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Any, Final

from tests.conformance.model import (
    ABNORMAL,
    BYE,
    BYTES,
    Await,
    Deflate,
    Expected,
    Filler,
    Frame,
    Group,
    HalfClose,
    Packed,
    Torn,
    binary,
    close,
    more,
    ping,
    pong,
    text,
)
from tests.support.client import BINARY, CLOSE, PING, PONG, TEXT

GROUP: Final = Group(11, "Compression: messages")

NAME: Final = "permessage-deflate"
RSV1: Final = 4
KIB: Final = 1024
MIB: Final = 1024 * KIB

_MIB_OF_ZEROS: Final = zlib.compressobj(9, zlib.DEFLATED, -15)
_ZEROS: Final = _MIB_OF_ZEROS.compress(bytes(MIB)) + _MIB_OF_ZEROS.flush(zlib.Z_FULL_FLUSH)


def agreed(*parameters: str) -> Deflate:
    """These parameters; to wsd the server they are offered, wsd the client gets them as the answer."""
    answer = "; ".join([NAME, *parameters])
    return Deflate(answer, answer)


_PLAIN: Final = agreed()
_ALONE: Final = agreed("server_no_context_takeover", "client_no_context_takeover")


def raw(data: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """A message compressed on its own, without the four bytes that are left out."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    return (deflater.compress(data) + deflater.flush(flush))[:-4]


def packed(data: bytes, **fields: Any) -> Frame:
    """A text whose compressed bytes are given."""
    return text(data, rsv=RSV1, **fields)


def cut_up(opcode: int, data: bytes, *at: int) -> list[Frame]:
    """A compressed message in fragments that end at these offsets."""
    parts = [data[start:end] for start, end in pairwise([0, *at, len(data)])]
    last = len(parts) - 1
    return [
        Frame(0 if index else opcode, part, index == last, 0 if index else RSV1) for index, part in enumerate(parts)
    ]


# -- parameters, sizes and fragmentations -----------------------------------------------------------------------------

_PARAMETERS: Final[tuple[tuple[str, ...], ...]] = (
    (),
    ("server_no_context_takeover",),
    ("client_no_context_takeover",),
    ("server_no_context_takeover", "client_no_context_takeover"),
    *((f"server_max_window_bits={bits}",) for bits in (8, 9, 10, 12, 15)),
    *((f"client_max_window_bits={bits}",) for bits in (8, 9, 10, 12, 15)),
    ("server_max_window_bits=8", "client_max_window_bits=8"),
    ("server_max_window_bits=9", "client_max_window_bits=15"),
    (
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits=8",
        "client_max_window_bits=8",
    ),
    (
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits=10",
        "client_max_window_bits=12",
    ),
    ("server_no_context_takeover", "client_max_window_bits=9"),
    ("client_no_context_takeover", "server_max_window_bits=9"),
)
# Size of the message, and of its frames (0: one).
_SHAPES: Final = ((0, 0), (1, 0), (125, 0), (125, 1), (1000, 0), (1000, 64), (10_000, 0), (10_000, 100), (70_000, 4096))

for parameters in _PARAMETERS:
    GROUP.part(", ".join(parameters) or "no parameters", "7692 7.2", setup="window 15", deflate=agreed(*parameters))
    for size, frame in _SHAPES:
        messages = ((TEXT, Filler(size, "json")), (TEXT, Filler(size, "json")), (BINARY, Filler(size, "noise")))
        GROUP.case(
            f"{size} bytes, three times" + (f", in frames of {frame}" if frame else ""),
            [*(Packed(opcode, payload, frame) for opcode, payload in messages), BYE],
            Expected(messages),
        )

GROUP.part("Large messages", "7692 7.2", setup="large messages", deflate=_PLAIN)
for size, kind, frame in (
    (MIB, "json", 0),
    (MIB, "json", 64),
    (MIB, "json", 64 * KIB),
    (MIB, "noise", 0),
    (MIB, "noise", 1000),
    (4 * MIB, "json", 0),
    (4 * MIB, "noise", 256 * KIB),
    (16 * MIB, "zeros", 0),
    (16 * MIB, "zeros", 64),
    (16 * MIB, "noise", 4 * MIB),
):
    title = f"{size // MIB} MiB of {kind}" + (f" in frames of {frame}" if frame else "")
    GROUP.case(title, [Packed(BINARY, Filler(size, kind), frame, 1), BYE], Expected(((BINARY, Filler(size, kind)),)))
GROUP.case(
    "1 MiB in segments of 997 bytes",
    [Packed(TEXT, Filler(MIB, "json")), BYE],
    Expected(((TEXT, Filler(MIB, "json")),)),
    chop=997,
)
GROUP.case("1000 of 100 bytes", [*[Packed(TEXT, Filler(100))] * 1000, BYE], Expected(((TEXT, Filler(100)),) * 1000))
GROUP.case(
    "1000 of 1000 bytes",
    [*[Packed(TEXT, Filler(1000, "json"))] * 1000, BYE],
    Expected(((TEXT, Filler(1000, "json")),) * 1000),
)

GROUP.part("Which messages wsd compresses", "7692 6.1", deflate=_PLAIN)
GROUP.case(
    "all, where the smallest is 0",
    [text("a"), Packed(TEXT, b"b"), BYE],
    Expected(((TEXT, b"a"), (TEXT, b"b")), packed=True),
    setup="window 15",
)
GROUP.case(
    "one of 999 bytes, where the smallest is 1000",
    [Packed(TEXT, Filler(999, "json")), BYE],
    Expected(((TEXT, Filler(999, "json")),), packed=False),
    setup="large messages",
)
GROUP.case(
    "one of 1000 bytes",
    [Frame(TEXT, Filler(1000, "json")), BYE],
    Expected(((TEXT, Filler(1000, "json")),), packed=True),
    setup="large messages",
)

# -- the RFC's examples -----------------------------------------------------------------------------------------------

_HELLO: Final = bytes.fromhex("f248cdc9c90700")
_ONE: Final = [(TEXT, b"Hello")]

GROUP.part("The RFC's examples", "7692 7.2.3", setup="window 15", deflate=_PLAIN)
GROUP.echoes("a message compressed using one block", packed(_HELLO), messages=_ONE)
GROUP.echoes("in two fragments", *cut_up(TEXT, _HELLO, 3), messages=_ONE)
GROUP.echoes("sharing the window", packed(_HELLO), packed(bytes.fromhex("f200110000")), messages=_ONE * 2)
GROUP.echoes("a block with no compression", packed(bytes.fromhex("000500faff48656c6c6f00")), messages=_ONE)
GROUP.echoes("a block with BFINAL set", packed(bytes.fromhex("f348cdc9c9070000")), messages=_ONE)
GROUP.echoes("two blocks", packed(bytes.fromhex("f248050000 00ffffcac9c90700")), messages=_ONE)
GROUP.echoes("an empty fragment", packed(b"\0"), messages=[(TEXT, b"")])

# -- every form of DEFLATE --------------------------------------------------------------------------------------------

_WORDS: Final = Filler(3000, "json").make()
_FINAL: Final = zlib.compressobj(6, zlib.DEFLATED, -15)
_ENDED: Final = _FINAL.compress(b"Hello") + _FINAL.flush(zlib.Z_FINISH)


def flushed(data: bytes, step: int, flush: int) -> bytes:
    """A message that is flushed every `step` bytes."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    parts = [deflater.compress(data[at : at + step]) + deflater.flush(flush) for at in range(0, len(data), step)]
    return b"".join(parts)[:-4]


GROUP.part("Every kind of block", "7692 7.2.2", setup="window 15", deflate=_PLAIN)
for level in (0, 1, 9):
    GROUP.echoes(f"level {level}", packed(raw(_WORDS, level)), messages=[(TEXT, _WORDS)])
for strategy, name in (
    (zlib.Z_HUFFMAN_ONLY, "Huffman alone"),
    (zlib.Z_RLE, "run lengths"),
    (zlib.Z_FIXED, "fixed codes"),
    (zlib.Z_FILTERED, "filtered"),
):
    GROUP.echoes(name, packed(raw(_WORDS, 6, strategy)), messages=[(TEXT, _WORDS)])
GROUP.echoes("a full flush at the end", packed(raw(_WORDS, 6, 0, zlib.Z_FULL_FLUSH)), messages=[(TEXT, _WORDS)])
for step in (1, 10, 1000):
    GROUP.echoes(
        f"flushed behind every {step}", packed(flushed(_WORDS, step, zlib.Z_SYNC_FLUSH)), messages=[(TEXT, _WORDS)]
    )
GROUP.echoes(
    "window cleared behind every 100", packed(flushed(_WORDS, 100, zlib.Z_FULL_FLUSH)), messages=[(TEXT, _WORDS)]
)
GROUP.echoes(
    "64 KiB of stored blocks", Packed(BINARY, Filler(65536, "noise"), 0, 0), messages=[(BINARY, Filler(65536, "noise"))]
)
GROUP.echoes("stored, then compressed", Packed(TEXT, _WORDS, 0, 0), Packed(TEXT, _WORDS), messages=[(TEXT, _WORDS)] * 2)
GROUP.echoes("BFINAL, then more in the same message", packed(_ENDED + _HELLO), messages=[(TEXT, b"HelloHello")])
GROUP.echoes("BFINAL in each of 3 messages", *[packed(_ENDED + b"\0")] * 3, messages=_ONE * 3)
GROUP.echoes("BFINAL ten times in one message", packed(_ENDED * 10 + b"\0"), messages=[(TEXT, b"Hello" * 10)])
GROUP.echoes("a message behind BFINAL", packed(_ENDED + b"\0"), packed(_HELLO), messages=_ONE * 2)
GROUP.echoes("an empty fixed block", packed(bytes.fromhex("0200")), messages=[(TEXT, b"")])
GROUP.echoes("an empty fixed block with BFINAL", packed(bytes.fromhex("030000")), messages=[(TEXT, b"")])
GROUP.echoes("100 empty stored blocks", packed(bytes.fromhex("000000ffff") * 100 + b"\0"), messages=[(TEXT, b"")])
GROUP.echoes(
    "100 empty stored blocks before a message", packed(bytes.fromhex("000000ffff") * 100 + _HELLO), messages=_ONE
)
GROUP.echoes("empty messages", *[packed(b"\0")] * 10, packed(_HELLO), messages=[*[(TEXT, b"")] * 10, *_ONE])

# -- fragments --------------------------------------------------------------------------------------------------------

GROUP.part("Cut at every byte", "7692 6.1", setup="window 15", deflate=_PLAIN)
for at in range(len(_HELLO) + 1):
    GROUP.echoes(f"two fragments, behind byte {at}", *cut_up(TEXT, _HELLO, at), messages=_ONE)
for at in range(1, len(_HELLO)):
    GROUP.echoes(f"two segments, {at} bytes before the end", packed(_HELLO), messages=_ONE, chop=(-8 - at,))
GROUP.echoes("a fragment for each byte", *cut_up(TEXT, _HELLO, *range(1, 7)), messages=_ONE)
GROUP.echoes("a segment for each byte", packed(_HELLO), messages=_ONE, chop=BYTES)
GROUP.echoes("fragments and segments for each byte", *cut_up(TEXT, _HELLO, *range(1, 7)), messages=_ONE, chop=BYTES)
GROUP.echoes("empty fragments", *cut_up(TEXT, _HELLO, 0, 0, 3, 3, 7), messages=_ONE)
GROUP.echoes("an empty first fragment and an empty message", *cut_up(TEXT, b"\0", 0), messages=[(TEXT, b"")])

# Five libraries have mistaken a Ping here for the end, or inflated it.
GROUP.part("Control frames between compressed fragments", "7692 6.1", setup="window 15", deflate=_PLAIN)
_HEAD, _TAIL = cut_up(TEXT, _HELLO, 3)
for payload in (b"", b"ping", _HELLO, b"\xff" * 125):
    GROUP.echoes(f"a Ping of {len(payload)} bytes", _HEAD, ping(payload), _TAIL, messages=_ONE, pongs=[payload])
GROUP.echoes("a Pong", _HEAD, pong(b"x"), _TAIL, messages=_ONE)
GROUP.echoes("answered before the rest", _HEAD, ping(b"p"), Await(pongs=1), _TAIL, messages=_ONE, pongs=[b"p"])
GROUP.echoes(
    "at every byte, byte by byte",
    *(step for frame in cut_up(TEXT, _HELLO, *range(1, 7)) for step in (frame, ping(b"p"))),
    messages=_ONE,
    pongs=[b"p"] * 7,
    chop=BYTES,
)
GROUP.echoes(
    "and the context goes on",
    _HEAD,
    ping(b"p"),
    _TAIL,
    packed(bytes.fromhex("f200110000")),
    messages=_ONE * 2,
    pongs=[b"p"],
)
GROUP.case("a Close, and the message never ends", [_HEAD, BYE], Expected())
GROUP.case(
    "a Close with a reason behind a message",
    [packed(_HELLO), close(4000, "why")],
    Expected(((TEXT, b"Hello"),), (), 4000, (4000, "why")),
)

GROUP.part("Messages that are not compressed", "7692 6.1", setup="window 15", deflate=_PLAIN)
GROUP.echoes("one", text("Hello"), messages=_ONE)
GROUP.echoes("by turns with others", *[text("Hello"), packed(_HELLO)] * 5, messages=_ONE * 10)
GROUP.echoes("in fragments", text("Hel", fin=False), more("lo"), messages=_ONE)
GROUP.echoes(
    "between two that share a window",
    packed(_HELLO),
    text("Hello"),
    binary(b"xyz"),
    packed(bytes.fromhex("f200110000")),
    messages=[*_ONE * 2, (BINARY, b"xyz"), *_ONE],
)
GROUP.echoes("one that looks compressed", binary(_HELLO), messages=[(BINARY, _HELLO)])
GROUP.echoes("64 KiB", Frame(BINARY, Filler(65536, "noise")), messages=[(BINARY, Filler(65536, "noise"))])

# -- large output -----------------------------------------------------------------------------------------------------

_BIG: Final = Filler(MIB, "zeros")
_BIG_ONE: Final = Packed(BINARY, _BIG)

# It is handed out little by little, and what comes next must wait for the last of it.
GROUP.part("What follows a message that inflates to 1 MiB", "7692 7.2.2", setup="window 15", deflate=_PLAIN)
GROUP.echoes("a Ping", _BIG_ONE, ping(b"p"), messages=[(BINARY, _BIG)], pongs=[b"p"])
GROUP.echoes("a text", _BIG_ONE, text("a"), messages=[(BINARY, _BIG), (TEXT, b"a")])
GROUP.echoes("another like it", _BIG_ONE, _BIG_ONE, messages=[(BINARY, _BIG)] * 2)
GROUP.echoes(
    "all of that, byte by byte",
    _BIG_ONE,
    ping(b"p"),
    text("a"),
    messages=[(BINARY, _BIG), (TEXT, b"a")],
    pongs=[b"p"],
    chop=97,
)
GROUP.echoes(
    "in fragments, with Pings between",
    *cut_up(BINARY, raw(bytes(MIB)), 300),
    ping(b"p"),
    _BIG_ONE,
    messages=[(BINARY, _BIG)] * 2,
    pongs=[b"p"],
)
GROUP.fails("a reserved opcode", 1002, _BIG_ONE, Frame(0x3), messages=[(BINARY, _BIG)])
GROUP.fails("text that is no UTF-8", 1007, _BIG_ONE, packed(raw(b"\xff")), messages=[(BINARY, _BIG)])
GROUP.case("a Close", [_BIG_ONE, close(4000, "why")], Expected(((BINARY, _BIG),), (), 4000, (4000, "why")))
GROUP.case("the end of the stream", [_BIG_ONE, HalfClose()], Expected(((BINARY, _BIG),), (), None, ABNORMAL))

_OURS: Final = Expected(close=4001, told=(1000, ""))

# RFC 6455 1.4: what comes then is discarded, and so it is not inflated either.
GROUP.part("What follows our own Close", "6455 1.4", setup="window 15", deflate=_PLAIN)
GROUP.case("a compressed message", [text("!close 4001"), packed(_HELLO), BYE], _OURS)
GROUP.case("fragments", [text("!close 4001"), *cut_up(TEXT, _HELLO, 3), ping(b"p"), BYE], _OURS)
GROUP.case("1 MiB of zeros", [text("!close 4001"), _BIG_ONE, BYE], _OURS)
GROUP.case("1 GiB of zeros", [text("!close 4001"), binary(_ZEROS * 1023 + _ZEROS[:-4], rsv=RSV1), BYE], _OURS)
GROUP.case("what is no DEFLATE", [text("!close 4001"), Await(close=True), packed(b"\xff" * 10), BYE], _OURS)
GROUP.case(
    "a message that was begun before",
    [_HEAD, ping(b"p"), _TAIL, text("!close 4001"), _HEAD, BYE],
    _OURS._replace(messages=tuple(_ONE), pongs=(b"p",)),
)
GROUP.case(
    "all of it, once our Close has come",
    [text("!close 4001"), Await(close=True), packed(_HELLO), _BIG_ONE, packed(b"\xff"), BYE],
    _OURS,
)

# -- context takeover -------------------------------------------------------------------------------------------------

_NOISE: Final = Filler(8000, "noise").make()
GROUP.part("What was said before", "7692 7.1.1", setup="window 15")
GROUP.echoes(
    "is referred to, 10 times", *[Packed(BINARY, _NOISE)] * 10, messages=[(BINARY, _NOISE)] * 10, deflate=_PLAIN
)
GROUP.echoes(
    "is not, where neither takes over", *[Packed(BINARY, _NOISE)] * 3, messages=[(BINARY, _NOISE)] * 3, deflate=_ALONE
)
GROUP.echoes(
    "may be forgotten, though it need not", *[packed(raw(_WORDS))] * 3, messages=[(TEXT, _WORDS)] * 3, deflate=_PLAIN
)
GROUP.fails(
    "is referred to, and was forgotten",
    1007,
    packed(_HELLO),
    packed(bytes.fromhex("f200110000")),
    messages=_ONE,
    deflate=_ALONE,
)
GROUP.fails("is referred to, and nothing was said", 1007, packed(bytes.fromhex("f200110000")), deflate=_PLAIN)
GROUP.fails(
    "is referred to, and was sent uncompressed",
    1007,
    text("Hello"),
    packed(bytes.fromhex("f200110000")),
    messages=_ONE,
    deflate=_PLAIN,
)
GROUP.echoes(
    "from 32 KiB back",
    *(Packed(BINARY, Filler(32_000, "noise")), Packed(BINARY, Filler(32_000, "noise"))),
    messages=[(BINARY, Filler(32_000, "noise"))] * 2,
    deflate=_PLAIN,
)

# -- what is wrong ----------------------------------------------------------------------------------------------------

# 6.1: "An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first fragments of a data
# message. An endpoint receiving such a frame MUST _Fail the WebSocket Connection_."
GROUP.part("RSV1 where it must not be", "7692 6.1", setup="window 15", deflate=_PLAIN)
for opcode, kind, payload in ((PING, "a Ping", b"p"), (PONG, "a Pong", b"p"), (CLOSE, "a Close", b"\x03\xe8")):
    GROUP.fails(f"on {kind}", 1002, Frame(opcode, payload, rsv=RSV1))
    GROUP.fails(f"on {kind}, between fragments", 1002, _HEAD, Frame(opcode, payload, rsv=RSV1), _TAIL)
GROUP.fails("on the last of two fragments", 1002, _HEAD, _TAIL._replace(rsv=RSV1))
GROUP.fails("on an empty fragment", 1002, _HEAD, more("", fin=False, rsv=RSV1), _TAIL)
GROUP.fails("on a fragment of a message that is not compressed", 1002, text("a", fin=False), more(_HELLO, rsv=RSV1))
GROUP.fails("on a continuation of nothing", 1002, more(_HELLO, rsv=RSV1))
GROUP.fails("on a reserved opcode", 1002, Frame(0x3, _HELLO, rsv=RSV1))
GROUP.fails("behind a good message", 1002, packed(_HELLO), ping(b"p", rsv=RSV1), messages=_ONE)

GROUP.part("RSV2 and RSV3 mean nothing all the same", "6455 5.2", setup="window 15", deflate=_PLAIN)
for bits in (1, 2, 3, 5, 6, 7):
    GROUP.fails(f"bits {bits:03b}", 1002, text(_HELLO, rsv=bits))

# The RFC names no code for it; 1007 is "data within a message that was not consistent with the type of the message".
GROUP.part("What is no DEFLATE", "7692 7.2.2", setup="window 15", deflate=_PLAIN)
for data, title in (
    (b"\xff" * 10, "a reserved kind of block"),
    (b"\x07", "a reserved kind of block in one byte"),
    (bytes.fromhex("000500000048656c6c6f00"), "a stored block whose length is not told twice"),
    (bytes.fromhex("04800000000000"), "a dynamic block without codes"),
    (bytes.fromhex("fdffffffffffff"), "a dynamic block of too many codes"),
    (b"Hello, this is not compressed", "text"),
    (Filler(1000, "noise").make(), "noise"),
    (bytes.fromhex("02 07 00"), "a distance before the beginning"),
    (_HELLO[:-2] + b"\xff\xff", "a good beginning"),
):
    GROUP.fails(title, 1007, packed(data))
GROUP.fails("behind a good message", 1007, packed(_HELLO), packed(b"\xff" * 10), messages=_ONE)
GROUP.fails("in the second fragment", 1007, packed(_HELLO[:3], fin=False), more(b"\xff" * 10))
GROUP.fails("in the first of two, whose second is never sent", 1007, packed(b"\xff" * 10, fin=False), Await(close=True))
GROUP.fails("byte by byte", 1007, packed(b"\xff" * 10), chop=BYTES)
GROUP.fails("a zlib header", 1007, packed(zlib.compress(_WORDS)))
GROUP.fails("a gzip header", 1007, packed(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + raw(_WORDS)))

# The next message would be read as the rest of this one.
GROUP.part("A message that ends inside a block", "7692 7.2.1", setup="window 15")
for deflate, name in ((_PLAIN, "takeover"), (_ALONE, "no takeover")):
    for at in (1, 2, 3, 5):
        GROUP.fails(f"{at} of 7 bytes, {name}", 1007, packed(_HELLO[:at]), deflate=deflate)
    GROUP.fails(f"half of 3000 bytes, {name}", 1007, packed(raw(_WORDS)[:100]), deflate=deflate)
    GROUP.fails(f"in a stored block, {name}", 1007, packed(bytes.fromhex("000500faff4865")), deflate=deflate)
    GROUP.fails(f"the four bytes not left out, {name}", 1007, packed(_HELLO + bytes.fromhex("00ffff")), deflate=deflate)
    # 7.2.3.4: the octet behind a block with BFINAL "is necessary to allow the payload to be decompressed".
    GROUP.fails(f"BFINAL without the octet behind it, {name}", 1007, packed(_ENDED), deflate=deflate)
    GROUP.fails(f"behind a good one, {name}", 1007, packed(_HELLO), packed(_HELLO[:3]), messages=_ONE, deflate=deflate)

# 7.2.2: the text is what comes out.
_EURO: Final = "\u20ac".encode()
GROUP.part("Compressed text that is no UTF-8", "6455 8.1", setup="window 15", deflate=_PLAIN)
for bad, title in (
    (b"\xff", "FF"),
    (b"\xc0\x80", "NUL in two bytes"),
    (b"\xed\xa0\x80", "a surrogate"),
    (b"\xf4\x90\x80\x80", "U+110000"),
    (_EURO[:2], "the first two of three"),
):
    GROUP.fails(title, 1007, packed(raw(bad)))
    GROUP.fails(f"{title}, behind 3000 bytes", 1007, packed(raw(_WORDS + bad)))
GROUP.fails(
    "in the first of two fragments, whose second is never sent",
    1007,
    packed(flushed(b"a\xffb", 2, zlib.Z_SYNC_FLUSH), fin=False),
    Await(close=True),
)
GROUP.fails(
    "from the first half of a frame", 1007, Torn(packed(raw(b"\xff" * 9000 + _NOISE * 20)), 60_000), Await(close=True)
)
GROUP.echo("binary is not looked at", BINARY, b"\xff")
GROUP.echoes("compressed binary is not looked at", Packed(BINARY, b"\xff\xfe"), messages=[(BINARY, b"\xff\xfe")])
GROUP.echoes("compressed bytes that are no UTF-8", packed(_HELLO), messages=_ONE)
_GREEK: Final = "\u03ba\u1f79\u03c3\u03bc\u03b5\U0001f600".encode()
GROUP.echoes("characters cut by fragments", Packed(TEXT, _GREEK * 20, 1), messages=[(TEXT, _GREEK * 20)])
GROUP.echoes("characters cut by flushes", packed(flushed(_GREEK, 1, zlib.Z_SYNC_FLUSH)), messages=[(TEXT, _GREEK)])

# -- limits -----------------------------------------------------------------------------------------------------------

GROUP.part("Over the limit of 1000 bytes, once inflated", "7692 8", setup="small compressed", deflate=_PLAIN)
GROUP.echoes("1000 bytes are not", Packed(BINARY, Filler(1000, "zeros")), messages=[(BINARY, Filler(1000, "zeros"))])
GROUP.fails("1001 bytes", 1009, Packed(BINARY, Filler(1001, "zeros")))
GROUP.fails("1001 bytes in two fragments", 1009, Packed(BINARY, Filler(1001, "json"), 200))
GROUP.fails("1 MiB in 1 KiB", 1009, binary(_ZEROS[:-4], rsv=RSV1))
GROUP.fails("1 MiB, whose end is never sent", 1009, Torn(binary(_ZEROS[:-4], rsv=RSV1), 900), Await(close=True))
GROUP.fails("1 GiB in 1 MiB", 1009, binary(_ZEROS * 1023 + _ZEROS[:-4], rsv=RSV1))
GROUP.fails("1 GiB of text", 1009, text(_ZEROS * 1023 + _ZEROS[:-4], rsv=RSV1))
GROUP.fails("1 MiB, then garbage", 1009, binary(_ZEROS + b"\xff" * 10, rsv=RSV1))
GROUP.fails(
    "behind a message and a Ping",
    1009,
    packed(_HELLO),
    ping(b"p"),
    binary(_ZEROS[:-4], rsv=RSV1),
    messages=_ONE,
    pongs=[b"p"],
)
GROUP.fails("11 fragments of 10", 1008, *cut_up(BINARY, raw(bytes(100)), *[1] * 10))
GROUP.echoes(
    "the limit is each message's own",
    *[Packed(BINARY, Filler(1000, "zeros"))] * 5,
    messages=[(BINARY, Filler(1000, "zeros"))] * 5,
)

GROUP.part("Over the limit of 16 MiB, once inflated", "7692 8", setup="window 15", deflate=_PLAIN)
GROUP.fails("1 GiB in 1 MiB", 1009, binary(_ZEROS * 1023 + _ZEROS[:-4], rsv=RSV1))
GROUP.fails("17 MiB in 17 frames", 1009, *cut_up(BINARY, _ZEROS * 17, *(len(_ZEROS) * (at + 1) for at in range(16))))
