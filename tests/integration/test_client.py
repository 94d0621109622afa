"""Connections that we open, against a server that shares no code with us: from the name to the last frame."""

from __future__ import annotations

import base64
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from tests.support.client import PING, PONG, TEXT, frame
from tests.support.names import Names
from tests.support.outgoing import Dialing, Outgoing, check_told, dialing
from tests.support.server import Server, answer, refusing_port, silent_port, switching
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.config import Compression, Keepalive
from wsd.context import Context
from wsd.protocol import Protocol
from wsd.reasons import CLOSE
from wsd.wire.extensions import DEFLATE

OFF = Compression(enabled=False)
KEYS_COLLECTED = 1000


class Echo(Protocol):
    name = "echo"

    def on_message(self, wsi: Any, message: Any) -> None:
        wsi.send(message)


class TestAtOnce:
    def test_the_wsi_is_there_before_the_connection(self, dial: Dialing) -> None:
        with Server() as server:
            seen: list[Any] = []

            def look(wsi: Any) -> None:
                seen.extend([wsi.is_client, wsi.is_established, wsi.is_closing, wsi.fileno(), wsi.listener, wsi.local])
                seen.extend([str(wsi.peer), wsi.protocol, wsi.send("too early"), [*dial.protocol.calls]])

            def connect() -> Any:
                wsi = dial.context.client_connect(server.url, protocol=dial.protocol)
                look(wsi)
                return wsi

            dial.wsis.append(dial.call(connect))
            where = f"127.0.0.1:{server.port}"
            assert seen == [True, False, False, -1, None, ("", 0), where, dial.protocol, CLOSE, []]
            server.accept_websocket()
            dial.established()

    def test_writing_before_it_is_established_is_a_mistake_that_is_told(self, dial: Dialing) -> None:
        with Server() as server:
            wsi = dial.connect(server.url)
            with pytest.raises(RuntimeError, match="before on_established"):
                dial.call(lambda: wsi.write("too early"))
            dial.call(wsi.callback_on_writable)  # no harm
            server.accept_websocket()
            assert dial.established() is wsi

    def test_it_may_be_asked_for_inside_a_hook(self, dial: Dialing) -> None:
        """Nothing of the new connection happens before the hook has returned."""
        with Server() as server:
            inside: list[str] = []

            def connect_again(wsi: Any) -> None:
                del dial.protocol.does["established"]
                dial.wsis.append(dial.context.client_connect(server.url, protocol="out"))
                inside.append(dial.protocol.calls[-1])

            dial.protocol.does["established"] = connect_again
            first = dial.connect(server.url)
            server.accept_websocket()
            assert dial.established() is first
            server.accept_websocket()
            assert dial.established() is not first
            assert inside == ["established"]

    def test_on_protocol_init_is_a_place_for_it(self) -> None:
        class Eager(Outgoing):
            def on_protocol_init(self, context: Context, options: Any) -> None:
                context.client_connect(server.url, protocol=self)

        with Server() as server, dialing(protocol=Eager()) as dial:
            server.accept_websocket().finish()
            dial.established()


