"""Two programs for many connections at once: a server in one of the loops, and a crowd of clients that comes and goes.

Each is a process of its own, so that each has a table of descriptors of its own:

    python -m tests.support.crowd serve LOOP     prints its port and how many it may hold, and then at each empty line
                                                 what there is; the line "end" ends it, with a report
    python -m tests.support.crowd come PORT MANY TOTAL    opens TOTAL connections, up to MANY at once, and closes them
"""

from __future__ import annotations

import gc
import json
import os
import resource
import socket
import sys
import threading

from tests.support.client import CLOSE, TEXT, close_frame, frame, upgrade_request
from tests.support.context import running
from tests.support.echoes import EchoMessages
from tests.support.loops import loop_of
from tests.support.timing import PATIENCE
from wsd.config import Keepalive
from wsd.wsi import Wsi

# So many are asked before the first answer is read: the server has them all in one batch, and its queue of
# connections, which is some hundreds long, does not overflow.
AT_ONCE = 200


def raise_limit() -> int:
    """Take as many descriptors as there are to be had; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 20_000 if hard == resource.RLIM_INFINITY else min(hard, 20_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def serve(kind: str) -> None:
    """Serve; at the end report what is left of those who were there."""
    raise_limit()
    protocol = EchoMessages()
    with loop_of(kind) as loop:
        before = set(os.listdir("/proc/self/fd"))
        # A place in a round for each, which must not outlive it.
        with running([protocol], loop=loop, keepalive=Keepalive(ping_seconds=3600)) as served:
            context = served.context
            opened = set(os.listdir("/proc/self/fd"))
            print(json.dumps({"port": served.port, "many": context.max_connections}), flush=True)
            while sys.stdin.readline() == "\n":
                now = served.call(lambda: {"connections": context.wsi_count, "looked_at": len(context.rounds)})
                print(json.dumps(now), flush=True)
            report = served.call(
                lambda: {
                    "connections": context.wsi_count,
                    "members": len(protocol.wsis),
                    "looked_at": len(context.rounds),
                    "timers": len(context.timers),
                    "table": len(context._table),
                    "announced": len(loop.ledger.table) if loop else 2,
                    "established": context.counters.established,
                    "ends": protocol.ends.qsize(),
                    "errors": context.counters.bugs + context.counters.plugin_errors + context.counters.protocol_errors,
                }
            )
            gc.collect()
            report["wsis"] = sum(isinstance(one, Wsi) for one in gc.get_objects())
            report["descriptors"] = len(set(os.listdir("/proc/self/fd")) - opened)
        report["descriptors_after"] = len(set(os.listdir("/proc/self/fd")) - before)
        report["threads"] = threading.active_count() - 1
        print(json.dumps(report), flush=True)


class Crowd:
    """Connections to one port, of which each says something and is answered."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: list[socket.socket] = []

    def come(self, count: int) -> None:
        """Open so many more."""
        for start in range(0, count, AT_ONCE):
            new = [
                socket.create_connection(("127.0.0.1", self.port), PATIENCE) for _ in range(min(AT_ONCE, count - start))
            ]
            self.sockets += new
            for sock in new:
                sock.sendall(upgrade_request() + frame(TEXT, "here"))
            for sock in new:
                self._expect(sock, b"\x81\x04here")

    def go(self) -> None:
        """Close all: of three, one in order, one with a FIN alone, one with a reset."""
        for start in range(0, len(self.sockets), AT_ONCE):
            some = self.sockets[start : start + AT_ONCE]
            for sock in some[::3]:
                sock.sendall(close_frame(1000))
            for sock in some[::3]:
                self._expect(sock, bytes([0x80 | CLOSE, 2, 3, 0xE8]))
            for sock in some[1::3]:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            for sock in some:
                sock.close()
        self.sockets.clear()

    @staticmethod
    def _expect(sock: socket.socket, end: bytes) -> None:
        data = b""
        while not data.endswith(end):
            more = sock.recv(4096)
            assert more, data
            data += more


def come(port: int, many: int, total: int) -> None:
    """A crowd of `many` after the other, until `total` have come; a line is printed, and one awaited, when each is."""
    many = min(many, total, raise_limit() - 100)
    crowd = Crowd(port)
    while total:
        crowd.come(min(many, total))
        total -= len(crowd.sockets)
        print(len(crowd.sockets), flush=True)
        sys.stdin.readline()
        crowd.go()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        come(*(int(argument) for argument in sys.argv[2:]))
