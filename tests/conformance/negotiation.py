"""What RFC 7692 section 7.1 allows as an answer to an offer of permessage-deflate; written from the RFC alone."""

from __future__ import annotations

from typing import Final

NAME: Final = "permessage-deflate"
_TAKEOVER: Final = ("server_no_context_takeover", "client_no_context_takeover")
_WINDOWS: Final = ("server_max_window_bits", "client_max_window_bits")

_BITS: Final = frozenset(map(str, range(8, 16)))

Parameters = dict[str, str | None]


def parse(value: str) -> list[tuple[str, Parameters]]:
    """The elements of a Sec-WebSocket-Extensions value that is well formed."""
    elements = []
    for element in value.split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        found: Parameters = {}
        for parameter in parameters:
            key, equals, text = parameter.partition("=")
            # A quoted value is a token once the backslashes are out (RFC 6455 9.1).
            found[key.strip()] = text.strip().strip('"').replace("\\", "") if equals else None
        elements.append((name, found))
    return elements


def check_answer(offer: str, answer: str) -> Parameters:
    """Hold an answer against the offers; gives its parameters.

    Raises:
        AssertionError: no offer allows it.
    """
    elements = parse(answer)
    assert len(elements) == 1, f"several extensions in the answer {answer!r}"
    name, parameters = elements[0]
    assert name == NAME, answer
    for key, value in parameters.items():
        assert key in _TAKEOVER + _WINDOWS, f"unknown parameter in the answer {answer!r}"
        if key in _TAKEOVER:
            assert value is None, answer
        else:
            # 7.1.2: "a decimal integer value without leading zeroes between 8 to 15, inclusive"; in an answer it must
            # be there.
            assert value in _BITS, answer
    assert any(_fits(offered, parameters) for name, offered in parse(offer) if name == NAME), (offer, answer)
    return parameters


def _fits(offered: Parameters, answered: Parameters) -> bool:
    """Reports whether one offer allows the answer."""
    # 7.1.1.1: "A server accepts [...] by including the "server_no_context_takeover" extension parameter".
    if "server_no_context_takeover" in offered and "server_no_context_takeover" not in answered:
        return False
    # 7.1.2.1: "by including [...] with the same or smaller value as the offer".
    wanted, got = offered.get("server_max_window_bits"), answered.get("server_max_window_bits")
    if wanted is not None and (got is None or int(got) > int(wanted)):
        return False
    # 7.1.2.2: without it in the offer the answer "MUST NOT include" it; else it may be there "with a value equal to or
    # smaller than the received value".
    if "client_max_window_bits" in answered:
        if "client_max_window_bits" not in offered:
            return False
        hint, chosen = offered["client_max_window_bits"], answered["client_max_window_bits"]
        return hint is None or int(chosen or "15") <= int(hint)
    return True
