"""How cost grows: with connections, with silent neighbours, with a message's size, with what ends at once, with timers.

Each figure is a ratio that is 1 where cost grows as the work does.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.processes import cpu_seconds
from bench.results import significant
from bench.rows import LWS, WSD
from bench.servers import Load, Server
from wsd.timers import Timers

# "Within a tenth" of one another, and the same for what should cost the same.
_TENTH = 1.1
# A hundred thousand timers do not fit into the processor's caches, and Python's collector looks at them all, again and
# again while they become more.
_CACHES = 1.6

_IDLE, _BUSY = 15_000, 100
_FEW, _MANY = 1000, 10_000
_SMALL, _LARGE = 1 << 16, 1 << 24

Figure = dict[str, Any]


def _figure(title: str, value: float, most: float, detail: str, bad: str = "") -> Figure:
    return {"title": title, "value": significant(value, 3), "most": most, "detail": detail, "bad": bad}


def busy(curve: Mapping[str, Mapping[Any, Mapping[str, float]]]) -> Figure | None:
    """From 100 to 10 000 busy connections, against libwebsockets in the same run; None: not measured."""
    growth = {}
    for name in (WSD, LWS):
        points = {int(number): point["cpu_us"] for number, point in curve.get(name, {}).items()}
        if not {_BUSY, _MANY} <= set(points):
            return None
        growth[name] = points[_MANY] / points[_BUSY]
    return _figure(
        "processor time of a message, 10 000 busy connections to 100, by that of lws",
        growth[WSD] / growth[LWS],
        1.0,
        f"wsd {growth[WSD]:.2f} times, lws {growth[LWS]:.2f} times",
    )


def beside_idle(seconds: float, rounds: int, limit: int) -> Figure | None:
    """A hundred busy connections beside 15 000 silent ones, to the same without them; None: too few descriptors."""
    if limit <= _IDLE + _BUSY:
        return None
    load = f"--mode echo --size 64 --conns {_BUSY}"
    with Server(WSD, "plain") as alone, Server(WSD, "plain") as crowded:
        with Load(crowded, f"--mode idle --conns {_IDLE} --sources 8", 600.0) as idle:
            idle.wait_begun()
            pairs = [(alone.visit(load, seconds), crowded.visit(load, seconds)) for _ in range(rounds)]
    ratios = sorted(beside.cpu_us / without.cpu_us for without, beside in pairs)
    without, beside = pairs[0]
    return _figure(
        "processor time of a message on 100 connections, with 15 000 idle ones beside them",
        ratios[len(ratios) // 2],
        _TENTH,
        f"{without.cpu_us:.2f} µs without them, {beside.cpu_us:.2f} µs with them",
        " ".join(visit.bad for pair in pairs for visit in pair if visit.bad),
    )


def large_message(seconds: float, rounds: int) -> Figure:
    """A byte of a 16 MiB message, to one of a 64 KiB message."""
    more = f"[limits]\nmax_message_bytes = {2 * _LARGE}\n"
    visits = {}
    with Server(WSD, "plain", more) as server:
        ratios = []
        for _ in range(rounds):
            for size in (_SMALL, _LARGE):
                visits[size] = server.visit(f"--mode echo --conns 4 --size {size}", seconds)
            ratios.append((visits[_LARGE].cpu_us / _LARGE) / (visits[_SMALL].cpu_us / _SMALL))
    each = {size: visit.cpu_us / size * 1000 for size, visit in visits.items()}
    return _figure(
        "processor time of a byte, in messages of 16 MiB to 64 KiB",
        sorted(ratios)[len(ratios) // 2],
        _TENTH,
        f"{each[_LARGE]:.2f} ns and {each[_SMALL]:.2f} ns",
        " ".join(visit.bad for visit in visits.values() if visit.bad),
    )


def _vanish_seconds(connections: int) -> float:
    """Processor time until everybody who went at once is gone."""
    with Server(WSD, "plain") as server:
        with Load(server, f"--mode idle --conns {connections} --sources 8", 600.0) as load:
            load.wait_begun()
            before = cpu_seconds(server.pid)
        return _settled(server.pid) - before


def _settled(pid: int) -> float:
    """Processor time once no more is spent."""
    spent = cpu_seconds(pid)
    while True:
        time.sleep(0.3)
        now = cpu_seconds(pid)
        if now - spent < 0.001:
            return now
        spent = now


def _stop_seconds(connections: int) -> float:
    """Processor time of a stop: everybody is told, answers, and is closed."""
    with Server(WSD, "plain") as server:
        with Load(server, f"--mode idle --conns {connections} --sources 8", 600.0) as load:
            load.wait_begun()
            before = cpu_seconds(server.pid)
            server.process.send_signal(signal.SIGTERM)
            # The kernel tells what a process took in all to who waits for it.
            _, status, usage = os.wait4(server.pid, 0)
            server.process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime - before


def ending(title: str, spend: Callable[[int], float], limit: int) -> Figure | None:
    """Ten thousand connections that end at once, each to each of a thousand; None: too few descriptors."""
    if limit <= _MANY:
        return None
    few, many = spend(_FEW) / _FEW, spend(_MANY) / _MANY
    return _figure(title, many / few, _TENTH, f"{many * 1e6:.1f} µs and {few * 1e6:.1f} µs")


def vanished(limit: int) -> Figure | None:
    return ending("processor time of a connection whose peer goes, 10 000 at once to 1000", _vanish_seconds, limit)


def stopped(limit: int) -> Figure | None:
    alone = _stop_seconds(1)  # what a stop takes by itself

    def spend(connections: int) -> float:
        return _stop_seconds(connections) - alone

    return ending("processor time of a connection in a stop, 10 000 to 1000", spend, limit)


def _timer_ns(number: int) -> float:
    """Set so many timers, cancel every second one, and have the others come due; the best of five."""
    best = float("inf")
    for _ in range(5):
        heap = Timers()
        began = time.process_time_ns()
        # Deadlines in no order: 7919 is a prime, so each comes once.
        handles = [heap.add(index * 7919 % number, _nothing) for index in range(number)]
        for handle in handles[::2]:
            handle.cancel()
        for function in heap.due(number):
            function()
        best = min(best, time.process_time_ns() - began)
    return best / number


def _nothing() -> None:
    pass


def timers() -> Figure:
    """A hundred thousand timers, each to each of ten thousand."""
    few, many = _timer_ns(10_000), _timer_ns(100_000)
    title = "time of a timer (set; half cancelled, half due), 100 000 to 10 000"
    return _figure(title, many / few, _CACHES, f"{many:.0f} ns and {few:.0f} ns")
