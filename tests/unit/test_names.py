"""Who looks for the tests of a file finds them under its name, and one version is told everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import wsd

ROOT = Path(wsd.__file__).parent.parent
UNIT = ROOT / "tests" / "unit"
INTEGRATION = ROOT / "tests" / "integration"

# Files without anything of their own to test, each with its reason.
WITHOUT = {
    "wsd/__main__.py",  # one line, run by every integration test
    "wsd/wire/__init__.py",  # a docstring
    "wsd/reasons.py",  # a table of numbers, held against the hooks by test_protocol.py
    "wsd/errors.py",  # classes that carry values
    "wsd/__init__.py",  # names only, held by test_layers.py and by every plugin
}

SOURCES = sorted(str(path.relative_to(ROOT)) for folder in ("wsd", "plugins") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("source", [source for source in SOURCES if source not in WITHOUT])
def test_each_file_has_its_test_file(source: str) -> None:
    name = Path(source).stem
    wanted = f"test_plugins_{name}.py" if source.startswith("plugins/") else f"test_{name}.py"
    # What is nothing without a process or a socket may have its tests among the integration tests, under its name too.
    assert (UNIT / wanted).is_file() or (INTEGRATION / wanted).is_file(), f"{source} has no tests/unit/{wanted}"


def test_the_exceptions_are_still_there() -> None:
    assert set(SOURCES) >= WITHOUT


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == wsd.__version__
    assert len(set(headings)) == len(headings)


@pytest.mark.parametrize("source", SOURCES)
def test_files_stay_short(source: str) -> None:
    """A file that grows past 500 lines has two subjects."""
    lines = len((ROOT / source).read_text().splitlines())
    assert lines < 500, f"{source} has {lines} lines"
