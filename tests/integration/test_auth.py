"""Passwords and tokens at a real daemon: who comes in, what the others get, and what is never written down."""

from __future__ import annotations

import os
import pty
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as websocket

from tests.support.client import TEXT, Client, connect, frame, upgrade_request
from tests.support.context import running
from tests.support.daemon import WSD, Site
from tests.support.programs import readable_python, require_program
from tests.support.secrets import basic, bearer, password_file, scrypt_line, token_file, write
from tests.support.timing import PATIENCE, wait_until
from wsd.config import Auth
from wsd.errors import ConfigError
from wsd.protocol import Protocol

EVERYTHING = "err,warn,notice,info,debug,parser,header,ext,client,latency,user"

# Says who it is that has come, then echoes.
WHO = """
from wsd import Protocol


class Who(Protocol):
    name = "who"

    def on_established(self, wsi):
        wsi.send(f"{wsi.identity} {wsi.request.target}")

    def on_message(self, wsi, message):
        wsi.send(message)


protocols = [Who]
"""

NOBODY = pwd.getpwnam("nobody")

COSTLY = {"log2_n": 14, "lanes": 5}
"""What `wsd password` writes: a fifth of a second for each."""

AUTH = """port = 0
static_folder = "files"
default_protocol = "who"
protocols = ["who", "echo"]
[listen.auth]
password_file = "passwords"
token_file = "tokens"
realm = "the club"
token_argument = "access_token"
"""

