"""A daemon is shared by the attacks of a module that need the same one; each leaves nothing behind on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.attacks.attempt", "tests.attacks.target")

from tests.attacks.model import Attack  # noqa: E402
from tests.attacks.target import Standing, Target  # noqa: E402
from tests.support import leftovers  # noqa: E402
from tests.support.timing import wait_until  # noqa: E402


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    with Standing(lambda: tmp_path_factory.mktemp("site")) as standing:
        yield standing


@pytest.fixture
def target(standing: Standing, attack: Attack) -> Target:
    """The daemon that the attack is for."""
    return standing.of(attack.setup)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail an attack that leaves descriptors, threads or children behind, apart from the daemon.  Unlike the fixture of
    the same name for all tests it does not search every process of the machine, which takes longer than most attacks.
    """
    if "target" in request.fixturenames:
        request.getfixturevalue("target")
    before = leftovers.snapshot(False)
    yield
    if leftovers.since(before, False):
        wait_until(lambda: not leftovers.since(before, False), what="nothing is left behind")
