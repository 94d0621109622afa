"""What both sides refuse with the same code; `differences.py` has the rest."""

from __future__ import annotations

from tests.differential.raw import RSV1, Raw, binary, close, deflated, more, ping, text
from wsd.wire.frames import CLOSE_FRAME

VIOLATIONS = [
    (1002, [Raw(opcode)]) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
] + [
    (1002, [text("a", rsv=1)]),
    (1002, [text("a", rsv=2)]),
    (1002, [text("a", rsv=4)]),
    (1002, [ping(rsv=4)]),
    (1002, [text("a", wrongly_masked=True)]),
    (1002, [ping(wrongly_masked=True)]),
    (1002, [ping(b"x" * 126)]),
    (1002, [ping(final=False)]),
    (1002, [more(b"a")]),
    (1002, [more(b"a", final=False)]),
    (1002, [text("a", final=False), text("b")]),
    (1002, [text("a", final=False), binary(b"b", final=False)]),
    (1002, [text("a"), more(b"b")]),
    (1007, [text(b"\xff")]),
    (1007, [text(b"\xc3")]),
    (1007, [text(b"\xed\xa0\x80")]),
    (1007, [text(b"\xf4\x90\x80\x80")]),
    (1007, [text(b"\xc3", final=False), more(b"\x28")]),
    (1007, [text(b"\xc3", final=False), more(b"")]),
    (1002, [Raw(CLOSE_FRAME, b"\x03")]),
    *((1002, [close(code)]) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)),
    (1007, [close(1000, b"\xff")]),
    (1007, [close(1000, b"\xc3")]),
]  # fmt: skip

COMPRESSED_VIOLATIONS = [
    (1002, [ping(rsv=RSV1)]),
    (1002, [Raw(CLOSE_FRAME, rsv=RSV1)]),
    (1002, [text(deflated(b"abc")[:3], final=False, rsv=RSV1), more(deflated(b"abc")[3:], rsv=RSV1)]),
    (1002, [text("abc", final=False), more(b"def", rsv=RSV1)]),
    (1002, [text(deflated(b"abc"), rsv=RSV1 | 1)]),
    (1007, [text(deflated(b"\xff"), rsv=RSV1)]),
    (1007, [text(deflated(b"\xc3")[:2], final=False, rsv=RSV1), ping(), more(deflated(b"\xc3")[2:])]),
]
