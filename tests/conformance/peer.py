"""The other end of a connection that wsd is one end of: says what a case says, and takes nothing amiss from nobody.

It shares no code with wsd.  What wsd must never send (a reserved bit, a mask where there must be none, a long Ping, a
byte behind the Close, a reset) is an AssertionError here, whatever the case.
"""

from __future__ import annotations

import select
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.conformance.model import Await, Bytes, Chop, Fragments, Frame, HalfClose, Rest, Step, Torn, content
from tests.support.client import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT, apply_mask
from tests.support.timing import PATIENCE

_RSV1 = 4
_SYNC = b"\x00\x00\xff\xff"
"""What a compressed message is sent without (RFC 7692 7.2.1)."""


# -- bytes out --------------------------------------------------------------------------------------------------------


def header(frame: Frame, size: int, is_masked: bool) -> bytes:
    """The header of a frame of `size` payload bytes, with its masking key."""
    length = size if frame.announced is None else frame.announced
    width = frame.length_bytes
    if width is None:
        width = 0 if length < 126 else 2 if length < 65536 else 8
    first = 0x80 * frame.fin | frame.rsv << 4 | frame.opcode
    second = 0x80 * is_masked | (length if not width else 126 if width == 2 else 127)
    told = length.to_bytes(width, "big") if width else b""
    return bytes([first, second]) + told + (frame.key if is_masked else b"")


def encode(frame: Frame, is_client: bool) -> tuple[bytes, bytes]:
    """Header and payload of a frame as a client or a server sends it."""
    is_masked = is_client is not frame.is_mask_wrong
    payload = content(frame.payload)
    head = header(frame, len(payload), is_masked)
    return head, apply_mask(payload, frame.key) if is_masked else payload


def fragments(opcode: int, payload: bytes, size: int, is_client: bool, rsv: int = 0) -> Iterator[bytes]:
    """A message in frames of `size` bytes (0: in one); the opcode and RSV bits are the first one's."""
    size = size or max(len(payload), 1)
    head = b""
    for at in range(0, max(len(payload), 1), size):
        part = payload[at : at + size]
        is_last = at + size >= len(payload)
        # A 16 MiB message of 64-byte frames has a quarter of a million of them, all but two with the same header.
        if at < 2 * size or is_last:
            head = header(
                Frame(CONTINUATION if at else opcode, fin=is_last, rsv=0 if at else rsv), len(part), is_client
            )
        yield head
        yield apply_mask(part, MASK) if is_client else part


def cut(data: bytes, chop: Chop) -> list[bytes]:
    """`data` in segments, as `chop` says; offsets outside of it are left out."""
    size = len(data)
    if isinstance(chop, int):
        at: Iterable[int] = range(chop, size, chop)
    else:
        at = sorted({offset if offset >= 0 else size + offset for offset in chop})
    return [data[start:end] for start, end in pairwise([0, *(offset for offset in at if 0 < offset < size), size])]


# -- permessage-deflate -----------------------------------------------------------------------------------------------


class Codec:
    """Both halves of permessage-deflate at one end, strictly within what was agreed.

    Inflating allows no more than the agreed window, and where the other end keeps no context, none: so what wsd
    compresses against the agreement shows as an error.
    """

    def __init__(self, parameters: dict[str, str | None], is_client: bool) -> None:
        mine, theirs = ("client", "server") if is_client else ("server", "client")
        self.window = int(parameters.get(f"{mine}_max_window_bits") or 15)
        self.their_window = int(parameters.get(f"{theirs}_max_window_bits") or 15)
        self.keeps = f"{mine}_no_context_takeover" not in parameters
        self.they_keep = f"{theirs}_no_context_takeover" not in parameters
        self._level = -1
        self._deflater = zlib.compressobj()
        self._inflater = zlib.decompressobj(-self.their_window)

    def pack(self, payload: bytes, level: int) -> bytes:
        """One message, compressed."""
        if level != self._level or not self.keeps:
            # zlib makes no raw deflate of window 8; with 9 it looks back 250 bytes at most, which 8 allows.
            self._deflater = zlib.compressobj(level, zlib.DEFLATED, -max(self.window, 9))
            self._level = level
        data = self._deflater.compress(payload) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        assert data.endswith(_SYNC)
        return data[: -len(_SYNC)] or b"\0"

    def unpack(self, data: bytes) -> bytes:
        """One message, inflated."""
        if not self.they_keep:
            self._inflater = zlib.decompressobj(-self.their_window)
        parts, data = [], data + _SYNC
        # zlib lets a distance reach back as far as the window or the output at hand; small output makes it the window.
        at_once = 64 if self.their_window < 15 else 0
        while data:
            parts.append(self._inflater.decompress(data, at_once))
            data = self._inflater.unconsumed_tail
        assert not self._inflater.eof, "wsd ended its deflate stream"
        return b"".join(parts)


