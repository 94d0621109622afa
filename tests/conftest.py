"""Rules for every test: nothing outlives it, nothing warns, and in CI nothing is skipped.

The idea of failing a test that leaves something behind is pyftpdlib's.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

pytest.register_assert_rewrite("tests.support")

from tests.support import leftovers  # noqa: E402  (its asserts are to be rewritten)
from tests.support.timing import MS  # noqa: E402

IN_CI = os.environ.get("CI", "").lower() == "true"

# Processes that a test starts inherit this, detached ones too, so that they can be found again.
os.environ[leftovers.MARK] = str(os.getpid())

# For a second run of the same tests, on another interpreter: a quarter of what is made up by default.
hypothesis.settings.register_profile("few", max_examples=25)

LONGEST = [
    "integration/test_readme.py",
    "faults/test_single_faults.py",
    "interop/test_libwebsockets.py",
    "integration/test_install.py",
    "integration/test_daemon.py",
    "interop/test_foreign_servers.py",
    "attacks/test_daemons.py",
    "integration/test_detach.py",
    "integration/test_renewal.py",
    "integration/test_daemon_reload.py",
    "interop/test_browser.py",
    "interop/test_tls_clients.py",
    "integration/test_examples.py",
    "integration/test_connect.py",
    "integration/test_install_native.py",
    "soak/test_soak.py",
]
"""Half a minute each, more or less.  They begin first, so that no worker is left with one when the others are done; the
many short files of unit tests fill up the end."""

_skipped: list[str] = []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files in the order in which they are to begin; `--no-loadscope-reorder` has xdist keep to it."""
    place = {name: number for number, name in enumerate(LONGEST)}

    def rank(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return place.get(f"{folder}/{item.path.name}", len(place) + (folder == "unit"))

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Fifteen thousand tests and their modules stay for the whole run: no collection of garbage need look at them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves descriptors, threads or processes behind."""
    everywhere = "unit" not in request.path.parts  # unit tests start no daemons: no need to look through /proc
    before = leftovers.snapshot(everywhere)
    yield
    left = leftovers.since(before, everywhere)
    deadline = time.monotonic() + 10_000 * MS
    # A process that was told to end may need a moment, and a thread that compares a password has a low priority.
    while left and time.monotonic() < deadline:
        time.sleep(5 * MS)
        left = leftovers.since(before, everywhere)
    if left:
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the source tree."""
    return Path(__file__).resolve().parent.parent


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Runs where the reports come together, whoever ran the tests."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if IN_CI and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _skipped:
        return
    terminalreporter.section("not run here" if not IN_CI else "SKIPPED: a failure, with CI=true")
    for line in _skipped:
        terminalreporter.line(line)
