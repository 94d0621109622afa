"""The relay over real connections: constant memory, the pace of the slower side, every way in which a side can go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Client,
    Frame,
    close_frame,
    connect,
    frame,
    upgrade_request,
)
from tests.support.context import Running, running
from tests.support.daemon import Site
from tests.support.deflating import OFFER, RSV1, Deflating
from tests.support.fakes import PLUGINS
from tests.support.flowing import Sink, Source, wait_for_pongs
from tests.support.memory import MIB, grows_less_than
from tests.support.server import Server
from tests.support.timing import wait_until
from wsd.options_limits import Timeouts
from wsd.plugins import load

LEFT = (1001, "the other one left")

# What the kernel may hold between two ends: the largest receive and send buffer that it makes by itself (tcp(7)).
HOP = sum(int(Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2]) for way in "rw")

IN_FLIGHT = 2 * HOP + 8 * MIB
"""More than the kernels of all four sockets hold when nobody reads: Linux lets each grow to 6 MiB, by default."""


class Served:
    """A context with the relay."""

    def __init__(self, served: Running, protocol: Any) -> None:
        self.served = served
        self.protocol = protocol
        self.port = served.port

    def join(self, room: str = "room", **options: Any) -> Client:
        return connect(self.port, "relay", f"/?room={room}", **options)

    def wait_members(self, *counts: int) -> None:
        """Wait until the rooms have so many members each."""
        wait_until(lambda: self.served.call(lambda: [len(room) for room in self.protocol.rooms.values()]) == [*counts])

    def sides(self) -> list[Any]:
        """The sessions, oldest connection first."""
        return [wsi.session for wsi in self.protocol.wsis]


@contextlib.contextmanager
def serve(timeouts: Timeouts | None = None, **options: Any) -> Iterator[Served]:
    (protocol,) = load(PLUGINS / "relay.py").protocols
    assert protocol.Options is not None
    filled = {"relay": protocol.Options(**options)}
    with running([protocol], options=filled, timeouts=timeouts or Timeouts()) as served:
        yield Served(served, protocol)


@pytest.fixture
def relay() -> Iterator[Served]:
    with serve() as served:
        yield served


@contextlib.contextmanager
def pair(relay: Served, **options: Any) -> Iterator[tuple[Client, Client]]:
    """Two that are joined; `options` are the second one's."""
    with relay.join() as one, relay.join(**options) as two:
        yield one, two


def close_of(client: Client) -> tuple[int, str]:
    """The Close that comes, which we answer; behind it comes nothing."""
    close = client.receive_close()
    client.send(close_frame(close.close_code))
    assert client.receive_end() == b""
    return close.close_code, close.close_reason


def close_of_sender(client: Client) -> tuple[int, str]:
    """The Close that somebody gets who is still sending; the thread that does shares its socket."""
    close = client.receive_close()
    return close.close_code, close.close_reason


class TestMessages:
    def test_they_come_as_they_went(self, relay: Served) -> None:
        messages: list[str | bytes] = ["text", b"\0\xff", "", b"", "gr\xfc\xdfe", bytes(70_000), "x" * 200_000]
        with pair(relay) as (one, two):
            for sender, receiver in ((one, two), (two, one)):
                for message in messages:
                    sender.send(frame(TEXT if isinstance(message, str) else BINARY, message))
                assert [receiver.receive_message() for _ in messages] == messages

    def test_a_fragment_is_there_before_the_next_is_sent(self, relay: Served) -> None:
        with pair(relay) as (one, two):
            one.send(frame(TEXT, b"\xe2\x82", final=False))  # half a character
            assert two.receive_frame() == Frame(TEXT, b"\xe2\x82", final=False)
            two.send(frame(BINARY, b"other way", final=False))
            assert one.receive_frame() == Frame(BINARY, b"other way", final=False)
            one.send(frame(CONTINUATION, b"\xac"))
            assert two.receive_frame() == Frame(CONTINUATION, b"\xac")
            two.send(frame(CONTINUATION))
            assert one.receive_frame() == Frame(CONTINUATION, b"")

    def test_control_frames_are_each_sides_own(self, relay: Served) -> None:
        with pair(relay) as (one, two):
            one.send(
                frame(TEXT, "a", final=False), frame(PING, "here"), frame(PONG, "unasked"), frame(CONTINUATION, "b")
            )
            assert one.receive_frame() == Frame(PONG, b"here")
            assert two.receive_message() == "ab"
            two.send(frame(PING, "there"))
            assert two.receive_frame() == Frame(PONG, b"there")

    def test_both_at_once(self, relay: Served) -> None:
        size = 8 * MIB
        with pair(relay) as (one, two), Source(one, size, seed=1) as right, Source(two, size, seed=2) as left:
            at_two, at_one = Sink(two), Sink(one)
            while not (at_one.is_complete and at_two.is_complete):
                for sink in (at_one, at_two):
                    if not sink.is_complete:
                        assert sink.take() is not None
            right.wait()
            left.wait()
            assert (at_two.received, at_two.crc) == (size, right.crc)
            assert (at_one.received, at_one.crc) == (size, left.crc)


