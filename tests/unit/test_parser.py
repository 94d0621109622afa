"""RFC 6455 by section, as the receiving side has it: literal bytes in, messages or a failure code out.

Every row is fed whole, byte by byte and at every split, and all must agree (`feed_all`).  The masking key of most rows
is zero, so that the payload can be read.
"""

from __future__ import annotations

import pytest

from tests.support.feeding import Heard, feed, feed_all
from wsd.wire.frames import BINARY, PING, PONG, TEXT
from wsd.wire.parser import Parser

K = "00000000"
"""A masking key that changes nothing."""


def heard(stream: str, max_message_bytes: int = 0, max_fragments: int = 1 << 20) -> Heard:
    return feed_all(bytes.fromhex(stream), max_message_bytes, max_fragments)


class TestSection5_1:
    """5.1: "The server MUST close the connection upon receiving a frame that is not masked." """

    @pytest.mark.parametrize("stream", ["81 05 48656c6c6f", "82 00", "89 00", "88 00", "81 7e 0080", "81 7f"])
    def test_unmasked(self, stream: str) -> None:
        assert heard(stream) == Heard([], 1002)

    def test_unmasked_after_a_good_one(self) -> None:
        assert heard(f"81 81 {K} 41 81 01 42") == Heard([(TEXT, b"A")], 1002)

    def test_unmasked_inside_a_message(self) -> None:
        assert heard(f"01 81 {K} 41 80 01 42") == Heard([], 1002, partial=(TEXT, b"A"))


