"""What all connections of a context hold together, and who gives way when that is too much.

Owns the account and the choice.  Must not know what a connection holds, nor how it ends: it is told the one, and asks
for the other.

Connections tell what they hold when that is more than passes through: unsent bytes that the kernel has refused, a
message that has come in part, pieces that nobody has taken yet.  So the account costs nothing where all goes well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

from wsd import log
from wsd.counters import Counters

# Once over the limit, so much of it is freed (a 32nd): choosing takes a look at every holder, which must pay for the
# reads of many connections and not of one.  As much may move unseen until the next look.
_SHIFT: Final = 5

# What Python adds to each `bytes`: `sys.getsizeof(b"")`.
_BYTES_BYTES: Final = 33


class Holder(Protocol):
    """A connection."""

    held: int
    """What it has told last."""

    @property
    def tag(self) -> str: ...

    def outgoing(self) -> Iterable[tuple[int, int]]:
        """What waits to be sent: `id()` and size of each; a message that goes to many is one object in all of them."""

    def give_way(self) -> None:
        """End, and hold next to nothing from now on."""


class Memory:
    """The account.

    Attributes:
        limit: `limits.max_memory_bytes`; 0: none.
        held: Bytes that all connections hold; what several share counts in each.
    """

    def __init__(self, counters: Counters, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._counters = counters
        self._holders: dict[Holder, None] = {}
        self._moved = 0  # since somebody has looked
        self._is_choosing = False
        self._warnings = log.Throttle()

    def note(self, holder: Holder, held: int, now: float) -> None:
        """`holder` holds so many bytes now."""
        change = held - holder.held
        if not change:
            return
        if not held:
            del self._holders[holder]
        elif not holder.held:
            self._holders[holder] = None
        holder.held = held
        self.held += change
        if not self.limit or self.held <= self.limit:
            self._moved = self.limit  # the next look is due as soon as it is over
            return
        self._moved += abs(change)
        if self._moved >= self.limit >> _SHIFT and not self._is_choosing:
            self._is_choosing = True
            self._relieve(now)
            self._moved = 0
            self._is_choosing = False

    def _relieve(self, now: float) -> None:
        """Have those that hold most give way, until it is enough."""
        weights = self._weigh()
        total = sum(weights.values())
        if total <= self.limit:
            return
        for holder in sorted(weights, key=weights.__getitem__, reverse=True):
            if total <= self.limit - (self.limit >> _SHIFT):
                break
            total -= weights[holder]
            self._counters.over_max_memory_bytes += 1
            held_back = self._warnings.allow("memory", now)
            if held_back is not None:
                log.warn(
                    "%s: closed with 1013: all connections hold over max_memory_bytes (%d), and it holds most, %d bytes"
                    " (%d like it since the last line)",
                    holder.tag,
                    self.limit,
                    weights[holder],
                    held_back,
                )
            holder.give_way()

    def _weigh(self) -> dict[Holder, int]:
        """What each holds; its part of it where it shares that with others, as a broadcast's receivers do."""
        owners = Counter(key for holder in self._holders for key, _ in holder.outgoing())
        weights = {}
        for holder in self._holders:
            shared = [(size + _BYTES_BYTES, owners[key]) for key, size in holder.outgoing() if owners[key] > 1]
            weights[holder] = holder.held - sum(size - size // count for size, count in shared)
        return weights
