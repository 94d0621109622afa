"""Finding and loading plugins: real files, since that is what they are."""

from __future__ import annotations

import importlib
import os
import py_compile
import stat
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsd import log, plugins
from wsd.errors import PluginError
from wsd.plugins import Found, by_name, check_trust, discover, load, not_provided

ONE = """\
from wsd.protocol import Protocol

class {cls}(Protocol):
    name = "{name}"
    value = {value!r}

protocols = [{cls}]
"""

CALLBACK = """\
from wsd.protocol import callback_protocol

@callback_protocol("tick")
def tick(wsi, reason, user, data):
    pass

protocols = [tick]
"""


@pytest.fixture(autouse=True)
def clean_modules() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith("wsd_plugins.")]:
        del sys.modules[name]


def one(name: str = "one", value: object = 1) -> str:
    return ONE.format(cls="One", name=name, value=value)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def find(*folders: Path, shipped: Path | None = None) -> list[Found]:
    return discover(folders, entry_points=False, shipped=shipped)


def names(found: list[Found]) -> list[str]:
    return [protocol.name for plugin in found for protocol in plugin.protocols]


def error_of(tmp_path: Path, text: str) -> PluginError:
    found = load(write(tmp_path / "broken.py", text))
    assert found.error is not None
    assert found.protocols == ()
    assert found.modules == ()
    return found.error


