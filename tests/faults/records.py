"""TLS 1.3's records made by hand (RFC 8446, section 5): a client that takes its connection over from OpenSSL when the
handshake is done, and then says what no library lets one say: KeyUpdates, empty records, padding.

On purpose it shares no code with wsd.
"""

from __future__ import annotations

import ssl
import struct
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.faults.secure import Secure, SecurePeer, SecureWorld

SUITE: Final = "TLS_AES_128_GCM_SHA256"
"""The one that is spoken; wsd prefers it anyway."""

ALERT, HANDSHAKE, DATA = 21, 22, 23
KEY_UPDATE: Final = 24
_HASH_BYTES: Final = 32


class Keys:
    """One direction's (7.2, 7.3)."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._begin()

    def _begin(self) -> None:
        self._aead = AESGCM(self._expand(b"key", 16))
        self._iv = int.from_bytes(self._expand(b"iv", 12), "big")
        self._number = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        label = b"tls13 " + label
        info = struct.pack("!HB", length, len(label)) + label + b"\0"
        return HKDFExpand(SHA256(), length, info).derive(self.secret)

    def update(self) -> None:
        """The next generation."""
        self.secret = self._expand(b"traffic upd", _HASH_BYTES)
        self._begin()

    def _nonce(self) -> bytes:
        self._number += 1
        return (self._iv ^ (self._number - 1)).to_bytes(12, "big")

    def seal(self, kind: int, data: bytes, padding: int = 0) -> bytes:
        """A record."""
        inner = data + bytes([kind]) + bytes(padding)
        head = struct.pack("!BHH", DATA, 0x0303, len(inner) + 16)
        return head + self._aead.encrypt(self._nonce(), inner, head)

    def open(self, record: bytes) -> tuple[int, bytes]:
        """Kind and content of a record."""
        inner = self._aead.decrypt(self._nonce(), record[5:], record[:5]).rstrip(b"\0")
        return inner[-1], inner[:-1]


class ByHand(SecurePeer):
    """A client whose records are made here.

    Attributes:
        updates: How many KeyUpdates came.
        record_bytes: Of what is sent, how much goes into one record.
        padding: Zeros behind it.
    """

    def __init__(self, world: SecureWorld, sock: object, log: Path) -> None:
        self._log = log
        self.updates = 0
        self.record_bytes = 1 << 14
        self.padding = 0
        super().__init__(world, sock)  # type: ignore[arg-type]
        super()._shake_hands()
        world.secure.peer_client.keylog_filename = None  # type: ignore[assignment]  # which closes it
        secrets = dict(line.split()[::2] for line in log.read_text().splitlines() if not line.startswith("#"))
        self._write = Keys(bytes.fromhex(secrets["CLIENT_TRAFFIC_SECRET_0"]))
        self._read = Keys(bytes.fromhex(secrets["SERVER_TRAFFIC_SECRET_0"]))
        self._rest = self._in.read()

    def _new_engine(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        context = self.world.secure.peer_client
        context.keylog_filename = str(self._log)
        return context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def put(self, kind: int, data: bytes) -> None:
        """Send a record."""
        self._out.write(self._write.seal(kind, data, self.padding))
        self._push()

    def update_keys(self, *, asks: bool) -> None:
        """Change our keys, and ask for the other end's to be changed (4.6.3)."""
        self.put(HANDSHAKE, bytes([KEY_UPDATE, 0, 0, 1, asks]))
        self._write.update()

    def send(self, *chunks: bytes) -> None:
        data = b"".join(chunks)
        self.sent += data
        for at in range(0, len(data), self.record_bytes):
            self.put(DATA, data[at : at + self.record_bytes])

    def _fill(self, deadline: float) -> None:
        size = len(self.buffer)
        while len(self.buffer) == size:
            while len(self._rest) < 5 or len(self._rest) < 5 + int.from_bytes(self._rest[3:5], "big"):
                self._pull()
                self._rest += self._in.read()
            end = 5 + int.from_bytes(self._rest[3:5], "big")
            record, self._rest = self._rest[:end], self._rest[end:]
            self._hear(*self._read.open(record))

    def _hear(self, kind: int, data: bytes) -> None:
        if kind == DATA:
            self.take(data)
        elif kind == ALERT:
            self.end = "close_notify" if data == b"\x01\x00" else f"alert {data[1]}"
            raise EOFError(self.end)
        elif data[0] == KEY_UPDATE:
            assert data == bytes([KEY_UPDATE, 0, 0, 1, 0]), data
            self.updates += 1
            self._read.update()


def by_hand(world: SecureWorld, folder: Path, **options: int) -> ByHand:
    """A client of the listener whose handshake is done."""
    peer = world.client(**options)
    world.peers.remove(peer)
    log = folder / "keys"
    log.unlink(missing_ok=True)
    return ByHand(world, peer.socket, log)


__all__ = ["ByHand", "Secure", "by_hand"]
