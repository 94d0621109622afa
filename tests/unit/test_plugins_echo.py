"""The echo: pieces in, fragments out, and a bound on what waits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fakes import FakeWsi, shipped
from wsd import BINARY, TEXT


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A piece costs nothing but its payload here, so that the numbers can be read."""
    echo = shipped("echo.py", max_backlog_bytes=100)
    monkeypatch.setitem(echo.on_receive.__func__.__globals__, "PIECE_BYTES", 0)
    return echo


@pytest.fixture
def wsi(echo: Any) -> FakeWsi:
    return FakeWsi(echo)


def receive(wsi: Any, data: bytes, *, final: bool = True, binary: bool = False) -> None:
    wsi.is_final_fragment, wsi.frame_is_binary = final, binary
    wsi.protocol.on_receive(wsi, data)


def test_a_whole_message_goes_back_as_one_frame(wsi: Any) -> None:
    receive(wsi, b"text")
    receive(wsi, b"\0\1", binary=True)
    receive(wsi, b"")
    wsi.serve()
    assert wsi.take() == [(b"text", TEXT, True), (b"\0\1", BINARY, True), (b"", TEXT, True)]


def test_pieces_go_back_as_fragments(wsi: Any) -> None:
    receive(wsi, b"h\xc3", final=False)
    receive(wsi, b"\xa9", final=False)
    receive(wsi, b"")
    wsi.serve()
    assert wsi.take() == [(b"h\xc3", TEXT, False), (b"\xa9", TEXT, False), (b"", TEXT, True)]


def test_what_can_leave_at_once_is_not_kept(wsi: Any) -> None:
    receive(wsi, b"x" * 1000)
    assert wsi.take() == [(b"x" * 1000, TEXT, True)]
    assert wsi.session.pieces == []
    assert not wsi.is_asked
    assert wsi.is_reading


def test_nothing_overtakes_what_has_to_wait(wsi: Any) -> None:
    wsi.room = 1
    receive(wsi, b"1")
    receive(wsi, b"2", final=False)
    wsi.room = 2
    receive(wsi, b"3")
    assert wsi.take() == [(b"1", TEXT, True)]
    wsi.serve()
    assert wsi.take() == [(b"2", TEXT, False), (b"3", TEXT, True)]
    wsi.room = 1
    receive(wsi, b"4")
    assert wsi.take() == [(b"4", TEXT, True)]


def test_it_stops_when_the_pipe_is_choked_and_asks_again(wsi: Any) -> None:
    wsi.room = 0
    for number in range(5):
        receive(wsi, b"%d" % number)
    wsi.room = 2
    wsi.serve()
    assert [data for data, _, _ in wsi.take()] == [b"0", b"1"]
    assert wsi.is_asked
    wsi.room = 10
    wsi.serve()
    assert [data for data, _, _ in wsi.take()] == [b"2", b"3", b"4"]
    assert not wsi.is_asked


def test_a_peer_that_does_not_read_is_not_read(wsi: Any) -> None:
    wsi.room = 0
    receive(wsi, b"x" * 100)
    assert wsi.is_reading
    receive(wsi, b"y")
    assert not wsi.is_reading
    wsi.room = 1
    wsi.serve()
    assert wsi.is_reading, "what is left is under half the bound"


def test_reading_goes_on_at_half_the_bound(wsi: Any) -> None:
    wsi.room = 0
    for _ in range(11):
        receive(wsi, b"x" * 10)
    assert not wsi.is_reading
    wsi.room = 5
    wsi.serve()
    assert not wsi.is_reading, "60 bytes are left"
    wsi.room = 1
    wsi.serve()
    assert wsi.is_reading, "50 bytes are left"
    wsi.room = 100
    wsi.serve()
    assert wsi.session.size == 0


def test_a_message_may_come_whole_before_any_of_it_is_read(wsi: Any) -> None:
    wsi.room = 0
    for _ in range(9):
        receive(wsi, b"x" * 100, final=False)
        assert wsi.is_reading
    receive(wsi, b"x" * 100)
    assert not wsi.is_reading


def test_more_than_the_largest_message_is_too_much_anywhere(wsi: Any) -> None:
    wsi.room = 0
    receive(wsi, b"y" * 100)
    for _ in range(10):
        receive(wsi, b"x" * 100, final=False)
    assert wsi.is_reading
    receive(wsi, b"x", final=False)
    assert not wsi.is_reading


def test_without_a_limit_on_messages_the_bound_holds_at_once(wsi: Any) -> None:
    wsi.room = 0
    wsi.max_message_bytes = 0
    receive(wsi, b"x" * 101, final=False)
    assert not wsi.is_reading


def test_a_spurious_call_writes_nothing(echo: Any, wsi: Any) -> None:
    echo.on_writeable(wsi)
    assert wsi.take() == []
    assert not wsi.is_asked


def test_a_dead_wsi_is_let_go(echo: Any, wsi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wsi.room = 0
    receive(wsi, b"x")
    receive(wsi, b"y")
    monkeypatch.setattr(wsi, "write", lambda *_: -1)
    assert echo.on_writeable(wsi) == -1


def test_empty_messages_cost_something_too() -> None:
    echo = shipped("echo.py", max_backlog_bytes=1000)
    wsi = FakeWsi(echo)
    wsi.room = 0
    for _ in range(8):
        receive(wsi, b"")
    assert not wsi.is_reading
    wsi.room = 100
    wsi.serve()
    assert wsi.is_reading
    assert wsi.session.size == 0
