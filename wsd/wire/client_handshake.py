"""The opening handshake of RFC 6455, the client's side, on bytes: sections 3 and 4.1; and the CONNECT to a proxy.

Pure: the nonce is an argument.  Who connects where, and when, is `wsd/client.py`'s; the bytes of an answer are
`reply.py`'s; what extensions mean is `extensions.py`'s.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address
from typing import Final, NamedTuple
from urllib.parse import quote

from wsd.errors import ConnectError, HandshakeError
from wsd.wire.extensions import Agreement, Settings, check_answer, parse_extensions
from wsd.wire.handshake import VERSION, accept_key, parse_origin
from wsd.wire.head import encode_head
from wsd.wire.headers import Headers, is_token
from wsd.wire.reply import SWITCHING_PROTOCOLS, Reply

NONCE_BYTES: Final = 16

_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f]")
_URL: Final = re.compile(r"(wss?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?\Z", re.IGNORECASE)
_TCP: Final = re.compile(r"(tcp|tls)://([^/?#@\x00-\x20\x7f]*:[0-9]+)/?\Z", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?\Z")
# What DNS and the hosts file can hold; `_` stands in names that containers have.
_HOST_NAME: Final = re.compile(r"[0-9a-z._-]{1,253}\Z")
# RFC 6874: an address that is good on one link only names the interface, behind an encoded percent sign.
_IPV6: Final = re.compile(r"\[([0-9a-f:.]+)(?:%25([0-9A-Za-z._~-]+))?\]\Z", re.IGNORECASE)
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# RFC 3986 3.3 and 3.4: what a path and a query may hold besides letters, digits and `_.-~`.
_LEGAL: Final = "%!$&'()*+,;=:@/?"
_DEFAULT_PORTS: Final = {False: 80, True: 443}

# What the request says by itself, or what would announce a body that it has not.
_RESERVED: Final = frozenset(
    {"host", "origin", "upgrade", "connection", "content-length", "transfer-encoding", "expect", "te"}
)
# Every field of that name is the handshake's own (RFC 6455 11.3).
_RESERVED_PREFIX: Final = "sec-websocket-"

# How much of what a server wrote is repeated in the text of an error.
_QUOTED_CHARS: Final = 200


class Target(NamedTuple):
    """Where a ws or wss URL points (RFC 6455 3)."""

    host: str
    """A name or an address in lower case; an IPv6 address without brackets, with `%interface` where that is needed."""
    port: int
    secure: bool
    resource: str
    """The path and the query, as they stand in the request line."""
    host_header: str
    """The value of the Host header: the port is in it unless it is the scheme's own."""


def parse_url(url: str) -> Target:
    """Take a ws or wss URL apart.

    What is not ASCII is encoded: the host by IDNA, path and query as UTF-8 in percent signs (RFC 3987 3.1), and with
    them the other characters that a URL cannot hold.

    Raises:
        ValueError: it is none.  The text does not repeat the URL, which may hold a password.
    """
    # 4.1, 1: "If any of the components are invalid, the client MUST _Fail the WebSocket Connection_".
    if _FORBIDDEN.search(url):
        raise ValueError("space or control character in the URL")
    match = _URL.match(url)
    if match is None:
        raise ValueError("a WebSocket's URL begins with ws:// or wss://")
    scheme, authority, path, query, fragment = match.groups()
    if fragment is not None:
        # 3: "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used on these URIs."
        raise ValueError("a WebSocket's URL has no fragment; a # that belongs to it is written %23")
    if "@" in authority:
        raise ValueError("no user or password in a WebSocket's URL: send an Authorization header")
    secure = scheme.lower() == "wss"
    host, written, port = _parse_authority(authority, _DEFAULT_PORTS[secure])
    resource = _encode(path or "/")
    if query:
        # 3: "?" if the query component is non-empty"; an empty one leaves no trace.
        resource += "?" + _encode(query)
    host_header = written if port == _DEFAULT_PORTS[secure] else f"{written}:{port}"
    return Target(host, port, secure, resource, host_header)


