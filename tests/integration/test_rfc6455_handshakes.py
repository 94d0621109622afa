"""RFC 6455 section 4.2 (opening) and 7 (closing) over a real socket, and what `on_closed` is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import (
    BINARY,
    CLOSE,
    KEY,
    TEXT,
    Client,
    Frame,
    close_frame,
    connect,
    frame,
    upgrade_request,
)
from tests.support.context import Running, running
from tests.support.echoes import EchoMessages, EchoPieces, Noting
from tests.support.timing import MS, wait_until
from wsd.config import Timeouts


@pytest.fixture
def protocols() -> list[Noting]:
    return [EchoMessages(), EchoPieces()]


@pytest.fixture
def served(protocols: list[Noting]) -> Iterator[Running]:
    with running(protocols) as served:
        yield served


def is_echoing(client: Client) -> bool:
    client.send_text("hello")
    return client.receive_message() == "hello" and client.finish().close_code == 1000


class TestSection4_2:
    """The opening handshake."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"Connection": "keep-alive, Upgrade"},
            {"Connection": "keep-alive,upgrade"},
            {"Connection": "UPGRADE"},
            {"Connection": "a, b ,\tUpgrade , c"},
            {"Upgrade": "WebSocket"},
            {"Upgrade": "WEBSOCKET"},
            {"Upgrade": "h2c, websocket"},
            {"Sec-WebSocket-Extensions": "x-unknown; a=1; b, x-other"},
            {"Sec-WebSocket-Protocol": "unknown, messages"},
            {"Sec-WebSocket-Protocol": "messages,pieces"},
            {"Origin": "http://127.0.0.1"},
            {"Origin": "https://127.0.0.1:8443"},
            {"Cookie": "a=b; c=d", "User-Agent": "x", "Accept": "*/*", "Sec-Unknown": "y"},
        ],
    )
    def test_accepted(self, served: Running, headers: dict[str, str]) -> None:
        with Client(served.port) as client:
            response = client.upgrade(headers=headers.items())
            assert response.header("Upgrade") == "websocket"
            assert response.header("Connection") == "Upgrade"
            assert response.header("Sec-WebSocket-Extensions") is None
            offered = headers.get("Sec-WebSocket-Protocol")
            assert response.header("Sec-WebSocket-Protocol") == ("messages" if offered else None)
            assert is_echoing(client)

    @pytest.mark.parametrize("change", [str.lower, str.upper, str.swapcase])
    def test_names_in_any_case(self, served: Running, change: Any) -> None:
        first, *lines = upgrade_request().decode().split("\r\n")
        changed = [change(name) + colon + value for name, colon, value in (line.partition(":") for line in lines)]
        with Client(served.port) as client:
            client.send("\r\n".join([first, *changed]).encode())
            assert client.receive_response().status == 101
            assert is_echoing(client)

    def test_several_lines_of_subprotocols(self, served: Running) -> None:
        """11.3.4: it "MAY appear multiple times in an HTTP request (which is logically the same as a single
        Sec-WebSocket-Protocol header field that contains all values)"; the client's order decides."""
        lines = b"Sec-WebSocket-Protocol: unknown\r\nsec-websocket-protocol: pieces, messages\r\n\r\n"
        with Client(served.port) as client:
            client.send(upgrade_request()[:-2] + lines)
            assert client.receive_response().header("Sec-WebSocket-Protocol") == "pieces"
            assert is_echoing(client)

    @pytest.mark.parametrize(
        ("status", "options"),
        [
            (400, {"without": ["Sec-WebSocket-Key"]}),
            (400, {"headers": [("Sec-WebSocket-Key", "")]}),
            (400, {"headers": [("Sec-WebSocket-Key", "c2hvcnQ=")]}),
            (400, {"headers": [("Sec-WebSocket-Key", "!" + KEY[1:])]}),
            (400, {"headers": [("Sec-WebSocket-Key", KEY[:-2])]}),
            (400, {"without": ["Host"]}),
            (400, {"without": ["Connection"]}),
            (400, {"headers": [("Connection", "keep-alive")]}),
            (400, {"without": ["Sec-WebSocket-Version"]}),
            (426, {"headers": [("Sec-WebSocket-Version", "8")]}),
            (426, {"headers": [("Sec-WebSocket-Version", "0")]}),
            (426, {"headers": [("Sec-WebSocket-Version", "14")]}),
            (400, {"protocols": "unknown"}),
            (400, {"protocols": "mess ages"}),
            (403, {"headers": [("Origin", "http://elsewhere.example")]}),
            (403, {"headers": [("Origin", "null")]}),
            (400, {"headers": [("Sec-WebSocket-Extensions", "permessage-deflate; =1")]}),  # 9.1
            (400, {"headers": [("Content-Length", "5")]}),
        ],
    )
    def test_refused(self, served: Running, status: int, options: dict[str, Any]) -> None:
        with Client(served.port) as client:
            response = client.request(upgrade_request(**options))
            assert response.status == status
            assert response.body
            if status == 426:
                assert response.header("Sec-WebSocket-Version") == "13"

    @pytest.mark.parametrize(
        ("status", "old", "new"),
        [
            (405, b"GET ", b"POST "),
            (405, b"GET ", b"PUT "),
            (400, b"HTTP/1.1", b"HTTP/1.0"),
            (400, b"Sec-WebSocket-Key", b"Sec-WebSocket-Key: " + KEY.encode() + b"\r\nSec-WebSocket-Key"),
            (400, b"Host: ", b"Host: other\r\nHost: "),
        ],
    )
    def test_refused_too(self, served: Running, status: int, old: bytes, new: bytes) -> None:
        with Client(served.port) as client:
            assert client.request(upgrade_request().replace(old, new, 1)).status == status

    def test_head_in_any_number_of_pieces(self, served: Running) -> None:
        """Every byte on its own, and at every split; the first frame follows the head in the same segment."""
        head = upgrade_request(protocols="messages")
        with Client(served.port) as client:
            client.send_slowly(head)
            assert client.receive_response().status == 101
            assert is_echoing(client)
        counters = served.context.counters
        for at in [1, 3, 4, 15, 16, 17, 18, *range(20, len(head) - 4, 23), *range(len(head) - 4, len(head))]:
            with Client(served.port) as client:
                base = counters.bytes_received
                client.send(head[:at])
                wait_until(lambda: counters.bytes_received >= base + at)  # noqa: B023
                client.send(head[at:], frame(TEXT, "first"))
                assert client.receive_response().status == 101
                assert client.receive_message() == "first"
                assert is_echoing(client)

    def test_half_a_frame_behind_the_head(self, served: Running) -> None:
        whole = frame(BINARY, b"0123456789")
        for at in range(len(whole)):
            with Client(served.port) as client:
                client.send(upgrade_request(), whole[:at])
                assert client.receive_response().status == 101
                client.send(whole[at:])
                assert client.receive_message() == b"0123456789"
                client.finish()


