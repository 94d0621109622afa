"""How many may come in: connections of one address, and connections that have not finished their handshake.

Owns what happens at these limits.  Which addresses may come in at all is `doors.py`'s, the limit on all connections
`context.py`'s.  Must not know what a handshake is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from wsd import log
from wsd.addresses import Addresses, Unfinished

if TYPE_CHECKING:
    from wsd.context import Context
    from wsd.protocol import Peer
    from wsd.timers import Timer
    from wsd.wsi import Wsi

# A handshake that is under way takes some round trips; one that takes longer than this has to make room when there is
# none.  It is what the farthest client on a bad line needs, and a fifth of `handshake_seconds`.
PATIENCE_SECONDS: Final = 1.0

# Handshakes never take more than half of all connections, or nobody could be let in while they wait; where there are
# few it is not worth the while.
_FEW: Final = 64

_warnings = log.Throttle()


class Admission:
    """Who came in to one context.

    Args:
        wsis: Its connections, now and later.
        resume: Makes it accept again, if there is room otherwise.
    """

    def __init__(self, context: Context, wsis: Iterable[Wsi], resume: Callable[[], None]) -> None:
        self._context = context
        self._resume = resume
        self._wsis = wsis
        self._addresses = Addresses()
        self._is_counting = False  # addresses; with no limit on them they are not even looked at
        self._unfinished: Unfinished[Wsi] = Unfinished()
        self._most = _FEW  # of them when the next one has come; `has_room` says how many that is
        self._timer: Timer | None = None  # when the oldest handshake has to make room

    @property
    def most_handshakes(self) -> int:
        """Connections that may be in their handshake."""
        context = self._context
        most, half = context.limits.max_handshakes, context.max_connections // 2
        return most if most <= _FEW or most <= half else max(_FEW, half)

    @property
    def handshakes(self) -> int:
        """Connections that are in their handshake."""
        return len(self._unfinished)

    # -- addresses --------------------------------------------------------------------------------------------------

    def enter(self, number: int, peer: Peer) -> str:
        """Count connection `number` as one of this peer's, or say why it is one too many; empty: it is not."""
        limits = self._context.limits
        most, rate = limits.max_connections_per_address, limits.max_handshakes_per_second
        if not (most or rate):
            if self._is_counting:
                self._addresses, self._is_counting = Addresses(), False
            return ""
        if not self._is_counting:
            self._is_counting = True
            self._count_all()
        over = self._addresses.enter(number, peer.address, most, rate, self._context.now)
        if not over:
            return ""
        self._context.counters.note_over(over)
        return f"over limits.{over} = {getattr(limits, over)}"

    def _count_all(self) -> None:
        """A reload has brought a limit: those who are there count."""
        for wsi in self._wsis:
            if wsi.listener is not None and wsi.is_established:
                self._addresses.hold(wsi.number, wsi.peer.address)

    def forget(self, number: int) -> None:
        """A connection that has entered is none after all."""
        if self._is_counting:
            self._addresses.leave(number)

    # -- handshakes ---------------------------------------------------------------------------------------------------

    def begin(self, wsi: Wsi) -> None:
        """A connection has come in, and its handshake begins; at the limit the oldest makes room for it."""
        context, unfinished = self._context, self._unfinished
        unfinished.begin(wsi, context.now)
        if len(unfinished) <= self._most:
            return
        oldest, _ = unfinished.oldest()
        unfinished.end(oldest)
        context.counters.note_over("max_handshakes")
        log.info("%s: its handshake takes long, and others wait; closed", oldest.tag)
        oldest.abort("its handshake took long, and others waited")

    def done(self, wsi: Wsi) -> None:
        """Its handshake is done; said again, it changes nothing."""
        if self._unfinished.end(wsi):
            self._resume()

    def left(self, wsi: Wsi) -> None:
        """A connection is gone; called by the reaper, for those that never came in as well."""
        if self._unfinished:
            self.done(wsi)
        if self._is_counting:
            self.forget(wsi.number)

    def has_room(self) -> bool:
        """Reports whether one more may begin its handshake; if not, accepting pauses until one may."""
        count = len(self._unfinished)
        if count < _FEW and count < self._context.limits.max_handshakes:  # nearly always, and the rest is dearer
            self._most = count + 1
            return True
        self._most = most = self.most_handshakes
        return count < most or self._can_make_room()

    def _can_make_room(self) -> bool:
        """Reports whether the oldest handshake has had time enough, so that a newcomer may take its place."""
        context = self._context
        if _warnings.allow("handshakes", context.now) is not None:
            log.warn("limits.max_handshakes reached (%d); those that take long are closed", len(self._unfinished))
        left = self._unfinished.oldest()[1] + PATIENCE_SECONDS - context.now
        if left <= 0:
            return True
        context.pause_accepting()
        if self._timer is None:
            self._timer = context.call_at(left, self._time_is_up)
        return False

    def _time_is_up(self) -> None:
        self._timer = None
        self._resume()
