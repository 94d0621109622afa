"""Our client against foreign servers: websockets, aiohttp and Node's ws, with what each of them can be told to answer
to each offer of ours."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import pytest

from tests.interop.our_client import OurClient, connect_wsd
from tests.interop.peer_aiohttp import serve_aiohttp
from tests.interop.peer_node import serve_node
from tests.interop.peer_websockets import serve_websockets
from tests.interop.peers import Deflate, Fragmenting, Peer, Serve, parameters
from tests.interop.samples import CLOSES, FRAGMENTS, MESSAGES, PROSE, joined
from tests.support.outgoing import dialing
from wsd.config import Compression, Limits

OFF = Compression(enabled=False)
OURS = {
    "defaults": Compression(),
    "a large window": Compression(window_bits=15, memory_level=9, level=9),
    "a small window": Compression(window_bits=9, memory_level=1, min_bytes=0),
    "nothing taken over": Compression(context_takeover=False, min_bytes=0),
}


class Server(NamedTuple):
    """Who serves and what it agrees to, and what we offer."""

    serve: Serve
    deflate: Deflate | None
    ours: str = ""

    def __str__(self) -> str:
        return f"{self.serve.__name__.removeprefix('serve_')}, {self.deflate or 'uncompressed'}, {self.ours or 'off'}"

    @property
    def compression(self) -> Compression:
        return OURS[self.ours] if self.ours else OFF


ANSWERS = [
    Deflate(),
    Deflate(server_no_context_takeover=True, client_no_context_takeover=True),
    Deflate(server_max_window_bits=9, client_max_window_bits=9),
    Deflate(server_no_context_takeover=True, client_max_window_bits=9),
]
ALL = (serve_websockets, serve_aiohttp, serve_node)
SERVERS = [
    *(Server(serve, None, ours) for serve in ALL for ours in ("", "defaults")),
    *(Server(serve, Deflate()) for serve in ALL),
    *(Server(*pair) for pair in product([serve_websockets, serve_node], ANSWERS, OURS)),
    *(Server(serve_aiohttp, Deflate(), ours) for ours in OURS),
]


class Pair(NamedTuple):
    """Both ends of one connection."""

    ours: OurClient
    theirs: Peer


@pytest.fixture(params=SERVERS, ids=str)
def server(request: pytest.FixtureRequest) -> Server:
    chosen: Server = request.param
    return chosen


@pytest.fixture
def pair(server: Server) -> Iterator[Pair]:
    with server.serve("chat", server.deflate) as served, connect_wsd(served.url, "chat", server.compression) as ours:
        yield Pair(ours, served.accept())


def test_a_whole_conversation(server: Server, pair: Pair) -> None:
    """One connection for all of it: with context takeover each message depends on those before."""
    ours, theirs = pair
    assert ours.wsi.subprotocol == theirs.subprotocol == "chat"
    assert ours.extensions == theirs.extensions
    assert ours.wsi.extensions == (("permessage-deflate",) if theirs.extensions else ())
    if server.deflate is None or not server.ours:
        assert ours.extensions == ""
    else:
        agreed = parameters(ours.extensions)
        assert "server_no_context_takeover" in agreed or server.compression.context_takeover
        assert {name for name, value in server.deflate._asdict().items() if value} <= set(agreed)
    for name, message in [*MESSAGES.items(), *MESSAGES.items()]:
        ours.send(message)
        assert theirs.receive() == message, name
        theirs.send(message)
        assert ours.receive() == message, name
    for fragments in FRAGMENTS:
        ours.send_fragments(fragments)
        assert theirs.receive() == joined(fragments)
        if isinstance(theirs, Fragmenting):
            theirs.send_fragments(fragments)
            assert ours.receive() == joined(fragments)
    theirs.ping(b"")
    theirs.ping(b"x" * 125)
    for payload in (b"", b"from us", b"y" * 125):
        ours.ping(payload)
        ours.send(PROSE)
        assert theirs.receive() == PROSE  # aiohttp answers a Ping only while somebody receives
        assert ours.pong() == payload
    for number in range(100):
        ours.send(f"{PROSE} {number}")
        theirs.send(f"{PROSE} {number}")
    expected = [f"{PROSE} {number}" for number in range(100)]
    assert [theirs.receive() for _ in range(100)] == expected
    assert [ours.receive() for _ in range(100)] == expected
    ours.close(4001, "done")
    assert theirs.end() == (4001, "done")
    assert ours.closed()[0] == (1000 if server.serve is serve_aiohttp else 4001)  # which it answers to any code


SOME = [server for server in SERVERS if server.ours in ("", "defaults") and server.deflate in (None, Deflate())]


@pytest.mark.parametrize(("code", "reason"), CLOSES)
@pytest.mark.parametrize("some", SOME, ids=str)
def test_who_closes(some: Server, code: int, reason: str) -> None:
    with some.serve("chat", some.deflate) as served:
        with connect_wsd(served.url, "chat", some.compression) as ours:
            theirs = served.accept()
            theirs.send(PROSE)
            assert ours.receive() == PROSE
            assert theirs.close(code, reason) == code
            assert ours.closed() == (code, reason)
        with connect_wsd(served.url, "chat", some.compression) as ours:
            theirs = served.accept()
            ours.send(PROSE)
            ours.close(code, reason)
            assert theirs.receive() == PROSE
            assert theirs.end() == (code, reason)
            ours.closed()


@pytest.mark.parametrize("some", SOME, ids=str)
def test_a_message_over_our_limit(some: Server) -> None:
    """1009, counted after inflating: 3 MB of zeros are 3 kB on the wire."""
    with some.serve("chat", some.deflate) as served, connect_wsd(served.url, "chat", some.compression) as ours:
        theirs = served.accept()
        theirs.send(bytes(3_000_000))
        assert theirs.end()[0] == 1009
        ours.closed()


@pytest.mark.parametrize("some", SOME, ids=str)
def test_16_mib(some: Server) -> None:
    """Both ways, of what cannot be compressed and of what can."""
    size = 16 * 1024 * 1024
    limits = Limits(max_message_bytes=size, max_queue_bytes=size)
    with some.serve("chat", some.deflate) as served:
        with connect_wsd(served.url, "chat", some.compression, limits) as ours:
            theirs = served.accept()
            for message in (random.Random(size).randbytes(size), PROSE[0] * size):
                ours.send(message)
                assert theirs.receive() == message
                theirs.send(message)
                assert ours.receive() == message
            assert theirs.close(1000) == 1000


@pytest.mark.parametrize("serve", [serve_aiohttp, serve_node])
def test_no_subprotocol_in_common(serve: Serve) -> None:
    """They answer 101 and name none, which is allowed: who cannot go on without one says so in a hook."""
    with serve("chat", None) as served, connect_wsd(served.url, "other", OFF) as ours:
        assert ours.wsi.subprotocol is None
        theirs = served.accept()
        assert not theirs.subprotocol
        theirs.send("all the same")
        assert ours.receive() == "all the same"
        assert theirs.close(1000) == 1000


def test_a_server_that_insists_on_its_subprotocol() -> None:
    with serve_websockets("chat", None) as served, dialing() as dial:
        dial.connect(served.url, subprotocols=["other"])
        error = dial.error()
    assert (error.cause, error.status) == ("status", 400)
    assert b"subprotocol" in error.body


def test_a_server_that_dies() -> None:
    with serve_node("chat", Deflate()) as served, connect_wsd(served.url, "chat", Compression()) as ours:
        theirs = served.accept()
        theirs.send(PROSE)
        assert ours.receive() == PROSE
        served.node.process.kill()
        assert ours.closed() == (1006, "")
