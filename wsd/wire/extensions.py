"""Sec-WebSocket-Extensions: its grammar (RFC 6455 section 9.1), and how permessage-deflate is agreed on (RFC 7692
sections 5 and 7.1), for both ends.

Pure.  What compresses is `deflate.py`; where the settings come from and who may veto is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from wsd.errors import ConnectError, HandshakeError
from wsd.wire.headers import TOKEN

DEFLATE: Final = "permessage-deflate"

Params = tuple[tuple[str, str | None], ...]
"""Names and values of an extension's parameters in their order; None: there is no `=`."""

_SERVER_ALONE: Final = "server_no_context_takeover"
_CLIENT_ALONE: Final = "client_no_context_takeover"
_SERVER_BITS: Final = "server_max_window_bits"
_CLIENT_BITS: Final = "client_max_window_bits"

# The window of whoever says nothing: 32 KiB, the largest that DEFLATE has.
_LARGEST_BITS: Final = 15
# RFC 7692 7.1.2.1: "a decimal integer value without leading zeroes between 8 to 15, inclusive".
_BITS: Final = re.compile(r"(?:[89]|1[0-5])\Z")

# Nothing in these gives back a character that it took, so that what does not match is known in linear time.
_TOKEN: Final = f"(?>{TOKEN.decode()})"
_NAME: Final = re.compile(rf"({_TOKEN})[ \t]*+")
_VALUE: Final = rf'=[ \t]*+(?:({_TOKEN})|"((?:[^"\\]|\\.)*+)")[ \t]*+'
_PARAM: Final = re.compile(rf";[ \t]*+({_TOKEN})[ \t]*+(?:{_VALUE})?+")
_GAP: Final = re.compile(r"[ \t,]*+")
_WHOLE_TOKEN: Final = re.compile(rf"{_TOKEN}\Z")
_ESCAPED: Final = re.compile(r"\\(.)")


class Offer(NamedTuple):
    """One element of Sec-WebSocket-Extensions, of an offer or of an answer; names as they were sent."""

    name: str
    params: Params


class Settings(NamedTuple):
    """What one end wants of permessage-deflate."""

    level: int
    """1 (fastest) to 9 (smallest)."""
    memory_level: int
    """1 to 9: of the compressor, 2 ** (9 + level) bytes beside its window."""
    window_bits: int
    """9 to 15: a window of 2 ** bits bytes; the most that we use, and what we ask the peer to use."""
    context_takeover: bool
    """Whether a message may refer to the ones before it: smaller messages, and a context kept for each connection."""
    min_bytes: int
    """Shorter messages are sent as they are."""


class Agreement(NamedTuple):
    """permessage-deflate as two ends have agreed on it."""

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int
    params: Params
    """As they stand in the answer."""

    @property
    def header(self) -> str:
        """The value of Sec-WebSocket-Extensions in the 101."""
        return _encode(self.params)


def parse_extensions(values: Iterable[str]) -> list[Offer]:
    """The elements of all Sec-WebSocket-Extensions lines of a head, in their order (RFC 6455 9.1).

    Empty elements are skipped (RFC 9110 5.6.1.2), even where nothing else is there: libwebsockets 1.x sends the header
    empty when it has nothing to offer.

    Raises:
        HandshakeError: 400.  "If a value is received [...] that does not conform to the ABNF below, the recipient of
            such malformed data MUST immediately _Fail the WebSocket Connection_."
    """
    text = ", ".join(values)
    offers = []
    at = _skip(_GAP, text, 0)
    while at < len(text):
        offer, at = _parse_element(text, at)
        offers.append(offer)
        if at < len(text) and text[at] != ",":
            raise _malformed()
        at = _skip(_GAP, text, at)
    return offers


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where in `text` what `pattern` matches ends."""
    match = pattern.match(text, at)
    return match.end() if match else at


def _parse_element(text: str, at: int) -> tuple[Offer, int]:
    """`extension = extension-token *( ";" extension-param )`, and where it ends."""
    match = _NAME.match(text, at)
    if match is None:
        raise _malformed()
    name, at = match[1], match.end()
    params: list[tuple[str, str | None]] = []
    while match := _PARAM.match(text, at):
        params.append((match[1], match[2] if match[3] is None else _unquote(match[3])))
        at = match.end()
    return Offer(name, tuple(params)), at


def _unquote(quoted: str) -> str:
    """What stands between the quotes, unescaped."""
    value = _ESCAPED.sub(r"\1", quoted)
    # "When using the quoted-string syntax variant, the value after quoted-string unescaping MUST conform to the
    # 'token' ABNF."
    if not _WHOLE_TOKEN.match(value):
        raise _malformed()
    return value


def _malformed() -> HandshakeError:
    return HandshakeError(400, "the Sec-WebSocket-Extensions header is malformed")


def _encode(params: Params) -> str:
    """One element of the header's value."""
    return "; ".join([DEFLATE, *(name if value is None else f"{name}={value}" for name, value in params)])


def accept_offer(offers: Sequence[Offer], settings: Settings) -> Agreement | None:
    """The server's answer: to the first offer of permessage-deflate that can be accepted; None: there is none.

    Names are compared with their case, as everybody sends them.  RFC 7692 7: a server "MUST decline" an offer with a
    parameter that is unknown, has an invalid value or stands there twice.  To decline is to go on to the next offer;
    the connection does not depend on it.
    """
    for name, params in offers:
        if name != DEFLATE:
            continue
        try:
            return _answer(_read_params(params, is_answer=False), settings)
        except ValueError:
            continue
    return None


