"""TLS as a listener speaks it, by handshakes with OpenSSL's own client over socket pairs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import Certificate as X509Certificate
from OpenSSL import SSL

from tests.support.ca import Authority, Issued, self_signed
from tests.support.handshakes import Shaken, finish, shake, sockets, tls_of
from tests.support.logged import logged
from wsd.config import Certificate, Tls
from wsd.errors import ConfigError
from wsd.tls_server import ServerTls


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def issued(ca: Authority) -> Issued:
    return ca.issue(["first.example"])


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    with logged() as heard:
        yield heard


def server(issued: Issued, **fields: Any) -> ServerTls:
    return ServerTls(tls_of(issued, **fields))


def client(**settings: Any) -> SSL.Context:
    """A client's context; `verify` is left out."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    for name, value in settings.items():
        getattr(context, f"set_{name}")(value)
    return context


def as_client(issued: Issued, **settings: Any) -> SSL.Context:
    """A client with a certificate."""
    context = client(**settings)
    context.use_certificate_chain_file(str(issued.certificate))
    context.use_privatekey_file(str(issued.private_key))
    return context


def refused(config: Tls) -> list[str]:
    """What is wrong, as `key: text`, of a listener's third table."""
    with pytest.raises(ConfigError) as caught:
        ServerTls(config, file="wsd.toml", key="listen[2].tls")
    assert {problem.file for problem in caught.value.problems} == {"wsd.toml"}
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


# -- what cannot be used ----------------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told_at_once(ca: Authority, issued: Issued, tmp_path: Path) -> None:
    other = ca.issue(["other.example"])
    config = Tls(
        certificate=str(issued.certificate),
        private_key=str(other.private_key),
        certificates=(Certificate(certificate=str(tmp_path / "missing.pem")),),
        ciphers="NONSENSE",
        ciphersuites="TLS_AES_128_GCM_SHA256:TLS_NONSENSE",
        client_certificates="optional",
        client_ca=str(issued.private_key),
        client_crl=str(issued.private_key),
    )
    keys = [text.partition(": ")[0] for text in refused(config)]
    assert keys == [
        "listen[2].tls.private_key",
        "listen[2].tls.certificates[0].certificate",
        "listen[2].tls.client_ca",
        "listen[2].tls.client_crl",
        "listen[2].tls.ciphers",
        "listen[2].tls.ciphersuites",
    ]


def test_one_that_has_ended(ca: Authority) -> None:
    ended = ca.issue(["ended.example"], days=-1)
    (text,) = refused(tls_of(ended))
    assert text.startswith(f"listen[2].tls.certificate: {ended.certificate}: the certificate has ended on ")


@pytest.mark.parametrize("ciphers", ["NONSENSE", "!ALL", "DEFAULT:@SECLEVEL=9", "@NONSENSE"])
def test_a_cipher_list_of_which_nothing_is_left(issued: Issued, ciphers: str) -> None:
    (text,) = refused(tls_of(issued, ciphers=ciphers))
    assert text.startswith(f'listen[2].tls.ciphers: OpenSSL takes no cipher of "{ciphers}": ')


@pytest.mark.parametrize(
    "suites",
    [
        "TLS_NONSENSE",
        "TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384",
    ],
)
def test_suites_that_nobody_knows(issued: Issued, suites: str) -> None:
    (text,) = refused(tls_of(issued, ciphersuites=suites))
    wrong = suites.rpartition(":")[2]
    assert text.startswith(f'listen[2].tls.ciphersuites: OpenSSL does not know "{wrong}": no cipher match; there are ')
    assert "TLS_AES_256_GCM_SHA384" in text


def test_a_word_that_openssl_passes_over_is_a_warning(issued: Issued) -> None:
    tls = server(issued, ciphers="ECDHE+AESGCM:ECDHE+AESGCN:!aNULL:@SECLEVEL=2")
    assert tls.warnings == ["tls.ciphers: this OpenSSL has no cipher ECDHE+AESGCN"]
    assert server(issued, ciphers="DEFAULT").warnings == []


def test_a_key_that_openssl_finds_too_short(ca: Authority) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    short = ca.issue(["short.example"], key=rsa.generate_private_key(65537, 1024))
    (text,) = refused(tls_of(short))
    assert text == f"listen[2].tls.certificate: {short.certificate}: OpenSSL: ee key too small"


