"""What is agreed on as permessage-deflate: RFC 7692 sections 5 and 7.1, and RFC 6455 section 9.1.

Where compression is agreed on, messages are sent that show that both ends mean the same.
"""

from __future__ import annotations

from typing import Final

from tests.conformance.group_opening import asks, says
from tests.conformance.model import BYE, CLIENT, SERVER, Deflate, Expected, Filler, Group, Packed, Step
from tests.support.client import BINARY, TEXT

GROUP: Final = Group(10, "Compression: what is agreed")

NAME: Final = "permessage-deflate"
_BITS: Final = range(8, 16)

# The second says what the first said: it shows that context is taken over, or that it is not.
_MESSAGES: Final = ((TEXT, Filler(2000, "json")), (TEXT, Filler(2000, "json")), (BINARY, Filler(300, "noise")))
_STEPS: Final[tuple[Step, ...]] = (*(Packed(*message) for message in _MESSAGES), BYE)


def accepts(title: str, offer: str, answer: str = "", setup: str = "window 15") -> None:
    """An offer that wsd the server accepts; with `answer` in these words, else in any that RFC 7692 allows."""
    GROUP.case(
        title, _STEPS, Expected(_MESSAGES, packed=True), setup=setup, deflate=Deflate(offer, answer, exact=bool(answer))
    )


def declines(title: str, offer: str, setup: str = "window 15") -> None:
    """An offer that wsd the server goes on without."""
    GROUP.request(
        title,
        asks(f"Sec-WebSocket-Extensions: {offer}"),
        101,
        setup=setup,
        headers=(("Sec-WebSocket-Extensions", None),),
    )


def agrees(title: str, answer: str, setup: str = "window 15") -> None:
    """An answer that wsd the client takes."""
    GROUP.case(title, _STEPS, Expected(_MESSAGES, packed=True), setup=setup, deflate=Deflate("", answer))


def refuses(title: str, answer: str, setup: str = "window 15") -> None:
    """An answer that is none to what wsd the client offered."""
    GROUP.reply(title, says(f"Sec-WebSocket-Extensions: {answer}"), "extension", setup=setup)


GROUP.part("Offers that are accepted", "7692 7.1", roles=(SERVER,))
accepts("no parameters", NAME, NAME)
accepts("server_no_context_takeover", f"{NAME}; server_no_context_takeover", f"{NAME}; server_no_context_takeover")
accepts("client_no_context_takeover", f"{NAME}; client_no_context_takeover")
accepts("both *_no_context_takeover", f"{NAME}; server_no_context_takeover; client_no_context_takeover")
accepts("client_max_window_bits", f"{NAME}; client_max_window_bits")
for bits in _BITS:
    accepts(
        f"server_max_window_bits={bits}",
        f"{NAME}; server_max_window_bits={bits}",
        f"{NAME}; server_max_window_bits={bits}",
    )
for bits in _BITS:
    accepts(f"client_max_window_bits={bits}", f"{NAME}; client_max_window_bits={bits}")
accepts(
    "all four parameters",
    f"{NAME}; server_no_context_takeover; client_no_context_takeover;"
    " server_max_window_bits=10; client_max_window_bits=11",
)
accepts(
    "all four in another order",
    f"{NAME}; client_max_window_bits; server_max_window_bits=9; client_no_context_takeover; server_no_context_takeover",
)
accepts("a quoted value", f'{NAME}; server_max_window_bits="10"', f"{NAME}; server_max_window_bits=10")
accepts(
    "a quoted value with a backslash", f'{NAME}; server_max_window_bits="1\\0"', f"{NAME}; server_max_window_bits=10"
)
accepts("no spaces", f"{NAME};client_max_window_bits;server_max_window_bits=10")
accepts("spaces and tabs", f"{NAME} ;\tclient_max_window_bits \t;  server_max_window_bits=10 ")
accepts("as Chromium offers", f"{NAME}; client_max_window_bits")
accepts("as libwebsockets offers", f"{NAME}; client_no_context_takeover; client_max_window_bits")

GROUP.part("Several offers", "7692 5.1", roles=(SERVER,))
accepts("behind one that is not known", f"x-unknown, {NAME}", NAME)
accepts("behind one that is not known, with parameters", f'x-unknown; a; b=1; c="2", {NAME}', NAME)
accepts("before one that is not known", f"{NAME}, x-unknown", NAME)
accepts("behind one that must be declined", f"{NAME}; server_max_window_bits=16, {NAME}", NAME)
accepts("behind two that must be declined", f"{NAME}; a, {NAME}; server_max_window_bits, {NAME}", NAME)
accepts("one of two", f"{NAME}; server_max_window_bits=10, {NAME}")
accepts("one of two, the easier one first", f"{NAME}, {NAME}; server_max_window_bits=10")
accepts("empty elements between", f", ,{NAME}, ,", NAME)

# RFC 7692 7: "A server MUST decline an extension negotiation offer for this extension if any of the following
# conditions are met"; 6455 9.1: the connection goes on without.
GROUP.part("Offers that are declined", "7692 7")
for parameter in (
    "unknown",
    "unknown=1",
    "Server_no_context_takeover=1",
    "server_no_context_takeover=1",
    "server_no_context_takeover=true",
    'client_no_context_takeover="1"',
    "client_no_context_takeover=0",
    "server_max_window_bits",
    *(f"server_max_window_bits={bits}" for bits in ("0", "7", "16", "08", "010", "1", "100", "-9", "9.0", "+9", "x")),
    *(f"client_max_window_bits={bits}" for bits in ("0", "7", "16", "08", "015", "99999999999999999999", "x")),
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits; client_max_window_bits",
    "client_max_window_bits=10; client_max_window_bits",
    "server_max_window_bits=10; unknown",
):
    declines(parameter, f"{NAME}; {parameter}")
