"""The Authorization header and its challenge, on text: Basic (RFC 7617) and bearer tokens (RFC 6750).

Pure.  Whose password or token it is, and who is asked, is `wsd/access.py`'s.  No text of an error has a part of what
the peer sent in it: that is a secret, or nearly one.
"""

from __future__ import annotations

import re
import unicodedata
from base64 import b64decode
from collections.abc import Container, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from wsd.errors import HandshakeError

# RFC 9110 11.4: a scheme, and "1*SP" before a token68.
_CREDENTIALS: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) +(\S.*)\Z")
# RFC 6750 2.1, which is RFC 9110's token68.
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*\Z")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}\Z")

HIDDEN: Final = b"***"
"""Stands in a request's target where a token stood."""


class Basic(NamedTuple):
    """A name and a password, in Normalization Form C (RFC 7617 2.1)."""

    name: str
    password: str

    @property
    def text(self) -> str:
        """As it travels, and as libwebsockets hands it to a callback: `name:password`."""
        return f"{self.name}:{self.password}"


class Bearer(NamedTuple):
    """A token: whoever has it is let in."""

    token: str

    @property
    def text(self) -> str:
        """As it travels."""
        return self.token


Credentials = Basic | Bearer
"""What a peer shows to be let in."""


def normalize(text: str) -> str:
    """A name or password as it is hashed and compared: a letter with its accent is one character, however typed."""
    return unicodedata.normalize("NFC", text)


def parse_authorization(values: Sequence[str]) -> Credentials | None:
    """What the Authorization lines of a request show; None: nothing, or something that is not known here.

    Args:
        values: The line's value, one for each; as they travel, one character a byte.

    Raises:
        HandshakeError: 400, for what is not well-formed.
    """
    if not values:
        return None
    if len(values) > 1:
        raise HandshakeError(400, "there must be at most one Authorization header")
    match = _CREDENTIALS.match(values[0])
    if match is None:
        raise HandshakeError(400, "the Authorization header is not a scheme and its credentials")
    # "a case-insensitive token to identify the authentication scheme" (RFC 9110 11.1).
    match match[1].lower(), match[2]:
        case "basic", value:
            return _parse_basic(value)
        case "bearer", value:
            return parse_token(value)
    return None


def _parse_basic(value: str) -> Basic:
    """RFC 7617 2: base64 of a user-id without a colon, a colon, and a password; in UTF-8, as the challenge says."""
    if not _BASE64.match(value):
        raise HandshakeError(400, "the Basic credentials are not base64")
    try:
        # Whoever leaves the padding out means the same.
        text = b64decode(value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4)).decode()
    except UnicodeDecodeError:
        raise HandshakeError(400, "the Basic credentials are not UTF-8") from None
    except ValueError:
        raise HandshakeError(400, "the Basic credentials are not base64") from None
    name, colon, password = text.partition(":")
    if not colon:
        raise HandshakeError(400, "the Basic credentials are not a name, a colon and a password")
    # "The user-id and password MUST NOT contain any control characters" (RFC 7617 2).
    if has_controls(text):
        raise HandshakeError(400, "the Basic credentials hold a control character")
    return Basic(normalize(name), normalize(password))


def has_controls(text: str) -> bool:
    """Reports whether `text` holds a control character ("CTL" of RFC 5234, and those of ISO 8859)."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def parse_token(value: str) -> Bearer:
    """A bearer token, from a header or from a URL argument.

    Raises:
        HandshakeError: 400, it holds what no token may.
    """
    if not _TOKEN.match(value):
        raise HandshakeError(400, "the bearer token holds characters that no token may hold")
    return Bearer(value)


def challenges(realm: str, *, basic: bool, bearer: bool, error: str = "") -> list[tuple[str, str]]:
    """The WWW-Authenticate lines that go with a 401: what may be shown, the most widely known first.

    Args:
        realm: What for; ASCII.
        error: RFC 6750 3.1, where a token was shown: "invalid_token", "invalid_request".
    """
    quoted = '"' + realm.replace("\\", "\\\\").replace('"', '\\"') + '"'
    lines = []
    if basic:
        lines.append(("WWW-Authenticate", f'Basic realm={quoted}, charset="UTF-8"'))
    if bearer:
        reason = f', error="{error}"' if error else ""
        lines.append(("WWW-Authenticate", f"Bearer realm={quoted}{reason}"))
    return lines


def take_arguments(head: bytes, names: Container[str]) -> tuple[bytes, dict[str, list[str]]]:
    """Take the values of some URL arguments out of a request's head, so that nobody who is shown it sees them.

    Args:
        head: A whole head that was checked.
        names: Of the arguments, decoded.

    Answers the head with `HIDDEN` in their places, and the values, decoded, by name.
    """
    start = head.index(b" ") + 1
    end = head.index(b" ", start)
    path, mark, query = head[start:end].partition(b"?")
    taken: dict[str, list[str]] = {}
    parts = []
    for part in query.split(b"&"):
        key, equals, value = part.partition(b"=")
        name = _decode(key)
        if name in names:
            taken.setdefault(name, []).append(_decode(value))
            part = key + equals + HIDDEN if value else part
        parts.append(part)
    if not taken:
        return head, taken
    return head[:start] + path + mark + b"&".join(parts) + head[end:], taken


def _decode(text: bytes) -> str:
    """A name or value of a query, as HTML forms write it and `Request.args` reads it."""
    return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "replace")
