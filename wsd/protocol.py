"""What a plugin author reads: `Protocol` and its hooks, and the callback style.

Owns the plugin contract (libwebsockets' `struct lws_protocols` and its callback reasons).  Must not know sockets, the
loop, plugin files, the configuration or how hooks are resolved: a wsi and a context are handed in and used by their
documented names.

One instance of a protocol serves one context and all its listeners, so `self` is where rooms and counters live.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from wsd.wire.broadcast import Broadcast

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from wsd.context import Context
    from wsd.errors import ConnectError
    from wsd.wire.http import Headers, Request, Response
    from wsd.wire.reply import Reply
    from wsd.wsi import Wsi

Answer = int | None
"""What a hook returns: None or `OK` to go on, `CLOSE` to close the connection.  Anything else truthy is a bug."""

Callback = Callable[[Any, Any, Any, Any], Any]
"""The one function of the callback style: `callback(wsi, reason, user, data)`; what it returns is the `Answer`."""


class Peer(NamedTuple):
    """The other end of a connection, as the kernel names it, or a proxy that is believed.

    `address` is an IP address, or the path of a Unix socket (empty when the peer bound none); `port` is 0 there, and
    where a proxy does not tell it.
    """

    address: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.address or "unix"
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Protocol:
    """A named handler of WebSocket connections.  Subclass it, give it a `name`, and write the hooks you need.

    Hooks are resolved once, when the protocol is loaded; one that is not overridden costs nothing.  No hook runs
    inside another.  An exception in a hook is logged with your file and line and closes that one wsi with 1011.
    """

    name: ClassVar[str] = ""
    """The subprotocol's name: a token, unique in a context."""

    Session: ClassVar[Callable[[], Any] | None] = None
    """Called without arguments once per wsi, before `on_filter_protocol_connection`; gives `wsi.session`."""

    Options: ClassVar[type[Any] | None] = None
    """A `wsd.Options` model, filled from this protocol's table in the configuration."""

    max_message_bytes: ClassVar[int | None] = None
    """Largest message accepted, in bytes, both styles; None: the context's limit; 0: none (only with `on_receive`).
    The operator's `[protocols.NAME.limits]` wins over it."""

    context: Context
    """The context that this protocol was added to; set before `on_protocol_init`."""

    _members: dict[Wsi, None]

    # -- the protocol itself ------------------------------------------------------------------------------------

    def on_protocol_init(self, context: Context, options: Any) -> None:
        """Called once per context, before any connection.  `options` is an `Options` (None if there is no model).

        LWS: PROTOCOL_INIT.  An exception stops the start, or refuses the reload.
        """

    def on_protocol_destroy(self) -> None:
        """Called once, always, when the context ends or a reload has replaced this protocol.  LWS: PROTOCOL_DESTROY."""

    def on_wakeup(self) -> None:
        """Called once, on every protocol, after `context.cancel_service()`.  LWS: EVENT_WAIT_CANCELLED."""

    # -- before a connection is established -----------------------------------------------------------------------

    def on_filter_network_connection(self, peer: Peer) -> Answer:
        """Called on protocol 0 for each accepted connection, before a byte is read.  CLOSE refuses it.

        Where connections begin with a PROXY header (`proxy_protocol`) it is called once that has said who `peer` is.
        """

    def on_verify_client_certificate(self, certificate: Certificate, depth: int, verified: bool) -> Answer:
        """Called on protocol 0 in the TLS handshake, for each certificate of the chain that a client has shown.

        From the authority at its top to the client's own, whose `depth` is 0; `certificate` is an x509.Certificate of
        the package cryptography, `verified` what OpenSSL makes of it, after which no more come if it is False.  CLOSE
        refuses the client; OK only lets that verdict stand (in libwebsockets it replaces it).  A client that takes up
        a session again shows nothing.  Reason: OPENSSL_PERFORM_CLIENT_CERT_VERIFICATION.
        """

    def on_verify_authorization(self, wsi: Wsi, scheme: str, credentials: str) -> Answer:
        """Called with what a request shows to be let in, before any other hook hears of the request.

        `scheme` is "basic" or "bearer", `credentials` is `name:password` or the token.  Where the configuration names
        files, in [listen.auth] or [protocols.NAME.auth], it is called only for what they let in, with the name as
        `wsi.identity`; in class style a protocol that has this hook takes no request without credentials even where
        there are no files, and decides alone.  Set `wsi.identity` to say who it is.  CLOSE is 401; `Reject` another
        status.  It must not wait: what takes long belongs into a thread, and the decision into messages.
        Reason: VERIFY_BASIC_AUTHORIZATION, only for what a file lets in.
        """

    def on_filter_protocol_connection(self, wsi: Wsi, request: Request) -> Answer:
        """Called when a valid upgrade request asks for this protocol.

        Raise `Reject(status, text, headers)` to answer with that HTTP status; CLOSE is 403.
        """

    def on_confirm_extension(self, wsi: Wsi, name: str, params: dict[str, str | None]) -> Answer:
        """Called when the client offers an extension that we would agree to: "permessage-deflate".

        `params` is what our answer would say, for example `{"server_max_window_bits": "12"}`; None stands for a
        parameter without a value.  CLOSE: the connection goes on without the extension.
        Reason: CONFIRM_EXTENSION_OKAY.
        """

    def on_add_headers(self, wsi: Wsi, headers: Headers) -> Answer:
        """Called before the 101 is sent; `headers.add(name, value)` puts a header into it.  CLOSE is 403."""

    # -- before a client connection is established ------------------------------------------------------------------

    def on_client_confirm_extension_supported(self, wsi: Wsi, name: str) -> Answer:
        """Called before we ask a server for an extension: "permessage-deflate".  CLOSE: it is not offered."""

    def on_client_append_handshake_header(self, wsi: Wsi, headers: Headers) -> Answer:
        """Called before our request is sent; `headers.add(name, value)` puts a header into it.

        CLOSE gives the connection up: `on_client_connection_error` follows, cause "plugin".
        """

    def on_client_filter_pre_establish(self, wsi: Wsi, response: Reply) -> Answer:
        """Called with the server's answer when it is a good 101.

        CLOSE refuses it: `on_client_connection_error` follows, cause "filter".
        """

    def on_client_connection_error(self, wsi: Wsi, error: ConnectError) -> Answer:
        """Called when `context.client_connect()` comes to nothing; `on_established` and `on_closed` are not called.

        `error.cause` is one word, `error.text` a sentence; `error.status` and `error.body` are what the server or the
        proxy answered.  Where reconnecting was asked for, CLOSE ends it.
        """

    # -- a WebSocket connection -----------------------------------------------------------------------------------

    def on_established(self, wsi: Wsi) -> Answer:
        """Called when the handshake is done.  Reason: ESTABLISHED, CLIENT_ESTABLISHED."""

    def on_receive(self, wsi: Wsi, data: bytes) -> Answer:
        """Called for each piece of a message as it arrives; `data` is yours to keep.

        See `wsi.is_first_fragment`, `wsi.is_final_fragment`, `wsi.remaining_packet_payload`, `wsi.frame_is_binary`.
        A message that arrived whole is one piece; an empty message is one empty piece; text may be cut inside a
        character.  Reason: RECEIVE, CLIENT_RECEIVE.
        """

    def on_message(self, wsi: Wsi, message: Any) -> Answer:
        """Called with each whole message, `str` for text and `bytes` for binary; instead of `on_receive`."""

    def on_writeable(self, wsi: Wsi) -> Answer:
        """Called once after any number of `wsi.callback_on_writable()`, when more can be sent; may be spurious.

        The place for `wsi.write()`; write until `wsi.send_pipe_choked`.  Reason: SERVER_WRITEABLE,
        CLIENT_WRITEABLE.
        """

    def on_pong(self, wsi: Wsi, payload: bytes) -> Answer:
        """Called for each Pong but the answers to the daemon's own pings.

        Reason: RECEIVE_PONG, CLIENT_RECEIVE_PONG.
        """

    def on_peer_close(self, wsi: Wsi, code: int, close_reason: str) -> Answer:
        """Called when the peer's Close arrives (1005: it carried no code).

        OK: the Close is echoed for you; CLOSE: the connection ends without an echo.
        Reason: WS_PEER_INITIATED_CLOSE.
        """

    def on_closed(self, wsi: Wsi, code: int, close_reason: str) -> None:
        """Called exactly once for each wsi that had `on_established`, when its descriptor is gone.

        `code` is the peer's close code; 1005 if its Close carried none; 1006 if no Close came.  Reason: CLOSED,
        CLIENT_CLOSED.
        """

    def on_timer(self, wsi: Wsi) -> Answer:
        """Called when the time given to `wsi.set_timer(seconds)` is over.  Reason: TIMER."""

    # -- HTTP, on protocol 0 or the listener's http_protocol -----------------------------------------------------

    def on_http(self, wsi: Wsi, request: Request) -> Response | Answer:
        """Called for a request that is no upgrade.

        Return a `Response`; None leaves it to the built-in (static files, 404), or, for a request with a body
        where `on_http_body_completion` is defined, waits for the body; CLOSE hangs up.  Reason: HTTP.
        """

    def on_http_body(self, wsi: Wsi, data: bytes) -> Answer:
        """Called for each piece of a request's body, decoded when it was chunked.  Reason: HTTP_BODY."""

    def on_http_body_completion(self, wsi: Wsi) -> Response | Answer:
        """Called when a request's body is complete; answers as `on_http` does.  Reason: HTTP_BODY_COMPLETION."""

    def on_http_writeable(self, wsi: Wsi) -> Answer:
        """Called after `wsi.callback_on_writable()` while a `Response(stream=True)` is being sent.

        `wsi.write(data, final=False)` sends a part of the body, `final=True` ends it.  Reason: HTTP_WRITEABLE.
        """

    def on_closed_http(self, wsi: Wsi) -> None:
        """Called when a connection on which `on_http` ran ends without becoming a WebSocket.  Reason: CLOSED_HTTP."""

    # -- a raw connection, or a descriptor --------------------------------------------------------------------------

    def on_raw_adopt(self, wsi: Wsi) -> Answer:
        """Called when `wsi` is there and its bytes can flow: a socket or descriptor that was adopted, a connection
        that a listener with `accept = "raw"` took in, or one that was opened to a `tcp://` URL.

        Bytes without messages: no opcode, no Close frame.  `wsi.is_descriptor` tells a pipe or tty from a socket.
        Reason: RAW_ADOPT, RAW_CONNECTED for a connection that we opened, RAW_ADOPT_FILE for a descriptor.
        """

    def on_raw_receive(self, wsi: Wsi, data: bytes) -> Answer:
        """Called with bytes as they arrived; `data` is yours to keep and never empty.

        Reason: RAW_RX, RAW_RX_FILE.
        """

    def on_raw_writeable(self, wsi: Wsi) -> Answer:
        """Called once after any number of `wsi.callback_on_writable()`, as `on_writeable` is.

        `wsi.write(data)` sends bytes as they are.  Reason: RAW_WRITEABLE, RAW_WRITEABLE_FILE.
        """

    def on_raw_close(self, wsi: Wsi) -> None:
        """Called exactly once for each wsi that had `on_raw_adopt`, when its descriptor is gone.

        Reason: RAW_CLOSE, RAW_CLOSE_FILE.
        """

    # -- a reason of one's own ----------------------------------------------------------------------------------

    def on_user(self, wsi: Wsi, reason: int, data: Any) -> Answer:
        """Called for each wsi after `context.callback_all_protocol(protocol, reason, data)`.

        In callback style `reason` arrives as the number it is, from `Reason.USER` on.
        """

    # -- external polling, on protocol 0 ------------------------------------------------------------------------

    def on_add_poll_fd(self, fd: int, events: int) -> None:
        """Called when `fd` is to be polled for `events`, bits of `select.POLLIN` and `select.POLLOUT`.

        Only where the context was made with `external_poll=True`.  Unlike all others, these four hooks may run inside
        another one; what they answer is ignored.  Reason: ADD_POLL_FD.
        """

    def on_del_poll_fd(self, fd: int) -> None:
        """Called when `fd` is not to be polled any more; the descriptor still exists.  Reason: DEL_POLL_FD."""

    def on_set_mode_poll_fd(self, fd: int, events: int) -> None:
        """Called when `fd` is to be polled for `events` too.  Reason: SET_MODE_POLL_FD."""

    def on_clear_mode_poll_fd(self, fd: int, events: int) -> None:
        """Called when `fd` is not to be polled for `events` any more.  Reason: CLEAR_MODE_POLL_FD."""

    # -- deeds ----------------------------------------------------------------------------------------------------

    @property
    def wsis(self) -> Collection[Wsi]:
        """The established wsi of this protocol, oldest first; a live view: copy it before you close any."""
        return self._members.keys()

    def broadcast(self, message: str | bytes | bytearray | memoryview, to: Iterable[Wsi] | None = None) -> None:
        """Send one message to every established wsi of this protocol; it is framed once, and compressed once.

        Each wsi queues it as `wsi.send()` does; one whose queue is full is closed with 1008, the others go on.

        Args:
            to: Only those: of a room, say.
        """
        shared = Broadcast(message)
        for wsi in self.context.spread(self._members if to is None else to, shared):
            wsi.send_shared(shared)

    def offer(self, message: str | bytes | bytearray | memoryview, to: Iterable[Wsi] | None = None) -> list[Wsi]:
        """`broadcast` without queues: answers those that get nothing, since they would have to wait for it.

        They are choked (`wsi.send_pipe_choked`), or in the middle of a message.  What is to become of them is yours
        to say: drop the message; or keep it, and `wsi.write()` it when `on_writeable`, once asked for, is called.
        One that is closing gets nothing either, and nobody waits for it: it is not in the answer.
        """
        shared = Broadcast(message)
        rest = self.context.spread(self._members if to is None else to, shared)
        return [wsi for wsi in rest if not wsi.take_shared(shared)]


