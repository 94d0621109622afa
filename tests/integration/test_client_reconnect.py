"""Connecting again after a failure or an end: when it is done, when it is not, and that each try is told once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.client import TEXT, frame
from tests.support.outgoing import Dialing, Outgoing, dialing
from tests.support.server import Server, refusing_port, switching
from tests.support.timing import MS, PATIENCE
from wsd.client import Backoff
from wsd.config import Limits
from wsd.reasons import CLOSE

QUICK = Backoff(table_seconds=(10 * MS,), jitter=0)
"""Again almost at once."""

NEVER = Backoff(table_seconds=(PATIENCE * 100,), jitter=0)
"""Again, but not while a test runs: whether a try is noted is seen on `context.timers`."""


def is_waiting(dial: Dialing, wsi: Any) -> bool:
    """Reports whether another try is noted for later."""
    return bool(dial.call(lambda: wsi.reconnect._timer is not None))


class TestAgain:
    def test_until_the_server_is_there(self, dial: Dialing) -> None:
        with refusing_port() as port:
            first = dial.connect(f"ws://127.0.0.1:{port}/", reconnect=QUICK)
            assert [dial.error().cause for _ in range(3)] == ["refused"] * 3
        with Server(port=port) as server:
            server.accept_websocket()
            while (outcome := dial.outcome())[1] is not None:
                pass
            wsi = outcome[0]
            assert wsi is not first
            assert wsi.reconnect is first.reconnect
            assert wsi.reconnect.wsi is wsi
            dial.call(wsi.close)

    @pytest.mark.parametrize("end", ["close frame", "no close frame", "reset", "violation"])
    def test_when_the_server_ends_it(self, dial: Dialing, end: str) -> None:
        with Server() as server:
            dial.connect(server.url, reconnect=QUICK)
            for _ in range(3):
                connection = server.accept_websocket()
                wsi = dial.established()
                if end == "close frame":
                    connection.finish(1001)
                elif end == "no close frame":
                    connection.shut_down_writing()
                elif end == "reset":
                    connection.reset()
                else:
                    connection.send(frame(TEXT, "masked"))
                    connection.receive_close()
                    connection.shut_down_writing()
                dial.closed()
            server.accept_websocket()
            wsi = dial.established()
            assert len(dial.protocol.told) == 4, "each try is a wsi of its own"
            dial.call(wsi.close)

    def test_the_delays_are_those_of_the_table_and_begin_anew_once_established(self, dial: Dialing) -> None:
        table = [20 * MS, 40 * MS, 80 * MS]
        failures, waits = [], []
        with Server() as server:
            wsi = dial.connect(server.url, reconnect=Backoff(table_seconds=table, jitter=0))
            ended = time.monotonic()
            for turn in range(7):
                connection = server.accept()
                waits.append(time.monotonic() - ended)
                asked = connection.receive_request()
                if turn == 4:
                    connection.send(switching(asked))
                    dial.established()
                ended = time.monotonic()
                connection.reset()
                if turn == 4:
                    dial.closed()
                else:
                    dial.error()
                failures.append(dial.call(lambda: wsi.reconnect.failures))
            dial.call(wsi.reconnect.cancel)
        assert failures == [1, 2, 3, 4, 1, 2, 3]
        delays = [0, *(table[min(count, 3) - 1] for count in failures[:-1])]
        assert all(wait >= delay for wait, delay in zip(waits, delays, strict=True)), waits

    def test_the_same_is_asked_for_each_time(self, dial: Dialing) -> None:
        with Server() as server:
            ours: dict[str, int] = {}
            dial.protocol.does["append"] = lambda wsi, headers: headers.add("X-Hook", "1")
            dial.connect(
                f"{server.url}chat",
                subprotocols=["b", "a"],
                headers=iter([("X-Ours", "1")]),
                origin="https://example.com",
                session=ours,
                reconnect=QUICK,
            )
            seen = set()
            keys = set()
            for _ in range(3):
                connection = server.accept()
                asked = connection.receive_request()
                keys.add(asked.header("Sec-WebSocket-Key"))
                kept = [(name, value) for name, value in asked.headers if name != "Sec-WebSocket-Key"]
                seen.add((asked.target, tuple(kept)))
                connection.reset()
                wsi, _ = dial.outcome()
                assert wsi.session is ours
            assert len(seen) == 1
            assert len(keys) == 3
            dial.call(wsi.reconnect.cancel)

    def test_after_a_failure_of_our_own(self) -> None:
        """At the connection limit, and when a hook raised: what is wrong now need not be so later."""
        with dialing(limits=Limits(max_connections=1)) as dial, Server() as server:
            dial.connect(server.url)
            connection = server.accept_websocket()
            dial.established()
            dial.connect(server.url, reconnect=QUICK)
            assert [dial.error().cause for _ in range(2)] == ["limit"] * 2
            connection.finish()
            dial.closed()
            server.accept_websocket()
            while (outcome := dial.outcome())[1] is not None:
                pass
            dial.call(outcome[0].close)

    def test_a_hook_that_raised_is_no_wish_to_end(self, dial: Dialing) -> None:
        def does(wsi: Any, *arguments: Any) -> None:
            raise RuntimeError("a bug")

        with Server() as server:
            dial.protocol.does = {"filter": does, "error": does}
            dial.connect(server.url, reconnect=QUICK)
            server.accept_websocket()
            assert dial.error().cause == "plugin"
            dial.protocol.does = {"established": does}
            server.accept_websocket().finish()
            dial.established()
            dial.protocol.does = {}
            server.accept_websocket()
            dial.call(dial.established().close)


class TestNotAgain:
    def test_unless_it_was_asked_for(self, dial: Dialing) -> None:
        with Server() as server:
            wsi = dial.connect(server.url)
            assert wsi.reconnect is None
            server.accept_websocket().finish()
            dial.established()
            dial.closed()
            assert dial.call(lambda: dial.context.wsi_count) == 0

    @pytest.mark.parametrize("before", [True, False])
    def test_when_we_closed_it(self, dial: Dialing, before: bool) -> None:
        with Server() as server:
            wsi = dial.connect(server.url, reconnect=NEVER)
            connection = server.accept()
            if before:
                connection.receive_request()
            else:
                connection.switch()
                dial.established()
            dial.call(wsi.close)
            if before:
                assert dial.error().cause == "closed"
            else:
                connection.finish()
                dial.closed()
            assert not is_waiting(dial, wsi)

    def test_when_a_hook_answered_close(self, dial: Dialing) -> None:
        with Server() as server:
            dial.protocol.does["message"] = lambda wsi, message: CLOSE
            wsi = dial.connect(server.url, reconnect=NEVER)
            connection = server.accept_websocket(then=frame(TEXT, "enough", mask=None))
            dial.established()
            connection.finish()
            dial.closed()
            assert not is_waiting(dial, wsi)

    @pytest.mark.parametrize("answered", [None, CLOSE])
    def test_when_the_error_hook_answered_close(self, dial: Dialing, answered: int | None) -> None:
        dial.protocol.does["error"] = lambda wsi, error: answered
        with refusing_port() as port:
            wsi = dial.connect(f"ws://127.0.0.1:{port}/", reconnect=NEVER)
            dial.error()
            assert is_waiting(dial, wsi) is (answered is None)

    @pytest.mark.parametrize("hook", ["error", "closed"])
    def test_when_the_last_hook_closed_it(self, dial: Dialing, hook: str) -> None:
        dial.protocol.does[hook] = lambda wsi, *arguments: wsi.close() and None
        with Server() as server:
            wsi = dial.connect(server.url, reconnect=NEVER)
            connection = server.accept()
            if hook == "error":
                connection.reset()
                dial.error()
            else:
                connection.switch()
                connection.finish()
                dial.established()
                dial.closed()
            assert not is_waiting(dial, wsi)

    def test_when_it_was_cancelled(self, dial: Dialing) -> None:
        with Server() as server:
            wsi = dial.connect(server.url, reconnect=QUICK)
            connection = server.accept_websocket()
            dial.established()
            dial.call(wsi.reconnect.cancel)
            dial.call(lambda: wsi.send("still there"))
            assert connection.receive_frame().opcode == TEXT
            connection.finish()
            dial.closed()
            assert not is_waiting(dial, wsi)

    def test_when_it_was_cancelled_while_it_waited(self, dial: Dialing) -> None:
        with refusing_port() as port:
            wsi = dial.connect(f"ws://127.0.0.1:{port}/", reconnect=NEVER)
            dial.error()
            assert is_waiting(dial, wsi)
            dial.call(wsi.reconnect.cancel)
            assert not is_waiting(dial, wsi)

    def test_more_often_than_it_may(self, dial: Dialing) -> None:
        few = Backoff(table_seconds=(1 * MS,), max_tries=3)
        with refusing_port() as port:
            wsi = dial.connect(f"ws://127.0.0.1:{port}/", reconnect=few)
            assert [dial.error().cause for _ in range(3)] == ["refused"] * 3
            assert not is_waiting(dial, wsi)
        assert len(dial.protocol.told) == 3

    @pytest.mark.parametrize("how", ["stop", "retire"])
    @pytest.mark.parametrize("when", ["waiting", "connecting", "established"])
    def test_when_nobody_is_left(self, how: str, when: str) -> None:
        """The context stops, or a reload has replaced the protocol: nothing waits, and nothing comes back."""
        with dialing() as dial, Server() as server:
            wsi = dial.connect(server.url, reconnect=QUICK if when == "connecting" else NEVER)
            connection = server.accept()
            if when == "waiting":
                connection.reset()
                dial.error()
                assert is_waiting(dial, wsi)
            elif when == "connecting":
                connection.receive_request()
            else:
                connection.switch()
                dial.established()
            dial.call(dial.context.stop if how == "stop" else lambda: dial.context.retire_protocol(dial.protocol))
            if when == "connecting":
                assert dial.error().cause == "closed"
            elif when == "established":
                connection.finish(1001)
                dial.closed()
        assert len(dial.protocol.told) == 1

    def test_when_its_protocol_could_not_be_initialised(self) -> None:
        class Broken(Outgoing):
            def on_protocol_init(self, context: Any, options: Any) -> None:
                self.wsi = context.client_connect(server.url, protocol=self, reconnect=QUICK)
                raise RuntimeError("a bug")

        broken = Broken()
        with dialing() as dial, Server() as server:
            with pytest.raises(Exception, match="on_protocol_init raised RuntimeError"):
                dial.call(lambda: dial.context.add_protocol(broken))
            assert broken.outcomes.get(timeout=PATIENCE)[0] is broken.wsi
            assert not is_waiting(dial, broken.wsi)
