"""wsd/descriptor.py: a plain descriptor as a byte pipe, and the open file left as it was."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsd.descriptor import DescriptorPipe, name_of
from wsd.errors import PipeBroken


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """A pipe's two descriptors; closed at the end, unless a test has done so."""
    pair = os.pipe()
    yield pair
    close(*pair)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Master and slave of a pseudo-terminal."""
    pair = pty.openpty()
    yield pair
    close(*pair)


def close(*fds: int) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


def received(pipe: DescriptorPipe) -> bytes | None:
    """One receive; None: nothing is there."""
    buffer = bytearray(100)
    size = pipe.receive_into(buffer)
    return None if size < 0 else bytes(buffer[:size])


class TestReading:
    def test_bytes_nothing_and_the_end(self, ends: tuple[int, int]) -> None:
        pipe = DescriptorPipe(ends[0])
        assert received(pipe) is None
        os.write(ends[1], b"abc")
        assert received(pipe) == b"abc"
        os.close(ends[1])
        assert received(pipe) == b""
        pipe.close()

    def test_what_is_for_writing_only(self, ends: tuple[int, int]) -> None:
        pipe = DescriptorPipe(ends[1])
        with pytest.raises(PipeBroken, match="EBADF"):
            received(pipe)
        pipe.close()

    def test_a_terminal_that_hung_up_is_at_its_end(self, terminal: tuple[int, int]) -> None:
        master, slave = terminal
        pipe = DescriptorPipe(master)
        os.close(slave)
        assert received(pipe) == b""
        pipe.close()

    def test_an_eventfd_counts(self) -> None:
        fd = os.eventfd(0)
        pipe = DescriptorPipe(fd)
        assert received(pipe) is None
        os.eventfd_write(fd, 3)
        assert received(pipe) == (3).to_bytes(8, "little")
        pipe.close()


class TestWriting:
    def test_as_much_as_the_kernel_takes(self, ends: tuple[int, int]) -> None:
        pipe = DescriptorPipe(ends[1])
        assert pipe.send(b"abc") == 3
        assert pipe.send_many([b"d", memoryview(b"ef")]) == 3
        assert os.read(ends[0], 10) == b"abcdef"
        taken = pipe.send(bytes(1 << 20))
        assert 0 < taken < 1 << 20
        assert pipe.send(b"more") == pipe.send_many([b"more"]) == 0
        assert pipe.in_flight() == taken
        pipe.close()

    def test_nobody_reads_it_any_more(self, ends: tuple[int, int]) -> None:
        pipe = DescriptorPipe(ends[1])
        os.close(ends[0])
        with pytest.raises(PipeBroken, match="EPIPE"):
            pipe.send(b"x")
        with pytest.raises(PipeBroken, match="EPIPE"):
            pipe.send_many([b"x"])
        assert pipe.error_text() == "nobody reads it any more"
        pipe.close()

    def test_a_terminal_tells_what_it_has_not_shown(self, terminal: tuple[int, int]) -> None:
        pipe = DescriptorPipe(terminal[1])
        assert pipe.in_flight() == 0
        assert pipe.send(b"hello") == 5
        assert os.read(terminal[0], 10) == b"hello"
        pipe.close()

    def test_an_eventfd_takes_one_number_at_a_time_and_cannot_be_asked(self) -> None:
        pipe = DescriptorPipe(os.eventfd(0))
        one = (1).to_bytes(8, "little")
        assert pipe.send(one + one) == pipe.send_many([one, one]) == 8
        assert received(pipe) == (2).to_bytes(8, "little")
        assert pipe.in_flight() == 0
        pipe.close()


class TestWhatCannotBePolled:
    def test_a_regular_file(self, tmp_path: Path) -> None:
        with open(tmp_path / "lines.txt", "w+b") as file:
            with pytest.raises(ValueError, match=r"lines\.txt\) cannot be polled: it is always ready"):
                DescriptorPipe(file.fileno())
            assert os.get_blocking(file.fileno())

    def test_the_null_device(self) -> None:
        with open("/dev/null", "rb") as file, pytest.raises(ValueError, match="/dev/null"):
            DescriptorPipe(file.fileno())

    def test_a_folder(self, tmp_path: Path) -> None:
        fd = os.open(tmp_path, os.O_RDONLY)
        try:
            with pytest.raises(ValueError, match="cannot be polled"):
                DescriptorPipe(fd)
        finally:
            os.close(fd)

    def test_no_descriptor(self, ends: tuple[int, int]) -> None:
        os.close(ends[0])
        with pytest.raises(ValueError, match=rf"descriptor {ends[0]}: Bad file descriptor"):
            DescriptorPipe(ends[0])


class TestTheOpenFile:
    """O_NONBLOCK is the open file's: the shell's too, whose terminal we read."""

    def test_a_blocking_one_is_blocking_again(self, ends: tuple[int, int]) -> None:
        shell = os.dup(ends[0])
        pipe = DescriptorPipe(ends[0])
        assert not os.get_blocking(shell)
        pipe.close()
        assert os.get_blocking(shell)
        os.close(shell)

    def test_one_that_was_not_blocking_stays_so(self, ends: tuple[int, int]) -> None:
        shell = os.dup(ends[0])
        os.set_blocking(shell, False)
        DescriptorPipe(ends[0]).close()
        assert not os.get_blocking(shell)
        os.close(shell)

    @pytest.mark.parametrize("first", [0, 1])
    def test_two_of_ours_on_one_terminal(self, terminal: tuple[int, int], first: int) -> None:
        """Standard input and output of a program in a terminal: whichever ends first must not stop the other."""
        shell = terminal[1]
        pipes = [DescriptorPipe(os.dup(shell)), DescriptorPipe(os.dup(shell))]
        pipes.pop(first).close()
        assert not os.get_blocking(shell), "a read of the other would hold the loop"
        pipes.pop().close()
        assert os.get_blocking(shell)

    def test_two_that_have_nothing_to_do_with_each_other(self) -> None:
        one, other = os.pipe(), os.pipe()
        os.set_blocking(other[0], False)
        shells = os.dup(one[0]), os.dup(other[0])
        pipes = DescriptorPipe(one[0]), DescriptorPipe(other[0])
        pipes[0].close()
        assert os.get_blocking(shells[0])
        assert not os.get_blocking(shells[1])
        pipes[1].close()
        assert not os.get_blocking(shells[1])
        close(*shells, one[1], other[1])

    def test_it_is_closed_once(self, ends: tuple[int, int]) -> None:
        pipe = DescriptorPipe(ends[0])
        assert pipe.fileno() == ends[0]
        pipe.shutdown_write()  # which has no meaning here
        pipe.close()
        assert pipe.fileno() == -1
        new = os.dup(ends[1])  # the lowest number that is free, so that of the one which was closed
        pipe.close()
        assert os.fstat(new)
        os.close(new)


def test_the_kernels_names(terminal: tuple[int, int], ends: tuple[int, int]) -> None:
    assert name_of(terminal[1]) == os.ttyname(terminal[1])
    assert name_of(ends[0]).startswith("pipe:[")
    assert name_of(1 << 20) == "descriptor 1048576"
