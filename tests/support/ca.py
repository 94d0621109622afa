"""A certificate authority of the tests' own: certificates, keys and revocation lists as files in a folder."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Issued(NamedTuple):
    """What was issued, as files: `certificate` holds the chain, `private_key` is 0600."""

    certificate: Path
    private_key: Path
    x509: x509.Certificate


def new_key(kind: Literal["ec", "rsa"] = "ec") -> Key:
    """A private key; those of RSA take a tenth of a second to make."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


class Authority:
    """Issues certificates into a folder.

    Args:
        folder: Where its own certificate (`ca.pem`) and all that it issues are written.
        name: Its common name.
        parent: Whose intermediate it is; None: a root.
    """

    def __init__(self, folder: Path, name: str = "Test CA", parent: Authority | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.parent = parent
        self.key = new_key()
        self.subject = _subject(name)
        builder = _builder(self.subject, self.key, timedelta(days=-1), timedelta(days=3650))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_usage(is_ca=True), critical=True)
        self.x509 = (parent or self)._sign(builder)
        self.certificate = folder / "ca.pem"
        self.certificate.write_bytes(self.x509.public_bytes(serialization.Encoding.PEM))
        self.revoked: list[x509.Certificate] = []

    def issue(
        self,
        names: Sequence[str] = ("localhost", "127.0.0.1", "::1"),
        days: float = 90,
        *,
        client: bool = False,
        key: Literal["ec", "rsa"] | Key = "ec",
        file: str = "",
        since_days: float = -1,
        subject: str = "",
        together: bool = False,
    ) -> Issued:
        """Issue a certificate.

        Args:
            names: Hosts and IP addresses for the alternative names; with `client`, the first is the common name too.
            days: From now until its end; negative: it has ended.
            client: It is a client's.
            key: Of which kind, or which one.
            file: What the files are called; empty: after the first name.
            since_days: From now until its beginning.
            subject: The common name, in place of the first of `names`.
            together: The key stands in the certificate's file.
        """
        made = new_key(key) if isinstance(key, str) else key
        builder = _builder(_subject(subject or (names[0] if names else "nobody")), made, *_span(since_days, days))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(is_ca=False), critical=True)
        purpose = x509.ExtendedKeyUsageOID.CLIENT_AUTH if client else x509.ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), False)
        return self._write(self._sign(builder), made, file or (names[0] if names else "nobody"), together)

    def crl(self, *revoked: Issued, days: float = 30, file: str = "crl.pem") -> Path:
        """Write the list of those that were revoked, these ones too."""
        self.revoked += [issued.x509 for issued in revoked]
        first, last = _span(-1, days)
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=self.subject, last_update=now + first, next_update=now + last
        )
        for certificate in self.revoked:
            entry = x509.RevokedCertificateBuilder(certificate.serial_number, now + first)
            builder = builder.add_revoked_certificate(entry.build())
        path = self.folder / file
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.issuer_name(self.subject).add_extension(identifier, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, certificate: x509.Certificate, key: Key, file: str, together: bool) -> Issued:
        stem = file.replace("*", "any").replace(":", "-")
        chain, parent = certificate.public_bytes(serialization.Encoding.PEM), self
        while parent.parent is not None:  # a root is not shown: clients have it
            chain += parent.x509.public_bytes(serialization.Encoding.PEM)
            parent = parent.parent
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public, private = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        if together:
            private = public
            chain += secret
        else:
            private.write_bytes(secret)
        public.write_bytes(chain)
        private.chmod(0o600)
        return Issued(public, private, certificate)


def self_signed(folder: Path, names: Sequence[str] = ("localhost", "127.0.0.1")) -> Issued:
    """A certificate that nobody vouches for."""
    key = new_key()
    builder = _builder(_subject(names[0]), key, *_span(-1, 90)).issuer_name(_subject(names[0]))
    builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    public, private = folder / "self-signed.pem", folder / "self-signed.key"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    private.chmod(0o600)
    return Issued(public, private, certificate)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.OID_COMMON_NAME, name)])


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _span(since_days: float, days: float) -> tuple[timedelta, timedelta]:
    """From its beginning to its end, which lies behind it even where both have passed."""
    return timedelta(days=min(since_days, days - 1)), timedelta(days=days)


def _builder(subject: x509.Name, key: Key, first: timedelta, last: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + first)
        .not_valid_after(now + last)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not is_ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
