"""The options that bound what one peer can cost: sizes, numbers and times, for all, and for one protocol.

Owns those tables.  Must not know what enforces them.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from wsd.clashes import limit_clashes
from wsd.kinds import Seconds, Size, SizeOrNone
from wsd.problems import clash_error
from wsd.table import Table


class Limits(Table):
    """What one peer can make the daemon hold.  Each limit is one kind of attack that does not work."""

    max_connections: int = Field(0, ge=0)
    """Connections at one time.  At the limit accepting pauses, and newcomers wait in the listener's backlog.  0: what
    the limit of open files allows (LimitNOFILE= of the unit, `ulimit -n`), less those that wsd and its plugins hold and
    a reserve.  For a higher number wsd raises its soft limit, as far as the hard limit lets it.  The start and `wsd
    status` tell the number, and what it is made of."""

    max_message_bytes: SizeOrNone = 1_048_576
    """The largest message that a peer may send; a larger one gets Close 1009, from its header on where that tells.  A
    plugin, and [protocols.NAME.limits], can set another.  0: no limit, only for protocols that take messages piece by
    piece (on_receive)."""

    max_queue_bytes: Size = 1_048_576
    """What may wait in wsd's memory for one peer to read.  A message is taken while the queue is below this, whatever
    its own size; a peer whose queue is full is closed with 1008.  Times the number of connections it is the most memory
    that slow readers can cost; see also `slow_reader_seconds`."""

    max_fragments: Size = 4096
    """Frames that one message may be cut into: empty fragments cost a peer nothing and the daemon some work each.  More
    gets Close 1008."""

    max_head_bytes: int = Field(16_384, ge=512, le=1 << 20)
    """The largest head of an HTTP request, all its lines together; a larger one gets 431.  It is kept as long as the
    connection lives.  Large cookies are the usual reason to raise it."""

    max_headers: int = Field(100, ge=1, le=10_000)
    """Header lines in one request; more get 431."""

    max_uri_bytes: int = Field(8192, ge=16, le=1 << 20)
    """The longest path and query of a request; a longer one gets 414.  Part of `max_head_bytes`."""

    max_body_bytes: SizeOrNone = 1_048_576
    """The largest body of an HTTP request; a larger one gets 413.  0: none but an empty one.  Only plugins with
    on_http_body see bodies."""

    @model_validator(mode="after")
    def _clashes(self) -> Limits:
        if clashes := list(limit_clashes(self)):
            raise clash_error(clashes)
        return self


class Timeouts(Table):
    """How long the daemon waits for a peer, in seconds; fractions are allowed."""

    handshake_seconds: Seconds = 5
    """From accepting a connection to its whole request head, however slowly the bytes come."""

    close_seconds: Seconds = 5
    """For the closing handshake: the peer's answer to a Close, and then the end of the connection.  Also how long a
    stop waits for everybody, so keep TimeoutStopSec= of the unit above it."""

    http_idle_seconds: Seconds = 60
    """For the next request on an HTTP connection that is kept alive."""

    body_seconds: Seconds = 30
    """For the body of a request, from its head to its last byte."""

    slow_reader_seconds: Seconds = 30
    """How long a peer may read nothing while something waits for it.  Then it is closed; the others never notice it.
    [protocols.NAME.timeouts] can set another."""


class ProtocolLimits(Table):
    """Limits of one protocol, in place of those in [limits]."""

    max_message_bytes: SizeOrNone | None = Field(None, examples=[65536])
    """See [limits]; 0, no limit, only if the plugin has on_receive."""

    max_queue_bytes: Size | None = Field(None, examples=[262144])
    """See [limits]."""

    max_fragments: Size | None = Field(None, examples=[64])
    """See [limits]."""


class ProtocolTimeouts(Table):
    """Timeouts of one protocol, in place of those in [timeouts]."""

    close_seconds: Seconds | None = Field(None, examples=[2])
    """See [timeouts]."""

    slow_reader_seconds: Seconds | None = Field(None, examples=[10])
    """See [timeouts]."""
