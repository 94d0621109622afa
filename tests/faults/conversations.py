"""Conversations of a peer with the context, each of which goes to its end where no fault befalls it.

Owns what is said.  Must not know faults: where one shows, the peer's call raises, and the conversation is over.
"""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import tty
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

from tests.faults.plugins import Bytes, Echo, Pieces, Relay, Room, Web
from tests.faults.world import Stepped, World, new_door
from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, Client, close_frame, frame, upgrade_request
from tests.support.deflating import OFFER, TAIL, fragments
from tests.support.server import answer
from wsd.resolver import Address, Lookup

LARGE = bytes(range(256)) * 300
"""More than one read brings, and more than is copied into one buffer."""

HUGE = bytes(range(256)) * 1200
"""More than the sockets' buffers hold, with those of `SMALL`."""

SMALL = {"SO_RCVBUF": 4096}


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
    """Requests one after the other on one connection: a body, an answer from an iterator, one from `on_http_writeable`."""
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
    peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 7\r\n\r\n")
    assert peer.receive_response().status in (400, 426)
    assert peer.receive_end() == b""
    other = world.client()
    other.send(b"\x16\x03\x01 no HTTP\r\n\r\n")
    assert other.receive_response().status == 400
    silent = world.client()
    silent.send(b"GET / HT")
    assert silent.receive_response().status == 408


def raw(world: World) -> None:
    """Bytes on a raw listener, and a peer that ends before it has everything."""
    peer = world.client()
    for data in (b"hello", LARGE):
        peer.send(data)
        assert peer.receive_exactly(len(data)) == data
    peer.send(b"the last")
    peer.shut_down_writing()
    assert peer.receive_end() == b"the last"


# -- connections that are taken in, or go out ---------------------------------------------------------------------------


def adopted(world: World) -> None:
    """One end of a pair of sockets as a WebSocket, one of another as a raw connection."""
    for is_raw in (False, True):
        ours, theirs = socket.socketpair()
        sock = world.schedule.wrap(theirs)
        peer = Stepped(world, ours)
        try:
            world.context.adopt_socket(sock, "bytes" if is_raw else "echo", raw=is_raw)
        except ValueError:  # refused: it stays ours
            sock.close()
            continue
        if not is_raw:
            peer.open()
            peer.say("hello")
            assert peer.receive_message() == "hello"
            peer.finish()
        else:
            peer.send(b"hello")
            assert peer.receive_exactly(5) == b"hello"
            peer.shut_down_writing()
            assert peer.receive_end() == b""


def descriptors(world: World) -> None:
    """Two pipes, of which we read one and write the other, and a terminal."""
    end, far = os.pipe()
    with open(far, "wb", buffering=0) as pipe:
        world.context.adopt_descriptor(end, "bytes")
        world.settle()
        pipe.write(LARGE[:30000])
        world.uploads.append(LARGE[:30000])
        world.settle()
    near, end = os.pipe()
    with open(near, "rb", buffering=0) as pipe:
        wsi = world.context.adopt_descriptor(end, "bytes")
        world.settle()
        for _ in range(3):
            wsi.send(LARGE)
        got = b""
        while data := _read(world, pipe):
            got += data
            if len(got) == 3 * len(LARGE):
                wsi.close()
        assert got == 3 * LARGE
    master, slave = pty.openpty()
    tty.setraw(slave)
    with open(master, "wb", buffering=0):
        wsi = world.context.adopt_descriptor(slave, "bytes")
        world.settle()
        wsi.send(LARGE)
        world.settle()


def _read(world: World, pipe: Any) -> bytes:
    """What a pipe brings, or b"" at its end."""
    os.set_blocking(pipe.fileno(), False)
    while (data := pipe.read(100_000)) is None:
        world.advance(pipe)
    return bytes(data)


def stopped(world: World) -> None:
    """A stop, while there is one connection of each kind: one that is open, one that is sent something, one that has
    not said what it wants, downloads and uploads, a raw one, a connect without an answer."""
    peers = [world.client(**SMALL) for _ in range(5)]
    peers[0].open()
    peers[1].open()
    peers[1].say(HUGE, frame(BINARY, HUGE))
    peers[2].send(b"GET / HTTP/1.1\r\nHo")
    peers[3].send(b"GET /iterator HTTP/1.1\r\nHost: x\r\n\r\n")
    peers[4].send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
    world.uploads.append(b"abc")
    ours, theirs = socket.socketpair()
    Stepped(world, ours)
    sock = world.schedule.wrap(theirs)
    try:
        world.context.adopt_socket(sock, "bytes", raw=True)
    except ValueError:
        sock.close()
    with new_door() as door:
        world.connect(door)
        world.accept(door).receive_request()
        world.connect(door)


