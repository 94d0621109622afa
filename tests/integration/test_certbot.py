"""The deploy hook for certbot in docs/security.md, run as certbot runs it, beside a daemon that serves its files."""

from __future__ import annotations

import grp
import os
import re
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.ca import Authority, Issued
from tests.support.daemon import ROOT, Site
from tests.support.timing import wait_until
from tests.support.tls import TlsClient, connect_tls

HOOK = re.search(r"```sh\n(#!/bin/sh\n.*?)```", (ROOT / "docs" / "security.md").read_text(), re.S)


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """The hook as a program."""
    assert HOOK is not None
    path = tmp_path / "wsd-hook"
    path.write_text(HOOK[1])
    path.chmod(0o755)
    return path


def lineage(folder: Path, issued: Issued) -> Path:
    """A folder as certbot keeps one: symbolic links into an archive."""
    archive, live = folder / "archive", folder / "live"
    archive.mkdir(exist_ok=True)
    live.mkdir(exist_ok=True)
    number = len(list(archive.glob("privkey*"))) + 1
    for name, source in (("fullchain", issued.certificate), ("privkey", issued.private_key)):
        kept = archive / f"{name}{number}.pem"
        kept.write_bytes(source.read_bytes())
        link = live / f"{name}.pem"
        link.unlink(missing_ok=True)
        link.symlink_to(f"../archive/{kept.name}")
    return live


def deploy(hook: Path, live: Path, target: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    environment = {**os.environ, "RENEWED_LINEAGE": str(live), "WSD_TLS": str(target), "WSD_GROUP": group}
    subprocess.run([hook], env=environment, check=True, timeout=60)


def serial_of(site: Site, authority: Authority) -> int:
    """Of the certificate that a newcomer sees."""
    from cryptography.x509 import load_der_x509_certificate

    with TlsClient(site.port, authority.certificate) as client:
        shown = client.tls.getpeercert(binary_form=True)
        assert shown is not None
        return load_der_x509_certificate(shown).serial_number


def test_a_renewal_by_certbot_reaches_newcomers_and_drops_nobody(hook: Path, tmp_path: Path) -> None:
    authority, target = Authority(tmp_path / "ca"), tmp_path / "tls"
    first, second = authority.issue(file="first"), authority.issue(file="second")
    deploy(hook, lineage(tmp_path, first), target)
    for name in ("privkey.pem", "fullchain.pem"):
        status = (target / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o640, os.getgid())
    folder = tmp_path / "site"
    folder.mkdir()
    with Site(folder) as site:
        tls = f'[listen.tls]\ncertificate = "{target}/fullchain.pem"\nprivate_key = "{target}/privkey.pem"'
        site.configure(daemon="certificate_check_seconds = 0.1", listen=f"port = 0\n{tls}")
        site.run()
        assert serial_of(site, authority) == first.x509.serial_number
        with connect_tls(site.port, authority.certificate) as client:
            deploy(hook, lineage(tmp_path, second), target)
            wait_until(lambda: serial_of(site, authority) == second.x509.serial_number)
            client.send_text("still here")
            assert client.receive_message() == "still here"
    assert sorted(path.name for path in target.iterdir()) == ["fullchain.pem", "privkey.pem"]


def test_the_hook_leaves_what_is_there_if_something_is_missing(hook: Path, tmp_path: Path) -> None:
    authority, target = Authority(tmp_path / "ca"), tmp_path / "tls"
    live = lineage(tmp_path, authority.issue())
    deploy(hook, live, target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    lineage(tmp_path, authority.issue(file="next"))
    (live / "fullchain.pem").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        deploy(hook, live, target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_our_authority_is_one_that_openssl_believes(tmp_path: Path) -> None:
    """Else the tests above would prove nothing."""
    ssl.create_default_context(cafile=str(Authority(tmp_path / "ca").certificate))
