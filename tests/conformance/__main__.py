"""What `make conformance` starts: writes docs/conformance.md, runs every case, prints the table of results.

Arguments are given to pytest: `python -m tests.conformance -k "7.3"`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

_CASE = re.compile(r"::test_(server|client)\[([0-9.]+) ")


class Results:
    """A pytest plugin that writes the page and notes how each case ended.

    It imports nothing of the suite before pytest has: that makes its asserts tell what they compare.
    """

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], bool] = {}

    def pytest_collection_finish(self) -> None:
        from tests.conformance import page

        page.TARGET.write_text(page.page())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = _CASE.search(report.nodeid)
        if found:  # once before its call, once for it, once behind it
            role, number = found[1], found[2]
            self.results[role, number] = report.passed and self.results.get((role, number), True)


def main(arguments: list[str]) -> int:
    results = Results()
    status = pytest.main(["--quiet", str(Path(__file__).parent), *arguments], plugins=[results])
    from tests.conformance import page

    print(page.table((role, number, is_good) for (role, number), is_good in results.results.items()))
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
