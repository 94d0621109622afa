"""TLS for a world: a peer that speaks it by hand, so that its records can be cut anywhere; and an OpenSSL on our side
whose calls fail when a schedule says so.

Owns how the peer's bytes travel.  On purpose the peer's TLS is the standard library's, which shares nothing with wsd.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final
from unittest import mock

from OpenSSL import SSL

import wsd.tls_client
import wsd.tls_server
from tests.faults.peers import Stepped, SteppedServer
from tests.faults.syscalls import DOCUMENTED, Cut, Effect, Raises, Schedule, instead
from tests.faults.world import World
from tests.support.ca import Authority
from wsd.config import Tls
from wsd.tls_client import ClientTls
from wsd.tls_server import ServerTls

READING: Final = [
    Raises(SSL.WantWriteError()),
    Raises(SSL.WantReadError()),
    Raises(SSL.ZeroReturnError()),
    Raises(SSL.SysCallError(-1, "Unexpected EOF")),
    Raises(SSL.Error([("SSL routines", "", "decryption failed or bad record mac")])),
    Raises(SSL.Error([])),
    *(Raises(SSL.SysCallError(number, "")) for number in DOCUMENTED["recv"]),
]
WRITING: Final = [
    *READING[:6],
    *(Raises(SSL.SysCallError(number, "")) for number in DOCUMENTED["send"]),
]
EFFECTS: Final[dict[str, list[Any]]] = {
    "SSL_do_handshake": READING,
    "SSL_read": READING,
    "SSL_write": [*WRITING, Cut(1), Cut(1000)],
    "SSL_shutdown": WRITING,
}
"""By OpenSSL's call, what it may say; a write may take less than it got."""

HARMLESS: Final[dict[str, list[Any]]] = {
    "SSL_do_handshake": READING[:1],
    "SSL_read": READING[:1],
    "SSL_write": [WRITING[0], Cut(1), Cut(1000)],
    "SSL_shutdown": WRITING[:1],
}
"""What must not show in what a peer and a plugin get.  Whoever waits to read, where the other waits as well, is
lost in truth too."""


class FaultyConnection(SSL.Connection):
    """OpenSSL on a real socket, each of whose calls asks a schedule first."""

    schedule: Schedule
    _is_dead = False
    _has_record = False

    def _step(self, call: str, *suits: type) -> Effect | None:
        if self._is_dead:
            raise SSL.Error([("SSL routines", "", "protocol is shutdown")])
        try:
            return self.schedule.step(call, (Raises, *suits))
        except SSL.Error as error:
            self._is_dead = not isinstance(error, SSL.WantReadError | SSL.WantWriteError)
            raise

    def do_handshake(self) -> None:
        self._step("SSL_do_handshake")
        super().do_handshake()

    def recv_into(self, buffer: Any, *rest: Any) -> int:
        self._step("SSL_read")
        return int(super().recv_into(buffer, *rest))

    def send(self, data: Any, *rest: Any) -> int:
        effect = self._step("SSL_write", Cut)
        # A record that OpenSSL has made, and could not write, it takes no shorter (SSL_R_BAD_LENGTH).
        if isinstance(effect, Cut) and not self._has_record:
            data = memoryview(data)[: effect.size]
        self._has_record = True
        sent = super().send(data, *rest)
        self._has_record = False
        return sent

    def shutdown(self) -> bool:
        self._step("SSL_shutdown")
        return super().shutdown()


class Secure:
    """What both ends need, made once for many worlds.

    Args:
        folder: For the certificates.
        version: The one version that the peer speaks; None: the newest.
    """

    def __init__(self, folder: Path, version: ssl.TLSVersion | None = None) -> None:
        authority = Authority(folder)
        issued = authority.issue()
        files = {"certificate": str(issued.certificate), "private_key": str(issued.private_key)}
        self.server = ServerTls(Tls(**files))
        self.client = ClientTls(ca=str(authority.certificate))
        self.peer_client = ssl.create_default_context(cafile=str(authority.certificate))
        self.peer_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.peer_server.load_cert_chain(issued.certificate, issued.private_key)
        if version is not None:
            for context in (self.peer_client, self.peer_server):
                context.minimum_version = context.maximum_version = version


