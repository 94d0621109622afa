"""The functions that every byte goes through, in C where that was compiled, else in Python (`twin.py`).

Owns which of both runs, and nothing else.  With WSD_PURE=1 in the environment the extension refuses to be imported.
"""

from __future__ import annotations

try:
    from wsd._native import frame, is_utf8, mask, parse
except ImportError:
    from wsd.wire.twin import frame, is_utf8, mask, parse

IMPLEMENTATION = "pure Python" if mask.__module__ == "wsd.wire.twin" else "C functions"
"""Which of both it is, in words."""

__all__ = ["IMPLEMENTATION", "frame", "is_utf8", "mask", "parse"]
