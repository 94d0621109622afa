"""Two echoes that note how each connection ended: whole messages with `send`, and pieces the way LWS plugins do it."""

from __future__ import annotations

import queue
from collections import deque
from typing import Any

from tests.support.timing import PATIENCE
from wsd.protocol import Protocol
from wsd.wire.frames import BINARY, TEXT


class Noting(Protocol):
    """Notes every `on_closed`; `peer_close` is what `on_peer_close` answers."""

    def __init__(self) -> None:
        self.ends: queue.Queue[tuple[int, str]] = queue.Queue()
        self.peer_close: int | None = None

    def on_peer_close(self, wsi: Any, code: int, close_reason: str) -> int | None:
        return self.peer_close

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.ends.put((code, close_reason))

    def end(self) -> tuple[int, str]:
        """What the next `on_closed` was told, and that there was no other."""
        ended = self.ends.get(timeout=PATIENCE)
        assert self.ends.empty()
        return ended


class EchoMessages(Noting):
    """The simple way."""

    name = "messages"

    def on_message(self, wsi: Any, message: str | bytes) -> None:
        wsi.send(message)


class EchoPieces(Noting):
    """Piece by piece, and ONE write for each `on_writeable`, as LWS allows it."""

    name = "pieces"
    Session = deque

    def on_receive(self, wsi: Any, data: bytes) -> None:
        wsi.session.append((data, BINARY if wsi.frame_is_binary else TEXT, wsi.is_final_fragment))
        wsi.callback_on_writable()

    def on_writeable(self, wsi: Any) -> int | None:
        if not wsi.session:
            return None
        data, opcode, final = wsi.session.popleft()
        if wsi.session:
            wsi.callback_on_writable()
        answer: int = wsi.write(data, opcode, final)
        return answer
