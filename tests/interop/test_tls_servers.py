"""Our client with foreign TLS servers: libwebsockets' own, OpenSSL's s_server, and the websockets library.

What it believes is as important as whom: each certificate that is not the server's is refused with a sentence that says
so, before a byte of the request has left.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.openssl import SServer, s_server
from tests.interop.our_client import connect_wsd
from tests.interop.peer_websockets import serve_websockets
from tests.interop.samples import FRAGMENTS, MESSAGES, joined
from tests.interop.test_libwebsockets_server import COMPRESSION, DUMB, MIRROR, PROGRAMS, serving
from tests.support.ca import Authority, Issued, self_signed
from tests.support.outgoing import Dialing, dialing
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.timing import wait_until
from wsd import ClientTls, log
from wsd.config import Compression

LOCALHOST = ["localhost", "127.0.0.1"]


@pytest.fixture
def believing(authority: Authority) -> ClientTls:
    return ClientTls(ca=str(authority.certificate))


@pytest.fixture
def localhost(authority: Authority) -> Issued:
    return authority.issue(LOCALHOST)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What is logged at WARN or ERR."""
    before, emitter = log.level(), log.emitter()
    found: list[str] = []
    log.set_level(log.WARN | log.ERR, lambda level, line: found.append(line))
    yield found
    log.set_level(before, emitter)


# -- libwebsockets' test servers --------------------------------------------------------------------------------------


@pytest.fixture(params=PROGRAMS)
def url(request: pytest.FixtureRequest, localhost: Issued) -> Iterator[str]:
    """Where one of its programs is found, with a certificate of the tests' authority."""
    port = free_port()
    with serving(request.param, port, "-s", "-C", str(localhost.certificate), "-K", str(localhost.private_key)):
        yield f"wss://localhost:{port}/"


@pytest.mark.parametrize("compression", COMPRESSION)
def test_the_counter(url: str, believing: ClientTls, compression: Compression) -> None:
    with connect_wsd(url, DUMB, compression, tls=believing) as ours:
        assert [ours.receive() for _ in range(5)] == ["0", "1", "2", "3", "4"]
        ours.send("closeme\n")
        assert ours.closed() == (1001, "seeya")


def test_the_mirror(url: str, believing: ClientTls) -> None:
    with connect_wsd(url, MIRROR, None, tls=believing) as ours:
        assert ours.wsi.tls.version == "TLSv1.3"
        assert ours.wsi.tls.subject == "CN=localhost"
        assert ours.wsi.tls.alternative_names == tuple(LOCALHOST)
        ours.send("Grüße, 世界 🌍")
        assert ours.receive() == "Grüße, 世界 🌍"
        ours.send("x" * 100_000)
        pieces = ""
        while len(pieces) < 100_000:
            pieces += str(ours.receive())
        assert pieces == "x" * 100_000
        ours.ping(b"there?")
        assert ours.pong() == b"there?"
        ours.close(4001, "bye")
        assert ours.closed() == (4001, "bye")


# -- the websockets library -------------------------------------------------------------------------------------------


def server_context(issued: Issued, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.private_key)
    context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("compression", [None, Compression()], ids=["uncompressed", "compressed"])
def test_a_whole_conversation(
    localhost: Issued, believing: ClientTls, version: ssl.TLSVersion, compression: Compression | None
) -> None:
    with serve_websockets("echo", None, tls=server_context(localhost, version)) as server:
        with connect_wsd(f"wss://localhost:{server.port}/", "echo", compression, tls=believing) as ours:
            theirs = server.accept()
            for name, message in MESSAGES.items():
                ours.send(message)
                assert theirs.receive() == message, name
                theirs.send(message)
                assert ours.receive() == message, name
            for fragments in FRAGMENTS:
                ours.send_fragments(fragments)
                assert theirs.receive() == joined(fragments)
            theirs.ping(b"there?")
            ours.close(4001, "bye")
            assert theirs.end() == (4001, "bye")
            assert ours.closed() == (4001, "bye")


# -- OpenSSL's s_server -----------------------------------------------------------------------------------------------

CIPHERS = [
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256", ["-tls1_3"]),
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384", ["-ciphersuites", "TLS_AES_256_GCM_SHA384"]),
    ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256", ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"]),
    ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", ["-tls1_2"]),
    ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", ["-tls1_2", "-cipher", "ECDHE+CHACHA20"]),
]


def dial_tls(dial: Dialing, server: SServer, tls: ClientTls | None, host: str = "localhost", **options: Any) -> Any:
    return dial.connect(f"wss://{host}:{server.port}/", tls=tls, subprotocols=["chat"], **options)


