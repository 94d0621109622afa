"""Fraggle: what it sends, and what it says to what comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fakes import FakeWsi, shipped
from wsd import ConnectError, log


class Wsi(FakeWsi):
    """A connection; `pings` are those that were sent, each by how much was written before it."""

    tag = "fraggle-protocol#1"

    def __init__(self, protocol: Any, *, is_client: bool = False) -> None:
        super().__init__(protocol)
        self.is_client = is_client
        self.pings: list[int] = []

    def ping(self, payload: bytes = b"") -> int:
        self.pings.append(len(self.written))
        return 0

    def write(self, data: bytes | str, opcode: int | None = None, final: bool = True) -> int:
        assert self.room > 0, "it goes on writing though it is choked"
        return super().write(data, opcode, final)

    def hear(self, *pieces: bytes) -> None:
        """A message comes, in these pieces."""
        for at, piece in enumerate(pieces):
            self.is_final_fragment = at == len(pieces) - 1
            self.protocol.on_receive(self, piece)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    level, emitter = log.level(), log._emitter
    found: list[str] = []
    log.set_level(log.ERR | log.INFO | log.USER, lambda level, line: found.append(line))
    yield found
    log.set_level(level, emitter)


@pytest.fixture
def wsi() -> Wsi:
    return Wsi(shipped("fraggle.py"))


class TestSending:
    @pytest.mark.parametrize(
        ("sender", "server_sends", "client_sends"),
        [("server", True, False), ("client", False, True), ("both", True, True)],
    )
    def test_who_does(self, sender: str, server_sends: bool, client_sends: bool) -> None:
        fraggle = shipped("fraggle.py", sender=sender)
        server, client = Wsi(fraggle), Wsi(fraggle, is_client=True)
        for wsi in (server, client):
            fraggle.on_established(wsi)
        assert (server.is_asked, client.is_asked) == (server_sends, client_sends)

    def test_each_message_is_followed_by_its_sum(self, wsi: Wsi) -> None:
        wsi.protocol.on_established(wsi)
        wsi.room = 20_000
        wsi.serve()
        messages: list[list[bytes]] = [[]]
        for data, opcode, final in wsi.take():
            assert opcode is None, "bytes are binary"
            messages[-1].append(data)
            if final:
                messages.append([])
        assert len(messages) > 20
        for parts, checksum in zip(messages[:-2:2], messages[1::2], strict=False):
            assert 1 <= len(parts) <= 1024
            assert all(1 <= len(part) <= 8000 for part in parts)
            assert checksum == [sum(map(sum, parts)).to_bytes(4, "big")]

    def test_sizes_reach_both_ends_of_their_range(self, wsi: Wsi, monkeypatch: pytest.MonkeyPatch) -> None:
        """The largest message there can be, and behind it the smallest."""
        numbers = iter([1024, *[8000] * 1024, 1, 1])
        ranges = set()

        def draw(low: int, high: int) -> int:
            ranges.add((low, high))
            return next(numbers)

        monkeypatch.setattr(random, "randint", draw)
        wsi.protocol.on_established(wsi)
        wsi.room = 1024 + 1 + 2
        wsi.serve()
        written = wsi.take()
        assert ranges == {(1, 1024), (1, 8000)}
        assert [final for _, _, final in written] == [False] * 1023 + [True, True, True, True]
        assert {len(data) for data, _, _ in written[:1024]} == {8000}
        assert [len(data) for data, _, _ in written[1024:]] == [4, 1, 4]
        assert sum(len(data) for data, _, _ in written[:1024]) == wsi.protocol.max_message_bytes

    def test_it_asks_again_for_ever(self, wsi: Wsi) -> None:
        wsi.protocol.on_established(wsi)
        for _ in range(3):
            wsi.room = 2
            wsi.serve()
            assert len(wsi.take()) == 2
            assert wsi.is_asked

    def test_pings_go_out_inside_of_messages(self, wsi: Wsi) -> None:
        wsi.protocol.on_established(wsi)
        wsi.room = 20_000
        wsi.serve()
        written = wsi.take()
        assert 100 < len(wsi.pings) < 1000
        assert not any(written[at - 1][2] for at in wsi.pings)


class TestChecking:
    def test_a_right_sum(self, wsi: Wsi, lines: list[str]) -> None:
        wsi.hear(b"\1\2", b"", b"\xff")
        wsi.hear(b"\0\0\1\2")
        assert lines == ["fraggle-protocol#1: EOM received 3 correctly in 3 pieces"]
        assert (wsi.session.correct, wsi.closed) == (1, None)

    def test_the_sum_may_come_in_pieces(self, wsi: Wsi) -> None:
        wsi.hear(b"\7")
        wsi.hear(b"\0", b"\0\0", b"", b"\7")
        assert wsi.session.correct == 1

    def test_each_message_has_its_own(self, wsi: Wsi) -> None:
        for value in (5, 3, 200):
            wsi.hear(bytes([value]))
            wsi.hear(bytes([0, 0, 0, value]))
        assert wsi.session.correct == 3

    def test_it_is_the_sum_modulo_2_to_the_32(self, wsi: Wsi) -> None:
        wsi.hear(b"x")
        wsi.session.total = 2**32 + 5
        wsi.hear(b"\0\0\0\5")
        assert wsi.session.correct == 1

    @pytest.mark.parametrize("told", [b"\0\0\0\4", b"", b"\0\0\3", b"\0\0\0\3\0", b"\3\0\0\0"])
    def test_a_wrong_one(self, wsi: Wsi, lines: list[str], told: bytes) -> None:
        wsi.hear(b"\1\2")
        wsi.hear(told)
        assert wsi.closed == (1008, "wrong checksum")
        assert wsi.session.correct == 0
        (line,) = lines
        assert line == f"fraggle-protocol#1: 2 bytes, their sum is 00000003, the peer says {told[:4].hex()}"

    def test_it_closes_when_it_has_had_enough(self) -> None:
        wsi = Wsi(shipped("fraggle.py", messages=2))
        for _ in range(2):
            assert wsi.closed is None
            wsi.hear(b"\1")
            wsi.hear(b"\0\0\0\1")
        assert wsi.closed == (1000, "")

    def test_the_end_is_told(self, wsi: Wsi, lines: list[str]) -> None:
        wsi.protocol.on_closed(wsi, 1001, "")
        assert lines == ["fraggle-protocol#1: 0 messages were correct; closed with 1001"]


class TestConnecting:
    def test_where_it_is_told_to(self) -> None:
        asked: list[Any] = []

        class Context:
            def client_connect(self, url: str, *, protocol: Any) -> None:
                asked.append((url, protocol))

        fraggle = shipped("fraggle.py")
        fraggle.on_protocol_init(Context(), fraggle.Options())
        assert asked == []
        fraggle.on_protocol_init(Context(), fraggle.Options(connect="ws://127.0.0.1:7681"))
        assert asked == [("ws://127.0.0.1:7681", fraggle)]

    def test_a_failure_is_told(self, wsi: Wsi, lines: list[str]) -> None:
        wsi.protocol.on_client_connection_error(wsi, ConnectError("refused", "nobody is there"))
        assert lines == ["fraggle-protocol#1: nobody is there"]
