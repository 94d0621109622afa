"""How a connection ends, as a table: RFC 6455 section 7 for the frames, and what TCP adds to it.

Owns the states, what can happen in each, and what comes next.  Must not know who acts on it: `Stream._move` is the one
place where a state changes.

The states come in the order of their numbers: one may be skipped, none comes back.  `is a note` means that nothing is
sent yet: what was sent before still leaves first.
"""

from __future__ import annotations

from typing import Final

# -- states -----------------------------------------------------------------------------------------------------------

HTTP: Final = 0  # no WebSocket yet: a role reads and writes, or a client connects
OPEN: Final = 1
CLOSING: Final = 2  # our Close is a note, the peer's has not come
ANSWERING: Final = 3  # our last words are a note, and nothing is awaited after them
ANSWERING_ENDED: Final = 4  # the same, and the peer's stream has ended
CLOSE_SENT: Final = 5  # our Close is put, the peer's is awaited
FINISHING: Final = 6  # nothing more will be put; what was put leaves
FINISHING_ENDED: Final = 7  # the same, and the peer's stream has ended
DRAINING: Final = 8  # all has left; input is discarded until its end, since a close with unread input is a reset
DEAD: Final = 9  # waiting for the reaper

STATES: Final = (
    "HTTP",
    "OPEN",
    "CLOSING",
    "ANSWERING",
    "ANSWERING_ENDED",
    "CLOSE_SENT",
    "FINISHING",
    "FINISHING_ENDED",
    "DRAINING",
    "DEAD",
)
"""Their names, for the log."""

# -- events -----------------------------------------------------------------------------------------------------------

UPGRADED: Final = "upgraded"  # the opening handshake is done
FINISH: Final = "finish"  # the role has said its last
LOCAL_CLOSE: Final = "local close"  # we want to close: a plugin, a limit, a stop
PEER_CLOSE: Final = "peer close"  # the peer's Close frame came
VIOLATION: Final = "violation"  # the peer broke the protocol
PEER_END: Final = "peer end"  # the peer's stream ended (FIN)
PUT: Final = "put"  # our last frame is put behind what was sent before it
FLUSHED: Final = "flushed"  # the kernel has all of it
DONE: Final = "done"  # the kernel has all of it, and the peer, whose Close came, has sent nothing behind that
DEADLINE: Final = "deadline"  # it took too long
LOST: Final = "lost"  # reset, unreachable, or given up

EVENTS: Final = (UPGRADED, FINISH, LOCAL_CLOSE, PEER_CLOSE, VIOLATION, PEER_END, PUT, FLUSHED, DONE, DEADLINE, LOST)

NEXT: Final[tuple[dict[str, int], ...]] = (
    # HTTP.  The role hears of the peer's end and of its deadline, and finishes or goes on.
    {UPGRADED: OPEN, FINISH: FINISHING, LOST: DEAD},
    # OPEN.  "Upon [...] receiving a Close control frame, it is said that _The WebSocket Closing Handshake is Started_"
    # (7.1.3).  A stream that ends without a Close is 1006 to us, and nobody to send a Close to.
    {
        LOCAL_CLOSE: CLOSING,
        PEER_CLOSE: ANSWERING,
        VIOLATION: ANSWERING,
        PEER_END: ANSWERING_ENDED,
        LOST: DEAD,
    },
    # CLOSING.  Close crosses Close: ours is sent all the same, and answers theirs.
    {
        PEER_CLOSE: ANSWERING,
        VIOLATION: ANSWERING,
        PEER_END: ANSWERING_ENDED,
        PUT: CLOSE_SENT,
        DEADLINE: DEAD,
        LOST: DEAD,
    },
    # ANSWERING.  "An endpoint MUST NOT continue to attempt to process data (including a responding Close frame) from
    # the remote endpoint after being instructed to _Fail the WebSocket Connection_" (7.1.7): no more Closes are heard.
    {PEER_END: ANSWERING_ENDED, PUT: FINISHING, DONE: DEAD, DEADLINE: DEAD, LOST: DEAD},
    # ANSWERING_ENDED.
    {PUT: FINISHING_ENDED, DEADLINE: DEAD, LOST: DEAD},
    # CLOSE_SENT.  "After both sending and receiving a Close message, an endpoint considers the WebSocket connection
    # closed" (5.5.1).
    {
        PEER_CLOSE: FINISHING,
        VIOLATION: FINISHING,
        PEER_END: FINISHING_ENDED,
        DEADLINE: DEAD,
        LOST: DEAD,
    },
    # FINISHING.
    {PEER_END: FINISHING_ENDED, FLUSHED: DRAINING, DONE: DEAD, DEADLINE: DEAD, LOST: DEAD},
    # FINISHING_ENDED.
    {FLUSHED: DEAD, DEADLINE: DEAD, LOST: DEAD},
    # DRAINING.
    {PEER_END: DEAD, DEADLINE: DEAD, LOST: DEAD},
    # DEAD.
    {},
)
"""By state, what each event leads to; an event that is not there changes nothing."""
