"""Who the daemon is: the account that it becomes after binding, wholly and for good.

Owns users, groups and the proof that nothing of the old account is left and nothing needed is out of reach.  Must not
know when that is due; `server` does.

python-daemon has a drop of its own, which is not used: it leaves the supplementary groups, or the group, as they were.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from wsd.errors import EXIT_CONFIG, ConfigError, Problem, StartError

if TYPE_CHECKING:
    from wsd.config import Config


class Account(NamedTuple):
    """Who the daemon becomes once its sockets are bound.  `user` is empty where only the group changes."""

    user: str
    uid: int
    gid: int

    def __str__(self) -> str:
        return self.user or f"uid {self.uid}"


def resolve_account(config: Config) -> Account | None:
    """The account of `daemon.user` and `daemon.group`; None if neither is set.

    Raises:
        ConfigError: the system does not know the user or the group.
    """
    account, problems = _look_up(config.daemon.user, config.daemon.group)
    if problems:
        raise ConfigError([Problem(str(config.path), f"daemon.{key}", text) for key, text in problems.items()])
    return account


def find_account(user: str, group: str) -> Account | None:
    """The account of a user and a group, by name or by number; None if both are empty.

    Raises:
        StartError: the system does not know the user or the group.
    """
    account, problems = _look_up(user, group)
    if problems:
        raise StartError("; ".join(problems.values()))
    return account


def _look_up(user: str, group: str) -> tuple[Account | None, dict[str, str]]:
    """The account, and what is wrong with `user` or `group`, by that name."""
    problems = {}
    uid, gid = os.getuid(), os.getgid()
    if user:
        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
            user, uid, gid = entry.pw_name, entry.pw_uid, entry.pw_gid
        except KeyError:
            problems["user"] = f"no such user: {user!r}; create it or name another"
    if group:
        try:
            gid = grp.getgrgid(int(group)).gr_gid if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            problems["group"] = f"no such group: {group!r}; create it or name another"
    return Account(user, uid, gid) if user or group else None, problems


def check_may_become(account: Account | None) -> None:
    """Refuse a start that could not drop its privileges later.

    Raises:
        StartError: another account is wanted, and we are not root.
    """
    if account is not None and os.geteuid() != 0 and not _is(account):
        raise StartError(f"only root can become {account}, as user or group ask; start this as root or as {account}")


def drop(account: Account) -> None:
    """Become `account`, wholly and for good: groups first, since without the uid they could not be changed.

    Raises:
        StartError: the system refuses, or something of the old account is left.
    """
    if os.geteuid() != 0 and _is(account):
        return  # started as that user already, as systemd does
    try:
        if account.user:
            os.initgroups(account.user, account.gid)
        else:
            os.setgroups([account.gid])
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
    except OSError as error:
        raise StartError(
            f"cannot become {account}: {error.strerror}; under systemd set User= in the unit, and no user here"
        ) from None
    _verify_dropped(account)


def _verify_dropped(account: Account) -> None:
    groups = set(os.getgrouplist(account.user, account.gid)) if account.user else {account.gid}
    if not _is(account) or not set(os.getgroups()) <= groups:
        raise StartError(f"privileges were not dropped: {os.getresuid()} {os.getresgid()} {os.getgroups()}")
    if account.uid != 0:
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise StartError("privileges were not dropped: root can be had back")


def _is(account: Account) -> bool:
    return set(os.getresuid()) == {account.uid} and set(os.getresgid()) == {account.gid}


def prove_readable(paths: Iterable[Path]) -> None:
    """Open everything that a reload will have to read again, as who we are now.

    Raises:
        StartError: naming the file or folder and what to do; its exit status is that of a configuration problem.
    """
    for path in paths:
        for name in _tree(path):
            try:
                os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            except PermissionError:
                _refuse_unreadable(name)
            except OSError:
                pass  # not there (any more): whoever needs it says so, with the reason why it is needed


def _tree(path: Path) -> Iterator[Path]:
    """`path` itself and, for a plugins folder, the sources in it."""
    yield path
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*.py") if file.is_file())


def _refuse_unreadable(path: Path) -> NoReturn:
    uid, gid = os.geteuid(), os.getegid()
    group = _name(lambda: grp.getgrgid(gid).gr_name, gid)
    user = _name(lambda: pwd.getpwuid(uid).pw_name, uid)
    # Behind a link, as certbot makes them, it may be the folder of the file itself that is closed.
    folders = [*reversed(path.parents), *reversed(Path(os.path.realpath(path)).parents)]
    culprit = next((parent for parent in folders if not os.access(parent, os.X_OK)), path)
    mode = "750" if culprit != path or path.is_dir() else "640"
    raise StartError(
        f"{path}: cannot be read by {user}, which a reload needs; chgrp {group} {culprit} && chmod {mode} {culprit}",
        EXIT_CONFIG,
    )


def _name(lookup: Callable[[], str], number: int) -> str:
    try:
        return lookup()
    except KeyError:
        return str(number)
