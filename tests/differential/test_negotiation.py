"""permessage-deflate is agreed on by one side's offer and the other side's answer; then messages go both ways."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import build_extension, parse_extension
from websockets.typing import ExtensionName, ExtensionParameter

from tests.differential.conversations import Conversation, conversations
from tests.differential.sides import SETTINGS, Link, hear, tell, their_hear, their_tell
from tests.differential.test_valid import without_pongs
from wsd.wire.extensions import (
    DEFLATE,
    Agreement,
    Settings,
    accept_offer,
    check_answer,
    encode_offers,
    parse_extensions,
)

EXAMPLES = settings(max_examples=200, deadline=None)
BITS = st.one_of(st.none(), st.integers(8, 15))
# `websockets` cannot compress with a window of 8 bits (zlib cannot), and fails the connection if it is asked to.
OWN_BITS = st.one_of(st.none(), st.integers(9, 15))
CLIENTS = st.builds(
    ClientPerMessageDeflateFactory, st.booleans(), st.booleans(), BITS, st.one_of(OWN_BITS, st.just(True))
)
SERVERS = st.builds(ServerPerMessageDeflateFactory, st.booleans(), st.booleans(), OWN_BITS, BITS)


def header(offers: list[list[ExtensionParameter]]) -> str:
    return build_extension([(ExtensionName(DEFLATE), params) for params in offers])


def converse(agreement: Agreement, settings: Settings, theirs: Conversation, ours: Conversation, client: bool) -> None:
    """What each side writes, the other side hears; `client`: we are it."""
    link = Link(not client, agreement, settings)
    assert hear(link, [their_tell(link, theirs)]).messages == theirs.messages
    link = Link(client, agreement, settings)
    assert their_hear(link, [tell(link, ours)]).messages == ours.messages


def check_same(agreement: Agreement, theirs: PerMessageDeflate, client: bool) -> None:
    """Both sides think that the same was agreed; `client`: we are it."""
    remote = (theirs.remote_no_context_takeover, theirs.remote_max_window_bits)
    local = (theirs.local_no_context_takeover, theirs.local_max_window_bits)
    server, their_client = (local, remote) if client else (remote, local)
    assert (agreement.server_no_context_takeover, agreement.server_max_window_bits) == server
    assert (agreement.client_no_context_takeover, agreement.client_max_window_bits) == their_client


@EXAMPLES
@given(
    CLIENTS,
    SETTINGS.filter(lambda settings: settings.window_bits > 8),
    conversations(),
    conversations().map(without_pongs),
)
def test_they_offer(
    client: ClientPerMessageDeflateFactory, settings: Settings, theirs: Conversation, ours: Conversation
) -> None:
    offers = parse_extensions([header([list(client.get_request_params())])])
    agreement = accept_offer(offers, settings)
    assert agreement is not None
    [(name, params)] = parse_extension(agreement.header)
    assert name == DEFLATE
    check_same(agreement, client.process_response_params(params, []), client=False)
    converse(agreement, settings, theirs, ours, client=False)


@EXAMPLES
@given(SERVERS, SETTINGS, conversations(), conversations().map(without_pongs))
def test_we_offer(
    server: ServerPerMessageDeflateFactory, settings: Settings, theirs: Conversation, ours: Conversation
) -> None:
    for name, params in parse_extension(encode_offers(settings)):
        assert name == DEFLATE
        try:
            answer, extension = server.process_request_params(params, [])
        except NegotiationError:
            continue
        break
    else:
        pytest.fail("they decline everything")
    agreement = check_answer(parse_extensions([header([list(answer)])]), settings)
    assert agreement is not None
    check_same(agreement, extension, client=True)
    event(f"answered {agreement.header}")
    converse(agreement, settings, theirs, ours, client=True)
