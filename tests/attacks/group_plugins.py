"""Plugins with bugs that a peer can set off."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Final

from tests.attacks.attempt import Attempt, counted, frames, responses
from tests.attacks.group_machine import another_site
from tests.attacks.model import Attack, Group, Setup
from tests.support.client import PONG, TEXT, Client, close_frame, frame, upgrade_request
from tests.support.timing import wait_until

DEFAULT: Final = ('port = 0\ndefault_protocol = "echo"',)

FAULTY: Final = '''
import sys

from wsd import Protocol, Response


def recurse(wsi):
    return recurse(wsi)


def fail(wsi):
    raise ValueError("the plugin's own fault")


FAULTS = {
    "error": fail,
    "exit": lambda wsi: sys.exit(3),
    "recursion": recurse,
    "memory": lambda wsi: bytes(1 << 62),
    "true": lambda wsi: True,
    "text": lambda wsi: "yes",
    "write": lambda wsi: wsi.write("not the place"),
    "type": lambda wsi: wsi.send(object()),
    "key": lambda wsi: {}["no such seat"],
}


class Faulty(Protocol):
    """Does in the hook that the path names what the argument says."""

    name = "faulty"

    def do(self, hook, wsi):
        if wsi.request.path == "/" + hook:
            return FAULTS[wsi.request.query](wsi)

    def on_http(self, wsi, request):
        return self.do("on_http", wsi)

    def on_filter_protocol_connection(self, wsi, request):
        return self.do("on_filter_protocol_connection", wsi)

    def on_add_headers(self, wsi, headers):
        return self.do("on_add_headers", wsi)

    def on_established(self, wsi):
        wsi.set_timer(0.001)
        wsi.callback_on_writable()
        return self.do("on_established", wsi)

    def on_message(self, wsi, message):
        return self.do("on_message", wsi)

    def on_writeable(self, wsi):
        return self.do("on_writeable", wsi)

    def on_pong(self, wsi, payload):
        return self.do("on_pong", wsi)

    def on_timer(self, wsi):
        return self.do("on_timer", wsi)

    def on_peer_close(self, wsi, code, close_reason):
        return self.do("on_peer_close", wsi)

    def on_closed(self, wsi, code, close_reason):
        return self.do("on_closed", wsi)


protocols = [Faulty]
'''

HOOKS: Final = ("on_established", "on_message", "on_writeable", "on_pong", "on_timer", "on_peer_close")

FAULTS: Final = Setup(
    "faulty",
    listen=('port = 0\ndefault_protocol = "echo"\nhttp_protocol = "faulty"',),
    more="[timeouts]\nclose_seconds = 0.2",
    plugins=(("faulty", FAULTY),),
)


def provoke(attempt: Attempt, *deeds: tuple[str, str]) -> str:
    """Connections on which a hook is called, which does that; none answers the Close that it gets."""
    return counted([responses(client) for client in [_provoke(attempt, *deed) for deed in deeds]])


def _provoke(attempt: Attempt, hook: str, fault: str) -> Client:
    client = attempt.client()
    if hook == "on_http":
        client.send(f"GET /on_http?{fault} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    else:
        client.send(upgrade_request(f"/{hook}?{fault}", "faulty"))
    if hook == "on_message":
        client.send(frame(TEXT, "x"))
    elif hook == "on_pong":
        client.send(frame(PONG, "x"))
    elif hook == "on_peer_close":
        client.send(close_frame(1000))
    return client


def raises_everywhere(attempt: Attempt) -> str:
    before = ("on_http", "on_filter_protocol_connection", "on_add_headers")
    return provoke(attempt, *((hook, "error") for hook in (*before, *HOOKS)))


def raises_anything(attempt: Attempt) -> str:
    faults = ("exit", "recursion", "memory", "true", "text", "write", "type")
    return provoke(attempt, *(("on_established", fault) for fault in faults))


def raises_often(attempt: Attempt) -> str:
    """The log must not drown in it."""
    told = provoke(attempt, *[("on_message", "key")] * 200)
    return f"{told}; reported {attempt.count(KEY_ERROR)} time"


KEY_ERROR: Final = "ERR <tag>: faulty.on_message raised KeyError: 'no such seat'"


def raises_in_on_closed(attempt: Attempt) -> str:
    client = attempt.connect("faulty", "/on_closed?error")
    client.send(close_frame(1000))
    told = frames(client)
    attempt.wait_line("ERR <tag>: faulty.on_closed raised ValueError: the plugin's own fault")
    return told


RAISED: Final = "ERR <tag>: faulty.{} raised ValueError: the plugin's own fault"
TRACE: Final = "ERR <*>"


# -- after a close ----------------------------------------------------------------------------------------------------

USES: Final = '''
from wsd import Protocol, log


class Users(Protocol):
    """Closes in the hook that the path names, and goes on as if nothing were."""

    name = "users"

    def do(self, hook, wsi):
        if wsi.request.path != "/" + hook:
            return
        answers = [wsi.close(4001, "enough")]
        for deed in (
            lambda: wsi.send("late"),
            lambda: wsi.ping(b"late"),
            lambda: wsi.close(4002),
            lambda: wsi.callback_on_writable(),
            lambda: wsi.rx_flow_control(False),
            lambda: wsi.rx_flow_control(True),
            lambda: wsi.set_timer(1),
            lambda: wsi.set_timeout(1),
        ):
            answers.append(deed())
        self.kept = wsi
        log.user("%s: %s", hook, set(answers[1:]))

    def on_filter_protocol_connection(self, wsi, request):
        self.do("on_filter_protocol_connection", wsi)

    def on_established(self, wsi):
        self.do("on_established", wsi)

    def on_message(self, wsi, message):
        self.do("on_message", wsi)

    def on_closed(self, wsi, code, close_reason):
        log.user("on_closed")
        self.do("on_closed", wsi)


protocols = [Users]
'''

AFTER_CLOSE: Final = Setup(
    "uses after a close", listen=DEFAULT, plugins=(("users", USES),), more="[timeouts]\nclose_seconds = 0.2"
)


def uses_after_close(attempt: Attempt) -> str:
    told = []
    for hook in ("on_filter_protocol_connection", "on_established", "on_message"):
        client = attempt.client()
        client.send(upgrade_request(f"/{hook}", "users"), frame(TEXT, "x") * 3)
        told.append(responses(client))
        client.disconnect()
    client = attempt.connect("users", "/on_closed")
    told.append(str(client.finish().close_code))
    attempt.wait_line("USER on_closed: {-1}")
    wait_until(lambda: attempt.count("USER on_closed") == 3)
    return counted(told)


# -- those that take long ---------------------------------------------------------------------------------------------

SLEEPER: Final = """
from pathlib import Path

