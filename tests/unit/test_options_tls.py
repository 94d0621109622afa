"""[listen.tls]: what may stand there, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsd.config import Certificate, Listen, Tls, load
from wsd.errors import ConfigError


def problems(tmp_path: Path, text: str) -> list[str]:
    """What is wrong with a listener's table, without the file's name."""
    file = tmp_path / "wsd.toml"
    file.write_text(f"[[listen]]\n{text}")
    with pytest.raises(ConfigError) as caught:
        load(file)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


def test_it_is_off_by_default() -> None:
    tls = Listen().tls
    assert not tls.is_on
    assert tls.files == []
    assert tls.min_version == "1.2"


def test_every_file_is_named_once_and_is_absolute(tmp_path: Path) -> None:
    file = tmp_path / "wsd.toml"
    file.write_text(
        '[[listen]]\n[listen.tls]\ncertificate = "a.pem"\nprivate_key = "a.key"\nclient_certificates = "required"\n'
        'client_ca = "ca.pem"\nclient_crl = "crl.pem"\n'
        '[[listen.tls.certificates]]\ncertificate = "b.pem"\nnames = ["b.example", "*.b.example"]\n'
        '[[listen.tls.certificates]]\ncertificate = "a.pem"\nprivate_key = "c.key"\n'
    )
    tls = load(file).listen[0].tls
    assert [Path(name).name for name in tls.files] == ["ca.pem", "crl.pem", "a.pem", "a.key", "b.pem", "c.key"]
    assert all(Path(name).parent == tmp_path for name in tls.files)
    assert [prefix for prefix, _ in tls.chosen] == ["", "certificates[0].", "certificates[1]."]
    assert tls.chosen[1][1].names == ("b.example", "*.b.example")


def test_the_first_certificate_is_the_listeners_own() -> None:
    more = Certificate(certificate="/b.pem")
    tls = Tls(certificate="/a.pem", certificates=(more,))
    assert [item.certificate for _, item in tls.chosen] == ["/a.pem", "/b.pem"]
    assert tls.is_on


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[listen.tls]\nhsts_seconds = 60\n", "without certificate"),
        ('[listen.tls]\nclient_ca = "ca.pem"\n', "without certificate"),
        ('[listen.tls]\ncertificate = "a"\nclient_ca = "ca.pem"\n', 'beside client_certificates = "none"'),
        ('[listen.tls]\ncertificate = "a"\nclient_crl = "crl.pem"\n', 'beside client_certificates = "none"'),
        ('[listen.tls]\ncertificate = "a"\nclient_certificates = "required"\n', "without client_ca"),
        ('[listen.tls]\ncertificate = "a"\nmin_version = "1.3"\nciphers = "DEFAULT"\n', "it is about TLS 1.2"),
        ('[listen.tls]\ncertificate = "a"\nmin_version = "1.1"\n', 'one of "1.2", "1.3"'),
        ('[listen.tls]\ncertificate = "a"\ncurve = "X"\n', 'one of "", "P-256"'),
        ('[listen.tls]\ncertificate = "a"\nclient_certificates = "maybe"\n', 'one of "none", "optional"'),
        ('accept = "raw"\n[listen.tls]\ncertificate = "a"\nplain_http = "redirect"\n', "which speaks no HTTP"),
        ('accept = "raw"\n[listen.tls]\ncertificate = "a"\nhsts_seconds = 1\n', "which speaks no HTTP"),
        ('[listen.tls]\ncertificate = "a"\n[[listen.tls.certificates]]\n', "missing"),
        ('[listen.tls]\ncertificate = "a"\n[[listen.tls.certificates]]\ncertificate = ""\n', "the path of a file"),
    ],
)
def test_what_does_not_go(tmp_path: Path, text: str, wanted: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("listen[0].tls.")
    assert wanted in problem


@pytest.mark.parametrize("name", ["*", "a.*.example", "*.", "a b", "-a", "a.", "https://a", ""])
def test_names_that_nobody_can_ask_for(tmp_path: Path, name: str) -> None:
    text = f'[listen.tls]\ncertificate = "a"\ncertificates = [{{ certificate = "b", names = ["{name}"] }}]\n'
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("listen[0].tls.certificates[0].names[0]: ")
    assert "a host name" in problem


@pytest.mark.parametrize(
    "name", ["a", "localhost", "xn--bcher-kva.example", "*.example.com", "_x.example", "10.example"]
)
def test_names(name: str) -> None:
    assert Certificate(certificate="/a", names=(name,)).names == (name,)


def test_a_name_stands_there_once(tmp_path: Path) -> None:
    text = '[listen.tls]\ncertificate = "a"\ncertificates = [{ certificate = "b", names = ["c.d", "c.d"] }]\n'
    (problem,) = problems(tmp_path, text)
    assert "stands there twice" in problem
