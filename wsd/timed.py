"""What happens to a connection because time passes: the plugin's timer and timeout, and pings to a silent peer.

Owns these three clocks, which run while a connection is open.  Must not know how input is read and delivered; `Wsi` is
built on it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from wsd import log
from wsd.reasons import CLOSE, OK
from wsd.sender import Sender
from wsd.stream import NoPipe
from wsd.transport import Pipe
from wsd.wire import frames
from wsd.wire.closing import OPEN

if TYPE_CHECKING:
    from wsd.binding import Binding
    from wsd.context import Context


class Timed(Sender):
    """A connection with clocks."""

    __slots__ = ("_last_read", "_ping_mark", "_pinged", "number")

    def __init__(self, context: Context, pipe: Pipe | NoPipe, binding: Binding, is_client: bool, number: int) -> None:
        super().__init__(context, pipe, binding, is_client)
        self.number = number
        self._last_read = context.now
        self._ping_mark: bytes | None = None  # how our own pings begin, whose Pongs are ours too
        self._pinged = 0.0  # when it was sent

    def set_timer(self, seconds: float | None) -> int:
        """Have `on_timer` called once, `seconds` from now; None takes it back.  LWS: lws_set_timer_usecs."""
        if self._state > OPEN:
            return CLOSE
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.context.call_at(seconds, self._timer_due)
        return OK

    def _timer_due(self) -> None:
        self._timer = None
        hook = self.binding.hooks.on_timer
        if hook is None or self._state > OPEN:
            return
        answer = self.call("on_timer", hook, self)
        # It may be HTTP still, a download that is paced by the timer for one.
        if answer and not self.is_established:
            self.close()

    def set_timeout(self, seconds: float | None) -> int:
        """Close the wsi with 1008 `seconds` from now unless called again; None takes it back.  LWS: lws_set_timeout."""
        if self._state > OPEN:
            return CLOSE
        if self._timeout is not None:
            self._timeout.cancel()
        self._timeout = None if seconds is None else self.context.call_at(seconds, self._timeout_due)
        return OK

    def _timeout_due(self) -> None:
        self._timeout = None
        self._why = "timed out"
        self._note_close(frames.POLICY, "timed out")

    def _schedule_keepalive(self, seconds: float) -> None:
        self._keepalive = self.context.call_at(seconds, self._check_alive)

    def _check_alive(self) -> None:
        """Ping a peer that has been silent; hang up on one that stays so.  Not a heap operation per message: the
        timer looks at when something was last read, and sets itself anew."""
        if self._state != OPEN:
            return
        keepalive = self.context.keepalive
        if not keepalive.ping_seconds:
            return
        now = self.context.now
        silent = now - self._last_read
        if self._hold:
            # While we do not read, an answer could not be seen; a reader that is slow has a clock of its own.
            self._last_read = now
            self._schedule_keepalive(keepalive.ping_seconds)
        elif silent < keepalive.ping_seconds:
            self._schedule_keepalive(keepalive.ping_seconds - silent)
        elif self._last_read >= self._pinged:
            self._pinged = now
            self._ping_mark = struct.pack("!4sI", b"wsd ", self.number & 0xFFFFFFFF)
            self._put_frame(frames.FIN | frames.PING, self._ping_mark + struct.pack("!d", now))
            self._list_once()
            self._schedule_keepalive(min(keepalive.ping_seconds, keepalive.hangup_seconds))
        elif (left := self._pinged + keepalive.hangup_seconds - now) > 0:
            self._schedule_keepalive(min(keepalive.ping_seconds, left))
        else:
            log.info("%s: no answer to a ping for %g s, hanging up", self.tag, keepalive.hangup_seconds)
            self.context.counters.hangups += 1
            self._lost("no answer to a ping")
