"""Several connects at once: to one address one after the other (RFC 6455 4.1, point 2), else side by side."""

from __future__ import annotations

from typing import Any

from tests.support.names import Names
from tests.support.outgoing import Dialing, Outgoing, dialing
from tests.support.server import Server, silent_port
from tests.support.timing import MS
from wsd.protocol import Protocol


def nobody_else_comes(server: Server) -> bool:
    """Reports whether no further connection lies in the listener's queue, nor comes soon."""
    server.socket.settimeout(100 * MS)
    try:
        server.accept()
    except TimeoutError:
        return True
    finally:
        server.socket.settimeout(server.patience)
    return False


def test_the_next_waits_until_the_one_before_it_is_established(dial: Dialing) -> None:
    with Server() as server:
        first, second = dial.connect(server.url), dial.connect(server.url)
        one = server.accept()
        assert nobody_else_comes(server)
        one.switch()
        assert dial.established() is first
        server.accept_websocket()
        assert dial.established() is second


def test_or_until_it_has_failed(dial: Dialing) -> None:
    with Server() as server:
        first, second = dial.connect(server.url), dial.connect(server.url)
        server.accept().disconnect()
        wsi, error = dial.outcome()
        assert wsi is first
        assert error is not None
        server.accept_websocket()
        assert dial.established() is second


def test_one_that_waits_has_its_deadline_and_says_what_it_waited_for(dial: Dialing) -> None:
    with Server() as server:
        dial.connect(server.url)
        server.accept()
        second = dial.connect(server.url, timeout_seconds=50 * MS)
        wsi, error = dial.outcome()
        assert wsi is second
        assert error is not None
        assert error.cause == "timeout"
        assert "another connection to 127.0.0.1" in error.text


def test_one_that_waits_can_be_closed_and_is_skipped(dial: Dialing) -> None:
    with Server() as server:
        dial.connect(server.url)
        waiting, last = dial.connect(server.url), dial.connect(server.url)
        first = server.accept()
        dial.call(waiting.close)
        wsi, error = dial.outcome()
        assert wsi is waiting
        assert error is not None
        assert error.cause == "closed"
        first.switch()
        dial.established()
        server.accept_websocket()
        assert dial.established() is last


def test_the_same_address_under_another_name_is_the_same(dial: Dialing, names: Names) -> None:
    """ "even if the remote host is known by another name" """
    with Server() as server:
        names.table["one.test"] = names.table["two.test"] = ["127.0.0.1"]
        dial.connect(f"ws://one.test:{server.port}/")
        one = server.accept()
        dial.connect(f"ws://two.test:{server.port}/")
        assert nobody_else_comes(server)
        one.switch()
        dial.established()
        server.accept_websocket()
        dial.established()


def test_another_port_is_another_host(dial: Dialing) -> None:
    with Server() as server, silent_port() as silent:
        dial.connect(f"ws://127.0.0.1:{silent}/", timeout_seconds=300 * MS)
        dial.connect(server.url)
        server.accept_websocket()
        dial.established()
        assert dial.error().cause == "timeout"


def test_a_hundred_at_once_are_all_established(dial: Dialing) -> None:
    class Echo(Protocol):
        name = "echo"

        def on_message(self, wsi: Any, message: Any) -> None:
            wsi.send(message)

    with dialing(Echo()) as served:
        url = f"ws://127.0.0.1:{served.served.port}/"
        wanted = [dial.connect(url, subprotocols=["echo"]) for _ in range(100)]
        assert [dial.established() for _ in wanted] == wanted
        for wsi in wanted:
            dial.call(wsi.close)
        assert {dial.closed()[0] for _ in wanted} == {1000}


def test_a_protocol_may_connect_in_its_on_protocol_init() -> None:
    class Eager(Outgoing):
        name = "eager"

        def on_protocol_init(self, context: Any, options: Any) -> None:
            self.first = context.client_connect(url, protocol=self)

    with Server() as server:
        url = server.url
        with dialing(protocol=Eager()) as dial:
            connection = server.accept_websocket()
            assert dial.established() is dial.protocol.first  # type: ignore[attr-defined]
            connection.finish()
