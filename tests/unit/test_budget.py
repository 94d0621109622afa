"""wsd/budget.py: which of four places a number is taken from."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from wsd.binding import Binding
from wsd.budget import LIMITS, TIMEOUTS, Budget
from wsd.config import Limits, Listen, ListenLimits, ListenTimeouts, ProtocolTable, Timeouts
from wsd.context import Context
from wsd.options_limits import ProtocolLimits, ProtocolTimeouts
from wsd.protocol import Protocol


class Quiet(Protocol):
    name = "quiet"


class Small(Protocol):
    name = "small"
    max_message_bytes = 10


def table(**tables: Mapping[str, float]) -> ProtocolTable:
    return ProtocolTable.model_validate(tables)


def test_every_option_of_a_listener_or_a_protocol_is_in_it() -> None:
    assert set(LIMITS) == set(ListenLimits.model_fields) >= set(ProtocolLimits.model_fields)
    assert set(TIMEOUTS) == set(ListenTimeouts.model_fields) >= set(ProtocolTimeouts.model_fields)
    assert set(LIMITS) < set(Limits.model_fields)
    assert set(TIMEOUTS) == set(Timeouts.model_fields)


@pytest.mark.parametrize("name", [*LIMITS, *TIMEOUTS])
def test_without_more_the_contexts_hold(name: str) -> None:
    budget, limits, timeouts = Budget(), Limits(), Timeouts()
    budget.resolve(limits, timeouts, [None, ListenLimits(), None])
    assert getattr(budget, name) == getattr(limits if name in LIMITS else timeouts, name)


def test_the_last_place_that_has_it_wins() -> None:
    budget = Budget()
    first, second = SimpleNamespace(max_fragments=2, idle_seconds=3), SimpleNamespace(max_fragments=0)
    budget.resolve(Limits(max_fragments=1), Timeouts(), [first, None, second])
    assert (budget.max_fragments, budget.idle_seconds) == (0, 3)


@pytest.mark.parametrize("name", ["max_messages_per_second", "max_bytes_per_second"])
def test_rates_are_told(name: str) -> None:
    budget = Budget()
    budget.resolve(Limits(), Timeouts(), [])
    assert not budget.has_rates
    budget.resolve(Limits.model_validate({name: 1}), Timeouts(), [])
    assert budget.has_rates


@pytest.mark.parametrize("name", ["first_message_seconds", "idle_seconds", "session_seconds"])
def test_clocks_are_told(name: str) -> None:
    budget = Budget()
    budget.resolve(Limits(), Timeouts(), [])
    assert not budget.has_clocks
    budget.resolve(Limits(), Timeouts.model_validate({name: 1}), [])
    assert budget.has_clocks


class TestPairs:
    """`Binding.budget_for`: of a protocol and a listener."""

    def test_the_protocols_table_over_its_class_over_the_listener_over_the_context(self) -> None:
        listen = Listen(port=0, limits=ListenLimits(max_message_bytes=20, max_fragments=20, max_queue_bytes=20))
        own = {"max_fragments": 30}
        with Context(limits=Limits(max_message_bytes=5, max_headers=50)) as context:
            small = context.add_protocol(Small(), table=table(limits=own, timeouts={"close_seconds": 3}))
            quiet = context.add_protocol(Quiet())
            listener = context.listen(listen)
            budget, other = small.budget_for(listener), quiet.budget_for(listener)
            assert (budget.max_message_bytes, budget.max_fragments, budget.max_queue_bytes) == (10, 30, 20)
            assert (budget.max_headers, budget.close_seconds) == (50, 3)
            assert (other.max_message_bytes, other.max_fragments) == (20, 20)
            assert quiet.budget.max_message_bytes == quiet.budget_for(None).max_message_bytes == 5

    def test_a_listeners_zero_is_a_number(self) -> None:
        listen = Listen(port=0, limits=ListenLimits(max_control_frames_per_second=0))
        with Context([Quiet()]) as context:
            listener = context.listen(listen)
            assert context.binding_of("quiet").budget_for(listener).max_control_frames_per_second == 0

    def test_it_is_one_object_that_changes_in_place(self) -> None:
        binding = Binding(Quiet(), Limits(), Timeouts(), None)
        with Context([Quiet()]) as context:
            listener = context.listen(port=0)
            budget, alone = binding.budget_for(listener), binding.budget
            assert binding.budget_for(listener) is budget is not alone
            binding.apply(Limits(max_fragments=9), Timeouts(idle_seconds=4), table(limits={"max_frame_bytes": 7}))
            for changed in (budget, alone):
                assert (changed.max_fragments, changed.idle_seconds, changed.max_frame_bytes) == (9, 4, 7)

    def test_a_listener_that_is_reconfigured_changes_those_of_what_it_served_too(self) -> None:
        quiet, small = Quiet(), Small()
        with Context([quiet, small]) as context:
            listener = context.listen(port=0, protocols=[quiet])
            budgets = [context.bindings[protocol].budget_for(listener) for protocol in (quiet, small)]
            http = listener.http.budget_for(listener)
            listener.reconfigure(Listen(port=0, timeouts=ListenTimeouts(handshake_seconds=9)), [small], None)
            assert [budget.handshake_seconds for budget in (*budgets, http)] == [9, 9, 9]

    def test_one_that_is_gone_is_not_kept(self) -> None:
        binding = Binding(Quiet(), Limits(), Timeouts(), None)
        with Context([Quiet()]) as context:
            listener = context.listen(port=0)
            binding.budget_for(listener)
            assert len(binding._budgets) == 1
            context.remove_listener(listener)
        del listener, context
        gc.collect()
        assert len(binding._budgets) == 0
