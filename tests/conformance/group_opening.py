"""The opening handshake: RFC 6455 sections 4.1 and 4.2, and as much of HTTP (RFC 9110, 9112) as it stands on.

Parts with an even number are what is refused.  What wsd the client asks for is checked in every case, by `opening.py`.
"""

from __future__ import annotations

from typing import Final

from tests.conformance.model import BYTES, Fragments, Group, ping, text
from tests.support.client import KEY, TEXT

GROUP: Final = Group(9, "Opening handshake")

_FIELDS: Final = (
    "Host: 127.0.0.1",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)
_REPLY_FIELDS: Final = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: {accept}")


def head(line: str, fields: tuple[str, ...], changes: tuple[str, ...]) -> bytes:
    """A head of these fields; one of `changes` takes the place of all of its name, "-Name" takes them out, "+Name: x"
    is one more."""
    lines = list(fields)
    for change in changes:
        name = change.lstrip("+-").partition(":")[0].strip().lower()
        kept = [field for field in lines if change[0] == "+" or field.partition(":")[0].lower() != name]
        lines = kept if change[0] == "-" else [*kept, change.removeprefix("+")]
    return "\r\n".join([line, *lines, "", ""]).encode("latin-1")


def asks(*changes: str, line: str = "GET / HTTP/1.1") -> bytes:
    """An upgrade request."""
    return head(line, _FIELDS, changes)


def says(*changes: str, line: str = "HTTP/1.1 101 Switching Protocols") -> bytes:
    """A 101."""
    return head(line, _REPLY_FIELDS, changes)


# The key and its answer are the RFC's own example (1.3).
_GOOD: Final = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
)
_NO_PROTOCOL: Final = (("Sec-WebSocket-Protocol", None),)

GROUP.part("Requests that are accepted", "6455 4.2.1")
GROUP.request(
    "the least that will do", asks(), 101, headers=(*_GOOD, *_NO_PROTOCOL, ("Sec-WebSocket-Extensions", None))
)
for title, request in (
    ("with a path and a query", asks(line="GET /a/b%20c?d=e&f HTTP/1.1")),
    ("with an absolute target", asks(line="GET http://127.0.0.1/a HTTP/1.1")),
    ("names in lower case", asks(f"sec-websocket-key: {KEY}", "upgrade: websocket", "sec-websocket-version: 13")),
    ("names in upper case", asks(f"SEC-WEBSOCKET-KEY: {KEY}", "UPGRADE: websocket", "SEC-WEBSOCKET-VERSION: 13")),
    ("Upgrade: WebSocket", asks("Upgrade: WebSocket")),
    ("Upgrade: WEBSOCKET", asks("Upgrade: WEBSOCKET")),
    ("Upgrade in a list", asks("Upgrade: h2c, websocket")),
    ("Connection: upgrade", asks("Connection: upgrade")),
    ("Connection in a list", asks("Connection: keep-alive, Upgrade")),
    ("Connection in a list without spaces", asks("Connection: keep-alive,Upgrade")),
    ("Connection with tabs and empty elements", asks("Connection: a, ,\tUpgrade\t, b")),
    ("Connection in two lines", asks("Connection: keep-alive", "+Connection: Upgrade")),
    ("no space behind the colons", asks(f"Sec-WebSocket-Key:{KEY}", "Upgrade:websocket")),
    ("spaces around the values", asks(f"Sec-WebSocket-Key: \t {KEY} \t", "Sec-WebSocket-Version:  13  ")),
    ("the key's last bits set", asks("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==")),
    ("Host with a port", asks("Host: 127.0.0.1:80")),
    ("Host in brackets", asks("Host: [::1]:7681")),
    ("an Origin that is the Host", asks("Origin: http://127.0.0.1")),
    ("an Origin with another port", asks("Origin: https://127.0.0.1:8443")),
    ("headers that nobody knows", asks("X-Unknown: a", "Cookie: a=b; c=d", "User-Agent: x\x80\xff")),
    ("90 headers more", asks(*(f"X-{number}: {number}" for number in range(90)))),
    ("8 KiB of cookies", asks("Cookie: " + "a" * 8192)),
    ("Content-Length: 0", asks("Content-Length: 0")),
    ("an empty line before it", b"\r\n" + asks()),
    ("no extensions in its list", asks("Sec-WebSocket-Extensions: x-unknown; a=1, x-other")),
):
    GROUP.request(title, request, 101)
