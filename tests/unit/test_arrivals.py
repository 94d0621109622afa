"""wsd/arrivals.py: who may come while the context runs, and that nobody may when it stops."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.raws import Bytes
from wsd import ConnectError, Context


@pytest.fixture
def context() -> Iterator[Context]:
    with Context([Bytes()]) as context:
        yield context


CALLS: dict[str, Callable[[Context, int, socket.socket], Any]] = {
    "client_connect": lambda context, fd, sock: context.client_connect("tcp://127.0.0.1:1", protocol="bytes"),
    "adopt_descriptor": lambda context, fd, sock: context.adopt_descriptor(fd, "bytes"),
    "adopt_socket": lambda context, fd, sock: context.adopt_socket(sock, "bytes", raw=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_nobody_comes_when_it_stops(context: Context, name: str) -> None:
    """What was to be adopted stays the caller's: nobody would close it."""
    reader, writer = os.pipe()
    one, other = socket.socketpair()
    with one, other:
        context.stop()
        with pytest.raises(ConnectError, match="the context stops") as caught:
            CALLS[name](context, reader, one)
        assert caught.value.cause == "closed"
        assert one.fileno() >= 0
    assert os.get_blocking(reader)
    os.close(reader)
    os.close(writer)
    assert context.wsi_count == 0


@pytest.mark.parametrize("name", ["adopt_descriptor", "adopt_socket"])
def test_the_plugin_is_told_by_the_loop(context: Context, name: str) -> None:
    reader, writer = os.pipe()
    one, other = socket.socketpair()
    wsi = CALLS[name](context, reader, one)
    (protocol,) = context.protocols
    assert isinstance(protocol, Bytes)
    assert (wsi.is_raw, wsi.is_established, protocol.calls, list(protocol.wsis)) == (True, False, [], [])
    context.service(0)
    assert (wsi.is_established, protocol.calls, list(protocol.wsis)) == (True, ["raw_adopt"], [wsi])
    context.close()
    assert protocol.calls == ["raw_adopt", "raw_close"]
    assert wsi.fileno() == -1
    # What was not adopted is ours.
    if name == "adopt_socket":
        os.close(reader)
    else:
        one.close()
    os.close(writer)
    other.close()


def test_bytes_wait_until_the_plugin_is_told(context: Context) -> None:
    """Reads come before what is due in a turn, and a hook for bytes before the one for the wsi would be wrong."""
    reader, writer = os.pipe()
    os.write(writer, b"early")
    os.close(writer)
    context.adopt_descriptor(reader, "bytes")
    (protocol,) = context.protocols
    assert isinstance(protocol, Bytes)
    context.service(0)
    assert protocol.calls == ["raw_adopt"]
    for _ in range(3):
        context.service(0)
    assert protocol.calls == ["raw_adopt", "raw_receive", "raw_close"]


def test_names_are_looked_up_by_one_resolver_made_when_it_is_needed(context: Context) -> None:
    assert context._resolver is None
    assert context.resolver is context.resolver
