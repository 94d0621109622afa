"""Who may come in by a listener, and whom the proxies in front of it speak for.

Owns what `allow`, `deny`, `trusted_proxies`, `proxy_protocol` and `forwarded` mean.  How a header is read is `wire/`'s,
how many may come in is `admission.py`'s.  Must not know when a peer is asked about, nor the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wsd import log
from wsd.errors import HandshakeError
from wsd.networks import Networks
from wsd.protocol import Peer
from wsd.wire.forwarded import FORWARDED, HIDDEN, X_FORWARDED_FOR, find_client

if TYPE_CHECKING:
    from wsd.config import Listen
    from wsd.wire.http import Request
    from wsd.wsi import Wsi

# What the option says, and the header that it means.
_HEADERS: Final = {"x-forwarded-for": X_FORWARDED_FOR, "forwarded": FORWARDED}

# How long one should wait who has as many connections as an address may have, or opens them too fast.
RETRY_AFTER_SECONDS: Final = 1


class Doors:
    """The doors of one listener; `doors_of` makes them where there are any."""

    __slots__ = ("_allowed", "_denied", "_header", "_trusted", "has_proxy_protocol")

    def __init__(self, config: Listen) -> None:
        self._allowed = Networks(config.allow)
        self._denied = Networks(config.deny)
        self._header = _HEADERS.get(config.forwarded, "")
        self._trusted = Networks(config.trusted_proxies)
        self.has_proxy_protocol = config.proxy_protocol
        """Whether each connection begins with a PROXY header."""

    def awaits_request(self, address: str) -> bool:
        """Reports whether this is a proxy whose requests say who the real peer is."""
        return bool(self._header) and address in self._trusted

    def why_not(self, address: str) -> str:
        """Why the peer at this address may not come in; empty: it may."""
        if address in self._denied:
            return "denied"
        if self._allowed and address not in self._allowed and address not in self._trusted:
            return "not among those that are allowed"
        return ""

    def why_no_proxy(self, address: str) -> str:
        """Why nobody at this address may send a PROXY header; empty: it may."""
        return self.why_not(address) or ("" if address in self._trusted else "no trusted proxy")

    def meet(self, wsi: Wsi, hop: Peer | None, request: Request) -> Peer:
        """A request's head has come: find out whose it is, and whether that one may come in.

        A proxy may send requests of different people through one connection.

        Args:
            wsi: Gets `peer` and `proxy`.
            hop: Who is at the other end of this connection, as this answered to its last request; None: it is the
                first one, and that is `wsi.peer`.

        Raises:
            HandshakeError: 403, or 429 where that address has too many connections, or opens them too fast.
        """
        hop = hop or wsi.peer
        if not self.awaits_request(hop.address):
            return hop
        found = find_client(self._header, request.headers.combined(self._header), self._trusted.__contains__)
        is_hidden = found == HIDDEN
        set_peer(wsi, hop if found is None or is_hidden else Peer(*found))
        # The proxy itself would be let in, but it speaks for somebody of whom nothing is known.
        why = "its address is not told" if is_hidden and self._allowed else self.why_not(wsi.peer.address)
        if why:
            wsi.context.counters.denied += 1
            log.info("%s: %s", wsi.tag, why)
            raise HandshakeError(403, "this address may not connect here")
        why = wsi.context.admission.enter(wsi.number, wsi.peer)
        if why:
            log.info("%s: %s", wsi.tag, why)
            raise HandshakeError(
                429, "too many connections from this address", [("Retry-After", str(RETRY_AFTER_SECONDS))]
            )
        return hop


def doors_of(config: Listen) -> Doors | None:
    """The doors that a listener has; None: it stands open, to everybody."""
    if config.allow or config.deny or config.trusted_proxies:
        return Doors(config)
    return None


def set_peer(wsi: Wsi, peer: Peer) -> None:
    """It is known now who is really there; what the kernel says is kept in `wsi.proxy`, where that is another one."""
    kernel = wsi.peer if wsi.proxy is None else wsi.proxy
    wsi.peer = peer
    wsi.proxy = None if peer == kernel else kernel
