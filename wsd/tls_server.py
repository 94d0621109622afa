"""TLS as a listener speaks it: OpenSSL's contexts made of [listen.tls], and made again when a file has changed.

Owns ciphers, versions, the certificate for each server name, ALPN, and the verdict on clients' certificates.  Must not
know sockets, the loop or plugins: `tls` moves the bytes, and a plugin's word on a certificate comes as a function.

An OpenSSL context never changes once it was used, so `renew` makes new ones; connections keep what they began with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags

from wsd import faults
from wsd.certificates import CertificateInfo, Fault, Pair, Reading, RevocationInfo, identity
from wsd.errors import ConfigError, Problem
from wsd.tls import new_context, verdict_text

if TYPE_CHECKING:
    import socket

    from cryptography.x509 import Certificate, CertificateRevocationList

    from wsd.config import Tls

HTTP_1_1: Final = b"http/1.1"  # RFC 7301 6: what WebSockets are upgraded from

# SSL_OP_PRIORITIZE_CHACHA, for which pyOpenSSL has no name: a client that puts ChaCha20 first, as one does whose
# processor has no AES, gets it though the order is the server's.
_PRIORITIZE_CHACHA: Final = 1 << 21

_VERSIONS: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_CURVES: Final[dict[str, type[ec.EllipticCurve]]] = {
    "P-256": ec.SECP256R1,
    "prime256v1": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "secp384r1": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "secp521r1": ec.SECP521R1,
}
_VERIFY: Final = {
    "none": SSL.VERIFY_NONE,
    "optional": SSL.VERIFY_PEER,
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}

# Words of a cipher list that are commands; the rest are names.  openssl-ciphers(1), "CIPHER LIST FORMAT".
_SEPARATORS: Final = re.compile(r"[:, ;]+")

Verifier = Callable[["Certificate", int, bool], object]


class ServerTls:
    """TLS as one listener speaks it.

    Args:
        config: `[listen.tls]`; `certificate` names a file.
        file: The configuration file's name, for the messages.
        key: Where in it the table is.
        alpn: The protocols of which a client that offers any must offer one (RFC 7301); none: whatever is offered.

    Raises:
        ConfigError: with everything that is wrong: a certificate that has ended or is another key's, a key that
            everybody can read, a cipher list that OpenSSL knows nothing of.
    """

    def __init__(
        self, config: Tls, *, file: str = "", key: str = "listen.tls", alpn: Sequence[bytes] = (HTTP_1_1,)
    ) -> None:
        self.config = config
        self.file = file
        self.key = key
        self.alpn = tuple(alpn)
        self.verifier: Verifier | None = None
        """Called with each certificate of a client's chain, its distance from the client's own, and OpenSSL's verdict.
        A false answer refuses, and so does an exception; a true one lets the verdict stand."""
        self._contexts = Contexts(self)

    @property
    def certificates(self) -> list[CertificateInfo]:
        """The certificates that clients are shown, the first one first."""
        return list(self._contexts.certificates)

    @property
    def revocations(self) -> list[RevocationInfo]:
        """The lists of revoked clients, and until when they hold."""
        return list(self._contexts.revocations)

    @property
    def warnings(self) -> list[str]:
        """What was not as it should be when the files were read, and did not stop it."""
        return list(self._contexts.warnings)

    def connection(self, sock: socket.socket | None) -> SSL.Connection:
        """OpenSSL's side of a connection that came in; nothing has been read yet.  None: bytes are moved by hand."""
        connection = SSL.Connection(self._contexts.first, sock)
        connection.set_accept_state()
        return connection

    def changed(self) -> bool:
        """Reports whether a file is another one than was read, or cannot be reached."""
        return any(identity(path) != was or was is None for path, was in self._contexts.seen.items())

    def renew(self) -> None:
        """Read the files again; new connections get what they hold now.

        Raises:
            ConfigError: what is wrong with them; the old ones go on.
        """
        self._contexts = Contexts(self)

    def reason(self, connection: SSL.Connection) -> str:
        """Why the certificate of a connection's client was refused; empty if it was not."""
        said = connection.get_app_data()
        return str(said) if said else ""