OPEN_ECHO = """
[protocols.echo.auth]
password_file = ""
token_file = ""
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """alice has a password, bob a token; `echo` is for everybody."""
    with Site(tmp_path) as site:
        furnish(site)
        yield site


def furnish(site: Site, **costs: int) -> None:
    password_file(site.folder / "passwords", {"alice": "open-sesame"}, **costs)
    token_file(site.folder / "tokens", {"bobs-token": "bob"})
    (site.folder / "files").mkdir(exist_ok=True)
    (site.folder / "files" / "page.html").write_text("inside")
    site.plugin("who", WHO)
    site.configure(listen=AUTH, more=OPEN_ECHO)


ALICE, BOB = basic("alice", "open-sesame"), bearer("bobs-token")


def status_of(port: int, *headers: tuple[str, str], path: str = "/") -> int:
    """What an upgrade request gets."""
    with Client(port) as client:
        return client.request(upgrade_request(path, headers=headers)).status


def greeting(port: int, *headers: tuple[str, str], path: str = "/") -> str | bytes:
    with connect(port, path=path, headers=headers) as client:
        return client.receive_message()


# -- who comes in -----------------------------------------------------------------------------------------------------


def test_a_websocket_knows_who_it_is(site: Site) -> None:
    site.run()
    assert greeting(site.port, ALICE) == "alice /"
    assert greeting(site.port, ALICE) == "alice /"  # remembered
    assert greeting(site.port, BOB, path="/x?y=1") == "bob /x?y=1"
    assert greeting(site.port, path="/x?access_token=bobs-token&y=1") == "bob /x?access_token=***&y=1"


@pytest.mark.parametrize(
    "shown",
    [(), (basic("alice", "open-sesamf"),), (basic("eve", "open-sesame"),), (bearer("eves"),), (bearer("open-sesame"),)],
)
def test_everybody_else_gets_401_and_both_challenges(shown: tuple[tuple[str, str], ...], site: Site) -> None:
    site.run()
    with Client(site.port) as client:
        answer = client.request(upgrade_request(headers=shown))
        assert answer.status == 401
        assert client.receive_end() == b""
    lines = [value for name, value in answer.headers if name == "WWW-Authenticate"]
    assert lines[0] == 'Basic realm="the club", charset="UTF-8"'
    assert lines[1].startswith('Bearer realm="the club"')
    assert site.status()["counters"]["unauthorized"] == 1


def test_a_protocol_may_be_for_everybody(site: Site) -> None:
    site.run()
    with site.connect("echo") as client:
        client.send_text("hello")
        assert client.receive_message() == "hello"
    assert status_of(site.port, ("Sec-WebSocket-Protocol", "who")) == 401


def test_the_websockets_library(site: Site) -> None:
    site.run()
    with websocket(f"ws://alice:open-sesame@127.0.0.1:{site.port}/", compression=None) as one:
        assert one.recv(PATIENCE) == "alice /"
    with websocket(f"ws://127.0.0.1:{site.port}/", additional_headers=dict([BOB])) as one:
        assert one.recv(PATIENCE) == "bob /"
    with pytest.raises(InvalidStatus) as caught:
        websocket(f"ws://alice:wrong@127.0.0.1:{site.port}/")
    assert caught.value.response.status_code == 401


def test_curl_gets_files_with_a_password_and_not_without(site: Site) -> None:
    site.run()
    url = f"http://127.0.0.1:{site.port}/page.html"
    assert curl(url) == "401"
    assert curl(url, "-u", "alice:wrong") == "401"
    assert curl(url, "-u", "alice:open-sesame") == "inside200"
    assert curl(url, "-u", "alice:open-sesame", "--anyauth") == "inside200"  # asks, is challenged, and asks again
    assert curl(url, "--oauth2-bearer", "bobs-token") == "inside200"
    assert curl(url, "-I", "-o", "/dev/null", "-u", "alice:open-sesame") == "200"
    assert curl(url, "-I", "-o", "/dev/null") == "401"
    assert curl(f"{url}?access_token=bobs-token") == "inside200"
    assert curl(url, "-u", "alice:open-sesame", "-X", "POST", "-d", "a body") == "405"


def curl(url: str, *arguments: str) -> str:
    """The body, unless it is an error's, and the status."""
    program = require_program("curl", package="curl")
    done = subprocess.run(
        [program, "--silent", "--max-time", str(PATIENCE), "--write-out", "%{http_code}", *arguments, url],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.rpartition(">\n")[2]


def test_accents_arrive(site: Site) -> None:
    password_file(site.folder / "passwords", {"zo\xeb": "gar\xe7on"})
    site.run()
    assert greeting(site.port, basic("zo\xeb", "gar\xe7on")) == "zo\xeb /"
    assert greeting(site.port, basic("zoe\u0308", "garc\u0327on")) == "zo\xeb /"


# -- while it is compared ---------------------------------------------------------------------------------------------


def test_what_follows_the_request_is_kept_until_the_answer(site: Site) -> None:
    furnish(site, **COSTLY)
    site.run()
    with Client(site.port) as client:
        client.send(upgrade_request(headers=[ALICE]), frame(TEXT, "one"), frame(TEXT, "two"))
        assert client.receive_response().status == 101
        assert [client.receive_message() for _ in range(3)] == ["alice /", "one", "two"]
    with Client(site.port) as client:  # and so is the next request
        request = f"GET /page.html HTTP/1.1\r\nHost: a\r\n{': '.join(ALICE)}\r\n\r\n".encode()
        client.send(request, request, upgrade_request(headers=[ALICE]), frame(TEXT, "three"))
        assert [client.receive_response().body for _ in range(2)] == [b"inside"] * 2
        assert client.receive_response().status == 101
        assert [client.receive_message() for _ in range(2)] == ["alice /", "three"]


def test_a_hundred_wrong_passwords_at_once_stop_no_echo(site: Site) -> None:
    furnish(site, **COSTLY)
    # On a busy machine the last of those that wait would get 503 too, for the time it takes.
    site.configure(listen=AUTH, more=f"{OPEN_ECHO}\n[timeouts]\nhandshake_seconds = 60")
    site.run()
    with ExitStack() as stack:
        good = stack.enter_context(site.connect("echo"))
        guessing = {}
        for number in range(100):
            client = stack.enter_context(Client(site.port))
            client.send(upgrade_request(headers=[basic("alice", f"guess-{number}")]))
            guessing[client.socket.fileno()] = client
        statuses = []
        echoes = 0
        while guessing:
            good.send_text(f"still there? {echoes}")
            assert good.receive_message() == f"still there? {echoes}"
            echoes += 1
            # Without any pause the echoes would take the processor from those who compare passwords, at low priority.
            for fd in select.select(list(guessing), [], [], 0.01)[0]:
                answer = guessing.pop(fd).receive_response()
                statuses.append(answer.status)
                assert (answer.header("Retry-After") is not None) == (answer.status == 503)
        counters = site.status()["counters"]
    assert set(statuses) == {401, 503}
    assert (statuses.count(401), statuses.count(503)) == (counters["unauthorized"], counters["verifier_full"])
    # One at a time keeps a processor busy for a fifth of a second, in which an echo comes back often.
    assert echoes > statuses.count(401)
    assert greeting(site.port, ALICE) == "alice /"


def test_those_who_leave_meanwhile_are_forgotten(site: Site) -> None:
    furnish(site, **COSTLY)
    site.run()
    for number in range(60):
        client = Client(site.port)
        client.send(upgrade_request(headers=[basic("alice", f"guess-{number}")]))
        client.reset()
    wait_until(lambda: site.status()["connections"] == 0)
    assert greeting(site.port, ALICE) == "alice /"


def test_a_stop_meanwhile_is_a_stop(site: Site) -> None:
    furnish(site, **COSTLY)
    pid = site.run()
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(site.port)) for _ in range(10)]
        for number, client in enumerate(clients):
            client.send(upgrade_request(headers=[basic("alice", f"guess-{number}")]))
        wait_until(lambda: site.status()["counters"]["http_requests"] == 10)
        os.kill(pid, signal.SIGTERM)
        assert {client.receive_response().status for client in clients} <= {401, 503}
        for client in clients:
            client.disconnect()
        assert site.wait_end() == 0


