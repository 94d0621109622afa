"""One connection's sending side: writes, the queue, control frames, hooks' answers, and our half of a close.

Owns what a WebSocket connection has to say and in which order it leaves: everything of one turn in one send.  Must not
know how input is read and delivered; that is `Wsi`, which is built on it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from wsd import faults, log
from wsd.errors import Reject
from wsd.reasons import CLOSE, OK
from wsd.stream import (
    CLOSE_SENT,
    CLOSING,
    DRAINING,
    FINISHING,
    HOLD_OUTPUT,
    HOLD_PLUGIN,
    HOLD_ROLE,
    HTTP,
    LOW_WATER,
    OPEN,
    Stream,
)
from wsd.transport import SocketPipe
from wsd.wire import frames
from wsd.wire.parser import Parser
from wsd.wire.response import Response

if TYPE_CHECKING:
    from wsd.context import Context
    from wsd.http1 import Http1
    from wsd.protocol import Binding
    from wsd.timers import Timer

# The hooks that refuse an upgrade with a status of their own; out of any other, Reject is a mistake.
_MAY_REJECT: Final = frozenset({"on_filter_protocol_connection", "on_add_headers"})

# The hooks that may answer a Response.
_MAY_RESPOND: Final = frozenset({"on_http", "on_http_body", "on_http_body_completion"})

# A payload up to here is copied behind its header; a larger one is kept by reference and sent with it by sendmsg.
_COPY_BYTES: Final = 4096


class Failed:
    """The answer of `Wsi.call` when a hook raised, or answered what is no answer; it is logged already."""


FAILED: Final = Failed()


class Sender(Stream):
    """What can be sent on a connection, and how it is closed from our side."""

    FAILED: Final = FAILED

    __slots__ = (
        "_close",
        "_is_asked",
        "_is_writing",
        "_keepalive",
        "_open_opcode",
        "_owed",
        "_parser",
        "_peer_close",
        "_pong",
        "_queue",
        "_timeout",
        "_timer",
        "role",
    )

    def __init__(self, context: Context, pipe: SocketPipe, binding: Binding) -> None:
        super().__init__(context, pipe, binding)
        self.role: Http1 | None = None
        self._parser: Parser | None = None
        self._is_asked = False  # on_writeable was asked for
        self._is_writing = False  # inside on_writeable: write() is allowed
        self._open_opcode = 0  # of the message that was written with final=False
        self._owed = 0  # pieces delivered that the plugin may still want to answer
        self._queue: deque[bytes] | None = None  # whole frames from send() and broadcast()
        self._pong: bytes | None = None  # the latest that was not answered while choked
        self._close: tuple[int, str] | None = None  # what our Close will say; None: no Close is sent
        self._peer_close: tuple[int, str] | None = None  # what the peer's said
        # Timers that run while the connection is open; they are `Wsi`'s, and end with a close.
        self._timer: Timer | None = None
        self._timeout: Timer | None = None
        self._keepalive: Timer | None = None

    def _is_mid_message(self) -> bool:
        return self._parser is not None and self._parser.is_mid_message

    def _forget_input(self) -> None:
        """Nothing that was read and not delivered will be."""
        raise NotImplementedError

    @property
    def send_pipe_choked(self) -> bool:
        """Whether a hook should stop writing: the kernel refused bytes, or enough for one send is set aside."""
        output = self._output
        return output.is_choked or output.size >= LOW_WATER

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
        if self._state == HTTP and self.role is not None:
            self.role.write(data.encode() if isinstance(data, str) else bytes(data), final)
            return OK
        if not self._is_writing:
            if self._state > OPEN:
                return CLOSE
            raise RuntimeError(
                "wsi.write() outside on_writeable: ask with wsi.callback_on_writable() and write there,"
                " or use wsi.send()"
            )
        if self._state != OPEN:
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

    # -- closing ----------------------------------------------------------------------------------------------------

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
        self._forget_input()
        for timer in (self._timer, self._timeout, self._keepalive):
            if timer is not None:
                timer.cancel()
        self.set_deadline(self.binding.close_seconds)
        self._set_hold(HOLD_PLUGIN | HOLD_ROLE | HOLD_OUTPUT, False)
        self._list_once()

    # -- hooks ------------------------------------------------------------------------------------------------------

    def call(self, name: str, hook: Any, *arguments: Any, closes: bool = True) -> Any:
        """Run one hook and honour its answer; what a plugin does wrong ends here.

        Answers what the hook answered, or FAILED.  CLOSE closes an established wsi unless `closes` is False.

        Raises:
            Reject: out of the hooks that may raise it.
        """
        try:
            answer = hook(*arguments)
        except faults.CATCHABLE as error:
            if isinstance(error, Reject) and name in _MAY_REJECT:
                raise
            self._hook_raised(name, error)
            return FAILED
        if answer and not (name in _MAY_RESPOND and isinstance(answer, Response)):
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

    # -- the write pass ---------------------------------------------------------------------------------------------

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
            if self._is_asked and output.size < LOW_WATER and (self._open_opcode or not self._queue):
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
            if (self._is_asked or (self._queue and not self._open_opcode)) and not output.is_choked:
                self._list_once()
        else:
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
            self._set_hold(HOLD_PLUGIN, False)  # it may have paused: there is nothing more to pause
            if self._queue:
                self._drain_queue(1 << 62)
            if self._is_asked and self._owed:
                return
        self._is_asked = False
        if self._close is None:
            # The peer's stream has ended, so there is nobody to answer; or on_peer_close said CLOSE: no echo.
            self._state = FINISHING
            return
        self._put_frame(frames.FIN | frames.CLOSE_FRAME, frames.encode_close(*self._close))
        self._state = FINISHING if self._is_close_over() else CLOSE_SENT

    def _is_close_over(self) -> bool:
        """Reports whether nothing more is to be awaited after our Close: the peer's came, or never will, or is void.

        "An endpoint MUST NOT continue to attempt to process data (including a responding Close frame) from the
        remote endpoint after being instructed to _Fail the WebSocket Connection_." (7.1.7)
        """
        if self._hold:  # since the close was noted, only the end of the peer's stream sets it
            return True
        return self._peer_close is not None or (self._parser is not None and self._parser.failure is not None)
