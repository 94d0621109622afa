"""RFC 6455 section 5, the receiving side: bytes in, pieces out, nothing held back.

Owns what a connection's limits on messages are, what has ended its reading, and the quick way of plain messages; what
is anything else, and every check, is of `reading.py`, which is made when there is such.  Must not know who reads the
bytes, who gets the pieces, or what is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wsd.errors import ProtocolError
from wsd.wire.fast import mask, parse
from wsd.wire.frames import CLOSE_FRAME, FIN, MASKED, MAX_CONTROL_BYTES, parse_close
from wsd.wire.reading import FINAL, FIRST, INFLATE_BYTES, LONGEST, OPCODE, PAYLOAD, REMAINING, Piece, Reading

if TYPE_CHECKING:
    from wsd.wire.deflate import Inflater

_FIN_CLOSE: Final = FIN | CLOSE_FRAME


class Parser:
    """The reader of one connection.

    Args:
        max_message_bytes: Largest message, in bytes, over all its fragments and after inflating; 0: no limit.  Refused
            with 1009, from the frame's header where that tells, before any of the payload is waited for.
        max_fragments: Most frames that one message may come in; more is 1008.
        max_frame_bytes: Longest payload of one of its frames, as it is on the wire; 0: no limit.  Refused with 1009
            from the frame's header.
        is_client: Whether we are the client: a server's frames are not masked.
        inflater: Of a connection with permessage-deflate.

    Attributes:
        failure: What the peer did wrong, once it did; nothing is read after it.
        close: Code and reason of the peer's Close, once it came; nothing is read after it (section 5.5.1).
        bound: The smaller of both limits in bytes: a whole message within it needs no second look.
        is_plain: Whether what comes next may be read by `fast.parse`, with `bound` as its limit: it begins with a
            client's frame, outside of any message, and somebody wants it.
    """

    __slots__ = (
        "_reading",
        "bound",
        "close",
        "failure",
        "is_plain",
        "max_fragments",
        "max_frame_bytes",
        "max_message_bytes",
    )

    def __init__(
        self,
        max_message_bytes: int,
        max_fragments: int,
        *,
        max_frame_bytes: int = 0,
        is_client: bool = False,
        inflater: Inflater | None = None,
    ) -> None:
        self.failure: ProtocolError | None = None
        self.close: tuple[int, str] | None = None
        self.is_plain = not is_client
        # Most connections are between two messages most of the time, and have none.
        self._reading: Reading | None = None
        self.set_limits(max_message_bytes, max_fragments, max_frame_bytes)
        if is_client or inflater is not None:
            self._reading = Reading(self, is_client, inflater)

    @property
    def is_mid_message(self) -> bool:
        """Reports whether a message has begun and not ended."""
        return self._reading is not None and self._reading.is_mid_message

    @property
    def has_more(self) -> bool:
        """Reports whether more can be handed out of what was received: call `receive(b"")`."""
        return self._reading is not None and self._reading.has_more

    @property
    def inflater(self) -> Inflater | None:
        """Of a connection with permessage-deflate."""
        return None if self._reading is None else self._reading.inflater

    @property
    def held(self) -> int:
        """How many bytes it keeps of what it was given."""
        reading = self._reading
        if reading is None:
            return 0
        return reading.held

    def set_limits(self, max_message_bytes: int, max_fragments: int, max_frame_bytes: int) -> None:
        """Have what comes from here on keep to these, whose meaning is written above."""
        self.max_message_bytes = max_message_bytes
        self.max_fragments = max_fragments
        self.max_frame_bytes = max_frame_bytes
        self.bound = min(max_message_bytes or LONGEST, max_frame_bytes or LONGEST, LONGEST)
        if self._reading is not None:
            self._reading.take_limits(self)

    def skip(self) -> None:
        """Only the peer's Close is of interest from here on: payload is neither inflated nor handed out.

        Nothing is kept, so nothing is limited: a message that would be too large does not hide the Close behind it.
        """
        self.is_plain = False
        self.max_message_bytes = self.max_frame_bytes = 0
        self.max_fragments = self.bound = LONGEST
        if self._reading is not None:
            self._reading.take_limits(self)
            self._reading.skip()

    def _read(self) -> Reading:
        """Begin with something else than plain frames."""
        reading = self._reading = Reading(self, False, None)
        reading.is_skipping = not self.is_plain  # nobody wants it, see `skip`
        return reading

    def receive(self, data: bytes | memoryview) -> list[Piece]:
        """The pieces that `data` completes or continues; all that was complete before a violation among them.

        Look at `failure` and `close` after having handled the pieces, and at `has_more` first: while that is true, the
        rest is to be fetched with `receive(b"")`.  Never raises for what a peer sent.
        """
        pieces: list[Piece] = []
        at = 0
        if self.is_plain:
            size = len(data)
            at = parse(data, size, self.bound, size, pieces)
            if at == size:
                return pieces
            # Nearly always what is no plain message is the Close at the end.
            length = size - at - 6
            if (
                data[at] == _FIN_CLOSE
                and 0 <= length <= MAX_CONTROL_BYTES
                and data[at + 1] == MASKED + length
                and self._take_close(data[at:])
            ):
                return pieces
        if self.failure is None and self.close is None:
            reading = self._reading or self._read()
            try:
                reading.receive(data, at, pieces)
            except ProtocolError as failure:
                self._fail(failure)
            else:
                self._look_whether_plain(reading)
        return pieces

    def _take_close(self, data: bytes | memoryview) -> bool:
        """Take a whole Close frame; reports whether there is nothing wrong with what it says."""
        try:
            self.close = parse_close(mask(data[6:], bytes(data[2:6])))
        except ProtocolError:
            return False  # it goes the way of all others
        self.is_plain = False
        return True

    def _fail(self, failure: ProtocolError) -> None:
        # Without the tracebacks, whose frames hold us and all that we hold: such a ring would stay in memory until the
        # garbage collector comes by.
        failure.__context__ = None
        self.failure = failure.with_traceback(None)
        self.is_plain = False
        if self._reading is not None:
            self._reading.has_more = False

    def _look_whether_plain(self, reading: Reading) -> None:
        self.close = reading.close
        self.is_plain = reading.is_at_rest
        if self.is_plain and reading.inflater is None:
            self._reading = None

    @property
    def awaited(self) -> int:
        """How many bytes of a frame are to come that are handed out as they are: whoever reads may take up to so many,
        unmask them with `mask_of_awaited`, and give them to `receive_awaited`."""
        reading = self._reading
        return 0 if reading is None or self.failure is not None else reading.awaited

    @property
    def mask_of_awaited(self) -> tuple[bytes, int]:
        """The key, empty for a server's frame, and how far into the payload the next byte is."""
        assert self._reading is not None
        return self._reading.mask_of_awaited

    def receive_awaited(self, payload: bytes) -> list[Piece]:
        """`receive` for what `awaited` tells of, unmasked."""
        reading = self._reading
        assert reading is not None
        pieces: list[Piece] = []
        try:
            reading.receive_awaited(payload, pieces)
        except ProtocolError as failure:
            self._fail(failure)
        else:
            self._look_whether_plain(reading)
        return pieces


__all__ = ["FINAL", "FIRST", "INFLATE_BYTES", "OPCODE", "PAYLOAD", "REMAINING", "Parser", "Piece"]
