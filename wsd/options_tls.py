"""The options of TLS: what a listener speaks, with which certificates, to whom.

Owns that table.  Must not know OpenSSL, nor read any file that it names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict, model_validator

from wsd.clashes import tls_clashes
from wsd.kinds import FilePath, each_once
from wsd.problems import Allowed, clash_error
from wsd.table import Table

ServerName = Annotated[
    str,
    Field(pattern=r"^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.\-]*[A-Za-z0-9_])?$"),
    Allowed('a host name such as "example.com", or "*.example.com" for all names one label below'),
]


class Certificate(Table):
    """One more certificate of a listener, chosen by the name that the client asks for (SNI)."""

    certificate: Annotated[FilePath, Field(min_length=1), Allowed("the path of a file")]
    """As `certificate` of [listen.tls]."""

    private_key: FilePath = ""
    """As `private_key` of [listen.tls]."""

    names: Annotated[tuple[ServerName, ...], Strict(False), AfterValidator(each_once)] = ()
    """The names that it is shown for.  Empty: those that it holds itself."""


def _tables(value: object) -> object:
    """TOML's lists are lists, and this is a tuple of tables."""
    return tuple(value) if isinstance(value, list) else value


class Tls(Table):
    """TLS on the listener above, as soon as `certificate` names a file; clients then use wss:// and https://.

    Certificates and keys are read at the start, before privileges are dropped, at each reload, and when a file has
    changed (`daemon.certificate_check_seconds`): a renewal needs no restart, and connections that exist stay.
    """

    certificate: FilePath = Field("", examples=["/etc/letsencrypt/live/example.com/fullchain.pem"])
    """The certificate chain in PEM: the server's own certificate first, then those of the authorities between it and a
    root that clients know.  Empty: no TLS.  A certificate that has ended, or has not begun, is refused.  30 and 7 days
    before its end the log warns, and `wsd status` shows when that is."""

    private_key: FilePath = Field("", examples=["/etc/letsencrypt/live/example.com/privkey.pem"])
    """The certificate's private key in PEM, without a passphrase.  Empty: it is in the file of the certificate.  A key
    that everybody can read is refused; owned by root and the daemon's group, with mode 0640, is right.  Once the daemon
    has dropped its privileges it must be able to read it again."""

    certificates: Annotated[tuple[Certificate, ...], BeforeValidator(_tables)] = Field(
        (), examples=[[{"certificate": "/etc/wsd/other.pem", "names": ["*.other.example"]}]]
    )
    """More certificates, for other names, each with `certificate`, `private_key` (empty: in the same file) and `names`
    (left out: those that it holds itself); or as tables, [[listen.tls.certificates]].  Clients say the name that they
    want (SNI); who asks for one that no certificate is for, or for none, is shown the one above."""

    ciphers: str = Field("", examples=["DEFAULT"])
    """What TLS 1.2 may encrypt with: a list as OpenSSL writes it, see openssl-ciphers(1).  Empty: what keeps recorded
    traffic secret though the key is stolen later, and was not broken: ECDHE+AESGCM:ECDHE+CHACHA20."""

    ciphersuites: str = Field("", examples=["TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"])
    """What TLS 1.3 may encrypt with, names with colons between them.  Empty: TLS_AES_128_GCM_SHA256,
    TLS_AES_256_GCM_SHA384 and TLS_CHACHA20_POLY1305_SHA256, in this order."""

    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken.  Earlier ones than 1.2 are not to be used (RFC 8996)."""

    curve: Literal["", "P-256", "P-384", "P-521", "prime256v1", "secp384r1", "secp521r1"] = ""
    """The one elliptic curve that keys are agreed on with, for those whose rules prescribe it.  Empty: whatever OpenSSL
    takes, X25519 and what stands against quantum computers included."""

    prefer_server_ciphers: bool = True
    """Whether the order of `ciphers` and `ciphersuites` decides, and not the client's.  Where both are left empty, a
    client that wants ChaCha20 above all, as one without AES in its processor does, still gets it."""

    session_tickets: bool = True
    """Whether a client that comes back may take up its last session again, which saves most of a handshake.  The key of
    the tickets lives in memory and is a new one with every start and every new certificate.  false: every handshake is
    a whole one."""

    client_certificates: Literal["none", "optional", "required"] = "none"
    """Whether clients are asked for a certificate.  "required": who has none is refused.  In either case one that
    `client_ca` does not vouch for, or that has ended, or was revoked, is refused; a plugin may refuse more
    (on_verify_client_certificate), and finds the certificate in `wsi.tls`."""

    client_ca: FilePath = Field("", examples=["/etc/wsd/clients-ca.pem"])
    """The authorities, in PEM, whose certificates clients may show."""

    client_crl: FilePath = Field("", examples=["/etc/wsd/clients-crl.pem"])
    """Their lists of revoked certificates, in PEM.  There must be one of every authority that a client's certificate
    hangs on, and none may be out of date, or those clients are refused.  Empty: nothing is revoked."""

    plain_http: Literal["refuse", "redirect"] = "refuse"
    """What plain HTTP gets on this port.  "refuse": 400, with a text that says so; "redirect": 308 to the same address
    with https://.  A WebSocket that is not encrypted is refused in both cases, since its client has sent its cookies
    and would not follow."""

    hsts_seconds: int = Field(0, ge=0, le=63_072_000, examples=[31536000])
    """For how long browsers must not speak to this host but over TLS (Strict-Transport-Security, RFC 6797), whatever
    the port; two years at most.  They cannot be told otherwise before that, so begin with little.  0: not said."""

    @model_validator(mode="after")
    def _clashes(self) -> Tls:
        if clashes := list(tls_clashes(self)):
            raise clash_error(clashes)
        return self

    @property
    def is_on(self) -> bool:
        """Whether TLS is spoken."""
        return bool(self.certificate)

    @property
    def chosen(self) -> list[tuple[str, Certificate]]:
        """Every certificate with its key below this table, the first one first."""
        first = Certificate.model_construct(certificate=self.certificate, private_key=self.private_key, names=())
        return [("", first), *((f"certificates[{at}].", item) for at, item in enumerate(self.certificates))]

    @property
    def files(self) -> list[str]:
        """Every file that is read, each once."""
        named: list[str] = [self.client_ca, self.client_crl] if self.is_on else []
        for _, item in self.chosen if self.is_on else ():
            named += [item.certificate, item.private_key]
        return list(dict.fromkeys(name for name in named if name))
