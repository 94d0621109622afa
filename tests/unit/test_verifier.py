"""`wsd.verifier`: passwords compared in threads, how many may wait, and what is remembered."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.secrets import scrypt_line
from tests.support.timing import PATIENCE, wait_until
from wsd import verifier
from wsd.credentials import PasswordHash, parse_password_line
from wsd.verifier import MAX_WAITING, Check, Verdict, Verifier

ALICE = parse_password_line(scrypt_line("alice", "secret"))


class Asking:
    """A verifier, and its verdicts: (the password, the verdict), in order."""

    def __init__(self) -> None:
        self.roused = threading.Event()
        self.verifier = Verifier(self.roused.set)
        self.verdicts: list[tuple[str, Verdict]] = []

    def ask(self, password: str, stored: PasswordHash = ALICE) -> Check | None:
        return self.verifier.verify(stored, password, lambda verdict: self.verdicts.append((password, verdict)))

    def deliver(self, count: int = 1) -> list[tuple[str, Verdict]]:
        """Do what the loop does whenever it is roused, until there are `count` verdicts in all."""
        deadline = time.monotonic() + PATIENCE
        while len(self.verdicts) < count:
            assert self.roused.wait(deadline - time.monotonic()), self.verdicts
            self.roused.clear()
            self.verifier.deliver()
        return self.verdicts


def threads() -> int:
    """How many threads compare passwords now."""
    return [thread.name for thread in threading.enumerate()].count("wsd-verifier")


class Slow:
    """Comparing takes until `go` is set; `computed` is what was, in order."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.computed: list[str] = []

    def compare(self, stored: PasswordHash, password: str) -> Verdict:
        assert self.go.wait(PATIENCE)
        self.computed.append(password)
        return stored.matches(password)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    held = Slow()
    monkeypatch.setattr(verifier, "compare", held.compare)
    yield held
    held.go.set()
    wait_until(lambda: not threads())


def fill(asking: Asking) -> int:
    """Ask until no more may wait; how many got in."""
    count = 0
    while asking.ask(f"wrong {count}") is not None:
        count += 1
    return count


class TestVerdicts:
    def test_they_come_by_deliver_and_never_inside_the_call(self) -> None:
        asking = Asking()
        assert asking.ask("secret") is not None
        assert asking.roused.wait(PATIENCE)
        assert asking.verdicts == []
        assert asking.deliver() == [("secret", True)]
        asking.ask("wrong")
        assert asking.deliver(2)[1] == ("wrong", False)
        wait_until(lambda: not threads())

    def test_what_cannot_be_computed_is_neither_right_nor_wrong(self) -> None:
        asking = Asking()
        asking.ask("secret", ALICE._replace(log2_n=40))
        assert asking.deliver() == [("secret", None)]

    def test_one_that_was_cancelled_gets_none(self, slow: Slow) -> None:
        asking = Asking()
        first, second = asking.ask("one"), asking.ask("two")
        assert first is not None
        assert second is not None
        first.cancel()
        slow.go.set()
        assert asking.deliver() == [("two", False)]
        second.finish(True)  # it was told already
        assert asking.verdicts == [("two", False)]

    def test_the_same_question_is_computed_once(self, slow: Slow) -> None:
        asking = Asking()
        for _ in range(100):
            assert asking.ask("secret") is not None
        slow.go.set()
        assert asking.deliver(100) == [("secret", True)] * 100
        assert slow.computed == ["secret"]

    def test_nobody_waits_for_a_thread_that_cannot_be_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(thread: Any) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        asking = Asking()
        asking.ask("secret")
        assert asking.deliver() == [("secret", None)]


class TestQueue:
    def test_it_has_a_bound_and_opens_again(self, slow: Slow) -> None:
        asking = Asking()
        count = fill(asking)
        assert MAX_WAITING <= count <= MAX_WAITING + threads_at_most()  # those that a thread has taken wait no more
        slow.go.set()
        asking.deliver(count)
        assert asking.ask("secret") is not None

    def test_more_threads_than_processors_are_not_started(self, slow: Slow) -> None:
        asking = Asking()
        fill(asking)
        assert 1 <= threads() <= max(1, len(os.sched_getaffinity(0)) - 1)

    def test_what_nobody_wants_any_more_makes_room(self, slow: Slow) -> None:
        asking = Asking()
        checks: list[Check] = []
        while (check := asking.ask(f"wrong {len(checks)}")) is not None:
            checks.append(check)
        checks[-1].cancel()
        assert asking.ask("secret") is not None
        assert asking.ask("another") is None
        for check in checks:
            check.cancel()
        slow.go.set()
        assert asking.deliver() == [("secret", True)]
        assert len(slow.computed) <= threads_at_most() + 1

    def test_its_threads_give_way_to_the_loop(self, slow: Slow) -> None:
        asking = Asking()
        asking.ask("secret")
        ours = next(thread for thread in threading.enumerate() if thread.name == "wsd-verifier")
        assert ours.daemon
        wait_until(
            lambda: os.getpriority(os.PRIO_PROCESS, ours.native_id or 0) == os.getpriority(os.PRIO_PROCESS, 0) + 10
        )


def threads_at_most() -> int:
    return max(1, min(verifier.MAX_THREADS, len(os.sched_getaffinity(0)) - 1))


class TestMemory:
    def test_a_right_password_is_remembered_and_a_wrong_one_is_not(self) -> None:
        asking = Asking()
        assert not asking.verifier.remembers(ALICE, "secret")
        asking.ask("secret")
        asking.ask("wrong")
        asking.deliver(2)
        assert asking.verifier.remembers(ALICE, "secret")
        assert not asking.verifier.remembers(ALICE, "wrong")

    def test_not_for_another_name_and_not_after_a_change(self) -> None:
        asking = Asking()
        asking.ask("secret")
        asking.deliver()
        assert not asking.verifier.remembers(ALICE._replace(name="bob"), "secret")
        assert not asking.verifier.remembers(parse_password_line(scrypt_line("alice", "new")), "secret")

    def test_it_has_a_bound_and_forgets_who_was_not_seen_longest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verifier, "REMEMBERED", 2)
        asking = Asking()
        people = [parse_password_line(scrypt_line(name, name)) for name in ("one", "two", "three")]
        for number, person in enumerate(people, 1):
            asking.ask(person.name, person)
            asking.deliver(number)
            assert asking.verifier.remembers(people[0], "one")
        assert [asking.verifier.remembers(person, person.name) for person in people] == [True, False, True]

    def test_what_is_kept_is_not_the_password(self) -> None:
        asking = Asking()
        asking.ask("secret")
        asking.deliver()
        wait_until(lambda: not threads())
        kept = repr(vars(asking.verifier))
        assert "secret" not in kept
        assert "alice" not in kept


class TestEnd:
    def test_nobody_is_told_and_nothing_is_roused_after_it(self, slow: Slow) -> None:
        asking = Asking()
        asking.ask("secret")
        asking.verifier.close()
        assert asking.ask("secret") is not None
        slow.go.set()
        wait_until(lambda: not threads())
        asking.verifier.deliver()
        assert asking.verdicts == []
        assert not asking.roused.is_set()
