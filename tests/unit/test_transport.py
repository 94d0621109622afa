"""wsd/transport.py on socket pairs: corking, partial sends, the choke, what a broken pipe is called, keepalive."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from wsd.errors import PipeBroken
from wsd.transport import Output, SocketPipe, set_keepalive


@pytest.fixture
def pair() -> Iterator[tuple[SocketPipe, socket.socket]]:
    """A pipe, and the socket of its peer."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    with ours, theirs:
        yield SocketPipe(ours), theirs


@pytest.fixture
def tcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with server, client:
        yield server, client


class Kernel:
    """A pipe whose sends take what the script says; -1 is all."""

    def __init__(self, *takes: int) -> None:
        self.takes = list(takes)
        self.calls: list[tuple[str, int]] = []
        self.got = b""

    def _take(self, how: str, data: bytes) -> int:
        self.calls.append((how, len(data)))
        count = self.takes.pop(0) if self.takes else -1
        taken = data if count < 0 else data[:count]
        self.got += taken
        return len(taken)

    def send_many(self, buffers: list[bytes | memoryview]) -> int:
        return self._take("send", b"".join(buffers))


def output(kernel: Kernel) -> Output:
    return Output(kernel)  # type: ignore[arg-type]


class TestSocketPipe:
    def test_nothing_there_is_told_from_the_end(self, pair: tuple[SocketPipe, socket.socket]) -> None:
        pipe, peer = pair
        buffer = bytearray(8)
        assert pipe.receive_into(buffer) == -1
        peer.sendall(b"abc")
        assert pipe.receive_into(buffer) == 3
        assert buffer[:3] == b"abc"
        peer.close()
        assert pipe.receive_into(buffer) == 0

    def test_a_full_kernel_takes_nothing_and_that_is_no_error(self, pair: tuple[SocketPipe, socket.socket]) -> None:
        pipe, _ = pair
        while pipe.send(bytes(65536)):
            pass
        assert pipe.send(b"x") == 0
        assert pipe.send_many([b"x", b"y"]) == 0

    def test_sending_to_one_that_left_is_epipe_and_no_signal(self, pair: tuple[SocketPipe, socket.socket]) -> None:
        pipe, peer = pair
        peer.close()
        with pytest.raises(PipeBroken, match="EPIPE"):
            pipe.send(b"x")
        with pytest.raises(PipeBroken, match="EPIPE"):
            pipe.send_many([b"x", b"y"])

    def test_a_reset_is_named(self, tcp: tuple[socket.socket, socket.socket]) -> None:
        server, client = tcp
        pipe = SocketPipe(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(PipeBroken, match="ECONNRESET"):
            pipe.receive_into(bytearray(8))

    def test_the_kernels_note_is_told_once(self, tcp: tuple[socket.socket, socket.socket]) -> None:
        server, client = tcp
        pipe = SocketPipe(server)
        assert pipe.error_text() == ""
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert pipe.error_text() == "ECONNRESET"
        assert pipe.error_text() == ""

    def test_more_buffers_than_one_call_may_have(self, pair: tuple[SocketPipe, socket.socket]) -> None:
        pipe, peer = pair
        assert pipe.send_many([b"x"] * 5000) == 1024
        assert peer.recv(9999) == b"x" * 1024

    def test_shutting_down_after_the_peer_left_is_no_error(self, tcp: tuple[socket.socket, socket.socket]) -> None:
        server, client = tcp
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        SocketPipe(server).shutdown_write()

    def test_what_the_peers_kernel_has_not_got_is_in_flight(self, tcp: tuple[socket.socket, socket.socket]) -> None:
        server, client = tcp
        pipe = SocketPipe(server)
        assert pipe.in_flight() == 0
        taken = 0
        while sent := pipe.send(bytes(65536)):
            taken += sent
        before = pipe.in_flight()
        assert 0 < before <= taken
        client.settimeout(5)
        client.recv(1 << 20)
        deadline = time.monotonic() + 5
        while pipe.in_flight() == before and time.monotonic() < deadline:
            client.recv(1 << 16)
        assert pipe.in_flight() < before

    def test_closed_it_has_no_descriptor(self, pair: tuple[SocketPipe, socket.socket]) -> None:
        pipe, _ = pair
        pipe.close()
        assert pipe.fileno() == -1
        assert pipe.error_text() == "EBADF"

    def test_a_kernel_that_takes_nothing_now_is_no_error(self, pair: tuple[SocketPipe, socket.socket]) -> None:
        pipe, _ = pair
        while pipe.send(bytes(65536)):
            pass
        assert pipe.send(b"x") == pipe.send_many([b"x"]) == 0

    def test_of_a_descriptor_it_is_the_same(self) -> None:
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        pipe = SocketPipe(fd := ours.detach())
        with peer:
            peer.settimeout(5)
            assert pipe.send(b"there") == 5
            assert peer.recv(9) == b"there"
            peer.send(b"back")
            assert pipe.receive_into(buffer := bytearray(9)) == 4
            assert buffer[:4] == b"back"
            pipe.close()
            assert peer.recv(9) == b""
            assert pipe.fileno() == -1
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
            pipe.close()  # again: it is nobody's
            pipe.shutdown_write()
            assert (pipe.in_flight(), pipe.error_text()) == (0, "EBADF")

    def test_its_socket_is_made_once_and_closed_with_it(self) -> None:
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        pipe = SocketPipe(ours.detach())
        with peer:
            sock = pipe.sock
            assert pipe.sock is sock
            pipe.shutdown_write()
            assert peer.recv(9) == b""
            pipe.close()
            assert sock.fileno() == -1


class TestOutput:
    def test_what_was_put_leaves_in_one_call(self) -> None:
        kernel = Kernel()
        out = output(kernel)
        for data in (b"a", b"bc", b"", b"def"):
            out.put(data)
        assert out.size == 6
        out.flush()
        assert kernel.calls == [("send", 6)]
        assert kernel.got == b"abcdef"
        assert (out.size, out.taken, out.is_choked) == (0, 6, False)

    def test_large_buffers_are_not_joined(self) -> None:
        kernel = Kernel()
        out = output(kernel)
        out.put(b"h")
        out.put(bytes(100_000))
        out.flush()
        assert kernel.calls == [("send", 100_001)]

    def test_nothing_to_send_is_no_call(self) -> None:
        kernel = Kernel()
        output(kernel).flush()
        assert kernel.calls == []

    @pytest.mark.parametrize("first", range(0, 12))
    def test_a_partial_send_goes_on_where_it_stopped(self, first: int) -> None:
        kernel = Kernel(first)
        out = output(kernel)
        for data in (b"abc", b"", b"defg", b"hijkl"):
            out.put(data)
        out.flush()
        assert out.is_choked is (first < 12)
        assert (out.size, out.taken) == (12 - first, first)
        out.put(b"m")
        out.flush()
        assert kernel.got == b"abcdefghijklm"
        assert (out.size, out.taken, out.is_choked) == (0, 13, False)

    def test_one_byte_at_a_time(self) -> None:
        kernel = Kernel(*[1] * 9)
        out = output(kernel)
        for data in (b"abc", b"def", b"ghi"):
            out.put(data)
        choked = []
        while out.size:
            out.flush()
            choked.append(out.is_choked)
        assert kernel.got == b"abcdefghi"
        assert choked == [True] * 8 + [False]

    def test_a_real_socket_takes_what_it_can(self, pair: tuple[SocketPipe, socket.socket]) -> None:
        pipe, peer = pair
        out = Output(pipe)
        message = bytes(range(256)) * 8192  # 2 MiB
        out.put(b"head")
        out.put(message)
        out.flush()
        assert out.is_choked
        got = b""
        while len(got) < len(message) + 4:
            got += peer.recv(1 << 20)
            out.flush()
        assert got == b"head" + message
        assert (out.size, out.is_choked) == (0, False)

    def test_a_peer_that_left_is_told(self, pair: tuple[SocketPipe, socket.socket]) -> None:
        pipe, peer = pair
        peer.close()
        out = Output(pipe)
        out.put(b"x")
        with pytest.raises(PipeBroken):
            out.flush()


class TestKeepalive:
    def test_reads_back(self, tcp: tuple[socket.socket, socket.socket]) -> None:
        server, _ = tcp
        set_keepalive(server, 60, 3, 10)
        tcp_options = [socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT, socket.TCP_KEEPINTVL, socket.TCP_USER_TIMEOUT]
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert [server.getsockopt(socket.IPPROTO_TCP, option) for option in tcp_options] == [60, 3, 10, 90_000]

    def test_zero_leaves_it_off(self, tcp: tuple[socket.socket, socket.socket]) -> None:
        server, _ = tcp
        set_keepalive(server, 0, 3, 10)
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
