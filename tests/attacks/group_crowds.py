"""Many connections, connections that never end, and descriptors that run out."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.attacks.attempt import Attempt, counted, frames, responses
from tests.attacks.group_heads import readable
from tests.attacks.model import Attack, Group, Setup
from tests.attacks.target import Target
from tests.support.client import TEXT, Client, frame, upgrade_request
from tests.support.timing import wait_until

LIMIT: Final = 50
SMALL: Final = Setup("at most 50", more=f"[limits]\nmax_connections = {LIMIT}")


# -- the limit --------------------------------------------------------------------------------------------------------


def over_the_limit(attempt: Attempt) -> str:
    """Three times as many as there may be; those that are too many get in when others leave."""
    clients = [attempt.client() for _ in range(3 * LIMIT)]
    for client in clients:
        client.send(upgrade_request(protocols="echo"))
    inside = len(clients[: LIMIT - 1])
    for client in clients[:inside]:
        assert client.receive_response().status == 101
    attempt.wait_line(AT_LIMIT)
    turns = attempt.target.counters()["turns"]
    attempt.companion.go_round(20)
    # The one who asks for the counters has turns too.  A loop that spins has thousands.
    assert attempt.target.counters()["turns"] - turns < 200
    assert readable(clients[inside:]) == []
    for client in clients[:inside]:
        client.reset()
    for client in clients[inside : 2 * inside]:
        assert client.receive_response().status == 101
    return f"{inside} x 101, and {inside} more when those had left"


AT_LIMIT: Final = f"WARN connection limit reached ({LIMIT}); accepting pauses"


def resets(attempt: Attempt) -> str:
    """Connected and reset at once, before anything is accepted."""
    port = attempt.address
    for _ in range(40):
        for _ in range(50):
            Client(port).reset()
        attempt.companion.go_round()
    return "2000 connections without a trace"


def resets_after_a_request(attempt: Attempt) -> str:
    """The daemon has begun to work on each: a request, an upgrade, a message."""
    port = attempt.address
    head = upgrade_request(protocols="echo") + frame(TEXT, "x" * 1000)
    for _ in range(20):
        for _ in range(50):
            client = Client(port)
            client.send(head)
            client.reset()
        attempt.companion.go_round()
    return "1000 connections without a trace"


def half_closed(attempt: Attempt) -> str:
    """A FIN in the middle of a head, of a frame, of a message."""
    pieces = [
        b"",
        b"GET / HT",
        upgrade_request(),
        upgrade_request() + b"\x82\xff",
        upgrade_request() + b"\x02\x80\1\2\3\4",
    ]
    told = []
    for piece in pieces:
        client = attempt.client()
        client.send(piece)
        client.shut_down_writing()
        told.append(responses(client))
    return counted(told)


# -- descriptors ------------------------------------------------------------------------------------------------------


@contextmanager
def starved(target: Target, left: int) -> Iterator[None]:
    """As if `ulimit -n` were so low that only so many more can be opened."""
    _, hard = before = resource.prlimit(target.pid, resource.RLIMIT_NOFILE)
    used = {int(fd) for fd in os.listdir(f"/proc/{target.pid}/fd")}
    free = [number for number in range(len(used) + left + 1) if number not in used]
    # It bounds the numbers, of which the kernel hands out the lowest.
    resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (free[left], hard))
    try:
        yield
    finally:
        resource.prlimit(target.pid, resource.RLIMIT_NOFILE, before)


def descriptors_run_out(attempt: Attempt) -> str:
    target = attempt.target
    turns = target.counters()["turns"]
    with starved(target, 5):
        clients = [attempt.client() for _ in range(100)]
        for client in clients:
            client.send(upgrade_request(protocols="echo"))
        for client in clients[:5]:
            assert client.receive_response().status == 101
        attempt.wait_line(NO_DESCRIPTORS)
        attempt.companion.go_round(50)
        assert readable(clients[5:]) == []
    for client in clients[5:]:
        assert client.receive_response().status == 101
    assert target.counters()["turns"] - turns < 1000, "it spins"
    assert attempt.count(NO_DESCRIPTORS) == 1
    return "5 x 101, and 95 more when there are descriptors again"


NO_DESCRIPTORS: Final = "WARN listener 127.0.0.1:<n>: cannot accept: Too many open files; trying again"


def no_descriptor_for_a_command(attempt: Attempt) -> str:
    """`wsd status` while there is none: the command waits, and the daemon does not spin."""
    target = attempt.target
    turns = target.counters()["turns"]
    with starved(target, 0):
        command = attempt.enter(target.ask("status"))
        attempt.companion.go_round(50)
        assert not command.is_answered()
    counters = command.answer()["counters"]
    assert counters["turns"] - turns < 1000, "it spins"
    return "waits, and is answered when there are descriptors again"


# -- those who are not there any more ---------------------------------------------------------------------------------

HALF_OPEN: Final = Setup(
    "keepalive", more="[keepalive]\nping_seconds = 0.2\nhangup_seconds = 0.2\n[timeouts]\nclose_seconds = 0.3"
)

ONE_WHO_STOPS: Final = """
import sys, time
from tests.support.client import connect

