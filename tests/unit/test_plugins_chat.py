"""The chat: what one says, everybody hears."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fakes import FakeWsi, shipped


@pytest.fixture
def chat() -> Any:
    return shipped("chat.py")


def join(chat: Any, target: str) -> FakeWsi:
    wsi = FakeWsi(chat, target)
    chat._members[wsi] = None
    chat.on_established(wsi)
    return wsi


def text(frame: bytes) -> bytes:
    assert frame[0] == 0x81, "one text frame"
    return frame[2:]


def test_everybody_hears_who_comes_says_something_and_goes(chat: Any) -> None:
    ada, bob = join(chat, "/?name=Ada"), join(chat, "/")
    chat.on_message(bob, "hello")
    del chat._members[ada]
    chat.on_closed(ada, 1000, "")
    assert [text(frame) for frame in ada.sent] == [
        b"* Ada came, 1 here",
        b"* somebody came, 2 here",
        b"somebody: hello",
    ]
    assert [text(frame) for frame in bob.sent] == [b"* somebody came, 2 here", b"somebody: hello", b"* Ada left"]


def test_binary_is_refused(chat: Any) -> None:
    ada, bob = join(chat, "/?name=Ada"), join(chat, "/")
    heard = len(bob.sent)
    chat.on_message(ada, b"\0")
    assert ada.closed == (1003, "text only")
    assert len(bob.sent) == heard


def test_it_is_twenty_lines_or_so() -> None:
    """The README shows it as the first plugin."""
    from tests.support.fakes import PLUGINS

    code = [line for line in (PLUGINS / "chat.py").read_text().split('"""')[2].splitlines() if line.strip()]
    assert len(code) <= 20