class TestSection5_2:
    """5.2, the base framing."""

    @pytest.mark.parametrize("bits", [0x40, 0x20, 0x10, 0x70])
    @pytest.mark.parametrize("first", [0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0x8A])
    def test_reserved_bits(self, first: int, bits: int) -> None:
        """RSV1-3: "MUST be 0 unless an extension is negotiated"."""
        assert heard(f"{first | bits:02x} 80 {K}") == Heard([], 1002)

    def test_reserved_bit_inside_a_message(self) -> None:
        assert heard(f"02 81 {K} 01 C0 81 {K} 02").failure == 1002

    @pytest.mark.parametrize("final", [0x80, 0])
    @pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF])
    def test_reserved_opcodes(self, opcode: int, final: int) -> None:
        assert heard(f"{final | opcode:02x} 80 {K}") == Heard([], 1002)

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize(
        ("length", "encoded"),
        [
            (0, "80"),
            (1, "81"),
            (124, "fc"),
            (125, "fd"),
            (126, "fe 007e"),
            (127, "fe 007f"),
            (128, "fe 0080"),
            (65535, "fe ffff"),
            (65536, "ff 0000000000010000"),
            (65537, "ff 0000000000010001"),
        ],
    )
    def test_lengths(self, length: int, encoded: str, opcode: int) -> None:
        payload = (b"abcdefg" * (length // 7 + 1))[:length]
        stream = bytes.fromhex(f"8{opcode} {encoded} {K}") + payload + bytes.fromhex(f"89 81 {K} 21")
        assert feed_all(stream) == Heard([(opcode, payload), (PING, b"!")])

    @pytest.mark.parametrize(
        "encoded",
        [
            "fe 0000",
            "fe 007d",
            "ff 0000000000000000",
            "ff 000000000000007d",
            "ff 000000000000007e",
            "ff 000000000000ffff",
        ],
    )
    def test_longer_than_needed(self, encoded: str) -> None:
        """ "the minimal number of bytes MUST be used to encode the length" """
        assert heard(f"82 {encoded}") == Heard([], 1002)

    @pytest.mark.parametrize("encoded", ["8000000000000000", "8000000000000001", "ffffffffffffffff"])
    @pytest.mark.parametrize("limit", [0, 1000])
    def test_most_significant_bit(self, encoded: str, limit: int) -> None:
        """ "the most significant bit MUST be 0" """
        assert heard(f"82 ff {encoded}", limit) == Heard([], 1002)

    @pytest.mark.parametrize("encoded", ["7fffffffffffffff", "4000000000000000", "0000000100000000"])
    def test_huge_without_a_limit(self, encoded: str) -> None:
        """The header alone is no failure, and nothing of that size is set aside."""
        parser = Parser(0, 10)
        assert parser.receive(bytes.fromhex(f"82 ff {encoded} {K}")) == []
        length = int(encoded, 16)
        assert parser.receive(b"ab") == [(BINARY, b"ab", True, False, length - 2)]
        assert parser.receive(b"c") == [(BINARY, b"c", False, False, length - 3)]
        assert parser.failure is None

    def test_header_never_completed(self) -> None:
        whole = bytes.fromhex(f"82 ff 0000000000010000 {K}")
        for size in range(len(whole) + 1):
            assert feed_all(whole[:size]) == Heard([])

    def test_nothing(self) -> None:
        assert feed([b"", b""]) == Heard([])


class TestSection5_3:
    """5.3, masking."""

    def test_the_example_of_the_rfc(self) -> None:
        """5.7: "A single-frame masked text message"."""
        assert heard("81 85 37 fa 21 3d 7f 9f 4d 51 58") == Heard([(TEXT, b"Hello")])

    @pytest.mark.parametrize("length", range(1, 10))
    def test_every_alignment(self, length: int) -> None:
        key, payload = b"\x01\x20\x40\x80", b"123456789"[:length]
        masked = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
        assert feed_all(bytes([0x82, 0x80 | length]) + key + masked) == Heard([(BINARY, payload)])

    def test_each_frame_has_its_own_key(self) -> None:
        """The key of a frame starts anew with its payload, wherever the one before ended."""
        stream = "02 83 01010101 010203 80 82 ff00ff00 fbfb 82 81 10101010 10"
        assert heard(stream) == Heard([(BINARY, b"\0\3\2\4\xfb"), (BINARY, b"\0")])

    def test_the_key_is_not_confused_by_a_control_frame(self) -> None:
        assert heard("02 81 11000000 11 89 81 22000000 22 80 81 33000000 33") == Heard(
            [(PING, b"\0"), (BINARY, b"\0\0")]
        )


class TestSection5_4:
    """5.4, fragmentation."""

    def test_the_example_of_the_rfc(self) -> None:
        """5.7: "A fragmented text message", masked."""
        assert heard(f"01 83 {K} 48656c 80 82 {K} 6c6f") == Heard([(TEXT, b"Hello")])

    def test_control_frames_between_fragments(self) -> None:
        """ "Control frames MAY be injected in the middle of a fragmented message." """
        stream = f"02 81 {K} 61  89 81 {K} 31  00 81 {K} 62  8a 81 {K} 32  89 80 {K}  80 81 {K} 63"
        assert heard(stream) == Heard([(PING, b"1"), (PONG, b"2"), (PING, b""), (BINARY, b"abc")])

    @pytest.mark.parametrize("pieces", [("e2", "82ac"), ("e282", "ac"), ("f0", "9d", "84", "9e"), ("c3", "b6")])
    def test_a_character_cut_by_control_frames(self, pieces: tuple[str, ...]) -> None:
        """Neither a fragment's end nor a Ping with bytes that are no UTF-8 touches the state of the text."""
        stream = ""
        for index, piece in enumerate(pieces):
            opcode = (0x80 if index == len(pieces) - 1 else 0) | (0 if index else TEXT)
            stream += f"{opcode:02x} {0x80 | len(piece) // 2:02x} {K} {piece}"
            if index < len(pieces) - 1:
                stream += f"89 82 {K} ff80"
        pings = [(PING, b"\xff\x80")] * (len(pieces) - 1)
        assert heard(stream) == Heard([*pings, (TEXT, bytes.fromhex("".join(pieces)))])

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_empty_fragments(self, opcode: int) -> None:
        empty = f"00 80 {K}"
        assert heard(f"0{opcode} 80 {K} {empty} {empty} 80 80 {K}") == Heard([(opcode, b"")])
        assert heard(f"0{opcode} 80 {K} {empty} 80 81 {K} 61") == Heard([(opcode, b"a")])
        assert heard(f"0{opcode} 81 {K} 61 {empty} 80 80 {K}") == Heard([(opcode, b"a")])

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_empty_messages(self, opcode: int) -> None:
        assert heard(f"8{opcode} 80 {K} 8{opcode} 80 {K}") == Heard([(opcode, b""), (opcode, b"")])

    @pytest.mark.parametrize("first", ["00", "80"])
    def test_continuation_of_nothing(self, first: str) -> None:
        assert heard(f"{first} 81 {K} 61") == Heard([], 1002)
        assert heard(f"81 81 {K} 61 {first} 81 {K} 62") == Heard([(TEXT, b"a")], 1002)
        assert heard(f"01 80 {K} 80 80 {K} {first} 80 {K}") == Heard([(TEXT, b"")], 1002)

    @pytest.mark.parametrize("second", ["01", "81", "02", "82"])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_message_inside_a_message(self, opcode: int, second: str) -> None:
        """ "The fragments of one message MUST NOT be interleaved between the fragments of another message" """
        assert heard(f"0{opcode} 81 {K} 61 {second} 81 {K} 62") == Heard([], 1002, partial=(opcode, b"a"))

    def test_fields_of_the_pieces(self) -> None:
        """Each piece tells where in its message and its frame it is; an empty fragment is not the first piece."""
        parser = Parser(0, 10)
        assert parser.receive(bytes.fromhex(f"01 80 {K}")) == []
        assert parser.is_mid_message
        assert parser.receive(bytes.fromhex(f"00 83 {K} 61")) == [(TEXT, b"a", True, False, 2)]
        assert parser.receive(b"bc") == [(TEXT, b"bc", False, False, 0)]
        assert parser.receive(bytes.fromhex(f"80 82 {K} 64")) == [(TEXT, b"d", False, False, 1)]
        assert parser.is_mid_message
        assert parser.receive(b"e") == [(TEXT, b"e", False, True, 0)]
        assert parser.receive(bytes.fromhex(f"82 81 {K} 66")) == [(BINARY, b"f", True, True, 0)]

    @pytest.mark.parametrize(
        ("stream", "is_mid"),
        [
            ("", False),
            ("0180", False),
            (f"0180 {K}", True),
            (f"0180 {K} 8980 {K}", True),
            (f"0180 {K} 8080 {K}", False),
        ],
    )
    def test_is_mid_message(self, stream: str, is_mid: bool) -> None:
        parser = Parser(0, 10)
        parser.receive(bytes.fromhex(stream))
        assert parser.is_mid_message is is_mid

    def test_a_whole_message_is_one_piece(self) -> None:
        parser = Parser(0, 10)
        stream = bytes.fromhex(f"81 82 {K} 6161 02 81 {K} 62 80 81 {K} 63")
        expected = [(TEXT, b"aa", True, True, 0), (BINARY, b"b", True, False, 0), (BINARY, b"c", False, True, 0)]
        assert parser.receive(stream) == expected


class TestSection5_5:
    """5.5, control frames: "payload length of 125 bytes or less", "MUST NOT be fragmented"."""

    @pytest.mark.parametrize("opcode", [8, 9, 0xA])
    def test_fragmented(self, opcode: int) -> None:
        assert heard(f"0{opcode:x} 80 {K}") == Heard([], 1002)

    @pytest.mark.parametrize("opcode", [8, 9, 0xA])
    @pytest.mark.parametrize("encoded", ["fe", "fe 007e", "ff", "ff 0000000000000001"])
    def test_too_long(self, opcode: int, encoded: str) -> None:
        assert heard(f"8{opcode:x} {encoded}") == Heard([], 1002)

    @pytest.mark.parametrize("opcode", [PING, PONG])
    @pytest.mark.parametrize("length", [0, 1, 124, 125])
    def test_payload(self, opcode: int, length: int) -> None:
        payload = bytes(range(130, 130 + length))
        assert feed_all(bytes([0x80 | opcode, 0x80 | length, 0, 0, 0, 0]) + payload) == Heard([(opcode, payload)])

    def test_no_limit_of_messages_counts_them(self) -> None:
        """A control frame is neither a fragment nor part of a message's size."""
        ping = f"89 84 {K} 31323334"
        assert heard(f"02 82 {K} 6161 {ping * 5} 80 82 {K} 6262", 4, 2).messages[-1] == (BINARY, b"aabb")

    def test_control_frame_handed_out_whole(self) -> None:
        parser = Parser(0, 10)
        assert parser.receive(bytes.fromhex(f"89 83 {K} 31")) == []
        assert parser.receive(b"2") == []
        assert parser.receive(b"3") == [(PING, b"123", True, True, 0)]


class TestSection5_5_1:
    """5.5.1, Close."""

    def test_without_a_body(self) -> None:
        assert heard(f"88 80 {K}") == Heard([], close=(1005, ""))

    @pytest.mark.parametrize("byte", ["00", "03", "ff"])
    def test_one_byte(self, byte: str) -> None:
        """ "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer" """
        assert heard(f"88 81 {K} {byte}") == Heard([], 1002)

    def test_code_alone(self) -> None:
        assert heard(f"88 82 {K} 03e8") == Heard([], close=(1000, ""))

    def test_code_and_reason(self) -> None:
        assert heard(f"88 85 {K} 0fa0 e282ac") == Heard([], close=(4000, "\u20ac"))

    def test_longest_reason(self) -> None:
        assert heard(f"88 fd {K} 03e9 {'61' * 123}") == Heard([], close=(1001, "a" * 123))

    @pytest.mark.parametrize("reason", ["ff", "c3", "eda080", "61e282", "f4908080", "c080"])
    def test_reason_that_is_no_text(self, reason: str) -> None:
        assert heard(f"88 {0x82 + len(reason) // 2:02x} {K} 03e8 {reason}") == Heard([], 1007)

    @pytest.mark.parametrize("behind", ["81 80 00000000", "88 82 00000000 03e9", "ff", "81 05", "deadbeef" * 9])
    def test_what_follows_is_discarded(self, behind: str) -> None:
        """1.4: "After receiving a control frame indicating the connection should be closed, a peer discards any
        further data received." """
        assert heard(f"81 81 {K} 61 88 82 {K} 03e8 {behind}") == Heard([(TEXT, b"a")], close=(1000, ""))

    def test_inside_a_message(self) -> None:
        """A message need not be finished to close."""
        assert heard(f"01 81 {K} 61 88 80 {K}") == Heard([], close=(1005, ""), partial=(TEXT, b"a"))


class TestSection7_4:
    """7.4, the codes that may stand in a Close frame."""

    @pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
    def test_allowed(self, code: int) -> None:
        assert heard(f"88 82 {K} {code:04x}") == Heard([], close=(code, ""))

    @pytest.mark.parametrize(
        "code", [0, 1, 125, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 32768, 65535]
    )
    def test_refused(self, code: int) -> None:
        assert heard(f"88 82 {K} {code:04x}") == Heard([], 1002)


class TestSection7_1_7:
    """7.1.7, _Fail the WebSocket Connection_: what came before counts, what comes after does not."""

    def test_complete_messages_come_out(self) -> None:
        stream = f"81 81 {K} 61 89 80 {K} 02 81 {K} 62 80 80 {K} 83 80 {K} 81 81 {K} 63"
        assert heard(stream) == Heard([(TEXT, b"a"), (PING, b""), (BINARY, b"b")], 1002)

    def test_nothing_is_read_after_a_failure(self) -> None:
        parser = Parser(0, 10)
        parser.receive(bytes.fromhex("83 80"))
        failure = parser.failure
        assert parser.receive(bytes.fromhex(f"81 81 {K} 61 88 80 {K}")) == []
        assert parser.failure is failure
        assert parser.close is None


class TestSection10_4:
    """10.4: "implementations MAY impose limits on frame sizes and message sizes after reassembly" """

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_at_the_limit(self, opcode: int) -> None:
        assert heard(f"8{opcode} 84 {K} 61626364", 4) == Heard([(opcode, b"abcd")])
        assert heard(f"0{opcode} 82 {K} 6162 80 82 {K} 6364", 4) == Heard([(opcode, b"abcd")])

    @pytest.mark.parametrize("header", ["82 85", "82 fe 007e", "82 ff 0000000000010000", "82 ff 7fffffffffffffff"])
    def test_refused_from_the_header(self, header: str) -> None:
        """Not even the masking key is awaited, far less a payload."""
        assert heard(header, 4) == Heard([], 1009)

    def test_over_fragments(self) -> None:
        assert heard(f"02 82 {K} 6162 00 82 {K} 6364 80 81", 4) == Heard([], 1009, partial=(BINARY, b"abcd"))
        assert heard(f"02 84 {K} 61626364 80 80 {K}", 4) == Heard([(BINARY, b"abcd")])

    def test_every_message_has_the_whole_limit(self) -> None:
        assert heard(f"82 84 {K} 61626364" * 3, 4).messages == [(BINARY, b"abcd")] * 3
        assert heard(f"02 84 {K} 61626364 80 80 {K}" * 3, 4).messages == [(BINARY, b"abcd")] * 3

    def test_fragments(self) -> None:
        three = f"02 81 {K} 61 00 81 {K} 62 80 81 {K} 63"
        assert heard(three, 0, 3) == Heard([(BINARY, b"abc")])
        assert heard(three, 0, 2) == Heard([], 1008, partial=(BINARY, b"ab"))
        assert heard(three * 4, 0, 3).messages == [(BINARY, b"abc")] * 4

    def test_empty_fragments_count(self) -> None:
        assert heard(f"02 80 {K} {f'00 80 {K}' * 9}", 0, 10) == Heard([])
        assert heard(f"02 80 {K} {f'00 80 {K}' * 10}", 0, 10).failure == 1008


class TestAwaited:
    """What a reader may take past the parser; `feed_all` has each stream come that way as well."""

    def test_only_payload_of_a_data_frame_that_is_handed_out_as_it_is(self) -> None:
        parser = Parser(0, 9)
        assert parser.awaited == 0
        parser.receive(bytes.fromhex(f"02 84 {K} 01"))
        assert (parser.awaited, parser.mask_of_awaited) == (3, (bytes(4), 1))
        parser.receive(bytes.fromhex("02 03 04"))
        assert parser.awaited == 0, "a header is next"
        parser.receive(bytes.fromhex(f"89 82 {K} 01"))
        assert parser.awaited == 0, "the rest of a Ping, in the midst of a message"
        parser.receive(bytes.fromhex(f"02 80 82 {K} 01"))
        assert parser.awaited == 1
        parser.skip()
        assert parser.awaited == 0, "nobody wants it"

    def test_it_is_plain_again_behind_the_end_of_a_message(self) -> None:
        parser = Parser(0, 9)
        parser.receive(bytes.fromhex(f"82 84 {K} 01"))
        assert not parser.is_plain
        assert parser.receive_awaited(b"\2\3") == [(BINARY, b"\2\3", False, False, 1)]
        assert not parser.is_plain
        assert parser.receive_awaited(b"\4") == [(BINARY, b"\4", False, True, 0)]
        assert parser.is_plain

    def test_text_is_looked_at_on_this_way_too(self) -> None:
        parser = Parser(0, 9)
        parser.receive(bytes.fromhex(f"81 84 {K} 41"))
        assert parser.receive_awaited(b"\xff") == []
        assert parser.failure is not None
        assert parser.failure.code == 1007
        assert not parser.is_plain
        assert parser.awaited == 0
