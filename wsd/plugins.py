"""Finding plugin files and installed plugin packages, and loading them.

Owns the rules of section "where plugins are found" of docs/plugins.md: which files count, how their modules are named,
which of two protocols of one name is served, and whose files root may run.  Must not know listeners, contexts or the
loop: it hands out protocols and errors, and the caller decides whether an error stops the start.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import importlib.util
import itertools
import os
import pwd
import stat
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from wsd import config, log
from wsd.binding import bind_hooks
from wsd.errors import PluginError
from wsd.faults import CATCHABLE
from wsd.protocol import Protocol

GROUP: Final = "wsd.plugins"
"""The entry point group of installed plugin packages."""

# Plugin modules live under a name of their own, so that a plugin called json.py shadows nothing; the number keeps two
# plugins called chat.py, and two generations of one, apart.
_PARENT: Final = "wsd_plugins"
_numbers = itertools.count(1)

# What the kernel follows before it gives up with ELOOP.
_MAX_LINKS: Final = 40


@dataclass(eq=False)
class Found:
    """One plugin that was found: its protocols, or why it cannot be used."""

    file: Path
    """The file, the folder of a package, or the module's file of an entry point."""
    protocols: tuple[Protocol, ...] = ()
    """Fresh instances, made by this discovery and by no other."""
    digest: str = ""
    """Equal for equal sources: what a reload compares."""
    shipped: bool = False
    """Reports whether it came with wsd: served only where a listener names it."""
    error: PluginError | None = None
    module: str = field(default="", repr=False)

    @property
    def modules(self) -> tuple[str, ...]:
        """The names in `sys.modules` that belong to this plugin; none for an installed package."""
        return tuple(name for name in sys.modules if f"{name}.".startswith(f"{self.module}.")) if self.module else ()

    def unload(self) -> None:
        """Forget the plugin's modules.  What still refers to their classes keeps working."""
        for name in self.modules:
            del sys.modules[name]


def discover(
    folders: Sequence[Path], *, entry_points: bool, shipped: Path | None, user: str | None = None
) -> list[Found]:
    """Find and load every plugin: those in `folders` first, then installed packages, then the shipped ones.

    A plugin that cannot be used is a `Found` with an `error` and no protocols.  Each call loads everything afresh.

    Args:
        folders: Where plugin files and packages lie; one that does not exist is an error in the result.
        entry_points: Whether installed packages are asked, by the entry point group `wsd.plugins`.
        shipped: The folder of the plugins that come with wsd.  Its protocols give way to those of one name.
        user: Whom the daemon runs as when it was started as root; with it, or as root, files are checked by
            `check_trust`.
    """
    allowed = _trusted_uids(user)
    known = {folder.resolve() for folder in folders}
    found = [plugin for folder in dict.fromkeys(folders) for plugin in _in_folder(folder, allowed)]
    if entry_points:
        found += [_load_entry_point(point) for point in sorted(importlib.metadata.entry_points(group=GROUP))]
    _refuse_duplicates(found)
    if shipped is not None and shipped.resolve() not in known:
        found += _give_way(list(_in_folder(shipped, allowed, shipped=True)), by_name(found))
    return found


def by_name(found: Iterable[Found]) -> dict[str, tuple[Found, Protocol]]:
    """Every usable protocol by its name, with the plugin that it is from."""
    return {protocol.name: (plugin, protocol) for plugin in found for protocol in plugin.protocols}


def not_provided(name: str, found: Iterable[Found]) -> PluginError:
    """The error for a listener that names a protocol which no plugin provides.

    A file that could not be loaded might have been the one, and its protocols' names cannot be known: all are listed.
    """
    found = list(found)
    names = ", ".join(sorted(by_name(found))) or "none"
    text = f"no plugin provides the protocol {name!r}; provided are: {names}"
    broken = [f"  {plugin.error}" for plugin in found if plugin.error]
    return PluginError("\n".join([text, "not loaded, and one of them may be it:", *broken] if broken else [text]))


# -- which files are plugins -------------------------------------------------------------------------------------------


def _in_folder(folder: Path, allowed: frozenset[int] | None, shipped: bool = False) -> Iterator[Found]:
    """Load what lies in one folder, in the order of names."""
    try:
        if allowed is not None:
            check_trust(folder, allowed)
        entries = sorted(folder.iterdir())
    except PluginError as error:
        yield Found(folder, shipped=shipped, error=error)
        return
    except OSError as error:
        yield Found(folder, shipped=shipped, error=PluginError(f"plugin folder: {error.strerror}", str(folder)))
        return
    for path in entries:
        if _is_plugin(path):
            plugin = load(path, allowed)
            plugin.shipped = shipped
            yield plugin


