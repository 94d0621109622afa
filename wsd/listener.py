"""Accepting: the listening socket, and the connections that come through it.

Owns binding an address (TCP over IPv4 and IPv6, Unix sockets) and accepting with fairness.  Must not know the
configuration file or where protocols come from.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import select
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wsd import faults, log
from wsd.accepting import Address, accept
from wsd.doors import doors_of
from wsd.errors import EXIT_CONFIG, StartError
from wsd.incoming import Menu, peer_of
from wsd.opening import Opening, begin
from wsd.protocol import Peer, Protocol
from wsd.syscalls import RETRY
from wsd.transport import READ, SocketPipe, bequeath, close_descriptor, error_of
from wsd.wsi import Wsi

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from wsd.config import Listen
    from wsd.context import Context
    from wsd.tls_server import ServerTls

# Fairness: connections accepted by one listener in a turn, before those that exist have theirs.
ACCEPTS_PER_TURN: Final = 64

# The peer was gone before we came, or its packet was bad: accept(2): "treat them like EAGAIN".
_GONE: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.EINTR,
        errno.EPERM,
    }
)

# The system has no more to give; trying at once again would spin at 100 % CPU, as the original did.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_IP_TRANSPARENT: Final = 19  # ip(7); the module `socket` does not name it

_EXHAUSTED_SECONDS: Final = 0.1  # libwebsockets parks accept for as long


class Listener(Menu):
    """One listening socket.  `serve` says what its new connections may become."""

    def __init__(self, context: Context, config: Listen, sock: socket.socket, tls: ServerTls | None = None) -> None:
        super().__init__(context, config)
        self._use_tls(tls)
        self.count = 0  # connections that came through here and live
        self._sock = sock
        sock.setblocking(False)
        self._is_unix = sock.family == socket.AF_UNIX
        self._inode = _inode(config.unix) if self._is_unix else None
        self.sockname = _sockname(sock)
        self._local = _local_of(sock)
        self._mask = READ
        bequeath(sock, context.keepalive)

    def reconfigure(
        self,
        config: Listen,
        protocols: Sequence[Protocol] | None,
        http: Protocol | None,
        tls: ServerTls | None = None,
    ) -> None:
        """Serve something else to the connections that come from now on; the socket stays."""
        self.config = config
        self.doors = doors_of(config)
        bequeath(self._sock, self.context.keepalive)  # a reload may have brought another one
        self._use_tls(tls)
        self.serve(self.context.bindings_of(protocols), self.context.http_binding(http))

    @property
    def port(self) -> int:
        """The TCP port that was bound; 0 for a Unix socket."""
        return 0 if self._is_unix else int(self._sock.getsockname()[1])

    @property
    def url(self) -> str:
        """Where clients find it."""
        if self._is_unix:
            return f"unix:{self.sockname}"
        if self.config.accept == "raw":
            return f"{'tcp' if self.tls is None else 'tls'}://{self.sockname}"
        return f"{'ws' if self.tls is None else 'wss'}://{self.sockname}/"

    def fileno(self) -> int:
        """The listening descriptor."""
        return self._sock.fileno()

    def pause(self) -> None:
        """Stop accepting; connections wait in the kernel's queue."""
        self._set_mask(0)

    def resume(self) -> None:
        """Accept again."""
        self._set_mask(READ)

    def _set_mask(self, mask: int) -> None:
        if mask != self._mask:
            self._mask = mask
            self.context.set_interest(self.fileno(), mask)

    def on_events(self, mask: int) -> None:
        """The selector has connections for us."""
        if mask & select.EPOLLERR:
            log.err("listener %s: %s", self.sockname, os.strerror(error_of(self._sock)))
        fd, has_room, wants_local = self._sock.fileno(), self.context.admission.has_room, self._local is None
        for _ in range(ACCEPTS_PER_TURN):
            if not self._mask or not has_room():
                return
            accepted, address, local = accept(fd, wants_local)
            if accepted >= 0:
                self._accepted(accepted, address, local)
            elif -accepted in _GONE:
                continue
            else:
                if -accepted not in RETRY:
                    self._accept_failed(-accepted)
                return

    def _accept_failed(self, number: int) -> None:
        """No descriptor to be had, or worse: wait a little, whatever it is."""
        self.context.pause_accepting(_EXHAUSTED_SECONDS)
        if _warnings.allow(self.sockname, self.context.now) is not None:
            level = log.WARN if number in _EXHAUSTED else log.ERR
            log.log(level, "listener %s: cannot accept: %s; trying again", self.sockname, os.strerror(number))

    def _accepted(self, fd: int, address: Address | None, ours: Address | None) -> None:
        context = self.context
        context.counters.accepted += 1
        peer = peer_of(address)
        local = self._local or peer_of(ours)
        number = context.next_number()
        if not self._may_begin(number, peer):
            close_descriptor(fd)
            return
        self.count += 1
        binding = self.http
        if self.config.accept == "raw":
            assert self.default is not None  # `serve` has seen to it
            binding = self.default
        pipe = SocketPipe(fd)
        wsi = Wsi(context, binding, pipe, peer, local, number, self)
        context.add_wsi(wsi)
        context.admission.begin(wsi)
        if self.tls is not None or (self.doors is not None and self.doors.has_proxy_protocol):
            Opening(wsi, pipe.sock, self).begin()
        else:
            begin(wsi, self)

    def _may_begin(self, number: int, peer: Peer) -> bool:
        """Reports whether somebody may come in whom the kernel names; if he is a proxy, that may not be all."""
        doors = self.doors
        if doors is None or not doors.has_proxy_protocol:
            return self.lets_in(number, peer)
        why = doors.why_no_proxy(peer.address)
        if why:
            self.context.counters.denied += 1
            self._refuse(peer, why)
        return not why

    def lets_in(self, number: int, peer: Peer) -> bool:
        """Reports whether the real peer of connection `number` may come in, as far as that is known before a request.

        Who is behind an HTTP proxy is known, and counted, when it has sent a request.
        """
        doors, context = self.doors, self.context
        why = "" if doors is None else doors.why_not(peer.address)
        if why:
            context.counters.denied += 1
        elif doors is None or not doors.awaits_request(peer.address):
            why = context.admission.enter(number, peer)
        hook = self.http.hooks.on_filter_network_connection
        if not why and hook is not None and not self._admits("on_filter_network_connection", hook, peer):
            context.admission.forget(number)
            why = "on_filter_network_connection says so"
        if why:
            self._refuse(peer, why)
        return not why

    def _refuse(self, peer: Peer, why: str) -> None:
        self.context.counters.refused += 1
        log.info("listener %s: %s refused: %s", self.sockname, peer, why)

    def _use_tls(self, tls: ServerTls | None) -> None:
        """Take over what speaks TLS here, or make it of the configuration."""
        self.tls = tls or server_tls(self.config)
        if self.tls is not None:
            self.tls.verifier = self._verifies

    def _verifies(self, certificate: Certificate, depth: int, verified: bool) -> bool:
        """Reports whether a certificate that a client has shown is accepted: by OpenSSL, and by the plugin as well."""
        hook = self.http.hooks.on_verify_client_certificate
        admits = hook is None or self._admits("on_verify_client_certificate", hook, certificate, depth, verified)
        return admits and verified

    def _admits(self, name: str, hook: Callable[..., Any], *arguments: Any) -> bool:
        """Reports whether protocol 0's hook lets somebody in; one that raises refuses."""
        where = f"{self.http.protocol.name}.{name}"
        whom = str(arguments[0])
        try:
            answer = hook(*arguments)
        except faults.CATCHABLE as error:
            self.context.counters.plugin_errors += 1
            faults.report_exception(where, error, whom)
            return False
        if answer and not faults.is_answer(answer):
            faults.report_answer(where, answer, whom)
        return not answer

    def close(self) -> None:
        """Stop listening; a Unix socket's file goes too, if it is still ours."""
        self._sock.close()
        if self._inode is not None and _inode(self.config.unix) == self._inode:
            with contextlib.suppress(OSError):
                os.unlink(self.config.unix)


