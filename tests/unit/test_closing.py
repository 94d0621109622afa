"""wsd/wire/closing.py: every event in every state as it was decided, and each transition on a real wsi.

The table stands here a second time, in another form: a change of one has to be a change of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.support.client import MASK, close_frame, frame
from tests.support.loopless import REQUEST, Loopless, ScriptedPipe
from tests.support.notes import Notes
from wsd.errors import PipeBroken
from wsd.protocol import Peer
from wsd.transport import ERROR, READ, WRITE
from wsd.wire import closing
from wsd.wire.closing import EVENTS, NEXT
from wsd.wsi import Wsi

STATES = (
    *("HTTP", "OPEN", "CLOSING", "ANSWERING", "ANSWERING_ENDED"),
    *("CLOSE_SENT", "FINISHING", "FINISHING_ENDED", "DRAINING", "DEAD"),
)

TABLE = """
                    HTTP  OPEN  CLOSING  ANSWERING  ANSWERING_ENDED  CLOSE_SENT  FINISHING  FINISHING_ENDED  DRAINING  DEAD
    upgraded        OPEN  .     .        .          .                .           .          .                .         .
    finish          FIN   .     .        .          .                .           .          .                .         .
    local-close     .     CLO   .        .          .                .           .          .                .         .
    peer-close      .     ANS   ANS      .          .                FIN         .          .                .         .
    violation       .     ANS   ANS      .          .                FIN         .          .                .         .
    peer-end        .     ANSE  ANSE     ANSE       .                FINE        FINE       .                DEAD      .
    put             .     .     SENT     FIN        FINE             .           .          .                .         .
    flushed         .     .     .        .          .                .           DRAIN      DEAD             .         .
    done            .     .     .        DEAD       .                .           DEAD       .                .         .
    deadline        .     .     DEAD     DEAD       DEAD             DEAD        DEAD       DEAD             DEAD      .
    lost            DEAD  DEAD  DEAD     DEAD       DEAD             DEAD        DEAD       DEAD             DEAD      .
"""  # noqa: E501
"""What each event makes of each state; a dot: it changes nothing."""

SHORT = {
    "OPEN": "OPEN",
    "CLO": "CLOSING",
    "ANS": "ANSWERING",
    "ANSE": "ANSWERING_ENDED",
    "SENT": "CLOSE_SENT",
    "FIN": "FINISHING",
    "FINE": "FINISHING_ENDED",
    "DRAIN": "DRAINING",
    "DEAD": "DEAD",
}


def cells() -> Iterator[tuple[str, str, str]]:
    """Every state, event, and the state that comes next."""
    head, *rows = TABLE.strip().splitlines()
    assert tuple(head.split()) == STATES
    for row in rows:
        event, *after = row.split()
        for state, short in zip(STATES, after, strict=True):
            yield state, event.replace("-", " "), state if short == "." else SHORT[short]


def number(state: str) -> int:
    value = getattr(closing, state)
    assert isinstance(value, int)
    return value


class TestTable:
    @pytest.mark.parametrize(("state", "event", "after"), list(cells()))
    def test_each_event_in_each_state(self, state: str, event: str, after: str) -> None:
        assert NEXT[number(state)].get(event, number(state)) == number(after)

    def test_the_cells_are_all_there_are(self) -> None:
        assert [number(state) for state in STATES] == list(range(len(NEXT)))
        assert {(state, event) for state, event, _ in cells()} == {(s, e) for s in STATES for e in EVENTS}
        assert {event for row in NEXT for event in row} == set(EVENTS)

    def test_no_state_comes_back(self) -> None:
        for state, row in enumerate(NEXT):
            assert all(after > state for after in row.values())

    def test_every_path_ends_dead(self) -> None:
        """None comes back, so a path is finite; it can end only in a state that nothing leads out of."""
        assert [state for state, row in enumerate(NEXT) if not row] == [closing.DEAD]

    def test_every_state_has_two_ends_that_need_no_peer(self) -> None:
        """Except those that may last: in HTTP the role has the clock, and an open connection has none."""
        for state, row in enumerate(NEXT[: closing.DEAD]):
            assert row[closing.LOST] == closing.DEAD
            assert row.get(closing.DEADLINE) == (closing.DEAD if state > closing.OPEN else None)

    def test_after_the_peers_end_no_state_waits_for_it(self) -> None:
        for state in (closing.ANSWERING_ENDED, closing.FINISHING_ENDED):
            assert not {closing.PEER_CLOSE, closing.PEER_END, closing.VIOLATION} & set(NEXT[state])

    def test_nothing_is_put_twice(self) -> None:
        """Whatever follows PUT, no PUT follows it."""
        for row in NEXT:
            seen, reached = set(), {row[closing.PUT]} if closing.PUT in row else set()
            while reached:
                state = reached.pop()
                assert closing.PUT not in NEXT[state]
                seen.add(state)
                reached |= set(NEXT[state].values()) - seen


# -- on a real wsi ----------------------------------------------------------------------------------------------------

X = b"\x81\x01x"
"""What was sent before all else, and what the kernel refuses until a test allows it."""
OURS = b"\x88\x02\x0f\xa0"
"""Our Close of 4000."""
ECHO = b"\x88\x02\x0f\xa1"
"""The answer to the peer's Close of 4001."""
WRONG = b"\x88\x13\x03\xeareserved opcode 3"
"""The answer to its violation."""


