"""What is wrong with a table of options, said in one way: `key: found ...; allowed ...`.

Owns the sentences: pydantic knows that a value is wrong, this file says it in the words of the configuration file, and
takes what is allowed from the model itself.  Must not know which options there are.
"""

from __future__ import annotations

import copy
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from wsd.errors import ConfigError, Problem
from wsd.log import escape

Location = tuple[int | str, ...]

M = TypeVar("M", bound=BaseModel)

_SCALARS = ((bool, "true or false"), (int, "an integer"), (float, "a number"), (str, "text"), (Path, "a path"))
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_LONGEST_VALUE = 60  # characters of a value that a message shows
_MOST_KEYS = 12  # known keys that a message lists


class Allowed(NamedTuple):
    """Beside a field's type in `Annotated`: what is allowed, where type and bounds do not say it well enough."""

    text: str


class Clash(NamedTuple):
    """Options that are right one by one and wrong together."""

    key: Location
    message: str
    others: tuple[Location, ...] = ()


def clash_error(clashes: Sequence[Clash]) -> PydanticCustomError:
    """All clashes of one table as the one error that a validator may raise."""
    text = "; ".join(f"{path(clash.key)}: {clash.message}" for clash in clashes)
    return PydanticCustomError("clash", "{text}", {"text": text, "clashes": tuple(clashes)})


def validate(
    model: type[M], table: dict[str, Any], check: Callable[[dict[str, Any]], M], file: str, key: str = ""
) -> M:
    """Make a model of a table, or say all that is wrong with it.

    Pydantic looks at a table as a whole only when its values are right one by one.  So that both kinds of mistakes are
    reported at once, the wrong values are taken out and the rest is looked at again.

    Args:
        model: What the table should be.
        table: The table as it stands in the file.
        check: Turns a table into the model; raises `ValidationError`.
        file: The configuration file's name, for the messages.
        key: Where in the file the table is; empty for the whole file.

    Raises:
        ConfigError: with every problem.
    """
    found: dict[Problem, None] = {}  # a dict, for alternatives of one field can say the same
    gone: set[Location] = set()
    rest = table
    while True:
        try:
            result = check(rest)
        except ValidationError as error:
            wrong: set[Location] = set()
            for fault in _faults(error, model):
                fields = {_field(model, location) for location in (fault.key, *fault.others)}
                if not fields & gone:
                    found[Problem(file, _join(key, path(fault.key)), fault.message)] = None
                    wrong.add(_field(model, fault.key))
        else:
            if not found:
                return result
            wrong = set()
        if not wrong - {()}:
            raise ConfigError(list(found))
        gone |= wrong
        rest = _without(rest, wrong)


def _field(model: type[BaseModel], location: Location) -> Location:
    """The field that a place is in: what is taken out when the value there is wrong."""
    end = 0
    for index in range(len(location)):
        if _is_model(_walk(model, location[:index])[0]):
            end = index + 1
    return location[:end]


def _without(table: dict[str, Any], locations: Iterable[Location]) -> dict[str, Any]:
    """A copy that lacks some values; what it has in common with `table` is shared."""
    rest = dict(table)
    for *parents, last in sorted(locations, key=len, reverse=True):  # what is inside of another goes first
        part: Any = rest
        for parent in parents:
            part[parent] = copy.copy(part[parent])
            part = part[parent]
        part.pop(last, None)  # a missing value cannot be taken out: that is what was wrong with it
    return rest


def nearest(name: str, known: Sequence[str]) -> str:
    """The known name that `name` was probably meant to be, or an empty text."""
    import difflib  # only ever needed on the way to an error

    close = difflib.get_close_matches(name.lower(), known, 1)
    begin = [item for item in known if len(name) >= 3 and item.startswith(name)]  # `close` for `close_seconds`
    return (close or begin or [""])[0]


def path(location: Location) -> str:
    """A place in the file as one writes it: `listen[0].paths."/mirror"`."""
    text = ""
    for part in location:
        text = f"{text}[{part}]" if isinstance(part, int) else _join(text, quote(part))
    return text


