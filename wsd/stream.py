"""One connection as a stream of bytes: what waits for the kernel, what is polled for, and how it ends in order.

Owns who holds its input back, the choke, the one deadline of its state, and the one place where that state changes.
Must not know frames or hooks; `Sender` and `Wsi` are built on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from wsd import log
from wsd.errors import PipeBroken
from wsd.rare import NOTHING, Rare
from wsd.transport import ERROR, READ, WRITE, IndirectPipe, Output, Pipe
from wsd.wire.closing import (
    DEAD,
    FINISH,
    FLUSHED,
    HTTP,
    LOST,
    NEXT,
    OPEN,
    PEER_END,
    STATES,
)

if TYPE_CHECKING:
    from wsd.binding import Binding
    from wsd.budget import Budget
    from wsd.context import Context
    from wsd.timers import Timer

# A hook is asked for more while less than this waits for the kernel, and reading stops while more does: what one
# default socket buffer takes at once, so that a fast reader never sees a pause.
LOW_WATER: Final = 65536

# Who does not want input now; reading stops while any of these is set.
HOLD_PLUGIN: Final = 1  # rx_flow_control(False)
HOLD_ROLE: Final = 2  # a response is being produced
HOLD_OUTPUT: Final = 4  # the peer does not read what we send
HOLD_END: Final = 8  # there is none any more: a stream at its end stays readable for ever
HOLD_RATE: Final = 16  # the peer sends more in a second than it may

# Who does so while a connection is open; from a close on, the peer's Close is looked for.
HOLD_OPEN: Final = HOLD_PLUGIN | HOLD_ROLE | HOLD_OUTPUT | HOLD_RATE

# In the place of what is polled for: nothing, not even hang-ups, which no mask keeps away.
PARKED: Final = -1


class NoPipe:
    """The pipe of a client that is not connected yet."""

    is_direct = True
    tls = None

    def has_pending(self) -> bool:
        """There is nothing."""
        return False

    def fileno(self) -> int:
        """There is no descriptor."""
        return -1

    def send_many(self, buffers: list[bytes | memoryview]) -> int:
        """There is nobody to take them."""
        return 0

    def close(self) -> None:
        """There is nothing to give back."""


class Stream:
    """A connection's bytes.  It closes no descriptor: a dead one is noted, and the context's reaper does that."""

    __slots__ = (
        "_deadline",
        "_hold",
        "_is_listed",
        "_mask",
        "_output",
        "_pipe",
        "_queue_bytes",
        "_rare",
        "_state",
        "_why",
        "binding",
        "budget",
        "context",
        "held",
    )

    def __init__(self, context: Context, pipe: Pipe | NoPipe, binding: Binding) -> None:
        self.context = context
        self.binding = binding
        self.budget: Budget = binding.budget
        binding.wsi_count += 1
        self._pipe: Pipe = pipe  # type: ignore[assignment]  # of a NoPipe only the descriptor is asked for
        self._output = Output(self._pipe)
        self._state = HTTP
        self._mask = READ
        self._hold = 0
        self._is_listed = False  # on the context's write list
        self._queue_bytes = 0  # what `send()` has queued and is not in the output yet
        self.held = 0  # bytes, as the context's memory account has it
        self._why = ""  # it ended, for the log
        self._deadline: Timer | None = None
        self._rare: Rare = NOTHING

    def _own_rare(self) -> Rare:
        """Where to set a fact that few connections have."""
        rare = self._rare
        if rare is NOTHING:
            rare = self._rare = Rare()
        return rare

    def _move(self, event: str) -> bool:
        """Change the state as `wire/closing.py` has it; reports whether it did."""
        after = NEXT[self._state].get(event)
        if after is None:
            return False
        if log.shown & log.DEBUG:
            log.debug("%s: %s, from %s to %s", self.tag, event, STATES[self._state], STATES[after])
        self._state = after
        if after == DEAD:
            self.context.note_dead(self)  # type: ignore[arg-type]  # the context knows the whole Wsi
        return True

    @property
    def tag(self) -> str:
        """The name of this connection in the log."""
        raise NotImplementedError

    def _read(self) -> None:
        """The descriptor is readable and nobody holds the input back."""
        raise NotImplementedError

    def _may_wait_for_reader(self) -> bool:
        """Reports whether reading may stop because the peer does not read."""
        raise NotImplementedError

    def _input_allowed(self) -> None:
        """Nobody holds the input back any more."""
        raise NotImplementedError

    def _deadline_due(self) -> None:
        """The deadline of this state ran out."""
        raise NotImplementedError

    @property
    def unsent(self) -> int:
        """Bytes that were put and that the kernel has not taken."""
        return self._output.size

    def fileno(self) -> int:
        """The descriptor, -1 after `on_closed`."""
        return self._pipe.fileno()

    def watch(self) -> None:
        """Be told by the selector from now on.  One that it does not take is lost: descriptors that are polled have a
        limit too, for all programs of a user together (epoll(7): max_user_watches)."""
        if self._pipe.fileno() >= 0:
            try:
                self.context.watch(self._pipe.fileno(), self._mask, self._listener())
            except OSError as error:
                self._mask = PARKED
                log.warn("%s: cannot be polled: %s", self.tag, error.strerror)
                self._lost(f"cannot be polled: {error.strerror}")

    def _listener(self) -> Callable[[int], None]:
        """What the selector calls: a pipe whose descriptor says something else than its bytes has a way of its own."""
        return self.on_events if self._pipe.is_direct else self.on_pipe_events

    def replace_pipe(self, pipe: Pipe) -> None:
        """The same socket speaks otherwise from here on; nothing waits to be sent."""
        self._pipe = pipe
        self._output = Output(pipe)
        if self._mask != PARKED:
            self.context.listen_to(pipe.fileno(), self._listener())
        self._update_mask()
        self._note_pending()

    def _note_pending(self) -> None:
        """Have what the pipe holds read in the next turn, however quiet its descriptor is."""
        if self._pipe.has_pending() and not self._hold:
            self.context.note_backlog(self)  # type: ignore[arg-type]  # the context knows the whole Wsi

    def unwatch(self) -> None:
        """The end of `watch`; before the descriptor is closed."""
        if self._mask != PARKED and self._pipe.fileno() >= 0:
            self.context.unwatch(self._pipe.fileno())

    def put(self, data: bytes) -> None:
        """Add raw bytes to what leaves in the next write pass (the role's way)."""
        self._output.put(data)
        self._list_once()

    def _list(self) -> None:
        if self._state != DEAD:
            self._is_listed = True
            self.context.note_writer(self)  # type: ignore[arg-type]  # the context knows the whole Wsi

    def _list_once(self) -> None:
        if not self._is_listed:
            self._list()

    def _set_hold(self, bit: int, on: bool) -> None:
        before = self._hold
        self._hold = before | bit if on else before & ~bit
        if bool(before) != bool(self._hold):
            self._update_mask()
            if not self._hold:
                self._input_allowed()

    def _update_mask(self) -> None:
        """Tell the selector what we wait for, if that changed."""
        mask = (0 if self._hold else READ) | (WRITE if self._output.is_choked else 0)
        if not self._pipe.is_direct:
            mask = self._indirect.interest(mask)
        if mask != self._mask and self._state != DEAD:
            if self._mask != PARKED:
                self._mask = mask
                self.context.set_interest(self._pipe.fileno(), mask)
            elif not self._hold:
                self._mask = mask
                self.watch()

    def _park(self) -> None:
        """Leave the table until nobody holds the input back: a hang-up is told as long as it lasts."""
        if self._mask != PARKED:
            self.unwatch()
            self._mask = PARKED

    def on_events(self, mask: int) -> None:
        """The selector has something for this wsi."""
        if mask & WRITE and self._output.is_choked:
            self._flush()
            self._list_once()
        if self._state == DEAD:
            return
        if mask & READ and not self._hold:
            self._read()
        elif mask & ERROR:
            self._hung_up(mask)

    @property
    def _indirect(self) -> IndirectPipe:
        return self._pipe  # type: ignore[return-value]  # only where it is not direct

    def on_pipe_events(self, mask: int) -> None:
        """The selector has something for a wsi whose pipe is indirect."""
        self.on_events(self._indirect.translate(mask))
        self._look_at_pipe()

    def read_pending(self) -> None:
        """Read what the pipe holds though its descriptor is quiet, or begin with what it has to do first."""
        if self._pipe.has_pending() and self._state != DEAD and not self._hold:
            self._read()
            self._look_at_pipe()

    def _look_at_pipe(self) -> None:
        """What an indirect pipe waits for, or holds, may be something else than before."""
        if self._pipe.is_direct:
            return
        pipe = self._indirect
        if not pipe.has_changed or self._state == DEAD:
            return
        pipe.has_changed = False
        self._update_mask()
        self._note_pending()
        settled = pipe.take_settled()
        if settled is not None:
            settled()

    def _hung_up(self, mask: int) -> None:
        """Both directions have ended, and nobody reads."""
        # Bytes may lie before the reset, but nobody wants them now, and waiting for that would be a spin.
        self._lost(self._pipe.error_text() or "connection ended while paused")

    def finish(self, *, has_ended: bool = False) -> None:
        """Let what was put leave, then end the connection in order: SHUT_WR, and input discarded until its end.

        Args:
            has_ended: There is no end to wait for: the peer's stream is over, or it is no stream with two ends.
        """
        if self._move(FINISH):
            if has_ended:
                self._move(PEER_END)
                self._set_hold(HOLD_END, True)
            self.set_deadline(self.budget.close_seconds)
            self._want_end()

    def _want_end(self) -> None:
        """Nothing that comes is held back any more, and what is to leave gets its turn."""
        self._set_hold(HOLD_OPEN, False)
        self._list_once()

    def abort(self, why: str = "aborted") -> None:
        """End the connection at the end of the turn, without a word to the peer."""
        self._lost(why)

    def _lost(self, why: str) -> None:
        """The connection is over, now; the reaper does the rest."""
        if self._move(LOST):
            self._why = self._why or why

    def _flush(self) -> None:
        """Give the output to the kernel; when it refuses, poll for writeability and watch the clock."""
        output = self._output
        was_choked = output.is_choked
        try:
            sent = output.flush()
        except PipeBroken as broken:
            self._lost(str(broken))
            return
        self.context.counters.bytes_sent += sent
        if output.is_choked or was_choked:
            self._choke_changed()
        elif self.held:
            self._note_held()

    def _choke_changed(self) -> None:
        """The kernel began or ceased to refuse bytes, or more was read or queued while it does."""
        output = self._output
        if output.is_choked:
            if self._rare.slow_timer is None and self._state <= OPEN:
                self._watch_reader(self._count_fetched())
            if self._state <= OPEN and output.size + self._queue_bytes >= LOW_WATER and self._may_wait_for_reader():
                self._set_hold(HOLD_OUTPUT, True)
        else:
            if self._rare.slow_timer is not None:
                self._rare.slow_timer.cancel()
                self._rare.slow_timer = None
            self._set_hold(HOLD_OUTPUT, False)
        self._update_mask()
        self._note_held()

    def _count_held(self) -> int:
        """How many bytes wait here."""
        return 0 if self._state == DEAD else self._output.size + self._queue_bytes

    def _note_held(self) -> None:
        """What waits here is more than passes through, or no longer is: have the context's memory account know."""
        self.context.memory.note(self, self._count_held(), self.context.now)  # type: ignore[arg-type]  # it is a Wsi

    def _count_fetched(self) -> int:
        """How many bytes the peer's end has, ever.  What our kernel took says less: it holds megabytes, and wants no
        more until a third of them is gone, which takes a steady reader on a slow line longer than we wait."""
        return self._output.taken - self._pipe.in_flight()

    def _watch_reader(self, fetched: int) -> None:
        """The peer has `fetched` bytes now; look again when it should have more."""
        rare = self._own_rare()
        rare.fetched = fetched
        rare.slow_timer = self.context.call_at(self.budget.slow_reader_seconds, self._check_slow_reader)

    def _check_slow_reader(self) -> None:
        """The output has been choked for `slow_reader_seconds`; a peer that took a buffer's worth meanwhile lives."""
        rare = self._own_rare()
        rare.slow_timer = None
        fetched = self._count_fetched()
        if fetched - rare.fetched >= LOW_WATER:
            self._watch_reader(fetched)
            return
        log.warn("%s: reader too slow, %d bytes unsent; closed", self.tag, self._output.size + self._queue_bytes)
        self.context.counters.slow_readers += 1
        self._lost("reader too slow")

    def _after_close(self) -> None:
        """Our last byte may have left: end our direction."""
        if self._output.size or not self._move(FLUSHED):
            return
        if self._state == DEAD:
            self._say_end()
        elif not self._waits_for_peers_end():
            self._pipe.shutdown_write()
            self._look_at_pipe()

    def _say_end(self) -> None:
        """Both directions have ended, in order.  To close a plain socket says so; TLS has a word of its own for it."""
        if not self._pipe.is_direct:
            self._pipe.shutdown_write()

    def _waits_for_peers_end(self) -> bool:
        """Reports whether the peer is to end its stream before we do."""
        raise NotImplementedError

    def set_deadline(self, seconds: float | None) -> None:
        """The one deadline of the state this wsi is in; the role's while HTTP, the closing handshake's after that."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.context.call_at(seconds, self._deadline_due)
