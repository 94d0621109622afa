"""Foreign clients over TLS with a real daemon: curl, websockets, aiohttp, Node's ws, libwebsockets, Chromium.

Each verifies our certificate with the tests' authority, and is refused by nobody but itself where it cannot.
"""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.interop.conftest import Daemon
from tests.interop.lws_program import run_client
from tests.interop.peer_aiohttp import connect_aiohttp
from tests.interop.peer_curl import connect_curl
from tests.interop.peer_node import connect_node
from tests.interop.peer_websockets import OPTIONS, connect_websockets
from tests.interop.peers import Connect, Deflate, Fragmenting
from tests.interop.samples import FRAGMENTS, MESSAGES, joined
from tests.interop.tls import parse_told, tls_tables, wss
from tests.support.browser import Browser, browser
from tests.support.ca import Authority, self_signed
from tests.support.programs import require_program
from tests.support.timing import PATIENCE, wait_until

Serve = Callable[..., Daemon]
WHO = Subprotocol("who")


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the libraries trust the tests' authority: OpenSSL reads one of these, and Node the other."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(authority.certificate))


# -- libraries --------------------------------------------------------------------------------------------------------

LIBRARIES = [
    (connect_websockets, None),
    (connect_websockets, Deflate(client_max_window_bits=1)),
    (connect_aiohttp, None),
    (connect_aiohttp, Deflate(client_max_window_bits=1)),
    (connect_node, None),
    (connect_node, Deflate(client_max_window_bits=1)),
    (connect_curl, None),
]


@pytest.mark.parametrize(("connect_peer", "deflate"), LIBRARIES)
@pytest.mark.usefixtures("trusted")
def test_a_whole_conversation(serve_tls: Serve, connect_peer: Connect, deflate: Deflate | None) -> None:
    """Every length, fragments, pings and the end, in records that begin and end anywhere."""
    daemon = serve_tls()
    with connect_peer(wss(daemon), "echo", deflate) as peer:
        for name, message in MESSAGES.items():
            peer.send(message)
            assert peer.receive() == message, name
        if isinstance(peer, Fragmenting):
            for fragments in FRAGMENTS:
                peer.send_fragments(fragments)
                assert peer.receive() == joined(fragments)
        peer.ping(b"x" * 125)
        assert peer.close(4001, "done") == 4001
    daemon.wait_closed("echo", 4001)


@pytest.mark.parametrize(
    ("connect_peer", "said"),
    [
        (connect_websockets, "no TLS: TLS: tlsv1 alert unknown ca"),
        (connect_aiohttp, "no TLS: the TLS stream was cut off"),
        (connect_node, "no TLS: the TLS stream was cut off"),
        (connect_curl, ""),  # it verifies after the handshake, and leaves without a word
    ],
)
def test_who_does_not_know_the_authority_does_not_come(serve_tls: Serve, connect_peer: Connect, said: str) -> None:
    daemon = serve_tls()
    with pytest.raises(Exception, match=r"(?i)certificate"), connect_peer(wss(daemon), "echo", None):
        pass
    daemon.wait_log(said)
    assert "established" not in daemon.read_log()


def session_of(daemon: Daemon, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSocket:
    """A connection under TLS, which takes up a session."""
    plain = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE)
    return context.wrap_socket(plain, server_hostname="localhost", session=session)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_by_websockets(serve_tls: Serve, authority: Authority, version: ssl.TLSVersion) -> None:
    """Python's ssl is another TLS than OpenSSL's program, with its own way of keeping sessions."""
    daemon = serve_tls()
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.maximum_version = version
    session = None
    for is_resumed in (False, True, True):
        with session_of(daemon, context, session) as secured:
            with connect("ws://localhost/", sock=secured, subprotocols=[WHO], **OPTIONS) as connection:
                connection.send("?")
                told = parse_told(str(connection.recv(PATIENCE)))
                assert secured.session_reused == told["is_resumed"] == is_resumed
                assert told["version"] == secured.version()
                assert told["server_name"] == "localhost"
                session = secured.session


def test_a_certificate_for_an_address(serve_tls: Serve, authority: Authority) -> None:
    """A client that connects to an IP address names none, and verifies the address."""
    daemon = serve_tls()
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with connect(f"wss://127.0.0.1:{daemon.port}/", ssl=context, subprotocols=[WHO], **OPTIONS) as connection:
        connection.send("?")
        assert parse_told(str(connection.recv(PATIENCE)))["server_name"] == ""


