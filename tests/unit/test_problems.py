"""The sentences about a wrong table, for any model: what was found, and what is allowed there."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from wsd.errors import ConfigError
from wsd.problems import Allowed, Clash, clash_error, nearest, path, quote, show, toml, validate


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    size: Annotated[int, Field(gt=0, lt=10)] = 1


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    colour: Colour = Colour.RED
    name: str = Field("a", min_length=1, max_length=3)
    parts: list[Part] = Field([Part()], min_length=1)
    by_name: dict[str, Part] = {}
    wait_seconds: float | None = Field(None, ge=0.5)
    odd: Annotated[int, Allowed("an odd number")] = 1
    renamed: int = Field(1, alias="re-named")
    opaque: Any = None
    low: int = 0
    high: int = 9

    @model_validator(mode="after")
    def _order(self) -> Model:
        if self.opaque == "assert":
            raise AssertionError("not\n  that")
        if self.low > self.high:
            raise clash_error([Clash(("low",), f"found low = {self.low} over high = {self.high}", (("high",),))])
        return self


def said(table: dict[str, Any], key: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(Model, table, Model.model_validate, "f", key)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"colour": 3}, 'colour: found 3; allowed: one of "red", "blue"'),
        ({"name": ""}, 'name: found ""; allowed: text of at least 1 characters of at most 3 characters'),
        ({"parts": []}, "parts: found an empty list; allowed: a list of at least 1, each a table"),
        ({"parts": [{"size": 10}]}, "parts[0].size: found 10; allowed: an integer over 0 below 10"),
        ({"parts": [{"sise": 1}]}, "parts[0].sise: unknown key 'sise'; did you mean 'size'?"),
        ({"by_name": {"a.b": {"size": 0}}}, 'by_name."a.b".size: found 0; allowed: an integer over 0 below 10'),
        ({"wait_seconds": 0.25}, "wait_seconds: found 0.25; allowed: a number of seconds from 0.5"),
        ({"odd": "2"}, 'odd: found "2"; allowed: an odd number'),
        ({"re-named": "2"}, 're-named: found "2"; allowed: an integer'),
        ({"re-name": 2}, "re-name: unknown key 're-name'; did you mean 're-named'?"),
        ({"low": 10}, "low: found low = 10 over high = 9"),
        ({"opaque": "assert"}, "not that"),
        ({"qqq": 1}, "qqq: unknown key 'qqq'; known here: colour, name, parts, by_name, wait_seconds, odd, re-named, "
         "opaque, low, high"),
    ],
)  # fmt: skip
def test_each_kind_of_mistake_has_its_sentence(table: dict[str, Any], message: str) -> None:
    assert said(table) == [f"f: {message}"]


def test_the_tables_own_place_goes_before_the_key() -> None:
    assert said({"low": "x"}, "protocols.chat") == ['f: protocols.chat.low: found "x"; allowed: an integer']


def test_what_does_not_go_together_is_found_beside_wrong_values() -> None:
    assert said({"low": 10, "odd": "x"}) == [
        'f: odd: found "x"; allowed: an odd number',
        "f: low: found low = 10 over high = 9",
    ]


def test_a_wrong_value_clashes_with_nothing() -> None:
    assert said({"low": 10, "high": "20"}) == ['f: high: found "20"; allowed: an integer']


def test_the_table_is_left_as_it_was() -> None:
    table: dict[str, Any] = {"low": 10, "parts": [{"size": 0}], "x": 1}
    assert len(said(table)) == 3
    assert table == {"low": 10, "parts": [{"size": 0}], "x": 1}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (80.0, "80.0"),
        ('a"b\\\n', '"a\\"b\\\\\\x0a"'),
        ("x" * 100, '"' + "x" * 60 + '..."'),
        ([1], "a list"),
        ([], "an empty list"),
        ({}, "a table"),
        (1 << 1000, "a huge number"),
        (-(1 << 1000), "a huge number"),
        (10**50, "1" + "0" * 50),
    ],
)
def test_values_are_shown_short_and_on_one_line(value: object, text: str) -> None:
    assert show(value) == text


def test_values_are_written_as_toml() -> None:
    assert (
        toml(["a", 1, 2.5, False, {"/x": Path("/y"), "z": []}, {}])
        == '["a", 1, 2.5, false, { "/x" = "/y", z = [] }, {}]'
    )


def test_places_are_written_as_one_types_them() -> None:
    assert path(("listen", 0, "paths", "/mirror")) == 'listen[0].paths."/mirror"'
    assert path(()) == ""
    assert quote("") == '""'


@pytest.mark.parametrize(
    ("name", "meant"), [("prot", "port"), ("PORT", "port"), ("close", "close_seconds"), ("zz", ""), ("", "")]
)
def test_the_nearest_name_is_the_one_that_was_meant(name: str, meant: str) -> None:
    assert nearest(name, ["port", "paths", "close_seconds"]) == meant
