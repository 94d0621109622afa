"""`wsd.web`: which file a path means, what is told about it, and what the built-in page is served with."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wsd.binding import bind_hooks
from wsd.web import CHUNK_BYTES, PAGE_FILES, TYPES, FileBody, Http
from wsd.wire.http import Response, parse_head

SECRET = b"root:x:0:0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A static folder with every kind of thing in it, and a secret beside it."""
    (tmp_path / "secret.txt").write_bytes(SECRET)
    root = tmp_path / "www"
    root.mkdir()
    (root / "index.html").write_text("<p>root</p>")
    (root / "a b.txt").write_bytes(b"0123456789")
    (root / "\xe4.txt").write_bytes(b"umlaut")
    (root / "empty.txt").touch()
    (root / "noext").touch()
    (root / ".htpasswd").write_bytes(SECRET)
    (root / ".well-known").mkdir()
    (root / ".well-known" / "x").write_bytes(b"known")
    (root / "sub").mkdir()
    (root / "sub" / "index.html").write_text("<p>sub</p>")
    (root / "bare").mkdir()
    (root / ".git").mkdir()
    (root / ".git" / "config").write_bytes(SECRET)
    (root / "\\evil.example").mkdir()
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "inside.txt").symlink_to(root / "a b.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "linked").mkdir()
    (root / "linked" / "index.html").symlink_to(tmp_path / "secret.txt")
    (root / "real.txt").write_bytes(b"real")
    (root / "real.txt.gz").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(root / "fifo")
    return root


class Answer:
    """A response, its body read."""

    def __init__(self, response: Response) -> None:
        self.status, self.headers, self.length = response.status, response.headers, response.length
        body: Any = response.body
        self.body: bytes = body if isinstance(body, bytes) else b"".join(body)
        if not isinstance(body, bytes):
            body.close()
        assert self.length == len(self.body) or not self.length


def ask(folder: Path | None, target: str, *headers: str, method: str = "GET") -> Answer:
    http = Http()
    http.on_protocol_init(None, None)  # type: ignore[arg-type]
    echo = SimpleNamespace(protocol=SimpleNamespace(name="echo"))
    menu = SimpleNamespace(
        static_folder=str(folder or ""), bindings={"echo": echo}, default=echo, paths={"/chat": echo}
    )
    wsi: Any = SimpleNamespace(menu=menu, tag="test#1")
    raw = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: a", *headers, "", ""])
    return Answer(http.on_http(wsi, parse_head(raw.encode("latin-1"))))


def test_it_is_a_good_protocol() -> None:
    assert bind_hooks(Http()).on_http is not None


@pytest.mark.parametrize(
    ("target", "body", "content_type"),
    [
        ("/", b"<p>root</p>", "text/html; charset=utf-8"),
        ("/index.html", b"<p>root</p>", "text/html; charset=utf-8"),
        ("/?x=/../", b"<p>root</p>", "text/html; charset=utf-8"),
        ("/sub/", b"<p>sub</p>", "text/html; charset=utf-8"),
        ("/%73ub/", b"<p>sub</p>", "text/html; charset=utf-8"),
        ("/a%20b.txt", b"0123456789", "text/plain; charset=utf-8"),
        ("/%C3%A4.txt", b"umlaut", "text/plain; charset=utf-8"),
        ("/noext", b"", "application/octet-stream"),
        ("/.well-known/x", b"known", "application/octet-stream"),
        ("http://other.example/sub/", b"<p>sub</p>", "text/html; charset=utf-8"),
    ],
)
def test_files(folder: Path, target: str, body: bytes, content_type: str) -> None:
    answer = ask(folder, target)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers.get("Content-Type") == content_type
    assert answer.headers.get("X-Content-Type-Options") == "nosniff"


@pytest.mark.parametrize(
    "target",
    [
        *("/nothing", "/sub/nothing", "/nothing/", "/bare/", "/index.html/", "/index.html/x"),
        *("/../secret.txt", "/sub/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/%2e%2e%2fsecret.txt"),
        *("/sub/..%2f..%2fsecret.txt", "/..%5csecret.txt", "/%252e%252e/secret.txt", "/.", "/./index.html"),
        *("//etc/passwd", "//", "/sub//index.html", "/%2fetc/passwd", "/%2f", "/sub%2findex.html"),
        *("/index.html%00", "/%00", "/secret.txt%00.html", "/a%20b.txt%00"),
        *("/link.txt", "/inside.txt", "/up/secret.txt", "/up/", "/up", "/linked/", "/real.txt.gz"),
        *("/.htpasswd", "/.git/config", "/%2egit/config", "/.git", "/.git/"),
        *("/fifo", "/fifo/", "/" + "x" * 300, "/%c3%28", "/%zz"),
    ],
)
def test_what_is_not_there_or_none_of_their_business(folder: Path, target: str) -> None:
    answer = ask(folder, target)
    assert answer.status == 404
    assert SECRET not in answer.body


def test_a_socket_or_an_unreadable_file_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(folder)  # a path that is short enough for a socket
        listening.bind("sock")
        assert ask(folder, "/sock").status == 404
    real_open = os.open

    def refuse(path: Any, *arguments: Any, **keywords: Any) -> int:
        if path == b"real.txt":
            raise PermissionError(13, "Permission denied")
        return real_open(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refuse)
    assert ask(folder, "/real.txt").status == 404


def test_a_folder_that_vanished(folder: Path) -> None:
    assert ask(folder / "gone", "/").status == 404


def test_the_static_folder_itself_may_be_a_link(folder: Path) -> None:
    link = folder.parent / "current"
    link.symlink_to(folder)
    assert ask(link, "/real.txt").body == b"real"


def test_an_error_of_the_disk_is_ours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **keywords: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", fail)
    assert ask(folder, "/real.txt").status == 500


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/sub", "/sub/"),
        ("/sub?a=b", "/sub/?a=b"),
        ("/%73ub", "/sub/"),
        ("/\\evil.example", "/%5Cevil.example/"),
        ("http://other.example/sub", "/sub/"),
    ],
)
def test_a_folder_without_its_slash_is_redirected_and_never_to_another_host(
    folder: Path, target: str, location: str
) -> None:
    answer = ask(folder, target)
    assert (answer.status, answer.headers.get("Location")) == (301, location)
    assert re.match(r"/[^/\\]", location)


