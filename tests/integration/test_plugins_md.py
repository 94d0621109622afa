"""The plugins that docs/plugins.md shows are plugins: each is dropped into a folder and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.client import connect
from tests.support.context import running
from tests.support.server import Server
from wsd.plugins import load
from wsd.protocol import Protocol

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "plugins.md"


def shown(name: str, folder: Path, *replaced: tuple[str, str]) -> Protocol:
    """The protocol of that name out of the page, loaded as the daemon does, with some of its text replaced."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (source,) = [block for block in blocks if f'name = "{name}"' in block]
    for old, new in replaced:
        assert old in source
        source = source.replace(old, new)
    file = folder / f"{name}.py"
    file.write_text(source)
    found = load(file)
    assert found.error is None, found.error
    return found.protocols[0]


def test_the_ticker_hands_on_what_it_hears_and_connects_again(tmp_path: Path) -> None:
    with Server() as feed:
        ticker = shown(
            "ticker", tmp_path, ("ws://127.0.0.1:9000/", feed.url), ("Backoff()", "Backoff(table_seconds=(0.01,))")
        )
        with running([ticker]) as served:
            first = feed.accept_websocket()
            assert first.asked.target == "/prices"
            with connect(served.port, "ticker") as reader:
                first.send_text("42")
                assert reader.receive_message() == "42"
                first.disconnect()
                second = feed.accept_websocket()
                second.send_text("43")
                assert reader.receive_message() == "43"
                reader.finish()
            second.finish()


def test_the_gateway_stands_in_front_of_a_server_that_speaks_no_websocket(tmp_path: Path) -> None:
    with Server() as behind:
        gateway = shown("gateway", tmp_path, ("127.0.0.1:25", f"127.0.0.1:{behind.port}"))
        with running([gateway]) as served, connect(served.port, "gateway") as client:
            client.send_text("HELO")  # before there is anybody to send it to
            connection = behind.accept()
            assert connection.receive_exactly(4) == b"HELO"
            connection.send(b"250 ok")
            assert client.receive_message() == b"250 ok"
            connection.disconnect()
            assert client.receive_close().close_code == 1000
