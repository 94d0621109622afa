"""RFC 6455 over a real socket: bytes in, echoed messages and a Close out, however the bytes are cut on their way.

Every row is sent whole, byte by byte and at several splits (each part awaited by the server before the next is sent),
to a plugin that answers whole messages and to one that answers piece by piece.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    TEXT,
    Client,
    apply_mask,
    close_frame,
    connect,
    frame,
    upgrade_request,
)
from tests.support.context import Running, running
from tests.support.echoes import EchoMessages, EchoPieces, Noting
from tests.support.timing import PATIENCE, wait_until
from wsd.config import Limits
from wsd.protocol import Protocol

MIB = 1 << 20
MAX_MESSAGE, MAX_FRAGMENTS = 70_000, 8
BYE = close_frame(4321, "bye")


class Echoes(NamedTuple):
    served: Running
    protocols: dict[str, Noting]


@pytest.fixture(scope="module")
def echoes() -> Iterator[Echoes]:
    protocols: list[Noting] = [EchoMessages(), EchoPieces()]
    limits = Limits(max_message_bytes=MAX_MESSAGE, max_fragments=MAX_FRAGMENTS)
    with running(protocols, limits=limits) as served:
        yield Echoes(served, {protocol.name: protocol for protocol in protocols})


class Answer(NamedTuple):
    """All that came back, until the end."""

    messages: list[tuple[int, bytes]]
    pongs: list[bytes]
    close: int


def read_all(client: Client) -> Answer:
    """Read to the end: data frames, joined to messages, then a Close, then nothing."""
    messages: list[tuple[int, bytes]] = []
    pongs: list[bytes] = []
    opcode, payload = 0, b""
    while (got := client.receive_frame()).opcode != CLOSE:
        assert got.rsv == 0, got
        if got.opcode == PONG:
            assert got.final, got
            pongs.append(got.payload)
            continue
        assert got.opcode == CONTINUATION if opcode else got.opcode in (TEXT, BINARY), got
        opcode, payload = opcode or got.opcode, payload + got.payload
        if got.final:
            messages.append((opcode, payload))
            opcode, payload = 0, b""
    assert client.receive_end() == b""
    return Answer(messages, pongs, got.close_code)


def ways(stream: bytes) -> Iterator[list[bytes]]:
    """Whole, then split in two and in three."""
    size = len(stream)
    yield [stream]
    for at in sorted({1, 2, 5, 6, 7, size // 2, size - 9, size - 1}):
        if 0 < at < size:
            yield [stream[:at], stream[at:]]
    yield [stream[: size // 3], stream[size // 3 : size * 2 // 3], stream[size * 2 // 3 :]]


def send_apart(served: Running, client: Client, parts: list[bytes]) -> None:
    """Send each part when the server has read the one before; what it does not want any more is not sent."""
    counters = served.context.counters
    for part in parts[:-1]:
        base = counters.bytes_received
        client.send(part)
        # A violation in this part ends the reading, but not before this part.
        wait_until(lambda: counters.bytes_received >= base + len(part), what="the server reads")  # noqa: B023
    with suppress(ConnectionError):
        client.send(parts[-1])


def fill(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


def echo(name: str, stream: bytes, *messages: tuple[int, bytes], pongs: tuple[bytes, ...] = ()) -> Any:
    """A row without a violation: it ends with the client's own Close, which is echoed."""
    return pytest.param(stream + BYE, Answer(list(messages), list(pongs), 4321), id=name)


def fails(name: str, code: int, stream: bytes, *messages: tuple[int, bytes], pongs: tuple[bytes, ...] = ()) -> Any:
    """A row that ends in a violation; what follows it is no longer looked at."""
    return pytest.param(stream, Answer(list(messages), list(pongs), code), id=name)


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


A = frame(TEXT, "a")
OPEN_TEXT = frame(TEXT, "a", final=False)

