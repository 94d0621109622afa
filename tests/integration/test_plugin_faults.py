"""What a misbehaving plugin costs: its own connection, and one report in the log.  Each hook, each fault, both styles.

Beside every faulty connection there is a good one of the same protocol, which must not notice.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.client import PONG, Client, close_frame, connect, frame, upgrade_request
from tests.support.context import running
from tests.support.timing import MS, wait_until
from wsd import faults, log
from wsd.context import Context
from wsd.errors import PluginError, Reject
from wsd.protocol import CallbackProtocol, Protocol, callback_protocol
from wsd.reasons import CLOSE, Reason
from wsd.wire.response import Response

Deed = Callable[[Any], Any]


def raise_error(wsi: Any) -> None:
    raise ValueError("seat taken")


def raise_exit(wsi: Any) -> None:
    raise SystemExit(3)


def answer_true(wsi: Any) -> Any:
    return True


def answer_text(wsi: Any) -> Any:
    return "yes"


def answer_close(wsi: Any) -> int:
    return CLOSE


def write_here(wsi: Any) -> None:
    wsi.write("not the place")


MISTAKES = [raise_error, raise_exit, answer_true, answer_text]
SAID: dict[Deed, str] = {
    raise_error: "raised ValueError: seat taken",
    raise_exit: "raised SystemExit: 3",
    answer_true: "answered True",
    answer_text: "answered 'yes'",
    write_here: "raised RuntimeError: wsi.write() outside on_writeable",
}


class Faulty(Protocol):
    """Echoes; in one hook, and only on connections that asked for /bad, it does `deed`."""

    name = "faulty"

    def __init__(self, hook: str, deed: Deed) -> None:
        self.hook, self.deed = hook, deed
        self.waiting: dict[Any, list[Any]] = defaultdict(list)  # by wsi: what a bad one got is not the others'
        self.established: list[Any] = []
        self.closed: list[tuple[Any, int]] = []

    def do(self, hook: str, wsi: Any) -> Any:
        return self.deed(wsi) if hook == self.hook and wsi.request.path == "/bad" else None

    def on_filter_protocol_connection(self, wsi: Any, request: Any) -> Any:
        return self.do("on_filter_protocol_connection", wsi)

    def on_add_headers(self, wsi: Any, headers: Any) -> Any:
        return self.do("on_add_headers", wsi)

    def on_established(self, wsi: Any) -> Any:
        self.established.append(wsi)
        if wsi.request.path == "/bad":
            wsi.set_timer(1 * MS)
        return self.do("on_established", wsi)

    def on_writeable(self, wsi: Any) -> Any:
        while self.waiting[wsi]:
            wsi.write(self.waiting[wsi].pop(0))
        return self.do("on_writeable", wsi)

    def on_pong(self, wsi: Any, payload: bytes) -> Any:
        return self.do("on_pong", wsi)

    def on_peer_close(self, wsi: Any, code: int, close_reason: str) -> Any:
        return self.do("on_peer_close", wsi)

    def on_timer(self, wsi: Any) -> Any:
        return self.do("on_timer", wsi)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> Any:
        self.closed.append((wsi, code))
        return self.do("on_closed", wsi)


class Pieces(Faulty):
    """It takes messages piece by piece."""

    def on_receive(self, wsi: Any, data: bytes) -> Any:
        self.waiting[wsi].append(data.decode())
        wsi.callback_on_writable()
        return self.do("on_receive", wsi)


class Messages(Faulty):
    """It takes them whole."""

    def on_message(self, wsi: Any, message: Any) -> Any:
        self.waiting[wsi].append(message)
        wsi.callback_on_writable()
        return self.do("on_message", wsi)


HOOKS = {
    Reason.FILTER_PROTOCOL_CONNECTION: "on_filter_protocol_connection",
    Reason.ADD_HEADERS: "on_add_headers",
    Reason.ESTABLISHED: "on_established",
    Reason.RECEIVE: "on_receive",
    Reason.SERVER_WRITEABLE: "on_writeable",
    Reason.RECEIVE_PONG: "on_pong",
    Reason.WS_PEER_INITIATED_CLOSE: "on_peer_close",
    Reason.TIMER: "on_timer",
    Reason.CLOSED: "on_closed",
}


def in_callback_style(faulty: Faulty) -> CallbackProtocol:
    """The same plugin as one function."""

    @callback_protocol("faulty")
    def callback(wsi: Any, reason: Reason, user: Any, data: Any) -> Any:
        if reason not in HOOKS:
            return 0
        arguments = data if isinstance(data, tuple) else () if data is None else (data,)
        return getattr(faulty, HOOKS[reason])(wsi, *arguments)

    return callback


def provoke(hook: str, client: Client) -> None:
    """Have `hook` called on the connection of `client`."""
    if hook in ("on_receive", "on_message", "on_writeable"):
        client.send_text("x")
    elif hook == "on_pong":
        client.send(frame(PONG, b"unasked"))
    elif hook in ("on_peer_close", "on_closed"):
        client.send(close_frame(1000))


def is_alive(client: Client) -> bool:
    client.send_text("round trip")
    return client.receive_message() == "round trip"


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The lines at ERR, and a throttle that has seen nothing."""
    found: list[str] = []
    before, emitter = log.level(), log._emitter
    monkeypatch.setattr(faults, "_throttle", log.Throttle())
    log.set_level(log.ERR, lambda level, line: found.append(line))
    yield found
    log.set_level(before, emitter)


