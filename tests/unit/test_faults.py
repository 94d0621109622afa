"""wsd/faults.py: what the log says of a plugin's mistake, and how often."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from types import CodeType
from typing import Any

import pytest

from wsd import faults, log
from wsd.binding import bind_hooks
from wsd.errors import PluginError
from wsd.protocol import CallbackProtocol, Protocol


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is logged at ERR."""
    found: list[str] = []
    before, emitter = log.level(), log._emitter
    monkeypatch.setattr(faults, "_throttle", log.Throttle())
    log.set_level(log.ERR, lambda level, line: found.append(line))
    yield found
    log.set_level(before, emitter)


def plugin(source: str, name: str = "/plugins/broken.py") -> dict[str, Any]:
    """A plugin's module, with a file name that is not ours."""
    code: CodeType = compile(source, name, "exec")
    module: dict[str, Any] = {"Protocol": Protocol}
    exec(code, module)
    return module


def raised(function: Any, *arguments: Any) -> BaseException:
    try:
        function(*arguments)
    except faults.CATCHABLE as error:
        trace = error.__traceback__
        return error.with_traceback(trace and trace.tb_next)  # the first frame is the test's own
    raise AssertionError("it did not raise")


class TestException:
    def test_names_plugin_hook_tag_error_and_place(self, lines: list[str]) -> None:
        hook = plugin("def on_receive(wsi, data):\n    return helper()\ndef helper():\n    raise KeyError('seat')")
        faults.report_exception("echo.on_receive", raised(hook["on_receive"], None, b""), "echo#7 192.0.2.1:9")
        assert lines[0] == "echo#7 192.0.2.1:9: echo.on_receive raised KeyError: 'seat'"
        assert [line.strip() for line in lines[1:] if "File" in line] == [
            'File "/plugins/broken.py", line 2, in on_receive',
            'File "/plugins/broken.py", line 4, in helper',
        ]

    def test_our_frames_are_cut_off_above_the_plugins(self, lines: list[str]) -> None:
        """A callback is called through a lambda of protocol.py, which is no news to a plugin's author."""
        module = plugin("def callback(wsi, reason, user, data):\n    raise ValueError('no')")
        hooks = bind_hooks(CallbackProtocol("old", module["callback"], None, None))
        faults.report_exception("old.on_protocol_destroy", raised(hooks.on_protocol_destroy))
        assert not [line for line in lines if "wsd/" in line or "lambda" in line]
        assert [line for line in lines if "broken.py" in line]

    def test_our_frames_below_the_plugins_stay(self, lines: list[str]) -> None:
        """What the plugin called of ours tells it what it did wrong."""
        hook = plugin("from wsd.wire.frames import encode_close\ndef on_timer(wsi):\n    encode_close(1006)")
        faults.report_exception("x.on_timer", raised(hook["on_timer"], None))
        assert [line for line in lines if "broken.py" in line]
        assert [line for line in lines if "wire/frames.py" in line]

    @pytest.mark.parametrize("folder", ["share/plugins/echo.py", "../wsd-plugins/echo.py"])
    def test_a_plugin_that_lies_near_us_is_none_of_ours(self, lines: list[str], folder: str) -> None:
        """An installed wsd has its shipped plugins in wsd/share."""
        file = os.path.abspath(os.path.join(os.path.dirname(faults.__file__), folder))
        hook = plugin("def on_timer(wsi):\n    1/0", file)
        error = raised(hook["on_timer"], None)
        faults.report_exception("echo.on_timer", error)
        assert lines[1].strip() == f'File "{file}", line 2, in on_timer'
        assert faults.place_of(error) == (file, 2)

    def test_without_a_connection_there_is_no_tag(self, lines: list[str]) -> None:
        hook = plugin("def on_wakeup():\n    raise SystemExit(3)")
        faults.report_exception("x.on_wakeup", raised(hook["on_wakeup"]))
        assert lines[0] == "x.on_wakeup raised SystemExit: 3"

    def test_a_place_is_reported_once_a_minute_and_then_counted(
        self, lines: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1000.0
        monkeypatch.setattr("wsd.faults.time.monotonic", lambda: now)
        module = plugin("def on_timer(wsi):\n    1/0\ndef on_pong(wsi):\n    1/0")
        for _ in range(5):
            faults.report_exception("x.on_timer", raised(module["on_timer"], None))
        faults.report_exception("x.on_pong", raised(module["on_pong"], None))
        assert [line for line in lines if " raised " in line] == [
            "x.on_timer raised ZeroDivisionError: division by zero",
            "x.on_pong raised ZeroDivisionError: division by zero",
        ]
        now += 61
        lines.clear()
        faults.report_exception("x.on_timer", raised(module["on_timer"], None))
        assert lines[0].endswith("division by zero (and 4 times more since it was last logged)")

    def test_what_a_peer_put_into_it_makes_no_line_of_its_own(self, lines: list[str]) -> None:
        hook = plugin("def on_message(wsi, message):\n    raise ValueError(message)")
        faults.report_exception("x.on_message", raised(hook["on_message"], None, "a\nERR forged\x1b[31m"))
        assert not [line for line in lines if "\n" in line or "\x1b" in line]
        assert not [line for line in lines if line.startswith("ERR")]


class TestAnswer:
    @pytest.mark.parametrize(("answer", "good"), [(-1, True), (1, True), (7, True), (True, False), ("x", False)])
    def test_an_answer_is_an_int_and_no_bool(self, answer: Any, good: bool) -> None:
        assert faults.is_answer(answer) is good

    def test_a_wrong_one_is_named_with_what_is_right(self, lines: list[str]) -> None:
        faults.report_answer("chat.on_message", True, "chat#1 unix")
        assert lines == [
            "chat#1 unix: chat.on_message answered True; a hook answers None or OK (0) to go on, CLOSE (-1) to close"
        ]

    def test_a_long_one_is_cut(self, lines: list[str]) -> None:
        faults.report_answer("chat.on_message", "x" * 10_000)
        assert len(lines[0]) < 300


def test_the_place_of_an_error_is_the_plugins_innermost_line() -> None:
    hook = plugin("from wsd.wire.frames import encode_close\ndef on_timer(wsi):\n    encode_close(1006)")
    assert faults.place_of(raised(hook["on_timer"], None)) == ("/plugins/broken.py", 3)


def test_an_error_of_our_own_has_no_place_in_a_plugin() -> None:
    error = ValueError("never raised")
    assert faults.place_of(error) == ("", 0)


def test_a_bug_of_ours_is_reported_whole(lines: list[str]) -> None:
    faults.report_bug(raised(lambda: [][0]))
    assert lines[0].startswith("a bug in wsd, please report it")
    assert any("IndexError" in line for line in lines)
    assert any("test_faults.py" in line for line in lines)


class TestBeforeItIsCalled:
    def test_an_error_names_the_line_where_the_function_is_defined(self) -> None:
        def hook(wsi: Any) -> None: ...

        error = faults.plugin_error(hook, "wrong")
        assert (error.message, error.file, error.line) == ("wrong", __file__, hook.__code__.co_firstlineno)

    def test_what_has_no_source_has_no_place(self) -> None:
        for where in (3, len, type("Made", (), {})):
            assert faults.plugin_error(where, "wrong").line == 0

    def test_what_takes_the_arguments_is_let_pass(self) -> None:
        faults.check_callable(lambda one, two: None, 2, "echo", "f(one, two)")
        faults.check_callable(lambda *every: None, 2, "echo", "f(one, two)")

    @pytest.mark.parametrize("function", [lambda one: None, lambda one, two, three: None, lambda one, *, two: None])
    def test_what_does_not_is_refused(self, function: Any) -> None:
        with pytest.raises(PluginError, match=r"echo: wrong number of arguments, wanted f\(one, two\)") as caught:
            faults.check_callable(function, 2, "echo", "f(one, two)")
        assert caught.value.file == __file__


class TestPlain:
    """`is_plain` says yes only where a signature would."""

    class Plugin:
        def two(self, first: Any, second: Any = None) -> None: ...

        @staticmethod
        def static(first: Any, second: Any) -> None: ...

        def more(self, *data: Any) -> None: ...

        def named(self, first: Any, second: Any, *, third: Any) -> None: ...

        def yields(self, first: Any, second: Any) -> Iterator[int]:
            yield 1

        async def later(self, first: Any, second: Any) -> None: ...

        @functools.wraps(two)
        def wrapped(self, *data: Any) -> None: ...

        partial = staticmethod(functools.partial(print, 1))

    @pytest.mark.parametrize("name", ["two", "static"])
    def test_a_plain_function(self, name: str) -> None:
        assert faults.is_plain(getattr(self.Plugin(), name), 2)
        assert not faults.is_plain(getattr(self.Plugin(), name), 3)

    @pytest.mark.parametrize("name", ["more", "named", "yields", "later", "wrapped", "partial"])
    def test_any_other(self, name: str) -> None:
        assert not faults.is_plain(getattr(self.Plugin(), name), 2)
