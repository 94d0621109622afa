"""wsd/incoming.py: what a connection that comes in may become, and what its socket is given."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.raws import Bytes
from wsd.config import Keepalive, Listen
from wsd.context import Context
from wsd.errors import PluginError
from wsd.incoming import Menu, check_raw, peer_of
from wsd.protocol import Peer, Protocol
from wsd.transport import prepare


class Other(Protocol):
    name = "other"


class Twin(Protocol):
    name = "other"


@pytest.fixture
def context() -> Iterator[Context]:
    with Context([Other(), Bytes()]) as context:
        yield context


def menu(context: Context, config: Listen | None = None, *names: str) -> Menu:
    """A menu of the context's protocols of these names; all, where none is given."""
    made = Menu(context, config or Listen())
    made.serve([context.binding_of(name) for name in names or ("other", "bytes")], context.protocol_0)
    return made


class TestMenu:
    def test_the_first_is_for_who_asks_for_none(self, context: Context) -> None:
        made = menu(context)
        assert list(made.bindings) == ["other", "bytes"]
        assert made.default is made.bindings["other"]
        assert made.http is context.protocol_0
        assert (made.paths, made.allowed_origins, made.static_folder) == ({}, (), "")

    def test_as_configured(self, context: Context) -> None:
        config = Listen(default_protocol="bytes", paths={"/o": "other"}, allowed_origins=["*"], static_folder="/www")
        made = menu(context, config)
        assert made.default is made.bindings["bytes"]
        assert made.paths == {"/o": made.bindings["other"]}
        assert (made.allowed_origins, made.static_folder) == (("*",), "/www")

    def test_without_protocols(self, context: Context) -> None:
        made = Menu(context, Listen())
        made.serve([], context.protocol_0)
        assert made.default is None

    def test_two_of_one_name(self, context: Context) -> None:
        twin = context.add_protocol(Twin())
        with pytest.raises(PluginError, match="two protocols of one name"):
            Menu(context, Listen()).serve([context.bindings[context.protocols[0]], twin], context.protocol_0)

    def test_raw_connections_need_somebody_who_takes_them(self, context: Context) -> None:
        raw = Listen(accept="raw")
        assert menu(context, raw, "bytes").default is context.binding_of("bytes")
        with pytest.raises(PluginError, match="takes a protocol with on_raw_receive; other has none"):
            menu(context, raw)
        with pytest.raises(PluginError, match="none is served here"):
            Menu(context, raw).serve([], context.protocol_0)


def test_who_can_take_raw_connections() -> None:
    check_raw(Bytes())
    for protocol in (None, Other()):
        with pytest.raises(PluginError, match='accept = "raw"'):
            check_raw(protocol)


def test_peers() -> None:
    assert peer_of(("::ffff:192.0.2.1", 5, 0, 0)) == Peer("192.0.2.1", 5)
    assert peer_of(("2001:db8::1", 5, 0, 0)) == Peer("2001:db8::1", 5)
    assert peer_of("/run/s") == Peer("/run/s", 0)
    assert peer_of(b"") == peer_of("") == Peer("", 0)
    assert peer_of("192.0.2.1") == Peer("./192.0.2.1", 0), "a file of that name is no address"


def test_what_a_socket_over_tcp_is_given() -> None:
    with socket.socket() as sock:
        prepare(sock, Keepalive(time_seconds=33))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33


def test_a_unix_socket_has_none_of_that() -> None:
    one, other = socket.socketpair()
    with one, other:
        prepare(one, Keepalive(time_seconds=33))
        assert not one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
