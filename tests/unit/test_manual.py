"""etc/wsd.toml is made of the models, and all that it shows is true."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import tomli

from wsd import manual
from wsd.config import Config, default_text, load, packaged
from wsd.options import Compression, Listen, ProtocolCompression, ProtocolTable
from wsd.options_limits import ListenLimits, ListenTimeouts, ProtocolLimits, ProtocolTimeouts
from wsd.table import Table


def test_the_shipped_file_is_the_default_text(root: Path) -> None:
    assert (root / "etc/wsd.toml").read_text() == default_text(), "run: wsd config default > etc/wsd.toml"


def test_the_shipped_file_means_the_same_as_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "full.toml").write_text(default_text())
    (tmp_path / "empty.toml").write_text("")
    full, empty = load(tmp_path / "full.toml"), load(tmp_path / "empty.toml")
    assert full.model_dump() == empty.model_dump()


def test_it_is_found_where_it_is_packaged(root: Path) -> None:
    loaded = load(packaged("etc/wsd.toml"))
    assert loaded.plugins.folders == (root / "plugins",)


def test_a_field_that_says_something_else_below_a_table_of_the_same_says_that() -> None:
    assert manual.descriptions(ListenLimits)["max_message_bytes"].startswith("See [limits].  No limit at all")
    assert manual.descriptions(ProtocolLimits).keys() == ProtocolLimits.model_fields.keys()
    assert manual.descriptions(ListenLimits).keys() == ListenLimits.model_fields.keys()


def test_every_option_stands_there_once() -> None:
    shown = tomli.loads(default_text())
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type):
            assert list(shown[name]) == list(kind.model_fields), name
    for name in Listen.model_fields:
        assert (name in shown["listen"][0]) == (getattr(Config().listen[0], name) is not None)
        is_table = isinstance(getattr(Listen(), name), Table)
        form = rf"^\[listen\.{name}\]$" if is_table else rf"^#?{name} = "
        assert len(re.findall(form, default_text(), re.MULTILINE)) == 1, name
    assert shown["listen"][0]["compression"] == Compression().model_dump()
    for model in (ListenLimits, ListenTimeouts, ProtocolLimits, ProtocolTimeouts, ProtocolCompression):
        assert all(f"\n#{name} = " in default_text() for name in model.model_fields)


def test_each_option_is_explained() -> None:
    lines = default_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"#?\w+ = ", line) and not line.startswith("#ring_size"):
            assert above.startswith("# "), line


@pytest.mark.parametrize("at", [found.start() for found in re.finditer(r"^#\w.* = .*$", default_text(), re.MULTILINE)])
def test_what_is_left_out_works_when_it_is_put_in(tmp_path: Path, at: int) -> None:
    before, (line, _, after) = default_text()[:at], default_text()[at:].partition("\n")
    headers = re.findall(r"^#(\[.*)$", before, re.MULTILINE)
    path = tmp_path / "wsd.toml"
    path.write_text(f"{before}\n{headers[-1] if headers else ''}\n{line[1:]}\n{after}")
    assert load(path).model_dump() != load(packaged("etc/wsd.toml")).model_dump()


# What an example needs beside it: by its table, or by its name.
NEEDED = {
    "[listen.tls]": 'certificate = "a.pem"\n',
    "client_ca": 'client_certificates = "required"\n',
    "client_crl": 'client_certificates = "required"\nclient_ca = "b.pem"\n',
}


@pytest.mark.parametrize(
    "at", [found.start() for found in re.finditer(r"^# Example: .*$", default_text(), re.MULTILINE)]
)
def test_each_example_works(tmp_path: Path, at: int) -> None:
    before, (line, _, _) = default_text()[:at], default_text()[at:].partition("\n")
    headers = re.findall(r"^(\[.*)$", before, re.MULTILINE)
    outer = "[[listen]]" if headers[-1].startswith("[listen.") else ""
    example = line.removeprefix("# Example: ")
    name = example.partition(" = ")[0]
    beside = NEEDED.get(name, "") + (NEEDED.get(headers[-1], "") if name != "certificate" else "")
    path = tmp_path / "wsd.toml"
    path.write_text(f"{outer}\n{headers[-1]}\n{beside}{example}")
    load(path)


def test_the_whole_example_of_a_protocols_table_works(tmp_path: Path) -> None:
    text = default_text()
    example = re.sub(r"^#(?=[\[\w])", "", text[text.index("\n#[protocols") :], flags=re.MULTILINE)
    path = tmp_path / "wsd.toml"
    path.write_text(example)
    (table,) = load(path).protocols.values()
    assert isinstance(table, ProtocolTable)
    assert table.options == {"ring_size": 32}
    assert None not in table.limits.model_dump().values()
    assert None not in table.timeouts.model_dump().values()
    assert None not in table.compression.model_dump().values()
    assert None not in table.auth.model_dump().values()


def test_a_table_inside_of_each_listener_stays_its_own(tmp_path: Path) -> None:
    first = Listen(port=1, protocols=("a",), compression=Compression(level=9))
    listeners = (first, Listen(port=2), Listen(port=3, compression=Compression(enabled=False)))
    path = tmp_path / "wsd.toml"
    path.write_text(manual.text(Config(listen=listeners)))
    assert load(path).listen == listeners


def test_lines_are_short_and_clean() -> None:
    for line in default_text().splitlines():
        assert len(line) <= 100
        assert line == line.rstrip()
