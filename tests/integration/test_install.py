"""What is installed runs: the wheel by pip, and `make install` in a DESTDIR, moved to where it is to live."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.programs import require_program

IGNORED = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "build", "*.egg-info")

# Run as a user would who has nothing set.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """Run a command; gives its output, both streams."""
    answer = subprocess.run(
        list(map(str, command)), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    output = answer.stdout + answer.stderr
    assert answer.returncode == status, f"{command} ended with {answer.returncode}:\n{output}"
    return output


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A copy of the source tree, so that a build leaves nothing in ours."""
    copy = tmp_path_factory.mktemp("tree") / "wsd"
    shutil.copytree(root, copy, ignore=IGNORED)
    return copy


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> tuple[Path, Path]:
    """(DESTDIR, PREFIX) of a `make install`; the prefix is a folder of ours, where the staged files then move."""
    folder = tmp_path_factory.mktemp("install")
    staging, prefix = folder / "staging", folder / "opt" / "wsd"
    run("make", "install", f"PYTHON={base_python()}", f"DESTDIR={staging}", f"PREFIX={prefix}", cwd=tree)
    return staging, prefix


def base_python() -> str:
    """The interpreter beneath the environment that runs the tests: what a user has."""
    return str(Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}"))


def staged_path(staged: tuple[Path, Path], path: str) -> Path:
    """Where a path under the prefix (or, with a leading slash, of the system) lies in the staging folder."""
    staging, prefix = staged
    return staging / str(prefix / path).lstrip("/") if not path.startswith("/") else staging / path.lstrip("/")


def test_the_wheel_carries_configuration_plugins_and_page(tree: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, tree, cwd=tmp_path)
    (wheel,) = tmp_path.glob("wsd-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("wsd/share/etc/wsd.toml") == (tree / "etc/wsd.toml").read_bytes()
    plugins = {f"wsd/share/plugins/{path.name}" for path in (tree / "plugins").glob("*.py")}
    page = {f"wsd/page/{path.name}" for path in (tree / "wsd/page").iterdir()}
    assert names >= plugins | page | {"wsd/py.typed", "wsd/cli.py", "wsd/wire/parser.py"}
    assert not [name for name in names if name.startswith(("tests", "etc", "plugins", "docs"))]


def test_nothing_knows_the_staging_folder(staged: tuple[Path, Path]) -> None:
    staging, prefix = staged
    knowing = [
        str(path.relative_to(staging))
        for path in staging.rglob("*")
        if path.is_file() and not path.is_symlink() and str(staging).encode() in path.read_bytes()
    ]
    assert not knowing
    script = staged_path(staged, "env/bin/wsd").read_text()
    assert str(prefix / "env/bin/python") in script.partition("\nimport")[0]


def test_the_unit_and_the_user(staged: tuple[Path, Path], tree: Path) -> None:
    _, prefix = staged
    unit = staged_path(staged, "/etc/systemd/system/wsd.service").read_text()
    assert "@" not in unit.replace("@system-service", "").replace("@privileged", "").replace("@resources", "")
    assert f"ExecStart={prefix}/" in unit
    assert staged_path(staged, "/etc/sysusers.d/wsd.conf").read_text().startswith("u wsd ")


def test_the_user_entry_is_understood(staged: tuple[Path, Path], tmp_path: Path) -> None:
    program = require_program("systemd-sysusers", package="systemd")
    (tmp_path / "etc").mkdir()
    run(program, f"--root={tmp_path}", staged_path(staged, "/etc/sysusers.d/wsd.conf"), cwd=tmp_path)
    assert "wsd:" in (tmp_path / "etc/passwd").read_text()


def test_it_runs_where_it_was_meant_to_live(staged: tuple[Path, Path], tmp_path: Path) -> None:
    _, prefix = staged
    shutil.copytree(staged_path(staged, ""), prefix, symlinks=True)
    try:
        wsd = prefix / "bin" / "wsd"
        assert "wsd " in run(wsd, "--version", cwd=tmp_path)
        run(wsd, "check", "-c", prefix / "etc/wsd.toml", cwd=tmp_path)
        plugins = run(wsd, "plugins", "-c", prefix / "etc/wsd.toml", cwd=tmp_path)
        assert str(prefix / "plugins/echo.py") in plugins
        # Without a configuration anywhere it takes the packaged one.
        assert "echo" in run(wsd, "plugins", cwd=tmp_path)
    finally:
        shutil.rmtree(prefix)


def test_an_edited_file_is_kept_by_install_and_uninstall(staged: tuple[Path, Path], tree: Path) -> None:
    staging, prefix = staged
    options = (f"PYTHON={base_python()}", f"DESTDIR={staging}", f"PREFIX={prefix}")
    config, plugin = staged_path(staged, "etc/wsd.toml"), staged_path(staged, "plugins/chat.py")
    mine = staged_path(staged, "plugins/mine.py")
    edited = config.read_text().replace("7681", "7999")
    config.write_text(edited)
    mine.write_text("protocols = []\n")
    # A newer version comes with a changed configuration, and with a changed plugin that nobody had touched here.
    (tree / "etc/wsd.toml").write_text("# new\n" + (tree / "etc/wsd.toml").read_text())
    (tree / "plugins/chat.py").write_text((tree / "plugins/chat.py").read_text() + "# new\n")

    output = run("make", "install", *options, cwd=tree)
    assert f"{config}.new" in output
    assert config.read_text() == edited
    assert Path(f"{config}.new").read_text().startswith("# new\n")
    assert plugin.read_text().endswith("# new\n")
    assert not Path(f"{plugin}.new").exists()

    output = run("make", "uninstall", *options, cwd=tree)
    assert "kept" in output
    left = sorted(str(path.relative_to(staging)) for path in staging.rglob("*") if not path.is_dir())
    base = str(prefix).lstrip("/")
    assert left == [f"{base}/etc/wsd.toml", f"{base}/plugins/mine.py"]
    assert config.read_text() == edited


def test_uninstall_without_install_says_so(tree: Path, tmp_path: Path) -> None:
    output = run("make", "uninstall", f"DESTDIR={tmp_path}", "PREFIX=/opt/wsd", cwd=tree, status=2)
    assert "nothing of wsd is installed" in output


@pytest.mark.parametrize("version", ["3.10", "2.7"])
def test_an_old_python_is_refused_with_a_sentence(tree: Path, tmp_path: Path, version: str) -> None:
    """A stand-in for an old interpreter: it answers what make asks of it."""
    old = tmp_path / "python-old"
    old.write_text(f'#!/bin/sh\n[ "$1" = -V ] && echo "Python {version}.0" && exit 0\nexit 1\n')
    old.chmod(0o755)
    output = run("make", "run", f"PYTHON={old}", f"VENV={tmp_path}/venv", cwd=tree, status=2)
    assert f"is Python {version}.0; wsd needs Python 3.11 or newer" in output
    assert not (tmp_path / "venv").exists()


def test_a_python_that_is_not_there_is_named(tree: Path, tmp_path: Path) -> None:
    output = run("make", "run", "PYTHON=python-nowhere", f"VENV={tmp_path}/venv", cwd=tree, status=2)
    assert "python-nowhere is not there" in output


def test_help_names_every_goal(tree: Path) -> None:
    output = run("make", "help", cwd=tree)
    for goal in ("run", "test", "check", "format", "coverage", "fuzz", "install", "uninstall", "clean"):
        assert f"make {goal} " in output
