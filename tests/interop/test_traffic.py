"""Random traffic between wsd and a program of ours on libwebsockets: every message with a checksum, thousands of them.

wsd's server has the shipped plugins: `echo`, which gives back fragments as they came, and the mirror.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.conftest import Daemon
from tests.interop.traffic import TrafficClient
from tests.support.context import running
from tests.support.ports import free_port
from tests.support.timing import MS, PATIENCE, wait_until
from wsd import Protocol, Wsi

CONNECTIONS = 4
MESSAGES = 1500
"""On each connection; a mirror sends each to all, so that is four times as many messages back."""
SECONDS = 60_000 * MS
"""A machine with nothing else to do takes 1 to 4 s."""

protocols = pytest.mark.parametrize("protocol", ["echo", "lws-mirror-protocol"])


def copies(protocol: str) -> int:
    """To how many each message comes."""
    return CONNECTIONS if protocol == "lws-mirror-protocol" else 1


@protocols
@pytest.mark.parametrize("seed", [1, 2])
def test_its_client_with_our_server(
    serve: Callable[..., Daemon], traffic_program: Path, protocol: str, seed: int
) -> None:
    daemon = serve([protocol])
    arguments = [str(value) for value in (daemon.port, protocol, CONNECTIONS, MESSAGES, seed)]
    ended = subprocess.run(
        [traffic_program, "client", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 0, ended.stdout
    received = CONNECTIONS * MESSAGES * copies(protocol)
    assert re.fullmatch(rf"received {received} messages, \d+ bytes, 0 wrong\n", ended.stdout), ended.stdout
    ended_in_order = "closed, 1000 done (closed by peer)"
    wait_until(lambda: daemon.read_log().count(ended_in_order) == CONNECTIONS, what="all are closed with 1000")


@contextmanager
def serving(program: Path, port: int) -> Iterator[list[str]]:
    """Run its server until the block ends; only then the list has what it printed."""
    said: list[str] = []
    with subprocess.Popen(
        [program, "server", str(port)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "listening\n"
            yield said
        finally:
            process.terminate()
            said += process.communicate(timeout=PATIENCE)[0].splitlines()
    assert process.returncode == 0, said


@protocols
@pytest.mark.parametrize("seed", [1, 2])
def test_our_client_with_its_server(traffic_program: Path, protocol: str, seed: int) -> None:
    port = free_port()
    ours = TrafficClient(CONNECTIONS, MESSAGES, protocol == "lws-mirror-protocol", seed)
    with serving(traffic_program, port) as said:
        with running([ours]) as served:
            served.call(lambda: ours.connect(f"ws://127.0.0.1:{port}/", protocol))
            assert ours.results.get(timeout=SECONDS) is None
    assert ours.received == CONNECTIONS * MESSAGES * copies(protocol)
    assert said[:-1] == ["closed 1000"] * CONNECTIONS
    assert re.fullmatch(rf"received {CONNECTIONS * MESSAGES} messages, \d+ bytes, 0 wrong", said[-1]), said


class Unfaithful(Protocol):
    """Echoes, but for the message that `spoil` changes."""

    name = "echo"

    def __init__(self, spoil: Callable[[bytes], Sequence[bytes]]) -> None:
        self.spoil = spoil
        self.count = 0

    def on_message(self, wsi: Wsi, message: bytes | str) -> None:
        data = message.encode() if isinstance(message, str) else message
        self.count += 1
        for answer in self.spoil(data) if self.count == 10 else [data]:
            wsi.send(answer)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        pytest.param(lambda data: [data, data], "out of order", id="twice"),
        pytest.param(lambda data: [], "out of order", id="not at all"),
        pytest.param(lambda data: [data[:-9] + b"~" + data[-8:]], "is wrong", id="altered"),
        pytest.param(lambda data: [b"01" + data[2:]], "is wrong", id="of another sender"),
    ],
)
def test_it_would_be_noticed(traffic_program: Path, spoil: Callable[[bytes], Sequence[bytes]], complaint: str) -> None:
    """What the tests above rest on.  A message short of all, it would wait for ever: so it is interrupted."""
    with running([Unfaithful(spoil)]) as served:
        with subprocess.Popen(
            [traffic_program, "client", str(served.port), "echo", "1", "20", "1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            assert complaint in process.stderr.readline()
            process.terminate()
            assert process.wait(PATIENCE) == 1
