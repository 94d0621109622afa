"""Fraggle over real connections: messages in thousands of random fragments, in both roles and in both directions.

The other end is `tests/support/fraggling.py`, which shares no code with wsd, or wsd's own client.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.context import Running, running
from tests.support.daemon import Site
from tests.support.fakes import PLUGINS
from tests.support.fraggling import NAME, Fraggler, accept_fraggler, fraggling_client
from tests.support.server import Server, refusing_port
from tests.support.timing import PATIENCE
from wsd import log
from wsd.options import Compression
from wsd.plugins import load

MESSAGES = 5
"""On average 500 fragments and 2 MB each."""

PACKED = pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])


class Watched:
    """The plugin, and what it was told.

    Args:
        options: Fields of its `Options`.

    Attributes:
        heard: How long each message was that came.
        extensions: Of each connection when it was established.
    """

    def __init__(self, **options: Any) -> None:
        (self.protocol,) = load(PLUGINS / "fraggle.py").protocols
        assert self.protocol.Options is not None
        self.options = self.protocol.Options(**options)
        self.heard: list[int] = []
        self.extensions: list[tuple[str, ...]] = []
        self.ends: queue.Queue[tuple[Any, int]] = queue.Queue()
        kind = type(self.protocol)

        class Noting(kind):  # type: ignore[misc, valid-type]
            """Notes each message that was checked, and each end."""

            def on_established(noting, wsi: Any) -> None:
                super().on_established(wsi)
                self.extensions.append(wsi.extensions)

            def check(noting, wsi: Any, talk: Any, checksum: bytes) -> None:
                self.heard.append(talk.size)
                super().check(wsi, talk, checksum)

            def on_closed(noting, wsi: Any, code: int, close_reason: str) -> None:
                super().on_closed(wsi, code, close_reason)
                self.ends.put((wsi, code))

        self.protocol = Noting()

    @contextlib.contextmanager
    def serve(self, *, is_packed: bool = False) -> Iterator[Running]:
        """A context that serves it."""
        listen = {"compression": Compression(enabled=is_packed)}
        with running([self.protocol], options={NAME: self.options}, listen=listen) as served:
            yield served

    def end(self) -> tuple[Any, int]:
        """The next wsi that ended, and the code."""
        return self.ends.get(timeout=PATIENCE)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Its lines about each connection are for people."""
    level, emitter = log.level(), log._emitter
    log.set_level(level & ~log.USER, emitter)
    yield
    log.set_level(level, emitter)


class TestServer:
    """wsd is the server."""

    @PACKED
    def test_it_sends(self, is_packed: bool) -> None:
        with Watched().serve(is_packed=is_packed) as served:
            with fraggling_client(served.port, is_packed=is_packed) as peer:
                peer.receive_messages(MESSAGES)
                assert peer.ear.fragments > 1000
                assert peer.pings > 10
                # Each message is compressed, but for the checksums, which are too small to be.
                assert peer.ear.packed == (MESSAGES if is_packed else 0)
                assert peer.finish().close_code == 1000

    @PACKED
    def test_it_checks(self, is_packed: bool) -> None:
        watched = Watched(sender="client", messages=MESSAGES)
        with watched.serve(is_packed=is_packed) as served:
            with fraggling_client(served.port, is_packed=is_packed) as peer:
                peer.send_messages(MESSAGES)
                assert peer.receive_close().close_code == 1000
                assert watched.heard == peer.sizes
                assert watched.end()[1] == 1000

    @PACKED
    def test_both_at_once(self, is_packed: bool) -> None:
        watched = Watched(sender="both")
        with watched.serve(is_packed=is_packed) as served:
            with fraggling_client(served.port, is_packed=is_packed) as peer:
                sending(peer, lambda: peer.receive_messages(MESSAGES))
                peer.receive_last_pong()
                peer.finish()
                assert watched.end()[1] == 1000
                assert watched.heard == peer.sizes

    def test_every_ping_is_answered(self) -> None:
        with Watched(sender="client").serve() as served, fraggling_client(served.port) as peer:
            peer.send_messages(3)
            peer.receive_last_pong()
            assert peer.finish().close_code == 1000

    def test_many_at_once(self) -> None:
        """Each is read at its own pace, and gets what is its own."""
        with Watched().serve() as served, contextlib.ExitStack() as stack:
            peers = [stack.enter_context(fraggling_client(served.port, seed=seed)) for seed in range(5)]
            for count in (1, 2):
                for peer in peers:
                    peer.receive_messages(count)
            for peer in peers:
                assert peer.finish().close_code == 1000

    @pytest.mark.parametrize("told", [b"\0\0\0\1", b"", b"\0\0\0", b"\0\0\0\0\6", b"\6\0\0\0"])
    def test_a_wrong_checksum(self, told: bytes) -> None:
        level, emitter = log.level(), log._emitter
        lines: list[str] = []
        log.set_level(log.ERR, lambda level, line: lines.append(line))
        try:
            with Watched(sender="client").serve() as served, fraggling_client(served.port) as peer:
                peer.send_message([b"\1\2", b"\3"])
                peer.send_message([b"\1\2", b"\3"], told)
                close = peer.receive_close()
                assert (close.close_code, close.close_reason) == (1008, "wrong checksum")
        finally:
            log.set_level(level, emitter)
        assert lines == [
            line for line in lines if f"3 bytes, their sum is 00000006, the peer says {told[:4].hex()}" in line
        ]
        assert len(lines) == 1

    def test_the_smallest_and_the_largest(self) -> None:
        watched = Watched(sender="client", messages=3)
        with watched.serve() as served, fraggling_client(served.port) as peer:
            peer.send_message([b"\xff"])
            peer.send_message([b"\xff" * 8000] * 1024)
            peer.send_message([b"\0"])
            assert peer.receive_close().close_code == 1000
            assert watched.heard == [1, 8_192_000, 1]

    def test_one_byte_more_is_too_much(self) -> None:
        with Watched(sender="client").serve() as served, fraggling_client(served.port) as peer:
            sending_failed = threading.Event()

            def send() -> None:
                try:
                    peer.send_message([b"\xff" * 8000] * 1024 + [b"\xff"])
                except ConnectionError:  # it need not read to the end
                    sending_failed.set()

            thread = threading.Thread(target=send)
            thread.start()
            try:
                assert peer.receive_close().close_code == 1009
            finally:
                thread.join(PATIENCE)


