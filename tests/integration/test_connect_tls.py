"""`wsd connect wss://...`: a real process, against a real daemon with a certificate of the tests' own authority."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ca import Authority
from tests.support.conversing import conversing
from tests.support.daemon import Site


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Site]:
    """A daemon on two ports: the second wants to see a certificate."""
    issued = authority.issue()
    tls = f'[listen.tls]\ncertificate = "{issued.certificate}"\nprivate_key = "{issued.private_key}"'
    mutual = f'{tls}\nclient_certificates = "required"\nclient_ca = "{authority.certificate}"'
    with Site(tmp_path_factory.mktemp("site")) as site:
        site.configure(listen=[f"port = 0\n{tls}", f"port = 0\n{mutual}"])
        site.run()
        yield site


def address(site: Site, index: int = 0, host: str = "localhost") -> str:
    listeners = site.status()["listeners"]
    return listeners[index]["address"].replace("127.0.0.1", host)  # type: ignore[no-any-return]


def test_lines_over_tls(site: Site, authority: Authority) -> None:
    with conversing(address(site), "--ca", str(authority.certificate)) as conversation:
        assert conversation.end(b"one\ntwo\n") == (0, b"one\ntwo\n", "")


def test_an_address_that_the_certificate_names(site: Site, authority: Authority) -> None:
    with conversing(address(site, host="127.0.0.1"), "--ca", str(authority.certificate)) as conversation:
        assert conversation.end(b"one\n") == (0, b"one\n", "")


def test_a_server_that_nobody_vouches_for(site: Site) -> None:
    with conversing(address(site)) as conversation:
        status, out, errors = conversation.end(b"one\n")
        assert (status, out) == (1, b"")
        assert "the server's certificate is not to be trusted" in errors


def test_believed_all_the_same_and_said_so(site: Site) -> None:
    with conversing(address(site), "--insecure") as conversation:
        status, out, errors = conversation.end(b"one\n")
        assert (status, out) == (0, b"one\n")
        assert "not verified" in errors


def test_with_a_certificate_of_our_own(site: Site, authority: Authority) -> None:
    alice = authority.issue(["alice.test"], client=True, together=True)
    ca = ("--ca", str(authority.certificate))
    with conversing(address(site, 1), *ca, "--cert", str(alice.certificate)) as conversation:
        assert conversation.end(b"one\n") == (0, b"one\n", "")
    with conversing(address(site, 1), *ca) as conversation:
        assert conversation.end(b"one\n")[:2] == (1, b"")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--ca", "/nonexistent"), "ca: /nonexistent"),
        (("--cert", "/nonexistent"), "certificate: /nonexistent"),
        (("--key", "/nonexistent"), "private_key: there is no certificate"),
        (("--ca", "/etc/hostname"), "ca: /etc/hostname"),
        (("--insecure", "--ca", "/etc/hostname"), "insecure:"),
    ],
)
def test_files_that_cannot_be_used(site: Site, options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with conversing(address(site), *options) as conversation:
        status, out, errors = conversation.end(b"")
        assert (status, out) == (2, b"")
        assert said in errors


def test_tls_options_without_tls() -> None:
    with conversing("ws://127.0.0.1:9/", "--insecure") as conversation:
        status, _, errors = conversation.end(b"")
        assert status == 2
        assert "nothing is encrypted" in errors
