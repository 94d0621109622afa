"""The other end of `fraggle-protocol`: sends messages in random fragments with a checksum behind each, and checks those
that come.

On purpose it shares no code with wsd, so that a mistake in one is seen by the other.
"""

from __future__ import annotations

import itertools
import random
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.client import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, Client, Frame, frame
from tests.support.deflating import OFFER, RSV1, TAIL
from tests.support.server import Connection, Server

NAME = "fraggle-protocol"
MAX_FRAGMENTS = 1024
MAX_FRAGMENT_BYTES = 8000

# zlib has no smaller window that works, so it is within what any peer may agree to but 8.
_WINDOW_BITS = 9


def checksum(data: bytes) -> bytes:
    return (sum(data) & 0xFFFFFFFF).to_bytes(4, "big")


class Ear:
    """Takes frames, and asserts that they are what fraggle sends.

    Attributes:
        messages: How long each was, in bytes, whose checksum was right.
        fragments: In how many they came, together.
        packed: How many messages came compressed.
    """

    def __init__(self, *, may_be_packed: bool) -> None:
        self.messages: list[int] = []
        self.fragments = 0
        self.packed = 0
        self._inflate = zlib.decompressobj(-15) if may_be_packed else None
        self._is_sum_due = False
        self._is_packed = False
        self._parts: list[bytes] = []

    def take(self, got: Frame) -> None:
        """One data frame."""
        assert got.opcode == (CONTINUATION if self._parts else BINARY), got
        if not self._parts:
            self._is_packed = got.rsv == RSV1
            self.packed += self._is_packed
        assert not got.rsv or (not self._parts and self._is_packed and self._inflate is not None), got.rsv
        self._parts.append(self._inflated(got) if self._is_packed else got.payload)
        if got.final:
            self._end(self._parts)
            self._parts = []

    def _inflated(self, got: Frame) -> bytes:
        assert self._inflate is not None
        return self._inflate.decompress(got.payload + (TAIL if got.final else b""))

    def _end(self, parts: list[bytes]) -> None:
        if not self._is_sum_due:
            assert len(parts) <= MAX_FRAGMENTS, len(parts)
            assert all(1 <= len(part) <= MAX_FRAGMENT_BYTES for part in parts), sorted(map(len, parts))
            self._heard = b"".join(parts)
            self.fragments += len(parts)
        else:
            assert b"".join(parts) == checksum(self._heard), f"{len(self._heard)} bytes after {self.messages}"
            self.messages.append(len(self._heard))
        self._is_sum_due = not self._is_sum_due


