"""Each fuzz target for a second, without atheris and with a seed that a failure prints."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.fuzz.engine import CORPUS, Target, corpus, run

NAMES = sorted(path.stem.removeprefix("fuzz_") for path in Path(__file__).parent.glob("fuzz_*.py"))
MODULES = [(name, importlib.import_module(f"tests.fuzz.fuzz_{name}")) for name in NAMES]
TARGETS = [pytest.param(module.check, [*module.SAMPLES, *corpus(name)], id=name) for name, module in MODULES]


@pytest.mark.parametrize(("target", "samples"), TARGETS)
def test_samples(target: Target, samples: list[bytes]) -> None:
    """The samples and the corpus themselves, and no bytes at all."""
    for sample in [*samples, b""]:
        target(sample)


@pytest.mark.parametrize(("target", "samples"), TARGETS)
def test_one_second(target: Target, samples: list[bytes]) -> None:
    assert run(target, samples, 1) > 50


def test_each_corpus_has_its_target() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= set(NAMES)


def test_a_failure_tells_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    def target(data: bytes) -> None:
        assert len(data) < 5

    with pytest.raises(AssertionError):
        run(target, [b"12345"], 60, seed=1)
    assert "bytes.fromhex(" in capsys.readouterr().err
