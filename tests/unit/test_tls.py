"""The encrypted byte pipe, against OpenSSL as the standard library has it, and against one that has no sockets.

The peer is Python's own `ssl` with memory BIOs wherever bytes are to be cut or held back: what it wants to say is
carried by hand.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import ssl
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.support.ca import Authority, Issued
from tests.support.native import NATIVE, require_native
from wsd import tls
from wsd.errors import PipeBroken
from wsd.tls import RECORD_BYTES, TRUNCATED, TlsPipe
from wsd.transport import ERROR, READ, WRITE
from wsd.wire.fast import IMPLEMENTATION
from wsd.wire.parser import Piece
from wsd.wire.twin import mask


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue()


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Issued:
    return authority.issue(["alice.test", "192.0.2.7"], client=True, file="alice")


def server_context(issued: Issued, ca: Path | None = None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate_chain_file(str(issued.certificate))
    context.use_privatekey_file(str(issued.private_key))
    if ca is not None:
        context.load_verify_locations(str(ca))
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


class Peer:
    """A client whose bytes are carried by hand: `says` is what it wants to send, `hears` what was sent to it."""

    def __init__(self, ca: Path, *, version: ssl.TLSVersion | None = None, client: Issued | None = None) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        if version is not None:
            context.maximum_version = version
        if client is not None:
            context.load_cert_chain(client.certificate, client.private_key)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake_hands(self) -> bool:
        """Go on with the handshake; reports whether it is done."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def says(self, data: bytes = b"") -> bytes:
        """What goes over the wire when it says `data`."""
        if data:
            assert self.tls.write(data) == len(data)
        return self.outgoing.read()

    def hears(self, wire: bytes) -> bytes:
        """What it makes of what came over the wire."""
        self.incoming.write(wire)
        heard = b""
        try:
            while data := self.tls.read(1 << 20):
                heard += data
        except ssl.SSLWantReadError:
            pass
        return heard


# WSD_PURE keeps wsd from the extension.
WAYS = ["the extension", "OpenSSL's own functions", "public calls"][
    IMPLEMENTATION == "pure Python" and NATIVE is not None :
]


@pytest.fixture(params=WAYS, autouse=True)
def functions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads and writes: everything here holds for all of them."""
    if request.param == "the extension":
        require_native()
        assert tls._IS_HASTENED
        return
    monkeypatch.setattr("wsd.tls._IS_HASTENED", False)
    if request.param == "public calls":
        monkeypatch.setattr("wsd.tls._HAS_OWN_FUNCTIONS", False)
    else:
        assert tls._HAS_OWN_FUNCTIONS


_NO_FRAMES = bytes.maketrans(b"\x81\x82", b"\0\0")


def noise(size: int) -> bytes:
    """Random bytes; none of them begins a plain frame, which the pipe would take out."""
    return os.urandom(size).translate(_NO_FRAMES)


class Pair:
    """A server's pipe on a socketpair, and the other end of it, which is a plain socket."""

    def __init__(self, context: SSL.Context, buffer_bytes: int = 0) -> None:
        ours, self.wire = socket.socketpair()
        if buffer_bytes:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        connection = SSL.Connection(context, ours)
        connection.set_accept_state()
        self.settled = 0
        self.pieces: list[Piece] = []  # that `receive` came upon
        self.pipe = TlsPipe(ours, connection, self._settle)
        self.wire.setblocking(False)

    def _settle(self) -> None:
        self.settled += 1

    def close(self) -> None:
        self.pipe.close()
        self.wire.close()

    def heard(self) -> bytes:
        """Everything that lies on the wire for the peer."""
        data = b""
        try:
            while more := self.wire.recv(65536):
                data += more
        except BlockingIOError:
            pass
        return data

    def receive(self, size: int = 65536) -> bytes | int:
        """What the pipe has, or what it answers in place of bytes."""
        buffer = bytearray(size)
        got, taken = self.pipe.receive_frames(buffer, 0, self.pieces)
        assert (taken > 0) == bool(self.pieces)
        return bytes(buffer[:got]) if got > 0 else got

    def open(self, peer: Peer) -> None:
        """The whole handshake, the session tickets too."""
        is_done = False
        while not (is_done and self.pipe.tls):
            is_done = peer.shake_hands()
            if said := peer.says():
                self.wire.sendall(said)
            assert self.receive() == -1
            peer.incoming.write(self.heard())
        self.take()
        peer.hears(self.heard())

    def take(self) -> None:
        settled = self.pipe.take_settled()
        assert settled is not None
        settled()


