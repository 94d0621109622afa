"""Every way in which a connection that we open can fail: its cause, its text, and that it is told once.

`dialing` counts for each of them that exactly one of `on_established` and `on_client_connection_error` was called.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import TEXT, frame
from tests.support.names import Names
from tests.support.outgoing import Dialing, Outgoing, dialing
from tests.support.server import Asked, Connection, Server, answer, refusing_port, silent_port, switching
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.config import Compression, Limits
from wsd.errors import ConnectError
from wsd.reasons import CLOSE

SOON = 150 * MS
"""A deadline for what is to miss it."""


def refused_with(dial: Dialing, reply: Callable[[Asked], bytes] | bytes, **options: Any) -> ConnectError:
    """Connect to a server that answers `reply`; the error, after which the server's connection has ended."""
    with Server() as server:
        dial.connect(server.url, **options)
        connection = server.accept()
        asked = connection.receive_request()
        connection.send(reply if isinstance(reply, bytes) else reply(asked))
        error = dial.error()
        assert connection.receive_end() == b"", "not a byte after the request"
        return error


class TestResolving:
    def test_a_name_that_is_not_known(self, dial: Dialing, names: Names) -> None:
        dial.connect("ws://nobody.test/")
        error = dial.error()
        assert (error.cause, error.status) == ("resolve", 0)
        assert error.text == "resolving nobody.test: Name or service not known"

    def test_the_proxy_s_name(self, dial: Dialing, names: Names) -> None:
        dial.connect("ws://far.test/", proxy="http://nobody.test:3128")
        error = dial.error()
        assert (error.cause, error.text[:31]) == ("resolve", "resolving the proxy nobody.test")

    def test_a_name_server_that_is_silent_does_not_hold_up_the_loop(self, dial: Dialing, names: Names) -> None:
        names.silent.add("silent.test")
        dial.connect("ws://silent.test/", timeout_seconds=SOON)
        names.wait_asked(1)
        with Server() as server:
            before = time.monotonic()
            dial.connect(server.url)
            server.accept_websocket()
            dial.established()
            assert time.monotonic() - before < PATIENCE / 10
        error = dial.error()
        assert (error.cause, error.text) == ("timeout", f"resolving silent.test took longer than {SOON:g} s")


class TestConnecting:
    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
    def test_refused(self, dial: Dialing, host: str) -> None:
        with refusing_port(host.strip("[]")) as port:
            dial.connect(f"ws://{host}:{port}/")
            error = dial.error()
        assert (error.cause, error.text) == ("refused", f"connecting to {host}:{port}: Connection refused")

    def test_every_address_is_told(self, dial: Dialing, names: Names) -> None:
        names.table["two.test"] = ["::1", "127.0.0.1"]
        with refusing_port("127.0.0.1") as port, refusing_port("::1", port):
            dial.connect(f"ws://two.test:{port}/")
            error = dial.error()
        expected = f"connecting to [::1]:{port}: Connection refused; 127.0.0.1:{port}: Connection refused"
        assert (error.cause, error.text) == ("refused", expected)

    def test_by_the_proxy(self, dial: Dialing) -> None:
        with refusing_port() as port:
            dial.connect("ws://far.test/", proxy=f"http://127.0.0.1:{port}")
            error = dial.error()
        assert error.cause == "refused"
        assert error.text == f"connecting to the proxy 127.0.0.1:{port}: Connection refused"

    def test_unreachable(self, dial: Dialing) -> None:
        dial.connect("ws://127.0.0.1:80/", interface="192.0.2.7")
        error = dial.error()
        expected = "connecting to 127.0.0.1:80: Cannot assign requested address"
        assert (error.cause, error.text) == ("unreachable", expected)

    def test_silence(self, dial: Dialing) -> None:
        with silent_port() as port:
            before = time.monotonic()
            dial.connect(f"ws://127.0.0.1:{port}/", timeout_seconds=SOON)
            error = dial.error()
            took = time.monotonic() - before
        assert (error.cause, error.text) == ("timeout", f"connecting to 127.0.0.1:{port} took longer than {SOON:g} s")
        assert SOON * 0.9 < took < PATIENCE / 2

    def test_silence_of_several(self, dial: Dialing, names: Names) -> None:
        names.table["two.test"] = ["::1", "127.0.0.1"]
        seconds = 350 * MS  # the second one is tried after 250 ms
        with silent_port() as port, silent_port("::1", port):
            dial.connect(f"ws://two.test:{port}/", timeout_seconds=seconds)
            error = dial.error()
        expected = f"connecting to [::1]:{port}, 127.0.0.1:{port} took longer than {seconds:g} s"
        assert (error.cause, error.text) == ("timeout", expected)


