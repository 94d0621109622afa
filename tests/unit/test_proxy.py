"""wsd/wire/proxy.py: both versions of the PROXY header, whole, byte by byte, and cut at every place."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.cuts import every_cut
from tests.support.proxies import LOCAL, PROXY, START_2, TCP4, TCP6, UDP4, UDP6, UNIX, UNSPEC, block, line, raw_block
from wsd.errors import ProxyError
from wsd.wire.ip import canonical
from wsd.wire.proxy import MAX_BLOCK_BYTES, MAX_LINE_BYTES, ProxyReader

REQUEST = b"GET / HTTP/1.1\r\n"

Found = tuple[str, int] | None


def read(chunks: list[bytes]) -> tuple[Found, bytes]:
    """What a reader finds, and what it leaves; it peeks again at what it did not take, as a socket would have it."""
    reader = ProxyReader()
    waiting = b""
    for at, chunk in enumerate(chunks):
        waiting += chunk
        taken = reader.feed(waiting)
        if reader.is_done:
            assert not reader.is_empty
            return reader.peer, waiting[taken:] + b"".join(chunks[at + 1 :])
        assert taken == len(waiting)
        waiting = b""
        assert not chunk or not reader.is_empty
    raise AssertionError("it is not complete")


def read_all(header: bytes) -> Found:
    """What is found however the header and what follows it are cut."""
    wholes = [read(chunks) for chunks in every_cut(header + REQUEST)]
    assert all(rest == REQUEST for _, rest in wholes)
    assert len(set(wholes)) == 1
    assert read([header]) == (wholes[0][0], b"")
    return wholes[0][0]


def refused(header: bytes) -> str:
    """Why a header is refused however it is cut; what is said may depend on where the first cut is."""
    for chunks in every_cut(header):
        with pytest.raises(ProxyError):
            read(chunks)
    with pytest.raises(ProxyError) as raised:
        read([header])
    return str(raised.value)


# -- version 1 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (line(), ("192.0.2.7", 4711)),
        (line("2001:db8::7", 1), ("2001:db8::7", 1)),
        (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", ("0.0.0.0", 0)),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
        (
            b"PROXY TCP6 " + b" ".join([b":".join([b"FFFF"] * 8)] * 2) + b" 65535 65535\r\n",
            (":".join(["ffff"] * 8), 65535),
        ),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", ("192.0.2.7", 1)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN anything, \xff\0 whatever\r\n", None),
        (b"PROXY UNKNOWN " + b"f" * (MAX_LINE_BYTES - 16) + b"\r\n", None),
    ],
)
def test_line(header: bytes, peer: Found) -> None:
    assert read_all(header) == peer


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n", "version 1"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\r\n", "version 1"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n", "version 1"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n", "version 1"),
        (b"PROXY TCP4  192.0.2.7 192.0.2.1 1 2\r\n", "version 1"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n", "version 1"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 +1 2\r\n", "version 1"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2 \r\n", "version 1"),
        (b"PROXY tcp4 192.0.2.7 192.0.2.1 1 2\r\n", "version 1"),
        (b"PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n", "version 1"),
        (b"PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n", "version 1"),
        (b"PROXY UNKNOWN\n", "version 1"),
        (b"PROXY UNKNOWNx\r\n", "version 1"),
        (b"PROXY \r\n", "version 1"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 2\r\n", "bad port"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 99999\r\n", "bad port"),
        (b"PROXY TCP4 192.0.2.07 192.0.2.1 1 2\r\n", "bad address"),
        (b"PROXY TCP4 192.0.2.7 192.0.2 1 2\r\n", "bad address"),
        (b"PROXY TCP6 2001:db8:::7 ::1 1 2\r\n", "bad address"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "other family"),
        (b"PROXY TCP6 192.0.2.7 ::1 1 2\r\n", "other family"),
        (b"PROXY TCP6 ::1 192.0.2.7 1 2\r\n", "other family"),
        (b"PROXY TCP4 " + b"1" * 189, "without an end"),
        (b"PROXY UNKNOWN " + b"f" * (MAX_LINE_BYTES - 15) + b"\r\n", "without an end"),
        (b"PROXY UNKNOWN " + b" " * 200 + b"\r\n", "without an end"),
        (b"PROXYX TCP4", "no PROXY header"),
        (b"PROXT", "no PROXY header"),
        (b"proxy TCP4 192.0.2.7 192.0.2.1 1 2\r\n", "no PROXY header"),
        (b" PROXY UNKNOWN\r\n", "no PROXY header"),
    ],
)
def test_bad_line(header: bytes, why: str) -> None:
    assert why in refused(header)


# -- version 2 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (block(), ("192.0.2.7", 4711)),
        (block(kind=UDP4), ("192.0.2.7", 4711)),
        (block("2001:db8::7", 65535), ("2001:db8::7", 65535)),
        (block("2001:db8::7", kind=UDP6), ("2001:db8::7", 4711)),
        (block("::ffff:192.0.2.7"), ("192.0.2.7", 4711)),
        (block(more=b"\x03\x00\x04abcd\x04\x00\x00"), ("192.0.2.7", 4711)),
        (raw_block(LOCAL, UNSPEC), None),
        (raw_block(LOCAL, TCP4, b"12 bytes are"), None),
        (raw_block(LOCAL, 0xFF, b"whatever"), None),
        (raw_block(PROXY, UNSPEC), None),
        (raw_block(PROXY, UNSPEC, b"whatever"), None),
        (raw_block(PROXY, UNIX, b"/run/x".ljust(216, b"\0")), None),
        (raw_block(PROXY, 0x32, bytes(216)), None),
    ],
)
def test_block(header: bytes, peer: Found) -> None:
    assert read_all(header) == peer


def test_a_block_as_long_as_may_be() -> None:
    header = block(more=bytes(MAX_BLOCK_BYTES - 28))
    assert len(header) == MAX_BLOCK_BYTES
    # In pieces as a socket is peeked at.
    pieces = [header[at : at + 536] for at in range(0, len(header), 536)]
    assert read([*pieces, REQUEST]) == (("192.0.2.7", 4711), REQUEST)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (raw_block(PROXY, TCP4, size=65535), "65551 bytes"),
        (raw_block(LOCAL, UNSPEC, size=MAX_BLOCK_BYTES - 15), "4097 bytes"),
        (raw_block(0x22, TCP4, bytes(12)), "0x22"),
        (raw_block(0x11, TCP4, bytes(12)), "0x11"),
        (raw_block(0x31, TCP4, bytes(12)), "0x31"),
        (raw_block(PROXY, 0x10, bytes(12)), "0x10"),
        (raw_block(PROXY, 0x13, bytes(12)), "0x13"),
        (raw_block(PROXY, 0x41, bytes(12)), "0x41"),
        (raw_block(PROXY, TCP4, bytes(11)), "too short"),
        (raw_block(PROXY, TCP6, bytes(35)), "too short"),
        (raw_block(PROXY, UNIX, bytes(215)), "too short"),
        (START_2[:-1] + b"\r", "no PROXY header"),
        (b"\r\n\r\nGET / HTTP/1.1\r\n", "no PROXY header"),
        (b"\x16\x03\x01\x02\x00", "no PROXY header"),
        (REQUEST, "no PROXY header"),
    ],
)
def test_bad_block(header: bytes, why: str) -> None:
    assert why in refused(header)


def test_nothing_is_nothing() -> None:
    reader = ProxyReader()
    assert reader.feed(b"") == 0
    assert reader.is_empty
    assert not reader.is_done


# -- properties -------------------------------------------------------------------------------------------------------


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=300), st.binary(max_size=30), st.data())
def test_every_header_says_what_was_put_in(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, more: bytes, rest: bytes, data: st.DataObject
) -> None:
    for header in (line(str(address), port), block(str(address), port, more)):
        whole = header + rest
        at = data.draw(st.integers(0, len(whole)))
        assert read([whole[:at], whole[at:]]) == ((canonical(str(address)), port), rest)


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda more: b"PROXY " + more + b"\r\n")))
def test_nothing_else_is_raised(data: bytes) -> None:
    """And a line that is taken is one by the letter of the specification."""
    reader = ProxyReader()
    try:
        taken = reader.feed(data)
    except ProxyError:
        return
    assert taken <= len(data)
    if reader.is_done and data.startswith(b"PROXY"):
        assert re.match(rb"PROXY (UNKNOWN[^\r\n]*|TCP[46]( [0-9A-Fa-f.:]+){2}( [0-9]+){2})\r\n", data[:taken])