# -- a connection -----------------------------------------------------------------------------------------------------


class Heard(NamedTuple):
    """All that came."""

    messages: list[tuple[int, bytes]]
    pongs: list[bytes]
    pings: list[bytes]
    packed: list[bool]
    """Of each message, whether it came compressed."""
    keys: list[bytes]
    """Of each frame, its masking key."""


class Peer:
    """One end of an open connection; the handshake is done by whoever makes it.

    Args:
        sock: The connection.
        is_client: Whether this end is the client.
        settle: Waits until wsd has read all that was sent.
        received: What came behind the handshake already.
    """

    def __init__(self, sock: socket.socket, is_client: bool, settle: Callable[[], None], received: bytes = b"") -> None:
        self.socket = sock
        self.is_client = is_client
        self.settle = settle
        self.codec: Codec | None = None
        self.heard = Heard([], [], [], [], [])
        self.close: tuple[int, str] | None = None
        self.has_ended = False
        self._buffer = bytearray(received)
        self._message: list[bytes] = []  # the fragments so far
        self._opcode = 0  # of the message they belong to
        self._is_packed = False
        self._can_send = True
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # -- out --------------------------------------------------------------------------------------------------------

    def play(self, steps: Iterable[Step], chop: Chop) -> None:
        """Send, and wait where the steps say so."""
        waiting: list[Bytes] = []
        for step in steps:
            if isinstance(step, Await | HalfClose):
                self.send(self.encode(waiting), chop)
                waiting.clear()
                if isinstance(step, Await):
                    self._await(step)
                else:
                    self.half_close()
            else:
                waiting.append(step)
        self.send(self.encode(waiting), chop)

    def encode(self, steps: Iterable[Bytes]) -> bytes:
        """What is sent, as bytes."""
        return b"".join(part for step in steps for part in self._encode(step))

    def _encode(self, step: Bytes) -> Iterable[bytes]:
        if isinstance(step, Frame):
            return encode(step, self.is_client)
        if isinstance(step, Torn | Rest):
            head, payload = encode(step.frame, self.is_client)
            at = step.size + len(head) * step.of_payload
            return [(head + payload)[:at] if isinstance(step, Torn) else (head + payload)[at:]]
        if isinstance(step, Fragments):
            return fragments(step.opcode, content(step.payload), step.size, self.is_client)
        assert self.codec is not None, "compressed, and nothing was agreed"
        data = self.codec.pack(content(step.payload), step.level)
        return fragments(step.opcode, data, step.size, self.is_client, _RSV1)

    def send(self, data: bytes, chop: Chop) -> None:
        """Send, reading all the while: who waits with reading until it has sent all may wait for ever.

        Even who has failed the connection reads on until the other end has ended it, too: to close a socket with unread
        input is a reset, and that may overtake a Close frame.
        """
        parts = cut(data, chop)
        for index, part in enumerate(parts):
            if index:
                self.settle()
            self._send(memoryview(part))

    def _send(self, data: memoryview) -> None:
        deadline = time.monotonic() + PATIENCE
        while data and self._can_send:
            readers = [] if self.has_ended else [self.socket]
            readable, writable, _ = select.select(readers, [self.socket], [], max(0.0, deadline - time.monotonic()))
            assert readable or writable, "wsd reads nothing"
            if readable:
                self._receive()
            if writable:
                try:
                    data = data[self.socket.send(data) :]
                except (BrokenPipeError, ConnectionResetError):
                    raise AssertionError(f"wsd reset the connection; before that {self.describe()}") from None

    def half_close(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # it is closed from the other side
            pass
        self._can_send = False

    # -- in ---------------------------------------------------------------------------------------------------------

    def _await(self, step: Await) -> None:
        heard = self.heard
        self._wait_for(
            lambda: (
                len(heard.messages) >= step.messages
                and len(heard.pongs) >= step.pongs
                and (not step.close or self.close is not None)
            ),
            f"{step}",
        )
        assert not self.has_ended or step.close, f"the connection ended before {step}"

    def finish(self) -> None:
        """Read to the end of the connection.

        "The client SHOULD wait for the server to close the connection" (RFC 6455 7.1.1): so as a server, end it.
        """
        self._wait_for(lambda: self.close is not None, "the Close")
        if not self.is_client and self._can_send:
            self.half_close()
        self._wait_for(lambda: self.has_ended, "the end of the connection")
        assert not self._buffer, f"behind the last frame came {bytes(self._buffer[:80])!r}"

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Read until it is so, or the connection has ended."""
        deadline = time.monotonic() + PATIENCE
        self._parse()
        while not condition() and not self.has_ended:
            readable, _, _ = select.select([self.socket], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"waited in vain for {what}; so far {self.describe()}"
            self._receive()

    def describe(self) -> str:
        """What came so far, in a few words."""
        heard = self.heard
        lengths = [len(payload) for _, payload in heard.messages[:10]]
        return f"{len(heard.messages)} messages {lengths}, {len(heard.pongs)} Pongs, Close {self.close}"

    def _receive(self) -> None:
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            raise AssertionError(f"wsd reset the connection; before that {self.describe()}") from None
        if data:
            self._buffer += data
            self._parse()
        else:
            self.has_ended = True

    def _parse(self) -> None:
        """Take the frames that are complete out of the buffer, and check what holds for every one of them."""
        buffer, at = self._buffer, 0
        key_size = 0 if self.is_client else 4
        while self.close is None and len(buffer) - at >= 2:
            first, second = buffer[at], buffer[at + 1]
            assert bool(second & 0x80) is not self.is_client, "a client masks, a server does not (RFC 6455 5.1)"
            width = {126: 2, 127: 8}.get(second & 0x7F, 0)
            payload_at = at + 2 + width + key_size
            if len(buffer) < payload_at:
                break
            length = int.from_bytes(buffer[at + 2 : at + 2 + width], "big") if width else second & 0x7F
            assert not width or length >= (126 if width == 2 else 65536), "not the shortest form of the length (5.2)"
            if len(buffer) < payload_at + length:
                break
            payload = bytes(memoryview(buffer)[payload_at : payload_at + length])
            if key_size:
                key = bytes(buffer[payload_at - 4 : payload_at])
                self.heard.keys.append(key)
                payload = apply_mask(payload, key)
            at = payload_at + length
            self._take(first & 0x0F, bool(first & 0x80), first >> 4 & 7, payload)
        del buffer[:at]

    def _take(self, opcode: int, fin: bool, rsv: int, payload: bytes) -> None:
        if opcode in (CLOSE, PING, PONG):
            assert fin, "a control frame must not be fragmented (5.5)"
            assert len(payload) <= 125, "a control frame has at most 125 bytes (5.5)"
            assert not rsv, "reserved bit on a control frame (RFC 7692 6.1)"
            self._take_control(opcode, payload)
            return
        assert opcode in (CONTINUATION, TEXT, BINARY), f"opcode {opcode}"
        assert (opcode == CONTINUATION) is bool(self._opcode), "fragments out of order (5.4)"
        if opcode:
            assert rsv == 0 or (rsv == _RSV1 and self.codec is not None), f"reserved bits {rsv}"
            self._opcode, self._is_packed = opcode, rsv == _RSV1
        else:
            assert not rsv, "RSV1 on a continuation (RFC 7692 6.1)"
        self._message.append(payload)
        if fin:
            self._end_message()

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PONG:
            self.heard.pongs.append(payload)
        elif opcode == PING:
            self.heard.pings.append(payload)
        else:
            assert len(payload) != 1, "a Close of one byte (5.5.1)"
            code = int.from_bytes(payload[:2], "big") if payload else 1005
            self.close = code, payload[2:].decode()

    def _end_message(self) -> None:
        payload = b"".join(self._message)
        self._message.clear()
        if self._is_packed:
            assert self.codec is not None
            payload = self.codec.unpack(payload)
        if self._opcode == TEXT:
            payload.decode()
        self.heard.messages.append((self._opcode, payload))
        self.heard.packed.append(self._is_packed)
        self._opcode = 0
