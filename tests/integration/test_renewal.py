"""Certificates are replaced under a hundred connections that talk: none of them notices, and newcomers see the new one.

By the daemon's own look at its files, and by `wsd reload`; and both once more when it has dropped its privileges.
"""

from __future__ import annotations

import asyncio
import grp
import os
import shutil
import ssl
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives import serialization

from tests.support.ca import Authority, Issued
from tests.support.daemon import Site
from tests.support.programs import readable_python
from tests.support.talker import Talker
from tests.support.timing import MS, PATIENCE, wait_until

T = TypeVar("T")

CONNECTIONS = 100
RENEWALS = 10
NOBODY = "nobody"
PAUSE_SECONDS = 50 * MS
"""Between two messages of one connection: together they are as many as leave some time for the rest."""


class Files:
    """The certificate and the key that the configuration names, and how they are replaced.

    They lie in a folder that is a link to another one, so that one step replaces both.

    Args:
        group: Who may read the keys, as operators do it for a daemon that drops its privileges; None: their owner.
    """

    def __init__(self, folder: Path, group: int | None) -> None:
        self.authority = Authority(folder / "authority")
        self.live = folder / "live"
        self.group = group
        self.count = 0

    def issue(self) -> Issued:
        """A new certificate with a new key, somewhere else."""
        self.count += 1
        issued = self.authority.issue(["localhost"], file=f"number-{self.count}")
        if self.group is not None:
            os.chown(issued.private_key, 0, self.group)
            issued.private_key.chmod(0o640)
        return issued

    def replace(self) -> bytes:
        """Replace both in one step; gives the new certificate as clients see it."""
        issued = self.issue()
        folder = self.live.with_name(f"live-{self.count}")
        folder.mkdir()
        issued.certificate.rename(folder / "cert.pem")
        issued.private_key.rename(folder / "key.pem")
        link = self.live.with_name("next")
        link.symlink_to(folder)
        link.replace(self.live)
        return der(issued)


def der(issued: Issued) -> bytes:
    return issued.x509.public_bytes(serialization.Encoding.DER)


class Crowd:
    """A hundred connections, each of which says something, hears it, and goes on; and newcomers."""

    def __init__(self, port: int, authority: Authority) -> None:
        self.port = port
        self.tls = ssl.create_default_context(cafile=str(authority.certificate))
        self.talkers: list[Talker] = []
        self.counts = [0] * CONNECTIONS
        self.is_over = False

    async def newcomer(self) -> Talker:
        talker = await Talker.open(self.port, self.tls)
        await talker.upgrade("echo")
        return talker

    async def shown(self) -> bytes:
        """The certificate that a newcomer sees, who is served like everybody."""
        async with await self.newcomer() as talker:
            await talker.say("hello")
            assert await talker.hear() == "hello"
            certificate = talker.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            await talker.finish()
        assert isinstance(certificate, bytes)
        return certificate

    async def talk(self, number: int) -> None:
        """One connection, from before the first renewal until after the last."""
        talker = self.talkers[number]
        while not self.is_over:
            text = f"{number}: {self.counts[number]}"
            await talker.say(text)
            assert await talker.hear() == text
            self.counts[number] += 1
            await asyncio.sleep(PAUSE_SECONDS)
        await talker.finish()

    async def all_have_talked(self) -> None:
        """Wait until each of them has said and heard something more."""
        before = list(self.counts)
        while any(count <= was for count, was in zip(self.counts, before, strict=True)):
            await asyncio.sleep(PAUSE_SECONDS / 5)