class Fraggler:
    """One end of a connection.

    Args:
        connection: A `Client`, or a `Connection` for the server's end; its handshake is done.
        is_packed: Whether permessage-deflate was agreed on, in which case every message goes out compressed.
        seed: Of what is sent.

    Attributes:
        ear: What came.
        pings: How many Pings came; each was answered.
        sizes: How long each message was that was sent.
        close: The Close frame that came.
    """

    def __init__(self, connection: Client, *, is_packed: bool, seed: int = 1) -> None:
        self.connection = connection
        self.ear = Ear(may_be_packed=is_packed)
        self.pings = 0
        self.sizes: list[int] = []
        self.close: Frame | None = None
        self._is_closed = False  # our own Close was sent
        self._mask = None if isinstance(connection, Connection) else MASK
        self._deflate = zlib.compressobj(wbits=-_WINDOW_BITS) if is_packed else None
        self._random = random.Random(seed)
        self._pings_sent = itertools.count()
        self._pongs_due: list[bytes] = []
        self._lock = threading.Lock()  # a Pong may leave while another thread sends a message: between two frames

    # -- out --------------------------------------------------------------------------------------------------------

    def send_messages(self, count: int) -> None:
        """Send so many, with Pings between their fragments, and leave nothing unsent; the peer may close meanwhile."""
        for _ in range(count):
            sizes = [self._random.randint(1, MAX_FRAGMENT_BYTES) for _ in range(self._random.randint(1, MAX_FRAGMENTS))]
            # Noise, and what compresses well.
            parts = [self._random.choice([self._random.randbytes(size), b"\xfe" * size]) for size in sizes]
            self.send_message(parts)

    def send_message(self, parts: list[bytes], told: bytes | None = None) -> None:
        """One message in these fragments, and its checksum, or `told` in place of that."""
        self.sizes.append(sum(map(len, parts)))
        for at, part in enumerate(parts):
            self._send(BINARY if not at else CONTINUATION, part, final=at == len(parts) - 1)
            if self._random.randrange(50) == 0:
                self.send_ping()
        self._send(BINARY, checksum(b"".join(parts)) if told is None else told, final=True)

    def send_ping(self) -> None:
        payload = b"ping %d" % next(self._pings_sent)
        self._pongs_due.append(payload)
        with self._lock:
            self.connection.send(frame(PING, payload, mask=self._mask))

    def _send(self, opcode: int, payload: bytes, *, final: bool) -> None:
        rsv = 0
        if self._deflate is not None:
            rsv = RSV1 if opcode else 0
            payload = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            payload = payload.removesuffix(TAIL) if final else payload
        with self._lock:
            self.connection.send(frame(opcode, payload, final=final, rsv=rsv, mask=self._mask))

    # -- in ---------------------------------------------------------------------------------------------------------

    def receive_messages(self, count: int) -> list[int]:
        """Read until so many have come in all, answering Pings; gives all of them."""
        while len(self.ear.messages) < count:
            assert self._receive(), f"closed after {len(self.ear.messages)} messages: {self.close}"
        return self.ear.messages

    def receive_close(self) -> Frame:
        """Read to the Close frame, answer it, and end the stream, so that nobody has to wait for us."""
        while self._receive():
            pass
        assert self.close is not None
        self._send_close()
        return self.close

    def _receive(self) -> bool:
        """One frame; reports whether it was none that closes."""
        got = self.connection.receive_frame()
        if got.opcode < CLOSE:
            self.ear.take(got)
        elif got.opcode == PING:
            self.pings += 1
            with self._lock:
                self.connection.send(frame(PONG, got.payload, mask=self._mask))
        elif got.opcode == PONG:
            # "an endpoint MAY elect to send a Pong frame for only the most recently processed Ping frame" (5.5.3).
            del self._pongs_due[: self._pongs_due.index(got.payload) + 1]
        else:
            self.close = got
        return got.opcode != CLOSE

    def receive_last_pong(self) -> None:
        """Read until the Ping that was sent last is answered."""
        while self._pongs_due:
            assert self._receive(), f"closed, and not answered: {self._pongs_due}"

    # -- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> Frame:
        """Close with 1000, and give the peer's Close frame."""
        self._send_close()
        return self.receive_close()

    def _send_close(self) -> None:
        """Send a Close, once; the second time, which is when the peer's has come, there is only the stream to end."""
        with self._lock:
            if not self._is_closed:
                self.connection.send(frame(CLOSE, b"\x03\xe8", mask=self._mask))
                self._is_closed = True
        if self.close is not None:
            self.connection.shut_down_writing()


@contextmanager
def fraggling_client(port: int, *, is_packed: bool = False, seed: int = 1) -> Iterator[Fraggler]:
    """A client of wsd, plain or with permessage-deflate."""
    with Client(port) as client:
        headers = [("Sec-WebSocket-Extensions", OFFER)] if is_packed else []
        answer = client.upgrade("/", NAME, headers=headers).header("Sec-WebSocket-Extensions")
        assert (answer is not None) is is_packed, answer
        yield Fraggler(client, is_packed=is_packed, seed=seed)


def accept_fraggler(server: Server, *, is_packed: bool = False, seed: int = 1) -> Fraggler:
    """The server's end of the next connection, plain or with permessage-deflate."""
    headers = ["Sec-WebSocket-Extensions: permessage-deflate"] if is_packed else []
    connection = server.accept_websocket(f"Sec-WebSocket-Protocol: {NAME}", *headers)
    return Fraggler(connection, is_packed=is_packed, seed=seed)
