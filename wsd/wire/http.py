"""RFC 9112 on bytes: the heads of requests, whole or in pieces, and everything a plugin reads from them.

Pure: no socket, no clock, no log.  Request bodies are `body.py`'s, answers `response.py`'s, the opening handshake of
RFC 6455 is `handshake.py`'s; who is asked and when is `wsd/http1.py`'s.

Heads are parsed by `httptools` after the grammar of RFC 9112 has been checked here: what it is lenient about (two
spaces, HTTP/0.9, a fragment in the target, two Host lines) differs between its versions, and is how requests get
smuggled.  A head is either accepted whole or refused with a `HandshakeError`, never anything else.
"""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import parse_qs, unquote

import httptools

from wsd.errors import HandshakeError
from wsd.wire.head import find_end, header_fault
from wsd.wire.headers import TOKEN, Headers
from wsd.wire.response import Response, error_page

__all__ = ["HeadReader", "Headers", "Request", "Response", "error_page", "parse_head"]

MAX_HEAD_BYTES: Final = 16384  # what browsers and proxies send with many cookies still fits
MAX_HEADERS: Final = 100
MAX_URI_BYTES: Final = 8192  # RFC 9112 3: "support, at a minimum, request-line lengths of 8000 octets"

# The longest method that httptools knows has 11 characters; a longer first word is no HTTP.
_MAX_METHOD_BYTES: Final = 32

_REQUEST_LINE: Final = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n")
_TARGET_END: Final = re.compile(rb"[ \n]")
_ABSOLUTE: Final = re.compile(r"https?://([^/?#@]+)((?:[/?][^#]*)?)\Z", re.IGNORECASE)
# RFC 9112 3.2: Host = uri-host [ ":" port ]; empty where the target has no authority.
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]*)(?::[0-9]*)?\Z")

_METHOD_NOT_KNOWN: Final = "this server does not know the method"


class _Parsed:
    """What httptools finds in a head; it calls the `on_*` methods."""

    __slots__ = ("headers", "method", "version")

    def __init__(self, raw: bytes) -> None:
        self.headers = Headers()
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # an Upgrade header: it stops after the head, which is all that there is
        self.method = parser.get_method().decode("ascii")
        self.version = parser.get_http_version()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Straight into the list: `header_fault` has looked at both already.
        self.headers._items.append((name.decode("ascii"), value.decode("latin-1").strip(" \t")))


