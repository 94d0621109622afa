"""`wsd.http1` on a wsi that only notes what is done to it: no socket, no loop, no clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.role import GET, Echo, Site, Wsi, upgrade, wsi_with
from wsd.config import Timeouts
from wsd.http1 import ENOUGH_BYTES
from wsd.reasons import CLOSE
from wsd.wire.http import Request, Response


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
    times = wsi.budget
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
