"""A raw WebSocket client in an asyncio loop, where hundreds of them are one thread: bytes out, frames in.

Owns what a peer on a socket can do, good or bad.  On purpose it shares no code with wsd, as `tests/support/client.py`,
whose frames it sends.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import zlib
from collections.abc import Awaitable, Iterable
from types import TracebackType
from typing import Self

from tests.support.client import CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close_frame, frame, upgrade_request
from tests.support.timing import MS, PATIENCE

DEFLATE = [("Sec-WebSocket-Extensions", "permessage-deflate")]
RSV1 = 4

_EMPTY_BLOCK = b"\x00\x00\xff\xff"
"""What a message's deflated data ends with before it is sent without (RFC 7692 7.2.1)."""

# asyncio reads ahead of who asks, up to twice this; with the default a slow reader would be none for long.
_READ_AHEAD = 4096

_LINGER_ZERO = struct.pack("ii", 1, 0)  # close() is a reset then


class Ended(Exception):
    """The connection ended where something else was awaited; the text says what."""


class Refused(Exception):
    """The answer to an upgrade was no 101."""

    def __init__(self, status: int) -> None:
        super().__init__(f"refused with {status}")
        self.status = status


class Talker:
    """A connection; an asynchronous context manager that is gone after its block, with a reset where it is not closed.

    Attributes:
        opcode: That of the message that was received last.
        pongs: The payloads that came with Pongs, in order.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.opcode = 0
        self.pongs: list[bytes] = []
        self.deflater: zlib._Compress | None = None
        self.inflater: zlib._Decompress | None = None

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None = None, receive_buffer: int = 0) -> Self:
        """Connect to 127.0.0.1; `receive_buffer` is the kernel's, in bytes, for those who read slowly."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            if receive_buffer:  # before the connect: it decides the window's scale
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            name = "localhost" if tls else None
            return cls(*await asyncio.open_connection(sock=sock, limit=_READ_AHEAD, ssl=tls, server_hostname=name))
        except BaseException:
            sock.close()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset()

    def reset(self) -> None:
        """End the connection with a TCP reset, unless it has ended."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.writer.transport.abort()

    def leave(self) -> None:
        """End the connection with a FIN and no word; with a reset where something has come that was not read."""
        sock = self.writer.get_extra_info("socket")
        sock.shutdown(socket.SHUT_WR)

    # -- out --------------------------------------------------------------------------------------------------------

    def put(self, *chunks: bytes) -> None:
        """Send raw bytes, without waiting until the kernel takes them."""
        self.writer.write(b"".join(chunks))

    async def send(self, *chunks: bytes) -> None:
        """Send raw bytes, as fast as they are taken."""
        self.put(*chunks)
        await self.writer.drain()

    async def say(self, message: str | bytes, sizes: Iterable[int] = ()) -> None:
        """Send a message; with `sizes` its first fragments have so many bytes, and its last has the rest."""
        opcode = TEXT if isinstance(message, str) else 2
        data = message.encode() if isinstance(message, str) else message
        rsv = 0
        if self.deflater is not None:
            data = self.deflater.compress(data) + self.deflater.flush(zlib.Z_SYNC_FLUSH)
            assert data.endswith(_EMPTY_BLOCK)
            data, rsv = data[:-4], RSV1
        for size in sizes:
            await self.send(frame(opcode, data[:size], final=False, rsv=rsv))
            data, opcode, rsv = data[size:], CONTINUATION, 0
        await self.send(frame(opcode, data, rsv=rsv))

    # -- in ---------------------------------------------------------------------------------------------------------

    async def exactly(self, size: int) -> bytes:
        """The next `size` bytes.

        Raises:
            Ended: there are fewer.
        """
        try:
            return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise Ended(f"the stream ended after {error.partial[:100]!r}") from None
        except OSError as error:
            raise Ended(f"the connection was lost: {error.strerror or error}") from None

    async def head(self) -> tuple[int, dict[str, str]]:
        """The head of an HTTP response: its status, and its headers by their names in lower case."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise Ended(f"no response, but {error.partial[:100]!r}") from None
        except OSError as error:
            raise Ended(f"no response: {error.strerror or error}") from None
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split()[1]), headers

    async def upgrade(self, protocol: str, *, compressed: bool = False, **options: object) -> None:
        """Do the opening handshake.

        Raises:
            Refused: the answer is no 101.
        """
        headers = DEFLATE if compressed else []
        await self.send(upgrade_request(protocols=protocol, headers=headers, **options))  # type: ignore[arg-type]
        await self.upgraded(compressed=compressed)

    async def upgraded(self, *, compressed: bool = False) -> None:
        """Read the 101; raises as `upgrade` does."""
        status, headers = await self.head()
        if status != 101:
            raise Refused(status)
        if compressed and "permessage-deflate" in headers.get("sec-websocket-extensions", ""):
            self.deflater = zlib.compressobj(1, wbits=-9)  # smaller than any window that may have been agreed
            self.inflater = zlib.decompressobj(wbits=-15)

    async def receive_frame(self) -> Frame:
        """The next frame, whatever it is."""
        first, second = await self.exactly(2)
        length = second & 0x7F
        if length > 125:
            length = int.from_bytes(await self.exactly(2 if length == 126 else 8), "big")
        return Frame(first & 0x0F, await self.exactly(length), bool(first & 0x80), first >> 4 & 7)

    async def hear(self) -> str | bytes:
        """The next message; pings on the way are answered and pongs noted.

        Raises:
            Ended: there is none.
        """
        parts: list[bytes] = []
        opcode = rsv = 0
        while True:
            got = await self.receive_frame()
            if got.opcode == CLOSE:
                raise Ended(f"closed with {got.close_code} {got.close_reason}")
            if got.opcode >= CLOSE:
                await self._control(got)
                continue
            opcode, rsv = (opcode, rsv) if parts else (got.opcode, got.rsv)
            parts.append(got.payload)
            if got.final:
                break
        data = b"".join(parts)
        if rsv:
            assert self.inflater is not None, "compressed, and that was not agreed"
            data = self.inflater.decompress(data + _EMPTY_BLOCK)
        self.opcode = opcode
        return data.decode() if opcode == TEXT else data

    async def _control(self, got: Frame) -> None:
        if got.opcode == PING:
            await self.send(frame(PONG, got.payload))
        else:
            self.pongs.append(got.payload)

    async def hear_close(self) -> int:
        """The code of the Close frame that comes, whatever comes before it; then the stream must end."""
        while (got := await self.receive_frame()).opcode != CLOSE:
            pass
        try:
            rest = await self.reader.read(1)
        except OSError:
            rest = b""
        assert not rest, "something came after a Close frame"
        return got.close_code

    async def wait_end(self) -> None:
        """Read until the connection has ended, in whatever way."""
        try:
            while await self.reader.read(65536):
                pass
        except OSError:
            pass

    async def finish(self) -> None:
        """The closing handshake from our side."""
        await self.send(close_frame(1000))
        code = await self.hear_close()
        assert code == 1000, f"closed with {code}"


def patience() -> asyncio.Timeout:
    """How long anything may take that is not slow on purpose; a crowd has to wait for its turn."""
    return asyncio.timeout(3 * PATIENCE)


async def silence() -> None:
    """What never ends."""
    await asyncio.Event().wait()


async def until(deed: Awaitable[object], end: asyncio.Event, seconds: float) -> None:
    """Wait until it is done, at most so long, and no longer than the load lasts; how it ended is its own affair."""
    task = asyncio.ensure_future(deed)
    over = asyncio.ensure_future(end.wait())
    try:
        await asyncio.wait((task, over), timeout=seconds * 1000 * MS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in (task, over):
            one.cancel()
        await asyncio.gather(task, over, return_exceptions=True)
