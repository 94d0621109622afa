"""What a conformance case is: what the peer sends, how it is cut on its way, and what must come back.

Pure data; must not know sockets, wsd or pytest.  The peer is whatever is not wsd: a client that masks where wsd is the
server, a server that does not where wsd is the client.  A case says nothing about that, so both run it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from typing import Any, Final, NamedTuple

from tests.support.client import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT

SERVER: Final = "server"
CLIENT: Final = "client"
BOTH: Final = (SERVER, CLIENT)
"""What wsd is while a case runs."""

ABNORMAL: Final = (1006, "")
"""What a plugin is told when the peer sent no Close (RFC 6455 7.1.5)."""

_FAILURES: Final = (1002, 1007, 1008, 1009)
"""Codes with which wsd fails a connection."""


# -- payloads ---------------------------------------------------------------------------------------------------------


class Filler(NamedTuple):
    """A payload that is described and not held: `size` bytes of "text" (UTF-8 with characters of all four lengths),
    "json" (compresses well), "noise" (does not compress) or "zeros" (compresses a thousandfold)."""

    size: int
    kind: str = "text"

    def make(self) -> bytes:
        if self.kind == "zeros":
            return bytes(self.size)
        if self.kind == "noise":
            return random.Random(self.size).randbytes(self.size)
        if self.kind == "json":
            return _json(self.size)
        # 64 bytes, so that fragments of a power of two cut characters only where the tail begins.
        block = "k\u00f3\u03c3\u20ac\U0001f600 the quick brown fox jumps over the lazy dog; 0123".encode()
        whole = self.size // len(block)
        return block * whole + b"." * (self.size - whole * len(block))


@lru_cache(maxsize=16)
def _json(size: int) -> bytes:
    draw = random.Random(size)
    rows, length = [], 0
    while length < size:
        rows.append(f'{{"id": {draw.randrange(10**6)}, "name": "n{draw.randrange(500)}", "ok": true}},\n'.encode())
        length += len(rows[-1])
    return b"".join(rows)[:size]


Payload = bytes | Filler
Message = tuple[int, Payload]
"""Opcode and payload of a whole message."""


def content(payload: Payload) -> bytes:
    return payload if isinstance(payload, bytes) else payload.make()


# -- what the peer sends ----------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """One frame, right or wrong.

    Attributes:
        rsv: Three bits, RSV1 the highest.
        is_mask_wrong: Unmasked from a client, masked from a server.
        key: The masking key, where there is one.
        length_bytes: How many bytes beside the first seven bits tell the length: 0, 2 or 8; None: as few as will do.
        announced: The length that is told, if it is not the payload's.
    """

    opcode: int
    payload: Payload = b""
    fin: bool = True
    rsv: int = 0
    is_mask_wrong: bool = False
    key: bytes = MASK
    length_bytes: int | None = None
    announced: int | None = None


class Torn(NamedTuple):
    """The first bytes of a frame: `size` bytes of all, or of its payload with the whole header before it."""

    frame: Frame
    size: int
    of_payload: bool = True


class Rest(NamedTuple):
    """What a `Torn` of the same fields left out."""

    frame: Frame
    size: int
    of_payload: bool = True


class Fragments(NamedTuple):
    """A message in frames of `size` bytes; the last may be shorter."""

    opcode: int
    payload: Payload
    size: int


class Packed(NamedTuple):
    """A message that is compressed as the connection has agreed, in frames of `size` bytes (0: one frame).

    `level` is zlib's; 0 makes stored blocks.
    """

    opcode: int
    payload: Payload
    size: int = 0
    level: int = 6


class Await(NamedTuple):
    """Wait until so much has come back, before anything more is sent; `close`: the Close, and behind it the end."""

    messages: int = 0
    pongs: int = 0
    close: bool = False


class HalfClose(NamedTuple):
    """End our direction of the TCP connection."""


Bytes = Frame | Torn | Rest | Fragments | Packed
Step = Bytes | Await | HalfClose

Chop = int | tuple[int, ...]
"""How the bytes between two `Await` are cut into segments: into so many bytes each, or at these offsets (negative:
from the end).  wsd has read each before the next is sent."""

WHOLE: Final[Chop] = ()
BYTES: Final[Chop] = 1

BYE: Final = Frame(CLOSE, (1000).to_bytes(2, "big"))


def text(payload: str | bytes, **fields: Any) -> Frame:
    return Frame(TEXT, payload.encode() if isinstance(payload, str) else payload, **fields)


def binary(payload: bytes, **fields: Any) -> Frame:
    return Frame(BINARY, payload, **fields)


def more(payload: str | bytes, **fields: Any) -> Frame:
    """A continuation frame."""
    data = payload.encode() if isinstance(payload, str) else payload
    return Frame(CONTINUATION, data, **fields)


def ping(payload: bytes = b"", **fields: Any) -> Frame:
    return Frame(PING, payload, **fields)


def pong(payload: bytes = b"", **fields: Any) -> Frame:
    return Frame(PONG, payload, **fields)


def close(code: int | None = 1000, reason: str | bytes = b"", **fields: Any) -> Frame:
    """A Close frame; None: without a code."""
    data = reason.encode() if isinstance(reason, str) else reason
    payload = b"" if code is None else code.to_bytes(2, "big") + data
    return Frame(CLOSE, payload, **fields)


# -- what must come back ----------------------------------------------------------------------------------------------


class Expected(NamedTuple):
    """All that comes back until the connection ends.

    Messages are ordered among themselves, and so are Pongs; the RFC lets a Pong overtake messages.

    Attributes:
        close: The code of the one Close frame, the last that comes (1005: it has none); None: none need come.
        told: Code and reason that the plugin gets, RFC 6455 7.1.5 and 7.1.6.
        pings: Payloads of the Pings that wsd was asked to send.
        packed: Whether the messages come compressed; None: as wsd likes.
    """

    messages: tuple[Message, ...] = ()
    pongs: tuple[bytes, ...] = ()
    close: int | None = 1000
    told: tuple[int, str] = (1000, "")
    pings: tuple[bytes, ...] = ()
    packed: bool | None = None

    def describe(self) -> str:
        """What comes back, in a few words for a table."""
        parts = []
        if self.messages:
            parts.append("echo" if len(self.messages) == 1 else f"{len(self.messages)} echoes")
        if self.pongs:
            parts.append("Pong" if len(self.pongs) == 1 else f"{len(self.pongs)} Pongs")
        if self.pings:
            parts.append("Ping")
        if self.close is None:
            parts.append("end")
        else:
            parts.append("Close without code" if self.close == 1005 else f"Close {self.close}")
        return ", ".join(parts)


class Deflate(NamedTuple):
    """permessage-deflate on a connection: what is offered to wsd the server, what is answered to wsd the client.

    The server's answer must be one that RFC 7692 7.1 allows for the offer; with `exact` it must be `answer`.
    """

    offer: str
    answer: str
    exact: bool = False


class Case(NamedTuple):
    """An exchange of frames on an open connection."""

    number: str
    title: str
    section: str
    steps: tuple[Step, ...]
    expected: Expected
    chop: Chop = WHOLE
    setup: str = "plain"
    deflate: Deflate | None = None
    roles: tuple[str, ...] = BOTH

    @property
    def result(self) -> str:
        """What must come back, in a few words for a table."""
        is_awaited = any(isinstance(step, Await) and step.close for step in self.steps)
        is_early = is_awaited and self.expected.close in _FAILURES
        return self.expected.describe() + (" before the rest is sent" if is_early else "")


class RequestCase(NamedTuple):
    """An upgrade request to wsd the server.

    Attributes:
        request: What is sent, in one segment or cut as `chop` says.
        status: Of the answer; after 101 an echo must work.
        headers: Header fields that the answer must have, with their values; None: must not have.
    """

    number: str
    title: str
    section: str
    request: bytes
    status: int
    headers: tuple[tuple[str, str | None], ...] = ()
    chop: Chop = WHOLE
    setup: str = "plain"
    roles: tuple[str, ...] = (SERVER,)

    @property
    def result(self) -> str:
        named = [f"{name}: {value}" if value is not None else f"no {name}" for name, value in self.headers]
        return ", ".join([str(self.status), *named])


class ReplyCase(NamedTuple):
    """An answer to wsd the client's request.

    Attributes:
        reply: What is sent; `{accept}` stands for the right value of Sec-WebSocket-Accept.
        cause: The cause that the plugin is told (`ConnectError.cause`); empty: the connection opens, and an echo works.
        subprotocols: What wsd offers.
        ends: End the stream behind the reply.
        behind: Frames that follow the reply in the same segment.
        messages: Those in them, which come back.
    """

    number: str
    title: str
    section: str
    reply: bytes
    cause: str = ""
    subprotocols: tuple[str, ...] = ()
    chop: Chop = WHOLE
    setup: str = "plain"
    ends: bool = False
    behind: tuple[Bytes, ...] = ()
    messages: tuple[Message, ...] = ()
    roles: tuple[str, ...] = (CLIENT,)

    @property
    def result(self) -> str:
        return f"connection error: {self.cause}" if self.cause else "open"


AnyCase = Case | RequestCase | ReplyCase


# -- collecting them --------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Cases of one kind within a group."""

    number: str
    title: str
    section: str
    cases: list[AnyCase]


