"""`wsd connect URL`: a real process, against a real daemon and against a server whose every frame the test decides."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, TEXT, frame
from tests.support.conversing import accept_close, answer_last_pings, changed, conversing, finish, receive_lines
from tests.support.daemon import WSD, Site
from tests.support.server import Connection, Server, answer, refusing_port
from tests.support.timing import MS, PATIENCE, wait_until

# More than any buffer between two processes holds.
MUCH = bytes(range(256)) * 65536

# What one socket and one pipe may hold on the way, with room to spare (tcp_rmem and tcp_wmem: 6 and 4 MB).
ON_THE_WAY = 32 << 20

# What a pipe holds (pipe(7)).
PIPE_BYTES = 65536


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A daemon that serves the shipped `echo`, which takes messages of any size."""
    with Site(tmp_path) as site:
        (site.plugins / "echo.py").unlink()
        site.configure(listen='port = 0\nprotocols = ["echo", "chat"]')
        site.run()
        yield site


def url_of(site: Site) -> str:
    return f"ws://127.0.0.1:{site.port}/"


# -- lines in, messages out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--no-compression",), ("--binary",)])
def test_what_is_said_to_an_echo_comes_back(site: Site, more: tuple[str, ...]) -> None:
    lines = b"".join(b"%d: %s\n" % (at, b"x" * (at % 150)) for at in range(20_000)) + b"\n\nthe last one\n"
    with conversing(url_of(site), "--protocol", "echo", *more) as conversation:
        out, err = conversation.process.communicate(lines, PATIENCE)
    assert (conversation.process.returncode, err) == (0, b"")
    assert out == lines


def test_from_a_file_to_a_file(site: Site, tmp_path: Path) -> None:
    data = MUCH.replace(b"\n", b"\n\n") + b"\n"
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("ab") as target:
        target.write(b"before\n")
        target.flush()
        with conversing(url_of(site), "--binary", "--protocol", "echo", stdin=source, stdout=target) as conversation:
            assert conversation.end() == (0, b"", "")
    assert (tmp_path / "out").read_bytes() == b"before\n" + data


def test_a_line_needs_no_end_if_it_is_the_last(server: Server) -> None:
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        conversation.say(b"one\n\ntw")
        conversation.say("o\r\ndrei für".encode())
        conversation.end_input()
        assert receive_lines(connection, 4) == [b"one", b"", b"two\r", "drei für".encode()]
        finish(connection)
        assert conversation.end() == (0, b"", "")


def test_a_line_is_sent_when_it_is_complete_and_not_when_the_input_ends(server: Server) -> None:
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        for word in (b"one", b"two"):
            conversation.say(word + b"\nnot yet")
            conversation.say(b"\n")
            assert receive_lines(connection, 2) == [word, b"not yet"]
            connection.send_text(f"{word.decode()} back")
            assert conversation.out.readline() == word + b" back\n"
        conversation.end_input()
        finish(connection)
        assert conversation.end().status == 0


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_a_long_line_is_one_message(server: Server, tmp_path: Path, kind: str) -> None:
    line = "äbcdefg " * 1_000_000
    (tmp_path / "long").write_text(f"{line}\nshort")
    script = 'cat long | "$0" "$@"' if kind == "pipe" else '"$0" "$@" < long'
    with conversing(server.url, program=("bash", "-c", script, *WSD), cwd=tmp_path) as conversation:
        connection = server.accept_websocket()
        assert receive_lines(connection, 2) == [line.encode(), b"short"]
        finish(connection)
        assert conversation.end() == (0, b"", "")


def test_binary_messages(server: Server) -> None:
    with conversing(server.url, "--binary") as conversation:
        connection = server.accept_websocket()
        conversation.say(b"\xff\x00\x80\n\n")
        for payload in (b"\xff\x00\x80", b""):
            assert connection.receive_frame()[:2] == (BINARY, payload)
        connection.send_binary(b"\x00\n\xfe")
        connection.send_text("text as well")
        conversation.end_input()
        finish(connection)
        assert conversation.end() == (0, b"\x00\n\xfe\ntext as well\n", "")


def test_a_line_that_is_no_text(server: Server) -> None:
    """It cannot be sent as such (RFC 6455 5.6), which is said; the others are sent, and the status tells."""
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        conversation.say(b"good\nb\xc3(ad\ngood too\n")
        conversation.end_input()
        assert receive_lines(connection, 2) == [b"good", b"good too"]
        finish(connection)
        status, _, err = conversation.end()
        assert (status, err) == (
            1,
            "wsd: standard input, line 2, byte 2: no UTF-8, not sent; with --binary it could be\n",
        )


