"""What a wsi says of itself, in each hook, on a connection that came in and on one that we opened alike."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, Client, connect, frame
from tests.support.compressed import deflated
from tests.support.context import Running, running
from tests.support.server import Server
from tests.support.timing import wait_until
from wsd.protocol import Peer, Protocol
from wsd.reasons import CLOSE

TARGET = "/room%201?colour=red&n=1&n=2&empty="
DEFLATE = "permessage-deflate"


class Facts(Protocol):
    """Notes in each hook what the wsi says of itself; `does` is what it does besides."""

    name = "facts"
    Session = list

    def __init__(self) -> None:
        self.seen: dict[str, list[dict[str, Any]]] = {}
        self.pieces: list[tuple[bytes, bool, bool, int, bool]] = []
        self.wsis_seen: list[Any] = []
        self.does: dict[str, Callable[[Any], Any]] = {}
        self.told: dict[str, list[Any]] = {}

    def _called(self, hook: str, wsi: Any, *arguments: Any) -> Any:
        if wsi not in self.wsis_seen:
            self.wsis_seen.append(wsi)
        self.told.setdefault(hook, []).extend(arguments)
        self.seen.setdefault(hook, []).append(snapshot(wsi))
        does = self.does.get(hook)
        return None if does is None else does(wsi)

    def on_filter_protocol_connection(self, wsi: Any, request: Any) -> Any:
        return self._called("filter", wsi, request)

    def on_confirm_extension(self, wsi: Any, name: str, params: Any) -> Any:
        return self._called("confirm", wsi, name)

    def on_add_headers(self, wsi: Any, headers: Any) -> Any:
        headers.add("X-From-Us", "yes")
        return self._called("headers", wsi)

    def on_client_confirm_extension_supported(self, wsi: Any, name: str) -> Any:
        return self._called("confirm", wsi, name)

    def on_client_append_handshake_header(self, wsi: Any, headers: Any) -> Any:
        headers.add("X-From-Us", "yes")
        return self._called("headers", wsi)

    def on_client_filter_pre_establish(self, wsi: Any, response: Any) -> Any:
        return self._called("filter", wsi, response)

    def on_established(self, wsi: Any) -> Any:
        return self._called("established", wsi)

    def on_receive(self, wsi: Any, data: bytes) -> Any:
        self.pieces.append((data, *of_the_piece(wsi)))
        return self._called("receive", wsi)

    def on_writeable(self, wsi: Any) -> Any:
        return self._called("writeable", wsi)

    def on_pong(self, wsi: Any, payload: bytes) -> Any:
        return self._called("pong", wsi)

    def on_timer(self, wsi: Any) -> Any:
        return self._called("timer", wsi)

    def on_user(self, wsi: Any, reason: int, data: Any) -> Any:
        return self._called("user", wsi)

    def on_peer_close(self, wsi: Any, code: int, close_reason: str) -> Any:
        return self._called("peer_close", wsi)

    def on_closed(self, wsi: Any, code: int, close_reason: str) -> None:
        self._called("closed", wsi)


def of_the_piece(wsi: Any) -> tuple[bool, bool, int, bool]:
    return wsi.is_first_fragment, wsi.is_final_fragment, wsi.remaining_packet_payload, wsi.frame_is_binary


NO_PIECE = (False, False, 0, False)


def snapshot(wsi: Any) -> dict[str, Any]:
    """Every fact, by its name in the documentation."""
    request, response = wsi.request, wsi.response
    return {
        "protocol": wsi.protocol,
        "context": wsi.context,
        "listener": wsi.listener,
        "session": wsi.session,
        "request": None
        if request is None
        else (request.method, request.path, request.args, request.headers.get("X-Seat")),
        "response": None if response is None else (response.status, response.headers.get("X-From-Server")),
        "subprotocol": wsi.subprotocol,
        "extensions": wsi.extensions,
        "peer": wsi.peer,
        "local": wsi.local,
        "proxy": wsi.proxy,
        "identity": wsi.identity,
        "tls": wsi.tls,
        "tag": wsi.tag,
        "is_client": wsi.is_client,
        "is_raw": wsi.is_raw,
        "is_descriptor": wsi.is_descriptor,
        "parent": wsi.parent,
        "children": wsi.children,
        "reconnect": wsi.reconnect,
        "is_established": wsi.is_established,
        "is_closing": wsi.is_closing,
        "fileno": wsi.fileno() >= 0,
        "is_first_fragment": wsi.is_first_fragment,
        "is_final_fragment": wsi.is_final_fragment,
        "remaining_packet_payload": wsi.remaining_packet_payload,
        "frame_is_binary": wsi.frame_is_binary,
        "max_message_bytes": wsi.max_message_bytes,
        "send_pipe_choked": wsi.send_pipe_choked,
        "why": wsi.why,
    }


class Line:
    """A connection of `Facts`, and its other end."""

    def __init__(self, side: str, served: Running, protocol: Facts, peer: Client) -> None:
        self.side = side
        self.served = served
        self.context = served.context
        self.protocol = protocol
        self.peer = peer

    @property
    def wsi(self) -> Any:
        return self.protocol.wsis_seen[0]

    def send(self, *frames: Any, rsv: int = 0) -> None:
        """Send frames: each the arguments of `frame()`."""
        self.peer.send(*[self.frame(*one, rsv=rsv) for one in frames])

    def frame(self, opcode: int, payload: str | bytes, final: bool = True, *, rsv: int = 0) -> bytes:
        """A frame as this end has to send it: "a server MUST NOT mask any frames" (RFC 6455 5.1)."""
        mask = {} if self.side == "server" else {"mask": None}
        return frame(opcode, payload, final=final, rsv=rsv, **mask)

    def do(self, deed: Callable[[Any], Any]) -> Any:
        return self.served.call(lambda: deed(self.wsi))

    def wait_for(self, hook: str, count: int = 1) -> list[dict[str, Any]]:
        """What the wsi said in the first `count` calls of a hook."""
        wait_until(lambda: len(self.protocol.seen.get(hook, ())) >= count, what=f"{hook}, {count} times")
        return self.protocol.seen[hook][:count]

    def wait_for_pieces(self, count: int) -> list[tuple[bytes, bool, bool, int, bool]]:
        wait_until(lambda: len(self.protocol.pieces) >= count, what=f"{count} pieces")
        return self.protocol.pieces

    def close(self) -> None:
        """The other end closes, and all is over."""
        if self.side == "server":
            self.peer.finish()
        else:
            self.peer.send(frame(8, b"\x03\xe8", mask=None))
            self.peer.receive_close()
            self.peer.shut_down_writing()
            assert self.peer.receive_end() == b""
        self.peer.disconnect()
        self.wait_for("closed")


@contextmanager
def line(side: str, *, deflate: bool = False) -> Iterator[Line]:
    """A connection that came in ("server") or that we opened ("client")."""
    protocol = Facts()
    with running([protocol], listen={"compression": {"context_takeover": False}}) as served:
        if side == "server":
            offer = [("Sec-WebSocket-Extensions", DEFLATE)] if deflate else []
            with connect(served.port, "facts", TARGET, headers=[("X-Seat", "12"), *offer]) as peer:
                made = Line(side, served, protocol, peer)
                made.wait_for("established")
                yield made
            return
        with Server() as server:
            context, url = served.context, server.url.rstrip("/") + TARGET
            served.call(lambda: context.client_connect(url, protocol=protocol, headers={"X-Seat": "12"}))
            agreed = [f"Sec-WebSocket-Extensions: {DEFLATE}"] if deflate else []
            peer = server.accept_websocket("X-From-Server: 7", "Sec-WebSocket-Protocol: facts", *agreed)
            made = Line(side, served, protocol, peer)
            made.wait_for("established")
            yield made


@pytest.fixture(params=["server", "client"])
def side(request: pytest.FixtureRequest) -> str:
    return str(request.param)


HOOKS = ["confirm", "filter", "headers", "established", "receive", "writeable", "pong", "timer", "user", "peer_close"]
BEFORE = {"confirm", "filter", "headers"}


def live_through(it: Line) -> None:
    """Have every hook called."""
    it.send((TEXT, "hello"), (PONG, b"mark"))
    it.wait_for("pong")
    it.do(lambda wsi: [wsi.callback_on_writable(), wsi.set_timer(0)])
    it.do(lambda wsi: it.context.callback_all_protocol(wsi.protocol, 1000))
    for hook in ("receive", "writeable", "timer", "user"):
        it.wait_for(hook)
    it.close()


class TestWhatItIs:
    def test_it_says_the_same_in_every_hook(self, side: str) -> None:
        """Whose it is, and who is there: from the first hook to the last, and after it."""
        with line(side, deflate=True) as it:
            peer, local = it.peer.socket.getsockname(), it.peer.socket.getpeername()
            live_through(it)
            listener = it.context.listeners[0] if side == "server" else None
            for hook in [*HOOKS, "closed"]:
                (said,) = it.protocol.seen[hook]
                assert said["protocol"] is it.protocol, hook
                assert said["context"] is it.context, hook
                assert said["listener"] is listener, hook
                assert said["is_client"] is (side == "client"), hook
                assert (said["peer"], said["local"]) == (Peer(*peer), Peer(*local)), hook
                assert said["tag"] == f"facts#{it.wsi.number} {peer[0]}:{peer[1]}", hook
                assert (said["is_raw"], said["is_descriptor"]) == (False, False), hook
                assert (said["proxy"], said["identity"], said["tls"]) == (None, None, None), hook
                assert (said["parent"], said["children"], said["reconnect"]) == (None, (), None), hook
                assert said["max_message_bytes"] == it.context.limits.max_message_bytes, hook
            assert snapshot(it.wsi) == it.protocol.seen["closed"][0]

    def test_the_session_is_made_once_and_kept(self, side: str) -> None:
        with line(side) as it:
            it.protocol.does["established"] = lambda wsi: wsi.session.append("mine")
            live_through(it)
            sessions = [said["session"] for hook in it.protocol.seen for said in it.protocol.seen[hook]]
            assert sessions[0] == []
            assert all(session is sessions[0] for session in sessions)

    def test_headers_and_url_arguments(self, side: str) -> None:
        """In the filters and ever after; of our own request from when it leaves."""
        asked = ("GET", "/room 1", {"colour": ["red"], "n": ["1", "2"], "empty": [""]}, "12")
        with line(side, deflate=True) as it:
            live_through(it)
            for hook in [*HOOKS, "closed"]:
                (said,) = it.protocol.seen[hook]
                is_there = side == "server" or hook not in ("confirm", "headers")
                assert said["request"] == (asked if is_there else None), hook
            request = it.wsi.request
            assert (request.arg("colour"), request.arg("n"), request.arg("none", "?")) == ("red", "1", "?")
            if side == "server":
                assert it.protocol.told["filter"] == [request]
            else:
                assert request.headers.get("X-From-Us") == "yes"

    def test_the_answer_to_our_own_request(self) -> None:
        with line("client", deflate=True) as it:
            live_through(it)
            for hook in [*HOOKS, "closed"]:
                (said,) = it.protocol.seen[hook]
                assert said["response"] == (None if hook in ("confirm", "headers") else (101, "7")), hook
            assert it.protocol.told["filter"] == [it.wsi.response]

    def test_there_is_no_answer_to_what_came_in(self) -> None:
        with line("server") as it:
            live_through(it)
            assert {said["response"] for each in it.protocol.seen.values() for said in each} == {None}

    @pytest.mark.parametrize("deflate", [False, True])
    def test_what_was_agreed_on(self, side: str, deflate: bool) -> None:
        with line(side, deflate=deflate) as it:
            live_through(it)
            for hook in it.protocol.seen.keys() - BEFORE - {"closed"}:
                (said,) = it.protocol.seen[hook]
                assert said["extensions"] == ((DEFLATE,) if deflate else ()), hook
                assert said["subprotocol"] == "facts", hook

    def test_where_it_is_in_its_life(self, side: str) -> None:
        with line(side, deflate=True) as it:
            live_through(it)
            for hook, (said,) in it.protocol.seen.items():
                assert said["is_established"] is (hook not in BEFORE | {"closed"}), hook
                assert said["is_closing"] is (hook == "closed"), hook
                assert said["fileno"] is (hook != "closed"), hook
                assert said["why"] == ("closed by peer" if hook == "closed" else ""), hook

    def test_nobody_looks_up_the_name_of_an_address(self, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []
        for name in ("getnameinfo", "gethostbyaddr", "getfqdn"):
            monkeypatch.setattr(socket, name, lambda *_, name=name: asked.append(name))
        with line(side) as it:
            live_through(it)
        assert asked == []

    def test_after_the_end_it_answers_and_does_nothing(self, side: str) -> None:
        with line(side) as it:
            it.close()
            answers = it.do(
                lambda wsi: [
                    wsi.callback_on_writable(),
                    wsi.send("late"),
                    wsi.write("late"),
                    wsi.ping(),
                    wsi.close(),
                    wsi.set_timer(0),
                    wsi.set_timeout(0),
                    wsi.rx_flow_control(False),
                ]
            )
            assert answers == [CLOSE] * len(answers)


class TestThePiece:
    def test_a_whole_message(self, side: str) -> None:
        with line(side) as it:
            it.send((TEXT, "text"), (BINARY, b"\0"), (TEXT, ""))
            assert it.wait_for_pieces(3) == [
                (b"text", True, True, 0, False),
                (b"\0", True, True, 0, True),
                (b"", True, True, 0, False),
            ]

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_fragments_with_control_frames_between_them(self, side: str, opcode: int) -> None:
        with line(side) as it:
            it.send((opcode, "one", False), (PING, "?"), (CONTINUATION, "two", False), (PONG, "!"))
            it.send((CONTINUATION, "", True), (TEXT, "next"))
            binary = opcode == BINARY
            assert it.wait_for_pieces(4) == [
                (b"one", True, False, 0, binary),
                (b"two", False, False, 0, binary),
                (b"", False, True, 0, binary),
                (b"next", True, True, 0, False),
            ]

    def test_a_frame_in_parts(self, side: str) -> None:
        """`remaining_packet_payload` counts down to 0, and the last piece of the last frame is the message's."""
        with line(side) as it:
            whole = it.frame(BINARY, b"0123456789")
            begins = len(whole) - 10
            for at, count in enumerate((3, 4, 3)):
                end = begins + (3, 7, 10)[at]
                it.peer.send(whole[end - count - (begins if at == 0 else 0) : end])
                it.wait_for_pieces(at + 1)
            assert it.protocol.pieces == [
                (b"012", True, False, 7, True),
                (b"3456", False, False, 3, True),
                (b"789", False, True, 0, True),
            ]

    def test_while_inflating_it_is_one_at_least_before_the_last(self, side: str) -> None:
        size = 200_000
        with line(side, deflate=True) as it:
            it.send((BINARY, deflated(bytes(size))), rsv=4)
            wait_until(lambda: sum(len(piece[0]) for piece in it.protocol.pieces) == size and it.protocol.pieces[-1][2])
            pieces = it.protocol.pieces
            assert len(pieces) > 2
            assert [piece[1] for piece in pieces] == [True] + [False] * (len(pieces) - 1)
            assert [piece[2] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
            assert all(piece[3] >= 1 for piece in pieces[:-1])
            assert pieces[-1][3] == 0

    def test_outside_of_on_receive_there_is_none(self, side: str) -> None:
        with line(side) as it:
            it.send((BINARY, "begun", False), (PONG, "!"))
            it.wait_for("pong")
            it.send((CONTINUATION, "done"))
            live_through(it)
            for hook, said in it.protocol.seen.items():
                if hook != "receive":
                    assert of_the_piece_as(said[0]) == NO_PIECE, hook
            assert of_the_piece(it.wsi) == NO_PIECE


def of_the_piece_as(said: dict[str, Any]) -> tuple[Any, ...]:
    names = ("is_first_fragment", "is_final_fragment", "remaining_packet_payload", "frame_is_binary")
    return tuple(said[name] for name in names)


class TestFlow:
    def test_the_pipe_is_choked_and_then_it_is_not(self, side: str) -> None:
        """The hook may write until it is, and is asked again when it is no more."""
        written: list[int] = []
        total = 4 << 20

        def fill(wsi: Any) -> None:
            assert not wsi.send_pipe_choked
            while sum(written) < total and not wsi.send_pipe_choked:
                written.append(wsi.write(bytes(16_384)) or 16_384)
            if sum(written) < total:
                assert wsi.send_pipe_choked
                wsi.callback_on_writable()

        with line(side) as it:
            it.protocol.does["writeable"] = fill
            it.do(lambda wsi: wsi.callback_on_writable())
            assert sum(len(it.peer.receive_frame().payload) for _ in range(total // 16_384)) == total
            assert len(it.protocol.seen["writeable"]) > 1
            assert not it.do(lambda wsi: wsi.send_pipe_choked)
            it.close()

    def test_all_of_a_protocol(self) -> None:
        """Both ends of one connection, in one context: all are those that came and those we made."""
        protocol = Facts()
        with running([protocol]) as served:
            context, url = served.context, f"ws://127.0.0.1:{served.port}{TARGET}"
            served.call(
                lambda: context.client_connect(url, protocol=protocol, headers={"X-Seat": "12", "X-From-Server": ""})
            )
            wait_until(lambda: len(protocol.wsis) == 2)
            for deed, hook in (
                (lambda: context.callback_on_writable_all_protocol(protocol), "writeable"),
                (lambda: context.callback_all_protocol(protocol, 1000), "user"),
            ):
                served.call(deed)
                wait_until(lambda hook=hook: len(protocol.seen.get(hook, ())) == 2)  # type: ignore[misc]
                assert sorted(said["is_client"] for said in protocol.seen[hook]) == [False, True]
            served.call(lambda: [wsi.rx_flow_control(False) for wsi in protocol.wsis])
            served.call(lambda: [wsi.send("hello") for wsi in protocol.wsis])
            served.call(lambda: None)
            assert protocol.pieces == []
            served.call(lambda: context.rx_flow_allow_all_protocol(protocol))
            wait_until(lambda: len(protocol.pieces) == 2)
            assert sorted(said["is_client"] for said in protocol.seen["receive"]) == [False, True]


def test_each_documented_fact_is_asked() -> None:
    """What docs/plugins.md lists of a wsi is a fact in `snapshot`, or a deed."""
    file = Path(__file__).resolve().parent.parent.parent / "docs" / "make_plugins_md.py"
    spec = importlib.util.spec_from_file_location("make_plugins_md", file)
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    with line("server") as it:
        deeds = {
            "callback_on_writable",
            "close",
            "offer",
            "ping",
            "rx_flow_control",
            "send",
            "set_timer",
            "set_timeout",
            "write",
        }
        listed = {name for names in maker.WSI.values() for name in names.split()}
        assert listed == snapshot(it.wsi).keys() | deeds
