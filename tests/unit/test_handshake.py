"""`wsd.wire.handshake`: RFC 6455 section 4.2, point by point."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest

from wsd.errors import HandshakeError
from wsd.wire.extensions import Offer
from wsd.wire.handshake import (
    Upgrade,
    accept_key,
    check_upgrade,
    choose_subprotocol,
    encode_101,
    origin_allowed,
    parse_origin,
)
from wsd.wire.http import Request, parse_head

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = (
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
)


def request(*more: tuple[str, str], without: Iterable[str] = (), line: str = "GET /chat HTTP/1.1") -> Request:
    """The request of RFC 6455 1.2 with some fields added or left out."""
    fields = [field for field in FIELDS if field[0] not in set(without)] + list(more)
    return parse_head("\r\n".join([line, *(f"{name}: {value}" for name, value in fields), "", ""]).encode("latin-1"))


def instead(name: str, value: str) -> Request:
    return request((name, value), without=[name])


def test_the_rfcs_own_request() -> None:
    found = check_upgrade(request(("Origin", "http://example.com"), ("Sec-WebSocket-Protocol", "chat, superchat")))
    assert found == Upgrade(KEY, ("chat", "superchat"), ())


def test_the_rfcs_own_accept() -> None:
    assert accept_key(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "good",
    [
        pytest.param(request(line="GET http://server.example.com/chat HTTP/1.1"), id="4.2.1 1: absolute URI"),
        pytest.param(instead("Upgrade", "WebSocket"), id="4.2.1 3: any case"),
        pytest.param(instead("Upgrade", "h2c, websocket"), id="4.2.1 3: one of a list"),
        pytest.param(instead("Connection", "keep-alive, Upgrade"), id="4.2.1 4: Firefox"),
        pytest.param(instead("Connection", "uPgRaDe"), id="4.2.1 4: any case"),
        pytest.param(request(("Connection", "keep-alive")), id="4.2.1 4: two lines"),
        pytest.param(instead("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEC=="), id="4.1 7: the RFC's other key"),
        pytest.param(
            request(("sEc-wEbSoCkEt-kEy", KEY), without=["Sec-WebSocket-Key"]), id="header names have no case"
        ),
        pytest.param(request(("Content-Length", "0")), id="an empty body is none"),
        pytest.param(request(("Sec-WebSocket-Extensions", 'a; b="\\c\\c"')), id="4.2.1 9: an extension nobody knows"),
        pytest.param(request(("Sec-WebSocket-Extensions", "")), id="4.2.1 9: no extension after all"),
        pytest.param(request(("Sec-WebSocket-Protocol", "")), id="no subprotocol after all"),
    ],
)
def test_accepted(good: Request) -> None:
    assert good.is_upgrade
    check_upgrade(good)


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        pytest.param(request(line="POST /chat HTTP/1.1"), 405, id="4.2.1 1: method"),
        pytest.param(request(line="HEAD /chat HTTP/1.1"), 405, id="4.2.1 1: HEAD"),
        pytest.param(request(line="GET /chat HTTP/1.0"), 400, id="4.2.1 1: version of HTTP"),
        pytest.param(request(without=["Upgrade"]), 400, id="4.2.1 3: missing"),
        pytest.param(instead("Upgrade", "websockets"), 400, id="4.2.1 3: another"),
        pytest.param(instead("Upgrade", "h2c"), 400, id="4.2.1 3: h2c"),
        pytest.param(request(without=["Connection"]), 400, id="4.2.1 4: missing"),
        pytest.param(instead("Connection", "keep-alive"), 400, id="4.2.1 4: another"),
        pytest.param(instead("Connection", "upgraded"), 400, id="4.2.1 4: a longer word"),
        pytest.param(request(without=["Sec-WebSocket-Key"]), 400, id="4.2.1 5: missing"),
        pytest.param(request(("Sec-WebSocket-Key", KEY)), 400, id="4.2.1 5: twice"),
        pytest.param(instead("Sec-WebSocket-Key", ""), 400, id="4.2.1 5: empty"),
        pytest.param(instead("Sec-WebSocket-Key", KEY[:-4]), 400, id="4.2.1 5: 15 bytes"),
        pytest.param(instead("Sec-WebSocket-Key", "AAAA" + KEY), 400, id="4.2.1 5: 19 bytes"),
        pytest.param(instead("Sec-WebSocket-Key", KEY[:-2] + "A="), 400, id="4.2.1 5: 17 bytes"),
        pytest.param(instead("Sec-WebSocket-Key", KEY.replace("Q==", "Q")), 400, id="4.2.1 5: no padding"),
        pytest.param(instead("Sec-WebSocket-Key", KEY[:-3] + "-=="), 400, id="4.2.1 5: another alphabet"),
        pytest.param(instead("Sec-WebSocket-Key", KEY + ", " + KEY), 400, id="4.2.1 5: list"),
        pytest.param(request(without=["Sec-WebSocket-Version"]), 400, id="4.2.1 6: missing"),
        pytest.param(request(("Sec-WebSocket-Version", "13")), 400, id="4.2.1 6: twice"),
        pytest.param(instead("Sec-WebSocket-Version", "8"), 426, id="4.4: older"),
        pytest.param(instead("Sec-WebSocket-Version", "14"), 426, id="4.4: newer"),
        pytest.param(instead("Sec-WebSocket-Version", "8, 13"), 426, id="4.4: list"),
        pytest.param(instead("Sec-WebSocket-Version", "013"), 426, id="4.1 9: leading zero"),
        pytest.param(instead("Sec-WebSocket-Version", "x"), 426, id="4.4: no number"),
        pytest.param(request(("Sec-WebSocket-Protocol", "a b")), 400, id="4.2.1 8: no token"),
        pytest.param(request(("Sec-WebSocket-Protocol", 'a,"b"')), 400, id="4.2.1 8: quoted"),
        pytest.param(request(("Sec-WebSocket-Protocol", "../../etc/passwd")), 400, id="4.2.1 8: path"),
        pytest.param(request(("Sec-WebSocket-Extensions", "a b")), 400, id="9.1: two tokens"),
        pytest.param(request(("Sec-WebSocket-Extensions", 'a; b="c d"')), 400, id="9.1: no token in quotes"),
        pytest.param(request(("Sec-WebSocket-Extensions", "a; b=")), 400, id="9.1: no value"),
        pytest.param(
            request(("Sec-WebSocket-Extensions", "a"), ("Sec-WebSocket-Extensions", ";")),
            400,
            id="9.1: one of two lines",
        ),
        pytest.param(request(("Content-Length", "5")), 400, id="body"),
        pytest.param(request(("Transfer-Encoding", "chunked")), 400, id="chunked body"),
    ],
)
def test_refused(bad: Request, status: int) -> None:
    assert bad.is_upgrade or "Upgrade" not in bad.headers or status == 400
    with pytest.raises(HandshakeError) as caught:
        check_upgrade(bad)
    assert caught.value.status == status
    assert caught.value.text


def test_an_answer_says_what_would_be_right() -> None:
    with pytest.raises(HandshakeError) as caught:
        check_upgrade(instead("Sec-WebSocket-Version", "8"))
    assert caught.value.headers == (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
    with pytest.raises(HandshakeError) as caught:
        check_upgrade(request(line="POST /chat HTTP/1.1"))
    assert caught.value.headers == (("Allow", "GET"),)


def test_what_counts_as_an_upgrade() -> None:
    plain = "\r\n".join(["GET / HTTP/1.1", "Host: a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "", ""])
    assert not parse_head(plain.encode()).is_upgrade
    assert request(without=["Upgrade", "Connection"]).is_upgrade, "a proxy dropped them: say so"


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], ()),
        (["chat"], ("chat",)),
        (["chat, superchat"], ("chat", "superchat")),
        (["chat", "superchat"], ("chat", "superchat")),  # RFC 6455 11.3.4
        ([" chat ,\tsuperchat , ", "x"], ("chat", "superchat", "x")),
        (["Chat, chat, Chat"], ("Chat", "chat")),
        (["__class__, constructor, a%00"], ("__class__", "constructor", "a%00")),
    ],
)
def test_subprotocols(lines: list[str], names: tuple[str, ...]) -> None:
    assert check_upgrade(request(*(("Sec-WebSocket-Protocol", line) for line in lines))).subprotocols == names


def test_extensions_of_all_lines_in_order() -> None:
    """RFC 6455 11.3.2: the header "MAY appear multiple times in an HTTP request"."""
    lines = ["permessage-deflate; client_max_window_bits, x-other", 'permessage-deflate; a="9"']
    found = check_upgrade(request(*(("Sec-WebSocket-Extensions", line) for line in lines)))
    assert found.extensions == (
        Offer("permessage-deflate", (("client_max_window_bits", None),)),
        Offer("x-other", ()),
        Offer("permessage-deflate", (("a", "9"),)),
    )


@pytest.mark.parametrize(
    ("offered", "path", "default", "expected"),
    [
        (("b", "a"), "/", "d", ("B", "b")),
        (("x", "a"), "/", "d", ("A", "a")),
        (("x",), "/a", "d", None),
        (("A",), "/", None, None),
        ((), "/a", "d", ("A", None)),
        ((), "/other", "d", ("D", None)),
        ((), "/other", None, None),
        ((), "/a/", None, None),
    ],
)
def test_choosing(
    offered: tuple[str, ...], path: str, default: str | None, expected: tuple[str, str | None] | None
) -> None:
    known = {"a": "A", "b": "B", "d": "D"}
    arguments = (Upgrade(KEY, offered, ()), path, known, {"/a": "A"}, known.get(default or ""))
    if expected is None:
        with pytest.raises(HandshakeError, match="400"):
            choose_subprotocol(*arguments)
    else:
        assert choose_subprotocol(*arguments) == expected


# -- Origin -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin", "allowed", "expected"),
    [
        ("example.com", None, [], True),
        ("example.com", "http://example.com", [], True),
        ("example.com:7681", "https://example.com:8443", [], True),
        ("EXAMPLE.com", "http://example.COM", [], True),
        ("127.0.0.1:7681", "http://127.0.0.1:7681", [], True),
        ("[::1]:7681", "http://[::1]:80", [], True),
        ("[::1]", "http://[::1]", [], True),
        ("[::1]", "http://[::2]", [], False),
        ("example.com", "http://evil.example", [], False),
        ("example.com", "https://example.com.evil.example", [], False),
        ("example.com", "https://evilexample.com", [], False),
        ("example.com", "https://www.example.com", [], False),
        ("example.com", "null", [], False),
        ("example.com", "", [], False),
        ("", "http://", [], False),
        ("example.com", "http://example.com/", [], False),
        ("example.com", "http://user@example.com", [], False),
        ("example.com", "http://example.com http://evil.example", [], False),
        ("example.com", "example.com", [], False),
        ("a", "https://app.example", ["https://app.example"], True),
        ("a", "https://app.example:443", ["https://app.example"], True),
        ("a", "https://APP.example", ["https://app.example"], True),
        ("a", "http://app.example", ["https://app.example"], False),
        ("a", "https://app.example:8443", ["https://app.example"], False),
        ("a", "https://app.example:8443", ["https://app.example:8443"], True),
        ("a", "https://app.example", ["app.example"], False),
        ("a", "chrome-extension://abcdef", ["chrome-extension://abcdef"], True),
        ("a", "https://anything.example", ["*"], True),
        ("a", "null", ["*"], True),
        ("a", "null", ["null"], False),
        ("a", "garbage", ["garbage"], False),
    ],
)
def test_origins(host: str, origin: str | None, allowed: list[str], expected: bool) -> None:
    more = [("Host", host)] + ([("Origin", origin)] if origin is not None else [])
    assert origin_allowed(request(*more, without=["Host"]), allowed) is expected


def test_two_origins_are_nobodys() -> None:
    own = ("Origin", "http://server.example.com")
    assert origin_allowed(request(own), [])
    assert not origin_allowed(request(own, own), [])


def test_origins_are_parsed() -> None:
    assert parse_origin("https://a") == ("https", "a", 443)
    assert parse_origin("HTTP://A:8080") == ("http", "a", 8080)
    assert parse_origin("app://a") == ("app", "a", None)
    assert parse_origin("null") is None


# -- the answer -------------------------------------------------------------------------------------------------------


def test_the_rfcs_own_answer() -> None:
    assert encode_101("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "chat", [("X", "y")]) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\nX: y\r\n\r\n"
    )
    assert b"Protocol:" not in encode_101("x")
    assert b"Extensions:" not in encode_101("x")


def test_the_extensions_in_the_answer() -> None:
    answer = encode_101("x", "chat", [("X", "y")], extensions="permessage-deflate; server_max_window_bits=12")
    assert answer.count(b"Extensions") == 1
    assert b"\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n" in answer


@pytest.mark.parametrize(
    "name", ["Upgrade", "connection", "SEC-WebSocket-Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"]
)
def test_what_belongs_to_the_handshake_cannot_be_added(name: str) -> None:
    with pytest.raises(ValueError, match="wsd's own"):
        encode_101("x", None, [(name, "y")])
    with pytest.raises(ValueError, match="control"):
        encode_101("x", None, [("X", "a\r\nb")])


@pytest.mark.parametrize(
    "field",
    [
        ("Sec-WebSocket-Extensions", 'a; b="' + "\\c" * 16000),
        ("Sec-WebSocket-Extensions", "permessage-deflate, " * 1600),
        ("Sec-WebSocket-Extensions", "a" + "; b" * 10000 + "="),
        ("Sec-WebSocket-Protocol", "b" + " " * 32000 + "x"),
        ("Sec-WebSocket-Protocol", "," * 32000),
        ("Sec-WebSocket-Protocol", "a, " * 10000),
        ("Connection", "\t" * 32000 + "x"),
        ("Origin", "a" * 32000 + ":"),
        ("Host", "a" * 32000),
    ],
)
def test_no_header_takes_long(field: tuple[str, str]) -> None:
    """Sixteen times the header would take 256 times as long if it were quadratic; a busy machine is forgiven much."""

    def took(value: str) -> float:
        best = 1e9
        for _ in range(5):
            start = time.process_time()
            try:
                asked = request((field[0], value), without=[field[0]])
                origin_allowed(asked, ["https://a.example"])
                check_upgrade(asked)
            except HandshakeError:
                pass
            best = min(best, time.process_time() - start)
        return best

    assert took(field[1]) < 64 * took(field[1][: len(field[1]) // 16]) + 0.001
