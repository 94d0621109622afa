"""Imports point down: a file in wsd/ imports only from rows below its own, and the lowest rows are pure."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsd

PACKAGE = Path(wsd.__file__).parent

# The table in docs/design.md, from the top down.  A name that ends with a slash stands for every file of that folder;
# those may import each other.
TABLE = re.findall(r"^\| (\d+) \| ([^|]+) \|", (PACKAGE.parent / "docs" / "design.md").read_text(), re.MULTILINE)
ROWS: list[list[str]] = [re.findall(r"`([^`]+)`", files) for _, files in TABLE]
PURE_ROWS = 2

# What the pure rows must not know: the time and masking keys are handed to them, and they speak to nobody.
IMPURE = {
    "asyncio",
    "io",
    "logging",
    "OpenSSL",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "threading",
    "time",
}

# The optional extensions, files that import nothing.
NATIVE = {path.name for path in PACKAGE.glob("*.c")}

FILES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


def row(name: str) -> int:
    """The height of a file of wsd/, counted from 1 at the bottom."""
    folder = name.partition("/")[0] + "/" if "/" in name else name
    for height, names in enumerate(reversed(ROWS), 1):
        if folder in names:
            return height
    raise AssertionError(f"wsd/{name}.py is in no row of docs/design.md")


def imports(name: str) -> Iterator[tuple[int, str]]:
    """(line, module) of each import of a file, wherever it stands, but what only the type checker sees."""
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"wsd/{name}.py:{node.lineno}: a relative import"
            module = node.module or ""
            for alias in node.names:
                if (module, alias.name) == ("wsd", "__version__"):
                    continue
                # `from wsd import log` imports the file wsd/log.py, `from wsd.log import warn` does too.
                whole = f"{module}.{alias.name}"
                is_file = whole.removeprefix("wsd.").replace(".", "/") in FILES
                yield node.lineno, whole if module.startswith("wsd") and is_file else module


def file_of(module: str) -> str | None:
    """The file of wsd/ that a module's name stands for; None: it is none of ours."""
    if module == "wsd":
        return "__init__"
    if not module.startswith("wsd."):
        return None
    name = module.removeprefix("wsd.").replace(".", "/")
    if f"{name}.c" in NATIVE:
        return f"{name}.c"
    return f"{name}/__init__" if f"{name}/__init__" in FILES else name


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name: str) -> None:
    wrong = []
    for line, module in imports(name):
        imported = file_of(module)
        if imported is None or (imported.partition("/")[0] == name.partition("/")[0] and "/" in name):
            continue
        # The names in __init__ are for plugins; `wsd.__version__` alone is everybody's.
        if row(imported) >= row(name):
            wrong.append(f"wsd/{name}.py:{line}: row {row(name)} imports {module} of row {row(imported)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", [name for name in FILES if row(name) <= PURE_ROWS])
def test_the_lowest_rows_are_pure(name: str) -> None:
    impure = [f"wsd/{name}.py:{line}: {module}" for line, module in imports(name) if module.split(".")[0] in IMPURE]
    assert not impure, "\n".join(impure)


def test_the_rows_are_counted_from_the_bottom() -> None:
    assert [int(number) for number, _ in TABLE] == list(range(len(TABLE), 0, -1))


def test_each_file_is_named_in_one_row_only() -> None:
    named = [name for names in ROWS for name in names]
    assert len(named) == len(set(named))


def test_the_rows_name_no_file_that_is_gone() -> None:
    there = {name.partition("/")[0] + "/" if "/" in name else name for name in FILES}
    assert {name for names in ROWS for name in names} == there | NATIVE


@pytest.mark.parametrize("module", ["wsd.wire", "wsd.wire.parser", "wsd.wire.handshake"])
def test_wire_loads_no_openssl(module: str) -> None:
    loaded = modules_after(f"import {module}")
    assert not {name for name in loaded if name.split(".")[0] in ("OpenSSL", "cryptography", "ssl", "_ssl")}


def test_importing_wsd_is_lazy() -> None:
    """A plugin's `from wsd import ...` pays for what it names; the package alone for nothing."""
    assert {name for name in modules_after("import wsd") if name.startswith("wsd")} == {"wsd"}


def modules_after(statement: str) -> set[str]:
    """What is loaded in a new interpreter after one statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True, timeout=60
    )
    return set(answer.stdout.split())
