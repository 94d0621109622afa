"""What a request for a WebSocket must pass until it gets its 101: RFC 6455 4.2.2, with the hooks in LWS's order.

Owns who is asked, in which order, and what an answer before the 101 means; which extensions are agreed on.  The rules
for the bytes are `wire/`'s.  Must not know when requests are read or answered; that is `http1.py`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wsd import log
from wsd.errors import HandshakeError
from wsd.wire.extensions import DEFLATE, Agreement, Offer, Settings, accept_offer, parse_extensions
from wsd.wire.handshake import (
    Upgrade,
    accept_key,
    check_upgrade,
    choose_subprotocol,
    encode_101,
    encode_plain_101,
    is_allowed,
    origin_allowed,
)
from wsd.wire.headers import Headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsd.binding import Binding
    from wsd.wire.http import Request
    from wsd.wire.ordinary import Said
    from wsd.wsi import Wsi

# How long a client should wait that was refused because the daemon stops; a restart takes about as long.
RETRY_AFTER_SECONDS: Final = 5

OUR_FAULT: Final = "something went wrong here; the server's log says more"


class Chosen(NamedTuple):
    """Who serves a request for a WebSocket, before anybody was asked."""

    asked: Upgrade
    binding: Binding
    subprotocol: str | None


class Agreed(NamedTuple):
    """What a connection becomes."""

    binding: Binding
    subprotocol: str | None
    compression: Agreement | None
    settings: Settings | None
    """How this end compresses; None where `compression` is."""
    head: bytes
    """The 101."""


def choose(wsi: Wsi, request: Request) -> Chosen:
    """Find out whom a request for a WebSocket is for.

    Raises:
        HandshakeError: nobody, or it is none, or it may not ask.
    """
    asked = check_upgrade(request)
    menu = wsi.menu
    assert menu is not None
    _admit(wsi, request, menu.allowed_origins)
    return Chosen(asked, *choose_subprotocol(asked, request.path, menu.bindings, menu.paths, menu.default))


def choose_ordinary(wsi: Wsi, request: Request, said: Said) -> Chosen | None:
    """`choose`, for a request that was read by `read_upgrade`; None: `choose` has to say.

    Nothing has changed then, and nobody was told.
    """
    menu = wsi.menu
    if menu is None or wsi.context.stopping:
        return None
    _, _, host, key, origin, subprotocol, extensions = said
    if origin is not None and not is_allowed((origin,), host, menu.allowed_origins):
        return None
    if subprotocol is not None:
        # One name, and it is known; of a list, `choose` finds the first that is.
        binding = menu.bindings.get(subprotocol)
    else:
        binding = menu.paths.get(request.path, menu.default) if menu.paths else menu.default
    if binding is None:
        return None
    offers: Sequence[Offer] = ()
    if extensions is not None:
        try:
            offers = parse_extensions((extensions,))
        except HandshakeError:
            return None
    names = () if subprotocol is None else (subprotocol,)
    return Chosen(Upgrade(key, names, tuple(offers)), binding, subprotocol)


def negotiate(wsi: Wsi, request: Request, chosen: Chosen) -> Agreed | None:
    """Ask everybody whether `wsi` becomes a WebSocket; None: a hook called `wsi.close()`.

    From then on the wsi belongs to the protocol that was asked for; if nothing comes of it, again to the one that has
    its HTTP.

    Raises:
        HandshakeError: it is refused.
    """
    asked, binding, subprotocol = chosen
    menu = wsi.menu
    assert menu is not None
    http, http_session = wsi.binding, wsi.session
    wsi.bind(binding)
    agreed = None
    try:
        settings = binding.compression(menu.config.compression) if asked.extensions else None
        agreed = _ask(wsi, request, asked, subprotocol, settings)
    finally:
        if agreed is None:
            wsi.bind(http)
            wsi.session = http_session
    return agreed


def _admit(wsi: Wsi, request: Request, allowed_origins: Sequence[str]) -> None:
    """Refuse what is not the protocol's to decide: newcomers while we stop, and pages that may not connect."""
    if wsi.context.stopping:
        raise stopping()
    if not origin_allowed(request, allowed_origins):
        log.info(
            "%s: Origin %s is neither the Host %s nor in allowed_origins",
            wsi.tag,
            request.headers.combined("Origin"),
            request.host,
        )
        raise HandshakeError(403, "pages of this origin may not connect here")


def stopping() -> HandshakeError:
    """The refusal of newcomers while we stop."""
    return HandshakeError(503, "the server is stopping", [("Retry-After", str(RETRY_AFTER_SECONDS))])


def _ask(
    wsi: Wsi, request: Request, asked: Upgrade, subprotocol: str | None, settings: Settings | None
) -> Agreed | None:
    """Make the session, ask the protocol's hooks, whose Reject is a HandshakeError; gives the 101 and what it says.

    None: one of them called `wsi.close()`, and no further one is asked.
    """
    hooks = wsi.binding.hooks
    check_answer(wsi, wsi.binding.make_session(wsi))
    if hooks.on_filter_protocol_connection is not None:
        hook = hooks.on_filter_protocol_connection
        check_answer(wsi, wsi.call("on_filter_protocol_connection", hook, wsi, request))
    agreement = None if wsi.is_closing or not asked.extensions else _agree(wsi, asked.extensions, settings)
    if agreement is None and hooks.on_add_headers is None and not wsi.is_closing:
        return Agreed(wsi.binding, subprotocol, None, None, encode_plain_101(asked.key, subprotocol))
    headers = Headers()
    if hooks.on_add_headers is not None and not wsi.is_closing:
        check_answer(wsi, wsi.call("on_add_headers", hooks.on_add_headers, wsi, headers))
    if wsi.is_closing:
        return None
    extensions = "" if agreement is None else agreement.header
    try:
        head = encode_101(accept_key(asked.key), subprotocol, headers, extensions=extensions)
    except ValueError as error:
        log.err("%s: on_add_headers: %s", wsi.tag, error)
        raise HandshakeError(500, OUR_FAULT) from None
    return Agreed(wsi.binding, subprotocol, agreement, None if agreement is None else settings, head)


def _agree(wsi: Wsi, offers: Sequence[Offer], settings: Settings | None) -> Agreement | None:
    """Which extension is used; None: none is.  The protocol may refuse what we would agree to."""
    agreement = None if settings is None else accept_offer(offers, settings)
    hook = wsi.binding.hooks.on_confirm_extension
    if agreement is not None and hook is not None:
        answer = wsi.call("on_confirm_extension", hook, wsi, DEFLATE, dict(agreement.params))
        if answer is wsi.FAILED:
            raise HandshakeError(500, OUR_FAULT)
        if answer:
            agreement = None
    if offers:
        names = ", ".join(offer.name for offer in offers)
        log.ext("%s: offered %s; agreed: %s", wsi.tag, names, agreement.header if agreement else "none")
    return agreement


# -- sessions and answers, before the 101 and for HTTP ----------------------------------------------------------------


def check_answer(wsi: Wsi, answer: Any) -> None:
    """Raise unless a hook before the 101 answered OK.

    Raises:
        HandshakeError: 500 for one that failed, 403 for CLOSE.
    """
    if answer is wsi.FAILED:
        raise HandshakeError(500, OUR_FAULT)
    if answer:
        raise HandshakeError(403, "the protocol refused this connection")
