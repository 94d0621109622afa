"""TLS as a client speaks it: which servers are believed, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.support.ca import Authority, Issued, self_signed
from tests.support.handshakes import Shaken, finish, sockets, tls_of
from tests.support.logged import logged
from wsd import log
from wsd.errors import ConnectError
from wsd.tls_client import ClientTls
from wsd.tls_server import ServerTls


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def issued(ca: Authority) -> Issued:
    return ca.issue(["server.example", "*.wild.example", "127.0.0.1", "::1"])


def connect(
    tls: ClientTls, shown: Issued, host: str = "server.example", server: ServerTls | None = None, *, alpn: bool = True
) -> Shaken:
    """A handshake with a server that shows `shown`; what `check` finds wrong is the client's error."""
    with sockets() as (one, other):
        client = tls.connection(one, host, alpn=alpn)
        shaken = finish(client, (server or ServerTls(tls_of(shown))).connection(other))
        if not shaken.client_error:
            try:
                tls.check(client, host)
            except ConnectError as error:
                shaken = shaken._replace(client_error=f"{error.cause}: {error.text}")
        return shaken


def refusal(tls: ClientTls, shown: Issued, host: str = "server.example") -> str:
    """Why that server is not believed; it learns so in the handshake."""
    shaken = connect(tls, shown, host)
    assert shaken.client_error == "certificate verify failed"
    assert "alert" in shaken.server_error
    with pytest.raises(ConnectError) as caught:
        tls.check(shaken.client, host)
    assert caught.value.text == tls.reason(shaken.client)
    return caught.value.text


# -- whom it believes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["server.example", "SERVER.example", "server.example.", "a.wild.example", "127.0.0.1", "::1"]
)
def test_the_one_that_was_meant(ca: Authority, issued: Issued, host: str) -> None:
    tls = ClientTls(ca=str(ca.certificate))
    shaken = connect(tls, issued, host)
    assert shaken.is_open
    assert tls.reason(shaken.client) == ""


@pytest.mark.parametrize(
    "host", ["evil.example", "a.b.wild.example", "wild.example", "127.0.0.2", "::2", "erver.example"]
)
def test_somebody_else(ca: Authority, issued: Issued, host: str) -> None:
    assert refusal(ClientTls(ca=str(ca.certificate)), issued, host) == (
        "the server's certificate is for server.example, *.wild.example, 127.0.0.1, ::1, and not for " + host
    )


def test_a_certificate_with_many_names(ca: Authority) -> None:
    many = ca.issue([f"host{number}.example" for number in range(8)])
    text = refusal(ClientTls(ca=str(ca.certificate)), many)
    assert "host4.example and 3 more, and not for server.example" in text


def test_a_common_name_is_no_name(ca: Authority) -> None:
    """RFC 9525: only the alternative names count."""
    text = refusal(ClientTls(ca=str(ca.certificate)), ca.issue([], subject="server.example"))
    assert text == "the server's certificate has server.example, but not as an alternative name of that kind"


def test_a_name_in_another_alphabet(ca: Authority) -> None:
    tls = ClientTls(ca=str(ca.certificate))
    made = ca.issue(["xn--bcher-kva.example"])
    shaken = connect(tls, made, "bücher.example")
    assert shaken.is_open
    assert shaken.server.get_servername() == b"xn--bcher-kva.example"


def test_the_systems_authorities_do_not_know_ours(issued: Issued) -> None:
    text = refusal(ClientTls(), issued)
    assert text == "the server's certificate is not to be trusted: unable to get local issuer certificate"


def test_another_authority(issued: Issued, tmp_path: Path) -> None:
    other = Authority(tmp_path, "Other")
    assert "not to be trusted" in refusal(ClientTls(ca=str(other.certificate)), issued)


def test_one_that_has_ended(ca: Authority, tmp_path: Path) -> None:
    """Our own server does not show such a one, so OpenSSL's does."""
    ended = ca.issue(["server.example"], days=-1, file="ended")
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(str(ended.certificate))
    context.use_privatekey_file(str(ended.private_key))
    tls = ClientTls(ca=str(ca.certificate))
    with sockets() as (one, other):
        server = SSL.Connection(context, other)
        server.set_accept_state()
        shaken = finish(tls.connection(one, "server.example"), server)
        assert "certificate expired" in shaken.server_error
        assert tls.reason(shaken.client).endswith("certificate has expired")


def test_a_clients_certificate_is_no_servers(ca: Authority) -> None:
    made = ca.issue(["server.example"], client=True, file="client-as-server")
    assert "unsuitable certificate purpose" in refusal(ClientTls(ca=str(ca.certificate)), made)


def test_a_server_that_vouches_for_itself(tmp_path: Path) -> None:
    made = self_signed(tmp_path, ["server.example"])
    assert "self-signed certificate" in refusal(ClientTls(), made)
    assert connect(ClientTls(ca=str(made.certificate)), made).is_open


