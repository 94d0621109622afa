"""`wsd.wire.response`: what an answer looks like on the wire, and which ones are refused."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from wsd.wire.http import Response, error_page
from wsd.wire.response import encode_response_head


def test_a_response_on_the_wire() -> None:
    response = Response(200, "h\xe4", [("X", "y")])
    head, chunked, keep_alive = encode_response_head(response, date="Sun, 06 Nov 1994 08:49:37 GMT")
    assert head == (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX: y\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\r\n"
    )
    assert (response.body, chunked, keep_alive) == ("h\xe4".encode(), False, True)


@pytest.mark.parametrize(
    ("response", "version", "keep_alive", "expected"),
    [
        (Response(), "1.1", True, (b"Content-Length: 0\r\n", False, True)),
        (Response(), "1.1", False, (b"Content-Length: 0\r\nConnection: close\r\n", False, False)),
        (Response(), "1.0", True, (b"Content-Length: 0\r\nConnection: keep-alive\r\n", False, True)),
        (Response(stream=True), "1.1", True, (b"Transfer-Encoding: chunked\r\n", True, True)),
        (Response(stream=True), "1.0", True, (b"Connection: close\r\n", False, False)),
        (Response(stream=True, length=7), "1.0", True, (b"Length: 7\r\nConnection: keep-alive\r\n", False, True)),
        (Response(body=iter([b""]), length=3), "1.1", True, (b"Content-Length: 3\r\n", False, True)),
        (Response(204), "1.1", True, (b"HTTP/1.1 204 No Content\r\n", False, True)),
        (Response(304), "1.1", True, (b"HTTP/1.1 304 Not Modified\r\n", False, True)),
        (
            Response(426, headers=[("Upgrade", "websocket")]),
            "1.1",
            False,
            (b"Content-Length: 0\r\nConnection: Upgrade, close\r\n", False, False),
        ),
        (Response(599), "1.1", True, (b"HTTP/1.1 599 \r\nContent-Length: 0\r\n", False, True)),
    ],
)
def test_framing(response: Response, version: str, keep_alive: bool, expected: tuple[bytes, bool, bool]) -> None:
    head, chunked, stays = encode_response_head(response, http_version=version, keep_alive=keep_alive)
    assert head.endswith(expected[0] + b"\r\n")
    assert (chunked, stays) == expected[1:]


@pytest.mark.parametrize(
    "arguments",
    [
        {"status": 101},
        {"status": 600},
        {"headers": [("content-length", "1")]},
        {"headers": [("Transfer-Encoding", "chunked")]},
        {"headers": [("Connection", "close")]},
        {"content_type": "a\r\nb"},
        {"body": ["a list"]},
        {"body": 5},
        {"body": b"abc", "length": 2},
        {"body": iter([b"a"]), "length": -1},
        {"body": b"a", "stream": True},
        {"status": 204, "body": b"a"},
        {"status": 304, "stream": True},
        {"status": 304, "body": iter([b"a"])},
    ],
)
def test_responses_that_cannot_be_sent(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Response(**arguments)  # type: ignore[arg-type]


def test_a_content_type_of_ones_own_stays() -> None:
    assert Response(body="{}", content_type="application/json").headers.get_all("Content-Type") == ["application/json"]
    assert Response(body=b"x").headers.get("Content-Type") == "application/octet-stream"
    assert Response(body="x", headers=[("content-type", "a/b")]).headers.get_all("Content-Type") == ["a/b"]
    assert "Content-Type" not in Response().headers


def test_an_error_page_is_escaped_and_allows_nothing_but_its_own_style() -> None:
    page = error_page(404, 'nothing at /"><script>alert(1)</script> \ud800', [("X", "y")])
    assert isinstance(page.body, bytes)
    text = page.body.decode()
    assert "<title>404 Not Found</title>" in text
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    policy = page.headers.get("Content-Security-Policy") or ""
    style = re.search(r"<style>(.*)</style>", text)
    assert style is not None
    assert f"'sha256-{b64encode(sha256(style[1].encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert (page.status, page.headers.get("X")) == (404, "y")
    assert page.headers.get("Content-Type") == "text/html; charset=utf-8"


def test_how_it_shows_in_a_log() -> None:
    assert repr(Response(404, body=b"gone")) == "<Response 404 4 B>"
