"""What one connection may cost: every limit and time that holds for a pair of a listener and a protocol.

Owns how the four places merge that a number may stand in.  Must not know who enforces it, nor when.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wsd.options_limits import Limits, Timeouts

LIMITS: Final = (
    "max_body_bytes",
    "max_bytes_per_second",
    "max_control_frames_per_second",
    "max_fragments",
    "max_frame_bytes",
    "max_head_bytes",
    "max_headers",
    "max_message_bytes",
    "max_messages_per_second",
    "max_queue_bytes",
    "max_uri_bytes",
)

TIMEOUTS: Final = (
    "body_seconds",
    "close_seconds",
    "first_message_seconds",
    "handshake_seconds",
    "http_idle_seconds",
    "idle_seconds",
    "over_rate_seconds",
    "session_seconds",
    "slow_reader_seconds",
    "tls_handshake_seconds",
)


class Budget:
    """The numbers of one pair of a listener and a protocol; a reload changes them in place.

    Attributes:
        has_clocks: Whether a WebSocket that came in has a time of its own to look at.
        has_rates: Whether its messages or their bytes are counted against the time.
    """

    __slots__ = (*LIMITS, *TIMEOUTS, "has_clocks", "has_rates")

    if TYPE_CHECKING:  # the slots, for the type checker
        has_clocks: bool
        has_rates: bool
        max_body_bytes: int
        max_bytes_per_second: int
        max_control_frames_per_second: int
        max_fragments: int
        max_frame_bytes: int
        max_head_bytes: int
        max_headers: int
        max_message_bytes: int
        max_messages_per_second: int
        max_queue_bytes: int
        max_uri_bytes: int
        body_seconds: float
        close_seconds: float
        first_message_seconds: float
        handshake_seconds: float
        http_idle_seconds: float
        idle_seconds: float
        over_rate_seconds: float
        session_seconds: float
        slow_reader_seconds: float
        tls_handshake_seconds: float

    def resolve(self, limits: Limits, timeouts: Timeouts, over: Iterable[Any]) -> None:
        """Take each number from where it stands.

        Args:
            limits, timeouts: The context's, where each has its number.
            over: What wins over those, each over the one before it: tables, or protocols, of which one that has no such
                number, or None, is passed over.
        """
        tables = [table for table in over if table is not None]
        for names, base in ((LIMITS, limits), (TIMEOUTS, timeouts)):
            for name in names:
                value = getattr(base, name)
                for table in tables:
                    own = getattr(table, name, None)
                    value = value if own is None else own
                setattr(self, name, value)
        self.has_rates = bool(self.max_messages_per_second or self.max_bytes_per_second)
        self.has_clocks = bool(self.first_message_seconds or self.idle_seconds or self.session_seconds)
