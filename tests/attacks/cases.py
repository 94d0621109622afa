"""The attacks as parameters of the tests that play them, in two halves: two workers then take half the time."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.attacks.suite import GROUPS

HALF: Final = 10
"""The last group of the first half."""


def cases(first: int, last: int) -> list[Any]:
    """All of the groups with these numbers, those with the same setup one after the other."""
    numbered = [pair for group in GROUPS if first <= group.number <= last for pair in group.numbered()]
    setups = list(dict.fromkeys(attack.setup for _, attack in numbered))
    numbered.sort(key=lambda pair: setups.index(pair[1].setup))
    return [pytest.param(attack, id=f"{number} {attack.sent}") for number, attack in numbered]