class SecureWorld(World):
    """A world in which everything but the connection beside is encrypted.

    Args:
        cutter: Where the peers' bytes are cut; None: they travel as they come.
        read_bytes: What the loop reads at a time; 0: as much as ever.
        options: As of `World`.
    """

    schemes: ClassVar = {"ws": "wss", "tcp": "tls"}

    def __init__(
        self, secure: Secure, *arguments: Any, cutter: random.Random | None = None, read_bytes: int = 0, **options: Any
    ) -> None:
        self.secure = secure
        self.client_tls = secure.client
        self.cutter = cutter
        self._read_bytes = read_bytes
        super().__init__(*arguments, listen_tls=secure.server, **options)

    def __enter__(self) -> SecureWorld:
        super().__enter__()
        if self._read_bytes:
            self.context.buffer = bytearray(self._read_bytes)
            self.context.view = memoryview(self.context.buffer)
        return self

    def peer_of(self, sock: socket.socket) -> Stepped:
        return SecurePeer(self, sock)

    def server_of(self, sock: socket.socket) -> SteppedServer:
        return SecureServer(self, sock)

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """OpenSSL's calls on both of our ends ask the schedule too."""
        made = type("Made", (FaultyConnection,), {"schedule": self.schedule})
        with super().in_charge(), ExitStack() as stack:
            for module in (wsd.tls_server, wsd.tls_client):
                stack.enter_context(mock.patch.object(module, "SSL", instead(SSL, Connection=made)))
            yield


class _Ciphered(Stepped):
    """A peer that speaks TLS.

    Attributes:
        end: What our stream's end looked like: "" (it has not come), "close_notify" or "cut".
    """

    world: SecureWorld

    def _take(self, world: World, sock: socket.socket) -> None:
        super()._take(world, sock)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = self._new_engine(self._in, self._out)
        self._is_open = False
        self.end = ""

    def _new_engine(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        raise NotImplementedError

    def _shake_hands(self) -> None:
        while not self._is_open:
            try:
                self._engine.do_handshake()
                self._is_open = True
            except ssl.SSLWantReadError:
                self._push()
                self._pull()
            except ssl.SSLError as error:
                self._push()  # the alert
                raise EOFError(f"no TLS: {error}") from None
        self._push()

    def _push(self) -> None:
        """Put on the wire what TLS has to say, in as many pieces as the cutter wants, and with turns between them."""
        data, cutter = self._out.read(), self.world.cutter
        if cutter is None:
            super().send(data)
            return
        while data:
            size = cutter.choice((1, 2, 3, 5, 6, 17, 100, 1000, 5000, 20000))
            super().send(data[:size])
            data = data[size:]
            for _ in range(cutter.randrange(3)):
                self.world.turn()

    def _pull(self) -> None:
        """Wait for something on the wire."""
        while True:
            try:
                data = self.socket.recv(262144)
            except BlockingIOError:
                self.world.advance(self.socket)
                continue
            if not data:
                self.end = "cut"
                raise EOFError("the connection ended")
            self._in.write(data)
            return

    def send(self, *chunks: bytes) -> None:
        self._shake_hands()
        data = b"".join(chunks)
        self.sent += data
        if data:
            self._engine.write(data)
        self._push()

    def _fill(self, deadline: float) -> None:
        self._shake_hands()
        while True:
            try:
                data = self._engine.read(262144)
            except ssl.SSLWantReadError:
                self._push()
                self._pull()
                continue
            except ssl.SSLZeroReturnError:  # we have said ours as well
                data = b""
            except ssl.SSLError as error:
                raise EOFError(f"TLS: {error}") from None
            if not data:
                self.end = "close_notify"
                raise EOFError(self.end)
            self.take(data)
            return

    def shut_down_writing(self) -> None:
        try:
            self._engine.unwrap()
        except ssl.SSLError:
            pass
        self._push()
        self.socket.shutdown(socket.SHUT_WR)

    def note_sent(self, data: bytes) -> None:
        """What travels is not what was said."""


class SecurePeer(_Ciphered):
    """A TLS client."""

    def _new_engine(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self.world.secure.peer_client.wrap_bio(incoming, outgoing, server_hostname="localhost")


class SecureServer(_Ciphered, SteppedServer):
    """A TLS server."""

    def _new_engine(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self.world.secure.peer_server.wrap_bio(incoming, outgoing, server_side=True)
