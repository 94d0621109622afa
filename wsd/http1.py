"""HTTP/1.1 on one connection: the role of a wsi until it becomes a WebSocket, or for all its life.

Owns the order of things: which deadline runs, when a request is answered, when the next one is read.  Bytes are
`wire/`'s, sockets and buffers the wsi's, what a request for a WebSocket must pass is `upgrade.py`'s; this file must not
know the loop.

Requests are answered one at a time and in order.  While an answer is under way reading is paused, so what a peer can
make us hold is one read's worth of pipelined requests and one answer's worth of output.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from wsd import log
from wsd.access import Identification, hide_tokens, identify, unavailable
from wsd.errors import HandshakeError
from wsd.upgrade import OUR_FAULT, Chosen, check_answer, choose, negotiate, stopping
from wsd.wire.body import BodyReader, body_reader
from wsd.wire.http import HeadReader, Request, Response, error_page
from wsd.wire.response import LAST_CHUNK, encode_chunk, encode_response_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsd.binding import Binding
    from wsd.protocol import Peer
    from wsd.wsi import Wsi

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# Neither an iterator is pulled nor a pipelined request answered while this many bytes wait for the peer: enough to
# keep a fast one busy from turn to turn, little enough that a thousand slow ones cost no more than 64 MB.
ENOUGH_BYTES: Final = 65536


class _Clock:
    """The Date header (RFC 9110 6.6.1), made once a second."""

    second = -1
    text = ""

    def date(self) -> str:
        now = int(time.time())
        if now != self.second:
            self.second, self.text = now, formatdate(now, usegmt=True)
        return self.text


_clock: Final = _Clock()


class State(Enum):
    """What the connection waits for."""

    HEAD = auto()  # a request's head, or its first byte
    IDENTITY = auto()  # who asks is being found out
    BODY = auto()  # more of a request's body
    ANSWER = auto()  # an answer is under way
    DONE = auto()  # nothing: closing, or no longer HTTP


class Http1:
    """The HTTP role of one wsi; the wsi calls `receive`, `writable`, `end_of_input`, `timed_out`, `stop`, `closed`."""

    __slots__ = (
        "_answer",
        "_asked",
        "_body",
        "_chunked",
        "_eof",
        "_hop",
        "_http",
        "_identification",
        "_input",
        "_keep_alive",
        "_paused",
        "_reader",
        "_remaining",
        "_tokens",
        "_writing",
        "state",
        "wsi",
    )

    def __init__(self, wsi: Wsi, *, has_begun: bool = False) -> None:
        budget = wsi.budget
        self.wsi = wsi
        self.state = State.HEAD
        self._reader = HeadReader(budget.max_head_bytes, budget.max_headers, budget.max_uri_bytes)
        self._http: Binding = wsi.binding
        self._hop: Peer | None = None  # who is at the other end of this connection, where that may be a proxy
        self._input = b""  # arrived, not looked at
        self._tokens: dict[str, list[str]] = {}  # of the URL of the request at hand
        self._identification: Identification | None = None  # under way
        self._body: BodyReader | None = None  # of the request at hand
        self._answer: Response | None = None  # what `writable` goes on with
        self._remaining: int | None = None  # bytes still to be sent of a body whose length was announced
        self._chunked = False
        self._keep_alive = True
        self._asked = False  # on_http ran, so on_closed_http is due
        self._eof = False  # the peer has sent its last byte
        self._paused = False
        self._writing = False  # inside on_http_writeable
        if not has_begun:  # from accept to the end of the head, however slowly the bytes drip (slowloris)
            wsi.set_deadline(budget.handshake_seconds)

    @property
    def _headers(self) -> tuple[tuple[str, str], ...]:
        """What every answer says here."""
        menu = self.wsi.menu
        return () if menu is None else menu.answer_headers

    @property
    def held(self) -> int:
        """How many bytes it keeps: of a head that has come in part, and behind the request at hand."""
        return len(self._input) + self._reader.held

    # -- what the wsi calls -----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what was read."""
        if self.state is State.DONE:
            return
        self._input = self._input + data if self._input else data
        self._advance()

    def writable(self) -> None:
        """Go on with an answer: the output is short enough for more."""
        if self.state is not State.ANSWER:
            return
        answer = self._answer
        if answer is None:
            self._finish()  # it was the last one, and it has left
        elif answer.stream:
            self._call_writeable()
        elif isinstance(answer.body, bytes):
            self._complete()  # it was only waiting for its output to drain
        elif self.wsi.call("the body's iterator", self._pull) is self.wsi.FAILED:
            self._break_off()
        self._advance()

    def end_of_input(self) -> None:
        """Take note that the peer sends no more; what it asked for before is still answered."""
        self._eof = True
        self._advance()

    def timed_out(self) -> None:
        """Hang up on a peer that was too slow, with a word if it had begun a request."""
        if self._identification is not None:
            self.refuse(unavailable())
        elif self.state is State.BODY or not self._reader.is_empty:
            option = "body_seconds" if self.state is State.BODY else "handshake_seconds"
            self.refuse(HandshakeError(408, "the request took too long", option=option))
        else:
            has_asked = self.wsi.request is not None  # then it was idle between requests, as it may be
            if not has_asked:
                self.wsi.context.counters.note_over("handshake_seconds")
            self._finish()

    def stop(self) -> None:
        """Take note that the daemon stops: an idle connection ends now, a busy one after its answer."""
        if self.state is State.HEAD and self._reader.is_empty:
            self._finish()
        elif self._identification is not None:
            self.refuse(stopping())

    def close_asked(self) -> None:
        """Somebody called `wsi.close()`: what was put still leaves."""
        self.wsi.finish()

    def closed(self) -> None:
        """Release what an unfinished answer holds; the connection is gone."""
        self._stop_answering()
        hook = self._http.hooks.on_closed_http
        if self._asked and hook is not None:
            self._asked = False
            self.wsi.call("on_closed_http", hook, self.wsi)

    def write(self, data: bytes, final: bool) -> None:
        """Send a part of a streamed body; what `wsi.write` is on an HTTP connection.

        Raises:
            RuntimeError: called outside `on_http_writeable`.
            ValueError: more bytes than the response announced, or `final` before there were as many.
        """
        if not self._writing or self._answer is None:
            raise RuntimeError(
                "on an HTTP connection write() is for on_http_writeable, while a Response(stream=True) is being sent; "
                "return that from on_http and ask with wsi.callback_on_writable()"
            )
        self._send(data)
        if final:
            self._end_body()

    # -- requests ----------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Work on the input until it is used up or an answer is under way.  A loop: a peer may pipeline thousands."""
        while self._input and self.state in (State.HEAD, State.BODY):
            data, self._input = self._input, b""
            try:
                if self.state is State.HEAD:
                    self._take_head(data)
                else:
                    self._take_body(data)
            except HandshakeError as error:
                self.refuse(error)
        if self._eof and self.state in (State.HEAD, State.BODY):
            self._finish()
        else:
            self._pause(self.state in (State.ANSWER, State.IDENTITY))

    def _take_head(self, data: bytes) -> None:
        wsi = self.wsi
        if self._reader.is_empty and wsi.request is not None:
            # The next request on a connection that was idle: from its first byte on it has as long as the first had.
            wsi.set_deadline(wsi.budget.handshake_seconds)
        found = self._reader.feed(data)
        if found is None:
            return
        whole, self._input = found
        wsi.set_deadline(None)
        request, self._tokens = hide_tokens(whole, wsi.menu)
        wsi.request, wsi.identity = request, None
        wsi.context.counters.http_requests += 1
        wsi.context.admission.done(wsi)
        self._body = None
        self._keep_alive = request.keep_alive
        if wsi.menu is not None and wsi.menu.doors is not None:
            self._hop = wsi.menu.doors.meet(wsi, self._hop, request)
        log.header("%s: %s %s HTTP/%s", wsi.tag, request.method, request.target, request.http_version)
        if request.is_upgrade:
            self._upgrade(request)
        else:
            self._ask(request)

    def _identify(self, binding: Binding, request: Request, go_on: Callable[[], None]) -> None:
        """Find out who asks for what `binding` serves, then go on; nothing is read meanwhile.

        Raises:
            HandshakeError: somebody who may not.
        """

        def settled(refusal: HandshakeError | None) -> None:
            self._identification = None
            self.state = State.HEAD
            self.wsi.set_deadline(None)
            try:
                if refusal is not None:
                    raise refusal
                self._go_on(go_on)
            except HandshakeError as error:
                self.refuse(error)
            self._advance()

        self._identification = identify(self.wsi, binding, request, self._tokens, settled)
        if self._identification is None:
            self._go_on(go_on)
        else:
            self.state = State.IDENTITY
            self.wsi.set_deadline(self.wsi.budget.handshake_seconds)

    def _go_on(self, go_on: Callable[[], None]) -> None:
        """It is known who asks, or nobody wants to know."""
        if self.wsi.is_closing:  # closed meanwhile, perhaps by the hook that was asked
            self._stop_answering()
        else:
            go_on()

    def _upgrade(self, request: Request) -> None:
        """Become a WebSocket, or raise HandshakeError."""
        chosen = choose(self.wsi, request)
        self._identify(chosen.binding, request, lambda: self._switch(request, chosen))

    def _switch(self, request: Request, chosen: Chosen) -> None:
        """It is known who asks for a WebSocket."""
        agreed = negotiate(self.wsi, request, chosen)
        if agreed is None:
            self._stop_answering()
            return
        self.state = State.DONE
        leftover, self._input = self._input, b""
        request.keep_parsed(False)
        self.wsi.upgrade(
            agreed.binding, request, agreed.subprotocol, agreed.head, leftover, agreed.compression, agreed.settings
        )

    def _ask(self, request: Request) -> None:
        """Answer a plain request."""
        self._identify(self._http, request, lambda: self._ask_hook(request))

    def _ask_hook(self, request: Request) -> None:
        """It is known who asks: put the request to `on_http`, then wait for its body or answer it."""
        hooks = self._http.hooks
        self._body = body = body_reader(request, self.wsi.budget.max_body_bytes)
        expectations = request.headers.tokens("Expect") if request.http_version != "1.0" else []
        if expectations not in ([], ["100-continue"]):
            raise HandshakeError(417, "the only expectation known here is 100-continue")
        answer: Any = None
        if hooks.on_http is not None:
            if not self._asked:
                check_answer(self.wsi, self._http.make_session(self.wsi))  # one for all requests of the connection
            self._asked = True
            answer = self.wsi.call("on_http", hooks.on_http, self.wsi, request)
        if answer or body is None or hooks.on_http_body_completion is None:
            self._take_answer(request, answer)
        elif body.is_done:
            self._finish_body(request)
        else:
            self.state = State.BODY
            self.wsi.set_deadline(self.wsi.budget.body_seconds)
            # RFC 9110 10.1.1: may be left out "if it has already received some or all of the content".
            if expectations and not self._input:
                self.wsi.put(CONTINUE)

    def _take_body(self, data: bytes) -> None:
        body, request = self._body, self.wsi.request
        assert body is not None
        assert request is not None
        piece = body.feed(data)
        self._input = body.leftover
        hook = self._http.hooks.on_http_body
        if piece and hook is not None:
            answer = self.wsi.call("on_http_body", hook, self.wsi, piece)
            if answer or self.wsi.is_closing:
                self._take_answer(request, answer)
                return
        if body.is_done:
            self.wsi.set_deadline(None)
            self._finish_body(request)

    def _finish_body(self, request: Request) -> None:
        hook = self._http.hooks.on_http_body_completion
        assert hook is not None
        self._take_answer(request, self.wsi.call("on_http_body_completion", hook, self.wsi))

    def _take_answer(self, request: Request, answer: Any) -> None:
        """Act on what a hook answered: a Response, None for the built-in, CLOSE, or FAILED."""
        wsi = self.wsi
        if wsi.is_closing:  # the hook called wsi.close()
            self._answer = answer if isinstance(answer, Response) else None
            self._stop_answering()
            return
        if not answer:
            builtin = wsi.context.fallback_http.hooks.on_http
            assert builtin is not None
            answer = wsi.call("on_http", builtin, wsi, request)
        if answer is wsi.FAILED:
            raise HandshakeError(500, OUR_FAULT)
        if isinstance(answer, Response):
            self._respond(request, answer)
        else:
            self._finish()

    # -- answers -----------------------------------------------------------------------------------------------------

    def _respond(self, request: Request, answer: Response) -> None:
        """Send an answer's head, and as much of its body as there is now."""
        wsi = self.wsi
        if wsi.context.stopping or (self._body is not None and not self._body.is_done):
            # What is left of an unread body would be taken for the next request.
            self._keep_alive = False
        head, self._chunked, self._keep_alive = encode_response_head(
            answer,
            http_version=request.http_version,
            keep_alive=self._keep_alive,
            date=_clock.date(),
            more=self._headers,
        )
        wsi.put(head)
        wsi.set_deadline(None)
        self.state, self._answer, self._remaining = State.ANSWER, answer, answer.length
        log.debug("%s: %s %s: %d", wsi.tag, request.method, request.target, answer.status)
        if request.method == "HEAD":
            self._chunked, self._remaining = False, None  # RFC 9110 9.3.2: "the server MUST NOT send content"
            self._complete()
        elif isinstance(answer.body, bytes) and not answer.stream:
            self._send(answer.body)
            self._chunked = False
            if wsi.unsent < ENOUGH_BYTES:
                self._complete()
            else:
                wsi.want_writable()
        elif not answer.stream:
            wsi.want_writable()

    def _send(self, data: bytes) -> None:
        """Put a part of the body on the wire, and never a byte that was not announced."""
        if self._remaining is not None:
            if len(data) > self._remaining:
                raise ValueError(
                    f"the body is longer than the announced length, by {len(data) - self._remaining} bytes"
                )
            self._remaining -= len(data)
        self.wsi.put(encode_chunk(data) if self._chunked else data)

    def _end_body(self) -> None:
        if self._remaining:
            raise ValueError(f"the body is shorter than the announced length, by {self._remaining} bytes")
        if self._chunked:
            self.wsi.put(LAST_CHUNK)
        self._complete()

    def _pull(self) -> None:
        """Take pieces from the body's iterator until the peer has enough for now."""
        answer = self._answer
        assert answer is not None
        assert not isinstance(answer.body, bytes)
        while self.wsi.unsent < ENOUGH_BYTES:
            try:
                piece = next(answer.body)
            except StopIteration:
                self._end_body()
                return
            self._send(bytes(memoryview(piece)))
        self.wsi.want_writable()

    def _call_writeable(self) -> None:
        wsi, hook = self.wsi, self._http.hooks.on_http_writeable
        if hook is None:
            log.err("%s: Response(stream=True) without on_http_writeable", wsi.tag)
            self._break_off()
            return
        self._writing = True
        try:
            answer = wsi.call("on_http_writeable", hook, wsi)
        finally:
            self._writing = False
        if answer:
            self._break_off()

    def _complete(self) -> None:
        """End an answer: read the next request, or close."""
        wsi = self.wsi
        self._drop_answer()
        if not self._keep_alive or wsi.context.stopping:
            # The closing deadline is for the peer's FIN and not for the rest of a download: so all leaves first.
            self.state = State.ANSWER
            wsi.want_writable()
            return
        if wsi.request is not None:
            wsi.request.keep_parsed(False)
        self.state = State.HEAD
        wsi.set_deadline(wsi.budget.http_idle_seconds)

    def _break_off(self) -> None:
        """End an answer that cannot be completed: the peer must see that it is not whole, so no orderly end."""
        self._stop_answering()
        self.wsi.abort()

    def _stop_answering(self) -> None:
        self.state, self._input = State.DONE, b""
        if self._identification is not None:
            self._identification.cancel()
            self._identification = None
        self._drop_answer()

    def _drop_answer(self) -> None:
        """Forget the answer; an iterator that has `close()` gets it called, which closes its file."""
        answer, self._answer = self._answer, None
        close = getattr(answer.body, "close", None) if answer is not None else None
        if close is not None:
            self.wsi.call("close() of the body's iterator", close)

    def refuse(self, error: HandshakeError) -> None:
        """Answer with an error page and close."""
        wsi, request = self.wsi, self.wsi.request
        if wsi.is_closing:
            self._stop_answering()
            return
        wsi.context.counters.refused += 1
        if error.option:
            wsi.context.counters.note_over(error.option)
        log.info("%s: refused with %d %s", wsi.tag, error.status, error.text)
        try:
            page = error_page(error.status, error.text, error.headers)
        except ValueError as fault:  # a plugin's Reject
            log.err("%s: Reject(%d) cannot be sent: %s", wsi.tag, error.status, fault)
            page = error_page(500)
        head, _, _ = encode_response_head(page, keep_alive=False, date=_clock.date(), more=self._headers)
        at_hand = self.state is not State.HEAD or self._reader.is_empty  # else it is an older request
        is_head = at_hand and request is not None and request.method == "HEAD"
        self._drop_answer()
        wsi.put(head if is_head or not isinstance(page.body, bytes) else head + page.body)
        self._finish()

    def _finish(self) -> None:
        """Let what was put leave, then close.  Whatever still comes is no request."""
        self._stop_answering()
        self.wsi.finish()

    def _pause(self, paused: bool) -> None:
        if paused is not self._paused:
            self._paused = paused
            self.wsi.pause_reading(paused)
