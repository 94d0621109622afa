"""Every case against wsd the server and wsd the client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.model import CLIENT, SERVER, AnyCase
from tests.conformance.stand import Stand, stand
from tests.conformance.suite import GROUPS


@pytest.fixture(scope="module")
def standing() -> Iterator[Stand]:
    with stand() as made:
        yield made


def cases(role: str) -> list[Any]:
    """The cases that `role` runs; the ids are what a failure is looked up by in docs/conformance.md."""
    return [
        pytest.param(case, id=f"{case.number} {case.title}")
        for group in GROUPS
        for case in group.cases
        if role in case.roles
    ]


@pytest.mark.parametrize("case", cases(SERVER))
def test_server(standing: Stand, case: AnyCase) -> None:
    standing.run(SERVER, case)


@pytest.mark.parametrize("case", cases(CLIENT))
def test_client(standing: Stand, case: AnyCase) -> None:
    standing.run(CLIENT, case)
