"""Bytes as they come: the role of a wsi that speaks neither HTTP nor WebSocket.  LWS: the roles raw-skt and raw-file.

Owns the order of things: the plugin gets the wsi, then bytes, then the end; what it still has to say when the peer has
ended.  Sockets, buffers, flow control and clocks are the wsi's; this file must not know the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsd import log
from wsd.wire.frames import GOING_AWAY, NORMAL

if TYPE_CHECKING:
    from wsd.wsi import Wsi


class Raw:
    """The role of one raw wsi, for all its life.

    Args:
        wait: The plugin is told later, by `adopted()`, and nothing is read before; the wsi is not served yet.
    """

    __slots__ = ("_has_ended", "_is_told", "wsi")

    def __init__(self, wsi: Wsi, *, wait: bool = False) -> None:
        self.wsi = wsi
        self._is_told = False  # on_raw_adopt ran, so on_raw_close is due
        self._has_ended = False  # the peer's stream is over
        wsi.make_raw(self, wait=wait)

    def adopted(self, leftover: bytes = b"") -> None:
        """Tell the plugin; `leftover` is what was read already.  Not inside a hook."""
        wsi = self.wsi
        if wsi.is_closing:
            return
        self._is_told = True
        wsi.establish_raw()
        hook = wsi.binding.hooks.on_raw_adopt
        if hook is not None:
            wsi.call("on_raw_adopt", hook, wsi)
        if leftover and not wsi.is_closing:
            wsi.keep(leftover)

    # -- what the wsi calls -------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Give the plugin what was read."""
        wsi = self.wsi
        hook = wsi.binding.hooks.on_raw_receive
        if hook is not None and wsi.is_established:
            wsi.call("on_raw_receive", hook, wsi, data)
            wsi.note_delivered()

    def writable(self) -> None:
        """Let the plugin write."""
        wsi = self.wsi
        hook = wsi.binding.hooks.on_raw_writeable
        if hook is not None:
            wsi.call("on_raw_writeable", hook, wsi)
        if self._has_ended and not wsi.is_answering:
            self._finish()

    def write(self, data: bytes, final: bool) -> None:
        """Send bytes; what `wsi.write` is on a raw wsi.

        Raises:
            RuntimeError: called outside `on_raw_writeable`.
        """
        if not self.wsi.is_writing:
            raise RuntimeError(
                "wsi.write() outside on_raw_writeable: ask with wsi.callback_on_writable() and write there,"
                " or use wsi.send()"
            )
        self.wsi.put(data)

    def end_of_input(self) -> None:
        """Take note that the peer sends no more.  What the plugin has to say to what came before still leaves."""
        wsi = self.wsi
        self._has_ended = True
        wsi.note_end(NORMAL, "", "the other end ended the stream")
        if wsi.is_answering:
            wsi.set_deadline(wsi.budget.close_seconds)
        else:
            self._finish()

    def timed_out(self) -> None:
        """The peer has ended, and does not read what the plugin still has to say."""
        self.wsi.abort("no end within close_seconds")

    def close_asked(self) -> None:
        """Somebody called `wsi.close()`: what was put still leaves."""
        self._finish()

    def stop(self) -> None:
        """Take note that the context stops before the plugin has the wsi."""
        self.wsi.note_end(GOING_AWAY, "", "the context stops")
        self._finish()

    def closed(self) -> None:
        """Tell the plugin; the reaper calls this, once."""
        wsi = self.wsi
        if not self._is_told:
            return
        wsi.protocol._members.pop(wsi, None)
        log.info("%s: closed (%s)", wsi.tag, wsi.why)
        hook = wsi.binding.hooks.on_raw_close
        if hook is not None:
            wsi.call("on_raw_close", hook, wsi)

    def _finish(self) -> None:
        # The other end of a descriptor is not ours to wait for: a terminal's never comes.
        self.wsi.finish(has_ended=self._has_ended or self.wsi.is_descriptor)
