"""Whatever bytes a proxy says, its header is read or refused, the same whole as cut up; and so is what HTTP proxies
add."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tests.fuzz.engine import main
from tests.support.proxies import LOCAL, PROXY, UNIX, UNSPEC, block, line, raw_block
from wsd.errors import ProxyError
from wsd.networks import Networks
from wsd.wire.forwarded import FORWARDED, HIDDEN, X_FORWARDED_FOR, find_client
from wsd.wire.proxy import MAX_BLOCK_BYTES, ProxyReader

SAMPLES = [
    line() + b"GET / HTTP/1.1\r\n",
    line("2001:db8::7", 65535),
    b"PROXY UNKNOWN\r\nrest",
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
    block() + b"\x16\x03\x01",
    block("2001:db8::7", 1, b"\x04\x00\x02ab"),
    raw_block(LOCAL, UNSPEC) + b"rest",
    raw_block(PROXY, UNIX, b"/run/x".ljust(216, b"\0")),
    raw_block(PROXY, UNSPEC, size=65535),
    b"192.0.2.7, 10.0.0.1:80, [2001:db8::7]:4711",
    b'for=192.0.2.7;host="a, for=1.1.1.1", for="[2001:db8::7]:4711";by=_x, for=10.0.0.1',
    b'for="_gazonk", for=unknown ; proto=https',
]
TRUSTED = Networks(["10.0.0.0/8", "2001:db8::/32"])

Found = tuple[str, int] | None


def read(chunks: Iterable[bytes]) -> tuple[Found, bytes] | str | None:
    """What a new reader finds and leaves, that it refuses, or None: it wants more."""
    reader = ProxyReader()
    parts = iter(chunks)
    for chunk in parts:
        try:
            taken = reader.feed(chunk)
        except ProxyError:
            return "refused"
        assert 0 <= taken <= len(chunk)
        if reader.is_done:
            return reader.peer, chunk[taken:] + b"".join(parts)
        assert taken == len(chunk)
    return None


def check(data: bytes) -> None:
    """The invariant."""
    whole = read([data])
    half = len(data) // 2
    for chunks in ([data[at : at + 1] for at in range(len(data))], [data[:half], data[half:]]):
        assert read(chunks) == whole
    if isinstance(whole, tuple):
        assert len(data) - len(whole[1]) <= MAX_BLOCK_BYTES
        look_at(whole[0])
    value = data.decode("latin-1")
    for header, added in ((X_FORWARDED_FOR, "192.0.2.7"), (FORWARDED, "for=192.0.2.7")):
        found = find_client(header, value, TRUSTED.__contains__)
        if found != HIDDEN:
            look_at(found)
        # What stands in front of what a trusted proxy adds changes nothing.
        assert find_client(header, f"{value},{added}, {added[:-9]}10.0.0.1", TRUSTED.__contains__) == ("192.0.2.7", 0)


def look_at(found: Found) -> None:
    """An address is one, in its one form."""
    if found is not None:
        address, port = found
        assert str(ipaddress.ip_address(address)) == address
        assert 0 <= port <= 0xFFFF


if __name__ == "__main__":
    main(check, SAMPLES)
