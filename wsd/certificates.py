"""Certificates, keys and revocation lists as files: read, checked, and told how long they last.

Owns what is wrong with them, in sentences that name the file and what was expected.  Must not know OpenSSL's
connections, nor who shows a certificate to whom.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

# Far above a list of the revoked of a large authority; what is larger is something else.
_FILE_BYTES: Final = 64 << 20

_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH

_SECRET: Final = b"PRIVATE KEY-----"

_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

# When the log warns that a certificate ends: the first leaves time to find out why nobody renewed it, the second for
# one last attempt.
WARN_DAYS: Final = (30, 7)

Identity = tuple[int, int, int, int]
"""Which file it is, and in which state: device, inode, time of its last change in ns, size."""


class Fault(NamedTuple):
    """One thing that is wrong: `option` is below the table that names the file."""

    option: str
    text: str


@dataclass(frozen=True)
class CertificateInfo:
    """A certificate that is shown to peers, for people."""

    file: str
    names: tuple[str, ...]
    not_after: datetime

    @property
    def days_left(self) -> int:
        """Whole days until its end; negative once it has ended."""
        return (self.not_after - datetime.now(UTC)).days

    @property
    def stage(self) -> int:
        """How near the end is: 0 far, then one more with each of `WARN_DAYS`, and one more when it has ended."""
        left = self.not_after - datetime.now(UTC)
        return sum(left.total_seconds() <= days * 86_400 for days in (*WARN_DAYS, 0))

    @property
    def ending(self) -> str:
        """A sentence on its end, for warnings."""
        names = ", ".join(self.names) or "no name"
        if self.days_left < 0:
            return f"{self.file}: the certificate for {names} has ended on {day(self.not_after)}; clients refuse it"
        days = "1 day" if self.days_left == 1 else f"{self.days_left} days"
        return f"{self.file}: the certificate for {names} ends in {days}, on {day(self.not_after)}; renew it"


@dataclass(frozen=True)
class RevocationInfo:
    """A list of revoked certificates, for people."""

    file: str
    crl: x509.CertificateRevocationList

    @property
    def stage(self) -> int:
        """1 once it is out of date; some last a day, so that there is no time to warn before."""
        end = self.crl.next_update_utc
        return int(end is not None and end < datetime.now(UTC))

    @property
    def ending(self) -> str:
        """A sentence on its end, for warnings."""
        whose, end = self.crl.issuer.rfc4514_string(), self.crl.next_update_utc
        until = f" since {day(end)}" if end else ""
        return f"{self.file}: the list of {whose} is out of date{until}, so all its clients are refused"


@dataclass(frozen=True)
class Pair:
    """A certificate with those above it, and its private key."""

    chain: Sequence[x509.Certificate]
    key: Any
    info: CertificateInfo


def day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names that it is for: the alternative ones (hosts, then addresses), without any the subject's common name."""
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [name.lower() for name in held.get_values_for_type(x509.DNSName)]
        names = [*hosts, *map(str, held.get_values_for_type(x509.IPAddress))]
    except (x509.ExtensionNotFound, ValueError):  # none, or one that cannot be read
        names = []
    if not names:
        names = [str(part.value).lower() for part in certificate.subject.get_attributes_for_oid(x509.OID_COMMON_NAME)]
    return tuple(dict.fromkeys(names))


def identity(path: str) -> Identity | None:
    """Which file is there now; None if there is none, or it cannot be reached."""
    try:
        return _identity(os.stat(path))
    except OSError:
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