@pytest.fixture
def pair(issued: Issued) -> Iterator[Pair]:
    pair = Pair(server_context(issued))
    yield pair
    pair.close()


@pytest.fixture
def peer(authority: Authority) -> Peer:
    return Peer(authority.certificate)


@pytest.fixture
def opened(pair: Pair, peer: Peer) -> tuple[Pair, Peer]:
    pair.open(peer)
    pair.pipe.has_changed = False
    return pair, peer


class TestHandshake:
    @pytest.mark.parametrize("step", [1, 7, 100, 1 << 16])
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_in_any_number_of_pieces(
        self, pair: Pair, authority: Authority, step: int, version: ssl.TLSVersion
    ) -> None:
        peer = Peer(authority.certificate, version=version)
        is_done = False
        while not is_done or pair.pipe.tls is None:
            is_done = peer.shake_hands()
            said = peer.says()
            for at in range(0, len(said), step):
                assert pair.pipe.tls is None
                pair.wire.sendall(said[at : at + step])
                assert pair.receive() == -1
            peer.incoming.write(pair.heard())
        pair.take()
        assert pair.settled == 1
        assert pair.pipe.failure == ""
        peer.hears(pair.heard())
        pair.wire.sendall(peer.says(b"hello"))
        assert pair.receive() == b"hello"

    def test_nobody_is_told_before_it_is_over_and_nobody_twice(self, pair: Pair, peer: Peer) -> None:
        assert pair.pipe.take_settled() is None
        pair.open(peer)
        assert pair.pipe.take_settled() is None

    def test_a_client_speaks_first(self, authority: Authority) -> None:
        ours, wire = socket.socketpair()
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), ours)
        connection.set_connect_state()
        pipe = TlsPipe(ours, connection, lambda: None)
        with ours, wire:
            assert pipe.has_pending()
            assert pipe.receive_into(bytearray(10)) == -1
            assert not pipe.has_pending()
            assert wire.recv(1) == b"\x16"

    @pytest.mark.parametrize("sent", [b"\x16\x03\x01\x00\x05hello", b"garbage that is no record", bytes(100)])
    def test_what_is_no_tls_is_told_and_ends_it(self, pair: Pair, sent: bytes) -> None:
        pair.wire.sendall(sent)
        assert pair.receive() == -1
        assert pair.pipe.failure.startswith("TLS: ")
        assert pair.pipe.tls is None
        pair.take()
        assert pair.settled == 1

    def test_after_a_failure_the_sockets_own_bytes_come(self, pair: Pair) -> None:
        """They are thrown away; a socket that is closed with them unread would reset, and our alert be lost."""
        pair.wire.sendall(b"garbage that is no record")
        assert pair.receive() == -1
        pair.wire.sendall(b"more of it")
        rest = pair.receive()
        assert isinstance(rest, bytes)
        assert rest.endswith(b"more of it")
        pair.pipe.shutdown_write()
        assert pair.wire.recv(100) == b""  # and no reset

    def test_a_version_that_is_too_old_gets_the_alert_for_it(self, issued: Issued, authority: Authority) -> None:
        context = server_context(issued)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        pair, peer = Pair(context), Peer(authority.certificate, version=ssl.TLSVersion.TLSv1_2)
        peer.shake_hands()
        pair.wire.sendall(peer.says())
        assert pair.receive() == -1
        assert pair.pipe.failure == "TLS: unsupported protocol"
        peer.incoming.write(pair.heard())
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            peer.tls.do_handshake()
        pair.close()

    def test_a_peer_that_leaves_in_the_middle(self, pair: Pair, peer: Peer) -> None:
        peer.shake_hands()
        pair.wire.sendall(peer.says()[:50])
        assert pair.receive() == -1
        pair.wire.close()
        assert pair.receive() == -1
        assert pair.pipe.failure in (TRUNCATED, "EPIPE", "ECONNRESET")


