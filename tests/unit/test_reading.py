"""wsd/wire/reading.py: when there is one, and what it tells of itself.

What it makes of bytes is held by the files test_parser*.py, which feed it by way of the parser.
"""

from __future__ import annotations

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, TEXT, frame
from wsd.wire.parser import Parser


def parser_after(data: bytes) -> Parser:
    """That of a server, which has received this."""
    parser = Parser(0, 10)
    parser.receive(data)
    return parser


@pytest.mark.parametrize(
    "data",
    [
        b"",
        frame(TEXT, "whole"),
        frame(TEXT, "a", final=False) + frame(CONTINUATION, "b"),
        frame(PING, b"?"),
        frame(BINARY, bytes(70_000)),
    ],
)
def test_between_messages_there_is_none(data: bytes) -> None:
    parser = parser_after(data)
    assert parser._reading is None
    assert parser.is_plain
    assert not parser.is_mid_message


@pytest.mark.parametrize(
    ("data", "is_mid_message"),
    [
        (frame(TEXT, "whole")[:1], False),
        (frame(TEXT, "whole")[:-1], True),
        (frame(TEXT, "a", final=False), True),
        (frame(PING, b"?")[:-1], False),
        (frame(TEXT, "a", final=False) + frame(PING, b"?"), True),
    ],
)
def test_within_one_there_is(data: bytes, is_mid_message: bool) -> None:
    parser = parser_after(data)
    assert parser._reading is not None
    assert not parser.is_plain
    assert parser.is_mid_message is is_mid_message


def test_what_is_awaited_and_how_it_is_masked() -> None:
    data = frame(BINARY, bytes(range(100)))
    key = data[2:6]
    parser = parser_after(data[: 6 + 30])
    assert parser.awaited == 70
    assert parser.mask_of_awaited == (key, 30)
    assert parser.receive_awaited(b"x" * 40) == [(BINARY, b"x" * 40, False, False, 30)]
    assert parser.receive_awaited(b"y" * 30) == [(BINARY, b"y" * 30, False, True, 0)]
    assert parser.awaited == 0
    assert parser._reading is None


def test_nothing_is_awaited_that_is_not_handed_out() -> None:
    assert parser_after(frame(PING, bytes(100))[:50]).awaited == 0
    skipping = Parser(0, 10)
    skipping.skip()
    skipping.receive(frame(BINARY, bytes(100))[:50])
    assert skipping.awaited == 0
    assert parser_after(frame(BINARY, bytes(100), mask=None)[:50]).awaited == 0
