"""wsd/meter.py: rates and times, with a clock that the test holds in its hand."""

from __future__ import annotations

import pytest

from wsd.meter import Bucket, Meter


class TestBucket:
    def test_a_seconds_worth_may_come_at_once_and_one_more_may_not(self) -> None:
        bucket = Bucket("max_messages_per_second", 5, 100.0)
        assert [bucket.take(1, 100.0) for _ in range(5)] == [None] * 5
        over = bucket.take(1, 100.0)
        assert over is not None
        assert (over.option, over.rate) == ("max_messages_per_second", 5)

    def test_it_waits_for_what_was_taken_too_much_and_a_tenth_of_a_second(self) -> None:
        bucket = Bucket("x", 100, 100.0)
        over = bucket.take(150, 100.0)
        assert over is not None
        assert over.wait == pytest.approx(0.6)
        assert bucket.take(1, 100.0 + over.wait) is None  # a tenth of a second's worth is there again

    def test_it_never_holds_more_than_a_seconds_worth(self) -> None:
        bucket = Bucket("x", 10, 100.0)
        assert bucket.take(10, 900.0) is None
        assert bucket.take(1, 900.0) is not None

    def test_who_keeps_to_the_rate_is_never_over_it(self) -> None:
        bucket = Bucket("x", 4, 100.0)
        assert [bucket.take(1, 100.0 + step / 4) for step in range(100)] == [None] * 100

    def test_who_waits_as_told_gets_the_rate_and_no_more(self) -> None:
        bucket, now, taken = Bucket("x", 50, 0.0), 0.0, 0
        while now < 100:
            over = bucket.take(1, now)
            taken += 1
            now += 0.0 if over is None else over.wait
        assert 50 * 100 <= taken <= 50 * 101 + 10


class TestRates:
    def test_without_one_nothing_is_over(self) -> None:
        meter = Meter(0.0)
        assert [meter.count_piece(1 << 30, True, 0.0) for _ in range(1000)] == [None] * 1000
        assert [meter.count_control(0.0) for _ in range(1000)] == [None] * 1000

    def test_messages_count_with_their_last_piece(self) -> None:
        meter = Meter(0.0)
        meter.set_rates(1, 0, 0, 0.0)
        assert meter.count_piece(1, False, 0.0) is None
        assert not meter.has_message
        assert meter.count_piece(1, True, 0.0) is None
        assert meter.has_message
        over = meter.count_piece(1, True, 0.0)
        assert over is not None
        assert over.option == "max_messages_per_second"

    def test_bytes_count_with_every_piece(self) -> None:
        meter = Meter(0.0)
        meter.set_rates(0, 10, 0, 0.0)
        assert meter.count_piece(10, False, 0.0) is None
        over = meter.count_piece(1, False, 0.0)
        assert over is not None
        assert over.option == "max_bytes_per_second"

    @pytest.mark.parametrize(("size", "option"), [(1000, "max_bytes_per_second"), (11, "max_messages_per_second")])
    def test_of_two_the_longer_wait_counts(self, size: int, option: str) -> None:
        meter = Meter(0.0)
        meter.set_rates(1, 10, 0, 0.0)
        meter.count_piece(0, True, 0.0)
        over = meter.count_piece(size, True, 0.0)
        assert over is not None
        assert over.option == option

    def test_control_frames_have_a_rate_of_their_own(self) -> None:
        meter = Meter(0.0)
        meter.set_rates(1, 1, 2, 0.0)
        assert meter.count_control(0.0) is None
        assert meter.count_control(0.0) is None
        over = meter.count_control(0.0)
        assert over is not None
        assert over.option == "max_control_frames_per_second"
        assert meter.count_piece(1, True, 0.0) is None

    def test_a_rate_that_stays_keeps_what_was_taken_and_a_new_one_begins_anew(self) -> None:
        meter = Meter(0.0)
        meter.set_rates(1, 0, 0, 0.0)
        meter.count_piece(0, True, 0.0)
        meter.set_rates(1, 5, 5, 0.0)
        assert meter.count_piece(0, True, 0.0) is not None
        meter.set_rates(2, 0, 0, 0.0)
        assert meter.count_piece(0, True, 0.0) is None
        meter.set_rates(0, 0, 0, 0.0)
        assert [meter.count_piece(9, True, 0.0) for _ in range(9)] == [None] * 9


class TestPauses:
    def test_pauses_within_a_second_of_each_other_are_one_offence(self) -> None:
        meter = Meter(0.0)
        assert meter.pause(10.0)
        meter.resume(10.1)
        assert not meter.pause(11.0)
        assert meter.patience(5, 11.0) == 4.0

    def test_a_second_without_one_is_a_break(self) -> None:
        meter = Meter(0.0)
        meter.pause(10.0)
        meter.resume(10.5)
        assert meter.pause(11.5)
        assert meter.patience(5, 11.5) == 5.0


class TestTimes:
    def test_none_is_none(self) -> None:
        assert Meter(0.0).next_deadline(0, 0, 0) is None

    def test_the_first_message_counts_from_the_beginning_until_it_is_there(self) -> None:
        meter = Meter(5.0)
        meter.count_piece(1, False, 6.0)
        assert meter.next_deadline(10, 0, 0) == (15.0, "first_message_seconds")
        meter.count_piece(1, True, 7.0)
        assert meter.next_deadline(10, 0, 0) is None

    def test_idle_counts_from_what_was_last_said(self) -> None:
        meter = Meter(5.0)
        assert meter.next_deadline(0, 3, 0) == (8.0, "idle_seconds")
        meter.count_piece(1, False, 7.0)
        meter.count_control(9.0)  # a ping is nothing that was said
        assert meter.next_deadline(0, 3, 0) == (10.0, "idle_seconds")

    def test_a_session_counts_from_the_beginning(self) -> None:
        meter = Meter(5.0)
        meter.count_piece(1, True, 7.0)
        assert meter.next_deadline(0, 0, 60) == (65.0, "session_seconds")

    def test_the_soonest_is_told(self) -> None:
        meter = Meter(0.0)
        assert meter.next_deadline(1, 2, 3) == (1.0, "first_message_seconds")
        assert meter.next_deadline(9, 2, 3) == (2.0, "idle_seconds")
        assert meter.next_deadline(9, 9, 3) == (3.0, "session_seconds")
