"""What a run needs beside wsd: the load generator, the C peer, a certificate; and what of it is missing.

Everything lands in `bench/build`.  A `Missing` names the package to install, in Debian's words or pip's.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.rows import LWS, Kind

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = HERE / "build"

# Header, package.
_OF_LOAD: dict[Kind, tuple[tuple[str, str], ...]] = {
    "plain": (("stdio.h", "libc6-dev"),),
    "tls": (("openssl/ssl.h", "libssl-dev"),),
    "deflate": (("zlib.h", "zlib1g-dev"),),
}
_OF_LWS = (("openssl/ssl.h", "libssl-dev"), ("libwebsockets.h", "libwebsockets-dev"))
_FLAGS: dict[Kind, tuple[str, ...]] = {
    "plain": (),
    "tls": ("-DTLS", "-lssl", "-lcrypto"),
    "deflate": ("-DDEFLATE", "-lz"),
}


class Missing(Exception):
    """Something has to be installed first; the text says what."""


def _check(*programs: tuple[str, str]) -> None:
    for program, package in programs:
        if shutil.which(program) is None:
            raise Missing(f"{program} is not there: apt-get install {package}")


def _has_header(header: str) -> bool:
    command = ["cc", "-fsyntax-only", "-x", "c", "-include", header, "/dev/null"]
    return subprocess.run(command, capture_output=True).returncode == 0


def _compile(name: str, source: Path, headers: Sequence[tuple[str, str]], flags: Sequence[str]) -> Path:
    """A program, compiled if its source is newer."""
    program = BUILD / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    _check(("cc", "gcc"))
    for header, package in headers:
        if not _has_header(header):
            raise Missing(f"{header} is not there, or misses one that it includes: apt-get install {package}")
    BUILD.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["cc", "-O2", "-o", program, source, *flags], capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"{source.name} does not compile:\n{done.stderr}")
    return program


def load_generator(kind: Kind) -> Path:
    """wsload, with what the kind of row needs.

    Raises:
        Missing: it cannot be built.
    """
    headers = (*_OF_LOAD["plain"], *_OF_LOAD[kind])
    return _compile(f"wsload-{kind}", HERE / "wsload.c", headers, _FLAGS[kind])


def shared_library(name: str, header: tuple[str, str]) -> Path:
    """A library out of one file of C that stands on one header.

    Raises:
        Missing: it cannot be built.
    """
    return _compile(f"{name}.so", HERE / f"{name}.c", (header,), ("-shared", "-fPIC"))


def peer_command(peer: str) -> list[str]:
    """What starts a peer, but for its port and its certificate.

    Raises:
        Missing: it, or what it stands on, is not installed.
    """
    if peer == LWS:
        return [str(_compile("lws_server", HERE / "peers" / "lws_server.c", _OF_LWS, ("-lwebsockets",)))]
    for module in (peer, "uvloop"):
        if importlib.util.find_spec(module) is None:
            raise Missing(f"{module} is not there: pip install {module}, or pip install '.[bench]' for all of them")
    return [sys.executable, str(HERE / "peers" / f"{peer}_server.py")]


def certificate() -> tuple[Path, Path]:
    """A certificate for this machine alone, and its P-256 key.

    Raises:
        Missing: openssl is not there.
    """
    public, private = BUILD / "cert.pem", BUILD / "key.pem"
    _check(("openssl", "openssl"))
    BUILD.mkdir(parents=True, exist_ok=True)
    still_good = ["openssl", "x509", "-checkend", "86400", "-noout", "-in", str(public)]
    if private.exists() and subprocess.run(still_good, capture_output=True).returncode == 0:
        return public, private
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=localhost"
    subprocess.run([*command.split(), "-keyout", private, "-out", public], check=True, capture_output=True)
    private.chmod(0o600)
    return public, private
