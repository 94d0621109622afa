"""A soak of a few seconds, by the same code as `make soak`; and that what it looks for would be seen."""

from __future__ import annotations

import pytest

from tests.soak import bad, good, verdict
from tests.soak.run import Result, soak
from tests.soak.verdict import Sample

SECONDS = 6
"""In which each turn is played several times, each kind of reload comes, and some connections are killed."""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return soak(tmp_path_factory.mktemp("soak"), SECONDS)


def test_nothing_is_wrong(result: Result) -> None:
    assert not result.wrong


def test_every_turn_was_played(result: Result) -> None:
    assert set(result.turns) == {turn.__name__ for turn in (*good.GOOD, *bad.BAD)}
    assert min(result.turns.values()) >= 3, result.turns


# A protocol as the daemon must not be: it keeps memory and descriptors, fails, and gives back something else.
FAULTY = """
import os

from wsd import Protocol

kept = []


class Faulty(Protocol):
    name = "room"

    def on_established(self, wsi):
        os.dup(2)

    def on_message(self, wsi, message):
        kept.append(os.urandom(400_000))
        # Its first digit is random, and the same in all that one says: a quarter fails, a quarter comes back changed.
        assert message[0] not in "0123", "nought"
        self.broadcast(message.replace(" ", "  ") if message[0] in "4567" else message)


protocols = [Faulty]
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All that is wrong with a daemon that has that protocol."""
    return "\n".join(soak(tmp_path_factory.mktemp("faulty"), SECONDS, plugins={"room": FAULTY}).wrong)


@pytest.mark.parametrize(
    "complaint",
    [
        "descriptors at the start, and ",
        "memory does not level off: ",
        "AssertionError: nought",
        " plugin_errors",
        "room: ",
    ],
)
def test_a_fault_would_be_seen(faulty: str, complaint: str) -> None:
    assert complaint in faulty


def ramp(per_second: float) -> list[Sample]:
    """A minute of samples that grow from the beginning, with what is under way at a moment on top."""
    return [Sample(at / 4, int(50e6 + per_second * at / 4 + (at * 7919 % 11) * 300_000)) for at in range(240)]


def test_memory_has_to_level_off() -> None:
    assert not verdict.judge_memory(ramp(0))
    assert verdict.judge_memory(ramp(verdict.GROWTH_BYTES / 28))
    warmed_up = [Sample(sample.seconds, min(sample.memory, 51_000_000)) for sample in ramp(1_000_000)]
    assert not verdict.judge_memory(warmed_up)


@pytest.mark.parametrize(
    ("line", "is_wrong"),
    [
        ("WARN   echo#1 127.0.0.1:1: reader too slow, 5 bytes unsent; closed", False),
        ("WARN   control socket: uid 7 was refused", True),
        ("ERR    echo#1 127.0.0.1:1: plugin echo raised KeyError", True),
        ("ERR    reload refused: somewhere:1: SyntaxError", False),
        ("INFO   echo#1 127.0.0.1:1: established, /ERR", False),
    ],
)
def test_what_may_be_in_the_log(line: str, is_wrong: bool) -> None:
    assert bool(verdict.judge_log([f"2026-01-01 00:00:00.000 {line}"], 0)) == is_wrong


def test_reloads_are_refused_that_are_to_be() -> None:
    line = f"2026-01-01 00:00:00.000 ERR    reload refused: wsd.toml: {verdict.REFUSAL}"
    assert not verdict.judge_log([line, line], 2)
    assert verdict.judge_log([line], 2)


LINES = [
    "2026-01-01 00:00:00.000 INFO   echo#1 127.0.0.1:1: established, /",
    "2026-01-01 00:00:00.000 INFO   echo#1 127.0.0.1:1: protocol violation, closing with 1002: text",
    "2026-01-01 00:00:00.000 INFO   echo#1 127.0.0.1:1: closed, 1002  (failed)",
]
COUNTERS = {**dict.fromkeys((*verdict.COUNTED, "bugs", "plugin_errors"), 0), "established": 1, "protocol_errors": 1}


def test_counters_and_log_say_the_same() -> None:
    assert not verdict.judge_counters({**COUNTERS, "accepted": 2}, LINES, 2)


@pytest.mark.parametrize("name", [*COUNTERS, "accepted"])
def test_a_counter_that_is_wrong(name: str) -> None:
    counters = {**COUNTERS, "accepted": 2}
    counters[name] += 1
    (line,) = verdict.judge_counters(counters, LINES, 2)
    assert name in line


@pytest.mark.parametrize("lines", [LINES[:1], LINES[2:], [*LINES, LINES[2]], LINES[::-1]])
def test_an_end_too_few_or_too_many(lines: list[str]) -> None:
    assert verdict.judge_ends(lines)


def test_whoever_is_left_is_told() -> None:
    protocols = [{"name": "echo", "connections": 0}, {"name": "room", "connections": 1}]
    assert len(verdict.judge_status({"connections": 1, "protocols": protocols})) == 2
    assert not verdict.judge_status({"connections": 0, "protocols": protocols[:1]})
