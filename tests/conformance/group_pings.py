"""Pings and Pongs: RFC 6455 sections 5.5.2 and 5.5.3."""

from __future__ import annotations

from typing import Final

from tests.conformance.model import (
    BYE,
    BYTES,
    Await,
    Expected,
    Filler,
    Frame,
    Group,
    Rest,
    Torn,
    close,
    more,
    ping,
    pong,
    text,
)
from tests.support.client import PING, PONG, TEXT

GROUP: Final = Group(2, "Pings and pongs")

GROUP.part("A Ping is answered with its own payload", "6455 5.5.3")
for payload, title in (
    (b"", "empty"),
    (b"x", "one byte"),
    (b"Hello, world!", "text"),
    (b"\0", "a zero"),
    (bytes(range(0x80, 0xA0)), "bytes that are no UTF-8"),
    (b"\xff" * 20, "bytes of ones"),
    ("\u03ba\u1f79\u03c3\u03bc\u03b5".encode(), "characters of two and three bytes"),
    (Filler(124, "noise").make(), "124 bytes"),
    (Filler(125, "noise").make(), "125 bytes"),
    (bytes(125), "125 zeros"),
):
    GROUP.echoes(title, ping(payload), pongs=[payload])

GROUP.part("A Ping in segments", "6455 5.5.3")
for at in range(1, 8):
    GROUP.echoes(f"cut behind byte {at}", ping(b"abcd"), pongs=[b"abcd"], chop=(at,))
GROUP.echoes("byte by byte", ping(b"abcd"), pongs=[b"abcd"], chop=BYTES)
GROUP.echoes("125 bytes, byte by byte", ping(Filler(125).make()), pongs=[Filler(125).make()], chop=BYTES)

# 5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it already received a
# Close frame."
GROUP.part("Several Pings", "6455 5.5.2")
for number in (2, 10, 100):
    payloads = [str(index).encode() for index in range(number)]
    GROUP.echoes(f"{number} in one segment", *map(ping, payloads), pongs=payloads)
_TEN: Final = [b"payload-%d" % index for index in range(10)]
GROUP.echoes("10, byte by byte", *map(ping, _TEN), pongs=_TEN, chop=BYTES)
GROUP.echoes("10 that are equal", *[ping(b"same")] * 10, pongs=[b"same"] * 10)
GROUP.echoes(
    "each answered before the next is sent",
    *(step for index in range(5) for step in (ping(b"%d" % index), Await(pongs=index + 1))),
    pongs=[b"%d" % index for index in range(5)],
)

GROUP.part("Pings and messages", "6455 5.5.2")
GROUP.echoes("before a message", ping(b"p"), text("a"), messages=[(TEXT, b"a")], pongs=[b"p"])
GROUP.echoes("behind a message", text("a"), ping(b"p"), messages=[(TEXT, b"a")], pongs=[b"p"])
GROUP.echoes(
    "by turns, 20 times",
    *[text("a"), ping(b"p")] * 20,
    messages=[(TEXT, b"a")] * 20,
    pongs=[b"p"] * 20,
)
GROUP.echoes(
    "with the payload of the message", text("same"), ping(b"same"), messages=[(TEXT, b"same")], pongs=[b"same"]
)
GROUP.echoes(
    "answered before the message is complete",
    *(text("a", fin=False), ping(b"p"), Await(pongs=1), more("b")),
    messages=[(TEXT, b"ab")],
    pongs=[b"p"],
)
GROUP.echoes(
    "answered in the middle of a message's frame",
    *(ping(b"p"), Torn(text("abcdef"), 3), Await(pongs=1), Rest(text("abcdef"), 3)),
    messages=[(TEXT, b"abcdef")],
    pongs=[b"p"],
)

# 5.5.3: "A Pong frame MAY be sent unsolicited. [...] A response to an unsolicited Pong frame is not expected."
GROUP.part("A Pong that nobody asked for", "6455 5.5.3")
for payload in (b"", b"unasked", Filler(125, "noise").make()):
    GROUP.echoes(f"of {len(payload)} bytes", pong(payload))
GROUP.echoes("before a Ping", pong(b"no"), ping(b"yes"), pongs=[b"yes"])
GROUP.echoes("before a message", pong(b"no"), text("a"), messages=[(TEXT, b"a")])
GROUP.echoes("100 of them, then a Ping", *[pong(b"no")] * 100, ping(b"yes"), pongs=[b"yes"])
GROUP.echoes("in answer to nothing, byte by byte", pong(b"no"), ping(b"yes"), pongs=[b"yes"], chop=BYTES)
GROUP.echoes("between fragments", text("a", fin=False), pong(b"no"), more("b"), messages=[(TEXT, b"ab")])

# 5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented."
GROUP.part("A control frame that is too long", "6455 5.5")
for opcode, name in ((PING, "Ping"), (PONG, "Pong")):
    for size in (126, 127, 65535, 65536):
        GROUP.fails(f"{name} of {size} bytes", 1002, Frame(opcode, Filler(size)))
    GROUP.fails(f"{name} of 126 bytes, from its header", 1002, Torn(Frame(opcode, Filler(126)), 0), Await(close=True))
    GROUP.fails(f"{name} of 126 bytes, byte by byte", 1002, Frame(opcode, Filler(126)), chop=BYTES)
GROUP.fails("behind a message", 1002, text("a"), Frame(PING, Filler(126)), messages=[(TEXT, b"a")])

GROUP.part("A control frame in fragments", "6455 5.5")
for opcode, name in ((PING, "Ping"), (PONG, "Pong")):
    GROUP.fails(f"{name} without FIN", 1002, Frame(opcode, b"a", fin=False))
    GROUP.fails(f"empty {name} without FIN", 1002, Frame(opcode, fin=False))
    GROUP.fails(f"{name} and its continuation", 1002, Frame(opcode, b"a", fin=False), more("b"))
    GROUP.fails(f"{name} without FIN, between fragments", 1002, text("a", fin=False), Frame(opcode, fin=False))

GROUP.part("Our own Ping", "6455 5.5.2")
for payload in (b"", b"abc"):
    GROUP.case(
        f"of {len(payload)} bytes, answered",
        [text(b"!ping " + payload), pong(payload), text("a"), BYE],
        Expected(((TEXT, b"a"),), pings=(payload,)),
    )
GROUP.case("not answered", [text("!ping abc"), text("a"), BYE], Expected(((TEXT, b"a"),), pings=(b"abc",)))
GROUP.case("answered wrongly", [text("!ping abc"), pong(b"x"), BYE], Expected(pings=(b"abc",)))
GROUP.case(
    "answered by a Close", [text("!ping abc"), close(None)], Expected(pings=(b"abc",), close=1005, told=(1005, ""))
)
