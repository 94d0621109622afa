"""libcurl as a client, by way of pycurl: Debian's `curl` is built without WebSockets.  It compresses nothing."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pycurl

from tests.interop.peers import Deflate, Fragmenting, Message, NotTheEnd
from tests.support.timing import PATIENCE

Result = TypeVar("Result")


class CurlPeer(Fragmenting):
    def __init__(self, curl: pycurl.Curl, head: str) -> None:
        self.curl = curl
        self.descriptor: int = curl.getinfo(pycurl.ACTIVESOCKET)
        self.subprotocol = _header(head, "Sec-WebSocket-Protocol")
        self.extensions = _header(head, "Sec-WebSocket-Extensions") or ""

    def _patiently(self, call: Callable[[], Result], *, writing: bool) -> Result:
        """libcurl does not wait in this mode: it says "again"."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return call()
            except BlockingIOError:
                left = deadline - time.monotonic()
                assert left > 0, "nothing more in time"
                mine = [self.descriptor]
                select.select(mine, mine if writing else [], [], left)

    def _send(self, payload: bytes, flags: int) -> None:
        """One frame; libcurl takes what its buffer has room for, and wants the rest in a further call."""
        view = memoryview(payload)
        while True:
            view = view[self._patiently(lambda view=view: self.curl.ws_send(view, flags), writing=True) :]
            if not view:
                return

    def send(self, message: Message) -> None:
        self.send_fragments([message])

    def send_fragments(self, fragments: Sequence[Message]) -> None:
        for index, part in enumerate(fragments):
            flags = pycurl.WS_TEXT if isinstance(part, str) else pycurl.WS_BINARY
            more = pycurl.WS_CONT if index < len(fragments) - 1 else 0
            self._send(part.encode() if isinstance(part, str) else part, flags | more)

    def _frame(self) -> tuple[int, bytes]:
        """Flags and payload of the next frame."""
        payload = b""
        while True:
            data, meta = self._patiently(lambda: self.curl.ws_recv(262144), writing=False)
            payload += data
            if not meta.bytesleft:
                return meta.flags, payload

    def receive(self) -> Message:
        whole = b""
        while True:
            flags, payload = self._frame()
            assert flags & (pycurl.WS_TEXT | pycurl.WS_BINARY), (flags, payload)
            whole += payload
            if not flags & pycurl.WS_CONT:
                return whole.decode() if flags & pycurl.WS_TEXT else whole

    def ping(self, payload: bytes) -> None:
        self._send(payload, pycurl.WS_PING)
        assert self._frame() == (pycurl.WS_PONG, payload)

    def close(self, code: int, reason: str = "") -> int:
        self.curl.ws_close(code, reason)
        flags, payload = self._frame()
        assert flags == pycurl.WS_CLOSE, (flags, payload)
        return int.from_bytes(payload[:2], "big")

    def end(self) -> tuple[int, str]:
        flags, payload = self._frame()
        if flags != pycurl.WS_CLOSE:
            raise NotTheEnd(f"{flags} {payload[:200]!r}")
        code = int.from_bytes(payload[:2], "big")
        self.curl.ws_close(code)  # libcurl leaves this to its user
        return code, payload[2:].decode()


def _header(head: str, name: str) -> str | None:
    found = re.search(rf"^{name}: *(.*?) *\r$", head, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else None


@contextmanager
def connect_curl(url: str, subprotocol: str, deflate: Deflate | None) -> Iterator[CurlPeer]:
    assert deflate is None, "libcurl has no permessage-deflate"
    head: list[bytes] = []
    curl: Any = pycurl.Curl()
    try:
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.CONNECT_ONLY, 2)  # up to and with the opening handshake
        curl.setopt(pycurl.HTTPHEADER, [f"Sec-WebSocket-Protocol: {subprotocol}"])
        curl.setopt(pycurl.HEADERFUNCTION, head.append)
        curl.setopt(pycurl.TIMEOUT_MS, int(PATIENCE * 1000))
        curl.setopt(pycurl.NOSIGNAL, 1)
        if "SSL_CERT_FILE" in os.environ:  # which the other libraries read by themselves
            curl.setopt(pycurl.CAINFO, os.environ["SSL_CERT_FILE"])
        curl.perform()
        yield CurlPeer(curl, b"".join(head).decode())
    finally:
        curl.close()
