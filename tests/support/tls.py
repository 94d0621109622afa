"""The raw client over TLS: the same bytes out and frames in, through the standard library's OpenSSL."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.ca import Issued
from tests.support.client import Client, upgrade_request
from tests.support.timing import PATIENCE


class TlsClient(Client):
    """One connection to a TLS server under test, its handshake done.

    Args:
        address: As `Client`'s.
        ca: The certificate that is believed; None: any server is.
        name: The server's name that is asked for and verified.
        certificate: Our own.
        alpn: What is offered.
        context: In place of one that is made of `ca`, `certificate` and `alpn`.
    """

    def __init__(
        self,
        address: int | tuple[str, int] | str,
        ca: Path | None,
        *,
        name: str = "localhost",
        certificate: Issued | None = None,
        alpn: Iterable[str] = (),
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        **options: Any,
    ) -> None:
        super().__init__(address, **options)
        try:
            made = context or client_context(ca, certificate=certificate, alpn=alpn)
            self.tls = made.wrap_socket(self.socket, server_hostname=name, session=session)
        except BaseException:
            self.socket.close()
            raise
        self.socket = self.tls

    def shut_down_writing(self) -> None:
        """Send close_notify, and wait for none."""
        self.tls.settimeout(0)
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, OSError):
            pass
        finally:
            self.tls.settimeout(self.patience)


def client_context(ca: Path | None, *, certificate: Issued | None = None, alpn: Iterable[str] = ()) -> ssl.SSLContext:
    """What a client believes and shows."""
    context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate.certificate, certificate.private_key)
    if offered := list(alpn):
        context.set_alpn_protocols(offered)
    return context


def connect_tls(
    address: int | tuple[str, int] | str, ca: Path | None, path: str = "/", protocols: str | None = None, **options: Any
) -> TlsClient:
    """A client with an open WebSocket."""
    client = TlsClient(address, ca, **options)
    client.send(upgrade_request(path, protocols, host="localhost"))
    head = client.receive_until(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        client.disconnect()
        raise AssertionError(f"no WebSocket: {head!r}")
    return client


def plain(address: int, patience: float = PATIENCE) -> socket.socket:
    """A socket that is connected, and nothing more."""
    return socket.create_connection(("127.0.0.1", address), patience)