def is_tcp(url: str) -> bool:
    """Reports whether a URL is one of a raw connection: bytes, and no HTTP at all."""
    return url[:6].lower() in ("tcp://", "tls://")


def parse_tcp(url: str) -> Target:
    """Take a `tcp://host:port` or `tls://host:port` URL apart; what it has of a `Target` is host, port and secure.

    Raises:
        ValueError: it is none.
    """
    match = _TCP.match(url)
    if match is None:
        raise ValueError("tcp://host:port or tls://host:port is wanted, and nothing behind it")
    host, written, port = _parse_authority(match[2], 0)
    return Target(host, port, match[1].lower() == "tls", "", f"{written}:{port}")


def _parse_authority(authority: str, default_port: int) -> tuple[str, str, int]:
    """The host to resolve, the host as it is written in a header, and the port."""
    match = _AUTHORITY.match(authority)
    if match is None:
        raise ValueError("after the URL's host comes nothing, or a colon and a port; an IPv6 address stands in []")
    host, digits = match.groups()
    if not host:
        raise ValueError("the URL has no host")
    # RFC 3986 3.2.3: *DIGIT, so the port may be empty or have leading zeros; six digits more are too many already.
    port = int(digits.lstrip("0")[:6] or "0") if digits else default_port
    if not 1 <= port <= 65535:
        raise ValueError("the URL's port is not from 1 to 65535")
    if host.startswith("["):
        return *_parse_ipv6(host), port
    name = _encode_host(host)
    return name, name, port


def _parse_ipv6(host: str) -> tuple[str, str]:
    match = _IPV6.match(host)
    try:
        address = IPv6Address(match[1] if match else "").compressed
    except ValueError:
        raise ValueError("what stands in [] in the URL is no IPv6 address") from None
    zone = match[2] if match else None
    # RFC 6874 4: a client "MUST remove any ZoneID attached to an outgoing URI, as it has only local significance".
    return f"{address}%{zone}" if zone else address, f"[{address}]"


def _encode_host(host: str) -> str:
    """A name in the form that DNS holds.  Looked at afterwards: IDNA makes ASCII, slashes too, of some characters."""
    try:
        name = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    if not _HOST_NAME.match(name):
        raise ValueError("the URL's host is not a name")
    return name


def _encode(part: str) -> str:
    """A path or a query with everything encoded that a URL cannot hold as it is."""
    if _BAD_PERCENT.search(part):
        raise ValueError("a % in the URL is not followed by two hexadecimal digits; a % itself is written %25")
    try:
        return quote(part, safe=_LEGAL)
    except UnicodeEncodeError:
        raise ValueError("the URL holds half a surrogate pair, which is no character") from None


