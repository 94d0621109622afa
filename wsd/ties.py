"""Connections that end together: a parent and its children.  LWS: `parent_wsi`.

Owns who is tied to whom, and what the others are told when one has ended.  Must not know how a connection is made or
what it speaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsd.wire.closing import DEAD
from wsd.wire.frames import GOING_AWAY, NORMAL, is_close_code

if TYPE_CHECKING:
    from wsd.wsi import Wsi


def tie(child: Wsi, parent: Wsi | None) -> None:
    """Have each of the two closed when the other has ended; one that has ended already ends the child at once."""
    if parent is None:
        return
    if parent._state == DEAD:
        _close(child, parent)
        return
    child._own_rare().parent = parent
    rare = parent._own_rare()
    if rare.children is None:
        rare.children = {}
    rare.children[child] = None


def end(wsi: Wsi) -> None:
    """The reaper has told the plugin of the end of `wsi`: the others follow."""
    parent, children = wsi.parent, wsi.children
    rare = wsi._own_rare()
    rare.parent = rare.children = None
    if parent is not None:
        siblings = parent._own_rare().children
        if siblings is not None:
            siblings.pop(wsi, None)
        _close(parent, wsi)
    for child in children:
        child._own_rare().parent = None
        _close(child, wsi)


def _close(wsi: Wsi, ended: Wsi) -> None:
    """Close `wsi` because `ended` has: it is told the same, as far as that may be said (RFC 6455 7.4.1)."""
    said = ended._peer_close or ended._close
    if said is not None and is_close_code(said[0]):
        wsi.close(*said)
    else:
        # A Close without a code is an end in order all the same; a connection that broke had no last word.
        wsi.close(GOING_AWAY if said is None else NORMAL, "the connection tied to this one has ended")
