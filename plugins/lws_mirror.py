"""libwebsockets' `lws-mirror-protocol`: every message goes to everyone in the room, its sender included.

The room is the address's `?mirror=NAME`; without one all meet in the same.

A model for authors: rooms, a ring with one head and many tails, and what to do about a reader that does not read.  A
message is kept once for all readers.  When the ring is nearly full nobody in the room is read any more, and those who
hold it up have three seconds to catch up, or are closed; then all go on.  So nothing is lost and nothing grows.

Where it differs from the original: messages are whole (the original sends each piece of up to 4096 bytes as a message
of its own), binary stays binary (the original makes all of it text), and who joins hears what is said from then on
(there it starts at the oldest unread message, which depends on how slow somebody else is).
"""

from __future__ import annotations

from pydantic import Field

from wsd import BINARY, CLOSE, TEXT, Answer, Context, Options, Protocol, Reject, Request, Ring, Tail, Wsi

# As in libwebsockets; long enough for a phone to change cells, short enough for the others to wait.
MAX_BLOCK_SECONDS = 3


class MirrorOptions(Options):
    """The table [protocols.lws-mirror-protocol] of the configuration."""

    ring_size: int = Field(32, ge=2, le=65536, description="Messages kept in a room for readers that are behind.")
    max_rooms: int = Field(3, ge=1, description="Rooms at one time; who asks for one more is refused with 503.")


class Room:
    """Those who mirror each other."""

    def __init__(self, name: str, ring_size: int) -> None:
        self.name = name
        self.ring: Ring[tuple[bytes, int], Wsi] = Ring(ring_size)
        self.wsis: dict[Wsi, None] = {}
        self.blockers: set[Wsi] = set()
        """Who keeps the room from going on; while there is anybody, nobody in it is read."""
        # libwebsockets' RXFLOW_MIN and RXFLOW_MAX: 4 and 21 of 32.  Pausing at the last moment and going on well
        # below it keeps a busy room from switching back and forth with every message.
        self.pause_below = max(1, ring_size // 8)
        self.may_wait = ring_size - 2 * ring_size // 3

    def put(self, element: tuple[bytes, int]) -> None:
        """Keep a message for every reader; pause the room if that nearly filled the ring.

        There is always space for it: a paused room delivers nothing.
        """
        self.ring.insert(element)
        for wsi in self.wsis:
            wsi.callback_on_writable()
        if self.ring.free < self.pause_below and not self.blockers:
            self.pause()

    def pause(self) -> None:
        for tail in self.ring.lagging(self.may_wait):
            wsi = tail.owner
            if wsi.set_timer(MAX_BLOCK_SECONDS):
                self.leave(wsi)  # it is closing already, and will not catch up
            else:
                self.blockers.add(wsi)
        if self.blockers:
            for wsi in self.wsis:
                wsi.rx_flow_control(False)

    def caught_up(self, wsi: Wsi) -> None:
        """A blocker has drained, or gone; the last one sets the room going again."""
        self.blockers.remove(wsi)
        wsi.set_timer(None)
        if not self.blockers:
            for other in self.wsis:
                other.rx_flow_control(True)

    def leave(self, wsi: Wsi) -> None:
        """Forget a wsi, and what only it had still to read; may be called again."""
        if wsi in self.wsis:
            del self.wsis[wsi]
            self.ring.leave(wsi.session.tail)
            if wsi in self.blockers:
                self.caught_up(wsi)


class Reader:
    """What one connection remembers: filled in when it is established."""

    __slots__ = ("room", "tail")
    room: Room
    tail: Tail[Wsi]


class Mirror(Protocol):
    name = "lws-mirror-protocol"
    Session = Reader
    Options = MirrorOptions

    def on_protocol_init(self, context: Context, options: MirrorOptions) -> None:
        self.options = options
        self.rooms: dict[str, Room] = {}

    def on_filter_protocol_connection(self, wsi: Wsi, request: Request) -> None:
        if request.arg("mirror", "") not in self.rooms and len(self.rooms) >= self.options.max_rooms:
            raise Reject(503, f"there are {len(self.rooms)} mirrors already, and no more are allowed")

    def on_confirm_extension(self, wsi: Wsi, name: str, params: dict[str, str | None]) -> Answer:
        return CLOSE  # as in the original: every line would be compressed anew for everybody in the room

    def on_established(self, wsi: Wsi) -> None:
        name = wsi.request.arg("mirror", "")
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = Room(name, self.options.ring_size)
        room.wsis[wsi] = None
        wsi.session.room, wsi.session.tail = room, room.ring.join(wsi)
        if room.blockers:
            wsi.rx_flow_control(False)

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        # Text is encoded here, once for all readers.
        element = (message.encode(), TEXT) if isinstance(message, str) else (message, BINARY)
        wsi.session.room.put(element)

    def on_writeable(self, wsi: Wsi) -> Answer:
        room, tail = wsi.session.room, wsi.session.tail
        ring = room.ring
        if wsi not in room.wsis:
            return None
        while ring.waiting(tail) and not wsi.send_pipe_choked:
            data, opcode = ring.peek(tail)
            if wsi.write(data, opcode):
                return CLOSE
            ring.consume(tail)
        if ring.waiting(tail):
            wsi.callback_on_writable()
        if wsi in room.blockers and ring.waiting(tail) <= room.may_wait:
            room.caught_up(wsi)
        return None

    def on_timer(self, wsi: Wsi) -> None:
        # Not `set_timeout`: it waits for the closing handshake, which a peer that does not read does not answer, and
        # the room with it.  Out of the room first, then the close may take its time.
        wsi.session.room.leave(wsi)
        wsi.close(1008, "too slow for the others")

    def on_closed(self, wsi: Wsi, code: int, close_reason: str) -> None:
        room: Room = wsi.session.room
        room.leave(wsi)
        if not room.wsis:
            self.rooms.pop(room.name, None)


protocols = [Mirror]