def test_the_servers_own_certificate_as_the_authority(ca: Authority, issued: Issued) -> None:
    """Whoever has signed it: what is in the file is believed as it stands, and nothing else."""
    tls = ClientTls(ca=str(issued.certificate))
    assert connect(tls, issued).is_open
    assert "not to be trusted" in refusal(tls, ca.issue(["server.example"], file="sister"))


def test_verified_for_one_host_is_not_for_another(ca: Authority, issued: Issued) -> None:
    tls = ClientTls(ca=str(ca.certificate))
    shaken = connect(tls, issued, "127.0.0.1")
    assert shaken.is_open
    with pytest.raises(ConnectError):
        tls.check(shaken.client, "server.example")


def test_before_the_handshake_nobody_is_verified(ca: Authority) -> None:
    tls = ClientTls(ca=str(ca.certificate))
    with sockets() as (one, _):
        connection = tls.connection(one, "server.example")
        with pytest.raises(ConnectError, match="the server was not verified"):
            tls.check(connection, "server.example")


def test_insecure_is_loud(tmp_path: Path) -> None:
    tls = ClientTls(insecure=True)
    with logged(log.WARN) as lines:
        shaken = connect(tls, self_signed(tmp_path, ["somebody.example"]))
        assert shaken.is_open
        connect(tls, self_signed(tmp_path, ["somebody.example"]))
    assert lines == ["the TLS server at server.example is not verified, as insecure asks: it may be anybody"] * 2


# -- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "asked"), [("server.example", b"server.example"), ("127.0.0.1", None), ("::1", None)])
def test_the_name_that_it_asks_for(ca: Authority, issued: Issued, host: str, asked: bytes | None) -> None:
    assert connect(ClientTls(ca=str(ca.certificate)), issued, host).server.get_servername() == asked


def test_alpn(ca: Authority, issued: Issued) -> None:
    tls = ClientTls(ca=str(ca.certificate))
    assert connect(tls, issued).server.get_alpn_proto_negotiated() == b"http/1.1"
    assert connect(tls, issued, alpn=False).server.get_alpn_proto_negotiated() == b""


def test_its_own_certificate(ca: Authority, issued: Issued, tmp_path: Path) -> None:
    server = ServerTls(tls_of(issued, client_certificates="required", client_ca=str(ca.certificate)))
    alice = Authority(tmp_path, "Middle", ca).issue(["alice"], client=True, together=True)
    tls = ClientTls(ca=str(ca.certificate), certificate=str(alice.certificate))
    shaken = connect(tls, issued, server=server)
    assert shaken.is_open
    assert shaken.server.get_peer_certificate(as_cryptography=True) == alice.x509
    assert connect(ClientTls(ca=str(ca.certificate)), issued, server=server).client_error


def test_the_certificate_is_not_shown_to_somebody_else(ca: Authority, issued: Issued) -> None:
    server = ServerTls(tls_of(issued, client_certificates="optional", client_ca=str(ca.certificate)))
    alice = ca.issue(["alice"], client=True)
    tls = ClientTls(ca=str(ca.certificate), certificate=str(alice.certificate), private_key=str(alice.private_key))
    shaken = connect(tls, issued, "evil.example", server)
    assert shaken.client_error
    assert shaken.server.get_peer_certificate(as_cryptography=True) is None


def test_old_versions_are_not_spoken(ca: Authority, issued: Issued) -> None:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(str(issued.certificate))
    context.use_privatekey_file(str(issued.private_key))
    context.set_max_proto_version(SSL.TLS1_1_VERSION)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    with sockets() as (one, other):
        server = SSL.Connection(context, other)
        server.set_accept_state()
        shaken = finish(ClientTls(ca=str(ca.certificate)).connection(one, "server.example"), server)
        assert "unsupported protocol" in shaken.server_error


# -- what cannot be used ----------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used(ca: Authority, issued: Issued, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(ValueError, match=f"ca: {missing}: cannot be read"):
        ClientTls(ca=missing)
    with pytest.raises(ValueError, match=r"private_key: .* does not belong to the certificate"):
        ClientTls(certificate=str(issued.certificate), private_key=str(ca.issue(["x"]).private_key))
    with pytest.raises(ValueError, match=r"ca: .*; certificate: "):
        ClientTls(ca=missing, certificate=missing)


def test_what_does_not_go_together(ca: Authority, issued: Issued) -> None:
    with pytest.raises(ValueError, match="insecure: "):
        ClientTls(ca=str(ca.certificate), insecure=True)
    with pytest.raises(ValueError, match="private_key: there is no certificate"):
        ClientTls(private_key=str(issued.private_key))


def test_a_key_that_everybody_can_read(ca: Authority) -> None:
    alice = ca.issue(["open-alice"], client=True)
    alice.private_key.chmod(0o644)
    with pytest.raises(ValueError, match="everybody can read"):
        ClientTls(certificate=str(alice.certificate), private_key=str(alice.private_key))


def test_what_only_might_be_wrong_is_logged(ca: Authority) -> None:
    old = ca.issue([], days=-3, subject="Old CA", file="old")
    with logged(log.WARN) as lines:
        ClientTls(ca=str(old.certificate))
    assert len(lines) == 1
    assert "CN=Old CA has ended" in lines[0]
