"""Certificates of a real daemon: refused, read, renewed while it serves, told of in its log and status."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ca import Authority, Issued
from tests.support.client import Client, connect
from tests.support.daemon import Site
from tests.support.programs import readable_python
from tests.support.timing import wait_until
from tests.support.tls import TlsClient, client_context, connect_tls

# A plugin that asks for more than a good certificate: a name that it knows.
GATE = """
from wsd import CLOSE, Protocol, log


class Gate(Protocol):
    name = "gate"

    def on_verify_client_certificate(self, certificate, depth, verified):
        subject = certificate.subject.rfc4514_string()
        log.user(f"asked about {subject} at {depth}: {verified}")
        if depth == 0 and subject == "CN=mallory":
            return CLOSE

    def on_message(self, wsi, message):
        wsi.send(f"{wsi.tls.subject} {','.join(wsi.tls.alternative_names)} {message}")


protocols = [Gate]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


@pytest.fixture
def ca(site: Site) -> Authority:
    return Authority(site.folder / "ca")


def secure(
    site: Site, issued: Issued, *, daemon: str = "", more: str = "", listen: str = 'protocols = ["echo"]'
) -> None:
    """Configure one listener with this certificate; `more` are lines of [listen.tls]."""
    tls = f'certificate = "{issued.certificate}"\nprivate_key = "{issued.private_key}"\n{more}'
    site.configure(daemon=daemon, listen=f"port = 0\n{listen}\n[listen.tls]\n{tls}")


def put(new: Issued, old: Issued, *, key_first: bool = True) -> None:
    """Replace a certificate and its key, each in one step, as a renewal does."""
    steps = [(new.private_key, old.private_key), (new.certificate, old.certificate)]
    for source, target in steps if key_first else reversed(steps):
        os.replace(source, target)


def is_alive(client: Client) -> bool:
    client.send_text("hello")
    return client.receive_message() == "hello"


def shown(client: TlsClient) -> tuple[str, str]:
    """Serial number and common name of the certificate that the server showed."""
    certificate: Any = client.tls.getpeercert()
    names = dict(pair for part in certificate["subject"] for pair in part)
    return certificate["serialNumber"], names["commonName"]


def serial_now(site: Site, ca: Authority) -> str:
    """Of the certificate that a newcomer is shown."""
    with connect_tls(site.port, ca.certificate, protocols="echo") as client:
        assert is_alive(client)
        return shown(client)[0]


def serial_of(issued: Issued) -> str:
    text = f"{issued.x509.serial_number:X}"
    return text if len(text) % 2 == 0 else f"0{text}"


# -- the start --------------------------------------------------------------------------------------------------------


def test_wss(site: Site, ca: Authority) -> None:
    issued = ca.issue()
    secure(site, issued)
    site.run()
    assert site.said("listening on wss://127.0.0.1:")
    assert serial_now(site, ca) == serial_of(issued)


def test_what_cannot_be_used_stops_the_start_and_the_check(site: Site, ca: Authority) -> None:
    ended, other = ca.issue(["localhost"], days=-1), ca.issue(["other.example"])
    tables = [
        f'certificate = "{ended.certificate}"\nprivate_key = "{ended.private_key}"\n',
        f'certificate = "{other.certificate}"\nprivate_key = "{ended.private_key}"\n',
        f'certificate = "{other.certificate}"\nprivate_key = "{other.private_key}"\nciphers = "NONSENSE"\n',
    ]
    site.configure(listen=[f"port = 0\n[listen.tls]\n{text}" for text in tables])
    wanted = [
        f"listen[0].tls.certificate: {ended.certificate}: the certificate has ended on ",
        f"listen[1].tls.private_key: {ended.private_key}: the key does not belong to the certificate in "
        f"{other.certificate}",
        'listen[2].tls.ciphers: OpenSSL takes no cipher of "NONSENSE": no cipher match',
    ]
    for command in ("start", "run", "check"):
        done = site.wsd(command)
        assert done.returncode == 78
        said = [line.removeprefix(f"wsd: {site.config}: ") for line in done.stderr.splitlines() if "listen[" in line]
        assert len(said) == 3
        assert all(line.startswith(text) for line, text in zip(said, wanted, strict=True)), said
    assert not site.pidfile.exists()


def test_a_key_that_everybody_can_read(site: Site, ca: Authority) -> None:
    issued = ca.issue()
    issued.private_key.chmod(0o644)
    secure(site, issued)
    done = site.wsd("start")
    assert done.returncode == 78
    assert f"{issued.private_key}: everybody can read this key, its mode is 0644" in done.stderr


# -- its end ----------------------------------------------------------------------------------------------------------


