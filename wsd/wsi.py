"""One connection, as plugins see it.

Owns what has come and was not delivered, the pieces and messages a plugin gets, and the peer's half of a close.  It is
handed its context, its byte pipe and its protocol's binding, and imports none of them.

While a wsi speaks HTTP its `role` (http1.py) has the bytes; from `upgrade()` on they are WebSocket frames.  A close
is only noted, by whomever; frames leave in the write pass, and the descriptor goes in the context's reaper alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wsd import faults, log, ties
from wsd.errors import PipeBroken, ProtocolError
from wsd.rare import NOTHING
from wsd.reasons import CLOSE, OK
from wsd.sender import FAILED
from wsd.straight import PIECES_PER_TURN, Straight
from wsd.stream import HOLD_END, HOLD_PLUGIN, HOLD_ROLE, NoPipe
from wsd.transport import Pipe, SocketPipe
from wsd.wire import frames
from wsd.wire.closing import (
    CLOSE_SENT,
    DEAD,
    DEADLINE,
    FINISHING,
    HTTP,
    OPEN,
    PEER_CLOSE,
    PEER_END,
    UPGRADED,
    VIOLATION,
)
from wsd.wire.deflate import make_pair
from wsd.wire.parser import Parser, Piece

if TYPE_CHECKING:
    from wsd.binding import Binding
    from wsd.client import Reconnect
    from wsd.context import Context
    from wsd.incoming import Menu
    from wsd.listener import Listener
    from wsd.protocol import Peer, Protocol
    from wsd.wire.deflate import Deflater, Inflater
    from wsd.wire.extensions import Agreement, Settings
    from wsd.wire.http import Request
    from wsd.wire.reply import Reply


# In the midst of a frame with so much to come, a read brings nothing but its payload, and twice as much as any other:
# a byte of a large message then costs two thirds.  That is what two of the loopback's largest segments hold (65 483
# each), and costs least; much more would not stay in the processor's cache until it is sent on.
LARGE_BYTES: Final = 1 << 14
PAYLOAD_BYTES: Final = 130_000


class Wsi(Straight):
    """One connection, as a plugin sees it.  After `on_closed` every call on it answers CLOSE and none raises."""

    __slots__ = (
        "identity",
        "listener",
        "menu",
        "request",
        "session",
        "subprotocol",
    )

    def __init__(
        self,
        context: Context,
        binding: Binding,
        pipe: Pipe | None,
        peer: Peer,
        local: Peer,
        number: int,
        listener: Listener | None = None,
        *,
        is_client: bool | None = None,
    ) -> None:
        if is_client is None:
            is_client = listener is None
        super().__init__(context, pipe or NoPipe(), binding, peer, local, is_client, number)
        self.listener = listener
        self.menu: Menu | None = listener  # what an upgrade may ask for
        if listener is not None:
            self.budget = listener.budgets.get(binding) or binding.budget_for(listener)
        self.session: Any = None
        self.request: Request = None  # type: ignore[assignment]  # a server's is there before the first hook
        self.subprotocol: str | None = None
        self.identity: str | None = None  # whose password or token the request showed
        self._piece: Piece | None = None  # being received
        self.frame_is_binary = self.is_final_fragment = False
        self._is_plain = False

    # -- facts ----------------------------------------------------------------------------------------------------

    @property
    def protocol(self) -> Protocol:
        """The protocol that this wsi speaks; protocol 0 until a server's wsi is upgraded."""
        return self.binding.protocol

    @property
    def is_client(self) -> bool:
        """Whether this end opened the connection: `context.client_connect()`."""
        return self._is_client

    @property
    def tag(self) -> str:
        """The name of this wsi in the log: `echo#1042 203.0.113.9:51234`."""
        return f"{self.binding.protocol.name}#{self.number} {self.peer}"

    @property
    def children(self) -> tuple[Wsi, ...]:
        """The connections that were tied to this one with `parent=`; when one of them ends, all do."""
        return tuple(self._rare.children or ())

    @property
    def parent(self) -> Wsi | None:
        """The connection that this one was tied to with `parent=`; None, or when that has ended."""
        return self._rare.parent

    @property
    def response(self) -> Reply | None:
        """Of a connection that we opened: the head of the server's answer, a `Reply`; else None."""
        return self._rare.response

    @response.setter
    def response(self, response: Reply) -> None:
        self._own_rare().response = response

    @property
    def reconnect(self) -> Reconnect | None:
        """Of a connection that was opened with `reconnect=`: who opens the next one; else None."""
        return self._rare.reconnect

    @reconnect.setter
    def reconnect(self, reconnect: Reconnect | None) -> None:
        self._own_rare().reconnect = reconnect

    @property
    def is_established(self) -> bool:
        """Whether something can be sent: the handshake is done, or a raw wsi is there, and no close is under way."""
        return self._state == OPEN or (self._rare.is_raw and self._is_established and self._state == HTTP)

    @property
    def is_closing(self) -> bool:
        """Whether a close is noted or done, by whomever."""
        return self._state > OPEN

    @property
    def why(self) -> str:
        """What ended the connection, in words; empty while nothing did."""
        return self._why

    @property
    def extensions(self) -> tuple[str, ...]:
        """The WebSocket extensions in use on this connection: `("permessage-deflate",)`, or none."""
        return () if self._deflater is None else ("permessage-deflate",)

    @property
    def max_message_bytes(self) -> int:
        """The largest message that is accepted here, in bytes; 0: no limit."""
        return self.budget.max_message_bytes

    @property
    def is_first_fragment(self) -> bool:
        """Whether the piece being received is its message's first.  LWS: lws_is_first_fragment."""
        return self._piece is not None and self._piece[2]

    @property
    def remaining_packet_payload(self) -> int:
        """How many bytes of the frame being received are still to come; 0 on its last piece only."""
        return 0 if self._piece is None else self._piece[4]

    def __repr__(self) -> str:
        return f"<Wsi {self.tag}>"

    # -- receiving ------------------------------------------------------------------------------------------------

    def rx_flow_control(self, enable: bool) -> int:
        """False: no more `on_receive` or `on_message` until True; it goes on where it stopped.

        Holds back what was read already, too.  LWS: lws_rx_flow_control.
        """
        if self._state > OPEN:
            return CLOSE
        if self._is_client and not self._is_established:
            self._own_rare().is_held_early = not enable
        else:
            self._set_hold(HOLD_PLUGIN, not enable)
        return OK

    def pause_reading(self, pause: bool) -> None:
        """The role's own flow control: no input while a response is being produced."""
        if self._state <= OPEN:
            self._set_hold(HOLD_ROLE, pause)

    def _read(self) -> None:
        """One receive; what it brought goes to the role, to the parser, or nowhere."""
        if self._backlog is not None and self._state != DEAD:
            return  # what came first is delivered first, in this turn's next step
        context = self.context
        if self._parser is not None and type(self._pipe) is SocketPipe and self._state == OPEN:
            awaited = self._parser.awaited
            if awaited >= LARGE_BYTES:
                self._read_payload(self._parser, self._pipe, min(awaited, PAYLOAD_BYTES))
                return
        try:
            size = self._pipe.receive_into(context.buffer)
        except PipeBroken as broken:
            self._lost(str(broken))
            return
        if size <= 0:
            if size == 0:
                self._end_of_input()
            return
        self._last_read = context.now
        context.counters.bytes_received += size
        state = self._state
        if state == OPEN:
            assert self._parser is not None
            self._deliver(self._parser.receive(context.view[:size]), 0)
        elif state == HTTP:
            assert self.role is not None
            if self._rare.meter is not None:
                self._count_piece(self._rare.meter, size, True)
            self.role.receive(bytes(context.view[:size]))
            if self.held or (self.role is not None and not self._rare.is_raw):
                self._note_held()
        elif state <= CLOSE_SENT and self._parser is not None:
            # Section 1.4: after our Close only the peer's is of interest; "discards any further data".
            self._parser.receive(context.view[:size])
            self._look_for_close(self._parser)

    def resume(self) -> None:
        """Go on with what was read and not delivered; the context calls this at the head of a turn."""
        if self._backlog is not None and not self._hold:
            pieces, self._backlog = self._backlog, None
            if self.role is not None:
                self.role.receive(pieces[0][1])
            elif self._rare.backlog_at < len(pieces):
                self._deliver(pieces, self._rare.backlog_at)
            elif self._parser is not None:
                self._deliver(self._parser.receive(b""), 0)
            if self.held:
                self._note_held()
        if self._backlog is None and not self._pipe.is_direct:
            self.read_pending()

    def _deliver(self, pieces: list[Piece], at: int) -> None:
        """Hot: give pieces to the plugin, from index `at`, as long as it wants them and the turn allows."""
        hooks = self.binding.hooks
        on_receive = hooks.on_receive
        end = min(len(pieces), at + PIECES_PER_TURN)
        start = at
        meter = self._rare.meter
        self._is_delivering = True
        while at < end and self._state == OPEN and not self._hold:
            piece = pieces[at]
            at += 1
            if meter is not None and piece[0] <= frames.BINARY:
                self._count_piece(meter, len(piece[1]), piece[3])
            if piece[0] > frames.BINARY:
                self._no_piece()  # on_pong gets none, whatever came in the same read before it
                self._control(piece[0], piece[1])
            elif on_receive is not None:
                self._piece = piece
                self.frame_is_binary = piece[0] == frames.BINARY
                self.is_final_fragment = piece[3]
                try:
                    answer = on_receive(self, piece[1])
                except faults.CATCHABLE as error:
                    self._hook_raised("on_receive", error)
                    break
                if answer:
                    self._hook_answered("on_receive", answer)
            elif hooks.on_message is not None:
                self._assemble(piece)
        if log.shown & log.PARSER:
            self._log_pieces(pieces[start:at])
        if self._state == OPEN:  # else the plugin, or we, wanted the end, and no on_writeable comes after that
            self._owed += at - start if self._has_answers else 0
        self._no_piece()
        self._is_delivering = False
        if self._output.is_choked:
            self._choke_changed()  # what was just read may have ended a message, and queued more than should wait
        parser = self._parser
        if parser is None:
            return  # reaped meanwhile
        if self._state != OPEN:
            self._look_for_close(parser)
        elif at < len(pieces) or parser.has_more:
            self._keep_backlog(pieces, start, at)
        elif parser.failure is not None:
            self._peer_failed(parser.failure)
        elif parser.close is not None:
            # Only now, when all that was read before it is delivered, is its turn.
            self._peer_closed(*parser.close)

    def _log_pieces(self, pieces: list[Piece]) -> None:
        """What the parser has made of what was read."""
        for opcode, payload, first, final, remaining in pieces:
            place = f"{'first' if first else 'next'}{', last' if final else ''}"
            log.parser("%s: opcode %d, %s, %d bytes, %d to come", self.tag, opcode, place, len(payload), remaining)

    def _control(self, opcode: int, payload: bytes) -> None:
        """A Ping or a Pong; neither touches the state of a message."""
        if opcode == frames.PONG and self._pinged > 0 and self._is_awaited(payload):
            return
        if self.budget.max_control_frames_per_second:
            over = self._paced().count_control(self.context.now)
            if over is not None:
                self._slow_down(over)
        if opcode == frames.PING:
            if self._output.is_choked:
                # "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to previous
                # Ping frame(s), the endpoint MAY elect to send a Pong frame for only the most recently processed
                # Ping frame." (5.5.3)
                self._pong = payload
            else:
                self._pong = None  # one that waits is answered by this one too, and must not come after it
                self._put_frame(frames.FIN | frames.PONG, payload)
                self._list_once()
        elif not (self._pinged and payload[:8] == self._ping_mark) and self.binding.hooks.on_pong is not None:
            self.call("on_pong", self.binding.hooks.on_pong, self, payload)

    # -- closing --------------------------------------------------------------------------------------------------

    def _peer_closed(self, code: int, close_reason: str) -> None:
        """The peer's Close came while we were open."""
        self._peer_close = (code, close_reason)
        hook = self.binding.hooks.on_peer_close
        echo: tuple[int, str] | None = (code, "")
        if hook is not None:
            answer = self.call("on_peer_close", hook, self, code, close_reason, closes=False)
            if answer is not FAILED and answer:
                echo = None
        if self._state == OPEN:  # else the hook closed, with a code of its own
            # "When sending a Close frame in response, the endpoint typically echos the status code it received."
            if echo is None or self._has_to_say() or not self._is_read_out():
                self._begin_close(PEER_CLOSE, echo, "closed by peer")
            else:
                self._answer_at_once(echo)

    def _peer_failed(self, failure: ProtocolError) -> None:
        """The peer broke the protocol, or was over a limit: _Fail the WebSocket Connection_ (section 7.1.7)."""
        code, text = failure.code, failure.text
        log.info("%s: protocol violation, closing with %d: %s", self.tag, code, text)
        self.context.counters.protocol_errors += 1
        if failure.option:
            self.context.counters.note_over(failure.option)
        self._begin_close(VIOLATION, (code, text), f"failed with {code} {text}")

    def _look_for_close(self, parser: Parser) -> None:
        """Reading on only to find the peer's Close, after our own was noted or sent."""
        if parser.close is None:
            parser.receive(b"")  # it may be among what was received and not looked at
        if parser.close is not None and self._move(PEER_CLOSE):
            self._peer_close = parser.close
        elif parser.failure is not None:
            self._move(VIOLATION)
        if self._state == FINISHING:
            self._want_end()

    def stop(self) -> None:
        """The context stops, and this is no WebSocket: an idle connection ends now, an answer under way is finished."""
        if self._state == HTTP:
            assert self.role is not None
            self.role.stop()

    def _end_of_input(self) -> None:
        """The peer sends no more (FIN)."""
        if self._state == HTTP:
            assert self.role is not None
            self.role.end_of_input()
            if self._state == HTTP and not self._hold:
                # Nobody ended it, and a stream at its end stays readable for ever.
                self._set_hold(HOLD_ROLE, True)
        else:
            if self._state == OPEN:
                # Without a Close this is 1006 to us, but the peer may still read what was on its way.
                self._begin_close(PEER_END, None, "peer ended the stream without a Close")
            elif self._move(PEER_END) and self._state == DEAD:
                self._say_end()
            self._set_hold(HOLD_END, True)
            self._list_once()

    def reap(self) -> None:
        """Called by the context's reaper, once: release everything, then tell the plugin."""
        self.set_deadline(None)
        self._stop_clocks()
        self._pipe.close()
        self._queue = self._parser = self._backlog = None
        if self.held:
            self._note_held()
        if self._deflater is not None:
            self._deflater.forget()  # its memory; that it was there is still told
        binding = self.binding
        if self._is_established and not self._rare.is_raw:
            binding.protocol._members.pop(self, None)
            code, close_reason = self._peer_close or (frames.ABNORMAL, "")
            if log.shown & log.INFO:
                log.info("%s: closed, %d %s (%s)", self.tag, code, close_reason, self._why)
            if binding.hooks.on_closed is not None:
                self.call("on_closed", binding.hooks.on_closed, self, code, close_reason)
        elif self.role is not None:
            self.role.closed()
        self.role = None
        binding.wsi_count -= 1
        rare = self._rare
        if rare is not NOTHING:
            rare.end()
            if rare.reconnect is not None and not rare.is_own_close:
                rare.reconnect.schedule()
            if rare.parent is not None or rare.children is not None:
                ties.end(self)

    # -- becoming a WebSocket -------------------------------------------------------------------------------------

    def bind(self, binding: Binding) -> None:
        """Make `binding` the one whose hooks run and that counts this wsi."""
        self.binding.wsi_count -= 1
        self.binding = binding
        menu = self.menu
        self.budget = (menu and menu.budgets.get(binding)) or binding.budget_for(menu)
        binding.wsi_count += 1

    def upgrade(
        self,
        binding: Binding,
        request: Request,
        subprotocol: str | None,
        response_head: bytes,
        leftover: bytes,
        agreement: Agreement | None = None,
        settings: Settings | None = None,
    ) -> None:
        """The 101 leaves, the wsi is a WebSocket; `leftover` is what the peer sent behind its request."""
        if self.binding is not binding:
            self.bind(binding)
        self.request = request
        if subprotocol is not None:
            subprotocol = binding.protocol.name  # the same, but one text for all of them, and not each peer's own
        self.put(response_head)
        pair = None
        if agreement is not None and settings is not None:
            pair = make_pair(agreement, settings, is_client=False)
        self.establish(subprotocol, leftover, pair)

    def establish(self, subprotocol: str | None, leftover: bytes, deflate: tuple[Inflater, Deflater] | None) -> None:
        """The opening handshake is done; `leftover` is what the peer sent behind it."""
        binding, budget = self.binding, self.budget
        self.subprotocol = subprotocol
        self.role = None
        self.set_deadline(None)
        self._move(UPGRADED)
        self._is_established = True
        inflater, self._deflater = deflate or (None, None)
        self._parser = Parser(
            budget.max_message_bytes,
            budget.max_fragments,
            max_frame_bytes=budget.max_frame_bytes,
            is_client=self._is_client,
            inflater=inflater,
        )
        self._hold = self._hold & ~HOLD_ROLE | (HOLD_PLUGIN if self._rare.is_held_early else 0)
        self._update_mask()
        binding.protocol._members[self] = None
        self.context.counters.established += 1
        if log.shown & log.INFO:
            log.info("%s: established, %s", self.tag, log.escape(self.request.target))
        if self.context.keepalive.ping_seconds:
            self._schedule_keepalive(self.context.keepalive.ping_seconds)
        if budget.has_rates or budget.has_clocks:
            self.renew_budget()
        self._go_straight()
        if binding.hooks.on_established is not None:
            self.call("on_established", binding.hooks.on_established, self)
        if leftover and self._state <= CLOSE_SENT:
            pieces = self._parser.receive(leftover)
            if self._state == OPEN and self._hold:
                self._backlog, self._own_rare().backlog_at = pieces, 0
            else:
                self._deliver(pieces, 0)

    def _input_allowed(self) -> None:
        if self._backlog is not None or self._pipe.has_pending():
            self.context.note_backlog(self)

    def _deadline_due(self) -> None:
        self._deadline = None
        if self._state == HTTP:
            assert self.role is not None
            self.role.timed_out()
        elif self._move(DEADLINE):
            self.context.counters.note_over("close_seconds")
            self._why = f"{self._why}; no end within close_seconds"
