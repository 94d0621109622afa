"""Frames and their lengths: RFC 6455 sections 5.1 to 5.3."""

from __future__ import annotations

from typing import Final

from tests.conformance.model import (
    ABNORMAL,
    BYE,
    BYTES,
    CLIENT,
    SERVER,
    Expected,
    Filler,
    Fragments,
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
from tests.support.client import BINARY, CONTINUATION, TEXT

GROUP: Final = Group(1, "Framing and lengths")

_LENGTHS: Final = (0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537, 131072)

GROUP.part("Text of every kind of length", "6455 5.2")
for size in _LENGTHS:
    GROUP.echo(f"{size} bytes", TEXT, Filler(size))

GROUP.part("Binary of every kind of length", "6455 5.2")
for size in _LENGTHS:
    GROUP.echo(f"{size} bytes", BINARY, Filler(size, "noise"))

GROUP.part("A header in two segments, cut at every byte", "6455 5.2")
for size, header in ((5, 6), (300, 8), (70_000, 14)):
    for at in range(1, header + 2):
        GROUP.echo(f"frame of {size} bytes, cut behind byte {at}", BINARY, Filler(size, "noise"), chop=(at,))

GROUP.part("A frame in many segments", "6455 5.2")
for size in (0, 1, 20):
    GROUP.echo(f"{size} bytes of text, byte by byte", TEXT, Filler(size), chop=BYTES)
for size in (125, 126):
    GROUP.echo(f"{size} bytes, in segments of 7", BINARY, Filler(size, "noise"), chop=7)
for size in (65535, 65536):
    GROUP.echo(f"{size} bytes, in segments of 997", BINARY, Filler(size, "noise"), chop=997)
for at in (-1, -2, -7, -9):
    title = f"two frames and a Close, cut {-at} bytes before the end"
    GROUP.echoes(title, text("one"), text("two"), messages=[(TEXT, b"one"), (TEXT, b"two")], chop=(at,))

GROUP.part("Many frames in one segment", "6455 5.2")
for number in (2, 10, 100, 1000):
    payloads = [str(index).encode() for index in range(number)]
    GROUP.echoes(f"{number} texts", *map(text, payloads), messages=[(TEXT, payload) for payload in payloads])
GROUP.echoes("100 empty messages", *[binary(b"")] * 100, messages=[(BINARY, b"")] * 100)
GROUP.echoes("100 texts in segments of 5 bytes", *[text("abc")] * 100, messages=[(TEXT, b"abc")] * 100, chop=5)
_BOTH_KINDS: Final = [(TEXT, b"t"), (BINARY, b"b")] * 20
GROUP.echoes("text and binary by turns", *(Frame(*message) for message in _BOTH_KINDS), messages=_BOTH_KINDS)
_LARGE: Final = [(BINARY, Filler(size, "noise")) for size in (65536, 0, 126, 70_000, 125, 1)]
GROUP.echoes("long and short by turns", *(Frame(*message) for message in _LARGE), messages=_LARGE)

# "Note that in all cases, the minimal number of bytes MUST be used to encode the length".
GROUP.part("A length that is not told in its shortest form", "6455 5.2")
for size, width in ((0, 2), (1, 2), (125, 2), (0, 8), (1, 8), (125, 8), (126, 8), (65535, 8)):
    GROUP.fails(f"{size} in {width} bytes", 1002, Frame(BINARY, Filler(size, "noise"), length_bytes=width))
GROUP.fails("5 in 2 bytes, on a Ping", 1002, ping(b"12345", length_bytes=2))
GROUP.fails("5 in 8 bytes, on a Ping", 1002, ping(b"12345", length_bytes=8))
GROUP.fails("2 in 2 bytes, on a Close", 1002, close(1000, length_bytes=2))
GROUP.fails("1 in 2 bytes, on a continuation", 1002, text("a", fin=False), more("b", length_bytes=2))
GROUP.fails("1 in 2 bytes, behind a good message", 1002, text("a"), text("b", length_bytes=2), messages=[(TEXT, b"a")])
GROUP.fails("1 in 2 bytes, byte by byte", 1002, text("b", length_bytes=2), chop=BYTES)

# "the most significant bit MUST be 0"
GROUP.part("A length with its most significant bit set", "6455 5.2")
for title, length in (("2^63", 1 << 63), ("2^63 + 5", (1 << 63) + 5), ("2^64 - 1", (1 << 64) - 1)):
    GROUP.fails(title, 1002, binary(b"12345", length_bytes=8, announced=length))
    GROUP.fails(f"{title}, byte by byte", 1002, binary(b"12345", length_bytes=8, announced=length), chop=BYTES)

# "The server MUST close the connection upon receiving a frame that is not masked.  In this case, a server MAY send a
# Close frame with a status code of 1002 [...] A client MUST close a connection if it detects a masked frame.  In this
# case, it MAY use the status code 1002".
GROUP.part("Masked by a server, or not masked by a client", "6455 5.1")
for frame, title in (
    (text("hello"), "text"),
    (text(""), "empty text"),
    (binary(b"hello"), "binary"),
    (ping(b"hello"), "Ping"),
    (ping(), "empty Ping"),
    (pong(b"hello"), "Pong"),
    (close(1000), "Close"),
    (close(None), "Close without a code"),
    (Frame(BINARY, Filler(126, "noise")), "126 bytes"),
    (Frame(BINARY, Filler(65536, "noise")), "65536 bytes"),
):
    GROUP.fails(title, 1002, frame._replace(is_mask_wrong=True))
GROUP.fails("behind a good message", 1002, text("a"), text("b", is_mask_wrong=True), messages=[(TEXT, b"a")])
GROUP.fails("a continuation", 1002, text("a", fin=False), more("b", is_mask_wrong=True))

GROUP.part("Masking keys", "6455 5.3", roles=(SERVER,))
for key in ("00000000", "ffffffff", "00000001", "80000000", "37fa213d"):
    GROUP.echoes(f"key {key}", text("Hello", key=bytes.fromhex(key)), messages=[(TEXT, b"Hello")])
GROUP.echoes(
    "a key for each fragment",
    *(text("Hel", fin=False, key=b"1234"), more("l", fin=False, key=b"\0\xff\0\xff"), more("o", key=b"abcd")),
    messages=[(TEXT, b"Hello")],
)
for at in (7, 8, 9, 10, 11):
    GROUP.echo(f"payload cut behind its byte {at - 6}", TEXT, b"Hello, you", chop=(at,))

GROUP.part("Masking keys of wsd's own frames differ", "6455 5.3", roles=(CLIENT,))
GROUP.echoes("200 echoes", *[text("same")] * 200, messages=[(TEXT, b"same")] * 200)

GROUP.part("The RFC's examples", "6455 5.7")
GROUP.echo("a single-frame text message", TEXT, b"Hello")
GROUP.echoes("a fragmented text message", text("Hel", fin=False), more("lo"), messages=[(TEXT, b"Hello")])
GROUP.echoes("Ping", ping(b"Hello"), pongs=[b"Hello"])
GROUP.echo("256 bytes of binary in one frame", BINARY, Filler(256, "noise"))
GROUP.echo("64 KiB of binary in one frame", BINARY, Filler(65536, "noise"))

_END: Final = Expected(close=None, told=ABNORMAL)

# "If _The WebSocket Connection is Closed_ and no Close control frame was received by the endpoint [...], _The WebSocket
# Connection Close Code_ is considered to be 1006."
GROUP.part("The stream ends without a Close", "6455 7.1.5")
GROUP.case("at once", [HalfClose()], _END)
GROUP.case("behind a message", [text("a"), HalfClose()], _END._replace(messages=((TEXT, b"a"),)))
GROUP.case("behind a Ping", [ping(b"a"), HalfClose()], _END._replace(pongs=(b"a",)))
GROUP.case("between two fragments", [text("a", fin=False), HalfClose()], _END)
for size in (1, 2, 3, 4, 7):
    GROUP.case(f"behind byte {size} of a frame", [Torn(Frame(BINARY, Filler(300)), size, False), HalfClose()], _END)
for size in (0, 1, 299):
    GROUP.case(f"behind byte {size} of its payload", [Torn(Frame(BINARY, Filler(300)), size), HalfClose()], _END)
GROUP.case("inside a Close", [Torn(close(1000, "bye"), 3), HalfClose()], _END)
GROUP.case(
    "in the second of two fragments",
    [Fragments(TEXT, b"abcdef", 6), text("a", fin=False), Torn(Frame(CONTINUATION, b"bcd"), 2), HalfClose()],
    _END._replace(messages=((TEXT, b"abcdef"),)),
)
GROUP.case("behind the Close", [text("a"), BYE, HalfClose()], Expected(((TEXT, b"a"),)))
