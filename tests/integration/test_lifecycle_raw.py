"""docs/lifecycle.md: what it says of raw connections, and of what is adopted, is what happens."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from io import FileIO
from typing import Any

import pytest

from tests.support import dials
from tests.support.client import Client
from tests.support.plays import SHORT, Plays, Stage, ask_and_hold, close, end, ends_it, fail, left
from tests.support.server import Connection, Server, refusing_port
from tests.support.timing import wait_until
from wsd.config import Limits, Timeouts

plays = Plays("A raw connection", "What is opened to a tcp:// URL, or adopted")
raw = partial(plays.of, listen={"accept": "raw"})
"""The play of a row, on a listener for raw connections."""


# -- through a listener -----------------------------------------------------------------------------------------------


def adopted(stage: Stage, **options: Any) -> Client:
    """A client whose raw wsi is there."""
    client = stage.client(**options)
    stage.notes.wait_for("on_raw_adopt")
    return client


def ended(client: Client) -> str:
    """The client ends its stream, and gets nothing."""
    client.shut_down_writing()
    return end(client)


@raw("bytes come, and the client ends its stream")
def receive(stage: Stage) -> str:
    client = adopted(stage)
    client.send(b"hello")
    return ended(client)


@raw("bytes come, the client ends its stream, and is answered")
def answer(stage: Stage) -> str:
    stage.does("on_raw_receive", lambda wsi, data: wsi.callback_on_writable())
    stage.does("on_raw_writeable", lambda wsi: wsi.write(b"answer"))
    client = adopted(stage)
    client.send(b"hello")
    client.shut_down_writing()
    return f"the {client.receive_exactly(6).decode()}, {end(client)}"


def refused(deed: Callable[..., Any]) -> Callable[[Stage], str]:
    def act(stage: Stage) -> str:
        stage.does("on_filter_network_connection", deed)
        return end(stage.client())

    return act


raw("`on_filter_network_connection` answers CLOSE")(refused(close))
raw("`on_filter_network_connection` raises")(refused(fail))


@raw("`Session` raises", session=fail)
def raise_in_session(stage: Stage) -> str:
    return end(stage.client())


@raw("the client ends its stream at once")
def end_at_once(stage: Stage) -> str:
    return ended(stage.client())


def done(deed: Callable[[Stage, Any], Any], hook: str) -> Callable[[Stage], str]:
    """That is done, a hook is called for it, and the client ends its stream."""

    def act(stage: Stage) -> str:
        client = adopted(stage)
        stage.do(lambda wsi: deed(stage, wsi))
        stage.notes.wait_for(hook)
        return ended(client)

    return act


raw("`wsi.callback_on_writable()` three times")(
    done(lambda _, wsi: [wsi.callback_on_writable() for _ in range(3)], "on_raw_writeable")
)
raw("`context.callback_all_protocol(protocol, 1007, 'news')`")(
    done(lambda stage, wsi: stage.context.callback_all_protocol(wsi.protocol, 1007, "news"), "on_user")
)
raw("`wsi.set_timer()`")(done(lambda _, wsi: wsi.set_timer(0), "on_timer"))


@raw("`wsi.send()`")
def send(stage: Stage) -> str:
    client = adopted(stage)
    stage.do(lambda wsi: wsi.send(b"bytes"))
    return f"the {client.receive_exactly(5).decode()}, {ended(client)}"


@raw("`wsi.rx_flow_control(False)`, bytes, and `True`")
def hold(stage: Stage) -> str:
    client = adopted(stage)
    stage.do(lambda wsi: [wsi.rx_flow_control(False), wsi.callback_on_writable()])
    stage.notes.wait_for("on_raw_writeable")
    client.send(b"hello")
    stage.do(lambda wsi: wsi.rx_flow_control(True))
    stage.notes.wait_for("on_raw_receive")
    return ended(client)


def closed(deed: Callable[[Stage, Any], Any]) -> Callable[[Stage], str]:
    """What is done ends it, and the client gets nothing but that."""

    def act(stage: Stage) -> str:
        client = adopted(stage)
        stage.do(lambda wsi: deed(stage, wsi))
        return end(client)

    return act


raw("`wsi.close()`")(closed(lambda _, wsi: wsi.close()))
raw("`wsi.set_timeout()` runs out")(closed(lambda _, wsi: wsi.set_timeout(0)))
raw("`context.stop()`")(closed(lambda stage, _: stage.context.stop()))


BRINGS: dict[str, Callable[[Client], object]] = {"on_raw_receive": lambda client: client.send(b"hello")}
ends = partial(ends_it, begin=adopted, brings=BRINGS, finish=end)

for _hook in ("on_raw_adopt", "on_raw_receive", "on_raw_writeable", "on_timer", "on_user"):
    raw(f"`{_hook}` answers CLOSE")(ends(_hook, close))
    raw(f"`{_hook}` raises")(ends(_hook, fail))


@raw("`on_raw_close` raises")
def raise_in_close(stage: Stage) -> str:
    stage.does("on_raw_close", fail)
    return ended(adopted(stage))


@raw("reset")
def reset(stage: Stage) -> str:
    adopted(stage).reset()
    return "-"


@raw("reset while `on_raw_receive` runs")
def reset_in_receive(stage: Stage) -> str:
    client = adopted(stage)
    stage.does("on_raw_receive", lambda wsi, data: client.reset())
    client.send(b"hello")
    return "-"


@raw("reset while its input is held back")
def reset_while_held(stage: Stage) -> str:
    client = adopted(stage)
    stage.do(lambda wsi: wsi.rx_flow_control(False))
    client.send(b"hello")
    client.reset()
    return "-"


@raw("`wsi.send()` over `max_queue_bytes`", limits=Limits(max_queue_bytes=1024))
def overflow(stage: Stage) -> str:
    client = adopted(stage)
    stage.do(lambda wsi: [wsi.send(bytes(2048)), wsi.send(b"one too many")])
    assert client.receive_exactly(2048) == bytes(2048)
    return f"the bytes, {end(client)}"


@raw("the client reads nothing for `slow_reader_seconds`", timeouts=Timeouts(slow_reader_seconds=SHORT))
def slow_reader(stage: Stage) -> str:
    adopted(stage, receive_buffer=4096)
    stage.do(lambda wsi: wsi.send(bytes(12 << 20)))  # more than the kernels of both sides take
    return "-"


@raw("no bytes either way for `idle_seconds`", timeouts=Timeouts(idle_seconds=SHORT))
def idle(stage: Stage) -> str:
    return end(adopted(stage))


@raw("a reload replaces the protocol, and then the client ends its stream")
def retire(stage: Stage) -> str:
    client = adopted(stage)
    stage.do(lambda wsi: stage.context.retire_protocol(wsi.protocol))
    return ended(client)


# -- opened by us -----------------------------------------------------------------------------------------------------


def connected(stage: Stage, **options: Any) -> Connection:
    """A server's end of a raw connection that we have opened."""
    server = stage.stack.enter_context(Server())
    dials.dial(stage, f"tcp://127.0.0.1:{server.port}", **options)
    connection = server.accept()
    stage.notes.wait_for("on_raw_adopt")
    return connection


