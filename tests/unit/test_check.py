"""`wsd check`: what stops a start is an error, everything else a warning.  Under another user: integration tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.ca import Authority
from wsd import check as checks
from wsd import privileges
from wsd.check import check
from wsd.config import Config, load
from wsd.errors import ConfigError, PluginError, StartError
from wsd.privileges import Account


def configured(tmp_path: Path, text: str = "") -> Config:
    (tmp_path / "plugins").mkdir(exist_ok=True)
    file = tmp_path / "wsd.toml"
    file.write_text(f'[plugins]\nfolders = ["plugins"]\n{text}')
    return load(file)


def warnings(config: Config) -> list[str]:
    """Without the one that depends on who runs the tests."""
    return [text for text in check(config) if "daemon.user" not in text]


def test_nothing_wrong(tmp_path: Path) -> None:
    assert warnings(configured(tmp_path)) == []


def test_root_without_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert any("daemon.user is empty" in text for text in checks._warnings(configured(tmp_path)))


def test_warnings(tmp_path: Path) -> None:
    config = configured(tmp_path, '[limits]\nmax_connections = 99999999\n[[listen]]\nstatic_folder = "missing"\n')
    limit, folder = warnings(config)
    assert "limits.max_connections = 99999999" in limit
    assert "listen[0].static_folder" in folder


def test_every_unknown_owner(tmp_path: Path) -> None:
    config = configured(tmp_path, '[[listen]]\nunix = "s"\nunix_owner = "no-such-user"\nunix_group = "no-such-group"\n')
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert [problem.key for problem in caught.value.problems] == ["listen[0].unix_owner", "listen[0].unix_group"]


def test_an_unknown_user(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such user"):
        check(configured(tmp_path, '[daemon]\nuser = "no-such-user"\n'))


def test_a_protocol_that_nobody_provides(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="'nobody'"):
        check(configured(tmp_path, '[[listen]]\nprotocols = ["nobody"]\n'))


def test_the_child_hands_back_warnings_and_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "drop", lambda account: None)
    account = Account("somebody", 1, 1)
    assert checks._as_account(account, lambda: ["one", "two"]) == ["one", "two"]

    def fail() -> list[str]:
        raise PluginError("broken")

    with pytest.raises(StartError, match="broken") as caught:
        checks._as_account(account, fail)
    assert caught.value.exit_status == 78

    def vanish() -> list[str]:
        os._exit(0)

    with pytest.raises(StartError, match="as somebody ended the process"):
        checks._as_account(account, vanish)


def secured(tmp_path: Path, days: float) -> Config:
    issued = Authority(tmp_path / "ca").issue(days=days)
    return configured(
        tmp_path,
        f'[[listen]]\n[listen.tls]\ncertificate = "{issued.certificate}"\nprivate_key = "{issued.private_key}"\n'
        'ciphers = "DEFAULT:NONSENSE"\n',
    )


def test_a_certificate_near_its_end_and_a_cipher_that_nobody_knows(tmp_path: Path) -> None:
    cipher, end = warnings(secured(tmp_path, 20))
    assert "NONSENSE" in cipher
    assert "ends in 19 days" in end


def test_a_certificate_that_has_ended(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"listen\[0\].tls.certificate: .* has ended on "):
        check(secured(tmp_path, -1))
