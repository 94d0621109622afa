"""wsd/counters.py: every count is there from the start, and nothing else can be counted by a slip of the pen."""

from __future__ import annotations

import pytest

from wsd.counters import Counters


def test_all_start_at_zero() -> None:
    assert set(Counters().as_dict().values()) == {0}


def test_what_was_counted_is_told_by_name() -> None:
    counters = Counters()
    counters.accepted += 2
    assert counters.as_dict()["accepted"] == 2


def test_a_misspelt_counter_is_an_error() -> None:
    with pytest.raises(AttributeError):
        Counters().acepted += 1
