"""WebSockets, HTTP and raw bytes over TLS through real sockets: in wsd's own loop, and in those of docs/examples."""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.ca import Authority, Issued
from tests.support.client import BINARY, TEXT, Client, close_frame, connect, frame
from tests.support.context import Running, running
from tests.support.logged import logged
from tests.support.loops import BUILT_IN, LOOPS, loop_of
from tests.support.timing import wait_until
from tests.support.tls import TlsClient, connect_tls
from wsd import log
from wsd.client import Backoff
from wsd.config import Tls
from wsd.protocol import Protocol
from wsd.tls import RECORD_BYTES
from wsd.tls_client import ClientTls


class Echo(Protocol):
    """Echoes, and keeps what a test wants to look at."""

    name = "echo"

    def __init__(self) -> None:
        self.closed: list[tuple[int, str]] = []
        self.received: list[Any] = []
        self.newest: Any = None

    def on_established(self, wsi: Any) -> None:
        self.newest = wsi

    def on_message(self, wsi: Any, message: Any) -> None:
        self.received.append(message)
        wsi.send(message)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.closed.append((code, close_reason))


class Bytes(Protocol):
    """Raw bytes, echoed."""

    name = "bytes"

    def on_raw_adopt(self, wsi: Any) -> None:
        wsi.send(f"{wsi.tls.version}\n")

    def on_raw_receive(self, wsi: Any, data: bytes) -> None:
        wsi.send(data)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue()


Serve = Callable[..., Any]


