"""Every attack against a running daemon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.attacks.attempt import play
from tests.attacks.model import Attack
from tests.attacks.suite import GROUPS
from tests.attacks.target import Target


def cases() -> list[Any]:
    """All of them, those with the same setup one after the other."""
    numbered = [pair for group in GROUPS for pair in group.numbered()]
    setups = list(dict.fromkeys(attack.setup for _, attack in numbered))
    numbered.sort(key=lambda pair: setups.index(pair[1].setup))
    return [pytest.param(attack, id=f"{number} {attack.sent}") for number, attack in numbered]


@pytest.mark.parametrize("attack", cases())
def test_attack(target: Target, attack: Attack, record_property: Callable[[str, object], None]) -> None:
    record_property("measured", tuple(play(target, attack)))
