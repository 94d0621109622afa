"""What else happens to a running daemon, and TLS."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.attacks.attempt import play
from tests.attacks.cases import HALF, cases
from tests.attacks.model import Attack
from tests.attacks.target import Target


@pytest.mark.parametrize("attack", cases(HALF + 1, 99))
def test_attack(target: Target, attack: Attack, record_property: Callable[[str, object], None]) -> None:
    record_property("measured", tuple(play(target, attack)))
