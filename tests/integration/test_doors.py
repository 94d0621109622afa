"""Who may come in, and who is really there: through real sockets, with and without proxies, from a configuration."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ca import Authority
from tests.support.client import Client, close_frame, connect, upgrade_request
from tests.support.context import Running, running
from tests.support.daemon import Site
from tests.support.logged import logged
from tests.support.loops import LOOPS, loop_of
from tests.support.proxies import LOCAL, TCP4, UNSPEC, block, line, raw_block
from tests.support.timing import MS, wait_until
from tests.support.tls import client_context
from wsd import log
from wsd.config import Limits, Timeouts
from wsd.protocol import Protocol, callback_protocol
from wsd.reasons import CLOSE, Reason

HERE = "127.0.0.1"
GET = "GET / HTTP/1.1\r\nHost: a\r\n"


class Who(Protocol):
    """Says to each newcomer who it is, then echoes."""

    name = "who"

    def __init__(self) -> None:
        self.closed: list[tuple[int, str]] = []
        self.filtered: list[str] = []

    def on_filter_network_connection(self, peer: Any) -> int | None:
        self.filtered.append(str(peer))
        return CLOSE if peer.address == "198.51.100.66" else None

    def on_established(self, wsi: Any) -> None:
        wsi.send(f"{wsi.peer} {wsi.proxy and wsi.proxy.address}")

    def on_message(self, wsi: Any, message: Any) -> None:
        wsi.send(message)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.closed.append((code, close_reason))


def serve(who: Who | None = None, **listen: Any) -> Any:
    return running([who or Who()], listen=listen)


def count(served: Running, name: str) -> Any:
    return served.call(lambda: getattr(served.context.counters, name))


def greeting(port: int, *before: bytes, **headers: str) -> str | bytes:
    """What a WebSocket hears first whose proxy sends `before` in front of its request, and `headers` with it."""
    with Client(port) as client:
        lines = [(name.replace("_", "-"), value) for name, value in headers.items()]
        client.send(*before, upgrade_request(headers=lines))
        assert client.receive_response().status == 101
        text = client.receive_message()
        client.finish()
        return text


def is_hung_up_on(port: int, *data: bytes) -> bool:
    """Whether one that says `data` is closed without a word."""
    with Client(port) as client:
        try:
            client.send(*data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return client.receive_end() == b""


def status(port: int, *headers: str, before: bytes = b"") -> int:
    """The status of a plain request."""
    with Client(port) as client:
        return client.request(before + "\r\n".join([GET.rstrip(), *headers, "", ""]).encode()).status


# -- allow and deny ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"deny": ["127.0.0.0/8"]}, {"allow": ["192.0.2.0/24"]}, {"allow": ["unix", "::1"]}])
def test_who_may_not_is_hung_up_on(fields: dict[str, Any]) -> None:
    with logged(log.INFO) as lines, serve(**fields) as served:
        assert is_hung_up_on(served.port)
        assert is_hung_up_on(served.port, GET.encode())
        assert count(served, "denied") == count(served, "refused") == 2
        assert count(served, "established") == 0
    assert any(f"{HERE}:" in line and "refused: " in line for line in lines)


def test_who_may_comes_in() -> None:
    with serve(allow=["127.0.0.0/8"], deny=["127.0.0.2"]) as served:
        assert str(greeting(served.port)).startswith(f"{HERE}:")
        with socket.create_connection((HERE, served.port), source_address=("127.0.0.2", 0)) as other:
            other.settimeout(10_000 * MS)
            assert other.recv(1) == b""
        assert str(greeting(served.port)).endswith(" None")


def test_unix_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "wsd.sock")
    with running([Who()], unix=path, listen={"deny": ["unix"]}), Client(path) as client:
        assert client.receive_end() == b""
    with running([Who()], unix=path, listen={"allow": ["unix"]}), connect(path) as client:
        assert client.receive_message() == "unix None"


def test_a_file_name_is_not_taken_for_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer chooses what its own end of a Unix socket is called."""
    path = str(tmp_path / "wsd.sock")
    monkeypatch.chdir(tmp_path)
    with running([Who()], unix=path, listen={"allow": ["192.0.2.7"]}):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10_000 * MS)
            sock.bind("192.0.2.7")
            sock.connect(path)
            assert sock.recv(1) == b""


# -- X-Forwarded-For and Forwarded ------------------------------------------------------------------------------------


