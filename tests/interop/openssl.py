"""OpenSSL's own programs as peers: `s_client` and `s_server`.  Each has a deadline and is ended by the test."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.ca import Issued
from tests.support.client import TEXT, close_frame, frame, upgrade_request
from tests.support.ports import free_port
from tests.support.programs import require_program
from tests.support.server import Connection, Server
from tests.support.timing import PATIENCE, wait_until

LEVEL_0 = "@SECLEVEL=0"
"""With this in its cipher list it offers what it would otherwise keep to itself, and the refusal is the server's."""


class Said(NamedTuple):
    """What `s_client` printed, the bytes of the connection among it."""

    status: int
    output: bytes

    @property
    def text(self) -> str:
        return self.output.decode("latin-1")

    @property
    def version(self) -> str:
        return self._one(r"^(?:New|Reused), \(?([^,)]+)\)?, Cipher is")

    @property
    def cipher(self) -> str:
        return self._one(r"^(?:New|Reused), .*, Cipher is (.*)$")

    @property
    def is_resumed(self) -> bool:
        return self._one(r"^(New|Reused), ") == "Reused"

    @property
    def alpn(self) -> str:
        """The protocol that was agreed on; empty if none."""
        found = re.search(r"^ALPN protocol: (.*)$", self.text, re.MULTILINE)
        return found[1] if found else ""

    @property
    def subject(self) -> str:
        """That of the server's certificate, for example `CN = localhost`."""
        return self._one(r"^subject=(.*)$")

    @property
    def alert(self) -> str:
        """The alert that the server sent, in OpenSSL's words; empty if none."""
        found = re.search(
            r":error:0A[0-9A-F]+:SSL routines:[^:]*:([^:]*alert[^:]*):[^\n]*SSL alert number (\d+)", self.text
        )
        return f"{found[1]} ({found[2]})" if found else ""

    def _one(self, pattern: str) -> str:
        found = re.search(pattern, self.text, re.MULTILINE)
        assert found, self.text
        return found[1]


def s_client(port: int, *options: str, say: bytes = b"", keeps_open: bool = True) -> Said:
    """Connect to 127.0.0.1, say these bytes, and print what comes until the server ends the connection.

    Args:
        keeps_open: The server ends it; otherwise it ends itself as soon as it has said all.
    """
    program = require_program("openssl", package="openssl")
    command = [program, "s_client", "-connect", f"127.0.0.1:{port}", *(["-ign_eof"] if keeps_open else []), *options]
    ended = subprocess.run(command, input=say, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=2 * PATIENCE)
    return Said(ended.returncode, ended.stdout)


def conversation(protocol: str, *messages: str) -> bytes:
    """A whole one, said at once: the upgrade, these messages, and the Close frame."""
    frames = [frame(TEXT, message) for message in messages]
    return b"".join([upgrade_request(protocols=protocol, host="localhost"), *frames, close_frame(1000)])


def text_frame(text: str) -> bytes:
    """A text frame as a server sends it."""
    return frame(TEXT, text, mask=None)


class SServer:
    """`s_server`: TLS at one end, and at the other `connection`, what it deciphers and what it is to encipher.

    Attributes:
        port: Where it speaks TLS.
        connection: The server that the test plays.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, connection: Connection, said: Path) -> None:
        self.process = process
        self.port = port
        self.connection = connection
        self._said = said

    def said(self) -> str:
        """What it has complained of."""
        return self._said.read_text()


@contextmanager
def s_server(folder: Path, issued: Issued, *options: str) -> Iterator[SServer]:
    """Run it with a certificate until the block ends."""
    program = require_program("openssl", package="openssl")
    port = free_port()
    files = ["-cert", str(issued.certificate), "-cert_chain", str(issued.certificate), "-key", str(issued.private_key)]
    command = [program, "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", *files, *options]
    said = folder / "s_server.log"
    with Server() as plain, said.open("wb") as log:
        with socket.create_connection(("127.0.0.1", plain.port), PATIENCE) as end:
            process = subprocess.Popen(command, stdin=end, stdout=end, stderr=log)
        try:
            wait_until(lambda: listens(port), what="s_server listens")
            yield SServer(process, port, plain.accept(), said)
        finally:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    """Reports whether somebody listens on a port of 127.0.0.1, without connecting to it: see /proc/net/tcp, proc(5)."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return wanted in Path("/proc/net/tcp").read_text()