# -- versions and ciphers ---------------------------------------------------------------------------------------------


def test_a_handshake(issued: Issued) -> None:
    shaken = shake(server(issued), alpn=(b"http/1.1",))
    assert shaken.is_open
    assert shaken.server.get_protocol_version_name() == "TLSv1.3"
    assert shaken.client.get_alpn_proto_negotiated() == b"http/1.1"
    assert shaken.shown == ["first.example"]


def test_the_chain_is_shown(ca: Authority, tmp_path: Path) -> None:
    below = Authority(tmp_path, "Middle", ca).issue(["deep.example"])
    assert shake(server(below)).shown == ["deep.example", "Middle"]


def test_tls_1_2_is_spoken_and_1_1_is_not(issued: Issued) -> None:
    shaken = shake(server(issued), context=client(max_proto_version=SSL.TLS1_2_VERSION))
    assert shaken.is_open
    assert shaken.server.get_protocol_version_name() == "TLSv1.2"
    old = client(max_proto_version=SSL.TLS1_1_VERSION, cipher_list=b"ALL:@SECLEVEL=0")
    old.set_min_proto_version(SSL.TLS1_1_VERSION)
    shaken = shake(server(issued), context=old)
    assert shaken.server_error == "unsupported protocol"
    assert "alert protocol version" in shaken.client_error


def test_only_1_3(issued: Issued) -> None:
    shaken = shake(server(issued, min_version="1.3"), context=client(max_proto_version=SSL.TLS1_2_VERSION))
    assert "alert protocol version" in shaken.client_error
    assert shake(server(issued, min_version="1.3")).is_open


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_the_default_ciphers_are_forward_secret(ca: Authority, kind: str) -> None:
    made = server(ca.issue([f"{kind}.example"], key=kind))  # type: ignore[arg-type]
    with sockets() as (_, other):
        offered = [name for name in made.connection(other).get_cipher_list() if not name.startswith("TLS_")]
    assert offered
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name) for name in offered)
    weak = client(max_proto_version=SSL.TLS1_2_VERSION, cipher_list=b"AES128-SHA:AES256-GCM-SHA384:@SECLEVEL=0")
    shaken = shake(made, context=weak)
    assert shaken.server_error == "no shared cipher"
    assert "handshake failure" in shaken.client_error


def test_a_list_of_ones_own(ca: Authority) -> None:
    rsa = ca.issue(["own.example"], key="rsa")
    made = server(rsa, ciphers="AES256-GCM-SHA384")
    shaken = shake(made, context=client(max_proto_version=SSL.TLS1_2_VERSION, cipher_list=b"ALL"))
    assert shaken.server.get_cipher_name() == "AES256-GCM-SHA384"


def test_suites(issued: Issued) -> None:
    made = server(issued, ciphersuites="TLS_CHACHA20_POLY1305_SHA256")
    assert shake(made).server.get_cipher_name() == "TLS_CHACHA20_POLY1305_SHA256"


@pytest.mark.parametrize("prefers", [True, False])
def test_whose_order_decides(issued: Issued, prefers: bool) -> None:
    one, other = "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"
    made = server(issued, ciphers=f"{one}:{other}", prefer_server_ciphers=prefers)
    asks = client(max_proto_version=SSL.TLS1_2_VERSION, cipher_list=f"{other}:{one}".encode())
    assert shake(made, context=asks).server.get_cipher_name() == (one if prefers else other)


@pytest.mark.parametrize(
    ("curve", "group"), [("P-384", "secp384r1"), ("prime256v1", "secp256r1"), ("P-521", "secp521r1")]
)
def test_the_curve(issued: Issued, curve: str, group: str) -> None:
    assert shake(server(issued, curve=curve)).server.get_group_name() == group


def test_a_curve_with_tls_1_2(issued: Issued) -> None:
    """The certificate's own key is of another curve."""
    shaken = shake(server(issued, curve="P-384"), context=client(max_proto_version=SSL.TLS1_2_VERSION))
    assert shaken.is_open
    assert shaken.server.get_group_name() == "secp384r1"


def test_buffers_of_idle_connections_are_released(issued: Issued) -> None:
    assert server(issued)._contexts.first.set_mode(0) & SSL.MODE_RELEASE_BUFFERS