def test_headers_are_believed_from_trusted_proxies_only() -> None:
    with serve(trusted_proxies=["10.0.0.1"], forwarded="x-forwarded-for") as served:
        assert str(greeting(served.port, X_Forwarded_For="192.0.2.7")).startswith(f"{HERE}:")
    with serve(trusted_proxies=["127.0.0.1", "10.0.0.1"], forwarded="x-forwarded-for") as served:
        assert greeting(served.port, X_Forwarded_For="1.1.1.1, 192.0.2.7, 10.0.0.1") == f"192.0.2.7 {HERE}"
        assert greeting(served.port, X_Forwarded_For="192.0.2.7:99") == f"192.0.2.7:99 {HERE}"
        assert str(greeting(served.port, Forwarded="for=192.0.2.7")).endswith(" None")
    with serve(trusted_proxies=["127.0.0.1"], forwarded="forwarded") as served:
        assert greeting(served.port, Forwarded='for="[2001:db8::7]:99";proto=https') == f"[2001:db8::7]:99 {HERE}"
        assert str(greeting(served.port, X_Forwarded_For="192.0.2.7")).endswith(" None")


def test_by_default_no_header_is_believed() -> None:
    with serve() as served:
        text = str(greeting(served.port, X_Forwarded_For="192.0.2.7", Forwarded="for=192.0.2.7"))
        assert text.startswith(f"{HERE}:")


def test_a_proxys_connection_carries_requests_of_different_people() -> None:
    with (
        logged(log.INFO | log.DEBUG) as lines,
        serve(trusted_proxies=[HERE], forwarded="x-forwarded-for", deny=["192.0.2.8"]) as served,
    ):
        with Client(served.port) as client:
            for address in ("192.0.2.7", "192.0.2.9"):
                assert client.request(f"{GET}X-Forwarded-For: {address}\r\n\r\n").status == 200
                assert any(f"#1 {address}: GET /: 200" in said for said in lines)
            assert client.request(f"{GET}\r\n").status == 200
            assert client.request(f"{GET}X-Forwarded-For: 192.0.2.8\r\n\r\n").status == 403
            assert client.receive_end() == b""
        assert any("#1 192.0.2.8: refused with 403" in said for said in lines)
        assert count(served, "denied") == 1


def test_somebody_without_an_address_is_not_let_in_as_the_proxy() -> None:
    with serve(trusted_proxies=[HERE], forwarded="forwarded", allow=["192.0.2.0/24"]) as served:
        assert status(served.port) == 200, "the proxy itself, a health check"
        assert status(served.port, "Forwarded: for=192.0.2.7") == 200
        assert status(served.port, "Forwarded: for=unknown") == 403
        assert status(served.port, "Forwarded: for=192.0.3.7") == 403


# -- the PROXY protocol -----------------------------------------------------------------------------------------------


@pytest.fixture
def behind() -> Iterator[Running]:
    with serve(trusted_proxies=[HERE], proxy_protocol=True) as served:
        yield served


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (line(), f"192.0.2.7:4711 {HERE}"),
        (line("2001:db8::7"), f"[2001:db8::7]:4711 {HERE}"),
        (block(), f"192.0.2.7:4711 {HERE}"),
        (block("2001:db8::7", 1, b"\x04\x00\x01x"), f"[2001:db8::7]:1 {HERE}"),
        (block(more=bytes(3000)), f"192.0.2.7:4711 {HERE}"),
    ],
)
def test_the_header_says_who_it_is(behind: Running, header: bytes, said: str) -> None:
    assert greeting(behind.port, header) == said


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", raw_block(LOCAL, UNSPEC), raw_block(LOCAL, TCP4, b"\xc0\x00\x02\x07" * 3)]
)
def test_the_proxys_own_connections_keep_their_address(behind: Running, header: bytes) -> None:
    text = str(greeting(behind.port, header))
    assert text.startswith(f"{HERE}:")
    assert text.endswith(" None")


@pytest.mark.parametrize("header", [line(), block("2001:db8::7")])
def test_however_it_arrives(behind: Running, header: bytes) -> None:
    whole = header + upgrade_request()
    for size in (1, 7, len(header) - 1, len(header), len(header) + 1):
        with Client(behind.port) as client:
            client.send_slowly(whole, size)
            assert client.receive_response().status == 101
            assert str(client.receive_message()).endswith(f":4711 {HERE}")


