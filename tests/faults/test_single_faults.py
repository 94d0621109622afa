"""Every error that Linux documents, at every system call of every conversation, one at a time.

What must hold afterwards is in `World.finish`: each hook once, nothing left, nothing twice, the one beside it served.
"""

from __future__ import annotations

import pytest

from tests.faults.conversations import CONVERSATIONS
from tests.faults.runs import calls_of, run, single_faults
from tests.faults.syscalls import Schedule, effects_of
from tests.faults.world import new_door


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_one_fault_anywhere(name: str) -> None:
    with new_door() as door:
        calls, heard = calls_of(door, name)
        for number, effect in single_faults(calls, effects_of):
            run(door, CONVERSATIONS[name], Schedule({number: effect}), whole=heard)
