"""One head, many tails: libwebsockets' `lws_ring`, for telling many readers the same thing.

Owns the elements and each reader's place among them.  Must not know who the readers are (a tail carries an `owner`
that only the caller looks at), nor what an element is.  An element is kept until the last reader has consumed it, so
the oldest tail alone decides how much space is free: one slow reader fills the ring for everybody.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Element = TypeVar("Element")
Owner = TypeVar("Owner")


class Tail(Generic[Owner]):
    """One reader's place in a ring.

    `position` counts the elements that were ever inserted before the next one it will read.
    """

    __slots__ = ("owner", "position")

    def __init__(self, owner: Owner, position: int) -> None:
        self.owner, self.position = owner, position


class Ring(Generic[Element, Owner]):
    """At most `size` elements, read at their own pace by any number of tails.

    Positions only grow; an element lies in the slot `position % (size + 1)`.  There is one slot more than elements,
    since a tail may stand at any element and also behind the last one.  Each slot knows the tails that stand there:
    the oldest tail is found by going on to the next occupied slot, and never by asking every reader.

    Complexity: every operation is O(1), but that `insert`, `consume` and `leave` may step the oldest tail over empty
    slots; it steps at most once per element ever inserted, so that is O(1) too, spread over the inserts.  `lagging`
    costs the slots it looks at plus the tails it finds.
    """

    __slots__ = ("_elements", "_oldest", "_slots", "_standing", "head", "size", "tails")

    def __init__(self, size: int) -> None:
        """Raises: ValueError: `size` is not at least 1."""
        if size < 1:
            raise ValueError(f"a ring needs a size of at least 1, found {size}")
        self.size = size
        self.head = 0
        """How many elements were ever inserted."""
        self.tails = 0
        """How many readers there are."""
        self._slots = size + 1
        self._oldest = 0
        self._elements: list[Element | None] = [None] * self._slots
        # A dict and no set: readers are found in the order in which they came to stand there.
        self._standing: list[dict[Tail[Owner], None]] = [{} for _ in range(self._slots)]

    @property
    def free(self) -> int:
        """How many elements can be inserted before the slowest reader has to consume one."""
        return self.size - (self.head - self._oldest)

    def join(self, owner: Owner) -> Tail[Owner]:
        """A new reader, at the head: it reads what is inserted from now on."""
        tail = Tail(owner, self.head)
        self._standing[self.head % self._slots][tail] = None
        self.tails += 1
        return tail

    def leave(self, tail: Tail[Owner]) -> None:
        """Forget a reader; what only it had still to read is free.

        Raises:
            KeyError: the tail is not (or no longer) of this ring.
        """
        del self._standing[tail.position % self._slots][tail]
        self.tails -= 1
        self._settle()

    def insert(self, element: Element) -> bool:
        """Put one element at the head for every reader; reports whether there was room."""
        if self.head - self._oldest >= self.size:
            return False
        self._elements[self.head % self._slots] = element
        self.head += 1
        if not self.tails:
            self._settle()
        return True

    def waiting(self, tail: Tail[Owner]) -> int:
        """How many elements this reader has still to consume."""
        return self.head - tail.position

    def peek(self, tail: Tail[Owner]) -> Element:
        """The next element of this reader, which stays its next one until `consume`.

        Raises:
            IndexError: it has read everything.
        """
        if tail.position >= self.head:
            raise IndexError("nothing is waiting for this reader")
        return self._elements[tail.position % self._slots]  # type: ignore[return-value]  # it was inserted, not freed

    def consume(self, tail: Tail[Owner]) -> None:
        """Step one reader over its next element, which is freed if it was the last reader to need it.

        Raises:
            IndexError: it has read everything.
        """
        if tail.position >= self.head:
            raise IndexError("nothing is waiting for this reader")
        del self._standing[tail.position % self._slots][tail]
        tail.position += 1
        self._standing[tail.position % self._slots][tail] = None
        if tail.position == self._oldest + 1:
            self._settle()

    def lagging(self, count: int) -> list[Tail[Owner]]:
        """The readers with more than `count` elements waiting, the slowest first."""
        positions = range(self._oldest, self.head - count)
        return [tail for position in positions for tail in self._standing[position % self._slots]]

    def _settle(self) -> None:
        """Move the oldest tail up to the slowest reader, freeing what it passes."""
        while self._oldest < self.head and not self._standing[self._oldest % self._slots]:
            self._elements[self._oldest % self._slots] = None
            self._oldest += 1
