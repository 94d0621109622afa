"""What TLS costs for each message: reading from the socket against reading through a memory BIO.

    python bench/tls_pipe.py

Two ends of one process talk over a socketpair.  One is OpenSSL on its own socket in either form, the other the standard
library's; what is timed is the first one alone: receive a message, send it back.  Look at the ratio: both forms are
timed in turns, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from OpenSSL import SSL

from tests.support.ca import Authority
from wsd.tls import TlsPipe, new_context

SIZES = (64, 1000, 16384)
ROUNDS = 5
MESSAGES = 4000  # in a round; some 50 ms


class OnSocket:
    """OpenSSL reads from the socket and writes to it."""

    def __init__(self, context: SSL.Context, sock: socket.socket) -> None:
        connection = SSL.Connection(context, sock)
        connection.set_accept_state()
        self.pipe = TlsPipe(sock, connection, lambda: None)
        self.buffer = bytearray(65536)

    def shake_hands(self) -> bool:
        self.pipe.receive_into(self.buffer)
        return self.pipe.tls is not None

    def echo(self) -> None:
        size = self.pipe.receive_into(self.buffer)
        self.pipe.send(bytes(self.buffer[:size]))


class InMemory:
    """We read from the socket and write to it; OpenSSL sees bytes in memory."""

    def __init__(self, context: SSL.Context, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.connection = SSL.Connection(context, None)
        self.connection.set_accept_state()
        self.wire = bytearray(65536)
        self.view = memoryview(self.wire)
        self.buffer = bytearray(65536)

    def _flush(self) -> None:
        try:
            self.sock.send(self.connection.bio_read(65536))
        except SSL.WantReadError:
            pass

    def shake_hands(self) -> bool:
        try:
            self.connection.bio_write(self.sock.recv(65536))
        except BlockingIOError:
            return False
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return False
        self._flush()
        return True

    def echo(self) -> None:
        got = self.sock.recv_into(self.wire)
        self.connection.bio_write(self.view[:got].tobytes())
        size = self.connection.recv_into(self.buffer)
        self.connection.send(bytes(self.buffer[:size]))
        self._flush()


class Bench:
    """One form, its peer, and the time that it has taken."""

    def __init__(self, form: Callable[[SSL.Context, socket.socket], OnSocket | InMemory], folder: Path) -> None:
        authority = Authority(folder)
        issued = authority.issue()
        context = new_context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_chain_file(str(issued.certificate))
        context.use_privatekey_file(str(issued.private_key))
        ours, theirs = socket.socketpair()
        self.end = form(context, ours)
        peer = ssl.create_default_context(cafile=str(authority.certificate))
        theirs.setblocking(False)
        self.peer = peer.wrap_socket(theirs, server_hostname="localhost", do_handshake_on_connect=False)
        while not (self._peer_is_done() and self.end.shake_hands()):
            pass
        self.peer.setblocking(True)

    def _peer_is_done(self) -> bool:
        try:
            self.peer.do_handshake()
        except ssl.SSLWantReadError:
            self.end.shake_hands()
            return False
        return True

    def seconds(self, size: int) -> float:
        """What one message takes."""
        message, taken = bytes(size), 0.0
        for _ in range(MESSAGES):
            self.peer.send(message)
            began = time.perf_counter()
            self.end.echo()
            taken += time.perf_counter() - began
            assert len(self.peer.recv(65536)) == size
        return taken / MESSAGES


def main() -> None:
    print(f"{'bytes':>6} {'socket':>10} {'memory':>10}  memory / socket")
    with tempfile.TemporaryDirectory() as folder:
        benches = [Bench(OnSocket, Path(folder) / "a"), Bench(InMemory, Path(folder) / "b")]
        for size in SIZES:
            best = [
                min(times)
                for times in zip(*[[bench.seconds(size) for bench in benches] for _ in range(ROUNDS)], strict=True)
            ]
            print(f"{size:6} {best[0] * 1e6:7.1f} us {best[1] * 1e6:7.1f} us  {best[1] / best[0]:.2f}")


if __name__ == "__main__":
    main()
