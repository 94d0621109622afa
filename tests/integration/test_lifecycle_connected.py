"""docs/lifecycle.md: what it says of a WebSocket that we have opened is what happens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, Frame, frame
from tests.support.dials import check_nothing_is_due, dial, echoed, end, left, opened
from tests.support.plays import (
    HELLO,
    SHORT,
    Plays,
    Stage,
    answering,
    ask_and_hold,
    close,
    ends_it,
    fail,
    is_answer,
    written,
)
from tests.support.server import Connection, Server
from wsd.config import Keepalive, Limits, Timeouts
from wsd.reconnect import Backoff

plays = Plays("A WebSocket that we open: its life and its end")

AGAIN = Backoff(table_seconds=[SHORT], jitter=0)


# -- its life ---------------------------------------------------------------------------------------------------------


@plays.of("a message comes and is answered")
def message(stage: Stage) -> str:
    answering(stage)
    connection = opened(stage)
    connection.send_text("hello")
    return f"{is_answer(connection)}, {left(connection)}"


def say(*frames: bytes) -> Callable[[Stage], str]:
    """The server sends these, and closes."""

    def act(stage: Stage) -> str:
        connection = opened(stage)
        connection.send(*frames)
        return left(connection)

    return act


PLAIN = frame(TEXT, "hello", mask=None)
IN_TWO = (frame(TEXT, "hel", final=False, mask=None), frame(CONTINUATION, "lo", mask=None))
plays.of("a message comes, and the class has `on_message`", styles=["whole"])(say(PLAIN))
plays.of("a message comes in two fragments")(say(*IN_TWO))
plays.of("a message comes in the same packet as the 101")(lambda stage: left(opened(stage, behind=PLAIN)))


@plays.of("a Ping comes")
def ping(stage: Stage) -> str:
    connection = opened(stage)
    connection.send(frame(PING, b"mark", mask=None))
    assert connection.receive_frame() == Frame(PONG, b"mark")
    return f"a Pong, {left(connection)}"


@plays.of("the server answers a Ping of the plugin")
def pong(stage: Stage) -> str:
    connection = opened(stage)
    stage.do(lambda wsi: wsi.ping(b"mark"))
    got = connection.receive_frame()
    assert got.opcode == PING
    connection.send(frame(PONG, got.payload, mask=None))
    return f"the Ping, {left(connection)}"


def done(deed: Callable[[Stage, Any], Any], hook: str) -> Callable[[Stage], str]:
    """That is done, a hook is called for it, and the server closes."""

    def act(stage: Stage) -> str:
        connection = opened(stage)
        stage.do(lambda wsi: deed(stage, wsi))
        stage.notes.wait_for(hook)
        return left(connection)

    return act


plays.of("`wsi.callback_on_writable()` three times")(
    done(lambda _, wsi: [wsi.callback_on_writable() for _ in range(3)], "on_writeable")
)
plays.of("`context.callback_all_protocol(protocol, 1007, 'news')`")(
    done(lambda stage, wsi: stage.context.callback_all_protocol(wsi.protocol, 1007, "news"), "on_user")
)
plays.of("`wsi.set_timer()`")(done(lambda _, wsi: wsi.set_timer(0), "on_timer"))


@plays.of("`wsi.rx_flow_control(False)`, a message, and `True`")
def hold(stage: Stage) -> str:
    connection = opened(stage)
    stage.do(lambda wsi: [wsi.rx_flow_control(False), wsi.callback_on_writable()])
    stage.notes.wait_for("on_writeable")
    return let_go(stage, connection)


def let_go(stage: Stage, connection: Connection) -> str:
    """A message comes, and is wanted only then."""
    connection.send_text("hello")
    stage.do(lambda wsi: wsi.rx_flow_control(True))
    return left(connection)


EARLY = "`wsi.callback_on_writable()` and `wsi.rx_flow_control(False)` %s, a message, and `True`"


@plays.of(EARLY % "while it is not connected yet")
def hold_at_once(stage: Stage) -> str:
    connection = opened(stage, then=ask_and_hold)
    stage.notes.wait_for("on_writeable")
    return let_go(stage, connection)


@plays.of(EARLY % "in `on_client_append_handshake_header`")
def hold_before(stage: Stage) -> str:
    stage.does("on_client_append_handshake_header", ask_and_hold)
    connection = opened(stage)
    stage.notes.wait_for("on_writeable")
    return let_go(stage, connection)


# -- ways to end ------------------------------------------------------------------------------------------------------


@plays.of('the server closes with 4001 "bye"')
def peer_close(stage: Stage) -> str:
    return left(opened(stage), 4001, "bye")


@plays.of("`on_peer_close` answers CLOSE")
def no_echo(stage: Stage) -> str:
    stage.does("on_peer_close", close)
    connection = opened(stage)
    connection.send_close(4001)
    return end(connection)


def opened_and_closed(stage: Stage, **options: Any) -> Connection:
    connection = opened(stage, **options)
    stage.do(lambda wsi: wsi.close(4000))
    return connection


@plays.of("`wsi.close(4000)`, and the server answers")
def close_here(stage: Stage) -> str:
    return echoed(opened_and_closed(stage))


@plays.of("`wsi.close(4000)`, and the server's Close 4001 crosses it")
def crossing(stage: Stage) -> str:
    return echoed(opened_and_closed(stage), 4001)


@plays.of("`wsi.close(4000)`, and no answer within `close_seconds`", timeouts=Timeouts(close_seconds=SHORT))
def no_answer(stage: Stage) -> str:
    connection = opened_and_closed(stage)
    got = written(connection.receive_close())
    end(connection)
    return got


BRINGS: dict[str, Callable[[Connection], object]] = {
    "on_receive": lambda connection: connection.send_text("hello"),
    "on_pong": lambda connection: connection.send(frame(PONG, b"mark", mask=None)),
}
ends = partial(ends_it, begin=opened, brings=BRINGS, finish=echoed)

for _hook in ("on_established", "on_receive", "on_writeable", "on_pong", "on_timer", "on_user"):
    plays.of(f"`{_hook}` answers CLOSE")(ends(_hook, close))
    plays.of(f"`{_hook}` raises")(ends(_hook, fail))


@plays.of("the server hangs up without a Close")
def hang_up(stage: Stage) -> str:
    connection = opened(stage)
    connection.shut_down_writing()
    return end(connection)


@plays.of("reset")
def reset(stage: Stage) -> str:
    opened(stage).reset()
    return "-"


@plays.of("reset in the middle of a message")
def reset_in_message(stage: Stage) -> str:
    connection = opened(stage)
    connection.send(PLAIN[:-2])
    stage.notes.wait_for("on_receive")
    connection.reset()
    return "-"


@plays.of("reset after our Close")
def reset_after_close(stage: Stage) -> str:
    connection = opened_and_closed(stage)
    got = written(connection.receive_close())
    connection.reset()
    return got


@plays.of("a frame that is masked")
def masked(stage: Stage) -> str:
    connection = opened(stage)
    connection.send(HELLO)
    return echoed(connection)


@plays.of("`wsi.send()` over `max_queue_bytes`", limits=Limits(max_queue_bytes=1024))
def overflow(stage: Stage) -> str:
    connection = opened(stage)
    stage.do(lambda wsi: [wsi.send(bytes(2048)), wsi.send("one too many")])
    assert connection.receive_frame() == Frame(BINARY, bytes(2048))
    return echoed(connection)


@plays.of("the server reads nothing for `slow_reader_seconds`", timeouts=Timeouts(slow_reader_seconds=SHORT))
def slow_reader(stage: Stage) -> str:
    opened(stage)
    stage.do(lambda wsi: wsi.send(bytes(24 << 20)))  # more than the kernels of both sides take
    return "-"


@plays.of("`wsi.set_timeout()` runs out")
def timeout(stage: Stage) -> str:
    connection = opened(stage)
    stage.do(lambda wsi: wsi.set_timeout(0))
    return echoed(connection)


@plays.of(
    "the server does not answer a Ping within `hangup_seconds`",
    keepalive=Keepalive(ping_seconds=SHORT, hangup_seconds=SHORT),
)
def hangup(stage: Stage) -> str:
    connection = opened(stage)
    assert connection.receive_frame().opcode == PING
    return f"the Ping, {end(connection)}"


@plays.of("`context.stop()`")
def stop(stage: Stage) -> str:
    connection = opened(stage)
    stage.served.call(stage.context.stop)
    return echoed(connection)


@plays.of("a reload replaces the protocol")
def retire(stage: Stage) -> str:
    connection = opened(stage)
    stage.do(lambda wsi: stage.context.retire_protocol(wsi.protocol))
    return echoed(connection)


@plays.of("the server hangs up, with `reconnect=`")
def again(stage: Stage) -> str:
    server = stage.stack.enter_context(Server())
    dial(stage, server.url, reconnect=AGAIN)
    connection = server.accept_websocket()
    connection.shut_down_writing()
    got = end(connection)
    connection = server.accept_websocket()
    stage.does("on_closed", lambda wsi, code, reason: wsi.reconnect.cancel())
    return f"{got}, {left(connection)}"


@plays.of("`wsi.close(4000)`, with `reconnect=`")
def not_again(stage: Stage) -> str:
    got = echoed(opened_and_closed(stage, reconnect=AGAIN))
    stage.notes.wait_for("on_closed")
    check_nothing_is_due(stage)
    return got


# -- as the page has it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "style"), plays.cases())
def test_it_is_as_the_page_says(what: str, style: str) -> None:
    plays.check(what, style)


def test_each_row_is_played() -> None:
    assert plays.keys() == plays.rows.keys()
