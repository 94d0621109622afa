"""The two readers and writers that are compared: wsd, and the `websockets` library without its sockets.

Each reads and writes as server or client, with permessage-deflate as it was agreed, or without.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import Protocol, Side

from tests.differential.conversations import Conversation
from tests.support.feeding import Heard, Message, feed
from tests.support.loopless import Loopless
from wsd.protocol import Protocol as WsdProtocol
from wsd.wire.deflate import make_pair
from wsd.wire.extensions import Agreement, Settings
from wsd.wire.frames import BINARY, CONTINUATION, PING, TEXT
from wsd.wire.parser import Parser

NO_LIMIT = 0


class Link(NamedTuple):
    """What two ends have agreed on, and who writes."""

    from_client: bool
    agreement: Agreement | None = None
    settings: Settings = Settings(6, 5, 15, True, 0)
    """The writer's."""


AGREED = Agreement(False, False, 15, 15, ())
"""To compression, and nothing about it."""

PLAIN = st.booleans().map(Link)
SETTINGS = st.builds(
    Settings, st.sampled_from([1, 6, 9]), st.sampled_from([1, 5, 9]), st.integers(8, 15), st.booleans(),
    st.sampled_from([0, 64]),
)  # fmt: skip
# `websockets` cannot write with a window of 8 bits.
_AGREEMENTS = st.builds(Agreement, st.booleans(), st.booleans(), st.integers(9, 15), st.integers(9, 15), st.just(()))
DEFLATED = st.builds(Link, st.booleans(), _AGREEMENTS, SETTINGS)


def hear(link: Link, chunks: Iterable[bytes], max_message_bytes: int = NO_LIMIT) -> Heard:
    """What wsd's reader hears."""

    def new_parser(max_message_bytes: int, max_fragments: int) -> Parser:
        inflater = None
        if link.agreement is not None:
            inflater, _ = make_pair(link.agreement, link.settings, is_client=not link.from_client)
        return Parser(max_message_bytes, max_fragments, is_client=not link.from_client, inflater=inflater)

    return feed(chunks, max_message_bytes, new_parser=new_parser)._replace(partial=None)


class Mute(WsdProtocol):
    """Says what `tell` makes it say."""

    name = "mute"

    def __init__(self) -> None:
        self.steps: list[tuple[bytes, int, bool]] = []

    def on_writeable(self, wsi: object) -> None:
        for step in self.steps:
            wsi.write(*step)  # type: ignore[attr-defined]
        self.steps.clear()


def tell(link: Link, conversation: Conversation) -> bytes:
    """What wsd's writer makes of a conversation, which has no Pongs: a plugin has no call for them.

    A message of one frame goes by `send`, one of several by `write`.
    """
    protocol = Mute()
    end = Loopless(
        protocol, is_client=link.from_client, agreement=link.agreement, settings=link.settings, max_queue_bytes=1 << 30
    )
    message = 0
    for opcode, payload, final in conversation.steps:
        message = message if opcode == CONTINUATION or opcode > BINARY else opcode
        if opcode > BINARY:
            end.wsi.ping(payload)
        elif opcode and final:
            end.wsi.send(payload.decode() if opcode == TEXT else payload)
        else:
            protocol.steps.append((payload, message, final))
            end.wsi.callback_on_writable()
        end.context.turn()
    if conversation.close is not None:
        end.wsi.close(*conversation.close)
        end.context.turn()
    return end.sent()


def their_end(link: Link, *, is_client: bool, max_message_bytes: int = NO_LIMIT) -> Protocol:
    """A connection of theirs that is open."""
    protocol = Protocol(Side.CLIENT if is_client else Side.SERVER, max_size=max_message_bytes or None)
    if link.agreement is not None:
        server_alone, client_alone, server_bits, client_bits, _ = link.agreement
        server, client = (server_alone, server_bits), (client_alone, client_bits)
        remote, local = (server, client) if is_client else (client, server)
        protocol.extensions = [PerMessageDeflate(remote[0], local[0], remote[1], local[1])]
    return protocol


def their_hear(link: Link, chunks: Iterable[bytes], max_message_bytes: int = NO_LIMIT) -> Heard:
    """What their reader hears.  Text is decoded here, at the end of its message, as their connections do it."""
    protocol = their_end(link, is_client=not link.from_client, max_message_bytes=max_message_bytes)
    for chunk in chunks:
        protocol.receive_data(chunk)
    messages: list[Message] = []
    opcode, parts = 0, b""
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        if event.opcode == 0x8:
            continue
        if event.opcode > BINARY:
            messages.append((int(event.opcode), bytes(event.data)))
            continue
        opcode = int(event.opcode) or opcode
        parts = parts + bytes(event.data) if event.opcode == CONTINUATION else bytes(event.data)
        if event.fin:
            if opcode == TEXT and not is_utf8(parts):
                return Heard(messages, 1007)
            messages.append((opcode, parts))
    if protocol.parser_exc is not None:
        assert protocol.close_sent is not None
        return Heard(messages, int(protocol.close_sent.code))
    close = protocol.close_rcvd
    return Heard(messages, None, close and (int(close.code), close.reason))


def is_utf8(payload: bytes) -> bool:
    """Reports whether their decoder takes it."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def their_tell(link: Link, conversation: Conversation) -> bytes:
    """What their writer makes of a conversation."""
    return b"".join(their_frames(link, conversation))


def their_frames(link: Link, conversation: Conversation) -> list[bytes]:
    """The same, frame by frame."""
    protocol = their_end(link, is_client=link.from_client)
    for opcode, payload, final in conversation.steps:
        if opcode > BINARY:
            (protocol.send_ping if opcode == PING else protocol.send_pong)(payload)
        elif opcode == CONTINUATION:
            protocol.send_continuation(payload, final)
        else:
            (protocol.send_text if opcode == TEXT else protocol.send_binary)(payload, final)
    if conversation.close is not None:
        code, reason = conversation.close
        protocol.send_close(None if code == 1005 else code, reason)
    return protocol.data_to_send()
