"""Receive and parse, join and send: in Python and in C the same, on real sockets."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import BINARY, PING, TEXT, frame
from tests.support.feeding import unmasked
from tests.support.native import NATIVE, TWINS, require_native
from wsd import syscalls
from wsd.wire import fast
from wsd.wire.parser import Piece

MANY = 1 << 20
JOIN_BYTES, MAX_BUFFERS = 32768, 1024


@pytest.fixture(params=["in Python", "in C"])
def functions(request: pytest.FixtureRequest) -> Any:
    """Either of both."""
    return TWINS if request.param == "in Python" else require_native()


class Ends:
    """Both ends of a connection: ours as the loop has it, and the peer's."""

    def __init__(self, ours: socket.socket, peer: socket.socket) -> None:
        self.ours, self.peer = ours, peer
        ours.setblocking(False)
        peer.settimeout(20)
        self.fd = ours.fileno()
        self.buffer = bytearray(65536)

    def receive(self, functions: Any, limit: int = 0, most: int = MANY) -> tuple[tuple[int, int], list[Piece]]:
        pieces: list[Piece] = []
        return functions.receive(self.fd, self.buffer, limit, most, pieces), pieces

    def read(self, size: int) -> bytes:
        """So many bytes at the peer's end."""
        got = bytearray()
        while len(got) < size:
            got += self.peer.recv(size - len(got))
        return bytes(got)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Over TCP: a Unix socket knows no reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours, peer:
        yield Ends(ours, peer)


class TestReceive:
    def test_messages(self, functions: Any, ends: Ends) -> None:
        data = frame(TEXT, "a\u20ac") + frame(BINARY, bytes(200))
        ends.peer.sendall(data)
        expected = [(TEXT, "a\u20ac".encode(), True, True, 0), (BINARY, bytes(200), True, True, 0)]
        assert ends.receive(functions) == ((len(data), len(data)), expected)

    def test_the_rest_stands_in_the_buffer(self, functions: Any, ends: Ends) -> None:
        first, rest = frame(TEXT, "ab"), frame(PING, "x") + frame(TEXT, "cd")
        ends.peer.sendall(first + rest)
        answer, pieces = ends.receive(functions)
        assert answer == (len(first + rest), len(first))
        assert len(pieces) == 1
        assert ends.buffer[answer[1] : answer[0]] == rest

    def test_limit_and_most(self, functions: Any, ends: Ends) -> None:
        one = frame(TEXT, "ab")
        ends.peer.sendall(one * 3)
        assert ends.receive(functions, most=2)[0] == (3 * len(one), 2 * len(one))
        ends.peer.sendall(one)
        assert ends.receive(functions, limit=1)[0] == (len(one), 0)

    def test_no_more_than_the_buffer_holds(self, functions: Any, ends: Ends) -> None:
        ends.buffer = bytearray(8)
        ends.peer.sendall(frame(TEXT, "ab") + frame(TEXT, "cd"))
        for text in (b"ab", b"cd"):
            assert ends.receive(functions) == ((8, 8), [(TEXT, text, True, True, 0)])

    def test_nothing_now(self, functions: Any, ends: Ends) -> None:
        assert ends.receive(functions) == ((-1, 0), [])

    def test_the_end(self, functions: Any, ends: Ends) -> None:
        ends.peer.sendall(frame(TEXT, "ab"))
        ends.peer.shutdown(socket.SHUT_WR)
        assert ends.receive(functions)[0] == (8, 8)
        assert ends.receive(functions) == ((0, 0), [])

    def test_a_reset(self, functions: Any, ends: Ends) -> None:
        ends.ours.send(b"unread")
        ends.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        ends.peer.close()
        assert ends.receive(functions) == ((-1 - errno.ECONNRESET, 0), [])

    def test_a_descriptor_that_is_none(self, functions: Any, ends: Ends) -> None:
        ends.ours.close()
        for fd in (ends.fd, -1):
            assert functions.receive(fd, ends.buffer, 0, MANY, []) == (-1 - errno.EBADF, 0)

    @pytest.mark.parametrize(("size", "limit", "most"), [(0, 0, 1), (9, -1, 1), (9, 0, -1)])
    def test_numbers_that_make_no_sense(self, functions: Any, ends: Ends, size: int, limit: int, most: int) -> None:
        """They are refused before anything is received: it would be lost."""
        ends.peer.sendall(frame(TEXT, "ab"))
        with pytest.raises(ValueError, match=r"negative|empty"):
            functions.receive(ends.fd, bytearray(size), limit, most, [])
        assert ends.receive(functions)[0] == (8, 8)


