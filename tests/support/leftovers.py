"""What a test may leave behind: descriptors, threads, processes.  Read from /proc, so nothing has to register."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import NamedTuple

MARK = "WSD_TEST_RUN"
"""The environment variable by which processes of this test run are found, detached ones too."""

STANDING: set[int] = set()
"""Processes that the tests of a module share, which is no fault; who starts one says so here, and ends it."""


class Snapshot(NamedTuple):
    descriptors: dict[int, str]
    threads: set[threading.Thread]
    processes: dict[int, str]


def snapshot(everywhere: bool) -> Snapshot:
    """What there is now; `everywhere`: look for detached processes too, not only for children."""
    return Snapshot(_descriptors(), set(threading.enumerate()), _processes(everywhere))


def since(before: Snapshot, everywhere: bool) -> list[str]:
    """A line for each thing that is there now and was not there in `before`."""
    now = snapshot(everywhere)
    return [
        *(f"descriptor {fd}: {what}" for fd, what in now.descriptors.items() if before.descriptors.get(fd) != what),
        *(f"thread {thread.name}" for thread in now.threads - before.threads),
        *(
            f"process {pid}: {what}"
            for pid, what in now.processes.items()
            if pid not in before.processes and pid not in STANDING
        ),
    ]


def _descriptors() -> dict[int, str]:
    """Open descriptors and what they are, without the one that lists them."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass
    return found


def _processes(everywhere: bool) -> dict[int, str]:
    """Our children, zombies too, and with `everywhere` all other processes that carry our mark."""
    pids = {int(pid) for task in Path("/proc/self/task").iterdir() for pid in _read(task / "children").split()}
    if everywhere:
        mark = f"{MARK}={os.getpid()}\0".encode()
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid() and mark in _read(Path("/proc", name, "environ")):
                pids.add(int(name))
    return {pid: _read(Path(f"/proc/{pid}/cmdline")).replace(b"\0", b" ").decode(errors="replace") for pid in pids}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile, or belongs to somebody else
        return b""
