"""Taking in what somebody else has opened: a connected socket, or a descriptor that can be polled.

Owns what `Context.adopt_socket` and `Context.adopt_descriptor` check and make.  Must not know what the role does with
the bytes then, nor the loop.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from wsd import log, ties
from wsd.config import Listen
from wsd.descriptor import DescriptorPipe, name_of
from wsd.incoming import Menu, peer_of
from wsd.opening import Newcomer
from wsd.protocol import Peer, Protocol
from wsd.raw import Raw
from wsd.transport import Pipe, SocketPipe, prepare
from wsd.wsi import Wsi

if TYPE_CHECKING:
    from wsd.binding import Binding
    from wsd.context import Context


def adopt_socket(
    context: Context, sock: socket.socket, protocol: Protocol | str, *, raw: bool, parent: Wsi | None
) -> Wsi:
    """What `Context.adopt_socket` does, which see."""
    binding = context.binding_of(protocol)
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"a stream socket is wanted, found one of {sock.type!r}")
    try:
        peer, local = peer_of(sock.getpeername()), peer_of(sock.getsockname())
        prepare(sock, context.keepalive)
    except OSError as error:
        raise ValueError(f"the socket is not connected: {error.strerror}") from None
    if raw:
        return _begin_raw(context, binding, SocketPipe(sock), peer, local, parent)
    menu = Menu(context, Listen())
    menu.serve([binding], context.protocol_0)
    wsi = Wsi(context, menu.http, SocketPipe(sock), peer, local, context.next_number(), is_client=False)
    wsi.menu, wsi.budget = menu, menu.http.budget_for(menu)
    wsi.role = Newcomer(wsi)
    context.add_wsi(wsi)
    ties.tie(wsi, parent)
    return wsi


def adopt_descriptor(context: Context, fd: int, protocol: Protocol | str, *, parent: Wsi | None) -> Wsi:
    """What `Context.adopt_descriptor` does, which see."""
    binding = context.binding_of(protocol)
    peer = Peer(name_of(fd), 0)
    return _begin_raw(context, binding, DescriptorPipe(fd), peer, Peer("", 0), parent)


def _begin_raw(context: Context, binding: Binding, pipe: Pipe, peer: Peer, local: Peer, parent: Wsi | None) -> Wsi:
    """The wsi is there at once; the plugin hears of it from the loop, since we may be inside a hook."""
    wsi = Wsi(context, binding, pipe, peer, local, context.next_number(), is_client=False)
    role = Raw(wsi, wait=True)
    context.add_wsi(wsi)
    log.debug("%s: adopted", wsi.tag)
    if binding.make_session(wsi) is wsi.FAILED:
        wsi.abort("Session raised")
    ties.tie(wsi, parent)
    context.call_soon(role.adopted)
    return wsi
