"""Closes in the middle of something, over real sockets: of a message that either side sends, of input held back."""

from __future__ import annotations

import random
import zlib
from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, TEXT, Frame, close_frame, frame
from tests.support.compressed import deflated
from tests.support.scenes import LARGE, Scene, begin_message, choke, codes, into_close_sent, into_closing, rest, scene
from tests.support.timing import wait_until
from wsd.wire import closing

DEFLATE = [("Sec-WebSocket-Extensions", "permessage-deflate")]


class TestWhileWeSend:
    """Our Close behind a large message that is on its way."""

    def test_to_a_peer_that_reads_slowly(self) -> None:
        with scene() as it:
            into_closing(it)
            while len(it.client.buffer) < len(LARGE):
                it.client.buffer += it.client.socket.recv(32768)
            assert codes([it.client.receive_frame(), it.client.receive_frame()]) == [None, 4000]
            it.client.send(close_frame(4000))
            assert rest(it.client) == []
            it.client.disconnect()
            assert it.end() == (4000, "")

    def test_their_close_in_the_middle_of_it(self) -> None:
        """The peer has to read all of the message before it reads our answer; ours is no answer to nothing."""
        with scene() as it:
            choke(it)
            it.client.send(close_frame(4001, "enough"))
            assert codes(rest(it.client)) == [None, 4001]
            it.client.disconnect()
            assert it.end() == (4001, "enough")

    def test_inside_a_fragmented_message_of_ours(self) -> None:
        with scene() as it:
            it.protocol.writes = [("begun", False)]
            it.do(lambda wsi: wsi.callback_on_writable())
            assert it.client.receive_frame() == Frame(TEXT, b"begun", final=False)
            it.do(lambda wsi: wsi.send("waits for an end that never comes"))
            it.do(lambda wsi: wsi.close(4000))
            assert it.client.receive_frame().close_code == 4000
            it.client.send(close_frame(4000))
            assert rest(it.client) == []
            it.client.disconnect()
            assert it.end() == (4000, "")