def test_the_log_and_the_status_warn_before_its_end(site: Site, ca: Authority) -> None:
    issued = ca.issue(days=6.5)
    secure(site, issued)
    warning = f"{issued.certificate}: the certificate for localhost, 127.0.0.1, ::1 ends in 6 days, on "
    checked = site.wsd("check")
    assert checked.returncode == 0
    assert f"wsd: warning: {warning}" in checked.stderr
    assert site.wsd("check", "--strict").returncode == 78
    site.run()
    site.wait_said(f"WARN   {warning}")
    status = site.status()
    assert status["tls_library"].startswith("OpenSSL ")
    (certificate,) = status["certificates"]
    assert certificate["names"] == ["localhost", "127.0.0.1", "::1"]
    assert certificate["days_left"] == 6
    assert certificate["warning"].startswith(warning)
    text = site.wsd("status").stdout
    assert f"certificate for localhost, 127.0.0.1, ::1  until {certificate['not_after'][:10]}, 6 days" in text
    assert f"warning: {warning}" in text


def test_one_that_lasts_is_told_without_a_warning(site: Site, ca: Authority) -> None:
    secure(site, ca.issue(days=90))
    assert "the certificate" not in site.wsd("check").stderr
    site.run()
    text = site.wsd("status").stdout
    assert not site.said("the certificate for")
    assert "89 days" in text
    assert "warning" not in text


# -- renewal ----------------------------------------------------------------------------------------------------------


def test_a_renewal_needs_nobody(site: Site, ca: Authority) -> None:
    """Links that lead elsewhere one after the other, as certbot does it."""
    live, archive = site.folder / "live", Authority(site.folder / "archive", "Archive", ca)
    live.mkdir()
    one, two = archive.issue(file="cert1"), archive.issue(file="cert2")
    links = Issued(live / "fullchain.pem", live / "privkey.pem", one.x509)

    def lead(link: Path, target: Path) -> None:
        (live / "new").symlink_to(target)
        os.replace(live / "new", link)

    lead(links.certificate, one.certificate)
    lead(links.private_key, one.private_key)
    secure(site, links, daemon="certificate_check_seconds = 0.1")
    site.run()
    with connect_tls(site.port, ca.certificate, protocols="echo") as client:
        lead(links.certificate, two.certificate)
        site.wait_said("cannot be used yet")
        assert serial_now(site, ca) == serial_of(one)
        lead(links.private_key, two.private_key)
        site.wait_said("certificate read again")
        assert serial_now(site, ca) == serial_of(two)
        assert is_alive(client)
        assert shown(client)[0] == serial_of(one)
    assert site.log.read_text().count("cannot be used yet") == 1
    assert site.log.read_text().count("certificate read again") == 1


def test_a_reload_reads_certificates_again(site: Site, ca: Authority) -> None:
    issued, new = ca.issue(file="one"), ca.issue(file="two")
    secure(site, issued, daemon="certificate_check_seconds = 0")
    pid = site.run()
    with connect_tls(site.port, ca.certificate, protocols="echo") as client:
        put(new, issued)
        assert serial_now(site, ca) == serial_of(issued)
        os.kill(pid, signal.SIGHUP)
        site.wait_said("reload done")
        assert serial_now(site, ca) == serial_of(new)
        assert is_alive(client)


def test_a_reload_with_half_a_renewal_is_refused_and_changes_nothing(site: Site, ca: Authority) -> None:
    issued, new = ca.issue(file="one"), ca.issue(file="two")
    secure(site, issued, daemon="certificate_check_seconds = 0")
    site.run()
    with connect_tls(site.port, ca.certificate, protocols="echo") as client:
        os.replace(new.private_key, issued.private_key)
        done = site.wsd("reload")
        assert done.returncode == 78
        assert f"listen[0].tls.private_key: {issued.private_key}: the key does not belong to" in done.stderr
        assert serial_now(site, ca) == serial_of(issued)
        assert is_alive(client)


