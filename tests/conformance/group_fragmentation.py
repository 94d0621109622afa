"""Fragmentation: RFC 6455 section 5.4."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Final

from tests.conformance.model import (
    BYE,
    BYTES,
    Await,
    Expected,
    Filler,
    Fragments,
    Frame,
    Group,
    binary,
    close,
    more,
    ping,
    pong,
    text,
)
from tests.support.client import BINARY, CONTINUATION, TEXT

GROUP: Final = Group(5, "Fragmentation")


def in_parts(opcode: int, *parts: bytes) -> list[Frame]:
    """A message of these fragments."""
    last = len(parts) - 1
    return [Frame(CONTINUATION if at else opcode, part, at == last) for at, part in enumerate(parts)]


_AB: Final = [(TEXT, b"ab")]

GROUP.part("A message of two fragments", "6455 5.4")
for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
    GROUP.echoes(name, *in_parts(opcode, b"a", b"b"), messages=[(opcode, b"ab")])
    GROUP.echoes(f"{name}, the first empty", *in_parts(opcode, b"", b"b"), messages=[(opcode, b"b")])
    GROUP.echoes(f"{name}, the last empty", *in_parts(opcode, b"a", b""), messages=[(opcode, b"a")])
    GROUP.echoes(f"{name}, both empty", *in_parts(opcode, b"", b""), messages=[(opcode, b"")])
GROUP.echoes("byte by byte", *in_parts(TEXT, b"a", b"b"), messages=_AB, chop=BYTES)
GROUP.echoes(
    "the second sent when a Ping behind the first was answered",
    *(text("a", fin=False), ping(), Await(pongs=1), more("b")),
    messages=_AB,
    pongs=[b""],
)

# "The sender MAY create fragments of any size for non-control messages."
GROUP.part("Every way to cut five bytes", "6455 5.4")
for cuts in range(1, 5):
    for at in combinations(range(1, 5), cuts):
        parts = [b"abcde"[start:end] for start, end in pairwise([0, *at, 5])]
        GROUP.echoes(" ".join(part.decode() for part in parts), *in_parts(TEXT, *parts), messages=[(TEXT, b"abcde")])

GROUP.part("Many fragments", "6455 5.4")
for number in (3, 10, 100, 1000):
    GROUP.echoes(f"{number} of a byte", Fragments(TEXT, b"x" * number, 1), messages=[(TEXT, b"x" * number)])
GROUP.echoes("100 empty ones", *in_parts(BINARY, *[b""] * 100), messages=[(BINARY, b"")])
GROUP.echoes(
    "100 empty ones around one byte", *in_parts(BINARY, *[b""] * 50, b"x", *[b""] * 50), messages=[(BINARY, b"x")]
)
GROUP.echoes("20 of a byte, byte by byte", Fragments(TEXT, b"x" * 20, 1), messages=[(TEXT, b"x" * 20)], chop=BYTES)
for size in (125, 126, 65535, 65536):
    whole = Filler(3 * size, "noise")
    GROUP.echoes(f"3 of {size} bytes", Fragments(BINARY, whole, size), messages=[(BINARY, whole)])
GROUP.echoes(
    "of every kind of length",
    *in_parts(BINARY, *(Filler(size, "noise").make() for size in (0, 1, 126, 65536, 125, 0))),
    messages=[(BINARY, b"".join(Filler(size, "noise").make() for size in (1, 126, 65536, 125)))],
)

GROUP.part("Several messages", "6455 5.4")
GROUP.echoes("two", *in_parts(TEXT, b"a", b"b"), *in_parts(TEXT, b"c", b"d"), messages=[*_AB, (TEXT, b"cd")])
GROUP.echoes(
    "text, then binary that is no UTF-8",
    *(*in_parts(TEXT, b"a", b"b"), *in_parts(BINARY, b"\xff", b"\xfe")),
    messages=[*_AB, (BINARY, b"\xff\xfe")],
)
GROUP.echoes("whole behind fragmented", *in_parts(TEXT, b"a", b"b"), text("c"), messages=[*_AB, (TEXT, b"c")])
GROUP.echoes("fragmented behind whole", text("c"), *in_parts(TEXT, b"a", b"b"), messages=[(TEXT, b"c"), *_AB])
GROUP.echoes("20 in one segment", *in_parts(TEXT, b"a", b"b") * 20, messages=_AB * 20)
GROUP.echoes("20 in segments of 5 bytes", *in_parts(TEXT, b"a", b"b") * 20, messages=_AB * 20, chop=5)

# "Control frames [...] MAY be injected in the middle of a fragmented message."
GROUP.part("Control frames between fragments", "6455 5.4")
for payload in (b"", b"p", Filler(125, "noise").make()):
    GROUP.echoes(
        f"a Ping of {len(payload)} bytes",
        *(text("a", fin=False), ping(payload), more("b")),
        messages=_AB,
        pongs=[payload],
    )
GROUP.echoes("a Pong", text("a", fin=False), pong(b"p"), more("b"), messages=_AB)
_CONTROLLED: Final = (
    *(ping(b"1"), text("a", fin=False), ping(b"2"), pong(b"x"), more("", fin=False), ping(b"3"), more("b"), ping(b"4")),
)
GROUP.echoes("at every place", *_CONTROLLED, messages=_AB, pongs=[b"1", b"2", b"3", b"4"])
GROUP.echoes("at every place, byte by byte", *_CONTROLLED, messages=_AB, pongs=[b"1", b"2", b"3", b"4"], chop=BYTES)
GROUP.echoes(
    "a Ping behind each of 50 fragments",
    *(step for frame in in_parts(TEXT, *[b"x"] * 50) for step in (frame, ping(b"p"))),
    messages=[(TEXT, b"x" * 50)],
    pongs=[b"p"] * 50,
)
GROUP.echoes(
    "ten Pings in a row",
    *(text("a", fin=False), *(ping(b"%d" % index) for index in range(10)), more("b")),
    messages=_AB,
    pongs=[b"%d" % index for index in range(10)],
)
GROUP.echoes(
    "a Ping of bytes that are no UTF-8, in a cut character",
    *(Frame(TEXT, b"\xe2\x82", False), ping(b"\xff\xfe"), more(b"\xac")),
    messages=[(TEXT, b"\xe2\x82\xac")],
    pongs=[b"\xff\xfe"],
)

_UNFINISHED: Final = Expected(close=1000)
GROUP.part("A Close between fragments", "6455 5.5.1")
GROUP.case("in place of the last", [text("a", fin=False), BYE], _UNFINISHED)
GROUP.case("before a continuation, which is not looked at", [text("a", fin=False), BYE, more("b")], _UNFINISHED)
GROUP.case("byte by byte", [text("a", fin=False), BYE], _UNFINISHED, chop=BYTES)
GROUP.case(
    "behind a whole message and a Ping",
    [text("c"), text("a", fin=False), ping(b"p"), close(3000, "enough")],
    Expected(((TEXT, b"c"),), (b"p",), 3000, (3000, "enough")),
)

# "A fragmented message consists of a single frame with the FIN bit clear and an opcode other than 0, followed by zero
# or more frames with the FIN bit clear and the opcode set to 0".
GROUP.part("A continuation of nothing", "6455 5.4")
for fin, name in ((True, "with FIN"), (False, "without FIN")):
    GROUP.fails(f"{name}, at first", 1002, more("a", fin=fin))
    GROUP.fails(f"{name}, empty", 1002, more("", fin=fin))
    GROUP.fails(f"{name}, behind a message", 1002, text("a"), more("b", fin=fin), messages=[(TEXT, b"a")])
    GROUP.fails(f"{name}, behind fragments", 1002, *in_parts(TEXT, b"a", b"b"), more("c", fin=fin), messages=_AB)
GROUP.fails("before a message", 1002, more("a"), text("b"))
GROUP.fails("behind a Ping", 1002, ping(b"p"), more("a"), pongs=[b"p"])
GROUP.fails("byte by byte", 1002, text("a"), more("b"), messages=[(TEXT, b"a")], chop=BYTES)

# "The fragments of one message MUST NOT be interleaved between the fragments of another message".
GROUP.part("A message inside a message", "6455 5.4")
for first in (text("a", fin=False), binary(b"a", fin=False)):
    for second in (text("b"), text("b", fin=False), binary(b"b"), binary(b"b", fin=False)):
        names = [
            f"{'text' if frame.opcode == TEXT else 'binary'}{'' if frame.fin else ' that goes on'}"
            for frame in (second, first)
        ]
        GROUP.fails(f"{names[0]}, in {names[1]}", 1002, first, second, more("c"))
GROUP.fails("empty text in empty text", 1002, text("", fin=False), text(""))
GROUP.fails("in the third fragment", 1002, text("a", fin=False), more("b", fin=False), text("c"), more("d"))
GROUP.fails("behind a Ping", 1002, text("a", fin=False), ping(b"p"), text("b"), pongs=[b"p"])
GROUP.fails("byte by byte", 1002, text("a", fin=False), text("b"), chop=BYTES)

GROUP.part("A Close in fragments", "6455 5.5")
GROUP.fails("without FIN", 1002, close(1000, fin=False))
GROUP.fails("empty, without FIN", 1002, close(None, fin=False))
GROUP.fails("and its continuation", 1002, Frame(0x8, b"\x03", fin=False), more(b"\xe8"))
GROUP.fails("inside a message", 1002, text("a", fin=False), close(1000, fin=False))
