"""`wsd.http1` on a wsi that only notes what is done to it: no socket, no loop, no clock."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from wsd import log
from wsd.config import Limits, Timeouts
from wsd.errors import Reject
from wsd.http1 import ENOUGH_BYTES, Http1
from wsd.protocol import Binding, Protocol
from wsd.reasons import CLOSE
from wsd.web import Http
from wsd.wire.http import Headers, Request, Response
from wsd.wsi import Wsi as RealWsi

FAILED = RealWsi.FAILED
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Wsi:
    """What the role uses of a wsi.  `room` is what the kernel takes; None: everything at once."""

    FAILED = FAILED

    def __init__(self, http: Binding, fallback: Binding, protocols: dict[str, Binding]) -> None:
        default = next(iter(protocols.values()), None)
        self.listener = SimpleNamespace(bindings=protocols, default=default, paths={}, allowed_origins=(), http=http)
        self.listener.static_folder = ""
        self.context = SimpleNamespace(
            limits=Limits(max_body_bytes=100),
            timeouts=Timeouts(),
            stopping=False,
            fallback_http=fallback,
            counters=SimpleNamespace(http_requests=0, refused=0),
        )
        self.binding = http
        self.tag = "test#1"
        self.request: Request | None = None
        self.session: Any = None
        self.out = b""
        self.unsent = 0
        self.is_choked = False
        self.deadlines: list[float | None] = []
        self.is_asked = False
        self.is_paused = False
        self.is_closing = False
        self.ends: list[str] = []
        self.failures: list[tuple[str, BaseException]] = []
        self.upgraded: tuple[Any, ...] | None = None
        self.role = Http1(self)  # type: ignore[arg-type]

    @property
    def deadline(self) -> float | None:
        return self.deadlines[-1]

    def put(self, data: bytes) -> None:
        self.out += data
        self.unsent += len(data) if self.is_choked else 0

    def set_deadline(self, seconds: float | None) -> None:
        self.deadlines.append(seconds)

    def want_writable(self) -> None:
        self.is_asked = True

    def pause_reading(self, paused: bool) -> None:
        self.is_paused = paused

    def bind(self, binding: Binding) -> None:
        self.binding = binding

    def finish(self) -> None:
        self.ends.append("finish")
        self.is_closing = True

    close = finish

    def abort(self) -> None:
        self.ends.append("abort")
        self.is_closing = True

    def upgrade(self, *arguments: Any) -> None:
        self.upgraded = arguments

    def call(self, name: str, hook: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return hook(*arguments)
        except Reject:
            raise
        except Exception as error:
            self.failures.append((name, error))
            return FAILED

    # -- what a test does ------------------------------------------------------------------------------------------

    def serve(self, turns: int = 1000) -> None:
        """The write pass, as often as it was asked for."""
        while self.is_asked and not self.ends and turns:
            turns -= 1
            self.is_asked = False
            self.unsent = 0
            self.role.writable()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Give bytes to the role and let everything happen; gives the answers as (status, body)."""
        self.role.receive(data)
        self.serve()
        return self.answers()

    def answers(self) -> list[tuple[int, bytes]]:
        """The answers so far, taken off `out`.  Only those with a length."""
        found = []
        while self.out:
            head, _, rest = self.out.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            size = int(length[1]) if length else 0
            found.append((int(head.split(b" ")[1]), rest[:size]))
            self.out = rest[size:]
        return found


class Echo(Protocol):
    """A WebSocket protocol whose hooks before the 101 can be set."""

    name = "echo"
    Session = dict

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.filter: Callable[[Wsi], Any] = lambda wsi: None
        self.headers: list[tuple[str, str]] = []

    def on_filter_protocol_connection(self, wsi: Any, request: Request) -> Any:
        self.calls.append(f"filter {request.path} {wsi.session} {wsi.binding.protocol.name}")
        return self.filter(wsi)

    def on_add_headers(self, wsi: Any, headers: Headers) -> None:
        self.calls.append("headers")
        for name, value in self.headers:
            headers.add(name, value)


