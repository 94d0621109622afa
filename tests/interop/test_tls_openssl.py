"""OpenSSL's own client with a real daemon: what is agreed on, which certificate is shown, and who is refused.

What the client says about the connection, and what our plugin finds in `wsi.tls`, must be the same.  Who is refused
must hear why, by the server's own alert.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import Daemon
from tests.interop.openssl import LEVEL_0, conversation, s_client
from tests.interop.tls import WHO, tls_tables, told
from tests.support.ca import Authority

Serve = Callable[..., Daemon]


@pytest.fixture
def trusting(authority: Authority) -> list[str]:
    """Options with which s_client wants to know whom it speaks to."""
    return ["-CAfile", str(authority.certificate), "-verify_return_error", "-verify_hostname", "localhost"]


# -- what is agreed on ------------------------------------------------------------------------------------------------

CIPHERS = [
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256", ["-tls1_3"], "ec"),
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384", ["-ciphersuites", "TLS_AES_256_GCM_SHA384"], "ec"),
    ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256", ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], "rsa"),
    ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", ["-tls1_2"], "ec"),
    ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "ec"),
    ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", ["-tls1_2", "-cipher", "CHACHA20"], "ec"),
    ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", ["-tls1_2"], "rsa"),
    ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", ["-tls1_2", "-cipher", "AES128:!kRSA"], "rsa"),
    ("TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305", ["-tls1_2", "-cipher", "CHACHA20"], "rsa"),
]


@pytest.mark.parametrize(("version", "cipher", "options", "key"), CIPHERS)
def test_versions_and_ciphers(
    serve_tls: Serve, trusting: list[str], version: str, cipher: str, options: list[str], key: str
) -> None:
    said = s_client(serve_tls(key).port, *trusting, *options, say=conversation("who", "?"))
    assert (said.version, said.cipher, said.is_resumed) == (version, cipher, False)
    assert "Verify return code: 0 (ok)" in said.text
    assert "Compression: NONE" in said.text
    who = told(said)
    assert (who["version"], who["cipher"], who["is_resumed"]) == (version, cipher, False)
    assert said.status == 0, said.text  # it ended with a close_notify


def test_the_server_chooses_among_the_ciphers(serve_tls: Serve, trusting: list[str]) -> None:
    weakest_first = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE+AESGCM:ECDHE-ECDSA-CHACHA20-POLY1305"]
    said = s_client(serve_tls().port, *trusting, *weakest_first, say=conversation("who", "?"))
    assert said.cipher == "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.parametrize("options", [["-tls1_3", "-ciphersuites"], ["-tls1_2", "-cipher"]])
def test_but_who_has_no_aes_gets_chacha20(serve_tls: Serve, trusting: list[str], options: list[str]) -> None:
    suites = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
    ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE+AESGCM"
    order = [*options, suites if "-tls1_3" in options else ciphers]
    said = s_client(serve_tls().port, *trusting, *order, say=conversation("who", "?"))
    assert "CHACHA20" in said.cipher


def test_or_the_client(serve_tls: Serve, trusting: list[str]) -> None:
    order = ["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE+AESGCM"]
    said = s_client(serve_tls(prefer_server_ciphers=False).port, *trusting, *order, say=conversation("who", "?"))
    assert said.cipher == "ECDHE-ECDSA-CHACHA20-POLY1305"


def test_a_cipher_without_forward_secrecy_where_it_is_asked_for(serve_tls: Serve, trusting: list[str]) -> None:
    """What `ciphers` is for."""
    options = ["-tls1_2", "-cipher", "AES128-GCM-SHA256"]
    daemon = serve_tls("rsa", ciphers="AES128-GCM-SHA256")
    assert s_client(daemon.port, *trusting, *options, say=conversation("who", "?")).cipher == "AES128-GCM-SHA256"


@pytest.mark.parametrize("options", [["-tls1_2"], ["-tls1_3"]])
def test_a_session_is_resumed(serve_tls: Serve, trusting: list[str], tmp_path: Path, options: list[str]) -> None:
    port = serve_tls().port
    session = str(tmp_path / "session")
    first = s_client(port, *trusting, *options, "-sess_out", session, say=conversation("who", "?"))
    assert not first.is_resumed
    again = s_client(port, *trusting, *options, "-sess_in", session, say=conversation("who", "?"))
    assert again.is_resumed
    assert told(again)["is_resumed"]


@pytest.mark.parametrize("options", [["-tls1_2"], ["-tls1_3"], ["-tls1_2", "-no_ticket"]])
def test_no_session_is_resumed_without_tickets(
    serve_tls: Serve, trusting: list[str], tmp_path: Path, options: list[str]
) -> None:
    port = serve_tls(session_tickets=False).port
    session = str(tmp_path / "session")
    first = s_client(port, *trusting, *options, "-sess_out", session, say=conversation("who", "?"))
    assert not first.is_resumed
    again = ["-sess_in", session] if Path(session).exists() else []  # in 1.2 there is nothing to keep
    assert not s_client(port, *trusting, *options, *again, say=conversation("who", "?")).is_resumed


@pytest.mark.parametrize("offer", ["http/1.1", "h2,http/1.1", "spdy/3,http/1.1,h2"])
def test_alpn(serve_tls: Serve, trusting: list[str], offer: str) -> None:
    said = s_client(serve_tls().port, *trusting, "-alpn", offer, say=conversation("who", "?"))
    assert said.alpn == told(said)["alpn"] == "http/1.1"


def test_no_alpn(serve_tls: Serve, trusting: list[str]) -> None:
    said = s_client(serve_tls().port, *trusting, say=conversation("who", "?"))
    assert said.alpn == told(said)["alpn"] == ""


@pytest.mark.parametrize(
    ("options", "offered", "agreed"),
    [
        ({}, "P-256", "ECDH, prime256v1"),
        ({}, "P-384", "ECDH, secp384r1"),
        ({}, "X25519", "X25519"),
        ({"curve": "P-384"}, "X25519:P-256:P-384", "ECDH, secp384r1"),
    ],
)
def test_curves(serve_tls: Serve, trusting: list[str], options: dict[str, str], offered: str, agreed: str) -> None:
    said = s_client(serve_tls(**options).port, *trusting, "-groups", offered, say=conversation("who", "?"))
    assert f"Server Temp Key: {agreed}," in said.text


# -- which certificate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("localhost", "localhost"),
        ("other.example", "other.example"),
        ("OTHER.example", "other.example"),
        ("a.wild.example", "*.wild.example"),
        ("a.b.wild.example", "localhost"),
        ("named.example", "unnamed.example"),
        ("unnamed.example", "localhost"),
        ("unknown.example", "localhost"),
        ("", "localhost"),
    ],
)
def test_the_name_chooses_the_certificate(
    serve: Serve, authority: Authority, asked: str, shown: str, by_name: str
) -> None:
    daemon = serve(["who"], by_name, plugins={"who": WHO})
    name = ["-servername", asked] if asked else ["-noservername"]
    said = s_client(daemon.port, "-CAfile", str(authority.certificate), *name, say=conversation("who", "?"))
    assert said.subject == f"CN = {shown}"
    assert told(said)["server_name"] == asked


@pytest.mark.parametrize("options", [["-tls1_2"], ["-tls1_3"]])
def test_a_session_is_resumed_where_the_name_has_chosen(
    serve: Serve, authority: Authority, by_name: str, tmp_path: Path, options: list[str]
) -> None:
    daemon = serve(["who"], by_name, plugins={"who": WHO})
    options = ["-CAfile", str(authority.certificate), *options, "-servername", "other.example"]
    session = str(tmp_path / "session")
    s_client(daemon.port, *options, "-sess_out", session, say=conversation("who", "?"))
    again = s_client(daemon.port, *options, "-sess_in", session, say=conversation("who", "?"))
    assert again.is_resumed
    assert told(again)["server_name"] == "other.example"


@pytest.fixture(scope="module")
def by_name(authority: Authority) -> str:
    """A listener's certificates, localhost's and three more: by its own name, by its own names with a wildcard, by the
    names that the configuration says."""
    text = tls_tables(authority.issue(["localhost"]))
    for names, said in (
        (["other.example"], None),
        (["*.wild.example"], None),
        (["unnamed.example"], ["named.example"]),
    ):
        files = authority.issue(names, key="rsa")
        text += "[[listen.tls.certificates]]\n"
        text += f'certificate = "{files.certificate}"\nprivate_key = "{files.private_key}"\n'
        text += f"names = {json.dumps(said)}\n" if said else ""
    return text


# -- clients' certificates --------------------------------------------------------------------------------------------


class Clients:
    """Certificates that clients show, and options of a listener that asks for one."""

    def __init__(self, authority: Authority, stranger: Authority) -> None:
        self.options = {"client_certificates": "required", "client_ca": str(authority.certificate)}
        self.good = options_of(authority.issue(["alice.example"], client=True))
        self.expired = options_of(authority.issue(["late.example"], client=True, days=-1))
        self.stranger = options_of(stranger.issue(["alice.example"], client=True))
        self.server = options_of(authority.issue(["localhost"], file="server-as-client"))
        self.none: list[str] = []


def options_of(files: Any) -> list[str]:
    """What makes s_client show a certificate."""
    return ["-cert", str(files.certificate), "-key", str(files.private_key)]


@pytest.fixture(scope="module")
def clients(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Clients:
    return Clients(authority, Authority(tmp_path_factory.mktemp("stranger"), "Stranger"))


VERSIONS = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])


@VERSIONS
@pytest.mark.parametrize("policy", ["optional", "required"])
def test_a_client_certificate(
    serve_tls: Serve, trusting: list[str], clients: Clients, version: str, policy: str
) -> None:
    port = serve_tls(**{**clients.options, "client_certificates": policy}).port
    said = s_client(port, *trusting, version, *clients.good, say=conversation("who", "?"))
    who = told(said)
    assert who["subject"] == "CN=alice.example"
    assert who["alternative_names"] == ["alice.example"]
    assert "Acceptable client certificate CA names" in said.text


@VERSIONS
def test_a_resumed_session_keeps_the_client_certificate(
    serve_tls: Serve, trusting: list[str], clients: Clients, version: str, tmp_path: Path
) -> None:
    port = serve_tls(**clients.options).port
    session = str(tmp_path / "session")
    s_client(port, *trusting, version, *clients.good, "-sess_out", session, say=conversation("who", "?"))
    who = told(s_client(port, *trusting, version, "-sess_in", session, say=conversation("who", "?")))
    assert (who["is_resumed"], who["subject"]) == (True, "CN=alice.example")


@VERSIONS
def test_none_where_it_is_optional(serve_tls: Serve, trusting: list[str], clients: Clients, version: str) -> None:
    port = serve_tls(**{**clients.options, "client_certificates": "optional"}).port
    assert told(s_client(port, *trusting, version, say=conversation("who", "?")))["subject"] == ""


@VERSIONS
def test_nobody_is_asked_for_one(serve_tls: Serve, trusting: list[str], clients: Clients, version: str) -> None:
    said = s_client(serve_tls().port, *trusting, version, *clients.good, say=conversation("who", "?"))
    assert told(said)["subject"] == ""
    assert "No client certificate CA names sent" in said.text


# -- who is refused, and by which alert -------------------------------------------------------------------------------

OLD = [
    (["-tls1_1", "-cipher", f"ALL:{LEVEL_0}"], "tlsv1 alert protocol version (70)"),
    (["-tls1", "-cipher", f"ALL:{LEVEL_0}"], "tlsv1 alert protocol version (70)"),
    (["-tls1_2", "-cipher", f"NULL:{LEVEL_0}"], "sslv3 alert handshake failure (40)"),
    (["-tls1_2", "-cipher", f"aNULL:{LEVEL_0}"], "sslv3 alert handshake failure (40)"),
    (["-tls1_2", "-cipher", f"AES128-SHA:{LEVEL_0}"], "sslv3 alert handshake failure (40)"),
    (["-tls1_2", "-cipher", f"AES256-GCM-SHA384:{LEVEL_0}"], "sslv3 alert handshake failure (40)"),
    (["-tls1_2", "-cipher", f"ECDHE-RSA-AES128-SHA:{LEVEL_0}"], "sslv3 alert handshake failure (40)"),
    (["-tls1_2", "-cipher", f"DHE-RSA-AES256-GCM-SHA384:{LEVEL_0}"], "sslv3 alert handshake failure (40)"),
    (["-tls1_2", "-cipher", f"ECDHE-ECDSA-AES128-GCM-SHA256:{LEVEL_0}"], "sslv3 alert handshake failure (40)"),
    (["-alpn", "h2"], "tlsv1 alert no application protocol (120)"),
]


@pytest.mark.parametrize(
    ("options", "alert"), OLD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_is_too_weak_is_refused(serve_tls: Serve, options: list[str], alert: str) -> None:
    """By the server: at level 0 this client would do anything.  The key is RSA's, so that most would be possible."""
    refused(serve_tls("rsa"), s_client_options=options, alert=alert)


