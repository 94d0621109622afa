"""The way from a file to a `Config`: found, read, refused with a sentence, filled, described."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from wsd import config
from wsd.config import Config, Options, fill_options, find, load, packaged, schema
from wsd.errors import ConfigError, Problem
from wsd.log import escape
from wsd.problems import toml, validate


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "wsd.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(path: Path) -> str:
    """Everything that is said against a file, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(problem.file == str(path) for problem in caught.value.problems)
    return str(caught.value).replace(f"{path}: ", "")


# -- finding ----------------------------------------------------------------------------------------------------------


def test_the_explicit_file_is_made_absolute_though_it_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("x/../no.toml") == tmp_path / "no.toml"


def test_the_working_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/wsd.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert find(None) == tmp_path / "etc/wsd.toml"


def test_the_systems_file_comes_next_and_the_packaged_one_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "SYSTEM_FILE", tmp_path / "wsd.toml")
    assert find(None) == packaged("etc/wsd.toml")
    (tmp_path / "wsd.toml").touch()
    assert find(None) == tmp_path / "wsd.toml"


def test_a_working_directory_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match=r"^x\.toml: no working directory: No such file or directory$"):
        find("x.toml")


def test_what_is_packaged_lies_beside_the_code_or_in_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert packaged("etc/wsd.toml").is_file()
    assert (packaged("plugins") / "echo.py").is_file()
    (tmp_path / "site/wsd/share/plugins").mkdir(parents=True)
    monkeypatch.setattr(config, "__file__", str(tmp_path / "site/wsd/config.py"))
    assert packaged("plugins") == tmp_path / "site/wsd/share/plugins"


# -- reading ----------------------------------------------------------------------------------------------------------


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, ""))
    assert loaded.path == tmp_path / "wsd.toml"
    assert loaded.limits == Config().limits
    assert loaded.listen == Config().listen


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    assert load(write(tmp_path, b"\xef\xbb\xbf[limits]\nmax_headers = 7\n")).limits.max_headers == 7


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    path = write(
        tmp_path / "etc",
        """
        daemon.pidfile = "../run/wsd.pid"
        log.syslog_socket = "log"
        plugins.folders = [".", "../plugins", "/opt/plugins"]
        [[listen]]
        unix = "wsd.sock"
        [[listen]]
        static_folder = "www/"
        """,
    )
    monkeypatch.chdir("/")
    loaded = load(path)
    assert loaded.daemon.pidfile == f"{tmp_path}/run/wsd.pid"
    assert loaded.log.syslog_socket == f"{tmp_path}/etc/log"
    assert loaded.plugins.folders == (tmp_path / "etc", tmp_path / "plugins", Path("/opt/plugins"))
    assert loaded.listen[0].unix == f"{tmp_path}/etc/wsd.sock"
    assert loaded.listen[1].static_folder == f"{tmp_path}/etc/www"


def test_default_paths_are_relative_to_the_file_and_empty_ones_stay_empty(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    loaded = load(write(tmp_path / "etc", ""))
    assert loaded.plugins.folders == (tmp_path / "plugins",)
    assert loaded.log.syslog_socket == "/dev/log"
    assert (loaded.daemon.pidfile, loaded.listen[0].unix, loaded.listen[0].static_folder) == ("", "", "")


def test_paths_follow_a_linked_folder_to_where_it_is(tmp_path: Path) -> None:
    """`..` behind a link means what the kernel means by it."""
    (tmp_path / "releases/42/etc").mkdir(parents=True)
    (tmp_path / "etc").symlink_to("releases/42/etc")
    write(tmp_path / "releases/42/etc", "")
    assert load(tmp_path / "etc/wsd.toml").plugins.folders == (tmp_path / "releases/42/plugins",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[limits]\nmax_headers = = 3\n", "line 2, column 15: not TOML: Invalid value"),
        (b"a = 1\na = 2\n", "line 2, column 6: not TOML: Cannot overwrite a value"),
        (b"[log]\nlevels = ['\xe9']\n", "line 2, column 12: not UTF-8: found the byte 0xe9"),
        (b"#" * 1_100_000, "larger than 1048576 bytes; is it the right file?"),
    ],
)
def test_what_is_no_toml_is_refused_in_one_line(tmp_path: Path, text: bytes, message: str) -> None:
    assert refused(write(tmp_path, text)) == message


