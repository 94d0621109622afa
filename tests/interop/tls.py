"""What the tests with foreign TLS peers share: a plugin that tells what it knows of its connection, and a table."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.interop.conftest import Daemon
    from tests.interop.openssl import Said

WHO = """
import json
from wsd import Protocol


class Who(Protocol):
    name = "who"

    def on_message(self, wsi, message):
        tls = wsi.tls
        facts = ("version", "cipher", "server_name", "alpn", "is_resumed", "subject", "alternative_names")
        wsi.send("=" + json.dumps({name: getattr(tls, name) for name in facts} if tls else None) + "=")


protocols = [Who]
"""
"""It answers every message with what is in `wsi.tls`, between signs that are found in what a program prints."""


def tls_tables(files: Any, **options: Any) -> str:
    """The table [listen.tls] for a certificate and its key, with these options."""
    lines = {"certificate": str(files.certificate), "private_key": str(files.private_key), **options}
    return "\n[listen.tls]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())


def wss(daemon: Daemon) -> str:
    """Where a daemon with TLS is found, by the name in its certificate."""
    return f"wss://localhost:{daemon.port}/"


def parse_told(answer: str) -> dict[str, Any]:
    """What WHO said in one of its messages."""
    found = re.search("={(.*?)}=", answer)
    assert found, answer
    told: dict[str, Any] = json.loads("{" + found[1] + "}")
    return told


def told(said: Said) -> dict[str, Any]:
    """What WHO said, out of what `s_client` printed."""
    return parse_told(said.text)
