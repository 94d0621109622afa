"""The programs in docs/examples, each started as its own docstring says, with real clients at the other end."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.ca import Authority
from tests.support.client import TEXT, Client, close_frame, connect, frame
from tests.support.loops import EXAMPLES, example
from tests.support.timing import MS, PATIENCE
from tests.support.tls import connect_tls

ROOT = EXAMPLES.parent.parent
PROGRAMS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
FEEDS = {"poll_loop": socket.SOCK_STREAM, "asyncio_loop": socket.SOCK_STREAM, "selectors_loop": socket.SOCK_DGRAM}


class Running:
    """An example that runs, with any ports that are free; it must end as it should when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        ports = [int(port) for port in re.findall(r":(\d+)", process.stdout.readline())]
        assert ports, process.communicate()
        self.port = ports[0]
        self.feed_port = ports[-1]

    def stop(self) -> None:
        """Tell it to end, and see that it does."""
        self.process.terminate()
        self.end()

    def end(self) -> None:
        """It was told to end, and does so in order and in silence."""
        out, errors = self.process.communicate(timeout=PATIENCE)
        assert (self.process.returncode, out) == (0, ""), errors
        assert "Traceback" not in errors
        assert "Warning" not in errors

    def switches(self) -> int:
        """How often its threads have slept until something came."""
        found = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", (task / "status").read_text(), re.M)[0])
        return found