class Site(Protocol):
    """An HTTP protocol that answers what it is told to."""

    name = "site"

    def __init__(self) -> None:
        self.answer: Callable[[Any, Request], Any] = lambda wsi, request: Response(body=request.path)
        self.pieces: list[bytes] = []
        self.closed = 0

    def on_http(self, wsi: Any, request: Request) -> Any:
        return self.answer(wsi, request)

    def on_closed_http(self, wsi: Any) -> None:
        self.closed += 1


class Form(Site):
    """The same, with bodies."""

    completion: Callable[[], Any] = staticmethod(lambda: None)

    def on_http_body(self, wsi: Any, data: bytes) -> Any:
        self.pieces.append(data)
        return CLOSE if b"hang up" in data else None

    def on_http_body_completion(self, wsi: Any) -> Any:
        return Response(body=b"|".join(self.pieces)) if self.pieces else self.completion()


class Stream(Site):
    """The same, with a body that comes from `on_http_writeable`."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[bytes, bool]] = []

    def on_http_writeable(self, wsi: Any) -> Any:
        data, final = self.steps.pop(0)
        wsi.role.write(data, final)
        wsi.want_writable()


def bound(protocol: Protocol) -> Binding:
    return Binding(protocol, Limits(), Timeouts(), None)


def wsi_with(http: Protocol | None = None, *protocols: Protocol) -> Wsi:
    builtin = Http()
    builtin.on_protocol_init(None, None)  # type: ignore[arg-type]
    fallback = bound(builtin)
    served = {protocol.name: bound(protocol) for protocol in protocols}
    return Wsi(bound(http) if http is not None else fallback, fallback, served)


def upgrade(*more: str, without: str = "-") -> bytes:
    lines = ["Host: a", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}"]
    lines = [line for line in [*lines, "Sec-WebSocket-Version: 13"] if not line.startswith(without)]
    return "\r\n".join(["GET /chat HTTP/1.1", *lines, *more, "", ""]).encode()


# -- requests and answers -------------------------------------------------------------------------------------------


def test_the_date_is_that_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 784111777.5
    monkeypatch.setattr(time, "time", lambda: now)
    wsi = wsi_with(Site())
    wsi.role.receive(GET)
    assert b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n" in wsi.out
    now += 1
    wsi.role.receive(GET)
    assert b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n" in wsi.out


def test_requests_are_answered_in_order_on_one_connection() -> None:
    wsi = wsi_with(Site())
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20))
    for at in range(0, len(requests), 7):
        wsi.role.receive(requests[at : at + 7])
    assert wsi.answers() == [(200, b"/%d" % number) for number in range(20)]
    assert not wsi.ends
    assert wsi.context.counters.http_requests == 20


def test_a_peer_that_does_not_read_gets_no_further_requests_answered() -> None:
    site = Site()
    site.answer = lambda wsi, request: Response(body=b"x" * (ENOUGH_BYTES // 2))
    wsi = wsi_with(site)
    wsi.is_choked = True
    wsi.role.receive(GET * 10)
    assert len(wsi.answers()) == 2
    assert (wsi.is_paused, wsi.is_asked) == (True, True)
    wsi.serve(1)
    assert len(wsi.answers()) == 2
    wsi.is_choked = False
    wsi.serve()
    assert len(wsi.answers()) == 6
    assert not wsi.is_paused


@pytest.mark.parametrize(
    ("request_", "closes"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", True),  # its body is not read
    ],
)
def test_what_closes_after_the_answer(request_: bytes, closes: bool) -> None:
    wsi = wsi_with(Site())
    assert wsi.feed(request_ + GET) == [(200, b"/")] * (1 if closes else 2)
    assert wsi.ends == ["finish"] * closes


def test_the_last_answer_leaves_before_the_closing_deadline_starts() -> None:
    wsi = wsi_with(Site())
    wsi.role.receive(b"GET / HTTP/1.0\r\n\r\n")
    assert (wsi.ends, wsi.is_asked, wsi.is_paused) == ([], True, True)
    wsi.serve()
    assert wsi.ends == ["finish"]


def test_bytes_after_a_bad_head_never_reach_a_second_request() -> None:
    site = Site()
    wsi = wsi_with(site)
    assert wsi.feed(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n" + GET)[0][0] == 400
    wsi.role.receive(GET)
    assert (wsi.answers(), wsi.ends, wsi.context.counters.http_requests) == ([], ["finish"], 0)


def test_head_gets_the_same_head_and_no_body() -> None:
    pulled = []

    def body() -> Iterator[bytes]:
        pulled.append(1)
        yield b"abc"

    answers = [Response(body="abc"), Response(body=body(), length=3), Response(body=body()), Response(stream=True)]
    for answer in answers:
        site = Stream()
        site.answer = lambda wsi, request, answer=answer: answer  # type: ignore[misc]
        wsi = wsi_with(site)
        wsi.role.receive(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        wsi.serve()
        assert wsi.out.endswith(b"\r\n\r\n")
        assert (b"Content-Length: 3" in wsi.out) == (answer.length == 3)
        assert (wsi.role.state.name, wsi.ends) == ("HEAD", [])
    assert not pulled


def test_head_of_a_page_that_is_not_there() -> None:
    site = Site()
    site.answer = lambda wsi, request: 1 / 0
    wsi = wsi_with(site)
    wsi.role.receive(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert wsi.out.startswith(b"HTTP/1.1 500 ")
    assert wsi.out.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda wsi, request: None, 200),  # the built-in page
        (lambda wsi, request: 0, 200),
        (lambda wsi, request: Response(418), 418),
        (lambda wsi, request: 1 / 0, 500),
        (lambda wsi, request: Response(headers=[("X", "a\r\nY: b")]), 500),
        (lambda wsi, request: CLOSE, None),
        (lambda wsi, request: wsi.close(), None),
    ],
)
def test_answers_of_on_http(answer: Callable[[Any, Request], Any], status: int | None) -> None:
    site = Site()
    site.answer = answer
    wsi = wsi_with(site)
    assert [found[0] for found in wsi.feed(GET)] == ([status] if status else [])
    assert wsi.ends == ([] if status in (200, 418) else ["finish"])
    wsi.role.closed()
    wsi.role.closed()
    assert site.closed == 1


def test_one_session_for_all_requests_of_a_connection() -> None:
    class Counting(Site):
        Session = dict

    site = Counting()

    def answer(wsi: Any, request: Request) -> Response:
        wsi.session["requests"] = wsi.session.get("requests", 0) + 1
        return Response(body=str(wsi.session["requests"]))

    site.answer = answer
    echo = Echo()
    echo.filter = lambda wsi: CLOSE
    wsi = wsi_with(site, echo)
    assert wsi.feed(GET * 2) == [(200, b"1"), (200, b"2")]
    assert wsi.feed(upgrade())[0][0] == 403
    assert echo.calls == ["filter /chat {} echo"]
    assert wsi.session == {"requests": 2}, "what on_closed_http finds is its own"


def test_without_on_http_the_built_in_answers() -> None:
    echo = Echo()
    wsi = wsi_with(echo, echo)
    assert wsi.feed(b"GET /protocols.json HTTP/1.1\r\nHost: a\r\n\r\n")[0][1].startswith(b'{"protocols": ["echo"]')
    assert wsi.feed(b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n")[0][0] == 404
    assert wsi.feed(b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n")[0][0] == 405
    assert not wsi.ends
    wsi.role.closed()


# -- bodies of requests -----------------------------------------------------------------------------------------------


def posting(*headers: str) -> bytes:
    return "\r\n".join(["POST /p HTTP/1.1", "Host: a", *headers, "", ""]).encode()


@pytest.mark.parametrize(
    "body",
    [
        (posting("Content-Length: 5"), b"hello"),
        (posting("Transfer-Encoding: chunked"), b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ],
)
def test_a_body_reaches_the_hooks_and_the_next_request_follows(body: tuple[bytes, bytes]) -> None:
    form = Form()
    form.answer = lambda wsi, request: None
    for step in (1, 3, 1000):
        form.pieces.clear()
        wsi = wsi_with(form)
        data = b"".join(body)
        for at in range(0, len(data), step):
            wsi.role.receive(data[at : at + step])
        ((status, answer),) = wsi.answers()
        assert (status, answer.replace(b"|", b"")) == (200, b"hello")
        form.pieces.clear()
        form.answer = lambda wsi, request: None if request.method == "POST" else Response(body="next")
        assert wsi.feed(GET) == [(200, b"next")]


def test_an_empty_body_is_complete_at_once() -> None:
    form = Form()
    form.answer = lambda wsi, request: None
    form.completion = lambda: Response(201)
    assert wsi_with(form).feed(posting("Content-Length: 0")) == [(201, b"")]
    assert wsi_with(form).feed(posting())[0][0] == 405  # no body: left to the built-in


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (posting("Content-Length: 101"), 413),
        (posting("Transfer-Encoding: chunked") + b"65\r\n", 413),
        (posting("Transfer-Encoding: chunked") + b"x\r\n", 400),
        (posting("Content-Length: 5", "Expect: a-miracle"), 417),
        (posting("Content-Length: 7") + b"hang up", None),
    ],
)
def test_bodies_that_are_refused(data: bytes, status: int | None) -> None:
    form = Form()
    form.answer = lambda wsi, request: None
    wsi = wsi_with(form)
    assert [found[0] for found in wsi.feed(data + GET)] == ([status] if status else [])
    assert wsi.ends == ["finish"]


def test_expect_100_continue() -> None:
    form = Form()
    form.answer = lambda wsi, request: None
    head = posting("Content-Length: 2", "Expect: 100-continue")
    wsi = wsi_with(form)
    wsi.role.receive(head)
    assert wsi.out == b"HTTP/1.1 100 Continue\r\n\r\n"
    wsi.out = b""
    assert wsi.feed(b"ab") == [(200, b"ab")]
    form.pieces.clear()
    # "A server MAY omit sending a 100 response if it has already received some or all of the content."
    assert wsi_with(form).feed(head + b"ab") == [(200, b"ab")]
    # Who is answered at once is not invited.
    site = Site()
    assert wsi_with(site).feed(head) == [(200, b"/p")]


# -- iterators and streams ------------------------------------------------------------------------------------------


class Pieces(Iterator[bytes]):
    """An iterator that knows whether it was closed."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.closed = 0

    def __next__(self) -> bytes:
        if not self.pieces:
            raise StopIteration
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.closed += 1


