"""`wsd connect` at a terminal: what somebody types and sees, and what a server cannot make the terminal do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.client import TEXT, frame
from tests.support.conversing import accept_close, at_terminal, finish, receive_lines
from tests.support.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def test_a_conversation_at_a_terminal(server: Server) -> None:
    with at_terminal(server.url, "--protocol", "talk") as (terminal, conversation):
        connection = server.accept()
        connection.switch("Sec-WebSocket-Protocol: talk")
        terminal.wait_for(f"wsd: connected to {server.url}, speaking talk; Ctrl-D ends\n")
        terminal.type("hello\n")
        assert receive_lines(connection, 1) == [b"hello"]
        connection.send_text("hello yourself")
        assert terminal.wait_for("yourself\n") == "hello\n< hello yourself\n"
        terminal.type("\x04")
        finish(connection)
        terminal.wait_for("wsd: closed with 1000\n")
        assert conversation.end().status == 0


def test_what_comes_while_one_types_is_shown_at_once_and_what_is_typed_is_kept(server: Server) -> None:
    with at_terminal(server.url) as (terminal, conversation):
        connection = server.accept_websocket()
        terminal.wait_for("ends\n")
        terminal.type("half a l")
        terminal.wait_for("half a l")
        for at in range(3):
            connection.send_text(f"news {at}")
        terminal.wait_for("< news 0\n< news 1\n< news 2\n")
        terminal.type("\x12")  # Ctrl-R: what was typed so far, once more
        terminal.wait_for("\nhalf a l")
        terminal.type("x\x7fine\n")  # and the rest of the terminal's own editing
        assert receive_lines(connection, 1) == [b"half a line"]
        connection.finish()
        assert conversation.end().status == 0


def test_a_terminal_obeys_nothing_that_a_server_sends(server: Server) -> None:
    with at_terminal(server.url) as (terminal, conversation):
        connection = server.accept_websocket()
        terminal.wait_for("ends\n")
        connection.send_text("\x1b[2J\x07two\nlines\r\x9b")
        connection.send_binary(b"\x1b]\xff")
        shown = terminal.wait_for("'\n")
        assert shown == "< \\x1b[2J\\x07two\n  lines\\x0d\\x9b\n< b'\\x1b]\\xff'\n"
        connection.send(frame(TEXT, "no end", final=False, mask=None))
        connection.finish(1011, "\x1b[31m")
        assert terminal.wait_for("[31m\n") == "< no end\nwsd: closed with 1011: \\x1b[31m\n"
        assert conversation.end().status == 1


def test_ctrl_c_at_a_terminal(server: Server) -> None:
    with at_terminal(server.url) as (terminal, conversation):
        connection = server.accept_websocket()
        terminal.wait_for("ends\n")
        terminal.type("\x03")
        accept_close(connection)
        assert conversation.end().status == 0


def test_the_terminal_stays_as_it_was(server: Server) -> None:
    """Its settings, and above all its open file: a shell's read from a non-blocking one would be its end."""
    with at_terminal(server.url) as (terminal, conversation):
        before = terminal.settings()
        connection = server.accept_websocket()
        terminal.wait_for("ends\n")
        terminal.type("hello\n")
        assert receive_lines(connection, 1) == [b"hello"]
        assert terminal.settings() == before
        connection.finish()
        assert conversation.end().status == 0


def test_more_than_a_terminal_takes_at_once(server: Server) -> None:
    lines = [f"{at} {'x' * 60}" for at in range(5000)]
    with at_terminal(server.url) as (terminal, conversation):
        connection = server.accept_websocket()
        terminal.wait_for("ends\n")
        connection.send_text("\n".join(lines))
        assert terminal.wait_for(f"{lines[-1]}\n") == "< " + "\n  ".join(lines) + "\n"
        connection.finish()
        assert conversation.end().status == 0