def check_report(errors: list[str], hook: str, deed: Deed) -> None:
    """One report: plugin, hook, tag, what it did; and for an exception the plugin's lines and none of ours above."""
    heads = [line for line in errors if not line.startswith("  ")]
    assert len(heads) == 1, errors
    assert f": faulty.{hook} {SAID[deed]}" in heads[0]
    assert heads[0].startswith("faulty#")
    assert " 127.0.0.1:" in heads[0]
    if "raised" in SAID[deed]:
        files = [line for line in errors if line.strip().startswith("File ")]
        assert __file__ in files[0]
        assert f", in {deed.__name__}" in errors[-2] or deed is write_here


ESTABLISHED_HOOKS = ["on_established", "on_receive", "on_writeable", "on_pong", "on_timer", "on_peer_close"]


@pytest.fixture(params=["class", "callback"])
def plugin(request: pytest.FixtureRequest) -> Callable[[str, Deed], tuple[Faulty, Protocol]]:
    """Makes the faulty plugin in either style: its state, and what is served."""

    def make(hook: str, deed: Deed) -> tuple[Faulty, Protocol]:
        faulty = Pieces(hook, deed)
        return faulty, in_callback_style(faulty) if request.param == "callback" else faulty

    return make


Make = Callable[[str, Deed], tuple[Faulty, Protocol]]


