"""The request for a WebSocket as nearly every client sends it, read in one call.

In C where that was compiled (`wsd/_arrival.c`), else what stands here, which is what it does.  Whatever is in any way
out of the ordinary is not read here at all: it goes the long way (`http.py`, `handshake.py`), which has all the checks,
and says what is wrong.  What is read here, the long way would read the same; the tests hold both to that.  Pure.
"""

from __future__ import annotations

import re
from typing import Final

from wsd.wire.headers import TOKEN

_REQUEST_LINE: Final = re.compile(rb"GET (/[\x21\x22\x24-\x7e]*) HTTP/1\.1\r\n")
_HEADER_LINE: Final = re.compile(rb"(" + TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*)\r\n")
_HOST: Final = re.compile(r"[0-9A-Za-z\-.]+(?::[0-9]*)?\Z")
_KEY: Final = re.compile(r"[0-9A-Za-z+/]{22}==\Z")

_NAMES: Final = frozenset(
    {
        b"host",
        b"upgrade",
        b"connection",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"origin",
        b"sec-websocket-protocol",
        b"sec-websocket-extensions",
        b"content-length",
        b"transfer-encoding",
    }
)


Said = tuple[int, str, str, str, str | None, str | None, str | None]
"""What a valid request for a WebSocket says: where its head ends, its target, and the values of Host,
Sec-WebSocket-Key, Origin, Sec-WebSocket-Protocol and Sec-WebSocket-Extensions as they were sent, None where there is
none.  A plain tuple: one is made for each connection, and a class with names costs four times as much to make."""


def read_upgrade_in_python(data: bytes, max_head_bytes: int, max_headers: int, max_uri_bytes: int, /) -> Said | None:
    """Read an ordinary request for a WebSocket from the front of `data`; None: it is none.

    Ordinary is one that has come whole and is within the limits: GET, a path, HTTP/1.1; one Host, a name or an IPv4
    address; one Upgrade, Connection, Sec-WebSocket-Key and Sec-WebSocket-Version, which say what they should; at most
    one Origin, Sec-WebSocket-Protocol and Sec-WebSocket-Extensions, which nobody has looked at; and no body.

    Raises:
        ValueError: a negative limit.
    """
    if min(max_head_bytes, max_headers, max_uri_bytes) < 0:
        raise ValueError("a limit is negative")
    line = _REQUEST_LINE.match(data)
    if line is None or len(line[1]) > max_uri_bytes:
        return None
    at, lines = line.end(), 0
    values: dict[bytes, str] = {}
    while not data.startswith(b"\r\n", at):
        header = _HEADER_LINE.match(data, at)
        if header is None or lines == max_headers:
            return None
        at, lines = header.end(), lines + 1
        name = header[1].lower()
        if name in _NAMES:
            if name in values:
                return None  # what two of them mean is for others to say
            values[name] = header[2].decode("latin-1").strip(" \t")
    end = at + 2
    if end > max_head_bytes or not _is_ordinary(values):
        return None
    return (
        end,
        line[1].decode("ascii"),
        values[b"host"],
        values[b"sec-websocket-key"],
        values.get(b"origin"),
        values.get(b"sec-websocket-protocol"),
        values.get(b"sec-websocket-extensions"),
    )


def _is_ordinary(values: dict[bytes, str]) -> bool:
    if b"content-length" in values or b"transfer-encoding" in values:
        return False
    options = [option.strip(" \t").lower() for option in values.get(b"connection", "").split(",")]
    return (
        _HOST.match(values.get(b"host", "")) is not None
        and values.get(b"upgrade", "").lower() == "websocket"
        and "upgrade" in options
        and values.get(b"sec-websocket-version") == "13"
        and _KEY.match(values.get(b"sec-websocket-key", "")) is not None
    )


try:
    from wsd._arrival import read_upgrade
except ImportError:
    read_upgrade = read_upgrade_in_python

__all__ = ["Said", "read_upgrade", "read_upgrade_in_python"]
