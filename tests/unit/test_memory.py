"""wsd/memory.py: the account, and who gives way, with holders that only note it."""

from __future__ import annotations

from tests.support.logged import logged
from wsd.counters import Counters
from wsd.memory import Memory

NOW = 1000.0


class Holder:
    """Holds `held` bytes of its own beside what it shares."""

    def __init__(self, memory: Memory, name: str = "") -> None:
        self.memory = memory
        self.tag = name
        self.held = 0
        self.shared: list[bytes] = []
        self.has_given_way = False

    def outgoing(self) -> list[tuple[int, int]]:
        return [(id(data), len(data)) for data in self.shared]

    def hold(self, own: int, *shared: bytes) -> None:
        self.shared = list(shared)
        self.memory.note(self, own + sum(map(len, shared)), NOW)

    def give_way(self) -> None:
        self.has_given_way = True
        self.hold(0)


def made(limit: int, count: int) -> tuple[Memory, Counters, list[Holder]]:
    counters = Counters()
    memory = Memory(counters, limit)
    return memory, counters, [Holder(memory, f"wsi#{index}") for index in range(count)]


def gone(holders: list[Holder]) -> list[int]:
    return [index for index, holder in enumerate(holders) if holder.has_given_way]


def test_the_sum_is_that_of_what_was_told_last() -> None:
    memory, _, (one, other) = made(1000, 2)
    one.hold(10)
    other.hold(5)
    one.hold(7)
    assert memory.held == 12
    one.hold(0)
    other.hold(0)
    assert memory.held == 0


def test_nobody_gives_way_up_to_the_limit() -> None:
    memory, counters, holders = made(1000, 2)
    holders[0].hold(900)
    holders[1].hold(100)
    assert memory.held == 1000
    assert gone(holders) == []
    assert counters.over_max_memory_bytes == 0


def test_over_it_the_largest_does_and_not_who_came_last() -> None:
    memory, counters, holders = made(1000, 4)
    for holder, size in zip(holders, (300, 500, 150, 100), strict=True):
        holder.hold(size)
    assert gone(holders) == [1]
    assert memory.held == 550
    assert counters.over_max_memory_bytes == 1


def test_as_many_do_as_are_needed() -> None:
    memory, counters, holders = made(1000, 101)
    for holder in holders:
        holder.hold(10)
    # 1010 are too much, and a 32nd of the limit is freed at once.
    assert len(gone(holders)) == 5
    assert counters.over_max_memory_bytes == 5
    assert memory.held == 960


def test_it_happens_again() -> None:
    memory, counters, holders = made(1000, 3)
    for holder in holders:
        holder.hold(600)
    assert gone(holders) == [0, 1]
    assert (memory.held, counters.over_max_memory_bytes) == (600, 2)


def test_without_a_limit_nobody_does() -> None:
    memory, counters, holders = made(0, 2)
    for holder in holders:
        holder.hold(1 << 40)
    assert gone(holders) == []
    memory.limit = 1  # a reload
    holders[0].hold((1 << 40) + 1)
    assert gone(holders) == [0, 1]
    assert counters.over_max_memory_bytes == 2


def test_what_many_share_is_there_once() -> None:
    memory, counters, holders = made(100_000, 50)
    frame = bytes(50_000)
    for holder in holders:
        holder.hold(0, frame)
    assert memory.held == 50 * 50_000
    assert gone(holders) == []
    holders[7].hold(90_000, frame)  # its own, and now it is too much
    assert gone(holders) == [7]
    assert counters.over_max_memory_bytes == 1


def test_what_is_freed_is_not_freed_again_while_many_move() -> None:
    """Most of it is shared, so the sum stays over the limit, and each change of a small one must not cost a look."""
    memory, _, holders = made(100_000, 50)
    frame = bytes(50_000)
    for holder in holders:
        holder.hold(0, frame)
    looks = 0
    weigh = memory._weigh

    def count() -> dict[Holder, int]:
        nonlocal looks
        looks += 1
        return weigh()  # type: ignore[return-value]

    memory._weigh = count  # type: ignore[method-assign,assignment]
    for step in range(1000):
        holders[0].hold(step % 2, frame)
    assert looks == 0
    for step in range(8):
        holders[0].hold(1000 * (step % 2), frame)
    assert looks == 2  # 9,000 bytes have moved, a 32nd is 3,125


def test_one_line_a_minute_says_who_and_how_much() -> None:
    _, _, holders = made(1000, 3)
    with logged() as lines:
        for holder in holders:
            holder.hold(900)
    assert len(lines) == 1
    assert lines[0].startswith("wsi#0: closed with 1013: all connections hold over max_memory_bytes (1000)")
    assert "it holds most, 900 bytes" in lines[0]
