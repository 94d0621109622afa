"""A connection whose bytes a role has, and one that is raw for good.

Owns what a role does to its wsi: connecting it, handing out bytes outside of messages, and how it ends without a Close
frame.  Must not know what the role makes of the bytes; `Wsi` is built on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsd import log
from wsd.descriptor import DescriptorPipe
from wsd.protocol import Peer
from wsd.stream import HOLD_PLUGIN, HOLD_ROLE, NoPipe
from wsd.timed import Timed
from wsd.transport import BROKEN, READ, Output, Pipe
from wsd.wire import frames
from wsd.wire.closing import HTTP
from wsd.wire.parser import Piece

if TYPE_CHECKING:
    from wsd.binding import Binding
    from wsd.context import Context
    from wsd.role import Role
    from wsd.tls_info import TlsInfo


class Roled(Timed):
    """A connection with a role."""

    __slots__ = (
        "_backlog",
        "_is_established",
        "_peer",
        "local",
        "proxy",
    )

    def __init__(
        self,
        context: Context,
        pipe: Pipe | NoPipe,
        binding: Binding,
        peer: Peer,
        local: Peer,
        is_client: bool,
        number: int,
    ) -> None:
        super().__init__(context, pipe, binding, is_client, number)
        self._peer = f"{peer[0]} {peer[1]}"
        self.local = local
        self.proxy: Peer | None = None  # who passes on what `peer` says, by the kernel; None: it comes straight
        self._is_established = False  # on_established or on_raw_adopt ran
        self._backlog: list[Piece] | None = None  # read and not delivered

    @property
    def peer(self) -> Peer:
        """The other end's address, a `Peer`: `peer.address`, `peer.port`.

        Behind a proxy that is believed (`trusted_proxies`) that of the client, which may change from one HTTP request
        to the next.
        """
        # Kept as one text: a Peer with what it holds is 160 bytes, and is asked for by a log line, or by nobody.
        address, _, port = self._peer.rpartition(" ")
        return Peer(address, int(port))

    @peer.setter
    def peer(self, peer: Peer) -> None:
        self._peer = f"{peer.address} {peer.port}"

    @property
    def is_raw(self) -> bool:
        """Whether it speaks neither HTTP nor WebSocket: the hooks for it are `on_raw_adopt` and those beside it."""
        return self._rare.is_raw

    @property
    def is_descriptor(self) -> bool:
        """Whether it is a descriptor, no socket: of `context.adopt_descriptor()`."""
        return self._rare.is_raw and isinstance(self._pipe, DescriptorPipe)

    @property
    def tls(self) -> TlsInfo | None:
        """What the two ends agreed on: version, cipher, the peer's certificate; None where nothing is encrypted."""
        return self._pipe.tls

    @property
    def is_writing(self) -> bool:
        """Whether the hook runs in which `write()` is allowed."""
        return self._is_writing

    def attach(self, pipe: Pipe, peer: Peer, local: Peer) -> None:
        """A client's connection is there: its role hears what comes, and what it puts is sent."""
        self._pipe = pipe
        self._output = Output(pipe)
        self.peer, self.local = peer, local
        self._mask = READ
        self.watch()
        self._note_pending()

    def make_raw(self, role: Role, *, wait: bool) -> None:
        """From here on `role` hands out bytes as they come.

        Args:
            wait: Read nothing before `establish_raw`; for a wsi that no selector has yet.
        """
        self.role = role
        self._own_rare().is_raw = True
        if wait:
            self._hold |= HOLD_ROLE
            self._mask = 0

    def establish_raw(self) -> None:
        """The plugin is told now that the raw wsi is there."""
        self.set_deadline(None)
        self._is_established = True
        self.binding.protocol._members[self] = None  # type: ignore[index]  # the protocol knows the whole Wsi
        self.context.counters.established += 1
        log.info("%s: raw, %s", self.tag, "a descriptor" if self.is_descriptor else f"local end {self.local}")
        if self._rare.is_held_early:
            self._set_hold(HOLD_PLUGIN, True)
        self._set_hold(HOLD_ROLE, False)
        self.renew_budget()
        self._list_once()

    def keep(self, data: bytes) -> None:
        """The role got what a raw wsi's plugin is to have, as soon as it wants it."""
        self._backlog = [(frames.BINARY, data, True, True, 0)]
        rare = self._own_rare()
        rare.backlog_at, rare.backlog_bytes = 0, len(data)
        if not self._hold:
            self.context.note_backlog(self)  # type: ignore[arg-type]  # the context knows the whole Wsi

    def note_delivered(self) -> None:
        """The plugin has been given something: it may want to answer that though the peer has ended by then."""
        self._owed += 1
        if self._output.is_choked and self._state == HTTP:
            self._choke_changed()  # it may have queued more than should wait

    @property
    def is_answering(self) -> bool:
        """Whether the plugin wants to answer what it was given."""
        return self._is_asked and self._owed > 0

    def note_end(self, code: int, close_reason: str, why: str) -> None:
        """Why a raw wsi ends; code and reason are for a WebSocket that is tied to it."""
        if self._close is None:
            self._close = code, close_reason
        self._why = self._why or why

    def _hung_up(self, mask: int) -> None:
        """What lies in a pipe when its writer has ended is there to be read, and nothing else tells of its end."""
        if not (self._rare.is_raw and self._state == HTTP) or mask & BROKEN:
            super()._hung_up(mask)
        elif self._hold:
            self._park()
        else:
            self._read()