@pytest.mark.parametrize("where", [True, False])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods(folder: Path, where: bool, method: str) -> None:
    answer = ask(folder if where else None, "/", method=method)
    assert (answer.status, answer.headers.get("Allow")) == (405, "GET, HEAD")


def test_a_path_in_a_page_is_escaped(folder: Path) -> None:
    for where in (folder, None):
        answer = ask(where, '/"><script>alert(1)</script>')
        assert answer.status == 404
        assert b"&lt;script" in answer.body
        assert b"<script" not in answer.body
        assert "default-src 'none'" in (answer.headers.get("Content-Security-Policy") or "")


# -- conditions (RFC 9110 section 13) ---------------------------------------------------------------------------------

MODIFIED = 1_000_000_000


def dated(seconds: int) -> str:
    return formatdate(MODIFIED + seconds, usegmt=True)


@pytest.fixture
def etag(folder: Path) -> str:
    os.utime(folder / "a b.txt", (MODIFIED, MODIFIED))
    found = ask(folder, "/a%20b.txt").headers.get("ETag")
    assert found is not None
    assert re.fullmatch(r'"[!#-~]+"', found)
    return found


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["If-None-Match: ETAG"], 304),
        (["If-None-Match: W/ETAG"], 304),
        (['If-None-Match: "x", ETAG'], 304),
        (['If-None-Match: "x"', "If-None-Match: ETAG"], 304),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "x"'], 200),
        (["If-None-Match: garbage"], 200),
        (["If-Modified-Since: " + dated(0)], 304),
        (["If-Modified-Since: " + dated(1)], 304),
        (["If-Modified-Since: " + dated(-1)], 200),
        (["If-Modified-Since: yesterday"], 200),
        (["If-Modified-Since: Mon, 99 Foo 99999 99:99:99 GMT"], 200),
        (['If-None-Match: "x"', "If-Modified-Since: " + dated(0)], 200),  # 13.1.3: "MUST ignore"
        (["If-Match: ETAG"], 200),
        (["If-Match: *"], 200),
        (["If-Match: W/ETAG"], 412),
        (['If-Match: "x"'], 412),
        (["If-Unmodified-Since: " + dated(0)], 200),
        (["If-Unmodified-Since: " + dated(-1)], 412),
        (["If-Match: ETAG", "If-Unmodified-Since: " + dated(-1)], 200),
    ],
)
def test_conditions(folder: Path, etag: str, headers: list[str], status: int) -> None:
    answer = ask(folder, "/a%20b.txt", *(header.replace("ETAG", etag) for header in headers))
    assert answer.status == status
    assert answer.body == (b"0123456789" if status == 200 else b"") or status == 412
    if status == 304:
        assert answer.headers.get("ETag") == etag
        assert answer.headers.get("Last-Modified") == dated(0)