class Role:
    """A role that does what a test tells the wsi itself, and nothing else."""

    def receive(self, data: bytes) -> None: ...
    def writable(self) -> None: ...
    def write(self, data: bytes, final: bool) -> None: ...
    def end_of_input(self) -> None: ...
    def timed_out(self) -> None: ...
    def close_asked(self) -> None: ...
    def stop(self) -> None: ...
    def closed(self) -> None: ...


def in_state(state: str) -> Loopless:
    """A wsi of that state, on whose way lies X, which the kernel has refused."""
    line = Loopless(Notes())
    if state == "HTTP":
        pipe, listener = ScriptedPipe(), line.wsi.listener
        line.pipe = pipe
        line.wsi = Wsi(line.context, line.binding, pipe, Peer("h", 1), Peer("h", 2), 2, listener)  # type: ignore[arg-type]
        line.wsi.role = Role()
    line.pipe.room = 0
    line.wsi.put(X)
    line.context.turn()
    assert line.wsi._output.is_choked
    for deed in WAYS[state]:
        DEEDS[deed](line)
    assert line.wsi._state == number(state)
    line.sent()
    return line


def lose(line: Loopless) -> None:
    """A reset, whether the wsi reads or not."""
    line.pipe.incoming.append(PipeBroken("ECONNRESET"))
    line.wsi.on_events(READ | ERROR)


def reap_or_allow(line: Loopless) -> None:
    """What is still to leave leaves, unless it is over."""
    if line.context.dead:
        line.wsi.reap()
    else:
        line.allow()


DEEDS: dict[str, Callable[[Loopless], object]] = {
    "upgraded": lambda line: line.wsi.upgrade(line.binding, REQUEST, None, b"", b""),
    "finish": lambda line: line.wsi.finish(),
    "local close": lambda line: line.wsi.close(4000),
    "peer close": lambda line: line.receive(close_frame(4001)),
    "violation": lambda line: line.receive(frame(3)),
    "peer end": lambda line: line.receive(b""),
    "put": lambda line: line.allow(len(X)),  # X leaves, so that what is noted is put; and that the kernel refuses
    "flushed": lambda line: line.allow(),
    "done": lambda line: line.wsi._end_now(),  # a pipe without a socket does not get so far by itself
    "deadline": lambda line: line.context.pass_time(line.binding.budget.close_seconds + 1),
    "lost": lose,
}

WAYS = {
    "HTTP": (),
    "OPEN": (),
    "CLOSING": ("local close",),
    "ANSWERING": ("peer close",),
    "ANSWERING_ENDED": ("local close", "peer end"),
    "CLOSE_SENT": ("local close", "put"),
    "FINISHING": ("peer close", "put"),
    "FINISHING_ENDED": ("local close", "peer end", "put"),
    "DRAINING": ("peer close", "flushed"),
    "DEAD": ("lost",),
}


class Shown(NamedTuple):
    """A transition: what leaves once the kernel takes everything, and whether a FIN follows before the peer's."""

    state: str
    event: str
    leaves: bytes = b""
    fin: bool = False


