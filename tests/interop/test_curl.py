"""The `curl` command: the opening handshake written by hand, over curl's own HTTP; Debian's build knows no ws://.

libcurl's WebSocket client is among the peers of test_foreign_clients.py.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.interop.conftest import Daemon
from tests.interop.peers import parameters
from tests.support.programs import require_program
from tests.support.timing import PATIENCE

Serve = Callable[..., Daemon]
HEADERS = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3 gives both


def upgrade(url: str, until: bytes, **headers: str) -> bytes:
    """Head and what follows it, up to `until`; curl would go on reading for ever."""
    fields = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    arguments = [argument for name, value in fields.items() for argument in ("-H", f"{name}: {value}")]
    command = [require_program("curl", package="curl"), "-sS", "-i", "-N", "--http1.1", *arguments, url]
    output = b""
    deadline = time.monotonic() + PATIENCE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            while until not in output:
                ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
                assert ready, output
                data = os.read(process.stdout.fileno(), 65536)
                assert data, output
                output += data
        finally:
            process.terminate()
    return output


def url(daemon: Daemon) -> str:
    return f"http://127.0.0.1:{daemon.port}/"


def test_an_upgrade_and_the_frames_behind_it(serve: Serve) -> None:
    daemon = serve(["dumb-increment-protocol"])
    output = upgrade(url(daemon), until=b"\x81\x0210", Sec_WebSocket_Protocol="dumb-increment-protocol")
    head, _, frames = output.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert f"Sec-WebSocket-Accept: {ACCEPT}".encode() in head
    assert b"Sec-WebSocket-Protocol: dumb-increment-protocol" in head
    assert b"Sec-WebSocket-Extensions" not in head
    # Unmasked text frames of one byte: 0, 1, 2 and so on.
    assert frames.startswith(b"".join(b"\x81\x01%d" % number for number in range(10)) + b"\x81\x0210")


def test_an_offer_of_compression(serve: Serve) -> None:
    """The third offer is the first that can be accepted: one has an unknown parameter, one a window that is none."""
    offers = "permessage-deflate; level=9, permessage-deflate; server_max_window_bits=16, permessage-deflate"
    daemon = serve(["chat"])
    output = upgrade(url(daemon), until=b"1 here", Sec_WebSocket_Extensions=offers)  # too short to compress
    found = re.search(rb"^Sec-WebSocket-Extensions: (.*)\r$", output, re.MULTILINE)
    assert found, output
    assert parameters(found[1].decode()) == {"server_max_window_bits": "12"}


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Sec_WebSocket_Version": "8"}, b"426", b"Sec-WebSocket-Version: 13\r\n"),
        ({"Sec_WebSocket_Protocol": "nonsense"}, b"400", b"\r\n\r\n"),
        ({"Sec_WebSocket_Key": "short"}, b"400", b"\r\n\r\n"),
        ({"Origin": "https://elsewhere.example"}, b"403", b"\r\n\r\n"),
        ({"Sec_WebSocket_Extensions": "permessage-deflate; ="}, b"400", b"\r\n\r\n"),
    ],
)
def test_a_refusal(serve: Serve, headers: dict[str, str], status: bytes, said: bytes) -> None:
    output = upgrade(url(serve(["echo"])), until=said, **headers)
    assert output.startswith(b"HTTP/1.1 " + status), output
