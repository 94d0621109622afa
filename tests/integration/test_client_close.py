"""Giving up a connection that we open, in each of its steps and in each way: it is told once, at once, and leaves
neither a descriptor nor a thread.

What is left behind is looked for after every test (`tests/conftest.py`); `dialing` counts what was told.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest

from tests.support.names import Names
from tests.support.outgoing import Outgoing, check_told, dialing
from tests.support.server import Connection, Server, answer, refusing_port, silent_port, switching
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.config import Timeouts
from wsd.context import Context
from wsd.errors import ConnectError
from wsd.reasons import CLOSE

STEPS = ["noted", "resolving", "connecting", "proxy", "server", "refusal"]
"""How far a connection got: nothing has happened yet; no address; no answer to TCP; none to the CONNECT; none to the
request; one that is no 101 and has not ended."""


class Reached(NamedTuple):
    """A connect that has got as far as `step`."""

    url: str
    options: dict[str, Any]
    wait: Callable[[], Connection | None]
    """Waits until the step is reached; gives the server's end if there is one."""


@contextmanager
def reaching(step: str, names: Names, has_begun: Callable[[], bool]) -> Iterator[Reached]:
    """What to connect to in order to be held up at `step`."""
    with ExitStack() as stack:
        if step == "resolving":
            names.silent.add("silent.test")
            yield Reached("ws://silent.test/", {}, lambda: names.wait_asked(1))
        elif step == "connecting":
            names.table["two.test"] = ["::1", "127.0.0.1"]
            port = stack.enter_context(silent_port())
            stack.enter_context(silent_port("::1", port))
            yield Reached(f"ws://two.test:{port}/", {}, lambda: wait_until(has_begun))
        else:
            server = stack.enter_context(Server())

            def wait() -> Connection | None:
                if step == "noted":
                    return None
                connection = server.accept()
                connection.receive_request()
                if step == "refusal":
                    connection.send(answer("403 Forbidden", "Content-Length: 10", body="not"))
                return connection

            options = {"proxy": f"http://127.0.0.1:{server.port}"} if step == "proxy" else {}
            yield Reached(server.url, options, wait)