def _is_plugin(path: Path) -> bool:
    """Reports whether a name in a plugins folder is a plugin: a .py file, or a package with an __init__.py.

    Tests lie beside the plugins they test; what begins with a dot or an underscore is its author's own.
    """
    if path.name.startswith((".", "_", "test_")) or path.name == "conftest.py":
        return False
    return path.suffix == ".py" or (path / "__init__.py").is_file()


def _sources(path: Path, allowed: frozenset[int] | None) -> dict[str, bytes]:
    """Every source file of a plugin by its path.

    They are read once: what is compiled is what the digest was made of, also for a part that is imported later on.

    Raises:
        PluginError: one of them is not to be trusted.
        OSError: one of them cannot be read.
    """
    files = [path]
    if path.is_dir():
        # Links to folders are not followed: a package is one tree.
        walk = os.walk(path)
        files = sorted(Path(where, name) for where, _, names in walk for name in names if name.endswith(".py"))
    sources = {}
    for file in files:
        if allowed is not None:
            check_trust(file, allowed)
        if not file.is_file():  # a named pipe would block the start for ever
            raise PluginError("is no regular file", str(file))
        sources[str(file)] = file.read_bytes()
    return sources


def _digest(sources: Mapping[str, bytes], root: Path) -> str:
    """One digest over all sources, with their names relative to the plugin, and lengths so that none run together."""
    total = hashlib.sha256()
    for name, source in sources.items():
        total.update(f"{os.path.relpath(name, root)}\0{len(source)}\0".encode("utf-8", "surrogateescape") + source)
    return total.hexdigest()


# -- loading -----------------------------------------------------------------------------------------------------------


class _Loader(SourceFileLoader):
    """Compiles sources that were read before.

    No .pyc is read or written: an edit of the same size within the same second would not be seen, and a plugins folder
    is often not writable.
    """

    def __init__(self, name: str, file: str, sources: Mapping[str, bytes]) -> None:
        super().__init__(name, file)
        self.sources = sources

    def get_data(self, path: str | Any) -> bytes:
        source = self.sources.get(str(path))
        return super().get_data(path) if source is None else source

    def get_code(self, fullname: str) -> Any:
        return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True)

    def spec(self) -> ModuleSpec:
        """The module's spec; a package's path leads `_Finder` to its parts."""
        is_package = Path(self.path).name == "__init__.py"
        where = [str(Path(self.path).parent)] if is_package else None
        spec = importlib.util.spec_from_file_location(
            self.name, self.path, loader=self, submodule_search_locations=where
        )
        assert spec is not None  # only without a loader
        return spec


class _Finder(MetaPathFinder):
    """Finds the parts of plugin packages (`from .helper import x`), in the sources of that plugin and nowhere else."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if not fullname.startswith(_PARENT + "."):
            return None
        parent, _, part = fullname.rpartition(".")
        loader = getattr(sys.modules.get(parent), "__loader__", None)
        if isinstance(loader, _Loader):
            folder = os.path.dirname(loader.path)
            for file in (os.path.join(folder, part, "__init__.py"), os.path.join(folder, f"{part}.py")):
                if file in loader.sources:
                    return _Loader(fullname, file, loader.sources).spec()
        # Not None: Python's own finders would look into the folder, and find what was not checked or a stale .pyc.
        raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


_finder = _Finder()


def _prepare_imports() -> None:
    """Make the names of plugin modules importable.  `sys.path` stays as it is."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    if _PARENT not in sys.modules:
        parent = ModuleType(_PARENT, "The modules of wsd's plugins live below this one.")
        parent.__path__ = []
        sys.modules[_PARENT] = parent


