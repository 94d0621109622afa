"""The options about who may come in: defaults, what is refused, and what a protocol says over its listener."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wsd.config import Config, Listen
from wsd.options_access import Auth, ProtocolAuth


class TestAuth:
    def test_everybody_may_come_in_by_default(self) -> None:
        auth = Config().listen[0].auth
        assert (auth.password_file, auth.token_file, auth.token_argument) == ("", "", "")

    @pytest.mark.parametrize("realm", ["", 'a"b', "a\\b", "a\nb", "\xe4", "a\x7f"])
    def test_a_realm_needs_no_quoting(self, realm: str) -> None:
        with pytest.raises(ValidationError, match="realm"):
            Auth(realm=realm)
        with pytest.raises(ValidationError, match="realm"):
            ProtocolAuth(realm=realm)

    @pytest.mark.parametrize("name", ["a=b", "a&b", "a b", "a%20", "\xe4", "a\n"])
    def test_an_arguments_name_needs_no_encoding(self, name: str) -> None:
        with pytest.raises(ValidationError, match="token_argument"):
            Auth(token_argument=name)

    def test_raw_connections_show_nothing(self) -> None:
        with pytest.raises(ValidationError, match="auth"):
            Listen(accept="raw", default_protocol="x", auth=Auth(token_file="tokens"))

    def test_equal_tables_are_one(self) -> None:
        """They are looked up with each request."""
        assert hash(Auth(realm="x")) == hash(Auth(realm="x"))
        assert {Auth(): 1}[Auth(realm="wsd")] == 1


class TestProtocolAuth:
    BASE = Auth(password_file="/p", token_file="/t", realm="r", token_argument="a")

    def test_what_is_left_out_is_the_listeners(self) -> None:
        assert ProtocolAuth().over(self.BASE) == self.BASE

    def test_what_is_set_wins_and_empty_takes_away(self) -> None:
        own = ProtocolAuth(password_file="/own", token_file="", token_argument="")
        assert own.over(self.BASE) == Auth(password_file="/own", token_file="", realm="r", token_argument="")
