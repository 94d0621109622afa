"""The table: every server of a row under the row's load, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.building import Missing
from bench.results import medians, memory_result, row_result
from bench.rows import CONNECTIONS, HELD, PEERS, WSD, Kind, MemoryRow, Row
from bench.servers import WARMUP_SECONDS, Server, Visit

Say = Callable[[str], None]

# A server that takes 20 µs a message is once through so many connections in 60 ms, and a second holds many such rounds;
# of more connections each visit takes longer, or a message received before it began would count as one for nothing.
_CROWD = 3000

# Memory does not change while nothing happens.
_IDLE_SECONDS = 0.2


@contextmanager
def serving(names: Iterable[str], kind: Kind, say: Say) -> Iterator[list[Server]]:
    """Fresh servers, all at once; one that waits for its turn costs nothing.  Who cannot be built is left out."""
    with ExitStack() as stack:
        servers = []
        for name in names:
            try:
                servers.append(stack.enter_context(Server(name, kind)))
            except Missing as missing:
                say(f"without {name}: {missing}")
        yield servers


def _in_turns(
    servers: Sequence[Server], load: str, connections: int, seconds: float, rounds: int
) -> dict[str, list[Visit]]:
    """So that a machine that slows down slows them all."""
    times = max(1.0, connections / _CROWD)
    visits: dict[str, list[Visit]] = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            visits[server.name].append(server.visit(load, seconds * times, WARMUP_SECONDS * times))
    return visits


def measure_row(row: Row, seconds: float, rounds: int, say: Say) -> dict[str, Any]:
    with serving((row.ours, *row.goals), row.kind, say) as servers:
        return row_result(row, _in_turns(servers, row.load, row.connections, seconds, rounds))


def measure_memory(row: MemoryRow, say: Say) -> dict[str, Any]:
    """Once, at servers that nobody has visited: a second visit would find the memory of the first one."""
    load = f"--mode idle --conns {row.connections} --sources 8" + (" --tls" if row.kind == "tls" else "")
    with serving((WSD, *PEERS), row.kind, say) as servers:
        return memory_result(row, {server.name: server.visit(load, _IDLE_SECONDS) for server in servers})


def measure_busy_curve(seconds: float, rounds: int, limit: int, say: Say) -> dict[str, Any]:
    """Rate, latency and processor time over the number of busy connections."""
    points: dict[str, dict[int, dict[str, float]]] = {}
    with serving((WSD, *PEERS), "plain", say) as servers:
        for connections in [number for number in CONNECTIONS if number < limit]:
            load = f"--mode echo --size 64 --conns {connections} --sources 8"
            for name, visits in _in_turns(servers, load, connections, seconds, rounds).items():
                points.setdefault(name, {})[connections] = medians(visits)
    return {"points": points}


def measure_memory_curve(limit: int, say: Say) -> dict[str, Any]:
    """All private memory over the number of idle connections, fewest first, so that no memory is used again."""
    points: dict[str, dict[int, int]] = {}
    with serving((WSD, *PEERS), "plain", say) as servers:
        for server in servers:
            points[server.name] = {}
            for connections in [number for number in HELD if number < limit]:
                load = f"--mode idle --conns {connections} --sources 8"
                points[server.name][connections] = server.visit(load, _IDLE_SECONDS).held
    return {"points": points}