class Contexts:
    """What was made of one reading of the files.

    Raises:
        ConfigError: see `ServerTls`.
    """

    def __init__(self, owner: ServerTls) -> None:
        self._owner = owner
        self._config = config = owner.config
        reading = Reading()
        read = [
            (prefix, item, reading.pair(prefix, item.certificate, item.private_key)) for prefix, item in config.chosen
        ]
        self._authorities: list[Certificate] = []
        self._lists: list[CertificateRevocationList] = []
        if config.client_ca:
            self._authorities = reading.authorities("client_ca", config.client_ca)
        if config.client_crl:
            self._lists = reading.revocations("client_crl", config.client_crl)
        faults_found = [*reading.faults, *_cipher_faults(config)]
        self._names: dict[str, SSL.Context] = {}
        self.certificates: list[CertificateInfo] = []
        self.revocations = [RevocationInfo(config.client_crl, crl) for crl in self._lists]
        self.warnings = [*reading.warnings, *_cipher_warnings(config.ciphers)]
        self.seen = reading.seen
        made: list[SSL.Context] = []
        for prefix, item, pair in read if not _cipher_faults(config) else ():
            if pair is None:
                continue
            try:
                made.append(self._context(pair))
            except SSL.Error as error:  # a key that is too short, say, which was not to be seen before
                faults_found.append(Fault(f"{prefix}certificate", f"{item.certificate}: OpenSSL: {text_of(error)}"))
                continue
            self.certificates.append(pair.info)
            self._name(made[-1], item.names or pair.info.names, item.certificate)
        if faults_found:
            raise ConfigError([Problem(owner.file, f"{owner.key}.{option}", text) for option, text in faults_found])
        self.first = made[0]

    def _name(self, context: SSL.Context, names: Sequence[str], file: str) -> None:
        """Have a certificate shown to those who ask for one of `names`."""
        for name in names:
            if self._names.setdefault(name.lower(), context) is not context:
                self.warnings.append(f"{file}: an earlier certificate of this listener is for {name} already")

    def _context(self, pair: Pair) -> SSL.Context:
        """A context that shows one certificate; in all else those of a listener are the same."""
        config, context = self._config, new_context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(pair.chain[0])
        for above in pair.chain[1:]:
            context.add_extra_chain_cert(above)
        context.use_privatekey(pair.key)
        context.check_privatekey()
        context.set_min_proto_version(_VERSIONS[config.min_version])
        if config.ciphers:
            context.set_cipher_list(config.ciphers.encode())
        if config.ciphersuites:
            context.set_tls13_ciphersuites(config.ciphersuites.encode())
        if config.curve:
            context.set_tmp_ecdh(_CURVES[config.curve]())
        if config.prefer_server_ciphers:
            context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
            if not (config.ciphers or config.ciphersuites):
                context.set_options(_PRIORITIZE_CHACHA)
        self._set_sessions(context)
        self._set_clients(context)
        context.set_tlsext_servername_callback(self._choose)
        if self._owner.alpn:
            context.set_alpn_select_callback(self._agree)
        return context

    def _set_sessions(self, context: SSL.Context) -> None:
        """Sessions live at the clients, in tickets, or not at all: none takes memory here."""
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if not self._config.session_tickets:
            context.set_options(SSL.OP_NO_TICKET)
        # Where clients are verified, OpenSSL takes up no session without it.  Tickets are under a key of this context.
        context.set_session_id(b"wsd")

    def _set_clients(self, context: SSL.Context) -> None:
        """Whom clients' certificates must come from."""
        mode = _VERIFY[self._config.client_certificates]
        if mode == SSL.VERIFY_NONE:
            return
        store = context.get_cert_store()
        assert store is not None  # of a context that was just made
        for authority in self._authorities:
            store.add_cert(X509.from_cryptography(authority))
            context.add_client_ca(authority)
        for crl in self._lists:
            store.add_crl(crl)
        if self._lists:
            # Of every authority in the chain: where one has no list, nobody knows, and who is not known is refused.
            store.set_flags(X509StoreFlags.CRL_CHECK | X509StoreFlags.CRL_CHECK_ALL)
        context.set_verify(mode, self._verify)

    # -- what OpenSSL asks in a handshake; an exception must not get out: another connection would meet it --------

    def _choose(self, connection: SSL.Connection) -> None:
        """Show the certificate for the name that the client asks for."""
        try:
            asked = connection.get_servername()
            context = self._for_name(asked.decode("ascii", "replace").lower()) if asked else None
        except Exception as error:
            faults.report_bug(error)
            # One without any certificate, so that the handshake fails: better than the wrong one.
            context = SSL.Context(SSL.TLS_SERVER_METHOD)
        if context is not None and context is not connection.get_context():
            connection.set_context(context)

    def _for_name(self, name: str) -> SSL.Context | None:
        """RFC 6125 6.4.3: "*" stands for one label, the first."""
        return self._names.get(name) or self._names.get("*." + name.partition(".")[2])

    def _agree(self, connection: SSL.Connection, offered: list[bytes]) -> bytes:
        """Choose a protocol.  RFC 7301 3.2: "In the event that the server supports no protocols that the client
        advertises, then the server SHALL respond with a fatal "no_application_protocol" alert", which is what OpenSSL
        does about an exception here, and pyOpenSSL raises it from the handshake."""
        for name in self._owner.alpn:
            if name in offered:
                return name
        raise SSL.Error([("SSL routines", "", "no application protocol in common")])

    def _verify(self, connection: SSL.Connection, shown: X509, error: int, depth: int, verified: int) -> bool:
        """Reports whether one certificate of the client's chain is accepted."""
        try:
            certificate, verifier = shown.to_cryptography(), self._owner.verifier
            admitted = verifier is None or bool(verifier(certificate, depth, bool(verified)))
        except Exception as failure:
            faults.report_exception("verifying a client's certificate", failure)
            admitted = False
        if not verified:
            connection.set_app_data(f"client certificate: {verdict_text(error)}")
        elif not admitted:
            connection.set_app_data("client certificate: refused by the plugin")
        return bool(verified) and admitted


