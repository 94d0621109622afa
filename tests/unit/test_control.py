"""The control socket, both ends: the daemon's in a real context that is turned by hand, the command's in a thread."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.timing import MS, PATIENCE
from wsd import control
from wsd.context import Context
from wsd.control import Answer, Control, NoAnswer, Request, ask, control_path
from wsd.errors import StartError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return control_path(tmp_path / "wsd.pid")


class End:
    """The daemon's end; what it was asked is in `asked`."""

    def __init__(self, path: Path) -> None:
        self.context = Context()
        self.asked: list[Request] = []
        self.reply: Callable[[Request], Answer] = lambda request: {"ok": True}
        self.control = Control(self.context, control.bind(path), self._answer)

    def _answer(self, request: Request) -> Answer:
        self.asked.append(request)
        return self.reply(request)

    def until(self, is_over: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not is_over():
            assert time.monotonic() < deadline
            self.context.service(0.01)

    def close(self) -> None:
        self.control.close()
        self.context.close()


@pytest.fixture
def end(path: Path) -> Iterator[End]:
    end = End(path)
    yield end
    end.close()


@pytest.fixture
def asking(end: End, path: Path) -> Iterator[Callable[[Request], Answer]]:
    """Asks from another thread while the daemon's end is turned."""
    with ThreadPoolExecutor(1) as pool:

        def question(request: Request) -> Answer:
            future: Future[Answer] = pool.submit(ask, path, request, PATIENCE)
            end.until(future.done)
            return future.result()

        yield question


def raw(path: Path, data: bytes) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(str(path))
    client.sendall(data)
    return client


def received(end: End, client: socket.socket) -> bytes:
    """All that comes until the daemon's end hangs up."""
    client.setblocking(False)
    data = bytearray()

    def at_end() -> bool:
        try:
            more = client.recv(65536)
        except BlockingIOError:
            return False
        data.extend(more)
        return not more

    end.until(at_end)
    client.close()
    return bytes(data)


@pytest.mark.parametrize(("pidfile", "name"), [("wsd.pid", "wsd.ctl"), ("wsd", "wsd.ctl"), ("a.b", "a.b.ctl")])
def test_it_lies_beside_the_pidfile(pidfile: str, name: str) -> None:
    assert control_path(Path("/run") / pidfile) == Path("/run") / name


def test_a_question_gets_its_answer(end: End, asking: Callable[[Request], Answer]) -> None:
    end.reply = lambda request: {"ok": True, "text": "ü" * 10}
    assert asking({"command": "status"}) == {"ok": True, "text": "ü" * 10}
    assert end.asked == [{"command": "status"}]


def test_an_answer_larger_than_the_kernel_takes_at_once(end: End, asking: Callable[[Request], Answer]) -> None:
    end.reply = lambda request: {"ok": True, "text": "x" * 2_000_000}
    assert len(asking({"command": "status"})["text"]) == 2_000_000


def test_nobody_but_the_owner_may_connect(end: End, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_umask_is_as_before(end: End) -> None:
    umask = os.umask(0o022)
    os.umask(umask)
    assert umask != 0o177


def test_another_user_is_refused(end: End, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "peer_uid", lambda connection: os.geteuid() + 1)
    client = raw(path, b'{"command": "stop"}\n')
    end.context.service(0)
    try:
        assert client.recv(1000) == b""
    except ConnectionResetError:
        pass  # what we sent was not read
    client.close()
    assert end.asked == []


def test_the_kernel_names_the_peer() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert control.peer_uid(one) == os.getuid()


@pytest.mark.parametrize("data", [b"nonsense\n", b"[1]\n", b"\xff\n", b"1\n", b"[" * 4000 + b"\n"])
def test_what_is_no_request_is_told_so(end: End, path: Path, data: bytes) -> None:
    answer = json.loads(received(end, raw(path, data)))
    assert (answer["ok"], answer["exit"]) == (False, 2)
    assert end.asked == []


def test_a_request_without_end_is_bounded(end: End, path: Path) -> None:
    client = raw(path, b"x" * 5000)
    try:
        assert received(end, client) == b""
    except ConnectionResetError:  # it hung up on the rest
        client.close()
    assert end.asked == []


def test_a_request_in_pieces(end: End, path: Path) -> None:
    client = raw(path, b'{"comm')
    end.context.service(0.05)
    client.sendall(b'and": "x"}\n')
    assert json.loads(received(end, client)) == {"ok": True}
    assert end.asked == [{"command": "x"}]


def test_an_answer_that_raises_is_a_failure_and_no_end(end: End, asking: Callable[[Request], Answer]) -> None:
    def fail(request: Request) -> Answer:
        raise RuntimeError("broken")

    end.reply = fail
    answer = asking({"command": "x"})
    assert not answer["ok"]
    assert "broken" in answer["text"]


def test_too_many_clients_push_out_the_oldest(end: End, path: Path) -> None:
    clients = []
    for _ in range(control._CLIENTS + 1):
        clients.append(raw(path, b""))
        end.context.service(0.05)
    assert received(end, clients[0]) == b""
    for client in clients[1:]:
        client.close()


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """As if `ulimit -n` were as low as what is open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_a_descriptor_it_waits_and_does_not_spin(end: End, path: Path) -> None:
    with raw(path, b'{"command": "x"}\n') as client:
        with no_descriptor_left():
            end.context.service(0)
            began = time.monotonic()
            end.context.service(20 * MS)  # nothing is due before the next try: it waits all that time
            assert time.monotonic() - began > 15 * MS
            assert end.asked == []
        assert json.loads(received(end, client)) == {"ok": True}


def test_it_may_be_closed_while_it_waits_for_one(end: End, path: Path) -> None:
    with raw(path, b""), no_descriptor_left():
        end.context.service(0)
        timers = len(end.context.timers)
        end.control.close()
        assert len(end.context.timers) == timers - 1
    end.control = Control(end.context, control.bind(path), lambda request: {"ok": True})


def test_a_stale_socket_is_replaced_and_removed_at_the_end(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    end = End(path)
    end.close()
    assert not path.exists()


@pytest.mark.parametrize("kind", ["link", "file", "folder"])
def test_what_is_no_socket_is_refused_untouched(path: Path, kind: str, tmp_path: Path) -> None:
    if kind == "link":
        path.symlink_to(tmp_path / "victim")
    elif kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    before = os.lstat(path)
    with pytest.raises(StartError, match="is no socket"):
        control.bind(path)
    assert os.lstat(path) == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot bind the control socket"):
        control.bind(tmp_path / "missing" / "wsd.ctl")


def test_nobody_there(path: Path) -> None:
    with pytest.raises(NoAnswer, match="No such file"):
        ask(path, {}, 1)


def test_somebody_who_does_not_answer(path: Path) -> None:
    with control.bind(path), pytest.raises(NoAnswer, match=r"no answer within 0\.01 s"):
        ask(path, {}, 0.01)


@pytest.mark.parametrize(
    ("said", "why"), [(b"", "hung up"), (b"nonsense\n", "no JSON"), (b"[]\n", "no JSON object"), (b'{"a"', "hung up")]
)
def test_an_answer_that_is_none(path: Path, said: bytes, why: str) -> None:
    with control.bind(path) as listener, ThreadPoolExecutor(1) as pool:
        future = pool.submit(ask, path, {"command": "x"}, PATIENCE)
        listener.setblocking(True)
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(said)
        with pytest.raises(NoAnswer, match=why):
            future.result()
