"""Every message goes back to its sender, piece by piece as it came.

A model for authors: the class style with `on_receive`.  A message of any size passes through without being kept whole:
each piece goes back as a fragment, so what arrived in one piece leaves in one frame.  What the peer is not ready for is
set aside for `on_writeable`.  When the peer sends message after message and does not read, its connection is not read
until it has caught up; no other is touched.
"""

from __future__ import annotations

from pydantic import Field

from wsd import BINARY, CLOSE, TEXT, Answer, Context, Options, Protocol, Wsi

PIECE_BYTES = 128
"""What a piece costs beside its payload: without it, empty messages would cost nothing and fill the memory."""


class EchoOptions(Options):
    """The table [protocols.echo] of the configuration."""

    max_backlog_bytes: int = Field(262_144, ge=1, description="What one peer may have unread before wsd stops reading.")


class Backlog:
    """What one connection has still to get back; wsd makes one for each as `wsi.session`."""

    __slots__ = ("paused", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[tuple[bytes, int, bool]] = []  # a deque would take 0.7 kB of each idle connection
        self.size = 0
        self.paused = False


class Echo(Protocol):
    name = "echo"
    Session = Backlog
    Options = EchoOptions

    def on_protocol_init(self, context: Context, options: EchoOptions) -> None:
        self.max_backlog_bytes = options.max_backlog_bytes

    def on_receive(self, wsi: Wsi, data: bytes) -> None:
        backlog: Backlog = wsi.session
        opcode, final = BINARY if wsi.frame_is_binary else TEXT, wsi.is_final_fragment
        if not backlog.pieces and wsi.offer(data, opcode, final):
            return
        backlog.pieces.append((data, opcode, final))
        backlog.size += len(data) + PIECE_BYTES
        if backlog.size > self.max_backlog_bytes and not backlog.paused and self.is_too_much(wsi, backlog):
            backlog.paused = True
            wsi.rx_flow_control(False)
        wsi.callback_on_writable()

    def is_too_much(self, wsi: Wsi, backlog: Backlog) -> bool:
        """Many a client reads nothing before its whole message is sent: stopping it in the middle would be for ever.

        So it is stopped between messages, or where even the largest message does not explain what waits; with no
        limit on messages (0) that is at once.
        """
        return wsi.is_final_fragment or backlog.size > self.max_backlog_bytes + wsi.max_message_bytes

    def on_writeable(self, wsi: Wsi) -> Answer:
        backlog: Backlog = wsi.session
        pieces = backlog.pieces
        left = len(pieces)
        for data, opcode, final in pieces:
            # After the first fragment of a message wsd makes the opcode a continuation by itself.
            if wsi.write(data, opcode, final):
                return CLOSE
            left -= 1
            if left and wsi.send_pipe_choked:
                break
        if left:
            del pieces[:-left]
            backlog.size = sum(len(data) + PIECE_BYTES for data, _, _ in pieces)
            wsi.callback_on_writable()
        else:
            pieces.clear()
            backlog.size = 0
        if backlog.paused and backlog.size <= self.max_backlog_bytes // 2:
            backlog.paused = False
            wsi.rx_flow_control(True)
        return None


protocols = [Echo]
