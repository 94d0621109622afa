"""libwebsockets' test program fraggle: messages in random fragments, each followed by a message with its checksum.

A message is 1 to 1024 fragments of 1 to 8000 random bytes.  Behind it comes a message of 4 bytes, the sum of all its
bytes modulo 2^32, big-endian.  The server's end sends, as fast as the client reads and without end; the client's end
checks what comes.  With `connect` in [protocols.fraggle-protocol] the daemon is the client of another server.

A model for authors: one protocol for both ends of a connection; a generator that is asked for the next fragment when
there is room for it; and messages that are looked at while they arrive, of which nothing is kept.

Where it differs from the original: there are Pings between the fragments, since control frames may stand anywhere; a
wrong checksum ends the connection; who sends can be chosen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from wsd import ConnectError, Context, Options, Protocol, Wsi, log

MAX_FRAGMENTS = 1024
MAX_FRAGMENT_BYTES = 8000

# A Ping behind one fragment of so many: some in most messages, and few beside the data.
FRAGMENTS_PER_PING = 64


class FraggleOptions(Options):
    """The table [protocols.fraggle-protocol] of the configuration."""

    connect: str = Field("", description="A server to connect to at the start, ws://host:port; empty: none.")
    sender: Literal["server", "client", "both"] = Field("server", description="Which end of a connection sends.")
    messages: int = Field(0, ge=0, description="Close when so many have come and were correct; 0: never.")


def random_messages() -> Iterator[tuple[bytes, bool]]:
    """Fragments without end, each with whether it is the last of its message."""
    while True:
        total = 0
        for left in reversed(range(random.randint(1, MAX_FRAGMENTS))):
            data = random.randbytes(random.randint(1, MAX_FRAGMENT_BYTES))
            total += sum(data)
            yield data, not left
        yield encode_sum(total), True


def encode_sum(total: int) -> bytes:
    """The message behind a message whose bytes make `total` together."""
    return (total % 2**32).to_bytes(4, "big")


class Talk:
    """What one connection remembers: what it sends next, and what it knows of the message that comes."""

    def __init__(self) -> None:
        self.source = random_messages()
        self.checksum: bytearray | None = None  # as far as it has come; None: it is not its turn
        self.correct = 0
        self.begin()

    def begin(self) -> None:
        self.total = self.size = self.pieces = 0


class Fraggle(Protocol):
    name = "fraggle-protocol"
    Session = Talk
    Options = FraggleOptions
    max_message_bytes = MAX_FRAGMENTS * MAX_FRAGMENT_BYTES

    def on_protocol_init(self, context: Context, options: FraggleOptions) -> None:
        self.options = options
        if options.connect:
            context.client_connect(options.connect, protocol=self)

    def on_client_connection_error(self, wsi: Wsi, error: ConnectError) -> None:
        log.err("%s: %s", wsi.tag, error.text)

    def on_established(self, wsi: Wsi) -> None:
        if self.options.sender in ("both", "client" if wsi.is_client else "server"):
            wsi.callback_on_writable()

    def on_writeable(self, wsi: Wsi) -> None:
        while not wsi.send_pipe_choked:
            data, final = next(wsi.session.source)
            wsi.write(data, final=final)
            if not final and random.randrange(FRAGMENTS_PER_PING) == 0:
                wsi.ping()
        wsi.callback_on_writable()

    def on_receive(self, wsi: Wsi, data: bytes) -> None:
        talk: Talk = wsi.session
        if talk.checksum is None:
            talk.total += sum(data)
            talk.size += len(data)
            talk.pieces += 1
            if wsi.is_final_fragment:
                talk.checksum = bytearray()
        else:
            talk.checksum += data
            if wsi.is_final_fragment:
                self.check(wsi, talk, bytes(talk.checksum))
                talk.checksum = None
                talk.begin()

    def check(self, wsi: Wsi, talk: Talk, checksum: bytes) -> None:
        expected = encode_sum(talk.total)
        if checksum != expected:
            found = checksum[:4].hex()
            log.err("%s: %d bytes, their sum is %s, the peer says %s", wsi.tag, talk.size, expected.hex(), found)
            wsi.close(1008, "wrong checksum")
            return
        log.info("%s: EOM received %d correctly in %d pieces", wsi.tag, talk.size, talk.pieces)
        talk.correct += 1
        if talk.correct == self.options.messages:
            wsi.close()

    def on_closed(self, wsi: Wsi, code: int, close_reason: str) -> None:
        log.user("%s: %d messages were correct; closed with %d", wsi.tag, wsi.session.correct, code)


protocols = [Fraggle]