@pytest.mark.parametrize(
    "data",
    [
        raw_block(0x21, TCP4, bytes(200), size=65535),
        b"PROXY TCP4 " + b"1" * 189,
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n",
        GET.encode() + b"\r\n",
        b"\x16\x03\x01",
        line()[1:],
    ],
)
def test_what_is_no_header_is_hung_up_on(data: bytes) -> None:
    with logged(log.INFO | log.WARN | log.ERR) as lines, serve(trusted_proxies=[HERE], proxy_protocol=True) as served:
        assert is_hung_up_on(served.port, data)
        wait_until(lambda: count(served, "bad_proxy_headers") == 1)
        assert greeting(served.port, line())
    assert sum("PROXY header" in said for said in lines) == 1


def test_a_header_that_never_ends() -> None:
    listen = {"trusted_proxies": [HERE], "proxy_protocol": True}
    with running([Who()], listen=listen, timeouts=Timeouts(handshake_seconds=0.1)) as served:
        for data in (b"", b"PROXY TCP4 192"):
            assert is_hung_up_on(served.port, data)
        assert count(served, "bad_proxy_headers") == count(served, "over_handshake_seconds") == 2


def test_who_is_no_trusted_proxy_is_hung_up_on() -> None:
    with serve(trusted_proxies=["10.0.0.1"], proxy_protocol=True) as served:
        assert is_hung_up_on(served.port, line(), GET.encode())
        assert count(served, "denied") == 1


@pytest.mark.parametrize("header", [line(), block()])
def test_without_the_option_it_is_a_bad_request(header: bytes) -> None:
    with serve() as served, Client(served.port) as client:
        client.send(header, GET.encode(), b"\r\n")
        assert client.receive_response().status == 400
        assert client.receive_end() == b""


def test_the_real_peer_is_judged() -> None:
    who = Who()
    listen = {"trusted_proxies": [HERE], "proxy_protocol": True, "allow": ["192.0.2.0/24", "198.51.100.66"]}
    with logged(log.INFO) as lines, running([who], listen=listen) as served:
        assert greeting(served.port, line()) == f"192.0.2.7:4711 {HERE}"
        assert is_hung_up_on(served.port, line("192.0.3.7"), GET.encode())
        assert is_hung_up_on(served.port, line("198.51.100.66"), GET.encode())
        assert status(served.port, before=raw_block(LOCAL, UNSPEC)) == 200
        assert count(served, "denied") == 1
        assert count(served, "refused") == 2
    assert who.filtered[0] == "192.0.2.7:4711", "the plugin is asked about the real peer, once"
    assert "198.51.100.66:4711" in who.filtered
    assert len(who.filtered) == 3
    assert any("192.0.3.7:4711 refused: not among" in said for said in lines)
    assert any("who#1 192.0.2.7:4711: established" in said for said in lines)


@pytest.mark.parametrize("data", [b"", line(), raw_block(LOCAL, UNSPEC)])
def test_health_checks_make_no_noise(data: bytes) -> None:
    """They connect and vanish, with a FIN or with a reset, by the second."""
    who = Who()
    levels = log.ERR | log.WARN | log.NOTICE | log.INFO
    with logged(levels) as lines, running([who], listen={"trusted_proxies": [HERE], "proxy_protocol": True}) as served:
        for leave in (Client.disconnect, Client.reset):
            client = Client(served.port)
            client.send(data)
            leave(client)
        wait_until(lambda: served.call(lambda: served.context.wsi_count) == 0 and count(served, "accepted") == 2)
        assert count(served, "refused") == count(served, "bad_proxy_headers") == 0
    assert lines == []


def test_a_header_that_is_cut_off_is_told(behind: Running) -> None:
    with logged(log.INFO) as lines, Client(behind.port) as client:
        client.send(line()[:-1])
        client.shut_down_writing()
        assert client.receive_end() == b""
        wait_until(lambda: count(behind, "bad_proxy_headers") == 1)
    assert any("its PROXY header has no end" in said for said in lines)


def test_both_kinds_of_proxy_in_a_row() -> None:
    with serve(trusted_proxies=[HERE, "10.0.0.1"], proxy_protocol=True, forwarded="x-forwarded-for") as served:
        assert greeting(served.port, line("10.0.0.1"), X_Forwarded_For="192.0.2.9") == f"192.0.2.9 {HERE}"
        assert greeting(served.port, line("192.0.2.7"), X_Forwarded_For="192.0.2.9") == f"192.0.2.7:4711 {HERE}"


