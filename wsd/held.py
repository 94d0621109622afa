"""What a connection holds: pieces that were not delivered, the message so far, what waits to be sent.

Owns the counting of it, for the context's memory account, how all of it is let go, and the quick end of one that holds
nothing.  Must not know how input is read and handed out; `Wsi` is built on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from wsd.errors import PipeBroken
from wsd.roled import Roled
from wsd.stream import LOW_WATER
from wsd.transport import SocketPipe
from wsd.wire import frames
from wsd.wire.closing import DEAD, DONE, FINISHING, OPEN, PEER_CLOSE, PUT
from wsd.wire.parser import Parser, Piece

if TYPE_CHECKING:
    from wsd.meter import Meter

# What Python needs for a piece beside its payload (a tuple, a bytes object), and for what waits in the queue.
_PIECE_BYTES: Final = 150
_ENTRY_BYTES: Final = 40


_last_byte: Final = bytearray(1)  # for one who sends more where nothing should come


class Held(Roled):
    """A connection that knows what it holds."""

    __slots__ = ()

    def _look_for_close(self, parser: Parser) -> None:
        """The peer's Close may have come, behind what nobody will get."""
        raise NotImplementedError

    def _may_wait_for_reader(self) -> bool:
        """Never inside a message: a peer that reads nothing until it has sent all of it would wait for us for ever.
        Nor as a client: two ends of which each waits for the other to read would wait for ever as well."""
        return not self._is_client and not (self._parser is not None and self._parser.is_mid_message)

    def _assemble(self, piece: Piece) -> None:
        """Collect a message for `on_message`; one bytearray, since a list of tiny pieces costs far more."""
        opcode, payload, first, final, _ = piece
        data: bytes | bytearray = payload
        if not (first and final):
            rare = self._own_rare()
            if first or rare.assembled is None:
                rare.assembled = bytearray()
            rare.assembled += payload
            if not final:
                self._note_held()
                return
            data, rare.assembled = rare.assembled, None
            self._note_held()
        message = data.decode() if opcode == frames.TEXT else bytes(data)
        self.call("on_message", self.binding.hooks.on_message, self, message)

    def _keep_backlog(self, pieces: list[Piece], start: int, at: int) -> None:
        """What comes from index `at` on is delivered later; before it, what was delivered from `start` on."""
        self._backlog = pieces
        rare = self._own_rare()
        rare.backlog_at = at
        left = len(pieces) - at
        if start == 0:
            rare.backlog_bytes = sum(len(piece[1]) for piece in pieces[at:]) + left * _PIECE_BYTES
        else:  # counting them anew in each turn would take longer than delivering them
            rare.backlog_bytes = rare.backlog_bytes * left // (len(pieces) - start)
        if not self._hold:
            self.context.note_backlog(self)  # type: ignore[arg-type]  # the context knows the whole Wsi
        self._note_held()

    def _count_piece(self, meter: Meter, size: int, final: bool) -> None:
        """Count a part of a message against the time."""
        over = meter.count_piece(size, final, self.context.now)
        if over is not None:
            self._slow_down(over)

    def _has_to_say(self) -> bool:
        """Reports whether something is to leave before our Close."""
        return bool(self._output.size or self._queue or self._pong is not None or (self._is_asked and self._owed))

    def _answer_at_once(self, close: tuple[int, str]) -> None:
        """Hot: the peer's Close came, and nothing is left to send or to read: answer it, and that was it."""
        self._move(PEER_CLOSE)
        self._close = close
        self._why = self._why or "closed by peer"
        self._put_frame(frames.FIN | frames.CLOSE_FRAME, frames.encode_close(*close))
        self._flush()
        if not self._output.size:
            self._end_now()
        elif self._move(PUT):  # the kernel takes none now
            self._forget_input()
            self._stop_clocks()
            self.set_deadline(self.budget.close_seconds)

    def _is_read_out(self) -> bool:
        """Reports whether the peer, whose Close came, has sent nothing behind it: so the connection can be closed at
        once, and no unread input makes a reset of that, which could overtake our Close in the peer's kernel.

        "The application MUST NOT send any more data frames after sending a Close frame" (5.5.1), so that nothing is
        what comes.  A Pong may, to a Ping of ours.  Under TLS an alert does, and a client waits for the server's end
        (7.1.1).
        """
        if self._is_client or type(self._pipe) is not SocketPipe or self._rare.has_pinged or self._pinged > 0:
            return False
        if self._parser is not None and self._parser.held:
            return False
        try:
            return self._pipe.receive_into(_last_byte) <= 0
        except PipeBroken:
            return True

    def _end_now(self) -> None:
        """All has left, and `_is_read_out`: this is the end."""
        if self._move(DONE):
            self._pipe.shutdown_write()  # to close alone would not tell the peer where a child has the descriptor too

    def _after_close(self) -> None:
        has_both = self._close is not None and self._peer_close is not None
        if has_both and self._state == FINISHING and not self._output.size and self._is_read_out():
            self._end_now()
        else:
            super()._after_close()

    # -- memory -----------------------------------------------------------------------------------------------------

    def _count_held(self) -> int:
        held = super()._count_held()
        if self._state == DEAD:
            return held
        if self._queue is not None:
            held += len(self._queue) * _ENTRY_BYTES
        if self._rare.assembled is not None:
            held += len(self._rare.assembled)
        if self.role is not None:
            held += getattr(self.role, "held", 0)  # only HTTP keeps anything
        if self._backlog is not None:
            held += self._rare.backlog_bytes
            held += self._parser.held if self._parser is not None else 0
        return held

    def outgoing(self) -> Iterator[tuple[int, int]]:
        """What waits to be sent: `id()` and size of each part."""
        for entry in self._queue or ():
            data = entry if isinstance(entry, bytes) else entry[1]
            yield id(data), len(data)
        for buffer in self._output.buffers:
            yield id(buffer.obj if isinstance(buffer, memoryview) else buffer), len(buffer)

    def give_way(self) -> None:
        """Hold next to nothing from now on, and end: all connections together hold too much, and this one most of it.

        A peer that reads gets a Close; one that does not could not be told.
        """
        self._queue, self._queue_bytes = None, 0
        if self._state == OPEN and self._output.size < LOW_WATER:
            self._note_close(frames.TRY_AGAIN, "the server is out of memory")
        else:
            self._lost("all connections together hold too much")
        self._note_held()

    def renew_budget(self) -> None:
        """As `Timed.renew_budget`; what comes from here on keeps to the limits on messages, too."""
        super().renew_budget()
        if self._parser is not None and self._state == OPEN:
            budget = self.budget
            self._parser.set_limits(budget.max_message_bytes, budget.max_fragments, budget.max_frame_bytes)

    def _forget_input(self) -> None:
        self._backlog = None
        if self._rare.assembled is not None:
            self._rare.assembled = None
        if self.held:
            self._note_held()
        if self._parser is not None:
            self._parser.skip()
            self._look_for_close(self._parser)  # the peer's may have come, behind what nobody will get
