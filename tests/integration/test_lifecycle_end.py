"""docs/lifecycle.md: what it says of how a WebSocket that comes in ends is what happens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.support.client import PING, PONG, TEXT, Client, close_frame, frame, upgrade_request
from tests.support.plays import (
    HELLO,
    SHORT,
    Plays,
    Stage,
    answering,
    close,
    echoed,
    end,
    ends_it,
    fail,
    is_answer,
    left,
    written,
)
from tests.support.timing import PATIENCE
from wsd.config import Keepalive, Limits, Timeouts
from wsd.context import Context

plays = Plays("A WebSocket that comes in: ways to end")


@plays.of('the client closes with 4001 "bye"')
def peer_close(stage: Stage) -> str:
    return left(stage.open(), 4001, "bye")


@plays.of("the client's Close has no code")
def peer_close_without_code(stage: Stage) -> str:
    return left(stage.open(), None)


@plays.of("`on_peer_close` answers CLOSE")
def no_echo(stage: Stage) -> str:
    stage.does("on_peer_close", close)
    client = stage.open()
    client.send(close_frame(4001))
    return end(client)


@plays.of("`on_peer_close` raises")
def raise_in_peer_close(stage: Stage) -> str:
    stage.does("on_peer_close", fail)
    return left(stage.open(), 4001)


@plays.of("`wsi.close(4000)` in `on_peer_close`")
def close_in_peer_close(stage: Stage) -> str:
    stage.does("on_peer_close", lambda wsi, code, reason: wsi.close(4000))
    return left(stage.open(), 4001)


@plays.of("`wsi.close(4000)`, and the client answers")
def close_here(stage: Stage) -> str:
    return echoed(opened_and_closed(stage))


def opened_and_closed(stage: Stage) -> Client:
    client = stage.open()
    stage.do(lambda wsi: wsi.close(4000))
    return client


@plays.of("`wsi.close(4000)`, and the client's Close 4001 crosses it")
def crossing(stage: Stage) -> str:
    return echoed(opened_and_closed(stage), 4001)


@plays.of("`wsi.close(4000)`, and no answer within `close_seconds`", timeouts=Timeouts(close_seconds=SHORT))
def no_answer(stage: Stage) -> str:
    client = opened_and_closed(stage)
    got = written(client.receive_close())
    end(client)
    return got


@plays.of("`wsi.close(4000)`, and the client hangs up")
def hang_up_after_close(stage: Stage) -> str:
    client = opened_and_closed(stage)
    got = written(client.receive_close())
    client.disconnect()
    return got


@plays.of("`wsi.close(4000)` behind a message that comes before it")
def close_behind(stage: Stage) -> str:
    stage.does("on_receive", lambda wsi, data: wsi.close(4000))
    client = stage.open()
    client.send(frame(TEXT, "one"), frame(TEXT, "two"))
    return echoed(client)


BRINGS: dict[str, Callable[[Client], object]] = {
    "on_receive": lambda client: client.send(HELLO),
    "on_message": lambda client: client.send(HELLO),
    "on_pong": lambda client: client.send(frame(PONG, b"mark")),
}
ends = partial(ends_it, begin=Stage.open, brings=BRINGS, finish=echoed)

for _hook in ("on_established", "on_receive", "on_message", "on_writeable", "on_pong", "on_timer", "on_user"):
    _styles = {"styles": ["whole"]} if _hook == "on_message" else {}
    plays.of(f"`{_hook}` answers CLOSE", **_styles)(ends(_hook, close))
    plays.of(f"`{_hook}` raises", **_styles)(ends(_hook, fail))


@plays.of("`on_closed` raises")
def raise_in_closed(stage: Stage) -> str:
    stage.does("on_closed", fail)
    return left(stage.open())


@plays.of("the client hangs up without a Close")
def hang_up(stage: Stage) -> str:
    client = stage.open()
    client.shut_down_writing()
    return end(client)


@plays.of("the client sends a message, ends its stream, and is answered")
def half_close(stage: Stage) -> str:
    answering(stage)
    client = stage.open()
    client.send(HELLO)
    client.shut_down_writing()
    got = is_answer(client)
    end(client)
    return got


@plays.of("reset")
def reset(stage: Stage) -> str:
    stage.open().reset()
    return "-"


@plays.of("reset in the middle of a message")
def reset_in_message(stage: Stage) -> str:
    client = stage.open()
    client.send(HELLO[:-2])
    stage.notes.wait_for("on_receive")
    client.reset()
    return "-"


@plays.of("reset while `on_receive` runs")
def reset_in_receive(stage: Stage) -> str:
    client = stage.open()
    stage.does("on_receive", lambda wsi, data: client.reset())
    client.send(HELLO)
    return "-"


@plays.of("reset while its input is held back")
def reset_while_held(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: wsi.rx_flow_control(False))
    client.send(HELLO)
    client.reset()
    return "-"


@plays.of("reset after our Close")
def reset_after_close(stage: Stage) -> str:
    client = opened_and_closed(stage)
    got = written(client.receive_close())
    client.reset()
    return got


@plays.of("reset after both Closes")
def reset_after_both(stage: Stage) -> str:
    client = stage.open()
    client.send(close_frame(4001))
    got = written(client.receive_close())
    client.reset()
    return got


def violate(*frames: bytes) -> Callable[[Stage], str]:
    """The client breaks the protocol, and answers the Close, which nobody hears any more."""

    def act(stage: Stage) -> str:
        client = stage.open()
        client.send(*frames)
        return echoed(client)

    return act


plays.of("an opcode that there is not")(violate(frame(3)))
plays.of("text that is no UTF-8")(violate(frame(TEXT, b"\xff")))
plays.of("a message over `max_message_bytes`", limits=Limits(max_message_bytes=4))(violate(HELLO))
plays.of("a frame over `max_frame_bytes`", limits=Limits(max_frame_bytes=4))(violate(HELLO))


@plays.of(
    "pings over `max_control_frames_per_second`, for `over_rate_seconds`",
    limits=Limits(max_control_frames_per_second=10),
    timeouts=Timeouts(over_rate_seconds=SHORT),
)
def ping_flood(stage: Stage) -> str:
    client = stage.open()
    client.send(frame(PING) * 100)
    return echoed(client)


def wait_for_the_end(stage: Stage) -> str:
    return echoed(stage.open())


for what, option in (
    ("no message within `first_message_seconds`", "first_message_seconds"),
    ("no message either way for `idle_seconds`", "idle_seconds"),
    ("its `session_seconds` are over", "session_seconds"),
):
    plays.of(what, timeouts=Timeouts.model_validate({option: SHORT}))(wait_for_the_end)


@plays.of(
    "all hold over `max_memory_bytes`, and it most: unread messages",
    limits=Limits(max_memory_bytes=1 << 20, max_queue_bytes=64 << 20),
)
def most_of_the_memory(stage: Stage) -> str:
    stage.open(receive_buffer=4096)
    stage.do(lambda wsi: wsi.send(bytes(12 << 20)))  # more than the kernels of both sides take
    return "-"


@plays.of("a message and, in the same packet, an opcode that there is not")
def answer_before_violation(stage: Stage) -> str:
    answering(stage)
    client = stage.open()
    client.send(HELLO, frame(3))
    return f"{is_answer(client)}, {echoed(client)}"


@plays.of("`wsi.send()` over `max_queue_bytes`", limits=Limits(max_queue_bytes=1024))
def overflow(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: [wsi.send(bytes(2048)), wsi.send("one too many")])
    return echoed(client)


@plays.of("the client reads nothing for `slow_reader_seconds`", timeouts=Timeouts(slow_reader_seconds=SHORT))
def slow_reader(stage: Stage) -> str:
    stage.open(receive_buffer=4096)
    stage.do(lambda wsi: wsi.send(bytes(12 << 20)))  # more than the kernels of both sides take
    return "-"


@plays.of("`wsi.set_timeout()` runs out")
def timeout(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: wsi.set_timeout(0))
    return echoed(client)


@plays.of(
    "the client does not answer a Ping within `hangup_seconds`",
    keepalive=Keepalive(ping_seconds=SHORT, hangup_seconds=SHORT),
)
def hangup(stage: Stage) -> str:
    client = stage.open()
    assert client.receive_frame().opcode == PING
    return f"the Ping, {end(client)}"


@plays.of("`context.stop()`")
def stop(stage: Stage) -> str:
    client = stage.open()
    stage.served.call(stage.context.stop)
    got = echoed(client)
    close_context(stage)
    return got


def close_context(stage: Stage) -> None:
    stage.served.thread.join(PATIENCE)
    stage.context.close()


@plays.of("`context.stop()`, and no answer within `close_seconds`", timeouts=Timeouts(close_seconds=SHORT))
def stop_without_answer(stage: Stage) -> str:
    client = stage.open()
    stage.served.call(stage.context.stop)
    got = written(client.receive_close())
    end(client)
    close_context(stage)
    return got


@plays.of("`context.close()`")
def close_at_once(stage: Stage) -> str:
    context = Context([stage.plugin()])
    with context:
        client = stage.stack.enter_context(Client(context.listen(interface="127.0.0.1", port=0).port))
        client.send(upgrade_request())
        while not stage.notes.has("on_established"):
            context.service(PATIENCE)
        context.service(0)  # the 101 leaves
    assert client.receive_response().status == 101
    return end(client)


@plays.of("a reload replaces the protocol, and then the client closes")
def retire(stage: Stage) -> str:
    client = stage.open()
    stage.do(lambda wsi: stage.context.retire_protocol(wsi.protocol))
    got = left(client)
    stage.notes.wait_for("on_protocol_destroy")
    return got


# -- as the page has it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "style"), plays.cases())
def test_it_is_as_the_page_says(what: str, style: str) -> None:
    plays.check(what, style)


def test_each_row_is_played() -> None:
    assert plays.keys() == plays.rows.keys()