def new_key(nonce: bytes) -> str:
    """The value of Sec-WebSocket-Key for 16 random bytes.

    4.1, 7: "a nonce consisting of a randomly selected 16-byte value that has been base64-encoded", "selected randomly
    for each connection".

    Raises:
        ValueError: `nonce` has another length.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes, found {len(nonce)}")
    return b64encode(nonce).decode("ascii")


def encode_request(
    target: Target,
    key: str,
    *,
    subprotocols: Sequence[str] = (),
    extensions: str = "",
    origin: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """The opening handshake (4.1, second list, 1 to 12).

    Args:
        target: What `parse_url` gave.
        key: What `new_key` gave.
        subprotocols: What is offered, best first; empty: the header is left out.
        extensions: The value of Sec-WebSocket-Extensions; empty: it is left out.
        origin: Scheme, host and port of the page that a browser would have loaded; None: we are no browser.
        headers: What else to send: cookies, Authorization, ...

    Raises:
        ValueError: a bad or repeated subprotocol, a bad origin, a bad header, or one that belongs to the handshake.
        TypeError: `subprotocols` is a string.
    """
    fields = Headers([("Host", target.host_header), ("Upgrade", "websocket"), ("Connection", "Upgrade")])
    fields.add("Sec-WebSocket-Key", key)
    # 9.  "The value of this header field MUST be 13."
    fields.add("Sec-WebSocket-Version", VERSION)
    if origin is not None:
        fields.add("Origin", _check_origin(origin))
    if subprotocols:
        fields.add("Sec-WebSocket-Protocol", ", ".join(_check_subprotocols(subprotocols)))
    if extensions:
        fields.add("Sec-WebSocket-Extensions", extensions)
    for name, value in headers:
        lower = name.lower()
        if lower in _RESERVED or lower.startswith(_RESERVED_PREFIX):
            raise ValueError(f"the header {name} of the opening handshake comes from the URL and the arguments")
        fields.add(name, value)
    # 2 and 3.  "The method of the request MUST be GET, and the HTTP version MUST be at least 1.1."
    return encode_head(f"GET {target.resource} HTTP/1.1", fields)


def _check_origin(origin: str) -> str:
    """8.  "The value of this header field is the ASCII serialization of origin" (RFC 6454 6.2)."""
    if origin != "null" and parse_origin(origin) is None:
        raise ValueError(f'an origin is like "https://example.com", without a path; found {origin!r}')
    return origin


def _check_subprotocols(names: Sequence[str]) -> Sequence[str]:
    """10.  Names that are "non-empty strings" of token characters, and "MUST all be unique strings"."""
    if isinstance(names, str):
        raise TypeError(f"subprotocols is a sequence of names, found the string {names!r}")
    for name in names:
        if not is_token(name):
            raise ValueError(f"not a subprotocol's name: {name!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"a subprotocol is offered twice: {', '.join(names)}")
    return names


def encode_connect(target: Target, authorization: str | None = None) -> bytes:
    """What asks an HTTP proxy for a way to `target` (4.1, 3; RFC 9110 9.3.6).

    `authorization` is the value of Proxy-Authorization, see `basic_authorization`.

    Raises:
        ValueError: a control character in `authorization`.
    """
    # RFC 9110 9.3.6: "The client MUST send the port number even if the CONNECT request is based on a URI reference that
    # contains an authority component with an elided port".
    address = target.host.partition("%")[0]
    authority = f"[{address}]:{target.port}" if ":" in address else f"{address}:{target.port}"
    fields = Headers([("Host", authority)])
    if authorization is not None:
        fields.add("Proxy-Authorization", authorization)
    return encode_head(f"CONNECT {authority} HTTP/1.1", fields)


def basic_authorization(user: str, password: str) -> str:
    """The value of an Authorization or Proxy-Authorization header (RFC 7617 2).

    Raises:
        ValueError: `user` holds a colon ("a user-id containing a colon character is invalid").
    """
    if ":" in user:
        raise ValueError("a colon in a user's name")
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")


def check_reply(
    reply: Reply, key: str, subprotocols: Sequence[str], settings: Settings | None
) -> tuple[str | None, Agreement | None]:
    """Check an answer against RFC 6455 4.1, last list, point by point; gives what was agreed on.

    Args:
        reply: The final head that the server sent.
        key: What stood in the request, like
        subprotocols: and
        settings: (None: no extension was offered).

    Returns:
        The subprotocol (None: the server named none, which it may), and the compression (None: none).

    Raises:
        ConnectError: cause "status", "reply", "accept", "subprotocol" or "extension".
    """
    # 1.  "If the status code received from the server is not 101, the client handles the response per HTTP [RFC2616]
    # procedures."
    if reply.status != SWITCHING_PROTOCOLS:
        raise ConnectError("status", _status_text(reply), status=reply.status)
    # 4.2.2, 5.1: "A Status-Line with a 101 response code as per RFC 2616", which HTTP/1.0 has not (RFC 9110 15.2).
    if reply.http_version == "1.0":
        raise _fault("reply", "it is in HTTP/1.0, which knows no 101")
    headers = reply.headers
    _check_upgrade(headers)
    _check_accept(headers, key)
    return _check_subprotocol(headers, subprotocols), _check_extensions(headers, settings)


def _fault(cause: str, text: str) -> ConnectError:
    return ConnectError(cause, f"the server answered 101, but {text}", status=SWITCHING_PROTOCOLS)


def _quoted(text: str) -> str:
    """What a server wrote, in a text of ours: not all of it, and nothing that a terminal would act upon."""
    cut = text[:_QUOTED_CHARS]
    return ascii(cut) + ("..." if len(text) > len(cut) else "")


def _status_text(reply: Reply) -> str:
    """What a refusal says, and what it says to do instead."""
    text = f"the server answered {reply.status}"
    if reply.reason:
        text += f" {_quoted(reply.reason)[1:-1]}"
    location = reply.headers.get("Location")
    if location and 300 <= reply.status < 400:
        # "clients are not required to follow them"; we do not: another host is not who was asked for.
        text += f", which points to {_quoted(location)}"
    versions = reply.headers.combined("Sec-WebSocket-Version")
    if versions:
        text += f"; it speaks WebSocket version {_quoted(versions)}"  # 4.4
    return text


def _check_upgrade(headers: Headers) -> None:
    """2 and 3.  The answer is one to the question that was asked."""
    # "If the response lacks an |Upgrade| header field or the |Upgrade| header field contains a value that is not an
    # ASCII case-insensitive match for the value "websocket", the client MUST _Fail the WebSocket Connection_."
    if [value.lower() for value in headers.get_all("Upgrade")] != ["websocket"]:
        raise _fault("reply", "without an Upgrade header that says websocket and nothing else")
    # "If the response lacks a |Connection| header field or the |Connection| header field doesn't contain a token that
    # is an ASCII case-insensitive match for the value "Upgrade", the client MUST _Fail the WebSocket Connection_."
    if "upgrade" not in headers.tokens("Connection"):
        raise _fault("reply", "its Connection header does not name Upgrade")


def _check_accept(headers: Headers, key: str) -> None:
    """4.  Who answers has read this request: no cache, and no server of another protocol."""
    values = headers.get_all("Sec-WebSocket-Accept")
    # 11.3.3: "The |Sec-WebSocket-Accept| header MUST NOT appear more than once in an HTTP response."
    if len(values) != 1:
        raise _fault("accept", f"with {len(values)} Sec-WebSocket-Accept headers in the place of one")
    # "or the |Sec-WebSocket-Accept| contains a value other than the base64-encoded SHA-1 [...] but ignoring any leading
    # and trailing whitespace, the client MUST _Fail the WebSocket Connection_."
    if values[0] != accept_key(key):
        raise _fault("accept", f"its Sec-WebSocket-Accept {_quoted(values[0])} is not the one for our key")


def _check_subprotocol(headers: Headers, subprotocols: Sequence[str]) -> str | None:
    """6.  At most one subprotocol, and one that was offered; names are compared with their case."""
    values = headers.get_all("Sec-WebSocket-Protocol")
    if not values:
        return None
    # 11.3.4: "The |Sec-WebSocket-Protocol| header field MUST NOT appear more than once in an HTTP response."
    if len(values) > 1:
        raise _fault("subprotocol", f"with {len(values)} Sec-WebSocket-Protocol headers")
    # "If [...] this header field indicates the use of a subprotocol that was not present in the client's handshake
    # [...], the client MUST _Fail the WebSocket Connection_."
    if values[0] not in subprotocols:
        raise _fault("subprotocol", f"it chose the subprotocol {_quoted(values[0])}, which was not offered")
    return values[0]


def _check_extensions(headers: Headers, settings: Settings | None) -> Agreement | None:
    """5.  Only what was offered, and so as it was offered."""
    values = headers.get_all("Sec-WebSocket-Extensions")
    if not values:
        return None
    # 11.3.2: "the |Sec-WebSocket-Extensions| header field MUST NOT appear more than once in an HTTP response."
    if len(values) > 1:
        raise _fault("extension", f"with {len(values)} Sec-WebSocket-Extensions headers")
    try:
        answers = parse_extensions(values)
    except HandshakeError as error:
        # 9.1: a value that does not conform to the ABNF: "MUST immediately _Fail the WebSocket Connection_".
        raise _fault("extension", f"its Sec-WebSocket-Extensions cannot be read: {error.text}") from None
    return check_answer(answers, settings)
