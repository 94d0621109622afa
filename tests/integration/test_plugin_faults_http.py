"""What a misbehaving plugin costs outside a WebSocket: in HTTP hooks, and in hooks that belong to no connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.test_plugin_faults import MISTAKES, SAID, answer_close, answer_true, raise_error, raise_exit
from tests.support.client import Client, connect
from tests.support.context import Running, running
from tests.support.timing import MS, wait_until
from wsd import faults, log
from wsd.protocol import Peer, Protocol
from wsd.wire.response import Response

Deed = Callable[[Any], Any]


class Web(Protocol):
    """Protocol 0 with every HTTP hook.  In one of them, and only for a target with "bad" in it, it does `deed`."""

    name = "web"

    def __init__(self, hook: str = "", deed: Deed = raise_error) -> None:
        self.hook, self.deed = hook, deed
        self.closed_http = 0

    def do(self, hook: str, wsi: Any) -> Any:
        return self.deed(wsi) if hook == self.hook and "bad" in wsi.request.target else None

    def on_http(self, wsi: Any, request: Any) -> Any:
        if (answer := self.do("on_http", wsi)) is not None:
            return answer
        if request.method == "POST":
            return None
        if "stream" in request.target:
            wsi.callback_on_writable()
            return Response(stream=True)
        return Response(body="hello")

    def on_http_body(self, wsi: Any, data: bytes) -> Any:
        return self.do("on_http_body", wsi)

    def on_http_body_completion(self, wsi: Any) -> Any:
        answer = self.do("on_http_body_completion", wsi)
        return answer if answer is not None else Response(body="stored")

    def on_http_writeable(self, wsi: Any) -> Any:
        wsi.write("part", final=False)
        answer = self.do("on_http_writeable", wsi)
        if answer is None:
            wsi.write("end")
        return answer

    def on_closed_http(self, wsi: Any) -> Any:
        self.closed_http += 1
        return self.do("on_closed_http", wsi)

    def on_message(self, wsi: Any, message: Any) -> None:
        wsi.send(message)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The heads of the reports at ERR, and a throttle that has seen nothing."""
    found: list[str] = []
    before, emitter = log.level(), log._emitter
    monkeypatch.setattr(faults, "_throttle", log.Throttle())
    log.set_level(log.ERR, lambda level, line: None if line.startswith("  ") else found.append(line))
    yield found
    log.set_level(before, emitter)


def request(hook: str, target: str = "/bad") -> bytes:
    """A request that has `hook` called."""
    if "body" in hook:
        return f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".encode()
    if hook == "on_http_writeable":
        target += "/stream"
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def is_alive(served: Running, client: Client) -> bool:
    """Reports whether a WebSocket that was there before and a new HTTP connection are both served."""
    client.send_text("round trip")
    with Client(served.port) as fresh:
        body = fresh.request(request("", "/good")).body
    return client.receive_message() == "round trip" and body == b"hello"


ANSWERING = ["on_http", "on_http_body", "on_http_body_completion"]