# -- the files --------------------------------------------------------------------------------------------------------


def test_a_change_needs_no_restart(site: Site) -> None:
    site.run()
    assert status_of(site.port, basic("carol", "hers")) == 401
    add = site.folder / "passwords"
    with add.open("a") as file:
        file.write(scrypt_line("carol", "hers") + "\n")
    wait_until(lambda: status_of(site.port, basic("carol", "hers")) == 101)
    password_file(add, {"carol": "hers"})
    wait_until(lambda: status_of(site.port, ALICE) == 401)
    token_file(site.folder / "tokens", {"new-token": "bob"})
    wait_until(lambda: status_of(site.port, bearer("new-token")) == 101)
    assert status_of(site.port, BOB) == 401


def test_a_change_for_the_worse_changes_nothing(site: Site) -> None:
    site.run()
    write(site.folder / "passwords", "alice:plain-text")
    wait_until(lambda: status_of(site.port, ALICE) == 101 and site.said("going on with what it said before"))
    assert site.said(f"{site.folder}/passwords: line 1: expected NAME:$scrypt$")
    assert not site.said("plain-text")
    done = site.wsd("reload")
    assert done.returncode == 78
    assert f"{site.folder}/passwords: line 1: expected NAME:$scrypt$" in done.stderr
    assert status_of(site.port, ALICE) == 101


def test_a_reload_takes_other_files(site: Site) -> None:
    site.run()
    password_file(site.folder / "others", {"dave": "his"})
    port = site.port
    site.configure(listen=AUTH.replace('"passwords"', '"others"'), more=OPEN_ECHO)
    assert site.wsd("reload").returncode == 0
    assert status_of(port, basic("dave", "his")) == 101
    assert status_of(port, ALICE) == 401
    site.configure(listen=AUTH.partition("[listen.auth]")[0])
    assert site.wsd("reload").returncode == 0
    assert status_of(port) == 101


@pytest.mark.parametrize("command", ["check", "run", "start"])
def test_a_file_that_is_wrong_stops_a_start(command: str, site: Site) -> None:
    write(site.folder / "passwords", "# people", "alice:plain-text")
    (site.folder / "tokens").chmod(0o644)
    done = site.wsd(command)
    assert done.returncode == 78
    assert f"{site.folder}/passwords: line 2: expected NAME:$scrypt$" in done.stderr
    assert f"{site.folder}/tokens: found mode 0644" in done.stderr
    assert "plain-text" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands_write_what_the_daemon_reads(site: Site) -> None:
    site.run()
    run = [*WSD, "password", "frank", "passwords"]
    env = site.environment()
    done = subprocess.run(
        run, input="four words\n", cwd=site.folder, env=env, capture_output=True, text=True, check=True
    )
    assert "four words" not in done.stdout + done.stderr
    made = subprocess.run([*WSD, "token", "grace", "tokens"], cwd=site.folder, env=env, capture_output=True, text=True)
    token = made.stdout.strip()
    assert (made.returncode, len(token), made.stderr) == (0, 43, "")
    assert token not in (site.folder / "tokens").read_text()
    wait_until(lambda: status_of(site.port, basic("frank", "four words")) == 101)
    wait_until(lambda: status_of(site.port, bearer(token)) == 101)
    assert status_of(site.port, ALICE) == 101


