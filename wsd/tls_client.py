"""TLS as a client speaks it: whom it believes, and that the server is the one that was meant.

Owns the verification of servers' certificates, names included.  Must not know sockets or the loop: `tls` moves the
bytes.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

from wsd import log
from wsd.certificates import Reading, names_of
from wsd.errors import ConnectError
from wsd.tls import new_context, verdict_text

if TYPE_CHECKING:
    import socket

    from cryptography.x509 import Certificate

# Of a certificate's names, how many a message shows: those of large services hold hundreds.
_MOST_NAMES: Final = 5


class Verdict:
    """What verification has found out about one connection's server."""

    __slots__ = ("host", "is_meant", "reason")

    def __init__(self, host: str) -> None:
        self.host = host
        self.is_meant = False  # its certificate is believed, and for this host
        self.reason = ""


class ClientTls:
    """How servers are verified, and what we show to those that ask for a certificate.

    Args:
        ca: A PEM file with the certificates that are believed: of authorities, or of the servers themselves.  Empty:
            the authorities that the system believes.
        certificate: A PEM file with our own certificate, and those of the authorities above it.  Empty: we have none.
        private_key: The PEM file with its key.  Empty: it is in the file of the certificate.
        insecure: Believe any server, which anybody on the way can then be.  Each connection is logged at WARN.

    Raises:
        ValueError: what is wrong with the files.
    """

    def __init__(self, *, ca: str = "", certificate: str = "", private_key: str = "", insecure: bool = False) -> None:
        if insecure and ca:
            raise ValueError("insecure: servers are not verified then, and ca is of no use")
        if private_key and not certificate:
            raise ValueError("private_key: there is no certificate that it belongs to")
        self.insecure = insecure
        context = new_context(SSL.TLS_CLIENT_METHOD)
        reading = Reading()
        believed = reading.authorities("ca", ca) if ca else []
        pair = reading.pair("", certificate, private_key) if certificate else None
        if reading.faults:
            raise ValueError("; ".join(f"{option}: {text}" for option, text in reading.faults))
        for text in reading.warnings:
            log.warn("%s", text)
        if pair is not None:
            context.use_certificate(pair.chain[0])
            for above in pair.chain[1:]:
                context.add_extra_chain_cert(above)
            context.use_privatekey(pair.key)
        if not insecure:
            _believe(context, believed)
            context.set_verify(SSL.VERIFY_PEER, _verify)
        self._context = context

    def connection(self, sock: socket.socket | None, host: str, *, alpn: bool = True) -> SSL.Connection:
        """OpenSSL's side of a connection to `host`, a name or an IP address; nothing has been sent yet.

        Args:
            sock: Connected already; None: bytes are moved by hand.
            host: Whom the server's certificate must be for.
            alpn: Whether HTTP/1.1 is what will be spoken.
        """
        host = host.rstrip(".")  # RFC 6066 3: "without a trailing dot"
        connection = SSL.Connection(self._context, sock)
        connection.set_connect_state()
        connection.set_app_data(Verdict(host))
        if alpn:
            connection.set_alpn_protos([b"http/1.1"])
        if _address(host) is None:  # RFC 6066 3: literal addresses "are not permitted"
            connection.set_tlsext_host_name(_ascii(host))
        if self.insecure:
            log.warn("the TLS server at %s is not verified, as insecure asks: it may be anybody", log.escape(host))
        return connection

    def check(self, connection: SSL.Connection, host: str) -> None:
        """Make sure, after the handshake, that the server is the one that was meant.

        Raises:
            ConnectError: it is not.
        """
        verdict: Verdict = connection.get_app_data()
        if not self.insecure and (not verdict.is_meant or verdict.host != host.rstrip(".")):
            raise ConnectError("tls", verdict.reason or "the server was not verified")

    def reason(self, connection: SSL.Connection) -> str:
        """Why the server's certificate was refused in the handshake; empty if it was not."""
        verdict: Verdict = connection.get_app_data()
        return verdict.reason


def _believe(context: SSL.Context, certificates: list[Certificate]) -> None:
    """Believe these; none: those that the system believes."""
    if not certificates:
        context.set_default_verify_paths()
        return
    store = context.get_cert_store()
    assert store is not None  # of a context that was just made
    for certificate in certificates:
        store.add_cert(X509.from_cryptography(certificate))
    # What somebody has put into that file is believed as it stands, whoever has signed it.
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)


def _verify(connection: SSL.Connection, shown: X509, error: int, depth: int, verified: int) -> bool:
    """Reports whether one certificate of the server's chain is good; the last, at depth 0, must be for the host.

    An exception must not get out: another connection would meet it.
    """
    verdict: Verdict = connection.get_app_data()
    if not verified:
        verdict.reason = f"the server's certificate is not to be trusted: {verdict_text(error)}"
        return False
    if depth:
        return True
    try:
        verdict.reason = _wrong_name(shown.to_cryptography(), verdict.host)
    except Exception as failure:
        verdict.reason = f"the server's certificate cannot be read: {failure}"
    verdict.is_meant = not verdict.reason
    return verdict.is_meant


def _wrong_name(certificate: Certificate, host: str) -> str:
    """How a certificate is for somebody else; empty: it is for this host (RFC 9525)."""
    try:
        if _address(host) is not None:
            verify_certificate_ip_address(certificate, host)
        else:
            verify_certificate_hostname(certificate, _ascii(host).decode())
    except (VerificationError, CertificateError):
        names = names_of(certificate)
        if host.lower() in names:  # in the subject, say, as was done before there were alternative names
            return f"the server's certificate has {host}, but not as an alternative name of that kind"
        shown = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES))
        return f"the server's certificate is for {log.escape(shown) or 'nobody'}, and not for {host}"
    return ""


def _address(host: str) -> object:
    """The IP address that `host` is; None: it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _ascii(host: str) -> bytes:
    """A name as DNS and certificates have it."""
    return host.encode("ascii") if host.isascii() else host.encode("idna")
