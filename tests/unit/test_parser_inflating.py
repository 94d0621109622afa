"""What is inflated is handed out by the call, in order and within a bound; and after `skip()` not at all."""

from __future__ import annotations

import random
import zlib
from itertools import pairwise

import pytest

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame
from tests.support.compressed import deflated, message, new_parser, pieces_of
from tests.support.deflating import RSV1, RSV2
from tests.support.feeding import Heard, feed_all
from wsd.wire.deflate import Inflater
from wsd.wire.parser import INFLATE_BYTES, Parser, Piece


class TestHasMore:
    def test_one_bomb_is_handed_out_by_the_call(self) -> None:
        parser = new_parser()
        calls = pieces_of(parser, frame(BINARY, deflated(bytes(10 * INFLATE_BYTES)), rsv=RSV1))
        assert 10 <= len(calls) <= 11
        assert all(sum(len(piece[1]) for piece in call) <= INFLATE_BYTES for call in calls)
        pieces = [piece for call in calls for piece in call]
        assert b"".join(piece[1] for piece in pieces) == bytes(10 * INFLATE_BYTES)
        assert [piece[2] for piece in pieces] == [True] + [False] * (len(pieces) - 1)
        assert [piece[3] for piece in pieces] == [False] * (len(pieces) - 1) + [True]

    @pytest.mark.parametrize("size", [1, 100, 20_000, 40_000, INFLATE_BYTES, 100_000])
    def test_many_in_one_read_share_one_bound_and_keep_their_order(self, size: int) -> None:
        stream, said = b"", []
        for number in range(20):
            payload = bytes([number]) * size
            stream += frame(BINARY, deflated(payload), rsv=RSV1) + frame(PING, bytes([number]))
            said += [(BINARY, payload), (PING, bytes([number]))]
        parser = new_parser()
        calls = pieces_of(parser, stream + close_frame(1000))
        assert all(sum(len(piece[1]) for piece in call if piece[0] == BINARY) <= INFLATE_BYTES for call in calls)
        assert len(calls) >= 20 * size // INFLATE_BYTES
        assert feed_all(stream + close_frame(1000), new_parser=new_parser) == Heard(said, close=(1000, ""))

    @pytest.mark.parametrize("behind", [close_frame(1000), frame(3), frame(PING)])
    def test_what_is_behind_is_not_looked_at_before(self, behind: bytes) -> None:
        """A message that was complete before a violation, or a Close, is handed out first."""
        parser = new_parser()
        stream = frame(BINARY, deflated(bytes(2 * INFLATE_BYTES)), rsv=RSV1) + behind
        pieces = parser.receive(stream)
        size = 0
        while parser.has_more:
            assert parser.failure is None
            assert parser.close is None
            assert all(piece[0] == BINARY for piece in pieces)
            size += sum(len(piece[1]) for piece in pieces)
            pieces = parser.receive(b"")
        assert size + sum(len(piece[1]) for piece in pieces if piece[0] == BINARY) == 2 * INFLATE_BYTES
        assert (parser.close is not None, parser.failure is not None, pieces[-1][0] == PING) == (
            behind == close_frame(1000),
            behind == frame(3),
            behind == frame(PING),
        )

    def test_what_comes_meanwhile_is_kept_behind_it(self) -> None:
        parser = new_parser()
        stream = frame(BINARY, deflated(bytes(3 * INFLATE_BYTES)), rsv=RSV1)
        late = frame(TEXT, "late") + frame(PING, b"later")
        pieces = parser.receive(stream)
        for part in (late[:3], late[3:]):
            assert parser.has_more
            pieces += parser.receive(part)
        while parser.has_more:
            pieces += parser.receive(b"")
        assert pieces[-2:] == [(TEXT, b"late", True, True, 0), (PING, b"later", True, True, 0)]
        assert sum(len(piece[1]) for piece in pieces[:-2]) == 3 * INFLATE_BYTES

    def test_the_message_is_open_until_all_of_it_is_handed_out(self) -> None:
        parser = new_parser()
        parser.receive(frame(BINARY, deflated(bytes(2 * INFLATE_BYTES)), rsv=RSV1))
        while parser.has_more:
            assert parser.is_mid_message
            parser.receive(b"")
        assert not parser.is_mid_message

    def test_a_failure_ends_it(self) -> None:
        parser = new_parser(INFLATE_BYTES + 1)
        stream = frame(BINARY, deflated(bytes(INFLATE_BYTES + 2)), rsv=RSV1) + frame(TEXT, "behind")
        assert pieces_of(parser, stream)[1:] == [[(BINARY, b"\0", False, False, 1)]]
        assert parser.failure is not None
        assert parser.receive(b"") == []


