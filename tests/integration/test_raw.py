"""wsd/raw.py: connections without HTTP, those that a listener takes in and those that we open to a tcp:// URL."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, connect
from tests.support.context import Running, running
from tests.support.daemon import Site
from tests.support.raws import Bytes, echo
from tests.support.server import Server, answer, refusing_port
from tests.support.timing import MS, PATIENCE, wait_until
from wsd import CLOSE, Backoff, Protocol, Reason, callback_protocol
from wsd.config import Limits
from wsd.errors import PluginError

RAW = {"accept": "raw"}


class Gate(Bytes):
    """Protocol 0, which lets nobody in."""

    name = "gate"

    def on_filter_network_connection(self, peer: Any) -> int:
        return CLOSE


class TestListener:
    def test_what_comes_is_not_looked_at(self) -> None:
        protocol = Bytes(raw_receive=echo)
        with running([protocol], listen=RAW) as served, Client(served.port) as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n\x00\xff")
            assert client.receive_exactly(20) == b"GET / HTTP/1.1\r\n\r\n\x00\xff"
            wsi = protocol.wait_for_wsi()
            assert (wsi.is_raw, wsi.is_descriptor, wsi.is_client) == (True, False, False)
            assert wsi.listener is served.context.listeners[0]
            assert wsi.listener.url == f"tcp://127.0.0.1:{served.port}"
            assert wsi.peer == client.socket.getsockname()
            assert wsi.tag == f"bytes#{wsi.number} {wsi.peer}"
            assert served.call(lambda: wsi.listener.count) == 1
            client.disconnect()
            protocol.wait_for_end()
            wait_until(lambda: served.call(lambda: wsi.listener.count) == 0)
        assert protocol.calls == ["raw_adopt", "raw_receive", "raw_close"]

    def test_nothing_is_awaited_from_the_peer(self) -> None:
        """No handshake, so no deadline for one: the server may speak first, or never."""
        protocol = Bytes(raw_adopt=lambda wsi: wsi.send(b"220 ready\r\n"))
        with running([protocol], listen=RAW) as served, Client(served.port) as client:
            assert client.receive_until(b"\r\n") == b"220 ready\r\n"

    def test_on_a_unix_socket(self, tmp_path: Path) -> None:
        path = str(tmp_path / "s")
        protocol = Bytes(raw_receive=echo)
        with running([protocol], unix=path, listen=RAW) as served, Client(path) as client:
            client.send(b"abc")
            assert client.receive_exactly(3) == b"abc"
            assert served.context.listeners[0].url == f"unix:{path}"

    def test_the_default_protocol_gets_it(self) -> None:
        class Other(Bytes):
            name = "other"

        first, other = Bytes(), Other()
        with running([first, other], listen={**RAW, "default_protocol": "other"}) as served, Client(served.port):
            other.wait_for_wsi()
        assert first.calls == []

    def test_protocol_0_may_refuse_it(self) -> None:
        protocol = Bytes()
        with running([Gate(), protocol], listen={**RAW, "default_protocol": "bytes"}) as served:
            with Client(served.port) as client:
                assert client.receive_end() == b""
            assert served.call(lambda: served.context.counters.refused) == 1
        assert protocol.calls == []

    def test_a_session_that_raises(self) -> None:
        class Faulty(Bytes):
            def Session(self) -> None:  # type: ignore[override]
                raise ZeroDivisionError

        protocol = Faulty()
        with running([protocol], listen=RAW) as served, Client(served.port) as client:
            assert client.receive_end() == b""
        assert protocol.calls == []

    def test_a_protocol_that_could_do_nothing_with_it(self) -> None:
        class Deaf(Protocol):
            name = "deaf"

        with pytest.raises(PluginError, match='accept = "raw" takes a protocol with on_raw_receive; deaf has none'):
            with running([Deaf()], listen=RAW):
                pass

    def test_without_any_protocol(self) -> None:
        with pytest.raises(PluginError, match="none is served here"), running([], listen=RAW):
            pass

    def test_the_reasons_of_the_callback_style(self) -> None:
        seen: list[Any] = []

        @callback_protocol("bytes")
        def callback(wsi: Any, reason: Any, user: Any, data: Any) -> Any:
            if wsi is not None:
                seen.append(reason)
            if reason == Reason.RAW_RX:
                wsi.callback_on_writable()
            if reason == Reason.RAW_WRITEABLE:
                wsi.write(b"answer")
                return CLOSE
            return None

        with running([callback], listen=RAW) as served, Client(served.port) as client:
            client.send(b"x")
            assert client.receive_end() == b"answer"
            client.disconnect()
            wait_until(lambda: len(seen) == 4)
        assert seen == [Reason.RAW_ADOPT, Reason.RAW_RX, Reason.RAW_WRITEABLE, Reason.RAW_CLOSE]

    def test_a_stop_ends_it_in_order(self) -> None:
        protocol = Bytes()
        with running([protocol], listen=RAW) as served, Client(served.port) as client:
            wsi = protocol.wait_for_wsi()
            served.call(lambda: (wsi.send(b"last words"), served.context.stop()))
            assert client.receive_end() == b"last words"

    def test_a_megabyte_each_way_at_once(self) -> None:
        data = os.urandom(1 << 20)
        protocol = Bytes(raw_receive=echo)
        limits = Limits(max_queue_bytes=1 << 22)
        with running([protocol], listen=RAW, limits=limits) as served, Client(served.port) as client:
            client.socket.setblocking(False)
            sent, got = 0, b""
            while len(got) < len(data):
                try:
                    sent += client.socket.send(data[sent : sent + 65536]) if sent < len(data) else 0
                except BlockingIOError:
                    pass
                try:
                    got += client.socket.recv(65536)
                except BlockingIOError:
                    pass
            assert got == data

    def test_a_peer_that_reads_nothing_is_not_read_from(self) -> None:
        """What the plugin says in return waits, so no more is taken in: memory has a bound."""
        protocol = Bytes(raw_receive=echo)
        with running([protocol], listen=RAW) as served, Client(served.port, receive_buffer=4096) as client:
            client.socket.setblocking(False)
            wsi = protocol.wait_for_wsi()
            sent = 0
            while not served.call(lambda: wsi._hold):
                try:
                    sent += client.socket.send(bytes(65536))
                except BlockingIOError:
                    pass
            assert served.call(lambda: wsi.unsent + wsi._queue_bytes) < 4 << 16
            client.socket.settimeout(PATIENCE)
            assert client.receive_exactly(sent) == bytes(sent)


class TestDaemon:
    PLUGIN = """
