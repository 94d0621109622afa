"""The straight way under TLS: the conversations of `test_straight.py`, with everything in C, with all methods of wsd in
Python, and by pyOpenSSL's public calls; what plugin and peer hear is the same."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from typing import Any
from unittest import mock

import pytest

from tests.support.ca import Authority, Issued
from tests.support.client import BINARY, frame, upgrade_request
from tests.unit.test_straight import CONVERSATIONS, HELLO, Noted, Noting, NotingMessages, Play
from wsd import compiled, tls
from wsd.config import Keepalive, Listen, Tls
from wsd.context import Context
from wsd.straight import Straight
from wsd.tls import RECORD_BYTES

WAYS = ("as it is", "in Python", "public calls")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue()


class Caller:
    """A client of the context in our own thread; `heard` is what it was sent, `end` how that ended."""

    def __init__(self, context: Context, port: int, authority: Authority, buffer_bytes: int) -> None:
        self.context = context
        self.sock = socket.socket()
        if buffer_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trust = ssl.create_default_context(cafile=str(authority.certificate))
        self.tls = trust.wrap_socket(self.sock, server_hostname="localhost", do_handshake_on_connect=False)
        self.tls.setblocking(False)
        self.heard = b""
        self.end = ""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                context.service(0.01)

    def say(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it is over
            self.tls.sendall(data)
        for _ in range(6):
            self.context.service(0)

    def hear(self) -> None:
        """What has come so far."""
        try:
            while not self.end:
                more = self.tls.recv(1 << 16)
                self.heard += more
                self.end = "" if more else "close_notify"
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ConnectionError) as error:
            self.end = type(error).__name__

    def close(self) -> None:
        self.tls.close()


def played(
    protocol: Noted, parts: Play, way: str, issued: Issued, authority: Authority, buffer_bytes: int = 0
) -> tuple[Any, ...]:
    """What the plugin was told, what its peer got, and how that ended."""
    with (
        contextlib.ExitStack() as patches,
        Context([protocol], keepalive=Keepalive(ping_seconds=0)) as context,
    ):
        if way != WAYS[0]:
            patches.enter_context(mock.patch.multiple(Straight, **compiled.TWINS))
            patches.enter_context(mock.patch.object(tls, "_IS_HASTENED", False))
        if way == WAYS[2]:
            patches.enter_context(mock.patch.object(tls, "_HAS_OWN_FUNCTIONS", False))
        files = Tls(certificate=str(issued.certificate), private_key=str(issued.private_key))
        listener = context.listen(Listen(port=0, interface="127.0.0.1"), tls=files)
        caller = Caller(context, listener.port, authority, buffer_bytes)
        with contextlib.closing(caller):
            caller.say(upgrade_request())
            caller.hear()
            assert caller.heard.startswith(b"HTTP/1.1 101 ")
            caller.heard = caller.heard.partition(b"\r\n\r\n")[2]
            (wsi,) = context._wsis
            assert wsi._is_plain
            assert bool(wsi._pipe._quick) == (way == WAYS[0] and tls._IS_HASTENED)  # type: ignore[attr-defined]
            for part in parts:
                caller.say(part)
                if not buffer_bytes:
                    caller.hear()
            for _ in range(400):
                caller.hear()
                context.service(0 if wsi.unsent else 0.001)
                if caller.end or not (buffer_bytes or wsi.is_closing):
                    break
            calls, protocol.calls = protocol.calls, []
            return calls, caller.heard, caller.end


@pytest.mark.parametrize("kind", [Noting, NotingMessages])
@pytest.mark.parametrize("name", [name for name in CONVERSATIONS if name != "the end of the stream"])
def test_the_same_every_way(name: str, kind: type[Noted], issued: Issued, authority: Authority) -> None:
    first, *others = (played(kind(), CONVERSATIONS[name], way, issued, authority) for way in WAYS)
    assert first[1]  # a Close frame at least
    for other in others:
        assert other == first


def test_messages_that_fill_records(issued: Issued, authority: Authority) -> None:
    """Answers that share a record, that fill one, and that take several."""
    sizes = (RECORD_BYTES - 4, RECORD_BYTES - 3, RECORD_BYTES, 1, 3 * RECORD_BYTES)
    parts = [b"".join(frame(BINARY, os.urandom(size)) for size in sizes[:upto]) for upto in range(1, 6)]
    first, *others = (played(Noting(), parts, way, issued, authority) for way in WAYS)
    assert len(first[1]) > 100_000
    for other in others:
        assert other == first


@pytest.mark.parametrize("way", WAYS)
def test_a_peer_that_reads_late_gets_everything(way: str, issued: Issued, authority: Authority) -> None:
    """The kernel refuses, and what OpenSSL has begun goes on with more behind it."""
    times = 150
    said: list[bytes] = []

    def writes(wsi: Any) -> None:
        wsi.session.clear()
        while len(said) < times and not wsi.send_pipe_choked:
            said.append(os.urandom(2000 + 300 * len(said)))
            wsi.write(said[-1])
        if len(said) < times:
            wsi.callback_on_writable()
        else:
            wsi.close()

    _, heard, _ = played(Noting(writes=writes), [HELLO], way, issued, authority, buffer_bytes=4096)
    wanted = b"".join(frame(BINARY, data, mask=None) for data in said)
    assert len(said) == times
    assert heard.startswith(wanted)