class Closer(Noting):
    """Closes in the way that the message tells, after having said something."""

    name = "closer"

    def on_message(self, wsi: Any, message: str) -> int:
        wsi.send("before")
        if message == "return":
            return -1
        wsi.close(4001, "why \u20ac")
        assert wsi.send("after") == -1
        assert wsi.close(4002) == -1
        return 0


class Flood(Noting):
    """Writes far more than the kernel takes, then closes."""

    name = "flood"
    SIZE = 8 << 20

    def on_established(self, wsi: Any) -> None:
        wsi.callback_on_writable()

    def on_writeable(self, wsi: Any) -> int:
        wsi.write(bytes(self.SIZE))
        wsi.close(4000, "full")
        return 0


class Talker(Noting):
    """Notes whatever comes."""

    name = "talker"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str | bytes] = []

    def on_message(self, wsi: Any, message: str | bytes) -> None:
        self.heard.append(message)
        if message == "close":
            wsi.close(4000)


SHORT = Timeouts(close_seconds=200 * MS)


class TestSection7ServerCloses:
    """7.1.2, _Start the WebSocket Closing Handshake_, by us."""

    def test_code_and_reason(self) -> None:
        closer = Closer()
        with running([closer]) as served, connect(served.port) as client:
            client.send_text("close")
            assert client.receive_message() == "before"
            assert client.receive_frame() == Frame(CLOSE, (4001).to_bytes(2, "big") + "why \u20ac".encode())
            client.send(close_frame(4001, "yes"))
            assert client.receive_end() == b""
            client.disconnect()
            assert closer.end() == (4001, "yes")

    def test_returned_close_is_1000(self) -> None:
        closer = Closer()
        with running([closer]) as served, connect(served.port) as client:
            client.send_text("return")
            assert client.receive_message() == "before"
            assert client.receive_close().close_code == 1000
            client.send(close_frame(None))
            assert client.receive_end() == b""
            client.disconnect()
            assert closer.end() == (1005, "")

    @pytest.mark.parametrize("answer", [4001, 1000, 3333, None])
    def test_the_peers_own_code_is_told(self, answer: int | None) -> None:
        closer = Closer()
        with running([closer]) as served, connect(served.port) as client:
            client.send_text("close")
            assert client.receive_close().close_code == 4001
            client.send(close_frame(answer))
            assert client.receive_end() == b""
            client.disconnect()
            assert closer.end() == (answer or 1005, "")

    def test_no_answer_is_cut_at_the_deadline(self) -> None:
        closer = Closer()
        with running([closer], timeouts=SHORT) as served, connect(served.port) as client:
            client.send_text("close")
            assert client.receive_close().close_code == 4001
            assert client.receive_end() == b""
            assert closer.end() == (1006, "")

    def test_answered_and_never_ended_is_cut_at_the_deadline(self) -> None:
        """The peer answers our Close and leaves its end open."""
        closer = Closer()
        with running([closer], timeouts=SHORT) as served, connect(served.port) as client:
            client.send_text("close")
            client.receive_close()
            client.send(close_frame(4001))
            assert client.receive_end() == b""
            assert closer.end() == (4001, "")
            wait_until(lambda: served.context.wsi_count == 0)

    def test_messages_that_cross_our_close(self) -> None:
        """After our Close nothing is delivered, nothing else is said; the peer's Close is found behind it all."""
        talker = Talker()
        with running([talker]) as served, connect(served.port) as client:
            client.send(frame(TEXT, "1"), frame(TEXT, "close"), frame(TEXT, "2"), frame(BINARY, b"x", final=False))
            assert client.receive_close().close_code == 4000
            client.send(frame(9, "ping"), frame(0, b"y"), frame(TEXT, "3"), close_frame(4000))
            assert client.receive_end() == b""
            client.disconnect()
            assert talker.end() == (4000, "")
            assert talker.heard == ["1", "close"]

    def test_both_at_once(self) -> None:
        """The peer's Close lies in the segment of the message that makes us close."""
        talker = Talker()
        with running([talker]) as served, connect(served.port) as client:
            client.send(frame(TEXT, "close"), close_frame(4444, "mine"))
            assert client.receive_close().close_code == 4000
            assert client.receive_end() == b""
            client.disconnect()
            assert talker.end() == (4444, "mine")

    def test_unsent_data_leaves_first(self) -> None:
        flood = Flood()
        with running([flood]) as served, connect(served.port, receive_buffer=65536) as client:
            assert client.receive_message() == bytes(Flood.SIZE)
            assert client.receive_close().close_code == 4000
            client.send(close_frame(4000))
            assert client.receive_end() == b""
            client.disconnect()
            assert flood.end() == (4000, "")

    def test_unsent_data_that_nobody_reads_is_cut_at_the_deadline(self) -> None:
        flood = Flood()
        with running([flood], timeouts=SHORT) as served, connect(served.port, receive_buffer=65536) as client:
            assert flood.end() == (1006, "")
            wait_until(lambda: served.context.wsi_count == 0)
            with pytest.raises((EOFError, ConnectionResetError)):
                client.receive_message()


