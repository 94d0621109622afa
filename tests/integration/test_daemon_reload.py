"""Reload: what is unchanged is untouched, what is wrong changes nothing, what is new serves newcomers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client, close_frame, connect, upgrade_request
from tests.support.daemon import ECHO, Site, lock_holder
from tests.support.timing import PATIENCE, wait_until
from wsd import control

# A room: `self` is where its members meet, so a new instance would be another room.
ROOM = """
from wsd import Options, Protocol, log


class RoomOptions(Options):
    greeting: str = "hello"


class Room(Protocol):
    name = "room"
    Options = RoomOptions

    def on_protocol_init(self, context, options):
        self.greeting = options.greeting
        log.user("room made: VERSION")

    def on_protocol_destroy(self):
        log.user("room destroyed: VERSION")

    def on_established(self, wsi):
        wsi.send("VERSION " + self.greeting)

    def on_message(self, wsi, message):
        self.broadcast("VERSION " + message)


protocols = [Room]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


def room(site: Site, version: str = "one", **replace: str) -> None:
    source = ROOM.replace("VERSION", version)
    for old, new in replace.items():
        source = source.replace(old, new)
    site.plugin("room", source)


def enter(port: int) -> tuple[Client, str]:
    client = connect(port, "room")
    greeting = client.receive_message()
    assert isinstance(greeting, str)
    return client, greeting


def test_a_reload_without_changes_keeps_a_chat_room_whole(site: Site) -> None:
    room(site)
    site.run()
    port = site.port
    first, _ = enter(port)
    with first:
        done = site.wsd("reload")
        assert done.returncode == 0, done.stderr
        second, _ = enter(port)
        with second:
            second.send_text("are you there?")
            assert first.receive_message() == "one are you there?"
            assert second.receive_message() == "one are you there?"
    assert site.log.read_text().count("room made") == 1


def test_sighup_reloads_too(site: Site) -> None:
    pid = site.run()
    site.plugin("more", ECHO.format(name="more"))
    os.kill(pid, signal.SIGHUP)
    site.wait_said("reload done")
    with site.connect("more") as client:
        client.send_text("hello")
        assert client.receive_message() == "hello"


def test_a_sighup_while_plugins_load_waits_for_the_first_turn(site: Site) -> None:
    source = ECHO.format(name="early")
    start = "    def on_protocol_init(self, context, options):\n        os.kill(os.getpid(), 1)\n"
    name = '    name = "early"\n'
    assert name in source
    site.plugin("early", "import os\n" + source.replace(name, name + start))
    site.run()
    site.wait_said("reload done")
    assert site.process is not None
    assert site.process.poll() is None


def test_a_changed_plugin_serves_newcomers_while_the_old_one_lives(site: Site) -> None:
    room(site)
    site.run()
    port = site.port
    old, _ = enter(port)
    room(site, "two")
    assert site.wsd("reload").returncode == 0
    new, greeting = enter(port)
    with new:
        with old:
            assert greeting == "two hello"
            old.send_text("x")
            assert old.receive_message() == "one x"
            new.send_text("y")
            assert new.receive_message() == "two y"
            generations = {(item["generation"], item["leaving"]) for item in site.status()["protocols"][1:]}
            assert generations == {(1, True), (2, False)}
            assert not site.said("room destroyed: one")
            old.finish()
        site.wait_said("room destroyed: one")
        assert not site.said("room destroyed: two")
    names = [(item["name"], item["generation"]) for item in site.status()["protocols"]]
    assert names == [("echo", 1), ("room", 2)]