def text_of(error: SSL.Error) -> str:
    """What OpenSSL says, in its words."""
    queue: Any = error.args[0] if error.args else ()
    return "; ".join(str(reason) for *_, reason in queue if reason) or "no reason given"


# -- cipher lists -----------------------------------------------------------------------------------------------------


def _cipher_faults(config: Tls) -> list[Fault]:
    """Lists of which OpenSSL knows nothing, or which no connection could use."""
    found = []
    if config.ciphers and (why := _refusal("set_cipher_list", config.ciphers)):
        found.append(Fault("ciphers", f'OpenSSL takes no cipher of "{config.ciphers}": {why}; see openssl-ciphers(1)'))
    for name in config.ciphersuites.split(":") if config.ciphersuites else ():
        if why := _refusal("set_tls13_ciphersuites", name):
            known = ", ".join(_suites())
            found.append(Fault("ciphersuites", f'OpenSSL does not know "{name}": {why}; there are {known}'))
    return found


def _cipher_warnings(ciphers: str) -> Iterator[str]:
    """Words that OpenSSL passes over without a sound: a typo, or a cipher that it has no more."""
    for word in _SEPARATORS.split(ciphers):
        if word and word[0] not in "!-+@" and _refusal("set_cipher_list", word):
            yield f"tls.ciphers: this OpenSSL has no cipher {word}"


def _refusal(method: str, text: str) -> str:
    """Why OpenSSL does not take a list; empty if it does."""
    try:
        getattr(SSL.Context(SSL.TLS_SERVER_METHOD), method)(text.encode())
    except SSL.Error as error:
        return text_of(error)
    return ""


def _suites() -> list[str]:
    """The suites of TLS 1.3 that this OpenSSL has on."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD), None)
    return [name for name in connection.get_cipher_list() if name.startswith("TLS_")]
