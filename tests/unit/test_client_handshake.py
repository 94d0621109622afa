"""`wsd.wire.client_handshake`: RFC 6455 sections 3 and 4.1, point by point, literal bytes in and out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.errors import ConnectError
from wsd.wire.client_handshake import (
    Target,
    basic_authorization,
    check_reply,
    encode_connect,
    encode_request,
    is_tcp,
    new_key,
    parse_tcp,
    parse_url,
)
from wsd.wire.extensions import Agreement, Settings
from wsd.wire.handshake import check_upgrade
from wsd.wire.http import parse_head
from wsd.wire.reply import Reply, ReplyReader

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
URL_CHARACTERS = st.sampled_from("ab1.:-_[]%2@/?#\\ \xe4\uff0f\u3002") | st.characters()
TARGET = parse_url("ws://server.example.com/chat")
SETTINGS = Settings(level=6, memory_level=5, window_bits=12, context_takeover=True, min_bytes=64)


class TestUrl:
    """Section 3: ws-URI = "ws:" "//" host [ ":" port ] path [ "?" query ]."""

    def test_the_rfcs_own_url(self) -> None:
        """Section 1.3, whose request is for ws://server.example.com/chat."""
        target = parse_url("ws://server.example.com/chat")
        assert target == Target("server.example.com", 80, False, "/chat", "server.example.com")

    @pytest.mark.parametrize(
        ("url", "host", "port", "secure", "host_header"),
        [
            ("ws://example.com", "example.com", 80, False, "example.com"),
            ("wss://example.com", "example.com", 443, True, "example.com"),
            ("ws://example.com:80", "example.com", 80, False, "example.com"),
            ("wss://example.com:80", "example.com", 80, True, "example.com:80"),
            ("ws://example.com:443", "example.com", 443, False, "example.com:443"),
            ("wss://example.com:443", "example.com", 443, True, "example.com"),
            ("WS://EXAMPLE.com:7681/", "example.com", 7681, False, "example.com:7681"),
            ("Wss://a", "a", 443, True, "a"),
            ("ws://a:", "a", 80, False, "a"),  # RFC 3986 3.2.3: port = *DIGIT
            ("ws://a:000000000080/", "a", 80, False, "a"),
            ("ws://a:65535?b", "a", 65535, False, "a:65535"),
            ("ws://192.0.2.1:1", "192.0.2.1", 1, False, "192.0.2.1:1"),
            ("ws://my_container-1.", "my_container-1.", 80, False, "my_container-1."),
            ("ws://[::1]", "::1", 80, False, "[::1]"),
            ("ws://[2001:DB8:0::1]:7681/", "2001:db8::1", 7681, False, "[2001:db8::1]:7681"),
            ("ws://[fe80::1%25eth0]:81/", "fe80::1%eth0", 81, False, "[fe80::1]:81"),  # RFC 6874 2 and 4
            ("ws://b\xfccher.example/", "xn--bcher-kva.example", 80, False, "xn--bcher-kva.example"),
            ("ws://\uff11\uff12\uff17.0.0.1/", "127.0.0.1", 80, False, "127.0.0.1"),
        ],
    )
    def test_where_it_points(self, url: str, host: str, port: int, secure: bool, host_header: str) -> None:
        target = parse_url(url)
        assert (target.host, target.port, target.secure, target.host_header) == (host, port, secure, host_header)

    @pytest.mark.parametrize(
        ("rest", "resource"),
        [
            ("", "/"),  # "/" if the path component is empty
            ("/", "/"),
            ("/chat", "/chat"),
            ("/a/b;c=d/../e", "/a/b;c=d/../e"),  # nothing is tidied: the server may tell them apart
            ("//a", "//a"),
            ("?a=b", "/?a=b"),
            ("/?", "/"),  # "?" if the query component is non-empty
            ("?", "/"),
            ("/?a?b/c", "/?a?b/c"),
            ("/%41%2f?%c3%a4+", "/%41%2f?%c3%a4+"),
            ("/-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@"),
            ("/gr\xfc\xdfe?\u20ac", "/gr%C3%BC%C3%9Fe?%E2%82%AC"),  # RFC 3987 3.1
            ('/"<>\\^`{|}[]?"<>\\^`{|}[]', "/%22%3C%3E%5C%5E%60%7B%7C%7D%5B%5D?%22%3C%3E%5C%5E%60%7B%7C%7D%5B%5D"),
            ("/a%23b", "/a%23b"),
            ("/@b", "/@b"),
        ],
    )
    def test_what_is_asked_for(self, rest: str, resource: str) -> None:
        assert parse_url("ws://a" + rest).resource == resource

    @pytest.mark.parametrize(
        ("url", "text"),
        [
            ("http://a/", "ws://"),
            ("https://a/", "ws://"),
            ("wsx://a/", "ws://"),
            ("ws:a", "ws://"),
            ("ws:/a", "ws://"),
            ("//a", "ws://"),
            ("a", "ws://"),
            ("", "ws://"),
            (" ws://a", "space or control"),
            ("ws://a/\n", "space or control"),
            ("ws://a/b c", "space or control"),
            ("ws://a/?b\tc", "space or control"),
            ("ws://a\0/", "space or control"),
            ("ws://a/\x7f", "space or control"),
            ("ws://a/b#c", "no fragment"),
            ("ws://a/#", "no fragment"),
            ("ws://a#", "no fragment"),
            ("ws://a/?b#c?d", "no fragment"),
            ("ws://user@a/", "no user"),
            ("ws://user:secret@a/", "no user"),
            ("ws:///chat", "no host"),
            ("ws://", "no host"),
            ("ws://?a", "no host"),
            ("ws://:80/", "no host"),
            ("ws://a:b/", "comes nothing, or a colon and a port"),
            ("ws://a:80:80/", "comes nothing, or a colon and a port"),
            ("ws://a:+80/", "comes nothing, or a colon and a port"),
            ("ws://a:\uff18\uff10/", "comes nothing, or a colon and a port"),
            ("ws://::1/", r"an IPv6 address stands in \[\]"),
            ("ws://[::1/", r"an IPv6 address stands in \[\]"),
            ("ws://[::1]x/", r"an IPv6 address stands in \[\]"),
            ("ws://a:0/", "from 1 to 65535"),
            ("ws://a:000/", "from 1 to 65535"),
            ("ws://a:65536/", "from 1 to 65535"),
            ("ws://a:" + "9" * 5000, "from 1 to 65535"),
            ("ws://[]/", "no IPv6 address"),
            ("ws://[::g]/", "no IPv6 address"),
            ("ws://[192.0.2.1]/", "no IPv6 address"),
            ("ws://[1::2::3]/", "no IPv6 address"),
            ("ws://[v1.a]/", "no IPv6 address"),
            ("ws://[::1%eth0]/", "no IPv6 address"),
            ("ws://[::1%25]/", "no IPv6 address"),
            ("ws://./", "host is not a name"),
            ("ws://a..b/", "host is not a name"),
            ("ws://" + "a" * 64, "host is not a name"),
            ("ws://" + "a." * 130, "host is not a name"),
            ("ws://a\\b/", "host is not a name"),
            ("ws://a%41/", "host is not a name"),
            ("ws://a,b/", "host is not a name"),
            ("ws://a\uff0fb/", "host is not a name"),  # becomes a slash
            ("ws://a\u2100b/", "host is not a name"),  # becomes a/c
            ("ws://\ud800/", "host is not a name"),
            ("ws://a/%", "hexadecimal"),
            ("ws://a/%4", "hexadecimal"),
            ("ws://a/?%zz", "hexadecimal"),
            ("ws://a/%\uff14\uff11", "hexadecimal"),
            ("ws://a/\ud800", "half a surrogate pair"),
        ],
    )
    def test_refused(self, url: str, text: str) -> None:
        with pytest.raises(ValueError, match=text):
            parse_url(url)

    def test_a_text_does_not_repeat_a_password(self) -> None:
        with pytest.raises(ValueError) as caught:
            parse_url("ws://user:secret@a/")
        assert "secret" not in str(caught.value)

    @given(st.text(URL_CHARACTERS, max_size=12), st.text(URL_CHARACTERS, max_size=12))
    def test_what_is_taken_can_be_sent(self, authority: str, rest: str) -> None:
        """Whatever stands in a URL: it is refused with a ValueError, or our own server reads the request."""
        try:
            target = parse_url(f"ws://{authority}/{rest}")
        except ValueError:
            return
        assert 1 <= target.port <= 65535
        request = parse_head(encode_request(target, KEY))
        assert request.target == target.resource
        assert request.host == target.host_header
        assert parse_head(encode_connect(target).replace(b"CONNECT ", b"GET http://")).target