def test_without_a_curve_openssl_chooses(issued: Issued) -> None:
    assert "X25519" in (shake(server(issued)).server.get_group_name() or "")


def test_renegotiation_and_compression_are_off(issued: Issued) -> None:
    """An option is on if setting nothing more leaves it set."""
    with sockets() as (_, other):
        options = server(issued).connection(other).set_options(0)
    assert options & SSL.OP_NO_RENEGOTIATION
    assert options & SSL.OP_NO_COMPRESSION
    with sockets() as (one, other):
        end = SSL.Connection(client(max_proto_version=SSL.TLS1_2_VERSION), one)
        end.set_connect_state()
        shaken = finish(end, server(issued).connection(other))
        shaken.client.renegotiate()
        with pytest.raises(SSL.WantReadError):
            shaken.client.do_handshake()
        with pytest.raises(SSL.Error):
            shaken.server.recv(1)
        with pytest.raises(SSL.Error, match="no renegotiation"):
            shaken.client.do_handshake()


# -- ALPN -------------------------------------------------------------------------------------------------------------


def test_http_1_1_among_others(issued: Issued) -> None:
    assert shake(server(issued), alpn=(b"h2", b"http/1.1")).client.get_alpn_proto_negotiated() == b"http/1.1"


def test_who_offers_nothing_is_served(issued: Issued) -> None:
    shaken = shake(server(issued))
    assert shaken.is_open
    assert shaken.client.get_alpn_proto_negotiated() == b""


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_who_offers_only_others_gets_the_alert(issued: Issued, version: int) -> None:
    made = server(issued)
    shaken = shake(made, alpn=(b"h2", b"spdy/1"), context=client(max_proto_version=version))
    assert shaken.server_error == "no application protocol in common"
    assert "no application protocol" in shaken.client_error
    assert shake(made).is_open  # and the next one knows nothing of it


def test_where_no_protocol_is_known_none_is_wrong(issued: Issued) -> None:
    made = ServerTls(tls_of(issued), alpn=())
    shaken = shake(made, alpn=(b"mqtt",))
    assert shaken.is_open
    assert shaken.client.get_alpn_proto_negotiated() == b""


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def named(ca: Authority, issued: Issued) -> ServerTls:
    """Three certificates: the first one, one for the names that it holds, one for names that were written."""
    held = ca.issue(["second.example", "*.second.example"])
    told = ca.issue(["third.example"])
    more = (
        Certificate(certificate=str(held.certificate), private_key=str(held.private_key)),
        Certificate(
            certificate=str(told.certificate),
            private_key=str(told.private_key),
            names=("Told.example", "*.told.example", "exact.second.example"),
        ),
    )
    return server(issued, certificates=more)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("first.example", "first.example"),
        ("second.example", "second.example"),
        ("SECOND.example", "second.example"),
        ("a.second.example", "second.example"),
        ("a.b.second.example", "first.example"),
        ("exact.second.example", "third.example"),
        ("told.example", "third.example"),
        ("x.told.example", "third.example"),
        ("third.example", "first.example"),
        ("unknown.example", "first.example"),
        ("localhost", "first.example"),
        ("", "first.example"),
    ],
)
def test_the_certificate_for_a_name(named: ServerTls, name: str, shown: str) -> None:
    for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
        shaken = shake(named, name=name, context=client(max_proto_version=version))
        assert shaken.is_open
        assert shaken.shown == [shown]


