"""The daemon that is attacked, what is measured of it, and the client that must not notice.

Everything is read from outside: /proc, the log, the sockets.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.attacks.model import Setup
from tests.support.client import Client, connect
from tests.support.daemon import Site
from tests.support.deflating import Deflating
from tests.support.memory import status_bytes
from tests.support.timing import MS, PATIENCE, wait_until
from tests.support.tls import connect_tls

LEVELS: Final = 'levels = ["err", "warn", "notice", "user", "info"]'
"""What the daemon logs by default, and each connection."""

_LISTENING: Final = re.compile(r"listening on [a-z]+:(?://[^\s/]*:(\d+)/?|(/\S+))")
_STAMP: Final = re.compile(r"^[-\d]{10} [:.\d]{12} ")


class Companion:
    """A well-behaved client that says something and waits for its echo, again and again, in a thread of its own."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rounds = 0
        self._error: BaseException | None = None
        self._is_over = threading.Event()
        self._came = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="companion")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        with self._client:
            if error is None:
                assert self._error is None, self._error
                assert self._client.finish().close_code == 1000

    def _run(self) -> None:
        try:
            # A pause between two, or the daemon would have more to do with this one than with the attack.
            while not self._is_over.wait(2 * MS):
                self._client.send_text("are you there?")
                assert self._client.receive_message() == "are you there?"
                with self._came:
                    self._rounds += 1
                    self._came.notify_all()
        except BaseException as error:
            with self._came:
                self._error = error
                self._came.notify_all()

    def go_round(self, times: int = 1) -> None:
        """Wait until so many whole rounds have been made, begun after this call.

        Raises:
            AssertionError: an echo did not come.
        """
        with self._came:
            wanted = self._rounds + 1 + times  # the one that is under way began before
            is_told = self._came.wait_for(lambda: self._rounds >= wanted or self._error, PATIENCE)
            assert self._error is None, f"the companion: {self._error!r}"
            assert is_told, f"the companion: {times} rounds took too long"


class Command(Client):
    """One command on the control socket."""

    def __init__(self, path: str, command: str) -> None:
        super().__init__(path)
        self.send(json.dumps({"command": command}).encode() + b"\n")

    def is_answered(self) -> bool:
        return bool(select.select([self.socket], [], [], 0)[0])

    def answer(self) -> dict[str, Any]:
        """What it says, once it has hung up: from then on it holds no descriptor for us."""
        found = json.loads(self.receive_end())
        assert isinstance(found, dict)
        return found


class Target:
    """A running daemon; a context manager."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        self.setup = setup
        self.site = Site(folder)
        self.pid = 0

    def __enter__(self) -> Self:
        setup, site = self.setup, self.site
        if setup.prepare is not None:
            setup.prepare(site.folder)
        for name, source in setup.plugins:
            site.plugin(name, source)
        site.configure(
            daemon=self._filled(setup.daemon),
            log=self._filled(setup.log or LEVELS),
            listen=[self._filled(text) for text in setup.listen],
            more=self._filled(setup.more),
        )
        extra = {name: self._filled(value) for name, value in setup.environment}
        try:
            self.pid = site.run(env=site.environment(extra))
            site.wait_said("at most ")  # the last line of a start
            self._warm_up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.site.__exit__(kind, error, trace)

    def _filled(self, text: str) -> str:
        return text.replace("FOLDER", str(self.site.folder))

    def _warm_up(self) -> None:
        """Have it do once what every case does, so that none pays for what is loaded or made at the first time."""
        with self.connect() as client:
            client.send_text("x" * 200)
            client.receive_frame()
            client.finish()
        if not self.setup.is_tls:
            with Deflating(self.addresses[0], "echo") as deflating:  # type: ignore[arg-type]  # no Unix socket comes first
                deflating.send("x" * 200)
                deflating.receive()
                deflating.client.finish()
        with Client(self.addresses[0]) as client:
            client.send(b"NONSENSE\r\n\r\n")
            client.receive_end()

    @property
    def is_alive(self) -> bool:
        return self.site.process is not None and self.site.process.poll() is None

    def connect(self) -> Client:
        """A WebSocket of a well-behaved client, at the first listener."""
        address = self.addresses[0]
        if not self.setup.is_tls:
            return connect(address, "echo")
        return connect_tls(address, None, protocols="echo")

    # -- where it is --------------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[int | str]:
        """Ports and paths, in the order of the setup's listeners."""
        found = _LISTENING.findall(self.site.log.read_text())
        return [path or int(port) for port, path in found]

    # -- what it says -------------------------------------------------------------------------------------------------

    def log_size(self) -> int:
        return self.site.log.stat().st_size

    def lines(self, since: int) -> list[str]:
        """The whole lines of its log from an offset on, with their level, without their time; spaces are one."""
        with self.site.log.open("rb") as log:
            log.seek(since)
            *lines, _ = log.read().decode().split("\n")
        return [re.sub(" +", " ", _STAMP.sub("", line)) for line in lines]

    def ask(self, command: str) -> Command:
        """Send a command to its control socket, as `wsd` does; the answer is read when it is asked for."""
        return Command(str(self.site.pidfile.with_suffix(".ctl")), command)

    def counters(self) -> dict[str, int]:
        """What `wsd status` counts."""
        with self.ask("status") as command:
            found = command.answer()["counters"]
        assert isinstance(found, dict)
        return found

    # -- what it holds ------------------------------------------------------------------------------------------------

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory_kib(self, key: str = "VmRSS") -> int:
        return status_bytes(self.pid, key) // 1024

    def forget_peak(self) -> None:
        """Have VmHWM begin anew (proc(5))."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def ticks(self) -> int:
        """Processor time it has used, in clock ticks of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def wait_idle(self, descriptors: int) -> int:
        """Wait until it holds no more than so many descriptors; answers how many it holds then.

        Raises:
            AssertionError: it keeps some of them.
        """
        held = descriptors + 1

        def is_idle() -> bool:
            nonlocal held
            held = self.descriptors()
            return held <= descriptors

        wait_until(is_idle, what=f"{self.descriptors()} descriptors now, {descriptors} before")
        return held


class Standing:
    """One target at a time, and another one when another setup is asked for; a context manager."""

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self._new_folder = new_folder
        self._stack = contextlib.ExitStack()
        self._target: Target | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def of(self, setup: Setup) -> Target:
        """The daemon that is set up so, and runs."""
        if self._target is None or self._target.setup != setup or not self._target.is_alive:
            self._stack.close()
            self._target = self._stack.enter_context(Target(self._new_folder(), setup))
        return self._target
