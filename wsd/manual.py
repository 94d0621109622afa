"""Writes a configuration file out of its models: what a field says about itself becomes the text above its option.

Owns the form of that file.  Must not know which options there are.
"""

from __future__ import annotations

import inspect
import textwrap
from typing import Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from wsd.problems import toml

_WIDTH: Final = 100


def text(config: BaseModel) -> str:
    """The file that means the same as `config`, with every option in it and the manual around them."""
    lines = _prose(type(config))
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            lines += _table(name, value)
        elif isinstance(value, tuple):
            for item in value:
                lines += _table(name, item, is_one_of_many=True)
        else:
            lines += _examples(name, field)
    return "\n".join(lines) + "\n"


def _prose(model: type[BaseModel]) -> list[str]:
    paragraphs = inspect.cleandoc(model.__doc__ or "").split("\n\n")
    return _comment(*paragraphs)


def _comment(*paragraphs: str) -> list[str]:
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += ["#"] if lines else []
        lines += textwrap.wrap(
            " ".join(paragraph.split()), _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
        )
    return lines


def _table(name: str, table: BaseModel, *, is_one_of_many: bool = False) -> list[str]:
    """A table, and below it the tables inside of it: in TOML whatever follows a header belongs to it."""
    lines = ["", "", *_prose(type(table)), f"[[{name}]]" if is_one_of_many else f"[{name}]"]
    inner: list[str] = []
    for key, field in type(table).model_fields.items():
        value = getattr(table, key)
        if isinstance(value, BaseModel):
            # Of a table that is one of many, this is the last one's: the one that was just written.
            inner += _table(f"{name}.{key}", value)
        else:
            lines += _option(key, field, value)
    return lines + inner


def _option(name: str, field: FieldInfo, value: object) -> list[str]:
    lines = ["", *_comment(field.description or "")]
    if value is None:
        return lines + _left_out(name, field)
    if not value:  # an example has to be text here: the option itself stands below it
        lines += [f"# Example: {line[1:]}" for line in _left_out(name, field)]
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as one would write it
    return [*lines, f"{name} = {toml(value)}"]


def _left_out(name: str, field: FieldInfo) -> list[str]:
    return [f"#{name} = {toml(example)}" for example in field.examples or ()]


def _examples(table: str, field: FieldInfo) -> list[str]:
    """A table of tables that have names of their own: there are none by default, so all of it is left out."""
    model: type[BaseModel] = get_args(field.annotation)[1]
    lines = ["", "", *_prose(model)]
    for example in field.examples or ():
        for name, options in example.items():
            lines += [f"#[{table}.{name}]", *(f"#{key} = {toml(value)}" for key, value in options.items())]
            for part, inner in model.model_fields.items():
                kind = inner.annotation
                assert isinstance(kind, type)
                assert issubclass(kind, BaseModel)
                lines += ["", *_prose(kind), f"#[{table}.{name}.{part}]"]
                for key, option in kind.model_fields.items():
                    lines += [*_comment(option.description or ""), *_left_out(key, option)]
    return lines
