"""What wsd logs, as a list."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from wsd import log


@contextlib.contextmanager
def logged(bits: int = log.DEFAULT) -> Iterator[list[str]]:
    """Collect the lines of these levels in place of emitting them."""
    lines: list[str] = []
    before, emitter = log.level(), log.emitter()
    log.set_level(bits, lambda level, line: lines.append(line))
    try:
        yield lines
    finally:
        log.set_level(before, emitter)