def test_an_intermediate_authority(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    """The file holds the chain, and who knows only its root can follow it."""
    between = Authority(tmp_path / "between", "Between", parent=authority)
    daemon = serve(["echo"], tls_tables(between.issue(["localhost"])))
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with connect(wss(daemon), ssl=context, **OPTIONS) as connection:
        connection.send("hello")
        assert connection.recv(PATIENCE) == "hello"


# -- curl, the program ------------------------------------------------------------------------------------------------


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [require_program("curl", package="curl"), "--silent", "--show-error", "--include", *arguments]
    return subprocess.run(command, capture_output=True, encoding="latin-1", timeout=2 * PATIENCE)


@pytest.mark.parametrize("version", [["--tls-max", "1.2"], ["--tlsv1.3"]])
def test_a_page(serve_tls: Serve, authority: Authority, version: list[str]) -> None:
    """curl offers HTTP/2 as well, by ALPN, and gets HTTP/1.1."""
    daemon = serve_tls(hsts_seconds=300)
    address = f"https://localhost:{daemon.port}/"
    done = curl("--cacert", str(authority.certificate), *version, "--verbose", address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HTTP/1.1 200 OK")
    assert "<title>wsd</title>" in done.stdout
    assert re.search(r"(?im)^strict-transport-security: max-age=300\s*$", done.stdout)
    assert re.search("ALPN.* http/1.1", done.stderr), done.stderr


def test_requests_on_one_connection(serve_tls: Serve, authority: Authority) -> None:
    address = f"https://localhost:{serve_tls().port}"
    done = curl("--cacert", str(authority.certificate), "--verbose", f"{address}/", f"{address}/nothing", f"{address}/")
    assert re.findall(r"(?m)^HTTP/1.1 (\d+)", done.stdout) == ["200", "404", "200"]
    assert done.stderr.count("Re-using existing connection") == 2, done.stderr


def test_an_upgrade(serve_tls: Serve, authority: Authority) -> None:
    """Debian's curl has no wss://, and can ask for it: it gets the 101, and leaves in the middle of what follows."""
    daemon = serve_tls()
    headers = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    headers += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: dumb-increment-protocol"]
    options = [word for header in headers for word in ("--header", header)]
    address = f"https://localhost:{daemon.port}/"
    done = curl(
        "--cacert", str(authority.certificate), "--http1.1", "--max-time", "1", "--output", "-", *options, address
    )
    assert done.stdout.startswith("HTTP/1.1 101 ")
    assert "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in done.stdout
    daemon.wait_closed("dumb-increment-protocol", 1006)


def test_without_the_authority(serve_tls: Serve) -> None:
    done = curl(f"https://localhost:{serve_tls().port}/")
    assert done.returncode == 60, done.stderr  # CURLE_PEER_FAILED_VERIFICATION
    assert done.stdout == ""


@pytest.mark.parametrize(("policy", "status"), [("refuse", "400"), ("redirect", "308")])
def test_plain_http(serve_tls: Serve, policy: str, status: str) -> None:
    address = f"//localhost:{serve_tls(plain_http=policy).port}/a?b"
    done = curl("http:" + address)
    assert done.stdout.startswith(f"HTTP/1.1 {status} ")
    assert ("https:" + address in done.stdout) == (policy == "redirect")


def test_following_the_redirect(serve_tls: Serve, authority: Authority) -> None:
    address = f"http://localhost:{serve_tls(plain_http='redirect').port}/"
    done = curl("--location", "--cacert", str(authority.certificate), address)
    assert re.findall(r"(?m)^HTTP/1.1 (\d+)", done.stdout) == ["308", "200"]


def test_a_client_certificate(serve_tls: Serve, authority: Authority) -> None:
    daemon = serve_tls(client_certificates="required", client_ca=str(authority.certificate))
    address = f"https://localhost:{daemon.port}/"
    shown = authority.issue(["alice.example"], client=True)
    options = ["--cacert", str(authority.certificate)]
    done = curl(*options, "--cert", str(shown.certificate), "--key", str(shown.private_key), address)
    assert done.stdout.startswith("HTTP/1.1 200 ")
    done = curl(*options, address)
    assert done.returncode == 56, done.stderr  # CURLE_RECV_ERROR: TLS 1.3 has it hear so after its own handshake
    assert "certificate required" in done.stderr


# -- libwebsockets ----------------------------------------------------------------------------------------------------


def test_libwebsockets_client(serve_tls: Serve, authority: Authority) -> None:
    daemon = serve_tls()
    log = run_client("-s", "-A", str(authority.certificate), "-n", wss(daemon), "-d", "15")
    assert "dumb: LWS_CALLBACK_CLIENT_ESTABLISHED" in log, log
    assert "mirror: LWS_CALLBACK_CLIENT_ESTABLISHED" in log, log
    assert "CONNECTION_ERROR" not in log, log
    numbers = [int(number) for number in re.findall(r"rx \d+ '(\d+)'", log)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 40, log


def test_libwebsockets_client_draws(serve_tls: Serve, authority: Authority) -> None:
    """-j: as fast as it can, on the mirror, which gives all of it back; it leaves with a close_notify and no Close."""
    daemon = serve_tls(alone=True)  # another test's end would stand in the log as well
    log = run_client("-s", "-j", "-A", str(authority.certificate), wss(daemon), "-d", "15", seconds=2)
    assert "mirror: LWS_CALLBACK_CLIENT_ESTABLISHED" in log, log[:5000]
    assert "CONNECTION_ERROR" not in log, log[:5000]
    daemon.wait_closed("lws-mirror-protocol", 1006)


def test_libwebsockets_client_takes_a_self_signed_certificate(serve: Serve, tmp_path: Path) -> None:
    """-s with an address: it takes what nobody vouches for, as long as it is that alone."""
    daemon = serve(["dumb-increment-protocol"], tls_tables(self_signed(tmp_path)))
    log = run_client("-s", "-n", "localhost", "-p", str(daemon.port), "-d", "15", until="rx 1 '3'", seconds=20)
    assert "rx 1 '3'" in log, log


def test_libwebsockets_client_refuses_a_stranger(serve_tls: Serve) -> None:
    daemon = serve_tls(alone=True)
    log = run_client("-S", "-n", wss(daemon), "-d", "15", until="CONNECTION_ERROR", seconds=20)
    assert "unable to get local issuer certificate" in log, log
    assert "ESTABLISHED" not in log, log
    daemon.wait_log("alert unknown ca")


# -- Chromium ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(serve_tls: Serve, authority: Authority, tmp_path: Path) -> Iterator[tuple[Browser, Daemon]]:
    """A browser that trusts the tests' authority, on the built-in page, whose connections are all open."""
    daemon = serve_tls()
    folder = tmp_path / "browser"
    folder.mkdir()
    with browser(folder, authority.certificate) as session:
        session.open(f"https://localhost:{daemon.port}/")
        session.wait_for("#counter-state", "^open$")
        session.wait_for("#board-state", "^open$")
        yield session, daemon
        assert session.complaints() == []


def test_the_page_in_chromium(page: tuple[Browser, Daemon]) -> None:
    session, _ = page
    assert session.run("return window.isSecureContext && location.protocol === 'https:'")
    first = int(session.wait_for("#counter-value", r"^\d+$"))
    wait_until(lambda: int(session.text("#counter-value")) >= first + 5, what="the counter went on by five")
    session.choose("#console-protocol", "who")
    session.click("#console-connect")
    session.wait_for("#console-state", "^open: who$")
    session.click("#console-send")
    told = parse_told(session.wait_for("#console-log", "={.*}="))
    assert told["version"] == "TLSv1.3"
    assert told["server_name"] == "localhost"
    assert told["alpn"] == "http/1.1"


ECHO = """
    const [url, size, done] = arguments;
    const random = new Uint8Array(size);
    for (let at = 0; at < size; at += 60000) crypto.getRandomValues(random.subarray(at, at + 60000));
    const socket = new WebSocket(url, "echo");
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(random);
    socket.onmessage = ({ data }) => {
        const got = new Uint8Array(data);
        window.equal = got.length === size && got.every((byte, at) => byte === random[at]);
        socket.close(4000);
    };
    socket.onclose = ({ code, wasClean }) => { window.ended = [code, wasClean]; };
"""


def test_a_large_message_in_chromium(page: tuple[Browser, Daemon]) -> None:
    session, daemon = page
    session.run(ECHO, wss(daemon), 900_000)
    wait_until(lambda: session.run("return window.ended"), what="the connection has closed")
    assert session.run("return [window.equal, window.ended]") == [True, [4000, True]]


def test_chromium_refuses_a_stranger(serve_tls: Serve, tmp_path: Path) -> None:
    daemon = serve_tls()
    with browser(tmp_path) as session:
        session.open(f"https://localhost:{daemon.port}/")
        assert "ERR_CERT_AUTHORITY_INVALID" in session.text("body")
