"""RFC 6455 section 5.3: "Octet i of the transformed data is the XOR of octet i of the original data with octet at index
i modulo 4 of the masking key"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.wire.mask import mask, rotate

KEYS = st.binary(min_size=4, max_size=4)


def by_the_book(payload: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def test_the_example_of_the_rfc() -> None:
    """5.7: "A single-frame masked text message"."""
    assert mask(bytes.fromhex("7f9f4d5158"), bytes.fromhex("37fa213d")) == b"Hello"


@pytest.mark.parametrize("length", [*range(18), 125, 126, 127, 65535, 65536, 65537])
def test_lengths(length: int) -> None:
    payload = (bytes(range(256)) * (length // 256 + 1))[:length]
    assert mask(payload, b"\x80\x01\xff\x7f") == by_the_book(payload, b"\x80\x01\xff\x7f")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(b"x" + data + b"x")[1:-1]])
def test_every_kind_of_buffer_gives_bytes(kind: type[bytes]) -> None:
    assert type(mask(kind(b"abcde"), b"1234")) is bytes
    assert mask(kind(b"abcde"), b"1234") == by_the_book(b"abcde", b"1234")
    assert mask(kind(b""), b"1234") == b""


def test_leading_and_trailing_zeros_survive() -> None:
    """One big integer has no length of its own."""
    assert mask(b"\0\0\0\0\0", b"\0\0\0\0") == b"\0\0\0\0\0"
    assert mask(b"1234" * 2, b"1234") == bytes(8)


@given(st.binary(max_size=300), KEYS)
def test_is_its_own_inverse(payload: bytes, key: bytes) -> None:
    assert mask(payload, key) == by_the_book(payload, key)
    assert mask(mask(payload, key), key) == payload


@given(st.binary(max_size=300), KEYS, st.integers(0, 300))
def test_rotated_key_goes_on_where_a_payload_was_cut(payload: bytes, key: bytes, at: int) -> None:
    at = min(at, len(payload))
    assert mask(payload[:at], key) + mask(payload[at:], rotate(key, at)) == mask(payload, key)
    assert rotate(rotate(key, at), -at) == key
