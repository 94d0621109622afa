"""The Python functions, against the RFC's words and against the parser; and the C functions, which must be the same.

What one of them takes is what the parser would have made of it, and it never takes a byte of anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.client import BINARY, CONTINUATION, PING, TEXT, close_frame, frame
from tests.support.feeding import Heard, feed
from tests.support.native import TWINS, require_native
from wsd.wire.frames import frame_header
from wsd.wire.parser import Piece

NO_LIMIT, MANY = 0, 1 << 20
EURO = "\u20ac".encode()

# Every length at which the header changes, and those around the eight bytes that are unmasked at a time.
LENGTHS = [*range(18), 31, 32, 33, 124, 125, 126, 127, 128, 1000, 65534, 65535, 65536, 65537]

# What is wrong with each is in the table of RFC 3629 section 4.
NOT_UTF8 = (
    "80 bf c0 c080 c1bf c3 c328 e0 e080 e09fbf e2 e282 e28228 eda080 edbfbf ee f0 f08080 f0808080 f08fbfbf f09d84 "
    "f09d8428 f4908080 f5808080 f7bfbfbf f888808080 fc8480808080 fe ff e2c282 f0c29d84 c2c2 e282c2 f09d84c2"
)
BAD_TEXTS = [bytes.fromhex(text) for text in NOT_UTF8.split()]
GOOD_TEXTS = list("a\0\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff")


@pytest.fixture(params=["in Python", "in C"])
def functions(request: pytest.FixtureRequest) -> Any:
    """Either of both."""
    return TWINS if request.param == "in Python" else require_native()


def taken(functions: Any, data: bytes, limit: int = NO_LIMIT, most: int = MANY) -> tuple[int, list[Piece]]:
    """What `parse` takes of all of `data`, which is overwritten afterwards as the loop's buffer is."""
    shared = bytearray(data)
    pieces: list[Piece] = []
    size = functions.parse(shared, len(shared), limit, most, pieces)
    shared[:] = b"\xa5" * len(shared)
    return size, pieces


def by_the_parser(data: bytes, limit: int = NO_LIMIT) -> Heard:
    """What the parser makes of it five bytes at a time: no frame is so short, so `parse` has no part in it."""
    return feed([data[at : at + 5] for at in range(0, len(data), 5)], limit)


def message(opcode: int, payload: bytes) -> Piece:
    return (opcode, payload, True, True, 0)


