"""docs/lifecycle.md: what it says of a protocol, its context and external polling is what happens.

Here the test is the loop, in one thread: what is polled, and when, is part of what is compared.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.client import Client, close_frame, upgrade_request
from tests.support.lifecycle import STYLES, Notes, made_in, rows
from tests.support.plays import HELLO, fail
from tests.support.timing import MS, PATIENCE
from wsd.context import Context
from wsd.errors import PluginError
from wsd.external import PollFd
from wsd.protocol import Protocol

SECTIONS = ["A protocol and its context", "External polling"]
ROWS = {row.what: row for row in rows(*SECTIONS)}


class Alone:
    """A context without a thread, its plugin, and what a play does with both."""

    def __init__(self, notes: Notes, protocol: Protocol, stack: ExitStack) -> None:
        self.notes = notes
        self.protocol = protocol
        self.stack = stack
        self.polled: dict[int, int] = {}
        self.context: Context

    def begin(self, *, external_poll: bool = False) -> None:
        """Make the context, which is closed at the end."""
        if external_poll:
            self.polls()
        self.context = self.stack.enter_context(Context([self.protocol], external_poll=external_poll))

    def polls(self) -> None:
        """Have the plugin note what is to be polled."""
        polled = self.polled

        def change(fd: int, events: int) -> None:
            polled[fd] ^= events

        self.notes.does |= {
            "on_add_poll_fd": polled.__setitem__,
            "on_del_poll_fd": polled.__delitem__,
            "on_set_mode_poll_fd": change,
            "on_clear_mode_poll_fd": change,
        }

    def turn(self) -> None:
        """Serve what is ready within a moment."""
        if not self.polled:
            self.context.service(2 * MS)
            return
        poll = select.poll()
        for fd, events in self.polled.items():
            poll.register(fd, events)
        for fd, events in poll.poll(2):
            self.context.service_fd(PollFd(fd, self.polled.get(fd, 0), events))
        self.context.service_fd(None)

    def until(self, condition: Callable[[], object]) -> None:
        for _ in range(round(PATIENCE / (2 * MS))):
            if condition():
                return
            self.turn()
        raise AssertionError(f"not so: {self.notes.calls}")

    def until_called(self, hook: str) -> None:
        self.until(lambda: self.notes.has(hook))

    def open(self, **options: Any) -> Client:
        """A client whose WebSocket is established."""
        listener = self.context.listen(interface="127.0.0.1", port=0)
        client = self.stack.enter_context(Client(listener.port, **options))
        client.send(upgrade_request())
        self.until_called("on_established")
        self.turn()
        assert client.receive_response().status == 101
        return client


Act = Callable[[Alone], Any]

ACTS: dict[str, Act] = {}


def act(what: str) -> Callable[[Act], Act]:
    """Make a function the play of a row."""

    def add(function: Act) -> Act:
        ACTS[what] = function
        return function

    return add


@act("a context is made, and closed")
def make(it: Alone) -> None:
    it.begin()


@act("`on_protocol_init` raises")
def raise_in_init(it: Alone) -> None:
    it.notes.does["on_protocol_init"] = fail
    it.begin()


@act("`on_protocol_destroy` raises")
def raise_in_destroy(it: Alone) -> None:
    it.notes.does["on_protocol_destroy"] = fail
    it.begin()


@act("`context.cancel_service()`, by another thread")
def wake_up(it: Alone) -> None:
    it.begin()
    thread = threading.Thread(target=it.context.cancel_service)
    thread.start()
    it.until_called("on_wakeup")
    thread.join()


@act("`context.cancel_service()` three times before the loop comes round")
def wake_up_thrice(it: Alone) -> None:
    it.begin()
    for _ in range(3):
        it.context.cancel_service()
    it.turn()
    it.turn()


@act("`on_wakeup` raises")
def raise_in_wakeup(it: Alone) -> None:
    it.notes.does["on_wakeup"] = fail
    it.begin()
    it.context.cancel_service()
    it.turn()


@act("a reload replaces a protocol that has no connection")
def retire(it: Alone) -> None:
    it.begin()
    it.context.retire_protocol(it.protocol)
    it.until_called("on_protocol_destroy")


@act("a reload replaces a protocol that has one, and a wake-up comes")
def retire_in_use(it: Alone) -> None:
    it.begin()
    it.open()
    it.context.retire_protocol(it.protocol)
    it.context.cancel_service()
    it.until_called("on_wakeup")


@act("`context.callback_all_protocol()` without a connection")
def call_nobody(it: Alone) -> None:
    it.begin()
    it.context.callback_all_protocol(it.protocol, 1000)
    it.turn()


@act("`context.callback_all_protocol()` in `on_user`")
def call_again(it: Alone) -> None:
    it.begin()
    it.open()
    it.notes.does["on_user"] = lambda wsi, reason, data: (
        it.context.callback_all_protocol(it.protocol, 1001) if reason == 1000 else None
    )
    it.context.callback_all_protocol(it.protocol, 1000)
    it.until(lambda: "on_user(1001)" in it.notes.calls)


@act("`context.callback_all_protocol()` with a reason below 1000")
def call_for_less(it: Alone) -> None:
    it.begin()
    it.context.callback_all_protocol(it.protocol, 999)


# -- external polling -------------------------------------------------------------------------------------------------


@act("a context listens, and is closed")
def listen(it: Alone) -> None:
    it.begin(external_poll=True)
    it.context.listen(interface="127.0.0.1", port=0)


@act("a WebSocket is opened, and closed by the client")
def open_and_close(it: Alone) -> None:
    it.begin(external_poll=True)
    client = it.open()
    leave(it, client)


def leave(it: Alone, client: Client) -> None:
    client.send(close_frame())
    it.until_called("on_peer_close")
    it.turn()
    client.disconnect()
    it.until_called("on_closed")


@act("the kernel takes no more of what is sent, and then all")
def choke(it: Alone) -> None:
    it.begin(external_poll=True)
    client = it.open(receive_buffer=4096)
    it.notes.wsis[0].send(bytes(8 << 20))  # more than the kernels of both sides take
    it.until_called("on_clear_mode_poll_fd")
    reader = threading.Thread(target=client.receive_message)
    reader.start()
    it.until(lambda: not reader.is_alive())
    leave(it, client)


@act("`wsi.rx_flow_control(False)` in `on_receive`")
def hold(it: Alone) -> None:
    it.notes.does["on_receive"] = lambda wsi, data: wsi.rx_flow_control(False)
    it.begin(external_poll=True)
    it.open().send(HELLO)
    it.until_called("on_receive")
    assert it.notes.inside == [("on_receive", "on_clear_mode_poll_fd")]


@act("`on_add_poll_fd` raises")
def raise_in_poll_hook(it: Alone) -> None:
    it.begin(external_poll=True)
    it.notes.does["on_add_poll_fd"] = fail
    it.notes.does["on_del_poll_fd"] = lambda fd: it.polled.pop(fd, None)
    it.context.listen(interface="127.0.0.1", port=0)


# -- as the page has it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("what", ACTS)
def test_it_is_as_the_page_says(what: str, style: str) -> None:
    row, notes, raised = ROWS[what], Notes(), "-"
    with ExitStack() as stack:
        try:
            ACTS[what](Alone(notes, made_in(style, notes), stack))
        except (PluginError, ValueError) as error:
            raised = type(error).__name__
    assert notes.calls == row.calls
    assert raised == row.peer
    assert all(inner.endswith("_poll_fd") for _, inner in notes.inside), notes.inside


def test_each_row_is_played() -> None:
    assert ACTS.keys() == ROWS.keys()
