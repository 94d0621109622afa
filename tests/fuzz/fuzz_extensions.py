"""Whatever Sec-WebSocket-Extensions holds, it is read or refused, and what is agreed on is valid for both ends."""

from __future__ import annotations

from tests.fuzz.engine import main
from wsd.errors import ConnectError, HandshakeError
from wsd.wire.extensions import Offer, Settings, accept_offer, check_answer, encode_offers, parse_extensions

LARGEST = Settings(level=6, memory_level=8, window_bits=15, context_takeover=True, min_bytes=0)
SMALLEST = Settings(level=1, memory_level=1, window_bits=9, context_takeover=False, min_bytes=0)

SAMPLES = [
    b"permessage-deflate",
    b"permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate",
    b"permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=15",
    b'x; y="a\\b\\c", permessage-deflate;server_max_window_bits = "8"\npermessage-deflate',
    b"mux; max-channels=4; flow-control\n,\t,deflate-stream ,",
    b"permessage-deflate; server_max_window_bits=16, permessage-deflate; x, permessage-deflate; x=1; x=1",
    encode_offers(LARGEST).encode(),
    encode_offers(SMALLEST).encode(),
]


def check(data: bytes) -> None:
    """The invariant; a line of `data` is a line of the header."""
    try:
        found = parse_extensions(data.decode("latin-1").split("\n"))
    except HandshakeError as error:
        if error.status != 400:
            raise
        return
    assert parse_extensions(map(written, found)) == found
    for settings in (LARGEST, SMALLEST):
        look_at_offers(found, settings)
        look_at_answers(found, settings)


def written(offer: Offer) -> str:
    return "; ".join([offer.name, *(name if value is None else f"{name}={value}" for name, value in offer.params)])


def look_at_offers(offers: list[Offer], settings: Settings) -> None:
    """A server's answer is one that a client takes, and limits what the settings limit."""
    agreement = accept_offer(offers, settings)
    if agreement is None:
        return
    answer = parse_extensions([agreement.header])
    assert check_answer(answer, settings) == agreement, agreement
    assert 8 <= agreement.server_max_window_bits <= settings.window_bits, agreement
    assert 8 <= agreement.client_max_window_bits <= 15, agreement
    assert settings.context_takeover or agreement.server_no_context_takeover, agreement
    offered = {name for offer in offers for name, _ in offer.params}
    assert "client_max_window_bits" in offered or agreement.client_max_window_bits == 15, agreement


def look_at_answers(answers: list[Offer], settings: Settings) -> None:
    """A client takes an answer or fails the connection with its cause."""
    try:
        agreement = check_answer(answers, settings)
    except ConnectError as error:
        if error.cause != "extension":
            raise
        return
    assert (agreement is None) is (answers == []), answers


if __name__ == "__main__":
    main(check, SAMPLES)
