"""wsd/adopt.py and what is above it: sockets and descriptors that somebody else has opened, served by our loop."""

from __future__ import annotations

import ctypes
import errno
import os
import pty
import select
import socket
import termios
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import KEY, Client, frame, upgrade_request
from tests.support.context import Running, running
from tests.support.raws import Bytes, echo
from tests.support.timing import MS, PATIENCE, wait_until
from wsd import CLOSE, Context, PollFd, Protocol, Reason, callback_protocol
from wsd.config import Keepalive, Limits, Timeouts


def adopt(served: Running, fd: int, protocol: Protocol | str = "bytes", **options: Any) -> Any:
    return served.call(lambda: served.context.adopt_descriptor(fd, protocol, **options))


def adopt_socket(served: Running, sock: socket.socket, **options: Any) -> Any:
    options.setdefault("raw", True)
    return served.call(lambda: served.context.adopt_socket(sock, "bytes", **options))


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """One for wsd, one for the test, with a deadline."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    return ours, theirs


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname(), PATIENCE)
        return server.accept()[0], theirs


def everything(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


class TestDescriptors:
    def test_the_end_of_a_pipe(self) -> None:
        protocol = Bytes()
        reader, writer = os.pipe()
        with running([protocol]) as served:
            wsi = adopt(served, reader)
            assert protocol.wait_for_wsi() is wsi
            assert (wsi.is_raw, wsi.is_descriptor, wsi.is_client, wsi.is_established) == (True, True, False, True)
            assert wsi.fileno() == reader
            assert wsi.peer.address.startswith("pipe:[")
            os.write(writer, b"abc")
            assert protocol.wait_for_bytes(3) == b"abc"
            os.write(writer, b"last")
            os.close(writer)
            assert protocol.wait_for_bytes(4) == b"last"
            assert protocol.wait_for_end() is wsi
            assert wsi.why == "the other end ended the stream"
            assert (wsi.fileno(), wsi.send(b"x"), wsi.close(), wsi.callback_on_writable()) == (-1, CLOSE, CLOSE, CLOSE)
        assert protocol.calls == ["raw_adopt", "raw_receive", "raw_receive", "raw_close"]

    def test_what_is_in_the_pipe_when_its_writer_ends_waits_for_a_plugin_that_paused(self) -> None:
        """poll tells a hang-up as long as it lasts, and to who asked for nothing; the bytes before it are not lost."""
        protocol = Bytes(raw_adopt=lambda wsi: wsi.rx_flow_control(False))
        reader, writer = os.pipe()
        with running([protocol]) as served:
            wsi = adopt(served, reader)
            protocol.wait_for_wsi()
            os.write(writer, b"kept")
            os.close(writer)
            served.call(lambda: None)
            turns = served.call(lambda: served.context.counters.turns)
            assert served.call(lambda: served.context.counters.turns) <= turns + 2, "it spins"
            assert protocol.received.empty()
            served.call(lambda: wsi.rx_flow_control(True))
            assert protocol.wait_for_bytes(4) == b"kept"
            protocol.wait_for_end()

    def test_a_pipe_that_is_written_to(self) -> None:
        protocol = Bytes()
        reader, writer = os.pipe()
        with running([protocol]) as served:
            wsi = adopt(served, writer)
            protocol.wait_for_wsi()
            served.call(lambda: wsi.send("ü"))
            served.call(lambda: wsi.send(bytearray(b"abc")))
            assert os.read(reader, 2) + os.read(reader, 10) == "üabc".encode()
            os.close(reader)
            protocol.wait_for_end()
            assert wsi.why == "nobody reads it any more"

    def test_what_was_put_leaves_before_the_end(self) -> None:
        """A megabyte through a pipe of 64 KiB, and close() right behind it."""
        reader, writer = os.pipe()
        protocol = Bytes()
        data = os.urandom(1 << 20)
        with running([protocol], limits=Limits(max_queue_bytes=1 << 21)) as served:
            wsi = adopt(served, writer)
            served.call(lambda: (wsi.send(data), wsi.close()))
            with open(reader, "rb") as file:
                assert file.read() == data
            protocol.wait_for_end()
            assert wsi.why == "closed by us"

    def test_writing_in_the_hook_only(self) -> None:
        reader, writer = os.pipe()
        wrong: list[str] = []

        def adopted(wsi: Any) -> None:
            try:
                wsi.write(b"early")
            except RuntimeError as error:
                wrong.append(str(error))
            wsi.callback_on_writable()
            wsi.callback_on_writable()

        def writeable(wsi: Any) -> None:
            wsi.write(b"a")
            wsi.write(b"b", final=False)

        protocol = Bytes(raw_adopt=adopted, raw_writeable=writeable)
        with running([protocol]) as served:
            adopt(served, writer)
            assert os.read(reader, 10) == b"ab"
            assert "wsi.callback_on_writable()" in wrong[0]
            os.close(reader)
            protocol.wait_for_end()
        assert protocol.calls == ["raw_adopt", "raw_writeable", "raw_close"]

    def test_written_until_choked_it_goes_on_when_there_is_room(self) -> None:
        """The same discipline as for WebSockets: write until `send_pipe_choked`, ask again."""
        left = [1 << 20]

        def writeable(wsi: Any) -> None:
            while left[0] and not wsi.send_pipe_choked:
                wsi.write(bytes(4096))
                left[0] -= 4096
            if left[0]:
                wsi.callback_on_writable()
            else:
                wsi.close()

        reader, writer = os.pipe()
        protocol = Bytes(raw_adopt=lambda wsi: wsi.callback_on_writable(), raw_writeable=writeable)
        with running([protocol]) as served:
            wsi = adopt(served, writer)
            wait_until(lambda: served.call(lambda: wsi._output.is_choked))
            assert left[0] > 1 << 19, "more was made than anybody wants"
            with open(reader, "rb") as file:
                assert file.read() == bytes(1 << 20)

    def test_a_fifo(self, tmp_path: Path) -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        protocol = Bytes()
        with running([protocol]) as served:
            wsi = adopt(served, os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            assert wsi.peer.address == str(path)
            path.write_bytes(b"through the file system")
            assert protocol.wait_for_bytes(23) == b"through the file system"
            protocol.wait_for_end()

    def test_an_eventfd(self) -> None:
        protocol = Bytes()
        with running([protocol]) as served:
            fd = os.eventfd(0)
            wsi = adopt(served, fd)
            protocol.wait_for_wsi()
            os.eventfd_write(fd, 7)
            assert protocol.wait_for_bytes(8) == (7).to_bytes(8, "little")
            served.call(lambda: (wsi.send((1).to_bytes(8, "little")), wsi.send((2).to_bytes(8, "little"))))
            total = int.from_bytes(protocol.wait_for_bytes(8), "little")
            while total < 3:  # the kernel takes one number at a time, and adds them up until they are read
                total += int.from_bytes(protocol.wait_for_bytes(8), "little")
            served.call(wsi.close)
            protocol.wait_for_end()

    def test_inotify(self, tmp_path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_CLOEXEC)
        assert fd >= 0, errno.errorcode[ctypes.get_errno()]
        assert libc.inotify_add_watch(fd, os.fsencode(tmp_path), 0x100) >= 0  # IN_CREATE
        protocol = Bytes()
        with running([protocol]) as served:
            wsi = adopt(served, fd)
            assert "inotify" in wsi.peer.address
            protocol.wait_for_wsi()
            (tmp_path / "new.txt").touch()
            assert b"new.txt" in protocol.received.get(timeout=PATIENCE)
            # It cannot be written to; that costs this wsi, and says so.
            served.call(lambda: wsi.send(b"x"))
            protocol.wait_for_end()
            assert wsi.why == "EBADF"

    def test_a_terminal_and_its_mode_after_us(self) -> None:
        """As for a program in a shell: the terminal is read and written by us, and is the shell's again."""
        master, slave = pty.openpty()
        shell = os.dup(slave)
        attributes = termios.tcgetattr(slave)
        protocol = Bytes(raw_receive=lambda wsi, data: wsi.send(data.upper()))
        with running([protocol]) as served:
            wsi = adopt(served, slave)
            assert wsi.peer.address == os.ttyname(shell)
            os.write(master, b"hello\n")
            assert protocol.wait_for_bytes(6) == b"hello\n"
            shown = b""
            while b"HELLO\r\n" not in shown:
                assert select.select([master], [], [], PATIENCE)[0]
                shown += os.read(master, 100)
            assert not os.get_blocking(shell)
            os.write(master, b"\x04")  # ^D, the end of a terminal's input
            protocol.wait_for_end()
        assert os.get_blocking(shell), "the shell would read the end of its own input"
        assert termios.tcgetattr(shell) == attributes
        os.close(shell)
        os.close(master)

    def test_the_master_of_a_terminal_whose_program_ended(self) -> None:
        master, slave = pty.openpty()
        protocol = Bytes()
        with running([protocol]) as served:
            wsi = adopt(served, master)
            os.write(slave, b"bye")
            os.close(slave)
            assert protocol.wait_for_bytes(3) == b"bye"
            protocol.wait_for_end()
            assert wsi.why == "the other end ended the stream"

    def test_what_cannot_be_polled_stays_the_callers(self, tmp_path: Path) -> None:
        with open(tmp_path / "x", "w+b") as file, running([Bytes()]) as served:
            with pytest.raises(ValueError, match="cannot be polled"):
                adopt(served, file.fileno())
            file.write(b"still open")
            assert served.call(lambda: served.context.wsi_count) == 0

    def test_a_protocol_of_nobody_here(self) -> None:
        reader, writer = os.pipe()
        with running([Bytes()]) as served:
            with pytest.raises(ValueError, match="serves no protocol nobody"):
                adopt(served, reader, "nobody")
            assert os.get_blocking(reader)
        os.close(reader)
        os.close(writer)

    def test_a_reader_that_is_too_slow(self) -> None:
        reader, writer = os.pipe()
        protocol = Bytes()
        with running([protocol], timeouts=Timeouts(slow_reader_seconds=100 * MS)) as served:
            wsi = adopt(served, writer)
            served.call(lambda: wsi.send(bytes(1 << 18)))
            protocol.wait_for_end()
            assert wsi.why == "reader too slow"
        os.close(reader)

    def test_a_queue_that_grows_over_its_limit(self) -> None:
        reader, writer = os.pipe()
        protocol = Bytes()
        short = Timeouts(close_seconds=100 * MS)
        with running([protocol], limits=Limits(max_queue_bytes=1 << 17), timeouts=short) as served:
            wsi = adopt(served, writer)
            answers = served.call(lambda: [wsi.send(bytes(1 << 16)) for _ in range(5)])
            assert answers == [0, 0, CLOSE, CLOSE, CLOSE]
            protocol.wait_for_end()
        os.close(reader)

    def test_a_stop_lets_leave_what_was_put(self) -> None:
        reader, writer = os.pipe()
        protocol = Bytes()
        with running([protocol]) as served:
            wsi = adopt(served, writer)
            protocol.wait_for_wsi()
            served.call(lambda: (wsi.send(bytes(1 << 18)), served.context.stop()))
            with open(reader, "rb") as file:
                assert len(file.read()) == 1 << 18
            protocol.wait_for_end()

    def test_a_replaced_protocol_ends_its_descriptors_which_nobody_else_would(self) -> None:
        reader, writer = os.pipe()
        protocol = Bytes()
        with running([protocol]) as served:
            adopt(served, reader)
            protocol.wait_for_wsi()
            served.call(lambda: served.context.retire_protocol(protocol))
            protocol.wait_for_end()
        os.close(writer)

    def test_the_reasons_of_the_callback_style(self) -> None:
        seen: list[Any] = []

        @callback_protocol("bytes", session=list)
        def callback(wsi: Any, reason: Any, user: Any, data: Any) -> Any:
            if wsi is not None and reason < Reason.USER:
                seen.append((reason, user, data))
            if reason == Reason.RAW_ADOPT_FILE:
                wsi.callback_on_writable()
            if reason == Reason.RAW_WRITEABLE_FILE:
                wsi.write(b"out")
            if reason == Reason.RAW_RX_FILE:
                return CLOSE
            return None

        master, slave = pty.openpty()
        with running([callback]) as served:
            adopt(served, slave)
            assert os.read(master, 10) == b"out"
            os.write(master, b"in\n")
            wait_until(lambda: len(seen) == 4)
        os.close(master)
        assert seen == [
            (Reason.RAW_ADOPT_FILE, [], None),
            (Reason.RAW_WRITEABLE_FILE, [], None),
            (Reason.RAW_RX_FILE, [], b"in\n"),
            (Reason.RAW_CLOSE_FILE, [], None),
        ]