@pytest.mark.parametrize(("version", "cipher", "options"), CIPHERS)
def test_versions_and_ciphers(
    tmp_path: Path, localhost: Issued, believing: ClientTls, version: str, cipher: str, options: list[str]
) -> None:
    with dialing() as dial, s_server(tmp_path, localhost, *options, "-alpn", "http/1.1") as server:
        wsi = dial_tls(dial, server, believing)
        asked = server.connection.switch("Sec-WebSocket-Protocol: chat")
        assert asked.header("Host") == f"localhost:{server.port}"
        assert dial.established() is wsi
        assert (wsi.tls.version, wsi.tls.cipher, wsi.tls.alpn) == (version, cipher, "http/1.1")
        server.connection.send_text("hello")
        assert dial.message() == "hello"
        server.connection.send_close(4000, "that was all")
        assert server.connection.receive_close().close_code == 4000
        server.process.kill()  # it would keep the connection, and our client waits for it to end
        assert dial.closed() == (4000, "that was all")


def test_a_server_that_is_gone_without_a_close_notify(tmp_path: Path, localhost: Issued, believing: ClientTls) -> None:
    """What TLS knows, and TCP does not: somebody on the way may have cut it off."""
    with dialing() as dial, s_server(tmp_path, localhost) as server:
        wsi = dial_tls(dial, server, believing)
        server.connection.switch("Sec-WebSocket-Protocol: chat")
        dial.established()
        server.process.kill()
        assert dial.closed() == (1006, "")
        assert "no close_notify" in wsi.why


def test_the_name_is_asked_for(tmp_path: Path, authority: Authority, believing: ClientTls) -> None:
    """By SNI: without it this server would show the other certificate."""
    one, other = authority.issue(["other.example"]), authority.issue(["localhost"])
    named = ["-servername", "localhost", "-cert2", str(other.certificate), "-key2", str(other.private_key)]
    with dialing() as dial, s_server(tmp_path, one, *named) as server:
        wsi = dial_tls(dial, server, believing)
        server.connection.switch("Sec-WebSocket-Protocol: chat")
        dial.established()
        assert wsi.tls.subject == "CN=localhost"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_our_certificate(tmp_path: Path, authority: Authority, localhost: Issued, version: str) -> None:
    mine = authority.issue(["alice.example"], client=True)
    tls = ClientTls(ca=str(authority.certificate), certificate=str(mine.certificate), private_key=str(mine.private_key))
    asks = [version, "-Verify", "1", "-CAfile", str(authority.certificate), "-verify_return_error"]
    with dialing() as dial, s_server(tmp_path, localhost, *asks) as server:
        dial_tls(dial, server, tls)
        server.connection.switch("Sec-WebSocket-Protocol: chat")
        dial.established()
    assert "CN = alice.example" in server.said()


@pytest.mark.parametrize(("version", "alert"), [("-tls1_2", "handshake failure"), ("-tls1_3", "certificate required")])
def test_no_certificate_of_ours_where_one_is_required(
    tmp_path: Path, authority: Authority, localhost: Issued, believing: ClientTls, version: str, alert: str
) -> None:
    asks = [version, "-Verify", "1", "-CAfile", str(authority.certificate), "-verify_return_error"]
    with dialing() as dial, s_server(tmp_path, localhost, *asks) as server:
        dial_tls(dial, server, believing)
        assert alert in dial.error().text


@pytest.mark.parametrize("host", LOCALHOST)
def test_an_address_is_verified_as_a_name_is(
    tmp_path: Path, authority: Authority, believing: ClientTls, host: str
) -> None:
    with dialing() as dial, s_server(tmp_path, authority.issue([host])) as server:
        dial_tls(dial, server, believing, host)
        server.connection.switch("Sec-WebSocket-Protocol: chat")
        dial.established()


