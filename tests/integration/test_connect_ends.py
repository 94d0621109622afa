"""How `wsd connect` ends: by the server, by a signal, by who reads its output, or before it began; and its status."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.client import CLOSE, frame
from tests.support.conversing import accept_close, conversing, receive_lines
from tests.support.daemon import Site
from tests.support.server import Server, answer, refusing_port, silent_port
from tests.support.timing import PATIENCE, wait_until
from wsd.cli import cli


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A daemon that serves `echo` and the shipped `chat`."""
    with Site(tmp_path) as site:
        site.configure(listen='port = 0\nprotocols = ["echo", "chat"]')
        site.run()
        yield site


# -- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "close_reason", "status", "said"),
    [
        (1000, "", 0, ""),
        (1000, "bye", 0, ""),
        (1001, "going away", 0, ""),
        (1002, "", 1, "closed with 1002"),
        (1003, "text only", 1, "closed with 1003: text only"),
        (1007, "", 1, "closed with 1007"),
        (1008, "not you", 1, "closed with 1008: not you"),
        (1009, "too long", 1, "closed with 1009: too long"),
        (1011, "a bug \x1b[2J\nwsd: fine", 1, r"closed with 1011: a bug \x1b[2J\x0awsd: fine"),
        (3000, "", 1, "closed with 3000"),
        (4999, "grün", 1, "closed with 4999: grün"),
        (None, "", 1, "closed with 1005: no code was given"),
    ],
)
def test_a_server_that_closes(server: Server, code: int | None, close_reason: str, status: int, said: str) -> None:
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        connection.send_text("last words")
        connection.finish(code, close_reason)
        assert conversation.end() == (status, b"last words\n", f"wsd: {said}\n" if said else "")


@pytest.mark.parametrize("ending", ["end", "reset", "violation"])
def test_a_server_that_goes_without_a_close(server: Server, ending: str) -> None:
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        connection.send_text("last words")
        assert conversation.out.readline() == b"last words\n"
        if ending == "violation":
            connection.send(frame(0x3, b"", mask=None))
            assert connection.receive_close().close_code == 1002
        connection.reset() if ending == "reset" else connection.disconnect()
        status, out, err = conversation.end()
        assert (status, out) == (1, b"")
        assert err.startswith("wsd: closed with 1006: ")
        said = {"end": "without a Close", "reset": "ECONNRESET", "violation": "failed with 1002"}
        assert said[ending] in err


def test_a_daemon_that_stops(site: Site) -> None:
    with conversing(f"ws://127.0.0.1:{site.port}/", "--protocol", "chat") as conversation:
        assert conversation.out.readline() == b"* somebody came, 1 here\n"
        assert site.wsd("stop").returncode == 0
        assert conversation.end().status == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_in_order(server: Server, number: int) -> None:
    """What was said before leaves before the Close."""
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        conversation.say(b"before\nnever ended")
        assert receive_lines(connection, 1) == [b"before"]
        conversation.process.send_signal(number)
        got = connection.receive_frame()
        assert (got.opcode, got.close_code) == (CLOSE, 1000)
        connection.send_close()
        connection.shut_down_writing()
        assert conversation.end() == (0, b"", "")


def test_a_second_signal_ends_it_at_once(server: Server) -> None:
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        conversation.process.send_signal(signal.SIGINT)
        assert connection.receive_close().close_code == 1000
        conversation.process.send_signal(signal.SIGINT)
        assert conversation.end().status == -signal.SIGINT


def test_a_signal_while_it_connects() -> None:
    with silent_port() as port:
        with conversing(f"ws://127.0.0.1:{port}/", "--timeout", f"{PATIENCE:g}") as conversation:
            wait_until(lambda: hears_signals(conversation.process.pid))
            conversation.process.send_signal(signal.SIGINT)
            status, out, err = conversation.end()
            assert (status, out) == (1, b"")
            assert err == "wsd: not connected: closed before it was established\n"


