"""What a burst of handshakes leaves behind is given back to the system.

Owns when that is done.  Must not know what a handshake is: it is told of each that is over.

While a TLS handshake is under way OpenSSL holds some 50 kB for it, in pieces between which there lies what stays.
Freed, they are holes in the heap, which C's allocator keeps: by itself it gives back nothing but the heap's end.
A crowd of 500 that came at once was measured with 30 to 36 kB for each, and with 24 to 27 once they were given back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

# So many handshakes leave at most 2 MB, for which it is not worth a walk over the heap.
_FEW: Final = 32

# While there come more, the holes are filled again.
_QUIET_SECONDS: Final = 0.1


class Heap:
    """What C's allocator holds for this process.

    Args:
        call_at: The loop's: runs a function so many seconds later.
    """

    def __init__(self, call_at: Callable[[float, Callable[[], None]], object]) -> None:
        self._call_at = call_at
        self._count = 0  # handshakes since it was trimmed
        self._seen = 0  # of these, when the timer was set

    def shaken(self) -> None:
        """A handshake is over."""
        self._count += 1
        if self._count == _FEW:
            self._wait()

    def _wait(self) -> None:
        self._seen = self._count
        self._call_at(_QUIET_SECONDS, self._look)

    def _look(self) -> None:
        if self._count != self._seen:
            self._wait()
            return
        self._count = 0
        trim()


def trim() -> bool:
    """Give back what is free, also in the middle; reports whether there was anything.

    It takes 0.1 ms for each megabyte that goes, and 0.4 us for each hole.  Where C's library is not GNU's, nothing is
    done.
    """
    import ctypes  # 3 ms, of which a start without TLS has no use

    function: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return function is not None and bool(function(0))