def answering(answer: Response, site: Site | None = None) -> Wsi:
    site = site or Site()
    site.answer = lambda wsi, request: answer
    return wsi_with(site)


def test_an_iterator_is_pulled_as_the_peer_reads() -> None:
    pieces = Pieces(*[b"x" * (ENOUGH_BYTES // 2)] * 6)
    wsi = answering(Response(body=pieces, length=3 * ENOUGH_BYTES))
    wsi.is_choked = True
    wsi.role.receive(GET)
    assert len(pieces.pieces) == 6
    wsi.serve(1)
    assert len(pieces.pieces) == 4
    wsi.role.receive(GET)
    wsi.serve(1)
    assert (len(pieces.pieces), wsi.is_paused, pieces.closed) == (2, True, 0)
    wsi.serve(2)
    assert len(wsi.answers()[0][1]) == 3 * ENOUGH_BYTES
    assert pieces.closed >= 1


def test_an_iterator_of_unknown_length_is_chunked() -> None:
    wsi = answering(Response(body=Pieces(b"ab", b"", b"c")))
    wsi.role.receive(GET)
    wsi.serve()
    assert wsi.out.endswith(b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    assert not wsi.ends


def test_for_http_1_0_the_end_of_the_connection_ends_it() -> None:
    wsi = answering(Response(body=Pieces(b"ab", b"c")))
    wsi.role.receive(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    wsi.serve()
    assert wsi.out.endswith(b"Connection: close\r\n\r\nabc")
    assert wsi.ends == ["finish"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: Response(body=Pieces(b"abc", b"d"), length=3), id="too long"),
        pytest.param(lambda: Response(body=Pieces(b"ab"), length=3), id="too short"),
        pytest.param(lambda: Response(body=Pieces(b"ab", OSError("gone")), length=3), id="raises"),
        pytest.param(lambda: Response(body=Pieces(b"ab", "c")), id="text"),  # type: ignore[arg-type]
    ],
)
def test_a_body_that_goes_wrong_breaks_the_connection(answer: Callable[[], Response]) -> None:
    response = answer()
    wsi = answering(response)
    wsi.role.receive(GET + GET)
    wsi.serve()
    assert wsi.ends == ["abort"]
    assert wsi.failures
    assert not wsi.out.endswith(b"0\r\n\r\n")
    assert wsi.out.count(b"HTTP/1.1") == 1
    assert len(wsi.out.partition(b"\r\n\r\n")[2]) <= 7
    assert isinstance(response.body, Pieces)
    assert response.body.closed == 1


def test_an_iterator_is_closed_when_the_connection_ends() -> None:
    pieces = Pieces(b"a")
    wsi = answering(Response(body=pieces))
    wsi.role.receive(GET)
    wsi.role.closed()
    assert pieces.closed == 1


def test_a_streamed_body() -> None:
    site = Stream()
    site.steps = [(b"ab", False), (b"", False), (b"c", True)]
    wsi = answering(Response(stream=True), site)
    wsi.role.receive(GET)
    assert not wsi.is_asked, "it is the plugin that asks"
    wsi.want_writable()
    wsi.serve()
    assert wsi.out.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    assert (wsi.ends, wsi.is_paused, wsi.deadline) == ([], False, Timeouts().http_idle_seconds)


@pytest.mark.parametrize("step", [(b"abcd", False), (b"abcd", True), (b"ab", True)])
def test_a_streamed_body_of_another_length(step: tuple[bytes, bool]) -> None:
    site = Stream()
    site.steps = [step]
    wsi = answering(Response(stream=True, length=3), site)
    wsi.role.receive(GET)
    wsi.want_writable()
    wsi.serve(1)
    assert wsi.ends == ["abort"]
    assert len(wsi.out.partition(b"\r\n\r\n")[2]) <= 3


def test_a_streamed_body_that_is_asked_for_once_too_often() -> None:
    site = Stream()
    site.steps = [(b"abc", True), (b"d", False)]
    wsi = answering(Response(stream=True, length=3), site)
    wsi.role.receive(GET)
    wsi.want_writable()
    wsi.serve()
    assert wsi.answers() == [(200, b"abc")]
    assert (wsi.ends, len(site.steps)) == ([], 1)


def test_write_belongs_into_on_http_writeable() -> None:
    wsi = answering(Response(stream=True), Stream())
    with pytest.raises(RuntimeError, match="on_http_writeable"):
        wsi.role.write(b"x", True)
    wsi.role.receive(GET)
    with pytest.raises(RuntimeError, match="on_http_writeable"):
        wsi.role.write(b"x", True)
    wsi = answering(Response(stream=True))
    wsi.role.receive(GET)
    wsi.role.writable()
    assert wsi.ends == ["abort"]


# -- deadlines and ends -----------------------------------------------------------------------------------------------


def test_deadlines() -> None:
    form = Form()
    form.answer = lambda wsi, request: None if request.method == "POST" else Response()
    wsi = wsi_with(form)
    times = wsi.context.timeouts
    assert wsi.deadlines == [times.handshake_seconds]
    wsi.role.receive(GET[:5])
    wsi.role.receive(GET[5:-1])
    assert wsi.deadlines == [times.handshake_seconds], "a slow head has no more time than a fast one"
    wsi.role.receive(GET[-1:])
    assert wsi.deadline == times.http_idle_seconds
    wsi.role.receive(GET[:1])
    assert wsi.deadline == times.handshake_seconds
    before = len(wsi.deadlines)
    wsi.role.receive(GET[1:-1])
    assert len(wsi.deadlines) == before
    wsi.role.receive(GET[-1:] + posting("Content-Length: 3"))
    assert wsi.deadline == times.body_seconds
    before = len(wsi.deadlines)
    wsi.role.receive(b"ab")
    assert len(wsi.deadlines) == before
    wsi.role.receive(b"c")
    assert wsi.deadline == times.http_idle_seconds


@pytest.mark.parametrize(
    ("data", "status", "end"),
    [
        (b"", None, "finish"),
        (b"G", 408, "finish"),
        (b"\r\n", 408, "finish"),
        (posting("Content-Length: 5") + b"abc", 408, "finish"),
    ],
)
def test_what_happens_when_time_is_up(data: bytes, status: int | None, end: str) -> None:
    form = Form()
    form.answer = lambda wsi, request: None
    wsi = wsi_with(form)
    wsi.role.receive(data)
    wsi.role.timed_out()
    assert [found[0] for found in wsi.answers()] == ([status] if status else [])
    assert wsi.ends == [end]


def test_408_after_a_head_request_has_a_body_again() -> None:
    wsi = wsi_with(Site())
    wsi.role.receive(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    wsi.out = b""
    wsi.role.receive(b"G")
    wsi.role.timed_out()
    assert wsi.out.endswith(b"</html>\n")


def test_a_peer_that_half_closes_gets_its_answers() -> None:
    wsi = answering(Response(body=Pieces(b"ab"), length=2))
    wsi.role.receive(GET)
    wsi.role.end_of_input()
    assert not wsi.ends
    wsi.serve()
    assert wsi.answers() == [(200, b"ab")]
    assert wsi.ends == ["finish"]
    for data in (b"", b"GET", posting("Content-Length: 5") + b"abc"):
        form = Form()
        form.answer = lambda wsi, request: None
        wsi = wsi_with(form)
        wsi.role.receive(data)
        wsi.role.end_of_input()
        assert (wsi.out, wsi.ends) == (b"", ["finish"])


def test_stopping() -> None:
    idle, busy, half = wsi_with(Site()), answering(Response(body=Pieces(b"ab"), length=2)), wsi_with(Site())
    busy.role.receive(GET)
    half.role.receive(GET[:5])
    for wsi in (idle, busy, half):
        wsi.context.stopping = True
        wsi.role.stop()
    assert (idle.ends, busy.ends, half.ends) == (["finish"], [], [])
    busy.serve()
    assert busy.ends == ["finish"]
    half.role.receive(GET[5:])
    assert b"Connection: close\r\n" in half.out
    half.serve()
    assert half.ends == ["finish"]
    late = wsi_with(Site(), Echo())
    late.context.stopping = True
    late.role.receive(upgrade())
    assert b"HTTP/1.1 503 " in late.out
    assert b"Retry-After: " in late.out
    assert late.upgraded is None


# -- upgrades -----------------------------------------------------------------------------------------------------


def test_an_upgrade_asks_the_hooks_in_order_and_hands_over_what_followed() -> None:
    echo = Echo()
    echo.headers = [("X-Hello", "you")]
    site = Site()
    wsi = wsi_with(site, echo)
    wsi.role.receive(upgrade("Sec-WebSocket-Protocol: no, echo") + b"\x81\x80abcd")
    assert wsi.upgraded is not None
    binding, request, subprotocol, head, leftover = wsi.upgraded
    assert binding.protocol is echo
    assert wsi.binding is binding
    assert (request.path, subprotocol, leftover) == ("/chat", "echo", b"\x81\x80abcd")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nX-Hello: you\r\n" in head
    assert echo.calls == ["filter /chat {} echo", "headers"]
    assert (wsi.session, wsi.out, wsi.ends) == ({}, b"", [])
    wsi.role.closed()
    assert site.closed == 0


def test_who_asks_for_none_gets_the_paths_protocol_or_the_default() -> None:
    echo, site = Echo(), Site()
    wsi = wsi_with(site, echo)
    wsi.role.receive(upgrade())
    assert wsi.upgraded is not None
    assert wsi.upgraded[2] is None
    assert b"Sec-WebSocket-Protocol" not in wsi.upgraded[3]
    wsi = wsi_with(site, echo)
    wsi.listener.default = None
    wsi.listener.paths = {"/chat": wsi.listener.bindings["echo"]}
    wsi.role.receive(upgrade())
    assert wsi.upgraded is not None
    wsi = wsi_with(site, echo)
    wsi.listener.default = None
    assert wsi.feed(upgrade())[0][0] == 400


def raising(status: int, *arguments: Any) -> Callable[[Any], Any]:
    def reject(wsi: Any) -> None:
        raise Reject(status, *arguments)

    return reject


@pytest.mark.parametrize(
    ("filter_", "start"),
    [
        pytest.param(raising(401, "who?", [("WWW-Authenticate", "Basic")]), b"HTTP/1.1 401 ", id="Reject"),
        pytest.param(raising(302, "", [("Location", "/x")]), b"HTTP/1.1 302 ", id="redirect"),
        pytest.param(lambda wsi: CLOSE, b"HTTP/1.1 403 ", id="CLOSE"),
        pytest.param(lambda wsi: 1 / 0, b"HTTP/1.1 500 ", id="exception"),
        pytest.param(lambda wsi: FAILED, b"HTTP/1.1 500 ", id="no answer"),
        pytest.param(raising(99), b"HTTP/1.1 500 ", id="no status"),
        pytest.param(raising(401, "", [("X", "a\r\nb")]), b"HTTP/1.1 500 ", id="splitting"),
        pytest.param(lambda wsi: wsi.close() or None, b"", id="close()"),
    ],
)
def test_a_filter_that_refuses(filter_: Callable[[Any], Any], start: bytes) -> None:
    echo = Echo()
    echo.filter = filter_
    wsi = wsi_with(Site(), echo)
    wsi.role.receive(upgrade() + GET)
    assert wsi.upgraded is None
    assert wsi.out.startswith(start)
    assert (b"Connection: close" in wsi.out) == bool(start)
    assert wsi.ends == ["finish"]
    assert wsi.binding.protocol.name == "site"
    assert wsi.out.count(b"HTTP/1.1") == bool(start)


def test_a_reject_carries_its_headers() -> None:
    echo = Echo()
    echo.filter = raising(401, "who are <you>?", [("WWW-Authenticate", "Basic")])
    wsi = wsi_with(Site(), echo)
    wsi.role.receive(upgrade())
    assert b"\r\nWWW-Authenticate: Basic\r\n" in wsi.out
    assert b"who are &lt;you&gt;?" in wsi.out


@pytest.mark.parametrize("header", [("X", "a\r\nb"), ("Upgrade", "x"), ("Sec-WebSocket-Accept", "x")])
def test_bad_headers_for_the_101(header: tuple[str, str]) -> None:
    echo = Echo()
    echo.headers = [header]
    wsi = wsi_with(Site(), echo)
    assert wsi.feed(upgrade())[0][0] == 500
    assert wsi.upgraded is None


def test_a_session_that_cannot_be_made() -> None:
    class Broken(Echo):
        Session = staticmethod(lambda: 1 / 0)  # type: ignore[assignment]

    echo = Broken()
    wsi = wsi_with(Site(), echo)
    assert wsi.feed(upgrade())[0][0] == 500
    assert echo.calls == []


@pytest.mark.parametrize(
    ("request_", "status", "header"),
    [
        (upgrade("Origin: http://evil.example"), 403, b""),
        (upgrade("Origin: null"), 403, b""),
        (upgrade("Sec-WebSocket-Protocol: no"), 400, b""),
        (upgrade(without="Sec-WebSocket-Version"), 400, b"Sec-WebSocket-Version: 13"),
        (upgrade("Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version"), 426, b"Connection: Upgrade, close"),
        (upgrade().replace(b"GET", b"PUT"), 405, b"Allow: GET"),
        (upgrade("Content-Length: 5") + b"GET /", 400, b""),
        (upgrade("Transfer-Encoding: chunked"), 400, b""),
    ],
)
def test_refused_upgrades(request_: bytes, status: int, header: bytes) -> None:
    echo = Echo()
    wsi = wsi_with(Site(), echo)
    wsi.role.receive(request_)
    assert wsi.out.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\n" + header in wsi.out
    assert b"</html>" in wsi.out
    assert (echo.calls, wsi.upgraded, wsi.ends) == ([], None, ["finish"])
    assert wsi.context.counters.refused == 1


def test_the_log_names_the_option_that_would_allow_an_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "info", lambda text, *arguments: lines.append(text % arguments))
    wsi = wsi_with(Site(), Echo())
    wsi.role.receive(upgrade("Origin: https://evil.example"))
    assert any("allowed_origins" in line and "https://evil.example" in line for line in lines)
    assert all(line.startswith("test#1: ") for line in lines)
    wsi = wsi_with(Site(), Echo())
    wsi.listener.allowed_origins = ("https://evil.example",)
    wsi.role.receive(upgrade("Origin: https://evil.example"))
    assert wsi.upgraded is not None
