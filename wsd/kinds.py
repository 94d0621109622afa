"""Kinds of values that options have: what may stand there, one by one, and how that is said.

Owns the check of a single value.  What does not go together is `wsd.clashes`', which options there are `wsd.options`'.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict, ValidationInfo

from wsd.networks import check_network
from wsd.problems import Allowed, toml

FOLDER: Final = "folder"  # the key, in validation's context, of what relative paths are relative to
_UNIX_PATH_BYTES: Final = 107  # sizeof(sun_path) less the zero at its end


def _absolute(value: str, info: ValidationInfo) -> str:
    """Make a path absolute against the configuration file's folder, where there is a file; empty stays empty."""
    if "\0" in value:
        raise ValueError("a path cannot hold a NUL")
    folder = info.context.get(FOLDER) if info.context else None
    return os.path.normpath(os.path.join(folder, value)) if value and folder else value


def _short_path(value: str) -> str:
    if (size := len(os.fsencode(value))) > _UNIX_PATH_BYTES:
        raise ValueError(
            f"it has {size} bytes as an absolute path; allowed: up to {_UNIX_PATH_BYTES}, as the kernel wants"
        )
    return value


def _named_folder(value: object) -> object:
    if value == "":
        raise ValueError('allowed: the path of a folder; the file\'s own is "."')
    return value


def each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a list that names something twice."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{toml(value)} stands there twice")
    return values


def _address(value: str) -> str:
    """Refuse what looks like an address and is none; a name is looked up when the socket is bound."""
    if value and (":" in value or not value.strip("0123456789.")):
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("allowed: an IPv4 address, an IPv6 address without brackets, or a name; no port") from None
    return value


def _network(value: str) -> str:
    check_network(value)
    return value


Size = Annotated[int, Field(ge=1, le=2**63 - 1)]
SizeOrNone = Annotated[int, Field(ge=0, le=2**63 - 1)]
# So many in a second.
RateOrOff = Annotated[int, Field(ge=0, le=2**63 - 1)]
# A day is the longest that any wait may be; what shall not happen at all has a 0 of its own.
Seconds = Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)]
SecondsOrOff = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Octal = Annotated[str, Field(pattern="^0?[0-7]{3}$"), Allowed('three octal digits in quotes, such as "0660"')]
# RFC 9110 5.6.2 "token", the alphabet of a subprotocol's name.
Token = Annotated[
    str,
    Field(pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$"),
    Allowed("a protocol's name: letters, digits and !#$%&'*+-.^_`|~"),
]
Account = Annotated[str, Field(pattern=r"^[^\s:/,]*$"), Allowed("the name or number of an account, or empty")]
FilePath = Annotated[str, AfterValidator(_absolute)]
SocketPath = Annotated[str, AfterValidator(_absolute), AfterValidator(_short_path)]
Folder = Annotated[
    Path,
    Strict(False),
    BeforeValidator(_named_folder),
    AfterValidator(lambda path, info: Path(_absolute(str(path), info))),
]
Interface = Annotated[str, Field(pattern=r"^[^\s/\[\]]*$"), AfterValidator(_address), Allowed("an address or a name")]
Network = Annotated[str, AfterValidator(_network), Allowed('a network, an address, or "unix"')]
NetworkList = Annotated[tuple[Network, ...], Strict(False), AfterValidator(each_once)]
UrlPath = Annotated[str, Field(pattern=r"^/[^?#]*$"), Allowed('a path that starts with "/", without "?" and "#"')]
Origin = Annotated[
    str,
    Field(pattern=r"^(\*|[A-Za-z][A-Za-z0-9+.\-]*://[^\s/?#@]+)$"),
    Allowed('an origin such as "https://example.com" or "https://example.com:8443", or "*"'),
]
# RFC 7692 7.1.2.1: "a decimal integer value [...] between 8 to 15, inclusive".
# RFC 7692 allows 8; but zlib compresses with no less than 9, and peers that are built on it fail when asked to.
WindowBits = Annotated[int, Field(ge=9, le=15)]
# zlib's own bounds; its level 0 would be deflate that does not compress.
DeflateLevel = Annotated[int, Field(ge=1, le=9)]
DeflateMemory = Annotated[int, Field(ge=1, le=9)]
Level = Literal["err", "warn", "notice", "info", "debug", "parser", "header", "ext", "client", "latency", "user"]
