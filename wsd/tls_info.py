"""What the two ends of a TLS connection have agreed on, as facts for plugins and for the log.

Must not know how bytes are moved.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cryptography import x509
from OpenSSL import SSL

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


class TlsInfo:
    """`wsi.tls`: what a connection's two ends have agreed on, and who the peer has proved to be."""

    __slots__ = ("alpn", "certificate", "cipher", "is_resumed", "server_name", "version")

    def __init__(self, connection: SSL.Connection) -> None:
        self.version: str = connection.get_protocol_version_name()
        """`TLSv1.3`."""
        self.cipher: str = connection.get_cipher_name() or ""
        """OpenSSL's name of the cipher suite: `TLS_AES_128_GCM_SHA256`."""
        self.server_name: str = (connection.get_servername() or b"").decode("ascii", "replace")
        """The name that the client asked for (SNI); empty if none."""
        self.alpn: str = connection.get_alpn_proto_negotiated().decode("ascii", "replace")
        """The protocol that was agreed on by ALPN: `http/1.1`; empty if none."""
        self.certificate: Certificate | None = connection.get_peer_certificate(as_cryptography=True)
        """The peer's certificate, which was verified unless our side said otherwise; None if it showed none."""
        self.is_resumed: bool = bool(_session_reused(connection))
        """Whether a session was taken up again, without a full handshake."""

    @property
    def subject(self) -> str:
        """Whom the peer's certificate is for, as RFC 4514 writes it: `CN=alice,O=Example`; empty if there is none."""
        return "" if self.certificate is None else self.certificate.subject.rfc4514_string()

    @property
    def alternative_names(self) -> tuple[str, ...]:
        """The names that the peer's certificate holds beside its subject: hosts, addresses, mail addresses, URIs."""
        if self.certificate is None:
            return ()
        try:
            names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (x509.ExtensionNotFound, ValueError):  # none, or one that cannot be read
            return ()
        return tuple(str(name.value) for name in names if not isinstance(name, x509.DirectoryName | x509.OtherName))

    def __repr__(self) -> str:
        return f"<TlsInfo {self.version} {self.cipher}>"


def _session_reused(connection: SSL.Connection) -> bool:
    """pyOpenSSL has no call for it; of its own parts only the flag's name is used, and where it is gone, nothing."""
    with contextlib.suppress(AttributeError):
        return bool(SSL._lib.SSL_session_reused(connection._ssl))  # type: ignore[attr-defined]
    return False
