"""wsd/listener.py: binding an address, what is refused with which words, and the file of a Unix socket."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsd.config import Keepalive, Listen
from wsd.context import Context
from wsd.errors import StartError
from wsd.listener import Listener, bind


@pytest.fixture
def context() -> Iterator[Context]:
    with Context() as context:
        yield context


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "wsd.sock")


def unix(path: str, **fields: str) -> Listen:
    return Listen(unix=path, **fields)  # type: ignore[arg-type]


class TestTcp:
    def test_a_port_in_use_is_refused_with_how_to_find_whose(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(StartError, match=f"127.0.0.1:{port}: Address already in use .*ss -ltnp.*:{port}'"):
                bind(Listen(port=port))

    def test_connections_in_time_wait_do_not_hold_up_a_restart(self) -> None:
        sock = bind(Listen(port=0))
        port = sock.getsockname()[1]
        with sock, socket.create_connection(("127.0.0.1", port)) as client:
            served, _ = sock.accept()
            served.close()  # we close first, so TIME_WAIT is ours
            assert client.recv(1) == b""
        bind(Listen(port=port)).close()

    def test_an_address_that_is_not_ours(self) -> None:
        with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address"):
            bind(Listen(interface="192.0.2.1", port=0))

    def test_a_name_that_is_none(self) -> None:
        with pytest.raises(StartError, match=r"cannot listen on no-such-host\.invalid:0: "):
            bind(Listen(interface="no-such-host.invalid", port=0))

    @pytest.mark.parametrize("v6_only", [True, False])
    def test_ipv6_takes_ipv4_only_if_told(self, v6_only: bool) -> None:
        with bind(Listen(interface="::", port=0, v6_only=v6_only)) as sock:
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == v6_only
            there = ("127.0.0.1", sock.getsockname()[1])
            if v6_only:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(there)
            else:
                socket.create_connection(there).close()

    def test_a_kernel_without_ipv6_is_a_sentence_and_no_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: int) -> socket.socket:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

        monkeypatch.setattr("wsd.listener.socket.socket", refuse)
        with pytest.raises(StartError, match=r"cannot listen on \[::1\]:0: Address family not supported"):
            bind(Listen(interface="::1", port=0))

    def test_no_child_process_inherits_it(self) -> None:
        with bind(Listen(port=0)) as sock:
            assert not os.get_inheritable(sock.fileno())


class TestUnix:
    @pytest.mark.parametrize("mode", ["0600", "0666"])
    def test_the_mode_is_as_asked_whatever_the_umask(self, path: str, mode: str) -> None:
        before = os.umask(0o077)
        try:
            with bind(unix(path, unix_mode=mode)):
                assert stat.S_IMODE(os.stat(path).st_mode) == int(mode, 8)
            assert os.umask(0o077) == 0o077, "the process's own umask was changed"
        finally:
            os.umask(before)

    def test_owner_and_group_by_name_and_by_number(self, path: str) -> None:
        me = pwd.getpwuid(os.getuid())
        with bind(unix(path, unix_owner=me.pw_name, unix_group=str(os.getgid()))):
            status = os.stat(path)
            assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())

    @pytest.mark.needs_root
    @pytest.mark.skipif(os.getuid() != 0, reason="changing a file's owner takes root")
    def test_root_gives_it_away(self, path: str) -> None:
        nobody = pwd.getpwnam("nobody")
        with bind(unix(path, unix_owner="nobody", unix_group=str(nobody.pw_gid))):
            status = os.stat(path)
            assert (status.st_uid, status.st_gid) == (nobody.pw_uid, nobody.pw_gid)

    @pytest.mark.parametrize(("field", "text"), [("unix_owner", "no such user"), ("unix_group", "no such group")])
    @pytest.mark.parametrize("name", ["nobody-of-that-name", "4000000000"])
    def test_an_account_that_is_none_is_a_fault_of_the_configuration(
        self, path: str, field: str, text: str, name: str
    ) -> None:
        with pytest.raises(StartError, match=f"{field}: {text}: {name}") as caught:
            bind(unix(path, **{field: name}))
        assert caught.value.exit_status == 78
        assert not os.path.lexists(path)

    def test_the_file_of_a_dead_one_is_replaced(self, path: str) -> None:
        bind(unix(path)).close()
        assert os.path.exists(path)
        with bind(unix(path)), socket.socket(socket.AF_UNIX) as client:
            client.connect(path)

    def test_that_of_a_live_one_is_refused_and_untouched(self, path: str) -> None:
        with bind(unix(path)):
            before = os.stat(path).st_ino
            with pytest.raises(StartError, match="another program listens there"):
                bind(unix(path))
            assert os.stat(path).st_ino == before

    def test_a_live_one_whose_queue_is_full_is_not_taken_for_dead(self, path: str) -> None:
        with bind(Listen(unix=path, backlog=1)):
            waiting: list[socket.socket] = []
            try:
                while True:
                    waiting.append(socket.socket(socket.AF_UNIX))
                    waiting[-1].setblocking(False)
                    try:
                        waiting[-1].connect(path)
                    except BlockingIOError:
                        break
                with pytest.raises(StartError, match="another program listens there"):
                    bind(unix(path))
            finally:
                for sock in waiting:
                    sock.close()

    def test_a_socket_of_another_kind_is_not_ours_to_remove(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(path)
            with pytest.raises(StartError, match="another program listens there"):
                bind(unix(path))
            assert os.path.exists(path)

    @pytest.mark.parametrize("kind", ["file", "folder", "link to a dead socket", "link to nothing"])
    def test_what_is_no_socket_is_refused_and_untouched(self, path: str, kind: str) -> None:
        if kind == "file":
            Path(path).write_text("precious")
        elif kind == "folder":
            os.mkdir(path)
        else:
            if "dead" in kind:
                bind(unix(path + ".target")).close()
            os.symlink(path + ".target", path)
        with pytest.raises(StartError, match="it exists and is no socket"):
            bind(unix(path))
        assert os.path.lexists(path)
        if kind == "file":
            assert Path(path).read_text() == "precious"

    def test_a_folder_that_is_not_there(self, path: str) -> None:
        with pytest.raises(StartError, match="No such file or directory"):
            bind(unix(path + "/wsd.sock"))

    def test_a_failure_after_binding_leaves_no_file(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr("wsd.listener.os.chmod", refuse)
        with pytest.raises(StartError, match="Operation not permitted"):
            bind(unix(path))
        assert not os.path.lexists(path)


class TestClosing:
    def test_the_file_goes_with_the_listener(self, context: Context, path: str) -> None:
        listener = context.listen(unix=path)
        assert os.path.exists(path)
        context.remove_listener(listener)
        assert not os.path.lexists(path)
        assert context.listeners == []

    def test_a_file_that_is_another_programs_by_now_stays(self, context: Context, path: str) -> None:
        listener = context.listen(unix=path)
        os.unlink(path)
        with bind(unix(path)) as other:
            context.remove_listener(listener)
            assert os.path.exists(path)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                other.accept()[0].close()

    def test_a_file_that_is_gone_already_is_no_error(self, context: Context, path: str) -> None:
        listener = context.listen(unix=path)
        os.unlink(path)
        context.remove_listener(listener)


class TestNames:
    def test_ipv4(self, context: Context) -> None:
        listener = context.listen(port=0)
        assert listener.sockname == f"127.0.0.1:{listener.port}"
        assert listener.url == f"ws://127.0.0.1:{listener.port}/"

    def test_ipv6(self, context: Context) -> None:
        listener = context.listen(interface="::1", port=0)
        assert listener.sockname == f"[::1]:{listener.port}"

    def test_unix(self, context: Context, path: str) -> None:
        listener = context.listen(unix=path)
        assert (listener.sockname, listener.url, listener.port) == (path, f"unix:{path}", 0)


class _Calls:
    """In the place of accept(2): a script of errors; after it, nothing waits."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.count = 0

    def __call__(self, fd: int, wants_local: bool) -> tuple[int, None, None]:
        self.count += 1
        return -(self.numbers.pop(0) if self.numbers else errno.EAGAIN), None, None


