"""HTTP over real sockets: a context in a thread, a raw client, and bodies larger than any buffer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import TEXT, Client, frame, upgrade_request
from tests.support.context import Running, running
from tests.support.timing import wait_until
from wsd.config import Limits, Timeouts
from wsd.protocol import Protocol
from wsd.web import Http
from wsd.wire.http import Request, Response

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Echo(Protocol):
    name = "echo"

    def on_message(self, wsi: Any, message: Any) -> None:
        wsi.send(message)


class Site(Protocol):
    """Answers, and streams, what the path says."""

    name = "site"
    Session = dict

    def __init__(self) -> None:
        self.closed = 0
        self.body = b""

    def on_http(self, wsi: Any, request: Request) -> Any:
        if request.path == "/iterator":
            return Response(body=(b"%06d" % number * 100 for number in range(2_000)))
        if request.path == "/stream":
            wsi.session = 0
            wsi.callback_on_writable()
            return Response(stream=True, length=3_000_000)
        if request.path == "/close":
            wsi.close()
            return Response(body="too late")
        return None

    def on_http_body(self, wsi: Any, data: bytes) -> None:
        self.body += data

    def on_http_body_completion(self, wsi: Any) -> Response:
        return Response(body=hashlib.sha256(self.body).hexdigest())

    def on_http_writeable(self, wsi: Any) -> None:
        while not wsi.send_pipe_choked and wsi.session < 3_000_000:
            wsi.session += 10_000
            wsi.write(b"%04d" % (wsi.session // 10_000) * 2500, final=wsi.session == 3_000_000)
        wsi.callback_on_writable()

    def on_closed_http(self, wsi: Any) -> None:
        self.closed += 1


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def served(site: Site) -> Iterator[Running]:
    with running([site, Echo()], limits=Limits(max_body_bytes=1_000_000)) as context:
        yield context


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "big.bin").write_bytes(os.urandom(3_000_000))
    (tmp_path / "a.txt").write_text("hello")
    with running([Http(), Echo()], listen={"static_folder": str(tmp_path)}) as context:
        yield context


def test_a_file_larger_than_every_buffer(files: Running, tmp_path: Path) -> None:
    whole = (tmp_path / "big.bin").read_bytes()
    with Client(files.port) as client:
        for headers, expected in (("", whole), ("Range: bytes=1000000-\r\n", whole[1000000:])):
            response = client.request(f"GET /big.bin HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
            assert response.body == expected
        assert client.request("HEAD /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").header("Content-Length") == "3000000"
        assert client.request("GET /a.txt HTTP/1.0\r\n\r\n").body == b"hello"
        assert client.receive_end() == b""


def test_a_slow_reader_gets_the_whole_of_a_last_answer(files: Running, tmp_path: Path) -> None:
    with Client(files.port, receive_buffer=4096) as client:
        client.send(b"GET /big.bin HTTP/1.0\r\n\r\n")
        assert client.receive_end().partition(b"\r\n\r\n")[2] == (tmp_path / "big.bin").read_bytes()


def test_a_download_that_is_broken_off_leaves_no_descriptor_behind(files: Running) -> None:
    for end in (Client.reset, Client.disconnect):
        client = Client(files.port, receive_buffer=4096)
        client.send(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        client.receive_until(b"\r\n\r\n")
        end(client)
    wait_until(lambda: files.context.wsi_count == 0)
    held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit() and _is_open(fd)]
    assert not [name for name in held if name.endswith("big.bin")]


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


@pytest.mark.parametrize("size", [1, 5, 100_000])
def test_many_pipelined_requests_in_pieces_of_any_size(files: Running, size: int) -> None:
    request = b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n"
    with Client(files.port) as client:
        client.send_slowly(request * 30, size)
        assert [client.receive_response().body for _ in range(30)] == [b"hello"] * 30


def test_pipelined_downloads_come_in_order(files: Running, tmp_path: Path) -> None:
    with Client(files.port) as client:
        client.send(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        for _ in range(3):
            assert client.receive_response().body == (tmp_path / "big.bin").read_bytes()
            assert client.receive_response().body == b"hello"


def test_iterators_and_streams(served: Running, site: Site) -> None:
    with Client(served.port, receive_buffer=8192) as client:
        body = client.request("GET /iterator HTTP/1.1\r\nHost: a\r\n\r\n").body
        assert body == b"".join(b"%06d" % number * 100 for number in range(2_000))
        body = client.request("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").body
        assert body == b"".join(b"%04d" % number * 2500 for number in range(1, 301))
        assert client.request("GET /iterator HTTP/1.0\r\n\r\n").body.endswith(b"001999")
    wait_until(lambda: site.closed == 1)


def test_a_hook_that_closes_gets_no_answer_out(served: Running, site: Site) -> None:
    with Client(served.port) as client:
        client.send(b"GET /close HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.receive_end() == b""
    wait_until(lambda: site.closed == 1)


def test_a_large_chunked_upload(served: Running, site: Site) -> None:
    data = os.urandom(900_000)
    with Client(served.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        assert client.receive_response().status == 100
        for at in range(0, len(data), 30_000):
            client.send(b"7530\r\n", data[at : at + 30_000], b"\r\n")
        client.send(b"0\r\n\r\n")
        assert client.receive_response().body.decode() == hashlib.sha256(data).hexdigest()
        assert client.request(GET).status == 200


def test_a_body_that_is_too_large_is_refused_and_the_answer_arrives(served: Running) -> None:
    """The rest of the body is discarded: a close with unread input would be a reset, and the page lost."""
    with Client(served.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\n\r\n", b"x" * 1_000_001)
        assert client.receive_response().status == 413
        assert client.receive_end() == b""


@pytest.mark.parametrize("trick", ["Transfer-Encoding: chunked", "Content-Length: 5", "Host: b", "Host : b", " folded"])
def test_smuggled_requests_are_not_seen(served: Running, trick: str) -> None:
    before = served.context.counters.http_requests
    head = upgrade_request().replace(b"\r\n\r\n", f"\r\n{trick}\r\n\r\n".encode())
    with Client(served.port) as client:
        client.send(head, b"0\r\n\r\n", GET, GET)
        answer = client.receive_end()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert served.context.counters.http_requests - before <= 1


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_frames_right_behind_the_request_are_served_after_the_101(served: Running, size: int) -> None:
    with Client(served.port) as client:
        frames = b"".join(frame(TEXT, str(number)) for number in range(10))
        client.send_slowly(upgrade_request(protocols="echo") + frames, size)
        assert client.receive_response().status == 101
        assert [client.receive_message() for _ in range(10)] == [str(number) for number in range(10)]
        assert client.finish().close_code == 1000


def test_an_upgrade_after_plain_requests_on_one_connection(served: Running, site: Site) -> None:
    with Client(served.port) as client:
        assert client.request(GET).status == 200
        client.upgrade(protocols="echo")
        client.send_text("x")
        assert client.receive_message() == "x"
        client.finish()
    wait_until(lambda: served.context.wsi_count == 0)
    assert site.closed == 0


@pytest.mark.parametrize(
    ("send", "status"),
    [(b"", None), (b"GET / HTTP/1.1\r\n", 408), (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", 408)],
)
def test_those_who_dawdle_are_hung_up_on(site: Site, send: bytes, status: int | None) -> None:
    timeouts = Timeouts(handshake_seconds=0.2, body_seconds=0.2)
    with running([site], timeouts=timeouts) as served, Client(served.port) as client:
        client.send(send)
        if status is not None:
            assert client.receive_response().status == status
        assert client.receive_end() == b""


def test_an_idle_connection_is_closed_in_silence(site: Site) -> None:
    with running([site], timeouts=Timeouts(http_idle_seconds=0.2)) as served, Client(served.port) as client:
        assert client.request(GET).status == 200
        assert client.receive_end() == b""


@pytest.mark.parametrize("half_close", [Client.shut_down_writing, lambda client: None])
def test_a_client_that_half_closes_is_answered(files: Running, half_close: Callable[[Client], None]) -> None:
    with Client(files.port) as client:
        client.send(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n" * 2, b"GET /a.txt HTTP/1.0\r\n\r\n")
        half_close(client)
        assert client.receive_end().count(b"hello") == 3


def test_a_stopping_context_finishes_answers_and_lets_idle_connections_go(site: Site) -> None:
    with running([site]) as served, Client(served.port) as idle, Client(served.port, receive_buffer=4096) as busy:
        assert idle.request(GET).status == 200
        busy.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        busy.receive_until(b"\r\n\r\n")
        served.call(served.context.stop)
        assert idle.receive_end() == b""
        assert len(busy.receive_end()) == 3_000_000


class Paced(Protocol):
    """A download in three parts, each when a timer is due; what it is told at `/end` ends it in the middle."""

    name = "paced"

    def on_http(self, wsi: Any, request: Request) -> Any:
        wsi.session = 0
        wsi.set_timer(0.001)
        return Response(stream=True)

    def on_timer(self, wsi: Any) -> int | None:
        if wsi.request.path == "/end":
            return -1
        if wsi.request.path == "/raise":
            raise ValueError("on purpose")
        wsi.callback_on_writable()
        return None

    def on_http_writeable(self, wsi: Any) -> None:
        wsi.session += 1
        wsi.write(b"part %d\n" % wsi.session, final=wsi.session == 3)
        if wsi.session < 3:
            wsi.set_timer(0.001)


class TestTimer:
    def test_it_paces_a_download(self) -> None:
        with running([Paced()]) as served, Client(served.port) as client:
            assert client.request(GET).body == b"part 1\npart 2\npart 3\n"

    @pytest.mark.parametrize("path", [b"/end", b"/raise"])
    def test_its_answer_ends_the_connection(self, path: bytes) -> None:
        with running([Paced()]) as served, Client(served.port) as client:
            client.send(GET.replace(b"/ ", path + b" "))
            assert client.receive_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
            assert client.receive_end() == b"", "no last chunk: it is not whole"
