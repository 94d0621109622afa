"""TLS handshakes between two ends over a socket pair, non-blocking, without a loop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import NamedTuple

from OpenSSL import SSL

from tests.support.ca import Issued
from wsd.config import Tls
from wsd.tls_server import ServerTls

BOTH = ("client", "server")


class Shaken(NamedTuple):
    """Two ends after a handshake, and what ended it at each: "" if nothing went wrong there."""

    client: SSL.Connection
    server: SSL.Connection
    client_error: str
    server_error: str

    @property
    def is_open(self) -> bool:
        return not self.client_error and not self.server_error

    @property
    def shown(self) -> list[str]:
        """The common names of the certificates that the server has shown."""
        chain = self.client.get_peer_cert_chain(as_cryptography=True) or []
        return [str(certificate.subject.rfc4514_string()).removeprefix("CN=") for certificate in chain]


@contextlib.contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection, non-blocking."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


def finish(client: SSL.Connection, server: SSL.Connection) -> Shaken:
    """Shake hands until both ends are through, or both have given up."""
    ends = dict(zip(BOTH, (client, server), strict=True))
    errors = dict.fromkeys(BOTH, "")
    waiting = list(BOTH)
    for _ in range(20):  # a handshake has at most three flights in each direction
        for name in list(waiting):
            try:
                ends[name].do_handshake()
            except SSL.WantReadError:
                continue
            except SSL.Error as error:
                errors[name] = text_of(error)
            waiting.remove(name)
        if not waiting:
            break
    else:
        raise AssertionError(f"still waiting: {waiting}")
    if not errors["client"]:  # with TLS 1.3 a client is through before the server has looked at its certificate
        errors["client"] = said_later(client)
    return Shaken(client, server, errors["client"], errors["server"])


def said_later(end: SSL.Connection) -> str:
    """The alert that has come since; empty if none."""
    try:
        end.recv(1)
    except SSL.WantReadError:
        return ""
    except SSL.Error as error:
        return text_of(error)
    raise AssertionError("bytes came")


def text_of(error: SSL.Error) -> str:
    """OpenSSL's reasons, or pyOpenSSL's word for the end of a stream."""
    if isinstance(error, SSL.SysCallError):
        return str(error.args[1])
    return "; ".join(reason for *_, reason in error.args[0]) or type(error).__name__


def tls_of(issued: Issued, **fields: object) -> Tls:
    """A `[listen.tls]` with this certificate."""
    values: dict[str, object] = {"certificate": str(issued.certificate), "private_key": str(issued.private_key)}
    return Tls.model_validate({**values, **fields})


def shake(
    server: ServerTls,
    *,
    name: str = "",
    alpn: tuple[bytes, ...] = (),
    context: SSL.Context | None = None,
    session: SSL.Session | None = None,
) -> Shaken:
    """A handshake with a client that verifies nothing.

    Args:
        name: The server name that it asks for.
        alpn: The protocols that it offers.
        context: Its context; None: OpenSSL's defaults.
        session: The session that it wants to take up again.
    """
    with sockets() as (one, other):
        client = SSL.Connection(context or SSL.Context(SSL.TLS_CLIENT_METHOD), one)
        client.set_connect_state()
        if name:
            client.set_tlsext_host_name(name.encode())
        if alpn:
            client.set_alpn_protos(list(alpn))
        if session is not None:
            client.set_session(session)
        return finish(client, server.connection(other))
