"""How connections end, over real sockets: what the peer does in each state, and what it reads until the end.

The states are those of wsd/wire/closing.py.  A waiting state is one that only the peer, or the clock, can end: it is
brought about by a peer that does not read, does not answer, or does not end its stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.support.client import CLOSE, TEXT, Client, Frame, close_frame, connect, frame, upgrade_request
from tests.support.context import running
from tests.support.scenes import (
    NEVER_SECONDS,
    Ends,
    Scene,
    begin_message,
    choke,
    codes,
    into_close_sent,
    into_closing,
    rest,
    scene,
    send_large,
)
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.config import Timeouts
from wsd.wire import closing

# -- each state -------------------------------------------------------------------------------------------------------


def into_open(it: Scene) -> None:
    pass


def into_answering(it: Scene) -> None:
    begin_message(it)
    choke(it)
    it.client.send(close_frame(4001))


def into_answering_ended(it: Scene) -> None:
    begin_message(it)
    choke(it)
    it.client.shut_down_writing()


def into_finishing(it: Scene) -> None:
    """What was sent in answer to the last message before the peer's Close leaves with our Close behind it."""
    it.protocol.deed = send_large
    it.client.send(frame(TEXT, "send"), close_frame(4001))


def into_finishing_ended(it: Scene) -> None:
    into_finishing(it)
    it.wait_for(closing.FINISHING)
    it.client.shut_down_writing()


def into_draining(it: Scene) -> None:
    it.client.send(close_frame(4001))
    assert it.client.receive_close().close_code == 4001


class Waiting(NamedTuple):
    """A state that waits for the peer."""

    state: int
    into: Callable[[Scene], None]
    closed: int
    """What `on_closed` is told if the peer says no more."""
    reads: list[int | None]
    """What the peer still reads after it has ended its stream: LARGE (None), a Close of that code."""


OPEN = Waiting(closing.OPEN, into_open, 1006, [])
WAITING = [
    Waiting(closing.CLOSING, into_closing, 1006, [None, 4000]),
    Waiting(closing.ANSWERING, into_answering, 4001, [None, 4001]),
    Waiting(closing.ANSWERING_ENDED, into_answering_ended, 1006, [None]),
    Waiting(closing.CLOSE_SENT, into_close_sent, 1006, []),
    Waiting(closing.FINISHING, into_finishing, 4001, [None, 4001]),
    Waiting(closing.FINISHING_ENDED, into_finishing_ended, 4001, [None, 4001]),
    Waiting(closing.DRAINING, into_draining, 4001, []),
]
NAMES = {getattr(closing, name): name for name in dir(closing) if isinstance(getattr(closing, name), int)}

every_state = pytest.mark.parametrize("row", [OPEN, *WAITING], ids=lambda row: NAMES[row.state])
every_waiting_state = pytest.mark.parametrize("row", WAITING, ids=lambda row: NAMES[row.state])


class TestEveryState:
    """HTTP has tests of its own, below."""

    @every_state
    def test_idle(self, row: Waiting) -> None:
        """Two turns may be somebody's last step; a spin makes thousands."""
        with scene() as it:
            row.into(it)
            it.wait_for(row.state)
            assert it.served.idle_turns() <= 2
            assert it.wsi._state == row.state
            it.client.reset()
            it.end()

    @every_state
    def test_the_peer_ends_its_stream(self, row: Waiting) -> None:
        with scene() as it:
            row.into(it)
            it.wait_for(row.state)
            it.client.shut_down_writing()
            assert codes(rest(it.client)) == row.reads
            assert it.end() == (row.closed, "")

    @every_state
    def test_the_peer_resets_the_connection(self, row: Waiting) -> None:
        with scene() as it:
            row.into(it)
            it.wait_for(row.state)
            it.client.reset()
            assert it.end() == (row.closed, "")

    @every_state
    def test_the_peer_is_gone_with_what_it_did_not_read(self, row: Waiting) -> None:
        with scene() as it:
            row.into(it)
            it.wait_for(row.state)
            it.client.disconnect()
            assert it.end() == (row.closed, "")

    @every_waiting_state
    def test_the_peer_does_nothing(self, row: Waiting) -> None:
        """However it waits, the closing deadline ends it."""
        with scene(close_seconds=100 * MS) as it:
            row.into(it)
            assert it.end() == (row.closed, "")
            it.client.receive_end()

    @every_waiting_state
    def test_the_peer_reads_on_and_answers_and_ends(self, row: Waiting) -> None:
        """As it should: with the answer where one is due, and its end behind ours."""
        with scene() as it:
            row.into(it)
            it.wait_for(row.state)
            if row.state == closing.CLOSE_SENT:
                it.client.send(close_frame(4002))
            frames: list[Frame] = []
            for _ in row.reads:
                frames.append(it.client.receive_frame())
                if frames[-1].opcode == CLOSE and row.closed == 1006:
                    it.client.send(close_frame(4002))
            assert codes(frames) == row.reads
            assert rest(it.client) == []
            it.client.disconnect()
            answered = row.state in (closing.CLOSING, closing.CLOSE_SENT)
            assert it.end() == (4002 if answered else row.closed, "")

    @every_state
    def test_the_context_stops(self, row: Waiting) -> None:
        with scene(close_seconds=100 * MS) as it:
            row.into(it)
            it.served.call(it.served.context.stop)
            assert it.end() == (row.closed, "")