def quote(key: str) -> str:
    """A key as TOML wants it: bare where that is possible."""
    return key if _BARE_KEY.match(key) else toml(_cut(key))


def toml(value: object) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
        case str() | Path():
            return '"' + escape(str(value).replace("\\", "\\\\").replace('"', '\\"')) + '"'
        case Mapping():
            return (
                "{ " + ", ".join(f"{quote(key)} = {toml(item)}" for key, item in value.items()) + " }"
                if value
                else "{}"
            )
        case Sequence():
            return f"[{', '.join(toml(item) for item in value)}]"
    return str(value)


def show(value: object) -> str:
    """A wrong value for a message: short, on one line, whatever it is."""
    match value:
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case str():
            return toml(_cut(value))
        case int() if not isinstance(value, bool) and value.bit_length() > 200:
            return "a huge number"  # Python refuses to print it from 4300 digits on
    return escape(_cut(toml(value)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def _join(key: str, rest: str) -> str:
    return f"{key}.{rest}" if key and rest and not rest.startswith("[") else key + rest


def _faults(error: ValidationError, model: type[BaseModel]) -> Iterator[Clash]:
    """What pydantic found wrong, in our words; a value that is wrong by itself clashes with nothing."""
    details = error.errors(include_url=False)
    for detail in details:
        location, context = detail["loc"], detail.get("ctx", {})
        if detail["type"] == "clash":
            for clash in context["clashes"]:
                yield Clash((*location, *clash.key), clash.message, tuple((*location, *key) for key in clash.others))
        elif detail["type"] == "extra_forbidden":
            yield Clash(location, _unknown_key(model, location))
        elif detail["type"] != "too_short" or not any(_inside(other["loc"], location) for other in details):
            yield _wrong_value(
                detail, model
            )  # pydantic counts wrong items as missing: a list of one would be too short


def _inside(location: Location, outer: Location) -> bool:
    return len(location) > len(outer) and location[: len(outer)] == outer


def _wrong_value(detail: ErrorDetails, model: type[BaseModel]) -> Clash:
    location, context = detail["loc"], detail.get("ctx", {})
    kind, metadata, location = _walk(model, location)
    allowed = _allowed(kind, metadata, str(location[-1]) if location else "")
    if detail["type"] == "missing":
        return Clash(location, f"missing; wanted: {allowed or 'a value'}")
    value = detail["input"]
    if detail["type"] in ("value_error", "assertion_error"):
        text = _one_line(context.get("error", detail["msg"]))
        return Clash(location, text if isinstance(value, Mapping) else f"found {show(value)}; {text}")
    said = f"allowed: {allowed}" if allowed else _one_line(detail["msg"])
    return Clash(location, f"found {show(value)}; {said}")


def _one_line(text: object) -> str:
    return escape(" ".join(str(text).split()))


# -- unknown keys -----------------------------------------------------------------------------------------------------


def _unknown_key(model: type[BaseModel], location: Location) -> str:
    """The sentence for a key that its table does not know."""
    name = str(location[-1])
    known = list(_known_keys(_walk(model, location[:-1])[0]))
    said = f"unknown key '{_cut(escape(name))}'"
    if near := nearest(name, known):
        return f"{said}; did you mean '{near}'?"
    if elsewhere := [table for table in _tables_with(model, name) if table]:
        return f"{said}; it belongs into {' or '.join(elsewhere)}"
    if not known:
        return f"{said}; there are no options here"
    more = ", ..." if len(known) > _MOST_KEYS else ""
    return f"{said}; known here: {', '.join(known[:_MOST_KEYS])}{more}"


def _known_keys(kind: Any) -> Iterator[str]:
    for name, field in kind.model_fields.items() if _is_model(kind) else ():
        yield field.alias or name


def _tables_with(model: type[BaseModel], name: str, outer: str = "") -> Iterator[str]:
    """The tables that know the key, as their headers are written; but those whose own names the file chooses."""
    for table, field in model.model_fields.items():
        kind, place = _bare(field.annotation), f"{outer}{table}"
        header = f"[{place}]"
        if get_origin(kind) in (tuple, list):
            kind, header = _bare(get_args(kind)[0]), f"[[{place}]]"
        if _is_model(kind):
            if name in _known_keys(kind):
                yield header
            yield from _tables_with(kind, name, f"{place}.")


# -- what a model says about a place ----------------------------------------------------------------------------------


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _alternatives(kind: Any) -> list[Any]:
    """The members of a union but None, else the type itself."""
    if get_origin(kind) in (Union, types.UnionType):
        return [member for member in get_args(kind) if member is not type(None)]
    return [kind]


def _unwrap(kind: Any, metadata: Sequence[Any] = ()) -> tuple[Any, list[Any]]:
    """Take `Annotated` and `| None` off a type, and collect what `Annotated` said."""
    collected = list(metadata)
    while True:
        members = _alternatives(kind)
        if hasattr(kind, "__metadata__"):
            for said in kind.__metadata__:
                collected += said.metadata if isinstance(said, FieldInfo) else [said]
            kind = kind.__origin__
        elif len(members) == 1 and members[0] is not kind:
            kind = members[0]
        else:
            return kind, collected


def _bare(kind: Any) -> Any:
    return _unwrap(kind)[0]


def _walk(model: type[BaseModel], location: Location) -> tuple[Any, list[Any], Location]:
    """The type at a place, what is said beside it, and the place as far as it is one of the file.

    Pydantic appends names of its own (the member of a union, `[key]`) behind the last key of the file.
    """
    kind: Any = model
    metadata: list[Any] = []
    for index, part in enumerate(location):
        if _is_model(kind):
            fields = {
                **kind.model_fields,
                **{field.alias: field for field in kind.model_fields.values() if field.alias},
            }
            if part not in fields:
                return None, [], location  # an extra key: nothing is said about it
            kind, metadata = _unwrap(fields[part].annotation, fields[part].metadata)
        elif get_origin(kind) in (tuple, list, set, frozenset) and isinstance(part, int):
            kind, metadata = _unwrap(get_args(kind)[0])
        elif get_origin(kind) is dict:
            wanted = 0 if location[index + 1 : index + 2] == ("[key]",) else 1
            kind, metadata = _unwrap(get_args(kind)[wanted])
        else:
            return kind, metadata, location[:index]
    return kind, metadata, location


def _allowed(kind: Any, metadata: Sequence[Any], name: str = "") -> str:
    """What may stand at a place, in words; empty where the type says nothing that a reader would understand."""
    for item in metadata:
        if isinstance(item, Allowed):
            return item.text
    if len(members := _alternatives(kind)) > 1:
        texts = [_allowed(*_unwrap(member)) for member in members]
        return " or ".join(texts) if all(texts) else ""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(toml(value) for value in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(toml(member.value) for member in kind)
    if get_origin(kind) in (tuple, list, set, frozenset):
        item, said = _unwrap(get_args(kind)[0])
        size = _bounds(metadata).replace(" characters", "")
        return f"a list{size}, each {text}" if (text := _allowed(item, said)) else f"a list{size}"
    if kind is dict or get_origin(kind) is dict or _is_model(kind):
        return "a table"
    for scalar, words in _SCALARS:
        if kind is scalar:
            return words + _unit(name, kind) + _bounds(metadata)
    return ""


def _unit(name: str, kind: Any) -> str:
    for unit in ("seconds", "bytes"):
        if name.endswith(f"_{unit}") and kind in (int, float):
            return f" of {unit}"
    return ""


def _bounds(metadata: Sequence[Any]) -> str:
    """The bounds in words: ` from 0 to 65535`, ` over 0`."""
    low = high = ""
    for item in metadata:
        match item:
            case annotated_types.Ge(ge):
                low = f" from {toml(ge)}"
            case annotated_types.Gt(gt):
                low = f" over {toml(gt)}"
            case annotated_types.Le(le):
                high = f" up to {toml(le)}"
            case annotated_types.Lt(lt):
                high = f" below {toml(lt)}"
            case annotated_types.MinLen(length):
                low = f" of at least {length} characters"
            case annotated_types.MaxLen(length):
                high = f" of at most {length} characters"
    return low + (high.replace(" up to ", " to ") if low.startswith(" from ") else high)