class TestEstablished:
    @pytest.mark.parametrize("deed", MISTAKES)
    @pytest.mark.parametrize("hook", ESTABLISHED_HOOKS)
    def test_a_mistake_is_1011_and_one_report(self, plugin: Make, hook: str, deed: Deed, errors: list[str]) -> None:
        faulty, served_protocol = plugin(hook, deed)
        with running([served_protocol]) as served, connect(served.port) as good:
            with connect(served.port, path="/bad") as bad:
                provoke(hook, bad)
                close = bad.receive_close()
                assert (close.close_code, close.close_reason) == (1011, "internal error")
            wait_until(lambda: faulty.closed)
            assert len(faulty.closed) == 1
            assert faulty.closed[0][0] is faulty.established[1]
            assert is_alive(good)
            assert served.context.counters.plugin_errors == 1
            check_report(errors, hook, deed)
        assert len(faulty.closed) == len(faulty.established) == 2

    @pytest.mark.parametrize("hook", ESTABLISHED_HOOKS[:-1])
    def test_close_is_1000_and_no_report(self, plugin: Make, hook: str, errors: list[str]) -> None:
        faulty, served_protocol = plugin(hook, answer_close)
        with running([served_protocol]) as served, connect(served.port) as good:
            with connect(served.port, path="/bad") as bad:
                provoke(hook, bad)
                assert bad.receive_close().close_code == 1000
            wait_until(lambda: faulty.closed)
            assert is_alive(good)
        assert errors == []
        assert len(faulty.closed) == 2

    def test_close_out_of_on_peer_close_ends_without_an_echo(self, plugin: Make, errors: list[str]) -> None:
        faulty, served_protocol = plugin("on_peer_close", answer_close)
        with running([served_protocol]) as served, connect(served.port) as good:
            with connect(served.port, path="/bad") as bad:
                bad.send(close_frame(4000))
                assert bad.receive_end() == b""
            wait_until(lambda: [code for _, code in faulty.closed] == [4000])
            assert is_alive(good)
        assert errors == []

    @pytest.mark.parametrize("hook", ESTABLISHED_HOOKS)
    def test_wsi_close_inside_is_noted(self, plugin: Make, hook: str, errors: list[str]) -> None:
        seen: list[int] = []

        def close(wsi: Any) -> None:
            seen.extend([wsi.close(4001, "enough"), wsi.close(4002), wsi.send("late"), len(faulty.closed)])

        faulty, served_protocol = plugin(hook, close)
        with running([served_protocol]) as served, connect(served.port) as good:
            with connect(served.port, path="/bad") as bad:
                provoke(hook, bad)
                close_got = bad.receive_close()
                assert (close_got.close_code, close_got.close_reason) == (4001, "enough")
            wait_until(lambda: faulty.closed)
            assert seen == [0, -1, -1, 0]
            assert is_alive(good)
        assert errors == []

    @pytest.mark.parametrize("hook", [hook for hook in ESTABLISHED_HOOKS if hook != "on_writeable"])
    def test_writing_outside_on_writeable_says_what_to_do(self, plugin: Make, hook: str, errors: list[str]) -> None:
        faulty, served_protocol = plugin(hook, write_here)
        with running([served_protocol]) as served, connect(served.port) as good:
            with connect(served.port, path="/bad") as bad:
                provoke(hook, bad)
                assert bad.receive_close().close_code == 1011
            wait_until(lambda: faulty.closed)
            assert is_alive(good)
            check_report(errors, hook, write_here)
            assert "callback_on_writable()" in errors[0]

    @pytest.mark.parametrize("deed", MISTAKES)
    def test_on_message_likewise(self, deed: Deed, errors: list[str]) -> None:
        faulty = Messages("on_message", deed)
        with running([faulty]) as served, connect(served.port) as good:
            with connect(served.port, path="/bad") as bad:
                bad.send_text("x")
                assert bad.receive_close().close_code == 1011
            wait_until(lambda: faulty.closed)
            assert is_alive(good)
            check_report(errors, "on_message", deed)

    @pytest.mark.parametrize("deed", MISTAKES)
    def test_on_closed_is_once_whatever_it_does(self, plugin: Make, deed: Deed, errors: list[str]) -> None:
        faulty, served_protocol = plugin("on_closed", deed)
        with running([served_protocol]) as served, connect(served.port) as good:
            with connect(served.port, path="/bad") as bad:
                bad.finish(1000)
            wait_until(lambda: faulty.closed)
            assert is_alive(good)
            check_report(errors, "on_closed", deed)
            assert len(faulty.closed) == 1
            assert served.context.wsi_count == 1

    @pytest.mark.parametrize("hook", ESTABLISHED_HOOKS)
    def test_a_hook_that_sleeps_delays_the_others_and_no_more(self, plugin: Make, hook: str) -> None:
        naps: list[float] = []

        def sleep(wsi: Any) -> None:
            if not naps:
                naps.append(time.monotonic())
                time.sleep(200 * MS)

        _, served_protocol = plugin(hook, sleep)
        with running([served_protocol]) as served, connect(served.port) as good:
            with Client(served.port) as bad:
                bad.send(upgrade_request("/bad"))
                provoke(hook, bad)
                wait_until(lambda: naps)
                assert is_alive(good)
                assert time.monotonic() - naps[0] >= 150 * MS
            assert is_alive(good)


