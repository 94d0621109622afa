"""One connection.

Owns what a connection is at any time: its state, what it has read and not delivered, what it has to send, its
deadlines.  It is handed its context, its byte pipe and its protocol's binding, and imports none of them.

While a wsi speaks HTTP its `role` (http1.py) has the bytes; from `upgrade()` on they are WebSocket frames.  A close
is only noted, by whomever; frames leave in the write pass, and the descriptor goes in the context's reaper alone.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from wsd import faults, log
from wsd.errors import PipeBroken, Reject
from wsd.reasons import CLOSE, OK
from wsd.transport import ERROR, READ, WRITE, Output, SocketPipe
from wsd.wire import frames
from wsd.wire.parser import OPCODE, PAYLOAD, Parser, Piece

if TYPE_CHECKING:
    from wsd.context import Context
    from wsd.http1 import Http1
    from wsd.listener import Listener
    from wsd.protocol import Binding, Peer, Protocol
    from wsd.timers import Timer
    from wsd.wire.http import Request

# A hook is asked for more while less than this waits for the kernel, and reading stops while more does: what one
# default socket buffer takes at once, so that a fast reader never sees a pause.
LOW_WATER: Final = 65536

# Fairness: so many pieces of one wsi are delivered in a turn before the others have theirs.  At some 2 us a piece
# that is half a millisecond; a read of 64 KiB can hold ten thousand.
PIECES_PER_TURN: Final = 256

# A payload up to here is copied behind its header; a larger one is kept by reference and sent with it by sendmsg.
_COPY_BYTES: Final = 4096

# The states, in the order in which they come; a state may be skipped, none comes back.
HTTP: Final = 0  # the role reads and writes
OPEN: Final = 1  # a WebSocket
CLOSING: Final = 2  # a close is noted; what was sent before still leaves
CLOSE_SENT: Final = 3  # our Close is put; the peer's is awaited
FINISHING: Final = 4  # nothing more will be put; flush, then SHUT_WR
DRAINING: Final = 5  # SHUT_WR is done; input is discarded until its end, since a close with unread input is a reset
DEAD: Final = 6  # waiting for the reaper

# Who does not want input now; reading stops while any of these is set.
_HOLD_PLUGIN: Final = 1  # rx_flow_control(False)
_HOLD_ROLE: Final = 2  # a response is being produced
_HOLD_OUTPUT: Final = 4  # the peer does not read what we send


class Failed:
    """The answer of `Wsi.call` when a hook raised, or answered what is no answer; it is logged already."""


FAILED: Final = Failed()


class Wsi:
    """One connection, as a plugin sees it.  After `on_closed` every call on it answers CLOSE and none raises."""

    FAILED: Final = FAILED

    __slots__ = (
        "_assembled",
        "_backlog",
        "_backlog_at",
        "_close",
        "_deadline",
        "_hold",
        "_is_asked",
        "_is_established",
        "_is_listed",
        "_is_writing",
        "_keepalive",
        "_last_read",
        "_mask",
        "_open_opcode",
        "_output",
        "_owed",
        "_parser",
        "_peer_close",
        "_piece",
        "_ping_payload",
        "_pipe",
        "_pong",
        "_queue",
        "_queue_bytes",
        "_slow_timer",
        "_state",
        "_taken",
        "_timeout",
        "_timer",
        "_why",
        "binding",
        "context",
        "listener",
        "local",
        "number",
        "peer",
        "request",
        "role",
        "session",
        "subprotocol",
    )

    def __init__(
        self, context: Context, listener: Listener, pipe: SocketPipe, peer: Peer, local: Peer, number: int
    ) -> None:
        self.context = context
        self.listener = listener
        self.binding: Binding = listener.http
        self.binding.wsi_count += 1
        self.peer = peer
        self.local = local
        self.number = number
        self.role: Http1 | None = None
        self.session: Any = None
        self.request: Request | None = None
        self.subprotocol: str | None = None
        self._pipe = pipe
        self._output = Output(pipe)
        self._state = HTTP
        self._mask = READ
        self._hold = 0
        self._last_read = context.now
        # Receiving.
        self._parser: Parser | None = None
        self._piece: Piece | None = None
        self._assembled: bytearray | None = None  # the message so far, for on_message
        self._backlog: list[Piece] | None = None  # read and not delivered
        self._backlog_at = 0
        self._owed = 0  # pieces delivered that the plugin may still want to answer
        # Sending.
        self._is_listed = False  # on the context's write list
        self._is_asked = False  # on_writeable was asked for
        self._is_writing = False  # inside on_writeable: write() is allowed
        self._open_opcode = 0  # the message that was written with final=False
        self._queue: deque[bytes] | None = None  # whole frames from send() and broadcast()
        self._queue_bytes = 0
        self._pong: bytes | None = None  # the latest that was not answered while choked
        # Closing.
        self._close: tuple[int, str] | None = None  # what our Close will say; None: no Close is sent
        self._peer_close: tuple[int, str] | None = None
        self._is_established = False
        self._why = ""  # for the log
        # Deadlines.
        self._deadline: Timer | None = None
        self._timer: Timer | None = None
        self._timeout: Timer | None = None
        self._keepalive: Timer | None = None
        self._slow_timer: Timer | None = None
        self._taken = 0  # what the kernel had taken when _slow_timer was set
        self._ping_payload: bytes | None = None  # of our own ping, unanswered

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
        return self._piece is not None and self._piece[OPCODE] == frames.BINARY

    @property
    def send_pipe_choked(self) -> bool:
        """Whether a hook should stop writing: the kernel refused bytes, or enough for one send is set aside."""
        output = self._output
        return output.is_choked or output.size >= LOW_WATER

    @property
    def unsent(self) -> int:
        """Bytes that were put and that the kernel has not taken."""
        return self._output.size

    def fileno(self) -> int:
        """The descriptor, -1 after `on_closed`."""
        return self._pipe.fileno()

    def __repr__(self) -> str:
        return f"<Wsi {self.tag}>"

    # -- sending --------------------------------------------------------------------------------------------------

    def callback_on_writable(self) -> int:
        """Ask for `on_writeable`; any number of requests is one call.  Answers OK, or CLOSE for a dead wsi."""
        if self._state > OPEN:
            return CLOSE
        self._is_asked = True
        if not self._is_listed:
            self._list()
        return OK

    want_writable = callback_on_writable  # its name while the wsi is HTTP and the role asks

    def write(self, data: str | bytes | bytearray | memoryview, opcode: int | None = None, final: bool = True) -> int:
        """Send a message, or with `final=False` a fragment of one; only inside `on_writeable`.

        Args:
            data: `str` is sent as text, anything else as binary; mutable buffers are copied.
            opcode: `TEXT` or `BINARY`, where the type of `data` does not tell; CONTINUATION is never needed.
            final: Whether this ends the message; what is written after a fragment continues its message.

        Answers OK, or CLOSE for a dead wsi.

        Raises:
            RuntimeError: called outside `on_writeable`.
            ValueError: an opcode that cannot be sent here.
        """
        if not self._is_writing:
            if self._state > OPEN:
                return CLOSE
            raise RuntimeError(
                "wsi.write() outside on_writeable: ask with wsi.callback_on_writable() and write there,"
                " or use wsi.send()"
            )
        if self._state != OPEN:
            if self._state == HTTP and self.role is not None:
                self.role.write(data.encode() if isinstance(data, str) else bytes(data), final)
                return OK
            return CLOSE
        if isinstance(data, str):
            data = data.encode()
            kind = frames.TEXT
        else:
            if not isinstance(data, bytes):
                data = bytes(data)
            kind = frames.BINARY
        first = self._first_byte(kind, opcode)
        if final:
            first |= frames.FIN
            self._open_opcode = 0
        self._put_frame(first, data)
        return OK

    def _first_byte(self, kind: int, opcode: int | None) -> int:
        """The opcode of the next data frame; notes the message as open."""
        if self._open_opcode:
            if opcode is not None and opcode not in (frames.CONTINUATION, self._open_opcode):
                raise ValueError("a fragmented message is open: end it with final=True before you begin another")
            return frames.CONTINUATION
        if opcode is not None:
            if opcode not in (frames.TEXT, frames.BINARY):
                raise ValueError(f"opcode {opcode} cannot begin a message; use TEXT or BINARY, ping() or close()")
            kind = opcode
        self._open_opcode = kind
        return kind

    def _put_frame(self, first: int, payload: bytes) -> None:
        header = frames.frame_header(first, len(payload))
        if len(payload) <= _COPY_BYTES:
            self._output.put(header + payload)
        else:
            self._output.put(header)
            self._output.put(payload)

    def send(self, message: str | bytes | bytearray | memoryview) -> int:
        """Send one message from anywhere: `str` as text, anything else as binary.

        It is queued and leaves in order.  Answers OK; or CLOSE when the wsi is closing, or when its queue is over
        `max_queue_bytes`: then it is closed with 1008.
        """
        if self._state != OPEN:
            return CLOSE
        return self.send_frame(frames.encode_message(message))

    def send_frame(self, frame: bytes) -> int:
        """`send` for a frame that is encoded already, as `Protocol.broadcast` has it."""
        if self._state != OPEN:
            return CLOSE
        if self._queue_bytes + self._output.size >= self.binding.max_queue_bytes:
            self.context.counters.queue_overflows += 1
            log.warn("%s: outgoing queue over max_queue_bytes (%d), closing", self.tag, self.binding.max_queue_bytes)
            self.close(frames.POLICY, "outgoing queue is full")
            return CLOSE
        if self._queue is None:
            self._queue = deque()
        self._queue.append(frame)
        self._queue_bytes += len(frame)
        if not self._is_listed:
            self._list()
        return OK

    def ping(self, payload: bytes = b"") -> int:
        """Send a Ping; the answer comes to `on_pong`.  Answers OK, or CLOSE for a wsi that is closing.

        Raises:
            ValueError: a payload over 125 bytes (RFC 6455 5.5).
        """
        if len(payload) > frames.MAX_CONTROL_BYTES:
            raise ValueError("the payload of a ping is at most 125 bytes")
        if self._state != OPEN:
            return CLOSE
        self._put_frame(frames.FIN | frames.PING, bytes(payload))
        self._list_once()
        return OK

    def put(self, data: bytes) -> None:
        """Add raw bytes to what leaves in the next write pass (the role's way)."""
        self._output.put(data)
        self._list_once()

    # -- receiving ------------------------------------------------------------------------------------------------

    def rx_flow_control(self, enable: bool) -> int:
        """False: no more `on_receive` or `on_message` until True; it goes on where it stopped.

        Holds back what was read already, too.  LWS: lws_rx_flow_control.
        """
        if self._state > OPEN:
            return CLOSE
        self._set_hold(_HOLD_PLUGIN, not enable)
        return OK

    def pause_reading(self, pause: bool) -> None:
        """The role's own flow control: no input while a response is being produced."""
        if self._state <= OPEN:
            self._set_hold(_HOLD_ROLE, pause)

    def _set_hold(self, bit: int, on: bool) -> None:
        before = self._hold
        self._hold = before | bit if on else before & ~bit
        if bool(before) != bool(self._hold):
            self._update_mask()
            if not self._hold and (self._backlog or self._state == HTTP):
                self.context.note_backlog(self)

    def _update_mask(self) -> None:
        """Tell the selector what we wait for, if that changed."""
        mask = (0 if self._hold else READ) | (WRITE if self._output.is_choked else 0)
        if mask != self._mask and self._state != DEAD:
            self._mask = mask
            self.context.set_interest(self._pipe.fileno(), mask)

    def on_events(self, mask: int) -> None:
        """The selector has something for this wsi."""
        if mask & WRITE and self._output.is_choked:
            self._flush()
            self._list_once()
        if self._state == DEAD:
            return
        if mask & READ and not self._hold:
            self._read()
        elif mask & ERROR and not mask & READ:
            self._lost(self._pipe.error_text() or "connection ended")
        elif mask & ERROR and self._hold:
            # Bytes may lie before the reset, but nobody wants them now, and waiting for that would be a spin.
            self._lost(self._pipe.error_text() or "connection ended while paused")

    def _read(self) -> None:
        """One receive; what it brought goes to the role, to the parser, or nowhere."""
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
        if self._hold:
            return
        if self._state == HTTP:
            assert self.role is not None
            self.role.receive(b"")
        elif self._backlog is not None:
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
            opcode = piece[OPCODE]
            if opcode > frames.BINARY:
                self._control(opcode, piece[PAYLOAD])
            elif on_receive is not None:
                self._piece = piece
                try:
                    answer = on_receive(self, piece[PAYLOAD])
                except faults.CATCHABLE as error:
                    self._hook_raised("on_receive", error)
                    break
                if answer:
                    self._hook_answered("on_receive", answer)
            elif hooks.on_message is not None:
                self._assemble(piece)
        self._owed += at - start
        self._piece = None
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
        elif payload == self._ping_payload:
            self._ping_payload = None
        elif self.binding.hooks.on_pong is not None:
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

    def close(self, code: int = frames.NORMAL, close_reason: str = "") -> int:
        """Close the connection; inside a hook this is only noted.

        What was written or sent before leaves first, then the Close frame; the peer's answer is awaited within the
        closing deadline.  No `on_receive`, `on_message` or `on_writeable` comes after it.  A second close changes
        nothing.  LWS: lws_close_reason, and returning -1.

        Raises:
            ValueError: a code that must not be sent (RFC 6455 7.4).
        """
        if self._state == HTTP:
            self.finish()
        if self._state != OPEN:
            return CLOSE
        frames.encode_close(code, close_reason)  # raises here, in the plugin's hands, and not when it is sent
        self._begin_close((code, close_reason), "closed by us")
        self._owed = 0
        return OK

    def _begin_close(self, close: tuple[int, str] | None, why: str) -> None:
        """Note a close: from here on nothing is delivered."""
        self._state = CLOSING
        self._close = close
        self._why = self._why or why
        self._backlog = None
        self._assembled = None
        for timer in (self._timer, self._timeout, self._keepalive):
            if timer is not None:
                timer.cancel()
        self.set_deadline(self.binding.close_seconds)
        self._set_hold(_HOLD_PLUGIN | _HOLD_ROLE | _HOLD_OUTPUT, False)
        self._list_once()

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

    def _is_close_over(self) -> bool:
        """Reports whether nothing more is to be awaited after our Close: the peer's came, or never will count.

        "An endpoint MUST NOT continue to attempt to process data (including a responding Close frame) from the
        remote endpoint after being instructed to _Fail the WebSocket Connection_." (7.1.7)
        """
        return self._peer_close is not None or (self._parser is not None and self._parser.failure is not None)

    def finish(self) -> None:
        """Let what was put leave, then end the connection in order: SHUT_WR, and input discarded until its end."""
        if self._state < FINISHING:
            self.set_deadline(self.binding.close_seconds)
            self._finish_output()

    def _finish_output(self) -> None:
        self._state = FINISHING
        self._set_hold(_HOLD_PLUGIN | _HOLD_ROLE | _HOLD_OUTPUT, False)
        self._list_once()

    def stop(self) -> None:
        """The context stops, and this is no WebSocket: an idle connection ends now, an answer under way is finished."""
        if self._state == HTTP:
            assert self.role is not None
            self.role.stop()

    def abort(self, why: str = "aborted") -> None:
        """End the connection at the end of the turn, without a word to the peer."""
        self._lost(why)

    def _end_of_input(self) -> None:
        """The peer sends no more (FIN)."""
        if self._state == HTTP:
            assert self.role is not None
            self.role.end_of_input()
            if self._state == HTTP and not self._hold:
                # Nobody ended it, and a stream at its end stays readable for ever.
                self._set_hold(_HOLD_ROLE, True)
        elif self._state == DRAINING or self._is_close_over():
            self._lost(self._why)
        else:
            # Without a Close this is 1006 to us, but the peer may still read what was on its way.
            self._begin_close(None, "peer ended the stream without a Close") if self._state == OPEN else None
            self._finish_output()
            self._hold = _HOLD_ROLE
            self._update_mask()

    def _lost(self, why: str) -> None:
        """The connection is over, now; the reaper does the rest."""
        if self._state != DEAD:
            self._state = DEAD
            self._why = self._why or why
            self._backlog = None
            self.context.note_dead(self)

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
        self._hold &= ~_HOLD_ROLE
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

    # -- hooks ----------------------------------------------------------------------------------------------------

    def call(self, name: str, hook: Any, *arguments: Any, closes: bool = True) -> Any:
        """Run one hook and honour its answer; what a plugin does wrong ends here.

        Answers what the hook answered, or FAILED.  CLOSE closes an established wsi unless `closes` is False.

        Raises:
            Reject: out of `on_filter_protocol_connection` and `on_add_headers`, which may.
        """
        try:
            answer = hook(*arguments)
        except Reject as error:
            if name in ("on_filter_protocol_connection", "on_add_headers"):
                raise
            self._hook_raised(name, error)
            return FAILED
        except faults.CATCHABLE as error:
            self._hook_raised(name, error)
            return FAILED
        if answer and not (self._state == HTTP and getattr(answer, "is_response", False)):
            if not faults.is_answer(answer):
                self._hook_answered(name, answer)
                return FAILED
            if closes:
                self._hook_answered(name, answer)
        return answer

    def _hook_raised(self, name: str, error: BaseException) -> None:
        self.context.counters.plugin_errors += 1
        faults.report_exception(f"{self.binding.protocol.name}.{name}", error, self.tag)
        self._is_writing = False
        if self._state == OPEN:
            self.close(frames.INTERNAL, "internal error")

    def _hook_answered(self, name: str, answer: Any) -> None:
        """Something truthy: CLOSE, or a mistake."""
        if faults.is_answer(answer):
            if self._state == OPEN:
                self.close(frames.NORMAL)
            return
        self.context.counters.plugin_errors += 1
        faults.report_answer(f"{self.binding.protocol.name}.{name}", answer, self.tag)
        if self._state == OPEN:
            self.close(frames.INTERNAL, "internal error")

    # -- the write pass -------------------------------------------------------------------------------------------

    def _list(self) -> None:
        if self._state != DEAD:
            self._is_listed = True
            self.context.note_writer(self)

    def _list_once(self) -> None:
        if not self._is_listed:
            self._list()

    def service_write(self) -> None:
        """Hot: this wsi's part in the write pass; all that it has to say leaves in one send.

        While the kernel refuses bytes there is nothing to do here: the selector tells when that ends.
        """
        self._is_listed = False
        output = self._output
        if output.is_choked or self._state >= DRAINING:
            return
        if self._pong is not None:
            self._put_frame(frames.FIN | frames.PONG, self._pong)
            self._pong = None
        if self._state == OPEN:
            if self._queue:
                self._drain_queue(LOW_WATER)
            if self._is_asked and output.size < LOW_WATER and not self._queue:
                self._ask_plugin(self.binding.hooks.on_writeable)
        elif self._state == HTTP:
            if self._is_asked and output.size < LOW_WATER:
                self._is_asked = False
                self._is_writing = True
                assert self.role is not None
                self.role.writable()
                self._is_writing = False
        elif self._state == CLOSING:
            self._answer_and_close()
        if output.size:
            self._flush()
        if self._state <= CLOSING:
            if (self._queue or self._is_asked) and not output.is_choked:
                self._list_once()
        elif self._state > CLOSING:
            self._after_close()

    def _ask_plugin(self, hook: Any) -> None:
        """One `on_writeable`, during which `write()` is allowed."""
        self._is_asked = False
        if self._owed:
            self._owed -= 1
        if hook is None:
            return
        self._is_writing = True
        try:
            answer = hook(self)
        except faults.CATCHABLE as error:
            self._hook_raised("on_writeable", error)
        else:
            self._is_writing = False
            if answer:
                self._hook_answered("on_writeable", answer)

    def _drain_queue(self, limit: int) -> None:
        """Move whole frames from the queue to the output; they wait while a fragmented message is open."""
        queue, output = self._queue, self._output
        if self._open_opcode or queue is None:
            return
        while queue and output.size < limit:
            frame = queue.popleft()
            self._queue_bytes -= len(frame)
            output.put(frame)

    def _answer_and_close(self) -> None:
        """A close is noted.  The peer's own close, or its violation, lets the plugin answer what came before it."""
        if self._queue:
            self._drain_queue(1 << 62)
            self._queue = None
        if self._is_asked and self._owed:
            self._state = OPEN  # for this one call, so that write() and callback_on_writable() work
            self._ask_plugin(self.binding.hooks.on_writeable)
            if self._state == OPEN:
                self._state = CLOSING
            if self._queue:
                self._drain_queue(1 << 62)
            if self._is_asked and self._owed:
                return
        self._is_asked = False
        self._state = CLOSE_SENT
        if self._close is not None:
            self._put_frame(frames.FIN | frames.CLOSE_FRAME, frames.encode_close(*self._close))
        elif self._peer_close is None:
            self._state = FINISHING  # the peer's stream has ended: there is nobody to answer
        else:
            self._state = FINISHING  # on_peer_close said CLOSE: no echo
        if self._state == CLOSE_SENT and self._is_close_over():
            self._state = FINISHING

    def _after_close(self) -> None:
        """Our last byte may have left: end our direction."""
        if self._state != FINISHING or self._output.size:
            return
        if self._hold:  # the peer's direction has ended already
            self._lost(self._why)
            return
        self._state = DRAINING
        self._pipe.shutdown_write()

    def _flush(self) -> None:
        """Give the output to the kernel; when it refuses, poll for writeability and watch the clock."""
        output = self._output
        was_choked = output.is_choked
        before = output.taken
        try:
            output.flush()
        except PipeBroken as broken:
            self._lost(str(broken))
            return
        self.context.counters.bytes_sent += output.taken - before
        if output.is_choked or was_choked:
            self._choke_changed()

    def _choke_changed(self) -> None:
        output = self._output
        if output.is_choked:
            if self._slow_timer is None and self._state <= OPEN:
                self._taken = output.taken
                self._slow_timer = self.context.call_at(self.binding.slow_reader_seconds, self._check_slow_reader)
            if self._state <= OPEN and output.size + self._queue_bytes >= LOW_WATER and not self._hold & _HOLD_OUTPUT:
                self._set_hold(_HOLD_OUTPUT, True)
        else:
            if self._slow_timer is not None:
                self._slow_timer.cancel()
                self._slow_timer = None
            if self._hold & _HOLD_OUTPUT:
                self._set_hold(_HOLD_OUTPUT, False)
        self._update_mask()

    def _check_slow_reader(self) -> None:
        """The output has been choked for `slow_reader_seconds`; a peer that took a buffer's worth meanwhile lives."""
        self._slow_timer = None
        taken = self._output.taken
        if taken - self._taken >= LOW_WATER:
            self._taken = taken
            self._slow_timer = self.context.call_at(self.binding.slow_reader_seconds, self._check_slow_reader)
            return
        log.warn("%s: reader too slow, %d bytes unsent; closed", self.tag, self._output.size + self._queue_bytes)
        self.context.counters.slow_readers += 1
        self._lost("reader too slow")

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

    def set_deadline(self, seconds: float | None) -> None:
        """The one deadline of the state this wsi is in; the role's while HTTP, the closing handshake's after that."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.context.call_at(seconds, self._deadline_due)

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
        silent = self.context.now - self._last_read
        if self._hold:
            # While we do not read, an answer could not be seen; a reader that is slow has a clock of its own.
            self._ping_payload = None
            self._last_read = self.context.now
            self._schedule_keepalive(keepalive.ping_seconds)
        elif silent < keepalive.ping_seconds:
            self._ping_payload = None
            self._schedule_keepalive(keepalive.ping_seconds - silent)
        elif self._ping_payload is None:
            self._ping_payload = struct.pack("!4sId", b"wsd ", self.number & 0xFFFFFFFF, self.context.now)
            self._put_frame(frames.FIN | frames.PING, self._ping_payload)
            self._list_once()
            self._schedule_keepalive(keepalive.hangup_seconds)
        else:
            log.info("%s: no answer to a ping for %g s, hanging up", self.tag, keepalive.hangup_seconds)
            self.context.counters.hangups += 1
            self._lost("no answer to a ping")
