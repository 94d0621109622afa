"""Whom an HTTP proxy speaks for: X-Forwarded-For, and Forwarded (RFC 7239).

Pure: no socket, no log.  A client can send these headers itself, and a proxy adds to what it got; so only what trusted
proxies have added is believed: read from the right, the first address that is no trusted proxy's.  Nothing left of that
is looked at, nor can it change how that is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from wsd.wire.headers import TOKEN
from wsd.wire.ip import canonical

__all__ = ["FORWARDED", "HIDDEN", "X_FORWARDED_FOR", "Node", "find_client"]

X_FORWARDED_FOR: Final = "X-Forwarded-For"
FORWARDED: Final = "Forwarded"

Node = tuple[str, int]
"""An address and a port, 0 where it is not told."""

HIDDEN: Final[Node] = ("", 0)
"""Somebody whose address is not told ("unknown", or a name that means something to the proxy alone: RFC 7239 6.2 and
6.3), or told in a way that nobody can read."""

MAX_STEPS: Final = 64
"""How many places of a header are looked at: chains of more proxies than this are nobody's, and a header that is all
commas must not cost more than one that is not."""

# RFC 7239 4.  That an address stands there without its quotes, or a space beside a semicolon, is forgiven.  Each part
# begins with a character that the one before it cannot match, so all this is linear: no ReDoS.
_NAME: Final = TOKEN.decode()
_VALUE: Final = r'"(?:[^"\\]|\\.)*"|[!#$%&\'*+\-.^_`|~0-9A-Za-z:\[\]]+'
_PAIR: Final = re.compile(f"({_NAME})=({_VALUE})")
_PART: Final = rf"(?:{_NAME}=(?:{_VALUE})[ \t]*)?"
_ELEMENT: Final = re.compile(rf"[ \t]*{_PART}(?:;[ \t]*{_PART})*")
_ESCAPED: Final = re.compile(r"\\(.)")
# RFC 7239 6: an IPv6 address in brackets; a port, or a name in its place, behind either.
_NODE: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:([0-9]{1,5})|_[0-9A-Za-z._\-]+))?")


def find_client(header: str, value: str, is_trusted: Callable[[str], bool]) -> Node | None:
    """Who the client is, by what the trusted proxies say.

    Args:
        header: `X_FORWARDED_FOR` or `FORWARDED`.
        value: All its lines, joined by commas.
        is_trusted: Whether an address is one of a trusted proxy.

    Answers None where nothing is said; HIDDEN where it is said of somebody without an address; where all that stand
    there are trusted proxies, the first of them, with whom the request began.
    """
    found: Node | None = None
    for place in _elements(value) if header == FORWARDED else _items(value):
        found = place
        if place is HIDDEN or not is_trusted(place[0]):
            break
    return found


def _items(value: str) -> Iterator[Node]:
    """The places of X-Forwarded-For, the last one first; empty ones are skipped (RFC 9110 5.6.1)."""
    items = value.rsplit(",", MAX_STEPS)
    if len(items) > MAX_STEPS:
        items[0] = "the rest"  # which nobody looks at
    for item in reversed(items):
        if text := item.strip(" \t"):
            yield _node(text)


def _elements(value: str) -> Iterator[Node]:
    """The places of Forwarded, the last one first.

    A comma may stand inside quotes.  To read from the left would let a client swallow what the proxy has added, by a
    quote that it never closes.  From the right each element is the shortest that is one: there is only one where the
    whole is well-formed, for what begins inside of quotes has an odd number of them.
    """
    end, steps = len(value), MAX_STEPS
    while end > 0:
        comma, element = end, None
        while element is None and comma >= 0 and steps:
            steps -= 1
            comma = value.rfind(",", 0, comma)
            element = _ELEMENT.fullmatch(value, comma + 1, end)
        end = 0 if element is None else comma
        if element is None:
            yield HIDDEN
        elif element[0].strip(" \t"):
            yield _client_of(element[0])


def _client_of(element: str) -> Node:
    """What `for=` says in one element; an element without it hides who it was."""
    values = [value for name, value in _PAIR.findall(element) if name.lower() == "for"]
    if len(values) != 1:  # RFC 7239 4: "Each parameter MUST NOT occur more than once per field-value"
        return HIDDEN
    value = values[0]
    return _node(_ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value)


def _node(text: str) -> Node:
    """One address: `192.0.2.1`, `192.0.2.1:4711`, `[2001:db8::1]:4711`; in X-Forwarded-For `2001:db8::1` too."""
    match = _NODE.fullmatch(text)
    address, port = (match[1] or match[2], int(match[3] or 0)) if match else (text, 0)
    try:
        return (canonical(address), port) if port <= 0xFFFF else HIDDEN
    except ValueError:
        return HIDDEN