class TestReceiving:
    def test_nothing_there(self, opened: tuple[Pair, Peer]) -> None:
        assert opened[0].receive() == -1
        assert not opened[0].pipe.has_changed

    def test_many_records_in_one_go(self, opened: tuple[Pair, Peer]) -> None:
        pair, peer = opened
        data = noise(3 * RECORD_BYTES + 5)
        pair.wire.sendall(peer.says(data))
        assert pair.receive() == data

    def test_a_record_that_finds_no_room_is_pending_while_the_socket_is_quiet(self, opened: tuple[Pair, Peer]) -> None:
        pair, peer = opened
        data = noise(1000)
        pair.wire.sendall(peer.says(data))
        assert pair.receive(600) == data[:600]
        assert pair.pipe.has_pending()
        assert pair.pipe.has_changed
        assert select.select([pair.pipe], [], [], 0)[0] == []
        assert pair.receive(600) == data[600:]
        assert not pair.pipe.has_pending()

    @pytest.mark.parametrize("count", [1, 3, 400])
    def test_frames_are_parsed(self, opened: tuple[Pair, Peer], count: int) -> None:
        """400 of them take two records."""
        pair, peer = opened
        message = bytes(60)
        frame = b"\x82\xbc\1\2\3\4" + mask(message, b"\1\2\3\4")
        pair.wire.sendall(peer.says(frame * count + b"\x81"))
        assert pair.receive() == frame * count + b"\x81"
        assert pair.pieces == [(2, message, True, True, 0)] * count

    def test_a_frame_that_is_too_long_is_left_alone(self, opened: tuple[Pair, Peer]) -> None:
        pair, peer = opened
        pair.wire.sendall(peer.says(b"\x82\x85\0\0\0\0hello"))
        pieces: list[Piece] = []
        assert pair.pipe.receive_frames(bytearray(100), 4, pieces) == (11, 0)
        assert pieces == []

    @pytest.mark.parametrize("step", [1, 5, 21])
    def test_a_record_in_pieces(self, opened: tuple[Pair, Peer], step: int) -> None:
        pair, peer = opened
        said = peer.says(b"hello")
        for at in range(0, len(said), step):
            assert pair.receive() == -1
            pair.wire.sendall(said[at : at + step])
        assert pair.receive() == b"hello"

    def test_a_close_notify_is_the_end(self, opened: tuple[Pair, Peer]) -> None:
        pair, peer = opened
        said = peer.says(b"hello")
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.unwrap()
        pair.wire.sendall(said + peer.says())
        assert pair.receive() == b"hello"
        assert pair.receive() == 0
        assert pair.receive() == 0

    def test_a_close_notify_right_behind_a_full_record_is_not_lost(self, opened: tuple[Pair, Peer]) -> None:
        """OpenSSL has read it with the record, and the socket is quiet."""
        pair, peer = opened
        said = peer.says(bytes(RECORD_BYTES))
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.unwrap()
        pair.wire.sendall(said + peer.says())
        assert pair.receive() == bytes(RECORD_BYTES)
        assert pair.pipe.has_pending()
        assert pair.receive() == 0
        assert not pair.pipe.has_pending()

    def test_an_end_without_it_is_a_stream_that_was_cut_off(self, opened: tuple[Pair, Peer]) -> None:
        pair, peer = opened
        pair.wire.sendall(peer.says(b"hello"))
        pair.wire.close()
        assert pair.receive() == b"hello"
        with pytest.raises(PipeBroken, match=r"^the TLS stream was cut off"):
            pair.receive()

    def test_a_cut_behind_a_full_record_is_told_after_it(self, opened: tuple[Pair, Peer]) -> None:
        pair, peer = opened
        pair.wire.sendall(peer.says(bytes(RECORD_BYTES)))
        pair.wire.close()
        assert pair.receive() == bytes(RECORD_BYTES)
        assert pair.pipe.has_pending()
        with pytest.raises(PipeBroken):
            pair.receive()

    def test_once_ours_is_out_nobody_waits_for_the_peers(self, opened: tuple[Pair, Peer]) -> None:
        pair, _ = opened
        pair.pipe.shutdown_write()
        pair.wire.shutdown(socket.SHUT_WR)
        assert pair.receive() == 0

    def test_a_record_that_was_changed_on_the_way(self, opened: tuple[Pair, Peer]) -> None:
        pair, peer = opened
        said = bytearray(peer.says(b"hello"))
        said[-1] ^= 1
        pair.wire.sendall(said)
        with pytest.raises(PipeBroken, match=r"^TLS: "):
            pair.receive()