class TestRequest:
    def test_as_it_is_by_default(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(f"{server.url}chat?room=1")
            asked = server.accept().switch("Sec-WebSocket-Protocol: out")
            key = asked.header("Sec-WebSocket-Key") or ""
            assert (asked.method, asked.target, asked.version) == ("GET", "/chat?room=1", "HTTP/1.1")
            assert asked.header("Host") == f"127.0.0.1:{server.port}"
            assert asked.header("Upgrade") == "websocket"
            assert asked.header("Connection") == "Upgrade"
            assert asked.header("Sec-WebSocket-Version") == "13"
            assert asked.header("Sec-WebSocket-Protocol") == "out"
            assert (asked.header("Sec-WebSocket-Extensions") or "").startswith("permessage-deflate")
            assert asked.header("Origin") is None
            assert len(base64.b64decode(key, validate=True)) == 16
            wsi = dial.established()
            assert (wsi.subprotocol, wsi.response.status, wsi.request.raw) == ("out", 101, asked.raw)
            assert wsi.request.path == "/chat"

    def test_all_that_can_be_said(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(
                server.url,
                subprotocols=["b", "a"],
                headers=[("Cookie", "x=1"), ("Cookie", "y=2")],
                origin="https://example.com",
                compression=OFF,
            )
            asked = server.accept().switch("Sec-WebSocket-Protocol: a")
            assert asked.header("Sec-WebSocket-Protocol") == "b, a"
            assert asked.all("Cookie") == ["x=1", "y=2"]
            assert asked.header("Origin") == "https://example.com"
            assert asked.header("Sec-WebSocket-Extensions") is None
            wsi = dial.established()
            assert (wsi.subprotocol, wsi.extensions, wsi.protocol) == ("a", (), dial.protocol)

    def test_no_subprotocol_offered(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url, subprotocols=())
            assert server.accept().switch().header("Sec-WebSocket-Protocol") is None
            assert dial.established().subprotocol is None

    def test_a_server_may_choose_none(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url)
            server.accept_websocket()
            assert dial.established().subprotocol is None

    def test_each_has_a_key_of_its_own(self, dial: Dialing) -> None:
        with Server() as server:
            for _ in range(20):
                dial.connect(server.url)
            keys = {server.accept().switch().header("Sec-WebSocket-Key") for _ in range(20)}
            assert len(keys) == 20
            for _ in range(20):
                dial.established()

    def test_the_hooks_and_their_order(self, dial: Dialing) -> None:
        with Server() as server:
            dial.protocol.does = {
                "confirm": lambda wsi, name: None if name == DEFLATE else CLOSE,
                "append": lambda wsi, headers: headers.add("X-Late", headers.get("X-Early")),
                "filter": lambda wsi, response: None if response.headers.get("X-Answer") == "yes" else CLOSE,
            }
            dial.connect(server.url, headers={"X-Early": "1"})
            asked = server.accept().switch("X-Answer: yes")
            assert (asked.header("X-Early"), asked.header("X-Late")) == ("1", "1")
            dial.established()
            assert dial.protocol.calls == ["confirm", "append", "filter", "established"]

    def test_what_a_hook_adds_is_in_one_request_only(self, dial: Dialing) -> None:
        with Server() as server:
            dial.protocol.does["append"] = lambda wsi, headers: headers.add("X-Count", str(len(headers)))
            headers = [("X-Ours", "1")]
            for _ in range(2):
                dial.connect(server.url, headers=headers)
                assert server.accept().switch().all("X-Count") == ["1"]
                dial.established()

    def test_an_extension_that_the_hook_does_not_want_is_not_offered(self, dial: Dialing) -> None:
        with Server() as server:
            dial.protocol.does["confirm"] = lambda wsi, name: CLOSE
            dial.connect(server.url)
            assert server.accept().switch().header("Sec-WebSocket-Extensions") is None
            assert dial.established().extensions == ()


class TestSession:
    def test_it_is_made_at_once(self) -> None:
        class WithSession(Outgoing):
            Session = dict

        with dialing(protocol=WithSession()) as dial, Server() as server:
            first, second = dial.connect(server.url), dial.connect(server.url)
            assert (first.session, second.session) == ({}, {})
            assert first.session is not second.session
            for _ in range(2):
                server.accept_websocket()
                dial.established()

    def test_one_that_is_given_takes_its_place(self) -> None:
        class WithSession(Outgoing):
            Session = dict

        with dialing(protocol=WithSession()) as dial, Server() as server:
            ours: list[int] = []
            assert dial.connect(server.url, session=ours).session is ours
            server.accept_websocket()
            assert dial.established().session is ours


class TestProtocol:
    def test_by_its_name_and_the_first_one(self) -> None:
        with dialing(Echo()) as dial, Server() as server:
            for protocol, expected in (("echo", "echo"), (None, "out")):
                wsi = dial.call(partial(dial.context.client_connect, server.url, protocol=protocol))
                assert wsi.protocol.name == expected
                server.accept_websocket()
            dial.wsis.append(wsi)
            assert dial.established() is wsi


class TestAddresses:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_in_numbers(self, dial: Dialing, host: str) -> None:
        with Server(host) as server:
            dial.connect(server.url)
            connection = server.accept_websocket()
            wsi = dial.established()
            assert (wsi.peer.address, wsi.peer.port) == (host, server.port)
            assert wsi.local == connection.socket.getpeername()[:2]
            assert connection.asked.header("Host") == server.url.removeprefix("ws://").rstrip("/")

    def test_a_name(self, dial: Dialing, names: Names) -> None:
        names.table["server.test"] = ["127.0.0.1"]
        with Server() as server:
            wsi = dial.connect(f"ws://server.test:{server.port}/")
            connection = server.accept_websocket()
            assert connection.asked.header("Host") == f"server.test:{server.port}"
            assert dial.established() is wsi
            assert wsi.peer == ("127.0.0.1", server.port)

    @pytest.mark.parametrize("dead_port", [refusing_port, silent_port])
    @pytest.mark.parametrize("hosts", [("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
    def test_the_first_dead_and_the_second_alive(
        self, dial: Dialing, names: Names, dead_port: Any, hosts: tuple[str, str]
    ) -> None:
        names.table["two.test"] = list(hosts)
        with Server(hosts[1]) as server, dead_port(hosts[0], server.port):
            dial.connect(f"ws://two.test:{server.port}/")
            server.accept_websocket()
            assert dial.established().peer.address == hosts[1]

    def test_an_interface(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url, interface="127.0.0.9")
            connection = server.accept_websocket()
            assert connection.socket.getpeername()[0] == "127.0.0.9"
            assert dial.established().local.address == "127.0.0.9"


class TestAnswer:
    def test_byte_by_byte(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept()
            dial.read_bytewise(connection, switching(connection.receive_request()))
            dial.established()
            connection.send_text("hello")
            assert dial.message() == "hello"

    def test_frames_in_the_segment_of_the_101(self, dial: Dialing) -> None:
        with Server() as server:
            frames = b"".join(frame(TEXT, text, mask=None) for text in ("one", "two", "three"))
            dial.connect(server.url)
            server.accept_websocket(then=frames)
            dial.established()
            assert [dial.message() for _ in range(3)] == ["one", "two", "three"]
            assert dial.protocol.calls[-4:] == ["established", "message", "message", "message"]

    def test_cut_at_each_place_between_the_101_and_its_first_frames(self, dial: Dialing) -> None:
        first, second = frame(TEXT, "é", mask=None), frame(TEXT, "two", mask=None)
        with Server() as server:
            for cut in range(-3, len(first) + 4):
                dial.connect(server.url)
                connection = server.accept()
                reply = switching(connection.receive_request())
                at = len(reply) + cut
                connection.send((reply + first + second)[:at])
                if cut >= 0:
                    dial.established()  # so the rest is another segment, and not read with the first one
                connection.send((reply + first + second)[at:])
                if cut < 0:
                    dial.established()
                assert [dial.message(), dial.message()] == ["é", "two"]

    def test_a_close_in_the_segment_of_the_101(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept_websocket(then=bytes.fromhex("8802 03e9"))
            dial.established()
            assert connection.receive_close().close_code == 1001
            connection.shut_down_writing()
            assert dial.closed() == (1001, "")

    def test_interim_answers_are_passed_over(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept()
            asked = connection.receive_request()
            connection.send(answer("103 Early Hints", "Link: </x>"), answer("102 Processing"), switching(asked))
            dial.established()

    def test_names_and_tokens_in_any_case(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept()
            right = switching(connection.receive_request(), upgrade="WebSocket", connection="keep-alive, uPGRADE")
            connection.send(right.replace(b"Upgrade: ", b"uPGRADE: "))
            dial.established()


class TestMessages:
    def test_both_ways(self, dial: Dialing) -> None:
        with Server() as server:
            wsi = dial.connect(server.url, compression=OFF)
            connection = server.accept_websocket()
            dial.established()
            for message in ("text é", b"\0binary", "", "x" * 200, b"y" * 70_000):
                dial.call(partial(wsi.send, message))
                assert connection.receive_message() == message
                if isinstance(message, str):
                    connection.send_text(message)
                else:
                    connection.send_binary(message)
                assert dial.message() == message

    def test_every_frame_has_a_masking_key_of_its_own(self, dial: Dialing) -> None:
        """5.3: "The masking key needs to be unpredictable"."""
        with Server() as server:
            wsi = dial.connect(server.url, compression=OFF)
            connection = server.accept_websocket()
            dial.established()
            dial.call(lambda: [wsi.send(str(number)) for number in range(KEYS_COLLECTED)])
            for number in range(KEYS_COLLECTED):
                assert connection.receive_message() == str(number)
            keys = connection.keys
            # By the birthday of 2**32 keys, two of a thousand are the same once in eight thousand runs; three never.
            assert len(set(keys)) >= KEYS_COLLECTED - 2
            # Neither counted up nor the same but for some bytes: each byte takes most of its 256 values.
            for at in range(4):
                assert len({key[at] for key in keys}) > 200
            steps = {int.from_bytes(b, "big") - int.from_bytes(a, "big") for a, b in pairwise(keys)}
            assert len(steps) >= KEYS_COLLECTED - 3

    def test_control_frames_are_masked_too(self, dial: Dialing) -> None:
        with Server() as server:
            wsi = dial.connect(server.url)
            connection = server.accept_websocket()
            dial.established()
            connection.send(frame(PING, b"are you there", mask=None))
            assert connection.receive_frame()[:2] == (PONG, b"are you there")
            dial.call(lambda: wsi.ping(b"and you"))
            assert connection.receive_frame()[:2] == (PING, b"and you")
            assert len(set(connection.keys)) == 2

    def test_a_frame_with_a_mask_fails_the_connection(self, dial: Dialing) -> None:
        """5.1: "A client MUST close a connection if it detects a masked frame"."""
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept_websocket()
            dial.established()
            connection.send(frame(TEXT, "masked"))
            assert connection.receive_close().close_code == 1002

    def test_our_own_server_in_the_same_context(self) -> None:
        with dialing(Echo()) as dial:
            wsi = dial.connect(f"ws://127.0.0.1:{dial.served.port}/", subprotocols=["echo"])
            assert dial.established() is wsi
            assert wsi.extensions == ("permessage-deflate",)
            for message in ("hello " * 100, "hello " * 100):
                dial.call(partial(wsi.send, message))
                assert dial.message() == message

    def test_pings_of_our_own_keep_watch_over_it(self) -> None:
        """What becomes of a server that is silent is the same as for a peer that came to us."""
        keepalive = Keepalive(ping_seconds=0.1, hangup_seconds=0.1)
        with dialing(keepalive=keepalive) as dial, Server() as server:
            dial.connect(server.url)
            connection = server.accept_websocket()
            dial.established()
            assert connection.receive_frame().opcode == PING
            assert dial.closed() == (1006, "")


class TestEnd:
    def test_by_us(self, dial: Dialing) -> None:
        with Server() as server:
            wsi = dial.connect(server.url)
            connection = server.accept_websocket()
            dial.established()
            dial.call(lambda: wsi.close(4000, "enough"))
            got = connection.receive_close()
            assert (got.close_code, got.close_reason) == (4000, "enough")
            connection.send_close(4000)
            connection.shut_down_writing()
            assert dial.closed() == (4000, "")

    def test_by_the_server(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url)
            assert server.accept_websocket().finish(4001, "bye").close_code == 4001
            dial.established()
            assert dial.closed() == (4001, "bye")

    def test_the_deadline_of_the_connect_is_over_with_it(self) -> None:
        with dialing() as dial, Server() as server:
            dial.connect(server.url, timeout_seconds=100 * MS)
            connection = server.accept_websocket()
            wsi = dial.established()
            done: list[bool] = []
            dial.call(lambda: dial.context.call_later(200 * MS, lambda: done.append(wsi.is_established)))
            wait_until(lambda: done)
            assert done == [True]
            assert connection.finish().close_code == 1000

    def test_stopping_is_1001(self, dial: Dialing) -> None:
        with Server() as server:
            dial.connect(server.url)
            connection = server.accept_websocket()
            dial.established()
            dial.call(dial.context.stop)
            assert connection.receive_close().close_code == 1001


class TestProxy:
    def test_a_way_through_it(self, dial: Dialing) -> None:
        with Server() as proxy:
            wsi = dial.connect("ws://far.test/chat", proxy=f"http://127.0.0.1:{proxy.port}")
            connection = proxy.accept()
            asked = connection.receive_request()
            assert (asked.method, asked.target, asked.version) == ("CONNECT", "far.test:80", "HTTP/1.1")
            assert asked.header("Host") == "far.test:80"
            assert asked.header("Proxy-Authorization") is None
            dial.read_bytewise(connection, answer("200 Connection established", "Content-Length: 5"))
            asked = connection.switch(then=frame(TEXT, "through", mask=None))
            assert (asked.target, asked.header("Host")) == ("/chat", "far.test")
            assert dial.established() is wsi
            assert wsi.peer == ("127.0.0.1", proxy.port)
            assert dial.message() == "through"

    def test_it_is_told_who_we_are(self, dial: Dialing) -> None:
        with Server() as proxy:
            dial.connect("ws://far.test:8080/", proxy=f"http://me:p%40ss@127.0.0.1:{proxy.port}")
            connection = proxy.accept()
            asked = connection.receive_request()
            assert asked.target == "far.test:8080"
            assert asked.header("Proxy-Authorization") == "Basic " + base64.b64encode(b"me:p@ss").decode()
            connection.send(answer("204 No Content"))
            asked = connection.switch()
            assert asked.header("Proxy-Authorization") is None, "that is for the proxy alone"
            dial.established()

    def test_only_the_proxy_is_looked_up(self, dial: Dialing, names: Names) -> None:
        names.table["proxy.test"] = ["127.0.0.1"]
        with Server() as proxy:
            dial.connect("ws://far.test/", proxy=f"http://proxy.test:{proxy.port}/")
            connection = proxy.accept()
            connection.receive_request()
            connection.send(answer("200 OK"))
            connection.switch()
            dial.established()
            assert names.asked == ["proxy.test"]


def test_driven_by_an_embedder_without_a_thread() -> None:
    protocol = Outgoing()
    with Context([protocol]) as context, Server() as server:
        wsi = context.client_connect(server.url)
        server.socket.settimeout(0)
        connection = None
        while connection is None:
            context.service(1 * MS)
            try:
                connection = server.accept()
            except BlockingIOError:
                continue
        while wsi.request is None:
            context.service(1 * MS)
        connection.switch()
        while not wsi.is_established:
            context.service(PATIENCE)
        assert connection.socket.getpeername() == wsi.local
        assert wsi.peer == connection.socket.getsockname()
        assert context.wsi_count == 1
    check_told(protocol, [wsi])
