"""`wsd check`: what would stop a start, and what else is not as it should be, without serving anything.

Owns the rehearsal: the steps of the start, as the same user, without a socket and without `on_protocol_init`.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from wsd import assembly, privileges, renewal
from wsd.errors import ConfigError, PluginError, Problem, StartError
from wsd.limits import most_connections

if TYPE_CHECKING:
    from wsd.config import Config


def check(config: Config) -> list[str]:
    """Answers the warnings: what does not stop a start.

    Raises:
        ConfigError, PluginError, StartError: what does.
    """
    account = privileges.resolve_account(config)
    if problems := list(_unknown_owners(config)):
        raise ConfigError(problems)
    warnings = list(_warnings(config))
    if account is not None and os.geteuid() == 0:
        return warnings + _as_account(account, lambda: _load(config))
    return warnings + _load(config)


def _unknown_owners(config: Config) -> Iterator[Problem]:
    for index, listen in enumerate(config.listen):
        lookups: dict[str, Callable[[str], object]] = {"unix_owner": pwd.getpwnam, "unix_group": grp.getgrnam}
        for key, lookup in lookups.items():
            name = getattr(listen, key)
            try:
                if name:
                    lookup(name)
            except KeyError:
                text = f"no such {'user' if key == 'unix_owner' else 'group'}: {name!r}"
                yield Problem(str(config.path), f"listen[{index}].{key}", text)


def _warnings(config: Config) -> Iterator[str]:
    """What a start would log at WARN, and what it would only show when somebody asks for it."""
    if os.geteuid() == 0 and not config.daemon.user:
        yield "daemon.user is empty: started by root, wsd would serve as root"
    allowed = most_connections()
    if config.limits.max_connections > allowed:
        wanted = config.limits.max_connections
        yield f"limits.max_connections = {wanted}, and the descriptor limit here allows {allowed}"
    for index, listen in enumerate(config.listen):
        if listen.static_folder and not Path(listen.static_folder).is_dir():
            yield f"listen[{index}].static_folder: {listen.static_folder} is no folder; its requests would get 404"


def _load(config: Config) -> list[str]:
    """Read certificates, load every plugin and fill its options, as the start does."""
    privileges.prove_readable(assembly.needed_again(config))
    held = renewal.read(config, assembly.addresses(config.listen), {})
    plan = assembly.plan(config)
    plan.unload()
    return plan.warnings + renewal.warnings(held)


def _as_account(account: privileges.Account, work: Callable[[], list[str]]) -> list[str]:
    """`work()` in a child that has become `account`: what root can read, the daemon perhaps cannot.

    Raises:
        StartError: with the text and exit status of what `work` raised.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _report(writer, account, work)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if not said:
        raise StartError(f"loading the plugins as {account} ended the process")
    status, text, warnings = json.loads(said)
    if text:
        raise StartError(text, status)
    return list(warnings)


def _report(writer: int, account: privileges.Account, work: Callable[[], list[str]]) -> NoReturn:
    """The child: never comes back into the parent's code, whatever a plugin does."""
    status, text, warnings = 0, "", []
    try:
        privileges.drop(account)
        warnings = work()
    except (ConfigError, PluginError, StartError) as error:
        status, text = error.exit_status, str(error)
    except (Exception, SystemExit) as error:
        status, text = 1, f"this is a bug in wsd: {type(error).__name__}: {error}"
    with open(writer, "w") as pipe:
        json.dump([status, text, warnings], pipe)
    os._exit(0)
