"""Connecting out: the role of a client wsi from its name to the 101, or until it is raw; and connecting again.

Owns the order of things: resolving, connecting, a proxy's CONNECT, the handshake, the hooks between them, the one
deadline over all of it, and what is told when it fails.  Bytes are `wire/`'s, addresses the resolver's and the
connector's; this file must not know the loop.

Exactly one of `on_established` and `on_client_connection_error` follows a connect.  What fails is only noted, and the
reaper has the last word: `Client.closed` is the one place where the error is told.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from wsd import log, ties
from wsd.connect_info import ConnectInfo
from wsd.connector import Connector
from wsd.errors import ConnectError
from wsd.protocol import Peer
from wsd.raw import Raw
from wsd.reconnect import Backoff, Reconnect
from wsd.resolver import Address, Answer, Lookup, reason_of
from wsd.transport import SocketPipe, give_back
from wsd.wire.client_handshake import NONCE_BYTES, check_reply, encode_connect, encode_request, new_key
from wsd.wire.deflate import make_pair
from wsd.wire.extensions import DEFLATE, encode_offers
from wsd.wire.headers import Headers
from wsd.wire.http import Request
from wsd.wire.reply import SWITCHING_PROTOCOLS, BodyStart, Reply, ReplyReader
from wsd.wsi import Wsi

if TYPE_CHECKING:
    from wsd.context import Context
    from wsd.lanes import Lane
    from wsd.tls import TlsPipe
    from wsd.tls_client import ClientTls

__all__ = ["Backoff", "Client", "Reconnect", "Step", "connect"]

# How much of a proxy's own words is repeated in the text of an error: a sentence.
_REASON_CHARS: Final = 200


def connect(context: Context, info: ConnectInfo, reconnect: Backoff | None, parent: Wsi | None) -> Wsi:
    """Begin to connect; what `Context.client_connect` does, which see.

    Raises:
        ValueError: `reconnect` and `parent` at once.
    """
    if reconnect is None:
        wsi = _open(context, info, None)
        ties.tie(wsi, parent)
        return wsi
    if parent is not None:
        raise ValueError("reconnect and parent: what is tied to another connection ends with it, and for good")
    return Reconnect(context, info.binding, reconnect, partial(_open, context, info)).open()


def _open(context: Context, info: ConnectInfo, reconnect: Reconnect | None) -> Wsi:
    peer = Peer(info.target.host, info.target.port)
    wsi = Wsi(context, info.binding, None, peer, Peer("", 0), context.next_number())
    wsi.reconnect = reconnect
    role = Client(wsi, info)
    wsi.role = role
    role.begin()
    return wsi


class Step(Enum):
    """What a client waits for."""

    RESOLVING = auto()  # the addresses of the server, or of the proxy
    TURN = auto()  # until no other client of ours connects there
    CONNECTING = auto()  # the first of them that answers
    PROXY = auto()  # the proxy's answer to our CONNECT
    TLS = auto()  # the handshake that comes before ours
    SERVER = auto()  # the server's answer to our request


class Client:
    """The role of one client wsi until it is established; the wsi calls what `Http1` has too, and `close_asked`."""

    __slots__ = (
        "_connector",
        "_error",
        "_info",
        "_is_asked",
        "_key",
        "_lane",
        "_lookup",
        "_reader",
        "_refusal",
        "_settings",
        "_sock",
        "_step",
        "_tls_pipe",
        "wsi",
    )

    def __init__(self, wsi: Wsi, info: ConnectInfo) -> None:
        self.wsi = wsi
        self._info = info
        self._lookup: Lookup | None = None
        self._lane: Lane | None = None
        self._connector: Connector | None = None
        self._sock: socket.socket | None = None  # what TLS is to be spoken on
        self._tls_pipe: TlsPipe | None = None
        self._is_asked = False  # for on_writeable, which comes after on_established
        self._settings = info.settings
        self._key = ""
        self._reader = self._new_reader()
        self._refusal: tuple[Reply, BodyStart] | None = None  # an answer that is no 101, whose body is being read
        self._error: ConnectError | None = None
        self._step = Step.RESOLVING

    def _new_reader(self) -> ReplyReader:
        limits = self.wsi.context.limits
        return ReplyReader(limits.max_head_bytes, limits.max_headers)

    # -- what we wait for -----------------------------------------------------------------------------------------

    @property
    def _waiting_for(self) -> str:
        """The step at hand, for the text of an error."""
        if self._step is Step.RESOLVING:
            return f"resolving {self._via}{self._first_hop[0]}"
        if self._step is Step.TURN:
            return f"waiting for another connection to {self._first_hop[0]} to be established"
        if self._step is Step.CONNECTING:
            where = self._connector.where if self._connector is not None else ""
            return f"connecting to {self._via}{where or self._first_hop[0]}"
        if self._step is Step.TLS:
            return "waiting for the server's part of the TLS handshake"
        return "waiting for the proxy" if self._step is Step.PROXY else "waiting for the server's answer"

    @property
    def _first_hop(self) -> tuple[str, int]:
        """Where the socket is connected to: the server, or the proxy."""
        hop = self._info.proxy or self._info.target
        return hop.host, hop.port

    @property
    def _via(self) -> str:
        return "the proxy " if self._info.proxy else ""

    # -- what the wsi calls ---------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what was read."""
        if self.wsi.is_closing:
            return
        if self._refusal is not None:
            if self._refusal[1].feed(data):
                self._refused()
            return
        try:
            found = self._reader.feed(data)
        except ConnectError as error:
            self._fail(error if self._step is Step.SERVER else ConnectError("proxy", f"the proxy: {error}"))
            return
        if found is not None:
            self._answered(*found)

    def end_of_input(self) -> None:
        """Take note that the peer sends no more: an answer that goes on until the end of the stream is whole."""
        if self._refusal is not None:
            self._refused()
            return
        when = "before it answered" if self._reader.is_empty else "in the middle of its answer"
        if self._step is Step.TLS:
            when = "in the TLS handshake"
        if self._step is Step.PROXY:
            self._fail(ConnectError("proxy", f"the proxy ended the connection {when}"))
        else:
            self._fail(ConnectError("reset", f"the server ended the connection {when}"))

    def timed_out(self) -> None:
        """The one deadline is over."""
        if self._refusal is not None:  # all that is missing is the rest of a sentence
            self._refused()
        else:
            self._fail(
                ConnectError("timeout", f"{self._waiting_for} took longer than {self._info.timeout_seconds:g} s")
            )

    def stop(self) -> None:
        """Take note that the context stops."""
        self._fail(ConnectError("closed", "the context stops"))

    def close_asked(self) -> None:
        """The plugin called `wsi.close()`."""
        self._fail(ConnectError("closed", "closed before it was established"))

    def writable(self) -> None:
        """Note that the plugin has something to say: before `on_established` it would be no WebSocket."""
        self._is_asked = True

    def write(self, data: bytes, final: bool) -> None:
        """What `wsi.write` is before there is a WebSocket.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("wsi.write() before on_established: ask with wsi.callback_on_writable() there")

    def closed(self) -> None:
        """Release everything and tell the plugin; the reaper calls this, once, unless the wsi was established."""
        if self._lookup is not None:
            self._lookup.cancel()
        if self._connector is not None:
            self._connector.cancel()
        self._leave_lane()
        self.wsi.context.counters.connect_failures += 1
        wsi, error = self.wsi, self._error or self._error_of_loss()
        log.info("%s: not connected (%s): %s", wsi.tag, error.cause, error.text)
        hook = wsi.binding.hooks.on_client_connection_error
        answer = None if hook is None else wsi.call("on_client_connection_error", hook, wsi, error)
        if answer and answer is not wsi.FAILED and wsi.reconnect is not None:
            wsi.reconnect.cancel()

    def _error_of_loss(self) -> ConnectError:
        """Why it ended without our doing: the pipe broke, or somebody gave it up."""
        wsi = self.wsi
        if wsi.context.stopping:
            return ConnectError("closed", "the context has ended")
        if self._refusal is not None:
            return self._refusal_error(*self._refusal)
        cause = {Step.PROXY: "proxy", Step.TLS: "tls"}.get(self._step, "reset")
        return ConnectError(cause, f"{self._waiting_for}: {wsi.why}")

    def _fail(self, error: ConnectError) -> None:
        """Note why there will be no connection; what comes first counts."""
        if not self.wsi.is_closing:
            self._error = error
            self.wsi.abort(error.text)

    # -- resolving and connecting -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make the session, start the clock, ask for the address.  No hook runs here: we may be inside one."""
        wsi, context = self.wsi, self.wsi.context
        session_made = self._make_session()
        if context.wsi_count >= context.max_connections:
            self._fail(ConnectError("limit", f"connection limit reached ({context.max_connections})"))
            return
        context.add_wsi(wsi)
        wsi.set_deadline(self._info.timeout_seconds)
        if not session_made:
            self._fail(ConnectError("plugin", "Session raised; the log says more"))
            return
        log.client("%s: %s", wsi.tag, self._waiting_for)
        self._lookup = context.resolver.resolve(*self._first_hop, self._resolved)

    def _make_session(self) -> bool:
        """Reports whether there is a session, the caller's or one of the protocol's making."""
        wsi, info = self.wsi, self._info
        if info.session is None:
            return info.binding.make_session(wsi) is not wsi.FAILED
        wsi.session = info.session
        return True

    def _resolved(self, answer: Answer) -> None:
        wsi = self.wsi
        if wsi.is_closing:
            return
        if isinstance(answer, OSError):
            self._fail(ConnectError("resolve", f"resolving {self._via}{self._first_hop[0]}: {reason_of(answer)}"))
            return
        self._step = Step.TURN
        if self._info.proxy is None:
            keys = [address.sockaddr[:2] for address in answer]
        else:
            # "If the client cannot determine the IP address of the remote host [...], then the client MUST assume for
            # the purposes of this step that each host name refers to a distinct remote host" (RFC 6455 4.1, point 2).
            keys = [(self._info.target.host.lower(), self._info.target.port)]
        self._lane = wsi.context.lanes.enter(keys, partial(self._connect, answer))

    def _leave_lane(self) -> None:
        """Let the next client connect to where this one did."""
        if self._lane is not None:
            self._lane.leave()
            self._lane = None

    def _connect(self, addresses: Sequence[Address]) -> None:
        """It is our turn."""
        wsi = self.wsi
        if wsi.is_closing:
            return
        self._connector = Connector(wsi.context, addresses, self._info.interface, self._connected)
        self._step = Step.CONNECTING
        log.client("%s: connecting to %s%s", wsi.tag, self._via, ", ".join(map(str, addresses)))

    def _connected(self, result: socket.socket | ConnectError) -> None:
        wsi = self.wsi
        if isinstance(result, ConnectError):
            self._fail(ConnectError(result.cause, f"connecting to {self._via}{result.text}"))
            return
        if wsi.is_closing:  # noted in this very turn
            give_back(result)
            return
        try:
            peer, local = Peer(*result.getpeername()[:2]), Peer(*result.getsockname()[:2])
        except OSError as error:  # reset since
            give_back(result)
            self._fail(ConnectError("reset", f"connecting to {self._via}{self._first_hop[0]}: {reason_of(error)}"))
            return
        self._sock = result
        wsi.attach(SocketPipe(result), peer, local)
        if wsi.is_closing:  # the selector did not take it
            return  # type: ignore[unreachable]  # attaching has changed it
        if self._info.proxy is None:
            self._reached(b"")
        else:
            self._step = Step.PROXY
            wsi.put(encode_connect(self._info.target, self._info.proxy.authorization))

    # -- the handshake ----------------------------------------------------------------------------------------------

    def _reached(self, leftover: bytes) -> None:
        """The connection is there, through the proxy if there is one; `leftover` is what came behind its answer."""
        if self._info.tls is None:
            self._open(leftover)
        elif leftover:
            self._fail(ConnectError("proxy", "the proxy sent more than its answer, where the server speaks TLS"))
        else:
            self._begin_tls(self._info.tls)

    def _begin_tls(self, tls: ClientTls) -> None:
        from wsd.tls import TlsPipe

        assert self._sock is not None
        self._step = Step.TLS
        connection = tls.connection(self._sock, self._info.target.host, alpn=not self._info.is_raw)
        self._tls_pipe = TlsPipe(self._sock, connection, self._shaken)
        self.wsi.replace_pipe(self._tls_pipe)

    def _shaken(self) -> None:
        """The TLS handshake is over: the server must be whom we meant."""
        wsi, tls, pipe = self.wsi, self._info.tls, self._tls_pipe
        if wsi.is_closing:
            return
        assert tls is not None
        assert pipe is not None
        try:
            if pipe.failure:
                raise ConnectError("tls", tls.reason(pipe.connection) or pipe.failure)
            tls.check(pipe.connection, self._info.target.host)
        except ConnectError as error:
            self._fail(error)
            return
        log.client("%s: %r", wsi.tag, pipe.tls)
        self._open(b"")

    def _open(self, leftover: bytes) -> None:
        """Whatever lies between, bytes go to the server and come from it."""
        wsi = self.wsi
        if not self._info.is_raw:
            self._ask_server()
            if leftover:  # from a server that speaks before it is asked; whatever it is, it is no answer
                self.receive(leftover)
            return
        if wsi.reconnect is not None:
            wsi.reconnect.established()
        self._leave_lane()
        Raw(wsi).adopted(leftover)
        self._pass_on()

    def _ask_server(self) -> None:
        """Ask the two hooks, and send the request."""
        wsi, info = self.wsi, self._info
        self._step = Step.SERVER
        try:
            if self._settings is not None and self._call("on_client_confirm_extension_supported", DEFLATE):
                self._settings = None
            headers = Headers(info.headers)
            if self._call("on_client_append_handshake_header", headers):
                raise ConnectError("plugin", "on_client_append_handshake_header refused")
            self._key = new_key(secrets.token_bytes(NONCE_BYTES))
            request = self._encode_request(headers)
        except ConnectError as error:
            self._fail(error)
            return
        wsi.request = Request(request)
        wsi.put(request)

    def _call(self, name: str, argument: Any) -> Any:
        """Ask one of the three hooks before the connection is established; None where there is none.

        Raises:
            ConnectError: it raised, answered what is no answer, or closed the wsi.
        """
        wsi = self.wsi
        hook = getattr(wsi.binding.hooks, name)
        answer = None if hook is None else wsi.call(name, hook, wsi, argument)
        if answer is wsi.FAILED:
            raise ConnectError("plugin", f"{name} failed; the log says more")
        if wsi.is_closing:
            raise ConnectError("closed", f"closed in {name}")
        return answer

    def _encode_request(self, headers: Headers) -> bytes:
        info = self._info
        try:
            return encode_request(
                info.target,
                self._key,
                subprotocols=info.subprotocols,
                extensions="" if self._settings is None else encode_offers(self._settings),
                origin=info.origin,
                headers=headers,
            )
        except ValueError as error:
            log.err("%s: on_client_append_handshake_header: %s", self.wsi.tag, error)
            raise ConnectError("plugin", f"on_client_append_handshake_header: {error}") from None

    def _answered(self, reply: Reply, leftover: bytes) -> None:
        """The head of an answer is there, the proxy's or the server's."""
        is_proxy = self._step is Step.PROXY
        who = "the proxy" if is_proxy else "the server"
        log.client("%s: %s answered %d %s", self.wsi.tag, who, reply.status, reply.reason)
        # RFC 9110 9.3.6: "Any 2xx (Successful) response indicates that the sender [...] will switch to tunnel mode
        # immediately after the response header section".
        if is_proxy and 200 <= reply.status < 300:
            self._reader = self._new_reader()
            self._reached(leftover)
            return
        if not is_proxy:
            self.wsi.response = reply
        if is_proxy or reply.status != SWITCHING_PROTOCOLS:
            self._refusal = reply, BodyStart(reply)
            if self._refusal[1].feed(leftover):
                self._refused()
            return
        self._switched(reply, leftover)

    def _switched(self, reply: Reply, leftover: bytes) -> None:
        """The answer is a 101: check it, ask the filter, and be a WebSocket."""
        wsi = self.wsi
        try:
            subprotocol, agreement = check_reply(reply, self._key, self._info.subprotocols, self._settings)
            if self._call("on_client_filter_pre_establish", reply):
                raise ConnectError("filter", "on_client_filter_pre_establish refused")
        except ConnectError as error:
            self._fail(ConnectError(error.cause, error.text, status=reply.status))
            return
        if wsi.reconnect is not None:
            wsi.reconnect.established()
        pair = None
        if agreement is not None:
            assert self._settings is not None
            pair = make_pair(agreement, self._settings, is_client=True)
        self._leave_lane()
        wsi.establish(subprotocol, leftover, pair)
        self._pass_on()

    def _pass_on(self) -> None:
        """Ask for the plugin's turn to write, if it did so before there was anybody to write to."""
        if self._is_asked:
            self.wsi.callback_on_writable()

    def _refused(self) -> None:
        """As much of a refusal has come as is wanted, or will come."""
        assert self._refusal is not None
        self._fail(self._refusal_error(*self._refusal))

    def _refusal_error(self, reply: Reply, body: BodyStart) -> ConnectError:
        """An answer that is no 101, or a proxy's that is no 2xx, as an error."""
        if self._step is Step.PROXY:
            text = f"the proxy answered {reply.status} {reply.reason[:_REASON_CHARS]}".rstrip()
            return ConnectError("proxy", text, status=reply.status, body=body.data)
        try:
            check_reply(reply, self._key, self._info.subprotocols, self._settings)
        except ConnectError as error:
            return ConnectError(error.cause, error.text, status=reply.status, body=body.data)
        raise AssertionError("a refusal that opens a WebSocket")
