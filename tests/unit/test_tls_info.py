"""What two ends have agreed on, of two that talk in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.support.ca import Authority, Issued
from wsd.tls_info import TlsInfo


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def end(issued: Issued | None, ca: Path, alpn: str = "") -> SSL.Connection:
    """A connection without a socket, with a certificate if it has one."""
    context = SSL.Context(SSL.TLS_METHOD)
    if issued is not None:
        context.use_certificate_chain_file(str(issued.certificate))
        context.use_privatekey_file(str(issued.private_key))
    context.load_verify_locations(str(ca))
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    if alpn:
        context.set_alpn_protos([alpn.encode()])
        context.set_alpn_select_callback(lambda connection, offered: offered[0])
    return SSL.Connection(context, None)


def shaken(server: SSL.Connection, client: SSL.Connection) -> tuple[TlsInfo, TlsInfo]:
    """What the server and the client know when their handshake is over."""
    server.set_accept_state()
    client.set_connect_state()
    waiting = [(client, server), (server, client)]
    while waiting:
        ours, peer = waiting.pop(0)
        try:
            ours.do_handshake()
        except SSL.WantReadError:
            waiting.append((ours, peer))
        try:
            while True:
                peer.bio_write(ours.bio_read(65536))
        except SSL.WantReadError:
            pass
    return TlsInfo(server), TlsInfo(client)


def test_both_ends_have_agreed_on_the_same(authority: Authority) -> None:
    client = end(None, authority.certificate, "http/1.1")
    client.set_tlsext_host_name(b"localhost")
    ours, theirs = shaken(end(authority.issue(), authority.certificate, "http/1.1"), client)
    for info in (ours, theirs):
        assert (info.version, info.server_name, info.alpn, info.is_resumed) == (
            "TLSv1.3",
            "localhost",
            "http/1.1",
            False,
        )
        assert info.cipher.startswith("TLS_")
        assert repr(info) == f"<TlsInfo TLSv1.3 {info.cipher}>"
    assert theirs.alternative_names[:1] == ("localhost",)
    assert (ours.certificate, ours.subject, ours.alternative_names) == (None, "", ())


def test_who_the_peer_is(authority: Authority) -> None:
    alice = authority.issue(["alice.test", "192.0.2.7"], client=True, file="alice")
    info, _ = shaken(end(authority.issue(), authority.certificate), end(alice, authority.certificate))
    assert info.certificate == alice.x509
    assert info.subject == "CN=alice.test"
    assert info.alternative_names == ("alice.test", "192.0.2.7")
    assert (info.server_name, info.alpn) == ("", "")


def test_a_certificate_without_names(authority: Authority) -> None:
    nobody = authority.issue([], client=True, file="nobody")
    info, _ = shaken(end(authority.issue(), authority.certificate), end(nobody, authority.certificate))
    assert info.certificate is not None
    assert info.alternative_names == ()
