"""The relay: who is joined with whom, what waits, and when somebody is stopped."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fakes import FakeWsi, shipped
from wsd import BINARY, TEXT, Reject

PIECE = 128
"""What a piece counts besides its bytes."""


class Member(FakeWsi):
    """A connection of the relay; `timeout` is when it is closed."""

    timeout: float | None = None

    def set_timeout(self, seconds: float | None) -> int:
        self.timeout = seconds
        return 0

    def says(self, data: bytes, *, final: bool = True, binary: bool = False) -> None:
        """A piece comes from the peer, which must be read."""
        assert self.is_reading
        self.is_final_fragment, self.frame_is_binary = final, binary
        self.protocol.on_receive(self, data)


@pytest.fixture
def relay() -> Any:
    return shipped("relay.py", max_backlog_bytes=1000, wait_seconds=7)


def join(relay: Any, room: str = "") -> Any:
    wsi = Member(relay, f"/?room={room}" if room else "/")
    relay.on_filter_protocol_connection(wsi, wsi.request)
    relay.on_established(wsi)
    return wsi


@pytest.fixture
def one(relay: Any) -> Any:
    return join(relay)


@pytest.fixture
def two(relay: Any, one: Any) -> Any:
    return join(relay)


class TestRooms:
    def test_a_third_is_refused(self, relay: Any, two: Any) -> None:
        with pytest.raises(Reject) as caught:
            join(relay)
        assert caught.value.status == 503

    def test_a_third_that_no_filter_saw_is_closed(self, relay: Any, one: Any, two: Any) -> None:
        third = Member(relay)
        relay.on_established(third)
        assert third.closed == (1013, "there are two in this room already")
        relay.on_closed(third, 1013, "")
        assert relay.rooms == {"": [one, two]}
        assert two.closed is None

    def test_each_name_is_a_room(self, relay: Any, two: Any) -> None:
        other = join(relay, "other")
        other.says(b"x")
        two.serve()
        assert two.take() == []
        assert {name: len(members) for name, members in relay.rooms.items()} == {"": 2, "other": 1}

    @pytest.mark.parametrize("leaves", [0, 1])
    def test_it_is_free_when_one_of_the_two_leaves(self, relay: Any, one: Any, two: Any, leaves: int) -> None:
        pair = [one, two]
        relay.on_closed(pair.pop(leaves), 1000, "")
        assert relay.rooms == {}
        three, four = join(relay), join(relay)
        relay.on_closed(pair[0], 1001, "")
        assert relay.rooms == {"": [three, four]}, "who leaves last leaves another room"

    def test_it_is_free_when_the_only_one_leaves(self, relay: Any, one: Any) -> None:
        one.says(b"never heard")
        relay.on_closed(one, 1006, "")
        assert relay.rooms == {}


class TestPieces:
    def test_they_go_to_the_other_as_fragments(self, one: Any, two: Any) -> None:
        one.says(b"h\xc3", final=False)
        one.says(b"\xa9")
        one.says(b"", binary=True)
        two.says(b"back")
        two.serve()
        one.serve()
        assert two.take() == [(b"h\xc3", TEXT, False), (b"\xa9", TEXT, True), (b"", BINARY, True)]
        assert one.take() == [(b"back", TEXT, True)]

    def test_those_of_the_first_wait_for_the_second(self, relay: Any, one: Any) -> None:
        one.says(b"early", final=False)
        relay.on_writeable(one)  # the call may be spurious
        two = join(relay)
        two.serve()
        one.says(b"late")
        two.serve()
        assert two.take() == [(b"early", TEXT, False), (b"late", TEXT, True)]

    def test_it_stops_when_the_pipe_is_choked_and_asks_again(self, one: Any, two: Any) -> None:
        for number in range(4):
            one.says(b"%d" % number)
        two.room = 3
        two.serve()
        assert [data for data, _, _ in two.take()] == [b"0", b"1", b"2"]
        assert two.is_asked
        two.room = 3
        two.serve()
        assert [data for data, _, _ in two.take()] == [b"3"]
        assert not two.is_asked

    def test_a_dead_wsi_is_let_go(self, relay: Any, one: Any, two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        one.says(b"x")
        monkeypatch.setattr(two, "write", lambda *_: -1)
        assert relay.on_writeable(two) == -1


class TestFlowControl:
    def test_who_is_ahead_is_not_read_until_half_of_it_is_gone(self, one: Any, two: Any) -> None:
        size = 250 - PIECE
        for _ in range(4):
            one.says(bytes(size))
        assert one.is_reading
        one.says(bytes(size))
        assert not one.is_reading
        assert two.is_reading
        two.room = 2
        two.serve()
        assert not one.is_reading, "750 bytes are left"
        two.room = 1
        two.serve()
        assert one.is_reading, "500 bytes are left"
        assert one.timeout is None

    def test_empty_messages_count(self, one: Any, two: Any) -> None:
        for _ in range(1000 // PIECE):
            one.says(b"")
        assert one.is_reading
        one.says(b"")
        assert not one.is_reading
        two.serve()
        assert len(two.take()) == 1000 // PIECE + 1
        assert one.session.size == 0

    def test_who_is_ahead_and_alone_has_a_time_limit(self, relay: Any, one: Any) -> None:
        one.says(bytes(1000))
        assert (one.is_reading, one.timeout) == (False, 7)
        two = join(relay)
        assert one.timeout is None
        two.serve()
        assert one.is_reading
        assert two.take() == [(bytes(1000), TEXT, True)]


class TestLeaving:
    def test_the_other_gets_the_rest_and_then_1001(self, relay: Any, one: Any, two: Any) -> None:
        one.says(b"rest", final=False)
        one.says(b"and more", final=False)
        two.room = 1
        two.serve()
        relay.on_closed(one, 1006, "")
        assert two.closed is None
        two.room = 1
        two.serve()
        assert [data for data, _, _ in two.take()] == [b"rest", b"and more"]
        assert two.closed == (1001, "the other one left")

    def test_at_once_if_there_is_no_rest(self, relay: Any, one: Any, two: Any) -> None:
        relay.on_closed(two, 1000, "")
        one.serve()
        assert one.closed == (1001, "the other one left")

    def test_a_close_frame_is_enough(self, relay: Any, one: Any, two: Any) -> None:
        """The peer may take its time with the end of the stream."""
        relay.on_peer_close(one, 1000, "")
        two.serve()
        assert two.closed == (1001, "the other one left")
        assert relay.rooms == {}
        three = join(relay)
        relay.on_closed(one, 1000, "")
        assert relay.rooms == {"": [three]}

    def test_who_stays_is_read_and_nothing_of_it_is_kept(self, relay: Any, one: Any, two: Any) -> None:
        two.says(bytes(2000))
        assert not two.is_reading
        relay.on_closed(one, 1006, "")
        for _ in range(3):
            two.says(bytes(2000))
        assert not two.session.pieces
