"""A new plugin to begin with: `wsd new-plugin NAME`.

Owns the two files that it writes: a plugin that loads as written, and a test beside it.  Must not know the
configuration or where plugins are found; the folder is handed in.
"""

from __future__ import annotations

import errno
import keyword
import re
from pathlib import Path
from typing import Final

# What is a token of RFC 9110 and, with its dashes turned into underscores, a name in Python: it becomes the name of the
# protocol, of the file and of the class.  What begins with `_` or `test_` is no plugin to wsd.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_TAKEN: Final = {"conftest", "http"}

PLUGIN: Final = '''\
"""SUMMARY"""

from __future__ import annotations

from wsd import Protocol, Wsi


class CLASS(Protocol):
    name = "NAME"

    def on_established(self, wsi: Wsi) -> None:
        """A connection is there.  `wsi.session` is yours: keep in it what this connection has to remember."""
        wsi.session = 0

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        """A message came: `str` if it was text, `bytes` if it was binary.  This one answers with its number."""
        wsi.session += 1
        wsi.send(f"{wsi.session}: {message!r}")

    def on_closed(self, wsi: Wsi, code: int, close_reason: str) -> None:
        """The connection is gone.  `self.broadcast(message)` would tell all the others."""


protocols = [CLASS]
'''

TEST: Final = '''\
"""The protocol NAME, in a real server and over a real connection.  Run it with: pytest TEST_FILE"""

from __future__ import annotations

import socket
from pathlib import Path

from wsd import Context
from wsd.plugins import load


class Client:
    """The least that speaks WebSocket: one short text message at a time.

    The server runs in this same thread, so it is given a turn whenever we wait.
    """

    def __init__(self, context: Context, port: int) -> None:
        self.context = context
        self.received = b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setblocking(False)
        self.socket.sendall(
            b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
            b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n"
            b"Sec-WebSocket-Protocol: NAME\\r\\n\\r\\n"
        )
        assert self.read_until(b"\\r\\n\\r\\n").startswith(b"HTTP/1.1 101 ")

    def send(self, text: str) -> None:
        payload = text.encode()
        assert len(payload) < 126, "longer ones need another header"
        # A client must mask; with a key of zeros the payload stays as it is.
        self.socket.sendall(bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    def receive(self) -> str:
        first, length = self.read(2)
        assert first == 0x81, "one whole text message"
        assert length < 126
        return self.read(length).decode()

    def read(self, size: int) -> bytes:
        for _ in range(500):
            if len(self.received) >= size:
                data, self.received = self.received[:size], self.received[size:]
                return data
            self.context.service(0.01)
            try:
                self.received += self.socket.recv(65536)
            except BlockingIOError:
                pass
        raise AssertionError(f"no answer; so far {self.received!r}")

    def read_until(self, end: bytes) -> bytes:
        data = self.read(1)
        while not data.endswith(end):
            data += self.read(1)
        return data


def test_it_answers() -> None:
    plugin = load(Path(__file__).with_name("PLUGIN_FILE"))
    assert plugin.error is None
    with Context(plugin.protocols) as context:
        listener = context.listen(interface="127.0.0.1", port=0)
        client = Client(context, listener.port)
        with client.socket:
            client.send("hello")
            assert client.receive() == "1: 'hello'"
            client.send("again")
            assert client.receive() == "2: 'again'"
'''


def new_plugin(name: str, folder: Path) -> list[Path]:
    """Write a plugin for the protocol `name` into `folder`, and a test beside it; gives their paths.

    Raises:
        ValueError: the name cannot be used.
        FileExistsError: one of the files is there already; nothing is written.
        OSError: the folder cannot be written to.
    """
    stem = name.replace("-", "_")
    if not _NAME.match(name) or keyword.iskeyword(stem) or stem.startswith("test_") or stem in _TAKEN:
        raise ValueError(
            f"{name!r} cannot be the name of a plugin: it becomes the name of a protocol and of a file; use letters,"
            " digits, - and _, a letter first, and none of Python's words, test_..., conftest or http"
        )
    plugin, test = folder / f"{stem}.py", folder / f"test_{stem}.py"
    for path in (plugin, test, folder / stem):
        if path.exists() or path.is_symlink():
            raise FileExistsError(errno.EEXIST, "is there already; it is left as it is", str(path))
    words = {
        "SUMMARY": f"The protocol {name}: numbers the messages it gets, and sends them back.",
        "CLASS": _class_name(stem),
        "TEST_FILE": test.name,
        "PLUGIN_FILE": plugin.name,
        "NAME": name,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for path, template in ((plugin, PLUGIN), (test, TEST)):
        # "x" once more: somebody may have been quicker.
        with path.open("x", encoding="utf-8") as file:
            file.write(re.sub("|".join(words), lambda found: words[found[0]], template))
    return [plugin, test]


def _class_name(stem: str) -> str:
    """`lucky_number` is LuckyNumber; what means something else in the file already gets another name."""
    name = "".join(part[:1].upper() + part[1:] for part in stem.split("_"))
    return f"My{name}" if keyword.iskeyword(name) or name in ("Protocol", "Wsi") else name
