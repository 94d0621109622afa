"""wsd/errors.py: the sentences that operators and peers are shown, and the exit status that goes with each."""

from __future__ import annotations

import pytest

from wsd import errors
from wsd.errors import ConfigError, HandshakeError, PluginError, Problem, ProtocolError, Reject, StartError, WsdError


def test_everything_raised_on_purpose_is_a_wsd_error() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(found) >= 8
    assert [kind for kind in found if not issubclass(kind, WsdError)] == []


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("a.toml", "log.target", "found 1"), "a.toml: log.target: found 1"),
        (Problem("a.toml", "", "not there"), "a.toml: not there"),
    ],
)
def test_a_problem_names_file_and_key(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_a_config_error_says_all_that_is_wrong() -> None:
    error = ConfigError([Problem("f", "a", "1"), Problem("f", "b", "2")])
    assert str(error) == "f: a: 1\nf: b: 2"
    assert len(error.problems) == 2
    assert error.exit_status == 78


@pytest.mark.parametrize(
    ("place", "text"), [((), "no"), (("p.py",), "p.py: no"), (("p.py", 7), "p.py:7: no"), (("", 0), "no")]
)
def test_a_plugin_error_names_what_it_knows_of_the_place(place: tuple[str, int], text: str) -> None:
    error = PluginError("no", *place)
    assert str(error) == text
    assert error.message == "no"
    assert error.exit_status == 78


def test_a_start_error_is_no_fault_of_the_configuration_unless_it_says_so() -> None:
    assert StartError("x").exit_status == 1
    assert StartError("x", errors.EXIT_CONFIG).exit_status == 78


def test_a_protocol_error_carries_its_close_code() -> None:
    error = ProtocolError(1002, "reserved bits")
    assert (error.code, error.text, str(error)) == (1002, "reserved bits", "1002 reserved bits")


def test_a_reject_is_a_refused_handshake_with_headers_for_the_answer() -> None:
    error = Reject(429, "slow down", [("Retry-After", "9")])
    assert isinstance(error, HandshakeError)
    assert (error.status, error.text, error.headers) == (429, "slow down", (("Retry-After", "9"),))
