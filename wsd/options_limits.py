"""The options that bound what one peer can cost: sizes, numbers, rates and times, for all, for the connections of one
listener, and for one protocol.

Owns those tables.  Must not know what enforces them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from wsd.clashes import limit_clashes
from wsd.kinds import RateOrOff, Seconds, SecondsOrOff, Size, SizeOrNone
from wsd.problems import clash_error
from wsd.table import Table

HeadBytes = Annotated[int, Field(ge=512, le=1 << 20)]
Headers = Annotated[int, Field(ge=1, le=10_000)]
UriBytes = Annotated[int, Field(ge=16, le=1 << 20)]


class Limits(Table):
    """What one peer can make the daemon hold and do.  Each limit is one kind of attack that does not work.

    `wsd status` tells how often each was met: over_max_message_bytes and so on, queue_overflows for `max_queue_bytes`,
    accept_pauses for `max_connections`; rate_pauses tells how often reading paused for a rate.  [listen.limits] and
    [protocols.NAME.limits] can set others for the connections of a listener and of a protocol.
    """

    max_connections: int = Field(0, ge=0)
    """Connections at one time.  Stops floods of connections from taking every descriptor, and the log's and the
    plugins' with them.  At the limit accepting pauses, and newcomers wait in the listener's backlog.  0: what the
    limit of open files allows (LimitNOFILE= of the unit, `ulimit -n`), less those that wsd and its plugins hold and
    a reserve.  For a higher number wsd raises its soft limit, as far as the hard limit lets it.  The start and `wsd
    status` tell the number, and what it is made of."""

    max_handshakes: Size = 4096
    """Connections that may be in their handshake at one time: no request has come whole, and on a raw listener no
    TLS handshake is done.  Stops those who open connections and say nothing, so that others find none left.  At the
    limit the one that has taken longest is closed for each newcomer, if it has taken more than a second; otherwise
    accepting pauses until one is done.  It is never more than half of the connections there may be, where that is more
    than 64."""

    max_connections_per_address: SizeOrNone = 0
    """Connections that one address may have at one time; for IPv6 one /64, which is what a subscriber gets.  Stops
    one machine from taking all connections that there are.  One too many is hung up on, or gets 429 where a request
    was read.  Many people may share an address, behind a proxy all of them: see `trusted_proxies`.  0: no limit."""

    max_handshakes_per_second: RateOrOff = 0
    """Connections that one address, or one /64, may open in a second, and at once.  Stops one machine from keeping
    the daemon busy with handshakes, those of TLS above all.  One too many is hung up on, or gets 429.  0: no
    limit."""

    max_message_bytes: SizeOrNone = 1_048_576
    """The largest message that a peer may send, after inflating; a larger one gets Close 1009, from its header on
    where that tells.  Stops messages that fill the memory, and compressed ones that come to a thousand times their
    size.  A plugin can set another.  0: no limit, only for protocols that take messages piece by piece
    (on_receive)."""

    max_frame_bytes: SizeOrNone = 0
    """The largest frame that a message may come in, as it is on the wire; a larger one gets Close 1009, from its
    header on.  Stops a peer that announces a huge frame and then sends it byte by byte, where `max_message_bytes` is
    large or off.  0: no limit but that of the message."""

    max_queue_bytes: Size = 1_048_576
    """What may wait in wsd's memory for one peer to read.  Stops peers that ask for much and read nothing.  A
    message is taken while the queue is below this, whatever its own size; a peer whose queue is full is closed with
    1008.  Times the number of connections it is the most memory that slow readers can cost; see also
    `slow_reader_seconds`."""

    max_fragments: Size = 4096
    """Frames that one message may be cut into; more get Close 1008.  Stops floods of empty fragments, which cost a
    peer nothing and the daemon some work each."""

    max_control_frames_per_second: RateOrOff = 1000
    """Pings and pongs that a peer may send in a second.  Stops ping floods: each ping costs the daemon an answer.
    Over it happens what `max_messages_per_second` says.  Real clients send one every few seconds.  0: no limit."""

    max_messages_per_second: RateOrOff = 0
    """Messages that a peer may send in a second.  Stops floods of small messages, of which each costs a hook of the
    plugin and a thousand cost the sender nothing.  Over it reading pauses, so that the peer is slowed down to the
    rate; who keeps pushing for `over_rate_seconds` gets Close 1008.  A second's worth may come at once.  0: no
    limit."""

    max_bytes_per_second: RateOrOff = 0
    """Bytes of messages that a peer may send in a second, counted after inflating.  Stops a peer that takes the
    whole line, or the plugin's time, with large messages.  Over it happens what `max_messages_per_second` says.  A
    message of more than `over_rate_seconds` times this can never come in time, so keep `max_message_bytes` below.
    0: no limit."""

    max_memory_bytes: SizeOrNone = 268_435_456
    """What all connections together may hold: bytes that wait for their peers to read, messages that have come in
    part, and what was read and not delivered.  Stops many peers that each stay below their own limits: a thousand
    that announce a message of a megabyte and send it byte by byte, a thousand that never read.  Over it the
    connection that holds most is closed with 1013 (try again later), or cut if its peer does not read, and then the
    next one.  What compression keeps is not counted: it has its own bounds in [listen.compression].  0: no limit."""

    max_head_bytes: HeadBytes = 16_384
    """The largest head of an HTTP request, all its lines together; a larger one gets 431.  Stops heads without an
    end, and large ones, since a head is kept as long as its connection lives.  Large cookies are the usual reason to
    raise it."""

    max_headers: Headers = 100
    """Header lines in one request; more get 431.  Stops requests whose thousands of lines cost time and memory
    each."""

    max_uri_bytes: UriBytes = 8192
    """The longest path and query of a request; a longer one gets 414.  Stops what is aimed at whatever reads
    addresses: plugins, logs.  Part of `max_head_bytes`."""

    max_body_bytes: SizeOrNone = 1_048_576
    """The largest body of an HTTP request; a larger one gets 413.  Stops uploads that nobody wants.  0: none but an
    empty one.  Only plugins with on_http_body see bodies."""

    @model_validator(mode="after")
    def _clashes(self) -> Limits:
        if clashes := list(limit_clashes(self)):
            raise clash_error(clashes)
        return self


class Timeouts(Table):
    """How long the daemon waits for a peer, in seconds; fractions are allowed.

    [listen.timeouts] and [protocols.NAME.timeouts] can set others.  They are counted as limits are: over_idle_seconds
    and so on, slow_readers for `slow_reader_seconds`.
    """

    tls_handshake_seconds: Seconds = 5
    """From accepting a connection to the end of its TLS handshake, where TLS is spoken.  Stops peers that begin one
    and leave it there, each of which would hold a descriptor and what OpenSSL needs."""

    handshake_seconds: Seconds = 5
    """From accepting a connection, or the end of its TLS handshake, to its whole request head, however slowly the
    bytes come.  Stops heads that are sent a byte at a time (slowloris)."""

    first_message_seconds: SecondsOrOff = 0
    """From the opening of a WebSocket that came in to the end of its peer's first message, where a plugin's peers
    speak first.  Stops those that open connections only to hold them.  Then: Close 1008.  0: no limit."""

    idle_seconds: SecondsOrOff = 0
    """How long a WebSocket that came in may go without a message either way; pings are none.  Stops peers that hold
    connections and answer pings for ever.  Then: Close 1001; a client may connect again.  0: no limit, since many
    protocols are silent for hours; peers that are gone are found by [keepalive]."""

    session_seconds: SecondsOrOff = 0
    """How long a WebSocket that came in may live.  Stops one that was let in once from staying after its password or
    token has changed.  Then: Close 1001; a client may connect again, and is asked again.  0: no limit."""

    over_rate_seconds: Seconds = 10
    """How long a peer may go on against max_messages_per_second, max_bytes_per_second or
    max_control_frames_per_second until it gets Close 1008.  Stops floods that being slowed down does not end.  It
    starts anew when reading has not been paused for a second."""

    close_seconds: Seconds = 5
    """For the closing handshake: the peer's answer to a Close, and then the end of the connection.  Stops peers that
    are told to go and stay.  Also how long a stop waits for everybody, so keep TimeoutStopSec= of the unit above
    it."""

    http_idle_seconds: Seconds = 60
    """For the next request on an HTTP connection that is kept alive.  Stops those that hold connections with one
    request each."""

    body_seconds: Seconds = 30
    """For the body of a request, from its head to its last byte.  Stops bodies that are sent a byte at a time."""

    slow_reader_seconds: Seconds = 30
    """How long a peer may read nothing while something waits for it.  Stops peers that ask and never read: then it
    is cut off, and the others never notice it."""


class ProtocolLimits(Table):
    """Limits of one protocol, in place of those in [limits] and [listen.limits].

    Those of HTTP heads and bodies are not here: they hold before it is known which protocol is asked for.
    """

    max_message_bytes: SizeOrNone | None = Field(None, examples=[65536])
    """See [limits]; 0, no limit, only if the plugin has on_receive."""

    max_frame_bytes: SizeOrNone | None = Field(None, examples=[16384])
    """See [limits]."""

    max_queue_bytes: Size | None = Field(None, examples=[262144])
    """See [limits]."""

    max_fragments: Size | None = Field(None, examples=[64])
    """See [limits]."""

    max_control_frames_per_second: RateOrOff | None = Field(None, examples=[10])
    """See [limits]."""

    max_messages_per_second: RateOrOff | None = Field(None, examples=[100])
    """See [limits]."""

    max_bytes_per_second: RateOrOff | None = Field(None, examples=[1_000_000])
    """See [limits]."""


class ListenLimits(ProtocolLimits):
    """Limits of the connections that come in through this listener, in place of those in [limits]: stricter ones
    where the world can connect, wider ones for a backend.  [protocols.NAME.limits] wins over them."""

    max_message_bytes: Size | None = Field(None, examples=[65536])
    """See [limits].  No limit at all is for [protocols.NAME.limits] to say, since not every plugin can be
    without."""

    max_head_bytes: HeadBytes | None = Field(None, examples=[8192])
    """See [limits]."""

    max_headers: Headers | None = Field(None, examples=[50])
    """See [limits]."""

    max_uri_bytes: UriBytes | None = Field(None, examples=[2048])
    """See [limits]."""

    max_body_bytes: SizeOrNone | None = Field(None, examples=[0])
    """See [limits]."""

    @model_validator(mode="after")
    def _clashes(self) -> ListenLimits:
        if clashes := list(limit_clashes(self)):
            raise clash_error(clashes)
        return self


class ProtocolTimeouts(Table):
    """Timeouts of one protocol, in place of those in [timeouts] and [listen.timeouts]."""

    close_seconds: Seconds | None = Field(None, examples=[2])
    """See [timeouts]."""

    slow_reader_seconds: Seconds | None = Field(None, examples=[10])
    """See [timeouts]."""

    first_message_seconds: SecondsOrOff | None = Field(None, examples=[10])
    """See [timeouts]."""

    idle_seconds: SecondsOrOff | None = Field(None, examples=[600])
    """See [timeouts]."""

    session_seconds: SecondsOrOff | None = Field(None, examples=[28800])
    """See [timeouts]."""

    over_rate_seconds: Seconds | None = Field(None, examples=[5])
    """See [timeouts]."""


class ListenTimeouts(ProtocolTimeouts):
    """Timeouts of the connections that come in through this listener, in place of those in [timeouts].
    [protocols.NAME.timeouts] wins over them."""

    tls_handshake_seconds: Seconds | None = Field(None, examples=[10])
    """See [timeouts]."""

    handshake_seconds: Seconds | None = Field(None, examples=[10])
    """See [timeouts]."""

    http_idle_seconds: Seconds | None = Field(None, examples=[10])
    """See [timeouts]."""

    body_seconds: Seconds | None = Field(None, examples=[10])
    """See [timeouts]."""
