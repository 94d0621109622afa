"""From the command to listening: time beside what importing the libraries alone takes, and memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from bench.processes import resident_bytes
from bench.results import significant
from bench.rows import WSD
from bench.servers import Server, cores, environment, popen

# What a start without TLS needs of the libraries, as wsd imports it.
_IMPORTS = """
import click, httptools, lockfile.pidlockfile, pydantic.fields, tomli
from daemon import DaemonContext
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationInfo
from pydantic import PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
"""
_MOST_TIMES = 1.6
_MOST_BYTES = 45_000_000


def _import_seconds() -> float:
    began = time.perf_counter()
    command = [sys.executable, "-c", _IMPORTS]
    if popen(cores()[0], command, env=environment(WSD, "plain"), stdin=subprocess.DEVNULL).wait():
        raise RuntimeError("the libraries cannot be imported")
    return time.perf_counter() - began


def measure(rounds: int) -> dict[str, Any]:
    """Both figures, each with the most that it may be."""
    starts, imports, resident = [], [], 0
    Server(WSD, "plain").kill()  # what is compiled now will be found compiled, as where it was installed
    for _ in range(max(rounds, 3)):
        imports.append(_import_seconds())
        began = time.perf_counter()
        with Server(WSD, "plain") as server:
            starts.append(time.perf_counter() - began)
            resident = resident_bytes(server.pid)
    start, alone = statistics.median(starts), statistics.median(imports)
    ratio = statistics.median(a / b for a, b in zip(starts, imports, strict=True))
    return {
        "time": {
            "title": "from the command to listening, to importing the libraries alone",
            "value": significant(ratio, 3),
            "most": _MOST_TIMES,
            "detail": f"{start * 1000:.0f} ms and {alone * 1000:.0f} ms",
        },
        "memory": {
            "title": "resident memory without TLS, MB",
            "value": significant(resident / 1e6, 3),
            "most": _MOST_BYTES / 1e6,
            "detail": "",
        },
    }
