"""The options of limits and times: defaults, bounds, and what does not go together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wsd.manual import descriptions
from wsd.options_limits import Limits, ListenLimits, ListenTimeouts, ProtocolLimits, ProtocolTimeouts, Timeouts


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


@pytest.mark.parametrize("table", [Limits, Timeouts])
def test_each_says_what_it_stops(table: type[Limits] | type[Timeouts]) -> None:
    described = descriptions(table)
    for name in table.model_fields:
        assert "Stops" in described[name].split(), name


OFF = {
    *("max_connections", "max_connections_per_address", "max_handshakes_per_second", "max_frame_bytes"),
    *("max_messages_per_second", "max_bytes_per_second"),
    *("first_message_seconds", "idle_seconds", "session_seconds"),
}


def test_what_is_off_by_default_and_nothing_else() -> None:
    numbers = {**Limits().model_dump(), **Timeouts().model_dump()}
    assert {name for name, value in numbers.items() if not value} == OFF


class TestListeners:
    def test_they_have_what_protocols_have_and_what_holds_before_one_is_known(self) -> None:
        assert set(ListenLimits.model_fields) - set(ProtocolLimits.model_fields) == {
            *("max_head_bytes", "max_headers", "max_uri_bytes", "max_body_bytes")
        }
        assert set(ListenTimeouts.model_fields) - set(ProtocolTimeouts.model_fields) == {
            *("tls_handshake_seconds", "handshake_seconds", "http_idle_seconds", "body_seconds")
        }

    @pytest.mark.parametrize("table", [ListenLimits, ListenTimeouts, ProtocolLimits, ProtocolTimeouts])
    def test_nothing_is_set_by_default(self, table: type[ListenLimits]) -> None:
        assert set(table().model_dump().values()) == {None}

    def test_no_limit_on_messages_is_not_for_a_listener(self) -> None:
        with pytest.raises(ValidationError, match="max_message_bytes"):
            ListenLimits(max_message_bytes=0)

    def test_a_path_longer_than_its_head_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="max_uri_bytes"):
            ListenLimits(max_uri_bytes=2048, max_head_bytes=1024)
        ListenLimits(max_head_bytes=1024)  # the other one stands elsewhere