_warnings = log.Throttle()


def server_tls(config: Listen, file: str = "", key: str = "tls") -> ServerTls | None:
    """What speaks TLS on a listener; None: nothing does.

    Args:
        file, key: The configuration file, and where in it `[listen.tls]` is, for the messages.

    Raises:
        ConfigError: it names a certificate, or anything else, that cannot be used.
    """
    if not config.tls.is_on:
        return None
    from wsd.tls_server import HTTP_1_1, ServerTls

    # What a raw listener speaks is for nobody here to know, so no client can be told that it is something else.
    return ServerTls(config.tls, file=file, key=key, alpn=() if config.accept == "raw" else (HTTP_1_1,))


def _sockname(sock: socket.socket) -> str:
    return str(peer_of(sock.getsockname()))


def _local_of(sock: socket.socket) -> Peer | None:
    """Our end of all connections that come in by a listening socket; None: they differ, so each has to be asked."""
    name = peer_of(sock.getsockname())
    if sock.family == socket.AF_UNIX:
        return name
    # With IP_TRANSPARENT a socket also gets what was sent to other addresses than its own.
    is_one = sock.family == socket.AF_INET and not sock.getsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT)
    return name if is_one and name.address != "0.0.0.0" else None


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


# -- binding ----------------------------------------------------------------------------------------------------------