class TestFinding:
    def test_files_and_packages_in_the_order_of_names(self, tmp_path: Path) -> None:
        write(tmp_path / "b.py", one("b"))
        write(tmp_path / "a" / "__init__.py", one("a"))
        write(tmp_path / "c.py", CALLBACK)
        found = find(tmp_path)
        assert names(found) == ["a", "b", "tick"]
        assert [plugin.file for plugin in found] == [tmp_path / "a", tmp_path / "b.py", tmp_path / "c.py"]
        assert not any(plugin.error or plugin.shipped for plugin in found)

    @pytest.mark.parametrize(
        "name",
        [
            ".hidden.py",
            "_own.py",
            "test_one.py",
            "conftest.py",
            "__pycache__/x.py",
            "__pycache__/__init__.py",
            ".git/__init__.py",
            "_own/__init__.py",
            "test_one/__init__.py",
            "notes.txt",
            "one.py~",
            "one.pyc",
            "folder/one.py",
        ],
    )
    def test_what_is_no_plugin(self, tmp_path: Path, name: str) -> None:
        write(tmp_path / name, "raise RuntimeError('loaded')")
        assert find(tmp_path) == []

    def test_folders_are_taken_in_their_order_and_once(self, tmp_path: Path) -> None:
        write(tmp_path / "z" / "z.py", one("z"))
        write(tmp_path / "a" / "a.py", one("a"))
        assert names(find(tmp_path / "z", tmp_path / "a", tmp_path / "z")) == ["z", "a"]

    def test_a_folder_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        write(tmp_path / "there" / "one.py", one())
        missing, there = find(tmp_path / "no", tmp_path / "there")
        assert str(missing.error) == f"{tmp_path}/no: plugin folder: No such file or directory"
        assert names([there]) == ["one"]

    def test_a_folder_that_is_a_file_is_an_error(self, tmp_path: Path) -> None:
        (found,) = find(write(tmp_path / "file", ""))
        assert "Not a directory" in str(found.error)

    def test_a_plugin_that_is_no_regular_file_is_an_error(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.py")  # reading it would wait for ever
        (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere")
        for found in find(tmp_path):
            assert found.error is not None

    def test_a_symbolic_link_is_followed(self, tmp_path: Path) -> None:
        file = write(tmp_path / "elsewhere" / "one.py", one())
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "linked.py").symlink_to(file)
        assert names(find(tmp_path / "folder")) == ["one"]


class TestNames:
    def test_the_second_of_one_name_is_an_error_that_names_both(self, tmp_path: Path) -> None:
        first = write(tmp_path / "a" / "first.py", one())
        second = write(tmp_path / "b" / "second.py", one())
        found = find(tmp_path / "a", tmp_path / "b")
        assert names(found) == ["one"]
        assert found[0].file == first
        assert str(found[1].error) == (
            f"{second}: two protocols of the name 'one': the first is in {first}; rename or remove one"
        )
        assert found[1].modules == ()

    def test_two_of_one_name_in_one_file_are_an_error(self, tmp_path: Path) -> None:
        error = error_of(tmp_path, one() + "\nprotocols = [One, One]\n")
        assert "two protocols of the name 'one'" in str(error)

    def test_shipped_plugins_come_last_and_are_marked(self, tmp_path: Path) -> None:
        write(tmp_path / "own" / "z.py", one("z"))
        write(tmp_path / "shipped" / "a.py", one("a"))
        found = find(tmp_path / "own", shipped=tmp_path / "shipped")
        assert [(plugin.protocols[0].name, plugin.shipped) for plugin in found] == [("z", False), ("a", True)]

    def test_a_shipped_protocol_gives_way(self, tmp_path: Path) -> None:
        own = write(tmp_path / "own" / "mine.py", one("echo", value="own"))
        both = one("echo") + "\nclass Two(Protocol):\n    name = 'two'\nprotocols = [One, Two]\n"
        shipped = write(tmp_path / "shipped" / "both.py", both)
        write(tmp_path / "shipped" / "echo.py", one("echo"))
        lines: list[str] = []
        before = log.level()
        log.set_level(log.INFO, lambda level, line: lines.append(line))
        try:
            found = find(tmp_path / "own", shipped=tmp_path / "shipped")
        finally:
            log.set_level(before, log.emit_stderr)
        assert names(found) == ["echo", "two"]
        assert by_name(found)["echo"][0].file == own
        assert any(f"protocol echo: {own} wins over {shipped}" in line for line in lines)
        assert not any(plugin.error for plugin in found)
        assert len([name for name in sys.modules if name.startswith("wsd_plugins.")]) == 2

    def test_the_shipped_folder_is_not_loaded_twice(self, tmp_path: Path) -> None:
        write(tmp_path / "plugins" / "one.py", one())
        (tmp_path / "link").symlink_to(tmp_path / "plugins")
        (found,) = find(tmp_path / "link", shipped=tmp_path / "plugins")
        assert not found.shipped
        assert not found.error

    def test_not_provided_lists_what_is_and_what_is_broken(self, tmp_path: Path) -> None:
        write(tmp_path / "good.py", one("good"))
        write(tmp_path / "bad.py", "import nothing_of_this_name\n")
        error = not_provided("chat", find(tmp_path))
        assert str(error) == (
            "no plugin provides the protocol 'chat'; provided are: good\n"
            "not loaded, and one of them may be it:\n"
            f"  {tmp_path}/bad.py:1: ModuleNotFoundError: No module named 'nothing_of_this_name'"
        )

    def test_not_provided_where_there_is_nothing(self) -> None:
        assert str(not_provided("chat", [])) == "no plugin provides the protocol 'chat'; provided are: none"


class TestModules:
    def test_a_plugin_shadows_nothing(self, tmp_path: Path) -> None:
        for name in ("json", "select", "wsd", "chat"):
            write(tmp_path / f"{name}.py", one(name) + "import json, select\nassert json.loads('1') == 1\n")
        path = list(sys.path)
        found = find(tmp_path)
        assert names(found) == ["chat", "json", "select", "wsd"]
        assert sys.path == path
        assert all(name.startswith("wsd_plugins.") for plugin in found for name in plugin.modules)

    def test_two_packages_may_each_have_a_helper(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write(
                tmp_path / name / "__init__.py", f"from .helper import VALUE\n{ONE}".format(cls="C", name=name, value=0)
            )
            write(tmp_path / name / "helper.py", f"VALUE = {name!r}")
        found = find(tmp_path)
        modules = [sys.modules[plugin.modules[0]] for plugin in found]
        assert [module.VALUE for module in modules] == ["a", "b"]
        assert [len(plugin.modules) for plugin in found] == [2, 2]

    def test_packages_inside_packages_and_imports_later_on(self, tmp_path: Path) -> None:
        write(
            tmp_path / "deep" / "__init__.py",
            "from wsd.protocol import Protocol\nfrom . import sub\n"
            "class Deep(Protocol):\n    name = 'deep'\n    def late(self):\n        from .sub.inner import later\n"
            "        return later.VALUE\nprotocols = [Deep]\n",
        )
        write(tmp_path / "deep" / "sub" / "__init__.py", "from .. import sub\nfrom .inner import one\n")
        write(tmp_path / "deep" / "sub" / "inner" / "__init__.py", "")
        write(tmp_path / "deep" / "sub" / "inner" / "one.py", "")
        later = write(tmp_path / "deep" / "sub" / "inner" / "later.py", "VALUE = 1")
        (found,) = find(tmp_path)
        assert found.error is None
        later.write_text("VALUE = 2")
        # The generation that is running stays whole: it is one set of sources, read at one time.
        assert found.protocols[0].late() == 1  # type: ignore[attr-defined]

    def test_a_file_imports_nothing_beside_it(self, tmp_path: Path) -> None:
        write(tmp_path / "helper.py", one("helper"))
        text = str(error_of(tmp_path, "import os\nimport helper\n"))
        assert text.startswith(f"{tmp_path}/broken.py:2: ModuleNotFoundError: No module named 'helper' (")
        assert "make it a package, with: from .helper import" in text
        text = str(error_of(tmp_path, "from .helper import x\n"))
        assert "make it a package" in text

    def test_a_package_is_told_to_use_the_dot(self, tmp_path: Path) -> None:
        write(tmp_path / "pack" / "__init__.py", "import helper\n")
        write(tmp_path / "pack" / "helper.py", "")
        (found,) = find(tmp_path)
        assert "from .helper import" in str(found.error)

    def test_no_bytecode_is_written(self, tmp_path: Path) -> None:
        write(tmp_path / "pack" / "__init__.py", f"from . import helper\n{one()}")
        write(tmp_path / "pack" / "helper.py", "")
        before = sys.dont_write_bytecode
        sys.dont_write_bytecode = False
        try:
            assert names(find(tmp_path)) == ["one"]
        finally:
            sys.dont_write_bytecode = before
        assert list(tmp_path.rglob("__pycache__")) == []

    def test_no_bytecode_is_read(self, tmp_path: Path) -> None:
        """A same-size edit within the same second: the stale .pyc that lies there has the right size and time."""
        init = write(tmp_path / "pack" / "__init__.py", f"from .helper import VALUE\n{one()}")
        helper = write(tmp_path / "pack" / "helper.py", "VALUE = 1")
        for file in (init, helper):
            py_compile.compile(str(file), doraise=True)
        times = helper.stat()
        helper.write_text("VALUE = 2")
        os.utime(helper, ns=(times.st_atime_ns, times.st_mtime_ns))
        (found,) = find(tmp_path)
        assert sys.modules[found.modules[0]].VALUE == 2

    def test_a_same_size_edit_within_a_second_is_seen(self, tmp_path: Path) -> None:
        file = write(tmp_path / "one.py", one(value=1))
        first = load(file)
        file.write_text(one(value=2))
        second = load(file)
        assert [plugin.protocols[0].value for plugin in (first, second)] == [1, 2]  # type: ignore[attr-defined]
        assert first.digest != second.digest
        assert set(first.modules).isdisjoint(second.modules)

    def test_instances_are_fresh_in_both_styles(self, tmp_path: Path) -> None:
        for text in (one(), CALLBACK):
            file = write(tmp_path / "one.py", text)
            assert load(file).protocols[0] is not load(file).protocols[0]

    def test_unload_takes_the_modules_away_and_leaves_the_others(self, tmp_path: Path) -> None:
        write(tmp_path / "pack" / "__init__.py", f"from . import helper\n{one()}")
        write(tmp_path / "pack" / "helper.py", "")
        old, new = load(tmp_path / "pack"), load(tmp_path / "pack")
        gone = old.modules
        assert len(gone) == 2
        old.unload()
        assert not set(gone) & set(sys.modules)
        assert len(new.modules) == 2
        assert old.protocols[0].name == "one"
        old.unload()

    def test_a_package_reads_its_own_data(self, tmp_path: Path) -> None:
        write(tmp_path / "pack" / "words.txt", "hello")
        write(
            tmp_path / "pack" / "__init__.py",
            one()
            + "from importlib.resources import files\nWORDS = files(__name__).joinpath('words.txt').read_text()\n",
        )
        (found,) = find(tmp_path)
        assert found.error is None
        assert sys.modules[found.modules[0]].WORDS == "hello"

    def test_a_source_may_name_its_encoding(self, tmp_path: Path) -> None:
        file = tmp_path / "one.py"
        file.write_bytes(b"# -*- coding: latin-1 -*-\n" + one(value="\xe9").encode("latin-1"))
        assert load(file).protocols[0].value == "\xe9"  # type: ignore[attr-defined]

    def test_flags_of_ours_are_not_the_plugins(self, tmp_path: Path) -> None:
        """`from __future__ import annotations` in wsd/plugins.py must not reach into what it compiles."""
        found = load(write(tmp_path / "one.py", one() + "def f(a: int): pass\nKIND = f.__annotations__['a']\n"))
        assert sys.modules[found.modules[0]].KIND is int

    def test_a_traceback_shows_the_source_line(self, tmp_path: Path) -> None:
        found = load(write(tmp_path / "one.py", one() + "def fail():\n    return 1 / 0  # here\n"))
        with pytest.raises(ZeroDivisionError) as caught:
            sys.modules[found.modules[0]].fail()
        assert "return 1 / 0  # here" in "".join(traceback.format_exception(caught.value))

    def test_a_name_with_dots_and_dashes_loads(self, tmp_path: Path) -> None:
        found = load(write(tmp_path / "my-plugin.v2.py", one()))
        assert found.error is None
        assert found.modules[0].endswith("_my_plugin_v2")


class TestDigest:
    def test_equal_sources_have_equal_digests(self, tmp_path: Path) -> None:
        write(tmp_path / "a" / "pack" / "__init__.py", one())
        write(tmp_path / "b" / "pack" / "__init__.py", one())
        assert load(tmp_path / "a" / "pack").digest == load(tmp_path / "b" / "pack").digest

    def test_every_part_of_a_package_counts(self, tmp_path: Path) -> None:
        pack = write(tmp_path / "pack" / "__init__.py", one()).parent
        digests = [load(pack).digest]
        for part in ("helper.py", "sub/__init__.py"):
            write(pack / part, "")
            digests.append(load(pack).digest)
        (pack / "helper.py").rename(pack / "other.py")
        digests.append(load(pack).digest)
        assert len(set(digests)) == 4

    def test_what_is_no_source_does_not_count(self, tmp_path: Path) -> None:
        pack = write(tmp_path / "pack" / "__init__.py", one()).parent
        before = load(pack).digest
        write(pack / "__pycache__" / "x.pyc", "x")
        write(pack / "notes.txt", "x")
        assert load(pack).digest == before

    def test_bytes_moved_between_files_count(self, tmp_path: Path) -> None:
        pack = write(tmp_path / "pack" / "__init__.py", one()).parent
        write(pack / "a.py", "#1\n#2\n")
        write(pack / "b.py", "")
        before = load(pack).digest
        write(pack / "a.py", "#1\n")
        write(pack / "b.py", "#2\n")
        assert load(pack).digest != before


class TestErrors:
    def test_a_syntax_error_has_its_line(self, tmp_path: Path) -> None:
        assert str(error_of(tmp_path, "x = 1\ny = = 2\n")) == f"{tmp_path}/broken.py:2: SyntaxError: invalid syntax"

    def test_an_exception_has_the_innermost_line_of_the_plugin(self, tmp_path: Path) -> None:
        error = error_of(tmp_path, "import json\n\ndef f():\n    json.loads('{')\n\nf()\n")
        assert (error.file, error.line) == (f"{tmp_path}/broken.py", 4)
        assert "JSONDecodeError" in str(error)

    def test_an_exception_in_a_part_names_the_part(self, tmp_path: Path) -> None:
        write(tmp_path / "pack" / "__init__.py", f"from . import helper\n{one()}")
        write(tmp_path / "pack" / "helper.py", "\n1 / 0\n")
        (found,) = find(tmp_path)
        assert str(found.error) == f"{tmp_path}/pack/helper.py:2: ZeroDivisionError: division by zero"
        assert found.modules == ()

    def test_a_syntax_error_in_a_part_names_the_part(self, tmp_path: Path) -> None:
        write(tmp_path / "pack" / "__init__.py", "from . import helper\n")
        write(tmp_path / "pack" / "helper.py", "\n\nx = (\n")
        (found,) = find(tmp_path)
        assert str(found.error) == f"{tmp_path}/pack/helper.py:3: SyntaxError: '(' was never closed"

    @pytest.mark.parametrize("text", ["raise SystemExit(3)", "import sys; sys.exit('bye')", "raise GeneratorExit"])
    def test_what_would_end_the_program_does_not(self, tmp_path: Path, text: str) -> None:
        assert error_of(tmp_path, text).line == 1

    def test_control_c_does(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            load(write(tmp_path / "one.py", "raise KeyboardInterrupt"))

    @pytest.mark.parametrize("source", [b"x = '\0'", b"x = '\xff'", b"# coding: no-such\n"])
    def test_a_source_that_is_no_text(self, tmp_path: Path, source: bytes) -> None:
        file = tmp_path / "broken.py"
        file.write_bytes(source)
        error = load(file).error
        assert error is not None
        assert str(file) in str(error)

    def test_no_list(self, tmp_path: Path) -> None:
        text = str(error_of(tmp_path, one().replace("protocols = [One]", "")))
        assert text.endswith("broken.py: does not end with a list of its protocols; add: protocols = [One]")
        text = str(error_of(tmp_path, CALLBACK.replace("protocols = [tick]", "")))
        assert text.endswith("add: protocols = [tick]")
        assert str(error_of(tmp_path, "")).endswith("add: protocols = [...]")

    @pytest.mark.parametrize(
        ("line", "text"),
        [
            ("protocols = 3", "`protocols` must be a list, found int"),
            ("protocols = One", "`protocols` must be a list, found type"),
            ("protocols = []", "`protocols` is empty"),
            ("protocols = [3]", "protocols[0] must be a Protocol class or instance, found int 3"),
            ("protocols = [One, dict]", "protocols[1] must be a Protocol class or instance, found the class dict"),
            ("def f(): pass\nprotocols = [f]", "(is @callback_protocol(...) missing above it?)"),
            ("class P(Protocol): pass\nprotocols = [P]", "the name of a protocol must be an HTTP token, found ''"),
            ("One.Options = dict", "one: Options must be a subclass of wsd.Options, found <class 'dict'>"),
        ],
    )
    def test_a_list_that_is_none(self, tmp_path: Path, line: str, text: str) -> None:
        error = error_of(tmp_path, one() + line + "\n")
        assert text in str(error)
        assert error.file == f"{tmp_path}/broken.py"

    def test_a_protocol_that_cannot_be_made(self, tmp_path: Path) -> None:
        error = error_of(tmp_path, one().replace("    value", "    def __init__(self): self.no\n    value"))
        assert error.line == 5
        assert "AttributeError" in str(error)

    def test_hooks_are_tried_at_load(self, tmp_path: Path) -> None:
        error = error_of(tmp_path, one().replace("    value", "    def on_recieve(self, wsi): pass\n    value"))
        assert (error.file, error.line) == (f"{tmp_path}/broken.py", 5)
        assert "did you mean on_receive?" in str(error)

    def test_one_broken_plugin_spoils_no_other(self, tmp_path: Path) -> None:
        write(tmp_path / "a.py", "raise RuntimeError('no')")
        write(tmp_path / "b.py", one("b"))
        found = find(tmp_path)
        assert [bool(plugin.error) for plugin in found] == [True, False]


class TestEntryPoints:
    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """An installed package, in a folder that Python finds packages in."""
        write(tmp_path / "wsd_test_installed.py", one("installed") + CALLBACK.replace("protocols = [tick]", ""))
        write(tmp_path / "x-1.0.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: x\nVersion: 1.0\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "wsd_test_installed", raising=False)
        return tmp_path

    def find(self, package: Path, value: str, folder: Path | None = None) -> list[Found]:
        write(package / "x-1.0.dist-info" / "entry_points.txt", f"[wsd.plugins]\nx = {value}\n")
        importlib.invalidate_caches()
        found = discover([folder] if folder else [], entry_points=True, shipped=None)
        return [plugin for plugin in found if plugin.error or plugin.protocols[0].name in ("installed", "tick")]

    @pytest.mark.parametrize(
        ("value", "name"),
        [
            ("wsd_test_installed", "installed"),
            ("wsd_test_installed:protocols", "installed"),
            ("wsd_test_installed:One", "installed"),
            ("wsd_test_installed:tick", "tick"),
        ],
    )
    def test_a_module_a_list_a_class_and_an_object(self, package: Path, value: str, name: str) -> None:
        (found,) = self.find(package, value)
        assert names([found]) == [name]
        assert found.file == package / "wsd_test_installed.py"
        assert found.modules == ()
        (again,) = self.find(package, value)
        assert again.protocols[0] is not found.protocols[0]
        assert again.digest == found.digest

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("wsd_test_nowhere", "entry point x = wsd_test_nowhere: "),
            ("wsd_test_installed:nothing", "AttributeError"),
            ("wsd_test_installed:CALLBACK", "AttributeError"),
            ("wsd_test_installed:Protocol", "HTTP token"),
        ],
    )
    def test_errors_name_the_entry_point(self, package: Path, value: str, text: str) -> None:
        (found,) = self.find(package, value)
        assert text in str(found.error)
        assert "entry point x" in str(found.error)

    def test_a_plugin_of_a_folder_is_first(self, package: Path, tmp_path: Path) -> None:
        own = write(tmp_path / "own" / "one.py", one("installed"))
        mine, installed = self.find(package, "wsd_test_installed", own.parent)
        assert mine.file == own
        assert f"the first is in {own}" in str(installed.error)

    def test_they_are_left_alone_where_not_wanted(self, package: Path) -> None:
        write(package / "x-1.0.dist-info" / "entry_points.txt", "[wsd.plugins]\nx = wsd_test_installed\n")
        assert discover([], entry_points=False, shipped=None) == []


STRANGER = 61_234
"""A user id that nobody has."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder that is ours alone from the root of the file system down, or the test has no meaning."""
    try:
        check_trust(tmp_path, {0, os.geteuid()})
    except PluginError as error:
        pytest.skip(f"the folder for temporary files is not to be trusted: {error}")
    return write(tmp_path / "plugins" / "one.py", one())


def refuse(path: Path, text: str, uids: tuple[int, ...] = ()) -> None:
    with pytest.raises(PluginError, match=text):
        check_trust(path, {0, os.geteuid(), *uids})


class TestTrust:
    def test_what_is_ours_is_trusted(self, tree: Path) -> None:
        check_trust(tree, {0, os.geteuid()})
        check_trust(tree.parent, {0, os.geteuid()})

    def test_a_file_that_all_can_write(self, tree: Path) -> None:
        tree.chmod(0o666)
        refuse(tree, f"{tree} can be written by everybody; to trust it: chmod o-w {tree}")

    def test_a_folder_that_all_can_write(self, tree: Path) -> None:
        tree.parent.chmod(0o777)
        refuse(tree, f"{tree.parent} can be written by everybody")
        refuse(tree.parent, f"{tree.parent} can be written by everybody")

    def test_an_ancestor_that_all_can_write(self, tree: Path, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        refuse(tree, f"{tmp_path} can be written by everybody")

    def test_a_sticky_ancestor_is_fine(self, tree: Path, tmp_path: Path) -> None:
        tmp_path.chmod(0o1777)
        check_trust(tree, {0, os.geteuid()})

    def test_a_sticky_plugins_folder_is_not(self, tree: Path) -> None:
        """Everybody can put a new plugin there."""
        tree.parent.chmod(0o1777)
        refuse(tree.parent, "can be written by everybody")

    def test_a_group_may_write(self, tree: Path) -> None:
        tree.chmod(0o664)
        check_trust(tree, {0, os.geteuid()})

    @pytest.mark.needs_root
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_owners(self, tree: Path, tmp_path: Path) -> None:
        for path in (tree, tree.parent, tmp_path):
            os.chown(path, STRANGER, -1)
            refuse(tree, f"{path} belongs to uid {STRANGER}, not to root; to trust it: chown -h root {path}")
            check_trust(tree, {0, STRANGER})
            os.chown(path, 0, -1)
        check_trust(tree, {0})

    def test_both_sides_of_a_link(self, tree: Path, tmp_path: Path) -> None:
        folder = tmp_path / "links"
        folder.mkdir()
        link = folder / "two.py"
        link.symlink_to("../plugins/one.py")
        check_trust(link, {0, os.geteuid()})
        tree.parent.chmod(0o777)
        refuse(link, f"{tree.parent} can be written by everybody")
        tree.parent.chmod(0o755)
        folder.chmod(0o777)
        refuse(link, f"{folder} can be written by everybody")

    def test_a_link_on_the_way_of_a_link(self, tree: Path, tmp_path: Path) -> None:
        """link -> middle/link -> plugins/one.py: who can write to middle can exchange the second link."""
        middle = tmp_path / "middle"
        middle.mkdir()
        (middle / "link.py").symlink_to(tree)
        link = tmp_path / "link.py"
        link.symlink_to(middle / "link.py")
        middle.chmod(0o777)
        refuse(link, f"{middle} can be written by everybody")

    @pytest.mark.needs_root
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_the_owner_of_a_link(self, tree: Path, tmp_path: Path) -> None:
        link = tmp_path / "link.py"
        link.symlink_to(tree)
        os.chown(link, STRANGER, -1, follow_symlinks=False)
        refuse(link, f"{link} belongs to uid {STRANGER}")

    def test_links_in_a_circle_end(self, tree: Path, tmp_path: Path) -> None:
        (tmp_path / "a.py").symlink_to("b.py")
        (tmp_path / "b.py").symlink_to("a.py")
        refuse(tmp_path / "a.py", "too many symbolic links")

    def test_dots_on_the_way(self, tree: Path) -> None:
        check_trust(tree.parent / ".." / "." / "plugins" / "one.py", {0, os.geteuid()})

    @pytest.mark.needs_root
    @pytest.mark.skipif(os.geteuid() != 0, reason="the rule is for root")
    def test_root_loads_nothing_that_others_can_write(self, tree: Path) -> None:
        write(tree.parent / "pack" / "__init__.py", "raise RuntimeError('loaded')")
        write(tree.parent / "pack" / "part.py", "").chmod(0o666)
        tree.chmod(0o602)
        file_found, pack_found = find(tree.parent)
        assert "pack/part.py can be written by everybody" in str(pack_found.error)
        assert "one.py can be written by everybody" in str(file_found.error)
        tree.parent.chmod(0o777)
        (folder_found,) = find(tree.parent)
        assert f"{tree.parent} can be written by everybody" in str(folder_found.error)

    @pytest.mark.needs_root
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_the_user_that_the_daemon_becomes_is_trusted(self, tree: Path) -> None:
        os.chown(tree, STRANGER, -1)
        assert names(find(tree.parent)) == []
        assert names(discover([tree.parent], entry_points=False, shipped=None, user=str(STRANGER))) == ["one"]
        assert names(discover([tree.parent], entry_points=False, shipped=None, user="nobody")) == []

    def test_the_rule_is_for_root_alone(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        tree.chmod(0o666)
        assert names(find(tree.parent)) == ["one"]

    def test_it_holds_after_the_drop_too(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tree.chmod(0o666)
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
        (found,) = discover([tree.parent], entry_points=False, shipped=None, user="nobody")
        assert "can be written by everybody" in str(found.error)


def test_the_shipped_plugins_load(root: Path) -> None:
    folder = root / "plugins"
    found = [load(path) for path in sorted(folder.iterdir()) if plugins._is_plugin(path)]
    assert [plugin.error for plugin in found] == [None] * 6
    assert names(found) == [
        "chat",
        "dumb-increment-protocol",
        "echo",
        "fraggle-protocol",
        "lws-mirror-protocol",
        "relay",
    ]
    assert all(not stat.S_IMODE(plugin.file.stat().st_mode) & stat.S_IWOTH for plugin in found)
