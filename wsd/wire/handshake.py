"""The opening handshake of RFC 6455, the server's side, on bytes: section 4.2.

Pure.  Who is asked whether a handshake may succeed, and in which order, is `wsd/http1.py`'s.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha1
from typing import Final, NamedTuple, TypeVar

from wsd.errors import HandshakeError
from wsd.wire.extensions import Offer, parse_extensions
from wsd.wire.headers import TOKEN, Headers
from wsd.wire.http import Request
from wsd.wire.response import encode_status_and_headers

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION: Final = "13"

_SUBPROTOCOL: Final = re.compile(TOKEN.decode() + r"\Z")
# 16 bytes in base64.  Bits beyond the 128 may be set: RFC 6455's own example in section 4.1 has some.
_KEY: Final = re.compile(r"[0-9A-Za-z+/]{22}==\Z")
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.\-]*)://(\[[0-9a-f:.]+\]|[^\[\]/?#@:\s]+)(?::([0-9]{1,5}))?\Z")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

# RFC 6455 4.4: the answer to a version that we do not speak names the one that we do.
_VERSION_HEADER: Final = ("Sec-WebSocket-Version", VERSION)
# RFC 9110 15.5.22: "The server MUST send an Upgrade header field in a 426 response".
_UPGRADE_HEADER: Final = ("Upgrade", "websocket")

# What the 101 says by itself; a plugin that added one of these would contradict it or break the framing.
_RESERVED: Final = frozenset(
    {
        "upgrade",
        "connection",
        "content-length",
        "transfer-encoding",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
    }
)

_PLAIN_101: Final = (
    encode_status_and_headers(101, [("Upgrade", "websocket"), ("Connection", "Upgrade")]).removesuffix(b"\r\n")
    + b"Sec-WebSocket-Accept: "
)

T = TypeVar("T")


class Upgrade(NamedTuple):
    """What a valid upgrade request asks for."""

    key: str
    subprotocols: tuple[str, ...]
    """In the client's order of preference, each once; compared with their case (RFC 6455 4.1, point 10)."""
    extensions: tuple[Offer, ...]
    """What stands in the Sec-WebSocket-Extensions lines, in the client's order of preference."""


def check_upgrade(request: Request) -> Upgrade:
    """Check a request against RFC 6455 4.2.1, point by point.

    Raises:
        HandshakeError: 400; 405 for another method than GET; 426 for another version than 13.
    """
    headers = request.headers
    # 1.  "An HTTP/1.1 or higher GET request".
    if request.method != "GET":
        raise HandshakeError(405, "a WebSocket is opened with GET", [("Allow", "GET")])
    if request.http_version == "1.0":
        raise HandshakeError(400, "a WebSocket needs HTTP/1.1 (behind nginx: proxy_http_version 1.1)")
    # A body would be read as frames.
    if request.is_chunked or request.content_length:
        raise HandshakeError(400, "an upgrade request has no body")
    # 3.  "An |Upgrade| header field containing the value "websocket", treated as an ASCII case-insensitive value."
    if "websocket" not in headers.tokens("Upgrade"):
        raise HandshakeError(
            400, "the Upgrade header with the value websocket is missing (a proxy may have dropped it)"
        )
    # 4.  "A |Connection| header field that includes the token "Upgrade", treated as an ASCII case-insensitive value."
    if "upgrade" not in headers.tokens("Connection"):
        raise HandshakeError(400, "the Connection header does not name Upgrade (a proxy may have dropped it)")
    _check_version(headers)
    # 9.  The offered extensions.  Whether one is known or can be accepted is for later: such an offer is declined.
    extensions = parse_extensions(headers.get_all("Sec-WebSocket-Extensions"))
    return Upgrade(_check_key(headers), _subprotocols(headers), tuple(extensions))


def _check_version(headers: Headers) -> None:
    """6.  "A |Sec-WebSocket-Version| header field, with a value of 13."."""
    versions = headers.get_all("Sec-WebSocket-Version")
    if len(versions) != 1:
        raise HandshakeError(400, "there must be one Sec-WebSocket-Version header", [_VERSION_HEADER])
    if versions[0] != VERSION:
        # 4.2.2, 4: "abort the WebSocket handshake [...] and instead send an appropriate HTTP error code (such as 426
        # Upgrade Required) and a |Sec-WebSocket-Version| header field".
        raise HandshakeError(426, "this server speaks WebSocket version 13", [_UPGRADE_HEADER, _VERSION_HEADER])


def _check_key(headers: Headers) -> str:
    """5.  "A |Sec-WebSocket-Key| header field with a base64-encoded value that, when decoded, is 16 bytes"."""
    keys = headers.get_all("Sec-WebSocket-Key")
    if len(keys) != 1 or not _KEY.match(keys[0]):
        raise HandshakeError(400, "there must be one Sec-WebSocket-Key header, base64 of 16 bytes")
    return keys[0]


