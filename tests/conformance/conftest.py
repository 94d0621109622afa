"""A stand is shared by a module's cases, each of which leaves nothing behind on it; no case starts a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite(*(f"tests.conformance.{name}" for name in ("negotiation", "opening", "peer", "stand")))

from tests.support import leftovers  # noqa: E402
from tests.support.timing import wait_until  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a case that leaves descriptors or threads behind.  Unlike the fixture of the same name for all tests it does
    not search every process of the machine for children of ours, which would take longer than most cases."""
    before = leftovers.snapshot(False)
    yield
    if leftovers.since(before, False):
        wait_until(lambda: not leftovers.since(before, False), what="nothing is left behind")
