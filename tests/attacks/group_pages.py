"""Pages and paths: foreign pages in a browser, files that are not to be served, and text that is not to be believed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from tests.attacks.attempt import Attempt, counted, responses
from tests.attacks.model import Attack, Group, Setup
from tests.support.client import CLOSE, Client, HttpResponse, close_frame, frame, upgrade_request

SECRET: Final = b"root:x:0:0"

_ORIGIN = "INFO <tag>: Origin <*> is neither the Host 127.0.0.1 nor in allowed_origins"


def origins(*values: str) -> Callable[[Attempt], str]:
    """An upgrade from each; several in one text, with commas between them, are several header lines."""

    def play(attempt: Attempt) -> str:
        told = []
        for value in values:
            lines = "".join(f"Origin: {origin}\r\n" for origin in value.split(",") if origin)
            client = attempt.client()
            client.send(upgrade_request().removesuffix(b"\r\n"), lines.encode(), b"\r\n", close_frame(1000))
            told.append(responses(client))
        return counted(told)

    return play


ALLOWED: Final = Setup("allowed origins", listen=('port = 0\nallowed_origins = ["https://good.example"]',))

ORIGINS: Final = (
    Attack(
        "Origin: http://evil.example, null, http://127.0.0.1.evil.example, http://evil.example/127.0.0.1",
        "4 x 403, end",
        origins("http://evil.example", "null", "http://127.0.0.1.evil.example", "http://evil.example/127.0.0.1"),
        (_ORIGIN, "INFO <tag>: refused with 403 pages of this origin may not connect here"),
        "CVE-2026-44211, CVE-2026-59390, CVE-2020-14368, GHSA-frjg-g767-7363; CWE-1385",
    ),
    Attack(
        "two Origin, of which one is allowed; http://user@127.0.0.1; an empty one",
        "3 x 403, end",
        origins("http://127.0.0.1,http://evil.example", "http://user@127.0.0.1", " "),
        (_ORIGIN,),
        "CWE-1385",
    ),
    Attack(
        'beside `allowed_origins = ["https://good.example"]`: https://good.example.evil.example, '
        "http://good.example, https://good.example:8443, https://evilgood.example",
        "4 x 403, end",
        origins(
            "https://good.example.evil.example",
            "http://good.example",
            "https://good.example:8443",
            "https://evilgood.example",
        ),
        (_ORIGIN,),
        "CWE-1385",
        ALLOWED,
    ),
    Attack(
        "no Origin, which no browser does; the page's own; one that is allowed",
        "3 x 101, Close 1000, end",
        origins("", "http://127.0.0.1:8080", "HTTPS://good.example:443"),
        setup=ALLOWED,
    ),
)


# -- files ------------------------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """A folder to be served, and all around it and in it what is not."""
    (folder / "secret").write_bytes(SECRET)
    root = folder / "root"
    (root / "folder").mkdir(parents=True)
    (root / "index.html").write_text("served")
    (root / "big").write_bytes(bytes(8 << 20))
    (root / "style.css").write_text("served")
    (root / ".htpasswd").write_bytes(SECRET)
    (root / "link").symlink_to(folder / "secret")
    (root / "style.css.gz").symlink_to(folder / "secret")
    (root / "up").symlink_to(folder)
    (root / "dangling").symlink_to(root / "nowhere")
    (root / "loop").symlink_to("loop")
    (root / "folder" / "index.html").symlink_to(folder / "secret")
    os.mkfifo(root / "fifo")


FILES: Final = Setup("files", listen=('port = 0\nstatic_folder = "FOLDER/root"',), prepare=prepare)


def get(path: str, *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{lines}\r\n".encode("latin-1")


def fetch(attempt: Attempt, path: str, *headers: str) -> HttpResponse:
    client = attempt.client()
    answer = client.request(get(path, *headers))
    assert client.receive_end() == b""
    assert SECRET not in answer.body
    return answer


def paths(*values: str, headers: Iterable[str] = ()) -> Callable[[Attempt], str]:
    """What each is answered with."""
    return lambda attempt: counted([str(fetch(attempt, path, *headers).status) for path in values])


def broken_off_downloads(attempt: Attempt) -> str:
    """Each has a file open; nobody reads it."""
    clients = [attempt.client(receive_buffer=4096) for _ in range(100)]
    for client in clients:
        client.send(get("/big"))
    for client in clients:
        client.receive_exactly(12)
    attempt.companion.go_round()
    for client in clients:
        client.reset()
    return "as much as they read"


def ranges(attempt: Attempt) -> str:
    """A thousand overlapping ranges, each of which asks for the whole file."""
    answer = fetch(attempt, "/big", "Range: bytes=" + ",".join(f"{at}-" for at in range(1000)))
    return f"{answer.status}, the whole file once" if len(answer.body) == 8 << 20 else "parts"


STATIC: Final = (
    Attack(
        "/../secret, /%2e%2e/secret, /..%2fsecret, /%2e%2e%2fsecret, /folder/../../secret, /..%5csecret",
        "6 x 404",
        paths(
            "/../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/%2e%2e%2fsecret",
            "/folder/../../secret",
            "/..%5csecret",
        ),
        known="CVE-2024-23334",
        setup=FILES,
    ),
    Attack(
        "//etc/passwd, /%2fetc%2fpasswd, /./index.html, //index.html, /index.html/, /index.html/.",
        "6 x 404",
        paths("//etc/passwd", "/%2fetc%2fpasswd", "/./index.html", "//index.html", "/index.html/", "/index.html/."),
        known="CVE-2024-23334",
        setup=FILES,
    ),
    Attack(
        "/%00, /index.html%00.css, /%ff, a name of 4000 bytes, 3000 folders",
        "5 x 404",
        paths("/%00", "/index.html%00.css", "/%ff", "/" + "x" * 4000, "/a" * 3000),
        setup=FILES,
    ),
    Attack(
        "a link to a file, to a folder, to nothing, to itself; a link in place of index.html",
        "5 x 404",
        paths("/link", "/up/secret", "/dangling", "/loop", "/folder/"),
        known="CVE-2024-23334, websocketd 0.5",
        setup=FILES,
    ),
    Attack(
        "a file of which a compressed variant is a link: /style.css with Accept-Encoding: gzip, and /style.css.gz",
        "200, 404",
        paths("/style.css", "/style.css.gz", headers=("Accept-Encoding: gzip",)),
        known="CVE-2024-42367",
        setup=FILES,
    ),
    Attack("a FIFO, which would make the daemon wait for ever", "404", paths("/fifo"), setup=FILES),
    Attack("/.htpasswd, /%2ehtpasswd", "2 x 404", paths("/.htpasswd", "/%2ehtpasswd"), setup=FILES),
    Attack(
        "100 downloads of 8 MiB that are not read, then resets",
        "as much as they read",
        broken_off_downloads,
        setup=FILES,
        memory_kib=8192,
    ),
    Attack(
        "1000 ranges, each of almost the whole file",
        "200, the whole file once",
        ranges,
        known="CVE-2011-3192",
        setup=FILES,
    ),
)


# -- what is shown ----------------------------------------------------------------------------------------------------


def page_with(path: str) -> Callable[[Attempt], str]:
    """The page that says that there is nothing at `path`."""

    def play(attempt: Attempt) -> str:
        answer = fetch(attempt, path)
        assert b"<script" not in answer.body
        assert b"&lt;script" in answer.body
        policy = answer.header("Content-Security-Policy") or ""
        return f"{answer.status}, `&lt;script`, {policy.split(';')[0]}"

    return play


def split(path: str) -> Callable[[Attempt], str]:
    """Whether a header that was slipped in arrives."""

    def play(attempt: Attempt) -> str:
        answer = fetch(attempt, path)
        assert answer.header("X-Evil") is None
        assert b"X-Evil" not in b"".join(name.encode() for name, _ in answer.headers)
        return f"{answer.status}" + (f" to {answer.header('Location')}" if answer.status == 301 else "")

    return play


def upgrade_with_header(attempt: Attempt) -> str:
    client = attempt.client()
    client.send(upgrade_request("/split?a%0d%0aX-Evil:%20y", "splitter"))
    answer = client.receive_response()
    assert answer.header("X-Evil") is None
    assert client.receive_end() == b""
    return str(answer.status)


SPLITTER: Final = '''
from wsd import Protocol, Reject, Response


class Splitter(Protocol):
    """Puts what it is asked for into headers as it stands."""

    name = "splitter"

    def on_http(self, wsi, request):
        value = next(iter(request.args), "")
        if request.path == "/split":
            return Response(200, b"", [("X-Good", value)])
        if request.path == "/moved":
            return Response(301, b"", [("Location", value)])

    def on_add_headers(self, wsi, headers):
        headers.add("X-Good", next(iter(wsi.request.args), ""))


protocols = [Splitter]
'''

SPLITTING: Final = Setup(
    "splitter",
    listen=('port = 0\nhttp_protocol = "splitter"\ndefault_protocol = "echo"',),
    plugins=(("splitter", SPLITTER),),
)

SHOWN: Final = (
    Attack(
        'the path /"><script>alert(1)</script>, on the built-in page',
        "404, `&lt;script`, default-src 'none'",
        page_with('/"><script>alert(1)</script>'),
        known="websocketd 0.5; CWE-79",
    ),
    Attack(
        "the same beside files",
        "404, `&lt;script`, default-src 'none'",
        page_with('/"><script>alert(1)</script>'),
        known="websocketd 0.5; CWE-79",
        setup=FILES,
    ),
    Attack(
        "a folder's address without its slash, with CR LF and a header in it",
        "404",
        split("/folder%0d%0aX-Evil:%20y"),
        known="CVE-2020-7695; CWE-113",
        setup=FILES,
    ),
    Attack(
        "a folder's address that could lead to another host: /folder?//evil.example",
        "301 to /folder/?//evil.example",
        split("/folder?//evil.example"),
        known="CWE-601",
        setup=FILES,
    ),
    Attack(
        "a plugin that puts a URL argument with CR LF into a header, and one that redirects to it",
        "2 x 500",
        lambda attempt: counted([split(f"/{path}?a%0d%0aX-Evil:%20y")(attempt) for path in ("split", "moved")]),
        ("ERR <tag>: splitter.on_http raised ValueError: <*>", "ERR <*>"),
        "CVE-2020-7695; CWE-113",
        SPLITTING,
    ),
    Attack(
        "a plugin that puts one into the 101",
        "500",
        upgrade_with_header,
        ("ERR <tag>: splitter.on_add_headers raised ValueError: <*>", "ERR <*>"),
        "CVE-2020-7695; CWE-113",
        SPLITTING,
    ),
)


# -- the log ----------------------------------------------------------------------------------------------------------


def says(*requests: bytes, escaped: str) -> Callable[[Attempt], str]:
    """What the log makes of a request: printable lines, one of which has `escaped`."""

    def play(attempt: Attempt) -> str:
        told = []
        for request in requests:
            client = attempt.client()
            client.send(request, close_frame(1000))
            told.append(responses(client))
        check_lines(attempt, escaped)
        return counted(told)

    return play


def check_lines(attempt: Attempt, escaped: str) -> None:
    """Each line is one of ours, whole, and printable."""
    attempt.wait_line(f"INFO <*>{escaped}<*>")
    for line in attempt.lines():
        assert line.isprintable(), line
        assert line.split(" ", 1)[0] in ("INFO", "USER"), line
        assert len(line.encode()) < 4096, line


def closes_with(reason: bytes, escaped: str) -> Callable[[Attempt], str]:
    def play(attempt: Attempt) -> str:
        client: Client = attempt.connect()
        client.send(frame(CLOSE, b"\x0f\xa0" + reason))
        code = client.receive_close().close_code
        client.disconnect()
        check_lines(attempt, escaped)
        return f"Close {code}"

    return play


TALKER: Final = """
from wsd import Protocol, log


