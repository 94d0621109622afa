"""The built-in protocol 0, `http`: the files of a listener's `static_folder`, or the built-in page.

Owns which file a path means and what is told about it (type, ETag, ranges).  How an answer travels is `http1.py`'s.

A path is walked component by component with `O_NOFOLLOW` from the open folder, so neither `..` nor a link, however
it is spelt or when it is put there, leads out of it.  Only regular files are served, and no hidden ones.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote_to_bytes

from wsd import log
from wsd.errors import HandshakeError
from wsd.protocol import Protocol
from wsd.wire.http import Request, Response, error_page

if TYPE_CHECKING:
    from wsd.context import Context
    from wsd.incoming import Menu
    from wsd.wsi import Wsi

# What is read from a file at once: as much as the role wants to have waiting for a peer.
CHUNK_BYTES: Final = 65536

# A table of our own: the one of `mimetypes` depends on the files of the machine.
TYPES: Final = {
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".flac": "audio/flac",
    ".gif": "image/gif",
    ".gz": "application/gzip",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".m4a": "audio/mp4",
    ".map": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".ogg": "audio/ogg",
    ".otf": "font/otf",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tar": "application/x-tar",
    ".toml": "application/toml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
    ".zip": "application/zip",
}
_UNKNOWN_TYPE: Final = "application/octet-stream"

# Nobody can tell these from "not there", and nobody should: a link, a socket, a name that is too long.
_NOT_FOUND: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENXIO, errno.ENAMETOOLONG, errno.EISDIR, errno.EPERM}
)

# The page draws, connects to its own server and does nothing else; its empty icon is a data URL.
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_FILES: Final = {"/": "index.html", "/style.css": "style.css", "/app.js": "app.js"}

_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})\Z", re.IGNORECASE)
_ETAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


class Http(Protocol):
    """Serves GET and HEAD: files, or the built-in page with `/protocols.json`, which tells it what it can try."""

    name = "http"

    def on_protocol_init(self, context: Context, options: Any) -> None:
        """Read the page; later the folder may be out of reach."""
        folder = Path(__file__).parent / "page"
        self._page = {path: (folder / file).read_bytes() for path, file in PAGE_FILES.items()}

    def on_http(self, wsi: Wsi, request: Request) -> Response:
        """Answer every request; LWS's `http-only` protocol."""
        try:
            # RFC 9110 9.1: "an origin server [...] MUST generate an Allow header field in a 405 response" (15.5.6).
            if request.method not in ("GET", "HEAD"):
                raise HandshakeError(405, f"{request.method} is not for what is here", [("Allow", "GET, HEAD")])
            menu = wsi.menu
            assert menu is not None  # only a server's wsi speaks HTTP
            if menu.static_folder:
                return _static(menu.static_folder, request)
            return self._built_in(menu, request)
        except HandshakeError as error:
            return error_page(error.status, error.text, error.headers)

    def _built_in(self, menu: Menu, request: Request) -> Response:
        path = request.path
        headers = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]
        if path == "/protocols.json":
            body = json.dumps(_protocols(menu)).encode()
            return Response(200, body, [*headers, ("Cache-Control", "no-store")], TYPES[".json"])
        page = self._page.get(path)
        if page is None:
            raise HandshakeError(404, f"there is nothing at {request.target}")
        etag = f'"{sha256(page).hexdigest()[:32]}"'
        headers += [("Content-Security-Policy", PAGE_POLICY), ("Cache-Control", "no-cache"), ("ETag", etag)]
        if _is_listed(request, "If-None-Match", etag, weak=True):
            return Response(304, headers=headers)
        return Response(200, page, headers, TYPES[os.path.splitext(PAGE_FILES[path])[1]])


def _protocols(menu: Menu) -> dict[str, Any]:
    """What `/protocols.json` says: the names a client can ask for, and what it gets if it asks for none."""
    return {
        "protocols": list(menu.bindings),
        "default": menu.default.protocol.name if menu.default else None,
        "paths": {path: binding.protocol.name for path, binding in menu.paths.items()},
    }


# -- files --------------------------------------------------------------------------------------------------------


class FileBody(Iterator[bytes]):
    """`length` bytes of an open file, in pieces; owns the descriptor.  Ends with an error if the file has shrunk."""

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self._fd, self._offset, self._left = fd, offset, length

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        piece = os.pread(self._fd, min(CHUNK_BYTES, self._left), self._offset)
        if not piece:
            raise OSError("the file was cut while it was being sent")
        self._offset += len(piece)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _static(folder: str, request: Request) -> Response:
    """Answer with the file that the path means."""
    parts, is_folder = _components(request)
    try:
        fd = _open(folder, [*parts, b"index.html"] if is_folder else parts)
    except IsADirectoryError:
        # Made of the decoded parts, quoted anew, with one slash in front: no path can lead to another host.
        location = "".join("/" + quote(part) for part in parts) + "/" + ("?" + request.query if request.query else "")
        raise HandshakeError(301, "the folder's address ends with a slash", [("Location", location)]) from None
    except OSError as error:
        if error.errno not in _NOT_FOUND:
            log.err("static_folder: %s: %s", request.target, error.strerror)
            raise HandshakeError(500, "the file cannot be read") from None
        raise HandshakeError(404, f"there is nothing at {request.target}") from None
    try:
        name = "index.html" if is_folder else parts[-1].decode("latin-1")
        return _file(fd, TYPES.get(os.path.splitext(name.lower())[1], _UNKNOWN_TYPE), request)
    except BaseException:
        os.close(fd)
        raise


