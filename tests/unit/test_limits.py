"""How many connections there may be: the sum, what is left out of it, and what raises it.

What must hold for a real descriptor limit runs in a process of its own, which may change it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.timing import PATIENCE
from wsd import limits
from wsd.limits import RESERVED_DESCRIPTORS, ConnectionLimit, connection_limit, count_open, most_connections

ROOT = Path(limits.__file__).parent.parent


@pytest.fixture(autouse=True)
def _seven_are_open(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """So that the sums below do not depend on what runs the tests."""
    if "sum" in request.node.name:
        monkeypatch.setattr(limits, "count_open", lambda below: 7)


def limit_to(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[int]:
    """Have these limits; the list gets each soft limit that is set."""
    now = [soft]

    def set_limit(which: int, pair: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        assert pair[1] == hard
        now.append(pair[0])

    monkeypatch.setattr(resource, "getrlimit", lambda which: (now[-1], hard))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    return now


# -- the sum ----------------------------------------------------------------------------------------------------------


def test_sum_what_is_open_and_a_reserve_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, 1024, 4096)
    assert connection_limit(0) == ConnectionLimit(1024 - 7 - RESERVED_DESCRIPTORS, 0, 1024, 7, RESERVED_DESCRIPTORS)


def test_sum_connections_are_not_counted_as_held(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, 1024, 4096)
    assert connection_limit(0, connected=5).held == 2
    assert connection_limit(0, connected=5).connections == 1024 - 2 - RESERVED_DESCRIPTORS


def test_sum_lower_by_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limit_to(monkeypatch, 1024, 4096) == [1024]
    assert connection_limit(10).connections == 10
    assert not connection_limit(10).is_short


def test_sum_higher_by_configuration_raises_the_soft_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to = limit_to(monkeypatch, 1024, 4096)
    assert connection_limit(2000).connections == 2000
    assert set_to == [1024, 2000 + 7 + RESERVED_DESCRIPTORS]


def test_sum_not_higher_than_the_hard_limit_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to = limit_to(monkeypatch, 256, 512)
    limit = connection_limit(5000)
    assert limit == ConnectionLimit(512 - 7 - RESERVED_DESCRIPTORS, 5000, 512, 7, RESERVED_DESCRIPTORS)
    assert limit.is_short
    assert set_to == [256, 512]


def test_sum_where_the_system_does_not_let_it_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, pair: tuple[int, int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    limit_to(monkeypatch, 256, 4096)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert connection_limit(1000).connections == 256 - 7 - RESERVED_DESCRIPTORS


@pytest.mark.parametrize(("soft", "connections"), [(101, 47), (17, 5), (8, 1), (3, 1)])
def test_sum_of_few_half_is_left(monkeypatch: pytest.MonkeyPatch, soft: int, connections: int) -> None:
    limit_to(monkeypatch, soft, soft)
    assert connection_limit(0).connections == connections
    assert connection_limit(0).reserved >= 0


def test_sum_without_any_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert connection_limit(0).connections == (1 << 20) - 7 - RESERVED_DESCRIPTORS
    assert connection_limit(9).connections == 9


def test_sum_that_a_configuration_may_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, 256, 4096)
    assert most_connections() == 4096 - 7 - RESERVED_DESCRIPTORS
    assert connection_limit(most_connections()).connections == most_connections()


def test_it_says_where_the_number_comes_from() -> None:
    assert str(ConnectionLimit(950, 0, 1024, 10, 64)) == (
        "950 connections; of 1024 descriptors 10 are held open and 64 reserved"
    )
    assert str(ConnectionLimit(17, 17, 1024, 10, 64)).startswith(
        "17 connections, as limits.max_connections says; of 10"
    )
    assert ConnectionLimit(17, 17, 1024, 10, 64).as_dict() == {"limit": 1024, "held": 10, "reserved": 64}


# -- counting ---------------------------------------------------------------------------------------------------------


def test_each_open_descriptor_counts_once_and_with_or_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    before = count_open(4096)
    opened = [os.dup(0) for _ in range(5)]
    try:
        assert count_open(4096) == before + 5
        assert count_open(opened[-1]) == count_open(opened[-1] + 1) - 1
        with monkeypatch.context() as patched:
            patched.setattr(os, "listdir", lambda path: os.scandir("/nowhere"))
            assert count_open(4096) == before + 5
            assert count_open(opened[-1]) == count_open(opened[-1] + 1) - 1
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert count_open(4096) == before


# -- a process of its own ---------------------------------------------------------------------------------------------


def told(program: str, *, ulimit: str = "") -> Any:
    """What `program` prints, as JSON; `ulimit` are the arguments of the shell's command."""
    shell = f'ulimit {ulimit} && exec "$@"' if ulimit else 'exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


