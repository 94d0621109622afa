"""What was measured, as it is kept in a JSON file: a dictionary of the kinds of rows, each by its name.

    {"machine": {...}, "rows": {...}, "memory": {...}, "growth": {...}, "start": {...}, "curves": {...}}

Owns the file's shape and the ratios; must not know how anything is measured or shown.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.rows import SHORT, MemoryRow, Row

if TYPE_CHECKING:
    from bench.servers import Visit

Results = dict[str, Any]

PARTS = ("rows", "memory", "growth", "start", "curves")


def empty() -> Results:
    """Nothing was measured yet."""
    return {part: {} for part in ("machine", *PARTS)}


def load(path: Path) -> Results:
    """What is kept there; nothing yet if there is no file."""
    return {**empty(), **(json.loads(path.read_text()) if path.exists() else {})}


def save(path: Path, results: Results) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def significant(value: float, digits: int = 4) -> float:
    """As many digits as mean something."""
    return float(f"{value:.{digits}g}")


def medians(visits: Sequence[Visit]) -> dict[str, float]:
    return {
        "rate": significant(statistics.median(visit.rate for visit in visits)),
        "cpu_us": significant(statistics.median(visit.cpu_us for visit in visits)),
        "p99_us": statistics.median(visit.p99_us for visit in visits),
    }


def row_result(row: Row, visits: Mapping[str, Sequence[Visit]]) -> dict[str, Any]:
    """One row: the medians of everybody's rounds, and of the rounds' ratios.

    A round visits all servers one after the other, so its ratios are of the same minute.
    """
    ours = visits[row.ours]
    against = {}
    for peer, goal in row.goals.items():
        theirs = visits.get(peer)
        if not theirs:
            continue
        pairs = list(zip(ours, theirs, strict=True))
        against[peer] = {
            "cpu": significant(statistics.median(b.cpu_us / a.cpu_us for a, b in pairs if a.cpu_us), 3),
            "rate": significant(statistics.median(a.rate / b.rate for a, b in pairs if b.rate), 3),
            "cpu_goal": goal.cpu,
            "rate_goal": goal.rate,
        }
    servers = {name: medians(each) for name, each in visits.items()}
    return {
        "title": row.title,
        "ours": row.ours,
        "servers": servers,
        "against": against,
        "bad": _bad(visits),
        "rounds": len(ours),
    }


def memory_result(row: MemoryRow, visits: Mapping[str, Visit]) -> dict[str, Any]:
    """One row of memory: bytes a connection."""
    each = {name: round((visit.held - visit.before) / max(visit.opened, 1)) for name, visit in visits.items()}
    bad = _bad({name: [visit] for name, visit in visits.items()})
    return {"title": row.title, "connections": row.connections, "servers": each, "most": row.most, "bad": bad}


def _bad(visits: Mapping[str, Sequence[Visit]]) -> str:
    """What went wrong, of everybody; empty if nothing did."""
    return "; ".join(f"{name}: {each.bad}" for name, group in visits.items() for each in group if each.bad)


def verdict(part_of_goal: float) -> str:
    """How near a figure comes to its goal: met, short of it, or further off than a row may be."""
    if part_of_goal >= 1:
        return "met"
    return "short" if part_of_goal >= SHORT else "far off"


def row_verdict(against: Mapping[str, float]) -> str:
    """Of both ratios the one that is further off."""
    return verdict(min(against["cpu"] / against["cpu_goal"], against["rate"] / against["rate_goal"]))


def most_verdict(value: float, most: float) -> str:
    """Of a figure that should be small."""
    return verdict(most / value if value > 0 else 1.0)


def complaints(results: Results) -> list[str]:
    """Servers that failed, dropped or miscounted anything."""
    found = []
    for part in PARTS:
        found += [f"{name}: {row['bad']}" for name, row in results[part].items() if row.get("bad")]
    return found
