"""What a process costs, as the kernel counts it: processor time and private memory, its descendants' included."""

from __future__ import annotations

import os
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def process_tree(pid: int) -> list[int]:
    """`pid` and its live descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                pass
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time of the tree, user and system, in seconds."""
    return sum(_cpu_seconds(one) for one in process_tree(pid))


def _cpu_seconds(pid: int) -> float:
    """Of one process: in nanoseconds where the kernel tells them, else in its ticks of 10 ms."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0  # it has ended
    return (int(fields[11]) + int(fields[12])) / TICK


def private_bytes(pid: int) -> int:
    """Memory that the tree has for itself, in bytes."""
    return sum(_rollup(one, "Private_Clean", "Private_Dirty") for one in process_tree(pid))


def resident_bytes(pid: int) -> int:
    """Memory of one process that is in RAM, shared or not: what `ps` calls RSS."""
    return _rollup(pid, "Rss")


def _rollup(pid: int, *names: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(names))