HOLDING = """
import json, os, resource
from wsd import Context, Limits

held = [os.dup(0) for _ in range({held})]
with Context(limits=Limits(max_connections={wanted})) as context:
    first = context.connection_limit
    more = [os.dup(0) for _ in range(10)]
    context.renew_limit()
    print(json.dumps([first, context.connection_limit, context.max_connections, resource.getrlimit(7)[0]]))
"""


def test_what_the_program_holds_open_is_left_out_and_counted_again_when_asked() -> None:
    few, more, most, _ = told(HOLDING.format(held=0, wanted=0), ulimit="-n 400")
    many, *_ = told(HOLDING.format(held=100, wanted=0), ulimit="-n 400")
    assert few[0] == 400 - few[3] - RESERVED_DESCRIPTORS
    assert (many[3], many[0]) == (few[3] + 100, few[0] - 100)
    assert (more[3], most) == (few[3] + 10, few[0] - 10)


def test_a_lower_ulimit_allows_fewer_and_a_higher_one_more() -> None:
    low, *_ = told(HOLDING.format(held=0, wanted=0), ulimit="-n 300")
    high, *_ = told(HOLDING.format(held=0, wanted=0), ulimit="-n 3000")
    assert high[0] - low[0] == 2700


def test_a_configured_number_raises_the_soft_ulimit_as_far_as_is_needed() -> None:
    first, again, most, soft = told(HOLDING.format(held=0, wanted=1000), ulimit="-S -n 300")
    assert (first[0], again[0], most) == (1000, 1000, 1000)
    assert soft == 1000 + again[3] + RESERVED_DESCRIPTORS


GROWING = """
import json, re, socket, tracemalloc
from wsd import Context

tracemalloc.start()
context = Context()
listener = context.listen(port=0)
peers = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(20)]
while context.wsi_count < 20:
    context.service()
allocated = tracemalloc.get_traced_memory()[1]
resident = int(re.search("VmHWM:\\\\s+(\\\\d+)", open("/proc/self/status").read())[1])
print(json.dumps([context.max_connections, allocated, resident]))
for peer in peers:
    peer.close()
context.close()
"""


def highest_limit() -> int:
    """The highest hard limit that can be had here: fs.nr_open as root, where nothing forbids it."""
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    raised = subprocess.run(["/bin/sh", "-c", f"ulimit -n {most}"], capture_output=True)
    return most if raised.returncode == 0 else resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_memory_does_not_grow_with_a_huge_ulimit() -> None:
    """A table with a pointer for each possible descriptor, as LWS has it, would take 8 MB at a million."""
    huge = highest_limit()
    assert huge >= 4096
    few, few_allocated, few_resident = told(GROWING, ulimit="-n 256")
    many, many_allocated, many_resident = told(GROWING, ulimit=f"-n {huge}")
    assert (few < 256, many > huge - 100) == (True, True)
    assert many_allocated - few_allocated < huge // 2  # bytes
    assert many_resident - few_resident < 2048  # kB; two runs of one program differ by some hundred
