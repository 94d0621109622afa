"""The rows of the table, as data: what is done, how many times over, and how far ahead of whom wsd wants to be.

A goal is a ratio in one run, above 1 where wsd is ahead: of processor time a message theirs by ours, of the rate ours
by theirs.  Owns no way of measuring anything.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["plain", "tls", "deflate"]
"""What a server has switched on: nothing, TLS, permessage-deflate."""

LWS, PICOWS, WEBSOCKETS = "lws", "picows", "websockets"
PEERS: Final = (LWS, PICOWS, WEBSOCKETS)
WSD, PURE = "wsd", "wsd-pure"


class Goal(NamedTuple):
    """The least ratio of processor time a message, and of the rate."""

    cpu: float
    rate: float


class Row(NamedTuple):
    """One workload.

    Attributes:
        name: As it is picked by `--rows`.
        title: As it stands in the table.
        load: Options of wsload; how long it takes is the runner's.
        connections: How many it opens, for which the descriptors must suffice.
        goals: By peer; who is not in it is not measured.
        ours: What is measured against them: wsd, or wsd without its C functions.
    """

    name: str
    title: str
    load: str
    connections: int
    goals: dict[str, Goal]
    kind: Kind = "plain"
    ours: str = WSD


class MemoryRow(NamedTuple):
    """Idle connections: the private memory that each costs the server.

    Attributes:
        most: Bytes that one may cost wsd.
    """

    name: str
    title: str
    connections: int
    most: int
    kind: Kind = "plain"


_PICOWS: Final = Goal(1.2, 1.2)
_WEBSOCKETS: Final = Goal(4.0, 4.0)


def _goals(lws: Goal, picows: Goal = _PICOWS, websockets: Goal = _WEBSOCKETS) -> dict[str, Goal]:
    return {LWS: lws, PICOWS: picows, WEBSOCKETS: websockets}


# More addresses to come from than one, where thousands of connections, or of connections in TIME_WAIT, would use up the
# ports of one.
_MANY: Final = "--sources 8"

ROWS: Final = (
    Row("echo", "echo, 64 B, 100 connections", "--mode echo --conns 100 --size 64", 100, _goals(Goal(1.0, 1.0))),
    Row(
        "pipelined",
        "echo, 64 B, 10 connections, 32 in flight on each",
        "--mode echo --conns 10 --depth 32 --size 64",
        10,
        _goals(Goal(2.0, 1.5)),
    ),
    Row("large", "echo, 65 000 B, 10 connections", "--mode echo --conns 10 --size 65000", 10, _goals(Goal(1.5, 1.5))),
    Row(
        "crowd-1000",
        "echo, 64 B, 1000 connections",
        "--mode echo --conns 1000 --size 64",
        1000,
        _goals(Goal(1.0, 1.0)),
    ),
    Row(
        "crowd-10000",
        "echo, 64 B, 10 000 connections",
        f"--mode echo --conns 10000 --size 64 {_MANY}",
        10_000,
        _goals(Goal(1.0, 1.0)),
    ),
    Row(
        "broadcast",
        "broadcast, 64 B, one publisher, 500 receivers",
        "--mode broadcast --protocol lws-mirror-protocol --conns 500 --size 64",
        500,
        _goals(Goal(1.2, 1.2), websockets=Goal(2.5, 2.5)),
    ),
    Row(
        "connect",
        "connect, upgrade and close, 50 at a time",
        f"--mode connect --conns 50 {_MANY}",
        50,
        _goals(Goal(1.2, 1.2)),
    ),
    Row(
        "tls-echo",
        "TLS: echo, 64 B, 100 connections",
        "--tls --mode echo --conns 100 --size 64",
        100,
        _goals(Goal(1.0, 1.0)),
        "tls",
    ),
    Row(
        "tls-connect",
        "TLS: connect, upgrade and close, 50 at a time",
        f"--tls --mode connect --conns 50 {_MANY}",
        50,
        # The rate is the client's, whose half of the handshake takes longer than the server's.
        _goals(Goal(1.5, 1.0)),
        "tls",
    ),
    Row(
        "compressed",
        "compressed: echo, 1 kB of JSON, 100 connections",
        "--deflate --text --mode echo --conns 100 --size 1000",
        100,
        # picows has no permessage-deflate.
        {LWS: Goal(1.5, 1.5), WEBSOCKETS: Goal(1.4, 1.4)},
        "deflate",
    ),
    Row(
        "pure",
        "without the C functions: echo, 64 B, 100 connections",
        "--mode echo --conns 100 --size 64",
        100,
        {WEBSOCKETS: Goal(2.0, 2.0)},
        ours=PURE,
    ),
)

MEMORY_ROWS: Final = (
    MemoryRow("idle", "an idle connection", 5000, 2000),
    MemoryRow("tls-idle", "an idle connection with TLS", 500, 25_000, "tls"),
)

SHORT: Final = 0.8
"""No row may fall below this part of its goal; one that is only below its goal says why in docs/performance.md."""

# -- how cost grows ---------------------------------------------------------------------------------------------------

CONNECTIONS: Final = (10, 100, 1000, 3000, 10_000)
"""Busy connections of the plots of rate and p99: an echo of 64 B on each."""

HELD: Final = (100, 1000, 3000, 10_000)
"""Idle connections of the plot of memory."""
