"""Header fields of HTTP (RFC 9110 section 5): a multi-map that no CR, LF or NUL gets into.

Pure.  Used for what arrives and for what leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""RFC 9110 5.6.2, to build patterns of."""

_NAME: Final = re.compile(TOKEN.decode() + r"\Z")
# RFC 9110 5.5: visible characters, obs-text, spaces and tabs.  Refusing CR, LF and NUL is what stops response
# splitting; the other control characters have no business in a header either.
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")


def is_token(text: str) -> bool:
    """Reports whether `text` is a token (RFC 9110 5.6.2): the name of a header, of a subprotocol, ..."""
    return _NAME.match(text) is not None


class Headers:
    """Header fields in their order, several of one name allowed; names are found in any case.

    Values are text of one byte per character (latin-1), as they travel.
    """

    __slots__ = ("_index", "_items")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str]] = []
        # Values by lower-case name, made when something is first looked up: a handshake looks up a dozen.
        self._index: dict[str, list[str]] | None = None
        for name, value in items:
            self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Append a field, beside any of the same name.

        Raises:
            ValueError: `name` is no token, or `value` holds CR, LF, NUL or another character that may not travel.
        """
        if not is_token(name):
            raise ValueError(f"not a header name: {name!r}")
        if not _VALUE.match(value):
            raise ValueError(f"control or non-latin-1 character in the value of header {name}: {value!r}")
        self._items.append((name, value.strip(" \t")))
        self._index = None

    def set(self, name: str, value: str) -> None:
        """Replace every field of that name by one.  Raises ValueError as `add` does, and then changes nothing."""
        kept, self._index = self._items, None
        self._items = [item for item in kept if item[0].lower() != name.lower()]
        try:
            self.add(name, value)
        except ValueError:
            self._items = kept
            raise

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of that name."""
        values = self._found().get(name.lower())
        return values[0] if values else default

    def get_all(self, name: str) -> list[str]:
        """Every value of that name, in order."""
        return list(self._found().get(name.lower(), ()))

    def _found(self) -> dict[str, list[str]]:
        index = self._index
        if index is None:
            index = self._index = {}
            for name, value in self._items:
                index.setdefault(name.lower(), []).append(value)
        return index

    def combined(self, name: str) -> str:
        """The values of all lines of that name as one list (RFC 9110 5.3); empty if there is none."""
        return ", ".join(self._found().get(name.lower(), ()))

    def tokens(self, name: str) -> list[str]:
        """The elements of a comma-separated list, lower-cased; empty elements are skipped (RFC 9110 5.6.1)."""
        return [token for part in self.combined(name).split(",") if (token := part.strip(" \t").lower())]

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._found()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Headers({self._items!r})"