class TestRemaining:
    """The last field of a piece: 0 on the last of a frame only, and while inflating at least 1 before."""

    def test_in_a_frame_that_comes_in_parts(self) -> None:
        data = deflated(random.Random(1).randbytes(3000))
        whole = frame(BINARY, data, rsv=RSV1)
        head = len(whole) - len(data)
        parser, arrived = new_parser(), head
        parser.receive(whole[:head])
        pieces: list[Piece] = []
        for start, end in pairwise([*range(0, len(data), 500), len(data)]):
            arrived += end - start
            got = parser.receive(whole[head + start : head + end])
            assert [piece[4] for piece in got] == [len(whole) - arrived] * len(got)
            pieces += got
        assert pieces[-1][3:] == (True, 0)

    def test_when_all_of_the_frame_is_there(self) -> None:
        calls = pieces_of(new_parser(), frame(BINARY, deflated(bytes(5 * INFLATE_BYTES)), rsv=RSV1))
        remaining = [piece[4] for call in calls for piece in call]
        assert remaining == [1] * (len(remaining) - 1) + [0]

    def test_in_each_frame_of_a_message(self) -> None:
        context = zlib.compressobj(wbits=-15)
        first = context.compress(bytes(2 * INFLATE_BYTES + 5)) + context.flush(zlib.Z_SYNC_FLUSH)
        stream = frame(BINARY, first, rsv=RSV1, final=False) + frame(CONTINUATION, deflated(bytes(5), context))
        pieces = [piece for call in pieces_of(new_parser(), stream) for piece in call]
        assert [piece[4] for piece in pieces] == [1] * (len(pieces) - 2) + [0, 0]
        assert [piece[3] for piece in pieces] == [False] * (len(pieces) - 1) + [True]


class Unwilling(Inflater):
    """Inflates until it is told that nobody wants it."""

    is_wanted = True

    def feed(self, data: bytes) -> None:
        assert self.is_wanted, "inflated what nobody wants"
        super().feed(data)

    def read(self, limit: int) -> bytes:
        assert self.is_wanted, "inflated what nobody wants"
        return super().read(limit)


class TestSkip:
    """From there on only the Close is of interest, wherever in the stream that is said."""

    BOMB = frame(BINARY, deflated(bytes(3 * INFLATE_BYTES)), rsv=RSV1)
    STREAM = (
        frame(TEXT, "plain")
        + BOMB
        + frame(PING, b"?")
        + message(TEXT, deflated("Hello, hello"), 3, 6, between=frame(PONG, b"!"))
        + frame(BINARY, b"one", final=False)
        + frame(PING)
        + frame(CONTINUATION, b"two")
        + frame(TEXT, deflated("again"), rsv=RSV1)
    )

    @pytest.mark.parametrize("calls", [0, 1, 9])
    @pytest.mark.parametrize("step", [1, 7, 1000])
    def test_anywhere(self, step: int, calls: int) -> None:
        """After every byte, with some or all of what could be handed out fetched before."""
        stream = self.STREAM + close_frame(4000, "bye")
        for place in range(len(self.STREAM) + 1):
            inflater = Unwilling(15, True)
            parser = Parser(0, 100, inflater=inflater)
            parser.receive(stream[:place])
            for _ in range(calls):
                if parser.has_more:
                    parser.receive(b"")
            parser.skip()
            inflater.is_wanted = False
            assert not parser.has_more
            pieces = parser.receive(b"")
            for at in range(place, len(stream), step):
                pieces += parser.receive(stream[at : at + step])
            assert parser.failure is None, place
            assert parser.close == (4000, "bye"), place
            assert all(piece[0] > BINARY for piece in pieces), place
            assert not parser.has_more
            assert not parser.is_mid_message

    @pytest.mark.parametrize(
        "wrong",
        [
            frame(3),
            frame(CONTINUATION),
            frame(TEXT, rsv=RSV2),
            frame(PING, rsv=RSV1),
            frame(TEXT, mask=None),
            frame(TEXT, final=False) + frame(CONTINUATION, rsv=RSV1),
            frame(TEXT, final=False) + frame(TEXT),
            frame(CLOSE, b"\x03"),
        ],
    )
    def test_frames_are_still_checked(self, wrong: bytes) -> None:
        """What is no frame has no end, so there is no Close to be found behind it."""
        parser = new_parser()
        parser.receive(self.BOMB)
        parser.skip()
        parser.receive(wrong + close_frame(1000))
        assert parser.failure is not None
        assert parser.failure.code == 1002
        assert parser.close is None

    def test_what_is_in_them_is_not(self) -> None:
        """Nor how much it is: nothing of it is kept, so no limit is needed."""
        parser = new_parser(10, 2)
        parser.skip()
        stream = (
            frame(TEXT, b"\xff") + frame(TEXT, b"no deflate", rsv=RSV1) + frame(BINARY, deflated(bytes(99)), rsv=RSV1)
        )
        stream += frame(BINARY, bytes(99)) + frame(TEXT, final=False) + frame(CONTINUATION, final=False) * 5
        stream += frame(CONTINUATION)
        assert parser.receive(stream + close_frame(1001)) == []
        assert parser.failure is None
        assert parser.close == (1001, "")
