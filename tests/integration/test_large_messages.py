"""Frames that come in many reads: what is read past the parser, straight into the bytes that a plugin gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, Client, connect, frame
from tests.support.context import Running, running
from tests.support.timing import wait_until
from wsd.protocol import Protocol
from wsd.wsi import LARGE_BYTES, PAYLOAD_BYTES

KEY = b"\x80\x01\xff\x7f"
SIZE = 3 * PAYLOAD_BYTES + 12_345
DATA = bytes(at * 31 % 251 for at in range(SIZE))
LETTERS = "a\u00e4\u20ac\U0001f600" * (SIZE // 10)  # of one to four bytes each, so that reads cut them


class Collects(Protocol):
    """Keeps what comes, pauses where `pauses` is set, and answers a message with its length."""

    name = "collects"
    max_message_bytes = 0

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.facts: list[tuple[bool, bool, int]] = []
        self.closed: list[int] = []
        self.pauses = False
        self.has_paused = threading.Event()

    def on_receive(self, wsi: Any, data: bytes) -> None:
        self.pieces.append(data)
        self.facts.append((wsi.is_first_fragment, wsi.is_final_fragment, wsi.remaining_packet_payload))
        if wsi.is_final_fragment:
            wsi.send(str(sum(map(len, self.pieces))))
        if self.pauses:
            self.pauses = False
            wsi.rx_flow_control(False)
            self.wsi = wsi
            self.has_paused.set()

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.closed.append(code)


@pytest.fixture
def protocol() -> Collects:
    return Collects()


@pytest.fixture
def served(protocol: Collects) -> Iterator[Running]:
    with running([protocol]) as found:
        yield found


@pytest.fixture
def client(served: Running) -> Iterator[Client]:
    with connect(served.port) as found:
        yield found


@pytest.mark.parametrize("key", [bytes(4), KEY], ids=["plain", "masked"])
def test_it_comes_in_large_pieces_and_nothing_is_changed(client: Client, protocol: Collects, key: bytes) -> None:
    client.send(frame(BINARY, DATA, mask=key))
    assert client.receive_message() == str(SIZE)
    assert b"".join(protocol.pieces) == DATA
    assert all(type(piece) is bytes for piece in protocol.pieces)
    left = SIZE
    for number, (piece, facts) in enumerate(zip(protocol.pieces, protocol.facts, strict=True)):
        left -= len(piece)
        assert facts == (number == 0, left == 0, left)
    assert max(map(len, protocol.pieces)) > LARGE_BYTES


def test_text_whose_characters_are_cut(client: Client, protocol: Collects) -> None:
    client.send(frame(TEXT, LETTERS, mask=KEY))
    assert client.receive_message() == str(len(LETTERS.encode()))
    assert b"".join(protocol.pieces).decode() == LETTERS


def test_text_that_is_none_fails_where_it_is_not(client: Client, protocol: Collects) -> None:
    data = bytearray(LETTERS.encode())
    data[-5:] = b"\xffabcd"
    client.send(frame(TEXT, bytes(data), mask=KEY))
    assert client.receive_close().close_code == 1007
    assert not any(is_final for _, is_final, _ in protocol.facts)


def test_frames_of_every_kind_behind_and_between(client: Client, protocol: Collects) -> None:
    """A read of payload takes nothing of what is behind it."""
    sizes = [LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 65536, PAYLOAD_BYTES, PAYLOAD_BYTES + 1, 3, SIZE]
    stream, whole = b"", b""
    for number, (size, text) in enumerate(zip(sizes, cycle("abc"), strict=False)):
        payload = text.encode() * size
        whole += payload
        opcode = BINARY if number == 0 else CONTINUATION
        stream += frame(opcode, payload, final=number == len(sizes) - 1, mask=KEY) + frame(PING, str(number), mask=KEY)
    client.send(stream)
    pongs = [client.receive_frame() for _ in range(len(sizes) - 1)]
    assert [(one.opcode, one.payload) for one in pongs] == [(PONG, str(number).encode()) for number in range(7)]
    assert {client.receive_frame().payload for _ in range(2)} == {b"7", str(len(whole)).encode()}
    assert b"".join(protocol.pieces) == whole


def test_a_pause_in_its_midst(served: Running, client: Client, protocol: Collects) -> None:
    protocol.pauses = True
    sender = threading.Thread(target=client.send, args=(frame(BINARY, DATA, mask=KEY),))
    sender.start()
    assert protocol.has_paused.wait(20)
    assert len(protocol.pieces) == 1
    served.call(lambda: protocol.wsi.rx_flow_control(True))
    sender.join()
    assert client.receive_message() == str(SIZE)
    assert b"".join(protocol.pieces) == DATA


@pytest.mark.parametrize("how", ["end", "reset"])
def test_one_that_goes_in_its_midst(client: Client, protocol: Collects, how: str) -> None:
    client.send(frame(BINARY, DATA, mask=KEY)[: SIZE // 2])
    wait_until(lambda: sum(map(len, protocol.pieces)) > SIZE // 4)
    client.reset() if how == "reset" else client.disconnect()
    wait_until(lambda: protocol.closed == [1006])
