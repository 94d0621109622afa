"""What a connection that came in passes before its bytes are HTTP's or raw, where it is asked for: a PROXY header, and
the TLS handshake.

Owns the order of these steps, and the answer to those who speak plain HTTP where TLS is spoken.  How each step reads
its bytes is a pipe's; must not know who accepts, nor the loop.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from wsd import log
from wsd.access import is_open, takes_tokens
from wsd.doors import set_peer
from wsd.errors import HandshakeError, ProxyError
from wsd.http1 import Http1
from wsd.protocol import Peer
from wsd.raw import Raw
from wsd.transport import PeekPipe, SocketPipe
from wsd.upgrade import choose_ordinary, negotiate
from wsd.wire.http import Request
from wsd.wire.ordinary import Said, read_upgrade
from wsd.wire.proxy import ProxyReader

if TYPE_CHECKING:
    from wsd.incoming import Menu
    from wsd.listener import Listener
    from wsd.tls import TlsPipe
    from wsd.wsi import Wsi

# How every HTTP method in use begins, and no TLS record: its first byte is its type, 22 for a handshake (RFC 8446 5.1).
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def begin(wsi: Wsi, menu: Menu) -> None:
    """Nothing stands between the peer and us any more: speak what is spoken here."""
    if menu.config.accept == "raw":
        wsi.context.admission.done(wsi)
        role = Raw(wsi)
        if wsi.binding.make_session(wsi) is not wsi.FAILED:
            role.adopted()
        else:
            wsi.abort("Session raised")
    else:
        wsi.role = Newcomer(wsi)


class Newcomer:
    """The role of one from which HTTP is expected, until its first bytes are there.

    Nearly always they are the whole of an ordinary request for a WebSocket, which is read in one call, and answered
    right away.  What they are otherwise is for `Http1`, which becomes the role and begins with them: it does the same
    and everything else, at four times the cost.
    """

    __slots__ = ("wsi",)

    def __init__(self, wsi: Wsi) -> None:
        self.wsi = wsi
        # From accept to the end of the head, however slowly the bytes drip (slowloris).
        wsi.set_deadline(wsi.budget.handshake_seconds)

    def receive(self, data: bytes) -> None:
        """Take what was read."""
        budget = self.wsi.budget
        said = read_upgrade(data, budget.max_head_bytes, budget.max_headers, budget.max_uri_bytes)
        if said is None or not self._upgrade(data, said):
            self._become_http().receive(data)

    def _become_http(self) -> Http1:
        self.wsi.role = role = Http1(self.wsi, has_begun=True)
        return role

    def _upgrade(self, data: bytes, said: Said) -> bool:
        """Act on an ordinary request for a WebSocket; reports whether that was possible here."""
        wsi, menu = self.wsi, self.wsi.menu
        if menu is None or menu.doors is not None or log.shown & log.HEADER:
            return False
        end, target, _, _, _, _, _ = said
        if "?" in target and takes_tokens(menu):
            return False
        request = Request(data[:end])
        request.keep_when_parsed()
        chosen = choose_ordinary(wsi, request, said)
        if chosen is None or not is_open(wsi, chosen.binding):
            return False
        wsi.request = request
        wsi.context.counters.http_requests += 1
        wsi.context.admission.done(wsi)
        try:
            agreed = negotiate(wsi, request, chosen)
        except HandshakeError as error:
            self._become_http().refuse(error)
            return True
        if agreed is not None:  # else a hook has called `wsi.close()`
            request.keep_parsed(False)
            binding, subprotocol, compression, settings, head = agreed
            wsi.upgrade(binding, request, subprotocol, head, data[end:], compression, settings)
        return True

    def writable(self) -> None:
        """Nothing: no plugin has the wsi yet."""

    def write(self, data: bytes, final: bool) -> None:
        """What `wsi.write` is here.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("wsi.write() before the connection is open")

    def end_of_input(self) -> None:
        """Take note that the peer has left without a word."""
        self.wsi.finish()

    def timed_out(self) -> None:
        """Hang up on a peer that has said nothing."""
        self.wsi.context.counters.note_over("handshake_seconds")
        self.wsi.finish()

    def close_asked(self) -> None:
        """Somebody called `wsi.close()`."""
        self.wsi.finish()

    def stop(self) -> None:
        """Take note that the context stops."""
        self.wsi.finish()

    def closed(self) -> None:
        """There is nothing to release, and nobody to tell."""


