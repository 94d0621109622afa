"""libwebsockets' `dumb-increment-protocol`: a number every 50 ms, as text, from 0.

`reset\\n` starts again at 0, `closeme\\n` is answered with a Close frame, 1001 "seeya".

A model for authors: the callback style, one function for all reasons, for those who port a plugin from C.  Where it
differs from the original: the timer is the connection's own (the original's marks every connection, so that N of them
may count N times as fast), and nothing is sent after the Close frame.
"""

from __future__ import annotations

import time
from typing import Any

from wsd import CLOSE, OK, Answer, Reason, Wsi, callback_protocol

PERIOD_SECONDS = 0.05


class Counter:
    """What one connection remembers; the callback gets it as `user`."""

    __slots__ = ("command", "due", "number", "ticked")

    def __init__(self) -> None:
        self.number = 0
        self.ticked = False
        self.command = b""
        self.due = time.monotonic()


@callback_protocol("dumb-increment-protocol", session=Counter)
def dumb_increment(wsi: Wsi, reason: Reason, user: Counter, data: Any) -> Answer:
    match reason:
        case Reason.CONFIRM_EXTENSION_OKAY:
            return CLOSE  # no compression of a few digits; the original's client cannot do it either
        case Reason.ESTABLISHED:
            wait(wsi, user)
        case Reason.TIMER:
            wait(wsi, user)
            user.ticked = True
            wsi.callback_on_writable()
        case Reason.SERVER_WRITEABLE:
            # The call may be spurious: write only if there is something to say.
            if user.ticked:
                wsi.write(str(user.number))
                user.number += 1
                user.ticked = False
        case Reason.RECEIVE:
            # A message may come in pieces; a command is no longer than 8 bytes.
            user.command = (user.command + data)[:8]
            if wsi.is_final_fragment:
                obey(wsi, user, user.command)
                user.command = b""
    return OK


def wait(wsi: Wsi, user: Counter) -> None:
    """Set the timer for the next number, counted from when this one was due, so that lateness does not add up."""
    now = time.monotonic()
    user.due = max(user.due + PERIOD_SECONDS, now)
    wsi.set_timer(user.due - now)


def obey(wsi: Wsi, user: Counter, command: bytes) -> None:
    if command.startswith(b"reset\n"):
        user.number = 0
    elif command.startswith(b"closeme\n"):
        wsi.close(1001, "seeya")


protocols = [dumb_increment]