GROUP.request(
    "a subprotocol", asks("Sec-WebSocket-Protocol: plain"), 101, headers=(("Sec-WebSocket-Protocol", "plain"),)
)
GROUP.request(
    "the second of two",
    asks("Sec-WebSocket-Protocol: unknown, plain"),
    101,
    headers=(("Sec-WebSocket-Protocol", "plain"),),
)
GROUP.request(
    "subprotocols in two lines",
    asks("Sec-WebSocket-Protocol: unknown", "+Sec-WebSocket-Protocol: plain"),
    101,
    headers=(("Sec-WebSocket-Protocol", "plain"),),
)
GROUP.request("byte by byte", asks(), 101, chop=BYTES)
for at in (1, 4, 15, 16, 40, -1, -2, -3, -4):
    GROUP.request(
        f"cut {at} bytes behind its start" if at > 0 else f"cut {-at} bytes before its end", asks(), 101, chop=(at,)
    )

GROUP.part("Requests that are refused", "6455 4.2.1")
for title, status, request in (
    ("POST", 405, asks(line="POST / HTTP/1.1")),
    ("PUT", 405, asks(line="PUT / HTTP/1.1")),
    ("HEAD", 405, asks(line="HEAD / HTTP/1.1")),
    ("HTTP/1.0", 400, asks(line="GET / HTTP/1.0")),
    ("no Host", 400, asks("-Host")),
    ("two Hosts", 400, asks("+Host: other")),
    ("a Host that is none", 400, asks("Host: a b")),
    ("no Upgrade", 400, asks("-Upgrade")),
    ("another Upgrade", 400, asks("Upgrade: h2c")),
    ("an empty Upgrade", 400, asks("Upgrade: ")),
    ("Upgrade: websockets", 400, asks("Upgrade: websockets")),
    ("no Connection", 400, asks("-Connection")),
    ("Connection: keep-alive", 400, asks("Connection: keep-alive")),
    ("Connection: NotUpgrade", 400, asks("Connection: NotUpgrade")),
    ("no key", 400, asks("-Sec-WebSocket-Key")),
    ("an empty key", 400, asks("Sec-WebSocket-Key: ")),
    ("two keys", 400, asks(f"+Sec-WebSocket-Key: {KEY}")),
    ("a key of 15 bytes", 400, asks("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4P")),
    ("a key of 17 bytes", 400, asks("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEBE=")),
    ("a key without its padding", 400, asks(f"Sec-WebSocket-Key: {KEY[:-2]}")),
    ("a key with a character too many", 400, asks(f"Sec-WebSocket-Key: {KEY}x")),
    ("a key that is no base64", 400, asks(f"Sec-WebSocket-Key: !{KEY[1:]}")),
    ("a key in the base64 of URLs", 400, asks("Sec-WebSocket-Key: __79-_79-_79-_79-_79-w==")),
    ("no version", 400, asks("-Sec-WebSocket-Version")),
    ("two versions", 400, asks("+Sec-WebSocket-Version: 13")),
    ("a body, by its length", 400, asks("Content-Length: 5") + b"hello"),
    ("a body, in chunks", 400, asks("Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    ("subprotocols that are not known", 400, asks("Sec-WebSocket-Protocol: unknown, other")),
    ("a subprotocol in the wrong case", 400, asks("Sec-WebSocket-Protocol: PLAIN")),
    ("a subprotocol that is no token", 400, asks("Sec-WebSocket-Protocol: pl ain")),
):
    GROUP.request(title, request, status)
# 4.4: "If the server doesn't support the requested version, it MUST respond with a |Sec-WebSocket-Version| header field
# [...] containing all versions it is willing to use."
for version in ("0", "8", "12", "14", "255", "13, 8"):
    GROUP.request(
        f"version {version}",
        asks(f"Sec-WebSocket-Version: {version}"),
        426,
        section="6455 4.4",
        headers=(("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")),
    )
for title, value in (
    ("of somebody else", "http://elsewhere.example"),
    ("null", "null"),
    ("that begins with the Host", "http://127.0.0.1.example"),
    ("that is none", "127.0.0.1"),
):
    GROUP.request(f"an Origin {title}", asks(f"Origin: {value}"), 403, section="6455 10.2")
for title, section, status, request in (
    ("HTTP/2.0", "9110 15.6.6", 505, asks(line="GET / HTTP/2.0")),
    ("no version of HTTP", "9112 3", 400, asks(line="GET /")),
    ("two spaces in the request line", "9112 3", 400, asks(line="GET  / HTTP/1.1")),
    ("a target with a fragment", "9112 3.2", 400, asks(line="GET /#a HTTP/1.1")),
    ("a target that is none", "9112 3.2", 400, asks(line="GET example.com HTTP/1.1")),
    ("a method that nobody knows", "9110 15.6.2", 501, asks(line="FOO / HTTP/1.1")),
    ("a space before a colon", "9112 5.1", 400, asks("+X-A : b")),
    ("a header without a colon", "9112 5", 400, asks("+X-A")),
    ("a header without a name", "9112 5", 400, asks("+: b")),
    ("a header's name that is no token", "9112 5", 400, asks("+X(A: b")),
    ("a header on two lines", "9112 5.2", 400, asks("+X-A: b\r\n c")),
    ("NUL in a header", "9110 5.5", 400, asks("+X-A: a\0b")),
    ("a control character in a header", "9110 5.5", 400, asks("+X-A: a\x01b")),
    ("CR in a header", "9112 2.2", 400, asks("+X-A: a\rb")),
    ("a line that ends in LF", "9112 2.2", 400, asks().replace(b"Upgrade: websocket\r\n", b"Upgrade: websocket\n")),
    ("no line that ends in CR", "9112 2.2", 400, asks().replace(b"\r\n", b"\n")),
    ("102 headers", "6585 5", 431, asks(*(f"X-{number}: {number}" for number in range(97)))),
    ("20 KiB of headers", "6585 5", 431, asks("Cookie: " + "a" * 20_480)),
    ("a target of 9000 bytes", "9110 15.5.15", 414, asks(line="GET /" + "a" * 9000 + " HTTP/1.1")),
    ("two lengths of the body", "9112 6.3", 400, asks("Content-Length: 0", "+Content-Length: 0")),
    ("extensions that end in a semicolon", "6455 9.1", 400, asks("Sec-WebSocket-Extensions: a;")),
    ("an extension with a space in its name", "6455 9.1", 400, asks("Sec-WebSocket-Extensions: a b")),
    ("an extension that begins with =", "6455 9.1", 400, asks("Sec-WebSocket-Extensions: =a")),
    ("an extension's parameter without a value", "6455 9.1", 400, asks("Sec-WebSocket-Extensions: a; b=")),
    ("an extension's parameter with two values", "6455 9.1", 400, asks("Sec-WebSocket-Extensions: a; b=c=d")),
    ("an extension with a quote that is not ended", "6455 9.1", 400, asks('Sec-WebSocket-Extensions: a; b="c')),
    ("an extension with a quoted space", "6455 9.1", 400, asks('Sec-WebSocket-Extensions: a; b="c d"')),
    ("an extension with an empty quote", "6455 9.1", 400, asks('Sec-WebSocket-Extensions: a; b=""')),
    ("a TLS ClientHello", "9112 3", 400, bytes.fromhex("160301007a010000760303") + bytes(range(100))),
    ("a frame", "9112 3", 400, b"\x81\x85\x01\x02\x03\x04hello" * 8),
):
    GROUP.request(title, request, status, section=section)

GROUP.part("Answers that open the connection", "6455 4.1")
for title, reply in (
    ("the least that will do", says()),
    ("no reason phrase", says(line="HTTP/1.1 101 ")),
    ("another reason phrase", says(line="HTTP/1.1 101 Web Socket Protocol Handshake")),
    ("Upgrade: WebSocket", says("Upgrade: WebSocket")),
    ("Connection: upgrade", says("Connection: upgrade")),
    ("Connection in a list", says("Connection: keep-alive, Upgrade")),
    ("names in lower case", says().lower().replace(b"http", b"HTTP")),
    ("names in upper case", says("UPGRADE: websocket", "SEC-WEBSOCKET-ACCEPT: {accept}")),
    ("spaces around the values", says("Sec-WebSocket-Accept: \t {accept} \t", "Upgrade:  websocket  ")),
    ("no space behind the colons", says("Sec-WebSocket-Accept:{accept}", "Upgrade:websocket")),
    ("headers that nobody knows", says("Server: x", "Date: yesterday", "Set-Cookie: a=b", "X-A: \x80\xff")),
    ("90 headers more", says(*(f"X-{number}: {number}" for number in range(90)))),
    ("behind 100", b"HTTP/1.1 100 Continue\r\n\r\n" + says()),
    ("behind 103 with headers", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + says()),
):
    GROUP.reply(title, reply)
GROUP.reply("no subprotocol, and one was offered", says(), subprotocols=("plain",))
GROUP.reply("the subprotocol", says("Sec-WebSocket-Protocol: plain"), subprotocols=("plain",))
GROUP.reply("the second of two", says("Sec-WebSocket-Protocol: b"), subprotocols=("a", "b"))
GROUP.reply("byte by byte", says(), chop=BYTES)
for at in (1, 9, 12, 34, -1, -2, -3, -4):
    GROUP.reply(f"cut {at} bytes behind its start" if at > 0 else f"cut {-at} bytes before its end", says(), chop=(at,))
# 4.2.2: "At this point, the server may begin sending (and receiving) data."
GROUP.reply("a message in the same segment", says(), behind=(text("first"),), messages=((TEXT, b"first"),))
GROUP.reply(
    "a message in the same segment, byte by byte",
    says(),
    behind=(text("first"),),
    messages=((TEXT, b"first"),),
    chop=BYTES,
)
GROUP.reply(
    "fragments and a Ping in the same segment",
    says(),
    behind=(ping(b"p"), Fragments(TEXT, b"first", 2)),
    messages=((TEXT, b"first"),),
)

GROUP.part("Answers that do not", "6455 4.1")
for status in (200, 204, 301, 302, 304, 307, 400, 401, 403, 404, 407, 426, 429, 500, 502, 503, 599):
    GROUP.reply(f"{status}", says("Content-Length: 0", line=f"HTTP/1.1 {status} Reason"), "status")
GROUP.reply("404 with a body", b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone", "status")
GROUP.reply("404 with a body until the end", b"HTTP/1.1 404 Not Found\r\n\r\nnone", "status", ends=True)
for title, cause, reply in (
    ("no Upgrade", "reply", says("-Upgrade")),
    ("another Upgrade", "reply", says("Upgrade: h2c")),
    ("an empty Upgrade", "reply", says("Upgrade: ")),
    ("Upgrade with a second value", "reply", says("Upgrade: websocket, h2c")),
    ("no Connection", "reply", says("-Connection")),
    ("Connection: keep-alive", "reply", says("Connection: keep-alive")),
    ("Connection: close", "reply", says("Connection: close")),
    ("no Sec-WebSocket-Accept", "accept", says("-Sec-WebSocket-Accept")),
    ("an empty Sec-WebSocket-Accept", "accept", says("Sec-WebSocket-Accept: ")),
    ("the Sec-WebSocket-Accept of another key", "accept", says("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
    ("Sec-WebSocket-Accept with a character too many", "accept", says("Sec-WebSocket-Accept: {accept}x")),
    ("two Sec-WebSocket-Accept", "accept", says("+Sec-WebSocket-Accept: {accept}")),
    ("a subprotocol that was not offered", "subprotocol", says("Sec-WebSocket-Protocol: other")),
    ("an extension that was not offered", "extension", says("Sec-WebSocket-Extensions: x-unknown")),
    ("extensions that cannot be read", "extension", says("Sec-WebSocket-Extensions: ;")),
):
    GROUP.reply(title, reply, cause)
GROUP.reply(
    "another subprotocol than was offered", says("Sec-WebSocket-Protocol: b"), "subprotocol", subprotocols=("a",)
)
GROUP.reply("a subprotocol in the wrong case", says("Sec-WebSocket-Protocol: A"), "subprotocol", subprotocols=("a",))
GROUP.reply("both of two subprotocols", says("Sec-WebSocket-Protocol: a, b"), "subprotocol", subprotocols=("a", "b"))
GROUP.reply(
    "two lines of subprotocols",
    says("Sec-WebSocket-Protocol: a", "+Sec-WebSocket-Protocol: b"),
    "subprotocol",
    subprotocols=("a", "b"),
)
for title, section, reply in (
    ("HTTP/1.0", "9110 15.2", says(line="HTTP/1.0 101 Switching Protocols")),
    ("http in lower case", "9112 2.3", says(line="http/1.1 101 Switching Protocols")),
    ("HTTP/2.0", "9112 2.3", says(line="HTTP/2.0 101 Switching Protocols")),
    ("another protocol", "9112 4", b"SSH-2.0-OpenSSH_9.2\r\n"),
    ("a frame", "9112 4", b"\x81\x05hello"),
    ("a status of two digits", "9112 4", says(line="HTTP/1.1 99 No")),
    ("a status of four digits", "9112 4", says(line="HTTP/1.1 1010 No")),
    ("a status that is no number", "9112 4", says(line="HTTP/1.1 1O1 No")),
    ("a space before a colon", "9112 5.1", says("+X-A : b")),
    ("a header without a colon", "9112 5", says("+X-A")),
    ("a header without a name", "9112 5", says("+: b")),
    ("NUL in a header", "9110 5.5", says("+X-A: a\0b")),
    ("a control character in a header", "9110 5.5", says("+X-A: a\x01b")),
    ("CR in a header", "9112 2.2", says("+X-A: a\rb")),
    ("no line that ends in CR", "9112 2.2", says().replace(b"\r\n", b"\n")),
    ("102 headers", "9110 5.4", says(*(f"X-{number}: {number}" for number in range(99)))),
    ("20 KiB of headers", "9110 5.4", says("X-A: " + "a" * 20_480)),
    ("20 KiB of interim answers", "9110 15.2", (b"HTTP/1.1 100 Continue\r\n\r\n" * 900)[:20_480]),
):
    GROUP.reply(title, reply, "reply", section=section)
GROUP.reply("nothing but the end", b"", "reset", ends=True)
GROUP.reply("half an answer and the end", says()[:40], "reset", ends=True)
GROUP.reply("100 and the end", b"HTTP/1.1 100 Continue\r\n\r\n", "reset", ends=True)
