"""What TLS 1.3 allows a peer, and no library does: keys that change at any time, records with nothing in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conversations import CONVERSATIONS
from tests.faults.payloads import LARGE, SMALL
from tests.faults.plugins import Echo
from tests.faults.records import ALERT, DATA, by_hand
from tests.faults.runs import run
from tests.faults.secure import Secure, SecureWorld
from tests.faults.syscalls import Schedule
from tests.faults.world import new_door
from tests.support.client import BINARY, frame


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Secure:
    return Secure(tmp_path_factory.mktemp("ca"))


def test_keys_change_between_messages(newest: Secure, tmp_path: Path) -> None:
    with new_door() as door, SecureWorld(newest, door, Schedule(), (Echo,)) as world:
        peer = by_hand(world, tmp_path)
        peer.open()
        for number in range(10):
            peer.update_keys(asks=bool(number % 2))
            peer.say(f"hello {number}")
            assert peer.receive_message() == f"hello {number}"
        assert peer.updates == 5
        peer.say(LARGE, frame(BINARY, LARGE))
        assert peer.receive_message() == LARGE
        peer.finish()
        assert peer.end == "close_notify"
        world.finish()


@pytest.mark.parametrize("asks", [False, True])
def test_keys_change_while_we_have_more_to_say_than_goes(newest: Secure, tmp_path: Path, asks: bool) -> None:
    """Our answer to that must be written while a record of ours is half on its way."""
    with new_door() as door, SecureWorld(newest, door, Schedule(), (Echo,)) as world:
        peer = by_hand(world, tmp_path, **SMALL)
        peer.open()
        for _ in range(3):
            peer.say(LARGE, frame(BINARY, LARGE))
            world.settle()
            peer.update_keys(asks=asks)
            peer.say("behind it")
            world.settle()
            assert next(iter(world.context._wsis.keys() - {world.wsi_beside}))._output.is_choked
            assert [peer.receive_message(), peer.receive_message()] == [LARGE, "behind it"]
        assert peer.updates == (3 if asks else 0)
        peer.finish()
        assert peer.end == "close_notify"
        world.finish()


def test_keys_that_change_twice_while_nothing_can_leave_cost_that_connection_alone(
    newest: Secure, tmp_path: Path
) -> None:
    """OpenSSL remembers one KeyUpdate that it has to answer, and breaks off at another one before it could write the
    answer ("bad length"; openssl/openssl issue 8677 was about the first).  Who does that reads nothing meanwhile."""
    with new_door() as door, SecureWorld(newest, door, Schedule(), (Echo,)) as world:
        peer = by_hand(world, tmp_path, **SMALL)
        peer.open()
        peer.say(LARGE, frame(BINARY, LARGE))
        world.settle()
        for _ in range(2):
            peer.update_keys(asks=True)
            world.settle()
        peer.rest()
        world.beside_speaks()
        assert [world.beside.receive_message() for _ in range(2)] == ["beside 0", "beside 1"]
        world.finish()


def test_a_flood_of_key_updates_brings_no_more_answers_than_can_leave(newest: Secure, tmp_path: Path) -> None:
    with new_door() as door, SecureWorld(newest, door, Schedule(), (Echo,)) as world:
        peer = by_hand(world, tmp_path, **SMALL)
        peer.open()
        for _ in range(500):
            peer.update_keys(asks=True)
        world.settle()
        world.beside_speaks()
        assert world.beside.receive_message() == "beside 0"
        peer.say("still there")
        assert peer.receive_message() == "still there"
        assert peer.updates <= 500
        peer.finish()
        world.finish()


def test_records_with_a_byte_and_padding_and_with_nothing_in_them(newest: Secure, tmp_path: Path) -> None:
    with new_door() as door, SecureWorld(newest, door, Schedule(), (Echo,)) as world:
        peer = by_hand(world, tmp_path)
        peer.open()
        peer.record_bytes, peer.padding = 1, 100
        peer.say("byte by byte")
        for _ in range(20):
            peer.put(DATA, b"")
        assert peer.receive_message() == "byte by byte"
        peer.record_bytes = 1 << 14
        peer.padding = 0
        peer.finish()
        world.finish()


def test_an_alert_of_the_peer_ends_it(newest: Secure, tmp_path: Path) -> None:
    with new_door() as door, SecureWorld(newest, door, Schedule(), (Echo,)) as world:
        peer = by_hand(world, tmp_path)
        peer.open()
        peer.say("before it")
        assert peer.receive_message() == "before it"
        peer.put(ALERT, b"\x02\x50")  # internal_error
        assert peer.receive_end() == b""
        world.finish()


def test_a_record_that_was_changed_on_its_way_ends_it_with_an_alert(newest: Secure, tmp_path: Path) -> None:
    with new_door() as door, SecureWorld(newest, door, Schedule(), (Echo,)) as world:
        peer = by_hand(world, tmp_path)
        peer.open()
        record = bytearray(peer._write.seal(DATA, frame(BINARY, b"hello")))
        record[-1] ^= 1
        peer._out.write(bytes(record))
        peer._push()
        with pytest.raises(EOFError, match="alert 20"):  # bad_record_mac
            peer.receive_message()
        world.finish()


@pytest.mark.parametrize(
    "name", ["echo", "server_closes", "violation", "hang_up", "http", "raw", "client_closes", "client"]
)
def test_an_end_in_order_is_told_from_one_that_is_not(newest: Secure, name: str) -> None:
    """RFC 8446 6.1: "Each party MUST send a "close_notify" alert before closing its write side of the connection,
    unless it has already sent some error alert"; also where the other has done so first."""
    worlds: list[SecureWorld] = []

    def make(*arguments: object, **options: object) -> SecureWorld:
        worlds.append(SecureWorld(newest, *arguments, **options))
        return worlds[-1]

    with new_door() as door:
        run(door, CONVERSATIONS[name], Schedule(), make=make)
    ends = [peer.end for peer in worlds[0].peers if peer is not worlds[0].beside]  # type: ignore[attr-defined]
    assert ends == ["close_notify"] * len(ends)
