"""Configurations that are wrong, and what is said about them."""

from __future__ import annotations

import pytest
import tomli

from wsd.errors import ConfigError
from wsd.options import Config
from wsd.problems import validate


def check(text: str) -> Config:
    """The configuration that a file of this text in /etc makes.

    Raises:
        ConfigError: it makes none.
    """
    return validate(
        Config, tomli.loads(text), lambda table: Config.model_validate(table, context={"folder": "/etc"}), "f"
    )


def refused(text: str) -> list[str]:
    """What is said about a file of this text: `key: message` of each problem."""
    with pytest.raises(ConfigError) as caught:
        check(text)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


def cases(text: str) -> list[tuple[str, str]]:
    """A table as pairs: what is in the file (` ; ` ends a line), and indented below it what is said about it."""
    lines = [line for line in text.strip().splitlines() if not line.startswith("# ")]
    found: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith("    "):
            toml, said = found.pop()
            found.append((toml, f"{said} {line.strip()}".strip()))
        else:
            found.append((line.replace(" ; ", "\n"), ""))
    return found
