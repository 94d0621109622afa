"""Node's `ws` as a peer, at either end: `node/peer.mjs` in a process of its own, driven by JSON lines."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peers import Deflate, Fragmenting, Message, NotTheEnd, Server
from tests.support.programs import require_program
from tests.support.timing import PATIENCE

FOLDER = Path(__file__).parent / "node"


def require_ws() -> str:
    """The path of Node; without it or its `ws` library the test is skipped, saying what to install."""
    node = require_program("node", package="nodejs")
    if not (FOLDER / "node_modules" / "ws").is_dir():
        pytest.skip("ws for Node is not installed: npm ci --prefix tests/interop/node")
    return node


class Node:
    """The process: commands in, events out."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [require_ws(), str(FOLDER / "peer.mjs"), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        self.buffer = bytearray()

    def tell(self, do: str, **fields: object) -> None:
        self.input.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        self.input.flush()

    def expect(self, event: str) -> dict[str, Any]:
        """The next event, which must be this one."""
        got = self.next()
        assert got["event"] == event, str(got)[:1000]
        return got

    def next(self) -> dict[str, Any]:
        got: dict[str, Any] = json.loads(self._line())
        return got

    def _line(self) -> bytes:
        deadline = time.monotonic() + 3 * PATIENCE
        searched = 0
        while (end := self.buffer.find(b"\n", searched)) < 0:
            searched = len(self.buffer)
            ready, _, _ = select.select([self.output], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nothing more from Node in time; so far {self.buffer[:200]!r}"
            data = os.read(self.output.fileno(), 262144)
            assert data, f"Node ended; so far {self.buffer[:200]!r}"
            self.buffer += data
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line

    def stop(self) -> None:
        self.input.close()  # it ends with its input
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.output.close()


class NodePeer(Fragmenting):
    def __init__(self, node: Node) -> None:
        self.node = node
        opened = node.expect("open")
        self.subprotocol = opened["subprotocol"]
        self.extensions = opened["extensions"]

    def send(self, message: Message) -> None:
        self.send_fragments([message])

    def send_fragments(self, fragments: Sequence[Message]) -> None:
        for index, part in enumerate(fragments):
            binary = isinstance(part, bytes)
            data = base64.b64encode(part).decode() if isinstance(part, bytes) else part
            self.node.tell("send", data=data, binary=binary, final=index == len(fragments) - 1)

    def receive(self) -> Message:
        got = self.node.expect("message")
        data: str = got["data"]
        return base64.b64decode(data) if got["binary"] else data

    def ping(self, payload: bytes) -> None:
        self.node.tell("ping", data=base64.b64encode(payload).decode())
        assert base64.b64decode(self.node.expect("pong")["data"]) == payload

    def close(self, code: int, reason: str = "") -> int:
        self.node.tell("close", code=code, reason=reason)
        return self.end()[0]

    def end(self) -> tuple[int, str]:
        got = self.node.next()
        if got["event"] != "close":
            raise NotTheEnd(str(got)[:200])
        return got["code"], got["reason"]


def _options(deflate: Deflate | None, *, is_client: bool) -> str:
    """`deflate` as ws takes it; a threshold of 0, since by default it leaves small messages as they are."""
    if deflate is None:
        return "false"
    options: dict[str, object] = {"threshold": 0}
    if is_client:
        options["clientMaxWindowBits"] = False  # else it offers that one unasked
    names = ("serverNoContextTakeover", "clientNoContextTakeover", "serverMaxWindowBits", "clientMaxWindowBits")
    for name, value in zip(names, deflate, strict=True):
        if value:
            options[name] = True if value == 1 else value
    return json.dumps(options)


@contextmanager
def connect_node(url: str, subprotocol: str, deflate: Deflate | None) -> Iterator[NodePeer]:
    node = Node("client", url, subprotocol, _options(deflate, is_client=True))
    try:
        yield NodePeer(node)
    finally:
        node.stop()


class NodeServer(Server):
    def __init__(self, node: Node) -> None:
        self.node = node
        self.port = node.expect("listening")["port"]

    def accept(self) -> NodePeer:
        return NodePeer(self.node)


@contextmanager
def serve_node(subprotocol: str, deflate: Deflate | None) -> Iterator[NodeServer]:
    node = Node("server", subprotocol, _options(deflate, is_client=False))
    try:
        yield NodeServer(node)
    finally:
        node.stop()
