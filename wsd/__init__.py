"""wsd: a WebSocket daemon, to Python what lwsws is to libwebsockets.

The names that a plugin or an embedder imports.  They are loaded when first used, so that `import wsd.wire` and the
commands that need none of them stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsd import log as log
    from wsd.config import Compression as Compression
    from wsd.config import Keepalive as Keepalive
    from wsd.config import Limits as Limits
    from wsd.config import Options as Options
    from wsd.config import Timeouts as Timeouts
    from wsd.config import Tls as Tls
    from wsd.context import Context as Context
    from wsd.detach import daemonize as daemonize
    from wsd.errors import ConnectError as ConnectError
    from wsd.errors import Reject as Reject
    from wsd.external import PollFd as PollFd
    from wsd.protocol import Answer as Answer
    from wsd.protocol import Peer as Peer
    from wsd.protocol import Protocol as Protocol
    from wsd.protocol import callback_protocol as callback_protocol
    from wsd.reasons import CLOSE as CLOSE
    from wsd.reasons import OK as OK
    from wsd.reasons import Reason as Reason
    from wsd.reconnect import Backoff as Backoff
    from wsd.ring import Ring as Ring
    from wsd.ring import Tail as Tail
    from wsd.tls_client import ClientTls as ClientTls
    from wsd.wire.frames import BINARY as BINARY
    from wsd.wire.frames import TEXT as TEXT
    from wsd.wire.headers import Headers as Headers
    from wsd.wire.http import Request as Request
    from wsd.wire.reply import Reply as Reply
    from wsd.wire.response import Response as Response
    from wsd.wsi import Wsi as Wsi

__version__ = "0.5.0"

_HOMES = {
    "BINARY": "wsd.wire.frames",
    "CLOSE": "wsd.reasons",
    "OK": "wsd.reasons",
    "TEXT": "wsd.wire.frames",
    "Answer": "wsd.protocol",
    "Backoff": "wsd.reconnect",
    "ClientTls": "wsd.tls_client",
    "Compression": "wsd.config",
    "ConnectError": "wsd.errors",
    "Context": "wsd.context",
    "Headers": "wsd.wire.headers",
    "Keepalive": "wsd.config",
    "Limits": "wsd.config",
    "Options": "wsd.config",
    "Peer": "wsd.protocol",
    "PollFd": "wsd.external",
    "Protocol": "wsd.protocol",
    "Reason": "wsd.reasons",
    "Reject": "wsd.errors",
    "Reply": "wsd.wire.reply",
    "Request": "wsd.wire.http",
    "Response": "wsd.wire.response",
    "Ring": "wsd.ring",
    "Tail": "wsd.ring",
    "Timeouts": "wsd.config",
    "Tls": "wsd.config",
    "Wsi": "wsd.wsi",
    "callback_protocol": "wsd.protocol",
    "daemonize": "wsd.detach",
}

__all__ = [*_HOMES, "log"]


def __getattr__(name: str) -> Any:
    """Import the module that owns `name`, and keep what it has under that name."""
    from importlib import import_module

    home = _HOMES.get(name)
    if home is None:
        if name == "log":
            return import_module("wsd.log")
        raise AttributeError(f"module 'wsd' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value
