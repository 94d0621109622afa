"""What a run was made on: the machine, and the versions of everything that was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.rows import PICOWS, WEBSOCKETS, WSD
from bench.servers import environment


def describe(command: str) -> dict[str, str]:
    """The rows of the description, in their order."""
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": command,
        "processor": f"{_processor()}, {os.cpu_count()} cores; the server on one, its load on another",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "wsd": _output([sys.executable, "-m", "wsd", "--version"]),
        "lws": f"libwebsockets {_output(['pkg-config', '--modversion', 'libwebsockets']) or 'not there'}, in C",
        "picows": f"{_version(PICOWS)}, on uvloop {_version('uvloop')}",
        "websockets": f"{_version(WEBSOCKETS)}, on uvloop {_version('uvloop')}",
    }


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not there"


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment(WSD, "plain"))
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
