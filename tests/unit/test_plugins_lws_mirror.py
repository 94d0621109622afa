"""The mirror: rooms, one ring for all readers, and who holds it up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fakes import FakeWsi, shipped
from wsd import BINARY, TEXT, Reject


@pytest.fixture
def mirror() -> Any:
    return shipped("lws_mirror.py")


def join(mirror: Any, target: str = "/") -> Any:
    wsi = FakeWsi(mirror, target)
    mirror.on_filter_protocol_connection(wsi, wsi.request)
    mirror.on_established(wsi)
    return wsi


def say(wsi: FakeWsi, *messages: str | bytes) -> None:
    for message in messages:
        assert wsi.is_reading, "nothing is delivered while the room is paused"
        wsi.protocol.on_message(wsi, message)


def heard(wsi: FakeWsi) -> list[Any]:
    wsi.serve()
    return [data for data, _, _ in wsi.take()]


def fill(mirror: Any, speaker: FakeWsi, *quick: FakeWsi) -> int:
    """Say numbers, `quick` and the speaker reading along, until the room is paused; gives how many were said."""
    said = 0
    while speaker.is_reading:
        say(speaker, str(said))
        said += 1
        for wsi in (speaker, *quick):
            wsi.serve()
    return said


class TestMirroring:
    def test_everyone_hears_everything_in_order_the_sender_too(self, mirror: Any) -> None:
        one, two = join(mirror), join(mirror)
        say(one, "a")
        say(two, "b")
        say(one, "c")
        assert heard(one) == heard(two) == [b"a", b"b", b"c"]

    def test_text_stays_text_and_binary_binary(self, mirror: Any) -> None:
        wsi = join(mirror)
        say(wsi, "h\xe9", b"\xff", "", b"")
        wsi.serve()
        assert wsi.take() == [
            (b"h\xc3\xa9", TEXT, True),
            (b"\xff", BINARY, True),
            (b"", TEXT, True),
            (b"", BINARY, True),
        ]

    def test_who_joins_hears_what_is_said_from_then_on(self, mirror: Any) -> None:
        one = join(mirror)
        say(one, "before")
        two = join(mirror)
        say(one, "after")
        assert heard(one) == [b"before", b"after"]
        assert heard(two) == [b"after"]

    def test_who_takes_a_message_gets_it_at_once_and_the_ring_is_not_used(self, mirror: Any) -> None:
        one, two = join(mirror), join(mirror)
        say(one, "a")
        assert one.take() == two.take() == [(b"a", TEXT, True)]
        assert not one.is_asked
        assert not two.is_asked
        assert mirror.rooms[""].ring.head == 0

    def test_it_stops_when_the_pipe_is_choked_and_asks_again(self, mirror: Any) -> None:
        wsi = join(mirror)
        wsi.room = 1
        say(wsi, "a", "b", "c", "d")
        assert heard(wsi) == [b"a"]
        wsi.room = 2
        assert heard(wsi) == [b"b", b"c"]
        assert wsi.is_asked
        wsi.room = 2
        assert heard(wsi) == [b"d"]
        assert not wsi.is_asked

    def test_who_was_behind_and_has_caught_up_is_like_the_others(self, mirror: Any) -> None:
        wsi, other = join(mirror), join(mirror)
        for letters in ("ab", "cd"):
            wsi.room = 0
            say(other, *letters)
            assert len(wsi.session.room.current) == 1
            wsi.room = 100
            say(other, "behind the others")
            assert heard(wsi) == [letters[0].encode(), letters[1].encode(), b"behind the others"]
            assert len(wsi.session.room.current) == 2
            say(other, "at once")
            assert [data for data, _, _ in wsi.take()] == [b"at once"]
        assert wsi.session.room.ring.tails == 0

    def test_who_is_behind_costs_the_others_nothing_of_their_order(self, mirror: Any) -> None:
        slow, quick = join(mirror), join(mirror)
        slow.room = 1
        say(quick, "a", "b")
        assert heard(quick) == [b"a", b"b"]
        slow.room = 100
        say(quick, "c")
        assert heard(quick) == [b"c"]
        assert heard(slow) == [b"a", b"b", b"c"]

    def test_a_spurious_call_writes_nothing(self, mirror: Any) -> None:
        wsi = join(mirror)
        mirror.on_writeable(wsi)
        assert wsi.take() == []

    def test_a_dead_wsi_is_let_go(self, mirror: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        wsi = join(mirror)
        wsi.room = 0
        say(wsi, "a")
        wsi.room = 1
        monkeypatch.setattr(wsi, "write", lambda *_: -1)
        assert mirror.on_writeable(wsi) == -1
        mirror.on_closed(wsi, 1006, "")
        assert mirror.rooms == {}


class TestRooms:
    def test_a_room_hears_its_own(self, mirror: Any) -> None:
        here, there = join(mirror, "/?mirror=here"), join(mirror, "/?mirror=there")
        say(here, "a")
        assert heard(here) == [b"a"]
        assert heard(there) == []

    def test_one_room_too_many_is_refused(self, mirror: Any) -> None:
        for name in ("", "?mirror=a", "?mirror=b"):
            join(mirror, f"/{name}")
        with pytest.raises(Reject, match="503 there are 3 mirrors already"):
            join(mirror, "/?mirror=c")
        join(mirror, "/?mirror=a")

    def test_an_empty_room_is_gone(self, mirror: Any) -> None:
        for number in range(10):
            wsi = join(mirror, f"/?mirror={number}")
            mirror.on_closed(wsi, 1000, "")
        assert mirror.rooms == {}

    def test_a_room_lives_until_its_last_has_left(self, mirror: Any) -> None:
        one, two = join(mirror), join(mirror)
        mirror.on_closed(one, 1000, "")
        say(two, "alone")
        assert heard(two) == [b"alone"]


class TestSlowReaders:
    def test_the_ring_fills_and_everyone_in_the_room_is_paused(self, mirror: Any) -> None:
        speaker, slow, bystander = join(mirror), join(mirror), join(mirror)
        elsewhere = join(mirror, "/?mirror=elsewhere")
        slow.room = 0
        # libwebsockets' numbers: 32 places, paused when fewer than 4 are free.
        assert fill(mirror, speaker, bystander) == 29
        assert [wsi.is_reading for wsi in (speaker, bystander, slow)] == [False] * 3
        assert elsewhere.is_reading

    def test_it_goes_on_when_the_slow_one_has_caught_up(self, mirror: Any) -> None:
        speaker, slow = join(mirror), join(mirror)
        slow.room = 0
        said = fill(mirror, speaker)
        slow.room = 17  # leaves 12 waiting, 20 places free of 32
        slow.serve()
        assert not speaker.is_reading
        slow.room = 1  # 21 free
        slow.serve()
        assert speaker.is_reading
        assert slow.is_reading
        mirror.context.pass_time(100)
        assert slow.closed is None
        slow.room = 100
        slow.serve()
        assert [data for data, _, _ in slow.take()] == [b"%d" % number for number in range(said)]

    def test_a_drop_now_and_then_does_not_reset_the_clock(self, mirror: Any) -> None:
        speaker, slow = join(mirror), join(mirror)
        slow.room = 0
        fill(mirror, speaker)
        mirror.context.pass_time(2.5)
        slow.room = 1
        slow.serve()
        mirror.context.pass_time(0.4)
        assert slow.closed is None
        mirror.context.pass_time(0.2)
        assert slow.closed is not None

    def test_who_holds_the_room_up_for_three_seconds_is_closed(self, mirror: Any) -> None:
        speaker, slow = join(mirror), join(mirror)
        slow.room = 0
        fill(mirror, speaker)
        mirror.context.pass_time(2.9)
        assert slow.closed is None
        mirror.context.pass_time(0.2)
        assert slow.closed == (1008, "too slow for the others")
        # Its closing handshake may take as long as it likes: the room does not wait for it.
        assert speaker.is_reading
        slow.room = 100
        assert heard(slow) == []
        heard(speaker)
        say(speaker, "on")
        assert heard(speaker) == [b"on"]
        mirror.on_closed(slow, 1006, "")
        assert len(mirror.rooms[""].wsis) == 1

    def test_nor_is_who_begins_to_close_while_the_room_waits_for_it_given_longer(self, mirror: Any) -> None:
        """By a limit of the server's, say, of which no hook is told; nothing that belongs to the wsi alone goes on."""
        speaker, slow = join(mirror), join(mirror)
        slow.room = 0
        fill(mirror, speaker)
        slow.close(1001)
        mirror.context.pass_time(3.1)
        assert speaker.is_reading

    def test_all_who_hold_it_up_are_closed(self, mirror: Any) -> None:
        speaker, first, second = join(mirror), join(mirror), join(mirror)
        first.room = second.room = 0
        fill(mirror, speaker)
        mirror.context.pass_time(3.1)
        assert first.closed == second.closed == (1008, "too slow for the others")
        assert speaker.is_reading
        assert list(mirror.rooms[""].wsis) == [speaker]

    def test_the_clock_of_a_pause_ends_with_it(self, mirror: Any) -> None:
        speaker, slow = join(mirror), join(mirror)
        for _ in range(3):
            slow.room = 0
            fill(mirror, speaker)
            mirror.context.pass_time(2)
            slow.room = 100
            slow.serve()
            slow.take()
        assert slow.closed is None

    def test_one_that_was_too_slow_does_not_end_the_next_room_of_its_name(self, mirror: Any) -> None:
        """Its closing handshake takes so long that its room has ended, and there is another one."""
        slow = join(mirror)
        slow.room = 0
        fill(mirror, slow)
        mirror.context.pass_time(3.1)
        other = join(mirror)
        mirror.on_closed(other, 1000, "")
        one = join(mirror)
        mirror.on_closed(slow, 1006, "")
        two = join(mirror)
        say(one, "a")
        assert heard(two) == [b"a"]

    def test_all_that_hold_it_up_have_to_catch_up(self, mirror: Any) -> None:
        speaker, first, second = join(mirror), join(mirror), join(mirror)
        first.room = 0
        say(speaker, *"abcde")
        heard(second)
        second.room = 0
        fill(mirror, speaker)
        assert mirror.rooms[""].blockers == {first, second}
        first.room = 100
        first.serve()
        assert not speaker.is_reading
        mirror.on_closed(second, 1006, "")
        assert speaker.is_reading

    def test_who_joins_a_paused_room_is_paused(self, mirror: Any) -> None:
        speaker, slow = join(mirror), join(mirror)
        slow.room = 0
        fill(mirror, speaker)
        late = join(mirror)
        assert not late.is_reading
        slow.room = 100
        slow.serve()
        assert late.is_reading

    def test_who_is_closing_already_is_not_waited_for(self, mirror: Any) -> None:
        speaker, closing = join(mirror), join(mirror)
        closing.room = 0
        closing.close(1000)
        for number in range(29):
            say(speaker, str(number))
            heard(speaker)
        assert speaker.is_reading
        assert mirror.on_writeable(closing) is None
        assert closing.take() == []

    @pytest.mark.parametrize("size", [2, 3, 4, 7, 8, 9, 31, 32, 100])
    def test_every_size_pauses_in_time_and_goes_on(self, size: int) -> None:
        mirror = shipped("lws_mirror.py", ring_size=size)
        speaker, slow = join(mirror), join(mirror)
        slow.room = 0
        said = 0
        for _ in range(3):
            said += fill(mirror, speaker)
            slow.room = 1 << 30
            assert len(heard(slow)) == said
            said = 0
            assert speaker.is_reading
            slow.room = 0

    def test_a_lone_speaker_that_does_not_read_is_paused_too(self, mirror: Any) -> None:
        alone = join(mirror)
        alone.room = 0
        fill(mirror, alone)
        mirror.context.pass_time(3.1)
        assert alone.closed is not None