def sending(peer: Fraggler, meanwhile: Any) -> None:
    """Send MESSAGES in a thread of their own, and do `meanwhile`."""
    thread = threading.Thread(target=peer.send_messages, args=[MESSAGES])
    thread.start()
    try:
        meanwhile()
    finally:
        thread.join(PATIENCE)
    assert not thread.is_alive()


class TestClient:
    """wsd is the client, of a server that shares no code with it."""

    @PACKED
    def test_it_checks(self, is_packed: bool) -> None:
        with Server() as server:
            watched = Watched(connect=server.url, messages=MESSAGES)
            with watched.serve():
                peer = accept_fraggler(server, is_packed=is_packed)
                peer.send_messages(MESSAGES)
                assert peer.receive_close().close_code == 1000
                assert watched.heard == peer.sizes

    @PACKED
    def test_it_sends(self, is_packed: bool) -> None:
        with Server() as server:
            watched = Watched(connect=server.url, sender="client")
            with watched.serve():
                peer = accept_fraggler(server, is_packed=is_packed)
                peer.receive_messages(MESSAGES)
                assert peer.ear.fragments > 1000
                assert peer.pings > 10
                assert peer.ear.packed == (MESSAGES if is_packed else 0)
                # A client masks every frame with a new key.
                keys = peer.connection.keys  # type: ignore[attr-defined]
                assert len(set(keys)) > 0.99 * len(keys)
                peer.finish()

    @PACKED
    def test_both_at_once(self, is_packed: bool) -> None:
        with Server() as server:
            watched = Watched(connect=server.url, sender="both")
            with watched.serve():
                peer = accept_fraggler(server, is_packed=is_packed)
                sending(peer, lambda: peer.receive_messages(MESSAGES))
                peer.receive_last_pong()
                peer.finish()
                assert watched.end()[1] == 1000
                assert watched.heard == peer.sizes

    def test_a_wrong_checksum(self) -> None:
        with Server() as server, Watched(connect=server.url).serve():
            peer = accept_fraggler(server)
            peer.send_message([b"\1"], b"\0\0\0\0")
            assert peer.receive_close().close_code == 1008

    def test_nobody_is_there(self) -> None:
        lines: queue.Queue[str] = queue.Queue()
        level, emitter = log.level(), log._emitter
        log.set_level(log.ERR, lambda level, line: lines.put(line))
        try:
            with refusing_port() as port, Watched(connect=f"ws://127.0.0.1:{port}").serve():
                assert "refused" in lines.get(timeout=PATIENCE)
        finally:
            log.set_level(level, emitter)


class TestOwnClient:
    """wsd is both ends."""

    @PACKED
    @pytest.mark.parametrize("sender", ["server", "client", "both"])
    def test_in_every_direction(self, sender: str, is_packed: bool) -> None:
        watched = Watched(sender=sender, messages=MESSAGES)
        with watched.serve(is_packed=is_packed) as served:
            url = f"ws://127.0.0.1:{served.port}"
            options = {"protocol": watched.protocol, "compression": Compression(enabled=is_packed)}
            served.call(lambda: served.context.client_connect(url, **options))
            ends = [watched.end(), watched.end()]
        assert [code for _, code in ends] == [1000, 1000]
        correct = {wsi.is_client: wsi.session.correct for wsi, _ in ends}
        assert max(correct.values()) == MESSAGES
        if sender != "both":
            assert correct[sender == "client"] == 0
        assert watched.extensions == [("permessage-deflate",) if is_packed else ()] * 2

    def test_two_daemons(self, tmp_path: Any) -> None:
        """As an operator has it: one serves, the other connects."""
        with contextlib.ExitStack() as stack:
            (tmp_path / "server").mkdir()
            (tmp_path / "client").mkdir()
            server = stack.enter_context(Site(tmp_path / "server"))
            server.configure(listen=f'port = 0\nprotocols = ["{NAME}"]')
            server.run()
            client = stack.enter_context(Site(tmp_path / "client"))
            table = f'[protocols.{NAME}]\nconnect = "ws://127.0.0.1:{server.port}"\nmessages = 3\n'
            client.configure(listen=f'port = 0\nprotocols = ["{NAME}"]', more=table)
            client.run("--log", "err,warn,notice,info,user")
            client.wait_said("3 messages were correct; closed with 1000")
            assert client.log.read_text().count("EOM received") == 3
