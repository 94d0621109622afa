"""One head, many tails."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.ring import Ring, Tail


def read_all(ring: Ring[int, str], tail: Tail[str]) -> list[int]:
    read = []
    while ring.waiting(tail):
        read.append(ring.peek(tail))
        ring.consume(tail)
    return read


def test_every_reader_gets_everything_in_order_at_its_own_pace() -> None:
    ring: Ring[int, str] = Ring(4)
    quick, slow = ring.join("quick"), ring.join("slow")
    for number in range(3):
        assert ring.insert(number)
    assert read_all(ring, quick) == [0, 1, 2]
    assert ring.insert(3)
    assert read_all(ring, quick) == [3]
    assert read_all(ring, slow) == [0, 1, 2, 3]


def test_peek_does_not_consume() -> None:
    ring: Ring[int, str] = Ring(4)
    tail = ring.join("a")
    ring.insert(7)
    assert ring.peek(tail) == ring.peek(tail) == 7
    assert ring.waiting(tail) == 1


def test_the_slowest_reader_decides_how_much_is_free() -> None:
    ring: Ring[int, str] = Ring(3)
    quick, slow = ring.join("quick"), ring.join("slow")
    assert ring.free == 3
    for number in range(3):
        assert ring.insert(number)
    read_all(ring, quick)
    assert ring.free == 0
    assert not ring.insert(3)
    assert ring.head == 3
    ring.consume(slow)
    assert ring.free == 1
    assert ring.insert(3)


def test_a_new_reader_starts_at_the_head() -> None:
    ring: Ring[int, str] = Ring(3)
    ring.join("first")
    ring.insert(0)
    late = ring.join("late")
    assert ring.waiting(late) == 0
    ring.insert(1)
    assert read_all(ring, late) == [1]


def test_what_only_a_leaver_had_to_read_is_free() -> None:
    ring: Ring[int, str] = Ring(3)
    quick, slow = ring.join("quick"), ring.join("slow")
    ring.insert(0)
    ring.insert(1)
    read_all(ring, quick)
    ring.leave(slow)
    assert ring.free == 3
    assert ring.tails == 1


def test_leaving_twice_is_an_error() -> None:
    ring: Ring[int, str] = Ring(3)
    tail = ring.join("a")
    ring.leave(tail)
    with pytest.raises(KeyError):
        ring.leave(tail)


def test_without_readers_nothing_is_kept() -> None:
    ring: Ring[int, str] = Ring(2)
    for number in range(5):
        assert ring.insert(number)
    assert ring.free == 2
    tail = ring.join("a")
    ring.insert(5)
    assert read_all(ring, tail) == [5]


def test_reading_past_the_head_is_an_error() -> None:
    ring: Ring[int, str] = Ring(2)
    tail = ring.join("a")
    with pytest.raises(IndexError):
        ring.peek(tail)
    with pytest.raises(IndexError):
        ring.consume(tail)


@pytest.mark.parametrize("size", [0, -1])
def test_a_ring_has_room_for_something(size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Ring(size)


def test_lagging_names_the_slowest_first() -> None:
    ring: Ring[int, str] = Ring(4)
    worst, bad, good = ring.join("worst"), ring.join("bad"), ring.join("good")
    for number in range(4):
        ring.insert(number)
    read_all(ring, good)
    ring.consume(bad)
    assert [tail.owner for tail in ring.lagging(2)] == ["worst", "bad"]
    assert [tail.owner for tail in ring.lagging(3)] == ["worst"]
    assert [tail.owner for tail in ring.lagging(0)] == ["worst", "bad"]
    assert ring.lagging(4) == []
    assert ring.waiting(worst) == 4


def test_an_element_is_let_go_when_the_last_reader_has_consumed_it() -> None:
    class Element:
        pass

    ring: Ring[Element, str] = Ring(2)
    one, two = ring.join("one"), ring.join("two")
    element = Element()
    alive = weakref.ref(element)
    ring.insert(element)
    del element
    ring.consume(one)
    gc.collect()
    assert alive() is not None
    ring.consume(two)
    gc.collect()
    assert alive() is None


@given(
    size=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from(["insert", "join", "leave", "consume"]), st.integers(0, 9)), max_size=80),
)
def test_a_ring_is_what_a_list_and_indexes_are(size: int, steps: list[tuple[str, int]]) -> None:
    """The ring, next to the simplest thing that could do its work: a list of all elements and an index per reader."""
    ring: Ring[int, int] = Ring(size)
    elements: list[int] = []
    readers: dict[Tail[int], int] = {}
    for number, (step, choice) in enumerate(steps):
        oldest = min(readers.values(), default=len(elements))
        chosen = list(readers)[choice % len(readers)] if readers else None
        if step == "insert":
            fits = len(elements) - oldest < size
            assert ring.insert(number) is fits
            if fits:
                elements.append(number)
        elif step == "join":
            readers[ring.join(number)] = len(elements)
        elif chosen is None:
            continue
        elif step == "leave":
            ring.leave(chosen)
            del readers[chosen]
        elif readers[chosen] < len(elements):
            assert ring.peek(chosen) == elements[readers[chosen]]
            ring.consume(chosen)
            readers[chosen] += 1
        oldest = min(readers.values(), default=len(elements))
        assert ring.free == size - (len(elements) - oldest)
        assert ring.tails == len(readers)
        assert all(ring.waiting(tail) == len(elements) - index for tail, index in readers.items())
        behind = [len(elements) - readers[tail] for tail in ring.lagging(1)]
        assert behind == sorted((b for b in (len(elements) - i for i in readers.values()) if b > 1), reverse=True)