def test_tls_1_2_is_refused_where_1_3_is_asked_for(serve_tls: Serve) -> None:
    daemon = serve_tls(min_version="1.3")
    refused(daemon, s_client_options=["-tls1_2"], alert="tlsv1 alert protocol version (70)")


@pytest.mark.parametrize(
    ("version", "shown", "alert"),
    [
        ("-tls1_2", "none", "sslv3 alert handshake failure (40)"),  # RFC 5246 7.4.6
        ("-tls1_3", "none", "tlsv13 alert certificate required (116)"),
        ("-tls1_2", "stranger", "tlsv1 alert unknown ca (48)"),
        ("-tls1_3", "stranger", "tlsv1 alert unknown ca (48)"),
        ("-tls1_2", "expired", "sslv3 alert certificate expired (45)"),
        ("-tls1_3", "expired", "sslv3 alert certificate expired (45)"),
        ("-tls1_2", "server", "sslv3 alert unsupported certificate (43)"),
        ("-tls1_3", "server", "sslv3 alert unsupported certificate (43)"),
    ],
)
def test_clients_that_do_not_prove_who_they_are(
    serve_tls: Serve, clients: Clients, version: str, shown: str, alert: str
) -> None:
    refused(serve_tls(**clients.options), s_client_options=[version, *getattr(clients, shown)], alert=alert)


