"""One message to many connections: what a broadcast costs each of its receivers.

Owns the loop over them, in C where that was compiled (`wsd/_broadcast.c`), else what stands here, which is what it
does.  Nearly all of them are the plain case, where a frame that is there already goes behind what leaves in this turn:
28 ns a receiver in C, 155 ns here, and 260 ns by a call of `send_shared` for each.  Who is not goes the long way.  Must
not know what a message is, nor what becomes of those who cannot take it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from wsd.budget import Budget
from wsd.straight import Straight
from wsd.stream import LOW_WATER
from wsd.transport import Output
from wsd.wire.closing import OPEN

if TYPE_CHECKING:
    from wsd.context import Context
    from wsd.wsi import Wsi


def spread_in_python(context: Context, wsis: Iterable[Wsi], framed: bytes, listed: list[Wsi], /) -> list[Wsi]:
    """Hot: set a frame aside for each of `wsis` where it leaves in this turn, behind nothing but what is set aside.

    Args:
        context: Whose they are: those of another one go the long way.
        wsis: The receivers.
        framed: One whole frame, as a server sends it.
        listed: Gets those that were not on the context's write list: the caller puts them there.

    Answers those that need the long way, in their order.  They, and not an error, are also what is no wsi at all.

    Raises:
        TypeError: `wsis` cannot be gone through.
    """
    rest: list[Wsi] = []
    size = len(framed)
    for wsi in tuple(wsis):
        if isinstance(wsi, Straight) and wsi.context is context and wsi._may_put():
            output = wsi._output
            output.buffers.append(framed)
            output.size += size
            if not wsi._is_listed:
                wsi._is_listed = True
                listed.append(wsi)
        else:
            rest.append(wsi)
    return rest


spread: Any
try:
    from wsd._native import make_spread
except ImportError:
    spread = spread_in_python
else:
    spread = make_spread(Straight, Output, Budget, OPEN, LOW_WATER)
