"""A worker thread that feeds connections: it computes what they ask for while the loop serves everybody else.

Each message is stretched into a key, which takes long on purpose, and the key is the answer.  In two terminals:

    python docs/examples/worker_thread.py --port 7681
    wsd connect ws://127.0.0.1:7681/

A context belongs to one thread, and `context.cancel_service()` is the only call that another may make.  So the worker
puts its result in a queue and makes that call; `on_wakeup` runs in the loop's thread soon after, and sends.
"""

from __future__ import annotations

import argparse
import hashlib
import signal
from queue import SimpleQueue
from threading import Thread
from typing import Any

from wsd import Context, Protocol, Wsi

SALT = b"docs/examples/worker_thread.py"
ROUNDS = 20_000  # some ten milliseconds; hashlib lets other threads run meanwhile


class Stretcher(Protocol):
    """Answers each message with its key."""

    name = "stretcher"

    def on_protocol_init(self, context: Context, options: Any) -> None:
        self.jobs: SimpleQueue[tuple[Wsi, bytes] | None] = SimpleQueue()
        self.results: SimpleQueue[tuple[Wsi, str]] = SimpleQueue()
        self.worker = Thread(target=self.work, name="stretcher")
        self.worker.start()

    def on_message(self, wsi: Wsi, message: str | bytes) -> None:
        # One job of each connection at a time: its next message waits where it is, and the queue stays short.
        wsi.rx_flow_control(False)
        self.jobs.put((wsi, message.encode() if isinstance(message, str) else message))

    def work(self) -> None:
        """In the worker's thread, which hands the wsi on, and touches neither it nor the context otherwise."""
        while (job := self.jobs.get()) is not None:
            wsi, message = job
            self.results.put((wsi, hashlib.pbkdf2_hmac("sha256", message, SALT, ROUNDS).hex()))
            self.context.cancel_service()

    def on_wakeup(self) -> None:
        # Many calls may become one wake-up, and it comes for the calls of others too: so there are several, or none.
        while not self.results.empty():
            wsi, key = self.results.get()
            wsi.send(key)  # on one that was closed meanwhile, both calls answer CLOSE and do nothing
            wsi.rx_flow_control(True)

    def on_protocol_destroy(self) -> None:
        self.jobs.put(None)
        self.worker.join()


def main() -> None:
    parser = argparse.ArgumentParser(description="A WebSocket server that computes in a thread.")
    parser.add_argument("--port", type=int, default=7681, help="0: any")
    arguments = parser.parse_args()
    with Context([Stretcher()]) as context:
        listener = context.listen(port=arguments.port)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: context.stop())
        print(listener.url, flush=True)
        context.run()


if __name__ == "__main__":
    main()
