"""What few connections ever have: a timer of the plugin's, a pause, a parent.

Owns these facts and their defaults.  Must not know what they mean to a connection: `Stream` and what is built on it say
that.

A slot costs each connection eight bytes, and its making an instruction or three, whether anything is ever in it or not.
So the facts that most connections go without are no slots of theirs: all who have none share one object, `NOTHING`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from wsd.client import Reconnect
    from wsd.meter import Meter
    from wsd.timers import Timer
    from wsd.wire.reply import Reply
    from wsd.wsi import Wsi


class Rare:
    """The facts of one connection.  The defaults are the class's, so that making one sets nothing."""

    # Of a peer that does not read.
    slow_timer: Timer | None = None
    fetched = 0  # what it had when slow_timer was set

    # Of input that waits.
    backlog_at = 0  # the index of the first piece that was not delivered
    backlog_bytes = 0  # what the backlog holds, roughly
    assembled: bytearray | None = None  # the message so far, for on_message

    # Clocks that run while the connection is open.
    timer: Timer | None = None  # the plugin's
    timeout: Timer | None = None  # the plugin's
    clock: Timer | None = None  # for the times of the budget
    rate_timer: Timer | None = None  # while reading pauses since the peer sends too fast
    # Of a peer that sent a Ping or Pong, or whose messages are counted: only then it is `meter` as well.
    pace: Meter | None = None
    meter: Meter | None = None

    # Of a close.
    is_answering = False  # inside the on_writeable that answers what came before the peer's close
    is_own_close = False  # the plugin wanted the end
    has_pinged = False  # the plugin did: a Pong may be under way, whatever came

    # Of what is no WebSocket that came in by a listener.
    is_raw = False  # for good: bytes are handed out as they come, to the hooks for that
    is_held_early = False  # the plugin wants no input, while we connect: a handshake is read all the same
    response: Reply | None = None  # what the server answered to us, the client
    reconnect: Reconnect | None = None  # who connects again when this client's connection ended
    parent: Wsi | None = None  # it is tied to, see `ties.py`
    children: dict[Wsi, None] | None = None  # that are tied to it

    def stop_clocks(self) -> None:
        """The end of those that run while a connection is open."""
        for timer in (self.timer, self.timeout, self.clock, self.rate_timer):
            if timer is not None:
                timer.cancel()

    def end(self) -> None:
        """The connection is gone: let go what only a live one needs."""
        if self.slow_timer is not None:
            self.slow_timer.cancel()
        self.slow_timer = self.timer = self.timeout = self.clock = self.rate_timer = self.assembled = None


class _Nothing(Rare):
    """What those share that have nothing rare: it stays as it is."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{name}: this is what all connections share; take one of your own first")


NOTHING: Final = _Nothing()
