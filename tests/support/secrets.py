"""Passwords and tokens for tests: their files, cheap to verify, and the headers that show them."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

SALT = b"salt of a test.."


def scrypt_line(name: str, password: str, log2_n: int = 4, blocks: int = 8, lanes: int = 1) -> str:
    """A line of a password file, made without the code under test; at these costs it takes no time."""
    digest = hashlib.scrypt(password.encode(), salt=SALT, n=1 << log2_n, r=blocks, p=lanes, maxmem=1 << 28, dklen=32)
    salt, text = (b64encode(part).decode().rstrip("=") for part in (SALT, digest))
    return f"{name}:$scrypt$ln={log2_n},r={blocks},p={lanes}${salt}${text}"


def token_line(name: str, token: str) -> str:
    """A line of a token file."""
    return f"{name}:{hashlib.sha256(token.encode()).hexdigest()}"


def write(path: Path, *lines: str, mode: int = 0o600) -> Path:
    """A file that nobody else can read."""
    path.touch(mode=0o600)
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(mode)
    return path


def password_file(path: Path, passwords: Mapping[str, str], **costs: int) -> Path:
    """A password file with these names."""
    return write(path, *(scrypt_line(name, password, **costs) for name, password in passwords.items()))


def token_file(path: Path, tokens: Mapping[str, str]) -> Path:
    """A token file: names by their tokens."""
    return write(path, *(token_line(name, token) for token, name in tokens.items()))


def basic(name: str, password: str) -> tuple[str, str]:
    """The header with a name and a password."""
    return "Authorization", "Basic " + b64encode(f"{name}:{password}".encode()).decode()


def bearer(token: str) -> tuple[str, str]:
    """The header with a token."""
    return "Authorization", f"Bearer {token}"