class TestCompression:
    """Each side's own affair."""

    SIZE = 4 * MIB

    def test_of_who_receives(self, relay: Served) -> None:
        with relay.join() as one, Deflating(relay.port, "relay", path="/?room=room") as two:
            with Source(one, self.SIZE) as source:
                sink = Sink(two.client, two.inflate)
                sink.take_until(lambda: sink.is_complete)
                source.wait()
            assert (sink.received, sink.crc) == (self.SIZE, source.crc)

    def test_of_who_sends(self, relay: Served) -> None:
        message = "what compresses well " * 200_000
        with Deflating(relay.port, "relay", path="/?room=room") as one, relay.join() as two:
            one.send(message, cuts=range(1000, 20_000, 1000), between=frame(PING, "between"))
            assert two.receive_message() == message
            one.send("")
            assert two.receive_message() == ""
            two.send_text("and back")
            assert one.receive() == "and back"
            assert one.sizes == []  # too short to be compressed

    def test_a_fragment_can_be_read_when_it_comes(self, relay: Served) -> None:
        with relay.join() as one, Deflating(relay.port, "relay", offer=OFFER, path="/?room=room") as two:
            one.send(frame(TEXT, "first ", final=False))
            first = two.client.receive_frame()
            assert (first.opcode, first.final, first.rsv) == (TEXT, False, RSV1)
            assert two.inflate(first.payload, ends=False) == b"first "
            one.send(frame(CONTINUATION, ""))
            last = two.client.receive_frame()
            assert (last.opcode, last.final, last.rsv) == (CONTINUATION, True, 0)
            assert two.inflate(last.payload) == b""


class TestGigabyte:
    SIZE = 1 << 30

    def test_one_message_in_constant_memory_at_the_pace_of_the_slower_side(self, tmp_path: Path) -> None:
        with Site(tmp_path) as site:
            site.configure(
                listen='port = 0\nprotocols = ["relay"]', more="[protocols.relay.limits]\nmax_fragments = 1000000"
            )
            pid = site.run()
            self.flow(site.port, 20 * MIB, seed=1)  # what the first message makes a process load is no memory of this
            with grows_less_than(pid, 4 * MIB):
                self.flow(site.port, self.SIZE, seed=2)

    def flow(self, port: int, size: int, seed: int) -> None:
        """A message of this size; its reader stops twice, and its sender has to."""
        with connect(port, "relay", "/?room=g") as one, connect(port, "relay", "/?room=g") as two:
            sink = Sink(two)
            with Source(one, size, seed) as source:
                for share in (0.1, 0.5):
                    sink.take_until(lambda share=share: sink.received > share * size)  # type: ignore[misc]
                    source.wait_stopped()
                    assert source.sent - sink.received < IN_FLIGHT
                while not sink.is_complete:
                    assert sink.take() is not None
                    assert source.sent - sink.received < IN_FLIGHT
                source.wait()
            assert (sink.received, sink.crc) == (size, source.crc)
            assert len(wait_for_pongs(one, source)) > size // (200 * 65536)