def test_by_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "wsd.sock")
    with running([Who()], unix=path, listen={"trusted_proxies": ["unix"], "proxy_protocol": True}):
        with Client(path) as client:
            client.send(line(), upgrade_request())
            assert client.receive_response().status == 101
            assert client.receive_message() == "192.0.2.7:4711 "


@pytest.mark.parametrize("kind", LOOPS)
def test_it_stands_in_front_of_tls(tmp_path: Path, kind: str) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue()
    listen = {
        "trusted_proxies": [HERE],
        "proxy_protocol": True,
        "tls": {"certificate": str(issued.certificate), "private_key": str(issued.private_key)},
    }
    with loop_of(kind) as loop, running([Who()], listen=listen, loop=loop) as served:
        for header, size in ((line(), 1), (block("2001:db8::7"), 5), (block(), 1 << 20)):
            with Client(served.port) as client:
                client.send_slowly(header, size)
                context = client_context(authority.certificate)
                client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
                client.upgrade()
                assert str(client.receive_message()).endswith(f":4711 {HERE}")
                client.send(close_frame())
                client.receive_close()
        with Client(served.port) as client:  # the ClientHello in one segment with the header is read to its last byte
            client.send(line(), client_hello(authority))
            assert client.receive_exactly(1) == b"\x16", "a ServerHello"


def client_hello(authority: Authority) -> bytes:
    """The first word of a TLS client."""
    outgoing = ssl.MemoryBIO()
    made = client_context(authority.certificate).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        made.do_handshake()
    return outgoing.read()


def test_in_front_of_raw_bytes() -> None:
    heard: list[str] = []

    @callback_protocol("bytes")
    def callback(wsi: Any, reason: int, user: Any, data: Any) -> int:
        if reason == Reason.RAW_ADOPT:
            heard.append(f"{wsi.peer} {wsi.proxy.address}")
        elif reason == Reason.RAW_RX:
            wsi.send(data)
        return 0

    listen = {"accept": "raw", "trusted_proxies": [HERE], "proxy_protocol": True}
    with running([callback], listen=listen) as served, Client(served.port) as client:
        client.send(block(), b"hello")
        assert client.receive_exactly(5) == b"hello"
        assert heard == [f"192.0.2.7:4711 {HERE}"]
        assert served.call(lambda: served.context.admission.handshakes) == 0


# -- limits -----------------------------------------------------------------------------------------------------------


def test_connections_of_one_address() -> None:
    with running([Who()], limits=Limits(max_connections_per_address=2)) as served:
        with connect(served.port) as one, connect(served.port):
            assert is_hung_up_on(served.port)
            assert count(served, "over_max_connections_per_address") == 1
            one.receive_message()
            one.finish()
            wait_until(lambda: served.call(lambda: served.context.wsi_count) == 1)
            assert greeting(served.port)


@pytest.mark.parametrize(
    ("listen", "first", "second"),
    [
        ({"forwarded": "x-forwarded-for"}, "X-Forwarded-For: 192.0.2.7", "X-Forwarded-For: 192.0.2.8"),
        ({"forwarded": "forwarded"}, 'Forwarded: for="[2001:db8::1]"', 'Forwarded: for="[2001:db8:0:1::1]"'),
    ],
)
def test_behind_a_proxy_the_real_peer_is_counted(listen: dict[str, Any], first: str, second: str) -> None:
    listen = {"trusted_proxies": [HERE], **listen}
    with running([Who()], listen=listen, limits=Limits(max_connections_per_address=1)) as served:
        name, _, value = first.partition(": ")
        other = second.partition(": ")[2]
        with connect(served.port, headers=[(name, value)]), connect(served.port, headers=[(name, other)]):
            with Client(served.port) as client:
                client.send(upgrade_request(headers=[(name, value)]))
                answer = client.receive_response()
                assert (answer.status, answer.header("Retry-After")) == (429, "1")
            assert status(served.port) == 200, "the proxy itself"
            assert count(served, "over_max_connections_per_address") == 1


