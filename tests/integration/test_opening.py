"""What a connection passes before HTTP is spoken, through real sockets: what others than TLS clients get from it."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.ca import Authority, Issued
from tests.support.client import TEXT, Client, close_frame, frame, upgrade_request
from tests.support.context import Running, running
from tests.support.logged import logged
from tests.support.timing import wait_until
from tests.support.tls import connect_tls
from wsd import log
from wsd.config import Auth, Timeouts, Tls
from wsd.errors import Reject
from wsd.protocol import Protocol
from wsd.wire.ordinary import read_upgrade


class Echo(Protocol):
    name = "echo"

    def on_message(self, wsi: Any, message: Any) -> None:
        wsi.send(message)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue()


@contextmanager
def serving(issued: Issued, timeouts: Timeouts | None = None, **tls: Any) -> Iterator[Running]:
    fields = {"certificate": str(issued.certificate), "private_key": str(issued.private_key), **tls}
    with running([Echo()], listen={"tls": Tls(**fields)}, timeouts=timeouts) as server:
        yield server


def counted(server: Running, name: str) -> int:
    """A counter, which the loop may be about to change."""
    value: int = server.call(lambda: getattr(server.context.counters, name))
    return value


class TestPlainHttp:
    def test_a_request_is_told_where_to_go(self, issued: Issued) -> None:
        with serving(issued, hsts_seconds=1000) as server, Client(server.port) as client:
            client.send(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = client.receive_response()
            assert answer.status == 400
            assert b"this port speaks TLS: use https://" in answer.body
            assert answer.header("Strict-Transport-Security") is None
            assert client.receive_end() == b""
            assert counted(server, "plain_on_tls") == 1

    def test_or_sent_there(self, issued: Issued) -> None:
        with serving(issued, plain_http="redirect") as server, Client(server.port) as client:
            host = f"localhost:{server.port}"
            client.send(f"GET /page%20two?a=1 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer = client.receive_response()
            assert (answer.status, answer.header("Location")) == (308, f"https://{host}/page%20two?a=1")

    @pytest.mark.parametrize("head", [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", b"GET / HTTP/1.0\r\n"])
    def test_but_not_what_cannot_be(self, issued: Issued, head: bytes) -> None:
        with serving(issued, plain_http="redirect") as server, Client(server.port) as client:
            client.send(head + b"\r\n")
            assert client.receive_response().status == 400

    @pytest.mark.parametrize("what", ["refuse", "redirect"])
    def test_a_websocket_is_told(self, issued: Issued, what: str) -> None:
        with serving(issued, plain_http=what) as server, Client(server.port) as client:
            client.send(upgrade_request())
            answer = client.receive_response()
            assert answer.status == 400
            assert b"use wss://" in answer.body

    def test_no_part_of_it_reaches_anybody_else(self, issued: Issued) -> None:
        """Two requests in one: one answer."""
        with serving(issued) as server, Client(server.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
            assert client.receive_end().count(b"HTTP/1.1 ") == 1


class TestOthers:
    @pytest.mark.parametrize(
        "sent", [b"garbage", bytes(300), b"\x80\x80\x01\x03\x01", b"\x16\x03\x01\x00\x05hello", b"ssh-2"]
    )
    def test_garbage_is_closed_and_counted(self, issued: Issued, authority: Authority, sent: bytes) -> None:
        with serving(issued) as server, connect_tls(server.port, authority.certificate) as other:
            with Client(server.port) as client:
                client.send(sent)
                client.shut_down_writing()
                assert client.receive_end()[:1] in (b"", b"\x15")  # nothing, or an alert
            wait_until(lambda: counted(server, "tls_failures") == 1)
            other.send_text("still here")
            assert other.receive_message() == "still here"
            wait_until(lambda: server.call(lambda: server.context.wsi_count) == 1)

    def test_who_says_nothing_makes_no_noise(self, issued: Issued) -> None:
        """A health check."""
        with logged() as lines, serving(issued) as server:
            with Client(server.port):
                pass
            wait_until(lambda: counted(server, "accepted") == 1)
            wait_until(lambda: server.call(lambda: server.context.wsi_count) == 0)
            assert counted(server, "tls_failures") == 0
            assert lines == []

    @pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
    def test_who_is_slow_is_closed_at_the_deadline(self, issued: Issued, sent: bytes) -> None:
        timeouts = Timeouts(tls_handshake_seconds=0.2, handshake_seconds=60)
        with logged(log.INFO) as lines, serving(issued, timeouts) as server, Client(server.port) as client:
            client.send(sent)
            assert client.receive_end() == b""
            assert any("no TLS: the handshake took too long" in line for line in lines)
            assert counted(server, "tls_failures") == 1

    def test_after_the_handshake_the_clock_of_the_head_runs(self, issued: Issued, authority: Authority) -> None:
        from tests.support.tls import TlsClient

        timeouts = Timeouts(tls_handshake_seconds=60, handshake_seconds=0.2)
        with serving(issued, timeouts) as server, TlsClient(server.port, authority.certificate) as client:
            client.send(b"GET / HTTP/1.1\r\n")
            assert client.receive_response().status == 408

    def test_a_hello_cut_at_each_byte(self, issued: Issued) -> None:
        """As many connections, each of which leaves in another place; nothing of them stays."""
        import ssl

        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        said = outgoing.read()
        with serving(issued) as server:
            for at in range(0, len(said), 5):
                with socket.create_connection(("127.0.0.1", server.port)) as sock:
                    sock.sendall(said[:at])
            wait_until(lambda: counted(server, "accepted") == len(range(0, len(said), 5)))
            wait_until(lambda: server.call(lambda: server.context.wsi_count) == 0)
            assert counted(server, "bugs") == 0


# -- the short way of an ordinary request -----------------------------------------------------------------------------


class Notes(Protocol):
    """Notes which of its hooks run, with what they see."""

    name = "notes"
    Session = list

    def __init__(self, answer: Callable[[str, Any], Any] = lambda hook, wsi: None) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.answer = answer

    def note(self, hook: str, wsi: Any, *more: Any) -> Any:
        wsi.session.append(hook)
        request = wsi.request
        self.notes.append((hook, request.target, request.method, list(request.headers), wsi.protocol.name, *more))
        return self.answer(hook, wsi)

    def on_filter_protocol_connection(self, wsi: Any, request: Any) -> Any:
        return self.note("filter", wsi, request.path, request.args, wsi.peer.address, wsi.local)

    def on_confirm_extension(self, wsi: Any, name: str, params: Any) -> Any:
        return self.note("extension", wsi, name, params)

    def on_add_headers(self, wsi: Any, headers: Any) -> Any:
        headers.add("X-Session", str(len(wsi.session)))
        return self.note("headers", wsi)

    def on_established(self, wsi: Any) -> Any:
        return self.note("established", wsi, wsi.subprotocol, wsi.extensions)

    def on_message(self, wsi: Any, message: Any) -> Any:
        wsi.send(message)
        return self.note("message", wsi, message)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.note("closed", wsi, code, close_reason)


class Plain(Protocol):
    """Has no hook at all on the way."""

    name = "plain"


def reject(hook: str, wsi: Any) -> None:
    if hook == "filter":
        raise Reject(418, "no coffee", [("X-Pot", "tea")])


def fail(hook: str, wsi: Any) -> None:
    if hook == "headers":
        raise ValueError("a mistake")


def close(hook: str, wsi: Any) -> None:
    if hook == "filter":
        wsi.close(4000)


def refuse(hook: str, wsi: Any) -> int:
    return -1 if hook == "headers" else 0


DEFLATE = [("Sec-WebSocket-Extensions", "x-other, permessage-deflate; client_max_window_bits")]
BYE = frame(TEXT, "hello") + close_frame(4001, "bye")
ANSWERS = {"none": lambda hook, wsi: None, "reject": reject, "fail": fail, "close": close, "refuse": refuse}
REQUESTS: dict[str, tuple[bytes, str]] = {
    "notes": (upgrade_request("/a%20b?x=1&y", "notes") + BYE, "none"),
    "by path": (upgrade_request("/n") + BYE, "none"),
    "by default": (upgrade_request("/") + BYE, "none"),
    "plain": (upgrade_request("/", "plain") + BYE, "none"),
    "several": (upgrade_request("/", "unknown, notes, plain") + BYE, "none"),
    "unknown": (upgrade_request("/", "unknown"), "none"),
    "no token": (upgrade_request("/", "a b"), "none"),
    "deflate": (upgrade_request("/", "notes", headers=DEFLATE) + BYE, "none"),
    "bad extensions": (upgrade_request("/", "notes", headers=[("Sec-WebSocket-Extensions", "x; =")]), "none"),
    "same origin": (upgrade_request("/", "notes", headers=[("Origin", "http://127.0.0.1:99")]) + BYE, "none"),
    "other origin": (upgrade_request("/", "notes", headers=[("Origin", "http://example.com")]), "none"),
    "no request": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET / HTTP/1.0\r\n\r\n", "none"),
    "no key": (upgrade_request("/", "notes").replace(b"Sec-WebSocket-Key", b"Sec-WebSocket-Kay"), "none"),
    "token argument": (upgrade_request("/?token=secret&b=1", "notes") + BYE, "none"),
    **{name: (upgrade_request("/", "notes") + BYE, name) for name in ("reject", "fail", "close", "refuse")},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_an_ordinary_request_gets_both_ways_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes, hooks, lines and counters as if it had gone the long way from the beginning."""
    data, answer = REQUESTS[name]
    played = []
    for reads in (read_upgrade, lambda *arguments: None):
        monkeypatch.setattr("wsd.opening.read_upgrade", reads)
        protocol = Notes(ANSWERS[answer])
        listen = {
            "paths": {"/n": "notes"},
            "default_protocol": "plain",
            "auth": Auth(token_argument="token"),
            "protocols": ["notes", "plain"],
        }
        with logged(log.INFO) as lines, running([protocol, Plain()], listen=listen) as server:
            with Client(server.port) as client:
                client.send(data)
                if "close" in name:
                    client.shut_down_writing()
                heard = re.sub(rb"Date: [^\r]*|(?<=:)[0-9]{4,5}\b", b"", client.receive_end())
            wait_until(lambda: server.call(lambda: server.context.wsi_count) == 0)
            counters = server.context.counters.as_dict()
            del counters["turns"]
            said = [re.sub(r":[0-9]{2,}", "", line) for line in lines if "listening" not in line]
        played.append(
            (
                heard,
                [(*note[:5], re.sub(r"port=[0-9]+", "", repr(note[5:]))) for note in protocol.notes],
                counters,
                said,
            )
        )
    short, long = played
    for one, other in zip(short, long, strict=True):
        assert one == other
    assert short[0] or answer == "close"