class TestSlowReader:
    def test_it_stops_the_sender_and_loses_nothing(self) -> None:
        size = 64 * MIB
        with serve(max_backlog_bytes=100_000) as relay, pair(relay, receive_buffer=4096) as (one, two):
            with Source(one, size) as source:
                source.wait_stopped()
                assert source.sent < HOP + 8 * MIB
                side = relay.served.call(lambda: relay.sides()[0])
                assert 0 < side.size < 100_000 + 65536 + 1024
                # The other direction is as free as before, and so is every other room.
                two.send_text("hello")
                assert one.receive_message() == "hello"
                with relay.join("elsewhere") as three, relay.join("elsewhere") as four:
                    three.send_text("not touched")
                    assert four.receive_message() == "not touched"
                sink = Sink(two)
                sink.take_until(lambda: sink.is_complete)
                source.wait()
            assert (sink.received, sink.crc) == (size, source.crc)

    def test_one_that_reads_nothing_for_long_is_cut_and_the_other_hears_of_it(self) -> None:
        timeouts = Timeouts(slow_reader_seconds=0.3)
        with serve(timeouts) as relay, pair(relay, receive_buffer=4096) as (one, _), Source(one, 64 * MIB):
            assert close_of_sender(one) == LEFT


class TestLeaving:
    """In whatever way one goes, the other gets what it had sent, then 1001."""

    def test_a_close(self, relay: Served) -> None:
        with pair(relay) as (one, two):
            one.send_text("last words")
            assert one.finish(1000).close_code == 1000
            assert two.receive_message() == "last words"
            assert close_of(two) == LEFT

    def test_a_close_between_fragments(self, relay: Served) -> None:
        with pair(relay) as (one, two):
            one.send(frame(TEXT, "begun", final=False), close_frame(4000, "enough"))
            assert one.receive_close().close_code == 4000
            one.disconnect()
            assert two.receive_frame() == Frame(TEXT, b"begun", final=False)
            assert close_of(two) == LEFT

    def test_a_reset(self, relay: Served) -> None:
        with pair(relay) as (one, two):
            one.send(frame(TEXT, "begun", final=False))
            assert two.receive_frame() == Frame(TEXT, b"begun", final=False)
            one.reset()
            assert close_of(two) == LEFT

    def test_the_end_of_the_stream(self, relay: Served) -> None:
        with pair(relay) as (one, two):
            one.send_text("last words")
            one.shut_down_writing()
            assert two.receive_message() == "last words"
            assert close_of(two) == LEFT

    def test_a_violation(self, relay: Served) -> None:
        with pair(relay) as (one, two):
            one.send(frame(TEXT, "whole"), frame(TEXT, b"\xff"))
            assert close_of(one)[0] == 1007
            one.disconnect()
            assert two.receive_message() == "whole"
            assert close_of(two) == LEFT

    def test_the_end_of_the_daemon(self) -> None:
        with serve() as relay, pair(relay) as (one, two):
            relay.served.call(relay.served.context.stop)
            assert close_of(one)[0] == close_of(two)[0] == 1001

    def test_of_the_sender_while_the_reader_is_behind(self) -> None:
        """All of the message is still to come, and then the Close."""
        size = 12 * MIB
        with serve() as relay, pair(relay, receive_buffer=4096) as (one, two):
            with Source(one, size) as source:
                sink = Sink(two)
                source.wait_stopped()
                sink.take_until(lambda: source.sent > size)
                source.wait()
            one.send(close_frame(1000))
            close = sink.take_close()
            assert (sink.received, sink.crc, sink.is_complete) == (size, source.crc, True)
            assert (close.close_code, close.close_reason) == LEFT

    @pytest.mark.parametrize("way", ["reset", "close", "end"])
    def test_of_the_reader_while_the_sender_is_stopped(self, way: str) -> None:
        with serve() as relay, pair(relay, receive_buffer=4096) as (one, two), Source(one, 64 * MIB) as source:
            source.wait_stopped()
            if way == "reset":
                two.reset()
            else:
                two.send(close_frame(1000))
                two.disconnect()  # with unread input: the kernel sends a reset behind the Close
            assert close_of_sender(one) == LEFT

    def test_of_the_sender_by_a_reset_while_it_is_stopped(self) -> None:
        """It is not read, and heard all the same."""
        with serve() as relay, pair(relay, receive_buffer=4096) as (one, two):
            with Source(one, 64 * MIB) as source:
                source.wait_stopped()
            one.reset()
            sink = Sink(two)
            close = sink.take_close()
            assert (close.close_code, close.close_reason) == LEFT
            assert not sink.is_complete

    def test_both_at_once(self, relay: Served) -> None:
        with pair(relay) as (one, two):
            for client in (one, two):
                client.send(close_frame(1000))
            for client in (one, two):
                assert client.receive_close().close_code in (1000, 1001)
        relay.wait_members()

    def test_what_is_said_to_nobody_holds_nothing_up(self, relay: Served) -> None:
        """The one that stays is not stopped by what nobody will get, and closes as it likes."""
        with pair(relay) as (one, two):
            one.reset()
            two.send(*[frame(BINARY, bytes(100_000))] * 20, close_frame(4000))
            assert two.receive_close().close_code in (1001, 4000)


