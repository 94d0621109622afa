"""Answers to HTTP requests: `Response`, its head on the wire, and the pages that tell a peer what was wrong.

Pure: a date is an argument.  When an answer is sent, and how its body is pulled, is `wsd/http1.py`'s.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from http import HTTPStatus
from typing import Final

from wsd.wire.head import encode_head
from wsd.wire.headers import Headers


def _reason(status: int) -> str:
    """The phrase of a status; empty for one that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


Body = str | bytes | Iterator[bytes]

# What frames a body is decided here and never by who made the answer: that is the other half of smuggling.
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection"})
_BODILESS: Final = frozenset({204, 304})  # RFC 9110 6.4.1


class Response:
    """An answer to a request.

    Args:
        status: 200 to 599.
        body: Text (sent as UTF-8), bytes, or an iterator of bytes that is pulled only as fast as the peer reads.
        headers: Pairs of name and value.
        content_type: Without one, text is `text/plain`, bytes are `application/octet-stream`.
        length: Bytes in an iterator's or stream's body; None: not known, it is sent chunked.
        stream: The body comes from `on_http_writeable`.

    Raises:
        ValueError: a bad status or header, a body that does not go with the status, a header that wsd sets itself
            (Content-Length, Transfer-Encoding, Connection).
    """

    __slots__ = ("body", "headers", "length", "status", "stream")

    is_response: Final = True
    """What tells it from the other answers of a hook, where this class is not known."""

    def __init__(
        self,
        status: int = 200,
        body: Body = b"",
        headers: Iterable[tuple[str, str]] = (),
        content_type: str | None = None,
        length: int | None = None,
        stream: bool = False,
    ) -> None:
        if not 200 <= status <= 599:
            raise ValueError(f"a response's status is 200 to 599, found {status}")
        self.status = int(status)
        self.headers = Headers(headers)
        framing = sorted(_FRAMING & {name.lower() for name, _ in self.headers})
        if framing:
            raise ValueError(f"wsd sets {framing[0]} itself; use length= for a body that is an iterator")
        if content_type is not None:
            self.headers.set("Content-Type", content_type)
        self.body: bytes | Iterator[bytes]
        if isinstance(body, str):
            self._default_type("text/plain; charset=utf-8")
            self.body = body.encode()
        elif isinstance(body, bytes) or hasattr(body, "__next__"):
            self.body = body
        else:
            raise ValueError(f"a body is str, bytes or an iterator of bytes, found {type(body).__name__}")
        if isinstance(self.body, bytes) and not stream:
            if length is not None and length != len(self.body):
                raise ValueError(f"length={length}, but the body has {len(self.body)} bytes")
            length = len(self.body)
        if length is not None and length < 0:
            raise ValueError(f"length={length}")
        if stream and self.body:
            raise ValueError("a streamed response has no body of its own; write it in on_http_writeable")
        if status in _BODILESS and (stream or length != 0):
            raise ValueError(f"a response with status {status} has no body")
        if length != 0:
            self._default_type("application/octet-stream")
        self.length, self.stream = length, stream

    def _default_type(self, content_type: str) -> None:
        if "Content-Type" not in self.headers:
            self.headers.add("Content-Type", content_type)

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.length} B>"


def encode_status_and_headers(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """A response's head.  The headers come from a `Headers`, which has checked them."""
    return encode_head(f"HTTP/1.1 {status} {_reason(status)}", headers)


def encode_response_head(
    response: Response,
    *,
    http_version: str = "1.1",
    keep_alive: bool = True,
    date: str = "",
    more: Iterable[tuple[str, str]] = (),
) -> tuple[bytes, bool, bool]:
    """The head of an answer, and how its body goes: (head, is chunked, connection stays open).

    Args:
        more: Headers that every answer gets here.
    """
    headers = Headers()
    if date:
        headers.add("Date", date)
    for name, value in more:
        headers.add(name, value)
    for name, value in response.headers:
        headers.add(name, value)
    chunked = False
    if response.length is not None:
        # RFC 9110 8.6: "MUST NOT send a Content-Length header field in any response with a status code of 204".
        if response.status not in _BODILESS:
            headers.add("Content-Length", str(response.length))
    elif http_version == "1.0":
        keep_alive = False  # only the end of the connection can end the body
    else:
        chunked = True
        headers.add("Transfer-Encoding", "chunked")
    options = [] if "Upgrade" not in headers else ["Upgrade"]  # RFC 9110 7.8: an Upgrade must be named there
    if not keep_alive:
        options.append("close")
    elif http_version == "1.0":
        options.append("keep-alive")
    if options:
        headers.add("Connection", ", ".join(options))
    return encode_status_and_headers(response.status, headers), chunked, keep_alive


def encode_chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112 7.1); nothing for no data, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK: Final = b"0\r\n\r\n"

_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1.5rem}"
    "h1{font-size:1.5rem;font-weight:600}p{overflow-wrap:anywhere}"
)
# The pages allow nothing but the one style sheet that they carry.
PAGE_HEADERS: Final = (
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)


def _escape(text: str) -> str:
    """As `html.escape`: that module has a table of 2000 names besides, which costs a start a millisecond."""
    for letter, name in ("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot"), ("'", "#x27"):
        text = text.replace(letter, f"&{name};")
    return text


def error_page(status: int, text: str = "", headers: Iterable[tuple[str, str]] = ()) -> Response:
    """A small readable page; `text` may hold what a peer sent, it is escaped."""
    title = _escape(f"{status} {_reason(status)}".strip())
    paragraph = f"<p>{_escape(text)}</p>\n" if text else ""
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{paragraph}</body>\n</html>\n"
    )
    all_headers = (*headers, *PAGE_HEADERS, ("Cache-Control", "no-store"))
    body: bytes = b"" if status in _BODILESS else page.encode("utf-8", "backslashreplace")
    return Response(status, body, all_headers, "text/html; charset=utf-8" if body else None)
