"""What plays have a server do to a connection that we open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.plays import Stage, written
from tests.support.server import Connection, Server
from tests.support.timing import PATIENCE


def dial(stage: Stage, url: str, *, then: Callable[[Any], Any] = lambda wsi: wsi, **options: Any) -> None:
    """Connect to there, in the loop's thread; `then` is done to the wsi at once."""
    options.setdefault("timeout_seconds", PATIENCE)
    context = stage.context
    stage.served.call(lambda: then(context.client_connect(url, protocol=context.protocols[0], **options)))


def called(stage: Stage, **options: Any) -> Connection:
    """A server's end of a connection that we open; its request has not been read."""
    server = stage.stack.enter_context(Server())
    dial(stage, server.url, **options)
    return server.accept()


def asked(stage: Stage, **options: Any) -> Connection:
    """The same, and its request has been read."""
    connection = called(stage, **options)
    connection.receive_request()
    return connection


def opened(stage: Stage, *headers: str, behind: bytes = b"", **options: Any) -> Connection:
    """The same, and its WebSocket is established at both ends; `behind` leaves with the 101."""
    connection = called(stage, **options)
    connection.switch(*headers, then=behind)
    stage.notes.wait_for("on_established")
    return connection


def end(connection: Connection) -> str:
    """Nothing comes any more."""
    assert connection.receive_end() == b""
    connection.disconnect()
    return "the end"


def left(connection: Connection, code: int | None = 1000, reason: str = "") -> str:
    """The server closes; what it gets is a Close."""
    got = connection.finish(code, reason)
    connection.disconnect()
    return written(got)


def echoed(connection: Connection, code: int | None = None) -> str:
    """The client closes, the server answers: with the same code unless told otherwise."""
    got = connection.receive_close()
    connection.send_close(got.close_code if code is None else code)
    connection.shut_down_writing()
    end(connection)
    return written(got)


def check_nothing_is_due(stage: Stage) -> None:
    """Nothing will happen by itself: nobody connects again."""
    assert stage.served.call(stage.context.timers.next_deadline) is None