class TestRawSockets:
    def test_an_echo(self) -> None:
        protocol = Bytes(raw_receive=echo)
        ours, theirs = tcp_pair()
        with running([protocol], keepalive=Keepalive(time_seconds=77)) as served, theirs:
            wsi = adopt_socket(served, ours)
            assert (wsi.is_raw, wsi.is_descriptor, wsi.is_client, wsi.listener) == (True, False, False, None)
            assert (wsi.peer, wsi.local) == (theirs.getsockname(), theirs.getpeername())
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
            theirs.sendall(b"abc")
            assert theirs.recv(10) == b"abc"
            assert list(protocol.wsis) == [wsi]
            theirs.shutdown(socket.SHUT_WR)
            assert everything(theirs) == b""
            protocol.wait_for_end()
            assert not protocol.wsis

    def test_what_came_before_the_peers_end_is_answered(self) -> None:
        """As `echo request | nc`: bytes and the end at once; the answer is written in the hook, then comes the end."""
        protocol = Bytes(
            raw_receive=lambda wsi, data: wsi.callback_on_writable(),
            raw_writeable=lambda wsi: wsi.write(b"answer"),
        )
        ours, theirs = socket_pair()
        theirs.sendall(b"question")
        theirs.shutdown(socket.SHUT_WR)
        with running([protocol]) as served, theirs:
            adopt_socket(served, ours)
            assert everything(theirs) == b"answer"
            protocol.wait_for_end()

    def test_after_its_end_a_plugin_that_always_asks_is_asked_no_more(self) -> None:
        def writeable(wsi: Any) -> None:
            wsi.write(b"x")
            wsi.callback_on_writable()

        protocol = Bytes(raw_adopt=lambda wsi: wsi.callback_on_writable(), raw_writeable=writeable)
        ours, theirs = socket_pair()
        with running([protocol]) as served, theirs:
            adopt_socket(served, ours)
            assert theirs.recv(1) == b"x"
            theirs.shutdown(socket.SHUT_WR)
            everything(theirs)
            protocol.wait_for_end()

    def test_a_close_waits_for_the_peers_end_and_drops_what_comes(self) -> None:
        """A close with unread input would be a reset, which can overtake what was sent."""
        protocol = Bytes()
        ours, theirs = tcp_pair()
        with running([protocol]) as served, theirs:
            wsi = adopt_socket(served, ours)
            protocol.wait_for_wsi()
            served.call(lambda: (wsi.send(b"last words"), wsi.close()))
            assert everything(theirs) == b"last words"
            theirs.sendall(b"too late")
            assert protocol.ended.empty()
            theirs.shutdown(socket.SHUT_WR)
            protocol.wait_for_end()
        assert "raw_receive" not in protocol.calls

    def test_a_reset(self) -> None:
        protocol = Bytes()
        ours, theirs = tcp_pair()
        with running([protocol]) as served:
            wsi = adopt_socket(served, ours)
            protocol.wait_for_wsi()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            theirs.close()
            protocol.wait_for_end()
            assert wsi.why == "ECONNRESET"

    def test_a_reset_while_it_is_paused(self) -> None:
        protocol = Bytes(raw_adopt=lambda wsi: wsi.rx_flow_control(False))
        ours, theirs = tcp_pair()
        with running([protocol]) as served:
            wsi = adopt_socket(served, ours)
            protocol.wait_for_wsi()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            theirs.close()
            protocol.wait_for_end()
            assert wsi.why == "ECONNRESET"

    def test_a_peer_that_is_gone_while_it_is_paused_is_heard_out(self) -> None:
        protocol = Bytes(raw_adopt=lambda wsi: wsi.rx_flow_control(False))
        ours, theirs = socket_pair()
        with running([protocol]) as served:
            wsi = adopt_socket(served, ours)
            protocol.wait_for_wsi()
            theirs.sendall(b"heard")
            theirs.close()
            served.call(lambda: None)
            served.call(lambda: wsi.rx_flow_control(True))
            assert protocol.wait_for_bytes(5) == b"heard"
            protocol.wait_for_end()

    def test_flow_control_reaches_the_peer(self) -> None:
        """While a plugin wants nothing, not a byte is read, and the peer's kernel takes no more."""
        protocol = Bytes(raw_adopt=lambda wsi: wsi.rx_flow_control(False))
        ours, theirs = socket_pair()
        theirs.setblocking(False)
        with running([protocol]) as served, theirs:
            wsi = adopt_socket(served, ours)
            protocol.wait_for_wsi()
            sent = 0
            try:
                while True:
                    sent += theirs.send(bytes(65536))
            except BlockingIOError:
                pass
            assert protocol.received.empty()
            served.call(lambda: wsi.rx_flow_control(True))
            protocol.wait_for_bytes(sent)

    def test_timers(self) -> None:
        protocol = Bytes(raw_adopt=lambda wsi: wsi.set_timer(MS), timer=lambda wsi: wsi.set_timeout(MS))
        ours, theirs = socket_pair()
        with running([protocol]) as served, theirs:
            wsi = adopt_socket(served, ours)
            assert everything(theirs) == b""
            theirs.close()
            protocol.wait_for_end()
            assert wsi.why == "timed out"
        assert protocol.calls == ["raw_adopt", "timer", "raw_close"]

    @pytest.mark.parametrize("hook", ["raw_adopt", "raw_receive", "raw_writeable", "timer", "user"])
    @pytest.mark.parametrize(
        ("fault", "errors"),
        [(lambda *_: 1 // 0, 1), (lambda *_: True, 1), (lambda *_: CLOSE, 0)],
        ids=["raise", "True", "CLOSE"],
    )
    def test_what_a_hook_answers_ends_this_one_alone(self, hook: str, fault: Any, errors: int) -> None:
        def adopted(wsi: Any) -> None:
            wsi.callback_on_writable()
            wsi.set_timer(MS)

        protocol = Bytes(**{"raw_adopt": adopted, hook: fault})
        (ours, theirs), (our_other, other) = socket_pair(), socket_pair()
        with running([protocol]) as served, theirs, other:
            adopt_socket(served, ours)
            theirs.sendall(b"x")
            served.call(lambda: served.context.callback_all_protocol(protocol, 1000))
            everything(theirs)
            theirs.close()
            protocol.wait_for_end()
            protocol.does = {"raw_receive": echo}
            adopt_socket(served, our_other)
            other.sendall(b"alive")
            assert other.recv(10) == b"alive"
            assert served.call(lambda: served.context.counters.plugin_errors) == errors

    def test_a_broadcast_reaches_it_as_bytes(self) -> None:
        protocol = Bytes()
        ours, theirs = socket_pair()
        with running([protocol]) as served, theirs:
            adopt_socket(served, ours)
            protocol.wait_for_wsi()
            served.call(lambda: protocol.broadcast("to all"))
            assert theirs.recv(10) == b"to all"
            served.call(lambda: served.context.callback_on_writable_all_protocol(protocol))
            wait_until(lambda: "raw_writeable" in protocol.calls)

    def test_what_is_sent_before_the_plugin_is_told_waits_for_that(self) -> None:
        told: list[bool] = []
        ours, theirs = socket_pair()

        def adopted(wsi: Any) -> None:
            told.append(bool(select.select([theirs], [], [], 0)[0]))

        protocol = Bytes(raw_adopt=adopted)
        with running([protocol]) as served, theirs:

            def take() -> None:
                wsi = served.context.adopt_socket(ours, protocol, raw=True)
                assert (wsi.send(b"banner"), wsi.callback_on_writable()) == (0, 0)
                assert not wsi.is_established

            served.call(take)
            assert theirs.recv(10) == b"banner"
            wait_until(lambda: "raw_writeable" in protocol.calls)
        assert told == [False], "bytes left before it"
        assert protocol.calls == ["raw_adopt", "raw_writeable", "raw_close"]

    def test_closed_before_the_plugin_is_told_it_is_not(self) -> None:
        ours, theirs = socket_pair()
        protocol = Bytes()
        with running([protocol]) as served, theirs:
            served.call(lambda: served.context.adopt_socket(ours, protocol, raw=True).close())
            assert everything(theirs) == b""
            theirs.close()
            wait_until(lambda: not served.call(lambda: served.context.wsi_count))
        assert protocol.calls == []

    def test_stopped_before_the_plugin_is_told(self) -> None:
        ours, theirs = socket_pair()
        protocol = Bytes()
        with theirs:
            with Context([protocol]) as context:
                context.adopt_socket(ours, protocol, raw=True)
                context.stop()
                theirs.close()
                context.run()
        assert protocol.calls == []

    def test_a_session_that_raises(self) -> None:
        class Faulty(Bytes):
            def Session(self) -> None:  # type: ignore[override]
                raise ZeroDivisionError

        ours, theirs = socket_pair()
        protocol = Faulty()
        with running([protocol]) as served, theirs:
            adopt_socket(served, ours)
            assert everything(theirs) == b""
            wait_until(lambda: not served.call(lambda: served.context.wsi_count))
        assert protocol.calls == []

    def test_inside_a_hook_no_hook_runs(self) -> None:
        """Adopting in a hook: the new one is told when that has returned."""
        (ours, theirs), (our_other, other) = socket_pair(), socket_pair()
        order: list[str] = []

        def receive(wsi: Any, data: bytes) -> None:
            wsi.context.adopt_socket(our_other, "bytes", raw=True)
            order.append("returns")

        protocol = Bytes(raw_receive=receive, raw_adopt=lambda wsi: order.append("adopt"))
        with running([protocol]) as served, theirs, other:
            adopt_socket(served, ours)
            theirs.sendall(b"x")
            wait_until(lambda: len(order) == 3)
        assert order == ["adopt", "returns", "adopt"]


class TestWebSockets:
    def test_an_accepted_socket_becomes_a_websocket(self) -> None:
        protocol = Bytes(message=lambda wsi, message: wsi.send(message))
        ours, theirs = tcp_pair()
        with running([protocol]) as served, theirs:
            wsi = adopt_socket(served, ours, raw=False)
            theirs.sendall(upgrade_request("/any?where=here", "bytes") + frame(1, "hello"))
            answer = b""
            while b"\x81\x05hello" not in answer:
                answer += theirs.recv(4096)
            assert answer.startswith(b"HTTP/1.1 101")
            assert KEY.encode() not in answer
            assert protocol.wait_for_wsi() is wsi
            assert (wsi.is_raw, wsi.is_client, wsi.listener, wsi.subprotocol) == (False, False, None, "bytes")
            assert wsi.request.arg("where") == "here"

    def test_it_speaks_http(self) -> None:
        ours, theirs = tcp_pair()
        with running([Bytes()]) as served, theirs:
            adopt_socket(served, ours, raw=False)
            theirs.sendall(b"GET /nothing-here HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert everything(theirs).startswith(b"HTTP/1.1 404")

    def test_another_protocol_than_the_one_it_was_adopted_for(self) -> None:
        class Other(Bytes):
            name = "other"

        ours, theirs = tcp_pair()
        with running([Bytes(), Other()]) as served, theirs:
            adopt_socket(served, ours, raw=False)
            theirs.sendall(upgrade_request("/", "other"))
            assert theirs.recv(4096).startswith(b"HTTP/1.1 400")


class TestRefused:
    def test_a_datagram_socket(self) -> None:
        with running([Bytes()]) as served, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            with pytest.raises(ValueError, match="a stream socket is wanted"):
                adopt_socket(served, sock)
            assert sock.fileno() >= 0

    def test_a_socket_that_is_not_connected(self) -> None:
        with running([Bytes()]) as served, socket.socket() as sock:
            with pytest.raises(ValueError, match="the socket is not connected"):
                adopt_socket(served, sock)
            assert sock.fileno() >= 0

    def test_at_the_limit_accepting_pauses(self) -> None:
        protocol = Bytes()
        ours, theirs = socket_pair()
        with running([protocol], limits=Limits(max_connections=1)) as served, theirs:
            wsi = adopt_socket(served, ours)
            with Client(served.port) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert served.call(lambda: served.context.wsi_count) == 1
                served.call(wsi.abort)
                assert client.receive_end().startswith(b"HTTP/1.1 200")


class TestSomebodyElsesLoop:
    class Table(Protocol):
        """Protocol 0, which notes what is to be polled."""

        name = "table"

        def __init__(self) -> None:
            self.fds: dict[int, int] = {}

        def on_add_poll_fd(self, fd: int, events: int) -> None:
            assert fd not in self.fds
            self.fds[fd] = events

        def on_set_mode_poll_fd(self, fd: int, events: int) -> None:
            self.fds[fd] |= events

        def on_clear_mode_poll_fd(self, fd: int, events: int) -> None:
            self.fds[fd] &= ~events

        def on_del_poll_fd(self, fd: int) -> None:
            del self.fds[fd]

    def serve(self, context: Context, table: dict[int, int]) -> None:
        """What poll has for the context now."""
        context.service_fd(None)
        poll = select.poll()
        for fd, events in table.items():
            poll.register(fd, events)
        for fd, revents in poll.poll(0):
            context.service_fd(PollFd(fd, table.get(fd, 0), revents))
        context.service_fd(None)

    def test_a_hang_up_that_nobody_wants_to_know_of_is_not_polled_for(self) -> None:
        """poll(2) reports POLLHUP whatever was asked for, so there is one way only: to have it left out."""
        protocol, table = Bytes(raw_adopt=lambda wsi: wsi.rx_flow_control(False)), self.Table()
        reader, writer = os.pipe()
        with Context([table, protocol], external_poll=True) as context:
            wsi = context.adopt_descriptor(reader, protocol)
            self.serve(context, table.fds)
            assert table.fds[reader] == 0
            os.write(writer, b"kept")
            os.close(writer)
            self.serve(context, table.fds)
            assert reader not in table.fds
            wsi.rx_flow_control(True)
            assert table.fds[reader] == select.POLLIN
            for _ in range(3):
                self.serve(context, table.fds)
            assert protocol.wait_for_bytes(4) == b"kept"
            assert protocol.wait_for_end() is wsi
            assert reader not in table.fds
        assert not table.fds
