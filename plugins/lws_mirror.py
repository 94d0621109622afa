"""libwebsockets' `lws-mirror-protocol`: every message goes to everyone in the room, its sender included.

The room is the address's `?mirror=NAME`; without one all meet in the same.

A model for authors: rooms, a message for many, a ring with one head and many tails, and what to do about a reader that
does not read.  Who takes a message when it comes gets it at once, from `offer`.  For those who do not it is kept, once
for all of them, in a ring, from which each reads at its own pace until it has caught up.  When the ring is nearly full
nobody in the room is read any more, and those who hold it up have three seconds to catch up, or are closed; then all go
on.  So nothing is lost and nothing grows.

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

    def __init__(self, name: str, ring_size: int, context: Context) -> None:
        self.name = name
        self.context = context
        self.wsis: dict[Wsi, None] = {}
        self.current: dict[Wsi, None] = {}
        """Those of them who have all that was said; for each of the others the ring has a tail."""
        self.ring: Ring[tuple[bytes, int], Wsi] = Ring(ring_size)
        self.blockers: set[Wsi] = set()
        """Who keeps the room from going on; while there is anybody, nobody in it is read."""
        # libwebsockets' RXFLOW_MIN and RXFLOW_MAX: 4 and 21 of 32.  Pausing at the last moment and going on well
        # below it keeps a busy room from switching back and forth with every message.
        self.pause_below = max(1, ring_size // 8)
        self.may_wait = ring_size - 2 * ring_size // 3

    def join(self, wsi: Wsi) -> None:
        self.wsis[wsi] = self.current[wsi] = None
        if self.blockers:
            wsi.rx_flow_control(False)

    def keep(self, message: str | bytes, late: list[Wsi]) -> None:
        """Keep a message for those who could not take it, and for all who are behind already; pause the room if that
        nearly filled the ring.

        There is always space for it: a paused room delivers nothing.
        """
        for wsi in late:
            del self.current[wsi]
            wsi.session.tail = self.ring.join(wsi)
            wsi.callback_on_writable()
        if self.ring.tails:
            # Text is encoded here, once for all of them.
            self.ring.insert((message.encode(), TEXT) if isinstance(message, str) else (message, BINARY))
            if self.ring.free < self.pause_below and not self.blockers:
                self.pause()

    def pause(self) -> None:
        for tail in self.ring.lagging(self.may_wait):
            if tail.owner.is_closing:
                self.leave(tail.owner)  # it will not catch up
            else:
                self.blockers.add(tail.owner)
        if self.blockers:
            # Not a timer of each wsi: those end when it begins to close, for whatever reason, and the room would wait
            # for the end of that.
            self.timer = self.context.call_later(MAX_BLOCK_SECONDS, self.end_pause)
            for wsi in self.wsis:
                wsi.rx_flow_control(False)

    def caught_up(self, wsi: Wsi) -> None:
        """A blocker has drained, or gone; the last one sets the room going again."""
        self.blockers.remove(wsi)
        if not self.blockers:
            self.timer.cancel()
            for other in self.wsis:
                other.rx_flow_control(True)

    def end_pause(self) -> None:
        """The others have waited long enough."""
        for wsi in tuple(self.blockers):
            # Out of the room first: a closing handshake, which a peer that does not read does not answer, takes time.
            self.leave(wsi)
            wsi.close(1008, "too slow for the others")

    def leave(self, wsi: Wsi) -> None:
        """Forget a wsi, and what only it had still to read; may be called again."""
        if wsi in self.wsis:
            del self.wsis[wsi]
            if wsi in self.current:
                del self.current[wsi]
            else:
                self.ring.leave(wsi.session.tail)
            if wsi in self.blockers:
                self.caught_up(wsi)


class Reader:
    """What one connection remembers: `room` from when it is established, `tail` while it is behind."""

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
            room = self.rooms[name] = Room(name, self.options.ring_size, self.context)
        wsi.session.room = room
        room.join(wsi)

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        room: Room = wsi.session.room
        room.keep(message, self.offer(message, room.current))

    def on_writeable(self, wsi: Wsi) -> Answer:
        room: Room = wsi.session.room
        ring = room.ring
        if wsi not in room.wsis or wsi in room.current:
            return None
        tail = wsi.session.tail
        while ring.waiting(tail) and not wsi.send_pipe_choked:
            data, opcode = ring.peek(tail)
            if wsi.write(data, opcode):
                return CLOSE
            ring.consume(tail)
        if wsi in room.blockers and ring.waiting(tail) <= room.may_wait:
            room.caught_up(wsi)
        if ring.waiting(tail):
            wsi.callback_on_writable()
        else:
            ring.leave(tail)
            room.current[wsi] = None
        return None

    def on_closed(self, wsi: Wsi, code: int, close_reason: str) -> None:
        room: Room = wsi.session.room
        room.leave(wsi)
        # One that was too slow may end after its room has, when another one has the name.
        if not room.wsis and self.rooms.get(room.name) is room:
            del self.rooms[room.name]


protocols = [Mirror]