class TestRooms:
    def test_a_third_is_refused(self, relay: Served) -> None:
        with pair(relay) as (one, two), Client(relay.port) as third:
            answer = third.request(upgrade_request("/?room=room", "relay"))
            assert answer.status == 503
            assert b"there are two in this room already" in answer.body
            one.send_text("not disturbed")
            assert two.receive_message() == "not disturbed"

    def test_rooms_do_not_mix(self, relay: Served) -> None:
        with contextlib.ExitStack() as stack:
            pairs = [[stack.enter_context(relay.join(room)) for _ in range(2)] for room in ("", "a", "b")]
            for number, (one, _) in enumerate(pairs):
                one.send_text(str(number))
            assert [two.receive_message() for _, two in pairs] == ["0", "1", "2"]

    def test_a_room_is_free_again_when_one_leaves(self, relay: Served) -> None:
        with pair(relay) as (one, two):
            one.finish()
            relay.wait_members()
            with pair(relay) as (three, four):
                assert close_of(two) == LEFT
                three.send_text("new")
                assert four.receive_message() == "new"
                relay.wait_members(2)

    def test_what_the_first_sends_waits_for_the_second(self, relay: Served) -> None:
        with relay.join() as one:
            one.send(frame(TEXT, "early"), frame(TEXT, "be", final=False), frame(PING))
            assert one.receive_frame().opcode == PONG
            with relay.join() as two:
                assert two.receive_message() == "early"
                one.send(frame(CONTINUATION, "gun"))
                assert two.receive_message() == "begun"

    def test_much_of_it_is_not_read_before(self) -> None:
        size = 64 * MIB
        with serve() as relay, relay.join() as one, Source(one, size) as source:
            source.wait_stopped()
            assert source.sent < IN_FLIGHT
            with relay.join() as two:
                sink = Sink(two)
                sink.take_until(lambda: sink.is_complete)
                assert (sink.received, sink.crc) == (size, source.crc)

    def test_one_who_sends_much_and_is_alone_for_long_is_closed(self) -> None:
        with serve(wait_seconds=0.2) as relay, relay.join() as one:
            with Source(one, 64 * MIB):
                assert close_of_sender(one) == (1008, "timed out")
            one.disconnect()
            relay.wait_members()

    def test_one_who_waits_and_goes_leaves_the_room_empty(self, relay: Served) -> None:
        with relay.join() as one:
            one.send_text("never heard")
            one.reset()
        relay.wait_members()
        with pair(relay) as (three, four):
            three.send_text("new")
            assert four.receive_message() == "new"

    def test_a_connection_that_we_open_may_be_one_of_the_two(self, relay: Served) -> None:
        """It passes no filter, so a third of this kind is let in, and closed."""
        context, options = relay.served.context, {"protocol": relay.protocol, "subprotocols": ()}
        with Server() as server, relay.join("far") as near:
            url = f"{server.url}?room=far"
            relay.served.call(lambda: context.client_connect(url, **options))
            far = server.accept_websocket()
            near.send(frame(TEXT, "there", final=False), frame(CONTINUATION, " and"))
            assert far.receive_message() == "there and"
            far.send_text("back")
            assert near.receive_message() == "back"
            relay.served.call(lambda: context.client_connect(url, **options))
            third = server.accept_websocket()
            assert third.finish().close_code == 1013
            relay.wait_members(2)
            far.finish()
            assert close_of(near) == LEFT
