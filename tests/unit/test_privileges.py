"""Accounts and what they can read.  Real processes show the drop itself: integration/test_daemon_privileges.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wsd import privileges
from wsd.config import Config
from wsd.errors import ConfigError, StartError
from wsd.privileges import Account, check_may_become, prove_readable, resolve_account


def config(**daemon: str) -> Config:
    return Config.model_validate({"daemon": daemon})


def test_no_account_where_none_is_set() -> None:
    assert resolve_account(config()) is None


@pytest.mark.parametrize("user", ["root", "0"])
def test_users_by_name_and_by_number(user: str) -> None:
    account = resolve_account(config(user=user))
    assert account == Account("root", 0, 0)
    assert str(account) == "root"


def test_a_group_alone_and_beside_a_user() -> None:
    assert resolve_account(config(group="daemon")) == Account("", os.getuid(), 1)
    assert resolve_account(config(user="root", group="1")) == Account("root", 0, 1)


def test_every_unknown_name_is_a_problem_of_the_configuration() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_account(config(user="no-such-user", group="no-such-group"))
    assert [problem.key for problem in caught.value.problems] == ["daemon.user", "daemon.group"]
    assert caught.value.exit_status == 78


def test_an_account_without_a_configuration() -> None:
    assert privileges.find_account("", "") is None
    assert privileges.find_account("root", "daemon") == Account("root", 0, 1)
    with pytest.raises(StartError, match=r"^no such user: 'no-one'; .*; no such group: 'no-group'; ") as caught:
        privileges.find_account("no-one", "no-group")
    assert caught.value.exit_status == 1


def test_only_root_can_become_another(monkeypatch: pytest.MonkeyPatch) -> None:
    uid, gid = os.getuid(), os.getgid()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    check_may_become(None)
    check_may_become(Account("me", uid, gid))
    with pytest.raises(StartError, match="only root can become daemon"):
        check_may_become(Account("daemon", uid + 1, gid))


def raising(error: OSError) -> Callable[..., None]:
    def refuse(*arguments: object) -> None:
        raise error

    return refuse


def test_a_drop_that_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "initgroups", raising(PermissionError(1, "Operation not permitted")))
    with pytest.raises(StartError, match="cannot become daemon: Operation not permitted"):
        privileges.drop(Account("daemon", 1, 1))


@pytest.mark.parametrize("left", ["groups", "gid", "uid", "root"])
def test_a_drop_that_leaves_something_is_found_out(monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("initgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *arguments: None)
    monkeypatch.setattr(os, "getgrouplist", lambda user, gid: [1])
    monkeypatch.setattr(os, "getgroups", lambda: [1, 27] if left == "groups" else [1])
    monkeypatch.setattr(os, "getresgid", lambda: (1, 1, 0 if left == "gid" else 1))
    monkeypatch.setattr(os, "getresuid", lambda: (1, 1, 0 if left == "uid" else 1))
    monkeypatch.setattr(os, "setuid", lambda uid: None)
    with pytest.raises(StartError, match="privileges were not dropped"):
        privileges.drop(Account("daemon", 1, 1))


def test_a_complete_drop_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("initgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *arguments, name=name: calls.append(name))
    monkeypatch.setattr(os, "getgrouplist", lambda user, gid: [1])
    monkeypatch.setattr(os, "getgroups", lambda: [1])
    monkeypatch.setattr(os, "getresgid", lambda: (1, 1, 1))
    monkeypatch.setattr(os, "getresuid", lambda: (1, 1, 1))
    monkeypatch.setattr(os, "setuid", raising(PermissionError(1, "Operation not permitted")))
    privileges.drop(Account("daemon", 1, 1))
    assert calls == ["initgroups", "setresgid", "setresuid"]


def test_what_is_readable_or_not_there_is_no_concern(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    prove_readable([tmp_path, tmp_path / "missing"])


def test_what_cannot_be_read_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.py"
    file.touch()
    real = os.open

    def refuse(path: object, *arguments: int) -> int:
        if path == file:
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StartError, match=f"chmod 640 {file}") as caught:
        prove_readable([tmp_path])
    assert caught.value.exit_status == 78


def test_a_closed_folder_behind_a_link_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As certbot leaves it: live/key.pem leads into archive/, which is root's alone."""
    archive, live = tmp_path / "archive", tmp_path / "live"
    archive.mkdir()
    live.mkdir()
    (archive / "key1.pem").touch()
    link = live / "key.pem"
    link.symlink_to(archive / "key1.pem")
    real = os.access

    def refuse(path: object, *arguments: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: path != archive and real(path, mode))
    with pytest.raises(StartError, match=f"^{link}: cannot be read by .* && chmod 750 {archive}$"):
        prove_readable([link])
