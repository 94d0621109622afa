"""The limits of a parser: on a frame, on a message, on fragments; from the header alone, and changed while it reads."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, TEXT, frame
from tests.support.compressed import deflated, without_takeover
from tests.support.deflating import RSV1
from tests.support.feeding import Heard, feed_all
from wsd.wire.deflate import Inflater
from wsd.wire.parser import Parser


def limited(max_frame_bytes: int) -> Any:
    def new(max_message_bytes: int, max_fragments: int) -> Parser:
        return Parser(max_message_bytes, max_fragments, max_frame_bytes=max_frame_bytes)

    return new


def heard(data: bytes, max_frame_bytes: int, max_message_bytes: int = 0) -> Heard:
    return feed_all(data, max_message_bytes, 1 << 20, limited(max_frame_bytes))


def header(size: int) -> bytes:
    """Of a frame whose payload does not come; without its masking key."""
    return frame(BINARY, bytes(size))[: 8 if size < 65536 else 10][: -4 if 125 < size < 65536 else None]


class TestFrames:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 200])
    def test_up_to_the_limit(self, size: int) -> None:
        assert heard(frame(BINARY, bytes(size)), max(size, 1)) == Heard([(BINARY, bytes(size))], None)

    @pytest.mark.parametrize("size", [2, 126, 127, 65536])
    def test_over_it(self, size: int) -> None:
        assert heard(frame(BINARY, bytes(size)), size - 1) == Heard([], 1009)

    @pytest.mark.parametrize("size", [126, 65536])
    def test_from_the_header_alone(self, size: int) -> None:
        parser = Parser(0, 10, max_frame_bytes=size - 1)
        assert parser.receive(header(size)) == []
        assert parser.failure is not None
        assert (parser.failure.code, parser.failure.option) == (1009, "max_frame_bytes")

    def test_each_fragment_by_itself(self) -> None:
        parts = [frame(TEXT, "ab", final=False), frame(CONTINUATION, "cd", final=False), frame(CONTINUATION, "ef")]
        assert heard(b"".join(parts), 2) == Heard([(TEXT, b"abcdef")], None)
        parts.insert(2, frame(CONTINUATION, "xyz", final=False))
        assert heard(b"".join(parts), 2).failure == 1009

    def test_control_frames_have_their_own(self) -> None:
        assert heard(frame(PING, bytes(125)), 1) == Heard([(PING, bytes(125))], None)

    def test_a_compressed_one_as_it_is_on_the_wire(self) -> None:
        payload = deflated(bytes(100_000))
        for size, failure in ((len(payload), None), (len(payload) - 1, 1009)):
            parser = Parser(0, 10, max_frame_bytes=size, inflater=Inflater(15, True))
            parser.receive(frame(BINARY, payload, rsv=RSV1))
            assert (parser.failure and parser.failure.code) == failure

    @pytest.mark.parametrize(
        ("max_frame", "max_message", "option"),
        [
            (5, 0, "max_frame_bytes"),
            (0, 5, "max_message_bytes"),
            (9, 5, "max_message_bytes"),
            (5, 9, "max_frame_bytes"),
        ],
    )
    def test_the_option_that_was_met_is_told(self, max_frame: int, max_message: int, option: str) -> None:
        parser = Parser(max_message, 10, max_frame_bytes=max_frame)
        parser.receive(frame(BINARY, bytes(6)))
        assert parser.failure is not None
        assert parser.failure.option == option

    def test_a_message_of_frames_within_theirs_has_its_own_limit(self) -> None:
        parts = [frame(BINARY, b"123", final=False), frame(CONTINUATION, b"456", final=False)]
        assert heard(b"".join(parts), 3, 5) == Heard([], 1009, partial=(BINARY, b"123"))

    def test_without_one_a_message_of_any_size_is_read(self) -> None:
        assert heard(frame(BINARY, bytes(70_000)), 0) == Heard([(BINARY, bytes(70_000))], None)


class TestOptions:
    def test_of_fragments(self) -> None:
        parser = Parser(0, 1)
        parser.receive(frame(TEXT, "a", final=False) + frame(CONTINUATION, "b"))
        assert parser.failure is not None
        assert parser.failure.option == "max_fragments"

    def test_of_a_bomb(self) -> None:
        parser = without_takeover(1000, 10)
        parser.receive(frame(BINARY, deflated(bytes(2000)), rsv=RSV1))
        assert parser.failure is not None
        assert (parser.failure.code, parser.failure.option) == (1009, "max_message_bytes")

    def test_what_breaks_the_protocol_is_over_none(self) -> None:
        parser = Parser(0, 1)
        parser.receive(frame(3))
        assert parser.failure is not None
        assert parser.failure.option == ""


class TestChanges:
    def test_they_hold_for_the_frames_that_come_then(self) -> None:
        parser = Parser(0, 10)
        assert len(parser.receive(frame(BINARY, bytes(9)))) == 1
        parser.set_limits(0, 10, 8)
        assert parser.receive(frame(BINARY, bytes(9))) == []
        assert parser.failure is not None

    def test_for_a_message_that_has_begun_too(self) -> None:
        parser = Parser(5, 10)
        parser.receive(frame(BINARY, bytes(5), final=False))
        parser.set_limits(50, 10, 0)
        (piece,) = parser.receive(frame(CONTINUATION, bytes(45)))
        assert piece[1] == bytes(45)
        assert parser.failure is None

    def test_who_looks_for_a_close_alone_has_none(self) -> None:
        parser = Parser(5, 1, max_frame_bytes=5)
        parser.skip()
        parser.receive(frame(BINARY, bytes(70), final=False) + frame(CONTINUATION, bytes(70)))
        assert parser.failure is None


class TestHeld:
    def test_the_beginning_of_a_header(self) -> None:
        parser = Parser(0, 10)
        parser.receive(frame(BINARY, bytes(9))[:3])
        assert parser.held == 3

    def test_what_is_not_inflated_yet(self) -> None:
        payload = deflated(bytes(10 << 20))
        parser = Parser(0, 10, inflater=Inflater(15, True))
        parser.receive(frame(BINARY, payload, rsv=RSV1) + frame(TEXT, "behind"))
        assert parser.has_more
        behind = len(frame(TEXT, "behind"))
        assert behind < parser.held <= behind + len(payload) + 4
        while parser.has_more:
            parser.receive(b"")
        assert parser.held == 0
