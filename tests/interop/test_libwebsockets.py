"""libwebsockets' own test client.  Its exit status is 0 whatever happens, so its log is read.

It offers `permessage-deflate; client_no_context_takeover`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from tests.interop.conftest import Daemon
from tests.interop.lws_program import run_client
from tests.support.context import running
from tests.support.programs import require_program
from wsd import Protocol, Wsi

PROTOCOLS = ["dumb-increment-protocol", "lws-mirror-protocol"]
Serve = Callable[..., Daemon]

FORM = """
from urllib.parse import parse_qs
from wsd import Protocol, Response


class Form(Protocol):
    name = "form"

    def on_http(self, wsi, request):
        if (request.method, request.path) != ("POST", "/formtest"):
            return Response(404)
        wsi.session = bytearray()

    def on_http_body(self, wsi, data):
        wsi.session += data

    def on_http_body_completion(self, wsi):
        form = parse_qs(wsi.session.decode())
        return Response(200 if form == {"text": ["hello"], "send": ["Send the form"]} else 422)


protocols = [Form]
"""

# The client prints what comes up to the first NUL.
RAW = """
from wsd import Protocol


class Greeting(Protocol):
    name = "greeting"

    def on_raw_adopt(self, wsi):
        wsi.send(b"good day\\0")
        wsi.set_timer(0.05)

    def on_timer(self, wsi):
        wsi.send(b"and good bye\\0")
        wsi.close()

    def on_raw_receive(self, wsi, data):
        raise AssertionError(data)


