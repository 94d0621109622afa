"""Puts the C methods of `_straight.c` in the place of those of `straight.py`, where the extension was compiled.

Owns what they are told: the classes in whose slots they find a connection's state, and the constants of the Python
side, which are written down there and nowhere else.  Must not know what any of it is for.
"""

from __future__ import annotations

from typing import Final

from wsd import faults, log
from wsd.binding import Binding, Hooks
from wsd.counters import Counters
from wsd.loop import Loop
from wsd.sender import COPY_BYTES
from wsd.straight import DEEP_READ, PIECES_PER_TURN, Straight
from wsd.stream import LOW_WATER
from wsd.transport import READ, Output, SocketPipe
from wsd.wire.closing import OPEN
from wsd.wire.parser import Parser

METHODS: Final = ("on_open_events", "on_pipe_events", "callback_on_writable", "write", "offer", "send", "service_write")
"""Of `Straight`, by name; in C and in Python they do the same."""

TWINS: Final = {name: getattr(Straight, name) for name in METHODS}
"""Those in Python."""

# In the order in which _straight.c has it.
_NUMBERS: Final = (READ, OPEN, COPY_BYTES, LOW_WATER, PIECES_PER_TURN, DEEP_READ, log.PARSER)


def install(context: type[Loop]) -> None:
    """Have these methods run in C from now on, for the connections of contexts of that very class; once."""
    try:
        from wsd._native import straighten
    except ImportError:
        return
    classes = (Straight, Parser, Output, SocketPipe, Binding, Hooks, Counters, context)
    straighten(classes, _NUMBERS, vars(log), faults.CATCHABLE)
