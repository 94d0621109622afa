"""Time in tests.  Every wait is a multiple of MS, so that one variable slows all of them down for a slow machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

MS = 0.001 * float(os.environ.get("WSD_TEST_SLOW", "1"))
"""One millisecond, in seconds, times WSD_TEST_SLOW."""

PATIENCE = 10_000 * MS
"""How long a test waits for what must come.  Long, since a wait that succeeds costs nothing."""


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE, what: str = "") -> None:
    """Wait until `condition()` is true.

    Raises:
        AssertionError: it was still false after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {seconds:g} s: {what or condition}")
        time.sleep(2 * MS)