SHOWN = [
    Shown("HTTP", "upgraded", X),
    Shown("HTTP", "finish", X, fin=True),
    Shown("HTTP", "lost"),
    Shown("OPEN", "local close", X + OURS),
    Shown("OPEN", "peer close", X + ECHO, fin=True),
    Shown("OPEN", "violation", X + WRONG, fin=True),
    Shown("OPEN", "peer end", X),
    Shown("OPEN", "lost"),
    # Close crosses Close, or anything else that comes while ours is a note: ours is what leaves.
    Shown("CLOSING", "peer close", X + OURS, fin=True),
    Shown("CLOSING", "violation", X + OURS, fin=True),
    Shown("CLOSING", "peer end", X + OURS),
    Shown("CLOSING", "put", X + OURS),
    Shown("CLOSING", "deadline"),
    Shown("CLOSING", "lost"),
    Shown("ANSWERING", "peer end", X + ECHO),
    Shown("ANSWERING", "put", X + ECHO, fin=True),
    Shown("ANSWERING", "done", fin=True),
    Shown("ANSWERING", "deadline"),
    Shown("ANSWERING", "lost"),
    Shown("ANSWERING_ENDED", "put", X + OURS),
    Shown("ANSWERING_ENDED", "deadline"),
    Shown("ANSWERING_ENDED", "lost"),
    Shown("CLOSE_SENT", "peer close", OURS, fin=True),
    Shown("CLOSE_SENT", "violation", OURS, fin=True),
    Shown("CLOSE_SENT", "peer end", OURS),
    Shown("CLOSE_SENT", "deadline"),
    Shown("CLOSE_SENT", "lost"),
    Shown("FINISHING", "peer end", ECHO),
    Shown("FINISHING", "flushed", ECHO, fin=True),
    Shown("FINISHING", "done", fin=True),
    Shown("FINISHING", "deadline"),
    Shown("FINISHING", "lost"),
    Shown("FINISHING_ENDED", "flushed", OURS),
    Shown("FINISHING_ENDED", "deadline"),
    Shown("FINISHING_ENDED", "lost"),
    Shown("DRAINING", "peer end", fin=True),
    Shown("DRAINING", "deadline", fin=True),
    Shown("DRAINING", "lost", fin=True),
]

# What cannot happen: a role ends with HTTP, frames come after it, and what is put or flushed is so once.
IMPOSSIBLE = {
    *(("HTTP", event) for event in ("peer close", "violation")),
    *((state, "upgraded") for state in STATES[1:]),
    *((state, event) for state in STATES for event in ("put", "flushed")),
}
STILL = [(s, e) for s, e, after in cells() if after == s and (s, e) not in IMPOSSIBLE]


class TestOnAWsi:
    def test_they_are_all_shown(self) -> None:
        assert [(s, e) for s in STATES for e in EVENTS if NEXT[number(s)].get(e)] == [row[:2] for row in SHOWN]

    @pytest.mark.parametrize("row", SHOWN, ids=lambda row: f"{row.state} {row.event}")
    def test_a_transition(self, row: Shown) -> None:
        line = in_state(row.state)
        DEEDS[row.event](line)
        after = NEXT[number(row.state)][row.event]
        if row.event not in ("flushed", "done"):  # else the FIN follows at once
            assert line.pipe.is_shut is (row.state == "DRAINING")
        assert line.wsi._state == after
        assert line.context.dead == [line.wsi] * (after == closing.DEAD)
        reap_or_allow(line)
        assert line.sent() == row.leaves
        assert line.pipe.is_shut is row.fin

    @pytest.mark.parametrize(("state", "event"), STILL)
    def test_nothing_happens(self, state: str, event: str) -> None:
        line = in_state(state)
        DEEDS[event](line)
        assert line.wsi._state == number(state)
        assert line.context.dead == [line.wsi] * (state == "DEAD"), "the reaper is told once"
        reap_or_allow(line)
        expected = in_state(state)
        reap_or_allow(expected)
        assert line.sent() == expected.sent()

    @pytest.mark.parametrize("state", STATES[:-1])
    def test_input_is_polled_for_until_its_end_and_output_while_some_waits(self, state: str) -> None:
        """In whichever state, and whoever held input back before: a stream at its end stays readable for ever."""
        line = in_state(state)
        has_ended, waits = state.endswith("_ENDED"), state != "DRAINING"
        assert line.context.interest == (READ if not has_ended else 0) | (WRITE if waits else 0)
        line.wsi.rx_flow_control(False)
        line.wsi.pause_reading(True)
        if state in ("HTTP", "OPEN"):
            DEEDS["finish" if state == "HTTP" else "local close"](line)
        assert line.context.interest == (READ if not has_ended else 0) | (WRITE if waits else 0)

    @pytest.mark.parametrize("state", STATES[2:-1])
    def test_whatever_comes_there_ends_at_the_deadline(self, state: str) -> None:
        line = in_state(state)
        line.receive(frame(1, "late"), MASK)
        line.context.pass_time(line.binding.budget.close_seconds + 1)
        assert line.context.dead == [line.wsi]
        line.wsi.reap()
        assert [note for note in line.protocol.notes if note[0] == "closed"] == [  # type: ignore[attr-defined]
            ("closed", *closed_with(state))
        ]


def closed_with(state: str) -> tuple[int, str]:
    """What `on_closed` is told: the peer's Close, if one came on the way to this state."""
    return (4001, "") if "peer close" in WAYS[state] else (1006, "")