def _components(request: Request) -> tuple[list[bytes], bool]:
    """The names on the way to a file, decoded after the slashes were found, and whether a folder is meant.

    Raises:
        HandshakeError: 404 for a name that is empty, hidden, or holds a slash or NUL.
    """
    names = [unquote_to_bytes(part) for part in request.raw_path[1:].split("/")]
    is_folder = not names[-1]
    if is_folder:
        names.pop()
    for name in names:
        # A dot in front covers `.`, `..`, and files like `.htpasswd` and `.git`.
        is_hidden = name.startswith(b".") and name != b".well-known"  # RFC 8615
        if not name or is_hidden or b"/" in name or b"\0" in name:
            raise HandshakeError(404, f"there is nothing at {request.target}")
    return names, is_folder


def _open(folder: str, names: list[bytes]) -> int:
    """Open a regular file below `folder`, following no link; `folder` itself may be one.

    Raises:
        IsADirectoryError: it is a folder.
        OSError: anything else that is no regular file, as if it were not there.
    """
    at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        # Looked at before it is opened, since to open a device can have effects; a FIFO must not make us wait.
        mode = os.lstat(names[-1], dir_fd=at).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        fd = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(fd).st_mode):  # it was changed in between
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return fd


def _file(fd: int, content_type: str, request: Request) -> Response:
    """The answer for an open file; takes over `fd`, or closes it."""
    status = os.fstat(fd)
    size = status.st_size
    etag = f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{size:x}"'
    modified = int(status.st_mtime)
    headers = [
        ("ETag", etag),
        ("Last-Modified", formatdate(modified, usegmt=True)),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "no-cache"),  # it may be kept, and is asked for anew: a change is seen at once
        ("X-Content-Type-Options", "nosniff"),
    ]
    condition = _precondition(request, etag, modified)
    part = _range(request, size, etag, modified) if condition == 200 else None
    if condition == 200 and part != (0, 0):
        first, length = part or (0, size)
        if part is not None:
            headers.append(("Content-Range", f"bytes {first}-{first + length - 1}/{size}"))
        return Response(206 if part else 200, FileBody(fd, first, length), headers, content_type, length=length)
    os.close(fd)
    if condition == 304:
        return Response(304, headers=headers)
    if condition == 412:
        return error_page(412, "the file is not the one that was meant")
    return error_page(416, f"the file has {size} bytes", [("Content-Range", f"bytes */{size}")])


def _precondition(request: Request, etag: str, modified: int) -> int:
    """Go through RFC 9110 13.2.2, in its order: 200, 304 or 412."""
    headers = request.headers
    if "If-Match" in headers:
        if not _is_listed(request, "If-Match", etag, weak=False):
            return 412
    elif (date := _date(headers.get("If-Unmodified-Since"))) is not None and modified > date:
        return 412
    if "If-None-Match" in headers:
        return 304 if _is_listed(request, "If-None-Match", etag, weak=True) else 200
    date = _date(headers.get("If-Modified-Since"))
    return 304 if date is not None and modified <= date else 200


def _is_listed(request: Request, header: str, etag: str, weak: bool) -> bool:
    """Reports whether a list of entity tags holds ours (RFC 9110 8.8.3.2); `*` is any."""
    value = request.headers.combined(header)
    if value.strip() == "*":
        return True
    return any(match[1] == etag and (weak or not match[0].startswith("W/")) for match in _ETAG.finditer(value))


def _date(text: str | None) -> int | None:
    """Seconds since the epoch of an HTTP date; None for none, or one that cannot be read (RFC 9110: it is ignored)."""
    if text is None:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def _range(request: Request, size: int, etag: str, modified: int) -> tuple[int, int] | None:
    """The part that is asked for: first byte and length; None: the whole; (0, 0): there is no such part.

    Several ranges get the whole file: "A server MAY ignore the Range header field" (RFC 9110 14.2).
    """
    match = _RANGE.match(request.headers.get("Range") or "")
    if match is None or request.method != "GET" or match[0].endswith("=-"):
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition != etag and _date(condition) != modified:
        return None
    first, last = match.groups()
    if not first:  # the last N bytes
        length = min(int(last), size)
        return (size - length, length) if length else (0, 0)
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None  # "invalid", so ignored (14.1.1)
    return (start, end - start + 1) if start < size else (0, 0)