protocols = [Greeting]
"""

EXTENSIONS = "143"
"""The log level at which it tells what an extension does with each frame, beside errors, warnings, notices and info;
15 is all but that.
"""


class Mirror(Protocol):
    """What is drawn goes to all; not the shipped one, whose matter it is whether it compresses."""

    name = "lws-mirror-protocol"

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        self.broadcast(message)


@pytest.fixture
def client() -> Callable[..., str]:
    return run_client


def test_both_protocols_establish_and_the_numbers_come(serve: Serve, client: Callable[..., str]) -> None:
    daemon = serve(PROTOCOLS)
    log = client("-n", daemon.url, "-d", "15")
    assert "dumb: LWS_CALLBACK_CLIENT_ESTABLISHED" in log, log
    assert "mirror: LWS_CALLBACK_CLIENT_ESTABLISHED" in log, log
    assert "CONNECTION_ERROR" not in log, log
    numbers = [int(number) for number in re.findall(r"rx \d+ '(\d+)'", log)]
    # 20 a second for 3 s, less what a busy machine loses; in order, from 0, none left out.
    assert numbers == list(range(len(numbers)))
    assert 40 <= len(numbers) <= 62, len(numbers)


@pytest.mark.parametrize("option", ["-u", "-l"])
def test_other_ways_to_connect_to_both(serve: Serve, client: Callable[..., str], option: str) -> None:
    """-u: without "deflate-stream", an extension of its past; what it offers is the same.  -l: for longer."""
    log = client(option, "-n", serve(PROTOCOLS).url, "-d", "15", seconds=20, until="rx 2 '19'")
    assert "mirror: LWS_CALLBACK_CLIENT_ESTABLISHED" in log, log
    numbers = [int(number) for number in re.findall(r"rx \d+ '(\d+)'", log)]
    assert numbers[:20] == list(range(20)), log


def test_once(serve: Serve, client: Callable[..., str]) -> None:
    """-O: it draws 16384 to 81919 times, some 7000 a second, and leaves without a Close frame."""
    daemon = serve(PROTOCOLS, alone=True)  # another test's end would stand in the log as well
    log = client("-O", daemon.url, "-d", "7", seconds=100)
    assert "closing mirror session" in log, log
    assert "mirror: LWS_CALLBACK_CLOSED mirror_lifetime=0," in log, log
    assert "Exiting" in log, log
    assert "CONNECTION_ERROR" not in log, log
    daemon.wait_closed("lws-mirror-protocol", 1006)


def test_random_bytes_as_text_are_refused(serve: Serve, client: Callable[..., str]) -> None:
    """-e: it sends what is no UTF-8 as text.  Its own server refuses that as well; it prints no close codes."""
    daemon = serve(PROTOCOLS)
    log = client("-e", daemon.url, "-d", "15", seconds=20)
    assert "scheduling return close as ack" in log, log  # our Close frame came
    assert "Everything received" not in log, log
    refused = r"lws-mirror-protocol#\d+ \S+: protocol violation, closing with 1007: text is not UTF-8\n"
    assert len(re.findall(refused, daemon.read_log())) == 1, daemon.read_log()


def test_the_mirror_gives_back_what_was_drawn(serve: Serve, client: Callable[..., str]) -> None:
    log = client("-j", serve(PROTOCOLS).url, "-d", "15")
    check_mirror(log)


def check_mirror(log: str) -> None:
    """It drew as fast as it could, until it was interrupted."""
    assert "mirror: LWS_CALLBACK_CLIENT_ESTABLISHED" in log, log[:5000]
    assert "CONNECTION_ERROR" not in log, log[:5000]
    assert log.index("LWS_CALLBACK_CLOSED") > log.index("ctx destroy"), log[-5000:]


def test_a_compressed_mirror(client: Callable[..., str]) -> None:
    """All that it drew came back, broadcast, and it could inflate it.  Every message is compressed: see min_bytes."""
    with running([Mirror()], listen={"compression": {"min_bytes": 0}}) as served:
        log = client("-j", f"ws://127.0.0.1:{served.port}/", "-d", EXTENSIONS, seconds=1)
    assert "client ext permessage-deflate" in log, log[:5000]
    assert log.count("inflate ret 0") > 50, log[:5000]
    assert "zlib error" not in log
    check_mirror(log)


def test_the_shipped_mirror_refuses_compression(serve: Serve, client: Callable[..., str]) -> None:
    """This client needs that: it has no end with a short message that was left uncompressed on a connection that is
    compressed, and takes the same bytes in again and again (warmcat/libwebsockets#2794)."""
    log = client("-j", serve(PROTOCOLS).url, "-d", EXTENSIONS, seconds=1)
    assert "no client extensions allowed by server" in log, log[:5000]


def test_it_hears_when_the_daemon_stops(serve: Serve, client: Callable[..., str]) -> None:
    daemon = serve(PROTOCOLS)
    program = require_program("libwebsockets-test-client", package="libwebsockets-test-server")
    with subprocess.Popen(
        ["timeout", "-s", "INT", "10", program, "-n", daemon.url, "-d", "15"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"rx 1 '3'" in line:
                break
        assert daemon.stop() == 0
        process.terminate()
        rest = process.stdout.read().decode(errors="replace")
    assert "mirror: LWS_CALLBACK_CLOSED" in rest or "LWS_CALLBACK_CLIENT_CLOSED" in rest, rest


def test_many_connections(serve: Serve, client: Callable[..., str]) -> None:
    """-m: three further connections to the counter."""
    log = client("-m", "-n", serve(PROTOCOLS).url, "-d", "15")
    assert log.count("dumb: LWS_CALLBACK_CLIENT_ESTABLISHED") >= 3, log
    assert "CONNECTION_ERROR" not in log, log
    assert len(re.findall(r"rx \d+ '\d+'", log)) >= 120, log


def test_http(serve: Serve, client: Callable[..., str]) -> None:
    log = client(f"http://127.0.0.1:{serve(PROTOCOLS).port}/", "-d", "15")
    assert "lws_http_client_http_response 200" in log, log
    assert "CONNECTION_ERROR" not in log, log


def test_a_form_is_posted(serve: Serve, client: Callable[..., str]) -> None:
    """-o: 29 bytes, which a plugin checks and answers."""
    daemon = serve(PROTOCOLS, 'http_protocol = "form"\n', plugins={"form": FORM})
    log = client("-o", f"http://127.0.0.1:{daemon.port}/formtest", "-d", "15", seconds=20)
    assert "lws_http_client_http_response 200" in log, log
    assert "CONNECTION_ERROR" not in log, log


def test_a_raw_connection(serve: Serve, client: Callable[..., str]) -> None:
    """It prints what comes until we end it, and says nothing itself."""
    daemon = serve(["greeting"], 'accept = "raw"\n', plugins={"greeting": RAW})
    log = client(f"raw://127.0.0.1:{daemon.port}/", "-d", "15", seconds=20, until="LWS_CALLBACK_RAW_CLOSE")
    assert "LWS_CALLBACK_RAW_RX 9" in log, log
    assert "LWS_CALLBACK_RAW_RX 13" in log, log
    assert log.index("good day") < log.index("and good bye"), log


def test_an_old_version_is_refused(serve: Serve, client: Callable[..., str]) -> None:
    daemon = serve(PROTOCOLS)
    log = client("-v", "8", "-n", daemon.url, "-d", "15")
    assert "CONNECTION_ERROR" in log, log
    assert "ESTABLISHED" not in log, log
    assert "426" in daemon.read_log()
