"""A wsi under hypothesis: whatever happens to it in whatever order, it ends once, in order, and with one Close at most.

Both roles, with and without compression, and a kernel that takes as much as it likes.
"""

from __future__ import annotations

import zlib
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, TEXT, close_frame, frame
from tests.support.hearing import Hearing
from tests.support.loopless import Loopless
from tests.support.notes import Notes
from wsd.errors import PipeBroken
from wsd.transport import ERROR, READ
from wsd.wire.closing import DEAD, OPEN
from wsd.wire.extensions import Agreement

AGREED = Agreement(False, False, 12, 12, ())
THEIRS = 4001
"""The code of the peer's Close."""

PEER = ["text", "text", "text", "begin", "end", "ping", "bomb", "read", "read", "read"]
PLUGIN = ["send", "send", "large", "write", "write", "ping us", "pause", "go"]
OTHERS = ["turn", "turn", "turn", "room", "allow", "wait"]
ENDS = ["close", "close", "peer close", "peer close", "wrong", "fin", "reset"]
# An end is one deed in six, so that something has happened before it and something is under way when it comes.
DEEDS = st.lists(st.sampled_from(2 * PEER + PLUGIN + OTHERS + ENDS), min_size=12, max_size=40)

ANSWERS = st.sampled_from(["", "send", "ask", "ask", "ask", "pause", "pause", "ask and close", "close", "raise"])
"""What `on_receive` does."""