async def play(crowd: Crowd, deed: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do something while all of them talk; whatever goes wrong with one of them ends it."""
    async with asyncio.timeout(10 * PATIENCE):
        crowd.talkers = [await crowd.newcomer() for _ in range(CONNECTIONS)]
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(crowd.talk(number))
            await crowd.all_have_talked()
            await deed()
            await crowd.all_have_talked()
            crowd.is_over = True


class Stage:
    """A daemon with TLS, its files, and how it is made to read them again."""

    def __init__(self, site: Site, files: Files, *, looks: bool) -> None:
        self.site = site
        self.files = files
        self.looks = looks

    async def renew(self, change: Callable[[], T], said: str) -> T:
        """Change files, and wait until the daemon has looked at them, by itself or at our word, and said so once more.

        Answers what `change` answers.
        """
        before = self.site.log.read_text().count(said)
        changed = change()  # from here on it may look at any time
        if not self.looks:
            done = await asyncio.to_thread(self.site.wsd, "reload")
            assert (done.returncode == 0) == (said == DONE), done.stderr
        await asyncio.to_thread(wait_until, lambda: self.site.log.read_text().count(said) > before, PATIENCE, said)
        return changed

    async def replace_ten_times(self, crowd: Crowd) -> None:
        for _ in range(RENEWALS):
            new = await self.renew(self.files.replace, LOOKED if self.looks else DONE)
            assert await crowd.shown() == new
            await crowd.all_have_talked()

    async def replace_one_after_the_other(self, crowd: Crowd) -> None:
        """Between the two steps they do not belong together, and the old ones go on."""
        old, new = await crowd.shown(), self.files.issue()
        live = self.files.live
        await self.renew(lambda: new.private_key.replace(live / "key.pem"), NOT_YET if self.looks else REFUSED)
        assert await crowd.shown() == old
        await crowd.all_have_talked()
        await self.renew(lambda: new.certificate.replace(live / "cert.pem"), LOOKED if self.looks else DONE)
        assert await crowd.shown() == der(new)


DONE = "reload done"
REFUSED = "reload refused"
LOOKED = "certificate read again"
NOT_YET = "a certificate was replaced, and cannot be used yet"


def serve(site: Site, *, looks: bool, user: str = "", prefix: Sequence[str] = ()) -> Stage:
    """Run a daemon which looks at its files ten times a second, or only when it is told to."""
    files = Files(site.folder, grp.getgrnam("nogroup").gr_gid if user else None)
    files.replace()
    seconds = 0.1 if looks else 0
    listen = f'port = 0\n[listen.tls]\ncertificate = "{files.live}/cert.pem"\nprivate_key = "{files.live}/key.pem"'
    site.configure(daemon=f'certificate_check_seconds = {seconds}\nuser = "{user}"', listen=listen)
    site.run(prefix=prefix)
    return Stage(site, files, looks=looks)


def renew_under_load(stage: Stage) -> None:
    """The whole of it; at the end all hundred have ended in order, and nobody else was refused."""
    crowd = Crowd(stage.site.port, stage.files.authority)

    async def deed() -> None:
        await stage.replace_ten_times(crowd)
        await stage.replace_one_after_the_other(crowd)

    asyncio.run(play(crowd, deed))
    counters = stage.site.status()["counters"]
    assert counters["tls_failures"] == 0
    assert counters["tls_handshakes"] == counters["established"] == CONNECTIONS + RENEWALS + 3
    complaints = [line for line in stage.site.log.read_text().splitlines() if " ERR " in line or " WARN " in line]
    expected = NOT_YET if stage.looks else REFUSED
    assert all(expected in line or "serving as root" in line for line in complaints), complaints


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


@pytest.fixture
def public_site() -> Iterator[Site]:
    """One that everybody can reach; pytest's own folders are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="wsd-test-"))
    folder.chmod(0o755)
    try:
        with Site(folder) as site:
            yield site
    finally:
        shutil.rmtree(folder)


WAYS = pytest.mark.parametrize("looks", [True, False], ids=["by its own look", "by a reload"])


@WAYS
def test_nobody_notices(site: Site, looks: bool) -> None:
    renew_under_load(serve(site, looks=looks))


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root (in a container) for these")
class TestAfterTheDrop:
    @WAYS
    def test_nobody_notices(self, public_site: Site, looks: bool) -> None:
        stage = serve(public_site, looks=looks, user=NOBODY, prefix=readable_python())
        assert stage.site.process is not None
        status = Path(f"/proc/{stage.site.process.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status  # it can read the new key because of its group alone
        renew_under_load(stage)

    def test_a_key_that_it_may_not_read(self, public_site: Site) -> None:
        """As the program that renews may leave it, for root alone: the old one goes on until that is mended."""
        stage = serve(public_site, looks=True, user=NOBODY, prefix=readable_python())
        crowd = Crowd(stage.site.port, stage.files.authority)

        def mended() -> None:
            key = stage.files.live / "key.pem"
            os.chown(key, -1, grp.getgrnam("nogroup").gr_gid)
            key.chmod(0o640)

        async def deed() -> None:
            old, stage.files.group = await crowd.shown(), None
            new = await stage.renew(stage.files.replace, NOT_YET)
            assert await crowd.shown() == old
            assert "key.pem: " in stage.site.log.read_text()
            await stage.renew(mended, LOOKED)
            assert await crowd.shown() == new

        asyncio.run(play(crowd, deed))