class TestProxy:
    @staticmethod
    def ask(dial: Dialing, proxy: Server, **options: Any) -> Connection:
        dial.connect("ws://far.test/", proxy=f"http://127.0.0.1:{proxy.port}", **options)
        connection = proxy.accept()
        connection.receive_request()
        return connection

    @pytest.mark.parametrize(
        ("status", "body"),
        [("407 Proxy Authentication Required", "who are you?"), ("403 Forbidden", ""), ("502", "no way there")],
    )
    def test_it_refuses(self, dial: Dialing, status: str, body: str) -> None:
        with Server() as proxy:
            self.ask(dial, proxy).send(answer(status, f"Content-Length: {len(body)}", body=body))
            error = dial.error()
        assert (error.cause, error.status, error.body) == ("proxy", int(status[:3]), body.encode())
        assert error.text == f"the proxy answered {status}"

    def test_it_switches_protocols_instead(self, dial: Dialing) -> None:
        with Server() as proxy:
            self.ask(dial, proxy).send(answer("101 Switching Protocols", "Upgrade: websocket"))
            error = dial.error()
        assert (error.cause, error.status) == ("proxy", 101)

    def test_it_is_none(self, dial: Dialing) -> None:
        with Server() as proxy:
            self.ask(dial, proxy).send(b"220 mail.test ESMTP\r\n")
            error = dial.error()
        assert (error.cause, error.text) == ("proxy", "the proxy: the answer is not HTTP")

    @pytest.mark.parametrize(
        ("said", "when"), [(b"", "before it answered"), (b"HTTP/1.1 200 OK\r\n", "in the middle of its answer")]
    )
    def test_it_ends_the_connection(self, dial: Dialing, said: bytes, when: str) -> None:
        with Server() as proxy:
            connection = self.ask(dial, proxy)
            connection.send(said)
            connection.shut_down_writing()
            error = dial.error()
        assert (error.cause, error.text) == ("proxy", f"the proxy ended the connection {when}")

    def test_it_resets_the_connection(self, dial: Dialing) -> None:
        with Server() as proxy:
            self.ask(dial, proxy).reset()
            error = dial.error()
        assert (error.cause, error.text) == ("proxy", "waiting for the proxy: ECONNRESET")

    def test_it_is_silent(self, dial: Dialing) -> None:
        with Server() as proxy:
            self.ask(dial, proxy, timeout_seconds=SOON)
            error = dial.error()
        assert (error.cause, error.text) == ("timeout", f"waiting for the proxy took longer than {SOON:g} s")

    def test_the_server_behind_it_refuses(self, dial: Dialing) -> None:
        with Server() as proxy:
            connection = self.ask(dial, proxy)
            connection.send(answer("200 OK"))
            connection.receive_request()
            connection.send(answer("404 Not Found", "Content-Length: 0"))
            error = dial.error()
        assert (error.cause, error.status) == ("status", 404)

    def test_a_server_that_speaks_before_it_is_asked(self, dial: Dialing) -> None:
        """Whatever follows a proxy's 200 in one read was said before our key was sent, so it cannot know the key."""
        with Server() as proxy:
            connection = self.ask(dial, proxy)
            forged = switching(Asked(b"", "GET", "/", "HTTP/1.1", [("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]))
            connection.send(answer("200 OK"), forged, frame(TEXT, "forged", mask=None))
            error = dial.error()
        assert error.cause == "accept"


class TestStatus:
    @pytest.mark.parametrize(
        ("status", "headers", "body", "start"),
        [
            ("403 Forbidden", ["Content-Length: 9"], b"not you\r\n", b"not you\r\n"),
            ("200 OK", ["Transfer-Encoding: chunked"], b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
            ("500 Oops", ["Content-Length: 5000"], b"x" * 5000, b"x" * 1024),
            ("401 Unauthorized", ["Content-Length: 0"], b"", b""),
            ("304 Not Modified", [], b"", b""),
        ],
    )
    def test_with_the_start_of_its_body(
        self, dial: Dialing, status: str, headers: list[str], body: bytes, start: bytes
    ) -> None:
        error = refused_with(dial, answer(status, *headers, body=body))
        assert (error.cause, error.status, error.body) == ("status", int(status[:3]), start)
        assert error.text.startswith(f"the server answered {status}")

    def test_a_body_in_many_pieces(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept()
            connection.receive_request()
            dial.read_bytewise(connection, answer("403 Forbidden", "Content-Length: 7", body="not you"))
            error = dial.error()
        assert (error.status, error.body) == (403, b"not you")

    def test_a_body_that_lasts_until_the_connection_ends(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept()
            connection.receive_request()
            connection.send(answer("403 Forbidden", body="not you"))
            connection.shut_down_writing()
            error = dial.error()
        assert (error.status, error.body) == (403, b"not you")

    @pytest.mark.parametrize("end", ["deadline", "reset"])
    def test_a_body_that_does_not_end(self, dial: Dialing, end: str) -> None:
        """What is known is told: the status, and what came of the body."""
        with Server() as server:
            wsi = dial.connect(server.url, timeout_seconds=SOON if end == "deadline" else PATIENCE)
            connection = server.accept()
            connection.receive_request()
            connection.send(answer("403 Forbidden", "Content-Length: 100", body="not y"))
            if end == "reset":
                wait_until(lambda: dial.call(lambda: wsi.response))  # else the reset could overtake it
                connection.reset()
            error = dial.error()
        assert (error.cause, error.status) == ("status", 403)
        assert error.body == b"not y"

    @pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
    def test_a_redirect_is_told_and_not_followed(self, dial: Dialing, status: str) -> None:
        """4.1: "clients are not required to follow them"."""
        error = refused_with(dial, answer(status, "Location: ws://elsewhere.test/", "Content-Length: 0"))
        assert (error.cause, error.status) == ("status", int(status[:3]))
        assert "ws://elsewhere.test/" in error.text

    def test_another_version(self, dial: Dialing) -> None:
        error = refused_with(dial, answer("426 Upgrade Required", "Sec-WebSocket-Version: 14", "Content-Length: 0"))
        assert (error.cause, error.status) == ("status", 426)
        assert "14" in error.text

    def test_the_answer_can_be_looked_at(self, dial: Dialing) -> None:
        seen: list[Any] = []
        dial.protocol.does["error"] = lambda wsi, error: seen.append(wsi.response.headers.get("X-Why"))
        refused_with(dial, answer("403 Forbidden", "X-Why: because", "Content-Length: 0"))
        assert seen == ["because"]


class TestAnswer:
    """RFC 6455 4.1: each of these "MUST _Fail the WebSocket Connection_"."""

    @pytest.mark.parametrize(
        ("cause", "reply"),
        [
            ("reply", lambda asked: switching(asked, without=["Upgrade"])),
            ("reply", lambda asked: switching(asked, upgrade="h2c")),
            ("reply", lambda asked: switching(asked, without=["Connection"])),
            ("reply", lambda asked: switching(asked, connection="keep-alive")),
            ("reply", lambda asked: switching(asked).replace(b"HTTP/1.1", b"HTTP/1.0")),
            ("accept", lambda asked: switching(asked, without=["Sec-WebSocket-Accept"])),
            ("accept", lambda asked: switching(asked, accept=asked.header("Sec-WebSocket-Key"))),
            ("accept", lambda asked: switching(asked, f"Sec-WebSocket-Accept: {asked.header('Sec-WebSocket-Key')}")),
            ("subprotocol", lambda asked: switching(asked, "Sec-WebSocket-Protocol: other")),
            ("subprotocol", lambda asked: switching(asked, "Sec-WebSocket-Protocol: OUT")),
            ("subprotocol", lambda asked: switching(asked, *["Sec-WebSocket-Protocol: out"] * 2)),
            ("extension", lambda asked: switching(asked, "Sec-WebSocket-Extensions: x-webkit-deflate-frame")),
            ("extension", lambda asked: switching(asked, "Sec-WebSocket-Extensions: permessage-deflate; nonsense")),
            ("extension", lambda asked: switching(asked, "Sec-WebSocket-Extensions: permessage-deflate; ;")),
        ],
    )
    def test_a_101_that_is_not_right(self, dial: Dialing, cause: str, reply: Callable[[Asked], bytes]) -> None:
        error = refused_with(dial, reply)
        assert (error.cause, error.status) == (cause, 101), error.text

    def test_an_extension_where_none_was_offered(self, dial: Dialing) -> None:
        error = refused_with(
            dial,
            lambda asked: switching(asked, "Sec-WebSocket-Extensions: permessage-deflate"),
            compression=Compression(enabled=False),
        )
        assert error.cause == "extension"

    def test_a_subprotocol_where_none_was_offered(self, dial: Dialing) -> None:
        error = refused_with(dial, lambda asked: switching(asked, "Sec-WebSocket-Protocol: out"), subprotocols=())
        assert error.cause == "subprotocol"

    @pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n", b"\0\0\0", b"HTTP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 1\n"])
    def test_what_is_no_answer(self, dial: Dialing, said: bytes) -> None:
        """It is refused at once: who does not speak HTTP may be waiting for us."""
        error = refused_with(dial, said)
        assert (error.cause, error.status) == ("reply", 0)

    def test_a_head_without_end(self) -> None:
        with dialing(limits=Limits(max_head_bytes=4096)) as dial:
            error = refused_with(dial, b"HTTP/1.1 101 x\r\nX: " + b"x" * 4096)
        assert error.cause == "reply"
        assert "4096" in error.text

    @pytest.mark.parametrize(
        ("said", "when"), [(b"", "before it answered"), (b"HTTP/1.1 101 S", "in the middle of its answer")]
    )
    def test_the_server_ends_the_connection(self, dial: Dialing, said: bytes, when: str) -> None:
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept()
            connection.receive_request()
            connection.send(said)
            connection.shut_down_writing()
            error = dial.error()
        assert (error.cause, error.text) == ("reset", f"the server ended the connection {when}")

    def test_the_server_resets_the_connection(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept()
            connection.receive_request()
            connection.reset()
            error = dial.error()
        assert (error.cause, error.text) == ("reset", "waiting for the server's answer: ECONNRESET")

    @pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 101 Switching Protocols\r\n"])
    def test_the_server_takes_too_long(self, dial: Dialing, drip: bytes) -> None:
        """However much of an answer has come: the deadline is one for all of it."""
        with Server() as server:
            dial.connect(server.url, timeout_seconds=SOON)
            connection = server.accept()
            connection.receive_request()
            connection.send(drip)
            error = dial.error()
        expected = f"waiting for the server's answer took longer than {SOON:g} s"
        assert (error.cause, error.text) == ("timeout", expected)


class TestHooks:
    def test_the_filter_refuses(self, dial: Dialing) -> None:
        dial.protocol.does["filter"] = lambda wsi, response: CLOSE
        error = refused_with(dial, switching)
        assert (error.cause, error.status) == ("filter", 101)
        assert error.text == "on_client_filter_pre_establish refused"

    @pytest.mark.parametrize("answered", [True, "yes", RuntimeError("a bug")])
    @pytest.mark.parametrize("hook", ["confirm", "append", "filter"])
    def test_a_hook_that_raises_or_answers_nonsense(self, dial: Dialing, hook: str, answered: Any) -> None:
        def does(wsi: Any, argument: Any) -> Any:
            if isinstance(answered, Exception):
                raise answered
            return answered

        dial.protocol.does[hook] = does
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept()
            if hook == "filter":
                connection.switch()
            error = dial.error()
            assert connection.receive_end() == b""
        assert error.cause == "plugin"
        assert error.text.startswith("on_client_")
        assert dial.context.counters.plugin_errors == 1

    def test_the_header_hook_gives_up(self, dial: Dialing) -> None:
        dial.protocol.does["append"] = lambda wsi, headers: CLOSE
        with Server() as server:
            dial.connect(server.url)
            error = dial.error()
            assert server.accept().receive_end() == b""
        assert (error.cause, error.text) == ("plugin", "on_client_append_handshake_header refused")

    def test_the_header_hook_adds_one_that_is_not_its_own(self, dial: Dialing) -> None:
        dial.protocol.does["append"] = lambda wsi, headers: headers.add("Sec-WebSocket-Key", "x")
        with Server() as server:
            dial.connect(server.url)
            error = dial.error()
            assert server.accept().receive_end() == b""
        assert error.cause == "plugin"
        assert "Sec-WebSocket-Key" in error.text

    def test_a_session_that_cannot_be_made(self) -> None:
        def broken() -> None:
            raise RuntimeError("a bug")

        class WithSession(Outgoing):
            Session = staticmethod(broken)

        with dialing(protocol=WithSession()) as dial, Server() as server:
            dial.connect(server.url)
            error = dial.error()
        assert (error.cause, error.text) == ("plugin", "Session raised; the log says more")

    def test_the_error_hook_itself_raises(self, dial: Dialing) -> None:
        def does(wsi: Any, error: ConnectError) -> None:
            raise RuntimeError("a bug")

        dial.protocol.does["error"] = does
        with refusing_port() as port:
            dial.connect(f"ws://127.0.0.1:{port}/")
            dial.error()
        assert dial.call(lambda: dial.context.counters.plugin_errors) == 1

    def test_on_established_raises(self, dial: Dialing) -> None:
        """It is established then: the server gets a Close, and `on_closed` follows."""

        def does(wsi: Any) -> None:
            raise RuntimeError("a bug")

        dial.protocol.does["established"] = does
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept_websocket()
            assert connection.receive_close().close_code == 1011
            dial.established()


class TestLimit:
    def test_as_many_connections_as_there_may_be(self) -> None:
        with dialing(limits=Limits(max_connections=1)) as dial, Server() as server:
            dial.connect(server.url)
            connection = server.accept_websocket()
            dial.established()
            dial.connect(server.url)
            error = dial.error()
            assert (error.cause, error.text) == ("limit", "connection limit reached (1)")
            connection.finish()
            dial.closed()
            dial.connect(server.url)
            server.accept_websocket()
            dial.established()

    def test_no_descriptor_to_be_had(self, dial: Dialing, monkeypatch: pytest.MonkeyPatch) -> None:
        def exhausted(*arguments: object) -> socket.socket:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", exhausted)
            dial.connect("ws://127.0.0.1:1/")
            error = dial.error()
        assert (error.cause, error.text) == ("limit", "connecting to 127.0.0.1:1: Too many open files")
