"""The PROXY protocol, versions 1 and 2: what a proxy says of the client before it passes on the client's own bytes.

Pure: no socket, no log.  How the bytes are read, and who is believed, is for others to say.  Section numbers are those
of the specification, `doc/proxy-protocol.txt` of haproxy.
"""

from __future__ import annotations

import re
from typing import Final

from wsd.errors import ProxyError
from wsd.wire.ip import canonical

__all__ = ["MAX_BLOCK_BYTES", "MAX_LINE_BYTES", "ProxyReader"]

MAX_LINE_BYTES: Final = 107
"""The longest header of version 1, with its CRLF: "If the CRLF sequence is not found in the first 107 characters, the
receiver should declare the line invalid" (2.1)."""

MAX_BLOCK_BYTES: Final = 4096
"""The longest header of version 2 that is taken.  "Both formats are designed to fit in the smallest TCP segment that
any TCP/IP host is required to support" (2), which is 536 bytes, but what clouds and certificates append outgrows that;
nginx draws its line here.  The format itself would let a peer announce 64 KiB."""

_LINE_START: Final = b"PROXY "
_BLOCK_START: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED_BYTES: Final = 16  # the start, version and command, family and transport, two of the length
_LOCAL: Final = 0x20  # version 2 in the upper four bits, the command in the lower
_PROXY: Final = 0x21

# Family in the upper four bits, transport in the lower: how long the source's address is, and how long both ends are
# with their ports.  0 for the address: it does not say who the peer is.
_KINDS: Final = {
    0x00: (0, 0),  # "the receiver should ignore address information"
    0x11: (4, 12),  # TCP over IPv4
    0x12: (4, 12),  # UDP: a proxy that speaks QUIC to its clients
    0x21: (16, 36),
    0x22: (16, 36),
    0x31: (0, 216),  # a Unix socket of the proxy's machine: its path says nothing here
    0x32: (0, 216),
}

_PORT: Final = rb"(0|[1-9][0-9]{0,4})"
_ADDRESS: Final = rb"([0-9A-Fa-f.:]+)"
_LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP([46]) " + b" ".join([_ADDRESS, _ADDRESS, _PORT, _PORT]) + rb")\r\n"
)


class ProxyReader:
    """Reads the header at the beginning of one connection, in pieces of any size, and not a byte more than that.

    What it finds does not depend on how the bytes were cut.
    """

    __slots__ = ("_head", "is_done", "peer")

    def __init__(self) -> None:
        self._head = bytearray()
        self.is_done = False
        """Whether the header is complete; the next byte is the client's."""
        self.peer: tuple[str, int] | None = None
        """The client's address and port; None: the connection is the proxy's own (a health check), or the header does
        not say whose it is, and the address that the kernel knows is to be used."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come yet."""
        return not self._head and not self.is_done

    def feed(self, peeked: bytes) -> int:
        """Look at what comes next; answers how many of these bytes belong to the header: all, until it `is_done`.

        Raises:
            ProxyError: this is no PROXY header, or a bad one.  The reader must not be fed again.
        """
        head = self._head
        before = len(head)
        head += peeked
        size = _size(head)
        if not size:
            return len(peeked)
        self.peer = _read_line(head[:size]) if head.startswith(_LINE_START) else _read_block(head)
        self.is_done = True
        self._head = bytearray()
        return size - before


def _size(head: bytearray) -> int:
    """How long the header is; 0: it is not complete.

    "It is recommended to abort the connection as soon as possible so that the sender gets a chance to notice the
    anomaly and log it." (2.1)
    """
    if _LINE_START.startswith(head[: len(_LINE_START)]):
        return _line_size(head)
    if _BLOCK_START.startswith(head[: len(_BLOCK_START)]):
        return _block_size(head)
    raise ProxyError("no PROXY header")


def _line_size(head: bytearray) -> int:
    end = head.find(b"\n", 0, MAX_LINE_BYTES) + 1
    if not end and len(head) >= MAX_LINE_BYTES:
        raise ProxyError(f"a PROXY header without an end in its first {MAX_LINE_BYTES} bytes")
    return end


def _read_line(line: bytearray) -> tuple[str, int] | None:
    """What version 1 says."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ProxyError("a bad PROXY header of version 1")
    family, *ends = match.groups()
    if family is None:
        return None
    sources = [_line_address(text.decode("ascii"), family == b"6") for text in ends[:2]]
    ports = [int(port) for port in ends[2:]]
    if max(ports) > 0xFFFF:
        raise ProxyError("a PROXY header with a bad port")
    return sources[0], ports[0]


def _line_address(text: str, is_six: bool) -> str:
    if (":" in text) != is_six:
        raise ProxyError("a PROXY header with an address of the other family")
    try:
        return canonical(text)
    except ValueError:
        raise ProxyError("a PROXY header with a bad address") from None


def _block_size(head: bytearray) -> int:
    """The length of version 2, of which all is checked that stands before the addresses."""
    if len(head) < _FIXED_BYTES:
        return 0
    command, kind = head[12], head[13]
    size = _FIXED_BYTES + int.from_bytes(head[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise ProxyError(f"a PROXY header with version and command {command:#04x}")
    if size > MAX_BLOCK_BYTES:
        raise ProxyError(f"a PROXY header of {size} bytes; allowed: up to {MAX_BLOCK_BYTES}")
    if command == _PROXY:
        if kind not in _KINDS:
            raise ProxyError(f"a PROXY header with family and transport {kind:#04x}")
        if size < _FIXED_BYTES + _KINDS[kind][1]:
            raise ProxyError("a PROXY header too short for its addresses")
    return size if len(head) >= size else 0


def _read_block(block: bytearray) -> tuple[str, int] | None:
    """What version 2 says.  What may stand behind the addresses (TLV) is skipped, as 2.2 lets a receiver do."""
    if block[12] == _LOCAL:
        return None  # "must use the real connection endpoints and discard the protocol block including the family"
    length, _ = _KINDS[block[13]]
    if not length:
        return None
    ports = _FIXED_BYTES + 2 * length
    source = canonical(bytes(block[_FIXED_BYTES : _FIXED_BYTES + length]))
    return source, int.from_bytes(block[ports : ports + 2], "big")
