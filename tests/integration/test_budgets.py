"""Limits, rates, times and memory on real sockets: what the peer is told, what is counted and logged, and that nobody
beside it notices.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.ca import Authority
from tests.support.client import (
    BINARY,
    CONTINUATION,
    PING,
    TEXT,
    Client,
    close_frame,
    connect,
    frame,
)
from tests.support.context import Running, running
from tests.support.daemon import Site
from tests.support.flowing import Source
from tests.support.logged import logged
from tests.support.memory import MIB, grows_less_than
from tests.support.timing import MS, wait_until
from wsd import log
from wsd.config import Limits, ListenLimits, ListenTimeouts, ProtocolTable, Timeouts, Tls
from wsd.protocol import Protocol

SOON = 200 * MS
"""Seconds: as long as the tests of times wait."""

NEVER = 3600
"""Seconds: longer than any test."""


class Echo(Protocol):
    """`strict` is another of its kind, for whom something else holds."""

    def __init__(self, name: str = "echo") -> None:
        self.name = name  # type: ignore[misc]
        self.closed: list[int] = []

    def on_message(self, wsi: Any, message: Any) -> None:
        wsi.send(message)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.closed.append(code)


class Sink(Protocol):
    """Takes pieces and answers nothing."""

    name = "sink"
    max_message_bytes = 0

    def __init__(self) -> None:
        self.size = 0

    def on_receive(self, wsi: Any, data: bytes) -> None:
        self.size += len(data)


class RawSink(Protocol):
    name = "raw"

    def __init__(self) -> None:
        self.size = 0
        self.ends = 0

    def on_raw_receive(self, wsi: Any, data: bytes) -> None:
        self.size += len(data)

    def on_raw_close(self, wsi: Any) -> None:
        self.ends += 1


def is_alive(client: Client) -> bool:
    """Reports whether a round trip works."""
    client.send_text("round trip")
    return client.receive_message() == "round trip"


class Scene:
    """A context, a client whose echo must go on, and the log's lines."""

    def __init__(self, served: Running, polite: Client, lines: list[str]) -> None:
        self.served = served
        self.polite = polite
        self.lines = lines

    def connect(self, protocol: str = "echo", **options: Any) -> Client:
        return connect(self.served.port, protocol, **options)

    def count(self, counter: str) -> int:
        return int(getattr(self.served.context.counters, counter))

    def restrict(self, protocol: str, **tables: Mapping[str, float]) -> None:
        """What a reload does with another [protocols.NAME]."""
        context = self.served.context

        def apply() -> None:
            table = ProtocolTable.model_validate(tables)
            context.binding_of(protocol).apply(context.limits, context.timeouts, table)
            context.renew_budgets()

        self.served.call(apply)

    def polite_until(self, counter: str) -> None:
        """Echo until something was counted."""

        def is_counted() -> bool:
            assert is_alive(self.polite)
            return self.count(counter) > 0

        wait_until(is_counted, what=f"{counter} is counted")

    def check(self, counter: str, line: str) -> None:
        """What was counted, once, and logged; and that the other one lives."""
        self.polite_until(counter)
        assert self.count(counter) == 1
        assert [text for text in self.lines if line in text], self.lines


@contextmanager
def scene_of(*protocols: Protocol, **arguments: Any) -> Iterator[Scene]:
    """An echo, a `strict` one, and more protocols."""
    with (
        logged(log.DEFAULT | log.INFO) as lines,
        running([Echo(), Echo("strict"), *protocols], **arguments) as served,
        connect(served.port, "echo") as polite,
    ):
        yield Scene(served, polite, lines)


def closed_with(client: Client) -> tuple[int, str]:
    """Code and reason of the Close frame; it is answered, and the connection ends in order."""
    close = client.receive_close()
    client.send(close_frame(close.close_code))
    assert client.receive_end() == b""
    return close.close_code, close.close_reason