def test_an_edit_of_the_same_size_within_the_second_is_seen(site: Site) -> None:
    room(site, "one")
    site.run()
    before = os.stat(site.plugins / "room.py")
    room(site, "two")
    os.utime(site.plugins / "room.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert site.wsd("reload").returncode == 0
    client, greeting = enter(site.port)
    with client:
        assert greeting.startswith("two")


def test_changed_options_make_a_new_instance(site: Site) -> None:
    room(site)
    site.run()
    site.configure(more='[protocols.room]\ngreeting = "welcome"')
    assert site.wsd("reload").returncode == 0
    client, greeting = enter(site.port)
    with client:
        assert greeting == "one welcome"


def test_changed_limits_keep_the_instance_and_hold(site: Site) -> None:
    room(site)
    site.run()
    port = site.port
    first, _ = enter(port)
    with first:
        site.configure(more="[protocols.room.limits]\nmax_message_bytes = 5")
        assert site.wsd("reload").returncode == 0
        assert site.log.read_text().count("room made") == 1
        second, _ = enter(port)
        with second:
            second.send_text("longer than five")
            assert second.receive_close().close_code == 1009


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda site: site.config.write_text(site.config.read_text() + "nonsense = ["), "not TOML"),
        (lambda site: site.configure(listen="port = 99999"), "listen[0].port"),
        (lambda site: site.configure(listen='port = 0\nprotocols = ["nobody"]'), "nobody"),
        (lambda site: site.configure(more='[protocols.room]\ngreting = "x"'), "greting"),
        (lambda site: site.configure(more="[protocols.rom]\n"), "room"),
        (lambda site: site.configure(daemon='user = "nobody"'), "only a restart"),
        (lambda site: site.configure(daemon='umask = "0077"'), "only a restart"),
        (lambda site: room(site, "two", **{"self.greeting =": "raise ValueError('no database') #"}), "no database"),
        (lambda site: room(site, "two", **{"def on_established": "def on_etsablished"}), "on_established"),
        (lambda site: room(site, "two", **{"protocols =": "protocols ("}), "SyntaxError"),
    ],
)
def test_a_bad_reload_says_so_and_changes_nothing(site: Site, change: object, said: str) -> None:
    room(site)
    site.run()
    port = site.port
    first, _ = enter(port)
    with first:
        before = site.status()["protocols"]
        good = site.config.read_text()
        change(site)  # type: ignore[operator]
        done = site.wsd("reload")
        assert done.returncode == 78, done.stdout + done.stderr
        assert said in done.stderr
        assert "goes on as before" in done.stderr
        assert site.said("reload refused")
        site.config.write_text(good)
        second, greeting = enter(port)
        with second:
            assert greeting == "one hello"
            second.send_text("still here")
            assert first.receive_message() == "one still here"
        assert [dict(item, connections=0) for item in site.status()["protocols"]] == [
            dict(item, connections=0) for item in before
        ]


def test_a_failing_init_destroys_what_was_initialised_before_it(site: Site) -> None:
    site.run()
    room(site)
    site.plugin(
        "zzz",
        "from wsd import Protocol\nclass Last(Protocol):\n    name = 'zzz'\n"
        "    def on_protocol_init(self, context, options):\n        raise RuntimeError('no database')\n"
        "protocols = [Last]\n",
    )
    done = site.wsd("reload")
    assert done.returncode == 78
    assert "no database" in done.stderr
    site.wait_said("room made: one")
    site.wait_said("room destroyed: one")
    assert [item["name"] for item in site.status()["protocols"]] == ["echo"]


def test_listeners_come_and_go_and_stay(site: Site, tmp_path: Path) -> None:
    stays, goes = tmp_path / "stays.sock", tmp_path / "goes.sock"
    site.configure(listen=["port = 0", f'unix = "{stays}"', f'unix = "{goes}"'])
    site.run()
    port = site.port
    inode = stays.stat().st_ino
    with connect(str(goes), "echo") as old, connect(port, "echo") as tcp:
        comes = tmp_path / "comes.sock"
        site.configure(listen=[f'unix = "{comes}"', "port = 0", f'unix = "{stays}"'])
        assert site.wsd("reload").returncode == 0
        assert stays.stat().st_ino == inode
        assert not goes.exists()
        for client in (old, tcp):
            client.send_text("still")
            assert client.receive_message() == "still"
        for address in (str(comes), str(stays), port):
            with connect(address, "echo") as client:
                client.send_text("new")
                assert client.receive_message() == "new"


def test_a_listener_that_cannot_be_bound_refuses_the_reload_whole(site: Site, tmp_path: Path) -> None:
    site.run()
    port = site.port
    comes = tmp_path / "comes.sock"
    site.configure(listen=["port = 0", f'unix = "{comes}"', 'interface = "203.0.113.1"\nport = 1'])
    done = site.wsd("reload")
    assert done.returncode == 1
    assert "203.0.113.1" in done.stderr
    assert not comes.exists()
    with connect(port, "echo") as client:
        client.send_text("still")
        assert client.receive_message() == "still"


