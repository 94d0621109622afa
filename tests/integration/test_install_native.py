"""The optional extension at an install: compiled where that can be done, and where it cannot the install succeeds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.programs import require_program

IGNORED = shutil.ignore_patterns(
    ".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "build", "*.egg-info", "*.so", "node_modules"
)


@pytest.fixture
def tree(tmp_path: Path, root: Path) -> Path:
    """A copy of the source tree, in which nothing was compiled; a build leaves in it what the next one would take."""
    copy = tmp_path / "tree"
    shutil.copytree(root, copy, ignore=IGNORED)
    return copy


def version_after_install(tree: Path, folder: Path, compiler: str) -> str:
    """What `wsd --version` says of a wheel that was built with `compiler`, and installed beside our own libraries."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "WSD_PURE")}
    environment["CC"] = compiler

    def run(*command: str | Path) -> str:
        answer = subprocess.run(
            list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, tree)
    (wheel,) = folder.glob("wsd-*.whl")
    site = folder / "site"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel)
    # Without .pth files (-S): through one of them an editable install would lend its compiled functions to this one.
    environment["PYTHONPATH"] = os.pathsep.join([str(site), sysconfig.get_path("purelib")])
    return run(sys.executable, "-S", "-m", "wsd", "--version")


def test_with_a_compiler(tree: Path, tmp_path: Path) -> None:
    require_program("gcc", "gcc")
    assert "(C functions)" in version_after_install(tree, tmp_path, "gcc")


@pytest.mark.parametrize("compiler", ["false", "/nowhere/cc"])
def test_without_one(tree: Path, tmp_path: Path, compiler: str) -> None:
    """Neither one that fails (no headers of Python, say) nor none at all stops the install."""
    assert "(pure Python)" in version_after_install(tree, tmp_path, compiler)
