"""Where case, peer and wsd meet: one context that serves and connects, a port where the peer is the server, and the
two ways to run a case.

Whatever a case needs of wsd is a setup; each is one protocol with a listener of its own.
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from tests.conformance.model import SERVER, AnyCase, Case, Expected, Filler, ReplyCase, RequestCase, content
from tests.conformance.negotiation import check_answer, parse
from tests.conformance.opening import Opening, check_request, echo_works, reply_to
from tests.conformance.peer import Codec, Peer, cut
from tests.support.client import Client
from tests.support.context import Running, running
from tests.support.timing import PATIENCE, wait_until
from wsd.config import Compression, Keepalive, Limits, Listen, ProtocolLimits, ProtocolTable, Timeouts
from wsd.errors import ConnectError
from wsd.protocol import Protocol

MIB: Final = 1 << 20
MAX_MESSAGE: Final = 16 * MIB
MAX_FRAGMENTS: Final = MAX_MESSAGE // 64
SMALL_MESSAGE: Final = 1000
SMALL_FRAGMENTS: Final = 10


class Setup(NamedTuple):
    """What wsd is told to do; `compression` holds the fields of a `[listen.compression]` table."""

    max_message_bytes: int = MAX_MESSAGE
    max_fragments: int = MAX_FRAGMENTS
    compression: dict[str, Any] = {}


# Everything is compressed, so that every echo is a case of compressing as well.
_ALWAYS: Final = {"window_bits": 15, "min_bytes": 0}

SETUPS: Final[dict[str, Setup]] = {
    "plain": Setup(),
    "small": Setup(SMALL_MESSAGE, SMALL_FRAGMENTS),
    "off": Setup(compression={"enabled": False}),
    "window 15": Setup(compression=_ALWAYS),
    "window 12": Setup(compression={**_ALWAYS, "window_bits": 12}),
    "window 9": Setup(compression={**_ALWAYS, "window_bits": 9}),
    "no takeover": Setup(compression={**_ALWAYS, "context_takeover": False}),
    "large messages": Setup(compression={"window_bits": 15, "min_bytes": 1000}),
    "small compressed": Setup(SMALL_MESSAGE, SMALL_FRAGMENTS, _ALWAYS),
}


class Echo(Protocol):
    """Sends every message back, but does what a text says that begins with "!": close with a code and reason, ping.

    Notes how each connection ended, or why it could not be opened.
    """

    def __init__(self, setup: str) -> None:
        self.name = setup.replace(" ", "-")  # type: ignore[misc]  # one class serves under many names
        self.ends: queue.Queue[tuple[int, str] | ConnectError] = queue.Queue()

    def on_message(self, wsi: Any, message: str | bytes) -> None:
        if isinstance(message, str) and message.startswith("!"):
            what, _, rest = message.partition(" ")
            if what == "!close":
                code, _, close_reason = rest.partition(" ")
                wsi.close(int(code), close_reason)
            else:
                wsi.ping(rest.encode())
        else:
            wsi.send(message)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self.ends.put((code, close_reason))

    def on_client_connection_error(self, wsi: Any, error: ConnectError) -> None:
        self.ends.put(error)

    def end(self) -> tuple[int, str] | ConnectError:
        """How the one connection of this case ended."""
        ended = self.ends.get(timeout=PATIENCE)
        assert self.ends.empty(), "two ends of one connection"
        return ended


class Stand:
    """A context that serves every setup, and the socket where wsd the client finds the peer."""

    def __init__(self, served: Running, protocols: dict[str, Echo]) -> None:
        self.served = served
        self.protocols = protocols
        self.ports: dict[str, int] = {}
        self.compressions: dict[str, Compression] = {}
        self.acceptor = socket.create_server(("127.0.0.1", 0))
        self.acceptor.settimeout(PATIENCE)
        self.url = f"ws://127.0.0.1:{self.acceptor.getsockname()[1]}/conformance?a=b"

    def open(self) -> None:
        """Listen, in the loop's thread: one listener for each setup."""
        context = self.served.context
        for name, protocol in self.protocols.items():
            setup = SETUPS[name]
            compression = self.compressions[name] = Compression(**setup.compression)
            listen = Listen(interface="127.0.0.1", port=0, compression=compression)
            limits = ProtocolLimits(max_message_bytes=setup.max_message_bytes, max_fragments=setup.max_fragments)
            context.add_protocol(protocol, table=ProtocolTable(limits=limits))
            self.ports[name] = context.listen(listen, protocols=[protocol]).port

    def settle(self) -> None:
        """Return when wsd has read all that was sent so far: the first call ends a turn that may have begun before."""
        for _ in range(2):
            self.served.call(lambda: None)

    def run(self, role: str, case: AnyCase) -> None:
        """Run a case against wsd in this role; however it fails, nothing of it is left for the next one."""
        try:
            if role == SERVER:
                self.run_as_server(case)
            else:
                self.run_as_client(case)
        except BaseException:
            wait_until(lambda: not self.served.context.wsi_count, what="the failed case's connection has ended")
            self.settle()
            self.protocols[case.setup].ends.queue.clear()
            raise

    # -- wsd is the server ------------------------------------------------------------------------------------------

    def run_as_server(self, case: AnyCase) -> None:
        """Run a case against wsd the server."""
        with Client(self.ports[case.setup]) as client:
            if isinstance(case, Case):
                codec = self._upgrade(client, case)
                peer = Peer(client.socket, True, self.settle, bytes(client.buffer))
                peer.codec = codec
                self._play(case, peer)
            else:
                assert isinstance(case, RequestCase)
                self._ask(client, case)

    def _upgrade(self, client: Client, case: Case) -> Codec | None:
        deflate = case.deflate
        offer = {"Sec-WebSocket-Extensions": deflate.offer} if deflate else {}
        answer = client.upgrade(headers=offer.items()).header("Sec-WebSocket-Extensions")
        if deflate is None:
            assert answer is None, "an extension that nobody asked for (RFC 6455 4.1)"
            return None
        assert answer is not None, "the offer was declined"
        if deflate.exact:
            assert parse(answer) == parse(deflate.answer)
        return Codec(check_answer(deflate.offer, answer), is_client=True)

    def _ask(self, client: Client, case: RequestCase) -> None:
        """The opening handshake is the case."""
        for index, part in enumerate(cut(case.request, case.chop)):
            if index:
                self.settle()
            client.send(part)
        response = client.receive_response(has_body=not case.request.startswith(b"HEAD"))
        wrong = [f"status {response.status}, expected {case.status}"] if response.status != case.status else []
        for name, value in case.headers:
            found = response.header(name)
            same = parse(found) == parse(value) if "Extensions" in name and found and value else found == value
            if not same:
                wrong.append(f"{name}: {found!r}, expected {value!r}")
        assert not wrong, wrong
        if response.status == 101:
            echo_works(Peer(client.socket, True, self.settle, bytes(client.buffer)))
            assert self.protocols[case.setup].end() == (1000, "")

    # -- wsd is the client ------------------------------------------------------------------------------------------

    def run_as_client(self, case: AnyCase) -> None:
        """Run a case against wsd the client."""
        protocol = self.protocols[case.setup]
        subprotocols = case.subprotocols if isinstance(case, ReplyCase) else ()
        self.served.call(
            lambda: self.served.context.client_connect(
                self.url,
                protocol=protocol,
                subprotocols=subprotocols,
                compression=self.compressions[case.setup],
                timeout_seconds=PATIENCE,
            )
        )
        connection, _ = self.acceptor.accept()
        with connection:
            opening = Opening(connection)
            request = check_request(opening.receive_head())
            if isinstance(case, Case):
                answer = case.deflate.answer if case.deflate else ""
                if case.deflate:
                    check_answer(request.extensions, answer)
                opening.send(reply_to(request, answer))
                peer = Peer(connection, False, self.settle, opening.rest)
                peer.codec = Codec(parse(answer)[0][1], is_client=False) if answer else None
                self._play(case, peer)
            else:
                assert isinstance(case, ReplyCase)
                self._answer(opening, request.accept, case)

    def _answer(self, opening: Opening, accept: bytes, case: ReplyCase) -> None:
        """The opening handshake is the case."""
        peer = Peer(opening.socket, False, self.settle)
        reply = case.reply.replace(b"{accept}", accept) + peer.encode(case.behind)
        peer.send(reply, case.chop)
        if case.ends:
            opening.half_close()
        protocol = self.protocols[case.setup]
        if not case.cause:
            echo_works(peer, case.messages)
            assert protocol.end() == (1000, "")
            return
        assert opening.receive_end() == b"", "a refused connection carries no frames (RFC 6455 4.1)"
        error = protocol.end()
        assert isinstance(error, ConnectError), error
        assert error.cause == case.cause, str(error)
        assert str(error)

    # -- both -------------------------------------------------------------------------------------------------------

    def _play(self, case: Case, peer: Peer) -> None:
        peer.play(case.steps, case.chop)
        peer.finish()
        wrong = differences(case.expected, peer)
        assert not wrong, wrong
        peer.socket.close()
        assert self.protocols[case.setup].end() == case.expected.told