class TestBeforeEstablished:
    @pytest.mark.parametrize("deed", MISTAKES)
    @pytest.mark.parametrize("hook", ["on_filter_protocol_connection", "on_add_headers"])
    def test_a_mistake_is_500(self, plugin: Make, hook: str, deed: Deed, errors: list[str]) -> None:
        faulty, served_protocol = plugin(hook, deed)
        with running([served_protocol]) as served, connect(served.port) as good:
            with Client(served.port) as bad:
                bad.send(upgrade_request("/bad"))
                response = bad.receive_response()
                assert response.status == 500
                assert b"seat" not in response.body
            wait_until(lambda: served.context.wsi_count == 1)
            assert is_alive(good)
            check_report(errors, hook, deed)
            assert faulty.closed == []
            assert len(faulty.established) == 1

    @pytest.mark.parametrize("hook", ["on_filter_protocol_connection", "on_add_headers"])
    def test_close_is_403(self, plugin: Make, hook: str, errors: list[str]) -> None:
        faulty, served_protocol = plugin(hook, answer_close)
        with running([served_protocol]) as served, Client(served.port) as bad:
            bad.send(upgrade_request("/bad"))
            assert bad.receive_response().status == 403
        assert errors == []
        assert faulty.closed == []

    def test_reject_is_its_own_status_and_no_report(self, plugin: Make, errors: list[str]) -> None:
        def reject(wsi: Any) -> None:
            raise Reject(429, "slow down", [("Retry-After", "9")])

        faulty, served_protocol = plugin("on_filter_protocol_connection", reject)
        with running([served_protocol]) as served, Client(served.port) as bad:
            bad.send(upgrade_request("/bad"))
            response = bad.receive_response()
            assert (response.status, response.header("Retry-After")) == (429, "9")
            assert b"slow down" in response.body
        assert errors == []
        assert faulty.closed == []

    def test_reject_out_of_another_hook_is_a_mistake_like_any(self, plugin: Make, errors: list[str]) -> None:
        def reject(wsi: Any) -> None:
            raise Reject(429, "too late")

        _, served_protocol = plugin("on_established", reject)
        with running([served_protocol]) as served, connect(served.port, path="/bad") as bad:
            assert bad.receive_close().close_code == 1011
        assert "faulty.on_established raised" in errors[0]

    @pytest.mark.parametrize("hook", ["on_filter_protocol_connection", "on_add_headers"])
    def test_wsi_close_inside_ends_it(self, plugin: Make, hook: str) -> None:
        faulty, served_protocol = plugin(hook, lambda wsi: wsi.close() and None)
        with running([served_protocol]) as served, connect(served.port) as good:
            with Client(served.port) as bad:
                bad.send(upgrade_request("/bad"))
                assert b" 101 " not in bad.receive_end()
            wait_until(lambda: served.context.wsi_count == 1)
            assert is_alive(good)
            assert faulty.closed == []

    def test_a_response_is_no_answer_to_an_upgrade(self, plugin: Make, errors: list[str]) -> None:
        _, served_protocol = plugin("on_filter_protocol_connection", lambda wsi: Response(status=404))
        with running([served_protocol]) as served, Client(served.port) as bad:
            bad.send(upgrade_request("/bad"))
            assert bad.receive_response().status == 500
        assert "faulty.on_filter_protocol_connection answered <Response 404" in errors[0]

    def test_a_session_that_cannot_be_made_is_500(self, errors: list[str]) -> None:
        class NoSession(Pieces):
            def Session(self) -> Any:
                raise ValueError("seat taken")

        faulty = NoSession("", raise_error)
        with running([faulty]) as served, Client(served.port) as bad:
            bad.send(upgrade_request())
            assert bad.receive_response().status == 500
        assert "faulty.Session raised ValueError: seat taken" in errors[0]
        assert faulty.closed == []


class TestReports:
    def test_a_place_is_reported_once_however_often_it_happens(self, errors: list[str]) -> None:
        faulty = Pieces("on_receive", raise_error)
        with running([faulty]) as served:
            for _ in range(5):
                with connect(served.port, path="/bad") as bad:
                    bad.send_text("x")
                    assert bad.receive_close().close_code == 1011
            assert served.context.counters.plugin_errors == 5
        assert len([line for line in errors if not line.startswith("  ")]) == 1


class TestEveryone:
    def test_closing_everyone_inside_a_broadcast(self, errors: list[str]) -> None:
        class Ending(Protocol):
            name = "ending"
            closed = 0

            def on_message(self, wsi: Any, message: Any) -> None:
                self.broadcast("good night")
                for member in self.wsis:
                    member.close(4000)
                self.broadcast("too late")

            def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
                self.closed += 1

        protocol = Ending()
        with running([protocol]) as served:
            clients = [connect(served.port) for _ in range(10)]
            clients[3].send_text("end")
            for client in clients:
                with client:
                    assert client.receive_message() == "good night"
                    assert client.receive_close().close_code == 4000
            wait_until(lambda: served.context.wsi_count == 0)
            assert protocol.closed == 10
        assert errors == []


class TestLoad:
    def test_a_coroutine_hook_is_refused(self) -> None:
        class Awaiting(Protocol):
            name = "awaiting"

            async def on_message(self, wsi: Any, message: Any) -> None: ...  # type: ignore[override]

        with Context() as context, pytest.raises(PluginError, match="must be a plain function"):
            context.add_protocol(Awaiting())

    def test_a_coroutine_callback_is_refused(self) -> None:
        async def callback(wsi: Any, reason: Reason, user: Any, data: Any) -> int:
            return 0

        with Context() as context, pytest.raises(PluginError, match="must be a plain function"):
            context.add_protocol(callback_protocol("awaiting")(callback))
