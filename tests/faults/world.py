"""One context, a peer that talks to it, a connection beside that, and a schedule of faults; all in one thread.

Owns time, which moves only when nothing else does, and what must hold when all is over.  Must not know what is said in
a conversation.  The peers are real and so are their sockets; where one has to wait, the context has its turns.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from struct import Struct
from typing import Any, ClassVar, Final
from unittest import mock

from tests.faults.peers import Stalled, Stepped, SteppedServer, short
from tests.faults.plugins import Echo, Record
from tests.faults.syscalls import FaultySocket, Schedule, in_charge, instead
from tests.support.client import TEXT, frame
from tests.support.timing import MS
from wsd import faults, log
from wsd.config import Keepalive
from wsd.context import Context

# A conversation has some hundred turns; more without an end is a loop that spins.
_MOST_TURNS: Final = 5000

# Turns in a row that bring nothing though something was ready: the schedule says so, and time has to pass.
_IDLE_TURNS: Final = 30


_SIOCOUTQNSD: Final = 0x894B  # linux/sockios.h: "output queue size (not sent only)"
_INT: Final = Struct("i")  # what it fills in

# What the context means to look at again.
_LISTS: Final = ("_writers", "_backlogs", "_dead", "_due")


class Clock:
    """`time.monotonic`, which stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


def polled_by(poller: Any) -> set[int]:
    """The descriptors that the kernel polls for it (proc(5): fdinfo of an epoll descriptor)."""
    lines = Path(f"/proc/self/fdinfo/{poller.fileno()}").read_text().splitlines()
    return {int(line.split()[1]) for line in lines if line.startswith("tfd:")}