def differences(expected: Expected, peer: Peer) -> list[str]:
    """What came back and should not have, or the other way, in words: a diff of 16 MiB would help nobody."""
    heard = peer.heard
    wrong = []
    if len(heard.messages) != len(expected.messages):
        wrong.append(f"{len(heard.messages)} messages, expected {len(expected.messages)}")
    for index, (got, (opcode, payload)) in enumerate(zip(heard.messages, expected.messages, strict=False)):
        if got != (opcode, content(payload)):
            size = payload.size if isinstance(payload, Filler) else len(payload)
            wrong.append(
                f"message {index}: opcode {got[0]}, {len(got[1])} bytes beginning {got[1][:40]!r},"
                f" expected opcode {opcode}, {size} bytes beginning {content(payload)[:40]!r}"
            )
    for name, have, want in (
        ("Pongs", heard.pongs, [*expected.pongs]),
        ("Pings", heard.pings, [*expected.pings]),
    ):
        if have != want:
            wrong.append(f"{name} {have}, expected {want}")
    code = None if peer.close is None else peer.close[0]
    if code != expected.close and expected.close is not None:
        wrong.append(f"Close {peer.close}, expected {expected.close}")
    if expected.packed is not None and heard.packed != [expected.packed] * len(expected.messages):
        wrong.append(f"compressed {heard.packed}, expected {expected.packed}")
    if len(heard.keys) > 3 and len(set(heard.keys)) < len(heard.keys) - 1:
        wrong.append("masking keys are used again (RFC 6455 5.3: a fresh one for each frame, not to be predicted)")
    return wrong


@contextmanager
def stand() -> Iterator[Stand]:
    """Serve until the block ends."""
    protocols = {name: Echo(name) for name in SETUPS}
    limits = Limits(max_queue_bytes=4 * MAX_MESSAGE)
    # The peer's patience ends long before a deadline could hide that wsd did not end a connection by itself.
    timeouts = Timeouts(close_seconds=5 * PATIENCE)
    with running([], limits=limits, timeouts=timeouts, keepalive=Keepalive(ping_seconds=0)) as served:
        made = Stand(served, protocols)
        with made.acceptor:
            served.call(made.open)
            yield made