class TestSending:
    @pytest.mark.parametrize("size", [1, RECORD_BYTES, RECORD_BYTES + 1, 50_000])
    def test_whole(self, opened: tuple[Pair, Peer], size: int) -> None:
        pair, peer = opened
        data = noise(size)
        assert pair.pipe.send_many([data]) == size
        assert peer.hears(pair.heard()) == data

    @pytest.mark.parametrize(
        "sizes",
        [
            [1],
            [1, 2, 3],
            [10, RECORD_BYTES - 10],
            [10, RECORD_BYTES],
            [RECORD_BYTES] * 3,
            [5, 40_000, 5],
            [40_000, 1, 30_000],
        ],
    )
    def test_many_buffers(self, opened: tuple[Pair, Peer], sizes: list[int]) -> None:
        pair, peer = opened
        parts = [noise(size) for size in sizes]
        assert pair.pipe.send_many(parts) == sum(sizes)
        assert peer.hears(pair.heard()) == b"".join(parts)

    def test_short_buffers_share_records(self, opened: tuple[Pair, Peer]) -> None:
        pair, _ = opened
        pair.pipe.send_many([b"x" * 100] * 400)  # 40 000 bytes
        wire, records = pair.heard(), 0
        while wire:
            records += 1
            wire = wire[5 + int.from_bytes(wire[3:5], "big") :]
        assert records == 3

    @pytest.mark.parametrize("chunk", [7, 1000, 30_000, 1 << 20])
    def test_what_was_not_taken_comes_again_with_more_behind_it(
        self, issued: Issued, authority: Authority, chunk: int
    ) -> None:
        """OpenSSL wants the same bytes again, and gets them however they are cut up by then."""
        pair, peer = Pair(server_context(issued), 4096), Peer(authority.certificate)
        pair.open(peer)
        data = noise(200_000)
        at, heard, refused = 0, b"", 0
        while at < len(data):
            rest = memoryview(data)[at : at + 60_000]
            parts = [rest[start : start + chunk] for start in range(0, len(rest), chunk)]
            took = pair.pipe.send_many(parts)
            at += took
            if took < len(rest):
                refused += 1
                heard += peer.hears(pair.heard())
        while len(heard) < len(data):
            heard += peer.hears(pair.heard())
        assert refused
        assert heard == data
        pair.close()

    def test_what_was_not_taken_in_one_piece_comes_again_in_many(self, issued: Issued, authority: Authority) -> None:
        """As it does when more was written behind it, or when part of what stood before it has left."""
        pair, peer = Pair(server_context(issued), 4096), Peer(authority.certificate)
        pair.open(peer)
        pieces = [noise(100) for _ in range(300)]
        sent = 0
        while pair.pipe.send_many(pieces[sent : sent + 1]):
            sent += 1
        heard = peer.hears(pair.heard())
        rest: list[bytes | memoryview] = [memoryview(pieces[sent]), *pieces[sent + 1 :]]
        while rest:
            took = pair.pipe.send_many(rest)
            rest = [memoryview(b"".join(rest))[took:]] if took < sum(map(len, rest)) else []
            heard += peer.hears(pair.heard())
        assert sent < 300
        assert heard == b"".join(pieces)
        pair.close()

    def test_nothing(self, opened: tuple[Pair, Peer]) -> None:
        pair, _ = opened
        assert pair.pipe.send_many([]) == 0
        assert pair.heard() == b""

    def test_to_nobody(self, opened: tuple[Pair, Peer]) -> None:
        pair, _ = opened
        pair.wire.close()
        with pytest.raises(PipeBroken, match=r"EPIPE|ECONNRESET"):
            pair.pipe.send_many([b"x"])


