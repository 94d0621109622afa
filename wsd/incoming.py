"""What a connection that comes in may become, and what each is given: through a listener, or adopted.

Owns the map from a request to a protocol, and the options of an accepted socket.  Must not know who accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsd.binding import Binding, bind_hooks
from wsd.budget import Budget
from wsd.doors import Doors, doors_of
from wsd.errors import PluginError
from wsd.protocol import Peer, Protocol

if TYPE_CHECKING:
    from wsd.config import Listen
    from wsd.context import Context
    from wsd.tls_server import ServerTls


class Menu:
    """What a connection that comes in may become: that of a listener, or of one adopted socket."""

    def __init__(self, context: Context, config: Listen) -> None:
        self.context = context
        self.config = config
        self.bindings: dict[str, Binding] = {}
        self.default: Binding | None = None
        self.paths: dict[str, Binding] = {}
        self.http: Binding
        # Those of whom it serves now, who have them too, but find them by weak references.
        self.budgets: dict[Binding, Budget] = {}
        self.tls: ServerTls | None = None
        self.doors: Doors | None = doors_of(config)

    @property
    def answer_headers(self) -> tuple[tuple[str, str], ...]:
        """What every HTTP answer says here."""
        if self.tls is None or not self.config.tls.hsts_seconds:
            return ()
        return (("Strict-Transport-Security", f"max-age={self.config.tls.hsts_seconds}"),)  # RFC 6797 6.1

    def serve(self, bindings: Sequence[Binding], http: Binding) -> None:
        """Offer `bindings` to new connections and give their HTTP to `http`; those that exist keep what they have.

        Raises:
            PluginError: two protocols of one name; connections are raw, and the protocol for them cannot take them.
        """
        concerned = {*self.bindings.values(), *bindings, http}
        self.bindings = {binding.protocol.name: binding for binding in bindings}
        if len(self.bindings) != len(bindings):
            raise PluginError("a listener serves two protocols of one name")
        self.http = http
        config = self.config
        first = next(iter(self.bindings.values()), None)
        self.default = self.bindings[config.default_protocol] if config.default_protocol else first
        if config.accept == "raw":
            check_raw(self.default.protocol if self.default else None)
        self.paths = {path: self.bindings[name] for path, name in config.paths.items()}
        self.allowed_origins = tuple(config.allowed_origins)
        self.static_folder = config.static_folder
        for binding in concerned:
            binding.renew_budget(self)
        self.budgets = {binding: binding.budget_for(self) for binding in {*bindings, http}}


def check_raw(protocol: Protocol | None) -> None:
    """Refuse who cannot do anything with a raw connection, which a listener with `accept = "raw"` would give him.

    Raises:
        PluginError: there is no protocol, or it has no `on_raw_receive`.
    """
    if protocol is None:
        raise PluginError('accept = "raw" takes a protocol that gets the connections, and none is served here')
    if bind_hooks(protocol).on_raw_receive is None:
        raise PluginError(f'accept = "raw" takes a protocol with on_raw_receive; {protocol.name} has none')


def peer_of(address: object) -> Peer:
    """An address as `accept` and `getsockname` give it."""
    if isinstance(address, tuple):
        host = address[0]
        if host.startswith("::ffff:") and "." in host:
            host = host[7:]
        return Peer(host, address[1])
    if isinstance(address, str) and address:
        # A peer may bind its socket to a file `10.0.0.1`: that must not be taken for an address.
        return Peer(address if "/" in address else f"./{address}", 0)
    return Peer("", 0)