def sockets() -> int:
    """How many sockets this process has: 4 of two silent ports, and one for each attempt to connect."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:  # the one that lists them
            pass
    return found


@pytest.mark.parametrize("how", ["close", "abort", "stop"])
@pytest.mark.parametrize("step", STEPS)
def test_given_up(names: Names, step: str, how: str) -> None:
    """`wsi.close()`, `wsi.abort()`, `context.stop()`."""
    with dialing() as dial:
        before = sockets()
        with reaching(step, names, lambda: sockets() >= before + 6) as reached:

            def give_up(wsi: Any) -> None:
                if how == "stop":
                    dial.context.stop()
                else:
                    getattr(wsi, how)()
                    assert wsi.is_closing

            if step == "noted":

                def connect() -> Any:
                    wsi = dial.context.client_connect(reached.url, **reached.options)
                    give_up(wsi)
                    assert dial.protocol.calls == [], "no hook inside the call"
                    return wsi

                dial.wsis.append(dial.call(connect))
                connection = None
            else:
                wsi = dial.connect(reached.url, **reached.options)
                connection = reached.wait()
                dial.call(lambda: give_up(wsi))
            error = dial.error()
            expected = {"close": "closed", "stop": "closed", "abort": "proxy" if step == "proxy" else "reset"}[how]
            if step == "refusal" and how == "abort" and error.status:
                expected = "status"  # its head was read already
            assert error.cause == expected, error.text
            if connection is not None:
                assert connection.receive_end() == b""
            if how == "stop":
                dial.served.thread.join(PATIENCE)
                assert not dial.served.thread.is_alive(), "a silent name server holds nobody up"


@pytest.mark.parametrize("step", STEPS)
def test_the_context_is_closed(names: Names, step: str) -> None:
    """`context.close()` ends everything at once, driven here without a thread."""
    protocol = Outgoing()
    context = Context([protocol])
    before, idle = sockets(), threading.active_count()
    with reaching(step, names, lambda: sockets() >= before + 6) as reached:
        wsi = context.client_connect(reached.url, timeout_seconds=PATIENCE, **reached.options)
        if step != "noted":
            done: list[Any] = []

            def wait() -> None:
                done.append(reached.wait())

            waiting = threading.Thread(target=wait)
            waiting.start()
            while not done:
                context.service(5 * MS)
            waiting.join()
        context.close()
        check_told(protocol, [wsi])
        _, error = protocol.outcomes.get_nowait()
        assert error is not None
        assert error.cause == "closed"
        assert wsi.fileno() == -1
    names.release()
    wait_until(lambda: threading.active_count() == idle)


@pytest.mark.parametrize("hook", ["confirm", "append", "filter"])
def test_closed_in_a_hook(hook: str) -> None:
    hooks = ["confirm", "append", "filter"]
    with dialing() as dial, Server() as server:
        dial.protocol.does[hook] = lambda wsi, argument: wsi.close() and None
        dial.connect(server.url)
        connection = server.accept()
        if hook == "filter":
            connection.switch()
        error = dial.error()
        assert (error.cause, error.text) == ("closed", "closed before it was established")
        assert connection.receive_end() == b""
        assert dial.protocol.calls == [*hooks[: hooks.index(hook) + 1], "error"], "and no other hook after it"


def test_the_server_s_answer_in_the_turn_in_which_it_is_closed() -> None:
    """Whoever comes first has the say: a 101 that is read after `close()` establishes nothing."""
    protocol = Outgoing()
    with Context([protocol]) as context, Server() as server:
        wsi = context.client_connect(server.url, timeout_seconds=PATIENCE)
        while wsi.request is None:
            context.service(5 * MS)
        connection = server.accept()
        connection.send(switching(connection.receive_request()))
        wsi.close()
        context.service(0)
        context.service(0)
        assert protocol.calls == ["confirm", "append", "error"]
    check_told(protocol, [wsi])


def test_resolved_in_the_turn_in_which_it_is_closed() -> None:
    protocol = Outgoing()
    with Context([protocol]) as context, Server() as server:
        before = sockets()
        wsi = context.client_connect(server.url)
        wsi.close()
        context.service(0)
        context.service(0)
        assert sockets() == before
        assert protocol.calls == ["error"]
    check_told(protocol, [wsi])


def test_connected_in_the_turn_in_which_it_is_closed() -> None:
    """The connection that comes with it is given back."""
    protocol = Outgoing()
    with Context([protocol]) as context, Server() as server:
        before = sockets()
        wsi = context.client_connect(server.url, timeout_seconds=PATIENCE)
        context.service(0)  # resolved
        while sockets() == before:
            context.service(0)
        connection = server.accept()  # so the kernel has connected it; we have not heard of that yet
        wsi.abort()
        context.service(0)
        assert connection.receive_end() == b""
        assert protocol.calls == ["error"]
    check_told(protocol, [wsi])


def test_a_connection_that_is_gone_before_anybody_looks_at_it() -> None:
    """The kernel connected it, and the other end reset it since: it has no address any more."""
    with dialing() as dial, Server() as server:
        wsi = dial.connect(server.url)
        server.accept().receive_request()
        with socket.socket() as gone:
            dial.call(lambda: wsi.role._connected(gone))
            assert gone.fileno() == -1
        error = dial.error()
        assert error.cause == "reset"
        assert error.text == "connecting to 127.0.0.1: Transport endpoint is not connected"


def test_given_up_with_more_to_read_from_the_proxy() -> None:
    with dialing() as dial, Server() as proxy:
        dial.protocol.does["append"] = lambda wsi, headers: CLOSE
        dial.connect("ws://far.test/", proxy=f"http://127.0.0.1:{proxy.port}")
        connection = proxy.accept()
        connection.receive_request()
        connection.send(answer("200 OK"), b"HTTP/1.1 101 x\r\n\r\n")
        assert dial.error().text == "on_client_append_handshake_header refused"
        connection.receive_end()


def test_a_timeout_of_the_plugin_s_own() -> None:
    with dialing() as dial, Server() as server:
        wsi = dial.connect(server.url)
        connection = server.accept()
        connection.receive_request()
        dial.call(lambda: wsi.set_timeout(50 * MS))
        assert dial.error().cause == "closed"
        assert connection.receive_end() == b""


def test_a_protocol_that_is_replaced() -> None:
    """A reload: what it had opened is closed, established or not, and it is destroyed."""
    destroyed = threading.Event()

    class Replaced(Outgoing):
        def on_protocol_destroy(self) -> None:
            destroyed.set()

    with dialing(protocol=Replaced(), timeouts=Timeouts(close_seconds=1)) as dial, Server() as server:
        dial.connect(server.url)
        established = server.accept_websocket()
        dial.established()
        dial.connect(server.url)
        waiting = server.accept()
        waiting.receive_request()
        dial.call(lambda: dial.context.retire_protocol(dial.protocol))
        assert dial.error().cause == "closed"
        assert established.receive_close().close_code == 1001
        established.send_close(1001)
        established.shut_down_writing()
        dial.closed()
        assert destroyed.wait(PATIENCE)


def test_many_at_once_and_all_kinds_of_outcomes(names: Names) -> None:
    """Sixty connects in one turn: whatever becomes of each, each is told once."""
    names.silent.add("silent.test")
    with dialing() as dial, Server() as server, silent_port() as silent, refusing_port() as dead:
        urls = [
            server.url,
            "ws://nobody.test/",
            "ws://silent.test/",
            f"ws://127.0.0.1:{silent}/",
            f"ws://127.0.0.1:{dead}/",
            f"{server.url}refuse",
        ]

        def connect_all() -> list[Any]:
            return [
                dial.context.client_connect(url, timeout_seconds=1000 * MS, protocol="out")
                for _ in range(10)
                for url in urls
            ]

        dial.wsis = dial.call(connect_all)
        for _ in range(20):
            connection = server.accept()
            asked = connection.receive_request()
            connection.send(answer("403 No", "Content-Length: 0") if asked.target == "/refuse" else switching(asked))
        outcomes = [dial.outcome() for _ in range(60)]
        assert {wsi for wsi, _ in outcomes} == set(dial.wsis)
        causes = [error.cause if isinstance(error, ConnectError) else "established" for _, error in outcomes]
        assert {cause: causes.count(cause) for cause in causes} == {
            "established": 10,
            "resolve": 10,
            "timeout": 20,
            "refused": 10,
            "status": 10,
        }


def test_a_wsi_that_was_not_established_is_inert_afterwards() -> None:
    with dialing() as dial, refusing_port() as port:
        wsi = dial.connect(f"ws://127.0.0.1:{port}/")
        dial.error()
        answers = dial.call(lambda: [wsi.send("x"), wsi.close(), wsi.ping(), wsi.callback_on_writable(), wsi.fileno()])
        assert answers == [CLOSE, CLOSE, CLOSE, CLOSE, -1]
        assert wsi.is_closing
        assert dial.context.wsi_count == 0
