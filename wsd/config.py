"""The configuration file: finding it, reading it, saying all that is wrong with it, writing the one with every default.

Owns the way from a file to a `Config`.  Which options there are is written in `wsd.options`, whose models are used by
their names here.
"""

from __future__ import annotations

import json
import os
from codecs import BOM_UTF8
from datetime import date, time
from pathlib import Path
from typing import Any, Final, TypeVar

import tomli

from wsd.errors import ConfigError, Problem
from wsd.kinds import FOLDER
from wsd.options import (
    Compression,
    Config,
    Daemon,
    Keepalive,
    Listen,
    Log,
    Plugins,
    ProtocolCompression,
    ProtocolTable,
)
from wsd.options_access import Auth, ProtocolAuth
from wsd.options_limits import (
    Limits,
    ListenLimits,
    ListenTimeouts,
    ProtocolLimits,
    ProtocolTimeouts,
    Timeouts,
)
from wsd.options_tls import Certificate, Tls
from wsd.problems import validate
from wsd.table import Options

__all__ = [
    "Auth",
    "Certificate",
    "Compression",
    "Config",
    "Daemon",
    "Keepalive",
    "Limits",
    "Listen",
    "ListenLimits",
    "ListenTimeouts",
    "Log",
    "Options",
    "Plugins",
    "ProtocolAuth",
    "ProtocolCompression",
    "ProtocolLimits",
    "ProtocolTable",
    "ProtocolTimeouts",
    "Timeouts",
    "Tls",
    "default_text",
    "fill_options",
    "find",
    "load",
    "packaged",
    "schema",
]

SYSTEM_FILE: Final = Path("/etc/wsd/wsd.toml")

_FILE_BYTES: Final = 1 << 20  # a larger file is no configuration

SomeOptions = TypeVar("SomeOptions", bound=Options)


def packaged(name: str) -> Path:
    """What is shipped beside the code: "etc/wsd.toml" or "plugins", from a wheel or from the source tree."""
    package = Path(__file__).resolve().parent
    installed = package / "share" / name
    return installed if installed.exists() else package.parent / name


def find(explicit: str | None) -> Path:
    """The configuration file, absolute: the given one, else ./etc/wsd.toml, /etc/wsd/wsd.toml, or the packaged one.

    Raises:
        ConfigError: a relative name, and the working directory is gone.
    """
    try:
        if explicit is not None:
            return Path(os.path.abspath(explicit))
        for candidate in (Path("etc/wsd.toml"), SYSTEM_FILE):
            if candidate.is_file():
                return candidate.absolute()
    except OSError as error:
        raise ConfigError(
            [Problem(explicit or "etc/wsd.toml", "", f"no working directory: {error.strerror}")]
        ) from None
    return packaged("etc/wsd.toml")


def load(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: with all that is wrong with it.
    """
    path = Path(os.path.abspath(path))
    context = {FOLDER: os.path.realpath(path.parent)}
    config = validate(Config, _read(path), lambda table: Config.model_validate(table, context=context), str(path))
    config._path = path
    return config


def _read(path: Path) -> dict[str, Any]:
    def refuse(message: str, key: str = "") -> ConfigError:
        return ConfigError([Problem(str(path), key, message)])

    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > _FILE_BYTES:
        raise refuse(f"larger than {_FILE_BYTES} bytes; is it the right file?")
    data = data.removeprefix(BOM_UTF8)
    try:
        return tomli.loads(data.decode())
    except UnicodeDecodeError as error:
        line, column = data.count(b"\n", 0, error.start) + 1, error.start - data.rfind(b"\n", 0, error.start)
        raise refuse(f"not UTF-8: found the byte 0x{data[error.start]:02x}", f"line {line}, column {column}") from None
    except tomli.TOMLDecodeError as error:
        raise refuse(f"not TOML: {error.msg}", f"line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, hundreds of nested lists
        raise refuse(f"not TOML: {error}") from None


def fill_options(model: type[SomeOptions] | None, table: dict[str, Any], file: str, key: str) -> SomeOptions | None:
    """Make a plugin's options of its table.

    Args:
        model: The protocol's `Options`; None: it has none, and the table must be empty.
        table: `ProtocolTable.options`.
        file: The configuration file's name, for the messages.
        key: Where the table is: `protocols.NAME`.

    Raises:
        ConfigError: with all that is wrong with it.
    """
    if model is None:
        validate(Options, table, Options.model_validate, file, key)
        return None
    # The strict rules of JSON fit TOML: `true` is no number and "80" neither, but text may become a path or a date, and
    # a list a set, whatever the plugin's model says.
    try:
        json.dumps(table, default=_json)
    except (ValueError, RecursionError) as error:
        raise ConfigError([Problem(file, key, f"cannot be used: {error}")]) from None
    return validate(
        model, table, lambda rest: model.model_validate_json(json.dumps(rest, default=_json), strict=True), file, key
    )


def _json(value: object) -> str:
    """TOML's dates and times, which JSON does not have."""
    if isinstance(value, date | time):
        return value.isoformat()
    raise ValueError(f"a {type(value).__name__} is no TOML")


def default_text() -> str:
    """The file with every option at its default: `etc/wsd.toml`."""
    from wsd import manual

    return manual.text(Config())


def schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    from wsd import manual

    return manual.schema(Config)
