"""What a soak is judged by: pure functions of what was measured, each of which gives a line for each thing wrong.

Owns the bounds.  Must not know how the load was made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

REFUSAL = "no plugin provides the protocol 'messages'"
"""What a reload is refused with, for which a plugin was broken."""


class Sample(NamedTuple):
    """The daemon at one moment: seconds since the load began, and bytes of resident memory."""

    seconds: float
    memory: int


GROWTH_BYTES = 6 << 20
"""What the second half of the load may add, by the slope of its samples: a tenth of what there is, since the kernel and
the allocators give back late.  What a run of SECONDS=600 opens in that time is some 50 000 connections, of which a
single small object left behind is more."""

WINDOWS = 10
"""Into so many parts the second half is cut, each of which stands for its least: what is held for what is under way at
a moment, messages and their contexts, comes and goes."""

EXPECTED_WARNINGS = (
    "reader too slow, ",
    "outgoing queue over max_queue_bytes",
    "serving as root: ",  # how CI runs
    "a certificate was replaced, and cannot be used yet: ",  # the daemon's own look came between certificate and key
)
"""What the daemon says at WARN of peers that it closes for good reason, and of us."""


def slope(points: Sequence[tuple[float, float]]) -> float:
    """That of the straight line with the least squares through `points`."""
    count = len(points)
    x = sum(point[0] for point in points) / count
    y = sum(point[1] for point in points) / count
    return sum((point[0] - x) * (point[1] - y) for point in points) / sum((point[0] - x) ** 2 for point in points)


def growth(samples: Sequence[Sample]) -> float:
    """How many bytes the second half of the samples adds, by its slope."""
    half = samples[len(samples) // 2 :]
    size = max(len(half) // WINDOWS, 1)
    windows = [half[start : start + size] for start in range(0, len(half), size)]
    least = [min(window, key=lambda sample: sample.memory) for window in windows]
    return slope(least) * (half[-1].seconds - half[0].seconds)


def judge_memory(samples: Sequence[Sample]) -> list[str]:
    grown = growth(samples)
    return [f"memory does not level off: {grown / 1024:.0f} KiB in the second half"] if grown >= GROWTH_BYTES else []


def judge_log(lines: Sequence[str], refused: int) -> list[str]:
    """What there is at ERR or WARN that is neither a peer's nor about the `refused` reloads that were to be refused.

    A reload's refusal is several lines, all with one beginning, of which one names what was missed.
    """
    wrong = []
    missed = sum(REFUSAL in line for line in lines)
    if missed != refused:
        wrong.append(f"{missed} reloads were refused, and not {refused}")
    for line in lines:
        if re.search(" ERR +reload refused: ", line):
            continue
        if re.search(" (ERR|WARN) |Traceback", line) and not any(text in line for text in EXPECTED_WARNINGS):
            wrong.append(f"in the log: {line}")
    return wrong


_TAG = r" (?:INFO|WARN) +(\S+#\d+ \S+): "
COUNTED = {
    "established": re.compile(_TAG + "established, "),
    "protocol_errors": re.compile(_TAG + "protocol violation, closing with "),
    "refused": re.compile(_TAG + r"refused with \d+ "),
    "hangups": re.compile(_TAG + "no answer to a ping for "),
    "slow_readers": re.compile(_TAG + "reader too slow, "),
    "tls_failures": re.compile(_TAG + "no TLS: "),
    "queue_overflows": re.compile(_TAG + "outgoing queue over "),
}
"""The counters that have a line in the log for each time."""


def judge_counters(counters: Mapping[str, int], lines: Sequence[str], connected: int) -> list[str]:
    """The counters against the log, and against how many connections the peers have made."""
    counted = Counter(name for line in lines for name, pattern in COUNTED.items() if pattern.search(line))
    told = {name: counters[name] for name in COUNTED}
    wrong = [
        f"counter {name} is {told[name]}, and the log says so {counted[name]} times"
        for name in COUNTED
        if told[name] != counted[name]
    ]
    if counters["accepted"] != connected:
        wrong.append(f"{counters['accepted']} connections were accepted, and {connected} were made")
    wrong += [f"{counters[name]} {name}" for name in ("bugs", "plugin_errors") if counters[name]]
    return wrong + judge_ends(lines)


_EVENT = re.compile(_TAG + "(established|closed), ")


def judge_ends(lines: Sequence[str]) -> list[str]:
    """Whoever was established has ended, once, and afterwards."""
    events: dict[str, list[str]] = {}
    for line in lines:
        if match := _EVENT.search(line):
            events.setdefault(match[1], []).append(match[2])
    wrong = {tag: what for tag, what in events.items() if what != ["established", "closed"]}
    return [f"{tag} was {' and '.join(what)}" for tag, what in wrong.items()]


def judge_status(status: Mapping[str, Any]) -> list[str]:
    """What must be zero once everybody has gone."""
    wrong = [f"{status['connections']} connections are left"] if status["connections"] else []
    for item in status["protocols"]:
        if item["connections"]:
            wrong.append(f"{item['connections']} connections of {item['name']} are left")
    return wrong