class TestShutdown:
    def test_says_close_notify_and_then_fin(self, opened: tuple[Pair, Peer]) -> None:
        pair, peer = opened
        pair.pipe.shutdown_write()
        assert pair.pipe.interest(READ) == READ
        peer.incoming.write(pair.heard())
        peer.incoming.write_eof()
        assert peer.tls.read(10) == b""

    def test_waits_for_room(self, issued: Issued, authority: Authority) -> None:
        pair = Pair(server_context(issued), 4096)
        pair.open(Peer(authority.certificate))
        filled = socket.socket(fileno=os.dup(pair.pipe.fileno()))
        with filled, contextlib.suppress(BlockingIOError):
            while filled.send(bytes(1)):
                pass
        pair.pipe.shutdown_write()
        assert pair.pipe.has_changed
        assert pair.pipe.interest(READ) == READ | WRITE
        pair.heard()
        assert pair.pipe.translate(WRITE) == WRITE
        assert pair.pipe.interest(READ) == READ
        assert pair.heard().startswith(b"\x17")  # an alert; TLS 1.3 hides what it is
        pair.close()

    def test_before_the_handshake_there_is_nothing_to_say(self, pair: Pair) -> None:
        pair.pipe.shutdown_write()
        assert pair.wire.recv(10) == b""

    def test_in_the_middle_of_one_it_is_gone_at_once(self, issued: Issued) -> None:
        """And not when the garbage collector comes by, which does not see what OpenSSL holds."""
        owner = Pair(server_context(issued))
        is_gone = weakref.ref(owner)
        gc.disable()
        try:
            owner.close()
            del owner
            assert is_gone() is None
        finally:
            gc.enable()


class Contrary:
    """A connection that wants of the socket what `script` says, call by call; then it does what it was asked for."""

    def __init__(self, script: list[type[Exception] | int]) -> None:
        self.script = script

    def _next(self) -> int:
        step = self.script.pop(0)
        if isinstance(step, int):
            return step
        raise step

    def recv_into(self, buffer: bytearray) -> int:
        return self._next()

    def send(self, data: bytes) -> int:
        return self._next()

    def pending(self) -> int:
        return 0


@pytest.fixture
def contrary(opened: tuple[Pair, Peer]) -> Iterator[tuple[TlsPipe, list[type[Exception] | int]]]:
    """An open pipe whose OpenSSL is replaced by a script: no real one can be made to want these at will."""
    pipe = opened[0].pipe
    connection, script = pipe.connection, []  # type: ignore[var-annotated]
    ssl_object = pipe._ssl
    pipe.connection, pipe._ssl = Contrary(script), None  # type: ignore[assignment]
    pipe._address = pipe._quick = 0
    yield pipe, script
    pipe.connection, pipe._ssl = connection, ssl_object


class TestCrossing:
    """Reading may have to write first, and the reverse; then polling for the obvious would spin, or never end."""

    def test_reading_that_wants_to_write(self, contrary: tuple[TlsPipe, list[type[Exception] | int]]) -> None:
        pipe, script = contrary
        script[:] = [SSL.WantWriteError, 5]
        assert pipe.receive_into(bytearray(100)) == -1
        assert pipe.has_changed
        assert pipe.interest(READ) == WRITE
        assert pipe.interest(0) == 0
        assert pipe.translate(WRITE) & READ
        assert not pipe.translate(READ) & READ
        pipe.has_changed = False
        assert pipe.receive_into(bytearray(100)) == 5
        assert pipe.has_changed
        assert pipe.interest(READ) == READ

    def test_writing_that_wants_to_read(self, contrary: tuple[TlsPipe, list[type[Exception] | int]]) -> None:
        pipe, script = contrary
        script[:] = [SSL.WantReadError, 5]
        assert pipe.send(b"hello") == 0
        assert pipe.has_changed
        assert pipe.interest(WRITE) == READ
        assert pipe.translate(READ) == READ | WRITE
        assert pipe.translate(WRITE) == 0
        pipe.has_changed = False
        assert pipe.send(b"hello") == 5
        assert pipe.has_changed
        assert pipe.interest(WRITE) == WRITE

    def test_an_error_is_an_error(self, opened: tuple[Pair, Peer]) -> None:
        assert opened[0].pipe.translate(ERROR) == ERROR


def test_what_was_agreed_on_is_made_once(opened: tuple[Pair, Peer]) -> None:
    info = opened[0].pipe.tls
    assert info is not None
    assert info.version == "TLSv1.3"
    assert info is opened[0].pipe.tls
