"""Reserved bits without an extension: RFC 6455 section 5.2."""

from __future__ import annotations

from typing import Final

from tests.conformance.model import BYTES, Await, Filler, Frame, Group, Torn, close, more, ping, text
from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

GROUP: Final = Group(3, "Reserved bits")

_NAMES: Final = {1: "RSV3", 2: "RSV2", 3: "RSV2 and 3", 4: "RSV1", 5: "RSV1 and 3", 6: "RSV1 and 2", 7: "all three"}
_KINDS: Final = {TEXT: "text", BINARY: "binary", PING: "a Ping", PONG: "a Pong", CLOSE: "a Close"}

# "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values. If a nonzero value is received
# and none of the negotiated extensions defines the meaning of such a nonzero value, the receiving endpoint MUST _Fail
# the WebSocket Connection_."
for opcode, kind in _KINDS.items():
    GROUP.part(f"On {kind}", "6455 5.2")
    payload = b"\x03\xe8" if opcode == CLOSE else b"hello"
    for bits, name in _NAMES.items():
        GROUP.fails(name, 1002, Frame(opcode, payload, rsv=bits))

GROUP.part("On a fragment", "6455 5.2")
for bits, name in _NAMES.items():
    GROUP.fails(f"{name}, the first", 1002, text("a", fin=False, rsv=bits), more("b"))
for bits, name in _NAMES.items():
    GROUP.fails(f"{name}, the last", 1002, text("a", fin=False), more("b", rsv=bits))
GROUP.fails("RSV1, one in the middle", 1002, text("a", fin=False), more("b", fin=False, rsv=4), more("c"))

GROUP.part("In company", "6455 5.2")
_GOOD: Final = [(TEXT, b"good")]
for bits, name in _NAMES.items():
    GROUP.fails(
        f"{name}, behind a message and a Ping",
        1002,
        text("good"),
        ping(b"p"),
        text("bad", rsv=bits),
        messages=_GOOD,
        pongs=[b"p"],
    )
GROUP.fails("RSV1, before a message that is not looked at", 1002, text("bad", rsv=4), text("good"), close())
GROUP.fails("RSV1, from the header alone", 1002, Torn(text("hello", rsv=4), 0), Await(close=True))
GROUP.fails(
    "RSV1, from the first byte of 64 KiB", 1002, Torn(Frame(BINARY, Filler(65536), rsv=4), 1), Await(close=True)
)
GROUP.fails("RSV2, byte by byte", 1002, text("good"), text("bad", rsv=2), messages=_GOOD, chop=BYTES)
GROUP.fails("RSV1, on an empty text", 1002, text("", rsv=4))
GROUP.fails("RSV1, on an empty continuation", 1002, text("a", fin=False), Frame(CONTINUATION, rsv=4))
