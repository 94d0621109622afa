"""The closing handshake: RFC 6455 sections 5.5.1, 7.1 and 7.4."""

from __future__ import annotations

from typing import Any, Final

from tests.conformance.group_utf8 import BAD, SHORT
from tests.conformance.model import (
    ABNORMAL,
    BYE,
    BYTES,
    Await,
    Bytes,
    Expected,
    Filler,
    Frame,
    Group,
    HalfClose,
    Torn,
    binary,
    close,
    more,
    ping,
    pong,
    text,
)
from tests.support.client import BINARY, CLOSE, TEXT

GROUP: Final = Group(7, "Close codes and reasons")


def closes(title: str, code: int, reason: str = "", **fields: Any) -> None:
    """The peer's Close is echoed."""
    GROUP.case(title, [close(code, reason)], Expected(close=code, told=(code, reason)), **fields)


# 7.4.1 and IANA's registry; 7.4.2: 3000-3999 for libraries and frameworks, 4000-4999 for private use.
_GOOD: Final = (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3001, 3500, 3999, 4000, 4444, 4999)

GROUP.part("A code that may be sent", "6455 7.4")
for code in _GOOD:
    closes(f"{code}", code)
for code in _GOOD:
    closes(f"{code} with a reason", code, "because")

# "1005 is a reserved value and MUST NOT be set as a status code in a Close control frame by an endpoint", 1006 and 1015
# as well; 7.4.2: 0-999 "are not used", 1000-2999 "are reserved for definition by this protocol, its future revisions,
# and extensions specified in a permanent and readily available public specification".
GROUP.part("A code that must not be sent", "6455 7.4")
for code in (0, 1, 100, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 5001, 9999, 32768, 65535):
    GROUP.fails(f"{code}", 1002, close(code))
for code in (0, 999, 1005, 1006, 1015, 2999, 5000):
    GROUP.fails(f"{code} with a reason", 1002, close(code, "because"))
GROUP.fails("1005 behind a message", 1002, text("a"), close(1005), messages=[(TEXT, b"a")])
GROUP.fails("1006 byte by byte", 1002, close(1006), chop=BYTES)

GROUP.part("The payload of a Close", "6455 5.5.1")
GROUP.case("none: answered without a code", [close(None)], Expected(close=1005, told=(1005, "")))
GROUP.case("none, byte by byte", [close(None)], Expected(close=1005, told=(1005, "")), chop=BYTES)
# "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer".
for byte in (b"\x00", b"\x03", b"\xff"):
    GROUP.fails(f"one byte, {byte.hex().upper()}", 1002, Frame(CLOSE, byte))
GROUP.fails("one byte, behind a message", 1002, text("a"), Frame(CLOSE, b"\x03"), messages=[(TEXT, b"a")])
for size in (126, 127, 65536):
    GROUP.fails(f"{size} bytes", 1002, close(1000, Filler(size - 2).make()))
GROUP.fails("126 bytes, from its header", 1002, Torn(close(1000, Filler(124).make()), 0), Await(close=True))
closes("cut behind its first byte", 1000, "because", chop=(1,))
closes("cut inside the code", 1000, "because", chop=(-8,))
closes("byte by byte", 4321, "because", chop=BYTES)

# "Following the 2-byte integer, the body MAY contain UTF-8-encoded data with value /reason/".
GROUP.part("A reason", "6455 5.5.1")
for reason, title in (
    ("x", "one byte"),
    ("x" * 123, "123 bytes"),
    ("\u20ac", "one character of three bytes"),
    ("\u20ac" * 41, "123 bytes of characters of three"),
    ("\u00e9" * 61, "122 bytes of characters of two"),
    ("\U0001f600" * 30, "120 bytes of characters of four"),
    ("a\0b", "with a zero"),
    ("\ufeffa", "with a byte order mark"),
    ("\U0010ffff", "the last code point"),
    ("line\r\nline", "of two lines"),
):
    closes(title, 1000, reason)

GROUP.part("A reason that is no UTF-8", "6455 8.1")
for case in (*BAD, *SHORT):
    GROUP.fails(case.title, 1007, close(1000, case.data))
for case in BAD[::5]:
    GROUP.fails(f"behind valid text, {case.title}", 1007, close(4000, b"because " + case.data))
GROUP.fails("a character cut at 123 bytes", 1007, close(1000, ("x" * 121 + "\u20ac").encode()[:123]))
GROUP.fails("behind a message", 1007, text("a"), close(1000, b"\xff"), messages=[(TEXT, b"a")])
# Neither is right; which fault is told first is not said, and the code comes first on the wire.
GROUP.fails("with a bad code", 1002, close(1005, b"\xff"))

