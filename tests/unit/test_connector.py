"""RFC 8305: which address is tried when, which connection is kept, and what is said when there is none."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.support.server import Server, refusing_port, silent_port
from tests.support.timing import MS, PATIENCE
from wsd import connector
from wsd.config import Keepalive
from wsd.connector import ATTEMPT_DELAY_SECONDS, Connector, interleave, is_self_connected
from wsd.context import Context
from wsd.errors import ConnectError
from wsd.resolver import Address

Result = socket.socket | ConnectError


def v4(port: int, host: str = "127.0.0.1") -> Address:
    return Address(socket.AF_INET, (host, port))


def v6(port: int, host: str = "::1") -> Address:
    return Address(socket.AF_INET6, (host, port, 0, 0))


@pytest.fixture
def context() -> Iterator[Context]:
    with Context([], keepalive=Keepalive(time_seconds=7, probes=2, interval_seconds=3)) as context:
        yield context


def turns_until(context: Context, results: Sequence[object]) -> None:
    """Serve until there is a result."""
    deadline = time.monotonic() + PATIENCE
    while not results:
        assert time.monotonic() < deadline, "no result"
        context.service(20 * MS)


def connect(context: Context, *addresses: Address, interface: str = "") -> Result:
    """What a connector comes to; given once, and never while it is made."""
    results: list[Result] = []
    made = Connector(context, addresses, interface, results.append)
    assert not results
    turns_until(context, results)
    context.service(0)
    assert len(results) == 1
    made.cancel()
    return results[0]


def error(result: Result) -> tuple[str, str]:
    assert isinstance(result, ConnectError), result
    return result.cause, result.text


@contextlib.contextmanager
def connected(result: Result) -> Iterator[socket.socket]:
    assert isinstance(result, socket.socket), result
    with result:
        yield result


class TestOrder:
    @pytest.mark.parametrize(
        ("addresses", "expected"),
        [
            ([], []),
            ([v4(1)], [v4(1)]),
            ([v4(1), v4(2)], [v4(1), v4(2)]),
            ([v6(1), v6(2), v6(3), v4(1)], [v6(1), v4(1), v6(2), v6(3)]),
            ([v4(1), v6(1), v6(2), v4(2)], [v4(1), v6(1), v4(2), v6(2)]),
            ([v6(1), v4(1), v4(2), v4(3)], [v6(1), v4(1), v4(2), v4(3)]),
        ],
    )
    def test_the_families_alternate(self, addresses: list[Address], expected: list[Address]) -> None:
        """RFC 8305 4: "avoid having to wait through a long list of addresses from a given address family"."""
        assert interleave(addresses) == expected


class TestConnecting:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_one_address(self, context: Context, host: str) -> None:
        with Server(host) as server:
            address = v6(server.port) if ":" in host else v4(server.port)
            with connected(connect(context, address)) as sock:
                assert sock.getpeername()[:2] == (host, server.port)
                assert sock.gettimeout() == 0
                server.accept()

    def test_the_socket_is_set_as_an_accepted_one(self, context: Context) -> None:
        with Server() as server, connected(connect(context, v4(server.port))) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 2
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 3
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 13_000
            assert not os.get_inheritable(sock.fileno())

    def test_one_that_refuses_makes_room_at_once(self, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connector, "ATTEMPT_DELAY_SECONDS", PATIENCE * 10)
        with refusing_port("::1") as dead, Server() as server:
            with connected(connect(context, v6(dead), v4(server.port))) as sock:
                assert sock.getpeername() == ("127.0.0.1", server.port)

    def test_beside_one_that_is_silent_the_next_begins_after_a_quarter_of_a_second(self, context: Context) -> None:
        with silent_port("::1") as silent, Server() as server:
            before = time.monotonic()
            with connected(connect(context, v6(silent), v4(server.port))) as sock:
                assert sock.getpeername() == ("127.0.0.1", server.port)
            assert time.monotonic() - before >= ATTEMPT_DELAY_SECONDS

    def test_of_two_that_answer_in_one_turn_one_is_kept(self, context: Context) -> None:
        with Server("::1") as one, Server() as two:
            results: list[Result] = []
            made = Connector(context, [v6(one.port), v4(two.port)], "", results.append)
            made._begin_next()
            made._begin_next()
            assert made.where == f"[::1]:{one.port}, 127.0.0.1:{two.port}"
            ends = {"::1": one.accept(), "127.0.0.1": two.accept()}
            turns_until(context, results)
            with connected(results[0]) as sock:
                winner = ends.pop(sock.getpeername()[0])
                (loser,) = ends.values()
                assert loser.receive_end() == b""
                sock.send(b"x")
                assert winner.receive_exactly(1) == b"x"
            assert len(results) == 1

    def test_the_others_are_given_back(self, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connector, "ATTEMPT_DELAY_SECONDS", 0)
        with silent_port() as one, silent_port("::1") as two, Server() as server:
            before = set(os.listdir("/proc/self/fd"))
            results: list[Result] = []
            Connector(context, [v4(one), v6(two), v4(server.port)], "", results.append)
            turns_until(context, results)
            # Nothing but the winner is left when the turn is over, and nobody had to cancel anything.
            with connected(results[0]) as sock:
                assert set(os.listdir("/proc/self/fd")) - before == {str(sock.fileno())}

    def test_a_loser_is_not_closed_while_events_are_handed_out(self, context: Context) -> None:
        """Else an event that is still to be handed out could meet a new owner of its number."""
        with silent_port("::1") as silent, Server() as server:
            losers: list[str] = []
            made: Connector

            def done(result: Result) -> None:
                assert isinstance(result, socket.socket)
                losers.extend(os.readlink(f"/proc/self/fd/{sock.fileno()}") for sock in made._losers)
                result.close()

            made = Connector(context, [v6(silent), v4(server.port)], "", done)
            turns_until(context, losers)
            assert losers[0].startswith("socket:")
            assert not made._losers


class TestFailing:
    def test_refused(self, context: Context) -> None:
        with refusing_port() as dead:
            expected = ("refused", f"127.0.0.1:{dead}: Connection refused")
            assert error(connect(context, v4(dead))) == expected

    def test_every_address_is_told(self, context: Context) -> None:
        with refusing_port() as one, refusing_port("::1") as two:
            text = f"[::1]:{two}: Connection refused; 127.0.0.1:{one}: Connection refused"
            assert error(connect(context, v6(two), v4(one))) == ("refused", text)

    def test_no_way(self, context: Context) -> None:
        """The kernel knows at once that no packet of this machine may go there: a broadcast."""
        cause, text = error(connect(context, v4(80, "255.255.255.255")))
        assert cause == "unreachable"
        assert text.startswith("255.255.255.255:80: ")

    def test_it_fails_at_once_when_the_last_one_fails(self, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connector, "ATTEMPT_DELAY_SECONDS", PATIENCE * 10)
        with refusing_port() as one, refusing_port("::1") as two:
            assert error(connect(context, v4(one), v6(two), v4(one), v4(one)))[0] == "refused"

    def test_not_while_another_one_is_under_way(self, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connector, "ATTEMPT_DELAY_SECONDS", 0)
        with silent_port() as silent:
            results: list[Result] = []
            made = Connector(context, [v4(silent), v4(80, "255.255.255.255")], "", results.append)
            while not made._failures:
                context.service(20 * MS)
            assert not results
            assert made.where == f"127.0.0.1:{silent}"
            made.cancel()

    def test_no_descriptor_left(self, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
        def exhausted(*arguments: object) -> socket.socket:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", exhausted)
            results: list[Result] = []
            Connector(context, [v4(1), v6(2)], "", results.append)
            turns_until(context, results)
        assert error(results[0]) == ("limit", "127.0.0.1:1: Too many open files; [::1]:2: Too many open files")

    @pytest.mark.parametrize(
        ("numbers", "cause"),
        [
            ([errno.ENETUNREACH, errno.ECONNREFUSED], "refused"),
            ([errno.ECONNRESET, errno.ETIMEDOUT], "reset"),
            ([errno.ETIMEDOUT, errno.EHOSTUNREACH], "timeout"),
            ([errno.ETIMEDOUT, errno.ECONNREFUSED], "refused"),
            ([errno.EADDRNOTAVAIL], "unreachable"),
            ([errno.EPERM, errno.EMFILE], "limit"),
        ],
    )
    def test_the_most_telling_cause_is_told(
        self, context: Context, monkeypatch: pytest.MonkeyPatch, numbers: list[int], cause: str
    ) -> None:
        left = list(numbers)
        monkeypatch.setattr(connector.socket.socket, "connect_ex", lambda sock, address: left.pop(0))
        got, text = error(connect(context, *(v4(port + 1) for port in range(len(numbers)))))
        assert got == cause
        assert text == "; ".join(f"127.0.0.1:{at + 1}: {os.strerror(number)}" for at, number in enumerate(numbers))

    def test_a_socket_connected_to_itself_is_one_that_nobody_listens_at(
        self, context: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with refusing_port() as free:
            pass

        def bind_first(sock: socket.socket, address: tuple[str, int]) -> int:
            """Give the client the port that it connects to, as the kernel may."""
            sock.bind(address)
            return real(sock, address)

        real = socket.socket.connect_ex
        monkeypatch.setattr(connector.socket.socket, "connect_ex", bind_first)
        assert error(connect(context, v4(free))) == ("refused", f"127.0.0.1:{free}: Connection refused")

    def test_a_socket_that_was_reset_is_not_connected_to_itself(self) -> None:
        with socket.socket() as sock:
            assert not is_self_connected(sock)


class TestCancelling:
    @pytest.mark.parametrize("turns", [0, 1, 3])
    def test_every_descriptor_comes_back_and_nobody_is_called(
        self, context: Context, monkeypatch: pytest.MonkeyPatch, turns: int
    ) -> None:
        monkeypatch.setattr(connector, "ATTEMPT_DELAY_SECONDS", 0)
        with silent_port() as one, silent_port("::1") as two:
            before = set(os.listdir("/proc/self/fd"))
            results: list[Result] = []
            made = Connector(context, [v4(one), v6(two)], "", results.append)
            for _ in range(turns):
                context.service(0)
            assert made.where.count(":") == {0: 0, 1: 1, 3: 4}[turns]
            made.cancel()
            assert set(os.listdir("/proc/self/fd")) == before
            made.cancel()
            context.service(0)
            assert not results

    def test_what_waits_for_the_end_of_the_turn_is_closed_too(self, context: Context) -> None:
        with silent_port("::1") as silent, Server() as server:
            before = set(os.listdir("/proc/self/fd"))
            made: Connector
            results: list[Result] = []

            def done(result: Result) -> None:
                assert isinstance(result, socket.socket)
                result.close()
                made.cancel()
                assert set(os.listdir("/proc/self/fd")) == before
                results.append(result)

            made = Connector(context, [v6(silent), v4(server.port)], "", done)
            turns_until(context, results)


class TestInterface:
    def test_an_address_to_come_from(self, context: Context) -> None:
        with Server() as server:
            with connected(connect(context, v4(server.port), interface="127.0.0.9")) as sock:
                assert sock.getsockname()[0] == "127.0.0.9"

    def test_an_ipv6_address_to_come_from(self, context: Context) -> None:
        with Server("::1") as server:
            with connected(connect(context, v6(server.port), interface="::1")) as sock:
                assert sock.getsockname()[0] == "::1"

    def test_addresses_of_the_other_family_are_passed_over(self, context: Context) -> None:
        with Server() as server, Server("::1") as other:
            with connected(connect(context, v6(other.port), v4(server.port), interface="127.0.0.1")) as sock:
                assert sock.family == socket.AF_INET

    def test_none_but_the_other_family(self, context: Context) -> None:
        expected = ("unreachable", "[::1]:80: not of one family with 127.0.0.1")
        assert error(connect(context, v6(80), interface="127.0.0.1")) == expected

    def test_an_address_that_is_not_ours(self, context: Context) -> None:
        cause, text = error(connect(context, v4(80), interface="192.0.2.7"))
        assert (cause, text) == ("unreachable", "127.0.0.1:80: Cannot assign requested address")

    def test_a_device(self, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the kernel is told; whether it allows that depends on its age and on who we are."""
        told: list[tuple[int, int, object]] = []
        real = socket.socket.setsockopt

        def setsockopt(sock: socket.socket, level: int, name: int, value: int | bytes) -> None:
            if name == socket.SO_BINDTODEVICE:
                told.append((level, name, value))
            else:
                real(sock, level, name, value)

        monkeypatch.setattr(connector.socket.socket, "setsockopt", setsockopt)
        with Server() as server, connected(connect(context, v4(server.port), interface="lo")):
            assert told == [(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")]

    def test_a_device_that_is_not_there(self, context: Context) -> None:
        cause, text = error(connect(context, v4(80), interface="no-such-dev"))
        assert cause == "unreachable"
        assert text.startswith("127.0.0.1:80: ")
