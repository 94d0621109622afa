"""From a configuration to what a context serves, first and again; with real plugin files and a real context."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ca import Authority, Issued
from tests.support.handshakes import shake
from wsd import assembly
from wsd.assembly import Assembly, addresses, asked_names, plan, spoken_names
from wsd.config import Config, Listen, load
from wsd.context import Context
from wsd.errors import ConfigError, PluginError
from wsd.plugins import Found
from wsd.protocol import Protocol
from wsd.web import Http
from wsd.wire.extensions import Settings

SOURCE = """
from wsd import Options, Protocol

class NAMEOptions(Options):
    size: int = 1

class NAME(Protocol):
    name = "NAME"
    Options = NAMEOptions
    events = []

    def on_protocol_init(self, context, options):
        self.size = options.size

    def on_protocol_destroy(self):
        self.events.append("destroyed")

protocols = [NAME]
"""


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "plugins").mkdir()
        self.context = Context([Http()])
        self.assembly: Assembly | None = None
        self._before = set(sys.modules)

    def plugin(self, name: str, source: str = SOURCE) -> Path:
        path = self.folder / "plugins" / f"{name}.py"
        path.write_text(source.replace("NAME", name))
        return path

    def load(self, text: str = "[[listen]]\nport = 0") -> Config:
        file = self.folder / "wsd.toml"
        file.write_text(f'[plugins]\nfolders = ["plugins"]\nentry_points = false\n{text}\n')
        return load(file)

    def start(self, text: str = "[[listen]]\nport = 0") -> Assembly:
        self.assembly = Assembly(self.context, self.load(text))
        self.assembly.bind()
        self.assembly.start()
        return self.assembly

    def instances(self) -> dict[str, Protocol]:
        assert self.assembly is not None
        return {name: served.protocol for name, served in self.assembly.served.items()}

    def modules(self) -> set[str]:
        """The plugin modules that this test has loaded, and nobody has unloaded."""
        return {name for name in set(sys.modules) - self._before if name.startswith("wsd_plugins.")}

    def close(self) -> None:
        if self.assembly is not None:
            self.assembly.close()
        self.context.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


# -- names ------------------------------------------------------------------------------------------------------------


class Named(Protocol):
    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]


FOUND = [
    Found(Path("one.py"), (Named("one"), Named("two")), module="m1"),
    Found(Path("entry point"), (Named("installed"),)),
    Found(Path("echo.py"), (Named("echo"),), shipped=True, module="m2"),
]


@pytest.mark.parametrize(
    ("fields", "spoken", "asked"),
    [
        ({}, ["one", "two"], ["one", "two"]),
        ({"protocols": ["two", "echo"]}, ["two", "echo"], ["two", "echo"]),
        ({"protocols": []}, [], []),
        ({"default_protocol": "echo"}, ["one", "two", "echo"], ["one", "two", "echo"]),
        ({"paths": {"/x": "installed"}}, ["one", "two", "installed"], ["one", "two", "installed"]),
        ({"protocols": ["one"], "http_protocol": "two"}, ["one"], ["one", "two"]),
        ({"protocols": ["one"], "http_protocol": "http"}, ["one"], ["one"]),
    ],
)
def test_which_protocols_a_listener_speaks_and_needs(
    fields: dict[str, object], spoken: list[str], asked: list[str]
) -> None:
    listen = Listen.model_validate(fields)
    assert spoken_names(listen, FOUND) == spoken
    assert asked_names(listen, FOUND) == asked


def test_listeners_of_one_address_are_told_apart() -> None:
    keys = [key for key, _ in addresses([Listen(port=0), Listen(port=0), Listen(unix="/x"), Listen(port=1)])]
    assert len(set(keys)) == 4


# -- the plan ---------------------------------------------------------------------------------------------------------


def test_all_wrong_options_are_told_at_once(site: Site) -> None:
    site.plugin("one")
    site.plugin("two")
    with pytest.raises(ConfigError) as caught:
        plan(site.load('[[listen]]\n[protocols.one]\nsize = "x"\n[protocols.two]\nsise = 1\n[protocols.oone]\n'))
    assert sorted(problem.key for problem in caught.value.problems) == [
        "protocols.one.size",
        "protocols.oone",
        "protocols.two.sise",
    ]
    assert "'one'" in str(caught.value)


def test_every_protocol_that_is_missing_is_told(site: Site) -> None:
    with pytest.raises(PluginError, match=r"(?s)'here'.*'there'"):
        plan(site.load('[[listen]]\nprotocols = ["here", "there"]'))
    assert not site.modules()


def test_a_table_that_may_belong_to_a_broken_plugin_is_a_warning(site: Site) -> None:
    site.plugin("broken", "import no_such_module")
    made = plan(site.load("[[listen]]\n[protocols.broken]\nsize = 1"))
    made.unload()
    assert len(made.warnings) == 2


def test_no_limit_is_only_for_pieces(site: Site) -> None:
    site.plugin(
        "whole",
        "from wsd import Protocol\nclass Whole(Protocol):\n    name = 'NAME'\n"
        "    def on_message(self, wsi, message):\n        pass\nprotocols = [Whole]\n",
    )
    with pytest.raises(ConfigError, match=r"protocols\.whole\.limits"):
        plan(site.load("[[listen]]\n[limits]\nmax_message_bytes = 0"))


# -- start and reload -------------------------------------------------------------------------------------------------


def test_protocols_are_initialised_with_their_options(site: Site) -> None:
    site.plugin("one")
    site.start("[[listen]]\nport = 0\n[protocols.one]\nsize = 7")
    assert site.instances()["one"].size == 7  # type: ignore[attr-defined]
    assert [type(protocol).__name__ for protocol in site.context.protocols] == ["Http", "one"]


def test_only_what_a_listener_asks_for_is_initialised(site: Site) -> None:
    site.plugin("one")
    site.plugin("two")
    site.start('[[listen]]\nport = 0\nprotocols = ["two"]')
    assert list(site.instances()) == ["two"]
    assert len(site.modules()) == 1


def test_what_is_unchanged_keeps_its_instance(site: Site) -> None:
    site.plugin("one")
    site.plugin("two")
    made = site.start()
    before = site.instances()
    site.plugin("two", SOURCE + "# changed\n")
    made.reload(site.load())
    after = site.instances()
    assert after["one"] is before["one"]
    assert after["two"] is not before["two"]
    site.context.service(0)
    assert before["two"].events == ["destroyed"]  # type: ignore[attr-defined]
    assert len(site.modules()) == 2
    assert [(item["name"], item["generation"]) for item in made.protocol_status()] == [("one", 1), ("two", 2)]


@pytest.mark.parametrize("table", ["[limits]\nmax_message_bytes = 5", "[protocols.one.limits]\nmax_message_bytes = 5"])
def test_limits_are_taken_over_in_place(site: Site, table: str) -> None:
    site.plugin("one")
    made = site.start()
    before = site.instances()
    made.reload(site.load(f"[[listen]]\nport = 0\n{table}"))
    assert site.instances() == before
    binding = made.served["one"].binding
    assert binding is not None
    assert binding.budget.max_message_bytes == 5


def test_compression_is_taken_over_in_place(site: Site) -> None:
    site.plugin("one")
    made = site.start()
    before, listeners = site.instances(), list(site.context.listeners)

    def compression() -> Settings | None:
        binding = made.served["one"].binding
        assert binding is not None
        return binding.compression(site.context.listeners[0].config.compression)

    default = compression()
    assert default is not None
    made.reload(
        site.load("[[listen]]\nport = 0\n[listen.compression]\nlevel = 9\n[protocols.one.compression]\nwindow_bits = 9")
    )
    assert compression() == default._replace(level=9, window_bits=9)
    made.reload(site.load("[[listen]]\nport = 0\n[listen.compression]\nenabled = false"))
    assert compression() is None
    made.reload(site.load())
    assert compression() == default
    assert (site.instances(), site.context.listeners) == (before, listeners)


def test_a_failing_reload_leaves_everything(site: Site, tmp_path: Path) -> None:
    site.plugin("one")
    made = site.start()
    before, listeners, modules = site.instances(), list(site.context.listeners), site.modules()
    site.plugin("a", SOURCE.replace("name = ", "events = []\n    name = "))
    site.plugin("z", SOURCE.replace("self.size = options.size", "raise RuntimeError('no database')"))
    with pytest.raises(PluginError, match="no database"):
        made.reload(site.load(f'[[listen]]\nport = 0\n[[listen]]\nunix = "{tmp_path}/s"'))
    site.context.service(0)
    assert site.instances() == before
    assert site.context.listeners == listeners
    assert site.modules() == modules
    assert not (tmp_path / "s").exists()
    assert [type(protocol).__name__ for protocol in site.context.protocols] == ["Http", "one"]


def test_a_served_file_that_breaks_refuses_the_reload(site: Site) -> None:
    path = site.plugin("one")
    made = site.start()
    path.write_text("def f(:")
    with pytest.raises(PluginError, match=str(path)):
        made.reload(site.load())
    path.unlink()
    made.reload(site.load())
    assert site.instances() == {}


@pytest.mark.parametrize("key", ["pidfile", "user", "group", "umask"])
def test_what_takes_a_restart_is_refused(site: Site, key: str) -> None:
    made = site.start()
    value = {"pidfile": "x.pid", "umask": "0077"}.get(key, "daemon")
    with pytest.raises(ConfigError, match=rf"daemon\.{key}: was changed, and only a restart"):
        made.reload(site.load(f'[[listen]]\nport = 0\n[daemon]\n{key} = "{value}"'))


def test_sockets_that_were_bound_for_nothing_are_given_up(site: Site, tmp_path: Path) -> None:
    made = Assembly(site.context, site.load(f'[[listen]]\nunix = "{tmp_path}/s"'))
    made.bind()
    assert (tmp_path / "s").exists()
    made.close()
    assert not (tmp_path / "s").exists()


def test_what_is_needed_again(site: Site) -> None:
    config = site.load()
    needed = assembly.needed_again(config)
    assert config.path in needed
    assert site.folder / "plugins" in needed


# -- certificates -----------------------------------------------------------------------------------------------------


def secured(issued: Issued, more: str = "") -> str:
    tls = f'certificate = "{issued.certificate}"\nprivate_key = "{issued.private_key}"\n'
    return f"[[listen]]\nport = 0\n[listen.tls]\n{tls}{more}"


def shown(site: Site) -> list[str]:
    """What the first listener shows to a newcomer; empty without TLS."""
    tls = site.context.listeners[0].tls
    return shake(tls).shown if tls else []


def test_keys_are_read_when_sockets_are_bound(site: Site, tmp_path: Path) -> None:
    """And not again at the start, when root's privileges are gone."""
    issued = Authority(tmp_path / "ca").issue(["a.example"])
    made = site.assembly = Assembly(site.context, site.load(secured(issued)))
    made.bind()
    held = dict(made._read)
    made.start()
    assert made.renewal.held == held
    assert shown(site) == ["a.example"]


