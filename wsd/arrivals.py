"""Connections that come otherwise than through a listener: opened by us, or adopted.

Owns what plugins and embedders call for that, and the resolver.  Must not know how each is made: that is `client.py`'s
and `adopt.py`'s.  `Context` is built on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsd.errors import ConnectError
from wsd.loop import Loop

if TYPE_CHECKING:
    import socket

    from wsd.client import Backoff
    from wsd.config import Compression
    from wsd.context import Context
    from wsd.protocol import Protocol
    from wsd.resolver import Resolver
    from wsd.tls_client import ClientTls
    from wsd.wsi import Wsi


class Arrivals(Loop):
    """The part of a context that connects out and adopts."""

    stopping: bool

    def __init__(self, external_poll: bool) -> None:
        super().__init__(external_poll)
        self._resolver: Resolver | None = None
        self._client_tls: ClientTls | None = None

    @property
    def _whole(self) -> Context:
        return self  # type: ignore[return-value]  # there is no other subclass

    def client_connect(
        self,
        url: str,
        *,
        protocol: Protocol | str | None = None,
        subprotocols: Sequence[str] | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        origin: str | None = None,
        timeout_seconds: float = 5,
        interface: str = "",
        proxy: str = "",
        compression: Compression | None = None,
        reconnect: Backoff | None = None,
        session: Any = None,
        parent: Wsi | None = None,
        tls: ClientTls | None = None,
    ) -> Wsi:
        """Open a connection to a server; answers its wsi at once, before it is connected.

        Exactly one of `on_established` and `on_client_connection_error` of the protocol follows, after this call; of a
        raw connection, one of `on_raw_adopt` and `on_client_connection_error`.
        Connections to one address are opened one after the other, as RFC 6455 wants it (4.1, point 2).
        LWS: lws_client_connect_via_info.

        Args:
            url: `ws://host:port/path?query`, `wss://` for TLS; or `tcp://host:port` for a raw connection, bytes without
                a handshake, and `tls://` for the same under TLS.
            protocol: Who handles it, a protocol of this context or its name; None: the first.
            subprotocols: What is offered, best first; None: the protocol's name; (): nothing.
            headers: Added to the request.
            origin: The Origin header; None: none, as befits a client that is no browser.
            timeout_seconds: For all of it: resolving, connecting, a proxy, and the handshake.
            interface: The local address to connect from, or the name of a network device.
            proxy: `http://[user:password@]host:port`, an HTTP proxy that is asked to CONNECT; empty: none.
            compression: What is offered; None: the protocol's table in the configuration, or the defaults.
            reconnect: Connect again, with a new wsi, whenever it failed or ended and was not ended by us; None: never.
            session: `wsi.session`, in place of what the protocol's `Session` makes.
            parent: A wsi that this one is tied to: when one of them ends, the other is closed.
            tls: How a server is verified, and how it knows us; None: by the system's certificate authorities.

        Raises:
            ValueError: a URL, header, subprotocol or proxy that cannot be used; an unknown protocol; what only a
                WebSocket has, with `tcp://`; `tls` without TLS; `reconnect` with `parent`.
            TypeError: an argument of the wrong type.
            ConnectError: the context stops.
        """
        # Most servers never connect out.
        from wsd import client
        from wsd.connect_info import make_connect_info

        self._check_running()
        info = make_connect_info(
            self._whole,
            url,
            protocol=protocol,
            subprotocols=subprotocols,
            headers=headers,
            origin=origin,
            timeout_seconds=timeout_seconds,
            interface=interface,
            proxy=proxy,
            compression=compression,
            session=session,
            tls=tls,
        )
        return client.connect(self._whole, info, reconnect, parent)

    def adopt_socket(
        self, sock: socket.socket, protocol: Protocol | str, *, raw: bool = False, parent: Wsi | None = None
    ) -> Wsi:
        """Serve a connected stream socket that somebody else has accepted or opened; answers its wsi at once.

        From then on it belongs to wsd, which closes it: `sock` is not to be used any more.  It speaks HTTP and may
        become a WebSocket of `protocol`, as on a listener with default options; or it is raw, and `on_raw_adopt`
        follows after this call, unless it has ended by then.  LWS: lws_adopt_socket, lws_adopt_descriptor_vhost.

        Args:
            sock: TCP, a Unix socket, one end of a socketpair.
            protocol: Who handles it, a protocol of this context or its name.
            raw: Whether its bytes go as they are to the `on_raw_...` hooks.
            parent: A wsi that this one is tied to: when one of them ends, the other is closed.

        Raises:
            ValueError: no connected stream socket, or an unknown protocol.  The socket stays yours then.
            ConnectError: the context stops.  Neither is it taken then.
        """
        from wsd import adopt

        self._check_running()
        return adopt.adopt_socket(self._whole, sock, protocol, raw=raw, parent=parent)

    def adopt_descriptor(self, fd: int, protocol: Protocol | str, *, parent: Wsi | None = None) -> Wsi:
        """Serve a descriptor that is no socket as a raw wsi; answers it at once, and `on_raw_adopt` follows, unless it
        has ended by then.

        From then on it belongs to wsd, which makes it non-blocking and closes it.  The open file, which may be a
        shell's terminal too, is left blocking if it was: `wsi.is_descriptor` is true, `wsi.peer.address` names it.
        Where one end only reads or writes, so does the wsi; its end of input is the end of the wsi.
        LWS: lws_adopt_descriptor_vhost with LWS_ADOPT_RAW_FILE_DESC.

        Args:
            fd: A pipe, FIFO, tty, eventfd, inotify, or anything else that epoll(7) can wait for.
            protocol: Who handles it, a protocol of this context or its name.
            parent: A wsi that this one is tied to: when one of them ends, the other is closed.

        Raises:
            ValueError: what cannot be polled, like a regular file; an unknown protocol.  `fd` stays yours then.
            ConnectError: the context stops.  Neither is it taken then.
        """
        from wsd import adopt

        self._check_running()
        return adopt.adopt_descriptor(self._whole, fd, protocol, parent=parent)

    def _check_running(self) -> None:
        if self.stopping:
            raise ConnectError("closed", "the context stops")

    @property
    def client_tls(self) -> ClientTls:
        """How servers are verified where a connect says nothing about it: by the system's certificate authorities."""
        if self._client_tls is None:
            from wsd.tls_client import ClientTls

            self._client_tls = ClientTls()
        return self._client_tls

    @property
    def resolver(self) -> Resolver:
        """Looks up names for the connections that this context makes."""
        if self._resolver is None:
            from wsd.resolver import Resolver

            self._resolver = Resolver(self._resolved)
        return self._resolver

    def _close_resolver(self) -> None:
        if self._resolver is not None:
            self._resolver.close()

    def _resolved(self) -> None:
        """The resolver has news; in one of its threads."""
        self.call_soon(self.resolver.deliver)
        self.rouse()
