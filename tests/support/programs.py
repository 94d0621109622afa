"""Programs of the system that some tests need, and what to say when one is not there."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest


def require_program(name: str, package: str) -> str:
    """The path of a program; without it the test is skipped, naming the Debian package that brings it.

    With CI=true a skip is a failure (see conftest.py).
    """
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


def readable_python() -> list[str]:
    """A command prefix under which everybody can read the interpreter, which may live below a private /root.

    In a mount namespace of its own the private folder is covered, and the interpreter's put back into it.
    """
    base = Path(sys.base_prefix)
    private = next((path for path in reversed(base.parents) if not path.stat().st_mode & 0o001), None)
    if private is None:
        return []
    unshare = require_program("unshare", package="util-linux")
    script = (
        'base=$1 private=$2; shift 2; kept=$(mktemp -d) && mount --bind "$base" "$kept" && '
        'mount -t tmpfs -o mode=755 tmpfs "$private" && mkdir -p "$base" && mount --move "$kept" "$base" && '
        'rmdir "$kept" && exec "$@"'
    )
    return [unshare, "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(base), str(private)]