def _answer(offered: dict[str, int], settings: Settings) -> Agreement:
    """Accept a valid offer; of two wishes the one that needs less memory wins."""
    # 7.1.1.1: "A server accepts an extension negotiation offer that includes the "server_no_context_takeover" extension
    # parameter by including the "server_no_context_takeover" extension parameter" in its answer; it may do so, and for
    # the client too, without having been asked.  To repeat the client's own hint (7.1.1.2) costs nobody anything.
    server_alone = _SERVER_ALONE in offered or not settings.context_takeover
    client_alone = _CLIENT_ALONE in offered or not settings.context_takeover
    server_bits = min(settings.window_bits, offered.get(_SERVER_BITS, _LARGEST_BITS))
    client_bits = _LARGEST_BITS
    params: list[tuple[str, str | None]] = []
    if server_alone:
        params.append((_SERVER_ALONE, None))
    if client_alone:
        params.append((_CLIENT_ALONE, None))
    # 7.1.2.1: accepted "by including the "server_max_window_bits" extension parameter" with "the same or smaller
    # value"; it may be there without having been offered.
    if _SERVER_BITS in offered or server_bits < _LARGEST_BITS:
        params.append((_SERVER_BITS, str(server_bits)))
    # 7.1.2.2: "If a received extension negotiation offer doesn't have the "client_max_window_bits" extension parameter,
    # the corresponding extension negotiation response [...] MUST NOT include" it.
    if _CLIENT_BITS in offered:
        client_bits = min(settings.window_bits, offered[_CLIENT_BITS])
        params.append((_CLIENT_BITS, str(client_bits)))
    return Agreement(server_alone, client_alone, server_bits, client_bits, tuple(params))


def encode_offers(settings: Settings) -> str:
    """What a client offers, as the value of Sec-WebSocket-Extensions, in its order of preference.

    A server that cannot limit its window declines an offer that asks for it (RFC 7692 7.1.2.1), so a second offer does
    not ask.
    """
    alone: Params = () if settings.context_takeover else ((_SERVER_ALONE, None), (_CLIENT_ALONE, None))
    if settings.window_bits == _LARGEST_BITS:
        return _encode((*alone, (_CLIENT_BITS, None)))
    bits = str(settings.window_bits)
    # The value is a hint that saves the server memory: we never use a larger window.
    rest: Params = ((_CLIENT_BITS, bits),)
    return ", ".join((_encode((*alone, (_SERVER_BITS, bits), *rest)), _encode((*alone, *rest))))


def check_answer(answers: Sequence[Offer], settings: Settings | None) -> Agreement | None:
    """What a server's 101 agrees to, of what `encode_offers(settings)` offered; None: nothing.

    Args:
        settings: None: nothing was offered.

    Raises:
        ConnectError: "extension".  RFC 6455 4.1, point 5, for an extension that was not offered, and RFC 7692 7 for
            parameters that do not answer our offer: the client MUST _Fail the WebSocket Connection_.
    """
    for name, _ in answers:
        if settings is None or name != DEFLATE:
            raise ConnectError("extension", f"the server answers with the extension {name}, which was not offered")
    if settings is None or not answers:
        return None
    if len(answers) > 1:
        raise ConnectError("extension", f"the server answers with {DEFLATE} twice")
    params = answers[0].params
    try:
        agreed = _read_params(params, is_answer=True)
    except ValueError as error:
        raise ConnectError("extension", f"the server's answer for {DEFLATE}: {error}") from None
    # All of our offers said so, and it is accepted by saying it too (7.1.1.1).
    if not settings.context_takeover and _SERVER_ALONE not in agreed:
        raise ConnectError("extension", f"the server's answer for {DEFLATE} lacks {_SERVER_ALONE}")
    return Agreement(
        _SERVER_ALONE in agreed,
        _CLIENT_ALONE in agreed,
        agreed.get(_SERVER_BITS, _LARGEST_BITS),
        agreed.get(_CLIENT_BITS, _LARGEST_BITS),
        params,
    )


def _read_params(params: Params, *, is_answer: bool) -> dict[str, int]:
    """Each parameter with its number of bits, 15 where it has no value.

    Raises:
        ValueError: what RFC 7692 7 lists: "an extension parameter not defined for use in an offer" (or in a response),
            one "with an invalid value", "multiple extension parameters with the same name".
    """
    read: dict[str, int] = {}
    for name, value in params:
        if name in read:
            raise ValueError(f"{name} stands there twice")
        read[name] = _read_value(name, value, is_answer)
    return read


def _read_value(name: str, value: str | None, is_answer: bool) -> int:
    """The value of one parameter of permessage-deflate (RFC 7692 7.1)."""
    if name in (_SERVER_ALONE, _CLIENT_ALONE):
        if value is not None:
            raise ValueError(f"{name} has a value")
        return _LARGEST_BITS
    if name not in (_SERVER_BITS, _CLIENT_BITS):
        raise ValueError(f"there is no parameter {name}")
    if value is None and name == _CLIENT_BITS and not is_answer:
        return _LARGEST_BITS  # 7.1.2.2: in an offer it may do without
    if value is None or not _BITS.match(value):
        raise ValueError(f"{name} is not a number from 8 to 15")
    return int(value)
