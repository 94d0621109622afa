"""A pipe between two: what one sends the other gets, piece by piece as it comes, at the pace of the slower of the two.

The room is the address's `?room=NAME`; without one it is the room without a name.  The rules:

- The first two in a room are joined, and one more is refused with 503.
- What the first sends before the other is there waits for it.  When that is more than `max_backlog_bytes` the first is
  not read any more, and after `wait_seconds` of this it is closed with 1008.
- Messages stay what they are, text or binary, and end where they end; how they are cut into fragments may change.
- When one goes, the other gets the rest of what it sent, then a Close with 1001.  The room is free again.
- A message may be as long as it likes, in as many frames as `[protocols.relay.limits] max_fragments` allows.

A model for authors: flow control from one connection to another.  What waits for a slow reader is kept by its sender,
who is not read while that is too much: the kernels' buffers fill up, and the sender has to wait.
"""

from __future__ import annotations

from collections import deque

from pydantic import Field

from wsd import BINARY, CLOSE, TEXT, Answer, Context, Options, Protocol, Reject, Request, Wsi

# What it costs to keep a piece, besides its bytes: a sender of empty messages is to be stopped as well.
PIECE_BYTES = 128


class RelayOptions(Options):
    """The table [protocols.relay] of the configuration."""

    max_backlog_bytes: int = Field(262_144, ge=1, description="What may wait for one peer before the other is stopped.")
    wait_seconds: float = Field(60, gt=0, description="How long one who is stopped waits for somebody to join it.")


class Side:
    """What one connection remembers: whom it is joined with, and what it has sent and that one has not got."""

    __slots__ = ("has_left", "is_paused", "other", "pieces", "size")

    def __init__(self) -> None:
        self.other: Wsi | None = None
        self.pieces: deque[tuple[bytes, int, bool]] = deque()
        self.size = 0
        self.is_paused = False
        self.has_left = False


class Relay(Protocol):
    name = "relay"
    Session = Side
    Options = RelayOptions
    max_message_bytes = 0  # none is ever kept whole

    def on_protocol_init(self, context: Context, options: RelayOptions) -> None:
        self.options = options
        self.rooms: dict[str, list[Wsi]] = {}

    def on_filter_protocol_connection(self, wsi: Wsi, request: Request) -> None:
        if len(self.rooms.get(request.arg("room"), ())) == 2:
            raise Reject(503, "there are two in this room already")

    def on_established(self, wsi: Wsi) -> None:
        members = self.rooms.setdefault(wsi.request.arg("room"), [])
        if len(members) == 2:  # a connection that we opened ourselves: no filter has seen it
            wsi.close(1013, "there are two in this room already")
            return
        members.append(wsi)
        if len(members) == 2:
            first = members[0]
            first.session.other, wsi.session.other = wsi, first
            first.set_timeout(None)
            wsi.callback_on_writable()

    def on_receive(self, wsi: Wsi, data: bytes) -> None:
        side: Side = wsi.session
        other = side.other
        if other is not None and other.session.has_left:
            return
        side.pieces.append((data, BINARY if wsi.frame_is_binary else TEXT, wsi.is_final_fragment))
        side.size += len(data) + PIECE_BYTES
        if side.size > self.options.max_backlog_bytes and not side.is_paused:
            side.is_paused = True
            wsi.rx_flow_control(False)
            if other is None:
                # Whom we do not read we do not hear leave either; so this must not last.
                wsi.set_timeout(self.options.wait_seconds)
        if other is not None:
            other.callback_on_writable()

    def on_writeable(self, wsi: Wsi) -> Answer:
        other = wsi.session.other
        if other is None:
            return None
        sender: Side = other.session
        while sender.pieces and not wsi.send_pipe_choked:
            data, opcode, final = sender.pieces.popleft()
            sender.size -= len(data) + PIECE_BYTES
            # After the first fragment of a message wsd makes the opcode a continuation by itself.
            if wsi.write(data, opcode, final):
                return CLOSE
        if sender.pieces:
            wsi.callback_on_writable()
        elif sender.has_left:
            wsi.close(1001, "the other one left")
        if sender.is_paused and sender.size <= self.options.max_backlog_bytes // 2:
            sender.is_paused = False
            other.rx_flow_control(True)
        return None

    def on_peer_close(self, wsi: Wsi, code: int, close_reason: str) -> None:
        self.leave(wsi)  # its descriptor may be open for a while yet

    def on_closed(self, wsi: Wsi, code: int, close_reason: str) -> None:
        self.leave(wsi)

    def leave(self, wsi: Wsi) -> None:
        """Let go of a connection that says no more; may be called again."""
        side: Side = wsi.session
        if side.has_left:
            return
        side.has_left = True
        name = wsi.request.arg("room")
        if wsi in self.rooms.get(name, ()):
            del self.rooms[name]  # with the other in it, who is to leave as well
        if side.other is not None:
            # It gets the rest in on_writeable.  What it sends from now on is for nobody, but its Close is to be heard.
            side.other.session.pieces.clear()
            side.other.rx_flow_control(True)
            side.other.callback_on_writable()


protocols = [Relay]
