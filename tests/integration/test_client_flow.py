"""Both ends of a connection are ours, and both have more to say than fits into the kernel."""

from __future__ import annotations

import queue
from typing import Any

from tests.support.context import running
from tests.support.timing import PATIENCE
from wsd.config import Limits
from wsd.protocol import Protocol

COUNT = 50_000
MESSAGE = b"x" * 100


class Talker(Protocol):
    """Says all it has at once, and counts what it hears."""

    name = "talker"

    def __init__(self) -> None:
        self.heard = {True: 0, False: 0}
        self.done: queue.Queue[bool] = queue.Queue()

    def on_established(self, wsi: Any) -> None:
        for _ in range(COUNT):
            wsi.send(MESSAGE)

    def on_message(self, wsi: Any, message: bytes) -> None:
        self.heard[wsi.is_client] += 1
        if self.heard[wsi.is_client] == COUNT:
            self.done.put(wsi.is_client)


def test_two_ends_that_both_wait_for_a_reader_do_not_wait_for_each_other() -> None:
    talker = Talker()
    with running([talker], limits=Limits(max_queue_bytes=1 << 30)) as served:
        served.call(lambda: served.context.client_connect(f"ws://127.0.0.1:{served.port}/", protocol=talker))
        assert {talker.done.get(timeout=3 * PATIENCE), talker.done.get(timeout=3 * PATIENCE)} == {True, False}
        assert served.context.counters.slow_readers == 0