from wsd import Protocol

class Raw(Protocol):
    name = "raw"

    def on_raw_receive(self, wsi, data):
        wsi.send(data[::-1])

protocols = [Raw]
"""

    DEAF = 'port = 0\nprotocols = ["echo"]\naccept = "raw"\n'
    RAW = 'port = 0\nprotocols = ["raw"]\naccept = "raw"\n'
    SAID = 'listen[0].accept: accept = "raw" takes a protocol with on_raw_receive; echo has none'

    def test_check_and_start_refuse_a_protocol_that_could_do_nothing_with_it(self, tmp_path: Path) -> None:
        with Site(tmp_path) as site:
            site.configure(listen=self.DEAF)
            for command in ("check", "run"):
                done = site.wsd(command)
                assert (done.returncode, self.SAID in done.stderr) == (78, True), done.stderr

    def test_start_and_reload(self, tmp_path: Path) -> None:
        with Site(tmp_path) as site:
            site.plugin("raw", self.PLUGIN)
            site.configure(listen=self.RAW)
            assert site.wsd("check").returncode == 0
            site.run()
            assert site.said("listening on tcp://127.0.0.1:")
            port = site.port
            self.assert_raw(port)
            site.configure(listen=self.DEAF)
            assert self.SAID in site.wsd("reload").stderr
            self.assert_raw(port)
            # The same socket speaks HTTP from a reload on, to those who come then.
            site.configure(listen="port = 0")
            assert site.wsd("reload").returncode == 0
            with connect(port, "echo") as client:
                client.send_text("x")
                assert client.receive_message() == "x"
            site.configure(listen=self.RAW)
            assert site.wsd("reload").returncode == 0
            self.assert_raw(port)

    @staticmethod
    def assert_raw(port: int) -> None:
        with Client(port) as client:
            client.send(b"abc")
            assert client.receive_exactly(3) == b"cba"


class TestOpened:
    def connect(self, served: Running, url: str, **options: Any) -> Any:
        options.setdefault("protocol", "bytes")
        options.setdefault("timeout_seconds", PATIENCE)
        return served.call(lambda: served.context.client_connect(url, **options))

    def test_from_the_connect_to_the_end(self) -> None:
        protocol = Bytes()
        with running([protocol]) as served, Server() as server:
            wsi = self.connect(served, f"tcp://127.0.0.1:{server.port}", session={"mine": 1})
            with server.accept() as connection:
                assert protocol.wait_for_wsi() is wsi
                assert (wsi.is_raw, wsi.is_client, wsi.is_descriptor, wsi.is_established) == (True, True, False, True)
                assert wsi.session == {"mine": 1}
                assert wsi.peer == ("127.0.0.1", server.port)
                served.call(lambda: wsi.send(b"question"))
                assert connection.receive_exactly(8) == b"question"
                connection.send(b"answer")
                assert protocol.wait_for_bytes(6) == b"answer"
            protocol.wait_for_end()
            assert wsi.is_closing
        assert protocol.calls == ["raw_adopt", "raw_receive", "raw_close"]

    def test_by_name(self) -> None:
        protocol = Bytes()
        with running([protocol]) as served, Server() as server:
            self.connect(served, f"TCP://localhost:{server.port}/")
            with server.accept():
                protocol.wait_for_wsi()

    def test_our_close_is_an_orderly_end(self) -> None:
        def adopted(wsi: Any) -> None:
            wsi.send(b"all")
            wsi.close()

        protocol = Bytes(raw_adopt=adopted)
        with running([protocol]) as served, Server() as server:
            self.connect(served, f"tcp://127.0.0.1:{server.port}")
            with server.accept() as connection:
                assert connection.receive_end() == b"all"
            protocol.wait_for_end()

    def test_the_reason_of_the_callback_style(self) -> None:
        seen: list[Any] = []

        @callback_protocol("bytes")
        def callback(wsi: Any, reason: Any, user: Any, data: Any) -> Any:
            if wsi is not None:
                seen.append(reason)
            return CLOSE if reason == Reason.RAW_CONNECTED else None

        with running([callback]) as served, Server() as server:
            self.connect(served, f"tcp://127.0.0.1:{server.port}")
            with server.accept() as connection:
                assert connection.receive_end() == b""
            wait_until(lambda: len(seen) == 2)
        assert seen == [Reason.RAW_CONNECTED, Reason.RAW_CLOSE]

    def test_nobody_listens(self) -> None:
        protocol = Bytes()
        with running([protocol]) as served, refusing_port() as port:
            wsi = self.connect(served, f"tcp://127.0.0.1:{port}")
            assert protocol.errors.get(timeout=PATIENCE).cause == "refused"
            assert wsi.send(b"x") == CLOSE
        assert protocol.calls == ["client_connection_error"]

    def test_closed_before_it_is_connected(self) -> None:
        protocol = Bytes()
        with running([protocol]) as served, Server() as server:

            def connect() -> None:
                served.context.client_connect(f"tcp://127.0.0.1:{server.port}", protocol=protocol).close()

            served.call(connect)
            assert protocol.errors.get(timeout=PATIENCE).cause == "closed"

    def test_through_a_proxy_with_what_the_server_says_at_once(self) -> None:
        """What comes in one piece with the proxy's answer is the server's, and not lost; nor when the plugin pauses."""
        protocol = Bytes(raw_adopt=lambda wsi: wsi.rx_flow_control(False))
        with running([protocol]) as served, Server() as proxy:
            wsi = self.connect(served, "tcp://far.test:25", proxy=f"http://127.0.0.1:{proxy.port}")
            with proxy.accept() as connection:
                assert connection.receive_request().target == "far.test:25"
                connection.send(answer("200 OK"), b"220 ready")
                protocol.wait_for_wsi()
                assert protocol.received.empty()
                served.call(lambda: wsi.rx_flow_control(True))
                assert protocol.wait_for_bytes(9) == b"220 ready"
                connection.send(b" and more")
                assert protocol.wait_for_bytes(9) == b" and more"
            protocol.wait_for_end()

    def test_closed_while_what_came_behind_the_proxys_answer_is_not_wanted(self) -> None:
        protocol = Bytes(raw_adopt=lambda wsi: wsi.rx_flow_control(False))
        with running([protocol]) as served, Server() as proxy:
            wsi = self.connect(served, "tcp://far.test:25", proxy=f"http://127.0.0.1:{proxy.port}")
            with proxy.accept() as connection:
                connection.receive_request()
                connection.send(answer("200 OK"), b"220 ready")
                protocol.wait_for_wsi()
                served.call(wsi.close)
                assert connection.receive_end() == b""
            protocol.wait_for_end()
            assert wsi.why == "closed by us"
        assert "raw_receive" not in protocol.calls

    def test_through_a_proxy_to_who_waits(self) -> None:
        protocol = Bytes()
        with running([protocol]) as served, Server() as proxy:
            self.connect(served, "tcp://far.test:25", proxy=f"http://127.0.0.1:{proxy.port}")
            with proxy.accept() as connection:
                connection.receive_request()
                connection.send(answer("200 OK"), b"at once")
                assert protocol.wait_for_bytes(7) == b"at once"
            protocol.wait_for_end()

    def test_a_proxy_that_refuses(self) -> None:
        protocol = Bytes()
        with running([protocol]) as served, Server() as proxy:
            self.connect(served, "tcp://far.test:25", proxy=f"http://127.0.0.1:{proxy.port}")
            with proxy.accept() as connection:
                connection.receive_request()
                connection.send(answer("403 Forbidden", "Content-Length: 0"))
                error = protocol.errors.get(timeout=PATIENCE)
        assert (error.cause, error.status) == ("proxy", 403)

    def test_the_interface_to_come_from(self) -> None:
        protocol = Bytes()
        with running([protocol]) as served, Server() as server:
            self.connect(served, f"tcp://127.0.0.1:{server.port}", interface="127.0.0.2")
            with server.accept() as connection:
                assert connection.socket.getpeername()[0] == "127.0.0.2"

    def test_connecting_again(self) -> None:
        """After an end that was not ours, with a new wsi; after our own, no more."""
        protocol = Bytes()
        with running([protocol]) as served, Server() as server:
            backoff = Backoff(table_seconds=(10 * MS,))
            first = self.connect(served, f"tcp://127.0.0.1:{server.port}", reconnect=backoff)
            with server.accept():
                assert protocol.wait_for_wsi() is first
            with server.accept() as connection:
                second = protocol.wait_for_wsi()
                assert second is not first
                assert second.reconnect is first.reconnect
                assert second.reconnect.failures == 0
                served.call(second.close)
                assert connection.receive_end() == b""
            protocol.wait_for_end()
            assert protocol.wait_for_end() is second
            assert served.call(lambda: second.reconnect._timer) is None

    def test_it_shares_the_order_of_all_that_connect_to_one_address(self) -> None:
        """The lane is left when it is connected, so that the next one can go."""
        protocol = Bytes()
        with running([protocol]) as served, Server() as server:
            for _ in range(2):
                self.connect(served, f"tcp://127.0.0.1:{server.port}")
            with server.accept(), server.accept():
                assert protocol.wait_for_wsi() is not protocol.wait_for_wsi()

    def test_a_reset(self) -> None:
        protocol = Bytes()
        with running([protocol]) as served, Server() as server:
            wsi = self.connect(served, f"tcp://127.0.0.1:{server.port}")
            connection = server.accept()
            protocol.wait_for_wsi()
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            connection.disconnect()
            protocol.wait_for_end()
            assert wsi.why == "ECONNRESET"
