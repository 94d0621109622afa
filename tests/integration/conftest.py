"""What several files of connections that we open share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.names import Names, known_names
from tests.support.outgoing import Dialing, dialing


@pytest.fixture
def dial() -> Iterator[Dialing]:
    with dialing() as dial:
        yield dial


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    with known_names(monkeypatch) as known:
        yield known