class Request:
    """A request's head.  Everything is read from `raw` when asked for, so that a connection keeps 0.6 kB and no dict.

    Make one with `parse_head` or `HeadReader`, which check it.
    """

    __slots__ = ("_parsed", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """The head as it arrived, from the method to the empty line."""
        # False: what is parsed is to be kept, and nothing was yet.
        self._parsed: _Parsed | Literal[False] | None = None

    def _parse(self) -> _Parsed:
        """Parse the head, or give what was kept of that."""
        parsed = self._parsed or _Parsed(self.raw)
        if self._parsed is False:
            self._parsed = parsed
        return parsed

    def keep_parsed(self, keep: bool) -> None:
        """Keep the parsed head (while a request is being answered), or drop it (once it is an idle connection's)."""
        self._parsed = self._parse() if keep else None

    def keep_when_parsed(self) -> None:
        """Keep the parsed head from when somebody first asks for something in it."""
        self._parsed = self._parsed or False

    @property
    def method(self) -> str:
        """GET, POST, ..."""
        return self._parse().method

    @property
    def http_version(self) -> str:
        """1.0 or 1.1."""
        return self._parse().version

    @property
    def headers(self) -> Headers:
        """All header fields."""
        return self._parse().headers

    @property
    def target(self) -> str:
        """The request target as it was sent."""
        start = self.raw.index(b" ") + 1
        return self.raw[start : self.raw.index(b" ", start)].decode("ascii")

    @property
    def _origin_form(self) -> str:
        """The target without scheme and authority (RFC 9112 3.2.1)."""
        absolute = _ABSOLUTE.match(self.target)
        if absolute is None:
            return self.target
        rest = absolute[2]
        return rest if rest.startswith("/") else "/" + rest

    @property
    def raw_path(self) -> str:
        """The path as it was sent, percent-encoded, without the query."""
        return self._origin_form.partition("?")[0]

    @property
    def path(self) -> str:
        """The path, percent-decoded, without the query.  It may hold any character, NUL and `..` too."""
        return unquote(self.raw_path)

    @property
    def query(self) -> str:
        """What follows the first `?`, as it was sent."""
        return self._origin_form.partition("?")[2]

    @property
    def args(self) -> dict[str, list[str]]:
        """The URL arguments, decoded: every name with all its values."""
        return parse_qs(self.query, keep_blank_values=True)

    def arg(self, name: str, default: str = "") -> str:
        """The first value of a URL argument."""
        return self.args.get(name, [default])[0]

    @property
    def host(self) -> str:
        """The name and port that the client addressed; empty if it told none (HTTP/1.0).

        "When an origin server receives a request with an absolute-form of request-target, the origin server MUST
        ignore the received Host header field (if any)" (RFC 9112 3.2.2).
        """
        absolute = _ABSOLUTE.match(self.target)
        return absolute[1] if absolute else self.headers.get("Host") or ""

    @property
    def is_upgrade(self) -> bool:
        """Reports whether this asks, rightly or wrongly, for a WebSocket.

        A Sec-WebSocket-Key alone counts: then a proxy has dropped `Upgrade`, and the answer should say so.
        Other upgrades (`h2c`) are ignored, as RFC 9110 7.8 allows.
        """
        headers = self.headers
        return "websocket" in headers.tokens("Upgrade") or "Sec-WebSocket-Key" in headers

    @property
    def keep_alive(self) -> bool:
        """Reports whether the connection outlives this request (RFC 9112 9.3)."""
        parsed = self._parse()
        options = parsed.headers.tokens("Connection")
        return "close" not in options and (parsed.version != "1.0" or "keep-alive" in options)

    @property
    def content_length(self) -> int | None:
        """The announced length of the body in bytes; None: there is no Content-Length."""
        value = self.headers.get("Content-Length")
        return None if value is None else int(value)

    @property
    def is_chunked(self) -> bool:
        """Reports whether the body is chunked."""
        return "Transfer-Encoding" in self.headers

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"


def parse_head(raw: bytes, max_headers: int = MAX_HEADERS) -> Request:
    """Check a whole head, from the method to the empty line, and wrap it.

    Raises:
        HandshakeError: 400; 431 for too many headers; 501 for an unknown method or transfer coding; 505.
    """
    line_end = check_request_line(raw)
    fault = header_fault(raw, line_end)
    if fault:
        raise HandshakeError(400, fault)
    # Counted before anything is made of them.
    if raw.count(b"\n", line_end) - 1 > max_headers:
        raise HandshakeError(431, f"more than {max_headers} header lines", option="max_headers")
    _check_transfer_encoding(raw, line_end)
    request = Request(raw)
    try:
        request.keep_parsed(True)
    except httptools.HttpParserInvalidMethodError:
        raise HandshakeError(501, _METHOD_NOT_KNOWN) from None
    except httptools.HttpParserError as error:
        raise HandshakeError(400, str(error)) from None
    _check_host(request)
    _check_content_length(request)
    return request


def check_request_line(head: bytes | bytearray) -> int:
    """Check the first line of `head`; answers where the next one starts.

    Raises:
        HandshakeError: 400, 501 or 505.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        # Also the "simple request" of HTTP/0.9, which has no version, and a second space.
        raise HandshakeError(400, "the request line is not METHOD TARGET HTTP/1.1")
    method, target, major, minor = line.groups()
    # RFC 9110 15.6.6: "refuses to support the major version"; the preface of HTTP/2 comes here too.
    if major != b"1" or minor not in b"01":
        raise HandshakeError(505, "this server speaks HTTP/1.0 and HTTP/1.1")
    if method == b"CONNECT":
        raise HandshakeError(501, "this server is no proxy")
    # RFC 6455 4.2.1 and RFC 9112 3.2.2 want the absolute form accepted; `*` is for OPTIONS, which means nothing here.
    text = target.decode("ascii")
    if not (text.startswith("/") and "#" not in text) and not _is_absolute(text):
        raise HandshakeError(400, "the request target is neither a path nor an http(s) URL")
    return line.end()


def _is_absolute(target: str) -> bool:
    absolute = _ABSOLUTE.match(target)
    return absolute is not None and _HOST.match(absolute[1]) is not None


def _check_host(request: Request) -> None:
    """RFC 9112 3.2: 400 for "any HTTP/1.1 request message that lacks a Host header field", for two, for a bad one."""
    hosts = request.headers.get_all("Host")
    if len(hosts) > 1 or (not hosts and request.http_version != "1.0"):
        raise HandshakeError(400, "there must be exactly one Host header")
    if hosts and not _HOST.match(hosts[0]):
        raise HandshakeError(400, "bad Host header")


def _check_transfer_encoding(raw: bytes, start: int) -> None:
    """RFC 9112 6.1 and 6.3: how the body ends must be beyond doubt.  Before httptools, which knows only 400 here."""
    values = re.findall(rb"(?i)(?<=\n)transfer-encoding:([^\r]*)", raw[start - 1 :])
    if not values:
        return
    codings = [coding.strip(b" \t").lower() for coding in b",".join(values).split(b",")]
    # "A server MAY reject a request that contains both Content-Length and Transfer-Encoding"; in HTTP/1.0 it "MUST
    # treat the message as if the framing is faulty".
    if b"\ncontent-length:" in raw.lower() or raw[:start].endswith(b"1.0\r\n"):
        raise HandshakeError(400, "Transfer-Encoding beside Content-Length, or in HTTP/1.0")
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
        raise HandshakeError(400, "the last transfer coding must be chunked")
    if len(codings) > 1:
        raise HandshakeError(501, "the only transfer coding known here is chunked")


def _check_content_length(request: Request) -> None:
    """RFC 9112 6.3: one Content-Length, digits only.  httptools checks the same; this does not depend on it."""
    lengths = request.headers.get_all("Content-Length")
    if len(lengths) > 1 or (lengths and not re.fullmatch("[0-9]{1,18}", lengths[0])):
        raise HandshakeError(400, "bad Content-Length")


class HeadReader:
    """Collects the head of one request after the other from pieces of any size; no byte is looked at twice.

    What it finds does not depend on how the bytes were cut.
    """

    __slots__ = ("_buffer", "_line_checked", "_scanned", "_skipped", "max_head_bytes", "max_headers", "max_uri_bytes")

    def __init__(
        self,
        max_head_bytes: int = MAX_HEAD_BYTES,
        max_headers: int = MAX_HEADERS,
        max_uri_bytes: int = MAX_URI_BYTES,
    ) -> None:
        self.max_head_bytes, self.max_headers, self.max_uri_bytes = max_head_bytes, max_headers, max_uri_bytes
        self._reset()

    def _reset(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # no bare LF and no end of the head before this
        self._skipped = 0  # empty lines before the request line
        self._line_checked = False

    @property
    def is_empty(self) -> bool:
        """Reports whether nothing of a head has arrived."""
        return not self._buffer and not self._skipped

    @property
    def held(self) -> int:
        """How many bytes of a head have arrived."""
        return len(self._buffer)

    def feed(self, data: bytes) -> tuple[Request, bytes] | None:
        """Take what arrived; once a head is complete, give it and the bytes after it, and be ready for the next.

        Raises:
            HandshakeError: what `parse_head` raises, 414 or 431.  The reader must not be fed again.
        """
        buffer = self._buffer
        buffer += data
        # "A server SHOULD ignore at least one empty line (CRLF) received prior to the request-line" (RFC 9112 2.2).
        while not self._line_checked and buffer.startswith(b"\r\n"):
            del buffer[:2]
            self._skipped += 2
            self._scanned = 0
        room = max(0, self.max_head_bytes - self._skipped)
        if not self._line_checked and buffer:
            self._check_line(room)
        try:
            end = find_end(buffer, self._scanned, room)
        except ValueError as error:
            raise HandshakeError(400, str(error)) from None
        if not end:
            if len(buffer) > room or self._skipped > self.max_head_bytes:
                text = f"the request head is larger than {self.max_head_bytes} bytes"
                raise HandshakeError(431, text, option="max_head_bytes")
            self._scanned = len(buffer)
            return None
        raw, leftover = bytes(buffer[:end]), bytes(buffer[end:])
        self._reset()
        return parse_head(raw, self.max_headers), leftover

    def _check_line(self, room: int) -> None:
        """Refuse a bad request line as soon as it is seen, without waiting for the rest of the head."""
        buffer = self._buffer
        line_end = buffer.find(b"\n", self._scanned, room)
        method_end = buffer.find(b" ", 0, min(_MAX_METHOD_BYTES + 1, line_end if line_end >= 0 else len(buffer)))
        if method_end < 0 and (line_end >= 0 or len(buffer) > _MAX_METHOD_BYTES):
            raise HandshakeError(400, "this is not HTTP")
        target = method_end + 1
        stop = target + self.max_uri_bytes + 1
        if method_end >= 0 and stop <= min(len(buffer), room) and not _TARGET_END.search(buffer, target, stop):
            text = f"the request target is longer than {self.max_uri_bytes} bytes"
            raise HandshakeError(414, text, option="max_uri_bytes")
        if line_end >= 0:
            check_request_line(buffer)
            self._line_checked = True
