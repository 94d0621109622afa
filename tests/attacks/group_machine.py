"""Files and sockets on the daemon's own machine, in the place of its own; commands and signals."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Final

from tests.attacks.attempt import Attempt, counted
from tests.attacks.model import Attack, Group, Setup
from tests.support.client import Client
from tests.support.daemon import ECHO, Site

PRECIOUS: Final = "precious"

_folders = count()


def another_site(attempt: Attempt) -> Site:
    """A place for another daemon, beside the one that runs."""
    folder = attempt.folder / f"another{next(_folders)}"
    folder.mkdir()
    site = Site(folder)
    site.pidfile.parent.mkdir()
    return site


# -- something in the place of the daemon's files ---------------------------------------------------------------------


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("nowhere"))


def folder(path: Path, victim: Path) -> None:
    path.mkdir()


def fifo(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def regular(path: Path, victim: Path) -> None:
    path.write_text(PRECIOUS)


Make = Callable[[Path, Path], None]


def refused(place: str, *makes: Make, listen: str = "port = 0") -> Callable[[Attempt], str]:
    """A start where something lies in `place`; it must fail, say where, and have changed nothing."""

    def play(attempt: Attempt) -> str:
        told = []
        for make in makes:
            site = another_site(attempt)
            site.configure(listen=listen.replace("FOLDER", str(site.folder)))
            victim, path = site.folder / "victim", site.folder / place
            victim.write_text(PRECIOUS)
            make(path, victim)
            before = os.lstat(path)
            done = site.wsd("run")
            assert str(path) in done.stderr
            assert victim.read_text() == PRECIOUS
            assert stat.S_IMODE(victim.stat().st_mode) == 0o644
            assert os.lstat(path)[:7] == before[:7]
            assert not (site.folder / "nowhere").exists()
            told.append(f"exit status {done.returncode}, nothing changed")
        return counted(told)

    return play


def stolen_name(attempt: Attempt) -> str:
    """A hard link to a file of somebody else in the place of the pidfile: it goes, the file stays as it is."""
    site = another_site(attempt)
    victim = site.folder / "victim"
    victim.write_text(PRECIOUS)
    site.pidfile.hardlink_to(victim)
    with site:
        site.run()
        assert victim.read_text() == PRECIOUS
        assert not site.pidfile.samefile(victim)
    assert victim.read_text() == PRECIOUS
    return "it starts with a pidfile of its own"


def taken_socket(attempt: Attempt) -> str:
    """The Unix socket of a daemon that runs: a second one must not take its place."""
    site = another_site(attempt)
    path = str(site.folder / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as owner:
        owner.bind(path)
        owner.listen()
        site.configure(listen=f'unix = "{path}"')
        done = site.wsd("run")
        assert f"{path}: another program listens there" in done.stderr
        with Client(path):
            return f"exit status {done.returncode}, the first one still has it"


def socket_before_its_mode(attempt: Attempt) -> str:
    """Who may connect to a new socket is decided before it is there."""
    site = another_site(attempt)
    path = site.folder / "socket"
    site.configure(listen=f'unix = "{path}"\nunix_mode = "0600"')
    with site:
        site.run()
        modes = {item.name: oct(stat.S_IMODE(item.stat().st_mode)) for item in [path, *site.pidfile.parent.iterdir()]}
    return ", ".join(f"{name} {mode[2:]}" for name, mode in sorted(modes.items()))


# -- commands ---------------------------------------------------------------------------------------------------------


def control(attempt: Attempt) -> str:
    return str(attempt.target.site.pidfile.with_suffix(".ctl"))


def silent_commands(attempt: Attempt) -> str:
    """More than are served at a time, of which none says anything; the next one is answered all the same."""
    for _ in range(50):
        attempt.enter(Client(control(attempt)))
        attempt.companion.go_round()  # its queue is short, and a Unix socket with a full one does not wait
    command = attempt.enter(attempt.target.ask("status"))
    return "answered" if command.answer()["ok"] else "refused"


def nonsense_commands(attempt: Attempt) -> str:
    lines = [b"\n", b"[]\n", b"nonsense\n", b'{"command": 5}\n', b'{"command": "__class__"}\n', b"[" * 4000 + b"\n"]
    told = []
    for line in lines:
        client = attempt.enter(Client(control(attempt)))
        client.send(line)
        told.append("an error" if b'"ok": false' in client.receive_end() else "an answer")
    client = attempt.enter(Client(control(attempt)))
    client.send(b"x" * 4097)
    assert client.receive_end() == b""
    return counted([*told, "end"])


# -- signals ----------------------------------------------------------------------------------------------------------

SLOW: Final = "import time\ntime.sleep(0.05)\n" + ECHO.format(name="slow")
SLOW_RELOADS: Final = Setup("slow reloads", plugins=(("slow", SLOW),), listen=('port = 0\ndefault_protocol = "echo"',))


def hangup_storm(attempt: Attempt) -> str:
    for _ in range(1000):
        os.kill(attempt.target.pid, signal.SIGHUP)
    attempt.wait_line(RELOADED)
    attempt.companion.go_round(5)
    reloads = attempt.count(RELOADED)
    # One that runs, one that waits, and one for what came between the two.
    return "3 reloads at most" if reloads <= 3 else f"{reloads} reloads"


RELOADED: Final = "NOTICE reload done: <*>"


def other_signals(attempt: Attempt) -> str:
    """Those whose sender may be the kernel."""
    for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT):
        for _ in range(100):
            os.kill(attempt.target.pid, number)
    attempt.companion.go_round(5)
    return "nothing"


def reload_while_handshakes(attempt: Attempt) -> str:
    """Connections in every state while everything is read anew."""
    clients = [attempt.client() for _ in range(50)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    for _ in range(3):
        os.kill(attempt.target.pid, signal.SIGHUP)
        attempt.companion.go_round(5)
    attempt.wait_line(RELOADED)
    for client in clients:
        client.send(b"Connection: close\r\n\r\n")
    return counted([str(client.receive_response().status) for client in clients])


def places(title: str, place: str, makes: Iterable[Make], gets: str, known: str, listen: str = "port = 0") -> Attack:
    return Attack(title, gets, refused(place, *makes, listen=listen), known=known)


_UNCHANGED = "exit status 1, nothing changed"
_PIDFILES = "GHSA-q92f-7cwj-w4w5, CVE-2020-14367, CVE-2026-72694, CVE-2026-53765; CWE-59"

FILES: Final = (
    places(
        "a link to a file, a dangling one, a folder, a FIFO in the place of the pidfile",
        "run/wsd.pid",
        (link, dangling, folder, fifo),
        f"4 x {_UNCHANGED}",
        _PIDFILES,
    ),
    places(
        "the same in the place of its lock",
        "run/wsd.pid.lock",
        (link, dangling, folder, fifo),
        f"4 x {_UNCHANGED}",
        _PIDFILES,
    ),
    Attack(
        "a hard link to somebody's file in the place of the pidfile",
        "it starts with a pidfile of its own",
        stolen_name,
        known=_PIDFILES,
    ),
    places(
        "a link, a dangling one, a file in the place of the control socket",
        "run/wsd.ctl",
        (link, dangling, regular),
        f"3 x {_UNCHANGED}",
        "CWE-59",
    ),
    places(
        "a link, a dangling one, a file, a folder, a FIFO in the place of a Unix socket",
        "socket",
        (link, dangling, regular, folder, fifo),
        f"5 x {_UNCHANGED}",
        "CWE-59",
        'unix = "FOLDER/socket"',
    ),
    Attack(
        "a second daemon on the Unix socket of a program that runs",
        "exit status 1, the first one still has it",
        taken_socket,
    ),
    Attack(
        'the modes of all that it makes, with `unix_mode = "0600"`',
        "socket 600, wsd.ctl 600, wsd.pid 640, wsd.pid.lock 600",
        socket_before_its_mode,
        known="CWE-276",
    ),
    Attack(
        "50 clients of the control socket that say nothing",
        "answered",
        silent_commands,
    ),
    Attack(
        "commands that are none: an empty line, a list, a word, a number, a name of Python's, 4000 brackets, no end",
        "6 x an error, end",
        nonsense_commands,
    ),
    Attack(
        "1000 x SIGHUP, with a plugin that takes a while to load",
        "3 reloads at most",
        hangup_storm,
        (RELOADED,),
        setup=SLOW_RELOADS,
    ),
    Attack(
        "SIGPIPE, SIGCHLD, SIGURG, SIGWINCH, SIGCONT, 100 times each",
        "nothing",
        other_signals,
    ),
    Attack(
        "three reloads while 50 connections have sent half a request",
        "50 x 200",
        reload_while_handshakes,
        (RELOADED,),
        setup=SLOW_RELOADS,
    ),
)

GROUPS: Final = (
    Group(
        11,
        "Files, sockets, commands and signals on its own machine",
        FILES,
        "What is started here is another daemon; the one that is measured must not notice.",
    ),
)
