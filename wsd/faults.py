"""What is said when a plugin misbehaves, and when it is written so that it would.

Owns the report in the log (which plugin, which hook, which connection, the traceback cut at wsd's own frames) and the
error that names a function's place before it was ever called.  Must not know what happens to the connection, nor which
hooks there are; that is the caller's.
"""

from __future__ import annotations

import inspect
import time
import traceback
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from wsd import log
from wsd.errors import PluginError

_OURS = f"{Path(__file__).parent}/"
_SHIPPED = f"{_OURS}share/"  # where an installed wsd has its plugins

# One report of a place (file and line) a minute; the rest are counted, so that a broken hook on a busy daemon does
# not drown the log.
_throttle = log.Throttle()

# What a hook may raise without ending the program.  KeyboardInterrupt is the user's, not the plugin's.
CATCHABLE = (Exception, SystemExit, GeneratorExit)


def _is_ours(file: str) -> bool:
    return file.startswith(_OURS) and not file.startswith(_SHIPPED)


def report_exception(where: str, error: BaseException, tag: str = "") -> None:
    """Log at ERR that the hook or function called `where` raised `error`."""
    frames = traceback.extract_tb(error.__traceback__)
    while frames and _is_ours(frames[0].filename):
        del frames[0]
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
    again = _throttle.allow(f"{where} {place}", time.monotonic())
    if again is None:
        return
    text = "".join(traceback.format_exception_only(error)).strip()
    repeated = f" (and {again} times more since it was last logged)" if again else ""
    log.err("%s%s raised %s%s", f"{tag}: " if tag else "", where, text, repeated)
    for line in "".join(traceback.format_list(frames)).splitlines():
        log.err("  %s", line)


def report_bug(error: BaseException) -> None:
    """Log at ERR that wsd itself raised `error`, with the whole traceback."""
    trace = traceback.extract_tb(error.__traceback__)
    place = f"{trace[-1].filename}:{trace[-1].lineno}" if trace else ""
    again = _throttle.allow(f"bug {place}", time.monotonic())
    if again is not None:
        log.err("a bug in wsd, please report it (%d times more since it was last logged)", again)
        for line in "".join(traceback.format_exception(error)).splitlines():
            log.err("  %s", line)


def place_of(error: BaseException) -> tuple[str, int]:
    """File and line, outside wsd, where `error` was raised; `("", 0)` if it was in wsd itself."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    return (frames[-1].filename, frames[-1].lineno or 0) if frames else ("", 0)


def report_answer(where: str, answer: Any, tag: str = "") -> None:
    """Log at ERR that a hook returned something that is no answer."""
    if _throttle.allow(f"{where} answered", time.monotonic()) is not None:
        log.err(
            "%s%s answered %.100r; a hook answers None or OK (0) to go on, CLOSE (-1) to close",
            f"{tag}: " if tag else "",
            where,
            answer,
        )


def is_answer(answer: Any) -> bool:
    """Reports whether a truthy `answer` is CLOSE: any non-zero int but a bool."""
    return isinstance(answer, int) and not isinstance(answer, bool)


# -- before it is called ----------------------------------------------------------------------------------------------


def plugin_error(where: object, message: str) -> PluginError:
    """A PluginError at the line where `where` (a class or function) is defined."""
    try:
        target = inspect.unwrap(where) if callable(where) else where
        file = inspect.getsourcefile(target) or ""  # type: ignore[arg-type]
        code = getattr(target, "__code__", None)
        line = code.co_firstlineno if code else inspect.getsourcelines(target)[1]  # type: ignore[arg-type]
    except (TypeError, OSError):
        return PluginError(message)
    return PluginError(message, file, line)


# What makes more of a function than its count of arguments says.
_UNUSUAL = inspect.CO_VARARGS | inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def is_plain(function: Any, count: int) -> bool:
    """Reports whether `function` surely is a plain one that takes `count` positional arguments: a hundredth of what a
    signature costs, and a start looks at a hundred hooks.  False where only a signature can tell."""
    if isinstance(function, MethodType):
        function, count = function.__func__, count + 1
    if type(function) is not FunctionType or function.__dict__:
        return False  # an attribute may stand for another function, or say that it is a coroutine
    code = function.__code__
    return code.co_argcount == count and not code.co_kwonlyargcount and not code.co_flags & _UNUSUAL


def check_callable(function: Any, count: int, protocol: str, wanted: str) -> None:
    """Raise unless `function` is a plain function that takes exactly `count` positional arguments.

    Args:
        protocol, wanted: For the message: whose it is, and how it should look.

    Raises:
        PluginError: with its place.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise plugin_error(
            function, f"{protocol}: {wanted} must be a plain function; wsd has no event loop to await on"
        )
    if inspect.isgeneratorfunction(function):
        raise plugin_error(function, f"{protocol}: {wanted} must not be a generator")
    if not callable(function):
        raise plugin_error(function, f"{protocol}: {wanted} must be a function, found {type(function).__name__}")
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):  # ValueError: a method without even a `self`
        raise plugin_error(function, f"{protocol}: wrong number of arguments, wanted {wanted}") from None
