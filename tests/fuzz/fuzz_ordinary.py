"""Whatever bytes come, what is read as an ordinary request for a WebSocket is the same in C and in Python, and what the
long way makes of it.

`make check-native` runs this on a build that AddressSanitizer and UndefinedBehaviorSanitizer watch.
"""

from __future__ import annotations

from tests.fuzz.engine import main
from tests.support.arrival import ARRIVAL, ORDINARY, OTHERS, TWINS
from tests.unit.test_ordinary import long_way

SAMPLES = [*ORDINARY, *OTHERS, ORDINARY[1] + b"\x88\x80abcd"]
LIMITS = ((16384, 100, 8192), (200, 6, 10), (0, 0, 0))


def check(data: bytes) -> None:
    """The invariant."""
    for limits in LIMITS:
        said = TWINS.read_upgrade(data, *limits)
        if ARRIVAL is not None:
            assert ARRIVAL.read_upgrade(data, *limits) == said, (data, limits)
        if said is not None:
            assert long_way(data, limits) == (said, data[said[0] :]), (data, limits)


if __name__ == "__main__":
    main(check, SAMPLES)
