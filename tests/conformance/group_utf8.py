"""UTF-8 in text messages: RFC 6455 sections 5.6 and 8.1, and RFC 3629."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.conformance.model import (
    BYTES,
    Await,
    Filler,
    Fragments,
    Frame,
    Group,
    Rest,
    Torn,
    binary,
    close,
    more,
    ping,
    text,
)
from tests.support.client import BINARY, TEXT

GROUP: Final = Group(6, "UTF-8")


class Bad(NamedTuple):
    """Bytes that are no UTF-8; behind byte number `at` it is beyond doubt (RFC 3629 4), which with a sequence that is
    only too short is behind its last byte."""

    data: bytes
    at: int
    title: str


def bad(data: str, at: int, title: str) -> Bad:
    return Bad(bytes.fromhex(data), at, f"{title}: {data.upper()}")


# RFC 3629 4: UTF8-2 = %xC2-DF UTF8-tail; UTF8-3 = %xE0 %xA0-BF UTF8-tail / ... / %xED %x80-9F UTF8-tail / ...;
# UTF8-4 = %xF0 %x90-BF 2( UTF8-tail ) / ... / %xF4 %x80-8F 2( UTF8-tail ).
BAD: Final = [
    bad("80", 1, "a tail byte alone"),
    bad("bf", 1, "the last tail byte alone"),
    bad("80 bf 80", 1, "three tail bytes"),
    bad("c0 80", 1, "NUL in two bytes"),
    bad("c0 af", 1, "a slash in two bytes"),
    bad("c1 bf", 1, "U+007F in two bytes"),
    bad("e0 80 80", 2, "NUL in three bytes"),
    bad("e0 80 af", 2, "a slash in three bytes"),
    bad("e0 9f bf", 2, "U+07FF in three bytes"),
    bad("f0 80 80 80", 2, "NUL in four bytes"),
    bad("f0 80 80 af", 2, "a slash in four bytes"),
    bad("f0 8f bf bf", 2, "U+FFFF in four bytes"),
    bad("f8 88 80 80 80", 1, "five bytes"),
    bad("fb bf bf bf bf", 1, "five bytes, the last"),
    bad("fc 84 80 80 80 80", 1, "six bytes"),
    bad("fd bf bf bf bf bf", 1, "six bytes, the last"),
    bad("fe", 1, "FE"),
    bad("ff", 1, "FF"),
    bad("fe fe ff ff", 1, "FE and FF"),
    bad("ed a0 80", 2, "the first high surrogate"),
    bad("ed af bf", 2, "the last high surrogate"),
    bad("ed b0 80", 2, "the first low surrogate"),
    bad("ed bf bf", 2, "the last low surrogate"),
    bad("ed a0 80 ed b0 80", 2, "a pair of surrogates"),
    bad("f4 90 80 80", 2, "U+110000"),
    bad("f5 80 80 80", 1, "beyond U+10FFFF"),
    bad("f7 bf bf bf", 1, "the last of four bytes"),
    bad("c2 41", 2, "a letter in place of the second of two"),
    bad("e2 82 41", 3, "a letter in place of the third of three"),
    bad("e2 41 ac", 2, "a letter in place of the second of three"),
    bad("f0 9f 98 41", 4, "a letter in place of the fourth of four"),
    bad("c2 c2 80", 2, "two first bytes"),
    bad("e2 82 e2 82 ac", 3, "a character begun anew"),
    bad("c3 28", 2, "a bracket as a tail byte"),
]
# Only the end of the message tells.
SHORT: Final = [
    bad("c2", 1, "the first of two"),
    bad("df", 1, "the last first byte of two"),
    bad("e0", 1, "the first of three"),
    bad("e2 82", 2, "the first two of three"),
    bad("f0", 1, "the first of four"),
    bad("f0 90", 2, "the first two of four"),
    bad("f0 9f 98", 3, "the first three of four"),
    bad("ed 9f", 2, "the first two of U+D7FF"),
    bad("f4 8f bf", 3, "the first three of U+10FFFF"),
]
_POINTS: Final = (
    *(0x00, 0x01, 0x0A, 0x7F, 0x80, 0xA9, 0x7FF, 0x800, 0x20AC, 0xD7FF, 0xE000, 0xFDD0, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF),
    *(0x10000, 0x1F600, 0x1FFFE, 0x1FFFF, 0x20000, 0x8FFFF, 0xE0001, 0xFFFFF, 0x100000, 0x10FFFE, 0x10FFFF),
)

# Noncharacters are code points as good as any (RFC 3629 3 leaves out the surrogates alone).
GROUP.part("Every first and last code point of each length", "6455 5.6")
for point in _POINTS:
    GROUP.echo(f"U+{point:04X}", TEXT, chr(point).encode())

# Characters of one to four bytes; cut anywhere.
_SAMPLE: Final = "a\u00e9\u03c3\u20ac\u1f79\U0001f600z".encode()

GROUP.part("Valid text", "6455 5.6")
GROUP.echo("Greek", TEXT, "\u03ba\u1f79\u03c3\u03bc\u03b5".encode())
GROUP.echo("of all lengths", TEXT, _SAMPLE)
GROUP.echo("with a byte order mark", TEXT, b"\xef\xbb\xbfhello")
GROUP.echo("with zeros", TEXT, b"\0a\0")
GROUP.echo("every two-byte character", TEXT, "".join(map(chr, range(0x80, 0x800))).encode())
GROUP.echo(
    "every character of the basic plane", TEXT, "".join(map(chr, [*range(0xD800), *range(0xE000, 0x10000)])).encode()
)
GROUP.echo("64 KiB of characters of four bytes", TEXT, "\U0010ffff".encode() * 16384)
GROUP.echoes(
    "then binary that is no UTF-8",
    text("\u20ac"),
    binary(b"\xff"),
    messages=[(TEXT, b"\xe2\x82\xac"), (BINARY, b"\xff")],
)

GROUP.part("Valid text in two fragments, cut at every byte", "6455 5.6")
for at in range(len(_SAMPLE) + 1):
    GROUP.echoes(f"behind byte {at}", text(_SAMPLE[:at], fin=False), more(_SAMPLE[at:]), messages=[(TEXT, _SAMPLE)])

GROUP.part("Valid text in two segments, cut at every byte", "6455 5.6")
for at in range(1, len(_SAMPLE)):
    GROUP.echo(f"{at} bytes before its end", TEXT, _SAMPLE, chop=(-at - 8,))

GROUP.part("Valid text in many pieces", "6455 5.6")
GROUP.echoes("a fragment for each byte", Fragments(TEXT, _SAMPLE, 1), messages=[(TEXT, _SAMPLE)])
GROUP.echo("a segment for each byte", TEXT, _SAMPLE, chop=BYTES)
GROUP.echoes(
    "a fragment and segments for each byte", Fragments(TEXT, _SAMPLE, 1), messages=[(TEXT, _SAMPLE)], chop=BYTES
)
GROUP.echoes("10 KiB in fragments of 7 bytes", Fragments(TEXT, Filler(10240), 7), messages=[(TEXT, Filler(10240))])
GROUP.echoes(
    "100 KiB in segments of 1001 bytes", Frame(TEXT, Filler(102_400)), messages=[(TEXT, Filler(102_400))], chop=1001
)
GROUP.echoes(
    "empty fragments inside a character",
    *(text(b"\xe2", fin=False), more(b"", fin=False), more(b"\x82", fin=False), more(b"", fin=False), more(b"\xac")),
    messages=[(TEXT, b"\xe2\x82\xac")],
)

# 8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not, in fact, a valid
# UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_."
GROUP.part("Invalid text in one frame", "6455 8.1")
for case in (*BAD, *SHORT):
    GROUP.fails(case.title, 1007, text(case.data))

GROUP.part("Invalid text behind valid text, and before it", "6455 8.1")
for case in BAD:
    GROUP.fails(case.title, 1007, text(_SAMPLE + case.data + _SAMPLE))

GROUP.part("Invalid at every position", "6455 8.1")
for at in range(len(_SAMPLE) + 1):
    GROUP.fails(f"FF in front of byte {at}", 1007, text(_SAMPLE[:at] + b"\xff" + _SAMPLE[at:]))
for at in range(len(_SAMPLE)):
    if len(_SAMPLE[:at].decode(errors="ignore").encode()) < at:
        GROUP.fails(f"cut short behind byte {at}", 1007, text(_SAMPLE[:at]))

# A plugin that assembles messages has seen nothing of it, so nothing comes back.
GROUP.part("Fail-fast: the rest of the message is never sent", "6455 8.1")
for case in BAD:
    whole = text(case.data + b"and 100 bytes more".ljust(100))
    GROUP.fails(case.title, 1007, Torn(whole, case.at), Await(close=True))
for case in SHORT:
    GROUP.fails(
        f"{case.title}, then a letter", 1007, Torn(text(case.data + b"a" * 100), case.at + 1), Await(close=True)
    )

GROUP.part("Fail-fast: the rest comes behind our Close", "6455 8.1")
for case in BAD[::4]:
    whole = text(_SAMPLE + case.data + _SAMPLE)
    at = len(_SAMPLE) + case.at
    GROUP.fails(case.title, 1007, Torn(whole, at), Await(close=True), Rest(whole, at), close(1000))

GROUP.part("Fail-fast: in the first of three fragments", "6455 8.1")
for case in BAD:
    first = text(_SAMPLE + case.data[: case.at], fin=False)
    GROUP.fails(case.title, 1007, first, Await(close=True), more("b", fin=False), more("c"))

GROUP.part("A character that is cut and goes wrong", "6455 8.1")
for case in BAD:
    if case.at > 1:
        head, tail = case.data[: case.at - 1], case.data[case.at - 1 :]
        GROUP.fails(f"in the next fragment, {case.title}", 1007, text(head, fin=False), more(tail))
for case in SHORT:
    GROUP.fails(f"ends with the last fragment, {case.title}", 1007, text("a", fin=False), more(case.data))
    GROUP.fails(f"ends before an empty fragment, {case.title}", 1007, text(case.data, fin=False), more(""))

GROUP.part("In company", "6455 8.1")
GROUP.fails(
    "behind a message and a Ping", 1007, text("a"), ping(b"p"), text(b"\xff"), messages=[(TEXT, b"a")], pongs=[b"p"]
)
GROUP.fails("before a message", 1007, text(b"\xff"), text("a"))
GROUP.fails("byte by byte", 1007, text(b"a\xe2\x28\xa1"), chop=BYTES)
GROUP.fails("a character over two messages", 1007, text(b"\xe2\x82"), text(b"\xac"))
GROUP.fails(
    "behind 64 KiB of text", 1007, Frame(TEXT, Filler(65536)), text(b"\xc3\x28"), messages=[(TEXT, Filler(65536))]
)
GROUP.fails("at the end of 64 KiB", 1007, text(Filler(65536).make() + b"\xff"))
GROUP.fails("a Ping inside a cut character", 1007, text(b"\xe2", fin=False), ping(b"p"), more(b"\x28"), pongs=[b"p"])

GROUP.part("What is not text is not looked at", "6455 5.6")
for case in BAD[::3]:
    GROUP.echo(f"binary, {case.title}", BINARY, case.data)
GROUP.echoes("binary in fragments", binary(b"\xe2", fin=False), more(b"\x28"), messages=[(BINARY, b"\xe2\x28")])
GROUP.echoes("a Ping", ping(b"\xff\xfe"), pongs=[b"\xff\xfe"])