def hears_signals(pid: int) -> bool:
    """Reports whether a process handles SIGTERM; SIGINT alone is handled by any Python."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught & 1 << signal.SIGTERM - 1)


@pytest.mark.parametrize("is_speaking", [True, False])
def test_a_standard_output_that_nobody_reads_any_more(server: Server, is_speaking: bool) -> None:
    """As behind `| head -1`: noticed at once, and not with the next message."""
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        connection.send_text("first")
        assert conversation.out.readline() == b"first\n"
        conversation.close_out()
        if is_speaking:
            connection.send_text("second")
        accept_close(connection, 1001)
        assert conversation.end() == (1, b"", "")


def test_a_standard_output_that_is_full(server: Server) -> None:
    with open("/dev/full", "wb") as full, conversing(server.url, stdout=full) as conversation:
        connection = server.accept_websocket()
        connection.send_text("too much")
        accept_close(connection, 1001)
        assert conversation.end() == (1, b"", "wsd: standard output: ENOSPC\n")


# -- not connected ----------------------------------------------------------------------------------------------------


def test_nobody_there() -> None:
    with refusing_port() as port, conversing(f"ws://127.0.0.1:{port}/") as conversation:
        status, out, err = conversation.end()
        assert (status, out) == (1, b"")
        assert err.startswith(f"wsd: not connected: connecting to 127.0.0.1:{port}: ")


def test_nobody_answers() -> None:
    with silent_port() as port, conversing(f"ws://127.0.0.1:{port}/", "--timeout", "0.1") as conversation:
        status, out, err = conversation.end()
        assert (status, out) == (1, b"")
        assert "took longer than 0.1 s" in err


@pytest.mark.parametrize(
    ("body", "shown"),
    [("", ""), ("members only\x1b[2J\nmore", r" (members only\x1b[2J)"), ("<html><p>a page</p>", " (a page)")],
)
def test_a_refusal_is_told_in_the_servers_words(server: Server, body: str, shown: str) -> None:
    with conversing(server.url) as conversation:
        connection = server.accept()
        connection.receive_request()
        connection.send(answer("403 Forbidden", f"Content-Length: {len(body)}", body=body))
        status, out, err = conversation.end()
        assert (status, out) == (1, b"")
        assert err.startswith("wsd: not connected: ")
        assert "403" in err
        assert err.endswith(f"{shown}\n")
        assert bool(shown) == ("(" in err)


def test_a_subprotocol_that_the_daemon_does_not_serve(site: Site) -> None:
    with conversing(f"ws://127.0.0.1:{site.port}/", "--protocol", "nonsense") as conversation:
        status, _, err = conversation.end()
        assert status == 1
        assert "400" in err
        assert "nonsense" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["127.0.0.1:7681"],
        ["http://127.0.0.1/"],
        ["tcp://127.0.0.1:7681"],
        ["ws://127.0.0.1:port/"],
        ["ws://127.0.0.1/", "second"],
        ["ws://127.0.0.1/", "--header", "no colon"],
        ["ws://127.0.0.1/", "--header", "bad name: x"],
        ["ws://127.0.0.1/", "--header", "Upgrade: mine"],
        ["ws://127.0.0.1/", "--protocol", "two words"],
        ["ws://127.0.0.1/", "--timeout", "0"],
        ["ws://127.0.0.1/", "--timeout", "soon"],
        ["ws://127.0.0.1/", "--ping", "-1"],
        ["ws://127.0.0.1/", "--ping", "nan"],
        ["ws://127.0.0.1/", "--proxy", "nonsense"],
        ["ws://127.0.0.1/", "--nonsense"],
    ],
)
def test_usage_is_status_2(arguments: list[str]) -> None:
    answer = CliRunner().invoke(cli, ["connect", *arguments])
    assert answer.exit_code == 2
    assert "Usage: " in answer.output
    assert "\nError: " in answer.output