def test_behind_the_proxy_protocol_the_real_peer_is_counted() -> None:
    listen = {"trusted_proxies": [HERE], "proxy_protocol": True}
    with running([Who()], listen=listen, limits=Limits(max_connections_per_address=1)) as served:
        with Client(served.port) as one, Client(served.port) as two:
            for client, address in ((one, "192.0.2.7"), (two, "192.0.2.8")):
                client.send(line(address))
                client.upgrade()
            assert is_hung_up_on(served.port, line("192.0.2.7"), GET.encode())
            assert count(served, "over_max_connections_per_address") == 1


def test_handshakes_in_a_second() -> None:
    with running([Who()], limits=Limits(max_handshakes_per_second=3)) as served:
        heard = [is_hung_up_on(served.port, b"GET / HTTP/1.0\r\n\r\n") for _ in range(4)]
        assert heard == [False, False, False, True]
        assert count(served, "over_max_handshakes_per_second") == 1
        wait_until(lambda: not is_hung_up_on(served.port, b"GET / HTTP/1.0\r\n\r\n"))


def test_handshakes_under_way() -> None:
    """Those who say nothing make room for those who do, and nobody who has come in is touched."""
    with running([Who()], limits=Limits(max_handshakes=3)) as served:
        with connect(served.port) as good, Client(served.port) as a, Client(served.port) as b, Client(served.port) as c:
            good.receive_message()
            wait_until(lambda: served.call(lambda: served.context.admission.handshakes) == 3)
            # It waits in the backlog, for a second at most, and then takes the place of the oldest.
            assert greeting(served.port)
            assert a.receive_end() == b""
            assert count(served, "over_max_handshakes") == 1
            assert count(served, "accept_pauses") > 0
            for silent in (b, c):
                assert silent.request(f"{GET}\r\n").status == 200
            good.send_text("still here")
            assert good.receive_message() == "still here"


def test_many_that_come_at_once_are_all_served() -> None:
    """At the cap accepting waits for those under way, and closes none that gets on."""
    with running([Who()], limits=Limits(max_handshakes=2)) as served:
        clients = [Client(served.port) for _ in range(40)]
        try:
            for client in clients:
                client.send(upgrade_request())
            for client in clients:
                assert client.receive_response().status == 101
        finally:
            for client in clients:
                client.disconnect()
        assert count(served, "over_max_handshakes") == 0


# -- a daemon ---------------------------------------------------------------------------------------------------------


def test_a_reload_changes_the_lists_for_new_connections(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        site.configure(listen='port = 0\nprotocols = ["echo"]')
        site.run()
        port = site.port
        with connect(port, "echo") as old:
            site.configure(listen='port = 0\nprotocols = ["echo"]\ndeny = ["127.0.0.1"]')
            assert site.wsd("reload").returncode == 0
            assert is_hung_up_on(port)
            old.send_text("still here")
            assert old.receive_message() == "still here"
            text = (
                'protocols = ["echo"]\nproxy_protocol = true\ntrusted_proxies = ["127.0.0.0/8"]\ndeny = ["192.0.2.8"]'
            )
            site.configure(listen=f"port = 0\n{text}")
            assert site.wsd("reload").returncode == 0
            assert is_hung_up_on(port, line("192.0.2.8"), GET.encode())
            with Client(port) as client:
                client.send(line())
                client.upgrade("/", "echo")
        counters = site.status()["counters"]
        assert (counters["denied"], counters["refused"]) == (2, 2)


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ('allow = ["10.0.0.1/8"]', 'listen[0].allow[0]: found "10.0.0.1/8"; allowed: the network "10.0.0.0/8", or an'),
        ('deny = ["example.com"]', 'listen[0].deny[0]: found "example.com"; allowed: a network such as "10.0.0.0/8"'),
        ('deny = ["::1", "::1"]', '"::1" stands there twice'),
        ("proxy_protocol = true", "listen[0].proxy_protocol: found proxy_protocol = true without trusted_proxies"),
        ('forwarded = "forwarded"', 'listen[0].forwarded: found forwarded = "forwarded" without trusted_proxies'),
        ('forwarded = "x-real-ip"', 'allowed: one of "none", "x-forwarded-for", "forwarded"'),
        ('trusted_proxies = ["::1"]', "listen[0].trusted_proxies: found trusted_proxies = "),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, listen: str, said: str) -> None:
    with Site(tmp_path) as site:
        site.configure(listen=listen)
        done = site.wsd("check")
        assert done.returncode == 78
        assert said in done.stdout + done.stderr