class Opening:
    """The role of one connection that came in, until it has passed.

    Args:
        wsi: Served already, with a plain pipe on `sock`.
        listener: That it came in by, which says what it may become.
    """

    __slots__ = ("_first", "_header", "_menu", "_sock", "_tls", "_tls_pipe", "_why", "wsi")

    def __init__(self, wsi: Wsi, sock: socket.socket, listener: Listener) -> None:
        self.wsi = wsi
        self._sock = sock
        self._menu = listener
        self._header: ProxyReader | None = None  # until it is read
        self._why = ""  # it is none
        self._first = b""
        self._tls = listener.tls  # a reload may turn it off while the peer makes up its mind
        self._tls_pipe: TlsPipe | None = None

    def begin(self) -> None:
        """Take the first step; the wsi's role is this one from here on."""
        self.wsi.role = self
        doors = self._menu.doors
        if doors is not None and doors.has_proxy_protocol:
            self._begin_header()
        else:
            self._begin_tls()

    # -- the PROXY header --------------------------------------------------------------------------------------------

    def _begin_header(self) -> None:
        self._header = ProxyReader()
        self.wsi.set_deadline(self.wsi.budget.handshake_seconds)
        self.wsi.replace_pipe(PeekPipe(self._sock, self._look_at_header, self._header_seen))

    def _look_at_header(self, peeked: bytes) -> tuple[int, bool]:
        assert self._header is not None
        try:
            return self._header.feed(peeked), self._header.is_done
        except ProxyError as error:
            self._why = str(error)
            return 0, True

    def _header_seen(self) -> None:
        """The proxy has said whom it speaks for, or nothing that can be understood."""
        wsi, header = self.wsi, self._header
        assert header is not None
        if self._why:
            self._refuse_header(self._why)
            return
        self._header = None
        if header.peer is not None:
            set_peer(wsi, Peer(*header.peer))
        if self._menu.lets_in(wsi.number, wsi.peer):
            wsi.replace_pipe(SocketPipe(self._sock))
            self._begin_tls()
        else:
            wsi.abort("refused")

    def _refuse_header(self, why: str) -> None:
        wsi = self.wsi
        wsi.context.counters.bad_proxy_headers += 1
        log.info("%s: refused: %s", wsi.tag, why)
        wsi.abort(why)

    # -- TLS --------------------------------------------------------------------------------------------------------

    def _begin_tls(self) -> None:
        if self._tls is None:
            begin(self.wsi, self._menu)
            return
        self.wsi.set_deadline(self.wsi.budget.tls_handshake_seconds)
        self.wsi.replace_pipe(PeekPipe(self._sock, self._look_at_first, self._first_seen))

    def _look_at_first(self, peeked: bytes) -> tuple[int, bool]:
        self._first = peeked[:1]
        return 0, bool(peeked)

    def _first_seen(self) -> None:
        """The peer has said something: TLS, or what it takes for HTTP."""
        from wsd.tls import TlsPipe

        wsi, tls = self.wsi, self._tls
        assert tls is not None
        if self._first in _LETTERS and self._menu.config.accept == "http":
            wsi.context.counters.plain_on_tls += 1
            wsi.replace_pipe(SocketPipe(self._sock))
            wsi.role = PlainHttp(wsi, self._menu)
            return
        self._tls_pipe = TlsPipe(self._sock, tls.connection(self._sock), self._shaken)
        wsi.replace_pipe(self._tls_pipe)

    def _shaken(self) -> None:
        """The handshake is over."""
        wsi, pipe, tls = self.wsi, self._tls_pipe, self._tls
        assert pipe is not None
        assert tls is not None
        if pipe.failure:
            self._refuse(tls.reason(pipe.connection) or pipe.failure)
            return
        wsi.context.counters.tls_handshakes += 1
        wsi.context.heap.shaken()
        if log.is_on(log.DEBUG):
            info = pipe.tls
            assert info is not None
            resumed = ", resumed" if info.is_resumed else ""
            log.debug("%s: %s %s %s%s", wsi.tag, info.version, info.cipher, log.escape(info.server_name), resumed)
        begin(wsi, self._menu)

    def _refuse(self, why: str) -> None:
        """No TLS comes of it.  OpenSSL has sent its alert, which an end in order lets arrive."""
        self.wsi.context.counters.tls_failures += 1
        log.info("%s: no TLS: %s", self.wsi.tag, why)
        self.wsi.finish()

    # -- what the wsi calls -------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Nothing: no byte gets through before the role has changed."""

    def writable(self) -> None:
        """Nothing: the plugin does not have the wsi yet."""

    def write(self, data: bytes, final: bool) -> None:
        """What `wsi.write` is here.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("wsi.write() before the connection is open")

    def end_of_input(self) -> None:
        """Take note that the peer has left without a word, as port scanners and health checks do."""
        if self._header is not None and not self._header.is_empty:
            self._refuse_header("its PROXY header has no end")
            return
        log.debug("%s: ended before it said anything", self.wsi.tag)
        self.wsi.finish(has_ended=True)

    def timed_out(self) -> None:
        """Hang up on a peer that was too slow."""
        if self._header is not None:
            self.wsi.context.counters.note_over("handshake_seconds")
            self._refuse_header("no PROXY header within handshake_seconds")
            return
        self.wsi.context.counters.tls_failures += 1
        self.wsi.context.counters.note_over("tls_handshake_seconds")
        log.info("%s: no TLS: the handshake took too long", self.wsi.tag)
        self.wsi.abort("the TLS handshake took too long")

    def close_asked(self) -> None:
        """Somebody called `wsi.close()`."""
        self.wsi.abort("closed before it was open")

    def stop(self) -> None:
        """Take note that the context stops."""
        self.wsi.abort("the context stops")

    def closed(self) -> None:
        """There is nothing to release, and nobody to tell."""


class PlainHttp(Http1):
    """The role of one that speaks plain HTTP where TLS is spoken: it gets told so, or sent to the right address."""

    __slots__ = ("_menu",)

    def __init__(self, wsi: Wsi, menu: Menu) -> None:
        super().__init__(wsi)
        self._menu = menu

    @property
    def _headers(self) -> tuple[tuple[str, str], ...]:
        """RFC 6797 7.2: "The HSTS Host MUST NOT include the STS header field in HTTP responses conveyed over non-secure
        transport"."""
        return ()

    def _upgrade(self, request: Request) -> None:
        # No client of RFC 6455 follows a redirect unasked, and a browser does not at all.
        raise HandshakeError(400, "this port speaks TLS: use wss://")

    def _ask(self, request: Request) -> None:
        if self._menu.config.tls.plain_http == "redirect" and request.host and request.method in ("GET", "HEAD"):
            query = f"?{request.query}" if request.query else ""
            # The client has found this port under the name and port that it put into Host.
            address = f"https://{request.host}{request.raw_path}{query}"
            raise HandshakeError(308, "this is found under https://", [("Location", address)])
        raise HandshakeError(400, "this port speaks TLS: use https://")
