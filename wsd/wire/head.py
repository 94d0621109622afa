"""What the heads of requests and of responses have in common: where they end, and their header lines (RFC 9112 2, 5).

Pure.  What is wrong is told as a text; whether that is an HTTP status (`http.py`) or the end of a connection that we
opened (`reply.py`) is for those two to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from wsd.wire.headers import TOKEN, Headers

__all__ = ["encode_head", "find_end", "header_fault", "read_headers"]

# No two parts of this can match the same byte, so it is linear: no ReDoS.
_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]*"  # RFC 9110 5.5
_HEADER_LINES: Final = re.compile(rb"(?:" + TOKEN + rb":" + _VALUE + rb"\r\n)*\r\n")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")


def find_end(buffer: bytearray, scanned: int, room: int) -> int:
    """Where the head in `buffer` ends, behind its empty line; 0: not within the first `room` bytes.

    `scanned` is how many bytes were looked at before.

    Raises:
        ValueError: a line ends without CR, which RFC 9112 2.2 lets a recipient accept, and others read differently.
    """
    end = buffer.find(b"\r\n\r\n", max(0, scanned - 3), room)
    if _BARE_LF.search(buffer, scanned, room if end < 0 else end + 4):
        raise ValueError("a line ends without CR")
    return 0 if end < 0 else end + 4


def header_fault(raw: bytes, start: int) -> str:
    """Say what is wrong with the first line from `start` on that is not `Name: value`; empty: nothing is.

    `raw` is a whole head with its empty line.
    """
    if _HEADER_LINES.fullmatch(raw, start):
        return ""
    for line in raw[start:-4].split(b"\r\n"):
        if line[:1] in b" \t":
            return "a header is continued on a second line"  # obs-fold, RFC 9112 5.2
        name, colon, value = line.partition(b":")
        if not colon or not re.fullmatch(TOKEN, name):
            return "bad header name, or space before the colon"
        if not re.fullmatch(_VALUE, value):
            return "control character in a header"
    return "the empty line at its end is missing"


def read_headers(raw: bytes, start: int) -> Headers:
    """The header fields of a head that `header_fault` has nothing to say against."""
    headers = Headers()
    for line in raw[start:-4].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            # Straight into the list: both have been checked already.
            headers._items.append((name.decode("ascii"), value.decode("latin-1").strip(" \t")))
    return headers


def encode_head(first_line: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """A head as it is sent.  The fields come from a `Headers`, which has checked them."""
    return "\r\n".join([first_line, *(f"{name}: {value}" for name, value in fields), "", ""]).encode("latin-1")