def test_other_protocols_on_a_kept_listener(site: Site) -> None:
    room(site)
    site.configure(listen='port = 0\nprotocols = ["echo"]')
    site.run()
    port = site.port
    site.configure(listen='port = 0\nprotocols = ["room"]')
    assert site.wsd("reload").returncode == 0
    client, _ = enter(port)
    client.disconnect()
    assert [item["name"] for item in site.status()["protocols"]] == ["room"]


def test_a_connection_limit_that_is_raised_lets_those_in_who_wait(site: Site) -> None:
    site.configure(more="[limits]\nmax_connections = 1")
    site.run()
    port = site.port
    with connect(port, "echo") as first, Client(port) as second:
        second.send(upgrade_request("/", "echo"))
        assert site.status()["connections"] == 1
        site.configure(more="[limits]\nmax_connections = 2")
        assert site.wsd("reload").returncode == 0
        assert second.receive_response().status == 101
        site.configure(more="[limits]\nmax_connections = 1")
        assert site.wsd("reload").returncode == 0
        assert site.status()["max_connections"] == 1
        first.send_text("both stay")
        assert first.receive_message() == "both stay"


def test_log_levels_change(site: Site) -> None:
    site.run()
    site.configure(log='levels = ["err", "info", "notice"]')
    assert site.wsd("reload").returncode == 0
    with site.connect():
        pass
    site.wait_said("INFO")


def test_a_thousand_signals_are_a_few_reloads(site: Site) -> None:
    site.plugin("slow", "import time\ntime.sleep(0.05)\n" + ECHO.format(name="slow"))
    pid = site.run()
    with site.connect() as client:
        for _ in range(1000):
            os.kill(pid, signal.SIGHUP)
        wait_until(lambda: site.said("reload done"))
        client.send_text("still here")
        assert client.receive_message() == "still here"
        # A reload takes longer than the storm: one that runs, one that waits, and one for what came in between.
        assert site.status()["pid"] == pid
    assert site.log.read_text().count("reload done") <= 3


def test_modules_of_replaced_plugins_go(site: Site) -> None:
    site.plugin(
        "spy",
        "import sys\nfrom wsd import Protocol\nclass Spy(Protocol):\n    name = 'spy'\n"
        "    def on_message(self, wsi, message):\n"
        "        wsi.send(' '.join(sorted(n for n in sys.modules if n.startswith('wsd_plugins.'))))\n"
        "protocols = [Spy]\n",
    )
    room(site)
    site.run()
    for version in ("two", "three"):
        room(site, version)
        assert site.wsd("reload").returncode == 0
    with site.connect("spy") as client:
        client.send_text("who is there?")
        modules = str(client.receive_message()).split()
    assert len(modules) == 3, modules  # echo, room, spy


def test_a_reload_of_a_detached_daemon(site: Site) -> None:
    pid = site.start()
    site.plugin("more", ECHO.format(name="more"))
    done = site.wsd("reload")
    assert done.returncode == 0
    assert "reloaded" in done.stdout
    assert lock_holder(site.pidfile) == pid
    assert [item["name"] for item in site.status()["protocols"]] == ["echo", "more"]


FROZEN = """
import gc
from wsd import Protocol


class Frozen(Protocol):
    name = "frozen"

    def on_message(self, wsi, message):
        wsi.send(str(gc.get_freeze_count()))


protocols = [Frozen]
"""


def test_the_collector_passes_by_what_the_start_has_made_until_a_reload_may_replace_it(site: Site) -> None:
    site.plugin("frozen", FROZEN)
    site.run()
    port = site.port
    with connect(port, "frozen") as client:
        client.send_text("?")
        assert int(str(client.receive_message())) > 10_000
        done = site.wsd("reload")
        assert done.returncode == 0, done.stderr
        client.send_text("?")
        assert client.receive_message() == "0"


def test_a_daemon_that_stops_reloads_no_more(site: Site) -> None:
    site.configure(more="[timeouts]\nclose_seconds = 5")
    pid = site.run()
    with site.connect() as client:
        os.kill(pid, signal.SIGTERM)
        assert client.receive_close().close_code == 1001
        done = site.wsd("reload")  # while our answer to the Close is awaited
        assert done.returncode == 1
        assert "wsd: the daemon is stopping\n" in done.stderr
        answer = control.ask(control.control_path(site.pidfile), {"command": "dance"}, PATIENCE)
        assert (answer["ok"], answer["exit"]) == (False, 2)
        assert "no such command: 'dance'" in answer["text"]
        client.send(close_frame(1001))
        client.disconnect()
        assert site.wait_end() == 0