def client(world: World) -> None:
    """A connect of ours: the handshake, messages, and a close by the server."""
    with new_door() as door:
        world.connect(door)
        peer = world.accept(door)
        peer.switch("Sec-WebSocket-Protocol: echo")
        peer.listen(is_masked=True)
        for message in (b"hello", LARGE):
            peer.say(message, frame(BINARY, message, mask=None))
            assert peer.receive_message() == message
        peer.send(frame(PING, b"are you there", mask=None))
        assert peer.receive_frame().opcode == PONG
        peer.finish()


def client_closes(world: World) -> None:
    """A connect of ours with compression, which our plugin closes."""
    with new_door() as door:
        world.connect(door)
        peer = world.accept(door)
        peer.switch("Sec-WebSocket-Protocol: echo", "Sec-WebSocket-Extensions: permessage-deflate")
        peer.listen(is_masked=True, window_bits=15)
        peer.awaits = []
        peer.say("close", frame(TEXT, "close", mask=None))
        assert peer.receive_close().close_code == 4000
        peer.send_close(4000)
        peer.shut_down_writing()
        assert peer.receive_end() == b""


def client_refused(world: World) -> None:
    """Connects that come to nothing: nobody listens; a 403; an answer that breaks off; none at all."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # where it does not listen
        world.connect(nobody)
        world.settle()
    with new_door() as door:
        for number in range(3):
            world.connect(door)
            peer = world.accept(door)
            peer.receive_request()
            if number == 0:
                peer.send(answer("403 Forbidden", "Content-Length: 10", body="not for yo"))
            elif number == 1:
                peer.send(b"HTTP/1.1 101 Swit")
                peer.disconnect()
            if number != 1:
                assert peer.receive_end() == b""
    while len(world.record.calls) < 5:  # the one beside is among them
        world.advance()


def client_by_proxy(world: World) -> None:
    """A connect through a proxy."""
    with new_door() as door:
        proxy = f"http://127.0.0.1:{door.getsockname()[1]}"
        wsi = world.context.client_connect("ws://name.example/", protocol="echo", proxy=proxy)
        world.record.connects.append(wsi)
        peer = world.accept(door)
        assert peer.receive_request().method == "CONNECT"
        peer.send(answer("200 OK"))
        peer.switch("Sec-WebSocket-Protocol: echo", then=frame(TEXT, "hello", mask=None))
        peer.said.append(b"hello")
        peer.listen(is_masked=True)
        assert peer.receive_message() == "hello"
        peer.finish()


def client_raw(world: World) -> None:
    """A raw connect, and a second one that waits for its turn."""
    with new_door() as door:
        for _ in range(2):
            world.connect(door, scheme="tcp", protocol="bytes")
        for _ in range(2):
            peer = world.accept(door)
            peer.send(b"hello")
            assert peer.receive_exactly(5) == b"hello"
            peer.disconnect()


def happy_eyeballs(world: World) -> None:
    """A name with addresses of both families, of which one does not answer in time."""
    with contextlib.ExitStack() as stack:
        door, full = (stack.enter_context(new_door()) for _ in range(2))
        full.listen(0)  # of which one connection is enough
        stack.enter_context(socket.create_connection(full.getsockname()))
        found = [Address(socket.AF_INET, sock.getsockname()) for sock in (full, door)]
        stack.enter_context(mock.patch.object(world.context.resolver, "resolve", _Resolve(world, found)))
        world.record.connects.append(world.context.client_connect("ws://both.example/", protocol="echo"))
        peer = world.accept(door)
        peer.switch("Sec-WebSocket-Protocol: echo")
        peer.listen(is_masked=True)
        peer.finish()


class _Resolve:
    """A resolver that has found addresses."""

    def __init__(self, world: World, found: list[Any]) -> None:
        self.world, self.found = world, found

    def __call__(self, host: str, port: int, done: Callable[[Any], None]) -> Any:
        lookup = Lookup(done)
        self.world.context.call_soon(lambda: lookup.finish(self.found))
        return lookup


def tied(world: World) -> None:
    """A relay: one that comes in and one that goes out, tied to each other."""
    with new_door() as door:
        Relay.tls = world.client_tls
        Relay.url = f"{world.schemes['ws']}://127.0.0.1:{door.getsockname()[1]}/"
        peer = world.client()
        peer.open(protocols="relay")
        peer.said.append(b"forth")
        peer.send(frame(TEXT, "forth"))
        server = world.accept(door)
        server.switch("Sec-WebSocket-Protocol: relay")
        peer.awaits, server.awaits = server.said, peer.said
        server.listen(is_masked=True)
        assert server.receive_message() == "forth"
        server.say("and back", frame(TEXT, "and back", mask=None))
        assert peer.receive_message() == "and back"
        peer.send(close_frame(4001, "enough"))
        assert server.receive_close().close_code == 4001
        server.send_close(4001)
        server.shut_down_writing()
        assert peer.receive_close().close_code == 4001
        assert peer.receive_end() == b""


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
