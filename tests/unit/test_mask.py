"""RFC 6455 section 5.3: "Octet i of the transformed data is the XOR of octet i of the original data with octet at index
i modulo 4 of the masking key"."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.native import TWINS, require_native
from wsd.wire import fast
from wsd.wire.fast import mask

KEYS = st.binary(min_size=4, max_size=4)


@pytest.fixture(params=["in Python", "in C"], name="masked")
def either(request: pytest.FixtureRequest) -> Any:
    """Either of both functions."""
    return TWINS.mask if request.param == "in Python" else require_native().mask


def by_the_book(payload: bytes, key: bytes, offset: int = 0) -> bytes:
    return bytes(byte ^ key[(index + offset) % 4] for index, byte in enumerate(payload))


def test_the_example_of_the_rfc(masked: Any) -> None:
    """5.7: "A single-frame masked text message"."""
    assert masked(bytes.fromhex("7f9f4d5158"), bytes.fromhex("37fa213d")) == b"Hello"


@pytest.mark.parametrize("length", [*range(40), 125, 126, 127, 65535, 65536, 65537])
def test_lengths(masked: Any, length: int) -> None:
    payload = (bytes(range(256)) * (length // 256 + 1))[:length]
    assert masked(payload, b"\x80\x01\xff\x7f") == by_the_book(payload, b"\x80\x01\xff\x7f")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(b"x" + data + b"x")[1:-1]])
def test_every_kind_of_buffer_gives_bytes(masked: Any, kind: type[bytes]) -> None:
    assert type(masked(kind(b"abcde"), b"1234")) is bytes
    assert masked(kind(b"abcde"), b"1234") == by_the_book(b"abcde", b"1234")
    assert masked(kind(b""), b"1234") == b""


def test_leading_and_trailing_zeros_survive(masked: Any) -> None:
    """One big integer has no length of its own."""
    assert masked(b"\0\0\0\0\0", b"\0\0\0\0") == b"\0\0\0\0\0"
    assert masked(b"1234" * 2, b"1234") == bytes(8)


@pytest.mark.parametrize("offset", [*range(9), 65535, (1 << 62) + 1])
@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 9, 30])
def test_an_offset_is_how_far_into_the_payload_it_begins(masked: Any, length: int, offset: int) -> None:
    payload = bytes(range(100, 100 + length))
    assert masked(payload, b"\x80\x01\xff\x7f", offset) == by_the_book(payload, b"\x80\x01\xff\x7f", offset)


@pytest.mark.parametrize("key", [b"", b"123", b"12345"])
def test_a_key_is_four_bytes(masked: Any, key: bytes) -> None:
    with pytest.raises(ValueError, match="4 bytes"):
        masked(b"abc", key)


def test_no_negative_offset(masked: Any) -> None:
    with pytest.raises(ValueError, match="negative"):
        masked(b"abc", b"1234", -1)


@given(st.binary(max_size=300), KEYS, st.integers(0, 300))
def test_is_its_own_inverse_and_may_be_cut(payload: bytes, key: bytes, at: int) -> None:
    at = min(at, len(payload))
    for function in (mask, TWINS.mask):
        assert function(payload, key) == by_the_book(payload, key)
        assert function(function(payload, key), key) == payload
        assert function(payload[:at], key) + function(payload[at:], key, at) == function(payload, key)


def test_it_is_the_one_that_runs() -> None:
    assert mask is fast.mask
