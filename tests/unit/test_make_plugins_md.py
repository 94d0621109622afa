"""docs/plugins.md is what the docstrings say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from wsd.protocol import HOOKS


@pytest.fixture(scope="module")
def maker() -> Any:
    file = Path(__file__).resolve().parent.parent.parent / "docs" / "make_plugins_md.py"
    spec = importlib.util.spec_from_file_location("make_plugins_md", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def test_the_page_is_up_to_date(maker: Any) -> None:
    assert maker.TARGET.read_text() == maker.page(), "run: python docs/make_plugins_md.py"


def test_every_public_name_is_on_the_page_or_said_to_be_internal(maker: Any) -> None:
    assert maker.undecided() == {}


def test_every_hook_has_a_heading_and_words(maker: Any) -> None:
    page = maker.page()
    for name in HOOKS:
        section = page.partition(f"#### `{name}(")[2].partition("\n#")[0]
        assert len(section.splitlines()) > 2, name


def test_nothing_is_without_words(maker: Any) -> None:
    page = maker.page()
    headings = [part.partition("\n") for part in page.split("\n#### ")[1:]]
    assert [heading for heading, _, text in headings if not text.strip() or text.strip().startswith("#")] == []
    assert ": \n" not in page


def test_sections_of_docstrings_become_lists(maker: Any) -> None:
    docstring = (
        "Does it.\n\nArgs:\n    one: First,\n        and more.\n    two, three: Both.\n\nRaises: ValueError: no."
    )
    assert maker.prose(docstring) == (
        "Does it.\n\nArguments:\n\n- `one`: First, and more.\n- `two`, `three`: Both.\n\nRaises:\n\n- `ValueError`: no."
    )
