"""What a role is to its wsi.  LWS: `struct lws_role_ops`.

Owns the names of what every role has: `Http1`, `Client` and `Raw` are three, and know nothing of each other.
"""

from __future__ import annotations

from typing import Protocol


class Role(Protocol):
    """Who has the bytes of a wsi that is no WebSocket, and hears what happens to it."""

    def receive(self, data: bytes) -> None:
        """Take what was read."""

    def writable(self) -> None:
        """Go on: it was asked for, and the output is short enough for more."""

    def write(self, data: bytes, final: bool) -> None:
        """What `wsi.write()` is here."""

    def end_of_input(self) -> None:
        """Take note that the peer sends no more."""

    def timed_out(self) -> None:
        """The deadline that the role has set is over."""

    def close_asked(self) -> None:
        """Somebody called `wsi.close()`."""

    def stop(self) -> None:
        """Take note that the context stops, where nothing is established yet."""

    def closed(self) -> None:
        """Release everything and tell the plugin; the reaper calls this, once, unless there was a WebSocket."""