class TestHttp:
    @pytest.mark.parametrize("deed", MISTAKES)
    @pytest.mark.parametrize("hook", ANSWERING)
    def test_a_mistake_is_500(self, hook: str, deed: Deed, errors: list[str]) -> None:
        protocol = Web(hook, deed)
        with running([protocol]) as served, connect(served.port) as good:
            with Client(served.port) as bad:
                response = bad.request(request(hook))
                assert response.status == 500
                assert b"seat" not in response.body
            wait_until(lambda: protocol.closed_http == 1)
            assert is_alive(served, good)
            assert served.context.counters.plugin_errors == 1
        assert len(errors) == 1
        assert f"web.{hook} {SAID[deed]}" in errors[0]
        assert errors[0].startswith("web#")

    @pytest.mark.parametrize("hook", ANSWERING)
    def test_close_hangs_up(self, hook: str, errors: list[str]) -> None:
        protocol = Web(hook, answer_close)
        with running([protocol]) as served, connect(served.port) as good:
            with Client(served.port) as bad:
                bad.send(request(hook))
                assert bad.receive_end() == b""
            wait_until(lambda: protocol.closed_http == 1)
            assert is_alive(served, good)
        assert errors == []

    def test_nothing_is_asked_of_a_plugin_that_hung_up_in_the_middle_of_a_body(self, errors: list[str]) -> None:
        class Closing(Web):
            completions = 0

            def on_http_body(self, wsi: Any, data: bytes) -> Any:
                wsi.close()

            def on_http_body_completion(self, wsi: Any) -> Any:
                self.completions += 1

        protocol = Closing()
        with running([protocol]) as served, Client(served.port) as bad:
            bad.send(request("on_http_body"))
            assert bad.receive_end() == b""
        assert protocol.completions == 0
        assert errors == []

    @pytest.mark.parametrize("hook", ANSWERING)
    def test_wsi_close_inside_hangs_up(self, hook: str, errors: list[str]) -> None:
        protocol = Web(hook, lambda wsi: wsi.close() and None)
        with running([protocol]) as served, connect(served.port) as good:
            with Client(served.port) as bad:
                bad.send(request(hook))
                assert bad.receive_end() == b""
            wait_until(lambda: protocol.closed_http == 1)
            assert is_alive(served, good)
        assert errors == []

    @pytest.mark.parametrize("deed", MISTAKES)
    def test_a_mistake_in_the_middle_of_an_answer_shows_that_it_is_not_whole(
        self, deed: Deed, errors: list[str]
    ) -> None:
        protocol = Web("on_http_writeable", deed)
        with running([protocol]) as served, connect(served.port) as good:
            with Client(served.port) as bad:
                bad.send(request("on_http_writeable"))
                assert not bad.receive_end().endswith(b"0\r\n\r\n")
            wait_until(lambda: protocol.closed_http == 1)
            assert is_alive(served, good)
        assert len(errors) == 1
        assert f"web.on_http_writeable {SAID[deed]}" in errors[0]

    def test_a_body_whose_iterator_raises_is_cut_too(self, errors: list[str]) -> None:
        def broken(wsi: Any) -> Response:
            def parts() -> Iterator[bytes]:
                yield b"part"
                raise ValueError("seat taken")

            return Response(body=parts())

        with running([Web("on_http", broken)]) as served, connect(served.port) as good:
            with Client(served.port) as bad:
                bad.send(request("on_http"))
                assert not bad.receive_end().endswith(b"0\r\n\r\n")
            assert is_alive(served, good)
        assert "raised ValueError: seat taken" in errors[0]

    @pytest.mark.parametrize("deed", MISTAKES)
    def test_on_closed_http_is_once_whatever_it_does(self, deed: Deed, errors: list[str]) -> None:
        protocol = Web("on_closed_http", deed)
        with running([protocol]) as served, connect(served.port) as good:
            with Client(served.port) as bad:
                assert bad.request(request("on_http")).body == b"hello"
            wait_until(lambda: protocol.closed_http == 1)
            assert is_alive(served, good)
            assert served.context.counters.plugin_errors == 1
        assert f"web.on_closed_http {SAID[deed]}" in errors[0]

    def test_writing_outside_its_hook_says_what_to_do(self, errors: list[str]) -> None:
        with running([Web("on_http", lambda wsi: wsi.write("x"))]) as served, Client(served.port) as bad:
            assert bad.request(request("on_http")).status == 500
        assert "on_http_writeable" in errors[0]


class TestNetworkFilter:
    @pytest.mark.parametrize("deed", [*MISTAKES, answer_close])
    def test_one_that_does_not_answer_ok_refuses(self, deed: Deed, errors: list[str]) -> None:
        class Filter(Web):
            peers: list[Peer] = []

            def on_filter_network_connection(self, peer: Peer) -> Any:
                self.peers.append(peer)
                return deed(None) if len(self.peers) == 2 else None

        protocol = Filter()
        with running([protocol]) as served, connect(served.port) as good:
            with Client(served.port) as bad:
                assert bad.receive_end() == b""
            assert is_alive(served, good)
            assert served.context.counters.refused == 1
        assert len(protocol.peers) == 3
        if deed is answer_close:
            assert errors == []
        else:
            assert f"web.on_filter_network_connection {SAID[deed]}" in errors[0]
            assert errors[0].startswith(f"127.0.0.1:{protocol.peers[1].port}: ")


class TestNoConnection:
    @pytest.mark.parametrize("deed", [raise_error, raise_exit])
    def test_on_wakeup(self, deed: Deed, errors: list[str]) -> None:
        class Woken(Web):
            def on_wakeup(self) -> None:
                deed(None)

        with running([Woken()]) as served, connect(served.port) as good:
            served.context.cancel_service()
            wait_until(lambda: errors)
            assert is_alive(served, good)
        assert f"web.on_wakeup {SAID[deed]}" in errors[0]

    @pytest.mark.parametrize("deed", [raise_error, raise_exit])
    def test_a_function_called_later(self, deed: Deed, errors: list[str]) -> None:
        with running([Web()]) as served, connect(served.port) as good:
            served.call(lambda: served.context.call_later(1 * MS, lambda: deed(None)))
            wait_until(lambda: errors)
            assert is_alive(served, good)
        assert SAID[deed] in errors[0]

    def test_on_protocol_destroy(self, errors: list[str]) -> None:
        class Clinging(Web):
            def on_protocol_destroy(self) -> None:
                raise ValueError("seat taken")

        with running([Clinging()]):
            pass
        assert "web.on_protocol_destroy raised ValueError: seat taken" in errors[0]

    def test_what_on_wakeup_answers_means_nothing(self, errors: list[str]) -> None:
        class Woken(Web):
            def on_wakeup(self) -> Any:
                return answer_true(None)

        with running([Woken()]) as served, connect(served.port) as good:
            served.call(lambda: None)
            assert is_alive(served, good)
        assert errors == []
