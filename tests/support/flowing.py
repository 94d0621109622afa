"""One long message that flows: who sends it fragment by fragment, and who takes it without keeping it.

On purpose it shares no code with wsd, so that a mistake in one is seen by the other.
"""

from __future__ import annotations

import random
import select
import struct
import threading
import time
import zlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, Client, Frame, frame
from tests.support.timing import MS, PATIENCE

# A sender that can put nothing for so long has been stopped: somebody who reads would have made room.
_STOPPED_SECONDS = 250 * MS

_NOISE = random.Random(7).randbytes(1 << 20)
_MAX_FRAGMENT_BYTES = 128 << 10
_FRAGMENTS_PER_PING = 100


def _head(opcode: int, size: int, final: bool) -> bytes:
    """The header of a masked frame; its key is zero, so that a gigabyte need not be masked here."""
    first = (0x80 if final else 0) | opcode
    if size < 126:
        return struct.pack("!BB", first, 0x80 | size) + bytes(4)
    if size < 65536:
        return struct.pack("!BBH", first, 0xFE, size) + bytes(4)
    return struct.pack("!BBQ", first, 0xFF, size) + bytes(4)


class Source:
    """Sends one binary message in random fragments, in a thread of its own; a context manager that ends it.

    A Ping follows each hundredth fragment.

    Args:
        size: Of the message, in bytes.
        seed: Of how it is cut, and of what it says.

    Attributes:
        sent: How many bytes of it the kernel has taken, headers included.
        crc: Of what was sent of the message, once all was.
        fragments: How many there were.
        is_over: Whether all of it was sent.
        error: What ended it before its end.
    """

    def __init__(self, client: Client, size: int, seed: int = 1) -> None:
        self.client = client
        self.size = size
        self.sent = 0
        self.crc = 0
        self.fragments = 0
        self.is_over = False
        self.error: OSError | None = None
        self._is_stopped = threading.Event()
        self._is_unwanted = False
        self._random = random.Random(seed)
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_unwanted = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def wait(self) -> None:
        """Wait until all of it is sent."""
        self._thread.join(PATIENCE)
        assert self.is_over, f"{self.sent} bytes were sent of {self.size}: {self.error}"

    def wait_stopped(self) -> None:
        """Wait until the kernel takes nothing for a while, or has taken all."""
        self._is_stopped.clear()
        if self._thread.is_alive():
            assert self._is_stopped.wait(PATIENCE), f"nothing stopped it in {self.sent} bytes"
        assert self.error is None, self.error

    def _run(self) -> None:
        try:
            left = self.size
            while left:
                size = min(left, self._random.randint(1, _MAX_FRAGMENT_BYTES))
                left -= size
                self._put_fragment(size, final=not left)
            self.is_over = True
        except OSError as error:
            self.error = error
        self._is_stopped.set()

    def _put_fragment(self, size: int, *, final: bool) -> None:
        at = self._random.randrange(len(_NOISE) - size)
        payload = _NOISE[at : at + size]
        self.crc = zlib.crc32(payload, self.crc)
        data = _head(CONTINUATION if self.fragments else BINARY, size, final) + payload
        self.fragments += 1
        if not final and self.fragments % _FRAGMENTS_PER_PING == 0:
            data += frame(PING, b"%d" % self.fragments)
        view = memoryview(data)
        while view and not self._is_unwanted:
            if select.select([], [self.client.socket], [], _STOPPED_SECONDS)[1]:
                taken = self.client.socket.send(view[:65536])
                self.sent += taken
                view = view[taken:]
            else:
                self._is_stopped.set()
        if view:
            raise TimeoutError("nobody wants the rest")


class Sink:
    """Takes one message, and asserts that it comes in order.

    Args:
        inflate: What the payload of a compressed frame says, `inflate(data, ends=...)`; None: none may come.

    Attributes:
        received: How many bytes of it have come.
        crc: Of these.
        fragments: In how many frames.
        is_complete: Whether its last byte has come.
        others: The control frames that came besides.
    """

    def __init__(self, client: Client, inflate: Callable[..., bytes] | None = None) -> None:
        self.client = client
        self.received = 0
        self.crc = 0
        self.fragments = 0
        self.is_complete = False
        self.others: list[Frame] = []
        self._inflate = inflate
        self._is_packed = False

    def take(self) -> int | None:
        """One frame; how many bytes it brought, None for a Close."""
        got = self.client.receive_frame()
        if got.opcode >= CLOSE:
            self.others.append(got)
            if got.opcode == PING:
                self.client.send(frame(PONG, got.payload))
            return None if got.opcode == CLOSE else 0
        assert not self.is_complete, "another message"
        assert got.opcode == (CONTINUATION if self.fragments else BINARY), got
        if not self.fragments:
            self._is_packed = bool(got.rsv)
        payload = got.payload
        if self._is_packed:
            assert self._inflate is not None, "compressed, and nothing was agreed on"
            payload = self._inflate(payload, ends=got.final)
        self.fragments += 1
        self.received += len(payload)
        self.crc = zlib.crc32(payload, self.crc)
        self.is_complete = got.final
        return len(payload)

    def take_until(self, condition: Callable[[], object]) -> None:
        """Take frames until `condition()` is true."""
        while not condition():
            assert self.take() is not None, f"closed after {self.received} bytes: {self.others[-1]}"

    def take_close(self) -> Frame:
        """Take frames until the Close, and give that."""
        while self.take() is not None:
            pass
        return self.others[-1]


def wait_for_pongs(client: Client, source: Source) -> list[bytes]:
    """The Pongs that `source` got for its Pings, to the last; they must come in order."""
    wanted = [b"%d" % number for number in range(_FRAGMENTS_PER_PING, source.fragments, _FRAGMENTS_PER_PING)]
    pongs: list[bytes] = []
    until = time.monotonic() + PATIENCE
    while pongs[-1:] != wanted[-1:]:
        assert time.monotonic() < until
        got = client.receive_frame()
        assert got.opcode == PONG, got
        pongs.append(got.payload)
    assert pongs == [payload for payload in wanted if payload in set(pongs)]
    return pongs