def test_large_messages_are_printed_as_they_come(server: Server, tmp_path: Path) -> None:
    """In one frame, and in many with Pings between them."""
    text = "ünï\x1b[1m".encode() * 100_000
    with (tmp_path / "out").open("wb") as target, conversing(server.url, stdout=target) as conversation:
        connection = server.accept_websocket()
        connection.send_binary(MUCH)
        cut = [text[at : at + 1001] for at in range(0, len(text), 1001)]
        for at, part in enumerate(cut):
            opcode = CONTINUATION if at else TEXT
            connection.send(frame(opcode, part, final=part is cut[-1], mask=None), frame(PING, b"%d" % at, mask=None))
        connection.finish()
        assert conversation.end() == (0, b"", "")
    assert (tmp_path / "out").read_bytes() == MUCH + b"\n" + text + b"\n"


def test_a_message_without_an_end_is_printed_too(server: Server) -> None:
    """What follows the stream of a server must not wait for the end of a message."""
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        connection.send(frame(TEXT, "so far", final=False, mask=None))
        assert os.read(conversation.out.fileno(), 99) == b"so far"
        connection.finish(1001)
        assert conversation.end() == (0, b"", "")


# -- who waits for whom -----------------------------------------------------------------------------------------------


def test_the_server_waits_for_a_slow_reader_of_standard_output(server: Server) -> None:
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        message = frame(BINARY, b"x" * 65535, mask=None)
        sent = send_until_refused(connection, message)
        assert sent < ON_THE_WAY
        whole, begun = divmod(sent, len(message))

        def end() -> None:
            connection.send(message[begun:])
            connection.finish()

        thread = threading.Thread(target=end)
        thread.start()
        status, out, err = conversation.end()
        thread.join()
        assert (status, err) == (0, "")
        assert len(out) == (whole + 1) * 65536  # each with the end of its line


def send_until_refused(connection: Connection, message: bytes) -> int:
    """Send `message` again and again until nothing is taken for a while; gives the number of bytes taken."""
    sent = 0
    while sent < 2 * ON_THE_WAY and select.select([], [connection.socket], [], 300 * MS)[1]:
        sent += connection.socket.send(message[sent % len(message) :], socket.MSG_DONTWAIT)
    return sent


@pytest.mark.parametrize("line", [b"y" * 1023 + b"\n", b"\n"])
def test_standard_input_waits_for_a_slow_server_and_nothing_is_lost(server: Server, line: bytes) -> None:
    """Who writes it goes while we hold it back: what lies in the pipe is still said."""
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb", buffering=0) as target:
        with conversing(server.url, stdin=source) as conversation:
            source.close()
            connection = server.accept_websocket()
            written = write_until_refused(writer, line)
            assert written < ON_THE_WAY
            target.close()
            whole, begun = divmod(written, len(line))
            expected = [line[:-1]] * whole + ([line[:begun]] if begun else [])
            assert receive_lines(connection, len(expected)) == expected
            finish(connection)
            assert conversation.end() == (0, b"", "")