declines("another extension", "x-webkit-deflate-frame")
declines("a name that begins like ours", f"{NAME}-x")
declines("a parameter that is none, in each of two", f"{NAME}; a, {NAME}; b")

# RFC 6455 9.1: "If a value is received [...] that does not conform to the ABNF below, the recipient of such malformed
# data MUST immediately _Fail the WebSocket Connection_."
GROUP.part("Offers that cannot be read", "6455 9.1")
for value in (
    f"{NAME};",
    f"{NAME}; ;server_no_context_takeover",
    f"{NAME}; =10",
    f"{NAME}; server_max_window_bits=",
    f"{NAME}; server_max_window_bits==10",
    f'{NAME}; server_max_window_bits="10',
    f'{NAME}; server_max_window_bits="1 0"',
    f'{NAME}; server_max_window_bits=""',
    f"{NAME}; server_max_window_bits=10 11",
    f"{NAME} server_no_context_takeover",
    f"{NAME}/1",
    f"; {NAME}",
    f"{NAME}, a b",
):
    GROUP.request(value, asks(f"Sec-WebSocket-Extensions: {value}"), 400, setup="window 15")

GROUP.part("What the server is set to", "7692 7.1", roles=(SERVER,))
declines("compression off", NAME, "off")
declines("compression off, several offers", f"{NAME}; client_max_window_bits, {NAME}", "off")
accepts("window 12, not asked for", NAME, "", "window 12")
accepts("window 12, and the client can be limited", f"{NAME}; client_max_window_bits", "", "window 12")
accepts("window 12, and 10 asked for", f"{NAME}; server_max_window_bits=10; client_max_window_bits=10", "", "window 12")
accepts("window 12, and 15 asked for", f"{NAME}; server_max_window_bits=15; client_max_window_bits=15", "", "window 12")
accepts("window 9, and 8 asked for", f"{NAME}; server_max_window_bits=8; client_max_window_bits=8", "", "window 9")
accepts("window 9, and the client cannot be limited", NAME, "", "window 9")
accepts(
    "no takeover, not asked for", NAME, f"{NAME}; server_no_context_takeover; client_no_context_takeover", "no takeover"
)
accepts(
    "no takeover, asked for",
    f"{NAME}; server_no_context_takeover; client_no_context_takeover",
    f"{NAME}; server_no_context_takeover; client_no_context_takeover",
    "no takeover",
)
accepts(
    "no takeover, and windows of 9", f"{NAME}; server_max_window_bits=9; client_max_window_bits=9", "", "no takeover"
)

GROUP.part("Answers that are taken", "7692 7.1", roles=(CLIENT,))
agrees("no parameters", NAME)
for parameters in (
    "server_no_context_takeover",
    "client_no_context_takeover",
    "server_no_context_takeover; client_no_context_takeover",
    *(f"server_max_window_bits={bits}" for bits in _BITS),
    *(f"client_max_window_bits={bits}" for bits in _BITS),
    "server_max_window_bits=8; client_max_window_bits=8",
    "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; client_max_window_bits=11",
    "client_max_window_bits=9; server_max_window_bits=15; server_no_context_takeover",
    'server_max_window_bits="10"',
):
    agrees(parameters, f"{NAME}; {parameters}")
agrees("spaces and tabs", f"{NAME} ;\t server_max_window_bits = 10 ")
agrees("window 12, the server limits itself", f"{NAME}; server_max_window_bits=12", "window 12")
agrees("window 12, the server does not", NAME, "window 12")
agrees("window 12, both are limited", f"{NAME}; server_max_window_bits=10; client_max_window_bits=10", "window 12")
agrees("window 9, both are limited", f"{NAME}; server_max_window_bits=9; client_max_window_bits=9", "window 9")
agrees("no takeover", f"{NAME}; server_no_context_takeover", "no takeover")
agrees("no takeover of either", f"{NAME}; server_no_context_takeover; client_no_context_takeover", "no takeover")

# RFC 7692 7: "A client MUST _Fail the WebSocket Connection_ if the peer server accepted an extension negotiation offer
# for this extension with an extension negotiation response meeting any of the following conditions".
GROUP.part("Answers that are not taken", "7692 7")
for parameters in (
    "unknown",
    "unknown=1",
    "server_no_context_takeover=1",
    "client_no_context_takeover=true",
    "server_max_window_bits",
    "client_max_window_bits",
    *(f"server_max_window_bits={bits}" for bits in ("0", "7", "16", "08", "x")),
    *(f"client_max_window_bits={bits}" for bits in ("0", "7", "16", "08", "x")),
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits=10; client_max_window_bits=11",
    "server_max_window_bits=10; unknown",
):
    refuses(parameters, f"{NAME}; {parameters}")
refuses("it twice", f"{NAME}, {NAME}")
refuses("it and another", f"{NAME}, x-unknown")
refuses("another", "x-webkit-deflate-frame")
refuses("no takeover, and the server does not say so", NAME, "no takeover")
refuses("compression off", NAME, "off")
GROUP.reply(
    "in two lines",
    says(f"Sec-WebSocket-Extensions: {NAME}", f"+Sec-WebSocket-Extensions: {NAME}"),
    "extension",
    section="6455 11.3.2",
    setup="window 15",
)
for value in (f"{NAME};", f"{NAME}; =10", f'{NAME}; server_max_window_bits="10', f"{NAME} a", f"; {NAME}"):
    GROUP.reply(value, says(f"Sec-WebSocket-Extensions: {value}"), "extension", section="6455 9.1", setup="window 15")
