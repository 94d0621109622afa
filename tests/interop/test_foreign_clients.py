"""Foreign clients on our `echo`: websockets, aiohttp, Node's ws and libcurl, without compression and with each set of
parameters that they can offer.  The peers are as strict with us as we are with them, so a clean run says much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.interop.conftest import Daemon
from tests.interop.peer_aiohttp import connect_aiohttp
from tests.interop.peer_curl import connect_curl
from tests.interop.peer_node import connect_node
from tests.interop.peer_websockets import connect_websockets
from tests.interop.peers import Connect, Deflate, Fragmenting, NotTheEnd, Peer, parameters
from tests.interop.samples import CLOSES, FRAGMENTS, MESSAGES, PROSE, joined

LIMITS = "[limits]\nmax_message_bytes = 2000000\nmax_queue_bytes = 2000000\n"


class Client(NamedTuple):
    """Who connects and what it offers."""

    connect: Connect
    deflate: Deflate | None

    def __str__(self) -> str:
        return f"{self.connect.__name__.removeprefix('connect_')}, {self.deflate or 'uncompressed'}"


BOTH_FRESH = Deflate(server_no_context_takeover=True, client_no_context_takeover=True)
OFFERS = [
    Deflate(),
    Deflate(client_max_window_bits=1),
    BOTH_FRESH,
    Deflate(server_no_context_takeover=True),
    Deflate(client_no_context_takeover=True, client_max_window_bits=1),
    Deflate(server_max_window_bits=9, client_max_window_bits=9),
    Deflate(server_max_window_bits=8, client_max_window_bits=10),
    Deflate(server_max_window_bits=15, client_max_window_bits=15),
    Deflate(True, True, 10, 11),
]
CLIENTS = [
    Client(connect_curl, None),
    *(Client(connect_websockets, offer) for offer in [None, *OFFERS]),
    *(Client(connect_node, offer) for offer in [None, *OFFERS]),
    # The client's window always without a value, the server's as set; nothing about context takeover.
    Client(connect_aiohttp, None),
    Client(connect_aiohttp, Deflate(client_max_window_bits=1)),
    Client(connect_aiohttp, Deflate(server_max_window_bits=9, client_max_window_bits=1)),
    Client(connect_aiohttp, Deflate(server_max_window_bits=14, client_max_window_bits=1)),
]
SERVER_BITS = 12
"""The window of wsd's defaults; the memory of a connection rests on it."""


@pytest.fixture(params=CLIENTS, ids=str)
def client(request: pytest.FixtureRequest) -> Client:
    chosen: Client = request.param
    return chosen


@pytest.fixture
def peer(client: Client, serve: Callable[..., Daemon]) -> Iterator[Peer]:
    """A client that is connected to the daemon."""
    with client.connect(serve(["echo"], tables=LIMITS).url, "echo", client.deflate) as connected:
        yield connected


def test_a_whole_conversation(client: Client, peer: Peer) -> None:
    """One connection for all of it: with context takeover each message depends on those before."""
    assert peer.subprotocol == "echo"
    check_agreement(client.deflate, peer.extensions)
    for name, message in [*MESSAGES.items(), *MESSAGES.items()]:
        peer.send(message)
        assert peer.receive() == message, name
    if isinstance(peer, Fragmenting):
        for fragments in FRAGMENTS:
            peer.send_fragments(fragments)
            assert peer.receive() == joined(fragments)
    peer.ping(b"")
    peer.ping(b"x" * 125)
    for number in range(200):
        peer.send(f"{PROSE} {number}")
    assert [peer.receive() for _ in range(200)] == [f"{PROSE} {number}" for number in range(200)]
    assert peer.close(4001, "done") == 4001


def check_agreement(offer: Deflate | None, header: str) -> None:
    """What RFC 7692 7.1 makes of this offer, where the server's own wish is a window of 12 and nothing else."""
    if offer is None:
        assert header == ""
        return
    agreed = parameters(header)
    # "A server may include the 'server_no_context_takeover' extension parameter in an extension negotiation response
    # even if [...]", and must to accept an offer that has it; the client's is a hint, that wsd takes up.
    assert ("server_no_context_takeover" in agreed) == offer.server_no_context_takeover
    assert ("client_no_context_takeover" in agreed) == offer.client_no_context_takeover
    assert agreed["server_max_window_bits"] == str(min(SERVER_BITS, offer.server_max_window_bits or 15))
    # "If a received extension negotiation offer doesn't have the 'client_max_window_bits' extension parameter, the
    # corresponding extension negotiation response to the offer MUST NOT include" it.
    offered = offer.client_max_window_bits
    if not offered:
        assert "client_max_window_bits" not in agreed
    else:
        assert agreed["client_max_window_bits"] == str(min(SERVER_BITS, 15 if offered == 1 else offered))


SOME = [client for client in CLIENTS if client.deflate in (None, Deflate(client_max_window_bits=1))]


@pytest.mark.parametrize(("code", "reason"), CLOSES)
@pytest.mark.parametrize("some", SOME, ids=str)
def test_their_close_is_answered(some: Client, serve: Callable[..., Daemon], code: int, reason: str) -> None:
    daemon = serve(["echo"])
    with some.connect(daemon.url, "echo", some.deflate) as connected:
        connected.send("hello")
        assert connected.receive() == "hello"
        assert connected.close(code, reason) == code
    daemon.wait_log(f"closed, {code} {reason}")


@pytest.mark.parametrize("some", SOME, ids=str)
def test_the_daemon_stops(some: Client, serve: Callable[..., Daemon]) -> None:
    daemon = serve(["echo"])
    with some.connect(daemon.url, "echo", some.deflate) as connected:
        connected.send(PROSE)
        assert connected.receive() == PROSE
        daemon.terminate()
        assert connected.end()[0] == 1001


@pytest.mark.parametrize("some", SOME, ids=str)
def test_a_message_over_the_limit(some: Client, serve: Callable[..., Daemon]) -> None:
    """1009, counted after inflating: 3 MB of zeros are 3 kB on the wire."""
    with some.connect(serve(["echo"], tables=LIMITS).url, "echo", some.deflate) as connected:
        connected.send(bytes(3_000_000))
        assert connected.end()[0] == 1009


@pytest.mark.parametrize("some", SOME, ids=str)
def test_a_close_by_a_plugin(some: Client, serve: Callable[..., Daemon]) -> None:
    daemon = serve(["dumb-increment-protocol"])
    with some.connect(daemon.url, "dumb-increment-protocol", some.deflate) as connected:
        assert [connected.receive() for _ in range(3)] == ["0", "1", "2"]
        connected.send("reset\n")
        while connected.receive() != "0":
            pass
        connected.send("closeme\n")
        assert drain(connected) == (1001, "seeya")


def drain(peer: Peer) -> tuple[int, str]:
    """The end, after the numbers that were on their way."""
    while True:
        try:
            return peer.end()
        except NotTheEnd:
            pass
