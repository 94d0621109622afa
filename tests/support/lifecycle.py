"""Who is called when: a plugin that notes every call, and the tables of docs/lifecycle.md that say what it should note.

Owns the plugin in both styles, how a call is written down, and how a table is read.  What is done to a connection is a
play (`tests/support/plays.py`).
"""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.timing import wait_until
from wsd.errors import ConnectError
from wsd.protocol import HOOKS, CallbackProtocol, Peer, Protocol, callback_protocol
from wsd.reasons import CLIENT_REASONS, FILE_REASONS, REASONS, Reason
from wsd.wire.http import Request
from wsd.wire.reply import Reply

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "lifecycle.md"

STYLES = ["class", "callback"]

# A protocol's own hooks belong to no connection: they are compared where a row names them.
OF_THE_PROTOCOL = {"on_protocol_init", "on_protocol_destroy", "on_wakeup"}

_POLL_BITS = {select.POLLIN: "POLLIN", select.POLLOUT: "POLLOUT"}


# -- what is noted ----------------------------------------------------------------------------------------------------


class Notes:
    """Every call of one protocol, in order, as docs/lifecycle.md writes it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.does: dict[str, Callable[..., Any]] = {}
        """By the name of a hook: what the plugin does in it, with the hook's arguments; gives the answer."""
        self.wsis: list[Any] = []
        """Every wsi that was seen, in the order in which that happened first."""
        self.inside: list[tuple[str, str]] = []
        """Which hook was called inside which."""
        self._running = ""

    def called(self, hook: str, *arguments: Any) -> Any:
        """Note a call, and do what the test wants to be done in it."""
        self.calls.append(_written(hook, arguments))
        if self._running:
            self.inside.append((self._running, hook))
        if arguments and hasattr(arguments[0], "is_client") and arguments[0] not in self.wsis:
            self.wsis.append(arguments[0])
        outer, self._running = self._running, hook
        try:
            does = self.does.get(hook)
            return None if does is None else does(*arguments)
        finally:
            self._running = outer

    def has(self, hook: str) -> bool:
        """Reports whether that hook was called."""
        return any(call.partition("(")[0] == hook for call in self.calls)

    def wait_for(self, hook: str) -> None:
        wait_until(lambda: self.has(hook), what=f"{hook}, so far {self.calls}")


def _written(hook: str, arguments: Sequence[Any]) -> str:
    """`on_closed(1000, 'bye')`: what comes after the wsi, as far as it is the same each time."""
    if hook.endswith("_poll_fd"):
        shown = [" ".join(name for bit, name in _POLL_BITS.items() if bit & events) for events in arguments[1:]]
    else:
        shown = [text for text in map(_shown, arguments) if text]
    return f"{hook}({', '.join(shown)})" if shown else hook


def _shown(argument: Any) -> str:
    if isinstance(argument, Request):
        return f"{argument.method} {argument.target}"
    if isinstance(argument, Reply):
        return str(argument.status)
    if isinstance(argument, ConnectError):
        return repr(argument.cause)
    return repr(argument) if isinstance(argument, (int, str, bytes)) and not isinstance(argument, Peer) else ""


# -- the plugin -------------------------------------------------------------------------------------------------------


def in_class_style(notes: Notes, *, whole: bool = False, verifying: bool = False, session: Any = None) -> Protocol:
    """A protocol that has every hook: `on_message` if it takes messages whole, else `on_receive`; and
    `on_verify_authorization`, with which it takes no request without credentials, if it is to verify them."""

    def method(hook: str) -> Callable[..., Any]:
        return lambda self, *arguments: notes.called(hook, *arguments)

    left_out = {"on_receive" if whole else "on_message"} | (set() if verifying else {"on_verify_authorization"})
    members = {hook: method(hook) for hook in HOOKS if hook not in left_out}
    made: Protocol = type("Life", (Protocol,), {"name": "life", "Session": session, **members})()
    return made


def in_callback_style(notes: Notes, *, session: Any = None) -> CallbackProtocol:
    """The same as one function; its reasons must be those of a server's, a client's or a descriptor's wsi."""

    @callback_protocol("life", session=session)
    def callback(wsi: Any, reason: Any, user: Any, data: Any) -> Any:
        if reason >= Reason.USER:
            return notes.called("on_user", wsi, reason, data)
        hook = _hook_of(wsi, reason)
        assert wsi is None or user is wsi.session
        arguments = data if isinstance(data, tuple) else () if data is None else (data,)
        if hook == "on_filter_network_connection":  # the one whose argument is a tuple itself
            arguments = (data,)
        return notes.called(hook, *([] if wsi is None else [wsi]), *arguments)

    return callback


def _hook_of(wsi: Any, reason: Reason) -> str:
    """The hook that a reason stands for on this wsi."""
    for hook, server in REASONS.items():
        expected = server
        if wsi is not None and wsi.is_client:
            expected = CLIENT_REASONS.get(server, server)
        if wsi is not None and server in FILE_REASONS and wsi.is_descriptor:
            expected = FILE_REASONS[server]
        if expected == reason:
            return hook
    raise AssertionError(f"{reason!r} on {wsi}")


def made_in(style: str, notes: Notes, **arguments: Any) -> Protocol:
    """The plugin in that style."""
    return in_callback_style(notes, **arguments) if style == "callback" else in_class_style(notes, **arguments)


# -- the tables -------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A row of a table: what happens, what is called, what the peer gets."""

    section: str
    what: str
    calls: list[str]
    peer: str


def rows(*sections: str) -> list[Row]:
    """The rows below those headings of docs/lifecycle.md; without any, all rows."""
    return [row for row in _read(PAGE.read_text()) if not sections or row.section in sections]


def _read(page: str) -> Iterator[Row]:
    for part in page.split("\n## ")[1:]:
        section, _, text = part.partition("\n")
        words = {name: _calls(calls, {}) for name, calls in re.findall(r"^\*(\w+)\* is (.+)$", text, re.MULTILINE)}
        for line in re.findall(r"^\| (.+) \|$", text, re.MULTILINE):
            cells = line.split(" | ")
            if len(cells) == 3 and cells[1] != "what is called":
                yield Row(section, cells[0], _calls(cells[1], words), cells[2])


def _calls(cell: str, words: dict[str, list[str]]) -> list[str]:
    """The calls that a cell names; a word in italics stands for several."""
    found: list[str] = []
    for call, word in re.findall(r"`(on_[^`]+)`|\*(\w+)\*", cell):
        found += [call] if call else words[word]
    return found
