"""The two bases of options: a plugin's own, and a table of wsd's.

Owns how strictly values are taken.  Must not know which options there are.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base of a plugin's options: subclass it, name it as your protocol's `Options`, and give fields and defaults.

    They are filled from the table `[protocols.NAME]`; an unknown key or a value of another type is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Table(BaseModel):
    """A table of wsd's own options.  Strict: `true` is no number, and "80" neither."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        # Paths among the defaults are relative to the file's folder as well.
        validate_default=True,
        revalidate_instances="always",
        # Built where it is used: one validator for the whole configuration costs a start half of what one for each
        # table does.  So their defaults below are made with `model_construct`, and checked with the file they are in.
        defer_build=True,
    )

    @property
    def given(self) -> dict[str, Any]:
        """What is not left out, of a table that stands in place of another."""
        return {name: value for name, value in self if value is not None}
