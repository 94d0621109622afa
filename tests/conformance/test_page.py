"""docs/conformance.md is what the cases say, and the cases can be told apart."""

from __future__ import annotations

import re
from collections import Counter

from tests.conformance import page
from tests.conformance.model import BOTH, CLIENT, SERVER
from tests.conformance.suite import GROUPS

CASES = [case for group in GROUPS for case in group.cases]


def test_the_page_is_up_to_date() -> None:
    assert page.TARGET.read_text() == page.page(), "run: make conformance"


def test_every_case_has_a_number_and_a_title_of_its_own() -> None:
    assert [number for number, count in Counter(case.number for case in CASES).items() if count > 1] == []
    for part in (part for group in GROUPS for part in group.parts):
        titles = Counter(case.title for case in part.cases)
        assert [title for title, count in titles.items() if count > 1] == [], part.title
        assert part.cases, part.title


def test_groups_are_numbered_in_their_order() -> None:
    assert [group.number for group in GROUPS] == list(range(1, len(GROUPS) + 1))


def test_every_case_names_its_section() -> None:
    assert [case for case in CASES if not re.fullmatch(r"(6455|7692|9110|9112|6585) [0-9.]+", case.section)] == []


def test_every_group_runs_in_both_roles() -> None:
    for group in GROUPS:
        assert page.counted(group, SERVER) > 20, group.title
        assert page.counted(group, CLIENT) > 20, group.title


def test_the_table_counts_what_ran_and_what_passed() -> None:
    results = [(SERVER, "1.2.3", True), (SERVER, "1.2.4", False), (CLIENT, "11.1.1", True)]
    lines = {line.split()[0]: line.split() for line in page.table(results).splitlines()[2:]}
    assert len(BOTH) == 2
    assert lines["1"][-4:] == ["2", "1", "0", "0"]
    assert lines["11"][-4:] == ["0", "0", "1", "1"]
    assert lines["all"][-4:] == ["2", "1", "1", "1"]