class TestAccept:
    @pytest.fixture
    def listener(self, context: Context) -> Listener:
        return context.listen(port=0)

    def calls(self, monkeypatch: pytest.MonkeyPatch, *numbers: int) -> _Calls:
        calls = _Calls(*numbers)
        monkeypatch.setattr("wsd.listener.accept", calls)
        return calls

    @pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH, errno.EPERM, errno.EINTR])
    def test_one_that_was_gone_before_we_came_stops_nothing(
        self, context: Context, listener: Listener, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        calls = self.calls(monkeypatch, number, number)
        listener.on_events(1)
        assert calls.count == 3
        assert context.counters.accept_pauses == 0

    @pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
    def test_a_system_that_has_no_more_pauses_all_accepting(
        self, context: Context, listener: Listener, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        other = context.listen(port=0)
        calls = self.calls(monkeypatch, number, number)
        listener.on_events(1)
        assert calls.count == 1
        assert context.counters.accept_pauses == 1
        assert other._mask == 0
        context.service(1)  # until the timer resumes it
        assert other._mask != 0

    def test_so_many_in_a_turn_and_the_rest_in_the_next(
        self, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = self.calls(monkeypatch, *[errno.ECONNABORTED] * 100)
        listener.on_events(1)
        assert calls.count == 64


# What the connections of a listener are to have, with the defaults of [keepalive].
OPTIONS = {
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): 1,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 60,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 10,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 90_000,
}


class TestWhatConnectionsInherit:
    """Set once, on the listener: Linux copies it."""

    def options(self, context: Context, listener: Listener) -> dict[tuple[int, int], int]:
        """What the next connection has, as the system says."""
        with socket.create_connection(("127.0.0.1", listener.port)):
            known = set(context._wsis)
            while not (new := context._wsis.keys() - known):
                context.service(5)
            fd = new.pop().fileno()
            assert not os.get_blocking(fd)
            assert not os.get_inheritable(fd)
            with socket.socket(fileno=os.dup(fd)) as sock:
                return {
                    name: int(sock.getsockopt(*name) != 0) if name[1] == 1 else sock.getsockopt(*name)
                    for name in OPTIONS
                }

    @pytest.mark.parametrize("is_adopted", [False, True])
    def test_an_accepted_socket_has_it(self, context: Context, is_adopted: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:  # as systemd hands one over: nothing is set on it
            listener = context.listen(sock=sock.dup() if is_adopted else None, port=0)
            assert self.options(context, listener) == OPTIONS

    def test_a_reload_that_changes_it(self, context: Context) -> None:
        listener = context.listen(port=0)
        context.keepalive = Keepalive(time_seconds=5, probes=2, interval_seconds=1)
        listener.reconfigure(listener.config, None, None)
        changed = self.options(context, listener)
        assert changed[socket.IPPROTO_TCP, socket.TCP_KEEPIDLE] == 5
        assert changed[socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT] == 7_000
        context.keepalive = Keepalive(time_seconds=0)
        listener.reconfigure(listener.config, None, None)
        off = self.options(context, listener)
        assert off[socket.IPPROTO_TCP, socket.TCP_NODELAY] == 1
        assert off[socket.SOL_SOCKET, socket.SO_KEEPALIVE] == 0
        assert off[socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT] == 0


class TestWhereWeAre:
    """`wsi.local`: known beforehand where a listener has one address."""

    @pytest.mark.parametrize("interface", ["127.0.0.1", "0.0.0.0", "::1", "::"])
    def test_it_is_what_the_peer_connected_to(self, context: Context, interface: str) -> None:
        listener = context.listen(interface=interface, port=0)
        to = "::1" if ":" in interface else "127.0.0.1" if interface == "127.0.0.1" else "127.0.0.2"
        with socket.create_connection((to, listener.port)) as client:
            while not context.wsi_count:
                context.service(5)
            (wsi,) = context._wsis
            assert wsi.local == client.getpeername()[:2]
            assert wsi.peer == client.getsockname()[:2]

    def test_of_a_unix_socket(self, context: Context, path: str) -> None:
        context.listen(unix=path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            while not context.wsi_count:
                context.service(5)
            (wsi,) = context._wsis
            assert (wsi.local, wsi.peer) == ((path, 0), ("", 0))

    @pytest.mark.needs_root
    @pytest.mark.skipif(os.getuid() != 0, reason="a transparent socket takes CAP_NET_ADMIN")
    def test_a_transparent_socket_asks_each(self, context: Context) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setsockopt(socket.IPPROTO_IP, 19, 1)
        assert context.listen(sock=sock)._local is None
        assert context.listen(port=0)._local is not None