class Reading:
    """Files read and checked in one go: what is wrong is collected, so that all of it can be told at once."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[str] = []
        self.seen: dict[str, Identity | None] = {}
        """What was read, to find out later whether it is another file by then."""
        self._now = datetime.now(UTC)

    def pair(self, prefix: str, certificate: str, private_key: str) -> Pair | None:
        """Read a certificate and its key, which must belong together; None if there is a fault.

        Args:
            prefix: Before the options' names, for the messages: "certificates[0].", or nothing.
            certificate: The chain's file.
            private_key: The key's; empty: it is in the chain's.
        """
        chain = self.chain(f"{prefix}certificate", certificate)
        option, path = (f"{prefix}private_key", private_key) if private_key else (f"{prefix}certificate", certificate)
        key = self._key(option, path) if private_key or chain else None
        if not chain or key is None:
            return None
        if chain[0].public_key() != key.public_key():
            self._fault(option, path, _mismatch(chain, key, certificate))
            return None
        self._check_chain(certificate, chain)
        info = CertificateInfo(certificate, names_of(chain[0]), chain[0].not_valid_after_utc)
        return Pair(chain, key, info) if self._is_in_time(f"{prefix}certificate", certificate, chain[0]) else None

    def chain(self, option: str, path: str) -> list[x509.Certificate]:
        """Read the certificates of a file; empty if there is a fault."""
        data = self._bytes(option, path)
        if data is None:
            return []
        if b"-----BEGIN CERTIFICATE-----" not in data:
            self._fault(option, path, "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
            return []
        try:
            found = x509.load_pem_x509_certificates(data)
            for certificate in found:
                certificate.public_key()  # of a kind that nobody knows, perhaps
        except (ValueError, UnsupportedAlgorithm) as error:
            self._fault(option, path, f"holds a certificate that cannot be read: {error}")
            return []
        return found

    def authorities(self, option: str, path: str) -> list[x509.Certificate]:
        """Read the certificates of those who vouch for others; empty if there is a fault."""
        found = self.chain(option, path)
        for certificate in found:
            if certificate.not_valid_after_utc < self._now:
                whom = certificate.subject.rfc4514_string()
                self.warnings.append(f"{path}: {whom} has ended on {day(certificate.not_valid_after_utc)}")
        return found

    def revocations(self, option: str, path: str) -> list[x509.CertificateRevocationList]:
        """Read lists of revoked certificates; empty if there is a fault."""
        data = self._bytes(option, path)
        if data is None:
            return []
        try:
            found = [x509.load_pem_x509_crl(text) for text in _CRL.findall(data)]
        except ValueError as error:
            self._fault(option, path, f"holds a revocation list that cannot be read: {error}")
            return []
        if not found:
            self._fault(option, path, "holds no revocation list in PEM (-----BEGIN X509 CRL-----)")
        for crl in found:
            info = RevocationInfo(path, crl)
            if info.stage:
                self.faults.append(Fault(option, info.ending))
        return found

    def _key(self, option: str, path: str) -> Any:
        """Read a private key; None if there is a fault."""
        data = self._bytes(option, path, is_secret=True)
        if data is None:
            return None
        if _SECRET not in data:
            wanted = "" if option.endswith("private_key") else "; set private_key to the file that holds it"
            self._fault(option, path, f"holds no private key in PEM (-----BEGIN PRIVATE KEY-----){wanted}")
            return None
        try:
            return load_pem_private_key(data, None)
        except TypeError:
            self._fault(option, path, "the key has a passphrase, which nobody is there to type; take it off")
        except (ValueError, UnsupportedAlgorithm) as error:
            self._fault(option, path, f"the key cannot be read: {error}")
        return None

    def _bytes(self, option: str, path: str, *, is_secret: bool = False) -> bytes | None:
        """The file's bytes; what is looked at is what was opened, whatever the path leads to a moment later."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
        except (OSError, ValueError) as error:
            self.seen[path] = None
            self._fault(option, path, f"cannot be read: {getattr(error, 'strerror', None) or error}")
            return None
        try:
            status = os.fstat(descriptor)
            self.seen[path] = _identity(status)
            if not stat.S_ISREG(status.st_mode):
                self._fault(option, path, "is no file")
                return None
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(_FILE_BYTES + 1)
        except OSError as error:
            self._fault(option, path, f"cannot be read: {error.strerror}")
            return None
        finally:
            os.close(descriptor)
        if len(data) > _FILE_BYTES:
            self._fault(option, path, f"is larger than {_FILE_BYTES} bytes; is it the right file?")
            return None
        if is_secret and status.st_mode & _OTHERS and _SECRET in data:
            mode = stat.S_IMODE(status.st_mode)
            text = f"everybody can {'read' if mode & stat.S_IROTH else 'write'} this key, its mode is {mode:04o}"
            self._fault(option, path, f"{text}; chmod 640 (or 600), and make sure that it was not copied")
            return None
        return data

    def _is_in_time(self, option: str, path: str, certificate: x509.Certificate) -> bool:
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if self._now > last:
            self._fault(option, path, f"the certificate has ended on {day(last)}; renew it")
        elif self._now < first:
            self._fault(option, path, f"the certificate begins on {day(first)}, and here it is {day(self._now)}")
        return first <= self._now <= last

    def _check_chain(self, path: str, chain: Sequence[x509.Certificate]) -> None:
        """Warn of what some clients mind: a chain out of order, or with a part that has ended."""
        for at, (below, above) in enumerate(itertools.pairwise(chain), 2):
            if below.issuer != above.subject:
                text = f"certificate {at} is {above.subject.rfc4514_string()}, where {below.issuer.rfc4514_string()}"
                self.warnings.append(f"{path}: {text} should follow")
            if above.not_valid_after_utc < self._now:
                self.warnings.append(f"{path}: certificate {at} has ended on {day(above.not_valid_after_utc)}")

    def _fault(self, option: str, path: str, text: str) -> None:
        self.faults.append(Fault(option, f"{path}: {text}"))


def _mismatch(chain: Sequence[x509.Certificate], key: Any, file: str) -> str:
    """How a key and a certificate do not belong together."""
    for at, certificate in enumerate(chain[1:], 2):
        if certificate.public_key() == key.public_key():
            return f"the key belongs to certificate {at} in {file}; the server's own must be the first"
    return f"the key does not belong to the certificate in {file}"
