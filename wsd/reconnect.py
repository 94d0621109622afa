"""Connecting again: when, how often, and when not.

Owns the delays and the one timer that waits for the next try.  Must not know how a connection is made: it is given a
function that makes one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsd import log

if TYPE_CHECKING:
    from wsd.binding import Binding
    from wsd.context import Context
    from wsd.timers import Timer
    from wsd.wsi import Wsi


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before connecting again.  LWS: lws_retry_bo_t, with the table of its examples.

    Raises:
        ValueError: an empty table, a delay that is no time, a jitter that is no part of one, tries below 0.
    """

    table_seconds: Sequence[float] = (1, 2, 3, 4, 5)
    """The delay after the first failure, the second, ...; the last one is repeated.  Once a connection was established
    it begins with the first again."""

    jitter: float = 0.2
    """Each delay is longer or shorter by up to this part of it, by chance, so that the clients of a server that was
    restarted do not all come back at once."""

    max_tries: int = 0
    """Give up after so many failures in a row; 0: never.  LWS: conceal_count."""

    def __post_init__(self) -> None:
        # Without any delay, a server that refuses would be asked in every turn of the loop.
        if not self.table_seconds or not all(0 < delay < math.inf for delay in self.table_seconds):
            raise ValueError(f"table_seconds: one or more delays above 0, found {self.table_seconds!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter: from 0 to 1, found {self.jitter!r}")
        if self.max_tries < 0:
            raise ValueError(f"max_tries: 0 or more, found {self.max_tries!r}")

    def delay_seconds(self, failures: int, chance: float) -> float:
        """How long to wait after `failures` of them in a row, 1 or more; `chance` is from 0 to 1, by lot."""
        delay = self.table_seconds[min(failures, len(self.table_seconds)) - 1]
        return delay * (1 + self.jitter * (2 * chance - 1))


class Reconnect:
    """Connects again, with a new wsi each time; `wsi.reconnect` of each of them is this.

    Args:
        open_wsi: Begins to connect; gets this object, for the new wsi.
    """

    def __init__(
        self, context: Context, binding: Binding, backoff: Backoff, open_wsi: Callable[[Reconnect], Wsi]
    ) -> None:
        self.backoff = backoff
        self.failures = 0
        """How often, since a connection was last established, it failed or ended."""
        self.wsi: Wsi
        """The latest one."""
        self._context = context
        self._binding = binding
        self._open_wsi = open_wsi
        self._timer: Timer | None = None
        self._is_cancelled = False

    def cancel(self) -> None:
        """Do not connect again; a connection that there is stays."""
        self._is_cancelled = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def open(self) -> Wsi:
        """Connect now."""
        self._timer = None
        self.wsi = self._open_wsi(self)
        return self.wsi

    def established(self) -> None:
        """Note that a connection is established."""
        self.failures = 0

    def schedule(self) -> None:
        """Connect again when it is time: there is no connection any more, and that was not what our side wanted."""
        self.failures += 1
        if 0 < self.backoff.max_tries <= self.failures:
            log.client("%s: failed %d times in a row, giving up", self.wsi.tag, self.failures)
        elif self._is_wanted:
            delay = self.backoff.delay_seconds(self.failures, random.random())
            log.client("%s: connecting again in %.1f s", self.wsi.tag, delay)
            self._timer = self._context.call_at(delay, self._due)

    def _due(self) -> None:
        if self._is_wanted:
            self.open()

    @property
    def _is_wanted(self) -> bool:
        """Whether there is anybody left to connect for: a protocol may have been replaced since."""
        is_served = self._context.bindings.get(self._binding.protocol) is self._binding
        return is_served and not self._is_cancelled and not self._context.stopping
