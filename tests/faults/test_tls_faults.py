"""The same conversations over TLS: what OpenSSL may say at each of its calls, and records that come in any pieces."""

from __future__ import annotations

import random
import ssl
from functools import partial

import pytest

from tests.faults import secure
from tests.faults.conversations import CONVERSATIONS
from tests.faults.runs import calls_of, run, single_faults
from tests.faults.secure import Secure, SecureWorld
from tests.faults.syscalls import Effect, Schedule
from tests.faults.world import new_door

# Without those in which nothing is encrypted, or not by the peer that plays it.
PLAYED = [name for name in CONVERSATIONS if name not in ("adopted", "descriptors", "client_by_proxy", "happy_eyeballs")]

# Each way of beginning and of ending is in these; a handshake costs what some dozen system calls cost.
BRIEF = ["in_one_piece", "server_closes", "hang_up", "violation", "http", "raw", "client", "client_closes", "tied"]

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(scope="module", params=VERSIONS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Secure:
    return Secure(tmp_path_factory.mktemp("ca"), VERSIONS[request.param])


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Secure:
    return Secure(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("name", BRIEF)
def test_one_fault_anywhere(newest: Secure, name: str) -> None:
    make = partial(SecureWorld, newest)
    with new_door() as door:
        calls, heard = calls_of(door, name, make)
        for number, effect in single_faults(calls, lambda call: secure.EFFECTS.get(call, [])):
            run(door, CONVERSATIONS[name], Schedule({number: effect}), make=make, whole=heard)


def chosen(chance: random.Random, share: float) -> Schedule:
    """A schedule of faults that cost nothing."""

    def choose(number: int, call: str) -> Effect | None:
        return chance.choice(secure.HARMLESS[call]) if call in secure.HARMLESS and chance.random() < share else None

    return Schedule(choose=choose)


@pytest.mark.parametrize("name", PLAYED)
def test_records_in_any_pieces(made: Secure, name: str) -> None:
    """Cut anywhere, with turns between them; read in small pieces, so that bytes stay in OpenSSL while the socket is
    quiet; and calls that want to be made again."""
    with new_door() as door:
        for seed in range(12):
            chance = random.Random(f"{name} {seed}")
            make = partial(SecureWorld, made, cutter=chance, read_bytes=chance.choice((0, 100, 5000)))
            run(door, CONVERSATIONS[name], chosen(chance, seed / 30), make=make, is_whole=True)


@pytest.mark.parametrize("name", PLAYED)
def test_any_faults(made: Secure, name: str) -> None:
    with new_door() as door:
        for seed in range(12):
            chance = random.Random(f"{name} {seed}")

            def choose(number: int, call: str, chance: random.Random = chance) -> Effect | None:
                effects = secure.EFFECTS.get(call)
                return chance.choice(effects) if effects and chance.random() < 0.05 else None

            make = partial(SecureWorld, made, cutter=chance)
            run(door, CONVERSATIONS[name], Schedule(choose=choose), make=make)
