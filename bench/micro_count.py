"""The process that measures in small: `python -m bench.micro_count [LIBRARY]` prints one JSON object.

Without an argument nanoseconds are measured; with the library of callgrind's requests, under valgrind, each case's
instructions are written down in the order of the cases.  The cyclic collector is off in both.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable

from bench.micro_cases import CASES, NOTHING
from bench.results import significant
from wsd import loop
from wsd.wire.fast import IMPLEMENTATION

# How often a case is done while its instructions are counted, after as many times in which Python learns its types.
COUNTED = 200

# One measurement takes about this long; the best of several is what nothing disturbed.
_SLICE_NS = 10_000_000
_SLICES = 7


def nanoseconds(do: Callable[[], object]) -> float:
    """What one call takes."""
    number, took = 1, 0
    while True:
        took = _took(do, number)
        if took > _SLICE_NS / 4:
            break
        number *= 2
    number = max(1, int(number * _SLICE_NS / took))
    return min(_took(do, number) for _ in range(_SLICES)) / number


def _took(do: Callable[[], object], number: int) -> int:
    again = range(number)
    began = time.perf_counter_ns()
    for _ in again:
        do()
    return time.perf_counter_ns() - began


def calibration() -> int:
    """A fixed piece of Python, as the measure of this machine at this moment: its rounds are what others stand to."""
    total, table = 0, {number: str(number) for number in range(100)}
    for number in range(1000):
        total += len(table[number % 100]) + number
    return total


def in_time() -> dict[str, float]:
    found = {}
    nothing = nanoseconds(NOTHING.make())
    for case in CASES:
        do = case.make()
        do()
        found[case.name] = significant(max(nanoseconds(do) - nothing, 0.0) / case.units)
    return found


def in_instructions(library: str) -> None:
    requests = ctypes.CDLL(library)
    for case in (NOTHING, *CASES):
        do = case.make()
        again = range(COUNTED)
        for _ in again:
            do()
        requests.count()
        for _ in again:
            do()
        requests.write_down(case.name.encode())


def main() -> None:
    gc.disable()
    loop.rest = lambda microseconds: None  # behind a deep read, which is no work
    if len(sys.argv) > 1:
        in_instructions(sys.argv[1])
        return
    before = nanoseconds(calibration)
    figures = in_time()
    speed = min(before, nanoseconds(calibration))
    print(json.dumps({"implementation": IMPLEMENTATION, "calibration": round(speed), "ns": figures}))


if __name__ == "__main__":
    main()
