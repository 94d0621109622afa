"""RFC 6455 section 5.2 and 5.5 on bytes: opcodes, frame headers out, Close payloads both ways.

Pure: no socket, no clock, no randomness (a masking key is an argument).  Reading frames is `parser.py`'s.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final

from wsd.errors import ProtocolError

# Section 5.2.  Plain ints: an IntEnum call costs 480 ns, and these are on the path of every message.
CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE_FRAME: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

FIN: Final = 0x80
RSV1: Final = 0x40
MASKED: Final = 0x80

# Section 5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented."
MAX_CONTROL_BYTES: Final = 125

# Nearly all connections end with one of a few codes, and without a reason.
_few: Final = lru_cache(maxsize=64)

# Section 7.4.1.
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
INVALID_PAYLOAD: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL: Final = 1011
TRY_AGAIN: Final = 1013  # IANA's registry: "Try Again Later"

# Section 7.4: what may stand in a Close frame.  1012 to 1014 are in IANA's registry; 1004 to 1006 and 1015 "MUST NOT
# be set as a status code in a Close control frame"; 3000 to 4999 belong to libraries and applications.
_SENDABLE: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})

_SHORT = Struct("!BB").pack
_MEDIUM = Struct("!BBH").pack
_LONG = Struct("!BBQ").pack


def frame_header(first: int, length: int, mask: int = 0) -> bytes:
    """The header of a frame: `first` is FIN, RSV bits and opcode; `mask` is MASKED or 0 (the key is not appended).

    "The minimal number of bytes MUST be used to encode the length" (section 5.2).
    """
    if length < 126:
        return _SHORT(first, mask | length)
    if length < 65536:
        return _MEDIUM(first, mask | 126, length)
    return _LONG(first, mask | 127, length)


def message_parts(message: str | bytes | bytearray | memoryview) -> tuple[int, bytes]:
    """First byte and payload of the one frame that carries a message: text for `str`, binary for anything else.

    Raises:
        UnicodeEncodeError: the text holds a lone surrogate, which UTF-8 cannot carry.
        TypeError: `message` is neither `str` nor a buffer.
    """
    if isinstance(message, str):
        return FIN | TEXT, message.encode()
    return FIN | BINARY, bytes(memoryview(message))


def encode_message(message: str | bytes | bytearray | memoryview) -> bytes:
    """One unmasked, unfragmented frame; raises as `message_parts` does."""
    first, payload = message_parts(message)
    return frame_header(first, len(payload)) + payload


def is_close_code(code: int) -> bool:
    """Reports whether `code` may stand in a Close frame (section 7.4)."""
    return code in _SENDABLE or 3000 <= code <= 4999


@_few
def encode_close(code: int, close_reason: str = "") -> bytes:
    """The payload of a Close frame; 1005 gives an empty one.  The reason is cut, at a character, to fit 123 bytes.

    Raises:
        ValueError: `code` must not be sent.
    """
    if code == NO_STATUS:
        return b""
    if not is_close_code(code):
        raise ValueError(f"close code {code} must not be sent; allowed are 1000-1003, 1007-1014 and 3000-4999")
    text = close_reason.encode("utf-8", "replace")[: MAX_CONTROL_BYTES - 2].decode("utf-8", "ignore").encode()
    return code.to_bytes(2, "big") + text


@_few
def parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a received Close frame; 1005 and no reason for an empty payload (section 7.1.5).

    Raises:
        ProtocolError: 1002 for one byte or a code that must not be sent (5.5.1, 7.4), 1007 for a reason that is no
            UTF-8 (8.1).
    """
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        # "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer" (5.5.1).
        raise ProtocolError(PROTOCOL_ERROR, "close frame of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not is_close_code(code):
        raise ProtocolError(PROTOCOL_ERROR, f"close code {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolError(INVALID_PAYLOAD, "close reason is not UTF-8") from None