def _subprotocols(headers: Headers) -> tuple[str, ...]:
    """8.  The offered subprotocols, from any number of lines (RFC 6455 11.3.4), each a list of tokens."""
    names = [name for part in headers.combined("Sec-WebSocket-Protocol").split(",") if (name := part.strip(" \t"))]
    if not all(map(_SUBPROTOCOL.match, names)):
        raise HandshakeError(400, "a subprotocol's name is not a token")
    return tuple(dict.fromkeys(names))


def accept_key(key: str) -> str:
    """The value of Sec-WebSocket-Accept (4.2.2, point 5.4)."""
    return _accept(key).decode("ascii")


def _accept(key: str) -> bytes:
    # What base64.b64encode calls.
    return b2a_base64(sha1(key.encode("ascii") + GUID, usedforsecurity=False).digest(), newline=False)


def choose_subprotocol(
    upgrade: Upgrade, path: str, known: Mapping[str, T], paths: Mapping[str, T], default: T | None
) -> tuple[T, str | None]:
    """Decide who serves an upgrade; gives it and the subprotocol to confirm (None: the client offered none).

    The first offered name that is in `known` wins.  Who offers none gets what `paths` says for its path, else
    `default`.

    Raises:
        HandshakeError: 400, none of the offered names is known, or none was offered and there is no default.
    """
    for name in upgrade.subprotocols:
        if name in known:
            return known[name], name
    if upgrade.subprotocols:
        raise HandshakeError(400, "none of these subprotocols is served here: " + ", ".join(upgrade.subprotocols))
    found = paths.get(path, default)
    if found is None:
        raise HandshakeError(400, "ask for a subprotocol: there is none for this path and no default")
    return found, None


def parse_origin(origin: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port (the scheme's own if none is told) of an origin (RFC 6454 6.2); None: it is none."""
    match = _ORIGIN.match(origin.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    return scheme, host, int(port) if port else _DEFAULT_PORTS.get(scheme)


def origin_allowed(request: Request, allowed_origins: Iterable[str]) -> bool:
    """Reports whether the page that asks may connect: `is_allowed`, of a request."""
    origins = request.headers.get_all("Origin")
    return not origins or is_allowed(origins, request.host, allowed_origins)


def is_allowed(origins: Sequence[str], host: str, allowed_origins: Iterable[str]) -> bool:
    """Reports whether the page that asks may connect (RFC 6455 10.2): what stops a foreign page in a user's browser.

    No Origin: not a browser, allowed.  Else the origin's host must be the one that the request addresses (port and
    scheme may differ: the page may come from another server on the same machine), or the origin must be one of
    `allowed_origins`: "https://example.com", "https://example.com:8443", or "*".

    Args:
        origins: The values of its Origin headers.
        host: Whom it addresses.
    """
    if not origins:
        return True
    allowed = tuple(allowed_origins)
    if "*" in allowed:
        return True
    # "null" (a sandboxed frame, a local file) and several origins are nobody's.
    origin = parse_origin(origins[0]) if len(origins) == 1 else None
    if origin is None:
        return False
    return origin[1] == _host_name(host) or origin in map(parse_origin, allowed)


def _host_name(host: str) -> str:
    """A Host header's value without its port, in lower case; an IPv6 literal keeps its brackets."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and "]" not in port else host.lower()


def encode_101(
    accept: str,
    subprotocol: str | None = None,
    extra_headers: Iterable[tuple[str, str]] = (),
    *,
    extensions: str = "",
) -> bytes:
    """The head of the 101 answer (4.2.2, point 5).

    Args:
        extensions: The value of Sec-WebSocket-Extensions; empty: none is in use, and the header is left out.

    Raises:
        ValueError: `extra_headers` holds one that belongs to the handshake itself.
    """
    headers = Headers([("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)])
    if subprotocol is not None:
        headers.add("Sec-WebSocket-Protocol", subprotocol)
    if extensions:
        headers.add("Sec-WebSocket-Extensions", extensions)
    for name, value in extra_headers:
        if name.lower() in _RESERVED:
            raise ValueError(f"the header {name} of the 101 answer is wsd's own")
        headers.add(name, value)
    return encode_status_and_headers(101, headers)


def encode_plain_101(key: str, subprotocol: str | None) -> bytes:
    """What `encode_101` gives where no extension is in use and nobody adds a header.

    Args:
        key: What the client sent as Sec-WebSocket-Key.
        subprotocol: A token; None: none is confirmed.
    """
    if subprotocol is None:
        return b"%b%b\r\n\r\n" % (_PLAIN_101, _accept(key))
    return b"%b%b\r\nSec-WebSocket-Protocol: %b\r\n\r\n" % (_PLAIN_101, _accept(key), subprotocol.encode("ascii"))
