"""Writes a configuration file out of its models: what a field says about itself becomes the text above its option, and
its description in the schema.

Owns the form of that file, and how that text is found: it stands below the field.  Must not know which options there
are.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

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


class _Described(GenerateJsonSchema):
    """Pydantic's schema, with the text below a field as its description."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        for name, description in descriptions(model).items():
            found["properties"][name]["description"] = description
        return found


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of the file that `model` is."""
    return {"$schema": _Described.schema_dialect, **model.model_json_schema(schema_generator=_Described)}


@cache
def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field of a model, in its source and in those that it inherits from.

    Pydantic can read it too (use_attribute_docstrings), but would do so for every model whenever it is imported, which
    was a tenth of the daemon's start.
    """
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base is BaseModel or not issubclass(base, BaseModel):
            continue
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(node, ast.ClassDef)
        for field, below in pairwise(node.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                    found[name] = inspect.cleandoc(text)
    return {name: text for name, text in found.items() if name in model.model_fields}


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
            lines += _option(key, field, value, descriptions(type(table)).get(key, ""))
    return lines + inner


def _option(name: str, field: FieldInfo, value: object, description: str) -> list[str]:
    lines = ["", *_comment(description)]
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
                    lines += [*_comment(descriptions(kind).get(key, "")), *_left_out(key, option)]
    return lines
