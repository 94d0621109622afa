"""One connection, as plugins see it.

Owns what has come and was not delivered, the pieces and messages a plugin gets, the peer's half of a close, and the
timers of one connection.  It is handed its context, its byte pipe and its protocol's binding, and imports none of them.

While a wsi speaks HTTP its `role` (http1.py) has the bytes; from `upgrade()` on they are WebSocket frames.  A close
is only noted, by whomever; frames leave in the write pass, and the descriptor goes in the context's reaper alone.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from wsd import faults, log
from wsd.errors import PipeBroken
from wsd.reasons import CLOSE, OK
from wsd.sender import FAILED, Sender
from wsd.stream import CLOSE_SENT, DEAD, DRAINING, HOLD_PLUGIN, HOLD_ROLE, HTTP, OPEN
from wsd.transport import SocketPipe
from wsd.wire import frames
from wsd.wire.parser import Parser, Piece

if TYPE_CHECKING:
    from wsd.context import Context
    from wsd.listener import Listener
    from wsd.protocol import Binding, Peer, Protocol
    from wsd.wire.http import Request

# Fairness: so many pieces of one wsi are delivered in a turn before the others have theirs.  At some 2 us a piece
# that is half a millisecond; a read of 64 KiB can hold ten thousand.
PIECES_PER_TURN: Final = 256


class Wsi(Sender):
    """One connection, as a plugin sees it.  After `on_closed` every call on it answers CLOSE and none raises."""

    __slots__ = (
        "_assembled",
        "_backlog",
        "_backlog_at",
        "_is_established",
        "_last_read",
        "_piece",
        "_ping_mark",
        "_pinged",
        "listener",
        "local",
        "number",
        "peer",
        "request",
        "session",
        "subprotocol",
    )

    def __init__(
        self, context: Context, listener: Listener, pipe: SocketPipe, peer: Peer, local: Peer, number: int
    ) -> None:
        super().__init__(context, pipe, listener.http)
        self.listener = listener
        self.peer = peer
        self.local = local
        self.number = number
        self.session: Any = None
        self.request: Request = None  # type: ignore[assignment]  # set before the first hook that gets the wsi
        self.subprotocol: str | None = None
        self._is_established = False
        self._last_read = context.now
        self._piece: Piece | None = None  # being received
        self._assembled: bytearray | None = None  # the message so far, for on_message
        self._backlog: list[Piece] | None = None  # read and not delivered
        self._backlog_at = 0
        self._ping_mark: bytes | None = None  # how our own pings begin, whose Pongs are ours too
        self._pinged = 0.0  # when it was sent

    # -- facts ----------------------------------------------------------------------------------------------------

    @property
    def protocol(self) -> Protocol:
        """The protocol that this wsi speaks; protocol 0 until it is upgraded."""
        return self.binding.protocol

    @property
    def is_client(self) -> bool:
        """Whether this end opened the connection."""
        return False

    @property
    def tag(self) -> str:
        """The name of this wsi in the log: `echo#1042 203.0.113.9:51234`."""
        return f"{self.binding.protocol.name}#{self.number} {self.peer}"

    @property
    def is_established(self) -> bool:
        """Whether messages can be sent: the handshake is done and no close is under way."""
        return self._state == OPEN

    @property
    def is_closing(self) -> bool:
        """Whether a close is noted or done, by whomever."""
        return self._state > OPEN

    @property
    def extensions(self) -> tuple[str, ...]:
        """The WebSocket extensions in use on this connection."""
        return ()

    @property
    def max_message_bytes(self) -> int:
        """The largest message that is accepted here, in bytes; 0: no limit."""
        return self.binding.max_message_bytes

    @property
    def is_first_fragment(self) -> bool:
        """Whether the piece being received is its message's first.  LWS: lws_is_first_fragment."""
        return self._piece is not None and self._piece[2]

    @property
    def is_final_fragment(self) -> bool:
        """Whether the piece being received is its message's last.  LWS: lws_is_final_fragment."""
        return self._piece is not None and self._piece[3]

    @property
    def remaining_packet_payload(self) -> int:
        """How many bytes of the frame being received are still to come; 0 on its last piece only."""
        return 0 if self._piece is None else self._piece[4]

    @property
    def frame_is_binary(self) -> bool:
        """Whether the message being received is binary."""
        return self._piece is not None and self._piece[0] == frames.BINARY

    def __repr__(self) -> str:
        return f"<Wsi {self.tag}>"

    # -- receiving ------------------------------------------------------------------------------------------------

    def rx_flow_control(self, enable: bool) -> int:
        """False: no more `on_receive` or `on_message` until True; it goes on where it stopped.

        Holds back what was read already, too.  LWS: lws_rx_flow_control.
        """
        if self._state > OPEN:
            return CLOSE
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
            self.role.receive(bytes(context.view[:size]))
        elif state <= CLOSE_SENT and self._parser is not None:
            # Section 1.4: after our Close only the peer's is of interest; "discards any further data".
            self._parser.receive(context.view[:size])
            self._look_for_close()

    def resume(self) -> None:
        """Go on with what was read and not delivered; the context calls this at the head of a turn."""
        if self._backlog is not None and not self._hold:
            pieces, self._backlog = self._backlog, None
            self._deliver(pieces, self._backlog_at)

    def _deliver(self, pieces: list[Piece], at: int) -> None:
        """Hot: give pieces to the plugin, from index `at`, as long as it wants them and the turn allows."""
        hooks = self.binding.hooks
        on_receive = hooks.on_receive
        end = min(len(pieces), at + PIECES_PER_TURN)
        start = at
        while at < end and self._state == OPEN and not self._hold:
            piece = pieces[at]
            at += 1
            if piece[0] > frames.BINARY:
                self._control(piece[0], piece[1])
            elif on_receive is not None:
                self._piece = piece
                try:
                    answer = on_receive(self, piece[1])
                except faults.CATCHABLE as error:
                    self._hook_raised("on_receive", error)
                    break
                if answer:
                    self._hook_answered("on_receive", answer)
            elif hooks.on_message is not None:
                self._assemble(piece)
        self._owed += at - start
        self._piece = None
        if self._output.is_choked:
            self._choke_changed()  # what was just read may have ended a message, and queued more than should wait
        if self._state != OPEN:
            self._look_for_close()
        elif at < len(pieces):
            self._backlog, self._backlog_at = pieces, at
            if not self._hold:
                self.context.note_backlog(self)
        else:
            self._end_of_pieces()

    def _assemble(self, piece: Piece) -> None:
        """Collect a message for `on_message`; one bytearray, since a list of tiny pieces costs far more."""
        opcode, payload, first, final, _ = piece
        data: bytes | bytearray = payload
        if not (first and final):
            if first or self._assembled is None:
                self._assembled = bytearray()
            self._assembled += payload
            if not final:
                return
            data, self._assembled = self._assembled, None
        message = data.decode() if opcode == frames.TEXT else bytes(data)
        self.call("on_message", self.binding.hooks.on_message, self, message)

    def _control(self, opcode: int, payload: bytes) -> None:
        """A Ping or a Pong; neither touches the state of a message."""
        if opcode == frames.PING:
            if self._output.is_choked:
                # "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to previous
                # Ping frame(s), the endpoint MAY elect to send a Pong frame for only the most recently processed
                # Ping frame." (5.5.3)
                self._pong = payload
            else:
                self._put_frame(frames.FIN | frames.PONG, payload)
                self._list_once()
        elif payload[:8] != self._ping_mark and self.binding.hooks.on_pong is not None:
            self.call("on_pong", self.binding.hooks.on_pong, self, payload)

    def _end_of_pieces(self) -> None:
        """All that was read is delivered; only now is the turn of what came behind it."""
        parser = self._parser
        assert parser is not None
        if parser.failure is not None:
            self._peer_failed(parser.failure.code, parser.failure.text)
        elif parser.close is not None:
            self._peer_closed(*parser.close)

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
        if self._state == OPEN:
            # "When sending a Close frame in response, the endpoint typically echos the status code it received."
            self._begin_close(echo, "closed by peer")

    def _peer_failed(self, code: int, text: str) -> None:
        """The peer broke the protocol: _Fail the WebSocket Connection_ (section 7.1.7)."""
        log.info("%s: protocol violation, closing with %d: %s", self.tag, code, text)
        self.context.counters.protocol_errors += 1
        self._begin_close((code, text), f"failed with {code} {text}")

    def _look_for_close(self) -> None:
        """Reading on only to find the peer's Close, after our own was noted or sent."""
        parser = self._parser
        if parser is None:
            return
        if parser.close is not None and self._peer_close is None:
            self._peer_close = parser.close
        if self._state == CLOSE_SENT and self._is_close_over():
            self._finish_output()

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
        elif self._state == DRAINING:
            self._lost(self._why)
        else:
            if self._state == OPEN:
                # Without a Close this is 1006 to us, but the peer may still read what was on its way.
                self._begin_close(None, "peer ended the stream without a Close")
            elif self._state == CLOSE_SENT:
                self._finish_output()
            self._hold = HOLD_ROLE
            self._update_mask()

    def reap(self) -> None:
        """Called by the context's reaper, once: release everything, then tell the plugin."""
        for timer in (self._deadline, self._timer, self._timeout, self._keepalive, self._slow_timer):
            if timer is not None:
                timer.cancel()
        self._deadline = self._timer = self._timeout = self._keepalive = self._slow_timer = None
        self._pipe.close()
        self._queue = self._parser = self._assembled = None
        binding = self.binding
        if self._is_established:
            binding.protocol._members.pop(self, None)
            code, close_reason = self._peer_close or (frames.ABNORMAL, "")
            if log.is_on(log.INFO):
                log.info("%s: closed, %d %s (%s)", self.tag, code, close_reason, self._why)
            if binding.hooks.on_closed is not None:
                self.call("on_closed", binding.hooks.on_closed, self, code, close_reason)
        elif self.role is not None:
            self.role.closed()
        self.role = None
        binding.wsi_count -= 1

    # -- becoming a WebSocket -------------------------------------------------------------------------------------

    def bind(self, binding: Binding) -> None:
        """Make `binding` the one whose hooks run and that counts this wsi."""
        self.binding.wsi_count -= 1
        self.binding = binding
        binding.wsi_count += 1

    def upgrade(
        self, binding: Binding, request: Request, subprotocol: str | None, response_head: bytes, leftover: bytes
    ) -> None:
        """The 101 leaves, the wsi is a WebSocket; `leftover` is what the peer sent behind its request."""
        if self.binding is not binding:
            self.bind(binding)
        self.request = request
        self.subprotocol = subprotocol
        self.put(response_head)
        self.role = None
        self.set_deadline(None)
        self._state = OPEN
        self._is_established = True
        self._parser = Parser(binding.max_message_bytes, binding.max_fragments)
        self._hold &= ~HOLD_ROLE
        self._update_mask()
        binding.protocol._members[self] = None
        self.context.counters.established += 1
        if log.is_on(log.INFO):
            log.info("%s: established, %s", self.tag, log.escape(request.target))
        if self.context.keepalive.ping_seconds:
            self._schedule_keepalive(self.context.keepalive.ping_seconds)
        if binding.hooks.on_established is not None:
            self.call("on_established", binding.hooks.on_established, self)
        if leftover and self._state <= CLOSE_SENT:
            pieces = self._parser.receive(leftover)
            if self._state == OPEN and self._hold:
                self._backlog, self._backlog_at = pieces, 0
            else:
                self._deliver(pieces, 0)

    # -- deadlines ------------------------------------------------------------------------------------------------

    def set_timer(self, seconds: float | None) -> int:
        """Have `on_timer` called once, `seconds` from now; None takes it back.  LWS: lws_set_timer_usecs."""
        if self._state > OPEN:
            return CLOSE
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.context.call_at(seconds, self._timer_due)
        return OK

    def _timer_due(self) -> None:
        self._timer = None
        if self.binding.hooks.on_timer is not None and self._state == OPEN:
            self.call("on_timer", self.binding.hooks.on_timer, self)

    def set_timeout(self, seconds: float | None) -> int:
        """Close the wsi with 1008 `seconds` from now unless called again; None takes it back.  LWS: lws_set_timeout."""
        if self._state > OPEN:
            return CLOSE
        if self._timeout is not None:
            self._timeout.cancel()
        self._timeout = None if seconds is None else self.context.call_at(seconds, self._timeout_due)
        return OK

    def _timeout_due(self) -> None:
        self._timeout = None
        self._why = "timed out"
        self.close(frames.POLICY, "timed out")

    def _input_allowed(self) -> None:
        if self._backlog is not None:
            self.context.note_backlog(self)

    def _forget_input(self) -> None:
        self._backlog = None
        self._assembled = None

    def _deadline_due(self) -> None:
        self._deadline = None
        if self._state == HTTP:
            assert self.role is not None
            self.role.timed_out()
        else:
            self._lost("no end within close_seconds")

    def _schedule_keepalive(self, seconds: float) -> None:
        self._keepalive = self.context.call_at(seconds, self._check_alive)

    def _check_alive(self) -> None:
        """Ping a peer that has been silent; hang up on one that stays so.  Not a heap operation per message: the
        timer looks at when something was last read, and sets itself anew."""
        if self._state != OPEN:
            return
        keepalive = self.context.keepalive
        if not keepalive.ping_seconds:
            return
        now = self.context.now
        silent = now - self._last_read
        if self._hold:
            # While we do not read, an answer could not be seen; a reader that is slow has a clock of its own.
            self._last_read = now
            self._schedule_keepalive(keepalive.ping_seconds)
        elif silent < keepalive.ping_seconds:
            self._schedule_keepalive(keepalive.ping_seconds - silent)
        elif self._last_read >= self._pinged:
            self._pinged = now
            self._ping_mark = struct.pack("!4sI", b"wsd ", self.number & 0xFFFFFFFF)
            self._put_frame(frames.FIN | frames.PING, self._ping_mark + struct.pack("!d", now))
            self._list_once()
            self._schedule_keepalive(min(keepalive.ping_seconds, keepalive.hangup_seconds))
        elif (left := self._pinged + keepalive.hangup_seconds - now) > 0:
            self._schedule_keepalive(min(keepalive.ping_seconds, left))
        else:
            log.info("%s: no answer to a ping for %g s, hanging up", self.tag, keepalive.hangup_seconds)
            self.context.counters.hangups += 1
            self._lost("no answer to a ping")
