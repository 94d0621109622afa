"""What attacks on TLS are made of: a daemon with certificates, a client's bytes without a socket, words for alerts."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.attacks.attempt import Attempt, counted
from tests.attacks.model import Setup
from tests.support.ca import Authority, self_signed
from tests.support.client import Client
from tests.support.tls import client_context


def prepare(folder: Path) -> None:
    """Certificates for two names, and an authority for clients."""
    authority = Authority(folder / "ca")
    authority.issue()
    authority.issue(["other.example"])
    authority.issue(["alice"], client=True)
    self_signed(folder)


_CERTIFICATE = 'certificate = "ca/localhost.pem"\nprivate_key = "ca/localhost.key"\n'

TLS: Final = Setup(
    "TLS",
    listen=(
        f"port = 0\n[listen.tls]\n{_CERTIFICATE}\n"
        '[[listen.tls.certificates]]\ncertificate = "ca/other.example.pem"\nprivate_key = "ca/other.example.key"',
        "port = 0",
        f'port = 0\n[listen.tls]\n{_CERTIFICATE}client_certificates = "required"\nclient_ca = "ca/ca.pem"',
        f'port = 0\n[listen.tls]\n{_CERTIFICATE}plain_http = "redirect"\nmin_version = "1.3"',
    ),
    prepare=prepare,
    is_tls=True,
)
SLOW: Final = TLS._replace(name="TLS, slowly", more="[timeouts]\ntls_handshake_seconds = 0.5\nhandshake_seconds = 0.5")

NO_TLS: Final = "INFO <tag>: no TLS: "


# -- a client's bytes, without a socket -------------------------------------------------------------------------------


class Bytes:
    """The client's side of TLS as bytes: what it says comes out of `out`, what it hears goes into `heard`."""

    def __init__(self, context: ssl.SSLContext | None = None, name: str = "localhost") -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = context or client_context(None)
        self.end = made.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def out(self) -> bytes:
        return self._outgoing.read()

    def shake(self, client: Client, send: Callable[[bytes], None]) -> None:
        """The whole handshake, with every byte that we say going through `send`."""
        while True:
            try:
                self.end.do_handshake()
            except ssl.SSLWantReadError:
                send(self.out())
                self._incoming.write(client.socket.recv(65_536))
            else:
                send(self.out())
                return

    def encrypt(self, data: bytes) -> bytes:
        self.end.write(data)
        return self.out()

    def hear(self, client: Client, until: bytes) -> bytes:
        """What the server says, up to what ends with `until`."""
        heard = b""
        while not heard.endswith(until):
            try:
                heard += self.end.read(65_536)
            except ssl.SSLWantReadError:
                data = client.socket.recv(65_536)
                assert data, heard
                self._incoming.write(data)
        return heard


def hello(name: str = "localhost") -> bytes:
    """A ClientHello, in its record."""
    made = Bytes(name=name)
    try:
        made.end.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return made.out()


def record(kind: int, payload: bytes, length: int | None = None, version: int = 0x0301) -> bytes:
    """A TLS record as it is on the wire; `length`: what it announces."""
    size = len(payload) if length is None else length
    return bytes([kind]) + version.to_bytes(2, "big") + size.to_bytes(2, "big") + payload


ALERT, HANDSHAKE, CHANGE_CIPHER_SPEC, DATA, HEARTBEAT = 21, 22, 20, 23, 24

_ALERTS: Final = {
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    47: "illegal_parameter",
    50: "decode_error",
    70: "protocol_version",
    80: "internal_error",
    109: "missing_extension",
}


def alerts(client: Client) -> str:
    """All that comes in plain text, in words: alerts by their names (RFC 8446 6), then how it ends."""
    try:
        data = client.receive_end()
    except OSError as error:
        return type(error).__name__
    words = []
    while data:
        size = int.from_bytes(data[3:5], "big")
        kind, payload, data = data[0], data[5 : 5 + size], data[5 + size :]
        if kind == ALERT and size == 2:
            words.append(f"alert {_ALERTS.get(payload[1], payload[1])}")
        elif "its records" not in words:  # the flight that answers a ClientHello, in which an alert is encrypted
            words.append("its records")
    return counted([*words, "end"])


def says(*pieces: bytes, at: int = 0) -> Callable[[Attempt], str]:
    """Sends these bytes in place of a handshake, or of its rest."""

    def play(attempt: Attempt) -> str:
        client = attempt.client(at)
        client.send(*pieces)
        return alerts(client)

    return play


def each(*pieces: bytes) -> Callable[[Attempt], str]:
    return lambda attempt: counted([says(piece)(attempt) for piece in pieces])
