"""Programs of the system that some tests need, and what to say when one is not there."""

from __future__ import annotations

import shutil

import pytest


def require_program(name: str, package: str) -> str:
    """The path of a program; without it the test is skipped, naming the Debian package that brings it.

    With CI=true a skip is a failure (see conftest.py).
    """
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path