class Talker(Protocol):
    name = "talker"

    def on_message(self, wsi, message):
        log.user("somebody says %s", message)
        wsi.send("noted")


protocols = [Talker]
"""
TALKING: Final = Setup("talker", plugins=(("talker", TALKER),), listen=('port = 0\ndefault_protocol = "echo"',))


def tells_a_plugin(message: str) -> Callable[[Attempt], str]:
    def play(attempt: Attempt) -> str:
        client = attempt.connect("talker")
        client.send_text(message)
        answer = client.receive_message()
        for line in attempt.lines():
            assert line.isprintable(), line
            assert line.split(" ", 1)[0] in ("INFO", "USER"), line
        return str(answer)

    return play


LOGGED: Final = (
    Attack(
        "GET /%0a<8>fake%1b[2J as an upgrade",
        "101, Close 1000, end",
        says(upgrade_request("/%0a<8>fake%1b[2J"), escaped="%0a<8>fake%1b[2J"),
        ("INFO <tag>: established, /%0a<8>fake%1b[2J",),
        "CVE-2020-7694; CWE-117",
    ),
    Attack(
        "headers with ESC, BEL, BS in them",
        "3 x 400, end",
        says(
            *(upgrade_request(headers=[("User-Agent", text)]) for text in ("\x1b]0;x", "x\x07", "x\x08")),
            escaped="control character in a header",
        ),
        ("INFO <tag>: refused with 400 control character in a header",),
        "CVE-2020-7694",
    ),
    Attack(
        "an Origin with U+009B (CSI) and U+0085 (NEL), as Latin-1",
        "403, end",
        says(
            upgrade_request().removesuffix(b"\r\n") + b"Origin: http://\x9b2Jx\x85y\r\n\r\n",
            escaped=r"http://\x9b2Jx\x85y",
        ),
        (r"INFO <tag>: Origin http://\x9b2Jx\x85y is neither <*>", "INFO <tag>: refused with 403 <*>"),
        "CVE-2020-7694",
    ),
    Attack(
        "a close reason with a line feed, ESC and U+202E, which turns the direction of writing",
        "Close 4000",
        closes_with("\n<8>fake: \x1b[2J\u202e".encode(), r"\x0a<8>fake: \x1b[2J\u202e"),
        (r"INFO <tag>: closed, 4000 \x0a<8>fake: \x1b[2J\u202e (closed by peer<*>)",),
        "CVE-2020-7694; CVE-2021-42574",
    ),
    Attack(
        "an Origin of 10,000 bytes",
        "403, end",
        says(upgrade_request(headers=[("Origin", "x" * 10_000)]), escaped="xxx"),
        ("INFO <tag>: Origin xxx<*> (cut; it had <n> characters)", "INFO <tag>: refused with 403 <*>"),
    ),
    Attack(
        "a message that a plugin logs, with a line feed and %s in it",
        "noted",
        tells_a_plugin("hello\n2026-01-01 00:00:00.000 ERR    all is lost %s %d"),
        (r"USER somebody says hello\x0a2026-01-01 00:00:00.000 ERR all is lost %s %d",),
        "CWE-117, CWE-134",
        TALKING,
    ),
)

GROUPS: Final = (
    Group(6, "Pages of other people, in the browser of one's own", ORIGINS),
    Group(7, "Paths to files", STATIC, "None of the answers had a byte of the file that was not to be served."),
    Group(8, "Text that is shown, or put into headers", SHOWN),
    Group(
        9, "Text that is logged", LOGGED, "Each event is one line, at its own level, and every character is printable."
    ),
)