class TestReceivePayload:
    @pytest.mark.parametrize("key", [b"", b"\x80\x01\xff\x7f"])
    @pytest.mark.parametrize("offset", [0, 1, 2, 3, 4, (1 << 62) + 1])
    @pytest.mark.parametrize("size", [*range(1, 18), 1000])
    def test_as_much_as_was_asked_for(self, functions: Any, ends: Ends, size: int, offset: int, key: bytes) -> None:
        data = bytes(number * 7 % 251 for number in range(1001))
        ends.peer.sendall(data)
        payload = functions.receive_payload(ends.fd, size, key, offset)
        assert type(payload) is bytes
        assert payload == unmasked(data[:size], key, offset)
        assert functions.receive_payload(ends.fd, 2000, key, offset + size) == unmasked(data[size:], key, offset + size)

    def test_nothing_now_and_the_end(self, functions: Any, ends: Ends) -> None:
        assert functions.receive_payload(ends.fd, 9, b"1234", 0) == -1
        ends.peer.shutdown(socket.SHUT_WR)
        assert functions.receive_payload(ends.fd, 9, b"1234", 0) == 0

    def test_a_reset(self, functions: Any, ends: Ends) -> None:
        ends.ours.send(b"unread")
        ends.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        ends.peer.close()
        assert functions.receive_payload(ends.fd, 9, b"", 0) == -1 - errno.ECONNRESET

    def test_a_descriptor_that_is_none(self, functions: Any, ends: Ends) -> None:
        ends.ours.close()
        for fd in (ends.fd, -1):
            assert functions.receive_payload(fd, 9, b"1234", 0) == -1 - errno.EBADF

    @pytest.mark.parametrize(("size", "key", "offset"), [(0, b"", 0), (-1, b"", 0), (9, b"123", 0), (9, b"", -1)])
    def test_arguments_that_make_no_sense(self, functions: Any, ends: Ends, size: int, key: bytes, offset: int) -> None:
        ends.peer.sendall(b"data")
        with pytest.raises(ValueError, match=r"negative|positive|masking key|end"):
            functions.receive_payload(ends.fd, size, key, offset)
        assert functions.receive_payload(ends.fd, 9, b"", 0) == b"data"


class TestSend:
    @pytest.mark.parametrize(
        "parts",
        [
            [b"one"],
            [memoryview(b"-one-")[1:-1]],
            [b"one", b"", b"two", memoryview(b"three")[1:]],
            [b"", bytes(JOIN_BYTES - 1), b"x"],
            [b"x", bytes(JOIN_BYTES), b"y"],
            [memoryview(bytes(JOIN_BYTES)), b"y" * 9],
            [bytes([number % 251]) * 40 for number in range(MAX_BUFFERS)],
        ],
        ids=["one", "view", "some", "joined", "vectors", "long view", "most"],
    )
    def test_all_parts_in_order(self, functions: Any, ends: Ends, parts: list[bytes | memoryview]) -> None:
        whole, before = b"".join(parts), list(parts)
        assert functions.send(ends.fd, parts) == len(whole)
        assert ends.read(len(whole)) == whole
        assert parts == before

    @pytest.mark.parametrize("parts", [[], [b""], [b"", memoryview(b"")]])
    def test_nothing_to_send(self, functions: Any, ends: Ends, parts: list[Any]) -> None:
        assert functions.send(ends.fd, parts) == 0

    def test_no_more_parts_than_one_call_takes(self, functions: Any, ends: Ends) -> None:
        """Those that are empty do not count."""
        parts = [part for number in range(MAX_BUFFERS + 3) for part in (b"", bytes([number % 251]) * 40)]
        assert functions.send(ends.fd, parts) == 40 * MAX_BUFFERS
        assert ends.read(40 * MAX_BUFFERS) == b"".join(parts)[: 40 * MAX_BUFFERS]

    @pytest.mark.parametrize("parts", [[bytes(1 << 20)], [bytes(1 << 20), b"x" * 9]])
    def test_what_the_kernel_does_not_take(self, functions: Any, ends: Ends, parts: list[Any]) -> None:
        taken = [functions.send(ends.fd, parts)]
        while taken[-1]:
            assert taken[-1] > 0
            taken.append(functions.send(ends.fd, parts))
        assert taken[-1] == 0

    @pytest.mark.parametrize("parts", [[b"one"], [b"one", b"two"], [bytes(JOIN_BYTES), b"x"]])
    def test_a_peer_that_is_gone(self, functions: Any, ends: Ends, parts: list[Any]) -> None:
        ends.ours.shutdown(socket.SHUT_WR)
        assert functions.send(ends.fd, parts) == -errno.EPIPE

    def test_a_descriptor_that_is_none(self, functions: Any, ends: Ends) -> None:
        ends.ours.close()
        for fd in (ends.fd, -1):
            assert functions.send(fd, [b"one"]) == -errno.EBADF

    @pytest.mark.parametrize("part", ["text", bytearray(b"x"), 5, None])
    def test_what_is_no_part(self, functions: Any, ends: Ends, part: Any) -> None:
        with pytest.raises(TypeError, match="bytes or a memoryview"):
            functions.send(ends.fd, [b"one", part])
        ends.ours.shutdown(socket.SHUT_WR)
        assert ends.peer.recv(1) == b"", "a part was sent before the wrong one was looked at"


def test_the_pair_that_runs_is_of_one_kind() -> None:
    """In C where that is there and wanted, as the functions of bytes are."""
    in_c = fast.IMPLEMENTATION != "pure Python"
    assert in_c == (NATIVE is not None and os.environ.get("WSD_PURE", "0") == "0")
    assert (syscalls.receive is not syscalls.receive_in_python) == in_c
    assert (syscalls.send is not syscalls.send_in_python) == in_c
