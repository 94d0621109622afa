"""wsd/wire/ordinary.py: what is read there is what the long way reads; in C it is what it is in Python."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.arrival import ORDINARY, OTHERS, TWINS, head, require_arrival
from wsd.errors import HandshakeError
from wsd.wire.handshake import check_upgrade, encode_101, encode_plain_101
from wsd.wire.http import MAX_HEAD_BYTES, MAX_HEADERS, MAX_URI_BYTES, HeadReader, Request
from wsd.wire.ordinary import Said

_LISTS = re.compile(rb"(?<=\n)sec-websocket-(?:protocol|extensions):[^\r]*\r\n", re.IGNORECASE)
LIMITS = (MAX_HEAD_BYTES, MAX_HEADERS, MAX_URI_BYTES)


@pytest.fixture(params=["in Python", "in C"])
def functions(request: pytest.FixtureRequest) -> Any:
    return TWINS if request.param == "in Python" else require_arrival()


def long_way(data: bytes, limits: tuple[int, int, int] = LIMITS) -> tuple[Said, bytes] | None:
    """What the long way makes of the request for a WebSocket at the front of `data`, and what is behind it; None: it
    is refused, or has not come whole.  What the lists in it hold is not looked at."""
    try:
        found = HeadReader(*limits).feed(data)
        if found is None:
            return None
        request, behind = found
        asked, headers = check_upgrade(Request(_LISTS.sub(b"", request.raw))), request.headers
    except HandshakeError:
        return None
    assert (request.method, request.http_version) == ("GET", "1.1")
    values = [headers.get_all(f"Sec-WebSocket-{name}") for name in ("Protocol", "Extensions")]
    origin, subprotocols, extensions = (found[0] if found else None for found in (headers.get_all("Origin"), *values))
    said = (len(request.raw), request.target, request.host, asked.key, origin, subprotocols, extensions)
    return said, behind


@pytest.mark.parametrize("data", ORDINARY)
@pytest.mark.parametrize("behind", [b"", b"\x81\x80abcd", b"GET / HTTP/1.1\r\n\r\n", b"\n"])
def test_an_ordinary_one_is_read_as_the_long_way_reads_it(functions: Any, data: bytes, behind: bytes) -> None:
    said = functions.read_upgrade(data + behind, *LIMITS)
    assert said is not None
    assert (said, behind) == long_way(data + behind)
    assert said[0] == len(data)


@pytest.mark.parametrize("data", OTHERS)
def test_others_are_left_to_it(functions: Any, data: bytes) -> None:
    assert functions.read_upgrade(data, *LIMITS) is None


@pytest.mark.parametrize("data", ORDINARY)
def test_one_that_has_not_come_whole(functions: Any, data: bytes) -> None:
    assert not any(functions.read_upgrade(data[:size], *LIMITS) for size in range(len(data)))


def test_what_it_says(functions: Any) -> None:
    data = head("GET /x?y HTTP/1.1", origin="http://\xe4", sec_websocket_protocol="a,b", sec_websocket_extensions="e")
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    expected = (len(data), "/x?y", "example.com:7681", key, "http://\xe4", "a,b", "e")
    assert functions.read_upgrade(data, *LIMITS) == expected
    assert functions.read_upgrade(head(), *LIMITS)[4:] == (None, None, None)


@pytest.mark.parametrize("data", ORDINARY)
def test_the_limits(functions: Any, data: bytes) -> None:
    """Each at its last number that suffices, and one below that; the long way draws the same line."""
    lines = data.count(b"\r\n") - 2
    target = len(data.split(b" ")[1])
    for limits in ((len(data), 100, 9999), (9999, lines, 9999), (9999, 100, target)):
        assert functions.read_upgrade(data, *limits) is not None
        assert long_way(data, limits) is not None
    for limits in ((len(data) - 1, 100, 9999), (9999, lines - 1, 9999), (9999, 100, target - 1), (0, 0, 0)):
        assert functions.read_upgrade(data, *limits) is None
        assert long_way(data, limits) is None


@pytest.mark.parametrize("limits", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_a_negative_limit(functions: Any, limits: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="negative"):
        functions.read_upgrade(head(), *limits)


@given(
    st.sampled_from(ORDINARY + OTHERS),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3), st.binary(max_size=3)), max_size=3),
    st.sampled_from([LIMITS, (200, 5, 9), (170, 7, 2)]),
)
def test_whatever_is_changed_in_one(
    data: bytes, changes: list[tuple[int, int, bytes]], limits: tuple[int, int, int]
) -> None:
    for at, size, instead in changes:
        data = data[:at] + instead + data[at + size :]
    said = TWINS.read_upgrade(data, *limits)
    assert require_arrival().read_upgrade(data, *limits) == said
    if said is not None:
        assert long_way(data, limits) == (said, data[said[0] :])


@pytest.mark.parametrize(
    "arguments", [[], [b""], [b"", 1, 1], [b"", 1, 1, 1, 1], ["", 1, 1, 1], [bytearray(), 1, 1, 1]]
)
def test_arguments_of_another_kind(arguments: list[Any]) -> None:
    with pytest.raises(TypeError):
        require_arrival().read_upgrade(*arguments)


@pytest.mark.parametrize("limit", ["1", None, 1.0])
def test_limits_of_another_kind(limit: Any) -> None:
    for at in range(3):
        limits: list[Any] = [1, 1, 1]
        limits[at] = limit
        with pytest.raises(TypeError):
            require_arrival().read_upgrade(b"", *limits)


def test_a_limit_beyond_the_numbers_of_the_machine() -> None:
    with pytest.raises(OverflowError):
        require_arrival().read_upgrade(b"", 1 << 70, 1, 1)


@pytest.mark.parametrize("subprotocol", [None, "chat"])
def test_the_answer_to_it_is_the_101(subprotocol: str | None) -> None:
    accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3
    assert encode_plain_101("dGhlIHNhbXBsZSBub25jZQ==", subprotocol) == encode_101(accept, subprotocol)
