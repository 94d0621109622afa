"""What happens to a connection because time passes: the plugin's timer and timeout, pings to a silent peer, the times
of its budget, and pauses for a peer that sends too fast.

Owns these clocks, which run while a connection is open.  Must not know how input is read and delivered; `Wsi` is built
on it.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from wsd import log
from wsd.meter import Meter, Over
from wsd.reasons import CLOSE, OK
from wsd.sender import Sender
from wsd.stream import HOLD_RATE, NoPipe
from wsd.transport import Pipe
from wsd.wire import frames
from wsd.wire.closing import OPEN

if TYPE_CHECKING:
    from wsd.binding import Binding
    from wsd.config import Keepalive
    from wsd.context import Context

_PING_MARK: Final = Struct("!4sI")
_PING_TIME: Final = Struct("!d")

# In the place of when a ping was sent: before anything that was read.
_ANSWERED: Final = -1.0

# How a connection ends whose time is over: code, and what the peer is told.  1001 ("going away") where it has done
# nothing wrong and may come again.
_ENDS: Final = {
    "first_message_seconds": (frames.POLICY, "no message in time"),
    "idle_seconds": (frames.GOING_AWAY, "idle"),
    "session_seconds": (frames.GOING_AWAY, "session over"),
}


def _slack(keepalive: Keepalive) -> float:
    """How much sooner or later than asked a peer may be looked at: so little that no proxy between will mind."""
    return min(keepalive.ping_seconds, keepalive.hangup_seconds) / 32


class Timed(Sender):
    """A connection with clocks."""

    __slots__ = ("_last_read", "_pinged", "number")

    def __init__(self, context: Context, pipe: Pipe | NoPipe, binding: Binding, is_client: bool, number: int) -> None:
        super().__init__(context, pipe, binding, is_client)
        self.number = number
        self._last_read = context.now
        self._pinged = 0.0  # when we last did so of ourselves; 0: never; _ANSWERED: the Pong has come

    def set_timer(self, seconds: float | None) -> int:
        """Have `on_timer` called once, `seconds` from now; None takes it back.  LWS: lws_set_timer_usecs."""
        if self._state > OPEN:
            return CLOSE
        rare = self._own_rare()
        if rare.timer is not None:
            rare.timer.cancel()
        rare.timer = None if seconds is None else self.context.call_at(seconds, self._timer_due)
        return OK

    def _timer_due(self) -> None:
        self._own_rare().timer = None
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
        rare = self._own_rare()
        if rare.timeout is not None:
            rare.timeout.cancel()
        rare.timeout = None if seconds is None else self.context.call_at(seconds, self._timeout_due)
        return OK

    def _timeout_due(self) -> None:
        self._own_rare().timeout = None
        self._why = "timed out"
        self._note_close(frames.POLICY, "timed out")

    def _schedule_keepalive(self, seconds: float) -> None:
        self._keepalive = self.context.rounds.join(self, seconds, _slack(self.context.keepalive))

    def _is_awaited(self, payload: bytes) -> bool:
        """Reports whether a Pong is the one that we wait for; it was asked for, so it is not counted as control frames
        are, and an idle peer needs no meter."""
        if payload != self._ping_mark + _PING_TIME.pack(self._pinged):
            return False
        self._pinged = _ANSWERED
        return True

    @property
    def _ping_mark(self) -> bytes:
        """How our own pings begin, whose Pongs are ours too."""
        return _PING_MARK.pack(b"wsd ", self.number & 0xFFFFFFFF)

    def look(self) -> None:
        """Ping a peer that has been silent; hang up on one that stays so.  Not a heap operation per message: a round
        looks at when something was last read, and then it is time for a ping or for another round."""
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
        elif silent < keepalive.ping_seconds - _slack(keepalive):
            self._schedule_keepalive(keepalive.ping_seconds - silent)
        elif self._last_read >= self._pinged:
            self._pinged = now
            self._put_frame(frames.FIN | frames.PING, self._ping_mark + _PING_TIME.pack(now))
            self._list_once()
            self._schedule_keepalive(min(keepalive.ping_seconds, keepalive.hangup_seconds))
        elif (left := self._pinged + keepalive.hangup_seconds - now) > 0:
            self._schedule_keepalive(min(keepalive.ping_seconds, left))
        else:
            log.info("%s: no answer to a ping for %g s, hanging up", self.tag, keepalive.hangup_seconds)
            self.context.counters.hangups += 1
            self._lost("no answer to a ping")

    # -- the budget -------------------------------------------------------------------------------------------------

    def renew_budget(self) -> None:
        """The connection has just been established, or a reload has changed its budget."""
        budget = self.budget
        is_timed = budget.has_clocks and not self._is_client
        if budget.has_rates or is_timed:
            self._own_rare().meter = self._paced()
        elif self._rare.meter is not None:
            self._rare.meter = None
        rare = self._rare
        if rare.pace is not None:
            self._set_rates(rare.pace)
        if rare.rate_timer is not None:  # it may be no longer over any rate; else it is again with the next piece
            rare.rate_timer.cancel()
            self._read_on()
        self._look_at_clock()

    def _paced(self) -> Meter:
        """The meter; made when it is first needed, since most connections never need one."""
        pace = self._rare.pace
        if pace is None:
            pace = self._own_rare().pace = Meter(self.context.now)
            self._set_rates(pace)
        return pace

    def _set_rates(self, pace: Meter) -> None:
        budget = self.budget
        pace.set_rates(
            budget.max_messages_per_second,
            budget.max_bytes_per_second,
            budget.max_control_frames_per_second,
            self.context.now,
        )

    def _slow_down(self, over: Over) -> None:
        """The peer sends more than it may: read nothing for a while, so that it has to wait as well."""
        if self._rare.rate_timer is not None or self._state > OPEN:
            return
        now, pace = self.context.now, self._paced()
        self.context.counters.rate_pauses += 1
        if pace.pause(now):
            log.info("%s: over %s (%d), reading pauses", self.tag, over.option, over.rate)
        left = pace.patience(self.budget.over_rate_seconds, now)
        self._set_hold(HOLD_RATE, True)
        wait = max(0.0, min(over.wait, left))
        self._own_rare().rate_timer = self.context.call_at(wait, lambda: self._pause_over(over))

    def _pause_over(self, over: Over) -> None:
        """Read on; or end it, where the peer has not let up."""
        self._own_rare().rate_timer = None
        if self._state > OPEN:
            return
        seconds = self.budget.over_rate_seconds
        if self._paced().patience(seconds, self.context.now) > 0:
            self._read_on()
            return
        log.warn("%s: over %s (%d) for %g s, closing with 1008", self.tag, over.option, over.rate, seconds)
        self.context.counters.note_over(over.option)
        self._note_close(frames.POLICY, f"over {over.option}")

    def _read_on(self) -> None:
        """The end of a pause."""
        self._own_rare().rate_timer = None
        self._paced().resume(self.context.now)
        self._set_hold(HOLD_RATE, False)

    def _look_at_clock(self) -> None:
        """End the connection if one of its times is over, else look again when the next one is.

        Not a heap operation per message: the meter notes when something was last said.
        """
        if self._rare.clock is not None:
            self._rare.clock.cancel()
            self._rare.clock = None
        budget, meter, now = self.budget, self._rare.meter, self.context.now
        if meter is None or self._is_client or not self.is_established:
            return
        if self._hold:
            meter.last_data = now  # what the peer has to say meanwhile, nobody hears
        found = meter.next_deadline(budget.first_message_seconds, budget.idle_seconds, budget.session_seconds)
        if found is None:
            return
        when, option = found
        if when > now:
            self._own_rare().clock = self.context.call_at(when - now, self._look_at_clock)
            return
        code, text = _ENDS[option]
        log.info("%s: %s (%g) are over, closing with %d", self.tag, option, getattr(budget, option), code)
        self.context.counters.note_over(option)
        self._note_close(code, text)