class TestSection7ClientCloses:
    """7.1.2 by the peer, and 7.1.5, 7.1.6: what `on_closed` is told is the peer's own."""

    @pytest.mark.parametrize("code", [None, 1000, 1001, 3000, 4999])
    @pytest.mark.parametrize("protocol", [0, 1])
    def test_code_is_echoed(self, served: Running, protocols: list[Noting], code: int | None, protocol: int) -> None:
        with connect(served.port, protocols[protocol].name) as client:
            reason = "" if code is None else "r\u00e9ason"
            answer = client.finish(code, reason)
            assert answer.payload == (b"" if code is None else code.to_bytes(2, "big"))
            client.disconnect()
            assert protocols[protocol].end() == (code or 1005, reason)

    def test_close_and_end_in_one_go(self, served: Running, protocols: list[Noting]) -> None:
        """The FIN comes right behind the Close: it is answered all the same."""
        with connect(served.port) as client:
            client.send(frame(TEXT, "a"), close_frame(4000))
            client.shut_down_writing()
            assert client.receive_message() == "a"
            assert client.receive_close().close_code == 4000
            assert client.receive_end() == b""
            client.disconnect()
            assert protocols[0].end() == (4000, "")

    def test_a_plugin_that_does_not_want_the_echo(self) -> None:
        protocol = EchoMessages()
        protocol.peer_close = -1
        with running([protocol]) as served, connect(served.port) as client:
            client.send(frame(TEXT, "a"), close_frame(4000))
            assert client.receive_message() == "a"
            assert client.receive_end() == b""
            client.disconnect()
            assert protocol.end() == (4000, "")

    def test_close_without_waiting_for_what_is_unread(self) -> None:
        """The peer closes while far more than the kernel takes is on its way; it still gets all of it."""
        protocol = EchoPieces()
        size = 1 << 20
        with running([protocol]) as served, connect(served.port, receive_buffer=65536) as client:
            client.send(frame(BINARY, bytes(size)), close_frame(4000))
            received = 0
            while (got := client.receive_frame()).opcode != CLOSE:
                received += len(got.payload)
            assert (received, got.close_code) == (size, 4000)
            assert client.receive_end() == b""
            client.disconnect()
            assert protocol.end() == (4000, "")


