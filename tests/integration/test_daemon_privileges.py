"""Who the daemon is: what it drops, what it refuses to run, and what it refuses to become."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Site
from tests.support.programs import readable_python

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root (in a container) for these"),
]

NOBODY = "nobody"


@pytest.fixture
def site() -> Iterator[Site]:
    """A site that everybody can reach; pytest's own folders are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="wsd-test-"))
    folder.chmod(0o755)
    try:
        with Site(folder) as site:
            yield site
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def prefix() -> list[str]:
    """A command prefix under which everybody can read the interpreter."""
    return readable_python()


def identity(pid: int) -> dict[str, list[int]]:
    """The ids of a process as the kernel tells them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: [int(word) for word in fields[name].split()] for name in ("Uid", "Gid", "Groups")}


def test_every_id_is_dropped(site: Site, prefix: list[str]) -> None:
    entry = pwd.getpwnam(NOBODY)
    site.configure(daemon=f'user = "{NOBODY}"')
    # With supplementary groups to get rid of.
    pid = site.run(prefix=[*prefix, "setpriv", "--groups", "4,27"])
    assert identity(pid) == {
        "Uid": [entry.pw_uid] * 4,
        "Gid": [entry.pw_gid] * 4,
        "Groups": sorted(os.getgrouplist(NOBODY, entry.pw_gid)),
    }
    capabilities = Path(f"/proc/{pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in capabilities
    assert "CapPrm:\t0000000000000000" in capabilities
    with site.connect() as client:
        client.send_text("hello")
        assert client.receive_message() == "hello"
    assert not site.said("serving as root")


def test_another_group(site: Site, prefix: list[str]) -> None:
    site.configure(daemon=f'user = "{NOBODY}"\ngroup = "daemon"')
    pid = site.start(prefix=prefix)
    assert identity(pid)["Gid"] == [1] * 4


def test_a_dropped_daemon_reloads_stops_and_tidies_up(site: Site, prefix: list[str]) -> None:
    site.configure(daemon=f'user = "{NOBODY}"')
    site.start(prefix=prefix)
    assert site.wsd("reload").returncode == 0
    assert site.wsd("stop").returncode == 0
    assert [path.name for path in site.pidfile.parent.iterdir()] == ["wsd.pid.lock"]


def test_a_pidfile_in_a_folder_that_is_not_the_users_is_emptied(site: Site, prefix: list[str]) -> None:
    site.configure(daemon=f'user = "{NOBODY}"')
    site.pidfile.parent.mkdir(mode=0o755)
    site.start(prefix=prefix)
    assert site.wsd("stop").returncode == 0
    assert site.pidfile.read_text() == ""
    site.start(prefix=prefix)
    assert site.status()["connections"] == 0


def test_a_privileged_port_is_bound_before_the_drop(site: Site, prefix: list[str]) -> None:
    site.configure(daemon=f'user = "{NOBODY}"', listen='interface = "127.0.0.9"\nport = 81')
    site.run(prefix=prefix)
    site.configure(daemon=f'user = "{NOBODY}"', listen='interface = "127.0.0.9"\nport = 82')
    limit = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    done = site.wsd("reload")
    if limit > 82:
        assert done.returncode == 1
        assert "needs root" in done.stderr


def test_root_without_a_user_is_worth_one_warning(site: Site) -> None:
    site.run()
    assert site.log.read_text().count("serving as root") == 1


@pytest.mark.parametrize("command", ["start", "check"])
def test_what_the_user_cannot_read_again_is_refused_with_the_remedy(
    site: Site, prefix: list[str], command: str
) -> None:
    site.configure(daemon=f'user = "{NOBODY}"')
    site.config.chmod(0o600)
    done = site.wsd(command, prefix=prefix)
    assert done.returncode == 78
    group = "nogroup"
    assert f"{site.config}: cannot be read by nobody" in done.stderr
    assert f"chgrp {group} {site.config} && chmod 640 {site.config}" in done.stderr
    site.config.chmod(0o644)
    plugin = site.plugin("secret", "protocols = []")
    plugin.chmod(0o600)
    done = site.wsd(command, prefix=prefix)
    assert done.returncode == 78
    assert f"{plugin}: cannot be read by nobody" in done.stderr


def test_only_root_can_become_somebody(site: Site, prefix: list[str]) -> None:
    site.configure(daemon='user = "daemon"')
    site.folder.chmod(0o777)
    done = site.wsd("start", prefix=[*prefix, "setpriv", "--reuid", NOBODY, "--regid", "nogroup", "--clear-groups"])
    assert done.returncode == 1
    assert "only root can become daemon" in done.stderr
    site.folder.chmod(0o755)


def test_started_as_the_user_already_nothing_is_dropped(site: Site, prefix: list[str]) -> None:
    site.configure(daemon=f'user = "{NOBODY}"')
    site.pidfile.parent.mkdir()
    os.chown(site.pidfile.parent, pwd.getpwnam(NOBODY).pw_uid, -1)
    setpriv = ["setpriv", "--reuid", NOBODY, "--regid", "nogroup", "--clear-groups"]
    site.start(prefix=[*prefix, *setpriv])
    # Root may ask it, and so may its own user.
    assert site.wsd("status").returncode == 0
    assert site.wsd("status", prefix=[*prefix, *setpriv]).returncode == 0
    other = ["setpriv", "--reuid", "daemon", "--regid", "daemon", "--clear-groups"]
    done = site.wsd("status", prefix=[*prefix, *other])
    assert done.returncode == 1
    assert "Permission denied" in done.stderr


def test_what_cannot_be_dropped_is_said(site: Site, prefix: list[str]) -> None:
    site.configure(daemon=f'user = "{NOBODY}"')
    done = site.wsd("start", prefix=[*prefix, "setpriv", "--bounding-set=-all", "--no-new-privs"])
    assert done.returncode == 1
    assert "cannot become nobody: Operation not permitted" in done.stderr


@pytest.mark.parametrize("what", ["file", "folder", "ancestor", "owner"])
def test_root_runs_no_plugin_that_others_can_write(site: Site, what: str) -> None:
    plugin = site.plugin("echo", "raise SystemExit('this ran')")
    if what == "file":
        plugin.chmod(0o666)
    elif what == "folder":
        site.plugins.chmod(0o777)
    elif what == "ancestor":
        site.folder.chmod(0o777)
    else:
        os.chown(plugin, pwd.getpwnam(NOBODY).pw_uid, -1)
    site.configure(listen='port = 0\nprotocols = ["mine"]')
    for command in ("start", "check"):
        done = site.wsd(command)
        assert done.returncode == 78
        assert "not loaded as root" in done.stderr
        assert "this ran" not in done.stderr
    site.folder.chmod(0o755)


def test_a_sticky_ancestor_is_fine(site: Site) -> None:
    site.folder.chmod(0o1777)
    site.start()
    site.folder.chmod(0o755)
