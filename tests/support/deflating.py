"""Compressed messages for tests of the receiving side: how they are made, and a parser that takes them."""

from __future__ import annotations

import zlib
from typing import Any

from tests.support.client import CONTINUATION, frame
from tests.support.feeding import cut
from wsd.wire.deflate import Inflater
from wsd.wire.parser import Parser, Piece

RSV1, RSV2, RSV3 = 4, 2, 1
"""The reserved bits, as `client.frame` has them."""


def new_parser(max_message_bytes: int = 0, max_fragments: int = 1 << 20) -> Parser:
    """A parser with permessage-deflate and the largest window."""
    return Parser(max_message_bytes, max_fragments, inflater=Inflater(15, True))


def without_takeover(max_message_bytes: int, max_fragments: int) -> Parser:
    """The same, where no message refers to those before it."""
    return Parser(max_message_bytes, max_fragments, inflater=Inflater(15, False))


def deflated(payload: bytes | str, context: Any = None) -> bytes:
    """A message's payload as it travels; with `context` it may refer to what went before."""
    data = payload.encode() if isinstance(payload, str) else payload
    context = context or zlib.compressobj(wbits=-15)
    return bytes(context.compress(data) + context.flush(zlib.Z_SYNC_FLUSH))[:-4]


def fragments(opcode: int, data: bytes, *at: int, between: bytes = b"") -> bytes:
    """A compressed message in frames, cut at these places of its compressed payload, with `between` between them."""
    parts = cut(data, at)
    frames = [
        frame(CONTINUATION if index else opcode, part, final=index == len(at), rsv=0 if index else RSV1)
        for index, part in enumerate(parts)
    ]
    return between.join(frames)


def pieces_of(parser: Parser, stream: bytes) -> list[list[Piece]]:
    """The pieces of each call, until there are no more."""
    calls = [parser.receive(stream)]
    while parser.has_more:
        calls.append(parser.receive(b""))
    return calls