def test_a_terminal_is_asked_twice_and_echoes_nothing(site: Site) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(site.folder)
        os.execve(sys.executable, [*WSD, "password", "heidi", "passwords"], site.environment())
    shown = b""
    try:
        for _ in range(2):
            shown = read_until(terminal, shown, b": ")
            os.write(terminal, b"hard to guess\n")
            shown += b"|"
        shown = read_until(terminal, shown, b"now\r\n")
    finally:
        os.waitpid(pid, 0)
        os.close(terminal)
    assert b"hard" not in shown
    site.run()
    assert greeting(site.port, basic("heidi", "hard to guess")) == "heidi /"


def read_until(terminal: int, shown: bytes, end: bytes) -> bytes:
    """What a terminal shows, up to `end` behind what it showed before."""
    after = len(shown)
    while end not in shown[after:]:
        assert select.select([terminal], [], [], PATIENCE)[0], shown
        shown += os.read(terminal, 1024)
    return shown


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root (in a container) for these")
def test_the_files_are_read_again_without_privileges() -> None:
    folder = Path(tempfile.mkdtemp(prefix="wsd-test-"))
    folder.chmod(0o755)
    try:
        with Site(folder) as site:
            furnish(site)
            site.configure(daemon='user = "nobody"', listen=AUTH, more=OPEN_ECHO)
            refused = site.wsd("check", prefix=readable_python())
            assert refused.returncode == 78
            assert f"{folder}/passwords: cannot be read by nobody, which a reload needs; chgrp" in refused.stderr
            for name in ("passwords", "tokens"):
                lend(folder / name)
            pid = site.run(prefix=readable_python())
            assert os.stat(f"/proc/{pid}").st_uid == NOBODY.pw_uid
            assert greeting(site.port, ALICE) == "alice /"
            lend(password_file(folder / "passwords", {"carol": "hers"}))
            wait_until(lambda: status_of(site.port, basic("carol", "hers")) == 101)
            assert status_of(site.port, ALICE) == 401
    finally:
        shutil.rmtree(folder)


def lend(path: Path) -> Path:
    """root owns it, and the daemon's group may read it."""
    os.chown(path, 0, NOBODY.pw_gid)
    path.chmod(0o640)
    return path


# -- what is never written down ---------------------------------------------------------------------------------------


def test_no_secret_reaches_the_log(site: Site) -> None:
    site.run("--log", EVERYTHING)
    secrets = ["open-sesame", "bobs-token", "wrong-password", "wrong-token", "odd-token"]
    for path in ("/", "/page.html", "/nowhere"):
        for shown in ([ALICE], [BOB], [basic("alice", "wrong-password")], [bearer("wrong-token")]):
            status_of(site.port, *shown, path=path)
            with Client(site.port) as client:
                client.request(f"GET {path} HTTP/1.1\r\nHost: a\r\n{': '.join(shown[0])}\r\n\r\n")
        for token in ("bobs-token", "wrong-token", "odd-token%20"):
            target = f"{path}?access_token={token}&x=1"
            status_of(site.port, path=target)
            status_of(site.port, ("Sec-WebSocket-Protocol", "echo"), path=target)
            status_of(site.port, ("Sec-WebSocket-Protocol", "unknown"), path=target)
            status_of(site.port, ("Sec-WebSocket-Version", "8"), path=target)
            status_of(site.port, ("Origin", "http://elsewhere.example"), path=target)
            status_of(site.port, BOB, path=target)
            with Client(site.port) as client:
                client.request(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
    site.wait_said("access_token=***&x=1")
    written = site.log.read_text()
    encoded = [value.split(" ")[1] for _, value in (ALICE, basic("alice", "wrong-password"))]
    assert "refused with 401" in written
    assert [secret for secret in (*secrets, *encoded) if secret in written] == []


# -- embedded ---------------------------------------------------------------------------------------------------------


class Who(Protocol):
    name = "who"

    def __init__(self) -> None:
        self.known: list[Any] = []

    def on_established(self, wsi: Any) -> None:
        self.known.append(wsi.identity)
        wsi.send("welcome")


def test_an_embedder_needs_no_configuration_file(tmp_path: Path) -> None:
    auth = Auth(token_file=str(token_file(tmp_path / "tokens", {"bobs-token": "bob"})))
    who = Who()
    with running([who], listen={"auth": auth}) as served:
        assert greeting(served.port, BOB) == "welcome"
        assert status_of(served.port) == 401
    assert who.known == ["bob"]
    with (
        pytest.raises(ConfigError, match="cannot be read"),
        running([Who()], listen={"auth": Auth(token_file="/none")}),
    ):
        pass