def test_an_exception_while_choosing_shows_nobody_a_certificate(
    named: ServerTls, lines: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """CVE-2026-27448: pyOpenSSL once went on with the first one."""

    def fail(self: object, name: str) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("wsd.tls_server.Contexts._for_name", fail)
        shaken = shake(named, name="second.example")
    assert not shaken.is_open
    assert shaken.shown == []
    assert any("RuntimeError: a bug" in line for line in lines)
    assert capfd.readouterr().err == ""
    assert shake(named, name="second.example").is_open  # nobody else meets that exception


def test_a_chosen_certificate_changes_nothing_else(named: ServerTls) -> None:
    shaken = shake(named, name="second.example", alpn=(b"h2",))
    assert "no application protocol" in shaken.client_error
    assert shake(named, name="second.example", alpn=(b"http/1.1",)).client.get_alpn_proto_negotiated() == b"http/1.1"


def test_two_certificates_for_one_name(ca: Authority, issued: Issued) -> None:
    again = ca.issue(["first.example"], file="again")
    more = (Certificate(certificate=str(again.certificate), private_key=str(again.private_key)),)
    made = server(issued, certificates=more)
    assert made.warnings == [
        f"{again.certificate}: an earlier certificate of this listener is for first.example already"
    ]


def test_a_mistake_in_choosing_ends_the_handshake(
    named: ServerTls,
    issued: Issued,
    lines: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = server(issued)
    monkeypatch.setattr(made._contexts, "_names", None)
    for _ in range(2):
        shaken = shake(made, name="first.example")
        assert "handshake failure" in shaken.client_error
        assert shaken.shown == []
    assert sum("a bug in wsd" in line for line in lines) == 1
    assert capfd.readouterr().err == ""
    assert shake(named, name="first.example").is_open


# -- sessions ---------------------------------------------------------------------------------------------------------


def taken_up(made: ServerTls, version: int, context: SSL.Context | None = None) -> bool:
    """Whether a client that comes back takes up its session."""
    context = context or client(max_proto_version=version)
    with sockets() as (one, other):
        end = SSL.Connection(context, one)
        end.set_connect_state()
        first = finish(end, made.connection(other))
        assert first.is_open
        session = first.client.get_session()
    assert session is not None
    second = shake(made, context=context, session=session)
    assert second.is_open
    return second.client.get_finished() is not None and bool(
        SSL._lib.SSL_session_reused(second.server._ssl)  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_tickets(issued: Issued, version: int) -> None:
    assert taken_up(server(issued), version)
    assert not taken_up(server(issued, session_tickets=False), version)


def test_a_session_does_not_outlive_a_renewal(ca: Authority, issued: Issued) -> None:
    made = server(issued)
    context = client()
    first = shake(made, context=context)
    session = first.client.get_session()
    made.renew()
    second = shake(made, context=context, session=session)
    assert second.is_open
    assert not SSL._lib.SSL_session_reused(second.server._ssl)  # type: ignore[attr-defined]


def test_a_session_with_a_clients_certificate(ca: Authority, issued: Issued) -> None:
    made = server(issued, client_certificates="required", client_ca=str(ca.certificate))
    alice = as_client(ca.issue(["alice"], client=True))
    assert taken_up(made, SSL.TLS1_3_VERSION, alice)


# -- clients' certificates --------------------------------------------------------------------------------------------


def verifying(ca: Authority, issued: Issued, mode: str = "required", **fields: Any) -> ServerTls:
    return server(issued, client_certificates=mode, client_ca=str(ca.certificate), **fields)


def test_nobody_is_asked(ca: Authority, issued: Issued) -> None:
    shaken = shake(server(issued), context=as_client(ca.issue(["alice"], client=True)))
    assert shaken.is_open
    assert shaken.server.get_peer_certificate(as_cryptography=True) is None


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_one_that_is_vouched_for(ca: Authority, issued: Issued, mode: str) -> None:
    alice = ca.issue(["alice"], client=True)
    shaken = shake(verifying(ca, issued, mode), context=as_client(alice))
    assert shaken.is_open
    assert shaken.server.get_peer_certificate(as_cryptography=True) == alice.x509


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_who_has_none(ca: Authority, issued: Issued, version: int) -> None:
    context = client(max_proto_version=version)
    assert shake(verifying(ca, issued, "optional"), context=context).is_open
    shaken = shake(verifying(ca, issued), context=context)
    assert shaken.server_error == "peer did not return a certificate"
    assert shaken.client_error


def not_trusted(made: ServerTls, issued: Issued) -> str:
    """Why the server has refused that client."""
    shaken = shake(made, context=as_client(issued))
    assert shaken.server_error == "certificate verify failed"
    assert "alert" in shaken.client_error
    return made.reason(shaken.server)


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_a_stranger(ca: Authority, issued: Issued, tmp_path: Path, mode: str) -> None:
    stranger = Authority(tmp_path, "Stranger").issue(["alice"], client=True)
    assert not_trusted(verifying(ca, issued, mode), stranger) == (
        "client certificate: unable to get local issuer certificate"
    )


def test_one_that_vouches_for_itself(ca: Authority, issued: Issued, tmp_path: Path) -> None:
    assert "self-signed certificate" in not_trusted(verifying(ca, issued), self_signed(tmp_path))


def test_a_servers_certificate_is_no_clients(ca: Authority, issued: Issued) -> None:
    assert "unsuitable certificate purpose" in not_trusted(verifying(ca, issued), ca.issue(["x.example"]))


def test_a_clients_that_has_ended(ca: Authority, issued: Issued) -> None:
    late = ca.issue(["late"], days=-1, client=True)
    assert "certificate has expired" in not_trusted(verifying(ca, issued), late)


def test_one_that_was_revoked(ca: Authority, issued: Issued) -> None:
    alice, bob = ca.issue(["alice"], client=True), ca.issue(["bob"], client=True)
    made = verifying(ca, issued, client_crl=str(ca.crl(alice)))
    assert "certificate revoked" in not_trusted(made, alice)
    assert shake(made, context=as_client(bob)).is_open


def test_where_there_is_no_list_for_an_authority_nobody_knows(ca: Authority, issued: Issued, tmp_path: Path) -> None:
    middle = Authority(tmp_path, "Middle", ca)
    carol = middle.issue(["carol"], client=True)
    made = verifying(ca, issued, client_crl=str(ca.crl()))
    assert "unable to get certificate CRL" in not_trusted(made, carol)
    both = tmp_path / "both.pem"
    both.write_bytes(ca.crl().read_bytes() + middle.crl().read_bytes())
    assert shake(verifying(ca, issued, client_crl=str(both)), context=as_client(carol)).is_open


def test_clients_are_told_whose_certificates_are_good(ca: Authority, issued: Issued) -> None:
    shaken = shake(verifying(ca, issued, "optional"))
    assert shaken.is_open
    names = shaken.client.get_client_ca_list(as_cryptography=True)
    assert [name.rfc4514_string() for name in names] == ["CN=Test CA"]


def test_the_plugins_word(ca: Authority, issued: Issued) -> None:
    made = verifying(ca, issued)
    heard: list[tuple[str, int, bool]] = []

    def verify(certificate: X509Certificate, depth: int, verified: bool) -> bool:
        heard.append((certificate.subject.rfc4514_string(), depth, verified))
        return "CN=alice" not in heard[-1][0]

    made.verifier = verify
    assert shake(made, context=as_client(ca.issue(["bob"], client=True))).is_open
    assert heard == [("CN=Test CA", 1, True), ("CN=bob", 0, True)]
    assert not_trusted(made, ca.issue(["alice"], client=True)) == "client certificate: refused by the plugin"


def test_the_plugin_cannot_let_a_stranger_in(ca: Authority, issued: Issued, tmp_path: Path) -> None:
    made = verifying(ca, issued)
    heard: list[bool] = []
    made.verifier = lambda certificate, depth, verified: heard.append(verified) or True
    assert "issuer" in not_trusted(made, Authority(tmp_path, "Stranger").issue(["eve"], client=True))
    assert heard == [False]


def test_a_plugin_that_raises_refuses(
    ca: Authority, issued: Issued, lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    made = verifying(ca, issued)

    def verify(certificate: X509Certificate, depth: int, verified: bool) -> bool:
        raise RuntimeError("no database")

    made.verifier = verify
    alice = ca.issue(["alice"], client=True)
    for _ in range(2):
        assert not_trusted(made, alice) == "client certificate: refused by the plugin"
    assert sum("raised RuntimeError: no database" in line for line in lines) == 1
    assert capfd.readouterr().err == ""
    made.verifier = None
    assert shake(made, context=as_client(alice)).is_open  # nobody else meets that exception


def test_a_refusal_names_nobody_else(ca: Authority, issued: Issued) -> None:
    made = verifying(ca, issued, "optional")
    shaken = shake(made)
    assert made.reason(shaken.server) == ""


def test_the_chosen_certificate_asks_the_same_of_clients(ca: Authority, issued: Issued, tmp_path: Path) -> None:
    second = ca.issue(["second.example"], file="asks")
    more = (Certificate(certificate=str(second.certificate), private_key=str(second.private_key)),)
    made = verifying(ca, issued, certificates=more)
    assert shake(made, name="second.example").server_error == "peer did not return a certificate"
    eve = as_client(Authority(tmp_path, "Stranger").issue(["eve"], client=True))
    assert shake(made, name="second.example", context=eve).server_error == "certificate verify failed"
    alice = as_client(ca.issue(["alice"], client=True))
    shaken = shake(made, name="second.example", context=alice)
    assert shaken.is_open
    assert shaken.shown[0] == "second.example"


# -- reading again ----------------------------------------------------------------------------------------------------


def replaced(old: Issued, new: Issued) -> None:
    """Put a certificate and a key in place of others, each in one step."""
    os.replace(new.private_key, old.private_key)
    os.replace(new.certificate, old.certificate)


def test_renewal(ca: Authority) -> None:
    issued = ca.issue(["renewed.example"])
    made = server(issued)
    assert not made.changed()
    before = shake(made)
    replaced(issued, ca.issue(["renewed.example"], days=200, subject="New", file="new"))
    assert made.changed()
    assert shake(made).shown == ["renewed.example"]  # not before it is told
    made.renew()
    assert not made.changed()
    assert shake(made).shown == ["New"]
    assert made.certificates[0].days_left in (199, 200)
    assert before.shown == ["renewed.example"]


def test_a_handshake_that_began_before_a_renewal_ends_well(ca: Authority) -> None:
    issued = ca.issue(["between.example"])
    made = server(issued)
    with sockets() as (one, other):
        end = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), one)
        end.set_connect_state()
        with pytest.raises(SSL.WantReadError):
            end.do_handshake()
        accepted = made.connection(other)
        replaced(issued, ca.issue(["between.example"], subject="New", file="new-between"))
        made.renew()
        shaken = finish(end, accepted)
        assert shaken.is_open
        assert shaken.shown == ["between.example"]


def test_what_cannot_be_used_leaves_what_is_there(ca: Authority) -> None:
    issued = ca.issue(["kept.example"])
    made = ServerTls(tls_of(issued), file="wsd.toml", key="listen[0].tls")
    new = ca.issue(["kept.example"], subject="New", file="new-kept")
    os.replace(new.private_key, issued.private_key)  # half of a renewal
    with pytest.raises(ConfigError, match=r"listen\[0\].tls.private_key: .* does not belong to the certificate"):
        made.renew()
    assert made.changed()
    assert shake(made).shown == ["kept.example"]
    os.replace(new.certificate, issued.certificate)
    made.renew()
    assert shake(made).shown == ["New"]


def test_a_file_that_is_gone_counts_as_changed(ca: Authority) -> None:
    issued = ca.issue(["gone.example"])
    made = server(issued)
    os.rename(issued.private_key, f"{issued.private_key}.away")
    assert made.changed()
    with pytest.raises(ConfigError, match="cannot be read"):
        made.renew()
    os.rename(f"{issued.private_key}.away", issued.private_key)
    assert not made.changed()


def test_a_list_of_the_revoked_is_watched_too(ca: Authority, issued: Issued) -> None:
    alice = ca.issue(["watched"], client=True)
    crl = ca.crl(file="watched-crl.pem")
    made = verifying(ca, issued, client_crl=str(crl))
    assert shake(made, context=as_client(alice)).is_open
    ca.crl(alice, file="watched-crl.pem")
    assert made.changed()
    made.renew()
    assert "revoked" in not_trusted(made, alice)


def test_a_link_that_leads_elsewhere_counts_as_changed(ca: Authority, tmp_path: Path) -> None:
    """As certbot does it: live/cert.pem leads to archive/cert2.pem."""
    one, two = ca.issue(["link.example"]), ca.issue(["link.example"], subject="New", file="link2")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.symlink_to(one.certificate)
    key.symlink_to(one.private_key)
    made = server(Issued(certificate, key, one.x509))
    for link, target in ((certificate, two.certificate), (key, two.private_key)):
        (tmp_path / "new").symlink_to(target)
        os.replace(tmp_path / "new", link)
    assert made.changed()
    made.renew()
    assert shake(made).shown == ["New"]


def test_the_shown(named: ServerTls) -> None:
    assert [info.names for info in named.certificates] == [
        ("first.example",),
        ("second.example", "*.second.example"),
        ("third.example",),
    ]
    assert isinstance(shake(named), Shaken)