class TestSizes:
    @pytest.fixture(params=["context", "listener", "protocol"])
    def place(self, request: pytest.FixtureRequest) -> str:
        """Where a number stands."""
        return str(request.param)

    @contextmanager
    def scene(self, place: str, **limits: int) -> Iterator[Scene]:
        everywhere: dict[str, Any] = {}
        if place == "context":
            everywhere = {"limits": Limits(**limits)}
        elif place == "listener":
            everywhere = {"listen": {"limits": ListenLimits(**limits)}}
        with scene_of(**everywhere) as scene:
            if place == "protocol":
                scene.restrict("strict", limits=dict(limits))
            yield scene

    def test_a_frame_from_its_header_alone(self, place: str) -> None:
        with self.scene(place, max_frame_bytes=1000) as scene, scene.connect("strict") as client:
            client.send_binary(bytes(1000))
            assert client.receive_message() == bytes(1000)
            client.send(frame(BINARY, bytes(1001))[:8])
            assert closed_with(client) == (1009, "frame over 1000 bytes")
            scene.check("over_max_frame_bytes", "closing with 1009: frame over 1000 bytes")

    def test_a_message_of_small_frames(self, place: str) -> None:
        with (
            self.scene(place, max_frame_bytes=1000, max_message_bytes=1500) as scene,
            scene.connect("strict") as client,
        ):
            client.send(frame(BINARY, bytes(1000), final=False), frame(CONTINUATION, bytes(501))[:8])
            assert closed_with(client) == (1009, "message over 1500 bytes")
            scene.check("over_max_message_bytes", "closing with 1009: message over 1500 bytes")

    def test_a_message_in_too_many_fragments(self, place: str) -> None:
        with self.scene(place, max_fragments=3) as scene, scene.connect("strict") as client:
            client.send(frame(TEXT, "", final=False), *[frame(CONTINUATION, "", final=False)] * 3)
            assert closed_with(client) == (1008, "message of over 3 fragments")
            scene.check("over_max_fragments", "closing with 1008: message of over 3 fragments")