class TestParse:
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("length", LENGTHS)
    def test_lengths(self, functions: Any, length: int, opcode: int) -> None:
        payload = (b"abcdefg" * (length // 7 + 1))[:length]
        data = frame(opcode, payload, mask=b"\x80\x01\xff\x7f")
        assert taken(functions, data) == (len(data), [message(opcode, payload)])
        assert taken(functions, data * 2) == (2 * len(data), [message(opcode, payload)] * 2)

    @pytest.mark.parametrize("length", [0, 1, 9, 126, 130, 65536])
    def test_cut_anywhere_nothing_is_taken(self, functions: Any, length: int) -> None:
        first, second = frame(TEXT, b"one"), frame(BINARY, bytes(length))
        for cut in [*range(min(len(second), 300)), len(second) - 1]:
            assert taken(functions, first + second[:cut]) == (len(first), [message(TEXT, b"one")])
            assert taken(functions, second[:cut]) == (0, [])

    @pytest.mark.parametrize("first", [byte for byte in range(256) if byte not in (0x81, 0x82)])
    def test_every_other_first_byte_stops_it(self, functions: Any, first: int) -> None:
        data = frame(BINARY, b"before")
        other = bytes([first, 0x81]) + b"1234a"
        assert taken(functions, data + other + data) == (len(data), [message(BINARY, b"before")])

    @pytest.mark.parametrize("encoded", ["00", "01", "7d", "7e 007e", "7f 0000000000010000"])
    def test_unmasked(self, functions: Any, encoded: str) -> None:
        assert taken(functions, bytes.fromhex(f"82 {encoded}") + bytes(65540)) == (0, [])

    @pytest.mark.parametrize(
        "encoded",
        ["fe 0000", "fe 007d", *(f"ff {length:016x}" for length in (0, 125, 126, 65535))],
    )
    def test_longer_than_needed(self, functions: Any, encoded: str) -> None:
        """ "the minimal number of bytes MUST be used to encode the length" """
        assert taken(functions, bytes.fromhex(f"82 {encoded}") + bytes(65600)) == (0, [])

    @pytest.mark.parametrize("length", [1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 14])
    def test_lengths_that_no_buffer_has(self, functions: Any, length: int) -> None:
        """Nothing of that size is set aside, and no sum of it wraps around."""
        assert taken(functions, b"\x82\xff" + length.to_bytes(8, "big") + bytes(100)) == (0, [])

    @pytest.mark.parametrize("limit", [1, 4, 125, 126, 65535, 65536])
    def test_the_limit(self, functions: Any, limit: int) -> None:
        within, over = frame(BINARY, bytes(limit)), frame(BINARY, bytes(limit + 1))
        assert taken(functions, within + over + within, limit) == (len(within), [message(BINARY, bytes(limit))])

    @pytest.mark.parametrize("most", range(4))
    def test_no_more_than_wanted(self, functions: Any, most: int) -> None:
        data = frame(TEXT, b"ab")
        assert taken(functions, data * 3, most=most) == (most * len(data), [message(TEXT, b"ab")] * most)

    def test_only_the_front_of_the_buffer_counts(self, functions: Any) -> None:
        data = frame(TEXT, b"ab")
        pieces: list[Piece] = []
        assert functions.parse(bytearray(data * 2), 2 * len(data) - 1, NO_LIMIT, MANY, pieces) == len(data)
        assert functions.parse(data, 0, NO_LIMIT, MANY, pieces) == 0
        assert functions.parse(b"", 0, NO_LIMIT, MANY, pieces) == 0
        assert len(pieces) == 1

    def test_pieces_are_appended(self, functions: Any) -> None:
        pieces: list[Any] = ["before"]
        functions.parse(frame(TEXT, b"ab"), 8, NO_LIMIT, MANY, pieces)
        assert pieces == ["before", message(TEXT, b"ab")]
        assert [type(field) for field in pieces[1]] == [int, bytes, bool, bool, int]

    @pytest.mark.parametrize("text", BAD_TEXTS)
    @pytest.mark.parametrize("before", [b"", b"1234567", EURO * 3])
    def test_text_that_is_none_stops_it(self, functions: Any, before: bytes, text: bytes) -> None:
        good, bad = frame(TEXT, before), frame(TEXT, before + text)
        assert taken(functions, good + bad) == (len(good), [message(TEXT, before)])
        assert taken(functions, good + frame(BINARY, before + text))[1][1] == message(BINARY, before + text)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(b"x" + data + b"x")[1:-1]])
    def test_every_kind_of_buffer(self, functions: Any, kind: Callable[[bytes], Any]) -> None:
        data = frame(TEXT, EURO) + frame(BINARY, bytes(200)) + frame(BINARY, bytes(65536))
        pieces: list[Piece] = []
        assert functions.parse(kind(data), len(data), NO_LIMIT, MANY, pieces) == len(data)
        assert [type(payload) for _, payload, *_ in pieces] == [bytes] * 3

    @pytest.mark.parametrize(
        ("size", "limit", "most"), [(9, 0, 1), (-1, 0, 1), (8, -1, 1), (8, 0, -1), (1 << 62, 0, 1)]
    )
    def test_numbers_that_make_no_sense(self, functions: Any, size: int, limit: int, most: int) -> None:
        pieces: list[Piece] = []
        with pytest.raises(ValueError, match=r"negative|more than the buffer"):
            functions.parse(frame(TEXT, b"ab"), size, limit, most, pieces)
        assert pieces == []


class TestIsUtf8:
    @pytest.mark.parametrize("text", BAD_TEXTS)
    @pytest.mark.parametrize("around", ["", "abc", "1234567", "12345678", "\u20ac", "\U0001d11e1234567890"])
    def test_what_is_none(self, functions: Any, around: str, text: bytes) -> None:
        assert not functions.is_utf8(around.encode() + text)
        assert not functions.is_utf8(around.encode() + text + around.encode())

    @pytest.mark.parametrize("text", GOOD_TEXTS)
    @pytest.mark.parametrize("around", ["", "abc", "1234567", "12345678", "\u20ac"])
    def test_the_ends_of_every_range(self, functions: Any, around: str, text: str) -> None:
        assert functions.is_utf8((around + text + around).encode())

    @pytest.mark.parametrize("size", range(40))
    def test_a_single_byte_anywhere(self, functions: Any, size: int) -> None:
        for at in range(size):
            assert not functions.is_utf8(b"a" * at + b"\x80" + b"a" * (size - at - 1))
        assert functions.is_utf8(b"a" * size)

    def test_every_two_bytes_and_beginning_of_three(self, functions: Any) -> None:
        """Python's own decoder is the judge."""
        for pair in range(1 << 16):
            data = pair.to_bytes(2, "big")
            for tail in (b"", b"\x80", b"\x80\xbf"):
                assert functions.is_utf8(data + tail) == decodes(data + tail), data + tail

    @given(st.one_of(st.binary(max_size=24), st.text(max_size=12).map(str.encode)), st.binary(max_size=3))
    def test_as_the_decoder(self, text: bytes, tail: bytes) -> None:
        expected = decodes(text + tail)
        assert TWINS.is_utf8(text + tail) is expected
        assert require_native().is_utf8(text + tail) is expected


def decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class TestFrame:
    @pytest.mark.parametrize("first", [0x00, 0x01, 0x81, 0x82, 0x8A, 0xC1, 0xFF])
    @pytest.mark.parametrize("length", LENGTHS)
    def test_header_and_payload(self, functions: Any, length: int, first: int) -> None:
        payload = (b"abcdefg" * (length // 7 + 1))[:length]
        made = functions.frame(first, payload)
        assert type(made) is bytes
        assert made == frame_header(first, length) + payload

    @pytest.mark.parametrize("first", [-1, 256, 1 << 40])
    def test_no_byte(self, functions: Any, first: int) -> None:
        with pytest.raises(ValueError, match=r"first|negative"):
            functions.frame(first, b"")


# -- both, on whatever comes ------------------------------------------------------------------------------------------

KEYS = st.binary(min_size=4, max_size=4)
PAYLOADS = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    st.builds(lambda part, size: (part * size)[:size], st.binary(min_size=1, max_size=5), st.sampled_from(LENGTHS)),
)
FRAMES = st.one_of(
    st.builds(lambda opcode, payload, key: frame(opcode, payload, mask=key), st.sampled_from([1, 2]), PAYLOADS, KEYS),
    st.builds(lambda opcode, payload, key: frame(opcode, payload, mask=key), st.sampled_from([1, 2]), PAYLOADS, KEYS),
    st.builds(lambda payload, final: frame(CONTINUATION, payload, final=final), st.binary(max_size=5), st.booleans()),
    st.builds(lambda payload: frame(TEXT, payload, final=False), st.binary(max_size=5)),
    st.builds(lambda payload: frame(PING, payload), st.binary(max_size=125)),
    st.just(close_frame(1000)),
    st.binary(max_size=20),
)
STREAMS = st.lists(FRAMES, max_size=6).map(b"".join)


@given(STREAMS, st.sampled_from([0, 1, 6, 125, 126, 65536]), st.sampled_from([0, 1, 2, MANY]))
@example(frame(TEXT, EURO[:2]) + frame(TEXT, EURO), 0, MANY)
def test_both_take_the_same(stream: bytes, limit: int, most: int) -> None:
    assert taken(TWINS, stream, limit, most) == taken(require_native(), stream, limit, most)


@given(st.lists(FRAMES, max_size=3).map(b"".join).map(lambda stream: stream[:300]))
def test_both_take_the_same_at_every_split(stream: bytes) -> None:
    native = require_native()
    for at in range(len(stream) + 1):
        assert taken(TWINS, stream[:at]) == taken(native, stream[:at])
        assert taken(TWINS, stream[at:]) == taken(native, stream[at:])


@given(STREAMS, st.sampled_from([0, 1, 6, 125, 126, 65536]))
def test_what_is_taken_is_what_the_parser_makes_of_it(stream: bytes, limit: int) -> None:
    size, pieces = taken(TWINS, stream, limit)
    assert by_the_parser(stream[:size], limit) == Heard([(opcode, payload) for opcode, payload, *_ in pieces])


@given(st.binary(max_size=100), KEYS, st.integers(0, 20))
def test_both_mask_the_same(payload: bytes, key: bytes, offset: int) -> None:
    assert TWINS.mask(payload, key, offset) == require_native().mask(payload, key, offset)
    for at in range(min(9, len(payload))):  # what is not aligned in memory
        unaligned = memoryview(payload)[at:]
        assert TWINS.mask(unaligned, key) == require_native().mask(unaligned, key)
