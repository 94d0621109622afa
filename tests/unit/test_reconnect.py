"""Connecting again: the table, its jitter, and all that ends it; without a connection or a clock."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.reconnect import Backoff, Reconnect
from wsd.timers import Timers

delays = st.floats(min_value=1e-3, max_value=1e6)


class TestTable:
    def test_the_last_delay_is_repeated(self) -> None:
        backoff = Backoff(table_seconds=(1, 2, 5), jitter=0)
        assert [backoff.delay_seconds(failures, 0.7) for failures in range(1, 6)] == [1, 2, 5, 5, 5]

    def test_the_default_is_that_of_the_examples_of_libwebsockets(self) -> None:
        backoff = Backoff()
        assert (tuple(backoff.table_seconds), backoff.jitter, backoff.max_tries) == ((1, 2, 3, 4, 5), 0.2, 0)

    @given(st.lists(delays, min_size=1), st.floats(0, 1), st.integers(1, 100), st.floats(0, 1))
    def test_jitter_stays_in_its_bounds(self, table: list[float], jitter: float, failures: int, chance: float) -> None:
        backoff = Backoff(table_seconds=table, jitter=jitter)
        delay = table[min(failures, len(table)) - 1]
        assert delay * (1 - jitter) * 0.999 <= backoff.delay_seconds(failures, chance) <= delay * (1 + jitter) * 1.001

    def test_jitter_reaches_both_ends(self) -> None:
        backoff = Backoff(table_seconds=(10,), jitter=0.2)
        assert [backoff.delay_seconds(1, chance) for chance in (0, 0.5, 1)] == [8, 10, 12]

    @pytest.mark.parametrize(
        "fields",
        [
            {"table_seconds": ()},
            {"table_seconds": (1, -1)},
            {"table_seconds": (1, 0)},
            {"table_seconds": (float("inf"),)},
            {"table_seconds": (float("nan"),)},
            {"jitter": -0.1},
            {"jitter": 1.1},
            {"jitter": float("nan")},
            {"max_tries": -1},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=f"^{next(iter(fields))}: "):
            Backoff(**fields)


class Stand:
    """A `Reconnect` whose context is a clock that the test moves; `opened` counts its connects."""

    def __init__(self, **fields: Any) -> None:
        self.now = 0.0
        self.timers = Timers()
        self.opened = 0
        protocol = object()
        self.binding: Any = SimpleNamespace(protocol=protocol)
        self.bindings = {protocol: self.binding}
        self.stopping = False
        context: Any = self
        self.reconnect = Reconnect(context, self.binding, Backoff(**{"jitter": 0, **fields}), self.open)
        self.reconnect.open()

    def call_at(self, seconds: float, function: Any) -> Any:
        return self.timers.add(self.now + seconds, function)

    def open(self, reconnect: Reconnect) -> Any:
        assert reconnect is self.reconnect
        self.opened += 1
        return SimpleNamespace(tag=f"out#{self.opened}")

    def fail(self) -> float | None:
        """The connection fails; gives the seconds until the next try, which then was made, or None."""
        before, opened = self.now, self.opened
        self.reconnect.schedule()
        when = self.timers.next_deadline()
        if when is None:
            return None
        self.now = when
        for due in self.timers.due(self.now):
            due()
        assert self.opened == opened + 1
        return when - before


class TestSchedule:
    def test_failure_after_failure(self) -> None:
        stand = Stand(table_seconds=(1, 2, 3))
        assert [stand.fail() for _ in range(5)] == [1, 2, 3, 3, 3]
        assert stand.reconnect.wsi.tag == "out#6"

    def test_a_connection_that_was_established_begins_anew(self) -> None:
        stand = Stand(table_seconds=(1, 2, 3))
        assert [stand.fail(), stand.fail()] == [1, 2]
        stand.reconnect.established()
        assert stand.reconnect.failures == 0
        assert [stand.fail(), stand.fail()] == [1, 2]

    def test_the_lot_is_drawn_for_each(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lots = iter([0.0, 1.0, 0.5])
        monkeypatch.setattr(random, "random", lambda: next(lots))
        stand = Stand(table_seconds=(10,), jitter=0.5)
        assert [stand.fail() for _ in range(3)] == [5, 15, 10]

    def test_giving_up(self) -> None:
        stand = Stand(table_seconds=(1,), max_tries=3)
        assert [stand.fail() for _ in range(3)] == [1, 1, None]
        stand = Stand(table_seconds=(1,), max_tries=3)
        assert [stand.fail() for _ in range(2)] == [1, 1]
        stand.reconnect.established()
        assert [stand.fail() for _ in range(3)] == [1, 1, None]


class TestEnd:
    def test_cancelled_before(self) -> None:
        stand = Stand()
        stand.reconnect.cancel()
        assert stand.fail() is None

    def test_cancelled_while_it_waits(self) -> None:
        stand = Stand()
        stand.reconnect.schedule()
        stand.reconnect.cancel()
        stand.reconnect.cancel()
        assert stand.timers.next_deadline() is None

    @pytest.mark.parametrize("waits", [False, True])
    @pytest.mark.parametrize("end", ["stopping", "replaced"])
    def test_nobody_is_left_to_connect_for(self, waits: bool, end: str) -> None:
        stand = Stand()
        if waits:
            stand.reconnect.schedule()
        if end == "stopping":
            stand.stopping = True
        else:
            stand.bindings.clear()
        if not waits:
            stand.reconnect.schedule()
            assert stand.timers.next_deadline() is None
        for due in stand.timers.due(1e9):
            due()
        assert stand.opened == 1