@plays.of("connected, bytes come, and the server ends its stream")
def connect(stage: Stage) -> str:
    connection = connected(stage)
    connection.send(b"hello")
    connection.shut_down_writing()
    return dials.end(connection)


def connected_and(deed: Callable[[Stage, Any], Any]) -> Callable[[Stage], str]:
    def act(stage: Stage) -> str:
        connection = connected(stage)
        stage.do(lambda wsi: deed(stage, wsi))
        return dials.end(connection)

    return act


plays.of("connected, and `wsi.close()`")(connected_and(lambda _, wsi: wsi.close()))
plays.of("`context.stop()` once connected")(connected_and(lambda stage, _: stage.context.stop()))
plays.of("a reload replaces the protocol once connected")(
    connected_and(lambda stage, wsi: stage.context.retire_protocol(wsi.protocol))
)


@plays.of(
    "`wsi.callback_on_writable()` and `wsi.rx_flow_control(False)` while it is not connected yet, bytes, and `True`"
)
def hold_at_once(stage: Stage) -> str:
    connection = connected(stage, then=ask_and_hold)
    stage.notes.wait_for("on_raw_writeable")
    connection.send(b"hello")
    stage.do(lambda wsi: wsi.rx_flow_control(True))
    connection.shut_down_writing()
    return dials.end(connection)


@plays.of("connected, and reset")
def connect_and_reset(stage: Stage) -> str:
    connected(stage).reset()
    return "-"