def write_until_refused(fd: int, line: bytes) -> int:
    """Write `line` again and again until nothing is taken for a while; gives the number of bytes taken."""
    # A pipe that can be written to takes so much at once (PIPE_BUF), and never a part of it.
    os.set_blocking(fd, False)
    written = 0
    while written < 2 * ON_THE_WAY and select.select([], [fd], [], 300 * MS)[1]:
        written += os.write(fd, (line[written % len(line) :] + line * (4096 // len(line)))[:4096])
    return written


def test_nothing_is_read_before_it_can_be_said(server: Server) -> None:
    """What is typed ahead stays for others if nobody answers."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb") as target, refusing_port() as port:
        target.write(b"for the next one\n")
        target.close()
        with conversing(f"ws://127.0.0.1:{port}/", stdin=source) as conversation:
            assert conversation.end().status == 1
        assert source.read() == b"for the next one\n"


# -- the end of the input ---------------------------------------------------------------------------------------------


def test_the_answers_to_the_last_line_are_awaited(server: Server) -> None:
    """Those before the first Pong, those between the two, and those in one segment with the second."""
    with conversing(server.url) as conversation:
        connection = server.accept_websocket()
        conversation.say(b"a question")
        conversation.end_input()
        assert receive_lines(connection, 1) == [b"a question"]
        connection.send_text("before")
        answer_last_pings(connection, frame(TEXT, "between", mask=None))
        accept_close(connection)
        assert conversation.end() == (0, b"before\nbetween\n", "")


def test_a_server_that_closes_meanwhile(server: Server) -> None:
    with conversing(server.url, stdin=subprocess.DEVNULL) as conversation:
        connection = server.accept_websocket()
        assert connection.receive_frame().opcode == PING
        connection.send_text("an answer")
        connection.finish(4000, "enough")
        assert conversation.end() == (1, b"an answer\n", "wsd: closed with 4000: enough\n")


def test_a_server_that_answers_no_ping_is_closed_all_the_same(server: Server) -> None:
    program = changed(_PONG_SECONDS=50 * MS)
    with conversing(server.url, stdin=subprocess.DEVNULL, program=program) as conversation:
        connection = server.accept_websocket()
        assert connection.receive_frame().opcode == PING
        accept_close(connection)
        assert conversation.end() == (0, b"", "")


def test_a_pong_behind_what_nobody_reads_yet_is_awaited(server: Server) -> None:
    """Standard output is full for much longer than a server has for its Pong."""
    program = changed(_PONG_SECONDS=100 * MS)
    size = ON_THE_WAY // 64
    with conversing(server.url, program=program) as conversation:
        connection = server.accept_websocket()
        connection.send_binary(bytes(size))
        # From here on it has something that it cannot print, whenever it asks itself.
        wait_until(lambda: conversation.unread() > PIPE_BYTES // 2, what="standard output fills")
        conversation.end_input()
        assert connection.receive_frame().opcode == PING
        connection.socket.settimeout(500 * MS)
        with pytest.raises(TimeoutError):
            connection.socket.recv(1)  # no Close
        assert conversation.out.read(size + 1) == bytes(size) + b"\n"
        accept_close(connection)
        assert conversation.end() == (0, b"", "")


def test_an_input_that_cannot_be_read(server: Server, tmp_path: Path) -> None:
    with (tmp_path / "for writing only").open("wb") as file, conversing(server.url, stdin=file) as conversation:
        finish(server.accept_websocket())
        assert conversation.end() == (1, b"", "wsd: standard input: Bad file descriptor\n")


# -- what is asked for ------------------------------------------------------------------------------------------------


def test_the_request_is_what_was_asked_for(server: Server) -> None:
    options = ["--protocol", "one", "--protocol", "two", "--origin", "https://example.org"]
    options += ["--header", "Authorization: Bearer a:b", "--header", "X-Two:2"]
    with conversing(server.url + "path?query=1", *options, stdin=subprocess.DEVNULL) as conversation:
        connection = server.accept()
        asked = connection.switch("Sec-WebSocket-Protocol: two")
        assert asked.target == "/path?query=1"
        assert asked.header("Sec-WebSocket-Protocol") == "one, two"
        assert asked.header("Origin") == "https://example.org"
        assert asked.header("Authorization") == "Bearer a:b"
        assert asked.header("X-Two") == "2"
        assert "permessage-deflate" in (asked.header("Sec-WebSocket-Extensions") or "")
        finish(connection)
        assert conversation.end() == (0, b"", "")


def test_nothing_is_asked_for_that_was_not_wanted(server: Server) -> None:
    with conversing(server.url, "--no-compression", stdin=subprocess.DEVNULL) as conversation:
        connection = server.accept_websocket()
        for name in ("Sec-WebSocket-Protocol", "Origin", "Sec-WebSocket-Extensions"):
            assert connection.asked.header(name) is None
        finish(connection)
        assert conversation.end().status == 0


def test_a_silent_server_is_pinged(server: Server) -> None:
    with conversing(server.url, "--ping", "0.05") as conversation:
        connection = server.accept_websocket()
        got = connection.receive_frame()
        assert got.opcode == PING
        connection.finish()
        assert conversation.end().status == 0


def test_through_a_proxy(server: Server) -> None:
    proxy = f"http://ada:secret@127.0.0.1:{server.port}"
    with conversing("ws://far.example:81/", "--proxy", proxy, stdin=subprocess.DEVNULL) as conversation:
        connection = server.accept()
        asked = connection.receive_request()
        assert (asked.method, asked.target) == ("CONNECT", "far.example:81")
        assert asked.header("Proxy-Authorization") == "Basic YWRhOnNlY3JldA=="
        connection.send(answer("200 OK"))
        connection.switch()
        finish(connection)
        assert conversation.end() == (0, b"", "")
