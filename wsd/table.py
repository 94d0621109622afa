"""The two bases of options: a plugin's own, and a table of wsd's.

Owns how strictly values are taken.  Must not know which options there are.
"""

from __future__ import annotations

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
        # The text below a field is its description: in the schema, and in `etc/wsd.toml`.
        use_attribute_docstrings=True,
    )
