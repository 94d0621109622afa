"""`context.callback_all_protocol()`: who is called, in which order, and who is not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.client import Client, connect, upgrade_request
from tests.support.context import Running, running
from tests.support.timing import wait_until
from wsd.context import Context
from wsd.protocol import Protocol, callback_protocol
from wsd.reasons import CLOSE, Reason

NEWS = Reason.USER + 7


class Told(Protocol):
    """Notes who is told what; `does` is what it does then."""

    def __init__(self, name: str = "told") -> None:
        self.name = name  # type: ignore[misc]
        self.told: list[tuple[Any, int, Any]] = []
        self.does: Callable[[Any], Any] = lambda wsi: None

    def on_message(self, wsi: Any, message: Any) -> None:
        self.context.callback_all_protocol(self, NEWS, message)
        assert self.told == []  # not within this call

    def on_user(self, wsi: Any, reason: int, data: Any) -> Any:
        self.told.append((wsi, reason, data))
        return self.does(wsi)


def clients(stack: ExitStack, served: Running, protocol: Told, count: int) -> list[Client]:
    """So many, in the order of `protocol.wsis`."""
    made = []
    for number in range(count):
        made.append(stack.enter_context(connect(served.port, protocol.name)))
        wait_until(lambda number=number: len(protocol.wsis) == number + 1)  # type: ignore[misc]
    return made


def tell(served: Running, protocol: Told, data: Any = None) -> None:
    """Ask for it, and wait until it is done."""
    served.call(lambda: served.context.callback_all_protocol(protocol, NEWS, data))
    served.call(lambda: None)


def test_each_is_told_once_and_the_oldest_first() -> None:
    protocol, data = Told(), object()
    with running([protocol]) as served, ExitStack() as stack:
        clients(stack, served, protocol, 5)
        tell(served, protocol, data)
        assert protocol.told == [(wsi, NEWS, data) for wsi in protocol.wsis]
        assert type(protocol.told[0][1]) is int


def test_out_of_a_hook_it_waits_for_its_end() -> None:
    protocol = Told()
    with running([protocol]) as served, ExitStack() as stack:
        first, _ = clients(stack, served, protocol, 2)
        first.send_text("all of you")
        wait_until(lambda: len(protocol.told) == 2)
        assert {data for _, _, data in protocol.told} == {"all of you"}
        assert served.context.counters.plugin_errors == 0


def test_whom_an_earlier_call_has_closed_is_left_out() -> None:
    protocol = Told()
    with running([protocol]) as served, ExitStack() as stack:
        clients(stack, served, protocol, 3)
        first, second, third = protocol.wsis
        protocol.does = lambda wsi: second.close() if wsi is first else None
        tell(served, protocol)
        assert [wsi for wsi, _, _ in protocol.told] == [first, third]


@pytest.mark.parametrize("deed", [lambda wsi: CLOSE, lambda wsi: wsi.nothing], ids=["CLOSE", "exception"])
def test_what_one_does_is_its_own(deed: Callable[[Any], Any]) -> None:
    protocol = Told()
    with running([protocol]) as served, ExitStack() as stack:
        first, *_ = clients(stack, served, protocol, 3)
        oldest = next(iter(protocol.wsis))
        protocol.does = lambda wsi: deed(wsi) if wsi is oldest else None
        tell(served, protocol)
        assert len(protocol.told) == 3
        assert first.receive_close().close_code in (1000, 1011)
        wait_until(lambda: not oldest.is_established)
        tell(served, protocol)
        assert len(protocol.told) == 5


def test_who_is_not_established_is_left_out() -> None:
    """Neither one that has not asked yet, nor one that is closing, nor those of another protocol."""
    protocol, other = Told(), Told("other")
    with running([protocol, other]) as served, ExitStack() as stack:
        clients(stack, served, protocol, 2)
        clients(stack, served, other, 1)
        late = stack.enter_context(Client(served.port))
        wait_until(lambda: served.context.wsi_count == 4)
        closing, stays = protocol.wsis
        served.call(closing.close)
        tell(served, protocol)
        assert [wsi for wsi, _, _ in protocol.told] == [stays]
        assert other.told == []
        late.send(upgrade_request(protocols="told"))
        assert late.receive_response().status == 101
        tell(served, protocol)
        assert len(protocol.told) == 3


def test_a_protocol_that_was_replaced_is_told_too() -> None:
    protocol = Told()
    with running([protocol]) as served, ExitStack() as stack:
        clients(stack, served, protocol, 1)
        served.call(lambda: served.context.retire_protocol(protocol))
        tell(served, protocol)
        assert len(protocol.told) == 1


def test_a_callback_gets_the_number_itself() -> None:
    told: list[Any] = []

    @callback_protocol("told", session=list)
    def callback(wsi: Any, reason: Any, user: Any, data: Any) -> None:
        if reason >= Reason.USER:
            told.append((reason, user is wsi.session, data))

    with running([callback]) as served, connect(served.port):
        wait_until(lambda: callback.wsis)
        served.call(lambda: served.context.callback_all_protocol(callback, NEWS, ("a", "b")))
        wait_until(lambda: told)
        assert told == [(1007, True, ("a", "b"))]


@pytest.mark.parametrize("reason", [Reason.USER - 1, Reason.RECEIVE, -1])
def test_a_reason_of_wsds_own_is_refused(reason: int) -> None:
    protocol = Told()
    with Context([protocol]) as context, pytest.raises(ValueError, match=f"1000 or more, found {int(reason)}$"):
        context.callback_all_protocol(protocol, reason)
