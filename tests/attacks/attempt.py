"""What an attack is played with: clients that are closed behind it, the companion, and words for what came."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from tests.attacks.model import Attack, Measured, is_line
from tests.attacks.target import Companion, Target
from tests.support.client import BINARY, CLOSE, PING, PONG, TEXT, Client, HttpResponse, connect
from tests.support.timing import wait_until

_NAMES: Final = {TEXT: "echo", BINARY: "echo", PING: "Ping", PONG: "Pong"}

FLOOD_BYTES: Final = 32 << 20
"""What a flood sends: far more than the kernel holds on its way, and than the daemon may keep."""


def _takes(client: Client) -> bool:
    return bool(select.select([], [client.socket], [], 0)[1])


class Attempt:
    """One playing of an attack."""

    def __init__(self, target: Target, companion: Companion, stack: contextlib.ExitStack) -> None:
        self.target = target
        self.companion = companion
        self._stack = stack
        self._log_start = target.log_size()

    # -- who comes ----------------------------------------------------------------------------------------------------

    @property
    def address(self) -> int | str:
        """Of the first listener."""
        return self.target.addresses[0]

    @property
    def folder(self) -> Path:
        return self.target.site.folder

    def client(self, at: int = 0, **options: Any) -> Client:
        """A connection to the listener of that index, with nothing sent."""
        return self._stack.enter_context(Client(self.target.addresses[at], **options))

    def connect(self, protocols: str | None = "echo", path: str = "/", at: int = 0, **options: Any) -> Client:
        """A WebSocket."""
        return self._stack.enter_context(connect(self.target.addresses[at], protocols, path, **options))

    def enter(self, manager: contextlib.AbstractContextManager[Any]) -> Any:
        """Anything else that has to end with the attack."""
        return self._stack.enter_context(manager)

    def flood(self, client: Client, data: bytes, size: int = FLOOD_BYTES) -> int:
        """Send `data` again and again, until none is taken any more or `size` bytes have been.

        Answers how many were taken.
        """
        sent, view = 0, memoryview(data)
        client.socket.setblocking(False)
        while sent < size:
            try:
                sent += client.socket.send(view[sent % len(data) :])
            except BlockingIOError:
                # While the companion is served, so are we; the daemon takes nothing more of us in so many turns.
                self.companion.go_round(10)
                if not _takes(client):
                    break
        client.socket.settimeout(client.patience)
        return sent

    # -- what the log says --------------------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        return self.target.lines(self._log_start)

    def count(self, expected: str) -> int:
        """How many lines of the log are `expected`."""
        return sum(is_line(expected, line) for line in self.lines())

    def wait_line(self, expected: str) -> None:
        wait_until(lambda: self.count(expected), what=f"{expected!r} in the log")

    def in_vain(self, expected: Iterable[str]) -> list[str]:
        """Those lines that the log does not have."""
        return [text for text in expected if not self.count(text)]


# -- what came --------------------------------------------------------------------------------------------------------


def counted(words: Sequence[str]) -> str:
    """Words that follow each other, equal ones once with their number: `3 x echo, Close 1000`."""
    runs = [(word, len(list(run))) for word, run in groupby(words)]
    return ", ".join(f"{count} x {word}" if count > 1 else word for word, count in runs)


def frames_of(client: Client) -> list[str]:
    """The frames that come until the connection ends, in words, and how it ends."""
    words = []
    try:
        while True:
            got = client.receive_frame()
            if got.opcode == CLOSE:
                words.append(f"Close {got.close_code} {got.close_reason}".rstrip())
            else:
                words.append(_NAMES[got.opcode] if got.final else "fragment")
    except EOFError:
        assert not client.buffer, client.buffer
        return [*words, "end"]
    except ConnectionResetError:
        return [*words, "reset"]


def frames(client: Client) -> str:
    """All that comes to a WebSocket."""
    return counted(frames_of(client))


def responses(client: Client) -> str:
    """All that comes to one who speaks HTTP: the status of each answer; behind a 101 frames."""
    words: list[str] = []
    try:
        while True:
            answer = client.receive_response()
            words.append(str(answer.status))
            if answer.status == 101:
                return counted([*words, *frames_of(client)])
    except EOFError:
        assert not client.buffer, client.buffer
        return counted([*words, "end"])
    except ConnectionResetError:
        return counted([*words, "reset"])


def has_raw_header(answer: HttpResponse, name: str) -> bool:
    """Reports whether an answer has a header of that name, which somebody tried to slip into it."""
    return answer.header(name) is not None


# -- playing ----------------------------------------------------------------------------------------------------------


def play(target: Target, attack: Attack) -> Measured:
    """Play an attack, and compare all that came of it with what it says.

    Raises:
        AssertionError: something else came of it.
    """
    with Companion(target.connect()) as companion:
        companion.go_round()
        before, descriptors = target.memory_kib(), target.descriptors()
        target.forget_peak()
        with contextlib.ExitStack() as stack:
            attempt = Attempt(target, companion, stack)
            assert attack.play(attempt) == attack.gets
            companion.go_round()
        target.wait_idle(descriptors)
        companion.go_round()
        peak, after = target.memory_kib("VmHWM"), target.memory_kib()
        # Once more: those that stood in the listener's queue are accepted when others have left, only to end.
        measured = Measured(before, peak, after, descriptors, target.wait_idle(descriptors))
        _check_log(attempt, attack)
    with target.connect() as newcomer:
        newcomer.send_text("hello")
        assert newcomer.receive_message() == "hello"
    _check_cost(attack, measured)
    return measured


def _check_log(attempt: Attempt, attack: Attack) -> None:
    wait_until(lambda: not attempt.in_vain(attack.log), what=f"{attack.log} in {attempt.lines()[-20:]}")
    others = [line for line in attempt.lines() if not any(is_line(text, line) for text in attack.log)]
    assert [line for line in others if not line.startswith(("INFO ", "NOTICE ", "USER "))] == []


def _check_cost(attack: Attack, measured: Measured) -> None:
    grown, kept = measured.peak_kib - measured.before_kib, measured.after_kib - measured.before_kib
    assert grown <= attack.memory_kib, f"{grown} KiB more at its peak"
    limit = attack.memory_kib if attack.kept_kib is None else attack.kept_kib
    assert kept <= limit, f"{kept} KiB kept"
