"""One connection's sending side: writes, the queue, control frames, hooks' answers, and our half of a close.

Owns what a WebSocket connection has to say and in which order it leaves: everything of one turn in one send.  Must not
know how input is read and delivered; that is `Wsi`, which is built on it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from wsd import faults, log
from wsd.errors import Reject
from wsd.rare import NOTHING
from wsd.reasons import CLOSE, OK
from wsd.stream import HOLD_OPEN, LOW_WATER, NoPipe, Stream
from wsd.transport import Pipe
from wsd.wire import frames
from wsd.wire.closing import ANSWERING_ENDED, CLOSING, DRAINING, HTTP, LOCAL_CLOSE, OPEN, PUT
from wsd.wire.fast import frame, mask
from wsd.wire.parser import Parser
from wsd.wire.response import Response

if TYPE_CHECKING:
    from wsd.binding import Binding
    from wsd.context import Context
    from wsd.role import Role
    from wsd.rounds import Round
    from wsd.wire.broadcast import Broadcast
    from wsd.wire.deflate import Deflater


# The hooks that refuse an upgrade with a status of their own; out of any other, Reject is a mistake.
_MAY_REJECT: Final = frozenset({"on_verify_authorization", "on_filter_protocol_connection", "on_add_headers"})

# The hooks that may answer a Response.
_MAY_RESPOND: Final = frozenset({"on_http", "on_http_body", "on_http_body_completion"})

# A payload up to here is copied behind its header; a larger one is kept by reference and sent with it by sendmsg.
COPY_BYTES: Final = 4096


# "The masking key needs to be unpredictable; thus, the masking key MUST be derived from a strong source of entropy"
# (5.3).  Drawn by the thousand: one call of the system costs more than framing a small message.
_KEYS_DRAWN: Final = 1024


def _masking_keys() -> Iterator[bytes]:
    while True:
        drawn = os.urandom(4 * _KEYS_DRAWN)
        for at in range(0, len(drawn), 4):
            yield drawn[at : at + 4]


_keys: Final = _masking_keys()


class Failed:
    """The answer of `Wsi.call` when a hook raised, or answered what is no answer; it is logged already."""


FAILED: Final = Failed()


class Sender(Stream):
    """What can be sent on a connection, and how it is closed from our side."""

    FAILED: Final = FAILED

    __slots__ = (
        "_close",
        "_deflater",
        "_has_answers",
        "_is_asked",
        "_is_client",
        "_is_delivering",
        "_is_writing",
        "_keepalive",
        "_open_opcode",
        "_owed",
        "_parser",
        "_peer_close",
        "_pong",
        "_queue",
        "role",
    )

    def __init__(self, context: Context, pipe: Pipe | NoPipe, binding: Binding, is_client: bool) -> None:
        super().__init__(context, pipe, binding)
        self.role: Role | None = None
        self._is_client = is_client
        self._parser: Parser | None = None
        self._deflater: Deflater | None = None
        self._is_asked = False  # on_writeable was asked for
        self._is_writing = False  # inside on_writeable: write() is allowed
        self._open_opcode = 0  # of the message that was written with final=False
        self._is_delivering = False  # inside a hook that got something from the peer
        self._has_answers = False  # it was asked for there, so what it writes is an answer
        self._owed = 0  # pieces delivered that the plugin may still want to answer
        # From send() and broadcast(): whole frames; or first byte and payload, where the frame is made when it leaves:
        # compression has to see messages in the order in which they travel.
        self._queue: deque[bytes | tuple[int, bytes]] | None = None
        self._pong: bytes | None = None  # the latest that was not answered while choked
        self._close: tuple[int, str] | None = None  # what our Close will say; None: no Close is sent
        self._peer_close: tuple[int, str] | None = None  # what the peer's said
        self._keepalive: Round | None = None  # in which it is looked at while it is open; it is `Timed`'s

    def _forget_input(self) -> None:
        """Nothing that was read and not delivered will be."""
        raise NotImplementedError

    def note_end(self, code: int, close_reason: str, why: str) -> None:
        """Why a raw wsi ends."""
        raise NotImplementedError

    @property
    def is_established(self) -> bool:
        """Whether something can be sent."""
        raise NotImplementedError

    @property
    def send_pipe_choked(self) -> bool:
        """Whether a hook should stop writing: the kernel refused bytes, or enough for one send is set aside."""
        output = self._output
        return output.is_choked or output.size >= LOW_WATER

    def callback_on_writable(self) -> int:
        """Ask for `on_writeable`; any number of requests is one call.  Answers OK, or CLOSE for a dead wsi."""
        if self._state > OPEN and not self._rare.is_answering:
            return CLOSE
        self._is_asked = True
        if self._is_delivering:
            self._has_answers = True
        if not self._is_listed:
            self._is_listed = True
            self.context.note_writer(self)  # type: ignore[arg-type]  # the context knows the whole Wsi
        return OK

    want_writable = callback_on_writable  # its name while the wsi is HTTP and the role asks

    def write(self, data: str | bytes | bytearray | memoryview, opcode: int | None = None, final: bool = True) -> int:
        """Send a message, or with `final=False` a fragment of one; only inside `on_writeable`.

        On a raw wsi, bytes as they are, inside `on_raw_writeable`; neither opcode nor final means anything there.

        Args:
            data: `str` is sent as text, anything else as binary; mutable buffers are copied.
            opcode: `TEXT` or `BINARY`, where the type of `data` does not tell; CONTINUATION is never needed.
            final: Whether this ends the message; what is written after a fragment continues its message.

        Answers OK, or CLOSE for a dead wsi.

        Raises:
            RuntimeError: called outside `on_writeable`.
            ValueError: an opcode that cannot be sent here.
            TypeError: `data` is neither `str` nor a buffer.
            UnicodeEncodeError: the text holds a lone surrogate, which UTF-8 cannot carry.
        """
        if self._rare.meter is not None:
            self._rare.meter.last_data = self.context.now
        if self._state == HTTP and self.role is not None:
            self.role.write(data.encode() if isinstance(data, str) else bytes(memoryview(data)), final)
            return OK
        if not self._is_writing:
            if self._state > OPEN:
                return CLOSE
            raise RuntimeError(
                "wsi.write() outside on_writeable: ask with wsi.callback_on_writable() and write there,"
                " or use wsi.send()"
            )
        if self._state != OPEN and not self._rare.is_answering:
            return CLOSE
        if isinstance(data, str):
            data = data.encode()
            kind = frames.TEXT
        else:
            if not isinstance(data, bytes):
                data = bytes(memoryview(data))  # bytes(5) would be five zeros
            kind = frames.BINARY
        first = self._first_byte(kind, opcode)
        if final:
            first |= frames.FIN
            self._open_opcode = 0
        if self._deflater is not None:
            first, data = self._deflater.encode(first, data)
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
        """Hot: frame what is ready to travel."""
        if not self._is_client and len(payload) <= COPY_BYTES:
            self._output.put(frame(first, payload))
            return
        header = frames.frame_header(first, len(payload), frames.MASKED if self._is_client else 0)
        if self._is_client:
            # "A client MUST mask all frames that it sends to the server" (5.1); "the client MUST pick a fresh masking
            # key from the set of allowed 32-bit values" (5.3) for each.
            key = next(_keys)
            header, payload = header + key, mask(payload, key) if payload else b""
        if len(payload) <= COPY_BYTES:
            self._output.put(header + payload)
        else:
            self._output.put(header)
            self._output.put(payload)

    def send(self, message: str | bytes | bytearray | memoryview) -> int:
        """Send one message from anywhere: `str` as text, anything else as binary; mutable buffers are copied.

        It is queued and leaves in order; while a message that was begun with `write(..., final=False)` is open, it
        waits for its end.  Answers OK; or CLOSE when the wsi is not established (yet, or any more), or when its queue
        is over `max_queue_bytes`: then it is closed with 1008.  On a raw wsi it is bytes that are sent as they are,
        `str` as UTF-8.
        """
        if self._state != OPEN and not self._rare.is_answering:
            return self._send_raw(message)
        if self._deflater is None and not self._is_client:
            return self._enqueue(frames.encode_message(message))
        return self._enqueue(frames.message_parts(message))

    def send_shared(self, message: Broadcast) -> int:
        """`send` for a message that goes to many: `Protocol.broadcast`."""
        if self._state != OPEN and not self._rare.is_answering:
            return self._send_raw(message.parts[1])
        if self._deflater is not None:
            return self._enqueue(message.parts_for(self._deflater))
        return self._enqueue(message.parts if self._is_client else message.frame)

    def _send_raw(self, data: str | bytes | bytearray | memoryview) -> int:
        """`send` where there is no open WebSocket."""
        if not self._rare.is_raw or self._state != HTTP:
            return CLOSE
        return self._enqueue(data.encode() if isinstance(data, str) else bytes(memoryview(data)))

    def _enqueue(self, entry: bytes | tuple[int, bytes]) -> int:
        if self._queue_bytes + self._output.size >= self.budget.max_queue_bytes:
            self.context.counters.queue_overflows += 1
            log.warn("%s: outgoing queue over max_queue_bytes (%d), closing", self.tag, self.budget.max_queue_bytes)
            self._note_close(frames.POLICY, "outgoing queue is full")
            return CLOSE
        if self._queue is None:
            self._queue = deque()
        self._queue.append(entry)
        self._queue_bytes += len(entry) if isinstance(entry, bytes) else len(entry[1])
        if self._output.is_choked or self._open_opcode:  # else it leaves in this turn
            self._note_held()
        if not self._is_listed:
            self._list()
        return OK if self._state <= OPEN or self._rare.is_answering else CLOSE

    def ping(self, payload: bytes = b"") -> int:
        """Send a Ping; the answer comes to `on_pong`.  Answers OK, or CLOSE for a wsi that is closing.

        Raises:
            ValueError: a payload over 125 bytes (RFC 6455 5.5).
        """
        payload = bytes(memoryview(payload))  # the length of other buffers may count something else than bytes
        if len(payload) > frames.MAX_CONTROL_BYTES:
            raise ValueError("the payload of a ping is at most 125 bytes")
        if self._state != OPEN:
            return CLOSE
        self._own_rare().has_pinged = True
        self._put_frame(frames.FIN | frames.PING, payload)
        self._list_once()
        return OK

    # -- closing ----------------------------------------------------------------------------------------------------

    def close(self, code: int = frames.NORMAL, close_reason: str = "") -> int:
        """Close the connection; inside a hook this is only noted.

        What was written or sent before leaves first, then the Close frame; the peer's answer is awaited within the
        closing deadline.  No `on_receive`, `on_message` or `on_writeable` comes after it.  A second close changes
        nothing.  A raw wsi has no Close frame, and code and reason mean nothing there.  LWS: lws_close_reason, and
        returning -1.

        Raises:
            ValueError: a code that must not be sent (RFC 6455 7.4).
        """
        frames.encode_close(code, close_reason)  # raises here, in the plugin's hands, and not when it is sent
        if self._is_client:
            self._own_rare().is_own_close = True
        return self._note_close(code, close_reason)

    def _note_close(self, code: int, close_reason: str) -> int:
        """`close`, by whomever on our side."""
        if self._state == HTTP and self.role is not None:
            if self._rare.is_raw:
                self.note_end(code, close_reason, "closed by us")
            self.role.close_asked()
            return OK if self._rare.is_raw else CLOSE
        if self._state != OPEN:
            return CLOSE
        self._begin_close(LOCAL_CLOSE, (code, close_reason), "closed by us")
        self._owed = 0
        return OK

    def _begin_close(self, event: str, close: tuple[int, str] | None, why: str) -> None:
        """Note a close: from here on nothing is delivered."""
        self._move(event)
        self._close = close
        self._why = self._why or why
        self._forget_input()
        self._stop_clocks()
        self.set_deadline(self.budget.close_seconds)
        self._set_hold(HOLD_OPEN, False)
        self._list_once()

    def _stop_clocks(self) -> None:
        """The end of those that run while a connection is open."""
        if self._keepalive is not None:
            self._keepalive.leave(self)  # type: ignore[arg-type]  # the whole Wsi
            self._keepalive = None
        if self._rare is not NOTHING:
            self._rare.stop_clocks()

    def finish(self, *, has_ended: bool = False) -> None:
        """As `Stream.finish`; what `send()` has queued leaves too, and what was not delivered will not be."""
        self._drain_queue(1 << 62)
        self._forget_input()
        self._stop_clocks()
        super().finish(has_ended=has_ended)

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
        if self.is_established:
            self._note_close(frames.INTERNAL, "internal error")

    def _hook_answered(self, name: str, answer: Any) -> None:
        """Something truthy: CLOSE, or a mistake."""
        if faults.is_answer(answer):
            if self.is_established:
                self.close(frames.NORMAL)
            return
        self.context.counters.plugin_errors += 1
        faults.report_answer(f"{self.binding.protocol.name}.{name}", answer, self.tag)
        if self.is_established:
            self._note_close(frames.INTERNAL, "internal error")

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
            if not self._ask_role():
                return
        elif CLOSING <= self._state <= ANSWERING_ENDED:
            self._answer_and_close()
        if output.size:
            self._flush()
        if self._state <= ANSWERING_ENDED:
            if (self._is_asked or (self._queue and not self._open_opcode)) and not output.is_choked:
                self._list_once()
        else:
            self._after_close()

    def _ask_role(self) -> bool:
        """The role's part in the write pass; reports whether there is more to do in this one."""
        if self._rare.is_raw:
            if not self.is_established:
                return False  # until the plugin has it nothing leaves, and then it is listed again
            self._drain_queue(LOW_WATER)
        if self._is_asked and self._output.size < LOW_WATER and not self._queue:
            self._is_asked = False
            if self._owed:
                self._owed -= 1
            self._is_writing = True
            assert self.role is not None
            self.role.writable()
            self._is_writing = False
        return True

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
        if not self._is_asked:
            self._has_answers = False
            self._owed = 0

    def _drain_queue(self, limit: int) -> None:
        """Move whole messages from the queue to the output; they wait while a fragmented one is open."""
        queue, output = self._queue, self._output
        if self._open_opcode or not queue:
            return
        if self._rare.meter is not None:
            self._rare.meter.last_data = self.context.now
        while queue and output.size < limit:
            entry = queue.popleft()
            if isinstance(entry, bytes):
                self._queue_bytes -= len(entry)
                output.put(entry)
            else:
                self._queue_bytes -= len(entry[1])
                self._put_message(*entry)
        if not queue:
            self._queue = None  # 0.6 kB, however empty it is

    def _put_message(self, first: int, payload: bytes) -> None:
        """Compress, where that is due, and frame."""
        if self._deflater is not None:
            if first & frames.RSV1:  # it was, and for others as well
                self._deflater.forget()
            else:
                first, payload = self._deflater.encode(first, payload)
        self._put_frame(first, payload)

    def _answer_and_close(self) -> None:
        """A close is noted.  The peer's own close, or its violation, lets the plugin answer what came before it."""
        self._drain_queue(1 << 62)
        if self._is_asked and self._owed:
            rare = self._own_rare()
            rare.is_answering = True
            self._ask_plugin(self.binding.hooks.on_writeable)
            rare.is_answering = False
            self._drain_queue(1 << 62)
            if self._is_asked and self._owed:
                return
        self._is_asked = False
        # Without one the peer's stream has ended, so there is nobody to answer; or on_peer_close said CLOSE: no echo.
        if self._close is not None:
            self._put_frame(frames.FIN | frames.CLOSE_FRAME, frames.encode_close(*self._close))
        self._move(PUT)

    def _waits_for_peers_end(self) -> bool:
        """After a closing handshake "the underlying TCP connection, in most normal cases, SHOULD be closed first by the
        server, so that it holds the TIME_WAIT state and not the client" (7.1.1)."""
        return self._is_client and self._peer_close is not None and self._close is not None
