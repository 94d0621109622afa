"""wsd in a loop that you wrote yourself, around `select.poll`, beside a server of your own.

What connects to the feed port and sends lines has each of them told to every WebSocket; what a WebSocket says goes to
all of them too.  In three terminals:

    python docs/examples/poll_loop.py --port 7681 --feed-port 7682
    wsd connect ws://127.0.0.1:7681/
    echo hello | nc 127.0.0.1 7682

`PollLoop` is protocol 0 of its context, whose hooks are told which descriptors wsd wants polled, and for what.
"""

from __future__ import annotations

import argparse
import math
import select
import signal
import socket
from collections.abc import Callable

from wsd import Context, PollFd, Protocol, Tls, Wsi


class PollLoop(Protocol):
    """Polls what wsd asks for together with what is yours, until the context has stopped."""

    name = "poll-loop"

    def __init__(self) -> None:
        self.poll = select.poll()
        self.wanted: dict[int, int] = {}  # wsd's descriptors, and what each is polled for
        self.own: dict[int, Callable[[], None]] = {}  # yours, and what to call when there is something to read

    # -- what wsd wants ---------------------------------------------------------------------------------------------

    def on_add_poll_fd(self, fd: int, events: int) -> None:
        self.wanted[fd] = events
        self.poll.register(fd, events)

    def on_del_poll_fd(self, fd: int) -> None:
        del self.wanted[fd]
        self.poll.unregister(fd)

    def on_set_mode_poll_fd(self, fd: int, events: int) -> None:
        self.wanted[fd] |= events
        self.poll.modify(fd, self.wanted[fd])

    def on_clear_mode_poll_fd(self, fd: int, events: int) -> None:
        self.wanted[fd] &= ~events
        self.poll.modify(fd, self.wanted[fd])

    # -- what is yours ----------------------------------------------------------------------------------------------

    def watch(self, sock: socket.socket, function: Callable[[], None]) -> None:
        """Call `function()` whenever `sock` can be read."""
        self.own[sock.fileno()] = function
        self.poll.register(sock, select.POLLIN)

    def unwatch(self, sock: socket.socket) -> None:
        """The end of `watch`, before `sock` is closed."""
        del self.own[sock.fileno()]
        self.poll.unregister(sock)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve both until `context.stop()` was called and every connection of wsd's has ended."""
        while True:
            # None: wsd does what is due, and answers how long we may sleep.
            seconds = self.context.service_fd(None)
            if self.context.stopping and not self.context.wsi_count:
                return
            # Rounded up: poll counts milliseconds, and would spin through the last part of one.
            for fd, revents in self.poll.poll(None if seconds is None else math.ceil(seconds * 1000)):
                ready = PollFd(fd, self.wanted.get(fd, 0), revents)
                self.context.service_fd(ready)
                # wsd leaves alone what is not its own.  A descriptor may have gone while its neighbours were served.
                if ready.revents and fd in self.own:
                    self.own[fd]()


class Room(Protocol):
    """What one says, everybody hears."""

    name = "room"

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        self.broadcast(message)


class Feed:
    """A server of your own, in the same loop: tells each line that it gets to `tell`.

    Raises:
        OSError: the port cannot be listened on.
    """

    MAX_LINE_BYTES = 65_536  # a peer that sends more without a newline is not sending lines

    def __init__(self, loop: PollLoop, port: int, tell: Callable[[str], None]) -> None:
        self.loop = loop
        self.tell = tell
        self.lines: dict[socket.socket, bytes] = {}  # of each peer, the line that it has begun
        self.listener = socket.create_server(("127.0.0.1", port))
        self.listener.setblocking(False)
        loop.watch(self.listener, self.accept)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listener.getsockname()[1])

    def accept(self) -> None:
        try:
            peer, _ = self.listener.accept()
        except OSError:  # it was gone before we came
            return
        peer.setblocking(False)
        self.lines[peer] = b""
        self.loop.watch(peer, lambda: self.read(peer))

    def read(self, peer: socket.socket) -> None:
        try:
            data = peer.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *whole, rest = (self.lines[peer] + data).split(b"\n")
        for line in whole:
            # Said outside of wsd's own turn: its wake-up descriptor becomes ready, and has it sent.
            self.tell(line.decode(errors="replace"))
        self.lines[peer] = rest
        if not data or len(rest) > self.MAX_LINE_BYTES:
            self.drop(peer)

    def drop(self, peer: socket.socket) -> None:
        del self.lines[peer]
        self.loop.unwatch(peer)
        peer.close()

    def close(self) -> None:
        """Close everything."""
        for peer in tuple(self.lines):
            self.drop(peer)
        self.loop.unwatch(self.listener)
        self.listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A WebSocket server and a feed of lines in one hand-written loop.")
    parser.add_argument("--port", type=int, default=7681, help="of the WebSockets; 0: any")
    parser.add_argument("--feed-port", type=int, default=7682, help="of the feed; 0: any")
    parser.add_argument("--certificate", default="", help="a PEM file, key included: serve wss:// with it")
    arguments = parser.parse_args()
    loop, room = PollLoop(), Room()
    with Context([loop, room], external_poll=True) as context:
        listener = context.listen(port=arguments.port, protocols=[room], tls=Tls(certificate=arguments.certificate))
        feed = Feed(loop, arguments.feed_port, room.broadcast)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: context.stop())
        print(f"{listener.url} feed 127.0.0.1:{feed.port}", flush=True)
        loop.run()
        feed.close()


if __name__ == "__main__":
    main()
