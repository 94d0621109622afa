"""The methods that run in C: that they do, that they are told the right things, and that they refuse the wrong ones.

What they do is held equal to those in Python by test_straight.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import wsd.context  # noqa: F401  # puts them in their place
from tests.support.native import require_native
from wsd import compiled, loop
from wsd.straight import Straight
from wsd.wire import fast

SAY = "from wsd.context import Context; from wsd.straight import Straight; print(type(Straight.write).__name__)"
WORDS = {"C functions": "method_descriptor", "pure Python": "function"}


def python(statement: str, pure: str) -> subprocess.CompletedProcess[str]:
    """What a new interpreter says to it."""
    command = [sys.executable, "-c", statement]
    return subprocess.run(command, env={**os.environ, "WSD_PURE": pure}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", compiled.METHODS)
def test_each_is_one_of_both(name: str) -> None:
    assert type(getattr(Straight, name)).__name__ == WORDS[fast.IMPLEMENTATION]
    assert type(compiled.TWINS[name]).__name__ == "function"


def test_the_same_arguments() -> None:
    for name, twin in compiled.TWINS.items():
        code = twin.__code__
        signature = getattr(Straight, name).__text_signature__ if fast.IMPLEMENTATION == "C functions" else None
        if signature is not None:
            names = [part.split("=")[0] for part in signature.strip("()").replace("$", "").split(", ")]
            assert names == list(code.co_varnames[: code.co_argcount])


@pytest.mark.parametrize("pure", ["1", ""])
def test_in_c_unless_that_is_not_wanted(pure: str) -> None:
    require_native()
    assert python(SAY, pure).stdout.strip() == ("function" if pure else "method_descriptor")


class Slotless:
    """No class that has any of the slots."""


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ((), (), {}, ()),
        ((Slotless,) * 8, (1,) * 6, {}),
        ([Slotless] * 8, (1,) * 6, {}, ()),
        ((Slotless,) * 8, (1,) * 5, {}, ()),
        ((Slotless,) * 8, (1,) * 6, [], ()),
        ((Slotless,) * 8, (1,) * 6, {}, Exception),
    ],
)
def test_it_is_told_what_it_wants(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="takes classes, numbers"):
        require_native().straighten(*arguments)


def test_once() -> None:
    require_native()
    call = "import wsd.context; from wsd import _native; _native.straighten((int,) * 8, (1,) * 7, {}, ())"
    answer = python(call, pure="")
    assert "RuntimeError: straighten() was called before" in answer.stderr


class Raising:
    """Something that is served, and raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, mask: int) -> None:
        raise self.error

    def service_write(self) -> None:
        raise self.error


def both(name: str) -> list[Any]:
    """The function of the loop, in Python and, where it is there, in C."""
    return list(dict.fromkeys((getattr(loop, f"{name}_in_python"), getattr(loop, name))))


@pytest.mark.parametrize("arguments", [([], {}), ((), {}, print), ([], [], print), ([5], {}, print)])
def test_other_arguments(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        require_native().serve_events(*arguments)


@pytest.mark.parametrize("serve", both("serve_events"))
class TestEvents:
    def test_each_function_gets_its_mask_and_who_has_left_gets_none(self, serve: Any) -> None:
        seen: list[Any] = []
        table: dict[int, Any] = {1: lambda mask: seen.append((1, mask)) or table.pop(2), 2: seen.append}
        serve([(1, 5), (2, 6), (300_000, 7)], table, seen.append)
        assert seen == [(1, 5)]

    def test_an_exception_is_survived(self, serve: Any) -> None:
        survived: list[Any] = []
        raising, error = Raising(ValueError("x")), None
        seen: list[int] = []
        serve([(1, 1), (2, 2)], {1: raising, 2: seen.append}, lambda *what: survived.append(what))
        ((function, error),) = survived
        assert function is raising
        assert error is raising.error
        assert error.__traceback__ is not None
        assert seen == [2]

    def test_what_is_no_exception_is_not(self, serve: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            serve([(1, 1)], {1: Raising(KeyboardInterrupt())}, pytest.fail)

    def test_what_surviving_raises(self, serve: Any) -> None:
        with pytest.raises(ZeroDivisionError):
            serve([(1, 1)], {1: Raising(ValueError())}, lambda *what: 1 / 0)


@pytest.mark.parametrize("serve", both("serve_writers"))
class TestWriters:
    def test_each_writes_and_errors_are_survived(self, serve: Any) -> None:
        survived: list[Any] = []
        raising = Raising(ValueError("x"))
        serve([raising, raising], lambda *what: survived.append(what))
        assert [(function.__self__, error) for function, error in survived] == [(raising, raising.error)] * 2

    def test_what_is_no_exception_is_not(self, serve: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            serve([Raising(KeyboardInterrupt())], pytest.fail)

    def test_who_comes_later_is_served_too(self, serve: Any) -> None:
        """As of any list that grows while it is gone through."""
        survived: list[Any] = []
        writers: list[Any] = [Raising(ValueError("1"))]

        def survive(*what: Any) -> None:
            survived.append(what)
            if len(writers) < 3:
                writers.append(Raising(ValueError("more")))

        serve(writers, survive)
        assert len(survived) == 3
