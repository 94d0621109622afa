"""RFC 6455 section 8.1: text that is no UTF-8 fails the connection, at the first byte that cannot be right."""

from __future__ import annotations

import pytest

from tests.support.client import frame
from tests.support.feeding import Heard, feed, feed_all
from wsd.wire.frames import CONTINUATION, PING, TEXT
from wsd.wire.parser import Parser

GOOD = [
    "61",
    "c280",
    "dfbf",
    "e0a080",
    "ed9fbf",
    "ee8080",
    "efbfbf",
    "efbfbd",
    "f0908080",
    "f48fbfbf",
    "f09f98800061",
    "cebae1bdb9cf83cebcceb5",
]
"""The first and the last of every length, the neighbours of the surrogates, and NUL."""

# What is wrong, and after how many of its bytes that is certain.
BAD = [
    ("80", 1),
    ("bf", 1),
    ("c080", 1),
    ("c1bf", 1),
    ("c241", 2),
    ("c2c2", 2),
    ("e08080", 2),
    ("e09fbf", 2),
    ("e28241", 3),
    ("eda080", 2),
    ("edadbf", 2),
    ("edbfbf", 2),
    ("edb080", 2),
    ("f0808080", 2),
    ("f08fbfbf", 2),
    ("f09d8441", 4),
    ("f09d41", 3),
    ("f4908080", 2),
    ("f5808080", 1),
    ("f888808080", 1),
    ("fc8480808080", 1),
    ("fe", 1),
    ("ff", 1),
]
CUT_SHORT = ["c3", "e2", "e282", "f0", "f09d", "f09d84", "61e282"]
BEFORE = ["", "61", "e282ac", "61" * 130, "f09d849e"]


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    payload = bytes.fromhex(text)
    assert feed_all(frame(TEXT, payload)) == Heard([(TEXT, payload)])
    for at in range(len(payload) + 1):
        stream = frame(TEXT, payload[:at], final=False) + frame(PING, b"\xff") + frame(CONTINUATION, payload[at:])
        assert feed_all(stream) == Heard([(PING, b"\xff"), (TEXT, payload)])


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(("bad", "certain"), BAD)
def test_bad_in_one_frame(bad: str, certain: int, before: str) -> None:
    assert feed_all(frame(TEXT, bytes.fromhex(before + bad + "616161"))).failure == 1007


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(("bad", "certain"), BAD)
def test_bad_is_known_as_early_as_it_can_be(bad: str, certain: int, before: str) -> None:
    """Byte by byte of a frame that is far from complete: 5.6 and 8.1 do not ask for it, Autobahn's 6.4 likes it."""
    payload = bytes.fromhex(before + bad)
    certain += len(before) // 2
    whole = frame(TEXT, payload + b"a" * 300)
    header = len(whole) - len(payload) - 300
    parser = Parser(0, 10)
    parser.receive(whole[:header])
    for count in range(1, len(payload) + 1):
        parser.receive(whole[header + count - 1 : header + count])
        assert (parser.failure is not None) is (count >= certain), f"after {payload[:count].hex()}"
    assert parser.failure is not None
    assert parser.failure.code == 1007


@pytest.mark.parametrize(("bad", "certain"), BAD)
def test_bad_is_known_early_in_one_read(bad: str, certain: int) -> None:
    """The same where the first read, or a fragment, ends with the byte that makes it certain."""
    payload = b"good" + bytes.fromhex(bad)[:certain]
    whole = frame(TEXT, payload + b"a" * 50)
    assert feed([whole[: len(whole) - 50]]) == Heard([], 1007)
    assert feed_all(frame(TEXT, payload, final=False)).failure == 1007
    assert feed_all(frame(TEXT, b"", final=False) + frame(CONTINUATION, payload, final=False)).failure == 1007


@pytest.mark.parametrize(("bad", "certain"), BAD)
def test_bad_over_fragments(bad: str, certain: int) -> None:
    payload = bytes.fromhex(bad) + b"aaa"
    for at in range(len(payload)):
        stream = frame(TEXT, payload[:at], final=False) + frame(PING, b"1") + frame(CONTINUATION, payload[at:])
        assert feed_all(stream).failure == 1007
        # Certain inside the first fragment: the Ping behind it is not even looked at.
        assert (feed_all(stream).messages == []) is (at >= certain)


@pytest.mark.parametrize("text", CUT_SHORT)
def test_a_message_that_ends_inside_a_character(text: str) -> None:
    payload = bytes.fromhex(text)
    assert feed_all(frame(TEXT, payload)).failure == 1007
    assert feed_all(frame(TEXT, payload, final=False)).failure is None
    for end in (b"", b"a"):
        assert feed_all(frame(TEXT, payload, final=False) + frame(CONTINUATION, end)).failure == 1007


def test_no_message_inherits_from_the_one_before() -> None:
    """Half a character is not carried over, neither after a fragmented message nor after a binary one."""
    cut = frame(TEXT, b"\xe2\x82", final=False) + frame(CONTINUATION, b"\xac")
    assert feed_all(cut + cut + frame(TEXT, b"\xac")) == Heard([(TEXT, b"\xe2\x82\xac")] * 2, 1007)


def test_binary_and_control_payloads_are_not_looked_at() -> None:
    stream = (
        frame(2, b"\xff\xc0") + frame(PING, b"\xff") + frame(2, b"\xe2", final=False) + frame(CONTINUATION, b"\xff")
    )
    assert feed_all(stream) == Heard([(2, b"\xff\xc0"), (PING, b"\xff"), (2, b"\xe2\xff")])
