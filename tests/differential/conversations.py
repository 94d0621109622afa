"""What is said on a connection, drawn by hypothesis: messages in fragments, control frames between them, a Close."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from tests.support.feeding import Message, cut
from wsd.wire.frames import BINARY, CONTINUATION, PING, PONG, TEXT


class Step(NamedTuple):
    """One frame's worth."""

    opcode: int
    payload: bytes
    final: bool = True

    def __repr__(self) -> str:
        """Short enough for hypothesis, which warns of what is not."""
        payload = repr(self.payload) if len(self.payload) < 200 else f"{self.payload[:20]!r} * {len(self.payload)}"
        return f"Step({self.opcode}, {payload}, {self.final})"


class Conversation(NamedTuple):
    steps: list[Step]
    close: tuple[int, str] | None
    """Code and reason of the Close frame at the end; 1005: one without a code; None: there is none."""

    @property
    def messages(self) -> list[Message]:
        """What a reader has to hear, in the order in which it becomes complete."""
        heard: list[Message] = []
        message: Message = (0, b"")
        for opcode, payload, final in self.steps:
            if opcode > BINARY:
                heard.append((opcode, payload))
                continue
            message = (opcode or message[0], payload if opcode else message[1] + payload)
            if final:
                heard.append(message)
        return heard


# Words that come again, so that one message can refer to another; noise, that cannot be compressed; long runs.
_WORDS = st.lists(st.sampled_from([b"wsd ", b"libwebsockets ", b"echo", b"0123456789" * 20, b"\n"]), max_size=12)
_NOISE = st.binary(max_size=300)
_RUNS = st.builds(
    lambda size, part: (part * size)[:size],
    st.one_of(st.integers(0, 6), st.sampled_from([125, 126, 127, 4000, 65535, 65536, 70_000])),
    st.binary(min_size=1, max_size=9),
)
_TEXTS = st.one_of(
    st.lists(st.sampled_from(["Grüße ", "世界", "🌍", "the same again ", "x"]), max_size=20).map("".join),
    st.text(max_size=40),
).map(str.encode)
_DATA = st.one_of(
    st.tuples(st.just(TEXT), _TEXTS),
    st.tuples(st.just(BINARY), st.one_of(_WORDS.map(b"".join), _NOISE, _RUNS)),
)
_CONTROL = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
_CONTROLS = st.lists(_CONTROL.map(lambda fields: Step(*fields)), max_size=2)
_CODES = st.one_of(st.sampled_from([1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4999]), st.integers(3000, 4999))
_CLOSES = st.one_of(
    st.none(),
    st.just((1005, "")),
    st.tuples(_CODES, st.text(max_size=123).filter(lambda reason: len(reason.encode()) <= 123)),
)
CUTS = st.lists(st.integers(0, 1 << 18), max_size=8)


def places(cuts: list[int], size: int) -> list[int]:
    """Drawn numbers as offsets into `size` bytes."""
    return sorted(at % (size + 1) for at in cuts)


@st.composite
def conversations(draw: st.DrawFn, closes: st.SearchStrategy[tuple[int, str] | None] = _CLOSES) -> Conversation:
    """A good one: fragments cut anywhere, in the middle of a character too, and control frames between them."""
    steps: list[Step] = []
    for opcode, payload in draw(st.lists(_DATA, max_size=4)):
        fragments = cut(payload, places(draw(st.lists(st.integers(0, 1 << 17), max_size=3)), len(payload)))
        for index, fragment in enumerate(fragments):
            steps += draw(_CONTROLS) if index else []
            steps.append(Step(CONTINUATION if index else opcode, fragment, index == len(fragments) - 1))
        steps += draw(_CONTROLS)
    return Conversation(steps, draw(closes))
