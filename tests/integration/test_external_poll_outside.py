"""External polling: work made outside of a turn and inside, and numbers that change owners between poll and service.

A loop that sleeps has to hear of the first and is not to hear of the second; the new owner of a number must not be told
what the former was ready for.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from select import POLLERR, POLLHUP, POLLIN, POLLOUT
from typing import Any

import pytest

from tests.integration.test_external_poll import Echo
from tests.support.client import PING, TEXT, Client, close_frame, frame, upgrade_request
from tests.support.outgoing import Outgoing
from tests.support.server import Server, silent_port
from tests.support.stepped import Stepped, has_come, plugged, stepped
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.config import Keepalive
from wsd.protocol import Protocol

QUIET = Keepalive(ping_seconds=0)
"""No timer wakes the loop: what does not ring is lost."""

STALE = POLLIN | POLLERR | POLLHUP
"""What a connection is ready for whose peer has reset it; of a pipe without a writer it is the last alone."""


class Scene:
    """A connection at rest, and a loop that sleeps until something is ready."""

    def __init__(self, loop: Stepped, protocol: Echo, client: Client) -> None:
        self.loop, self.protocol, self.client = loop, protocol, client
        self.context, self.wsi = loop.context, protocol.newest

    def hears(self, payload: bytes) -> Callable[[], bool]:
        """A condition: the client has got a frame with this payload."""
        return lambda: has_come(self.client) and self.client.receive_frame().payload.endswith(payload)

    def calls(self, name: str) -> Callable[[], bool]:
        """A condition: the protocol was called so."""
        return lambda: name in self.protocol.calls


DEEDS: dict[str, tuple[Callable[[Scene], Any], Callable[[Scene], Callable[[], Any]]]] = {
    "send": (lambda scene: scene.wsi.send("sent"), lambda scene: scene.hears(b"sent")),
    "broadcast": (lambda scene: scene.protocol.broadcast("all"), lambda scene: scene.hears(b"all")),
    "ping": (lambda scene: scene.wsi.ping(b"ping"), lambda scene: scene.hears(b"ping")),
    "close": (lambda scene: scene.wsi.close(4000, "closed"), lambda scene: scene.hears(b"closed")),
    "stop": (lambda scene: scene.context.stop(), lambda scene: scene.hears(b"going away")),
    "abort": (lambda scene: scene.wsi.abort(), lambda scene: lambda: scene.protocol.closed),
    "callback_on_writable": (
        lambda scene: scene.wsi.callback_on_writable(),
        lambda scene: scene.calls("writeable"),
    ),
    "callback_on_writable_all_protocol": (
        lambda scene: scene.context.callback_on_writable_all_protocol(scene.protocol),
        lambda scene: scene.calls("writeable"),
    ),
    "callback_all_protocol": (
        lambda scene: scene.context.callback_all_protocol(scene.protocol, 1000, "data"),
        lambda scene: scene.calls("user 1000 data"),
    ),
    "set_timer": (lambda scene: scene.wsi.set_timer(1 * MS), lambda scene: scene.calls("timer")),
    "set_timeout": (lambda scene: scene.wsi.set_timeout(1 * MS), lambda scene: scene.hears(b"timed out")),
    "call_later": (
        lambda scene: scene.context.call_later(1 * MS, lambda: scene.protocol.calls.append("later")),
        lambda scene: scene.calls("later"),
    ),
    "cancel_service": (lambda scene: scene.context.cancel_service(), lambda scene: scene.calls("wakeup")),
    "retire_protocol": (
        lambda scene: scene.context.retire_protocol(
            scene.context.add_protocol(Outgoing()).protocol, lambda: scene.protocol.calls.append("destroyed")
        ),
        lambda scene: scene.calls("destroyed"),
    ),
}


@pytest.mark.parametrize("name", DEEDS)
def test_what_is_made_outside_of_a_turn_wakes_a_loop_that_sleeps(name: str) -> None:
    deed, came = DEEDS[name]
    protocol = Echo()
    with stepped([protocol], keepalive=QUIET) as loop, loop.connect() as client:
        loop.settle()
        assert loop.answer is None
        assert loop.ready() == {}
        scene = Scene(loop, protocol, client)
        deed(scene)
        assert loop.wakeup in loop.ready()
        loop.until(came(scene), name)


class TestOutside:
    def test_a_thousand_calls_are_one_wake_up(self) -> None:
        protocol = Echo()
        with stepped([protocol], keepalive=QUIET) as loop, loop.connect() as client:
            loop.settle()
            before = loop.context.counters.turns
            for number in range(1000):
                protocol.newest.send(str(number))
            assert loop.batch() == 1
            assert loop.ready() == {}
            assert loop.context.counters.turns == before + 1
            assert [client.receive_message() for _ in range(1000)] == [str(number) for number in range(1000)]

    def test_a_listener_is_polled_at_once(self) -> None:
        protocol = Echo()
        with stepped([protocol]) as loop:
            listener = loop.context.listen(port=0, protocols=[protocol])
            with Client(listener.port) as client:
                client.send(upgrade_request())
                loop.until(lambda: has_come(client))
                assert client.receive_response().status == 101

    def test_a_connection_out(self) -> None:
        protocol = Outgoing()
        with stepped([protocol], keepalive=QUIET) as loop, Server() as server:
            assert loop.due() is None
            loop.context.client_connect(server.url, protocol=protocol)
            assert loop.wakeup in loop.ready()
            loop.until(lambda: loop.context.service_fd(None) is not None and len(loop.ledger.table) == 3)
            connection = server.accept()
            loop.until(lambda: has_come(connection))
            connection.switch("Sec-WebSocket-Protocol: out")
            loop.until(lambda: "established" in protocol.calls)

    def test_a_connection_out_by_name_is_woken_by_the_thread_that_looks_it_up(self) -> None:
        protocol = Outgoing()
        with stepped([protocol], keepalive=QUIET) as loop, Server() as server:
            loop.context.client_connect(f"ws://localhost:{server.port}/", protocol=protocol)
            loop.until(lambda: any(events & POLLOUT for _, _, events in loop.ledger.history))

    def test_an_adopted_socket_and_an_adopted_descriptor(self) -> None:
        class Raw(Echo):
            name = "raw"

            def on_raw_receive(self, wsi: Any, data: bytes) -> None:
                self.calls.append(f"raw {data.decode()}")

        web, raw = Echo(), Raw()
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe()
        with stepped([web, raw], keepalive=QUIET) as loop, theirs:
            os.write(writer, b"piped")
            theirs.send(upgrade_request())
            loop.context.adopt_descriptor(reader, raw)
            loop.context.adopt_socket(ours, web)
            assert loop.ready()
            loop.until(lambda: "raw piped" in raw.calls and web.wsis)
            os.close(writer)
            loop.until(lambda: reader not in loop.ledger.table)
            theirs.close()
            loop.until(lambda: web.closed)

    def test_input_that_waits_for_a_pause_to_end(self) -> None:
        """What was read and not delivered makes no descriptor readable."""
        protocol = Echo(on_message=lambda wsi, message: wsi.rx_flow_control(message != "stop") and None)
        with stepped([protocol], keepalive=QUIET) as loop, loop.connect() as client:
            client.send(frame(TEXT, "stop"), frame(TEXT, "waits"))
            loop.until(lambda: protocol.received == ["stop"])
            loop.settle()
            assert loop.ready() == {}
            for resume in (
                lambda: protocol.newest.rx_flow_control(True),
                lambda: loop.context.rx_flow_allow_all_protocol(protocol),
            ):
                protocol.received.clear()
                resume()
                assert loop.ready()
                loop.until(lambda: protocol.received == ["waits"])
                client.send(frame(TEXT, "stop"), frame(TEXT, "waits"))
                loop.until(lambda: protocol.received[-1] == "stop")
                loop.settle()

    def test_a_timer_that_is_sooner_than_what_the_loop_was_told(self) -> None:
        with stepped([Echo()], keepalive=QUIET) as loop:
            calls: list[str] = []
            loop.context.call_later(PATIENCE, lambda: calls.append("late"))
            loop.settle()
            assert loop.answer is not None
            assert loop.answer > PATIENCE / 2
            loop.context.call_later(5 * MS, lambda: calls.append("soon"))
            assert loop.batch() == 1
            assert loop.answer <= 5 * MS
            loop.until(lambda: calls)
            assert calls == ["soon"]

    def test_a_call_from_a_signal_handler_or_another_thread_while_the_loop_sleeps(self) -> None:
        protocol = Echo()
        with stepped([protocol], keepalive=QUIET) as loop:
            assert loop.ready() == {}
            thread = threading.Timer(20 * MS, loop.context.cancel_service)
            thread.start()
            assert loop.ready(PATIENCE) == {loop.wakeup: POLLIN}
            loop.settle()
            assert protocol.calls == ["wakeup"]
            thread.join()


class TestInsideOfATurn:
    @pytest.mark.parametrize(
        "deed",
        [
            lambda wsi: wsi.send("x"),
            lambda wsi: wsi.protocol.broadcast("x"),
            lambda wsi: wsi.callback_on_writable(),
            lambda wsi: wsi.set_timer(PATIENCE),
            lambda wsi: wsi.context.call_later(PATIENCE, lambda: None),
            lambda wsi: wsi.close(),
        ],
    )
    def test_no_bell_is_rung_for_what_the_turn_itself_does(self, deed: Callable[[Any], Any]) -> None:
        def on_message(wsi: Any, message: Any) -> None:
            deed(wsi)

        protocol = Echo(on_message=on_message)
        with stepped([protocol]) as loop, loop.connect() as client:
            loop.settle()
            client.send_text("go")
            fd = protocol.newest.fileno()
            loop.serve(fd, loop.wait_ready(fd))
            assert protocol.received == ["go"]
            assert loop.answer != 0
            assert loop.wakeup not in loop.ready()

    def test_a_close_is_a_note_and_its_frame_leaves_in_the_same_call(self) -> None:
        protocol = Echo(on_message=lambda wsi, message: wsi.close(4000, "noted"))
        with stepped([protocol]) as loop, loop.connect() as client:
            client.send_text("x")
            wsi = protocol.newest
            fd = wsi.fileno()
            loop.serve(fd, loop.wait_ready(fd))
            assert client.receive_close().close_reason == "noted"
            assert protocol.closed == []
            client.send(close_frame(4000))
            client.disconnect()
            loop.until(lambda: protocol.closed == [(4000, "")])
            assert loop.ledger.of(fd)[-1] == ("del", 0)
            assert wsi.fileno() == -1

    def test_a_connection_that_dies_is_told_and_given_back_in_the_same_call(self) -> None:
        protocol = Echo(on_message=lambda wsi, message: wsi.abort())
        with stepped([protocol]) as loop, loop.connect() as client:
            client.send_text("x")
            fd = protocol.newest.fileno()
            loop.serve(fd, loop.wait_ready(fd))
            assert protocol.closed == [(1006, "")]
            assert fd not in loop.ledger.table
            assert client.receive_end() == b""
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)


class TestNumbersThatChangeTheirOwner:
    """The other loop has polled, and serves one after the other what was ready; see `Announcer.checked`."""

    def drop(self, loop: Stepped, protocol: Echo) -> int:
        """Have the newest connection end; its number, which is free now."""
        fd: int = protocol.newest.fileno()
        protocol.newest.abort()
        loop.due()
        assert fd not in loop.ledger.table
        return fd

    def accept(self, loop: Stepped, fd: int) -> None:
        """Have the listener accept, which must give `fd` to the new connection."""
        loop.serve(loop.listener.fileno(), loop.wait_ready(loop.listener.fileno()))
        assert loop.ledger.table[fd] == POLLIN

    @pytest.mark.parametrize("stale", [STALE, POLLERR, POLLHUP])
    def test_from_one_connection_to_another(self, stale: int) -> None:
        protocol = Echo()
        with stepped([protocol]) as loop, loop.connect(), loop.connect(), Client(loop.port) as new:
            with plugged(protocol.newest.fileno()):
                fd = self.drop(loop, protocol)
                self.accept(loop, fd)
            assert loop.serve(fd, stale).revents == 0
            assert fd in loop.ledger.table, "it was told that its peer had gone"
            new.send(upgrade_request())
            loop.until(lambda: has_come(new))
            assert new.receive_response().status == 101

    @pytest.mark.parametrize("stale", [STALE, POLLERR, POLLHUP])
    def test_from_somebody_else_to_a_connection(self, stale: int) -> None:
        """It was never ours, and the other loop's batch still has what it was ready for."""
        protocol = Echo()
        with stepped([protocol]) as loop, Client(loop.port) as new:
            loop.wait_ready(loop.listener.fileno())
            reader, writer = os.pipe()
            os.close(writer)
            with plugged(reader):
                os.close(reader)
                self.accept(loop, reader)
            assert loop.serve(reader, stale).revents == 0
            assert reader in loop.ledger.table, "it was told that its peer had gone"
            new.send(upgrade_request())
            loop.until(lambda: has_come(new))
            assert new.receive_response().status == 101

    def test_from_somebody_else_to_an_attempt_to_connect(self) -> None:
        protocol = Outgoing()
        with stepped([protocol]) as loop, silent_port() as port:
            reader, writer = os.pipe()
            os.close(writer)
            with plugged(reader):
                wsi = loop.context.client_connect(f"ws://127.0.0.1:{port}/", protocol=protocol)
                os.close(reader)
                loop.until(lambda: reader in loop.ledger.table)
            loop.serve(reader, STALE | POLLOUT)
            loop.settle()
            assert loop.ledger.table[reader] == POLLOUT, "it was told that it is connected"
            assert not wsi.is_closing

    def test_from_a_connection_to_somebody_else(self) -> None:
        protocol = Echo()
        with stepped([protocol]) as loop, loop.connect():
            with plugged(protocol.newest.fileno()):
                fd = self.drop(loop, protocol)
                with socket.socket() as foreign:
                    assert foreign.fileno() == fd
                    assert loop.serve(fd, STALE).revents == STALE

    def test_an_end_that_is_the_new_owners_own_is_believed(self) -> None:
        protocol = Echo()
        with stepped([protocol]) as loop, loop.connect(), Client(loop.port) as new:
            with plugged(protocol.newest.fileno()):
                fd = self.drop(loop, protocol)
                self.accept(loop, fd)
            new.reset()
            loop.serve(fd, loop.wait_ready(fd))
            assert fd not in loop.ledger.table

    def test_a_real_batch_in_which_one_ends_the_others_and_new_ones_come(self) -> None:
        """All at once: eight end while their own readiness waits, eight that wait to be accepted get their numbers."""

        def on_message(wsi: Any, message: Any) -> None:
            for other in tuple(protocol.wsis):
                if other is not wsi:
                    other.abort()

        protocol = Echo(on_message=on_message)
        with stepped([protocol]) as loop, loop.connect() as killer:
            victims = [loop.connect() for _ in range(8)]
            new = [Client(loop.port) for _ in range(8)]
            first, *rest = [wsi.fileno() for wsi in protocol.wsis]
            killer.send_text("all but me")
            for victim in victims:
                victim.send_text("my last words")
            for client in new:
                client.send(upgrade_request())
            fds = [first, loop.listener.fileno(), *rest]
            wait_until(lambda: set(fds) <= set(loop.ready()))
            ready = loop.ready()
            with plugged(min(rest)):
                for fd in fds:
                    loop.serve(fd, ready[fd] | (POLLHUP if fd in rest else 0))
            assert protocol.received == ["all but me"]
            loop.until(lambda: loop.context.counters.established == 17)
            assert set(rest) <= set(loop.ledger.table)
            assert len(protocol.wsis) == 9
            for client in new:
                client.receive_response()
            for client in (*victims, *new):
                client.disconnect()


def test_two_contexts_in_one_loop_do_not_take_each_others() -> None:
    """What is not of one is of the other: `revents` tells."""
    one, two = Echo(), Echo()
    with stepped([one]) as first, stepped([two]) as second:
        for loop, other in ((first, second), (second, first)):
            with Client(loop.port):
                fd = loop.listener.fileno()
                ready = loop.wait_ready(fd)
                assert other.serve(fd, ready).revents == ready
                assert loop.serve(fd, ready).revents == 0
                assert loop.context.wsi_count == 1


def test_ping_and_hang_up_run_by_the_answer_alone() -> None:
    """Nothing is ready: that a peer is silent is seen by the clock that the loop was told of."""
    protocol: Protocol = Echo()
    keepalive = Keepalive(ping_seconds=0.1, hangup_seconds=0.1)
    with stepped([protocol], keepalive=keepalive) as loop, loop.connect() as client:
        loop.until(lambda: has_come(client))
        assert client.receive_frame().opcode == PING
        loop.until(lambda: not protocol.wsis)
        assert loop.context.counters.hangups == 1