class World:
    """What a conversation takes place in.

    Args:
        door: A listening socket, of which the context gets a copy.
        schedule: Of the faults that befall all sockets but the listener's and the one beside.
        protocols: Made with the record.
        listen: Further fields of the listener.
        listen_tls: What speaks TLS there; None: nothing.
        context: Further arguments of the context.
    """

    schemes: ClassVar = {"ws": "ws", "tcp": "tcp"}
    client_tls: Any = None
    """How our clients verify servers; None: they speak no TLS."""

    def __init__(
        self,
        door: socket.socket,
        schedule: Schedule,
        protocols: Sequence[type],
        *,
        listen: dict[str, Any] | None = None,
        listen_tls: Any = None,
        **context: Any,
    ) -> None:
        self.schedule = schedule
        self.clock = Clock()
        self.peers: list[Stepped] = []
        self.bugs: list[str] = []
        self.record = Record()
        self.uploads: list[bytes] = []  # the bodies that requests bring
        self._door = door
        self._listen = {"tls": listen_tls, **(listen or {})}
        self.protocols = [protocol(self.record) for protocol in protocols]
        self._arguments = {"keepalive": Keepalive(ping_seconds=0), **context}
        self._stack = ExitStack()
        self._turns = 0
        self._idle = 0
        self._brought: tuple[int, ...] = ()

    def __enter__(self) -> World:
        with ExitStack() as stack:
            before = log.level(), log.emitter()
            stack.callback(lambda: log.set_level(*before))
            log.set_level(0)
            for module in [module for name, module in sys.modules.items() if name.startswith("wsd.")]:
                if getattr(module, "time", None) is time:
                    stack.enter_context(
                        mock.patch.object(module, "time", instead(time, monotonic=self.clock.monotonic, time=lambda: 0))
                    )
            stack.enter_context(mock.patch.object(faults, "report_bug", self._note_bug))
            stack.enter_context(self.in_charge())
            _drain(self._door)
            self.context = Context(self.protocols, **self._arguments)
            stack.callback(self.context.close)
            copy = FaultySocket.listening(self.schedule, self._door.dup())
            echoes = [protocol for protocol in self.protocols if isinstance(protocol, Echo)]
            self.listener = self.context.listen(sock=copy, protocols=self.protocols, **self._listen)
            beside, served = socket.socketpair()
            self.beside = Stepped(self, beside)
            stack.callback(beside.close)
            self.wsi_beside = self.context.adopt_socket(served, echoes[0])
            self.beside.open()
            stack.enter_context(mock.patch.object(self.context._poller, "add", self._polled(self.context._poller.add)))
            self.schedule.is_armed = True
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        for peer in self.peers:
            peer.disconnect()
        for sock in self.schedule.left_open:
            sock.close()

    def in_charge(self) -> AbstractContextManager[None]:
        """While it lasts, the schedule is asked about every call."""
        return in_charge(self.schedule)

    def _polled(self, add: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """What the poller does for a new descriptor; it may fail: max_user_watches is for all of a user's."""

        def add_or_fail(fd: int, mask: int) -> None:
            self.schedule.step("epoll_ctl")
            add(fd, mask)

        return add_or_fail

    def _note_bug(self, error: BaseException) -> None:
        self.bugs.append("".join(traceback.format_exception(error)))

    # -- time -----------------------------------------------------------------------------------------------------

    def advance(self, waiting: socket.socket | None = None) -> None:
        """One turn of the context; time moves on if nothing else does.

        Args:
            waiting: Whose peer wants to read: there is no need to wait for anything if something has come.

        Raises:
            Stalled: nothing happens any more.
        """
        if self.is_ready(0) or self.is_ready(1 * MS, waiting) or (waiting is not None and self._arrives(waiting)):
            self.turn()
            self._idle = 0 if self._has_brought() else self._idle + 1
            if self._idle < _IDLE_TURNS:
                return
        self._idle = 0
        due = self.context.timers.next_deadline()
        if due is None:
            raise Stalled
        self.clock.now = max(self.clock.now, due)
        self.turn()

    def is_ready(self, seconds: float, waiting: socket.socket | None = None) -> bool:
        """Reports whether the context has something to do within that (real) time, or a peer."""
        if self.context._wait(None) == 0:
            return True
        watched = [self.context._poller] if waiting is None else [self.context._poller, waiting]
        return bool(select.select(watched, [], [], seconds)[0])

    def turn(self) -> None:
        """One turn."""
        self._turns += 1
        assert self._turns < _MOST_TURNS, f"the context spins: {self.schedule!r}"
        self.context.service(0)

    def _arrives(self, waiting: socket.socket) -> bool:
        """Reports whether something comes that is on its way already: a window that was full opens when the kernel's
        own clocks say so."""
        deadline = time.monotonic() + 1000 * MS
        while time.monotonic() < deadline and self._is_on_its_way(waiting):
            if self.is_ready(5 * MS, waiting):
                return True
        return False

    def _is_on_its_way(self, waiting: socket.socket) -> bool:
        """Reports whether the kernel has bytes of ours for this peer that it could not send yet."""
        try:
            far = next(sock for sock in self.schedule.left_open if sock.is_connected_to(waiting.getsockname()))
        except StopIteration:
            return False
        return bool(_INT.unpack(fcntl.ioctl(far, _SIOCOUTQNSD, bytes(_INT.size)))[0])

    def _has_brought(self) -> bool:
        """Reports whether the last turn was of use."""
        counters = self.context.counters
        brought = (
            counters.bytes_received,
            counters.bytes_sent,
            counters.accepted,
            self.context.wsi_count,
            sum(map(len, self.record.calls.values())),
        )
        before, self._brought = self._brought, brought
        return brought != before

    def settle(self) -> None:
        """Turns until there is nothing to do; time stands still."""
        idle = 0
        while self.is_ready(0) and idle < _IDLE_TURNS:
            self.turn()
            idle = 0 if self._has_brought() else idle + 1

    def sleep(self, seconds: float) -> None:
        """So much time goes by, and the context has its turns."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            if self.is_ready(0):
                self.turn()
            else:
                self.clock.now += 0.01

    # -- peers ----------------------------------------------------------------------------------------------------

    def client(self, **options: Any) -> Stepped:
        """A new client of the listener, connected as far as the kernel does that."""
        sock = socket.socket()
        try:
            for name, value in options.items():
                sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
            sock.connect(self._door.getsockname())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return self.peer_of(sock)

    def peer_of(self, sock: socket.socket) -> Stepped:
        """Who sits at a socket that has been connected to the context."""
        return Stepped(self, sock)

    def server_of(self, sock: socket.socket) -> SteppedServer:
        """Who sits at a socket that the context has connected."""
        return SteppedServer(self, sock)

    def connect(self, door: socket.socket, *, scheme: str = "ws", protocol: str = "echo") -> Any:
        """Have the context connect to a listening socket of ours; gives its wsi."""
        url = f"{self.schemes[scheme]}://127.0.0.1:{door.getsockname()[1]}"
        wsi = self.context.client_connect(url, protocol=protocol, tls=self.client_tls)
        self.record.connects.append(wsi)
        return wsi

    def accept(self, door: socket.socket) -> SteppedServer:
        """The next connection of the context to a listening socket of ours."""
        door.setblocking(False)
        while True:
            try:
                return self.server_of(door.accept()[0])
            except BlockingIOError:
                self.advance(door)

    def beside_speaks(self) -> None:
        """The one beside says something, and waits for no answer yet."""
        if self.schedule.is_armed:
            text = f"beside {len(self.beside.said)}"
            self.beside.said.append(text.encode())
            self.beside.send(frame(TEXT, text))

    # -- the end --------------------------------------------------------------------------------------------------

    def finish(self, *, stops: bool = False) -> None:
        """Everybody hangs up; the one beside is served to the last; then the context is closed.  All must hold.

        Args:
            stops: The context is stopped first, which is the end of the one beside as well.
        """
        if stops:
            self._stop()
            return
        for peer in self.peers:
            if peer is not self.beside:
                peer.disconnect()
        self.beside_speaks()
        self.settle()
        try:
            self._let_end()
        except Stalled:
            # As long as its own end hopes for more, a connection that nobody has told of anything stays.
            self.schedule.has_given_up = True
            try:
                self._let_end()
            except Stalled:
                self._fail([f"left: {self._state()}"])
        # A listener that rests lets go of its own accord; anything else must not have been left to time.
        timers = self.context.timers
        left = [timer.function for home in (timers._at_front, *timers._buckets.values()) for timer in home]
        problems = [f"a timer: {function}" for function in left if not _is_rest(function)]
        while len(self.context.timers):
            self.advance()
        while len(self.beside.ear.messages) < len(self.beside.said):  # type: ignore[union-attr]
            self.beside._fill(0)
        problems += self._left() + [f"left open: {sock!r}" for sock in self.schedule.left_open if not sock._listens]
        self.beside.finish()
        while self.context.wsi_count:
            self.advance()
        self._close(problems)

    def _close(self, problems: list[str]) -> None:
        """The context is closed, and every account settled."""
        self.context.close()
        problems += [f"left open: {sock!r}" for sock in self.schedule.left_open]
        problems += self.record.problems()
        for peer in self.peers:
            problems += peer.problems()
        problems += self._order()
        names = [protocol.name for protocol in self.protocols]
        if self.record.destroyed != names:
            problems.append(f"on_protocol_destroy of {self.record.destroyed}, not of {names}")
        self._fail(problems + self.bugs)

    def _stop(self) -> None:
        self.context.stop()
        self.context.stop()  # which changes nothing
        try:
            self._let_end(0)
        except Stalled:
            self._fail([f"a stop leaves {self._state()}"])
        self.settle()
        assert not self.context.listeners
        assert self.beside.receive_close().close_code == 1001
        left = [f"{name}: {getattr(self.context, name)}" for name in _LISTS if getattr(self.context, name)]
        # Those that a stop sets for connections which may have no end of their own; they are for nobody by now.
        while len(self.context.timers):
            self.advance()
        self._close(left)

    def _let_end(self, left: int = 1) -> None:
        while self.context.wsi_count > left:
            self.advance()

    def _state(self) -> str:
        return ", ".join(f"{wsi!r} in {wsi._state}, mask {wsi._mask}, hold {wsi._hold}" for wsi in self.context._wsis)

    def _left(self) -> list[str]:
        """What the context still holds beside the connection that is left."""
        context = self.context
        problems = [f"{name}: {getattr(context, name)}" for name in _LISTS if getattr(context, name)]
        descriptors = {context._wakeup, self.listener.fileno(), *(wsi.fileno() for wsi in context._wsis)}
        if not set(context._table) == descriptors == polled_by(context._poller):
            problems.append(f"polled: {set(context._table)}, not {descriptors}")
        if context.memory.held or context.memory._holders:
            problems.append(f"the account of memory: {context.memory.held} of {context.memory._holders}")
        if context.admission.handshakes:
            problems.append(f"{context.admission.handshakes} in their handshake")
        if self.listener.count:
            problems.append(f"the listener counts {self.listener.count} connections")
        counts = {binding.protocol.name: binding.wsi_count for binding in context.bindings.values()}
        if sum(counts.values()) != 1:
            problems.append(f"connections by protocol: {counts}")
        if not context._accepting:
            problems.append("nobody is accepted any more")
        if context.counters.plugin_errors:
            problems.append(f"{context.counters.plugin_errors} errors of plugins")
        if context.counters.bugs != len(self.bugs):
            problems.append("a bug that was not reported")
        return problems

    def _order(self) -> Iterator[str]:
        """What each wsi received is what one peer said, in order, as far as it came."""
        for wsi, messages in self.record.messages.items():
            heard = [message.encode() if isinstance(message, str) else message for message in messages]
            if not any(heard == peer.said[: len(heard)] for peer in self.peers):
                yield f"{wsi!r} received what nobody said: {short(heard)}"
        for wsi, data in self.record.bytes.items():
            if not any(whole.startswith(data) for whole in [*self.uploads, *(peer.sent for peer in self.peers)]):
                yield f"{wsi!r} received what nobody sent: {data[:40]!r} ({len(data)})"

    def _fail(self, problems: Sequence[str]) -> None:
        assert not problems, f"with {self.schedule!r}:\n" + "\n".join(problems)


def _is_rest(function: Any) -> bool:
    return getattr(function, "__name__", "") == "_resume_accepting"


def _drain(door: socket.socket) -> None:
    """Nobody waits there from the last time."""
    door.setblocking(False)
    try:
        while True:
            door.accept()[0].close()
    except BlockingIOError:
        pass


@contextmanager
def new_door(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A listening socket for many worlds, one after the other."""
    with socket.create_server((host, 0), backlog=64) as door:
        # What is accepted inherits it: small enough that an answer of some size is taken in parts.
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        yield door


def descriptors() -> list[str]:
    """The numbers that are open."""
    return sorted(os.listdir("/proc/self/fd"))