def load(path: Path, allowed: frozenset[int] | None = None) -> Found:
    """Load one plugin file or package; what is wrong with it is in the result.

    Args:
        path: The .py file, or the folder with an `__init__.py`.
        allowed: Whose files are trusted, as user ids; None: everybody's.
    """
    path = Path(os.path.abspath(path))
    _prepare_imports()
    stem = "".join(letter if letter.isalnum() else "_" for letter in path.stem)
    found = Found(path, module=f"{_PARENT}.{next(_numbers)}_{stem}")
    sources: Mapping[str, bytes] = {}
    try:
        sources = _sources(path, allowed)
        found.digest = _digest(sources, path)
        main = str(path / "__init__.py") if path.is_dir() else str(path)
        module = _run(_Loader(found.module, main, sources))
        found.protocols = _protocols(getattr(module, "protocols", None), vars(module), main)
    except CATCHABLE as error:
        found.error = _plugin_error(error, path, sources)
        found.unload()
    return found


def _run(loader: _Loader) -> ModuleType:
    spec = loader.spec()
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    loader.exec_module(module)
    return module


def _load_entry_point(point: importlib.metadata.EntryPoint) -> Found:
    """Load an installed plugin: a module with `protocols`, a list of protocols, or one protocol.

    It is imported like any package, so a new version takes a restart and not a reload: its digest tells its version.
    """
    where = f"entry point {point.name} = {point.value}"
    found = Found(Path(where))
    try:
        value = point.load()
        spec = importlib.util.find_spec(point.module)
        found.file = Path(spec.origin) if spec and spec.origin else found.file
        version = point.dist.version if point.dist else ""
        found.digest = hashlib.sha256(f"{where} {version}".encode()).hexdigest()
        if isinstance(value, ModuleType):
            value = getattr(value, "protocols", None)
        listed = value if isinstance(value, list | tuple) else [value]
        # An object of a module that stays loaded is handed out again by a reload: each generation gets its own.
        listed = [copy.copy(item) if isinstance(item, Protocol) else item for item in listed]
        found.protocols = _protocols(None if value is None else listed, {}, str(found.file))
    except CATCHABLE as error:
        found.error = PluginError(f"{where}: {_plugin_error(error, found.file, {str(found.file): b''})}")
    return found


def _protocols(listed: object, names: Mapping[str, object], file: str) -> tuple[Protocol, ...]:
    """The instances behind a plugin's `protocols` list, their hooks tried, so that errors show at load.

    Raises:
        PluginError: what is wrong with the list, or with one of the protocols.
    """
    if listed is None:
        raise PluginError(f"does not end with a list of its protocols{_suggestion(names, file)}", file)
    if not isinstance(listed, list | tuple):
        raise PluginError(f"`protocols` must be a list, found {type(listed).__name__}", file)
    if not listed:
        raise PluginError("`protocols` is empty", file)
    protocols: dict[str, Protocol] = {}
    for number, item in enumerate(listed):
        protocol = _instance(item, f"protocols[{number}]", file)
        bind_hooks(protocol)
        options = protocol.Options
        if options is not None and not (isinstance(options, type) and issubclass(options, config.Options)):
            raise PluginError(f"{protocol.name}: Options must be a subclass of wsd.Options, found {options!r}", file)
        if protocol.name in protocols:
            raise PluginError(f"`protocols` has two protocols of the name {protocol.name!r}", file)
        protocols[protocol.name] = protocol
    return tuple(protocols.values())


def _instance(item: object, where: str, file: str) -> Protocol:
    if isinstance(item, type) and issubclass(item, Protocol):
        return item()
    if isinstance(item, Protocol):
        return item
    what = f"the class {item.__name__}" if isinstance(item, type) else f"{type(item).__name__} {item!r}"
    hint = " (is @callback_protocol(...) missing above it?)" if hasattr(item, "__code__") else ""
    raise PluginError(f"{where} must be a Protocol class or instance, found {what}{hint}", file)


def _suggestion(names: Mapping[str, object], file: str) -> str:
    """The line that is missing at the end of a file, if the file shows what its protocols are."""
    module = names.get("__name__")
    own = [
        name
        for name, value in names.items()
        if isinstance(value, Protocol)
        or (isinstance(value, type) and issubclass(value, Protocol) and value.__module__ == module)
    ]
    return f"; add: protocols = [{', '.join(own or ['...'])}]"


# -- errors ------------------------------------------------------------------------------------------------------------


def _plugin_error(error: BaseException, path: Path, sources: Mapping[str, bytes]) -> PluginError:
    """What went wrong, at the innermost line that is the plugin's own."""
    if isinstance(error, PluginError):
        return error if error.file else PluginError(error.message, str(path))
    if isinstance(error, OSError) and not sources:
        return PluginError(f"cannot be read: {error.strerror}", str(path))
    file, line = str(path), 0
    if isinstance(error, SyntaxError) and error.filename in sources:
        file, line, text = str(error.filename), error.lineno or 0, f"{type(error).__name__}: {error.msg}"
    else:
        for frame, number in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename in sources:
                file, line = frame.f_code.co_filename, number
        text = "".join(traceback.format_exception_only(error)).strip()
    return PluginError(text + _beside(error, path), file, line)