class TestHttp:
    """Before the handshake is done there is no Close and no `on_closed`."""

    @pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHos"])
    @pytest.mark.parametrize("how", ["end", "reset"])
    def test_an_end(self, sent: bytes, how: str) -> None:
        protocol = Ends()
        with running([protocol]) as served, Client(served.port) as client:
            client.send(sent)
            wait_until(lambda: served.context.counters.bytes_received == len(sent) and served.context.wsi_count)
            if how == "end":
                client.shut_down_writing()
                assert client.receive_end() == b""
                client.disconnect()
            else:
                client.reset()
            wait_until(lambda: served.context.wsi_count == 0)
        assert protocol.ends.empty()

    def test_an_end_behind_the_request(self) -> None:
        """It is answered and becomes a WebSocket, for a moment."""
        with scene() as it, Client(it.served.port) as client:
            client.send(upgrade_request(protocols="ends"), frame(TEXT, "said"))
            client.shut_down_writing()
            assert client.receive_response().status == 101
            assert rest(client) == []
            assert it.protocol.ends.get(timeout=PATIENCE) == (1006, "")
            assert it.protocol.received == [b"said"]
            it.client.reset()
            it.end()


class TestCrossing:
    def test_ours_is_a_note_when_theirs_comes(self) -> None:
        with scene() as it:
            it.do(lambda wsi: wsi.rx_flow_control(False))
            it.client.send(close_frame(4001, "theirs"))
            it.do(lambda wsi: wsi.close(4000))
            assert codes(rest(it.client)) == [4000]
            it.client.disconnect()
            assert it.end() == (4001, "theirs")

    def test_ours_is_on_its_way_when_theirs_is_sent(self) -> None:
        with scene() as it:
            it.do(lambda wsi: wsi.close(4000))
            it.client.send(close_frame(4001, "theirs"))
            assert codes(rest(it.client)) == [4000]
            it.client.disconnect()
            assert it.end() == (4001, "theirs")

    def test_both_after_a_message_that_the_hook_answers_with_a_close(self) -> None:
        with scene() as it:
            it.protocol.deed = lambda wsi: wsi.close(4000)
            it.client.send(frame(TEXT, "a"), frame(TEXT, "never"), close_frame(4001))
            assert codes(rest(it.client)) == [4000]
            it.client.disconnect()
            assert it.end() == (4001, "")
            assert it.protocol.received == [b"a"]


def test_many_ends_at_once() -> None:
    """A hundred peers, each ending in its own way in the same moment: each is told once, and none is left."""
    protocol = Ends()
    ways: list[Callable[[Client], object]] = [
        lambda client: client.send(close_frame(4001)),
        lambda client: client.send(frame(3)),
        lambda client: client.shut_down_writing(),
        lambda client: client.reset(),
        lambda client: client.disconnect(),
    ]
    timeouts = Timeouts(close_seconds=NEVER_SECONDS)
    with running([protocol], timeouts=timeouts) as served:
        clients = [connect(served.port, "ends") for _ in range(100)]
        try:
            wait_until(lambda: len(protocol.wsis) == 100)
            for number, client in enumerate(clients):
                ways[number % 5](client)
            ended = [protocol.ends.get(timeout=PATIENCE)[0] for _ in range(60)]
        finally:
            for client in clients:
                client.disconnect()
        ended += [protocol.ends.get(timeout=PATIENCE)[0] for _ in range(40)]
        assert sorted(ended) == [1006] * 80 + [4001] * 20
        wait_until(lambda: served.context.wsi_count == 0)
        assert protocol.ends.empty()
