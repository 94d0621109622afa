"""One message for receivers of every kind, through real sockets: plain, over TLS, compressed, counted, slow."""

from __future__ import annotations

import contextlib
import random
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.ca import Authority, Issued
from tests.support.client import Client, connect, frame
from tests.support.context import Running, running
from tests.support.deflating import OFFER, Deflating
from tests.support.fakes import shipped
from tests.support.timing import wait_until
from tests.support.tls import connect_tls
from wsd.config import Limits, Listen, Tls
from wsd.protocol import Protocol


class Room(Protocol):
    """All hear all: what somebody does not take is kept with him."""

    name = "room"
    Session = deque
    kept = 0

    def on_message(self, wsi: Any, message: Any) -> None:
        self.tell(message)

    def tell(self, message: Any) -> None:
        late = [wsi for wsi in self.wsis if wsi.session]
        late += self.offer(message, to=[wsi for wsi in self.wsis if not wsi.session])
        self.kept += len(late)
        for wsi in late:
            wsi.session.append(message)
            wsi.callback_on_writable()

    def on_writeable(self, wsi: Any) -> None:
        while wsi.session and not wsi.send_pipe_choked:
            wsi.write(wsi.session.popleft())
        if wsi.session:
            wsi.callback_on_writable()


class Ours(Protocol):
    """A client of ours, which is told things as well as its server's peers are."""

    name = "ours"
    heard: list[Any]

    def on_protocol_init(self, context: Any, options: Any) -> None:
        self.heard = []

    def on_message(self, wsi: Any, message: Any) -> None:
        self.heard.append(message)


