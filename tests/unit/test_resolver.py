"""Looking names up in threads: who gets which answer, and that nothing waits for a name server that is silent."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.names import Names, known_names
from tests.support.timing import PATIENCE, wait_until
from wsd.resolver import MAX_THREADS, Address, Answer, Lookup, Resolver, look_up, parse_numeric, reason_of

ROOT = Path(__file__).resolve().parent.parent.parent

V4 = Address(socket.AF_INET, ("192.0.2.1", 80))
V6 = Address(socket.AF_INET6, ("2001:db8::1", 80, 0, 0))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    with known_names(monkeypatch) as known:
        known.table = {"one.test": ["192.0.2.1"], "two.test": ["2001:db8::1", "192.0.2.1"]}
        yield known


class Asking:
    """A resolver, and what it answered: (who asked, the answer), in order."""

    def __init__(self) -> None:
        self.roused = threading.Event()
        self.resolver = Resolver(self.roused.set)
        self.answers: list[tuple[str, Answer]] = []

    def ask(self, host: str, who: str = "") -> Lookup:
        return self.resolver.resolve(host, 80, lambda answer: self.answers.append((who or host, answer)))

    def deliver(self, count: int = 1) -> list[tuple[str, Answer]]:
        """Do what the loop does whenever it is roused, until there are `count` answers in all."""
        deadline = time.monotonic() + PATIENCE
        while len(self.answers) < count:
            assert self.roused.wait(deadline - time.monotonic()), self.answers
            self.roused.clear()
            self.resolver.deliver()
        return self.answers


def threads() -> int:
    """How many threads look names up now."""
    return [thread.name for thread in threading.enumerate()].count("wsd-resolver")


class TestAnswers:
    def test_a_name(self, names: Names) -> None:
        asking = Asking()
        asking.ask("two.test")
        assert asking.deliver() == [("two.test", [V6, V4])]

    def test_nobody_is_called_back_before_deliver(self, names: Names) -> None:
        asking = Asking()
        asking.ask("one.test")
        asking.ask("192.0.2.1")
        wait_until(lambda: not threads())
        assert not asking.answers
        assert len(asking.deliver(2)) == 2

    @pytest.mark.parametrize(
        ("host", "expected"),
        [
            ("192.0.2.1", V4),
            ("2001:db8::1", V6),
            ("::ffff:192.0.2.1", Address(socket.AF_INET6, ("::ffff:192.0.2.1", 80, 0, 0))),
        ],
    )
    def test_numbers_take_no_thread(self, names: Names, host: str, expected: Address) -> None:
        asking = Asking()
        asking.ask(host)
        assert asking.roused.is_set()
        assert asking.deliver() == [(host, [expected])]
        assert not names.asked

    def test_the_zone_of_a_link_local_address_is_kept(self) -> None:
        found = parse_numeric("fe80::1%lo", 80)
        assert found is not None
        assert found.sockaddr[3] == socket.if_nametoindex("lo")

    @pytest.mark.parametrize("host", ["one.test", "", "fe80::1%no-such-device", "1.2.3.4.5", "a" * 300, "\ud800"])
    def test_what_is_no_number(self, host: str) -> None:
        assert parse_numeric(host, 80) is None

    def test_an_unknown_name(self, names: Names) -> None:
        asking = Asking()
        asking.ask("none.test")
        [(_, error)] = asking.deliver()
        assert isinstance(error, socket.gaierror)
        assert reason_of(error) == "Name or service not known"

    def test_an_address_that_is_there_twice_is_given_once(self, names: Names) -> None:
        names.table["twice.test"] = ["192.0.2.1", "2001:db8::1", "192.0.2.1"]
        assert look_up("twice.test", 80) == [V4, V6]

    @pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".test"])
    def test_what_can_be_no_name_is_an_error_like_any(self, host: str) -> None:
        error = look_up(host, 80)
        assert isinstance(error, socket.gaierror)
        assert "not a host name" in reason_of(error)

    def test_whatever_the_system_raises_is_an_answer(self, names: Names) -> None:
        names.table["odd.test"] = MemoryError("no room")
        error = look_up("odd.test", 80)
        assert isinstance(error, OSError)
        assert reason_of(error) == "MemoryError: no room"

    def test_an_error_without_words_has_those_of_its_number(self) -> None:
        error = OSError()
        error.errno = errno.ECONNREFUSED
        assert reason_of(error) == "Connection refused"
        assert reason_of(OSError("only text")) == "only text"

    def test_addresses_as_text(self) -> None:
        assert [str(V4), str(V6)] == ["192.0.2.1:80", "[2001:db8::1]:80"]


class TestCancelling:
    def test_who_cancelled_is_not_called(self, names: Names) -> None:
        asking = Asking()
        asking.ask("one.test").cancel()
        kept = asking.ask("two.test")
        assert [who for who, _ in asking.deliver()] == ["two.test"]
        kept.cancel()  # too late, and no harm

    def test_even_between_the_answer_and_its_delivery(self, names: Names) -> None:
        asking = Asking()
        lookup = asking.ask("192.0.2.1")
        lookup.cancel()
        asking.resolver.deliver()
        assert not asking.answers

    def test_a_name_that_nobody_waits_for_any_more_is_not_asked(self, names: Names) -> None:
        names.silent = {f"silent{number}.test" for number in range(MAX_THREADS)}
        asking = Asking()
        for host in names.silent:
            asking.ask(host)
        names.wait_asked(MAX_THREADS)
        asking.ask("one.test").cancel()
        asking.ask("two.test")
        names.release()
        asking.deliver(MAX_THREADS + 1)
        assert "one.test" not in names.asked
        asking.ask("one.test")  # and can be asked for again
        assert asking.deliver(MAX_THREADS + 2)[-1] == ("one.test", [V4])


class TestThreads:
    def test_never_more_than_a_few_and_all_end(self, names: Names) -> None:
        names.silent = {f"silent{number}.test" for number in range(MAX_THREADS)}
        asking = Asking()
        for host in [*names.silent, "one.test", "two.test"]:
            asking.ask(host)
        names.wait_asked(MAX_THREADS)
        assert threads() == MAX_THREADS
        assert set(names.asked) == names.silent, "the others wait"
        names.release()
        asking.deliver(MAX_THREADS + 2)
        assert set(names.asked) == {*names.silent, "one.test", "two.test"}
        wait_until(lambda: not threads())

    def test_one_name_is_looked_up_once_for_all_who_wait(self, names: Names) -> None:
        names.silent = {"one.test"}
        asking = Asking()
        for who in "abc":
            asking.ask("one.test", who)
        asking.ask("one.test", "d").cancel()
        names.wait_asked(1)
        names.release()
        assert asking.deliver(3) == [("a", [V4]), ("b", [V4]), ("c", [V4])]
        assert names.asked == ["one.test"]

    def test_it_is_looked_up_anew_once_it_was_answered(self, names: Names) -> None:
        asking = Asking()
        asking.ask("one.test")
        asking.deliver()
        names.table["one.test"] = ["2001:db8::1"]
        asking.ask("one.test")
        assert asking.deliver(2)[-1] == ("one.test", [V6])

    def test_another_port_is_another_question(self, names: Names) -> None:
        asking = Asking()
        asking.ask("one.test")
        asking.resolver.resolve("one.test", 81, lambda answer: asking.answers.append(("81", answer)))
        assert dict(asking.deliver(2))["81"] == [V4._replace(sockaddr=("192.0.2.1", 81))]

    def test_no_thread_to_be_had_is_an_answer(self, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        asking = Asking()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            asking.ask("one.test")
        [(_, error)] = asking.deliver()
        assert isinstance(error, OSError)
        assert error.errno == errno.EAGAIN
        asking.ask("one.test")
        assert asking.deliver(2)[-1] == ("one.test", [V4])

    def test_with_one_thread_there_the_rest_waits_for_it(self, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        names.silent = {"two.test"}
        asking = Asking()
        asking.ask("two.test")
        names.wait_asked(1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            asking.ask("one.test")
        names.release()
        assert dict(asking.deliver(2)) == {"one.test": [V4], "two.test": [V6, V4]}


class TestClosing:
    def test_it_waits_for_nobody_and_nobody_is_told(self, names: Names) -> None:
        names.silent = {"one.test"}
        asking = Asking()
        asking.ask("one.test")
        names.wait_asked(1)
        asking.ask("192.0.2.1")
        asking.roused.clear()
        before = time.monotonic()
        asking.resolver.close()
        assert time.monotonic() - before < PATIENCE / 10
        names.release()
        wait_until(lambda: not threads())
        asking.resolver.deliver()
        assert not asking.answers
        assert not asking.roused.is_set(), "what it would rouse may be closed"

    def test_who_asks_afterwards_is_never_called(self, names: Names) -> None:
        asking = Asking()
        asking.resolver.close()
        asking.ask("one.test")
        asking.ask("192.0.2.1")
        asking.resolver.deliver()
        assert not asking.answers
        assert not names.asked

    def test_a_process_ends_while_a_name_server_is_silent(self) -> None:
        code = (
            "import socket, threading\n"
            "from wsd.resolver import Resolver\n"
            "asked = threading.Event()\n"
            "def silent(host, port, *more, flags=0, **named):\n"
            "    if flags: raise socket.gaierror(socket.EAI_NONAME, '')\n"
            "    asked.set(); threading.Event().wait()\n"
            "socket.getaddrinfo = silent\n"
            "Resolver(print).resolve('one.test', 80, print)\n"
            "assert asked.wait(30)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=PATIENCE)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_one_who_is_called_back_may_ask_again(names: Names) -> None:
    asking = Asking()
    asking.resolver.resolve("192.0.2.1", 80, lambda answer: (asking.ask("2001:db8::1"), None)[1])
    assert asking.deliver() == [("2001:db8::1", [V6])]


def test_one_who_breaks_leaves_the_others_their_answers(names: Names) -> None:
    asking = Asking()
    asking.resolver.resolve("192.0.2.1", 80, partial(setattr, object(), "attribute"))
    asking.ask("2001:db8::1")
    with pytest.raises(AttributeError):
        asking.resolver.deliver()
    asking.resolver.deliver()
    assert asking.answers == [("2001:db8::1", [V6])]