@contextmanager
def started(name: str, *more: str) -> Iterator[Running]:
    arguments = ["--port", "0", *(["--feed-port", "0"] if name in FEEDS else []), *more]
    with subprocess.Popen(
        [sys.executable, "-X", "dev", str(EXAMPLES / f"{name}.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


@pytest.fixture
def feed(name: str) -> Iterator[socket.socket]:
    with socket.socket(type=FEEDS[name]) as sock:
        yield sock


@pytest.mark.parametrize("name", PROGRAMS)
class TestEach:
    def test_starts_as_its_docstring_says(self, name: str) -> None:
        documentation = example(name).__doc__ or ""
        command = re.findall(rf"python docs/examples/{name}\.py(.*)", documentation)
        assert len(command) == 1
        shown = subprocess.run(
            [sys.executable, str(EXAMPLES / f"{name}.py"), "--help"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for option in re.findall(r"--[\w-]+", command[0]):
            assert option in shown

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_with_1001_to_all(self, name: str, number: int) -> None:
        with started(name) as running, connect(running.port) as one, connect(running.port) as two:
            running.process.send_signal(number)
            for client in (one, two):
                assert client.receive_close().close_code == 1001
                client.send(close_frame(1001))
                assert client.receive_end() == b""
                client.disconnect()
            running.end()

    def test_it_is_idle_and_answers_and_ends_with_nobody_there(self, name: str) -> None:
        with started(name) as running:
            with connect(running.port), Client(running.port):
                time.sleep(50 * MS)  # what is under way settles
                before = running.switches()
                time.sleep(300 * MS)
                assert running.switches() - before <= 2
            with Client(running.port) as client:
                assert client.request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
            running.stop()


@pytest.mark.parametrize("name", FEEDS)
class TestLoops:
    def test_what_one_says_everybody_hears(self, name: str) -> None:
        with started(name) as running, ExitStack() as stack:
            clients = [stack.enter_context(connect(running.port)) for _ in range(20)]
            for number, client in enumerate(clients):
                client.send_text(f"from {number}")
            heard = [{client.receive_message() for _ in clients} for client in clients]
            assert heard == [{f"from {number}" for number in range(20)}] * 20

    def test_what_the_feed_gets_is_told_while_nobody_else_says_anything(self, name: str, feed: socket.socket) -> None:
        with started(name) as running, connect(running.port) as one, connect(running.port) as two:
            feed.connect(("127.0.0.1", running.feed_port))
            for text in ("first", "second, \N{GREEK SMALL LETTER OMEGA}"):
                feed.sendall(text.encode() + b"\n")
                assert one.receive_message() == two.receive_message() == text

    def test_both_servers_under_load_lose_nothing(self, name: str, feed: socket.socket) -> None:
        """Each side's work is made while the other is served."""
        with started(name) as running, connect(running.port) as client:
            feed.connect(("127.0.0.1", running.feed_port))
            client.send_text("begin")
            assert client.receive_message() == "begin"
            for start in range(0, 500, 50):
                for number in range(start, start + 50):
                    feed.send(b"feed %d\n" % number)
                    client.send_text(f"client {number}")
                got = [client.receive_message() for _ in range(100)]
                assert [text for text in got if str(text).startswith("feed")] == [
                    f"feed {number}" for number in range(start, start + 50)
                ]
                assert [text for text in got if str(text).startswith("client")] == [
                    f"client {number}" for number in range(start, start + 50)
                ]

    def test_a_message_that_comes_in_many_reads_and_leaves_in_many_writes(self, name: str) -> None:
        with (
            started(name) as running,
            connect(running.port, receive_buffer=4096) as slow,
            connect(running.port) as other,
        ):
            other.send_binary(bytes(1_000_000))
            assert other.receive_message() == bytes(1_000_000)
            other.send_text("behind it")
            assert other.receive_message() == "behind it"
            assert slow.receive_message() == bytes(1_000_000)
            assert slow.receive_message() == "behind it"

    def test_many_messages_in_one_go(self, name: str) -> None:
        with started(name) as running, connect(running.port) as client:
            client.send(*(frame(TEXT, str(number)) for number in range(3000)))
            assert [client.receive_message() for _ in range(3000)] == [str(number) for number in range(3000)]


@pytest.mark.parametrize("name", FEEDS)
def test_over_tls_too(name: str, feed: socket.socket, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue(together=True)
    with started(name, "--certificate", str(issued.certificate)) as running, ExitStack() as stack:
        clients = [stack.enter_context(connect_tls(running.port, authority.certificate)) for _ in range(5)]
        message = os.urandom(100_000).hex()
        clients[0].send_text(message)
        assert {client.receive_message() for client in clients} == {message}
        feed.connect(("127.0.0.1", running.feed_port))
        feed.sendall(b"from the feed\n")
        assert {client.receive_message() for client in clients} == {"from the feed"}
        running.process.terminate()
        for client in clients:
            assert client.receive_close().close_code == 1001
            client.send(close_frame(1001))
            client.disconnect()
        running.end()


@pytest.mark.parametrize("name", [name for name, kind in FEEDS.items() if kind == socket.SOCK_STREAM])
class TestFeedsOfLines:
    def test_lines_in_any_pieces(self, name: str, feed: socket.socket) -> None:
        with started(name) as running, connect(running.port) as client:
            feed.connect(("127.0.0.1", running.feed_port))
            feed.sendall(b"one\ntwo\nthr")
            assert [client.receive_message() for _ in range(2)] == ["one", "two"]
            feed.sendall(b"ee\n")
            assert client.receive_message() == "three"

    def test_it_ends_while_the_feed_is_connected(self, name: str, feed: socket.socket) -> None:
        with started(name) as running, connect(running.port) as client:
            feed.connect(("127.0.0.1", running.feed_port))
            feed.sendall(b"here\n")
            assert client.receive_message() == "here"
            client.finish()
            client.disconnect()
            running.stop()

    def test_one_that_sends_no_lines_or_vanishes_disturbs_nobody(self, name: str, feed: socket.socket) -> None:
        with started(name) as running, connect(running.port) as client:
            with Client(running.feed_port) as endless, Client(running.feed_port) as gone:
                gone.send(b"half a li")
                gone.reset()
                with pytest.raises(OSError, match=r"reset|pipe"):
                    while True:
                        endless.send(b"x" * 10_000)
            client.send_text("not disturbed")
            assert client.receive_message() == "not disturbed"
            client.finish()
            client.disconnect()
            running.stop()


class TestWorkerThread:
    @staticmethod
    def key(text: str) -> str:
        module = example("worker_thread")
        return hashlib.pbkdf2_hmac("sha256", text.encode(), module.SALT, module.ROUNDS).hex()

    def test_everybody_gets_the_answer_to_what_they_asked(self) -> None:
        with started("worker_thread") as running, ExitStack() as stack:
            clients = [stack.enter_context(connect(running.port)) for _ in range(10)]
            for number, client in enumerate(clients):
                client.send_text(f"{number} a")
                client.send_text(f"{number} b")
            for number, client in enumerate(clients):
                assert client.receive_message() == self.key(f"{number} a")
                assert client.receive_message() == self.key(f"{number} b")

    def test_one_that_left_before_its_answer_disturbs_nobody(self) -> None:
        with started("worker_thread") as running, connect(running.port) as client:
            for _ in range(5):
                with connect(running.port) as hasty:
                    hasty.send_text("never mind")
                    hasty.reset()
            client.send_text("mine")
            assert client.receive_message() == self.key("mine")
            client.finish()
            client.disconnect()
            running.stop()

    def test_the_loop_serves_others_while_the_worker_works(self) -> None:
        with started("worker_thread") as running, connect(running.port) as busy, Client(running.port) as other:
            for number in range(40):
                busy.send_text(str(number))
            assert other.request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
            busy.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    busy.buffer += busy.socket.recv(1 << 16)
            assert len(busy.buffer) < 40 * 66, "the worker was done before: the test shows nothing"
