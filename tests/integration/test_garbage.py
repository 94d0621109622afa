"""Hundreds of connections that break every rule, beside one that keeps them all and notices nothing."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.support.client import BINARY, TEXT, Client, close_frame, connect, frame, upgrade_request
from tests.support.context import running
from tests.support.echoes import EchoMessages, EchoPieces
from tests.support.timing import MS, PATIENCE, wait_until
from wsd import log
from wsd.config import Timeouts

CONNECTIONS = 400
THREADS = 8
HEAD = upgrade_request(protocols="pieces")


def noise(client: Client, source: random.Random) -> None:
    client.send(source.randbytes(source.randrange(1, 3000)))


def nothing(client: Client, source: random.Random) -> None:
    pass


def half_a_request(client: Client, source: random.Random) -> None:
    client.send(HEAD[: source.randrange(1, len(HEAD))])


def oversized_head(client: Client, source: random.Random) -> None:
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * source.choice((200, 20000)))


def oversized_line(client: Client, source: random.Random) -> None:
    client.send(b"GET /" + b"a" * source.choice((10_000, 100_000)))


def another_language(client: Client, source: random.Random) -> None:
    client.send(source.choice((b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")))


def upgraded(bad: Callable[[random.Random], bytes]) -> Callable[[Client, random.Random], None]:
    """The opening handshake, a good message, then something bad."""

    def throw(client: Client, source: random.Random) -> None:
        client.send(HEAD, frame(TEXT, "good"), bad(source))

    throw.__name__ = bad.__name__
    return throw


@upgraded
def unmasked(source: random.Random) -> bytes:
    return frame(TEXT, "x" * source.randrange(300), mask=None)


@upgraded
def random_frames(source: random.Random) -> bytes:
    return source.randbytes(500)


@upgraded
def giant(source: random.Random) -> bytes:
    return b"\x82\xff" + source.randrange(1 << 20, 1 << 63).to_bytes(8, "big") + bytes(20)


@upgraded
def bad_text(source: random.Random) -> bytes:
    return frame(TEXT, b"a" * source.randrange(200) + b"\xff")


@upgraded
def unfinished(source: random.Random) -> bytes:
    return frame(BINARY, bytes(1000))[: source.randrange(1, 1000)]


@upgraded
def data_after_close(source: random.Random) -> bytes:
    return close_frame(1000) + source.randbytes(100_000)


@upgraded
def fragments_without_end(source: random.Random) -> bytes:
    return frame(TEXT, "", final=False) + frame(0, "", final=False) * 6000


THROWS = [
    noise,
    nothing,
    half_a_request,
    oversized_head,
    oversized_line,
    another_language,
    unmasked,
    random_frames,
    giant,
    bad_text,
    unfinished,
    data_after_close,
    fragments_without_end,
]


def leave(client: Client, way: int) -> None:
    """With a FIN, a reset, a half-close, or after having read what came."""
    match way:
        case 0:
            client.reset()
        case 1:
            client.shut_down_writing()
            client.receive_end()
        case 2:
            client.socket.recv(100)
        case _:
            pass


def throw_all(port: int, seed: int, failures: list[BaseException]) -> None:
    """One thread's share."""
    source = random.Random(seed)
    try:
        for number in range(CONNECTIONS // THREADS):
            throw = THROWS[(number + seed) % len(THROWS)]
            with Client(port) as client, suppress(ConnectionError):
                throw(client, source)
                leave(client, source.randrange(4))
    except BaseException as error:
        failures.append(error)


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """What is logged at ERR and WARN."""
    lines: list[str] = []
    level, emitter = log.level(), log.emit_stderr
    log.set_level(log.ERR | log.WARN, lambda bit, line: lines.append(line))
    yield lines
    log.set_level(level, emitter)


def test_a_good_client_goes_on_undisturbed(log_lines: list[str]) -> None:
    # What sends half a request is waited for as long as this.
    timeouts = Timeouts(handshake_seconds=1, close_seconds=1)
    protocols = [EchoMessages(), EchoPieces()]
    with running(protocols, timeouts=timeouts) as served, connect(served.port, "messages") as good:
        context = served.context
        wait_until(lambda: context.wsi_count == 1)
        before = len(os.listdir("/proc/self/fd"))
        failures: list[BaseException] = []
        threads = [
            threading.Thread(target=throw_all, args=(served.port, seed, failures), name=f"thrower {seed}")
            for seed in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        echoed = 0
        while any(thread.is_alive() for thread in threads):
            good.send_text(str(echoed))
            assert good.receive_message() == str(echoed)
            echoed += 1
            time.sleep(2 * MS)  # those who throw garbage get some time as well
        for thread in threads:
            thread.join(PATIENCE)
        assert failures == []
        assert echoed > 0
        wait_until(lambda: context.wsi_count == 1, what="the bad ones are gone")
        assert len(os.listdir("/proc/self/fd")) == before
        assert context.counters.accepted == CONNECTIONS + 1
        assert context.counters.bugs == context.counters.plugin_errors == 0
        good.send_text("still here")
        assert good.receive_message() == "still here"
        assert good.finish().close_code == 1000
    assert log_lines == []
    # Everybody that was established had its on_closed, and nobody else.
    assert sum(protocol.ends.qsize() for protocol in protocols) == context.counters.established


@pytest.mark.parametrize("throw", THROWS, ids=lambda throw: throw.__name__)
def test_each_alone(throw: Callable[[Client, random.Random], None], log_lines: list[str]) -> None:
    """Every kind leaves nothing behind, whether it ends with a reset or waits for the end."""
    timeouts = Timeouts(handshake_seconds=1, close_seconds=1)
    with running([EchoPieces()], timeouts=timeouts) as served:
        for way in range(4):
            with Client(served.port) as client, suppress(ConnectionError):
                throw(client, random.Random(way))
                leave(client, way)
        wait_until(lambda: served.context.wsi_count == 0)
    assert log_lines == []
