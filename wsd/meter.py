"""What one connection does against the clock: how fast it sends, when it last said something, since when it is there.

Owns the token buckets, when reading may go on, and which of its times is over next.  Pure: knows no clock, callers pass
`now`, in seconds of `time.monotonic()`; nor who reads, pauses or closes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# Reading goes on when a bucket has this part of a second's worth again: a timer for each single token would cost more
# than the messages that it lets through.
_RESUME_SECONDS: Final = 0.1

# Who is not stopped for this long keeps to the rate: from here on he has all of `over_rate_seconds` again.
_BREAK_SECONDS: Final = 1.0

_NEVER: Final = float("-inf")


class Over(NamedTuple):
    """A rate that was exceeded."""

    option: str
    rate: int
    wait: float
    """Seconds until reading may go on."""


class Bucket:
    """So many tokens a second, of which a second's worth may be taken at once."""

    __slots__ = ("_at", "_tokens", "option", "rate")

    def __init__(self, option: str, rate: int, now: float) -> None:
        self.option = option
        self.rate = rate
        self._tokens = float(rate)
        self._at = now

    def take(self, count: int, now: float) -> Over | None:
        """Take `count` tokens, there or not, for what is done already cannot be undone; None: there were as many."""
        tokens = self._tokens + (now - self._at) * self.rate
        self._tokens = tokens = min(tokens, self.rate) - count
        self._at = now
        if tokens >= 0:
            return None
        return Over(self.option, self.rate, _RESUME_SECONDS - tokens / self.rate)


class Meter:
    """The counts and times of one connection.

    Attributes:
        last_data: When a part of a message came or went.
        has_message: Whether the peer has sent a whole one.
    """

    __slots__ = ("_bytes", "_control", "_messages", "_resumed", "_since", "began", "has_message", "last_data")

    def __init__(self, now: float) -> None:
        self.began = self.last_data = now
        self.has_message = False
        self._control: Bucket | None = None
        self._messages: Bucket | None = None
        self._bytes: Bucket | None = None
        self._since = self._resumed = _NEVER

    def set_rates(self, messages: int, size: int, control: int, now: float) -> None:
        """How many messages, their bytes and control frames may come in a second; 0: any number."""
        self._messages = _renewed(self._messages, "max_messages_per_second", messages, now)
        self._bytes = _renewed(self._bytes, "max_bytes_per_second", size, now)
        self._control = _renewed(self._control, "max_control_frames_per_second", control, now)

    def count_piece(self, size: int, final: bool, now: float) -> Over | None:
        """A piece of a message has come, of `size` bytes; the rate that it exceeds, the one with the longer wait."""
        self.last_data = now
        over = None if self._bytes is None else self._bytes.take(size, now)
        if final:
            self.has_message = True
            other = None if self._messages is None else self._messages.take(1, now)
            if over is None or (other is not None and other.wait > over.wait):
                over = other
        return over

    def count_control(self, now: float) -> Over | None:
        """A Ping or Pong has come."""
        return None if self._control is None else self._control.take(1, now)

    # -- pauses -----------------------------------------------------------------------------------------------------

    def pause(self, now: float) -> bool:
        """Reading pauses; reports whether it is the first time after a break."""
        if now - self._resumed < _BREAK_SECONDS:
            return False
        self._since = now
        return True

    def resume(self, now: float) -> None:
        """Reading goes on."""
        self._resumed = now

    def patience(self, seconds: float, now: float) -> float:
        """What is left of `seconds` for a peer whose reading was paused again and again."""
        return self._since + seconds - now

    # -- times ------------------------------------------------------------------------------------------------------

    def next_deadline(self, first_message: float, idle: float, session: float) -> tuple[float, str] | None:
        """When the soonest of three times is over, each in seconds or 0 for none, and the option that says so."""
        deadlines = []
        if session:
            deadlines.append((self.began + session, "session_seconds"))
        if idle:
            deadlines.append((self.last_data + idle, "idle_seconds"))
        if first_message and not self.has_message:
            deadlines.append((self.began + first_message, "first_message_seconds"))
        return min(deadlines, default=None)


def _renewed(bucket: Bucket | None, option: str, rate: int, now: float) -> Bucket | None:
    """A bucket for `rate`: the one there is, if it has that already, with what was taken out of it."""
    if not rate:
        return None
    return bucket if bucket is not None and bucket.rate == rate else Bucket(option, rate, now)
