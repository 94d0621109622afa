"""A chat room: what one says, everybody hears.  Try `?name=Ada` at the end of the address.

A model for authors: the smallest plugin that is of use.  `on_message` gets whole messages, `broadcast` tells all.
"""

from __future__ import annotations

from wsd import Protocol, Wsi


class Chat(Protocol):
    name = "chat"

    def on_established(self, wsi: Wsi) -> None:
        wsi.session = wsi.request.arg("name", "somebody")
        self.broadcast(f"* {wsi.session} came, {len(self.wsis)} here")

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        if isinstance(message, str):
            self.broadcast(f"{wsi.session}: {message}")
        else:
            wsi.close(1003, "text only")

    def on_closed(self, wsi: Wsi, code: int, close_reason: str) -> None:
        self.broadcast(f"* {wsi.session} left")


protocols = [Chat]