class Plain:
    """A raw client with the few methods of `Deflating`."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def receive(self) -> str | bytes:
        return self.client.receive_message()


@pytest.fixture(scope="module")
def localhost(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    """A certificate for this machine."""
    return Authority(tmp_path_factory.mktemp("ca")).issue()


@contextlib.contextmanager
def mixed(protocol: Protocol, issued: Issued, names: str | None = None) -> Iterator[tuple[Running, list[Any]]]:
    """Peers of every kind that wsd knows, one of them twice, all of one protocol."""
    tls = Tls(certificate=str(issued.certificate), private_key=str(issued.private_key))
    with (
        running([protocol], limits=Limits(max_message_bytes=8 << 20)) as served,
        contextlib.ExitStack() as stack,
    ):
        compressed = {"enabled": True, "min_bytes": 0}
        secure = Listen(interface="127.0.0.1", port=0, tls=tls, compression=compressed)
        counted = Listen(interface="127.0.0.1", port=0, limits={"max_messages_per_second": 100_000})
        ports = [
            served.call(lambda config=config: served.context.listen(config, protocols=[protocol]).port)
            for config in (secure, counted)
        ]
        peers: list[Any] = [
            Plain(stack.enter_context(connect(served.port, protocols=names))),
            Plain(stack.enter_context(connect_tls(ports[0], None, protocols=names))),
            stack.enter_context(Deflating(served.port, names)),
            Plain(stack.enter_context(connect(ports[1], protocols=names))),
            stack.enter_context(Deflating(served.port, names, offer=OFFER + "; server_no_context_takeover")),
            Plain(stack.enter_context(connect(served.port, protocols=names))),
        ]
        wait_until(lambda: len(protocol.wsis) == len(peers))
        yield served, peers


MESSAGES = ["", "hello", "h\xe9llo " * 100, b"\0" * 5000, random.Random(3).randbytes(70_000), "x" * 200_000]


@pytest.mark.parametrize("how", ["broadcast", "tell"])
def test_all_kinds_hear_the_same(localhost: Issued, how: str) -> None:
    room = Room()
    with mixed(room, localhost) as (served, peers):
        assert [bool(wsi.extensions) for wsi in room.wsis] == [False, False, True, False, True, False]
        for message in MESSAGES * 2:
            served.call(partial(getattr(room, how), message))
            assert [peer.receive() for peer in peers] == [message] * len(peers)
        # Several in one turn, which leave together.
        served.call(lambda: [getattr(room, how)(message) for message in MESSAGES] and None)
        for message in MESSAGES:
            assert [peer.receive() for peer in peers] == [message] * len(peers)


def test_those_who_do_not_read_get_it_later_and_in_order(localhost: Issued) -> None:
    """One of them plain, one over TLS, one compressed; the others have each message at once."""
    room = Room()
    source = random.Random(7)
    said: list[bytes] = []
    with mixed(room, localhost) as (served, peers):
        quick, slow = [peers[0], peers[3], peers[4]], [peers[1], peers[2], peers[5]]
        while room.kept < 600:  # until the kernel's buffers, which the machine has sized, are long full
            said.append(source.randbytes(100_000))
            served.call(partial(room.tell, said[-1]))
            assert [peer.receive() for peer in quick] == [said[-1]] * 3
            assert len(said) < 2000
        assert sum(bool(wsi.session) for wsi in room.wsis) == 3
        for peer in slow:
            for message in said:
                assert peer.receive() == message
        wait_until(lambda: not served.call(lambda: any(wsi.session for wsi in room.wsis)))
        served.call(partial(room.tell, "all of us"))
        assert [peer.receive() for peer in peers] == ["all of us"] * 6
        assert served.context.counters.queue_overflows == 0


@pytest.mark.parametrize("at", [0, 1])
def test_the_mirror_with_one_that_is_slow_now_and_then(localhost: Issued, at: int) -> None:
    """Plain, or over TLS: it falls behind, holds the room up, catches up; and all hear all of it, in order."""
    mirror = shipped("lws_mirror.py")
    size = 256 << 10
    with mixed(mirror, localhost, mirror.name) as (served, peers):
        slow = peers.pop(at)
        speaker = peers[-1]
        room = served.call(lambda: mirror.rooms[""])
        for _ in range(2):
            said = 0
            while not served.call(lambda: len(room.blockers)):
                speaker.client.send(frame(2, b"%08d" % said + bytes(size)))
                assert [peer.receive() for peer in peers] == [b"%08d" % said + bytes(size)] * 5
                said += 1
                assert said < 500
            speaker.client.send(frame(1, "waits for the room"))
            for number in range(said):
                assert slow.receive() == b"%08d" % number + bytes(size)
            assert [peer.receive() for peer in (*peers, slow)] == ["waits for the room"] * 6
            assert served.call(lambda: len(room.current)) == 6
            assert served.call(lambda: room.ring.tails) == 0


def test_a_client_of_ours_is_offered_things_too() -> None:
    ours, room = Ours(), Room()
    with running([room, ours]) as served:
        url = f"ws://127.0.0.1:{served.port}/"
        served.call(lambda: served.context.client_connect(url, protocol=ours, subprotocols=["room"]))
        wait_until(lambda: len(room.wsis) == 1 and len(ours.wsis) == 1)
        with connect(served.port, protocols="room") as other:
            wait_until(lambda: len(room.wsis) == 2)
            assert served.call(lambda: ours.offer("from the client")) == []
            assert other.receive_message() == "from the client"
            wait_until(lambda: ours.heard == ["from the client"])


def test_many_messages_of_one_read_leave_in_one_send_for_each() -> None:
    """What a plugin is told in one turn leaves in that turn, together."""
    room = Room()
    with running([room]) as served, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connect(served.port)) for _ in range(20)]
        wait_until(lambda: len(room.wsis) == 20)
        turns = served.call(lambda: served.context.counters.turns)
        peers[0].send(b"".join(frame(1, f"{number}") for number in range(100)))
        for peer in peers:
            assert [peer.receive_message() for _ in range(100)] == [str(number) for number in range(100)]
        assert served.call(lambda: served.context.counters.turns) - turns < 10