HOOKS: dict[str, int] = {
    name: method.__code__.co_argcount - 1 for name, method in vars(Protocol).items() if name.startswith("on_")
}
"""Every hook's name and how many arguments it gets after `self`."""


class CallbackProtocol(Protocol):
    """A protocol in callback style: one function for all reasons.  Made by `callback_protocol`."""

    def __init__(self, name: str, callback: Callback, session: Any, options: Any) -> None:
        # The class attributes are per protocol here, since each such protocol is its own instance.
        self.name = name  # type: ignore[misc]
        self.Session = session  # type: ignore[misc]
        self.Options = options  # type: ignore[misc]
        self.callback = callback


def callback_protocol(
    name: str, session: Callable[[], Any] | None = None, options: type[Any] | None = None
) -> Callable[[Callback], CallbackProtocol]:
    """Make a protocol out of one `callback(wsi, reason, user, data)`, as in libwebsockets.

    Args:
        name: The subprotocol's name, a token.
        session: Called once per wsi; its result is `user`.
        options: A `wsd.Options` model for the protocol's table in the configuration.

    `data` is the hook's one argument after the wsi, or a tuple of them in the order of the hook's signature; `wsi`
    and `user` are None where there is none.
    """

    def decorate(callback: Callback) -> CallbackProtocol:
        return CallbackProtocol(name, callback, session, options)

    return decorate
