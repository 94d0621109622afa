"""Compressed messages for tests of the receiving side: how they are made, and a parser that takes them."""

from __future__ import annotations

import zlib
from typing import Any

from tests.support.deflating import TAIL, fragments
from wsd.wire.deflate import Inflater
from wsd.wire.parser import Parser, Piece


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
    return bytes(context.compress(data) + context.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def message(opcode: int, data: bytes, *cuts: int, between: bytes = b"") -> bytes:
    """The frames of a message with the compressed payload `data`, cut at these offsets, with `between` between them."""
    return between.join(fragments(opcode, data, cuts))


def pieces_of(parser: Parser, stream: bytes) -> list[list[Piece]]:
    """The pieces of each call, until there are no more."""
    calls = [parser.receive(stream)]
    while parser.has_more:
        calls.append(parser.receive(b""))
    return calls
