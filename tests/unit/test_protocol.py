"""wsd/protocol.py: what a plugin author writes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.loopless import NotingContext
from wsd.protocol import CallbackProtocol, Peer, Protocol, callback_protocol


class Empty(Protocol):
    name = "empty"


def test_the_decorator_makes_a_protocol() -> None:
    @callback_protocol("tick", session=dict)
    def tick(wsi: Any, reason: Any, user: Any, data: Any) -> int:
        return 0

    made: Any = tick
    assert isinstance(made, CallbackProtocol)
    assert [made.name, getattr(made, "Session"), made.Options] == ["tick", dict, None]  # noqa: B009


class Alone(Empty):
    """In a context that leaves every receiver to it."""

    def __init__(self) -> None:
        self.context = NotingContext()  # type: ignore[assignment]


class Member:
    """A wsi as far as `broadcast` knows it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send_shared(self, message: Any) -> int:
        self.sent.append(message.frame)
        return 0


class TestBroadcast:
    @pytest.mark.parametrize(
        ("message", "frame"),
        [
            ("hé", b"\x81\x03h\xc3\xa9"),
            (b"\0\1", b"\x82\x02\0\1"),
            (bytearray(b"x"), b"\x82\x01x"),
            (memoryview(b"xyz")[1:], b"\x82\x02yz"),
            ("", b"\x81\0"),
        ],
    )
    def test_one_frame_for_all(self, message: Any, frame: bytes) -> None:
        protocol = Alone()
        first, second = Member(), Member()
        protocol._members = {first: None, second: None}  # type: ignore[dict-item]
        protocol.broadcast(message)
        assert first.sent == second.sent == [frame]
        assert first.sent[0] is second.sent[0]

    def test_only_to_those(self) -> None:
        protocol = Alone()
        members = [Member() for _ in range(3)]
        protocol._members = dict.fromkeys(members)  # type: ignore[arg-type]
        protocol.broadcast("some", to=members[1:])  # type: ignore[arg-type]
        protocol.broadcast("nobody", to=())
        protocol.broadcast("one", to=(member for member in members[:1]))  # type: ignore[misc]
        assert [member.sent for member in members] == [[b"\x81\x03one"], [b"\x81\x04some"], [b"\x81\x04some"]]

    def test_members_may_go_while_it_runs(self) -> None:
        protocol = Alone()

        class Leaver(Member):
            def send_shared(self, message: Any) -> int:
                protocol._members.clear()
                return super().send_shared(message)

        first, second = Leaver(), Member()
        protocol._members = {first: None, second: None}  # type: ignore[dict-item]
        protocol.broadcast("all")
        assert second.sent == [b"\x81\x03all"]
        assert list(protocol.wsis) == []

    def test_wsis_is_a_live_view_oldest_first(self) -> None:
        protocol = Alone()
        protocol._members = {}
        view = protocol.wsis
        members = [Member() for _ in range(3)]
        protocol._members.update(dict.fromkeys(members))  # type: ignore[arg-type]
        assert [id(wsi) for wsi in view] == [id(member) for member in members]
        assert len(view) == 3


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (Peer("192.0.2.7", 80), "192.0.2.7:80"),
        (Peer("2001:db8::1", 80), "[2001:db8::1]:80"),
        (Peer("", 0), "unix"),
        (Peer("/run/peer", 0), "/run/peer"),
    ],
)
def test_a_peer_is_written_as_an_address(peer: Peer, text: str) -> None:
    assert str(peer) == text
