"""The bases of options: how strictly a value is taken."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wsd.table import Options, Table


class Wsds(Table):
    size: int = 1


class Plugins(Options):
    size: int = 1


class TestTable:
    @pytest.mark.parametrize("value", [True, "80", 1.0, None])
    def test_what_is_no_number_is_none(self, value: object) -> None:
        with pytest.raises(ValidationError):
            Wsds.model_validate({"size": value})

    def test_an_unknown_key_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="sizes"):
            Wsds.model_validate({"sizes": 1})

    def test_it_does_not_change(self) -> None:
        with pytest.raises(ValidationError):
            Wsds().size = 2


class TestOptions:
    def test_an_unknown_key_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="sizes"):
            Plugins.model_validate({"sizes": 1})

    def test_it_does_not_change(self) -> None:
        with pytest.raises(ValidationError):
            Plugins().size = 2
