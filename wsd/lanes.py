"""One at a time where it has to be: who comes later waits until everybody before it is out of the way.

Pure.  Owns the order in which the clients of a context connect: "If multiple connections to the same IP address are
attempted simultaneously, the client MUST serialize them so that there is no more than one connection at a time running
through the following steps" (RFC 6455 4.1, point 2; the steps are connecting and the opening handshake).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from functools import partial


class Lane:
    """A place in one or more queues at once."""

    __slots__ = ("_go", "_has_left", "_is_waiting", "_keys", "_lanes")

    def __init__(self, lanes: Lanes, keys: frozenset[Hashable], go: Callable[[], None]) -> None:
        self._lanes = lanes
        self._keys = keys
        self._go = go
        self._is_waiting = True
        self._has_left = False

    def leave(self) -> None:
        """Be out of the way, whether this one had gone or was waiting still; to leave again does nothing."""
        if not self._has_left:
            self._has_left = True
            self._lanes._left(self._keys)


class Lanes:
    """A queue for each key.

    Args:
        call_soon: Runs a function a little later: nobody's `go` is called inside of `enter` or `leave`.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], None]) -> None:
        self._call_soon = call_soon
        self._queues: dict[Hashable, deque[Lane]] = {}

    def enter(self, keys: Iterable[Hashable], go: Callable[[], None]) -> Lane:
        """Have `go()` called, once, when everybody who came before and shares a key has left."""
        lane = Lane(self, frozenset(keys), go)
        for key in lane._keys:
            self._queues.setdefault(key, deque()).append(lane)
        self._call_soon(partial(self._look_at, lane))
        return lane

    def _left(self, keys: Iterable[Hashable]) -> None:
        for key in keys:
            queue = self._queues[key]
            while queue and queue[0]._has_left:
                queue.popleft()
            if queue:
                self._call_soon(partial(self._look_at, queue[0]))
            else:
                del self._queues[key]

    def _look_at(self, lane: Lane) -> None:
        """Let one go, if it is the first of all its queues."""
        if lane._is_waiting and not lane._has_left and all(self._queues[key][0] is lane for key in lane._keys):
            lane._is_waiting = False
            lane._go()