class Group:
    """Cases under one heading; numbers are given in the order of their making: group.part.case."""

    def __init__(self, number: int, title: str) -> None:
        self.number = number
        self.title = title
        self.parts: list[Part] = []
        self._numbers = count(1)
        self._defaults: dict[str, Any] = {}

    @property
    def cases(self) -> list[AnyCase]:
        return [case for part in self.parts for case in part.cases]

    def part(self, title: str, section: str, **defaults: Any) -> None:
        """Begin a part; `section` and `defaults` (fields of `Case`) are those of its cases."""
        self.parts.append(Part(f"{self.number}.{len(self.parts) + 1}", title, section, []))
        self._numbers = count(1)
        self._defaults = defaults

    def _next(self, fields: dict[str, Any]) -> dict[str, Any]:
        part = self.parts[-1]
        number = f"{part.number}.{next(self._numbers)}"
        return {"number": number, "section": part.section, **self._defaults, **fields}

    def case(self, title: str, steps: Sequence[Step], expected: Expected, **fields: Any) -> None:
        case = Case(title=title, steps=tuple(steps), expected=expected, **self._next(fields))
        self.parts[-1].cases.append(case)

    def echoes(
        self, title: str, *steps: Step, messages: Sequence[Message] = (), pongs: Sequence[bytes] = (), **fields: Any
    ) -> None:
        """Nothing is wrong: `messages` and `pongs` come back, and the peer's own Close ends it."""
        self.case(title, [*steps, BYE], Expected(tuple(messages), tuple(pongs)), **fields)

    def echo(self, title: str, opcode: int, payload: Payload, **fields: Any) -> None:
        """One message in one frame."""
        self.echoes(title, Frame(opcode, payload), messages=[(opcode, payload)], **fields)

    def fails(
        self,
        title: str,
        code: int,
        *steps: Step,
        messages: Sequence[Message] = (),
        pongs: Sequence[bytes] = (),
        **fields: Any,
    ) -> None:
        """_Fail the WebSocket Connection_ with `code`; what was complete before is still answered."""
        self.case(title, steps, Expected(tuple(messages), tuple(pongs), code, ABNORMAL), **fields)

    def request(self, title: str, request: bytes, status: int, **fields: Any) -> None:
        case = RequestCase(title=title, request=request, status=status, **self._next(fields))
        self.parts[-1].cases.append(case)

    def reply(self, title: str, reply: bytes, cause: str = "", **fields: Any) -> None:
        case = ReplyCase(title=title, reply=reply, cause=cause, **self._next(fields))
        self.parts[-1].cases.append(case)
