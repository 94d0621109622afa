"""wsd in a `selectors` loop, beside another server: one of the standard library's `socketserver`.

Each datagram that comes to the feed port is told to every WebSocket; what a WebSocket says goes to all of them too.
In three terminals:

    python docs/examples/selectors_loop.py --port 7681 --feed-port 7682
    wsd connect ws://127.0.0.1:7681/
    echo hello | nc -u -w 1 127.0.0.1 7682

`SelectorsLoop` is protocol 0 of its context, whose hooks are told which descriptors wsd wants polled, and for what.
"""

from __future__ import annotations

import argparse
import selectors
import signal
import socketserver
from collections.abc import Callable
from select import POLLIN, POLLOUT

from wsd import Context, PollFd, Protocol, Tls, Wsi

# wsd has poll's names for them, the module its own.
EVENTS = ((POLLIN, selectors.EVENT_READ), (POLLOUT, selectors.EVENT_WRITE))


class SelectorsLoop(Protocol):
    """Has a selector poll what wsd asks for together with what is yours, until the context has stopped.

    A selector's data is, for what is yours, the function to call, and None for what is wsd's.

    The module polls nothing for errors alone.  So a peer that vanishes while its connection is paused, by
    `rx_flow_control(False)`, is noticed when that goes on.
    """

    name = "selectors-loop"

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        self.wanted: dict[int, int] = {}  # wsd's descriptors, and what each is polled for

    # -- what wsd wants ---------------------------------------------------------------------------------------------

    def on_add_poll_fd(self, fd: int, events: int) -> None:
        self.wanted[fd] = 0
        self.change(fd, events)

    def on_del_poll_fd(self, fd: int) -> None:
        self.change(fd, 0)
        del self.wanted[fd]

    def on_set_mode_poll_fd(self, fd: int, events: int) -> None:
        self.change(fd, self.wanted[fd] | events)

    def on_clear_mode_poll_fd(self, fd: int, events: int) -> None:
        self.change(fd, self.wanted[fd] & ~events)

    def change(self, fd: int, events: int) -> None:
        """Poll for `events` from now on; a selector wants nothing to do with what is polled for nothing."""
        before, self.wanted[fd] = self.wanted[fd], events
        mask = sum(theirs for ours, theirs in EVENTS if events & ours)
        if not before and events:
            self.selector.register(fd, mask)
        elif before and not events:
            self.selector.unregister(fd)
        elif before != events:
            self.selector.modify(fd, mask)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve both until `context.stop()` was called and every connection of wsd's has ended."""
        while True:
            # None: wsd does what is due, and answers how long we may sleep.
            seconds = self.context.service_fd(None)
            if self.context.stopping and not self.context.wsi_count:
                return
            for key, mask in self.selector.select(seconds):
                if key.data is not None:
                    key.data()
                else:
                    revents = sum(ours for ours, theirs in EVENTS if mask & theirs)
                    self.context.service_fd(PollFd(key.fd, self.wanted.get(key.fd, 0), revents))


class Room(Protocol):
    """What one says, everybody hears."""

    name = "room"

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        self.broadcast(message)


class Feed(socketserver.UDPServer):
    """Another server in the same loop: tells each datagram that it gets to `tell`.

    Raises:
        OSError: the port cannot be bound.
    """

    timeout = 0  # of handle_request(): it is called when there is something

    def __init__(self, port: int, tell: Callable[[str], None]) -> None:
        self.tell = tell
        super().__init__(("127.0.0.1", port), socketserver.DatagramRequestHandler)

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, tuple)  # of the datagram and the socket to answer by
        # Said outside of wsd's own turn: its wake-up descriptor becomes ready, and has it sent.
        self.tell(request[0].decode(errors="replace").rstrip("\n"))


def main() -> None:
    parser = argparse.ArgumentParser(description="A WebSocket server and a feed of datagrams in one selectors loop.")
    parser.add_argument("--port", type=int, default=7681, help="of the WebSockets; 0: any")
    parser.add_argument("--feed-port", type=int, default=7682, help="of the feed; 0: any")
    parser.add_argument("--certificate", default="", help="a PEM file, key included: serve wss:// with it")
    arguments = parser.parse_args()
    with selectors.DefaultSelector() as selector:
        loop, room = SelectorsLoop(selector), Room()
        with Context([loop, room], external_poll=True) as context, Feed(arguments.feed_port, room.broadcast) as feed:
            listener = context.listen(port=arguments.port, protocols=[room], tls=Tls(certificate=arguments.certificate))
            selector.register(feed, selectors.EVENT_READ, feed.handle_request)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: context.stop())
            print(f"{listener.url} feed 127.0.0.1:{feed.server_address[1]}", flush=True)
            loop.run()


if __name__ == "__main__":
    main()
