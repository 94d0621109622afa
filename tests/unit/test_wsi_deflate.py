"""wsd/wsi.py on a connection with permessage-deflate: a bomb is delivered turn by turn, and may be stopped anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import BINARY, PING, TEXT, Frame, close_frame, frame
from tests.support.compressed import deflated, message
from tests.support.deflating import RSV1
from tests.support.hearing import Hearing
from tests.support.loopless import REQUEST, SETTINGS, Loopless
from tests.support.notes import Notes
from wsd.protocol import Protocol
from wsd.wire.extensions import Agreement
from wsd.wire.parser import INFLATE_BYTES

AGREED = Agreement(False, False, 15, 15, ())
BOMB = frame(BINARY, deflated(bytes(4 * INFLATE_BYTES)), rsv=RSV1)
"""Some 300 bytes that come to as much as four turns deliver."""


def line_of(**on: Any) -> tuple[Loopless, Notes]:
    protocol = Notes(**on)
    return Loopless(protocol, agreement=AGREED, max_message_bytes=5 * INFLATE_BYTES), protocol


def size_of(protocol: Notes) -> int:
    return sum(map(len, protocol.received()))


def turns(line: Loopless, count: int = 10) -> list[Frame]:
    """What leaves in so many turns."""
    hearing = Hearing(window_bits=15)
    for _ in range(count):
        line.context.turn()
    return hearing.hear(line.sent())


class TestDelivery:
    def test_a_turn_delivers_no_more_than_one_buffer(self) -> None:
        line, protocol = line_of()
        line.receive(BOMB)
        sizes = [size_of(protocol)]
        while line.context.backlogs:
            line.context.turn()
            sizes.append(size_of(protocol))
        assert all(after - before <= INFLATE_BYTES for before, after in zip([0, *sizes], sizes, strict=False))
        assert sizes[-1] == 4 * INFLATE_BYTES
        assert len(sizes) >= 4

    def test_others_have_their_turn_in_between(self) -> None:
        """What was read is delivered by and by, and nothing else is read meanwhile."""
        line, protocol = line_of()
        line.receive(BOMB, frame(TEXT, "late"))
        assert line.pipe.incoming, "read before what came earlier was delivered"
        for _ in range(9):
            line.context.turn()
        line.wsi.on_events(1)
        assert protocol.received()[-1] == b"late"
        assert size_of(protocol) == 4 * INFLATE_BYTES + 4

    def test_flags_tell_first_and_last(self) -> None:
        seen: list[tuple[bool, bool, bool]] = []

        def look(wsi: Any, data: bytes) -> None:
            seen.append((wsi.is_first_fragment, wsi.is_final_fragment, wsi.remaining_packet_payload == 0))

        line, _ = line_of(receive=look)
        line.receive(BOMB)
        turns(line)
        assert seen == [(True, False, False)] + [(False, False, False)] * (len(seen) - 2) + [(False, True, True)]

    def test_on_message_gets_it_whole(self) -> None:
        class Whole(Protocol):
            name = "whole"

            def __init__(self) -> None:
                self.messages: list[str | bytes] = []

            def on_message(self, wsi: Any, message: str | bytes) -> None:
                self.messages.append(message)

        protocol = Whole()
        line = Loopless(protocol, agreement=AGREED)
        text = "\u20ac" * INFLATE_BYTES
        line.receive(message(TEXT, deflated(text), 20, 60, between=frame(PING, "?")) + frame(TEXT, "plain"))
        turns(line)
        assert protocol.messages == [text, "plain"]

    def test_a_bomb_over_the_limit_is_1009(self) -> None:
        line, protocol = line_of()
        line.receive(frame(BINARY, deflated(bytes(50 * INFLATE_BYTES)), rsv=RSV1))
        (close,) = turns(line)
        assert close.close_code == 1009
        assert size_of(protocol) == 5 * INFLATE_BYTES


class TestStopping:
    def test_flow_control_in_the_middle(self) -> None:
        line, protocol = line_of(receive=lambda wsi, data: wsi.rx_flow_control(False))
        line.receive(BOMB + frame(TEXT, "behind"))
        count = 0
        while count == 0 or protocol.received()[-1] != b"behind":
            assert protocol.count("receive") == count + 1, "held back in each, so each turn has one"
            count += 1
            turns(line)
            assert protocol.count("receive") == count, "delivered while held back"
            assert line.context.interest == 0
            line.wsi.rx_flow_control(True)
            line.context.turn()
        assert size_of(protocol) == 4 * INFLATE_BYTES + len("behind")

    @pytest.mark.parametrize("is_in_hook", [True, False])
    def test_a_close_in_the_middle(self, is_in_hook: bool) -> None:
        """The rest is not even inflated, and the peer's Close behind it is found."""
        line, protocol = line_of(receive=lambda wsi, data: wsi.close(4000) and None if is_in_hook else None)
        line.receive(BOMB + frame(TEXT, deflated("behind"), rsv=RSV1) + close_frame(4001, "bye"))
        if not is_in_hook:
            line.wsi.close(4000)
        before = size_of(protocol)
        assert before <= INFLATE_BYTES
        assert [one.close_code for one in turns(line)] == [4000]
        assert line.pipe.is_shut
        line.receive(b"")
        line.wsi.reap()
        assert size_of(protocol) == before
        assert protocol.notes[-1] == ("closed", 4001, "bye")

    def test_the_peers_close_behind_it_waits(self) -> None:
        line, protocol = line_of()
        line.receive(BOMB + close_frame(4001))
        while size_of(protocol) < 4 * INFLATE_BYTES:
            assert protocol.count("peer_close") == 0
            line.context.turn()
        assert [one.close_code for one in turns(line)] == [4001]

    def test_a_violation_behind_it_waits(self) -> None:
        line, protocol = line_of()
        line.receive(BOMB + frame(3))
        assert [one.close_code for one in turns(line)] == [1002]
        assert size_of(protocol) == 4 * INFLATE_BYTES

    def test_the_end_of_the_stream_behind_it_waits(self) -> None:
        line, protocol = line_of()
        line.receive(BOMB)
        line.pipe.incoming.append(b"")
        while not line.context.dead:
            line.wsi.on_events(1)
            line.context.turn()
        assert size_of(protocol) == 4 * INFLATE_BYTES

    def test_bad_data(self) -> None:
        line, _ = line_of()
        line.receive(frame(TEXT, b"\xff\xff", rsv=RSV1))
        assert [one.close_code for one in turns(line)] == [1007]

    def test_nothing_is_delivered_after_the_end(self) -> None:
        line, protocol = line_of()
        line.receive(BOMB)
        line.wsi.abort()
        line.wsi.reap()
        before = size_of(protocol)
        turns(line)
        assert size_of(protocol) == before


class TestUpgrade:
    def test_with_an_agreement(self) -> None:
        line, protocol = line_of()
        line.wsi.upgrade(line.binding, REQUEST, None, b"", frame(TEXT, deflated("Hi"), rsv=RSV1), AGREED, SETTINGS)
        assert line.wsi.extensions == ("permessage-deflate",)
        assert protocol.received() == [b"Hi"]

    def test_without_one(self) -> None:
        line = Loopless(Notes())
        line.receive(frame(TEXT, deflated("Hi"), rsv=RSV1))
        (close,) = turns(line)
        assert (line.wsi.extensions, close.close_code) == ((), 1002)
