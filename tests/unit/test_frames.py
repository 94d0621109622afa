"""RFC 6455 sections 5.2, 5.5 and 7.4 on the sending side: frame headers, whole messages, Close payloads."""

from __future__ import annotations

import pytest

from wsd.errors import ProtocolError
from wsd.wire.frames import (
    BINARY,
    FIN,
    MASKED,
    PING,
    RSV1,
    TEXT,
    encode_close,
    encode_message,
    frame_header,
    is_close_code,
    parse_close,
)


@pytest.mark.parametrize(
    ("first", "length", "masked", "expected"),
    [
        (FIN | TEXT, 0, 0, "81 00"),
        (TEXT, 1, 0, "01 01"),
        (FIN, 125, 0, "80 7d"),
        (FIN | BINARY, 126, 0, "82 7e 007e"),
        (FIN | RSV1 | BINARY, 65535, 0, "c2 7e ffff"),
        (FIN | BINARY, 65536, 0, "82 7f 0000000000010000"),
        (FIN | BINARY, (1 << 63) - 1, 0, "82 7f 7fffffffffffffff"),
        (FIN | PING, 125, MASKED, "89 fd"),
        (FIN | BINARY, 126, MASKED, "82 fe 007e"),
        (FIN | BINARY, 65536, MASKED, "82 ff 0000000000010000"),
    ],
)
def test_frame_header(first: int, length: int, masked: int, expected: str) -> None:
    """5.2: "the minimal number of bytes MUST be used to encode the length"."""
    assert frame_header(first, length, masked) == bytes.fromhex(expected)


class TestEncodeMessage:
    """One unmasked frame."""

    def test_the_examples_of_the_rfc(self) -> None:
        """5.7."""
        assert encode_message("Hello") == bytes.fromhex("81 05 48 65 6c 6c 6f")
        assert encode_message(b"H" * 256) == bytes.fromhex("82 7E 0100") + b"H" * 256
        assert encode_message(b"H" * 65536) == bytes.fromhex("82 7F 0000000000010000") + b"H" * 65536

    def test_length_counts_bytes_and_not_characters(self) -> None:
        assert encode_message("\u20ac" * 42) == bytes.fromhex("81 7e 007e") + b"\xe2\x82\xac" * 42

    @pytest.mark.parametrize("message", [b"ab", bytearray(b"ab"), memoryview(b"ab"), memoryview(b"a.b.")[::2]])
    def test_buffers_are_binary(self, message: bytes) -> None:
        assert encode_message(message) == b"\x82\x02ab"

    def test_empty(self) -> None:
        assert encode_message("") == b"\x81\x00"
        assert encode_message(b"") == b"\x82\x00"

    def test_a_lone_surrogate_cannot_be_sent(self) -> None:
        with pytest.raises(UnicodeEncodeError):
            encode_message("\ud800")

    @pytest.mark.parametrize("message", [None, 5, ["a"], {"a": 1}])
    def test_anything_else(self, message: object) -> None:
        with pytest.raises(TypeError):
            encode_message(message)  # type: ignore[arg-type]


ALLOWED = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
REFUSED = [-1, 0, 999, 1004, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535, 65536]


class TestClose:
    """5.5.1 and 7.4."""

    @pytest.mark.parametrize("code", ALLOWED)
    def test_allowed(self, code: int) -> None:
        assert is_close_code(code)
        assert encode_close(code) == code.to_bytes(2, "big")
        assert parse_close(encode_close(code, "why")) == (code, "why")

    @pytest.mark.parametrize("code", REFUSED)
    def test_refused(self, code: int) -> None:
        assert not is_close_code(code)
        with pytest.raises(ValueError, match=str(code)):
            encode_close(code)
        if 0 <= code < 65536:
            with pytest.raises(ProtocolError) as caught:
                parse_close(code.to_bytes(2, "big"))
            assert caught.value.code == 1002

    def test_no_status_is_an_empty_payload(self) -> None:
        """7.1.5; 1005 itself "MUST NOT be set as a status code in a Close control frame"."""
        assert not is_close_code(1005)
        assert encode_close(1005, "is not sent") == b""
        assert parse_close(b"") == (1005, "")
        with pytest.raises(ProtocolError):
            parse_close((1005).to_bytes(2, "big"))

    @pytest.mark.parametrize(
        ("reason", "sent"),
        [
            ("a" * 123, "a" * 123),
            ("a" * 124, "a" * 123),
            ("\u20ac" * 41, "\u20ac" * 41),
            ("a" + "\u20ac" * 41, "a" + "\u20ac" * 40),
            ("aa" + "\u20ac" * 41, "aa" + "\u20ac" * 40),
            ("\U0001f600" * 40, "\U0001f600" * 30),
            ("lone \ud800", "lone ?"),
        ],
    )
    def test_reason_is_cut_at_a_character(self, reason: str, sent: str) -> None:
        payload = encode_close(1000, reason)
        assert len(payload) <= 125
        assert parse_close(payload) == (1000, sent)

    @pytest.mark.parametrize("byte", [b"\0", b"\x03", b"\xff"])
    def test_one_byte(self, byte: bytes) -> None:
        with pytest.raises(ProtocolError) as caught:
            parse_close(byte)
        assert caught.value.code == 1002

    @pytest.mark.parametrize("reason", [b"\xff", b"a\xe2\x82", b"\xed\xa0\x80"])
    def test_reason_that_is_no_text(self, reason: bytes) -> None:
        with pytest.raises(ProtocolError) as caught:
            parse_close(b"\x03\xe8" + reason)
        assert caught.value.code == 1007
