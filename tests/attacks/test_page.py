"""docs/security.md says what the attacks say."""

from __future__ import annotations

from collections import Counter

from tests.attacks import page
from tests.attacks.cases import HALF, cases
from tests.attacks.model import Measured, is_line
from tests.attacks.suite import GROUPS

NUMBERED = [pair for group in GROUPS for pair in group.numbered()]


def test_the_page_is_up_to_date() -> None:
    text = page.TARGET.read_text()
    assert text == page.replaced(text, {}), "run: python -m tests.attacks"


def test_every_attack_has_been_measured() -> None:
    costs = page.kept_costs(page.TARGET.read_text())
    assert [number for number, _ in NUMBERED if not costs.get(number)] == [], "run: python -m tests.attacks"


def test_what_was_measured_replaces_what_stood_there() -> None:
    number, attack = NUMBERED[0]
    text = page.replaced(page.TARGET.read_text(), {number: Measured(10_240, 11_264, 10_240, 7, 7)})
    assert f"| 10.0, 11.0 (≤ +{attack.memory_kib / 1024:g}), 10.0; 7, 7 |" in text
    assert page.kept_costs(text)[NUMBERED[1][0]] == page.kept_costs(page.TARGET.read_text())[NUMBERED[1][0]]


def test_both_halves_are_all() -> None:
    played = [parameter.id for half in (cases(1, HALF), cases(HALF + 1, 99)) for parameter in half]
    assert sorted(played) == sorted(f"{number} {attack.sent}" for number, attack in NUMBERED)


def test_attacks_can_be_told_apart() -> None:
    for group in GROUPS:
        assert group.attacks, group.title
        assert [sent for sent, count in Counter(attack.sent for attack in group.attacks).items() if count > 1] == []
    assert [group.number for group in GROUPS] == list(range(1, len(GROUPS) + 1))


def test_a_line_with_placeholders() -> None:
    expected = "WARN <tag>: <n> of [x] <*>"
    assert is_line(expected, "WARN lws-mirror#7 127.0.0.1:80: 12 of [x] anything")
    assert not is_line(expected, "WARN lws-mirror#7 127.0.0.1:80: twelve of [x] anything")
    assert not is_line(expected, "INFO lws-mirror#7 127.0.0.1:80: 12 of [x] anything")


def test_the_results_tell_who_failed() -> None:
    number, other = NUMBERED[0][0], NUMBERED[1][0]
    lines = page.results({number: Measured(1000, 1500, 1200, 7, 7)}, {number: True, other: False}).splitlines()
    assert lines[2].split()[:6] == [number, "ok", "1000", "+500", "+200", str(NUMBERED[0][1].memory_kib)]
    assert lines[3].split()[:2] == [other, "FAILED"]
    assert lines[-1] == "1 of 2 attacks were stood"
