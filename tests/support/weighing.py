"""What one connection needs for itself, in bytes, by what Python says of each object: the same on every machine."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from wsd.context import Context
from wsd.wsi import Wsi


def reached(roots: Iterable[Any], borders: Iterable[int]) -> dict[int, Any]:
    """All that is reached from `roots`, by `id()`; not beyond classes, modules and functions, nor `borders`."""
    found: dict[int, Any] = {}
    left = list(roots)
    outside = set(borders)
    while left:
        one = left.pop()
        is_method_in_c = isinstance(one, BuiltinFunctionType) and not isinstance(one.__self__, ModuleType)
        if isinstance(one, type | ModuleType | FunctionType | BuiltinFunctionType) and not is_method_in_c:
            continue
        if id(one) not in found and id(one) not in outside:
            found[id(one)] = one
            left += gc.get_referents(one)
    return found


def weigh(context: Context, wsi: Wsi) -> Counter[str]:
    """Bytes by class, of `wsi` and all that nothing else of the context reaches: not the others, whom it needs beside
    it, nor what they have in common.  Tables with an entry for each are not counted."""
    others = [other for other in context._wsis if other is not wsi]
    assert others
    listener = context._table[wsi.fileno()]
    shared = reached([context, *others], [id(wsi), id(listener)])
    weights: Counter[str] = Counter()
    for one in reached([wsi, listener], shared).values():
        weights[type(one).__name__] += sys.getsizeof(one)
    return weights
