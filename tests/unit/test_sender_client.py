"""What leaves of a client's wsi: everything a server's does, each frame masked with a key of its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame
from tests.support.client import frame as any_frame
from tests.support.hearing import Hearing
from tests.support.loopless import Loopless
from tests.support.notes import Notes
from wsd import sender
from wsd.config import Keepalive


def frame(opcode: int, payload: bytes | str = b"") -> bytes:
    """A frame of the server's."""
    return any_frame(opcode, payload, mask=None)


class Line:
    """A client and the server's ear."""

    def __init__(self, **on: Any) -> None:
        self.protocol = Notes(**on)
        self.line = Loopless(self.protocol, is_client=True, max_queue_bytes=1 << 30)
        self.wsi: Any = self.line.wsi
        self.hearing = Hearing(is_masked=True)

    def turn(self) -> list[Frame]:
        self.line.context.turn()
        return self.hearing.hear(self.line.sent())


class TestFrames:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 4096, 4097, 65535, 65536, 1 << 20])
    def test_every_length_form(self, size: int) -> None:
        payload = (b"0123456789" * (size // 10 + 1))[:size]
        line = Line(writeable=lambda wsi: wsi.write(payload))
        line.wsi.callback_on_writable()
        line.wsi.send(payload)
        frames = line.turn() + line.turn()
        assert frames == [Frame(BINARY, payload)] * 2

    def test_whole_messages_fragments_pings_and_a_close(self) -> None:
        def write(wsi: Any) -> None:
            wsi.write("a", final=False)
            wsi.write("b", final=False)
            wsi.write("c")
            wsi.write(b"d")

        line = Line(writeable=write)
        line.wsi.callback_on_writable()
        line.wsi.send("queued")
        line.protocol.broadcast(b"to all")
        line.wsi.ping(b"?")
        line.turn()
        line.wsi.close(4000, "bye")
        line.turn()
        assert line.hearing.frames == [
            Frame(PING, b"?"),
            Frame(TEXT, b"queued"),
            Frame(BINARY, b"to all"),
            Frame(TEXT, b"a", final=False),
            Frame(CONTINUATION, b"b", final=False),
            Frame(CONTINUATION, b"c"),
            Frame(BINARY, b"d"),
            Frame(CLOSE, b"\x0f\xa0bye"),
        ]

    def test_the_answer_to_a_ping_and_to_a_close(self) -> None:
        line = Line()
        line.line.receive(frame(PING, b"?") + frame(CLOSE, b"\x0f\xa1"))
        assert line.turn() == [Frame(PONG, b"?"), Frame(CLOSE, b"\x0f\xa1")]

    def test_our_own_pings_to_a_silent_server(self) -> None:
        line = Line()
        line.line.context.keepalive = Keepalive(ping_seconds=10)
        line.wsi._schedule_keepalive(10)
        line.line.context.pass_time(11)
        (ping,) = line.turn()
        assert ping.opcode == PING
        line.line.receive(frame(PONG, ping.payload))
        assert line.protocol.count("pong") == 0

    def test_what_is_sent_is_not_changed_by_being_masked(self) -> None:
        message = b"x" * 5000
        line = Line()
        line.wsi.send(message)
        line.turn()
        assert message == b"x" * 5000


class TestKeys:
    """5.3: "The masking key is a 32-bit value chosen at random by the client." """

    def test_each_frame_has_its_own(self) -> None:
        line = Line()
        for _ in range(2500):
            line.wsi.send("x")
        line.turn()
        assert len(line.hearing.keys) == 2500
        # Of 2500 out of 2**32, once in a thousand runs two are alike; three pairs are never.
        assert len(set(line.hearing.keys)) > 2497

    def test_every_way_of_sending_takes_one(self) -> None:
        line = Line(writeable=lambda wsi: wsi.write("a", final=False) or wsi.write(""))
        line.wsi.callback_on_writable()
        line.wsi.send("")
        line.protocol.broadcast(b"")
        line.wsi.ping()
        line.turn()
        line.wsi.close()
        line.turn()
        assert len(line.hearing.keys) == 6
        assert len(set(line.hearing.keys)) > 4

    def test_two_connections_share_none(self) -> None:
        one, two = Line(), Line()
        for line in (one, two):
            for _ in range(100):
                line.wsi.send("x")
            line.turn()
        assert len(set(one.hearing.keys) & set(two.hearing.keys)) < 2

    def test_they_are_the_systems_entropy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """ "the masking key MUST be derived from a strong source of entropy" """
        monkeypatch.setattr("os.urandom", lambda size: bytes(range(256)) * (size // 256))
        keys = sender._masking_keys()
        assert [next(keys) for _ in range(3)] == [b"\0\1\2\3", b"\4\5\6\7", b"\x08\x09\x0a\x0b"]

    def test_a_server_masks_nothing(self) -> None:
        """5.1: "A server MUST NOT mask any frames that it sends to the client." """
        line = Loopless(Notes(), is_client=False)
        line.wsi.send("hi")
        line.wsi.ping(b"?")
        line.wsi.close()
        line.context.turn()
        assert line.sent() == b"\x81\x02hi\x89\x01?\x88\x02\x03\xe8"


class TestBroadcastToBothRoles:
    def test_each_gets_it_in_its_own_form(self) -> None:
        protocol = Notes()
        server = Loopless(protocol)
        client = Loopless(protocol, is_client=True)
        protocol._members[server.wsi] = None
        protocol.broadcast("to all")
        for line, is_client in ((server, False), (client, True)):
            line.context.turn()
            hearing = Hearing(is_masked=is_client)
            assert hearing.hear(line.sent()) == [Frame(TEXT, b"to all")]
