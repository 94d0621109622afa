"""wsd/context.py: the turn, timers, wake-ups, protocols' lives, the connection limit, and the end."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from wsd import log
from wsd.config import Limits, Options, ProtocolTable
from wsd.context import Context
from wsd.errors import PluginError
from wsd.protocol import Protocol
from wsd.web import Http


class Noting(Protocol):
    """Notes what happens to the protocol itself."""

    def __init__(self, name: str = "noting") -> None:
        self.name = name  # type: ignore[misc]
        self.notes: list[str] = []

    def on_protocol_init(self, context: Context, options: Any) -> None:
        self.notes.append("init")

    def on_protocol_destroy(self) -> None:
        self.notes.append("destroy")

    def on_wakeup(self) -> None:
        self.notes.append("wakeup")


@pytest.fixture
def context() -> Iterator[Context]:
    with Context() as context:
        yield context


@pytest.fixture
def errors() -> Iterator[list[str]]:
    found: list[str] = []
    before, emitter = log.level(), log._emitter
    log.set_level(log.ERR | log.WARN, lambda level, line: found.append(line))
    yield found
    log.set_level(before, emitter)


class TestProtocols:
    def test_each_is_initialised_once_and_destroyed_once(self) -> None:
        one, two = Noting("one"), Noting("two")
        with Context([one, two]) as context:
            assert context.protocols == (one, two)
            assert one.context is context
            assert one.notes == ["init"]
        context.close()
        assert one.notes == two.notes == ["init", "destroy"]

    def test_an_init_that_raises_ends_the_others_and_names_the_place(self, errors: list[str]) -> None:
        class Broken(Protocol):
            name = "broken"

            def on_protocol_init(self, context: Context, options: Any) -> None:
                raise RuntimeError("no database")

        first = Noting()
        with pytest.raises(PluginError, match=r"broken: on_protocol_init raised RuntimeError: no database") as caught:
            Context([first, Broken()])
        assert caught.value.file == __file__
        assert caught.value.line
        assert first.notes == ["init", "destroy"]

    def test_a_coroutine_hook_is_refused_before_it_serves(self) -> None:
        class Awaiting(Protocol):
            name = "awaiting"

            async def on_receive(self, wsi: Any, data: bytes) -> None: ...  # type: ignore[override]

        with pytest.raises(PluginError, match="plain function"):
            Context([Awaiting()])

    def test_options_default_to_those_of_the_model(self) -> None:
        class Settings(Options):
            size: int = 5

        class Sized(Noting):
            Options = Settings

            def on_protocol_init(self, context: Context, options: Any) -> None:
                self.notes.append(str(options.size))

        sized = Sized()
        with Context([sized]):
            assert sized.notes == ["5"]

    def test_the_operators_table_wins_over_the_class_and_that_over_the_context(self, context: Context) -> None:
        class Small(Protocol):
            name = "small"
            max_message_bytes = 10

        assert context.add_protocol(Small()).budget.max_message_bytes == 10
        table = ProtocolTable.model_validate({"limits": {"max_message_bytes": 20}})
        binding = context.add_protocol(Small(), table=table)
        assert binding.budget.max_message_bytes == 20
        assert binding.budget.max_fragments == Limits().max_fragments

    def test_a_retired_one_is_destroyed_when_nobody_uses_it(self, context: Context) -> None:
        protocol = Noting()
        binding = context.add_protocol(protocol)
        binding.wsi_count += 1  # a connection that lives on
        told: list[bool] = []
        context.retire_protocol(protocol, lambda: told.append(True))
        context.service(0)
        assert protocol.notes == ["init"]
        assert protocol not in context.protocols
        binding.wsi_count -= 1
        context._reap()
        assert protocol.notes == ["init", "destroy"]
        assert told == [True]

    def test_no_wakeup_comes_after_its_destruction(self, context: Context) -> None:
        protocol = Noting()
        context.add_protocol(protocol)
        context.retire_protocol(protocol)
        context.cancel_service()
        context.service(0)
        context.service(0)
        assert protocol.notes == ["init", "destroy"]

    def test_a_destroy_that_raises_is_logged_and_the_next_one_runs(self, errors: list[str]) -> None:
        class Broken(Noting):
            def on_protocol_destroy(self) -> None:
                raise SystemExit(1)

        last = Noting("last")
        with Context([Broken(), last]):
            pass
        assert last.notes == ["init", "destroy"]
        assert "noting.on_protocol_destroy raised SystemExit: 1" in errors[0]

    def test_protocol_0_is_the_first_and_the_built_in_where_there_is_none(self, context: Context) -> None:
        assert isinstance(context.protocol_0.protocol, Http)
        protocol = Noting()
        context.add_protocol(protocol)
        assert context.protocol_0 is context.bindings[protocol]


class TestListen:
    def test_what_fails_after_binding_leaves_no_socket(self, context: Context, tmp_path: Any) -> None:
        path = str(tmp_path / "s")
        one, other = Noting("same"), Noting("same")
        context.add_protocol(one)
        context.add_protocol(other)
        with pytest.raises(PluginError, match="two protocols of one name"):
            context.listen(unix=path)
        assert not os.path.exists(path)
        assert context.listeners == []

    def test_a_protocol_that_the_context_does_not_serve(self, context: Context, tmp_path: Any) -> None:
        path = str(tmp_path / "s")
        with pytest.raises(KeyError):
            context.listen(unix=path, protocols=[Noting()])
        assert not os.path.exists(path)

    def test_a_socket_that_listens_already(self, context: Context) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        listener = context.listen(sock=sock)
        assert listener.port == sock.getsockname()[1]


class TestTurn:
    def test_a_timeout_bounds_the_wait(self, context: Context) -> None:
        before = time.monotonic()
        context.service(0.02)
        assert 0.02 <= time.monotonic() - before < 2
        assert context.counters.turns == 1

    def test_a_timer_ends_the_wait_in_one_turn(self, context: Context) -> None:
        calls: list[int] = []
        context.call_later(0.02, lambda: calls.append(1))
        context.service(5)
        assert calls == [1]
        assert context.counters.turns == 1

    def test_a_cancelled_timer_does_not(self, context: Context) -> None:
        calls: list[int] = []
        timer = context.call_later(0.01, lambda: calls.append(1))
        timer.cancel()
        context.service(0.03)
        assert calls == []
        assert len(context.timers) == 0

    def test_timers_in_order_and_what_one_raises_is_logged(self, context: Context, errors: list[str]) -> None:
        calls: list[str] = []

        def broken() -> None:
            calls.append("broken")
            raise ValueError("x")

        context.call_later(0.1, lambda: calls.append("last"))
        context.call_later(0.001, broken)
        while len(calls) < 2:
            context.service(1)
        assert calls == ["broken", "last"]
        assert context.counters.plugin_errors == 1
        assert "broken) raised ValueError: x" in errors[0]

    def test_a_timer_that_sets_itself_again_leaves_the_turn(self, context: Context) -> None:
        calls: list[int] = []

        def again() -> None:
            calls.append(1)
            context.call_later(0, again)

        again()
        for _ in range(3):
            context.service(0)
        assert len(calls) == 4

    def test_a_bug_of_our_own_is_counted_and_ends_nothing(self, context: Context, errors: list[str]) -> None:
        def bug(mask: int) -> None:
            os.read(reader, 1)
            raise ZeroDivisionError

        reader, writer = os.pipe()
        try:
            context.watch(reader, 1, bug)
            os.write(writer, b"x")
            context.service(1)
            context.service(0)
            assert context.counters.bugs == 1
            assert errors[0].startswith("a bug in wsd")
            context.unwatch(reader)
        finally:
            os.close(reader)
            os.close(writer)

    def test_a_bug_of_our_own_ends_the_connection_where_it_showed(self, context: Context, errors: list[str]) -> None:
        class Broken:
            why = ""

            def due(self) -> None:
                raise ZeroDivisionError

            def abort(self, why: str) -> None:
                self.why = why

        broken, calls = Broken(), list[int]()
        context.timers.add(time.monotonic(), broken.due)
        context.timers.add(time.monotonic(), lambda: calls.append(1))
        context.service(0)
        assert broken.why == "a bug in wsd"
        assert (context.counters.bugs, calls) == (1, [1])
        assert errors[0].startswith("a bug in wsd")

    def test_a_descriptor_that_left_in_this_turn_is_not_served(self, context: Context) -> None:
        pipes = [os.pipe(), os.pipe()]
        served: list[int] = []

        def serve(mine: int, other: int) -> None:
            served.append(mine)
            context.unwatch(other)

        try:
            (one, _), (two, _) = pipes
            context.watch(one, 1, lambda mask: serve(one, two))
            context.watch(two, 1, lambda mask: serve(two, one))
            for _, writer in pipes:
                os.write(writer, b"x")
            context.service(1)
            assert len(served) == 1
            context.unwatch(served[0])
        finally:
            for reader, writer in pipes:
                os.close(reader)
                os.close(writer)


class TestWakeup:
    def test_any_number_of_calls_is_one_hook_for_each_protocol(self) -> None:
        one, two = Noting("one"), Noting("two")
        with Context([one, two]) as context:
            for _ in range(5):
                context.cancel_service()
            context.service(0)
            context.service(0)
            assert one.notes == two.notes == ["init", "wakeup"]

    def test_asking_again_inside_the_hook_is_for_a_later_turn(self) -> None:
        class Again(Noting):
            def on_wakeup(self) -> None:
                self.notes.append("wakeup")
                self.context.cancel_service()

        protocol = Again()
        with Context([protocol]) as context:
            context.cancel_service()
            for _ in range(3):
                context.service(0)
            assert protocol.notes.count("wakeup") == 3

    def test_one_that_raises_does_not_take_it_from_the_next(self, errors: list[str]) -> None:
        class Broken(Noting):
            def on_wakeup(self) -> None:
                raise ValueError("x")

        two = Noting("two")
        with Context([Broken(), two]) as context:
            context.cancel_service()
            context.service(0)
            assert two.notes == ["init", "wakeup"]

    def test_after_the_end_it_touches_no_descriptor_of_somebody_else(self) -> None:
        context = Context()
        number = context._wakeup
        context.close()
        reused = os.eventfd(0, os.EFD_NONBLOCK)
        try:
            if reused != number:
                os.dup2(reused, number)
            context.cancel_service()
            with pytest.raises(BlockingIOError):
                os.eventfd_read(reused)
        finally:
            os.close(reused)
            if reused != number:
                os.close(number)


class TestLimit:
    def test_it_is_counted_anew_when_asked(self, context: Context) -> None:
        before = context.max_connections
        opened = [os.dup(0) for _ in range(5)]
        try:
            context.renew_limit()
            assert context.max_connections == before - 5
        finally:
            for descriptor in opened:
                os.close(descriptor)
        context.renew_limit()
        assert context.max_connections == before

    def test_more_than_the_system_allows_is_said_once(self, monkeypatch: pytest.MonkeyPatch, errors: list[str]) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
        with Context(limits=Limits(max_connections=5000)) as context:
            context.renew_limit()
            assert context.max_connections < 256
            limit = str(context.connection_limit)
        assert errors == [f"limits.max_connections = 5000 is more than the descriptor limit allows: {limit}"]


class TestEnd:
    def test_run_returns_when_stopped_with_nobody_there(self, context: Context) -> None:
        context.listen(port=0)
        context.call_later(0.005, context.stop)
        context.run()
        assert context.stopping
        assert context.listeners == []

    def test_a_signal_handler_may_stop_a_context_that_waits(self, context: Context) -> None:
        """As an embedding program would have it; Python goes on with the wait after a handler."""
        protocol = Noting()
        context.add_protocol(protocol)
        context.listen(port=0)
        before = signal.signal(signal.SIGALRM, lambda number, frame: context.stop())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            context.call_later(5, lambda: pytest.fail("it waited on"))
            context.run()
            assert context.counters.turns == 1
        finally:
            signal.signal(signal.SIGALRM, before)
        assert protocol.notes == ["init"], "nobody called cancel_service()"

    def test_stopping_twice_is_stopping_once(self, context: Context) -> None:
        context.stop()
        context.stop()
        context.run()

    def test_closing_inside_with_gives_every_descriptor_back(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with Context([Noting()]) as context:
            context.listen(port=0)
            with socket.create_connection(("127.0.0.1", context.listeners[0].port)):
                context.service(1)
                assert context.wsi_count == 1
        assert context.wsi_count == 0
        assert len(context.timers) == 0
        assert len(os.listdir("/proc/self/fd")) == before


def test_whoever_becomes_protocol_0_hears_of_every_descriptor() -> None:
    class Listening(Protocol):
        def __init__(self, name: str) -> None:
            self.name = name  # type: ignore[misc]
            self.table: set[int] = set()

        def on_add_poll_fd(self, fd: int, events: int) -> None:
            assert fd not in self.table
            self.table.add(fd)

        def on_del_poll_fd(self, fd: int) -> None:
            self.table.remove(fd)

    first, second = Listening("first"), Listening("second")
    with Context([first, second], external_poll=True) as context:
        before = set(first.table)
        assert len(before) == 1, "the wake-up"
        context.retire_protocol(first)
        assert (first.table, second.table) == (set(), before)
        assert context.counters.plugin_errors == 0
