"""Conversations of a peer with the context, each of which goes to its end where no fault befalls it.

Owns what is said.  Must not know faults: where one shows, the peer's call raises, and the conversation is over.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.faults.outgoing import (
    adopted,
    client,
    client_by_proxy,
    client_closes,
    client_raw,
    client_refused,
    descriptors,
    happy_eyeballs,
    stopped,
    tied,
)
from tests.faults.payloads import HUGE, LARGE, SMALL
from tests.faults.peers import Stepped
from tests.faults.plugins import Bytes, Echo, Pieces, Relay, Room, Web
from tests.faults.world import World
from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, Client, close_frame, frame, upgrade_request
from tests.support.deflating import OFFER, TAIL, fragments


class Conversation(NamedTuple):
    """What is said, and what it takes."""

    play: Callable[[World], None]
    protocols: tuple[type, ...] = (Echo,)
    listen: dict[str, Any] = {}
    stops: bool = False


def echo(world: World) -> None:
    """Small, large, fragmented, with pings between the fragments; closed by the client."""
    peer = world.client()
    peer.open()
    peer.say("hello")
    assert peer.receive_message() == "hello"
    peer.say(LARGE, frame(BINARY, LARGE))
    assert peer.receive_message() == LARGE
    peer.say(
        "in three parts",
        frame(TEXT, "in ", final=False),
        frame(PING, b"1"),
        frame(CONTINUATION, "three ", final=False),
        frame(PING, b"2"),
        frame(PONG, b"nobody asked"),
        frame(CONTINUATION, "parts"),
    )
    assert peer.receive_message() == "in three parts"
    peer.say("ping")
    peer.awaits = [message for message in peer.said if message != b"ping"]
    while (got := peer.receive_frame()).payload != b"from the plugin":
        assert got.opcode == PONG
    peer.finish(1000, "enough")


def in_one_piece(world: World) -> None:
    """The request, messages and the Close in one packet."""
    peer = world.client()
    peer.said += [b"one", b"two"]
    peer.send(upgrade_request(protocols="echo"), frame(TEXT, "one"), frame(TEXT, "two"), close_frame())
    peer.receive_until(b"\r\n\r\n")
    peer.listen()
    assert [peer.receive_message(), peer.receive_message()] == ["one", "two"]
    peer.receive_close()
    assert peer.receive_end() == b""


def huge(world: World) -> None:
    """Messages larger than all buffers, to a peer that reads when it has sent all."""
    peer = world.client(**SMALL)
    peer.open()
    for _ in range(2):
        peer.say(HUGE, frame(BINARY, HUGE))
    assert [peer.receive_message(), peer.receive_message()] == [HUGE, HUGE]
    peer.finish()


def pieces(world: World) -> None:
    """Taken piece by piece, sent back in fragments."""
    peer = world.client()
    peer.open(protocols="pieces")
    for message in (LARGE, b"short", b""):
        peer.say(message, frame(BINARY, message))
    assert [peer.receive_message() for _ in range(3)] == [LARGE, b"short", b""]
    peer.send(frame(TEXT, "the beginning of", final=False))
    peer.finish()


def compressed(world: World) -> None:
    """With permessage-deflate, in frames and fragments."""
    peer = world.client()
    deflate = zlib.compressobj(wbits=-15)
    peer.open(headers=[("Sec-WebSocket-Extensions", OFFER)], window_bits=15)
    for payload, cuts in ((b"hello " * 20, ()), (LARGE, (5, 100)), (b"hello " * 20, ())):
        data = (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
        peer.say(payload, *fragments(BINARY, data, cuts))
    while len(peer.ear.messages) < 3:  # type: ignore[union-attr]
        peer._fill(0)
    peer.buffer.clear()
    peer.send(close_frame())
    assert peer.receive_end()


def server_closes(world: World) -> None:
    """The plugin closes, with clocks of its own running."""
    peer = world.client()
    peer.open()
    for text in ("timer", "hello", "close"):
        peer.say(text)
    peer.awaits = [b"hello"]
    assert peer.receive_message() == "hello"
    assert peer.receive_close().close_code == 4000
    peer.send(close_frame(4000))
    assert peer.receive_end() == b""


def silent_close(world: World) -> None:
    """The plugin closes, and the peer says nothing to that: time has to end it."""
    peer = world.client()
    peer.open()
    peer.awaits = []
    peer.say("close")
    assert peer.receive_close().close_code == 4000
    assert peer.receive_end() == b""


def reset(world: World) -> None:
    """The peer resets the connection while it is sent something."""
    peer = world.client(**SMALL)
    peer.open()
    peer.say(HUGE, frame(BINARY, HUGE))
    assert peer.receive_exactly(10000)
    Client.reset(peer)


def hang_up(world: World) -> None:
    """The peer ends its stream in the middle of a message, without a Close; what came before is answered."""
    peer = world.client()
    peer.open()
    peer.say("last words", frame(TEXT, "last words"), frame(TEXT, "and an unfinished sen", final=False))
    peer.shut_down_writing()
    assert peer.receive_message() == "last words"
    assert peer.receive_end() == b""


def violation(world: World) -> None:
    """The peer breaks the protocol behind a good message."""
    peer = world.client()
    peer.open()
    peer.say("good", frame(TEXT, "good"), frame(3, b"bad"))
    assert peer.receive_message() == "good"
    assert peer.receive_close().close_code == 1002
    peer.send(close_frame(1002))
    assert peer.receive_end() == b""


def broadcast(world: World) -> None:
    """Three peers, one of which says something to all."""
    peers = [world.client() for _ in range(3)]
    for peer in peers:
        peer.open(protocols="room")
    first, *others = peers
    first.say("all of you")
    first.say("all at once")
    heard = [b"all of you", b"all at once"]
    for peer in peers:
        peer.awaits = heard
        assert [peer.receive_message(), peer.receive_message()] == ["all of you", "all at once"]
    others[0].finish()
    Client.reset(others[1])
    first.finish()


def http(world: World) -> None:
    """Requests one after the other on one connection: bodies, answers from an iterator and from `on_http_writeable`."""
    peer = world.client()
    body = b"abc" * 9000
    world.uploads.append(body + b"more")
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    peer.send(head)
    peer.send(body)
    assert peer.receive_response().body == body
    peer.send(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n0\r\n\r\n")
    assert peer.receive_response().body == body + b"more"
    peer.send(b"GET /iterator HTTP/1.1\r\nHost: x\r\n\r\nGET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert peer.receive_response().body == Web.PIECE * 5
    assert peer.receive_response().body == Web.PIECE * 5
    peer.send(b"GET /missing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert peer.receive_response().status == 404
    assert peer.receive_end() == b""


def http_broken_off(world: World) -> None:
    """A download that the peer gives up, and an upgrade on a connection that has had plain requests."""
    peer = world.client(**SMALL)
    peer.send(b"GET /iterator HTTP/1.1\r\nHost: x\r\n\r\n")
    assert peer.receive_exactly(1000)
    Client.reset(peer)
    other = world.client()
    other.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert other.receive_response().body == Web.PIECE * 5
    other.open()
    other.say("hello")
    assert other.receive_message() == "hello"
    other.finish()


def refused(world: World) -> None:
    """No WebSocket comes of it: a bad version, no HTTP at all, and nothing at all."""
    peer = world.client()
    peer.send(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 7\r\n\r\n"
    )
    assert peer.receive_response().status in (400, 426)
    assert peer.receive_end() == b""
    other = world.client()
    other.send(b"\x16\x03\x01 no HTTP\r\n\r\n")
    assert other.receive_response().status == 400
    silent = world.client()
    silent.send(b"GET / HT")
    assert silent.receive_response().status == 408


def proxied(world: World) -> None:
    """Through proxies that say whom they speak for, in one piece and in several; and one that does not say it well."""
    lines = b"PROXY TCP4 192.0.2.7 192.0.2.1 5555 80\r\n"
    binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\7\xc0\0\2\1\x15\xb3\0\x50"
    for pieces in ((lines,), (lines[:3], lines[3:30], lines[30:]), (binary[:12], binary[12:])):
        peer = world.client()
        for piece in pieces:
            Stepped.send(peer, piece)
            world.settle()
        peer.open()
        assert {str(wsi.peer) for wsi in world.context._wsis} >= {"192.0.2.7:5555"}
        peer.say("hello")
        assert peer.receive_message() == "hello"
        peer.finish()
    other = world.client()
    Stepped.send(other, b"PROXY TCP4 nonsense\r\n")
    assert other.receive_end() == b""
    silent = world.client()
    Stepped.send(silent, lines[:10])
    assert silent.receive_end() == b""


def raw(world: World) -> None:
    """Bytes on a raw listener, and a peer that ends before it has everything."""
    peer = world.client()
    for data in (b"hello", LARGE):
        peer.send(data)
        assert peer.receive_exactly(len(data)) == data
    peer.send(b"the last")
    peer.shut_down_writing()
    assert peer.receive_end() == b"the last"


CONVERSATIONS = {
    play.__name__: Conversation(play, *rest)
    for play, *rest in (
        (echo,),
        (in_one_piece,),
        (huge,),
        (pieces, (Echo, Pieces)),
        (compressed,),
        (server_closes,),
        (silent_close,),
        (reset,),
        (hang_up,),
        (violation,),
        (broadcast, (Echo, Room)),
        (http, (Web, Echo)),
        (http_broken_off, (Web, Echo)),
        (refused,),
        (proxied, (Echo,), {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}),
        (raw, (Bytes, Echo), {"accept": "raw", "default_protocol": "bytes"}),
        (adopted, (Bytes, Echo)),
        (descriptors, (Bytes, Echo)),
        (stopped, (Web, Echo, Bytes), {"default_protocol": "echo"}, True),
        (client,),
        (client_closes,),
        (client_refused,),
        (client_by_proxy,),
        (client_raw, (Bytes, Echo)),
        (happy_eyeballs,),
        (tied, (Relay, Echo)),
    )
}
"""By name."""
