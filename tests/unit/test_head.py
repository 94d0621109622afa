"""`wsd.wire.head`: where a head ends, what is wrong with its header lines, and what stands in them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsd.wire.head import encode_head, find_end, header_fault, read_headers
from wsd.wire.headers import Headers

LINE = b"HTTP/1.1 200 OK\r\n"
NO_ROOM_NEEDED = 1 << 20


class TestFindEnd:
    """RFC 9112 2.1: a head ends with the first empty line, whose lines end with CR LF (2.2)."""

    @pytest.mark.parametrize(
        ("head", "end"),
        [
            (b"", 0),
            (b"A: b\r\n", 0),
            (b"A: b\r\n\r", 0),
            (b"A: b\r\n\r\n", 8),
            (b"A: b\r\n\r\nC: d\r\n\r\n", 8),
            (b"A: b\r\n\r\n\n", 8),  # what follows may be anything
            (b"A\rb\r\r\n\r\n", 8),  # a CR alone is the business of `header_fault`
        ],
    )
    def test_whole(self, head: bytes, end: int) -> None:
        assert find_end(bytearray(head), 0, NO_ROOM_NEEDED) == end

    @pytest.mark.parametrize("scanned", range(7))
    def test_no_matter_how_much_was_looked_at_before(self, scanned: int) -> None:
        assert find_end(bytearray(b"A: b\r\n\r\n"), scanned, NO_ROOM_NEEDED) == 8

    def test_only_within_the_room_that_there_is(self) -> None:
        assert find_end(bytearray(b"A: b\r\n\r\n"), 0, 8) == 8
        assert find_end(bytearray(b"A: b\r\n\r\n"), 0, 7) == 0
        assert find_end(bytearray(b"A: b\n"), 0, 4) == 0

    @pytest.mark.parametrize("head", [b"\n", b"A: b\nC: d\r\n\r\n", b"A: b\n\n", b"A: b\r\n\n", b"A: b\r\n\r\r\n\n"])
    def test_a_line_without_cr(self, head: bytes) -> None:
        with pytest.raises(ValueError, match="without CR"):
            find_end(bytearray(head), 0, NO_ROOM_NEEDED)

    def test_a_cr_that_came_before_is_remembered(self) -> None:
        assert find_end(bytearray(b"A: b\r\n"), 5, NO_ROOM_NEEDED) == 0


class TestHeaderFault:
    """RFC 9112 5 and RFC 9110 5.5."""

    @pytest.mark.parametrize(
        "lines",
        [b"", b"A:\r\n", b"A:b\r\n", b"A: \t b \t\r\n", b"A: \xe4\r\n", b"!#$%&'*+-.^_`|~09azAZ: x\r\nA: y\r\n"],
    )
    def test_good(self, lines: bytes) -> None:
        assert header_fault(LINE + lines + b"\r\n", len(LINE)) == ""

    @pytest.mark.parametrize(
        ("lines", "fault"),
        [
            (b"A: b\r\n c\r\n", "continued"),
            (b"\tA: b\r\n", "continued"),
            (b"A: b\r\nC\r\n", "bad header name"),
            (b"A : b\r\n", "bad header name"),
            (b": b\r\n", "bad header name"),
            (b"A(): b\r\n", "bad header name"),
            (b"\xe4: b\r\n", "bad header name"),
            (b"A: b\rC: d\r\n", "control character"),
            (b"A: \0\r\n", "control character"),
            (b"A: \x7f\r\n", "control character"),
            (b"A: b\nC: d\r\n", "control character"),
        ],
    )
    def test_bad(self, lines: bytes, fault: str) -> None:
        assert fault in header_fault(LINE + lines + b"\r\n", len(LINE))

    def test_a_head_without_its_end(self) -> None:
        assert header_fault(LINE + b"A: b and no more", len(LINE)) == "the empty line at its end is missing"

    def test_it_takes_no_time(self) -> None:
        """Sixteen times the bytes would take 256 times as long if it were quadratic; a busy machine is forgiven."""

        def took(size: int) -> float:
            best = 1e9
            for _ in range(5):
                start = time.process_time()
                for line in (b"a" * size, b"A: " + b" " * size + b"\0", b"A: b\r\n" * (size // 6) + b"x"):
                    assert header_fault(LINE + line + b"\r\n\r\n", len(LINE))
                best = min(best, time.process_time() - start)
            return best

        assert took(320_000) < 64 * took(20_000) + 0.001


class TestReadHeaders:
    def test_as_they_came(self) -> None:
        head = LINE + b"A: b\r\nc:  d e \t\r\nA:\r\nD: \xe4:x\r\n\r\n"
        assert list(read_headers(head, len(LINE))) == [("A", "b"), ("c", "d e"), ("A", ""), ("D", "\xe4:x")]

    def test_none(self) -> None:
        assert len(read_headers(LINE + b"\r\n", len(LINE))) == 0

    @given(
        st.lists(
            st.tuples(st.from_regex(r"[a-zA-Z-]{1,8}", fullmatch=True), st.from_regex(r"[ -~\t]*", fullmatch=True))
        )
    )
    def test_what_was_written_is_read(self, pairs: list[tuple[str, str]]) -> None:
        head = encode_head("HTTP/1.1 200 OK", Headers(pairs))
        assert header_fault(head, len(LINE)) == ""
        assert list(read_headers(head, len(LINE))) == list(Headers(pairs))