def _beside(error: BaseException, path: Path) -> str:
    """The way out for a plugin that imports, by bare name, a file that lies beside it."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    name = error.name.rpartition(".")[2]
    folder = path if path.is_dir() else path.parent
    if not (folder / f"{name}.py").exists() and not (folder / name).is_dir():
        return ""
    if path.is_dir():
        return f" (a package imports its own parts with a dot: from .{name} import ...)"
    return f" (a plugin imports nothing that lies beside it; make it a package, with: from .{name} import ...)"


def _refuse_duplicates(found: Sequence[Found]) -> None:
    """Keep the first of two protocols of one name: the second plugin is an error."""
    first: dict[str, Found] = {}
    for plugin in found:
        for name in [protocol.name for protocol in plugin.protocols]:
            other = first.setdefault(name, plugin)
            if other is not plugin:
                text = f"two protocols of the name {name!r}: the first is in {other.file}; rename or remove one"
                plugin.error = PluginError(text, str(plugin.file))
                plugin.protocols = ()
                plugin.unload()
                break


def _give_way(shipped: list[Found], others: Mapping[str, tuple[Found, Protocol]]) -> list[Found]:
    """Leave out the shipped protocols whose names others have taken."""
    for plugin in shipped:
        for protocol in plugin.protocols:
            if protocol.name in others:
                log.info("protocol %s: %s wins over %s", protocol.name, others[protocol.name][0].file, plugin.file)
        had = plugin.protocols
        plugin.protocols = tuple(protocol for protocol in had if protocol.name not in others)
        if had and not plugin.protocols:
            plugin.unload()
    return [plugin for plugin in shipped if plugin.protocols or plugin.error]


# -- whose files root may run ------------------------------------------------------------------------------------------


def _trusted_uids(user: str | None) -> frozenset[int] | None:
    """Whose plugins may run, as user ids; None where it does not matter: nobody but the caller is at risk.

    With a `user` we were started as root, and load plugins after having become that user.
    """
    if os.geteuid() != 0 and not user:
        return None
    trusted = {0, os.geteuid()}
    if user:
        trusted.add(int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid)
    return frozenset(trusted)


def check_trust(path: Path, allowed_uids: Iterable[int]) -> None:
    """Refuse a file or folder that somebody else could have written, or could exchange.

    Every folder on the way and every symbolic link is checked, on both sides of the link: its owner must be allowed,
    and nobody may write to it.  A folder above may be open to all if it is sticky, like /tmp: what is in it can be
    exchanged by its owner alone.

    Raises:
        PluginError: who could, and the command that helps.
        OSError: the path does not exist.
    """
    allowed = frozenset(allowed_uids)
    target = os.path.realpath(path)
    for step, status in _steps(path):
        if status.st_uid not in allowed:
            names = " or ".join(_user_name(uid) for uid in sorted(allowed))
            text = f"not loaded as root: {step} belongs to {_user_name(status.st_uid)}, not to {names}"
            raise PluginError(f"{text}; to trust it: chown -h root {step}", str(path))
        mode = status.st_mode
        sticky_above = mode & stat.S_ISVTX and stat.S_ISDIR(mode) and step != target
        if mode & stat.S_IWOTH and not stat.S_ISLNK(mode) and not sticky_above:
            text = f"not loaded as root: {step} can be written by everybody"
            raise PluginError(f"{text}; to trust it: chmod o-w {step}", str(path))


def _steps(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every folder, link and file that the kernel passes on its way to `path`, each with its own status."""
    here, links = "/", 0
    yield here, os.lstat(here)
    todo = os.path.join(os.getcwd(), path).split("/")[::-1]
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = os.path.dirname(here)
            continue
        step = os.path.join(here, part)
        status = os.lstat(step)
        yield step, status
        if not stat.S_ISLNK(status.st_mode):
            here = step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise PluginError("too many symbolic links", str(path))
        link = os.readlink(step)
        here = "/" if link.startswith("/") else here
        todo += link.split("/")[::-1]


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