class TestTcp:
    @pytest.mark.parametrize(
        ("url", "host", "port"),
        [
            ("tcp://host.test:25", "host.test", 25),
            ("TCP://HOST.test:25/", "host.test", 25),
            ("tcp://[::1]:8080", "::1", 8080),
            ("tcp://127.0.0.1:00080", "127.0.0.1", 80),
        ],
    )
    def test_where_it_points(self, url: str, host: str, port: int) -> None:
        target = parse_tcp(url)
        assert is_tcp(url)
        assert (target.host, target.port, target.secure) == (host, port, False)

    def test_tls_is_the_same_with_tls(self) -> None:
        target = parse_tcp("tls://host.test:25")
        assert is_tcp("tls://host.test:25")
        assert (target.host, target.port, target.secure) == ("host.test", 25, True)

    @pytest.mark.parametrize(
        "url",
        [
            "tcp://host.test",
            "tcp://host.test:",
            "tcp://host.test:25/path",
            "tcp://host.test:25?query",
            "tcp://host.test:25#fragment",
            "tcp://me@host.test:25",
            "tcp://host.test :25",
            "tcp://host.test:25\n",
        ],
    )
    def test_host_and_port_and_nothing_else(self, url: str) -> None:
        with pytest.raises(ValueError, match="tcp://host:port or tls://host:port is wanted"):
            parse_tcp(url)

    @pytest.mark.parametrize("url", ["tcp://:25", "tcp://host.test:0", "tcp://host.test:65536", "tcp://[::x]:1"])
    def test_what_is_wrong_with_a_host_or_port_is_said(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"no host|port is not|no IPv6"):
            parse_tcp(url)

    def test_others_are_none(self) -> None:
        assert not any(map(is_tcp, ("ws://host.test:25", "tcp:", "tcps://host.test:1", "")))