# 5.5.1: "The application MUST NOT send any more data frames after sending a Close frame." What comes all the same is
# discarded (1.4).
GROUP.part("What follows the peer's Close", "6455 1.4")
_AFTER: Final[dict[str, Bytes]] = {
    "text": text("ignored"),
    "binary": binary(b"ignored"),
    "a Ping": ping(b"ignored"),
    "a Pong": pong(b"ignored"),
    "a second Close": close(3000, "again"),
    "a reserved opcode": Frame(0x3, b"x"),
    "a reserved bit": text("x", rsv=4),
    "text that is no UTF-8": text(b"\xff"),
    "a continuation": more("x"),
    "half a frame": Torn(text("ignored"), 3),
    "64 KiB": Frame(BINARY, Filler(65536, "noise")),
    "a message over every limit": Torn(binary(b"x", length_bytes=8, announced=1 << 40), 1),
}
for name, step in _AFTER.items():
    GROUP.case(
        f"{name}, in one segment", [text("a"), close(4000), step], Expected(((TEXT, b"a"),), (), 4000, (4000, ""))
    )
for name in ("text", "a Ping", "a second Close", "64 KiB"):
    GROUP.case(
        f"{name}, once it was answered",
        [close(4000), Await(close=True), _AFTER[name]],
        Expected((), (), 4000, (4000, "")),
    )

GROUP.part("What comes before the peer's Close is answered first", "6455 5.5.1")
GROUP.case("a message", [text("a"), close(4000)], Expected(((TEXT, b"a"),), (), 4000, (4000, "")))
GROUP.case("a Ping", [ping(b"p"), close(4000)], Expected((), (b"p",), 4000, (4000, "")))
_MANY: Final = [(TEXT, str(index).encode()) for index in range(500)]
GROUP.case(
    "500 messages", [*(Frame(*message) for message in _MANY), close(4000)], Expected(tuple(_MANY), (), 4000, (4000, ""))
)
GROUP.case("1 MiB", [Frame(BINARY, Filler(1 << 20)), BYE], Expected(((BINARY, Filler(1 << 20)),)))

# 5.5.1: "After both sending and receiving a Close message, an endpoint considers the WebSocket connection closed and
# MUST close the underlying TCP connection."
_OURS: Final = Expected(close=4001, told=(1000, ""))
GROUP.part("Our own Close goes first", "6455 5.5.1")
GROUP.case(
    "answered with its code",
    [text("!close 4001 why"), Await(close=True), close(4001, "why")],
    _OURS._replace(told=(4001, "why")),
)
GROUP.case("answered with another code", [text("!close 4001"), Await(close=True), BYE], _OURS)
GROUP.case(
    "answered without a code", [text("!close 4001"), Await(close=True), close(None)], _OURS._replace(told=(1005, ""))
)
GROUP.case("answered byte by byte", [text("!close 4001"), Await(close=True), BYE], _OURS, chop=BYTES)
GROUP.case(
    "never answered, the stream ends",
    [text("!close 4001"), Await(close=True), HalfClose()],
    _OURS._replace(told=ABNORMAL),
)
for name in ("text", "binary", "a Ping", "a Pong", "64 KiB"):
    GROUP.case(f"{name}, then the answer", [text("!close 4001"), Await(close=True), _AFTER[name], BYE], _OURS)
GROUP.case(
    "half a message, then the answer", [text("!close 4001"), Await(close=True), text("a", fin=False), BYE], _OURS
)
for code in (1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999):
    GROUP.case(
        f"with {code}", [text(f"!close {code}"), Await(close=True), close(code)], Expected((), (), code, (code, ""))
    )

GROUP.part("Close crosses Close", "6455 7.1.5")
GROUP.case("in one segment with what makes us close", [text("!close 4001"), BYE], _OURS)
GROUP.case("with messages between", [text("!close 4001"), text("a"), ping(b"p"), BYE], _OURS)
GROUP.case(
    "in the middle of a message",
    [text("a", fin=False), ping(b"p"), more("b"), text("!close 4001"), BYE],
    _OURS._replace(messages=((TEXT, b"ab"),), pongs=(b"p",)),
)
GROUP.case("byte by byte", [text("!close 4001"), BYE], _OURS, chop=BYTES)
GROUP.case(
    "with a reason each", [text("!close 4001 ours"), close(3001, "theirs")], _OURS._replace(told=(3001, "theirs"))
)
GROUP.case("theirs without a code", [text("!close 4001"), close(None)], _OURS._replace(told=(1005, "")))
GROUP.case(
    "behind 64 KiB that is not looked at", [text("!close 4001"), Frame(BINARY, Filler(65536, "noise")), BYE], _OURS
)
GROUP.case(
    "and a second one of theirs", [text("!close 4001"), close(3001), close(3002)], _OURS._replace(told=(3001, ""))
)
