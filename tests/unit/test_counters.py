"""wsd/counters.py: every count is there from the start, and nothing else can be counted by a slip of the pen."""

from __future__ import annotations

import pytest

from wsd.config import Limits, Timeouts
from wsd.counters import Counters, is_limit

# Those that are counted under a name of their own; http_idle_seconds is no offence, and over_rate_seconds is told by
# the rate that was met.
COUNTED = {
    "max_connections": "accept_pauses",
    "max_queue_bytes": "queue_overflows",
    "slow_reader_seconds": "slow_readers",
}
UNCOUNTED = {"http_idle_seconds", "over_rate_seconds"}


def test_all_start_at_zero() -> None:
    assert set(Counters().as_dict().values()) == {0}


def test_what_was_counted_is_told_by_name() -> None:
    counters = Counters()
    counters.accepted += 2
    assert counters.as_dict()["accepted"] == 2


def test_a_misspelt_counter_is_an_error() -> None:
    with pytest.raises(AttributeError):
        Counters().acepted += 1


@pytest.mark.parametrize("option", sorted({*Limits.model_fields, *Timeouts.model_fields} - UNCOUNTED))
def test_every_limit_and_time_has_one(option: str) -> None:
    name = COUNTED.get(option, f"over_{option}")
    assert name in Counters().as_dict()
    assert is_limit(name)


def test_what_is_counted_under_an_options_name() -> None:
    counters = Counters()
    counters.note_over("max_fragments")
    counters.note_over("max_fragments")
    assert counters.over_max_fragments == 2
    with pytest.raises(AttributeError):
        counters.note_over("max_nothing")


@pytest.mark.parametrize("name", ["turns", "accepted", "bugs", "protocol_errors"])
def test_others_are_no_limits(name: str) -> None:
    assert not is_limit(name)