TABLE = [
    # 5.2
    *(echo(f"5.2 length {size}", frame(BINARY, fill(size)), (BINARY, fill(size))) for size in (0, 1, 125, 126, 300)),
    *(fails(f"5.2 RSV {rsv}", 1002, A + frame(TEXT, "b", rsv=rsv), (TEXT, b"a")) for rsv in (1, 2, 4, 7)),
    *(fails(f"5.2 opcode {op:X}", 1002, A + frame(op, "b"), (TEXT, b"a")) for op in (3, 4, 5, 6, 7, *range(11, 16))),
    fails("5.2 length 0 in 16 bits", 1002, raw("82 fe 0000 00000000")),
    fails("5.2 length 125 in 64 bits", 1002, raw("82 ff 000000000000007d 00000000")),
    fails("5.2 MSB set", 1002, raw("82 ff 8000000000000000 00000000")),
    # 5.1, 5.3
    fails("5.1 unmasked", 1002, A + frame(TEXT, "b", mask=None), (TEXT, b"a")),
    fails("5.1 unmasked Close", 1002, raw("88 02 03e8")),
    echo("5.3 the example", raw("81 85 37fa213d 7f9f4d5158"), (TEXT, b"Hello")),
    echo("5.3 key of zeros", raw("82 84 00000000 01020304"), (BINARY, raw("01020304"))),
    # 5.4
    echo("5.4 fragments", OPEN_TEXT + frame(0, "b", final=False) + frame(0, "c"), (TEXT, b"abc")),
    echo("5.4 empty fragments", frame(TEXT, final=False) + frame(0, final=False) + frame(0), (TEXT, b"")),
    echo(
        "5.4 Pings between fragments",
        frame(PING, "1") + OPEN_TEXT + frame(PING, "2") + frame(0, "b") + frame(PING, ""),
        (TEXT, b"ab"),
        pongs=(b"1", b"2", b""),
    ),
    fails("5.4 continuation of nothing", 1002, A + frame(0, "b"), (TEXT, b"a")),
    # 5.5
    fails("5.5 fragmented Ping", 1002, frame(PING, "x", final=False)),
    fails("5.5 long Ping", 1002, frame(PING, fill(126))),
    echo("5.5.2 longest Ping", frame(PING, fill(125)), pongs=(fill(125),)),
    echo("5.5.3 unasked Pong", frame(PONG, "x") + A, (TEXT, b"a")),
    # 5.5.1, 7.4
    fails("5.5.1 without a code", 1005, A + close_frame(None) + A, (TEXT, b"a")),
    *(fails(f"7.4 code {c}", c, close_frame(c)) for c in (1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999)),
    *(fails(f"7.4 code {c}", 1002, close_frame(c)) for c in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)),
    fails("5.5.1 one byte", 1002, frame(CLOSE, b"\x03")),
    fails("5.5.1 reason is no UTF-8", 1007, close_frame(1000, b"\xff")),
    fails("5.5.1 data after Close", 1000, A + close_frame(1000) + A + frame(3), (TEXT, b"a")),
    # 8.1
    echo("8.1 text", frame(TEXT, "\u20ac\U0001f600"), (TEXT, "\u20ac\U0001f600".encode())),
    echo("8.1 cut character", frame(TEXT, b"\xe2", final=False) + frame(0, b"\x82\xac"), (TEXT, b"\xe2\x82\xac")),
    fails("8.1 bad text", 1007, A + frame(TEXT, b"\xce\xba\xed\xa0\x80"), (TEXT, b"a")),
    fails("8.1 cut short", 1007, A + frame(TEXT, b"\xe2\x82"), (TEXT, b"a")),
    # 10.4
    fails("10.4 too big, told by the header", 1009, A + raw("82 ff 7fffffffffffffff"), (TEXT, b"a")),
    fails("10.4 too big by one", 1009, A + raw("82 ff") + (MAX_MESSAGE + 1).to_bytes(8, "big"), (TEXT, b"a")),
]

# What was begun comes back as far as it came, where a plugin answers piece by piece.
UNFINISHED = [
    fails("5.4 message inside a message", 1002, OPEN_TEXT + frame(TEXT, "b")),
    fails("5.5 fragmented Close", 1002, OPEN_TEXT + frame(CLOSE, final=False)),
    fails("10.4 fragments", 1008, OPEN_TEXT + frame(0, final=False) * MAX_FRAGMENTS),
    fails("8.1 bad fragment", 1007, OPEN_TEXT + frame(0, b"\xff")),
    fails("5.5.1 Close inside a message", 1000, OPEN_TEXT + close_frame(1000)),
]


@pytest.mark.parametrize("name", ["messages", "pieces"])
@pytest.mark.parametrize(("stream", "expected"), [*TABLE, *UNFINISHED])
def test_table(echoes: Echoes, name: str, stream: bytes, expected: Answer) -> None:
    for parts in ways(stream):
        with connect(echoes.served.port, name) as client:
            send_apart(echoes.served, client, parts)
            assert read_all(client) == expected, [part.hex(" ") for part in parts]
        end = echoes.protocols[name].end()
        assert end[0] in (expected.close, 1006)


