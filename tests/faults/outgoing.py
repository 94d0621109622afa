"""Conversations on connections that came otherwise than through the listener: taken in, or opened by us; and a stop.

Owns what is said on them.  Must not know faults; see `conversations.py`.
"""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import tty
from collections.abc import Callable
from typing import Any
from unittest import mock

from tests.faults.payloads import HUGE, LARGE, SMALL
from tests.faults.peers import Stepped
from tests.faults.plugins import Relay
from tests.faults.world import World, new_door
from tests.support.client import BINARY, PING, PONG, TEXT, close_frame, frame
from tests.support.server import answer
from wsd.resolver import Address, Lookup


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