def bind(listen: Listen) -> socket.socket:
    """Open the listening socket that `listen` describes.

    Raises:
        StartError: in use, not ours to bind, no such address or interface; the text names which.
    """
    return _bind_unix(listen) if listen.unix else _bind_tcp(listen)


def _bind_tcp(listen: Listen) -> socket.socket:
    host = listen.interface
    name = f"[{listen.interface}]:{listen.port}" if ":" in listen.interface else f"{listen.interface}:{listen.port}"
    try:
        found = socket.getaddrinfo(
            # As bytes where that is the same: text goes through a codec, whose tables take a millisecond to load.
            (host.encode() if host.isascii() else host) or None,
            listen.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except socket.gaierror as error:
        raise StartError(f"cannot listen on {name}: {error.strerror}") from None
    family, kind, number, _, address = found[0]
    try:
        sock = socket.socket(family, kind, number)
    except OSError as error:  # a kernel without IPv6
        raise StartError(f"cannot listen on {name}: {error.strerror}") from None
    try:
        # A restart must not wait for the old connections' TIME_WAIT; on Linux this lets nobody share a live port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, listen.v6_only)
        sock.bind(address)
        sock.listen(listen.backlog)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {name}: {error.strerror}{_hint(error, listen)}") from None
    return sock


def _hint(error: OSError, listen: Listen) -> str:
    """What the operator can do about it."""
    if error.errno == errno.EADDRINUSE:
        return f" (another program has this port; see: ss -ltnp 'sport = :{listen.port}')"
    if error.errno == errno.EACCES and listen.port < 1024:
        return " (a port below 1024 needs root or CAP_NET_BIND_SERVICE)"
    return ""


def _bind_unix(listen: Listen) -> socket.socket:
    path = listen.unix
    _remove_dead_socket(path)
    uid, gid = _owner(listen)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody may connect before mode and owner are as asked: create it closed, open it last.
    before = os.umask(0o777)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {path}: {error.strerror}") from None
    finally:
        os.umask(before)
    try:
        if (uid, gid) != (-1, -1):
            os.chown(path, uid, gid)
        os.chmod(path, int(listen.unix_mode, 8))
        sock.listen(listen.backlog)
    except OSError as error:
        sock.close()
        os.unlink(path)
        raise StartError(f"cannot listen on {path}: {error.strerror}") from None
    return sock


def _remove_dead_socket(path: str) -> None:
    """Remove a socket file that nobody listens on; refuse one that is alive, and anything that is no socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot listen on {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise StartError(f"cannot listen on {path}: it exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            log.notice("removed dead socket %s", path)
            Path(path).unlink(missing_ok=True)
            return
        except OSError:
            pass  # EAGAIN: its queue is full, so somebody has it; EACCES: not ours to remove
    raise StartError(f"cannot listen on {path}: another program listens there")


def _owner(listen: Listen) -> tuple[int, int]:
    """The numbers of `unix_owner` and `unix_group`, -1 for those that are not set."""
    user, group = listen.unix_owner, listen.unix_group
    try:
        uid = (pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)).pw_uid if user else -1
    except KeyError:
        raise StartError(f"unix_owner: no such user: {listen.unix_owner}", EXIT_CONFIG) from None
    try:
        gid = (grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)).gr_gid if group else -1
    except KeyError:
        raise StartError(f"unix_group: no such group: {listen.unix_group}", EXIT_CONFIG) from None
    return uid, gid