@pytest.mark.parametrize("text", ["a = " + "1" * 5000, "a = " + "[" * 5000, "a = " + "{b=" * 300 + "1" + "}" * 300])
def test_toml_bombs_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    assert "\n" not in refused(write(tmp_path, text))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.toml") == "cannot be read: No such file or directory"
    assert refused(tmp_path) == "cannot be read: Is a directory"


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wsd.toml"
    path.symlink_to(path)  # unreadable for root as well
    assert refused(path) == "cannot be read: Too many levels of symbolic links"


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Wrong values, unknown keys, and what does not go together, though some values beside it are wrong too."""
    text = """
    [daemon]
    usr = "wsd"
    [limits]
    max_headers = "many"
    max_head_bytes = 600
    max_uri_bytes = 700
    [[listen]]
    port = 70000
    protocols = ["echo"]
    default_protocol = "ecko"
    [[listen]]
    port = 1
    [[listen]]
    port = 1
    [protocols.chat.limits]
    max_fragments = 0
    """
    assert refused(write(tmp_path, text)).splitlines() == [
        "daemon.usr: unknown key 'usr'; did you mean 'user'?",
        'limits.max_headers: found "many"; allowed: an integer from 1 to 10000',
        "listen[0].port: found 70000; allowed: an integer from 0 to 65535",
        "protocols.chat.limits.max_fragments: found 0; allowed: an integer from 1 to 9223372036854775807",
        "limits.max_uri_bytes: found max_uri_bytes = 700 and max_head_bytes = 600; the first is part of the second",
        'listen[0].default_protocol: found "ecko", which is not in protocols = ["echo"]; did you mean "echo"?',
        'listen[2].port: found interface = "127.0.0.1" and port = 1; '
        'listen[1] has interface = "127.0.0.1" and port = 1 already',
    ]


# -- a plugin's options -----------------------------------------------------------------------------------------------


class Inner(Options):
    deep: bool = False


class RoomOptions(Options):
    ring_size: int = Field(32, ge=2, le=64)
    rate: float = 1.0
    greeting: str = "hello"
    folder: Path = Path("/tmp")
    names: set[str] = set()
    mode: Literal["fast", "safe"] = "safe"
    since: date | None = None
    inner: Inner = Inner()
    either: int | str = 0

    @field_validator("greeting")
    @classmethod
    def _polite(cls, value: str) -> str:
        if value == "go away":
            raise ValueError("a greeting has to be polite")
        return value


def options_refused(table: dict[str, Any], model: type[Options] | None = RoomOptions) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        fill_options(model, table, "/etc/wsd.toml", "protocols.room")
    return [str(problem).removeprefix("/etc/wsd.toml: ") for problem in caught.value.problems]


def test_options_are_filled_with_what_the_model_wants() -> None:
    table = tomli.loads(
        """
        ring_size = 3
        rate = 2
        folder = "/srv"
        names = ["a", "b"]
        mode = "fast"
        since = 2024-02-29
        inner.deep = true
        """
    )
    options = fill_options(RoomOptions, table, "", "")
    assert options == RoomOptions(
        ring_size=3,
        rate=2.0,
        folder=Path("/srv"),
        names={"a", "b"},
        mode="fast",
        since=date(2024, 2, 29),
        inner=Inner(deep=True),
    )


def test_options_left_out_are_the_models_defaults() -> None:
    assert fill_options(RoomOptions, {}, "", "") == RoomOptions()
    assert fill_options(None, {}, "", "") is None


def test_wrong_options_are_all_said_with_their_place() -> None:
    table = {
        "ring_sise": 1,
        "ring_size": True,
        "rate": "1",
        "mode": "slow",
        "inner": {"deep": 1},
        "greeting": "go away",
    }
    assert options_refused(table) == [
        "protocols.room.ring_size: found true; allowed: an integer from 2 to 64",
        'protocols.room.rate: found "1"; allowed: a number',
        'protocols.room.greeting: found "go away"; a greeting has to be polite',
        'protocols.room.mode: found "slow"; allowed: one of "fast", "safe"',
        "protocols.room.inner.deep: found 1; allowed: true or false",
        "protocols.room.ring_sise: unknown key 'ring_sise'; did you mean 'ring_size'?",
    ]


def test_a_value_that_fits_no_member_of_a_union_is_said_once() -> None:
    assert options_refused({"either": []}) == [
        "protocols.room.either: found an empty list; allowed: an integer or text"
    ]


def test_a_missing_option_is_said() -> None:
    class Needs(Options):
        token: str

    assert options_refused({}, Needs) == ["protocols.room.token: missing; wanted: text"]


def test_options_for_a_protocol_that_has_none_are_refused() -> None:
    assert options_refused({"x": 1}, None) == ["protocols.room.x: unknown key 'x'; there are no options here"]


def test_a_huge_number_in_the_options_is_refused() -> None:
    assert options_refused({"ring_size": 16**5000})[0].startswith("protocols.room: cannot be used: ")


def test_a_table_from_elsewhere_than_toml_is_refused() -> None:
    assert options_refused({"ring_size": b"3"}) == ["protocols.room: cannot be used: a bytes is no TOML"]


# -- described --------------------------------------------------------------------------------------------------------


def test_the_schema_knows_every_table_and_closes_all_but_the_plugins() -> None:
    found = schema()
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(found["properties"]) == set(Config.model_fields)
    closed = {name: definition["additionalProperties"] for name, definition in found["$defs"].items()}
    assert closed.pop("ProtocolTable") is True
    assert not any(closed.values())
    assert found["additionalProperties"] is False


def test_the_schema_describes_every_option() -> None:
    for name, definition in schema()["$defs"].items():
        assert definition["description"], name
        if name != "ProtocolTable":
            # A table inside of another is described where it is defined.
            options = definition["properties"].values()
            assert all(option.get("description") or "$ref" in option for option in options), name
    port = schema()["$defs"]["Listen"]["properties"]["port"]
    assert (port["type"], port["minimum"], port["maximum"], port["default"]) == ("integer", 0, 65535, 7681)


# -- anything at all --------------------------------------------------------------------------------------------------

_known = [
    name for field in Config.model_fields for name in (field, *config.Listen.model_fields, *config.Limits.model_fields)
]
_keys = st.sampled_from(sorted({*_known, "levels", "folders", "limits", "timeouts", "unix_mode", "echo"})) | st.text()
_scalars = (
    st.none().map(lambda _: date(2024, 2, 29))
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["echo", "127.0.0.1", "::", "/x", "0660", "err", "https://a.b"])
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4), max_leaves=20
)
_tables = st.dictionaries(_keys, _values, max_size=6)


def _problems(table: dict[str, Any]) -> Sequence[Problem]:
    try:
        validate(Config, table, lambda rest: Config.model_validate(rest, context={"folder": "/etc/wsd"}), "f")
    except ConfigError as error:
        return error.problems or [Problem("", "", "refused for\nno reason")]
    return ()


def _checks(table: dict[str, Any]) -> None:
    """A configuration, or refused with lines that are lines."""
    assert all(escape(str(problem)) == str(problem) for problem in _problems(table))


@given(_tables)
def test_any_table_is_a_configuration_or_refused(table: dict[str, Any]) -> None:
    _checks(table)


@given(st.sampled_from(sorted(set(Config.model_fields) - {"listen"})), _tables)
def test_any_table_of_a_known_name_is_a_configuration_or_refused(name: str, table: dict[str, Any]) -> None:
    _checks({name: table})


@given(st.lists(st.dictionaries(st.sampled_from(sorted(config.Listen.model_fields)), _values, max_size=5), max_size=3))
def test_any_listeners_are_a_configuration_or_refused(listeners: list[Any]) -> None:
    _checks({"listen": listeners})


@given(st.dictionaries(st.sampled_from(sorted(RoomOptions.model_fields)), _values))
def test_any_options_are_filled_or_refused(table: dict[str, Any]) -> None:
    with suppress(ConfigError):
        assert fill_options(RoomOptions, table, "f", "k")


_text = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=50)


@given(st.dictionaries(_text, _text | st.integers() | st.booleans() | st.lists(_text | st.floats(allow_nan=False))))
def test_values_are_written_as_toml_reads_them(table: dict[str, Any]) -> None:
    assert tomli.loads("x = " + toml(table))["x"] == table
