"""`wsd new-plugin`: what it writes loads, is tested, and looks as the shipped plugins do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsd.plugins import discover, load
from wsd.scaffold import new_plugin

GOOD = ["lucky", "lucky-number", "Lucky_Number2", "x", "protocol", "wsi", "none", "json", "v2-chat"]


@pytest.mark.parametrize("name", GOOD)
def test_it_loads_as_written(tmp_path: Path, name: str) -> None:
    plugin, test = new_plugin(name, tmp_path)
    stem = name.replace("-", "_")
    assert [plugin, test] == [tmp_path / f"{stem}.py", tmp_path / f"test_{stem}.py"]
    (found,) = discover([tmp_path], entry_points=False, shipped=None)
    assert found.error is None
    assert [protocol.name for protocol in found.protocols] == [name]
    compile(test.read_bytes(), str(test), "exec")
    found.unload()


def test_no_placeholder_is_left(tmp_path: Path) -> None:
    for path in new_plugin("lucky-number", tmp_path):
        text = path.read_text()
        assert not [word for word in ("NAME", "CLASS", "SUMMARY", "_FILE") if word in text]
    assert "class LuckyNumber(Protocol):" in (tmp_path / "lucky_number.py").read_text()


def test_its_test_passes(tmp_path: Path, root: Path) -> None:
    _, test = new_plugin("lucky-number", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", test.name]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_its_test_fails_when_the_plugin_is_broken(tmp_path: Path, root: Path) -> None:
    plugin, test = new_plugin("lucky-number", tmp_path)
    plugin.write_text(plugin.read_text().replace("wsi.session += 1", "wsi.session += 2"))
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test.name]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr


def test_it_is_formatted_and_typed(tmp_path: Path) -> None:
    """A model for authors passes the checks that wsd's own plugins pass."""
    paths = [str(path) for path in new_plugin("lucky-number", tmp_path)]
    for tool in (["ruff", "format", "--check", "--line-length", "120"], ["ruff", "check"]):
        done = subprocess.run([sys.executable, "-m", *tool, *paths], capture_output=True, text=True, timeout=60)
        if "No module named" in done.stderr:
            pytest.skip("ruff is not installed: pip install ruff")
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_folder_is_made(tmp_path: Path) -> None:
    plugin, _ = new_plugin("lucky", tmp_path / "new" / "plugins")
    found = load(plugin)
    assert found.error is None
    found.unload()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "1st",
            "-x",
            "_own",
            "two words",
            "a/b",
            "../up",
            "a.b",
            "na\xefve",
            "x\n",
            "x y\0",
            "test-me",
            "test_me",
        ),
        *("conftest", "class", "import", "http", "a" * 3 + "!"),
    ],
)
def test_a_name_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a plugin"):
        new_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["lucky.py", "test_lucky.py", "lucky"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(FileExistsError) as caught:
        new_plugin("lucky", tmp_path)
    assert caught.value.filename == str(tmp_path / there)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lucky.py").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        new_plugin("lucky", tmp_path)
    assert not (tmp_path / "elsewhere").exists()
