"""The C functions beside their Python twins, whichever of them wsd itself runs on."""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from wsd import loop, syscalls
from wsd.wire import twin


def find_extension(name: str) -> ModuleType | None:
    """An extension of wsd's, loaded aside if WSD_PURE keeps wsd from it; None: it was not compiled."""
    spec = importlib.util.find_spec(f"wsd.{name}")
    if spec is None or spec.loader is None:
        return None
    with mock.patch.dict(os.environ):
        os.environ.pop("WSD_PURE", None)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def require_extension(module: ModuleType | None, name: str) -> Any:
    """The extension; without it the test is skipped, saying how to get it.  With CI=true a skip is a failure."""
    if module is None:
        pytest.skip(f"wsd/{name}.c is not compiled: apt-get install gcc python3-dev, then make test anew")
    return module


NATIVE = find_extension("_native")


def require_native() -> Any:
    """As `require_extension`."""
    return require_extension(NATIVE, "_native")


class Twins:
    """The Python functions under the names that they have in C."""

    mask = staticmethod(twin.mask)
    is_utf8 = staticmethod(twin.is_utf8)
    parse = staticmethod(twin.parse)
    frame = staticmethod(twin.frame)
    receive = staticmethod(syscalls.receive_in_python)
    receive_payload = staticmethod(syscalls.receive_payload_in_python)
    send = staticmethod(syscalls.send_in_python)
    rest = staticmethod(loop.rest_in_python)
    serve_events = staticmethod(loop.serve_events_in_python)
    serve_writers = staticmethod(loop.serve_writers_in_python)


TWINS: Any = Twins
