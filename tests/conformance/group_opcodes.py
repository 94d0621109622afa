"""Reserved opcodes: RFC 6455 section 5.2."""

from __future__ import annotations

from typing import Final

from tests.conformance.model import BYTES, Await, Filler, Frame, Group, Torn, close, more, ping, text
from tests.support.client import TEXT

GROUP: Final = Group(4, "Opcodes")

_DATA: Final = range(0x3, 0x8)
_CONTROL: Final = range(0xB, 0x10)
_GOOD: Final = [(TEXT, b"good")]

# "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_."
for opcodes, kind in ((_DATA, "Reserved for data"), (_CONTROL, "Reserved for control")):
    GROUP.part(kind, "6455 5.2")
    for opcode in opcodes:
        GROUP.fails(f"opcode {opcode:X}, empty", 1002, Frame(opcode))
        GROUP.fails(f"opcode {opcode:X}, with a payload", 1002, Frame(opcode, b"hello"))
        GROUP.fails(f"opcode {opcode:X}, without FIN", 1002, Frame(opcode, b"hello", fin=False))
        GROUP.fails(
            f"opcode {opcode:X}, behind a message and a Ping",
            1002,
            text("good"),
            ping(b"p"),
            Frame(opcode, b"x"),
            text("ignored"),
            messages=_GOOD,
            pongs=[b"p"],
        )

GROUP.part("Between fragments", "6455 5.2")
for opcode in (*_DATA, *_CONTROL):
    GROUP.fails(f"opcode {opcode:X}", 1002, text("a", fin=False), Frame(opcode, b"x"), more("b"))

GROUP.part("As early as it can be known", "6455 5.2")
for opcode in (0x3, 0x7, 0xB, 0xF):
    GROUP.fails(f"opcode {opcode:X}, from its header", 1002, Torn(Frame(opcode, b"hello"), 0), Await(close=True))
    GROUP.fails(f"opcode {opcode:X}, byte by byte", 1002, text("good"), Frame(opcode, b"x"), messages=_GOOD, chop=BYTES)
GROUP.fails("opcode 3, of 1 MiB", 1002, Torn(Frame(0x3, Filler(1 << 20)), 0), Await(close=True))
GROUP.fails("opcode B, of 126 bytes", 1002, Frame(0xB, Filler(126)))
GROUP.fails("opcode B, then a Close", 1002, Frame(0xB), close(1000))
