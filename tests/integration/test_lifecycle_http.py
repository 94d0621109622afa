"""docs/lifecycle.md: what it says of HTTP is what happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import Client, upgrade_request
from tests.support.plays import SHORT, Plays, Stage, close, end, fail, left, status
from wsd.config import Limits, Timeouts
from wsd.wire.response import Response

plays = Plays("HTTP")

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n"


def respond(*_: Any) -> Response:
    return Response(200, "so it is")


def asked(client: Client, request: bytes = GET) -> str:
    """A request's answer, after which the client hangs up."""
    got = str(client.request(request).status)
    client.shut_down_writing()
    end(client)
    return got


def hook_does(hook: str, deed: Callable[..., Any], request: bytes = GET) -> Callable[[Stage], str]:
    """A hook does that, the request is answered, and the client hangs up."""

    def act(stage: Stage) -> str:
        stage.does(hook, deed)
        return asked(stage.client(), request)

    return act


def hook_ends(hook: str, deed: Callable[..., Any], request: bytes = GET) -> Callable[[Stage], str]:
    """A hook does that, and nothing comes back."""

    def act(stage: Stage) -> str:
        stage.does(hook, deed)
        client = stage.client()
        client.send(request)
        return end(client)

    return act


WITH_BODY = POST + b"hello"

plays.of("`on_http` answers nothing: the built-in page")(lambda stage: asked(stage.client()))
plays.of("`on_http` answers a `Response`")(hook_does("on_http", respond))
plays.of("`on_http` answers CLOSE")(hook_ends("on_http", close))
plays.of("`on_http` raises")(hook_does("on_http", fail))
plays.of("`wsi.close()` in `on_http`")(hook_ends("on_http", lambda wsi, request: wsi.close() and None))
plays.of("`Session` raises", session=fail)(lambda stage: asked(stage.client()))
plays.of("a request with a body")(hook_does("on_http_body_completion", respond, WITH_BODY))
plays.of("`on_http_body` answers a `Response`")(hook_does("on_http_body", respond, WITH_BODY))
plays.of("`on_http_body` answers CLOSE")(hook_ends("on_http_body", close, WITH_BODY))
plays.of("`on_http_body` raises")(hook_does("on_http_body", fail, WITH_BODY))
plays.of("`on_http_body_completion` answers CLOSE")(hook_ends("on_http_body_completion", close, WITH_BODY))
plays.of("`on_http_body_completion` raises")(hook_does("on_http_body_completion", fail, WITH_BODY))
plays.of("the body is over `max_body_bytes`", limits=Limits(max_body_bytes=4))(
    lambda stage: status(stage.client(), POST)
)
plays.of("`on_closed_http` raises")(hook_does("on_closed_http", fail))


@plays.of("two requests on one connection")
def twice(stage: Stage) -> str:
    client = stage.client()
    return f"{client.request(GET).status}, {asked(client, GET.replace(b'/ ', b'/two ', 1))}"


def begin_body(stage: Stage) -> Client:
    """A request and half its body."""
    client = stage.client()
    client.send(POST, b"hel")
    stage.notes.wait_for("on_http_body")
    return client


@plays.of("its body comes in two parts")
def body_in_two(stage: Stage) -> str:
    stage.does("on_http_body_completion", respond)
    return asked(begin_body(stage), b"lo")


@plays.of("`on_http` answers it before the body comes")
def answer_before_body(stage: Stage) -> str:
    stage.does("on_http", respond)
    return status(stage.client(), POST)


@plays.of("the body does not come within `body_seconds`", timeouts=Timeouts(body_seconds=SHORT))
def late_body(stage: Stage) -> str:
    client = begin_body(stage)
    got = str(client.receive_response().status)
    end(client)
    return got


@plays.of("the client hangs up in the middle of the body")
def hang_up_in_body(stage: Stage) -> str:
    client = begin_body(stage)
    client.shut_down_writing()
    return end(client)


@plays.of("reset in the middle of the body")
def reset_in_body(stage: Stage) -> str:
    begin_body(stage).reset()
    return "-"


def begin_stream(stage: Stage, then: Callable[[Any], Any]) -> Client:
    """Half of a streamed response is there; `then` is what `on_http_writeable` does when it is called again."""
    parts: list[Callable[[Any], Any]] = [lambda wsi: wsi.write(b"begun", final=False), then]
    stage.does("on_http", ask_and_stream)
    stage.does("on_http_writeable", lambda wsi: parts.pop(0)(wsi))
    client = stage.client()
    client.send(GET)
    client.receive_until(b"begun")
    return client


def ask_and_stream(wsi: Any, request: Any) -> Response:
    wsi.callback_on_writable()
    return Response(200, stream=True)


def go_on(stage: Stage) -> None:
    stage.do(lambda wsi: wsi.callback_on_writable())


def finish(wsi: Any) -> None:
    wsi.write(b"done")


def whole(client: Client) -> str:
    """The rest of a streamed response."""
    client.receive_until(b"done\r\n0\r\n\r\n")
    client.shut_down_writing()
    end(client)
    return "200"


@plays.of("a response is streamed")
def streamed(stage: Stage) -> str:
    client = begin_stream(stage, finish)
    go_on(stage)
    return whole(client)


def cut(deed: Callable[..., Any]) -> Callable[[Stage], str]:
    """What `on_http_writeable` does ends the response before its end."""

    def act(stage: Stage) -> str:
        stage.does("on_http", ask_and_stream)
        stage.does("on_http_writeable", lambda wsi: [wsi.write(b"begun", final=False)] and deed())
        client = stage.client()
        client.send(GET)
        assert not client.receive_end().endswith(b"0\r\n\r\n")
        client.disconnect()
        return "200, cut"

    return act


plays.of("`on_http_writeable` answers CLOSE")(cut(close))
plays.of("`on_http_writeable` raises")(cut(fail))


@plays.of("reset while a response is streamed")
def reset_in_stream(stage: Stage) -> str:
    begin_stream(stage, finish).reset()
    return "-"


# -- the end of a connection that was asked something -----------------------------------------------------------------


@plays.of("no further request within `http_idle_seconds`", timeouts=Timeouts(http_idle_seconds=SHORT))
def idle(stage: Stage) -> str:
    return status(stage.client(), GET)


@plays.of("the context stops between two requests")
def stop_between(stage: Stage) -> str:
    client = stage.client()
    got = str(client.request(GET).status)
    stage.served.call(stage.context.stop)
    end(client)
    return got


@plays.of("the context stops while a response is streamed")
def stop_in_stream(stage: Stage) -> str:
    client = begin_stream(stage, finish)
    stage.served.call(stage.context.stop)
    go_on(stage)
    return whole(client)


@plays.of("a request, and then one for a WebSocket")
def upgrade_after(stage: Stage) -> str:
    client = stage.client()
    got = client.request(GET).status
    client.upgrade()
    return f"{got}, 101, {left(client)}"


@plays.of("a request, and then a WebSocket that is refused")
def refused_after(stage: Stage) -> str:
    stage.does("on_filter_protocol_connection", close)
    client = stage.client()
    return f"{client.request(GET).status}, {status(client, upgrade_request())}"


# -- as the page has it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "style"), plays.cases())
def test_it_is_as_the_page_says(what: str, style: str) -> None:
    plays.check(what, style)


def test_each_row_is_played() -> None:
    assert plays.keys() == plays.rows.keys()
