"""A connection's memory goes with it: nothing of it waits for the garbage collector, however it has ended.

The collector counts objects and not what they hold, and a TLS connection holds some 50 kB of OpenSSL's: where its parts
refer to each other in a ring, hundreds that have ended stay in memory, and it is the peer who decides how many.
"""

from __future__ import annotations

import gc
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.soak.bad import COMPRESSED_VIOLATIONS, HEADS, VIOLATIONS
from tests.support.ca import Authority
from tests.support.client import PING, TEXT, Client, close_frame, frame, upgrade_request
from tests.support.context import Running, running
from tests.support.echoes import EchoMessages
from tests.support.talker import DEFLATE
from tests.support.timing import wait_until
from tests.support.tls import TlsClient, client_context
from wsd.wsi import Wsi


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """What earlier tests have left is not looked at: one that failed keeps all that it had for the report."""
    gc.collect()
    gc.freeze()


@contextmanager
def uncollected(authority: Authority, *, is_secure: bool) -> Iterator[Running]:
    """A context in a process whose collector is off."""
    issued = authority.issue(["localhost"])
    tls = {"certificate": str(issued.certificate), "private_key": str(issued.private_key)}
    gc.collect()
    gc.disable()
    try:
        with running([EchoMessages()], listen={"tls": tls} if is_secure else {}) as served:
            yield served
    finally:
        gc.enable()


@pytest.fixture(params=["plain", "TLS"])
def served(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Running]:
    with uncollected(authority, is_secure=request.param == "TLS") as served:
        yield served


@pytest.fixture
def connect(served: Running, authority: Authority) -> Callable[[], Client]:
    """Connect, under TLS where that is spoken; nothing has been said yet."""

    def connect() -> Client:
        if served.context.listeners[0].tls is None:
            return Client(served.port)
        return TlsClient(served.port, authority.certificate)

    return connect


def check_freed(served: Running) -> None:
    """Nobody is there any more, and no wsi is left."""
    wait_until(lambda: served.call(lambda: served.context.wsi_count) == 0, what="it has ended")
    served.call(lambda: None)  # a turn, which lets go of what the last one had at hand
    assert not [one for one in gc.get_objects() if isinstance(one, Wsi)]


ALL_VIOLATIONS = {**VIOLATIONS, **COMPRESSED_VIOLATIONS}


@pytest.mark.parametrize("name", ALL_VIOLATIONS)
def test_a_violation(served: Running, connect: Callable[[], Client], name: str) -> None:
    code, data = ALL_VIOLATIONS[name]
    with connect() as client:
        client.upgrade(headers=DEFLATE if name in COMPRESSED_VIOLATIONS else [])
        client.send(frame(TEXT, "before"), data)
        assert client.receive_close().close_code == code
        client.receive_end()
    check_freed(served)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_refused(served: Running, connect: Callable[[], Client], name: str) -> None:
    status, data = HEADS[name]
    with connect() as client:
        client.send(data)
        assert client.receive_response().status == status
    check_freed(served)


@pytest.mark.parametrize("size", [0, 5, 80, None])
def test_one_that_vanishes_before_it_is_a_websocket(
    served: Running, connect: Callable[[], Client], size: int | None
) -> None:
    with connect() as client:
        client.send(upgrade_request()[:size])
        client.reset()
    check_freed(served)


@pytest.mark.parametrize(
    "said",
    [
        frame(TEXT, "hello"),
        frame(TEXT, "he", final=False),
        frame(TEXT, "hello")[:4],
        frame(PING, "hello") * 100,
        close_frame(1000),
        close_frame(1000) * 10,
    ],
    ids=["a message", "half a message", "half a frame", "pings", "a Close", "Closes"],
)
@pytest.mark.parametrize("ends", [Client.reset, Client.disconnect])
def test_one_that_vanishes_afterwards(
    served: Running, connect: Callable[[], Client], said: bytes, ends: Callable[[Client], None]
) -> None:
    with connect() as client:
        client.upgrade(headers=DEFLATE)
        client.send(said)
        ends(client)
    check_freed(served)


class TestHandshakes:
    """Of those who speak TLS, or are taken for it, and do not come to an end with it."""

    @pytest.fixture
    def served(self, authority: Authority) -> Iterator[Running]:
        with uncollected(authority, is_secure=True) as served:
            yield served

    @pytest.mark.parametrize(
        "said", [b"", b"\x16\x03\x01", b"\x16\x03\x01" + bytes(200), b"SSH-2.0-x\r\n", b"\x00" * 9]
    )
    def test_no_tls(self, served: Running, said: bytes) -> None:
        with Client(served.port) as client:
            client.send(said)
            client.shut_down_writing()
            client.receive_end()
        check_freed(served)

    def test_a_hello_and_nothing_else(self, served: Running) -> None:
        outgoing = ssl.MemoryBIO()
        hello = client_context(None).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        with Client(served.port) as client:
            client.send(outgoing.read())
            assert client.receive_exactly(5)[0] == 22  # its own hello, in a record of the handshake
        check_freed(served)

    def test_a_client_that_does_not_believe_us(self, served: Running, tmp_path: Path) -> None:
        stranger = Authority(tmp_path, "Stranger")
        with pytest.raises(ssl.SSLCertVerificationError):
            TlsClient(served.port, stranger.certificate)
        check_freed(served)

    def test_plain_http(self, served: Running) -> None:
        with Client(served.port) as client:
            assert client.request(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 400
        check_freed(served)
