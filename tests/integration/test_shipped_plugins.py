"""The shipped plugins in a real context, spoken to by the `websockets` library."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support import client
from tests.support.context import Running, running
from tests.support.fakes import PLUGINS
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.config import Limits, Timeouts
from wsd.plugins import discover
from wsd.protocol import Protocol

MIRROR = "lws-mirror-protocol"
COUNTER = "dumb-increment-protocol"


def shipped() -> list[Protocol]:
    found = discover([PLUGINS], entry_points=False, shipped=None)
    assert [plugin.error for plugin in found if plugin.error] == []
    return [protocol for plugin in found for protocol in plugin.protocols]


@contextlib.contextmanager
def serve(timeouts: Timeouts | None = None, **options: dict[str, Any]) -> Iterator[Running]:
    """The shipped plugins; `options` by protocol, with _ for -."""
    protocols = shipped()
    filled = {
        protocol.name: protocol.Options(**options.get(protocol.name.replace("-", "_"), {}))
        for protocol in protocols
        if protocol.Options is not None
    }
    with running(protocols, options=filled, limits=Limits(max_message_bytes=32 << 20), timeouts=timeouts) as served:
        yield served


@pytest.fixture
def server() -> Iterator[Running]:
    with serve() as served:
        yield served


def protocol(server: Running, name: str) -> Any:
    return next(protocol for protocol in server.context.protocols if protocol.name == name)


def dial(server: Running, name: str, target: str = "/") -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{server.port}{target}",
        subprotocols=[Subprotocol(name)],
        compression=None,
        max_size=None,
        open_timeout=PATIENCE,
        close_timeout=PATIENCE,
    )


class TestEcho:
    @pytest.mark.parametrize(
        "message",
        ["hello", "", b"", b"\0\xff", "gr\xfc\xdfe \U0001f600", "x" * 125, "x" * 126, b"y" * 65535, b"y" * 65536],
        ids=lambda message: f"{type(message).__name__}{len(message)}",
    )
    def test_what_is_sent_comes_back(self, server: Running, message: str | bytes) -> None:
        with dial(server, "echo") as peer:
            assert peer.subprotocol == "echo"
            peer.send(message)
            assert peer.recv(PATIENCE) == message

    @pytest.mark.parametrize("parts", [["a", "b", "c"], [b"\0", b"", b"\1"], ["", ""], ["h\xe9", "\u20ac"]])
    def test_fragments(self, server: Running, parts: list[Any]) -> None:
        with dial(server, "echo") as peer:
            peer.send(parts)
            assert peer.recv(PATIENCE) == type(parts[0])().join(parts)

    def test_sixteen_mebibytes(self, server: Running) -> None:
        message = os.urandom(1 << 20) * 16
        with dial(server, "echo") as peer:
            peer.send(message)
            assert peer.recv(PATIENCE) == message

    def test_a_whole_message_comes_back_as_one_frame(self, server: Running) -> None:
        with client.Client(server.port) as peer:
            peer.upgrade(protocols="echo")
            peer.send_text("whole")
            assert peer.receive_frame() == client.Frame(client.TEXT, b"whole")
            peer.finish()

    def test_messages_and_pings_keep_their_order(self, server: Running) -> None:
        with dial(server, "echo") as peer:
            for number in range(500):
                peer.send(str(number))
            pong = peer.ping()
            assert [peer.recv(PATIENCE) for _ in range(500)] == [str(number) for number in range(500)]
            assert pong.wait(PATIENCE)

    def test_a_peer_that_does_not_read_is_not_read_for_ever(self) -> None:
        """It sends until the kernel takes no more: wsd has stopped reading, and keeps no more than the bound."""
        with (
            serve(echo={"max_backlog_bytes": 65536}) as server,
            client.Client(server.port, receive_buffer=4096) as peer,
        ):
            peer.upgrade(protocols="echo")
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            frame = client.frame(client.BINARY, b"x" * 16384)
            peer.socket.settimeout(300 * MS)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 256 << 20:
                    sent += peer.socket.send(frame[sent % len(frame) :])
            assert sent < 256 << 20
            (wsi,) = server.call(lambda: list(protocol(server, "echo").wsis))
            assert server.call(lambda: wsi.session.size) < 65536 + (128 << 10)
            # Somebody else is served meanwhile, and the slow one gets all of it in the end.
            with dial(server, "echo") as other:
                other.send("hello")
                assert other.recv(PATIENCE) == "hello"
            for _ in range(sent // len(frame)):
                assert len(peer.receive_exactly(4 + 16384)) == 16388


class TestDumbIncrement:
    def test_it_counts_from_zero_about_twenty_times_a_second(self, server: Running) -> None:
        with dial(server, COUNTER) as peer:
            begin = time.monotonic()
            assert [peer.recv(PATIENCE) for _ in range(21)] == [str(number) for number in range(21)]
            took = time.monotonic() - begin
        assert 1.0 - 60 * MS < took < 1.0 + 500 * MS

    def test_each_connection_counts_for_itself(self, server: Running) -> None:
        with dial(server, COUNTER) as one:
            assert [one.recv(PATIENCE) for _ in range(3)] == ["0", "1", "2"]
            with dial(server, COUNTER) as two:
                assert [two.recv(PATIENCE) for _ in range(3)] == ["0", "1", "2"]

    def test_reset(self, server: Running) -> None:
        with dial(server, COUNTER) as peer:
            while peer.recv(PATIENCE) != "5":
                pass
            peer.send("reset\n")
            numbers = [int(peer.recv(PATIENCE)) for _ in range(6)]
        zero = numbers.index(0)
        assert zero < 3
        assert numbers[zero:] == list(range(len(numbers) - zero))

    @pytest.mark.parametrize("parts", [["closeme\n"], ["clo", "seme", "\n"]])
    def test_closeme(self, server: Running, parts: list[str]) -> None:
        with dial(server, COUNTER) as peer:
            peer.send(parts)
            with pytest.raises(ConnectionClosedOK) as caught:
                all(peer.recv(PATIENCE) for _ in range(1000))
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1001, "seeya")


class TestMirror:
    def test_everyone_gets_everything_in_one_order(self, server: Running) -> None:
        count, each = 20, 50
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(dial(server, MIRROR)) for _ in range(count)]
            for number in range(each):
                for name, peer in enumerate(peers):
                    peer.send(f"{name} {number}")
            heard = [[peer.recv(PATIENCE) for _ in range(count * each)] for peer in peers]
        assert all(other == heard[0] for other in heard)
        for name in range(count):
            own = [message for message in heard[0] if str(message).split()[0] == str(name)]
            assert own == [f"{name} {number}" for number in range(each)]

    def test_text_binary_empty_and_fragmented(self, server: Running) -> None:
        with dial(server, MIRROR) as one, dial(server, MIRROR) as two:
            messages: list[Any] = ["d #ff0000 1 2 3 4;", b"\0\xff", "", b"", ["frag", "ments"], "x" * 10_000]
            for message in messages:
                one.send(message)
            wanted = ["fragments" if isinstance(message, list) else message for message in messages]
            for peer in (one, two):
                assert [peer.recv(PATIENCE) for _ in messages] == wanted

    def test_rooms(self, server: Running) -> None:
        with dial(server, MIRROR, "/?mirror=here") as here, dial(server, MIRROR, "/?mirror=there") as there:
            here.send("only here")
            there.send("only there")
            assert here.recv(PATIENCE) == "only here"
            assert there.recv(PATIENCE) == "only there"

    def test_one_room_too_many(self) -> None:
        with serve(lws_mirror_protocol={"max_rooms": 1}) as server:
            with dial(server, MIRROR, "/?mirror=a"):
                with pytest.raises(InvalidStatus) as caught:
                    dial(server, MIRROR, "/?mirror=b")
                assert caught.value.response.status_code == 503
            # The room goes with its last member.
            mirror = protocol(server, MIRROR)
            wait_until(lambda: not server.call(lambda: mirror.rooms), what="the room is gone")
            with dial(server, MIRROR, "/?mirror=b") as peer:
                peer.send("in")
                assert peer.recv(PATIENCE) == "in"

    def test_a_reader_that_holds_the_room_up_is_closed_and_the_others_miss_nothing(self, server: Running) -> None:
        size = 256 << 10
        with (
            client.Client(server.port, receive_buffer=4096) as slow,
            dial(server, MIRROR) as speaker,
            dial(server, MIRROR) as bystander,
            dial(server, MIRROR, "/?mirror=elsewhere") as elsewhere,
        ):
            slow.upgrade(protocols=MIRROR)
            mirror = protocol(server, MIRROR)
            room = server.call(lambda: mirror.rooms[""])
            said = 0
            begin = 0.0
            while server.call(lambda: len(room.wsis)) == 3:
                speaker.send(b"%08d" % said + b"x" * size)
                for peer in (speaker, bystander):
                    assert peer.recv(PATIENCE)[:8] == b"%08d" % said
                said += 1
                if not begin and server.call(lambda: len(room.blockers)):
                    begin = time.monotonic()
                    elsewhere.send("not touched")
                    assert elsewhere.recv(PATIENCE) == "not touched"
                    assert time.monotonic() - begin < 1
                assert said < 200
            assert 3 - 0.2 < time.monotonic() - begin < 3 + 2
            speaker.send("on")
            for peer in (speaker, bystander):
                assert peer.recv(PATIENCE) == "on"
            # What it was sent before is still there for it to read, and then why it was closed.
            slow.patience = PATIENCE
            assert slow.receive_close().close_reason == "too slow for the others"

    def test_nor_does_the_room_wait_for_the_end_of_one_that_is_closed_meanwhile(self) -> None:
        """Its closing handshake, which a peer that does not read never answers, may take a minute."""
        with (
            serve(timeouts=Timeouts(close_seconds=60)) as server,
            client.Client(server.port, receive_buffer=4096) as slow,
            dial(server, MIRROR) as speaker,
        ):
            slow.upgrade(protocols=MIRROR)
            mirror = protocol(server, MIRROR)
            room = server.call(lambda: mirror.rooms[""])
            wait_until(lambda: server.call(lambda: len(room.wsis)) == 2)
            said = 0
            while not server.call(lambda: len(room.blockers)):
                speaker.send(bytes(256 << 10))
                assert len(speaker.recv(PATIENCE)) == 256 << 10
                said += 1
                assert said < 200
            begin = time.monotonic()
            server.call(lambda: [wsi.close(1001) for wsi in room.blockers] and None)
            speaker.send("on")
            assert speaker.recv(PATIENCE) == "on"
            assert time.monotonic() - begin < 3 + 2
            slow.reset()


class TestChat:
    def test_everybody_hears(self, server: Running) -> None:
        with dial(server, "chat", "/?name=Ada") as ada:
            assert ada.recv(PATIENCE) == "* Ada came, 1 here"
            with dial(server, "chat") as other:
                assert ada.recv(PATIENCE) == other.recv(PATIENCE) == "* somebody came, 2 here"
                other.send("hello")
                assert ada.recv(PATIENCE) == other.recv(PATIENCE) == "somebody: hello"
            assert ada.recv(PATIENCE) == "* somebody left"

    def test_binary_is_refused(self, server: Running) -> None:
        with dial(server, "chat") as peer:
            peer.recv(PATIENCE)
            peer.send(b"\0")
            with pytest.raises(ConnectionClosedError) as caught:
                peer.recv(PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1003