class TestKey:
    """Section 4.1, request, point 7."""

    def test_the_rfcs_own_keys(self) -> None:
        assert new_key(b"the sample nonce") == KEY
        # The RFC prints another last character, which means the same 16 bytes.
        assert new_key(bytes(range(1, 17))) == "AQIDBAUGBwgJCgsMDQ4PEA=="

    @pytest.mark.parametrize("size", [0, 15, 17])
    def test_other_lengths(self, size: int) -> None:
        with pytest.raises(ValueError, match=f"16 bytes, found {size}"):
            new_key(bytes(size))


def fields_of(request: bytes) -> dict[str, list[str]]:
    """The header lines of a request, by name, as anybody would read them."""
    found: dict[str, list[str]] = {}
    assert request.endswith(b"\r\n\r\n")
    for line in request[:-4].decode("ascii").split("\r\n")[1:]:
        name, value = line.split(": ", 1)
        found.setdefault(name, []).append(value)
    return found


class Must(NamedTuple):
    """One MUST about the request, what shows that we keep it, and what would break it."""

    words: str
    url: str
    arguments: dict[str, Any]
    kept: Callable[[bytes], bool]
    broken_url: str
    broken_arguments: dict[str, Any]


def has(name: str, *values: str) -> Callable[[bytes], bool]:
    return lambda request: fields_of(request).get(name) == list(values)


URL = "ws://example.com:81/chat?a"

