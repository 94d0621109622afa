"""wsd in an asyncio program: its loop polls for both, and coroutines and WebSockets live in one thread.

What connects to the feed port and sends lines has each of them told to every WebSocket, by a coroutine; what a
WebSocket says goes to all of them too.  In three terminals:

    python docs/examples/asyncio_loop.py --port 7681 --feed-port 7682
    wsd connect ws://127.0.0.1:7681/
    echo hello | nc 127.0.0.1 7682

`AsyncioLoop` is protocol 0 of its context, whose hooks are told which descriptors wsd wants polled, and for what.
wsd's hooks are no coroutines: to await something, start a task in the hook and send from there.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from select import POLLIN, POLLOUT

from wsd import Context, PollFd, Protocol, Tls, Wsi


class AsyncioLoop(Protocol):
    """Has an asyncio loop poll what wsd asks for.

    asyncio polls nothing for errors alone.  So a peer that vanishes while its connection is paused, by
    `rx_flow_control(False)`, is noticed when that goes on.
    """

    name = "asyncio-loop"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.timer: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()

    # -- what wsd wants ---------------------------------------------------------------------------------------------

    def on_add_poll_fd(self, fd: int, events: int) -> None:
        self.watch(fd, events)

    def on_del_poll_fd(self, fd: int) -> None:
        self.unwatch(fd, POLLIN | POLLOUT)

    def on_set_mode_poll_fd(self, fd: int, events: int) -> None:
        self.watch(fd, events)

    def on_clear_mode_poll_fd(self, fd: int, events: int) -> None:
        self.unwatch(fd, events)

    def watch(self, fd: int, events: int) -> None:
        if events & POLLIN:
            self.loop.add_reader(fd, self.service, fd, POLLIN)
        if events & POLLOUT:
            self.loop.add_writer(fd, self.service, fd, POLLOUT)

    def unwatch(self, fd: int, events: int) -> None:
        if events & POLLIN:
            self.loop.remove_reader(fd)
        if events & POLLOUT:
            self.loop.remove_writer(fd)

    # -- serving it -------------------------------------------------------------------------------------------------

    def service(self, fd: int, ready: int) -> None:
        """Have wsd serve what is ready."""
        self.come_back(self.context.service_fd(PollFd(fd, ready, ready)))

    def service_due(self) -> None:
        """Have wsd do what is due."""
        self.come_back(self.context.service_fd(None))

    def come_back(self, seconds: float | None) -> None:
        """wsd has work again in so many seconds, or, with None, when something is ready."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None if seconds is None else self.loop.call_later(seconds, self.service_due)
        if self.context.stopping and not self.context.wsi_count:
            self.ended.set()

    async def run(self) -> None:
        """Until `context.stop()` was called and every connection of wsd's has ended."""
        self.service_due()
        await self.ended.wait()
        if self.timer is not None:
            self.timer.cancel()


class Room(Protocol):
    """What one says, everybody hears."""

    name = "room"

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        self.broadcast(message)


async def serve(port: int, feed_port: int, tls: Tls) -> None:
    """Serve both until SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    polled, room = AsyncioLoop(loop), Room()

    async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async for line in reader:
                # Said outside of wsd's own turn: its wake-up descriptor becomes ready, and has it sent.
                room.broadcast(line.decode(errors="replace").rstrip("\n"))
        except (OSError, ValueError, asyncio.CancelledError):  # it was reset, sends no lines, or the program ends
            pass
        finally:
            writer.close()

    with Context([polled, room], external_poll=True) as context:
        listener = context.listen(port=port, protocols=[room], tls=tls)
        server = await asyncio.start_server(feed, "127.0.0.1", feed_port)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, context.stop)
        print(f"{listener.url} feed 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await polled.run()
        server.close()  # asyncio.run() ends the tasks of those who are still connected


def main() -> None:
    parser = argparse.ArgumentParser(description="A WebSocket server and a feed of lines in one asyncio loop.")
    parser.add_argument("--port", type=int, default=7681, help="of the WebSockets; 0: any")
    parser.add_argument("--feed-port", type=int, default=7682, help="of the feed; 0: any")
    parser.add_argument("--certificate", default="", help="a PEM file, key included: serve wss:// with it")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, arguments.feed_port, Tls(certificate=arguments.certificate)))


if __name__ == "__main__":
    main()