def test_the_etag_changes_with_the_file(folder: Path, etag: str) -> None:
    (folder / "a b.txt").write_bytes(b"9876543210")
    assert ask(folder, "/a%20b.txt").headers.get("ETag") != etag


# -- ranges (RFC 9110 section 14) ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("range_", "status", "body", "content_range"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("Bytes=2-", 206, b"23456789", "bytes 2-9/10"),
        ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-100", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=10-20", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=a-b", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=0-" + "9" * 100, 200, b"0123456789", None),
    ],
)
def test_ranges(folder: Path, range_: str, status: int, body: bytes | None, content_range: str | None) -> None:
    answer = ask(folder, "/a%20b.txt", f"Range: {range_}")
    assert (answer.status, answer.headers.get("Content-Range")) == (status, content_range)
    assert body is None or answer.body == body


@pytest.mark.parametrize(
    ("condition", "status"),
    [("ETAG", 206), ("W/ETAG", 200), ('"x"', 200), (dated(0), 206), (dated(1), 200), ("garbage", 200)],
)
def test_if_range(folder: Path, etag: str, condition: str, status: int) -> None:
    condition = condition.replace("ETAG", etag)
    assert ask(folder, "/a%20b.txt", "Range: bytes=1-2", f"If-Range: {condition}").status == status


def test_ranges_are_for_get_and_come_after_conditions(folder: Path, etag: str) -> None:
    assert ask(folder, "/a%20b.txt", "Range: bytes=1-2", method="HEAD").status == 200
    assert ask(folder, "/a%20b.txt", "Range: bytes=1-2", f"If-None-Match: {etag}").status == 304
    assert ask(folder, "/empty.txt", "Range: bytes=0-").status == 416
    assert ask(folder, "/empty.txt").status == 200


# -- the body --------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(folder: Path) -> Iterator[int]:
    fd = os.open(folder / "a b.txt", os.O_RDONLY)
    yield fd
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_a_file_is_read_in_pieces(folder: Path) -> None:
    (folder / "big").write_bytes(bytes(range(256)) * 1024)
    body = FileBody(os.open(folder / "big", os.O_RDONLY), 5, 2 * CHUNK_BYTES + 7)
    assert list(map(len, body)) == [CHUNK_BYTES, CHUNK_BYTES, 7]
    body.close()


def test_a_descriptor_is_closed_once(opened: int) -> None:
    body = FileBody(opened, 0, 10)
    next(body)
    body.close()
    body.close()


def test_a_file_that_shrinks_is_an_error(folder: Path, opened: int) -> None:
    body = FileBody(opened, 0, 10)
    os.truncate(folder / "a b.txt", 0)
    with pytest.raises(OSError, match="cut"):
        next(body)
    body.close()


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_and_its_policy() -> None:
    for path, file in PAGE_FILES.items():
        answer = ask(None, path)
        assert answer.status == 200
        assert answer.headers.get("Content-Type") == TYPES[Path(file).suffix]
        policy = answer.headers.get("Content-Security-Policy") or ""
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy
        etag = answer.headers.get("ETag")
        assert ask(None, path, f"If-None-Match: {etag}").status == 304


def test_what_the_page_can_ask_for() -> None:
    answer = ask(None, "/protocols.json")
    assert json.loads(answer.body) == {"protocols": ["echo"], "default": "echo", "paths": {"/chat": "echo"}}
    assert answer.headers.get("Content-Type") == "application/json"
    assert answer.headers.get("Cache-Control") == "no-store"


@pytest.mark.parametrize("target", ["/index.html", "/page", "/style.css/", "//", "/%2e%2e/web.py", "/favicon.ico"])
def test_the_page_is_all_there_is(target: str) -> None:
    assert ask(None, target).status == 404


def test_a_static_folder_replaces_the_page(folder: Path) -> None:
    assert ask(folder, "/protocols.json").status == 404
    assert ask(folder, "/").body == b"<p>root</p>"


def test_the_page_needs_nobody_else_and_no_exception_from_its_policy() -> None:
    html = ask(None, "/").body.decode()
    script = ask(None, "/app.js").body.decode()
    style = ask(None, "/style.css").body.decode()
    assert not re.search(r"(?:src|href|action)=\"(?!style\.css|app\.js|data:,)", html)
    assert not re.search(r"\s(?:style|on[a-z]+)=", html), "inline styles and handlers are refused by the policy"
    assert "url(" not in style
    assert "@import" not in style
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert sink not in script
    # Every element that the script looks for is there.
    wanted = set(re.findall(r'byId\("([a-z-]+)"\)', script)) | set(re.findall(r'"(console-[a-z]+(?:-form)?)"', script))
    assert wanted <= set(re.findall(r'id="([a-z-]+)"', html))
