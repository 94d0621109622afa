"""Compiles the C programs of tests/interop/c; where a part is missing for that, tests are skipped and it is named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.programs import require_program

# Nothing may warn; -Wconversion since sizes travel between the library's types and ours.
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wstrict-prototypes", "-Werror")


def compile_with_libwebsockets(source: Path, target: Path) -> Path:
    """Make the program `target` out of one file; it is skipped without a compiler or libwebsockets' headers."""
    compiler = require_program("gcc", package="gcc")
    pkg_config = require_program("pkg-config", package="pkg-config")
    if not _succeeds([compiler, "-E", "-x", "c", "-include", "stdio.h", "/dev/null"]):
        pytest.skip("the C library's headers are not installed: apt-get install libc6-dev")
    if not _succeeds([pkg_config, "--exists", "libwebsockets"]):
        pytest.skip("libwebsockets' headers are not installed: apt-get install libwebsockets-dev")
    flags = subprocess.run(
        [pkg_config, "--cflags", "--libs", "libwebsockets"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    compiled = subprocess.run(
        [compiler, "-std=c11", "-O2", *WARNINGS, str(source), "-o", str(target), *flags],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert compiled.returncode == 0, compiled.stderr
    return target


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
