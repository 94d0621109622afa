"""docs/lifecycle.md: what it says of how a WebSocket that we open fails to be one is what happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import server as servers
from tests.support.dials import asked, called, check_nothing_is_due, dial, end, left, opened
from tests.support.plays import SHORT, Plays, Stage, close, fail
from tests.support.server import Connection, Server, refusing_port, silent_port, switching
from tests.support.timing import wait_until
from wsd.config import Limits
from wsd.reconnect import Backoff

plays = Plays("A WebSocket that we open: ways to fail")

AGAIN = Backoff(table_seconds=[SHORT], jitter=0)


# -- until somebody is there ------------------------------------------------------------------------------------------


def refused(stage: Stage, **options: Any) -> str:
    with refusing_port() as port:
        dial(stage, f"ws://127.0.0.1:{port}/", **options)
        stage.notes.wait_for("on_client_connection_error")
    return "-"


plays.of("nobody listens there")(refused)


@plays.of("`Session` raises", session=fail)
def raise_in_session(stage: Stage) -> str:
    return refused(stage)


@plays.of("the name has no address")
def no_address(stage: Stage) -> str:
    dial(stage, "ws://nowhere.invalid/")
    stage.notes.wait_for("on_client_connection_error")
    return "-"


@plays.of("`interface` is no address of ours")
def no_interface(stage: Stage) -> str:
    return refused(stage, interface="192.0.2.1")


@plays.of("no answer to the attempt within `timeout_seconds`")
def silent(stage: Stage) -> str:
    with silent_port() as port:
        dial(stage, f"ws://127.0.0.1:{port}/", timeout_seconds=SHORT)
        stage.notes.wait_for("on_client_connection_error")
    return "-"


@plays.of("the limit on connections is reached", limits=Limits(max_connections=1))
def limit(stage: Stage) -> str:
    with stage.client():
        wait_until(lambda: stage.context.wsi_count == 1)
        stage.notes.calls.clear()  # of the one that came in
        return refused(stage)


@plays.of("`wsi.close()` at once")
def close_at_once(stage: Stage) -> str:
    context = stage.context
    with refusing_port() as port:
        url = f"ws://127.0.0.1:{port}/"
        stage.served.call(lambda: context.client_connect(url, protocol=context.protocols[0]).close())
    return "-"


def ask_proxy(stage: Stage) -> Connection:
    """A proxy that has read what it is asked."""
    proxy = stage.stack.enter_context(Server())
    dial(stage, "ws://192.0.2.1/", proxy=f"http://127.0.0.1:{proxy.port}")
    connection = proxy.accept()
    assert connection.receive_request().method == "CONNECT"
    return connection


@plays.of("the proxy refuses")
def proxy_refuses(stage: Stage) -> str:
    connection = ask_proxy(stage)
    connection.send(servers.answer("403 Forbidden", "Content-Length: 0"))
    return end(connection)


@plays.of("the proxy hangs up")
def proxy_hangs_up(stage: Stage) -> str:
    connection = ask_proxy(stage)
    connection.shut_down_writing()
    return end(connection)


# -- the request ------------------------------------------------------------------------------------------------------


@plays.of("`on_client_confirm_extension_supported` answers CLOSE")
def no_offer(stage: Stage) -> str:
    stage.does("on_client_confirm_extension_supported", close)
    connection = opened(stage)
    assert connection.asked.header("Sec-WebSocket-Extensions") is None
    return f"no offer, {left(connection)}"


def gives_up(hook: str, deed: Callable[..., Any]) -> Callable[[Stage], str]:
    """What a hook does before the request leaves gives the connection up."""

    def act(stage: Stage) -> str:
        stage.does(hook, deed)
        return end(called(stage))

    return act


plays.of("`on_client_confirm_extension_supported` raises")(gives_up("on_client_confirm_extension_supported", fail))
plays.of("`on_client_append_handshake_header` answers CLOSE")(gives_up("on_client_append_handshake_header", close))
plays.of("`on_client_append_handshake_header` raises")(gives_up("on_client_append_handshake_header", fail))
plays.of("`wsi.close()` in `on_client_append_handshake_header`")(
    gives_up("on_client_append_handshake_header", lambda wsi, headers: wsi.close() and None)
)


# -- the answer -------------------------------------------------------------------------------------------------------


@plays.of("the server hangs up before it answers")
def hang_up(stage: Stage) -> str:
    connection = asked(stage)
    connection.shut_down_writing()
    return end(connection)


@plays.of("reset before it answers")
def reset(stage: Stage) -> str:
    asked(stage).reset()
    return "-"


@plays.of("reset in the middle of its answer")
def reset_in_answer(stage: Stage) -> str:
    connection = asked(stage)
    connection.send(b"HTTP/1.1 1")
    wait_until(lambda: stage.context.counters.bytes_received == 10)
    connection.reset()
    return "-"


@plays.of("no answer to the request within `timeout_seconds`")
def no_answer(stage: Stage) -> str:
    return end(asked(stage, timeout_seconds=5 * SHORT))  # time enough to ask


def answered(answer: Callable[[servers.Asked], bytes]) -> Callable[[Stage], str]:
    """The server answers so, and is hung up on."""

    def act(stage: Stage) -> str:
        connection = asked(stage)
        connection.send(answer(connection.asked))
        return end(connection)

    return act


plays.of("the answer is a 403")(answered(lambda _: servers.answer("403 Forbidden", "Content-Length: 0")))
plays.of("the answer is no HTTP")(answered(lambda _: b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))
plays.of("the 101 has a wrong `Sec-WebSocket-Accept`")(answered(lambda asked: switching(asked, accept="wrong")))
plays.of("the 101 names a subprotocol that was not offered")(
    answered(lambda asked: switching(asked, "Sec-WebSocket-Protocol: other"))
)
plays.of("the 101 names an extension that was not offered")(
    answered(lambda asked: switching(asked, "Sec-WebSocket-Extensions: x-other"))
)


def refused_by_filter(deed: Callable[..., Any]) -> Callable[[Stage], str]:
    def act(stage: Stage) -> str:
        stage.does("on_client_filter_pre_establish", deed)
        connection = called(stage)
        connection.switch()
        return end(connection)

    return act


plays.of("`on_client_filter_pre_establish` answers CLOSE")(refused_by_filter(close))
plays.of("`on_client_filter_pre_establish` raises")(refused_by_filter(fail))


def given_up(deed: Callable[[Stage, Any], Any]) -> Callable[[Stage], str]:
    """Somebody does that while we wait for the answer."""

    def act(stage: Stage) -> str:
        connection = asked(stage)
        stage.do(lambda wsi: deed(stage, wsi))
        return end(connection)

    return act


plays.of("`wsi.close()` while it waits for the answer")(given_up(lambda _, wsi: wsi.close()))
plays.of("`context.stop()` while it waits for the answer")(given_up(lambda stage, _: stage.context.stop()))
plays.of("a reload replaces the protocol while it waits for the answer")(
    given_up(lambda stage, wsi: stage.context.retire_protocol(wsi.protocol))
)


# -- the error, and trying again --------------------------------------------------------------------------------------


@plays.of("`on_client_connection_error` raises")
def raise_in_error(stage: Stage) -> str:
    stage.does("on_client_connection_error", fail)
    return refused(stage)


@plays.of("reset before it answers, with `reconnect=`, and then not")
def again(stage: Stage) -> str:
    stage.does("on_closed", lambda wsi, code, reason: wsi.reconnect.cancel())
    server = stage.stack.enter_context(Server())
    dial(stage, server.url, reconnect=AGAIN)
    connection = server.accept()
    connection.receive_request()
    connection.reset()
    return left(server.accept_websocket())


@plays.of("refused, with `reconnect=`, and CLOSE")
def not_again(stage: Stage) -> str:
    stage.does("on_client_connection_error", close)
    got = refused(stage, reconnect=AGAIN)
    check_nothing_is_due(stage)
    return got


@plays.of("refused, with `reconnect=`, more often than `max_tries`")
def twice(stage: Stage) -> str:
    with refusing_port() as port:
        dial(stage, f"ws://127.0.0.1:{port}/", reconnect=Backoff(table_seconds=[SHORT], max_tries=2))
        wait_until(lambda: stage.notes.calls.count("on_client_connection_error('refused')") == 2)
        check_nothing_is_due(stage)
    return "-"


# -- as the page has it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "style"), plays.cases())
def test_it_is_as_the_page_says(what: str, style: str) -> None:
    plays.check(what, style)


def test_each_row_is_played() -> None:
    assert plays.keys() == plays.rows.keys()
