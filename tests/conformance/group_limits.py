"""Sizes up to 16 MiB, and what is over a limit: RFC 6455 sections 5.2, 7.4.1 and 10.4.

wsd is set to messages of at most 16 MiB, and in part 8.6 and 8.7 to 1000 bytes in at most 10 fragments.
"""

from __future__ import annotations

from typing import Final

from tests.conformance.model import (
    Await,
    Filler,
    Fragments,
    Frame,
    Group,
    Torn,
    binary,
    more,
    ping,
    text,
)
from tests.support.client import BINARY, TEXT

GROUP: Final = Group(8, "Limits and sizes")

KIB: Final = 1024
MIB: Final = 1024 * KIB


def human(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB" if size >= KIB else f"{size} bytes"


GROUP.part("One frame", "6455 5.2")
for size in (64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB):
    GROUP.echo(f"{human(size)} of text", TEXT, Filler(size))
    GROUP.echo(f"{human(size)} of binary", BINARY, Filler(size, "noise"))

GROUP.part("1 MiB in frames", "6455 5.4")
for frame in (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB):
    for opcode, name, kind in ((TEXT, "text", "text"), (BINARY, "binary", "noise")):
        payload = Filler(MIB, kind)
        GROUP.echoes(f"of {human(frame)}, {name}", Fragments(opcode, payload, frame), messages=[(opcode, payload)])

GROUP.part("16 MiB in frames", "6455 5.4")
for frame in (64, 64 * KIB, MIB, 4 * MIB):
    payload = Filler(16 * MIB, "noise")
    GROUP.echoes(f"of {human(frame)}", Fragments(BINARY, payload, frame), messages=[(BINARY, payload)])

GROUP.part("256 KiB in segments", "6455 5.2")
for segment in (999, 4001, 16_001, 65_537):
    GROUP.echo(f"of {segment} bytes", TEXT, Filler(256 * KIB), chop=segment)

GROUP.part("Many messages", "6455 5.2")
for number, size in ((1000, 0), (1000, 16), (1000, 64), (1000, 1000), (500, 4096), (100, 65536)):
    message = (BINARY, Filler(size, "noise"))
    GROUP.echoes(f"{number} of {human(size)}", *[Frame(*message)] * number, messages=[message] * number)
GROUP.echoes(
    "100 of 100 bytes, each awaited",
    *(step for index in range(100) for step in (Frame(TEXT, Filler(100)), Await(messages=index + 1))),
    messages=[(TEXT, Filler(100))] * 100,
)
GROUP.echoes(
    "50 of 4 KiB, a Ping behind each",
    *[Frame(BINARY, Filler(4096, "noise")), ping(b"p")] * 50,
    messages=[(BINARY, Filler(4096, "noise"))] * 50,
    pongs=[b"p"] * 50,
)

# 7.4.1: "1009 indicates that an endpoint is terminating the connection because it has received a message that is too
# big for it to process."
GROUP.part("Messages over the limit of 1000 bytes", "6455 7.4.1", setup="small")
for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
    GROUP.echo(f"{name} of 1000 bytes is not", opcode, Filler(1000))
    GROUP.fails(f"{name} of 1001 bytes", 1009, Frame(opcode, Filler(1001)))
    GROUP.fails(f"{name} of 1001 bytes, from its header", 1009, Torn(Frame(opcode, Filler(1001)), 0), Await(close=True))
GROUP.echoes(
    "fragments of 1000 bytes in all are not", Fragments(BINARY, Filler(1000), 100), messages=[(BINARY, Filler(1000))]
)
GROUP.fails("fragments of 1001 bytes in all", 1009, Fragments(BINARY, Filler(1001), 101))
GROUP.fails(
    "a last fragment of one byte, from its header",
    1009,
    *(Frame(BINARY, Filler(1000), False), Torn(more("x"), 0), Await(close=True)),
)
for power in (17, 24, 31, 32, 40, 62):
    announcing = binary(b"x", length_bytes=8, announced=1 << power)
    GROUP.fails(f"2^{power} bytes, from the header", 1009, Torn(announcing, 0), Await(close=True))
GROUP.fails(
    "2^63 - 1 bytes, from the header",
    1009,
    Torn(binary(b"x", length_bytes=8, announced=(1 << 63) - 1), 0),
    Await(close=True),
)
GROUP.fails("1 MiB, of which all is sent", 1009, Frame(BINARY, Filler(MIB)))
GROUP.fails(
    "behind a message and a Ping",
    1009,
    text("a"),
    ping(b"p"),
    Frame(BINARY, Filler(1001)),
    messages=[(TEXT, b"a")],
    pongs=[b"p"],
)
GROUP.echoes("the limit is each message's own", *[Frame(TEXT, Filler(1000))] * 5, messages=[(TEXT, Filler(1000))] * 5)
GROUP.fails(
    "no UTF-8, and over the limit only later", 1007, Torn(Frame(TEXT, b"\xff" + bytes(900)), 1), Await(close=True)
)

# 10.4: "Implementations that have implementation- and/or platform-specific limitations regarding the frame size or
# total message size after reassembly from multiple frames MUST protect themselves against exceeding those limits."
GROUP.part("Messages over the limit of 10 fragments", "6455 10.4", setup="small")
_TEN: Final = [binary(b"x", fin=False), *[more(b"x", fin=False)] * 8]
GROUP.echoes("10 are not", *_TEN, more("x"), messages=[(BINARY, b"x" * 10)])
GROUP.fails("11", 1008, *_TEN, more("x", fin=False), more("x"))
GROUP.fails("11 empty ones", 1008, binary(b"", fin=False), *[more(b"", fin=False)] * 9, more(b""))
GROUP.fails("10,000 empty ones", 1008, binary(b"", fin=False), *[more(b"", fin=False)] * 10_000)
GROUP.fails(
    "a Ping between each",
    1008,
    *(step for frame in (*_TEN, more("x", fin=False)) for step in (frame, ping())),
    more("x"),
    pongs=[b""] * 10,
)
GROUP.echoes("the limit is each message's own", *[*_TEN, more("x")] * 3, messages=[(BINARY, b"x" * 10)] * 3)

GROUP.part("Messages over the limit of 16 MiB", "6455 7.4.1")
GROUP.fails(
    "by one byte, from its header", 1009, Torn(Frame(BINARY, Filler(16 * MIB + 1, "zeros")), 0), Await(close=True)
)
GROUP.fails("by one byte, in frames of 4 MiB", 1009, Fragments(BINARY, Filler(16 * MIB + 1, "zeros"), 4 * MIB))