REQUEST_MUSTS = [
    Must(
        '1 "The handshake MUST be a valid HTTP request"',
        URL,
        {"headers": [("Cookie", "a=b")]},
        lambda request: bool(parse_head(request)),
        URL,
        {"headers": [("Cookie", "a=b\r\nX: y")]},
    ),
    Must(
        '2 "The method of the request MUST be GET, and the HTTP version MUST be at least 1.1."',
        URL,
        {},
        lambda request: request.startswith(b"GET ") and request.split(b"\r\n")[0].endswith(b" HTTP/1.1"),
        "ws://a/ HTTP/1.0",
        {},
    ),
    Must(
        '3 "The "Request-URI" part of the request MUST match the /resource name/"',
        URL,
        {},
        lambda request: request.split(b" ")[1] == b"/chat?a",
        URL + "#fragment",
        {},
    ),
    Must(
        '4 "The request MUST contain a |Host| header field whose value contains /host/"',
        URL,
        {},
        has("Host", "example.com:81"),
        URL,
        {"headers": [("hOST", "other.example")]},
    ),
    Must(
        '4 "plus optionally ":" followed by /port/ (when not using the default port)"',
        "ws://example.com:80/",
        {},
        has("Host", "example.com"),
        "ws://example.com:0/",
        {},
    ),
    Must(
        '5 "an |Upgrade| header field whose value MUST include the "websocket" keyword"',
        URL,
        {},
        has("Upgrade", "websocket"),
        URL,
        {"headers": [("Upgrade", "h2c")]},
    ),
    Must(
        '6 "a |Connection| header field whose value MUST include the "Upgrade" token"',
        URL,
        {},
        has("Connection", "Upgrade"),
        URL,
        {"headers": [("Connection", "close")]},
    ),
    Must(
        '7 "The request MUST include a header field with the name |Sec-WebSocket-Key|."',
        URL,
        {},
        has("Sec-WebSocket-Key", KEY),
        URL,
        {"headers": [("Sec-WebSocket-Key", KEY)]},
    ),
    Must(
        '8 "MUST include a header field with the name |Origin| if the request is coming from a browser client"',
        URL,
        {"origin": "https://example.com:8443"},
        has("Origin", "https://example.com:8443"),
        URL,
        {"origin": "https://example.com/path"},
    ),
    Must(
        '8 "The value of this header field is the ASCII serialization of origin"',
        URL,
        {"origin": "null"},
        has("Origin", "null"),
        URL,
        {"origin": "https://b\xfccher.example https://a.example"},
    ),
    Must(
        '9 "|Sec-WebSocket-Version|.  The value of this header field MUST be 13."',
        URL,
        {},
        has("Sec-WebSocket-Version", "13"),
        URL,
        {"headers": [("sec-websocket-version", "8")]},
    ),
    Must(
        '10 "The elements that comprise this value MUST be non-empty strings"',
        URL,
        {"subprotocols": ["chat"]},
        has("Sec-WebSocket-Protocol", "chat"),
        URL,
        {"subprotocols": [""]},
    ),
    Must(
        '10 "with characters in the range U+0021 to U+007E not including separator characters"',
        URL,
        {"subprotocols": ["!#$%&'*+-.^_`|~09azAZ"]},
        has("Sec-WebSocket-Protocol", "!#$%&'*+-.^_`|~09azAZ"),
        URL,
        {"subprotocols": ["a,b"]},
    ),
    Must(
        '10 "and MUST all be unique strings", "ordered by preference"',
        URL,
        {"subprotocols": ("chat", "Chat", "superchat")},
        has("Sec-WebSocket-Protocol", "chat, Chat, superchat"),
        URL,
        {"subprotocols": ("chat", "superchat", "chat")},
    ),
    Must(
        '11 "this value indicates the protocol-level extension(s) the client wishes to speak"',
        URL,
        {"extensions": "permessage-deflate; client_max_window_bits"},
        has("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
        URL,
        {"headers": [("Sec-WebSocket-Extensions", "permessage-deflate")]},
    ),
    Must(
        '12 "MAY include any other header fields, for example, cookies"',
        URL,
        {"headers": [("Cookie", "a=b"), ("Authorization", "Basic eA=="), ("Cookie", "c=d")]},
        has("Cookie", "a=b", "c=d"),
        URL,
        {"headers": [("Content-Length", "5")]},
    ),
]


class TestRequest:
    """Section 4.1: "The requirements for this handshake are as follows." """

    def test_the_rfcs_own_request(self) -> None:
        """Section 1.3, in our order."""
        assert encode_request(
            TARGET, KEY, subprotocols=("chat", "superchat"), origin="http://example.com", headers=[("X", "y")]
        ) == (
            b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\nX: y\r\n\r\n"
        )

    def test_what_is_not_wanted_is_not_there(self) -> None:
        assert encode_request(TARGET, KEY) == (
            b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )

    @pytest.mark.parametrize("must", REQUEST_MUSTS, ids=lambda must: must.words)
    def test_kept(self, must: Must) -> None:
        assert must.kept(encode_request(parse_url(must.url), KEY, **must.arguments))

    @pytest.mark.parametrize("must", REQUEST_MUSTS, ids=lambda must: must.words)
    def test_what_would_break_it_is_refused(self, must: Must) -> None:
        with pytest.raises(ValueError):
            encode_request(parse_url(must.broken_url), KEY, **must.broken_arguments)

    @pytest.mark.parametrize(
        "name",
        [
            *("Host", "Origin", "Upgrade", "Connection", "Content-Length", "Transfer-Encoding", "Expect", "TE"),
            *("Sec-WebSocket-Key", "SEC-WEBSOCKET-ACCEPT", "sec-websocket-anything"),
        ],
    )
    def test_what_belongs_to_the_handshake_cannot_be_added(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} of the opening handshake"):
            encode_request(TARGET, KEY, headers=[(name, "x")])

    def test_one_name_in_the_place_of_several(self) -> None:
        with pytest.raises(TypeError, match="found the string 'chat'"):
            encode_request(TARGET, KEY, subprotocols="chat")

    def test_our_own_server_takes_it(self) -> None:
        request = encode_request(TARGET, KEY, subprotocols=("a", "b"), extensions="x; y=1")
        upgrade = check_upgrade(parse_head(request))
        assert (upgrade.key, upgrade.subprotocols) == (KEY, ("a", "b"))


class TestConnect:
    """Section 4.1, connection, point 3; RFC 9110 9.3.6."""

    @pytest.mark.parametrize(
        ("url", "authority"),
        [
            ("ws://example.com/chat", b"example.com:80"),
            ("wss://example.com/chat", b"example.com:443"),
            ("ws://example.com:7681/", b"example.com:7681"),
            ("ws://[::1]/", b"[::1]:80"),
            ("ws://[fe80::1%25eth0]:81/", b"[fe80::1]:81"),
        ],
    )
    def test_the_port_is_always_there(self, url: str, authority: bytes) -> None:
        assert encode_connect(parse_url(url)) == b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (authority, authority)

    def test_the_rfcs_own_authorization(self) -> None:
        assert basic_authorization("ednamode", "nocapes!") == "Basic ZWRuYW1vZGU6bm9jYXBlcyE="
        assert encode_connect(TARGET, "Basic ZWRuYW1vZGU6bm9jYXBlcyE=") == (
            b"CONNECT server.example.com:80 HTTP/1.1\r\nHost: server.example.com:80\r\n"
            b"Proxy-Authorization: Basic ZWRuYW1vZGU6bm9jYXBlcyE=\r\n\r\n"
        )

    def test_what_cannot_be_sent(self) -> None:
        assert basic_authorization("\xe4", "a:b") == "Basic w6Q6YTpi"
        with pytest.raises(ValueError, match="colon"):
            basic_authorization("a:b", "c")
        with pytest.raises(ValueError, match="control"):
            encode_connect(TARGET, "Basic a\r\nX: y")


FIELDS = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", ACCEPT))


def reply(*more: tuple[str, str], without: Iterable[str] = (), line: str = "HTTP/1.1 101 Switching Protocols") -> Reply:
    """The answer of RFC 6455 1.3 with some fields added or left out."""
    fields = [field for field in FIELDS if field[0] not in set(without)] + list(more)
    head = "\r\n".join([line, *(f"{name}: {value}" for name, value in fields), "", ""])
    found = ReplyReader().feed(head.encode("latin-1"))
    assert found is not None
    assert found[1] == b""
    return found[0]


def instead(name: str, value: str) -> Reply:
    return reply((name, value), without=[name])


def check(
    answer: Reply, subprotocols: tuple[str, ...] = ("chat", "superchat"), settings: Settings | None = SETTINGS
) -> tuple[str | None, Agreement | None]:
    return check_reply(answer, KEY, subprotocols, settings)


def refusal(
    answer: Reply, subprotocols: tuple[str, ...] = ("chat", "superchat"), settings: Settings | None = SETTINGS
) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        check(answer, subprotocols, settings)
    assert caught.value.cause in ConnectError.CAUSES
    assert caught.value.text
    return caught.value


DEFLATE = ("Sec-WebSocket-Extensions", "permessage-deflate")
CHAT = ("Sec-WebSocket-Protocol", "chat")

# One row for each MUST: its words, an answer that passes, one that does not, and the cause of the failure.
REPLY_MUSTS = [
    pytest.param(
        reply(),
        reply(line="HTTP/1.1 200 OK"),
        "status",
        id='1 "If the status code received from the server is not 101"',
    ),
    pytest.param(
        reply(),
        reply(line="HTTP/1.0 101 Switching Protocols"),
        "reply",
        id='4.2.2 "A Status-Line with a 101 response code"',
    ),
    pytest.param(instead("Upgrade", "WEBsocket"), reply(without=["Upgrade"]), "reply", id='2 "lacks an |Upgrade|"'),
    pytest.param(
        reply(("uPGRADE", "WebSocket"), without=["Upgrade"]),
        instead("Upgrade", "websocket/13"),
        "reply",
        id='2 "not an ASCII case-insensitive match for the value "websocket""',
    ),
    pytest.param(reply(), instead("Upgrade", "websocket, h2c"), "reply", id="2 one of two"),
    pytest.param(reply(), reply(("Upgrade", "websocket")), "reply", id="2 twice"),
    pytest.param(reply(), instead("Upgrade", "webs\xf6cket"), "reply", id="2 not ASCII"),
    pytest.param(reply(), reply(without=["Connection"]), "reply", id='3 "lacks a |Connection|"'),
    pytest.param(
        instead("Connection", "keep-alive ,\tuPGRADE"),
        instead("Connection", "keep-alive"),
        "reply",
        id='3 "doesn\'t contain a token that is an ASCII case-insensitive match for the value "Upgrade""',
    ),
    pytest.param(reply(("Connection", "x")), instead("Connection", "Upgraded"), "reply", id="3 a longer word"),
    pytest.param(reply(), reply(without=["Sec-WebSocket-Accept"]), "accept", id='4 "lacks a |Sec-WebSocket-Accept|"'),
    pytest.param(
        reply(),
        instead("Sec-WebSocket-Accept", "t3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "accept",
        id='4 "a value other than the base64-encoded SHA-1"',
    ),
    pytest.param(
        instead("Sec-WebSocket-Accept", f" \t {ACCEPT}\t "),
        instead("Sec-WebSocket-Accept", f"{ACCEPT[:5]} {ACCEPT[5:]}"),
        "accept",
        id='4 "but ignoring any leading and trailing whitespace"',
    ),
    pytest.param(reply(), instead("Sec-WebSocket-Accept", ACCEPT.lower()), "accept", id="4 in another case"),
    pytest.param(reply(), instead("Sec-WebSocket-Accept", KEY), "accept", id="4 our own key"),
    pytest.param(reply(), instead("Sec-WebSocket-Accept", ""), "accept", id="4 empty"),
    pytest.param(
        reply(),
        reply(("Sec-WebSocket-Accept", ACCEPT)),
        "accept",
        id='11.3.3 "MUST NOT appear more than once in an HTTP response"',
    ),
    pytest.param(
        reply(DEFLATE),
        reply(("Sec-WebSocket-Extensions", "x-webkit-deflate-frame")),
        "extension",
        id='5 "the use of an extension that was not present in the client\'s handshake"',
    ),
    pytest.param(
        reply(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits=12")),
        reply(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")),
        "extension",
        id="5 RFC 7692 7: parameters that answer no offer",
    ),
    pytest.param(
        reply(("Sec-WebSocket-Extensions", ' permessage-deflate ; server_max_window_bits="12"')),
        reply(("Sec-WebSocket-Extensions", "permessage-deflate; ;")),
        "extension",
        id='9.1 "that does not conform to the ABNF"',
    ),
    pytest.param(
        reply(DEFLATE),
        reply(DEFLATE, ("Sec-WebSocket-Extensions", "")),
        "extension",
        id='11.3.2 "MUST NOT appear more than once in an HTTP response"',
    ),
    pytest.param(
        reply(CHAT),
        reply(("Sec-WebSocket-Protocol", "other")),
        "subprotocol",
        id='6 "the use of a subprotocol that was not present in the client\'s handshake"',
    ),
    pytest.param(
        reply(("Sec-WebSocket-Protocol", " superchat ")),
        reply(("Sec-WebSocket-Protocol", "chat, superchat")),
        "subprotocol",
        id="6 both of them",
    ),
    pytest.param(reply(CHAT), reply(("Sec-WebSocket-Protocol", "Chat")), "subprotocol", id="6 in another case"),
    pytest.param(reply(), reply(("Sec-WebSocket-Protocol", "")), "subprotocol", id="6 empty"),
    pytest.param(
        reply(CHAT),
        reply(CHAT, ("Sec-WebSocket-Protocol", "superchat")),
        "subprotocol",
        id='11.3.4 "MUST NOT appear more than once in an HTTP response"',
    ),
    pytest.param(
        reply(("set-COOKIE", "a=b"), ("upgrade", "websocket"), without=["Upgrade"]),
        reply(("Up-grade", "websocket"), without=["Upgrade"]),
        "reply",
        id='"all header field names in both HTTP requests and HTTP responses are case-insensitive"',
    ),
]


class TestReply:
    """Section 4.1: "The client MUST validate the server's response as follows"."""

    @pytest.mark.parametrize(("good", "bad", "cause"), REPLY_MUSTS)
    def test_each_must(self, good: Reply, bad: Reply, cause: str) -> None:
        check(good)
        error = refusal(bad)
        assert error.cause == cause
        assert error.status in (0, bad.status)

    def test_nothing_was_agreed_on(self) -> None:
        assert check(reply()) == (None, None)
        assert check(reply(), (), None) == (None, None)

    def test_what_was_agreed_on(self) -> None:
        subprotocol, agreement = check(
            reply(CHAT, ("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=10"))
        )
        assert subprotocol == "chat"
        assert agreement == Agreement(False, False, 10, 15, (("server_max_window_bits", "10"),))

    def test_who_offered_nothing_gets_nothing(self) -> None:
        assert refusal(reply(CHAT), subprotocols=()).cause == "subprotocol"
        assert refusal(reply(DEFLATE), settings=None).cause == "extension"

    @pytest.mark.parametrize("body_header", [("Content-Length", "5"), ("Transfer-Encoding", "chunked")])
    def test_a_101_has_no_body_whatever_it_says(self, body_header: tuple[str, str]) -> None:
        """RFC 9112 6.3, 1: it "is always terminated by the first empty line after the header fields"."""
        assert check(reply(body_header)) == (None, None)

    @pytest.mark.parametrize(
        ("line", "more", "text"),
        [
            ("HTTP/1.1 404 Not Found", [], "the server answered 404 Not Found"),
            ("HTTP/1.0 500 ", [], "the server answered 500"),
            ("HTTP/1.1 400 \xe4\tb'c", [], r"the server answered 400 \xe4\tb'c"),
            (
                "HTTP/1.1 302 Found",
                [("Location", "https://a.example/")],
                "the server answered 302 Found, which points to 'https://a.example/'",
            ),
            ("HTTP/1.1 201 Created", [("Location", "/b")], "the server answered 201 Created"),
            (
                "HTTP/1.1 426 Upgrade Required",
                [("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Version", "7")],
                "the server answered 426 Upgrade Required; it speaks WebSocket version '8, 7'",
            ),
        ],
    )
    def test_what_a_refusal_says(self, line: str, more: list[tuple[str, str]], text: str) -> None:
        error = refusal(reply(*more, without=["Upgrade"], line=line))
        assert (error.cause, error.text, error.status) == ("status", text, int(line[9:12]))

    def test_a_text_repeats_only_so_much(self) -> None:
        assert len(refusal(reply(line="HTTP/1.1 404 " + "x" * 5000)).text) < 300
        assert len(refusal(reply(("Sec-WebSocket-Protocol", "x" * 5000))).text) < 400
        assert refusal(reply(("Sec-WebSocket-Protocol", "\x80\x9b31m"))).text.isascii()

    @pytest.mark.parametrize(
        "field",
        [
            ("Connection", "\t" * 32000 + "x"),
            ("Connection", ", " * 16000),
            ("Upgrade", "websocket" + " " * 32000 + "x"),
            ("Sec-WebSocket-Accept", "=" * 32000),
            ("Sec-WebSocket-Protocol", "," * 32000),
            ("Sec-WebSocket-Extensions", 'a; b="' + "\\c" * 16000),
        ],
    )
    def test_no_header_takes_long(self, field: tuple[str, str]) -> None:
        """Sixteen times the header would take 256 times as long if it were quadratic; a busy machine is forgiven."""

        def took(value: str) -> float:
            answer = Reply(instead_raw(field[0], value))
            best = 1e9
            for _ in range(5):
                start = time.process_time()
                try:
                    check(answer)
                except ConnectError:
                    pass
                best = min(best, time.process_time() - start)
            return best

        assert took(field[1]) < 64 * took(field[1][: len(field[1]) // 16]) + 0.001


def instead_raw(name: str, value: str) -> bytes:
    """A head with one field in the place of another, larger than a reader would take."""
    fields = [field for field in FIELDS if field[0] != name] + [(name, value)]
    lines = ["HTTP/1.1 101 X", *(f"{key}: {text}" for key, text in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")
