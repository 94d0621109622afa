"""RFC 6455 as a client receives it: the same frames as a server gets, without masks.

Every stream is fed whole, byte by byte and at every split.
"""

from __future__ import annotations

import pytest

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, apply_mask
from tests.support.client import frame as any_frame
from tests.support.compressed import deflated
from tests.support.deflating import RSV1
from tests.support.feeding import Heard, feed_all
from wsd.wire.deflate import Inflater
from wsd.wire.parser import Parser


def new_parser(max_message_bytes: int, max_fragments: int) -> Parser:
    return Parser(max_message_bytes, max_fragments, is_client=True, inflater=Inflater(15, True))


def frame(opcode: int, payload: bytes | str = b"", *, final: bool = True, rsv: int = 0) -> bytes:
    return any_frame(opcode, payload, final=final, rsv=rsv, mask=None)


def heard(stream: bytes, max_message_bytes: int = 0) -> Heard:
    return feed_all(stream, max_message_bytes, new_parser=new_parser)


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
@pytest.mark.parametrize("size", [0, 2, 125])
def test_masked(opcode: int, size: int) -> None:
    """5.1: "A client MUST close a connection if it detects a masked frame." """
    masked = any_frame(opcode, b"\x03\xe8" + b"a" * (size - 2) if size else b"")
    assert heard(frame(TEXT, "good") + masked) == Heard([(TEXT, b"good")], 1002)


def test_masked_inside_a_message() -> None:
    start = frame(TEXT, "good", final=False)
    assert heard(start + any_frame(CONTINUATION, "bad")) == Heard([], 1002, partial=(TEXT, b"good"))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537])
def test_every_length_form(opcode: int, size: int) -> None:
    payload = (b"0123456789" * (size // 10 + 1))[:size]
    assert heard(frame(opcode, payload) + frame(PING, "!")) == Heard([(opcode, payload), (PING, b"!")])


def test_nothing_is_taken_for_a_key() -> None:
    """The four bytes behind the length belong to the payload."""
    payload = apply_mask(b"payload", b"\x01\x02\x03\x04")
    assert heard(frame(BINARY, payload)) == Heard([(BINARY, payload)])
    assert heard(frame(BINARY, b"abc") * 3) == Heard([(BINARY, b"abc")] * 3)


def test_fragments_with_control_frames_between_them() -> None:
    stream = frame(TEXT, b"\xe2\x82", final=False) + frame(PING, b"\xff") + frame(CONTINUATION, b"\xac")
    assert heard(stream + frame(CLOSE, b"\x03\xe8bye")) == Heard(
        [(PING, b"\xff"), (TEXT, "\u20ac".encode())], close=(1000, "bye")
    )


def test_compressed() -> None:
    stream = frame(TEXT, deflated("Hello")[:3], rsv=RSV1, final=False) + frame(PING)
    stream += frame(CONTINUATION, deflated("Hello")[3:]) + frame(TEXT, "plain")
    assert heard(stream) == Heard([(PING, b""), (TEXT, b"Hello"), (TEXT, b"plain")])


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frame(3), 1002),
        (frame(PING, final=False), 1002),
        (bytes.fromhex("897e007e"), 1002),
        (bytes.fromhex("827e007d"), 1002),
        (bytes.fromhex("827f8000000000000000"), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(BINARY, b"abcde")[:2], 1009),
    ],
)
def test_the_same_checks(stream: bytes, code: int) -> None:
    assert heard(stream, 4) == Heard([], code)