@pytest.mark.parametrize("shown", ["stranger", "expired"])
def test_a_wrong_certificate_is_worse_than_none(serve_tls: Serve, clients: Clients, shown: str) -> None:
    daemon = serve_tls(**{**clients.options, "client_certificates": "optional"})
    s_client_options = getattr(clients, shown)
    alerts = {"stranger": "tlsv1 alert unknown ca (48)", "expired": "sslv3 alert certificate expired (45)"}
    refused(daemon, s_client_options=s_client_options, alert=alerts[shown])


@VERSIONS
def test_a_revoked_certificate(serve_tls: Serve, authority: Authority, clients: Clients, version: str) -> None:
    revoked = authority.issue(["mallory.example"], client=True)
    daemon = serve_tls(**clients.options, client_crl=str(authority.crl(revoked)), alone=True)
    alert = "sslv3 alert certificate revoked (44)"
    refused(daemon, s_client_options=[version, *options_of(revoked)], alert=alert)
    said = s_client(daemon.port, version, *clients.good, say=conversation("who", "?"))
    assert told(said)["subject"] == "CN=alice.example"


def refused(daemon: Daemon, *, s_client_options: list[str], alert: str) -> None:
    """Nobody gets through to the plugin, the client hears why, and the log says it on one line."""
    said = s_client(daemon.port, *s_client_options, say=conversation("who", "?"))
    assert said.alert == alert, said.text
    assert "HTTP/1.1" not in said.text
    daemon.wait_log(": no TLS: ")
    assert "established" not in daemon.read_log()


def test_nothing_is_negotiated_anew(serve_tls: Serve, trusting: list[str]) -> None:
    """TLS 1.2 had that, at any time and at the client's wish, and dear for the server (CVE-2011-1473)."""
    said = s_client(serve_tls().port, *trusting, "-tls1_2", say=b"R\n", keeps_open=False)
    assert "RENEGOTIATING" in said.text
    assert "no renegotiation" in said.text