class TestSection7_1_5Abnormal:
    """7.1.5: "If ... no Close control frame was received, the WebSocket Connection Close Code is 1006"."""

    @pytest.mark.parametrize("protocol", [0, 1])
    @pytest.mark.parametrize("sent", [b"", b"\x81", frame(TEXT, "a", final=False), frame(TEXT, "abc")[:7]])
    def test_half_close(self, served: Running, protocols: list[Noting], sent: bytes, protocol: int) -> None:
        with connect(served.port, protocols[protocol].name) as client:
            client.send(sent)
            client.shut_down_writing()
            client.receive_end()
            assert protocols[protocol].end() == (1006, "")

    def test_half_close_after_a_message(self, served: Running, protocols: list[Noting]) -> None:
        """What was whole is answered, though no Close came."""
        for protocol in protocols:
            with connect(served.port, protocol.name) as client:
                client.send(frame(TEXT, "1"), frame(TEXT, "2"))
                client.shut_down_writing()
                assert [client.receive_message(), client.receive_message()] == ["1", "2"]
                assert client.receive_end() == b""
                assert protocol.end() == (1006, "")

    @pytest.mark.parametrize("sent", [b"", b"\x81", frame(TEXT, "a", final=False), frame(TEXT, "abc")])
    def test_reset(self, served: Running, protocols: list[Noting], sent: bytes) -> None:
        client = connect(served.port)
        client.send(sent)
        client.reset()
        assert protocols[0].end() == (1006, "")
        wait_until(lambda: served.context.wsi_count == 0)

    def test_reset_instead_of_an_answer_to_our_close(self) -> None:
        closer = Closer()
        with running([closer]) as served:
            client = connect(served.port)
            client.send_text("close")
            client.receive_close()
            client.reset()
            assert closer.end() == (1006, "")

    def test_end_instead_of_an_answer_to_our_close(self) -> None:
        closer = Closer()
        with running([closer]) as served, connect(served.port) as client:
            client.send_text("close")
            client.receive_close()
            client.shut_down_writing()
            assert client.receive_end() == b""
            assert closer.end() == (1006, "")

    def test_violation_instead_of_an_answer_to_our_close(self) -> None:
        """7.1.7: not even a Close behind it would be processed; the connection ends without another word."""
        closer = Closer()
        with running([closer]) as served, connect(served.port) as client:
            client.send_text("close")
            client.receive_close()
            client.send(frame(3, "x"), close_frame(4001))
            assert client.receive_end() == b""
            client.disconnect()
            assert closer.end() == (1006, "")
