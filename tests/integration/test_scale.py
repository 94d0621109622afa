"""Many timers and many connections: what they cost while nothing happens, and what they leave behind.

All of it is counted (turns, sleeps, entries), nothing is timed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import connect
from tests.support.context import Running, running
from tests.support.echoes import EchoMessages
from tests.support.loops import BUILT_IN, EXTERNAL, LOOPS, OtherLoop, loop_of
from tests.support.stepped import stepped
from tests.support.timing import MS, PATIENCE, wait_until
from wsd.timers import Timer

ROOT = Path(__file__).resolve().parent.parent.parent

TIMERS = 100_000
CONNECTIONS = {BUILT_IN: 10_000, **dict.fromkeys(EXTERNAL, 3000)}
"""By the loop.  Ten thousand are for what is wsd's; that an example lets go of what it knew of a connection shows with
fewer, which cost a third of the processor's time."""


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Iterator[OtherLoop | None]:
    with loop_of(request.param) as other:
        yield other


def effort(served: Running) -> tuple[int, int]:
    """What the loop's thread has done so far: turns, and how often it has slept until something came."""
    status = Path(f"/proc/self/task/{served.thread.native_id}/status").read_text()
    return served.context.counters.turns, int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.M)[0])


class TestTimers:
    def test_a_hundred_thousand_cost_nothing_while_none_is_due(self, loop: OtherLoop | None) -> None:
        with running([EchoMessages()], loop=loop) as served, connect(served.port) as client:
            context = served.context
            calls: list[int] = []

            def arrange() -> list[Timer]:
                return [context.call_later(3600 + number, lambda: calls.append(1)) for number in range(TIMERS)]

            timers = served.call(arrange)
            time.sleep(50 * MS)  # what is under way settles
            before = effort(served)
            time.sleep(300 * MS)
            after = effort(served)
            assert after[0] - before[0] == 0
            assert after[1] - before[1] <= 1
            turns = context.counters.turns
            for number in range(100):
                client.send_text(str(number))
                assert client.receive_message() == str(number)
            assert context.counters.turns - turns <= 2 * 100  # of a loop that asks what is due, each has one more
            served.call(lambda: [timer.cancel() for timer in timers])
            assert calls == []
            assert len(context.timers) <= 1  # the connection's own
            assert len(context.timers._front) < 1000

    def test_all_due_at_once_run_once_each_in_order_in_one_turn(self, loop: OtherLoop | None) -> None:
        with running([EchoMessages()], loop=loop) as served:
            calls: list[int] = []
            turns: list[int] = []
            done = threading.Event()

            def note(number: int) -> None:
                calls.append(number)
                turns.append(served.context.counters.turns)
                if number == TIMERS - 1:
                    done.set()

            def arrange() -> None:
                when = time.monotonic() + 10 * MS
                for number in range(TIMERS):
                    served.context.timers.add(when, lambda number=number: note(number))  # type: ignore[misc]

            served.call(arrange)
            assert done.wait(PATIENCE)
            assert calls == list(range(TIMERS))
            assert len(set(turns)) == 1
            assert len(served.context.timers) == 0

    def test_a_timer_that_is_set_anew_leaves_nothing(self) -> None:
        protocol = EchoMessages()
        with stepped([protocol]) as loop, loop.connect():
            (wsi,) = protocol.wsis
            kept = len(loop.context.timers)
            for number in range(TIMERS):
                wsi.set_timer(3600 + number)
            assert len(loop.context.timers) == kept + 1
            assert len(loop.context.timers._front) < 1000
            wsi.set_timer(None)
            assert len(loop.context.timers) == kept


@contextmanager
def program(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """One of the programs of tests/support/crowd.py, which must end well."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.crowd", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> Any:
    """What a program says next."""
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said, process.communicate()[1]
    return json.loads(said)


def tell(process: subprocess.Popen[str], what: str = "") -> None:
    """Have a program go on."""
    assert process.stdin is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()


@pytest.mark.parametrize(("kind", "connections"), CONNECTIONS.items())
def test_thousands_of_connections_leave_nothing_behind(kind: str, connections: int) -> None:
    """All at once, where the limit on descriptors allows it; else as many as it does, one crowd after the other."""
    with program("serve", kind) as server:
        told = line(server)
        with program("come", told["port"], told["many"], connections) as clients:
            left = connections
            while left:
                came = line(clients)
                left -= came
                tell(server)
                assert line(server) == {"connections": came, "looked_at": came}
                tell(clients)

        def report() -> dict[str, int]:
            tell(server)
            found: dict[str, int] = line(server)
            return found

        wait_until(lambda: report() == {"connections": 0, "looked_at": 0})
        tell(server, "end")
        assert line(server) == {
            "connections": 0,
            "members": 0,
            "looked_at": 0,
            "timers": 0,
            "table": 2,  # the wake-up and the listener
            "announced": 2,
            "established": connections,
            "ends": connections,
            "errors": 0,
            "wsis": 0,
            "descriptors": 0,
            "descriptors_after": 0,
            "threads": 0,
        }
