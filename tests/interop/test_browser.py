"""A real browser on the built-in page: what a person would see, and nothing in the browser's log."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import Daemon
from tests.interop.peers import parameters
from tests.support.browser import Browser, browser
from tests.support.timing import wait_until

PROTOCOLS = ["dumb-increment-protocol", "lws-mirror-protocol", "echo", "hello"]


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory, root: Path) -> str:
    """The plugin that `wsd new-plugin` makes."""
    folder = tmp_path_factory.mktemp("new")
    config = folder / "new.toml"
    config.write_text(f'[plugins]\nfolders = ["{folder}/plugins"]\n[[listen]]\nport = 0\n')
    subprocess.run(
        [sys.executable, "-m", "wsd", "new-plugin", "hello", "-c", str(config)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=folder,
        timeout=60,
    )
    return (folder / "plugins" / "hello.py").read_text()


@pytest.fixture
def daemon(serve: Callable[..., Daemon], hello: str) -> Daemon:
    """A daemon whose listener also serves a plugin that has just been made.  No two tests share it: a window that is
    closed at the end of one says so in the log of the next."""
    return serve(PROTOCOLS, plugins={"hello": hello}, alone=True)


@pytest.fixture
def page(daemon: Daemon, tmp_path: Path) -> Iterator[Browser]:
    """The page, open and connected.  At the end the browser must not have complained of anything."""
    folder = tmp_path / "browser"
    folder.mkdir()
    with browser(folder) as session:
        session.open(f"http://127.0.0.1:{daemon.port}/")
        session.wait_for("#counter-state", "^open$")
        session.wait_for("#board-state", "^open$")
        yield session
        for window in session.command("GET", "/window/handles"):
            session.switch_to(window)
            assert session.complaints() == []


def test_the_counter_moves(page: Browser) -> None:
    page.wait_for("#counter-value", r"^\d+$")
    first = int(page.text("#counter-value"))
    wait_until(lambda: int(page.text("#counter-value")) >= first + 10, what="the counter went on by ten")
    page.click("#counter-reset")
    wait_until(lambda: int(page.text("#counter-value")) < first + 10, what="the counter began again")


def pixels(page: Browser) -> int:
    """How many pixels of the board are painted."""
    script = """
        const board = document.querySelector("#board-canvas");
        // A copy, since Chromium complains of a canvas that is drawn on and read.
        const copy = new OffscreenCanvas(board.width, board.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(board, 0, 0);
        const data = copy.getImageData(0, 0, board.width, board.height).data;
        return data.filter((value, at) => at % 4 === 3 && value > 0).length;
    """
    return int(page.run(script))


def test_a_line_drawn_in_one_window_appears_in_the_other(page: Browser, daemon: Daemon) -> None:
    first = page.window()
    second = page.new_window()
    page.switch_to(second)
    page.open(f"http://127.0.0.1:{daemon.port}/")
    page.wait_for("#board-state", "^open$")
    assert pixels(page) == 0

    page.switch_to(first)
    page.drag("#board-canvas", (-100, -50), (0, 0), (100, 60))
    wait_until(lambda: pixels(page) > 100, what="the line is in the window in which it was drawn")
    drawn = pixels(page)
    page.wait_for("#board-count", r"^[2-9]\d* lines")

    page.switch_to(second)
    wait_until(lambda: pixels(page) == drawn, what="the same line is in the other window")


def test_the_console_talks_to_a_plugin_just_made(page: Browser) -> None:
    page.choose("#console-protocol", "hello")
    page.click("#console-connect")
    page.wait_for("#console-state", "^open: hello$")
    page.type("#console-text", "good morning")
    page.click("#console-send")
    page.wait_for("#console-log", "1: 'good morning'")

    page.choose("#console-type", "binary")
    page.type("#console-text", "00 ff")
    page.click("#console-send")
    page.wait_for("#console-log", r"2: b'\\x00\\xff'")

    page.click("#console-ping")
    page.wait_for("#console-log", "3: 'ping'")
    page.wait_for("#console-rtt", r"after \d+\.\d ms")

    page.type("#console-code", "4001")
    page.type("#console-reason", "enough")
    page.click("#console-close")
    page.wait_for("#console-state", "^closed with 4001(?!.*not cleanly)")


def test_what_a_peer_sends_is_shown_and_not_obeyed(page: Browser) -> None:
    page.choose("#console-protocol", "echo")
    page.click("#console-connect")
    page.wait_for("#console-state", "^open: echo$")
    nasty = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    page.type("#console-text", nasty)
    page.click("#console-send")
    wait_until(lambda: page.text("#console-log").count("<img src=x") == 2, what="it was sent and came back, as text")
    assert page.run("return document.querySelectorAll('#console-log img, #console-log script').length") == 0
    assert page.run("return document.title") == "wsd"


ECHOES = """
    const [url, sizes] = arguments;
    window.echoes = { extensions: null, wrong: [], equal: 0, closed: null };
    const alphabet = "größer 世界 🌍 abcdefghijklmnopqrstuvwxyz";
    const texts = sizes.map((size) => {
        const part = alphabet + String.fromCharCode(0x100 + size % 0x700);
        return part.repeat(size / part.length + 1).slice(0, size).toWellFormed();
    });
    const random = new Uint8Array(60000);
    crypto.getRandomValues(random);
    const messages = [...texts, random.buffer, ...texts, new ArrayBuffer(500000), ""];
    const hex = (data) => typeof data === "string" ? data : new Uint8Array(data).join();
    const socket = new WebSocket(url, "echo");
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
        window.echoes.extensions = socket.extensions;
        for (const message of messages) socket.send(message);
    };
    let at = 0;
    socket.onmessage = ({ data }) => {
        if (hex(data) === hex(messages[at])) window.echoes.equal += 1;
        else window.echoes.wrong.push(at);
        at += 1;
        if (at === messages.length) socket.close(4002, "all back");
    };
    socket.onclose = ({ code, reason, wasClean }) => { window.echoes.closed = [code, reason, wasClean]; };
    return messages.length;
