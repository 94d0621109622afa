"""PROXY headers as a proxy writes them; shares no code with wsd."""

from __future__ import annotations

import socket

START_2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY, LOCAL = 0x21, 0x20
TCP4, UDP4, TCP6, UDP6, UNIX, UNSPEC = 0x11, 0x12, 0x21, 0x22, 0x31, 0x00


def line(source: str = "192.0.2.7", port: int = 4711) -> bytes:
    """A header of version 1 that says who the client is."""
    family, own = (6, "2001:db8::1") if ":" in source else (4, "192.0.2.1")
    return f"PROXY TCP{family} {source} {own} {port} 443\r\n".encode()


def block(source: str = "192.0.2.7", port: int = 4711, more: bytes = b"", kind: int | None = None) -> bytes:
    """A header of version 2 that says who the client is; `more` stands behind the addresses."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    own = "2001:db8::1" if ":" in source else "192.0.2.1"
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, own)
    ports = port.to_bytes(2, "big") + (443).to_bytes(2, "big")
    if kind is None:
        kind = TCP6 if ":" in source else TCP4
    return raw_block(PROXY, kind, ends + ports + more)


def raw_block(command: int, kind: int, rest: bytes = b"", size: int | None = None) -> bytes:
    """Anything of version 2; `size` is what it announces."""
    return START_2 + bytes([command, kind]) + (len(rest) if size is None else size).to_bytes(2, "big") + rest
