"""The exception tree.  Owns no policy: who catches what is written at the place that catches.

Everything wsd raises on purpose derives from `WsdError`.  A peer's fault (`ProtocolError`, `HandshakeError`,
`PipeBroken`) never reaches an operator as a traceback; an operator's fault (`ConfigError`, `PluginError`,
`StartError`) carries the sentence that is printed and the exit status that goes with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

EXIT_RUNTIME = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h; the unit never restarts on it


class WsdError(Exception):
    """Base of all that wsd raises on purpose."""


class Problem(NamedTuple):
    """One thing wrong in a configuration: `file: key: found ...; allowed ...`.  Who embeds wsd has no file."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class ConfigError(WsdError):
    """The configuration cannot be used.  `problems` holds all that is wrong with it, not only the first."""

    exit_status = EXIT_CONFIG

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class PluginError(WsdError):
    """A plugin cannot be used; names the file and, where there is one, the line."""

    exit_status = EXIT_CONFIG

    def __init__(self, message: str, file: str = "", line: int = 0) -> None:
        self.message, self.file, self.line = message, file, line
        where = f"{file}:{line}: " if line else f"{file}: " if file else ""
        super().__init__(where + message)


class StartError(WsdError):
    """The daemon cannot start (or a listener cannot be opened) for a reason outside its configuration's text."""

    def __init__(self, message: str, exit_status: int = EXIT_RUNTIME) -> None:
        self.exit_status = exit_status
        super().__init__(message)


class PipeBroken(WsdError):
    """The peer is gone: reset, unreachable or timed out by the kernel.  The text is the system's own."""


class ProxyError(WsdError):
    """What a connection begins with is no PROXY header, or a bad one."""


class ProtocolError(WsdError):
    """The peer broke RFC 6455, or was over a limit of ours, whose name is `option` then.

    `code` is the close code of section 7.4.1, `text` goes into the Close frame.
    """

    def __init__(self, code: int, text: str, option: str = "") -> None:
        self.code, self.text, self.option = code, text, option
        super().__init__(f"{code} {text}")


class HandshakeError(WsdError):
    """A request is refused with an HTTP status.

    `headers` are added to the answer (for example `Sec-WebSocket-Version` with 426, RFC 6455 4.4).  `option` is the
    limit or time that the peer was over, if that is why.
    """

    def __init__(
        self, status: int, text: str = "", headers: Iterable[tuple[str, str]] = (), *, option: str = ""
    ) -> None:
        self.status, self.text, self.headers, self.option = status, text, tuple(headers), option
        super().__init__(f"{status} {text}")


class Reject(HandshakeError):
    """Raised by a plugin in `on_filter_protocol_connection`, `on_add_headers` or `on_verify_authorization`.

    The peer gets this HTTP status and text.
    """


class ConnectError(WsdError):
    """A client connection was not established; what `on_client_connection_error` gets.

    Attributes:
        cause: One word of `CAUSES`.
        status: The HTTP status of what the server or the proxy answered; 0: it did not.
        body: How the body of that answer begins.
    """

    CAUSES = (
        "resolve",  # the name has no address
        "refused",  # nobody listens there
        "unreachable",  # no way there, or no such local address
        "reset",  # the connection broke before it was established
        "timeout",  # the text says at which step
        "tls",  # no TLS, or a certificate that is not the server's
        "proxy",  # the proxy refused, or is none
        "status",  # an HTTP answer that is no 101
        "reply",  # no HTTP, or a 101 that RFC 6455 4.1 does not let pass
        "accept",  # a wrong Sec-WebSocket-Accept
        "subprotocol",  # one that was not offered
        "extension",  # one that was not offered, or not so
        "filter",  # on_client_filter_pre_establish refused
        "plugin",  # a hook raised, or answered what is no answer
        "closed",  # by ourselves: wsi.close(), or the context stops
        "limit",  # as many connections as there may be
    )

    def __init__(self, cause: str, text: str, *, status: int = 0, body: bytes = b"") -> None:
        self.cause, self.text, self.status, self.body = cause, text, status, body
        super().__init__(text)