client = connect(int(sys.argv[1]), "echo")
print("open", flush=True)
sys.stdin.readline()
"""


@contextmanager
def stopped_peer(attempt: Attempt) -> Iterator[None]:
    """A process with a WebSocket, and SIGSTOP: its kernel acknowledges all, and nobody answers."""
    site = attempt.target.site
    command = [sys.executable, "-c", ONE_WHO_STOPS, str(attempt.address)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=site.environment(), stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"open\n"
            process.send_signal(signal.SIGSTOP)
            yield
        finally:
            process.kill()


def half_open(attempt: Attempt) -> str:
    with stopped_peer(attempt):
        attempt.wait_line("INFO <tag>: closed, 1006 (no answer to a ping)")
    return "on_closed with 1006"


def never_answers_a_close(attempt: Attempt) -> str:
    """Many that break the protocol, and do not read the Close that they get, nor end."""
    clients = [attempt.connect() for _ in range(100)]
    for client in clients:
        client.send(frame(TEXT, "unmasked", mask=None))
    wait_until(lambda: attempt.count("INFO <tag>: closed, 1006 (<*>)") == len(clients))
    return counted([frames(client) for client in clients])


# -- those who do not read --------------------------------------------------------------------------------------------

STATION: Final = """
from wsd import Protocol


class Station(Protocol):
    name = "station"

    def on_message(self, wsi, message):
        self.broadcast(message)


protocols = [Station]
"""

BROADCAST: Final = Setup(
    "broadcasting",
    listen=('port = 0\ndefault_protocol = "echo"',),
    plugins=(("station", STATION),),
)


def deaf_listener(attempt: Attempt) -> str:
    """One of three listeners never reads; the others get every message."""
    deaf = attempt.connect("station", receive_buffer=4096)
    speaker, other = attempt.connect("station"), attempt.connect("station")
    message = bytes(65_536)
    rounds = 0
    while not attempt.count(QUEUE_FULL):
        rounds += 1
        speaker.send_binary(message)
        assert speaker.receive_message() == other.receive_message() == message
        assert rounds < 200
    deaf.reset()
    return "dropped; every other gets every message"


QUEUE_FULL: Final = "WARN <tag>: outgoing queue over max_queue_bytes (1048576), closing"


def echoes_not_read(attempt: Attempt) -> str:
    """Messages whose echoes are not read, until no more are taken."""
    client = attempt.connect(receive_buffer=4096)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    sent = attempt.flood(client, frame(TEXT, "x" * 65_000))
    assert sent < 16 << 20
    client.reset()
    return "no more messages are read than echoes"


GROUPS: Final = (
    Group(
        10,
        "Crowds",
        (
            Attack(
                f"{3 * LIMIT} connections where `max_connections` is {LIMIT}",
                f"{LIMIT - 1} x 101, and {LIMIT - 1} more when those had left",
                over_the_limit,
                (AT_LIMIT,),
                "CWE-770",
                SMALL,
            ),
            Attack(
                "2000 connections that are reset at once",
                "2000 connections without a trace",
                resets,
                known="CVE-2023-44487",
            ),
            Attack(
                "1000 connections that are reset behind an upgrade and a message",
                "1000 connections without a trace",
                resets_after_a_request,
                known="CVE-2023-44487",
            ),
            Attack(
                "the end of the stream before a head, in it, behind it, in a frame, in a message",
                "2 x end, 3 x 101, end",
                half_closed,
            ),
            Attack(
                "100 connections where descriptors are left for 5",
                "5 x 101, and 95 more when there are descriptors again",
                descriptors_run_out,
                (NO_DESCRIPTORS,),
                "libuv b3ab332, jabberd2#166",
            ),
            Attack(
                "`wsd status` where there is no descriptor left",
                "waits, and is answered when there are descriptors again",
                no_descriptor_for_a_command,
                known="libuv b3ab332",
            ),
            Attack(
                "a peer whose process is stopped, as by a pulled cable",
                "on_closed with 1006",
                half_open,
                (
                    "INFO <tag>: no answer to a ping for 0.2 s, hanging up",
                    "INFO <tag>: closed, 1006 (no answer to a ping)",
                ),
                setup=HALF_OPEN,
            ),
            Attack(
                "100 connections that break the protocol, and never read the Close nor end",
                "100 x Close 1002 frame not masked, end",
                never_answers_a_close,
                ("INFO <tag>: closed, 1006 (failed with 1002 frame not masked; <*>)",),
                setup=HALF_OPEN,
            ),
            Attack(
                "one of three listeners to broadcasts of 64 KiB reads nothing",
                "dropped; every other gets every message",
                deaf_listener,
                (QUEUE_FULL,),
                setup=BROADCAST,
                memory_kib=4096,
            ),
            Attack(
                "messages of 64 KiB without end, no echo of which is read",
                "no more messages are read than echoes",
                echoes_not_read,
                memory_kib=3072,
            ),
        ),
    ),
)
