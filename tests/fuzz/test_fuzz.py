"""Each fuzz target for two seconds, without atheris and with a seed that a failure prints."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz_head, fuzz_parser
from tests.fuzz.engine import Target, run

TARGETS = [
    pytest.param(fuzz_parser.check, fuzz_parser.SAMPLES, id="parser"),
    pytest.param(fuzz_head.check, fuzz_head.SAMPLES, id="head"),
]


@pytest.mark.parametrize(("target", "samples"), TARGETS)
def test_samples(target: Target, samples: list[bytes]) -> None:
    """The samples themselves, and no bytes at all."""
    for sample in [*samples, b""]:
        target(sample)


@pytest.mark.parametrize(("target", "samples"), TARGETS)
def test_two_seconds(target: Target, samples: list[bytes]) -> None:
    assert run(target, samples, 2) > 100


def test_a_failure_tells_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    def target(data: bytes) -> None:
        assert len(data) < 5

    with pytest.raises(AssertionError):
        run(target, [b"12345"], 60, seed=1)
    assert "bytes.fromhex(" in capsys.readouterr().err