@pytest.mark.parametrize("name", ["messages", "pieces"])
@pytest.mark.parametrize(("stream", "expected"), [*TABLE, *UNFINISHED])
def test_table_byte_by_byte(echoes: Echoes, name: str, stream: bytes, expected: Answer) -> None:
    with connect(echoes.served.port, name) as client:
        with suppress(ConnectionError):  # it may be closed before the last byte
            client.send_slowly(stream)
        assert read_all(client) == expected
    echoes.protocols[name].end()


@pytest.mark.parametrize("name", ["messages", "pieces"])
@pytest.mark.parametrize(("stream", "expected"), [*TABLE, *UNFINISHED])
def test_table_in_the_segment_of_the_head(echoes: Echoes, name: str, stream: bytes, expected: Answer) -> None:
    """4.1: a client may speak as soon as it has the answer; one that does not wait for it is served, too."""
    with Client(echoes.served.port) as client:
        client.send(upgrade_request(protocols=name), stream)
        assert client.receive_response().status == 101
        assert read_all(client) == expected
    echoes.protocols[name].end()


@pytest.mark.parametrize("name", ["messages", "pieces"])
@pytest.mark.parametrize("size", [65535, 65536, 65537, MAX_MESSAGE])
def test_long_lengths(echoes: Echoes, name: str, size: int) -> None:
    """5.2, where the length takes 16 and 64 bits and the payload more than one read."""
    stream = frame(BINARY, fill(size)) + BYE
    for parts in ([stream], [stream[:3], stream[3:]], [stream[:9], stream[9:]], [stream[:60000], stream[60000:]]):
        with connect(echoes.served.port, name) as client:
            send_apart(echoes.served, client, parts)
            assert read_all(client) == Answer([(BINARY, fill(size))], [], 4321)
        assert echoes.protocols[name].end() == (4321, "bye")


@pytest.mark.parametrize("name", ["messages", "pieces"])
@pytest.mark.parametrize("ending", [frame(3), close_frame(1001)], ids=["violation", "Close"])
def test_what_was_complete_is_answered_first(echoes: Echoes, name: str, ending: bytes) -> None:
    """A thousand messages and the end in one segment: every answer leaves, in order, before the Close."""
    texts = [str(number).encode() for number in range(1000)]
    with connect(echoes.served.port, name) as client:
        client.send(*(frame(TEXT, text) for text in texts), ending)
        answer = read_all(client)
    assert answer.messages == [(TEXT, text) for text in texts]
    assert answer.close == (1002 if ending == frame(3) else 1001)
    assert echoes.protocols[name].end()[0] == (1006 if ending == frame(3) else 1001)


class Swallow(Protocol):
    """Counts what it gets, and how much memory the process had at most while it came."""

    name = "swallow"

    def __init__(self) -> None:
        self.received = 0
        self.pieces = 0
        self.highest = 0
        self.done = threading.Event()

    def on_receive(self, wsi: Any, data: bytes) -> None:
        self.received += len(data)
        self.pieces += 1
        if not self.pieces % 64:
            self.highest = max(self.highest, resident())
        assert not wsi.is_final_fragment or wsi.remaining_packet_payload == 0
        if wsi.is_final_fragment:
            self.done.set()


def resident() -> int:
    """This process's resident memory, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("size", [64 * MIB, 1024 * MIB], ids=["64 MiB", "1 GiB"])
def test_a_huge_message_is_not_kept(size: int) -> None:
    """One frame, without a limit on messages: pieces pass through, and memory does not grow."""
    block = apply_mask(fill(MIB), MASK)  # its length is a multiple of four, so the key starts anew with each
    protocol = Swallow()
    with running([protocol], limits=Limits(max_message_bytes=0)) as served, connect(served.port) as client:
        client.send(frame(BINARY, "warm"))
        assert protocol.done.wait(PATIENCE)
        protocol.done.clear()
        before = resident()
        client.socket.settimeout(PATIENCE)
        client.send(bytes([0x82, 0xFF]), size.to_bytes(8, "big"), MASK)
        for _ in range(size // MIB):
            client.socket.sendall(block)
        assert protocol.done.wait(PATIENCE)
        assert protocol.received == size + 4
        client.finish()
    assert protocol.highest - before < 8 * MIB