@pytest.fixture(params=LOOPS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def serve(issued: Issued) -> Serve:
    """Serve protocols over TLS; `tls` are further fields of [listen.tls]."""

    @contextmanager
    def serving(
        *protocols: Protocol, kind: str = BUILT_IN, listen: dict[str, Any] | None = None, **tls: Any
    ) -> Iterator[Running]:
        fields = {"certificate": str(issued.certificate), "private_key": str(issued.private_key), **tls}
        with (
            loop_of(kind) as loop,
            running(protocols, loop=loop, listen={"tls": Tls(**fields), **(listen or {})}) as it,
        ):
            yield it

    return serving


class TestInEveryLoop:
    def test_messages_of_all_sizes(self, serve: Serve, kind: str, authority: Authority) -> None:
        with serve(Echo(), kind=kind) as server, connect_tls(server.port, authority.certificate) as client:
            for size in (0, 1, 125, 126, RECORD_BYTES - 4, RECORD_BYTES, 65535, 65536, 300_000):
                message = os.urandom(size)
                client.send_binary(message)
                assert client.receive_message() == message

    def test_many_messages_in_one_record(self, serve: Serve, kind: str, authority: Authority) -> None:
        """Delivered a turn's worth at a time, and the socket is quiet by then."""
        with serve(Echo(), kind=kind) as server, connect_tls(server.port, authority.certificate) as client:
            client.send(*[frame(TEXT, str(number)) for number in range(1000)])
            assert [client.receive_message() for _ in range(1000)] == [str(number) for number in range(1000)]

    def test_what_lies_in_openssl_is_served_while_the_descriptor_is_quiet(
        self, serve: Serve, kind: str, authority: Authority
    ) -> None:
        """A full record holds more than the loop's buffer after what filled it, and nothing else will come."""
        protocol = Echo()
        with serve(protocol, kind=kind) as server, connect_tls(server.port, authority.certificate) as client:
            server.call(lambda: shorten(server, 5000))
            messages = [frame(BINARY, bytes([number]) * 1600) for number in range(10)]
            client.send(*messages)
            assert [client.receive_message() for _ in range(10)] == [bytes([number]) * 1600 for number in range(10)]

    def test_paused_with_bytes_inside_and_resumed(self, serve: Serve, kind: str, authority: Authority) -> None:
        protocol = Echo()
        with serve(protocol, kind=kind) as server, connect_tls(server.port, authority.certificate) as client:
            server.call(lambda: shorten(server, 5000))
            client.send_text("first")
            assert client.receive_message() == "first"
            wsi = protocol.newest
            server.call(lambda: wsi.rx_flow_control(False))
            client.send(frame(BINARY, bytes(9000)), frame(TEXT, "behind it"))
            client_says_nothing_more(client)
            assert protocol.received == ["first"]
            server.call(lambda: wsi.rx_flow_control(True))
            assert client.receive_message() == bytes(9000)
            assert client.receive_message() == "behind it"

    def test_a_reader_that_takes_its_time(self, serve: Serve, kind: str, authority: Authority) -> None:
        message = os.urandom(3_000_000)
        protocol = Echo()
        with serve(protocol, kind=kind) as server:
            with connect_tls(server.port, authority.certificate, receive_buffer=4096) as client:
                client.send_text("go")
                assert client.receive_message() == "go"
                server.call(lambda: protocol.newest.send(message))
                assert client.receive_message() == message

    def test_both_ends_say_close_notify(self, serve: Serve, kind: str, authority: Authority) -> None:
        protocol = Echo()
        with serve(protocol, kind=kind) as server, connect_tls(server.port, authority.certificate) as client:
            client.send(close_frame(4001, "bye"))
            assert client.receive_close().close_code == 4001
            assert client.tls.recv(1) == b""  # an end without it would raise
            client.shut_down_writing()
            wait_until(lambda: protocol.closed)
            assert protocol.closed == [(4001, "bye")]


def shorten(server: Running, size: int) -> None:
    """Have the loop read no more than `size` bytes at a time."""
    context = server.context
    context.buffer = bytearray(size)
    context.view = memoryview(context.buffer)


def client_says_nothing_more(client: TlsClient) -> None:
    """Wait until the server's kernel has all that was sent; what it makes of it, it makes at once or not at all."""
    assert select.select([client.socket], [], [], 0.05)[0] == []


class TestEnds:
    def test_a_stream_that_is_cut_off_is_told_from_one_that_ends(self, serve: Serve, authority: Authority) -> None:
        with logged(log.INFO) as lines, serve(Echo()) as server:
            with connect_tls(server.port, authority.certificate) as client:
                client.shut_down_writing()
                wait_until(lambda: any("ended the stream without a Close" in line for line in lines))
            with connect_tls(server.port, authority.certificate) as client:
                client.socket = socket.socket(fileno=client.tls.detach())
                client.disconnect()
                wait_until(lambda: any("cut off: no close_notify" in line for line in lines))

    def test_a_stop_closes_everybody_in_order(self, serve: Serve, authority: Authority) -> None:
        with serve(Echo()) as server, connect_tls(server.port, authority.certificate) as client:
            server.call(server.context.stop)
            assert client.receive_close().close_code == 1001
            client.send(close_frame(1001))
            assert client.tls.recv(1) == b""

    def test_a_stop_in_the_middle_of_a_handshake(self, serve: Serve) -> None:
        with serve(Echo()) as server, Client(server.port) as client:
            client.send(b"\x16\x03\x01")
            wait_until(lambda: server.context.wsi_count == 1)
            server.call(server.context.stop)
            assert client.receive_end() == b""


class TestFacts:
    def test_what_a_plugin_sees(self, serve: Serve, authority: Authority) -> None:
        protocol = Echo()
        alice = authority.issue(["alice.test"], client=True)
        with serve(protocol, client_certificates="required", client_ca=str(authority.certificate)) as server:
            assert server.context.listeners[0].url.startswith("wss://127.0.0.1:")
            with connect_tls(server.port, authority.certificate, certificate=alice, alpn=["h2", "http/1.1"]) as client:
                info = protocol.newest.tls
                assert info.version == client.tls.version()
                assert info.cipher == client.tls.cipher()[0]  # type: ignore[index]
                assert (info.server_name, info.alpn) == ("localhost", "http/1.1")
                assert (info.subject, info.alternative_names) == ("CN=alice.test", ("alice.test",))
                assert client.tls.selected_alpn_protocol() == "http/1.1"

    def test_nothing_where_nothing_is_encrypted(self) -> None:
        protocol = Echo()
        with running([protocol]) as server, connect(server.port):
            assert server.call(lambda: protocol.newest.tls) is None

    def test_a_session_is_taken_up_again(self, serve: Serve, authority: Authority) -> None:
        protocol = Echo()
        context = ssl.create_default_context(cafile=str(authority.certificate))
        with serve(protocol) as server:
            with connect_tls(server.port, None, context=context) as client:
                client.send_text("hello")
                client.receive_message()  # the tickets came before it
                session = client.tls.session
            with connect_tls(server.port, None, context=context, session=session) as client:
                assert client.tls.session_reused
                assert server.call(lambda: protocol.newest.tls.is_resumed)


class TestHsts:
    def test_on_every_http_answer_and_nowhere_else(self, serve: Serve, authority: Authority) -> None:
        with serve(Echo(), hsts_seconds=1000) as server:
            for path, status in (("/", 200), ("/nothing-here", 404)):
                with TlsClient(server.port, authority.certificate) as client:
                    client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                    answer = client.receive_response()
                    assert (answer.status, answer.header("Strict-Transport-Security")) == (status, "max-age=1000")
            with Client(server.port) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert client.receive_response().header("Strict-Transport-Security") is None


class TestRaw:
    def test_bytes_under_tls(self, serve: Serve, authority: Authority) -> None:
        with serve(Bytes(), listen={"accept": "raw"}) as server:
            assert server.context.listeners[0].url.startswith("tls://")
            with TlsClient(server.port, authority.certificate) as client:
                assert client.receive_until(b"\n") == b"TLSv1.3\n"
                client.send(b"hello")
                assert client.receive_exactly(5) == b"hello"

    def test_our_own_client_opens_it(self, serve: Serve, authority: Authority) -> None:
        heard: list[bytes] = []

        class Asking(Protocol):
            name = "asking"

            def on_raw_adopt(self, wsi: Any) -> None:
                wsi.send("hello")

            def on_raw_receive(self, wsi: Any, data: bytes) -> None:
                heard.append(data)

        with serve(Bytes(), Asking(), listen={"accept": "raw", "default_protocol": "bytes"}) as server:
            tls = ClientTls(ca=str(authority.certificate))
            url = f"tls://localhost:{server.port}"
            server.call(lambda: server.context.client_connect(url, protocol="asking", tls=tls))
            wait_until(lambda: b"".join(heard) == b"TLSv1.3\nhello")


class Told(Protocol):
    """A client that keeps what it was told."""

    name = "told"

    def __init__(self) -> None:
        self.errors: list[Any] = []
        self.established: list[Any] = []

    def on_established(self, wsi: Any) -> None:
        self.established.append(wsi)

    def on_client_connection_error(self, wsi: Any, error: Any) -> None:
        self.errors.append(error)


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(10)
        yield sock


class TestClient:
    def test_through_a_proxy(self, serve: Serve, authority: Authority) -> None:
        """CONNECT, then TLS, then the upgrade."""
        told = Told()
        with serve(Echo(), told) as server, listening() as proxy:
            where = f"http://127.0.0.1:{proxy.getsockname()[1]}"
            url, tls = f"wss://localhost:{server.port}/", ClientTls(ca=str(authority.certificate))
            server.call(
                lambda: server.context.client_connect(url, protocol=told, subprotocols=["echo"], tls=tls, proxy=where)
            )
            near, _ = proxy.accept()
            with near, socket.create_connection(("127.0.0.1", server.port)) as far:
                assert near.recv(65536).startswith(b"CONNECT localhost:")
                near.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                carry(near, far, lambda: bool(told.established))

    def test_a_proxy_that_says_too_much(self, serve: Serve, authority: Authority) -> None:
        told = Told()
        with serve(Echo(), told) as server, listening() as proxy:
            where = f"http://127.0.0.1:{proxy.getsockname()[1]}"
            server.call(lambda: server.context.client_connect("wss://localhost/", protocol=told, proxy=where))
            near, _ = proxy.accept()
            with near:
                near.recv(65536)
                near.sendall(b"HTTP/1.1 200 Connected\r\n\r\nhello")
                wait_until(lambda: told.errors)
            assert told.errors[0].cause == "proxy"

    def test_a_server_that_speaks_no_tls(self, serve: Serve) -> None:
        told = Told()
        with serve(Echo(), told) as server, listening() as other:
            port = other.getsockname()[1]
            server.call(lambda: server.context.client_connect(f"wss://localhost:{port}/", protocol=told))
            near, _ = other.accept()
            with near:
                near.recv(65536)
                near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                wait_until(lambda: told.errors)
            assert told.errors[0].cause == "tls"
            assert told.errors[0].text.startswith("TLS: ")

    @pytest.mark.parametrize("after", [b"", b"\x16\x03\x03"])
    def test_a_server_that_leaves_in_the_handshake(self, serve: Serve, after: bytes) -> None:
        told = Told()
        with serve(Echo(), told) as server, listening() as other:
            port = other.getsockname()[1]
            server.call(lambda: server.context.client_connect(f"wss://localhost:{port}/", protocol=told))
            near, _ = other.accept()
            with near:
                near.recv(65536)
                near.sendall(after)
            wait_until(lambda: told.errors)
            assert (len(told.errors), told.errors[0].cause, told.established) == (1, "tls", [])

    def test_a_server_that_is_silent(self, serve: Serve) -> None:
        told = Told()
        with serve(Echo(), told) as server, listening() as other:
            port = other.getsockname()[1]
            url = f"wss://localhost:{port}/"
            server.call(lambda: server.context.client_connect(url, protocol=told, timeout_seconds=0.2))
            wait_until(lambda: told.errors)
            assert told.errors[0].cause == "timeout"
            assert told.errors[0].text == "waiting for the server's part of the TLS handshake took longer than 0.2 s"

    def test_it_connects_again(self, serve: Serve, authority: Authority) -> None:
        told, echo = Told(), Echo()
        with serve(echo, told) as server:
            url, tls = f"wss://localhost:{server.port}/", ClientTls(ca=str(authority.certificate))
            server.call(
                lambda: server.context.client_connect(
                    url, protocol=told, subprotocols=["echo"], tls=tls, reconnect=Backoff((0.05,))
                )
            )
            wait_until(lambda: told.established)
            server.call(lambda: echo.newest.close(1012))
            wait_until(lambda: len(told.established) == 2)
            server.call(told.established[1].close)


def carry(one: socket.socket, other: socket.socket, until: Callable[[], bool]) -> None:
    """Carry bytes both ways, as a proxy does."""

    def step() -> bool:
        for sock in select.select([one, other], [], [], 0.05)[0]:
            (other if sock is one else one).sendall(sock.recv(65536))
        return until()

    wait_until(step)


def test_a_listener_without_a_key_is_refused_before_it_listens(tmp_path: Path, authority: Authority) -> None:
    from wsd.context import Context
    from wsd.errors import ConfigError

    with Context([Echo()]) as context:
        with pytest.raises(ConfigError, match=r"^tls\.certificate: .*/ca\.pem: holds no private key"):
            context.listen(port=0, tls=Tls(certificate=str(authority.certificate)))
        assert context.listeners == []
