"""Which of both runs: in C where that is there, in Python where it is not, or is not wanted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.native import require_native
from wsd.wire import fast, twin

NAMES = ["frame", "is_utf8", "mask", "parse"]
SAY = (
    "from wsd.wire import fast; from wsd import spread, syscalls;"
    " print(fast.parse.__module__, syscalls.send.__module__, type(spread.spread).__name__)"
)
SAY_PURE = "wsd.wire.twin wsd.syscalls function\n"


def said(statement: str, pure: str | None) -> str:
    """What a new interpreter prints, with WSD_PURE set to something or not at all."""
    environment = {name: value for name, value in os.environ.items() if name != "WSD_PURE"}
    if pure is not None:
        environment["WSD_PURE"] = pure
    command = [sys.executable, "-c", statement]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_function_is_one_of_both(name: str) -> None:
    function = getattr(fast, name)
    if fast.IMPLEMENTATION == "pure Python":
        assert function is getattr(twin, name)
    else:
        assert function.__module__ == "wsd._native"


@pytest.mark.parametrize("pure", [None, "", "0"])
def test_in_c_where_that_is_there(pure: str | None) -> None:
    require_native()
    assert said(SAY, pure) == "wsd._native wsd._native builtin_function_or_method\n"


@pytest.mark.parametrize("pure", ["1", "yes"])
def test_in_python_where_that_is_wanted(pure: str) -> None:
    assert said(SAY, pure) == SAY_PURE


def test_in_python_where_nothing_was_compiled() -> None:
    assert said(f"import sys; sys.modules['wsd._native'] = None; {SAY}", None) == SAY_PURE