@plays.of("nobody listens there")
def nobody_listens(stage: Stage) -> str:
    with refusing_port() as port:
        dials.dial(stage, f"tcp://127.0.0.1:{port}")
        stage.notes.wait_for("on_client_connection_error")
    return "-"


@plays.of("`wsi.close()` at once")
def connect_and_close(stage: Stage) -> str:
    context = stage.context
    with refusing_port() as port:
        url = f"tcp://127.0.0.1:{port}"
        stage.served.call(lambda: context.client_connect(url, protocol=context.protocols[0]).close())
    return "-"


# -- adopted ----------------------------------------------------------------------------------------------------------


def adopt(stage: Stage, then: Callable[[Any], Any] = lambda wsi: wsi, **options: Any) -> Client:
    """The other end of a TCP connection that was accepted elsewhere and adopted; `then` is done to the wsi at once."""
    context = stage.context
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        client = stage.stack.enter_context(Client(elsewhere.getsockname()[1]))
        sock, _ = elsewhere.accept()
    stage.served.call(lambda: then(context.adopt_socket(sock, context.protocols[0], **options)))
    return client


@plays.of("`adopt_socket()`, and it becomes a WebSocket")
def adopt_websocket(stage: Stage) -> str:
    client = adopt(stage)
    client.upgrade()
    return f"101, {left(client)}"


@plays.of("`adopt_socket()`, and it stays HTTP")
def adopt_http(stage: Stage) -> str:
    client = adopt(stage)
    got = client.request(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").status
    ended(client)
    return str(got)


@plays.of("`adopt_socket(raw=True)`, and bytes come")
def adopt_raw(stage: Stage) -> str:
    client = adopt(stage, raw=True)
    client.send(b"hello")
    return ended(client)


@plays.of("`adopt_socket(raw=True)`, and `wsi.close()` at once")
def adopt_and_close(stage: Stage) -> str:
    return end(adopt(stage, lambda wsi: wsi.close(), raw=True))


@plays.of("`adopt_socket(raw=True)`, and `Session` raises", session=fail)
def adopt_without_session(stage: Stage) -> str:
    return end(adopt(stage, raw=True))


def pipe(stage: Stage) -> tuple[FileIO, FileIO]:
    """Both ends of a pipe: the one that is read, the one that is written."""
    ends = os.pipe()
    read, write = (stage.stack.enter_context(FileIO(fd, mode)) for fd, mode in zip(ends, ("rb", "wb"), strict=True))
    return read, write


def adopt_descriptor(stage: Stage, end_of_pipe: FileIO) -> None:
    """Give away what a file of ours has."""
    context, fd = stage.context, os.dup(end_of_pipe.fileno())
    end_of_pipe.close()
    stage.served.call(lambda: context.adopt_descriptor(fd, context.protocols[0]))


@plays.of("`adopt_descriptor()` of a pipe, bytes come, and its writer ends")
def read_pipe(stage: Stage) -> str:
    read, write = pipe(stage)
    adopt_descriptor(stage, read)
    write.write(b"hello")
    write.close()
    return "-"


def write_and_close(wsi: Any) -> None:
    wsi.write(b"answer")
    wsi.close()


@plays.of("`adopt_descriptor()` of a pipe that is written")
def write_pipe(stage: Stage) -> str:
    stage.does("on_raw_adopt", lambda wsi: wsi.callback_on_writable())
    stage.does("on_raw_writeable", write_and_close)
    read, write = pipe(stage)
    adopt_descriptor(stage, write)
    assert read.readall() == b"answer"
    return "the answer, the end"


@plays.of("`adopt_descriptor()` of a pipe that nobody reads any more")
def broken_pipe(stage: Stage) -> str:
    read, write = pipe(stage)
    adopt_descriptor(stage, write)
    stage.notes.wait_for("on_raw_adopt")
    read.close()
    return "-"


@plays.of("two that are tied, and the parent's peer ends")
def tie(stage: Stage) -> str:
    first = adopt(stage, raw=True)
    stage.notes.wait_for("on_raw_adopt")
    second = adopt(stage, raw=True, parent=stage.wsi)
    wait_until(lambda: stage.notes.calls.count("on_raw_adopt") == 2)
    first.shut_down_writing()
    end(second)
    return end(first)


# -- as the page has it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "style"), plays.cases())
def test_it_is_as_the_page_says(what: str, style: str) -> None:
    plays.check(what, style)


def test_each_row_is_played() -> None:
    assert plays.keys() == plays.rows.keys()
