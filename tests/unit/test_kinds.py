"""Single values: what may stand there, and what is said about what may not, to the letter."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.support.wrong import cases, check, refused
from wsd import kinds

WRONG = """
[log] ; target = 'file'
    log.target: found "file"; allowed: one of "auto", "stderr", "syslog"
[log] ; levels = ['err', 'x']
    log.levels[1]: found "x"; allowed: one of "err", "warn", "notice", "info", "debug", "parser", "header", "ext",
    "client", "latency", "user"
[daemon] ; umask = '0028'
    daemon.umask: found "0028"; allowed: three octal digits in quotes, such as "0660"
[daemon] ; user = 'a b'
    daemon.user: found "a b"; allowed: the name or number of an account, or empty
[daemon] ; pidfile = "a\\u0000b"
    daemon.pidfile: found "a\\x00b"; a path cannot hold a NUL
[plugins] ; folders = ['']
    plugins.folders[0]: found ""; allowed: the path of a folder; the file's own is "."
[[listen]] ; interface = '127.0.0.1:80'
    listen[0].interface: found "127.0.0.1:80"; allowed: an IPv4 address, an IPv6 address without brackets, or a
    name; no port
[[listen]] ; interface = '1.2.3.256'
    listen[0].interface: found "1.2.3.256"; allowed: an IPv4 address, an IPv6 address without brackets, or a name;
    no port
[[listen]] ; interface = '[::1]'
    listen[0].interface: found "[::1]"; allowed: an address or a name
[[listen]] ; allow = ['10.0.0.1/8']
    listen[0].allow[0]: found "10.0.0.1/8"; allowed: the network "10.0.0.0/8", or an address alone
[[listen]] ; deny = ['example.com']
    listen[0].deny[0]: found "example.com"; allowed: a network such as "10.0.0.0/8" or "2001:db8::/32", an address, or
    "unix"
[[listen]] ; deny = ['::1', '::1']
    listen[0].deny: found a list; "::1" stands there twice
[[listen]] ; protocols = ['a', 'b', 'a']
    listen[0].protocols: found a list; "a" stands there twice
[[listen]] ; paths = { mirror = 'a' }
    listen[0].paths.mirror: found "mirror"; allowed: a path that starts with "/", without "?" and "#"
[[listen]] ; paths = { '/m' = 'a b' }
    listen[0].paths."/m": found "a b"; allowed: a protocol's name: letters, digits and !#$%&'*+-.^_`|~
[[listen]] ; allowed_origins = ['a.com']
    listen[0].allowed_origins[0]: found "a.com"; allowed: an origin such as "https://example.com" or
    "https://example.com:8443", or "*"
[[listen]] ; allowed_origins = ['https://a.com/']
    listen[0].allowed_origins[0]: found "https://a.com/"; allowed: an origin such as "https://example.com" or
    "https://example.com:8443", or "*"
[protocols.'a b']
    protocols."a b": found "a b"; allowed: a protocol's name: letters, digits and !#$%&'*+-.^_`|~
"""


@pytest.mark.parametrize(("text", "message"), cases(WRONG))
def test_a_wrong_value_is_told_to_the_letter(text: str, message: str) -> None:
    assert refused(text) == [message]


@pytest.mark.parametrize(
    "text",
    [
        "[[listen]]\ninterface = 'fe80::1%eth0'",
        "[[listen]]\nallow = ['10.0.0.0/8', '::1', 'unix']\ndeny = ['10.0.0.0/9', '0.0.0.0/0', '::/0']",
        "[[listen]]\nallowed_origins = ['*', 'https://a.com:8443', 'http://[::1]:80']",
    ],
)
def test_what_is_right_is_taken(text: str) -> None:
    check(text)


def test_a_path_longer_than_the_kernel_takes_is_refused() -> None:
    (said,) = refused(f"[[listen]]\nunix = '{'x' * 110}'")
    assert said.endswith('..."; it has 115 bytes as an absolute path; allowed: up to 107, as the kernel wants')
    assert 'found "/etc/' not in said


@pytest.mark.parametrize(
    ("kind", "lowest", "highest"),
    [
        (kinds.Size, 1, 2**63 - 1),
        (kinds.SizeOrNone, 0, 2**63 - 1),
        (kinds.Seconds, 0.1, 86_400),
        (kinds.SecondsOrOff, 0, 86_400),
        (kinds.WindowBits, 9, 15),
        (kinds.DeflateLevel, 1, 9),
        (kinds.DeflateMemory, 1, 9),
    ],
)
def test_bounds(kind: object, lowest: float, highest: float) -> None:
    adapter: TypeAdapter[float] = TypeAdapter(kind)
    for value in (lowest, highest):
        assert adapter.validate_python(value) == value
    for value in (lowest - 0.1 if lowest == 0.1 else lowest - 1, highest + 1):
        with pytest.raises(ValidationError):
            adapter.validate_python(value)