from wsd import Protocol


class Sleeper(Protocol):
    name = "sleeper"

    def on_message(self, wsi, message):
        Path(message).read_text()
        wsi.send("awake")


protocols = [Sleeper]
"""

WATCHDOG_SECONDS: Final = 0.02

WATCHED: Final = Setup(
    "watchdog",
    log='levels = ["err", "warn", "notice", "user", "info", "latency"]',
    listen=DEFAULT,
    plugins=(("sleeper", SLEEPER),),
    environment=(("NOTIFY_SOCKET", "FOLDER/notify"), ("WATCHDOG_USEC", str(int(WATCHDOG_SECONDS * 1e6)))),
)


def sleeps(attempt: Attempt) -> str:
    """A hook that waits for something; the manager is told nothing meanwhile."""
    fifo = attempt.folder / "fifo"
    os.mkfifo(fifo)
    client = attempt.connect("sleeper")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(attempt.folder / "notify"))
        manager.settimeout(client.patience)
        while manager.recv(4096) != b"WATCHDOG=1":
            pass
        client.send_text(str(fifo))
        with fifo.open("w"):  # opens when the plugin does: from here on it waits
            manager.setblocking(False)
            told = 0
            try:
                while manager.recv(4096):
                    pass
            except BlockingIOError:
                pass
            manager.settimeout(20 * WATCHDOG_SECONDS)
            try:
                told = len(manager.recv(4096))
            except TimeoutError:
                told = 0
        assert client.receive_message() == "awake"
        manager.settimeout(client.patience)
        while manager.recv(4096) != b"WATCHDOG=1":
            pass
    return "no sign of life to the manager" if not told else "a sign of life"


LOOPER: Final = """
from wsd import Protocol


class Looper(Protocol):
    name = "looper"

    def on_message(self, wsi, message):
        wsi.send(message)
        print("looping", flush=True)
        while True:
            pass