def test_a_certificate_that_cannot_be_used_binds_nothing(site: Site, tmp_path: Path) -> None:
    issued = Authority(tmp_path / "ca").issue(days=-1)
    text = f'[[listen]]\nunix = "{tmp_path}/s"\n' + secured(issued)
    made = Assembly(site.context, site.load(text))
    with pytest.raises(ConfigError, match=r"listen\[1\].tls.certificate: "):
        made.bind()
    assert not (tmp_path / "s").exists()


def test_a_reload_takes_certificates_over(site: Site, tmp_path: Path) -> None:
    ca = Authority(tmp_path / "ca")
    one, two = ca.issue(["one.example"]), ca.issue(["two.example"])
    made = site.start(secured(one))
    (listener,) = site.context.listeners
    before = listener.tls
    made.reload(site.load(secured(one)))
    assert listener.tls is before
    made.reload(site.load(secured(two)))
    assert shown(site) == ["two.example"]
    made.reload(site.load())
    assert shown(site) == []
    made.reload(site.load(secured(one)))
    assert shown(site) == ["one.example"]
    assert site.context.listeners == [listener]


def test_a_reload_with_a_bad_certificate_changes_nothing(site: Site, tmp_path: Path) -> None:
    ca = Authority(tmp_path / "ca")
    made = site.start(secured(ca.issue(["one.example"])))
    site.plugin("one")
    with pytest.raises(ConfigError, match=r"listen\[0\].tls.ciphers: "):
        made.reload(site.load(secured(ca.issue(["two.example"]), 'ciphers = "NONSENSE"\n')))
    assert shown(site) == ["one.example"]
    assert site.instances() == {}
    assert site.modules() == set()


def test_keys_are_needed_again(site: Site, tmp_path: Path) -> None:
    issued = Authority(tmp_path / "ca").issue()
    needed = assembly.needed_again(site.load(secured(issued)))
    assert {issued.certificate, issued.private_key} <= set(needed)
