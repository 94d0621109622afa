"""The C functions of wsd/_arrival.c beside their Python twins, whichever of them wsd itself runs on."""

from __future__ import annotations

from typing import Any

from tests.support.native import find_extension, require_extension
from wsd import accepting
from wsd.wire import ordinary

ARRIVAL = find_extension("_arrival")


def require_arrival() -> Any:
    """As `require_extension`."""
    return require_extension(ARRIVAL, "_arrival")


class Twins:
    """The Python functions under the names that they have in C."""

    accept = staticmethod(accepting.accept_in_python)
    shut_down = staticmethod(accepting.shut_down_in_python)
    read_upgrade = staticmethod(ordinary.read_upgrade_in_python)


TWINS: Any = Twins

HEAD = {
    "Host": "example.com:7681",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
"""What an ordinary request for a WebSocket says at least."""


def head(line: str = "GET /chat HTTP/1.1", *more: str, **changes: str | None) -> bytes:
    """A request: `changes` by the name of a header, with _ for -; None leaves it out; `more` are further lines."""
    fields: dict[str, str | None] = {name.lower(): value for name, value in HEAD.items()}
    fields.update({name.replace("_", "-").lower(): value for name, value in changes.items()})
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([line, *lines, *more, "", ""]).encode("latin-1")


ORDINARY = [
    head(),
    head(origin="http://example.com", sec_websocket_protocol="a, b", sec_websocket_extensions='x; y="a,b"'),
    head("GET /a%20b?x=/?&y HTTP/1.1", connection="keep-alive, UPGRADE", upgrade="WebSocket"),
    head("GET /", "Cookie: \xff\t", "Empty:", "cookie: again").replace(b"GET /\r\n", b"GET / HTTP/1.1\r\n"),
    head(host="  127.0.0.1\t", sec_websocket_version=" 13 ", origin=""),
    head(connection=", ,upgrade,"),
    head(sec_websocket_key="AAAAAAAAAAAAAAAAAAAAA+/==".replace("AAA", "AA", 1)),
    head(host="example.com:"),
]
"""Requests that both read, with nothing behind them."""

OTHERS = [
    b"",
    b"GET",
    b"\r\n" + head(),
    head("POST /chat HTTP/1.1"),
    head("get /chat HTTP/1.1"),
    head("GET /chat HTTP/1.0"),
    head("GET /chat HTTP/1.10"),
    head("GET http://example.com/chat HTTP/1.1"),
    head("GET * HTTP/1.1"),
    head("GET  /chat HTTP/1.1"),
    head("GET /chat  HTTP/1.1"),
    head("GET /chat# HTTP/1.1"),
    head("GET /\xe4 HTTP/1.1"),
    head("GET /chat HTTP/1.1 "),
    head().replace(b"\r\n", b"\n"),
    head()[:-1],
    head()[:-2],
    head()[:-4],
    *(head(**{name.replace("-", "_"): None}) for name in HEAD),
    *(head("GET / HTTP/1.1", f"{name}: {value}") for name, value in HEAD.items()),
    *(head(**{name: ""}) for name in ("host", "upgrade", "connection", "sec_websocket_key", "sec_websocket_version")),
    head(host="[::1]:80"),
    head(host="a b"),
    head(host="a:b"),
    head(host="a/b"),
    head(host=":80"),
    head(upgrade="websocket, h2c"),
    head(upgrade="websockets"),
    head(upgrade="websocke"),
    head(connection="keep-alive"),
    head(connection="upgrades"),
    head(sec_websocket_version="8"),
    head(sec_websocket_version="13, 8"),
    head(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ="),
    head(sec_websocket_key="dGhlIHNhbXBsZSBub25jZ==="),
    head(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==A"),
    head(sec_websocket_key="dGhlIHNhbXBsZSBub25j-Q=="),
    head(content_length="0"),
    head(transfer_encoding="chunked"),
    head("GET / HTTP/1.1", "Origin: http://a", "origin: http://b"),
    head("GET / HTTP/1.1", "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"),
    head("GET / HTTP/1.1", "Sec-WebSocket-Extensions: a", "Sec-WebSocket-Extensions: b"),
    head("GET / HTTP/1.1", "Bad Name: x"),
    head("GET / HTTP/1.1", "Name : x"),
    head("GET / HTTP/1.1", ": x"),
    head("GET / HTTP/1.1", "Name"),
    head("GET / HTTP/1.1", " folded: x"),
    head("GET / HTTP/1.1", "Name: \x00"),
    head("GET / HTTP/1.1", "Name: \x7f"),
    head("GET / HTTP/1.1", "Name: a\rb"),
]
"""What is left to the long way, which accepts some of it."""