class Walk:
    """One wsi, and what is known of it."""

    def __init__(self, is_client: bool, is_compressed: bool, answer: str) -> None:
        self.answer = answer
        self.protocol = Notes(
            receive=lambda wsi, data: self.received(wsi), writeable=lambda wsi: self.asked(wsi), closed=self.ended
        )
        self.line = Loopless(self.protocol, is_client=is_client, agreement=AGREED if is_compressed else None)
        self.wsi: Any = self.line.wsi
        self.mask: dict[str, Any] = {"mask": None} if is_client else {}
        self.compress = zlib.compressobj(wbits=-12) if is_compressed else None
        self.hearing = Hearing(is_masked=is_client, window_bits=12 * is_compressed)
        self.state = OPEN
        self.count = 0
        self.sent: list[str] = []  # what `send` took
        self.written: list[str] = []  # what `write` took, whole messages
        self.open = ""
        self.is_mid = False  # of a message of the peer's
        self.is_own_close = False
        self.is_over = False  # no more than this is sure to be heard: a violation, an end or a loss
        self.close_read = False
        self.is_lost = False
        self.codes: list[int] = []
        self.faults: list[str] = []  # what a hook saw, where an assertion would be a plugin's mistake

    # -- the plugin -----------------------------------------------------------------------------------------------

    def received(self, wsi: Any) -> Any:
        if wsi._state != OPEN:
            self.faults.append("delivered after a close")
        return self.plugin(self.answer)

    def asked(self, wsi: Any) -> Any:
        if self.is_own_close:
            self.faults.append("asked after our close")
        self.count += 1
        text = f"w{self.count}"
        if self.count % 3:
            if wsi.write(text) == 0:
                self.written.append(self.open + text)
                self.open = ""
        elif wsi.write(text, final=False) == 0:
            self.open += text
        return None

    def plugin(self, answer: str) -> Any:
        if answer == "send":
            self.send("x")
        elif answer.startswith("ask"):
            self.send("x")
            self.wsi.callback_on_writable()
        elif answer == "pause":
            self.wsi.rx_flow_control(False)
        elif answer == "close":
            self.close()
        elif answer == "raise":
            self.is_own_close = True
            raise ValueError("a plugin's mistake")
        if answer == "ask and close":
            self.is_own_close = True
            return -1
        return None

    def ended(self, wsi: Any, code: int, close_reason: str) -> None:
        self.codes.append(code)

    def send(self, filling: str, size: int = 1) -> None:
        self.count += 1
        text = f"s{self.count}" + filling * size
        if self.wsi.send(text) == 0:
            self.sent.append(text)

    def close(self) -> None:
        if self.wsi.close(4000) == 0:
            self.is_own_close = True

    # -- the peer -------------------------------------------------------------------------------------------------

    def peer(self, opcode: int, payload: bytes, final: bool = True) -> bytes:
        """A frame of the peer's, compressed if that was agreed."""
        rsv = 0
        if self.compress is not None and opcode < CLOSE:
            payload = self.compress.compress(payload) + self.compress.flush(zlib.Z_SYNC_FLUSH)
            payload = payload[:-4] if final else payload
            rsv = 4 if opcode else 0
        return frame(opcode, payload, final=final, rsv=rsv, **self.mask)

    def arrive(self, data: bytes | Exception) -> None:
        self.line.pipe.incoming.append(data)

    # -- one step -------------------------------------------------------------------------------------------------

    def step(self, deed: str) -> None:
        getattr(self, "do_" + deed.replace(" ", "_"))()
        self.look()

    def look(self) -> None:
        """What must be true after every step."""
        state = self.wsi._state
        assert state >= self.state, "a state came back"
        self.state = state
        assert self.line.context.dead == [self.wsi] * (state == DEAD)
        self.hearing.hear(self.line.sent())
        assert self.codes == [], "on_closed before the reaper"
        assert self.faults == []

    def do_turn(self) -> None:
        self.line.context.turn()

    def do_text(self) -> None:
        if not self.is_mid:
            self.arrive(self.peer(TEXT, b"hello"))

    def do_begin(self) -> None:
        self.arrive(self.peer(CONTINUATION if self.is_mid else TEXT, b"one ", final=False))
        self.is_mid = True

    def do_end(self) -> None:
        if self.is_mid:
            self.arrive(self.peer(CONTINUATION, b"two"))
            self.is_mid = False

    def do_ping(self) -> None:
        self.arrive(self.peer(PING, b"?"))

    def do_bomb(self) -> None:
        if not self.is_mid and self.compress is not None:
            self.arrive(self.peer(BINARY, bytes(200_000)))

    def do_read(self) -> None:
        """The loop reads what has arrived; in one read what can be joined, as a kernel would."""
        if self.wsi._state == DEAD:
            return
        joined: list[Any] = []
        for data in self.line.pipe.incoming:
            if joined and data and isinstance(data, bytes) and isinstance(joined[-1], bytes):
                joined[-1] += data
            else:
                joined.append(data)
        self.line.pipe.incoming[:] = joined
        if joined and not self.wsi._hold:
            self.wsi.on_events(READ)

    def do_send(self) -> None:
        self.send("x")

    def do_large(self) -> None:
        self.send("y", 70_000)

    def do_write(self) -> None:
        self.wsi.callback_on_writable()

    def do_pause(self) -> None:
        self.wsi.rx_flow_control(False)

    def do_go(self) -> None:
        self.wsi.rx_flow_control(True)

    def do_ping_us(self) -> None:
        self.wsi.ping(b"p")

    def do_room(self) -> None:
        self.line.pipe.room = 3

    def do_allow(self) -> None:
        if self.wsi._state != DEAD:
            self.line.allow()

    def do_wait(self) -> None:
        self.line.context.pass_time(0.1)

    def do_close(self) -> None:
        self.close()

    def do_peer_close(self) -> None:
        if not self.is_over:
            self.arrive(close_frame(THEIRS) if self.mask == {} else frame(CLOSE, b"\x0f\xa1", mask=None))
            self.close_read = self.is_over = True

    def do_wrong(self) -> None:
        if not self.is_over:
            self.arrive(frame(3, b"", **self.mask))
            self.is_over = True

    def do_fin(self) -> None:
        self.arrive(b"")
        self.is_over = True

    def do_reset(self) -> None:
        self.is_lost = True
        if self.wsi._state != DEAD:
            self.line.pipe.incoming[:] = [PipeBroken("ECONNRESET")]
            self.wsi.on_events(READ | ERROR)

    # -- the end --------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Whatever was not done yet is, and the connection is closed, in order if it was not lost."""
        for _ in range(8):
            for deed in ("go", "read", "allow", "turn"):
                self.step(deed)
        if self.wsi._state == OPEN:
            self.step("close")
        for _ in range(8):
            for deed in ("read", "allow", "turn"):
                self.step(deed)
        self.line.context.pass_time(self.line.binding.budget.close_seconds + 1)
        self.look()
        assert self.wsi._state == DEAD
        self.wsi.reap()
        assert len(self.codes) == 1, "on_closed is to come once"
        assert len(self.line.context.timers) == 0
        assert self.line.pipe.is_closed

    def check(self) -> None:
        event(f"ended {'lost' if self.is_lost else 'in order'}")
        assert len(self.hearing.closes) <= 1
        heard = self.hearing.texts
        if self.is_lost:
            assert self.codes[0] in (THEIRS, 1006)
            return
        assert self.codes == [THEIRS if self.close_read else 1006]
        assert [text for text in heard if text[0] == "w"] == self.written
        # What was sent behind a message that never ended cannot leave.
        sent = [text for text in heard if text[0] == "s"]
        assert sent == self.sent[: len(sent)]
        assert self.hearing.is_mid_message is bool(self.open)
        assert self.open or sent == self.sent


@settings(deadline=None)  # a walk has a hundred steps
@given(st.booleans(), st.booleans(), ANSWERS, DEEDS)
def test_it_ends_once_and_in_order(is_client: bool, is_compressed: bool, answer: str, deeds: list[str]) -> None:
    walk = Walk(is_client, is_compressed, answer)
    for deed in deeds:
        walk.step(deed)
    walk.finish()
    walk.check()
