"""The options of limits and times: defaults, bounds, and what does not go together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wsd.options_limits import Limits, Timeouts


class TestLimits:
    def test_a_path_longer_than_its_head_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="max_uri_bytes"):
            Limits(max_uri_bytes=2048, max_head_bytes=1024)

    @pytest.mark.parametrize("name", ["max_queue_bytes", "max_fragments", "max_headers"])
    def test_these_have_no_off(self, name: str) -> None:
        with pytest.raises(ValidationError, match=name):
            Limits.model_validate({name: 0})


class TestTimeouts:
    @pytest.mark.parametrize("name", list(Timeouts.model_fields))
    def test_a_day_is_the_longest(self, name: str) -> None:
        assert getattr(Timeouts.model_validate({name: 86_400}), name) == 86_400
        with pytest.raises(ValidationError, match=name):
            Timeouts.model_validate({name: 86_401})