class TestHeads:
    @pytest.fixture(params=["context", "listener"])
    def place(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.mark.parametrize(
        ("option", "limit", "path", "lines", "status"),
        [
            ("max_head_bytes", 700, "/", [f"X: {'x' * 700}"], 431),
            ("max_headers", 6, "/", ["X: y"] * 7, 431),
            ("max_uri_bytes", 16, f"/{'x' * 16}", [], 414),
            ("max_body_bytes", 9, "/", ["Content-Length: 10"], 413),
        ],
    )
    def test_one_that_is_too_large(
        self, place: str, option: str, limit: int, path: str, lines: list[str], status: int
    ) -> None:
        number = {option: limit}
        where: dict[str, Any] = {"limits": Limits(**number)} if place == "context" else {}
        where = where or {"listen": {"limits": ListenLimits(**number)}}
        with scene_of(**where) as scene, Client(scene.served.port) as client:
            request = "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *lines, "", ""])
            assert client.request(request).status == status
            scene.check(f"over_{option}", f"refused with {status}")

    @pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"])
    def test_one_that_takes_too_long(self, place: str, begun: bytes) -> None:
        where: dict[str, Any] = {"timeouts": Timeouts(handshake_seconds=SOON)}
        if place == "listener":
            where = {"listen": {"timeouts": ListenTimeouts(handshake_seconds=SOON)}}
        with scene_of(**where) as scene, Client(scene.served.port) as client:
            client.send(begun)
            assert client.receive_end().startswith(b"HTTP/1.1 408 " if begun else b"")
            scene.polite_until("over_handshake_seconds")
            assert scene.count("over_handshake_seconds") == 1

    def test_a_tls_handshake_that_takes_too_long(self, tmp_path: Path) -> None:
        issued = Authority(tmp_path).issue()
        tls = Tls(certificate=str(issued.certificate), private_key=str(issued.private_key))
        listen = {"tls": tls, "timeouts": ListenTimeouts(tls_handshake_seconds=SOON)}
        with (
            logged(log.DEFAULT | log.INFO) as lines,
            running([Echo()], listen=listen) as served,
            Client(served.port) as silent,
            Client(served.port) as slow,
        ):
            slow.send(bytes.fromhex("16 0301 0200 01"))  # how a ClientHello begins
            assert slow.receive_end() == b""
            assert silent.receive_end() == b""
            assert served.context.counters.over_tls_handshake_seconds == 2
            assert sum("the handshake took too long" in line for line in lines) == 2


class TestRates:
    def test_messages_are_slowed_down_to_the_rate_and_all_of_them_come(self) -> None:
        with scene_of() as scene, scene.connect("strict") as client:
            scene.restrict("strict", limits={"max_messages_per_second": 50}, timeouts={"over_rate_seconds": NEVER})
            client.send(frame(TEXT, "x") * 90)
            assert [client.receive_message() for _ in range(90)] == ["x"] * 90
            scene.polite_until("rate_pauses")
            assert scene.count("over_max_messages_per_second") == 0
            assert [line for line in scene.lines if "over max_messages_per_second (50), reading pauses" in line]

    @pytest.mark.parametrize(
        ("limits", "flood"),
        [
            ({"max_messages_per_second": 20}, frame(TEXT, "x")),
            ({"max_bytes_per_second": 1000}, frame(TEXT, "x" * 100)),
            ({"max_control_frames_per_second": 20}, frame(PING)),
        ],
    )
    def test_who_does_not_let_up_is_closed_with_1008(self, limits: dict[str, float], flood: bytes) -> None:
        (option,) = limits
        with scene_of() as scene, scene.connect("strict") as client:
            scene.restrict("strict", limits=limits, timeouts={"over_rate_seconds": 2 * SOON})
            client.send(flood * 1000)
            assert closed_with(client) == (1008, f"over {option}")
            scene.check(f"over_{option}", f"over {option} ({limits[option]})")
            assert scene.count("rate_pauses") > 1
            assert [line for line in scene.lines if line.endswith("closing with 1008")]

    def test_reading_stops_until_the_kernels_buffers_are_full_and_goes_on(self) -> None:
        sink, size = Sink(), 64 * MIB
        with scene_of(sink) as scene, scene.connect("sink") as client:
            limits = {"max_bytes_per_second": 1000, "max_fragments": 1 << 20}
            scene.restrict("sink", limits=limits, timeouts={"over_rate_seconds": NEVER})
            with Source(client, size) as source:
                source.wait_stopped()
                # The kernel's buffers of both ends, and one read.
                assert source.sent < 16 * MIB
                assert sink.size < 1 * MIB
                taken = sink.size
                for _ in range(20):
                    assert is_alive(scene.polite)
                assert sink.size == taken  # a read's worth is a minute's at this rate
                scene.restrict("sink", limits={"max_bytes_per_second": 1 << 40, "max_fragments": 1 << 20})
                source.wait()
            wait_until(lambda: sink.size == size)
            assert scene.count("rate_pauses") == 1

    def test_a_raw_connection(self) -> None:
        raw = RawSink()
        with running([raw], listen={"accept": "raw"}, limits=Limits(max_bytes_per_second=1000)) as served:
            with Client(served.port) as client:
                client.send(bytes(900))
                wait_until(lambda: raw.size == 900)
                client.send(bytes(900))
                wait_until(lambda: served.context.counters.rate_pauses == 1)
                client.send(bytes(100))
                wait_until(lambda: raw.size == 1900)

    def test_by_default_real_clients_may_ping_as_they_like(self) -> None:
        with scene_of() as scene, scene.connect() as client:
            client.send(frame(PING, "p") * 900)
            assert [client.receive_frame().payload for _ in range(900)] == [b"p"] * 900
            assert scene.count("rate_pauses") == 0


class TestTimes:
    @pytest.mark.parametrize(
        ("option", "code", "text"),
        [
            ("first_message_seconds", 1008, "no message in time"),
            ("idle_seconds", 1001, "idle"),
            ("session_seconds", 1001, "session over"),
        ],
    )
    def test_of_a_websocket(self, option: str, code: int, text: str) -> None:
        with scene_of() as scene:
            scene.restrict("strict", timeouts={option: SOON})
            with scene.connect("strict") as client:
                scene.polite_until(f"over_{option}")
                assert closed_with(client) == (code, text)
                scene.check(f"over_{option}", f"{option} ({SOON:g}) are over, closing with {code}")

    def test_pings_do_not_keep_an_idle_one(self) -> None:
        with scene_of() as scene:
            scene.restrict("strict", timeouts={"idle_seconds": SOON})
            with scene.connect("strict") as client:

                def is_closed() -> bool:
                    client.send(frame(PING))
                    return scene.count("over_idle_seconds") == 1

                wait_until(is_closed)
                assert client.receive_close().close_code == 1001

    def test_a_session_ends_in_the_middle_of_talking(self) -> None:
        with scene_of() as scene:
            scene.restrict("strict", timeouts={"session_seconds": SOON})
            with scene.connect("strict") as client:
                trips = 0
                client.send_text("x")
                while (got := client.receive_frame()).opcode == TEXT:
                    client.send_text("x")
                    trips += 1
                assert trips > 5
                assert (got.close_code, got.close_reason) == (1001, "session over")

    def test_of_a_listener_and_of_those_who_are_here_when_they_change(self) -> None:
        listen = {"timeouts": ListenTimeouts(idle_seconds=NEVER)}
        with scene_of(listen=listen) as scene, scene.connect("strict") as client:
            scene.restrict("strict", timeouts={"idle_seconds": SOON})
            scene.polite_until("over_idle_seconds")
            assert closed_with(client) == (1001, "idle")

    @pytest.mark.parametrize("option", ["first_message_seconds", "idle_seconds", "session_seconds"])
    def test_of_a_raw_connection(self, option: str) -> None:
        raw = RawSink()
        timeouts = Timeouts(**{option: SOON})
        with running([raw], listen={"accept": "raw"}, timeouts=timeouts) as served, Client(served.port) as client:
            assert client.receive_end() == b""
            assert getattr(served.context.counters, f"over_{option}") == 1
            client.disconnect()
            wait_until(lambda: raw.ends == 1)

    def test_a_peer_that_does_not_answer_our_close(self) -> None:
        with scene_of() as scene:
            scene.restrict("strict", timeouts={"close_seconds": SOON, "session_seconds": SOON})
            with scene.connect("strict") as client:
                scene.polite_until("over_close_seconds")
                assert client.receive_close().close_code == 1001
                assert client.receive_end() == b""


class TestMemory:
    def test_the_one_that_holds_most_is_closed_and_the_others_go_on(self) -> None:
        with (
            scene_of(limits=Limits(max_memory_bytes=1 * MIB, max_message_bytes=8 * MIB)) as scene,
            ExitStack() as stack,
        ):
            small = [stack.enter_context(scene.connect()) for _ in range(8)]
            large = stack.enter_context(scene.connect())
            for client in small:
                client.send(frame(BINARY, bytes(80_000))[:64_000])
            wait_until(lambda: scene.served.context.memory.held > 8 * 60_000)
            large.send(frame(BINARY, bytes(1_000_000))[:600_000])
            close = large.receive_close()
            assert (close.close_code, close.close_reason) == (1013, "the server is out of memory")
            scene.check("over_max_memory_bytes", "all connections hold over max_memory_bytes (1048576)")
            for client in small:
                client.send(frame(BINARY, bytes(80_000))[64_000:])
                assert client.receive_message() == bytes(80_000)
            wait_until(lambda: scene.served.context.memory.held == 0)

    def test_one_that_reads_nothing_is_cut(self) -> None:
        with (
            scene_of(limits=Limits(max_memory_bytes=1 * MIB, max_queue_bytes=64 * MIB)) as scene,
            scene.connect("strict", receive_buffer=4096) as client,
        ):
            strict = scene.served.context.binding_of("strict").protocol
            (wsi,) = strict.wsis
            scene.served.call(lambda: wsi.send(bytes(16 * MIB)))
            scene.check("over_max_memory_bytes", "it holds most")
            wait_until(lambda: strict.closed == [1006])  # type: ignore[attr-defined]
            assert len(client.receive_end()) < 16 * MIB

    def test_what_many_do_not_read_of_one_broadcast_is_one_message(self) -> None:
        with (
            scene_of(limits=Limits(max_memory_bytes=10 * MIB, max_queue_bytes=64 * MIB)) as scene,
            ExitStack() as stack,
        ):
            clients = [stack.enter_context(scene.connect("strict", receive_buffer=4096)) for _ in range(10)]
            strict = scene.served.context.binding_of("strict").protocol
            scene.served.call(lambda: strict.broadcast(bytes(8 * MIB)))
            wait_until(lambda: scene.served.call(lambda: scene.served.context.memory.held) > 20 * MIB)
            assert is_alive(scene.polite)
            assert scene.count("over_max_memory_bytes") == 0
            for client in clients:
                assert client.receive_message() == bytes(8 * MIB)

    def test_a_thousand_that_drip_large_messages(self, tmp_path: Path) -> None:
        """Each stays far below its own limit, a megabyte."""
        with descriptors(4096), Site(tmp_path) as site, ExitStack() as stack:
            site.configure(more=f"[limits]\nmax_memory_bytes = {16 * MIB}\n[timeouts]\nhandshake_seconds = 60")
            pid = site.run()
            port = site.port
            polite = stack.enter_context(connect(port, "echo"))
            crowd = [stack.enter_context(connect(port, "echo")) for _ in range(1000)]
            header = frame(BINARY, bytes(1 * MIB))[:14]
            with grows_less_than(pid, 16 * MIB + 8 * MIB):
                for client in crowd:
                    client.send(header)
                for _ in range(6):  # 6 x 8 KiB x 1000 = 47 MiB
                    for client in crowd:
                        drip(client)
                    assert is_alive(polite)
            counters = site.status()["counters"]
            assert counters["over_max_memory_bytes"] > 500
            assert site.status()["memory"]["held_bytes"] <= 16 * MIB
            assert 1 <= site.log.read_text().count("all connections hold over max_memory_bytes") <= 2
            closed = [client for client in crowd if is_closed_with(client, 1013)]
            assert len(closed) == counters["over_max_memory_bytes"]


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Let this process, and those that it starts, have so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, count) if hard == resource.RLIM_INFINITY else min(max(soft, count), hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def drip(client: Client) -> None:
    """Send 8 KiB more; a connection that has ended meanwhile is none."""
    try:
        client.send(bytes(8192))
    except (BrokenPipeError, ConnectionResetError):
        pass


def is_closed_with(client: Client, code: int) -> bool:
    """Reports whether a Close frame with that code has come."""
    client.socket.settimeout(0)
    try:
        data = client.socket.recv(100)
    except BlockingIOError:
        return False
    return data[:1] == b"\x88" and int.from_bytes(data[2:4], "big") == code


class TestReload:
    def test_it_changes_the_numbers_of_those_who_are_there(self, tmp_path: Path) -> None:
        with Site(tmp_path) as site:
            site.configure(listen="port = 0\n[listen.limits]\nmax_message_bytes = 1000")
            site.run()
            with site.connect() as one, site.connect() as other, site.connect() as idle:
                one.send_binary(bytes(1000))
                assert one.receive_message() == bytes(1000)
                site.configure(
                    listen="port = 0\n[listen.limits]\nmax_message_bytes = 500",
                    more=f"[timeouts]\nidle_seconds = {SOON}",
                )
                assert site.wsd("reload").returncode == 0
                one.send_binary(bytes(501))
                assert closed_with(one) == (1009, "message over 500 bytes")
                assert closed_with(idle) == (1001, "idle")
                assert closed_with(other) == (1001, "idle")
            text = site.wsd("status").stdout
            assert "limits met: over_idle_seconds 2, over_max_message_bytes 1" in text
