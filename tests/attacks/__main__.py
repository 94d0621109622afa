"""Throws everything at running daemons, prints what each attack cost, and writes it into docs/security.md.

Arguments are given to pytest: `python -m tests.attacks -k "4.3"`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

_CASE = re.compile(r"::test_\w+\[([0-9.]+) ")


class Results:
    """A pytest plugin that notes what each attack cost.

    It imports nothing of the suite before pytest has: that makes its asserts tell what they compare.
    """

    def __init__(self) -> None:
        self.passed: dict[str, bool] = {}
        self.measured: dict[str, tuple[int, ...]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = _CASE.search(report.nodeid)
        if found:  # once before its call, once for it, once behind it
            self.passed[found[1]] = report.passed and self.passed.get(found[1], True)
            for name, value in report.user_properties:
                if name == "measured" and isinstance(value, tuple):
                    self.measured[found[1]] = value


def main(arguments: list[str]) -> int:
    results = Results()
    folder = Path(__file__).parent
    # The page is held by a test of its own, which would find it as it was.
    options = ["--quiet", f"--ignore={folder / 'test_page.py'}", str(folder), *arguments]
    status = pytest.main(options, plugins=[results])
    from tests.attacks import page
    from tests.attacks.model import Measured

    measured = {number: Measured(*values) for number, values in results.measured.items()}
    print(page.results(measured, results.passed))
    page.TARGET.write_text(page.replaced(page.TARGET.read_text(), measured))
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
