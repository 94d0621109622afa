"""A raw WebSocket client: bytes out, frames in, with a deadline on every wait.  It checks nothing that it sends.

On purpose it shares no code with wsd, so that a mistake in one is seen by the other.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import time
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.timing import PATIENCE

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

MASK = bytes.fromhex("01020304")
"""The masking key of every frame, so that tests can be read; a real client draws a new one for each."""

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The nonce of RFC 6455's own example."""

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    final: bool = True
    rsv: int = 0

    @property
    def close_code(self) -> int:
        """The code of a Close frame; 1005 if it carries none."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005

    @property
    def close_reason(self) -> str:
        assert self.opcode == CLOSE, self
        return self.payload[2:].decode()


class HttpResponse(NamedTuple):
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def frame(
    opcode: int, payload: bytes | str = b"", *, final: bool = True, rsv: int = 0, mask: bytes | None = MASK
) -> bytes:
    """The bytes of one frame; `rsv` is three bits, RSV1 the highest; `mask=None` leaves it unmasked."""
    if isinstance(payload, str):
        payload = payload.encode()
    first = (0x80 if final else 0) | rsv << 4 | opcode
    masked = 0x80 if mask is not None else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, masked | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, masked | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, masked | 127, len(payload))
    return head + payload if mask is None else head + mask + apply_mask(payload, mask)


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455 5.3; the same deed masks and unmasks."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def close_frame(code: int | None = 1000, reason: str | bytes = "") -> bytes:
    """A masked Close frame; None: without a code."""
    reason = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def upgrade_request(
    path: str = "/",
    protocols: str | None = None,
    *,
    host: str = "127.0.0.1",
    headers: Iterable[tuple[str, str]] = (),
    without: Iterable[str] = (),
) -> bytes:
    """An upgrade request; `headers` replace those of the same name, `without` leaves some out."""
    fields = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    if protocols is not None:
        fields["Sec-WebSocket-Protocol"] = protocols
    fields.update(headers)
    lines = [f"{name}: {value}" for name, value in fields.items() if name not in set(without)]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


class Client:
    """One connection to a server under test; a context manager, so that it is never left behind.

    Args:
        address: A port on 127.0.0.1, a (host, port) pair, or the path of a Unix socket.
        patience: How long each wait may last, in seconds.
        receive_buffer: The kernel's receive buffer, in bytes, for a client that reads slowly; None: as it comes.
        source: The IPv4 address that it comes from; on Linux all of 127.0.0.0/8 are this machine's.  Empty: 127.0.0.1.
    """

    def __init__(
        self,
        address: int | tuple[str, int] | str,
        *,
        patience: float = PATIENCE,
        receive_buffer: int | None = None,
        source: str = "",
    ) -> None:
        self.patience = patience
        self.buffer = bytearray()
        if isinstance(address, str):
            family, target = socket.AF_UNIX, address
        else:
            target = ("127.0.0.1", address) if isinstance(address, int) else address  # type: ignore[assignment]
            family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:  # before connect(): it decides the window's scale
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source:
                self.socket.bind((source, 0))
            self.socket.settimeout(patience)
            self.socket.connect(target)
            if family != socket.AF_UNIX:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """End the connection with a TCP reset instead of a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # -- out --------------------------------------------------------------------------------------------------------

    def send(self, *chunks: bytes) -> None:
        """Send raw bytes, in one system call if the kernel takes them."""
        self.socket.sendall(b"".join(chunks))

    def send_slowly(self, data: bytes, size: int = 1) -> None:
        """Send in pieces of `size` bytes, each in its own system call."""
        for start in range(0, len(data), size):
            self.socket.sendall(data[start : start + size])

    def send_text(self, text: str) -> None:
        self.send(frame(TEXT, text))

    def send_binary(self, data: bytes) -> None:
        self.send(frame(BINARY, data))

    def shut_down_writing(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    # -- in ---------------------------------------------------------------------------------------------------------

    def receive_exactly(self, size: int) -> bytes:
        """The next `size` bytes.

        Raises:
            EOFError: the connection ended before them.
            TimeoutError: they did not come in time.
        """
        deadline = time.monotonic() + self.patience
        while len(self.buffer) < size:
            self._fill(deadline)
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def receive_until(self, end: bytes) -> bytes:
        """Everything up to and including `end`; raises as `receive_exactly` does."""
        deadline = time.monotonic() + self.patience
        while (at := self.buffer.find(end)) < 0:
            self._fill(deadline)
        return self.receive_exactly(at + len(end))

    def receive_frame(self) -> Frame:
        """The next frame; raises as `receive_exactly` does, and AssertionError for what no server may send."""
        first, second = self.receive_exactly(2)
        assert not second & 0x80, "a server must not mask (RFC 6455 5.1)"
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(self.receive_exactly(2), "big")
            assert length > 125, "not the shortest form of the length (RFC 6455 5.2)"
        elif length == 127:
            length = int.from_bytes(self.receive_exactly(8), "big")
            assert length > 65535, "not the shortest form of the length (RFC 6455 5.2)"
        return Frame(first & 0x0F, self.receive_exactly(length), bool(first & 0x80), first >> 4 & 7)

    def receive_message(self) -> str | bytes:
        """The next whole text or binary message; control frames between its fragments are skipped."""
        opcode, parts = CONTINUATION, []
        while True:
            got = self.receive_frame()
            assert got.opcode != CLOSE, got
            if got.opcode >= CLOSE:
                continue
            opcode = got.opcode or opcode
            parts.append(got.payload)
            if got.final:
                whole = b"".join(parts)
                return whole.decode() if opcode == TEXT else whole

    def receive_close(self) -> Frame:
        """The Close frame, after any number of other frames."""
        while (got := self.receive_frame()).opcode != CLOSE:
            pass
        return got

    def receive_end(self) -> bytes:
        """Everything until the connection ends; a reset ends it too."""
        deadline = time.monotonic() + self.patience
        try:
            while True:
                self._fill(deadline)
        except (EOFError, ConnectionResetError):
            data = bytes(self.buffer)
            self.buffer.clear()
            return data

    def receive_response(self, *, has_body: bool = True) -> HttpResponse:
        """An HTTP response; its body by Content-Length, chunked, or until the end."""
        head = self.receive_until(b"\r\n\r\n").decode("latin-1")
        status_line, *lines = head.rstrip("\r\n").split("\r\n")
        _, status, reason = (status_line + " ").split(" ", 2)
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        response = HttpResponse(int(status), reason.strip(), headers, b"")
        if not has_body or response.status in (101, 204, 304) or response.status < 200:
            return response
        if "chunked" in (response.header("Transfer-Encoding") or ""):
            return response._replace(body=self._receive_chunks())
        length = response.header("Content-Length")
        return response._replace(body=self.receive_end() if length is None else self.receive_exactly(int(length)))

    def _receive_chunks(self) -> bytes:
        body = b""
        while size := int(self.receive_until(b"\r\n").split(b";")[0], 16):
            body += self.receive_exactly(size)
            assert self.receive_exactly(2) == b"\r\n"
        while self.receive_until(b"\r\n") != b"\r\n":  # trailers
            pass
        return body

    def _fill(self, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError(f"nothing more within {self.patience:g} s; so far {bytes(self.buffer[:200])!r}")
        self.socket.settimeout(remaining)
        data = self.socket.recv(262144)
        if not data:
            raise EOFError(f"the connection ended; before that {bytes(self.buffer[:200])!r}")
        self.buffer += data

    # -- both ---------------------------------------------------------------------------------------------------------

    def request(self, data: bytes | str) -> HttpResponse:
        """Send a request as it stands, and read its response."""
        self.send(data.encode() if isinstance(data, str) else data)
        return self.receive_response(has_body=data[:4] not in ("HEAD", b"HEAD"))

    def upgrade(self, path: str = "/", protocols: str | None = None, **options: object) -> HttpResponse:
        """Do the opening handshake; the answer must be a good 101."""
        self.send(upgrade_request(path, protocols, **options))  # type: ignore[arg-type]
        response = self.receive_response()
        assert response.status == 101, response
        digest = hashlib.sha1((KEY + _GUID).encode()).digest()
        assert response.header("Sec-WebSocket-Accept") == base64.b64encode(digest).decode(), response
        return response

    def finish(self, code: int | None = 1000, reason: str = "") -> Frame:
        """Do the closing handshake from our side; gives the server's Close frame, after which nothing came."""
        self.send(close_frame(code, reason))
        answer = self.receive_close()
        assert self.receive_end() == b""
        return answer


def connect(
    address: int | tuple[str, int] | str,
    protocols: str | None = None,
    path: str = "/",
    *,
    receive_buffer: int | None = None,
    source: str = "",
    **options: object,
) -> Client:
    """A client that is connected and upgraded."""
    client = Client(address, receive_buffer=receive_buffer, source=source)
    try:
        client.upgrade(path, protocols, **options)
    except BaseException:
        client.disconnect()
        raise
    return client
