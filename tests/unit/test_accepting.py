"""wsd/accepting.py, in C and in Python: what is accepted, what is said about it, and by which number it fails."""

from __future__ import annotations

import errno
import inspect
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.arrival import TWINS, require_arrival

NAMES = ["accept", "shut_down", "read_upgrade"]


@pytest.fixture(params=["in Python", "in C"])
def functions(request: pytest.FixtureRequest) -> Any:
    return TWINS if request.param == "in Python" else require_arrival()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_over_ipv4(functions: Any, listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as client:
        fd, peer, local = functions.accept(listener.fileno(), True)
        with socket.socket(fileno=fd) as sock:
            assert (peer, local) == (client.getsockname(), client.getpeername())
            assert type(peer) is type(local) is tuple
            assert not os.get_blocking(fd)
            assert not os.get_inheritable(fd)
            client.sendall(b"hello")
            assert sock.recv(9) == b"hello"


def test_our_end_is_told_only_if_that_is_wanted(functions: Any, listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()):
        fd, _, local = functions.accept(listener.fileno(), False)
        os.close(fd)
        assert local is None


def test_over_ipv6(functions: Any) -> None:
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as listener,
        socket.create_connection(listener.getsockname()[:2]) as client,
    ):
        fd, peer, local = functions.accept(listener.fileno(), True)
        os.close(fd)
        assert (peer, local) == (client.getsockname()[:2], client.getpeername()[:2])


def test_ipv4_on_a_socket_of_ipv6(functions: Any) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1])) as client:
            fd, peer, local = functions.accept(listener.fileno(), True)
            os.close(fd)
            assert peer == (f"::ffff:{client.getsockname()[0]}", client.getsockname()[1])
            assert local[0] == "::ffff:127.0.0.1"


# The longest path that Python lets one bind fills the room for it but for one byte.
@pytest.mark.parametrize("name", ["s", "\u00e4\udcff", "x" * 107])
@pytest.mark.parametrize("is_bound", [False, True])
def test_over_a_unix_socket(
    functions: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_bound: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = "c" + name[1:]
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(name)
        listener.listen()
        if is_bound:
            client.bind(theirs)
        client.connect(name)
        fd, peer, local = functions.accept(listener.fileno(), True)
        os.close(fd)
        assert (peer, local) == (theirs if is_bound else "", name)


def test_a_name_in_the_abstract_namespace_is_none(functions: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        client.bind(b"\0wsd-test-abstract")
        client.connect(str(tmp_path / "s"))
        fd, peer, _ = functions.accept(listener.fileno(), False)
        os.close(fd)
        assert peer == ""


def test_what_accept_fails_with(functions: Any, listener: socket.socket) -> None:
    listener.setblocking(False)
    assert functions.accept(listener.fileno(), False) == (-errno.EAGAIN, None, None)
    with socket.socket() as idle:
        assert functions.accept(idle.fileno(), True)[0] == -errno.EINVAL
    reading, writing = os.pipe()
    os.close(writing)
    assert functions.accept(reading, True)[0] == -errno.ENOTSOCK
    os.close(reading)
    for fd in (reading, -1):
        assert functions.accept(fd, True) == (-errno.EBADF, None, None)


def test_shutting_down_tells_the_peer_and_reads_on(functions: Any) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert functions.shut_down(one.fileno()) == 0
        assert other.recv(9) == b""
        other.sendall(b"still")
        assert one.recv(9) == b"still"
        assert one.fileno() >= 0


def test_what_shutting_down_fails_with(functions: Any) -> None:
    with socket.socket() as idle:
        assert functions.shut_down(idle.fileno()) == errno.ENOTCONN
    assert functions.shut_down(-1) == errno.EBADF
    reading, writing = os.pipe()
    assert functions.shut_down(writing) == errno.ENOTSOCK
    os.close(reading)
    os.close(writing)
    assert functions.shut_down(writing) == errno.EBADF


@pytest.mark.parametrize("name", NAMES)
def test_it_has_each_of_them_and_says_what_it_takes(name: str) -> None:
    arrival = require_arrival()
    signature = ", ".join(inspect.signature(getattr(TWINS, name)).parameters)
    assert getattr(arrival, name).__doc__ == f"{name}({signature}, /)"
    assert [key for key in vars(arrival) if not key.startswith("_")] == NAMES


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("accept", []),
        ("accept", [0]),
        ("accept", [0, True, 0]),
        ("accept", ["0", True]),
        ("accept", [0.0, True]),
        ("shut_down", ["0"]),
        ("shut_down", [None]),
    ],
)
def test_arguments_of_another_kind(name: str, arguments: list[Any]) -> None:
    with pytest.raises(TypeError):
        getattr(require_arrival(), name)(*arguments)


@pytest.mark.parametrize("fd", [1 << 31, (1 << 32) + 1, -(1 << 31) - 1, 1 << 70])
def test_descriptors_are_not_cut_to_the_size_of_an_int(fd: int) -> None:
    with pytest.raises(OverflowError):
        require_arrival().accept(fd, False)
    with pytest.raises(OverflowError):
        require_arrival().shut_down(fd)
