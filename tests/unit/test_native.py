"""What only C can get wrong: arguments that are something else, references, and objects that change or go meanwhile.

What the functions answer is held equal to their Python twins in test_twin.py, test_mask.py and test_syscalls.py;
`make check-native` runs all of them, and this, under AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

import errno
import gc
import inspect
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import BINARY, TEXT, frame
from tests.support.native import TWINS, require_native

NAMES = ["mask", "is_utf8", "parse", "frame", "receive", "receive_payload", "send"]
NAMES += ["rest", "serve_events", "serve_writers"]
DATA = frame(TEXT, "ab")


@pytest.fixture
def native() -> Any:
    """The extension."""
    return require_native()


class Number:
    """Something that a number can be made of, by code that could do what it likes meanwhile."""

    def __index__(self) -> int:
        raise AssertionError("it was asked")


class Text(bytes):
    """Bytes with something of their own."""


@pytest.mark.parametrize("name", NAMES)
def test_it_has_each_of_them_and_says_what_it_takes(native: Any, name: str) -> None:
    signature = ", ".join(inspect.signature(getattr(TWINS, name)).parameters)
    assert getattr(native, name).__doc__.replace("=0", "") == f"{name}({signature}, /)"
    others = ["make_spread", "straighten", "hasten_tls"]
    assert [key for key in vars(native) if not key.startswith("_")] == NAMES + others


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mask", []),
        ("mask", [b"data"]),
        ("mask", [b"data", b"1234", 0, 0]),
        ("mask", ["data", b"1234"]),
        ("mask", [5, b"1234"]),
        ("mask", [b"data", "1234"]),
        ("mask", [b"data", bytearray(b"1234")]),
        ("mask", [b"data", b"1234", 1.5]),
        ("is_utf8", ["text"]),
        ("is_utf8", [None]),
        ("parse", [DATA, 8, 0, 1]),
        ("parse", [DATA, 8, 0, 1, [], 0]),
        ("parse", ["text", 4, 0, 1, []]),
        ("parse", [DATA, "8", 0, 1, []]),
        ("parse", [DATA, 8, None, 1, []]),
        ("parse", [DATA, Number(), 0, 1, []]),
        ("receive", [Number(), bytearray(9), 0, 1, []]),
        ("parse", [DATA, 8, 0, 1.0, []]),
        ("parse", [DATA, 8, 0, 1, ()]),
        ("parse", [DATA, 8, 0, 1, None]),
        ("frame", [0x81]),
        ("frame", [0x81, "text"]),
        ("frame", [0x81, bytearray(b"x")]),
        ("frame", ["81", b"x"]),
        ("receive", [0, bytearray(9), 0, 1]),
        ("receive", ["0", bytearray(9), 0, 1, []]),
        ("receive", [0, bytearray(9), 0, 1, ()]),
        ("receive", [0, bytearray(9), "0", 1, []]),
        ("receive", [0, bytearray(9), 0, "1", []]),
        ("receive", [0, "text", 0, 1, []]),
        ("receive_payload", [0, 9, b"1234"]),
        ("receive_payload", ["0", 9, b"1234", 0]),
        ("receive_payload", [0, Number(), b"1234", 0]),
        ("receive_payload", [0, 9, bytearray(b"1234"), 0]),
        ("receive_payload", [0, 9, b"1234", "0"]),
        ("send", [0]),
        ("send", ["0", []]),
        ("send", [0, (b"x",)]),
        ("send", [0, b"x"]),
        ("rest", []),
        ("rest", ["10"]),
        ("rest", [10.0]),
        ("rest", [Number()]),
    ],
)
def test_arguments_of_another_kind(native: Any, name: str, arguments: list[Any]) -> None:
    with pytest.raises(TypeError):
        getattr(native, name)(*arguments)


@pytest.mark.parametrize("name", NAMES)
def test_no_arguments_by_name(native: Any, name: str) -> None:
    with pytest.raises(TypeError):
        getattr(native, name)(data=b"")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mask", [b"data", b"1234", 1 << 70]),
        ("parse", [DATA, 1 << 70, 0, 1, []]),
        ("parse", [DATA, 8, 1 << 63, 1, []]),
        ("frame", [1 << 70, b""]),
        ("rest", [1 << 70]),
    ],
)
def test_numbers_beyond_those_of_the_machine(native: Any, name: str, arguments: list[Any]) -> None:
    with pytest.raises(OverflowError):
        getattr(native, name)(*arguments)


@pytest.mark.parametrize("fd", [1 << 31, (1 << 32) + 1, -(1 << 31) - 1, 1 << 70])
def test_descriptors_are_not_cut_to_the_size_of_an_int(native: Any, fd: int) -> None:
    with pytest.raises(OverflowError):
        native.receive(fd, bytearray(9), 0, 1, [])
    with pytest.raises(OverflowError):
        native.send(fd, [b"x"])


@pytest.mark.parametrize("microseconds", [-1, 1_000_000])
def test_a_rest_that_is_none(native: Any, microseconds: int) -> None:
    with pytest.raises(ValueError, match="less than a second"):
        native.rest(microseconds)


def test_a_rest_leaves_the_sleeps_of_its_thread_as_they_were(native: Any) -> None:
    slack = Path("/proc/self/timerslack_ns")  # of the main thread, in which tests run
    before = slack.read_text()
    started = time.monotonic_ns()
    assert native.rest(10) is None
    assert time.monotonic_ns() - started >= 10_000
    assert slack.read_text() == before


def test_what_may_not_be_written_to_receives_nothing(native: Any) -> None:
    """And what came is still there."""
    ours, peer = socket.socketpair()
    with ours, peer:
        peer.send(DATA)
        for buffer in (bytes(9), memoryview(bytes(9))):
            with pytest.raises((TypeError, BufferError)):
                native.receive(ours.fileno(), buffer, 0, 1, [])
        assert ours.recv(100) == DATA


def test_memory_with_gaps_is_refused(native: Any) -> None:
    gaps = memoryview(bytearray(20))[::2]
    for call in (
        lambda: native.mask(gaps, b"1234"),
        lambda: native.is_utf8(gaps),
        lambda: native.parse(gaps, 5, 0, 1, []),
        lambda: native.receive(0, gaps, 0, 1, []),
        lambda: native.send(0, [gaps]),
    ):
        with pytest.raises(BufferError):
            call()


def test_a_view_that_was_released_is_refused(native: Any) -> None:
    view = memoryview(b"abc")
    view.release()
    for call in (lambda: native.mask(view, b"1234"), lambda: native.send(0, [b"x", view])):
        with pytest.raises(ValueError, match="released"):
            call()


def test_a_buffer_is_let_go_of_whatever_happens(native: Any) -> None:
    """One that is still held cannot grow."""
    buffer = bytearray(DATA)
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        native.mask(buffer, b"1234")
        native.is_utf8(buffer)
        native.parse(buffer, 8, 0, 1, [])
        native.receive(ours.fileno(), buffer, 0, 1, [])
        native.send(ours.fileno(), [memoryview(buffer), b"x"])
        for wrong in ((buffer, 100, 0, 1, []), (buffer, 1, -1, 1, [])):
            with pytest.raises(ValueError, match=r"negative|holds"):
                native.parse(*wrong)
    buffer += b"grows"


def test_kinds_of_bytes_and_of_lists(native: Any) -> None:
    class Pieces(list[Any]):
        pass

    pieces = Pieces()
    assert native.parse(Text(DATA), len(DATA), 0, 1, pieces) == len(DATA)
    assert pieces == [(TEXT, b"ab", True, True, 0)]
    assert type(native.frame(0x82, Text(b"ab"))) is bytes
    assert native.mask(b"ab", Text(b"1234")) == native.mask(b"ab", b"1234")


def test_what_everybody_shares_is_not_written_to(native: Any) -> None:
    """CPython has one object for no bytes, and one for each single byte."""
    pieces: list[Any] = []
    data = b"".join(frame(BINARY, bytes([byte])) + frame(BINARY, b"") for byte in range(256))
    assert native.parse(data, len(data), 0, 1000, pieces) == len(data)
    assert [native.mask(bytes([byte]), b"\xff\0\0\0")[0] for byte in range(256)] == list(range(255, -1, -1))
    assert native.mask(b"", b"1234") == b"" == bytes(0)
    assert [bytes([byte])[0] for byte in range(256)] == list(range(256))


@pytest.mark.parametrize("parts", [[b"one"], [b"one", b"two"], [bytes(40000), b"x"]])
def test_a_peer_that_is_gone_is_no_signal(native: Any, parts: list[Any]) -> None:
    """Python ignores SIGPIPE, but who embeds wsd may not."""
    heard: list[int] = []
    before = signal.signal(signal.SIGPIPE, lambda number, frame: heard.append(number))
    ours, peer = socket.socketpair()
    try:
        with ours:
            peer.close()
            assert native.send(ours.fileno(), parts) == -errno.EPIPE
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert heard == []


def test_nothing_is_leaked(native: Any) -> None:
    """Neither references to what was handed in, nor blocks of memory, on any way through."""
    key, payload, buffer = b"12" + b"34" * 1, bytes(5000), bytearray(DATA * 3 + frame(BINARY, bytes(300)))
    bad = frame(TEXT, b"a\xff")
    ours, peer = socket.socketpair()
    parts: list[Any] = [payload[:7], memoryview(payload)[:9]]
    room = bytearray(16)

    def all_ways() -> None:
        native.mask(payload, key, 3)
        native.is_utf8(payload)
        native.frame(0x81, payload)
        native.parse(buffer, len(buffer), 0, 100, [])
        native.parse(bad, len(bad), 0, 100, [])
        native.send(peer.fileno(), parts)
        native.receive(ours.fileno(), room, 0, 100, [])
        native.receive(ours.fileno(), room, 0, 100, [])
        for wrong in ((payload, b"", 0), (payload, key, -1), ("", key)):
            try:
                native.mask(*wrong)
            except (ValueError, TypeError):
                pass
        try:
            native.send(peer.fileno(), [b"x", parts[1], "text"])
        except TypeError:
            pass

    with ours, peer:
        ours.setblocking(False)
        all_ways()
        held = [sys.getrefcount(thing) for thing in (key, payload, buffer, bad, parts, *parts, room)]
        gc.collect()
        blocks = sys.getallocatedblocks()
        for _ in range(200):
            all_ways()
        gc.collect()
        assert [sys.getrefcount(thing) for thing in (key, payload, buffer, bad, parts, *parts, room)] == held
        assert abs(sys.getallocatedblocks() - blocks) < 100