def test_the_authorities_of_the_system(
    tmp_path: Path, authority: Authority, localhost: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which this variable names, openssl-env(7)."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with dialing() as dial, s_server(tmp_path, localhost) as server:
        dial_tls(dial, server, None)
        server.connection.switch("Sec-WebSocket-Protocol: chat")
        dial.established()


# -- who is not believed ----------------------------------------------------------------------------------------------


class Case:
    """A certificate, the host that is asked for, what our error says, and the alert that the server is told.

    For a name that is another's the alert is "internal error": pyOpenSSL lets us say yes or no of a certificate.
    """

    def __init__(self, issued: Issued, host: str, text: str, alert: str) -> None:
        self.issued = issued
        self.host = host
        self.text = text
        self.alert = alert


@pytest.fixture
def cases(authority: Authority, tmp_path: Path) -> dict[str, Case]:
    stranger = Authority(tmp_path / "stranger", "Stranger")
    prefix = "the server's certificate is "
    return {
        "another host": Case(
            authority.issue(["other.example"]),
            "localhost",
            prefix + "for other.example, and not for localhost",
            "internal error",
        ),
        "another address": Case(
            authority.issue(["localhost", "127.0.0.2"], file="two"),
            "127.0.0.1",
            prefix + "for localhost, 127.0.0.2, and not for 127.0.0.1",
            "internal error",
        ),
        "a common name": Case(
            authority.issue([], subject="localhost", file="common-name"),
            "localhost",
            "the server's certificate has localhost, but not as an alternative name of that kind",
            "internal error",
        ),
        "expired": Case(
            authority.issue(LOCALHOST, days=-1, file="expired"),
            "localhost",
            prefix + "not to be trusted: certificate has expired",
            "certificate expired",
        ),
        "not yet": Case(
            authority.issue(LOCALHOST, since_days=1, file="early"),
            "localhost",
            prefix + "not to be trusted: certificate is not yet valid",
            "bad certificate",
        ),
        "self-signed": Case(
            self_signed(tmp_path, LOCALHOST),
            "localhost",
            prefix + "not to be trusted: self-signed certificate",
            "unknown ca",
        ),
        "a stranger's": Case(
            stranger.issue(LOCALHOST),
            "localhost",
            prefix + "not to be trusted: unable to get local issuer certificate",
            "unknown ca",
        ),
        "a client's": Case(
            authority.issue(LOCALHOST, client=True, file="client"),
            "localhost",
            prefix + "not to be trusted: unsuitable certificate purpose",
            "unsupported certificate",
        ),
    }


CASES = [
    "another host",
    "another address",
    "a common name",
    "expired",
    "not yet",
    "self-signed",
    "a stranger's",
    "a client's",
]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(tmp_path: Path, cases: dict[str, Case], believing: ClientTls, name: str, version: str) -> None:
    case = cases[name]
    with dialing() as dial, s_server(tmp_path, case.issued, version) as server:
        dial_tls(dial, server, believing, case.host)
        error = dial.error()
        assert error.cause == "tls"
        assert case.text in error.text
        wait_until(lambda: "alert" in server.said(), what="it hears why")
        assert f"alert {case.alert}" in server.said()
    assert server.connection.buffer == b"", "something was sent to it"


@pytest.mark.parametrize("name", CASES)
def test_it_is_taken_where_that_is_asked_for(
    tmp_path: Path, cases: dict[str, Case], warnings: list[str], name: str
) -> None:
    case = cases[name]
    with dialing() as dial, s_server(tmp_path, case.issued) as server:
        dial_tls(dial, server, ClientTls(insecure=True), case.host)
        server.connection.switch("Sec-WebSocket-Protocol: chat")
        dial.established()
    (line,) = [line for line in warnings if "not verified" in line]
    assert case.host in line


def test_a_self_signed_certificate_that_is_known(tmp_path: Path, warnings: list[str]) -> None:
    """The better way: it is its own authority."""
    issued = self_signed(tmp_path, LOCALHOST)
    with dialing() as dial, s_server(tmp_path, issued) as server:
        dial_tls(dial, server, ClientTls(ca=str(issued.certificate)))
        server.connection.switch("Sec-WebSocket-Protocol: chat")
        dial.established()
    assert warnings == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "alert protocol version"),
        (["-tls1_2", "-cipher", "NULL:@SECLEVEL=0"], "alert handshake failure"),
    ],
)
def test_a_server_that_knows_nothing_good(
    tmp_path: Path, authority: Authority, believing: ClientTls, options: list[str], text: str
) -> None:
    issued = authority.issue(LOCALHOST, key="rsa", file="rsa")
    with dialing() as dial, s_server(tmp_path, issued, *options) as server:
        dial_tls(dial, server, believing)
        error = dial.error()
        assert error.cause == "tls"
        assert text in error.text


def test_a_server_that_speaks_no_tls(believing: ClientTls) -> None:
    with Server() as server, dialing() as dial:
        dial.connect(f"wss://127.0.0.1:{server.port}/", tls=believing)
        connection = server.accept()
        connection.receive_exactly(5)
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        error = dial.error()
        assert error.cause == "tls"
        assert "wrong version number" in error.text