class TestWhileTheySend:
    """Our Close in the middle of what the peer sends, and goes on sending before it answers."""

    @pytest.mark.parametrize("headers", [[], DEFLATE], ids=["plain", "compressed"])
    @pytest.mark.parametrize("is_fragmented", [False, True])
    def test_a_large_message(self, headers: Any, is_fragmented: bool) -> None:
        """Not a byte of the rest is delivered, nor kept, and the Close behind it is heard."""
        payload = random.Random(1).randbytes(1 << 20) * 4
        with scene(headers=headers, max_message_bytes=8 << 20) as it:
            it.protocol.deed = lambda wsi: wsi.close(4000)
            data = deflated(payload) if headers else payload
            first, second = data[:300_000], data[300_000:]
            rsv = 4 if headers else 0
            if is_fragmented:
                message = frame(BINARY, first, final=False, rsv=rsv) + frame(PING, "?") + frame(CONTINUATION, second)
            else:
                message = frame(BINARY, data, rsv=rsv)
            it.client.send(message, frame(TEXT, "behind"), close_frame(4001, "done"))
            assert codes(rest(it.client)) == [4000]
            it.client.disconnect()
            assert it.end() == (4001, "done")
            assert len(it.protocol.received) == 1

    def test_a_bomb(self) -> None:
        """64 MiB that come in as many KiB are not inflated for nobody."""
        context = zlib.compressobj(9, wbits=-15)
        block = bytes(1 << 20)
        data = b"".join(context.compress(block) for _ in range(64)) + context.flush(zlib.Z_SYNC_FLUSH)
        with scene(headers=DEFLATE, max_message_bytes=0) as it:
            it.protocol.deed = lambda wsi: wsi.close(4000)
            it.client.send(frame(BINARY, data[:-4], rsv=4), close_frame(4001))
            assert codes(rest(it.client)) == [4000]
            it.client.disconnect()
            assert it.end() == (4001, "")
            assert sum(map(len, it.protocol.received)) <= 1 << 16

    def test_inside_a_fragmented_message_of_theirs(self) -> None:
        with scene() as it:
            begin_message(it)
            it.client.send(frame(CONTINUATION, " and "), close_frame(4001))
            assert codes(rest(it.client)) == [4001]
            it.client.disconnect()
            assert it.end() == (4001, "")

    def test_their_close_is_all_that_is_heard_after_ours(self) -> None:
        """Neither data nor a Ping; section 5.5.1: "The application MUST NOT send any more data frames"."""
        with scene() as it:
            into_close_sent(it)
            it.client.send(frame(TEXT, "late"), frame(PING, "?"), frame(TEXT, "la", final=False), frame(PING, "?"))
            it.client.send(frame(CONTINUATION, "te"), close_frame(4001))
            assert rest(it.client) == []
            it.client.disconnect()
            assert it.end() == (4001, "")
            assert it.protocol.received == []

    def test_what_follows_their_close_is_discarded(self) -> None:
        """Read to its end all the same: closing a socket with unread input would be a reset."""
        with scene() as it:
            it.client.send(close_frame(4001), *(frame(BINARY, bytes(60_000)) for _ in range(100)))
            assert codes(rest(it.client)) == [4001]
            it.client.disconnect()
            assert it.end() == (4001, "")
            assert it.protocol.received == []

    def test_a_violation_after_ours(self) -> None:
        """No second Close, and no waiting: what is no frame has no end."""
        with scene() as it:
            into_close_sent(it)
            it.client.send(frame(3), close_frame(4001))
            assert rest(it.client) == []
            it.client.disconnect()
            assert it.end() == (1006, "")

    def test_a_violation_while_ours_waits_for_a_large_message(self) -> None:
        with scene() as it:
            into_closing(it)
            it.client.send(frame(3))
            it.wait_for(closing.ANSWERING)
            assert codes(rest(it.client)) == [None, 4000]
            it.client.disconnect()
            assert it.end() == (1006, "")


class TestBehindFlowControl:
    """A Close that lies behind data that was not read, or was read and not delivered."""

    MESSAGES = b"".join(frame(TEXT, str(number)) for number in range(1000))

    def paused(self, it: Scene, after: int) -> None:
        """The server stops delivery at once, or after the first message of one read."""
        it.protocol.deed = lambda wsi: wsi.rx_flow_control(False) if after else None
        if not after:
            it.do(lambda wsi: wsi.rx_flow_control(False))
        it.client.send(self.MESSAGES, close_frame(4001, "done"))
        wait_until(lambda: len(it.protocol.received) == after)
        assert it.served.idle_turns() <= 2
        assert len(it.protocol.received) == after
        it.protocol.deed = lambda wsi: None

    @pytest.mark.parametrize("after", [0, 1])
    def test_it_goes_on(self, after: int) -> None:
        with scene() as it:
            self.paused(it, after)
            it.do(lambda wsi: wsi.rx_flow_control(True))
            assert codes(rest(it.client)) == [4001]
            it.client.disconnect()
            assert it.end() == (4001, "done")
            assert it.protocol.received == [str(number).encode() for number in range(1000)]

    @pytest.mark.parametrize("after", [0, 1])
    def test_we_close(self, after: int) -> None:
        """Nothing more is delivered, but the Close is found: else its answer would be awaited until the deadline."""
        with scene() as it:
            self.paused(it, after)
            it.do(lambda wsi: wsi.close(4000))
            assert codes(rest(it.client)) == [4000]
            it.client.disconnect()
            assert it.end() == (4001, "done")
            assert len(it.protocol.received) == after

    @pytest.mark.parametrize("after", [0, 1])
    def test_the_peer_resets(self, after: int) -> None:
        with scene() as it:
            self.paused(it, after)
            it.client.reset()
            assert it.end() == (1006, "")
            assert len(it.protocol.received) == after