protocols = [Looper]
"""


def loops_for_ever(attempt: Attempt) -> str:
    """In another daemon: what an operator can do about it."""
    site = another_site(attempt)
    site.plugin("looper", LOOPER)
    with site:
        pid = site.run()
        with site.connect("looper") as client:
            client.send_text("go")
            site.wait_said("looping")
            while site.process is not None and site.process.poll() is None:
                os.kill(pid, signal.SIGTERM)
                attempt.companion.go_round()
            status = site.wait_end()
        assert not site.pidfile.exists()
        assert site.said("ended by a second signal while a plugin held the loop")
    return f"the second SIGTERM ends it, with status {status}"


# -- children ---------------------------------------------------------------------------------------------------------

PARENT: Final = """
import json
import os
import subprocess
import sys

from wsd import Protocol

CHILD = "import json, os; print(json.dumps({f: os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd')"
CHILD += " if os.path.exists('/proc/self/fd/' + f)}))"


class Parent(Protocol):
    name = "parent"

    def on_message(self, wsi, message):
        child = subprocess.run([sys.executable, "-c", CHILD], close_fds=False, capture_output=True, text=True)
        wsi.send(json.dumps({"fds": json.loads(child.stdout), "environ": [n for n in os.environ if "NOTIFY" in n]}))


protocols = [Parent]
"""


def children(attempt: Attempt) -> str:
    """What a program inherits that a plugin starts without care."""
    for _ in range(20):
        attempt.connect()
    client = attempt.connect("parent")
    client.send_text("go")
    answer = client.receive_message()
    found = json.loads(answer)
    others = {fd: what for fd, what in found["fds"].items() if int(fd) > 2}
    assert others == {}, others
    return "no descriptor but 0, 1 and 2"


BUGS: Final = (
    Attack(
        "a message, a request, an end that makes any hook raise",
        "3 x 500, end, 6 x 101, Close 1011 internal error, end",
        raises_everywhere,
        (
            *(RAISED.format(hook) for hook in ("on_http", "on_filter_protocol_connection", "on_add_headers", *HOOKS)),
            TRACE,
        ),
        setup=FAULTS,
    ),
    Attack(
        "the same with on_closed",
        "Close 1000, end",
        raises_in_on_closed,
        (RAISED.format("on_closed"), TRACE),
        setup=FAULTS,
    ),
    Attack(
        "sys.exit(), recursion without end, 2^62 bytes, answers that are none, a write outside its hook",
        "7 x 101, Close 1011 internal error, end",
        raises_anything,
        (
            "ERR <tag>: faulty.on_established raised SystemExit: 3",
            "ERR <tag>: faulty.on_established raised RecursionError: maximum recursion depth exceeded<*>",
            "ERR <tag>: faulty.on_established raised MemoryError",
            "ERR <tag>: faulty.on_established answered True; a hook answers None or OK (0) to go on, <*>",
            TRACE,
        ),
        setup=FAULTS,
        memory_kib=4096,
    ),
    Attack(
        "the same bug, 200 times",
        "200 x 101, Close 1011 internal error, end; reported 1 time",
        raises_often,
        (KEY_ERROR, TRACE),
        setup=FAULTS,
    ),
    Attack(
        "hooks that close their connection, in any state, and go on using it",
        "end, 2 x 101, Close 4001 enough, end, 1000",
        uses_after_close,
        ("USER on_established: {-1}", "USER on_message: {-1}", "USER on_closed: {-1}", "USER on_closed"),
        "CVE-2025-11677",
        AFTER_CLOSE,
    ),
    Attack(
        "a message that makes a plugin wait, under systemd's watchdog",
        "no sign of life to the manager",
        sleeps,
        ("LATENCY a turn of <n> events took <n> ms",),
        setup=WATCHED,
    ),
    Attack(
        "a message that makes a plugin go round for ever",
        "the second SIGTERM ends it, with status 1",
        loops_for_ever,
    ),
    Attack(
        "a message that makes a plugin start a program",
        "no descriptor but 0, 1 and 2",
        children,
        known="CWE-403",
        setup=Setup("children", listen=DEFAULT, plugins=(("parent", PARENT),)),
    ),
)

GROUPS: Final = (Group(12, "Plugins with bugs", BUGS),)