def test_a_reload_keeps_the_sessions_of_what_has_not_changed(site: Site, ca: Authority) -> None:
    secure(site, ca.issue())
    site.run()
    context = client_context(ca.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose ticket is there when the handshake is done
    with TlsClient(site.port, None, context=context) as client:
        session = client.tls.session
    assert site.wsd("reload").returncode == 0
    with TlsClient(site.port, None, context=context, session=session) as client:
        assert client.tls.session_reused


def test_a_reload_turns_tls_on_and_off(site: Site, ca: Authority) -> None:
    issued = ca.issue()
    plain = 'port = 0\nprotocols = ["echo"]\n'
    site.configure(listen=plain)
    site.run()
    port = site.port
    with connect(port, "echo") as client:
        tls = f'[listen.tls]\ncertificate = "{issued.certificate}"\nprivate_key = "{issued.private_key}"\n'
        site.configure(listen=plain + tls)
        assert site.wsd("reload").returncode == 0
        assert is_alive(client)
        with connect_tls(port, ca.certificate, protocols="echo") as encrypted:
            assert is_alive(encrypted)
            assert site.status()["listeners"][0]["address"].startswith("wss://")
            site.configure(listen=plain)
            assert site.wsd("reload").returncode == 0
            assert is_alive(encrypted)
        with connect(port, "echo") as another:
            assert is_alive(another)
    assert site.status()["certificates"] == []


def test_the_name_decides(site: Site, ca: Authority) -> None:
    one, two = ca.issue(["one.example"]), ca.issue(["two.example"])
    more = f'[[listen.tls.certificates]]\ncertificate = "{two.certificate}"\nprivate_key = "{two.private_key}"\n'
    secure(site, one, more=more)
    site.run()
    for issued, name in ((one, "one.example"), (two, "two.example")):
        with connect_tls(site.port, ca.certificate, protocols="echo", name=name) as client:
            assert shown(client) == (serial_of(issued), name)
    assert [item["names"] for item in site.status()["certificates"]] == [["one.example"], ["two.example"]]


# -- clients' certificates --------------------------------------------------------------------------------------------


def test_a_plugin_looks_at_clients_certificates(site: Site, ca: Authority) -> None:
    site.plugin("gate", GATE)
    more = f'client_certificates = "required"\nclient_ca = "{ca.certificate}"\n'
    secure(site, ca.issue(), more=more, listen='protocols = ["gate"]\nhttp_protocol = "gate"')
    site.run("--log", "err,warn,notice,user,info")
    alice = ca.issue(["alice", "alice.example"], client=True)
    with connect_tls(site.port, ca.certificate, protocols="gate", certificate=alice) as client:
        client.send_text("hello")
        assert client.receive_message() == "CN=alice alice,alice.example hello"
    assert site.said("asked about CN=Test CA at 1: True")
    assert site.said("asked about CN=alice at 0: True")
    stranger = Authority(site.folder / "other", "Other").issue(["eve"], client=True)
    for issued, why in (
        (ca.issue(["mallory"], client=True), "client certificate: refused by the plugin"),
        (stranger, "client certificate: unable to get local issuer certificate"),
        (None, "peer did not return a certificate"),
    ):
        # With TLS 1.3 a client is through before the server has looked at its certificate.
        with TlsClient(site.port, ca.certificate, certificate=issued) as client:
            with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
                client.tls.recv(1)
        site.wait_said(why)


# -- privileges -------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_site() -> Iterator[Site]:
    """A site that everybody can reach; pytest's own folders are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="wsd-test-"))
    folder.chmod(0o755)
    try:
        with Site(folder) as site:
            yield site
    finally:
        shutil.rmtree(folder)


needs_root = [
    pytest.mark.needs_root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root (in a container) for these"),
]


def readable_by(issued: Issued, group: str) -> Issued:
    shutil.chown(issued.private_key, group=group)
    issued.private_key.chmod(0o640)
    return issued


class TestAsRoot:
    pytestmark = needs_root

    def test_a_key_that_only_root_can_read_again_is_refused(self, open_site: Site) -> None:
        issued = Authority(open_site.folder / "ca").issue()
        secure(open_site, issued, daemon='user = "nobody"')
        for command in ("start", "check"):
            done = open_site.wsd(command, prefix=readable_python())
            assert done.returncode == 78
            assert f"{issued.private_key}: cannot be read by nobody, which a reload needs" in done.stderr
            assert f"chgrp nogroup {issued.private_key} && chmod 640 {issued.private_key}" in done.stderr

    def test_a_folder_behind_a_link_is_named(self, open_site: Site) -> None:
        """As certbot leaves it: live/ leads into archive/, and both are root's alone."""
        archive = Authority(open_site.folder / "archive")
        issued = readable_by(archive.issue(), "nogroup")
        archive.folder.chmod(0o700)
        live = open_site.folder / "live"
        live.mkdir()
        links = Issued(live / "cert.pem", live / "key.pem", issued.x509)
        links.certificate.symlink_to(issued.certificate)
        links.private_key.symlink_to(issued.private_key)
        secure(open_site, links, daemon='user = "nobody"')
        done = open_site.wsd("start", prefix=readable_python())
        assert done.returncode == 78
        assert f"chgrp nogroup {archive.folder} && chmod 750 {archive.folder}" in done.stderr

    def test_a_renewal_after_the_drop(self, open_site: Site) -> None:
        ca = Authority(open_site.folder / "ca")
        issued = readable_by(ca.issue(file="one"), "nogroup")
        secure(open_site, issued, daemon='user = "nobody"\ncertificate_check_seconds = 0.1')
        open_site.run(prefix=readable_python())
        with connect_tls(open_site.port, ca.certificate, protocols="echo") as client:
            put(readable_by(ca.issue(file="two"), "nogroup"), issued, key_first=False)
            open_site.wait_said("certificate read again")
            assert is_alive(client)
            newest = ca.issue(file="three")  # which nobody has made readable
            put(newest, issued)
            open_site.wait_said(f"{issued.private_key}: cannot be read: Permission denied")
            before = serial_now(open_site, ca)
            readable_by(issued, "nogroup")
            wait_until(lambda: serial_now(open_site, ca) != before)
            assert serial_now(open_site, ca) == serial_of(newest)
            assert is_alive(client)
