"""What a process needs of memory at its peak, as the kernel counts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20


def status_bytes(pid: int, key: str) -> int:
    """A size out of /proc/PID/status, for example `VmRSS`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{key}:")]
    return int(line.split()[1]) * 1024


@contextmanager
def grows_less_than(pid: int, size: int) -> Iterator[None]:
    """Fail if the process needed `size` bytes more at any moment of the block than at its beginning."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): forget the peak so far
    before = status_bytes(pid, "VmRSS")
    yield
    grown = status_bytes(pid, "VmHWM") - before
    assert grown < size, f"{grown / MIB:.1f} MiB more at its peak"
