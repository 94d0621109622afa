"""One message on its way to many: encoded once for each form in which somebody gets it.

Pure.  Who the receivers are is `Protocol.broadcast`'s, and what waits for whom the sender's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsd.wire.deflate import compress_alone
from wsd.wire.frames import RSV1, frame_header, message_parts

if TYPE_CHECKING:
    from wsd.wire.deflate import Deflater
    from wsd.wire.extensions import Settings


class Broadcast:
    """A message for any number of receivers.

    Attributes:
        parts: First byte and payload, for those whose frame is their own: clients mask.
        frame: The whole frame, for those who get it as it is.

    Raises:
        UnicodeEncodeError, TypeError: as `message_parts`.
    """

    __slots__ = ("_compressed", "frame", "parts")

    def __init__(self, message: str | bytes | bytearray | memoryview) -> None:
        self.parts = message_parts(message)
        first, payload = self.parts
        self.frame = frame_header(first, len(payload)) + payload
        self._compressed: dict[tuple[int, Settings], tuple[int, bytes]] = {}

    def parts_for(self, deflater: Deflater) -> tuple[int, bytes]:
        """First byte and payload for a receiver that has agreed on compression.

        What is compressed without history can be read with any window at least as large, whether context takeover was
        agreed on or not: so all receivers of one window share it.  The sender has to `forget()` its own history.
        """
        first, payload = self.parts
        if len(payload) < deflater.settings.min_bytes:
            return self.parts
        key = deflater.window_bits, deflater.settings
        found = self._compressed.get(key)
        if found is None:
            found = self._compressed[key] = first | RSV1, compress_alone(payload, *key)
        return found
