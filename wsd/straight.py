"""The straight way of nearly every message: whole, uncompressed, on a socket of its own, and nothing stands against it.

Owns three functions that are the same as those behind them, written out: `on_events` with `_read` and `_deliver`,
`write`, and `service_write`.  A call of Python costs as much as framing a small message, and a message takes this way
in 430 bytecodes, where the long way takes 850.  So what bends style is in this file, and `bench/` has the figures.
Where the extension was compiled, the hottest of these methods run in C (`compiled.py`), and are the twins of those.

Whatever is not plain goes the long way, which does everything: what is here must do the same, only sooner.  Must not
know anything that is not on that way: compression, fragments, control frames, rates, closing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from wsd import faults, log
from wsd.errors import PipeBroken
from wsd.held import Held
from wsd.reasons import OK
from wsd.sender import COPY_BYTES
from wsd.stream import LOW_WATER
from wsd.transport import READ, SocketPipe, name_of_error
from wsd.wire import frames
from wsd.wire.closing import HTTP, OPEN
from wsd.wire.fast import frame

if TYPE_CHECKING:
    from wsd.wire.broadcast import Broadcast
    from wsd.wire.parser import Parser, Piece

# Fairness: so many pieces of one wsi are delivered in a turn before the others have theirs.  At some 2 us a piece
# that is half a millisecond; a read of 64 KiB can hold ten thousand.
PIECES_PER_TURN: Final = 256

# A read that brings that many messages is deep: the loop rests behind it.  From 8 on, one connection with 32 in flight
# is a third slower for it; 16 costs none anything.
DEEP_READ: Final = 16

_FIN: Final = frames.FIN
_BINARY: Final = frames.BINARY
_FIN_BINARY: Final = frames.FIN | frames.BINARY
_FIN_TEXT: Final = frames.FIN | frames.TEXT
# How a message may begin; None: by the type of its data.
_OPCODES: Final = (frames.BINARY, frames.TEXT, None)


class Straight(Held):
    """A connection on which plain messages take the straight way."""

    __slots__ = ("_is_plain", "_piece", "frame_is_binary", "is_final_fragment")

    _is_plain: bool
    """A server's WebSocket without compression, of which no messages are counted."""

    _piece: Piece | None
    # Of that piece; plain slots, since a property would cost a plugin as much as it costs us to take the piece.
    frame_is_binary: bool
    is_final_fragment: bool

    def _deliver(self, pieces: list[Piece], at: int) -> None:
        """The long way from pieces to the plugin."""
        raise NotImplementedError

    def _end_of_input(self) -> None:
        """The peer's stream has ended."""
        raise NotImplementedError

    def _peer_closed(self, code: int, close_reason: str) -> None:
        """The peer's Close came while we were open."""
        raise NotImplementedError

    def _go_straight(self) -> None:
        """The connection has just been established; or something was switched on or off that is not on this way."""
        self._is_plain = not self._is_client and self._deflater is None and self._rare.meter is None
        if self._is_plain and type(self._pipe) is SocketPipe:
            self.context.listen_to(self._pipe.fileno(), self.on_open_events)

    def renew_budget(self) -> None:
        """As of `Timed`; messages may be counted from here on, or no longer."""
        super().renew_budget()
        if self._parser is not None:
            self._go_straight()

    def on_open_events(self, mask: int) -> None:
        """Hot: `on_events`; one call receives and parses, and each message goes to the plugin at once."""
        parser: Parser = self._parser  # type: ignore[assignment]  # established, and not reaped
        if not (
            mask == READ
            and self._state == OPEN
            and self._is_plain
            and not self._hold
            and self._backlog is None
            and parser.is_plain
        ):
            self.on_events(mask)
            return
        context = self.context
        pieces: list[Piece] = []
        try:
            # A descriptor, which has no such method, is never a WebSocket.
            size, taken = self._pipe.receive_frames(context.buffer, parser.bound, pieces)  # type: ignore[attr-defined]
        except PipeBroken as broken:
            self._lost(str(broken))
            return
        if size <= 0:
            if size == 0:
                self._end_of_input()
            return
        self._last_read = context.now
        context.counters.bytes_received += size
        hooks = self.binding.hooks
        on_receive, on_message = hooks.on_receive, hooks.on_message
        if (
            taken != size
            or (on_receive is None and on_message is None)
            or len(pieces) > PIECES_PER_TURN
            or log.shown & log.PARSER
        ):
            self._deliver_on(parser, 0, taken, size, pieces)
            return
        name = "on_message" if on_receive is None else "on_receive"
        self._is_delivering = True
        count = 0
        for piece in pieces:
            count += 1
            try:
                if on_receive is not None:
                    self._piece = piece
                    self.frame_is_binary = piece[0] == _BINARY
                    self.is_final_fragment = True
                    answer = on_receive(self, piece[1])
                else:
                    answer = on_message(self, piece[1] if piece[0] == _BINARY else piece[1].decode())  # type: ignore[misc]
            except faults.CATCHABLE as error:
                self._hook_raised(name, error)
                break
            if answer:
                self._hook_answered(name, answer)
            if self._hold or self._state != OPEN:
                break
        if count >= DEEP_READ:
            context.is_deep = True
        self._no_piece()
        self._is_delivering = False
        if self._state == OPEN and count == len(pieces) and not self._output.is_choked:
            if self._has_answers:
                self._owed += count
        else:
            self._deliver_on(parser, count, size, size, pieces[count:])

    def _deliver_on(self, parser: Parser, count: int, at: int, size: int, pieces: Iterable[Piece] = ()) -> None:
        """So many messages were delivered, and then not all was plain, or it is to wait, or nobody wants it, or the
        peer does not read.

        Args:
            count: How many.
            at: From this index on, what was received is for the parser.
            size: How much that was.
            pieces: Parsed already, and before that.
        """
        if self._state == OPEN and self._has_answers:
            self._owed += count
        rest = [*pieces, *(parser.receive(self.context.view[at:size]) if at < size else ())]
        if count == PIECES_PER_TURN and rest and self._state == OPEN and not self._hold:
            if self._output.is_choked:
                self._choke_changed()
            self._keep_backlog(rest, 0, 0)
        elif rest or parser.close is None or self._state != OPEN or self._output.is_choked:
            self._deliver(rest, 0)
        else:
            self._peer_closed(*parser.close)  # alone, as nearly every Close comes

    def _broke(self, number: int) -> None:
        """A system call was answered with -errno."""
        self._lost(name_of_error(-number))

    def _no_piece(self) -> None:
        """None is being received, for now."""
        self._piece = None
        self.frame_is_binary = self.is_final_fragment = False

    def _read_payload(self, parser: Parser, pipe: SocketPipe, size: int) -> None:
        """`_read` in the midst of a large frame: straight into the bytes that the plugin gets."""
        try:
            payload = pipe.receive_payload(size, *parser.mask_of_awaited)
        except PipeBroken as broken:
            self._lost(str(broken))
            return
        if isinstance(payload, int):
            if payload == 0:
                self._end_of_input()
            return
        self._last_read = self.context.now
        self.context.counters.bytes_received += len(payload)
        self._deliver(parser.receive_awaited(payload), 0)

    def on_pipe_events(self, mask: int) -> None:
        """As of `Stream`; under TLS the straight way is the same."""
        if self._is_plain:
            pipe = self._indirect
            self.on_open_events(mask if pipe.is_usual else pipe.translate(mask))
            if pipe.has_changed:
                self._look_at_pipe()
        else:
            super().on_pipe_events(mask)

    def write(self, data: str | bytes | bytearray | memoryview, opcode: int | None = None, final: bool = True) -> int:
        # Hot, and what it means is written at `Sender.write`, from where the docstring comes.
        if (
            final
            and self._is_writing
            and self._is_plain
            and self._state == OPEN
            and not self._open_opcode
            and type(data) is bytes
            and len(data) <= COPY_BYTES
            and opcode in _OPCODES
        ):
            output = self._output
            framed = frame(_FIN | (opcode or _BINARY), data)
            output.buffers.append(framed)
            output.size += len(framed)
            return OK
        return super().write(data, opcode, final)

    def offer(self, data: str | bytes | bytearray | memoryview, opcode: int | None = None, final: bool = True) -> bool:
        """`write`, from inside of any hook, of what can leave now; reports whether nobody need keep it.

        False: it would have to wait, for a peer that does not read or for messages that are queued.  What is to become
        of it is yours to say: drop it; or keep it, and `write()` it when `on_writeable`, once asked for, is called.  A
        wsi that is closing gets nothing, and nobody waits for it: that is True.

        Args:
            data: As of `write`, as are the others.
            opcode: `TEXT` or `BINARY`, where the type of `data` does not tell.
            final: Whether this ends the message; what is offered or written after a fragment continues its message.

        Raises:
            RuntimeError: this is no WebSocket, or not yet.
            ValueError: an opcode that cannot be sent here.
            TypeError: `data` is neither `str` nor a buffer.
            UnicodeEncodeError: the text holds a lone surrogate, which UTF-8 cannot carry.
        """
        if self._state == HTTP:
            raise RuntimeError("wsi.offer() is for a WebSocket, and one that is open")
        if self._state != OPEN:
            return True
        if self.send_pipe_choked or (self._queue and not self._open_opcode):
            return False
        was_writing, self._is_writing = self._is_writing, True
        try:
            self.write(data, opcode, final)
        finally:
            self._is_writing = was_writing
        self._list_once()
        return True

    def send(self, message: str | bytes | bytearray | memoryview) -> int:
        # Hot; what it means is written at `Sender.send`.  What would wait for nothing need not queue.
        if type(message) is bytes and len(message) <= COPY_BYTES and self._may_put():
            return self._put(frame(_FIN_BINARY, message))
        if type(message) is str and message.isascii() and len(message) <= COPY_BYTES and self._may_put():
            return self._put(frame(_FIN_TEXT, message.encode()))
        return super().send(message)

    def send_shared(self, message: Broadcast) -> int:
        # Hot: once for each receiver of a broadcast.
        return self._put(message.frame) if self._may_put() else super().send_shared(message)

    def take_shared(self, message: Broadcast) -> bool:
        """`send_shared`, unless the message would have to wait for the peer, or for the end of another one.

        Reports whether nobody need keep it: it is sent, or there is nobody to send it to.
        """
        waits = self._output.size + self._queue_bytes
        if self.is_established and (
            self._output.is_choked or self._open_opcode or waits >= LOW_WATER or waits >= self.budget.max_queue_bytes
        ):
            return False
        self.send_shared(message)
        return True

    def _may_put(self) -> bool:
        """Reports whether a message can go behind what is set aside for this turn's send, since nothing else waits."""
        size = self._output.size
        return (
            self._state == OPEN
            and self._is_plain
            and not self._queue
            and not self._open_opcode
            and size < LOW_WATER
            and size < self.budget.max_queue_bytes
            and not self._output.is_choked
        )

    def _put(self, framed: bytes) -> int:
        output = self._output
        output.buffers.append(framed)
        output.size += len(framed)
        if not self._is_listed:
            self._list()
        return OK

    def service_write(self) -> None:
        """Hot: as of `Sender`, where only the plugin's `on_writeable`, and what is set aside already, are to leave."""
        output = self._output
        if self._queue or self._pong is not None or self._state != OPEN or not self._is_plain or output.is_choked:
            super().service_write()
            return
        self._is_listed = False
        if self._is_asked and output.size < LOW_WATER:
            self._ask_plugin(self.binding.hooks.on_writeable)
        if output.size:
            try:
                sent = output.flush()
            except PipeBroken as broken:
                self._lost(str(broken))
                return
            self._after_send(sent)
        if self._is_asked and not output.is_choked:
            self._list_once()

    def _flush_on(self, answer: int, number: int) -> bool:
        """OpenSSL was to take what waits: it answered this, with errno; above 0, it was not asked.  Reports whether it
        took everything."""
        output = self._output
        try:
            if answer > 0:
                sent = output.flush()
            else:
                sent = self._indirect.send_on(answer, number)
                output.note_sent(sent)
        except PipeBroken as broken:
            self._lost(str(broken))
            return False
        self._after_send(sent)
        return not output.size

    def _after_send(self, sent: int) -> None:
        """The kernel took so many bytes."""
        self.context.counters.bytes_sent += sent
        if self._output.is_choked:
            self._choke_changed()  # it may just have refused
        elif self.held:
            self._note_held()