"""


def test_large_messages_come_back_compressed(page: Browser, daemon: Daemon) -> None:
    """Chromium offers permessage-deflate, always; the daemon agrees, and each message depends on those before it."""
    sizes = [0, 1, 100, 125, 126, 5000, 65535, 65536, 300_000]
    count = page.run(ECHOES, daemon.url, sizes)
    wait_until(lambda: page.run("return window.echoes.closed"), what="the connection has closed")
    echoes = page.run("return window.echoes")
    assert parameters(echoes["extensions"]) == {"server_max_window_bits": "12", "client_max_window_bits": "12"}
    assert echoes["wrong"] == []
    assert echoes["equal"] == count == 2 * len(sizes) + 3
    assert echoes["closed"][0] == 4002
    assert echoes["closed"][2] is True
    daemon.wait_log("closed, 4002 all back")


def test_closing_the_window_is_clean(page: Browser, daemon: Daemon) -> None:
    """A window that is closed says 1001, and the daemon hears it."""
    first = page.window()
    page.switch_to(page.new_window())
    page.open(f"http://127.0.0.1:{daemon.port}/")
    page.wait_for("#board-state", "^open$")
    page.choose("#console-protocol", "echo")
    page.click("#console-connect")
    page.wait_for("#console-state", "^open: echo$")
    page.close_window()
    page.switch_to(first)
    wait_until(lambda: daemon.read_log().count("closed, 1001") == 3, what="three connections closed with 1001")
    assert "1006" not in daemon.read_log()


def test_the_daemon_stops_under_an_open_page(page: Browser, daemon: Daemon) -> None:
    page.choose("#console-protocol", "echo")
    page.click("#console-connect")
    page.wait_for("#console-state", "^open: echo$")
    assert daemon.stop() == 0
    page.wait_for("#console-state", "^closed with 1001")
    page.open("about:blank")  # before the page tries again, to which the browser would rightly object
