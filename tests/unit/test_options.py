"""The options: their defaults, their bounds, and what does not go together; the messages to the letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import tomli
from pydantic import ValidationError

from wsd import log
from wsd.errors import ConfigError
from wsd.options import Config, Level, Limits, Listen, Log, Options, Plugins, ProtocolTable
from wsd.problems import validate


def check(text: str) -> Config:
    return validate(
        Config, tomli.loads(text), lambda table: Config.model_validate(table, context={"folder": "/etc"}), "f"
    )


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(text)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


WRONG = """
# unknown keys
[[listen]] ; prot = 1
    listen[0].prot: unknown key 'prot'; did you mean 'port'?
[plugin]
    plugin: unknown key 'plugin'; did you mean 'plugins'?
port = 1
    port: unknown key 'port'; it belongs into [[listen]]
[daemon] ; max_headers = 1
    daemon.max_headers: unknown key 'max_headers'; it belongs into [limits]
[daemon] ; zzz = 1
    daemon.zzz: unknown key 'zzz'; known here: pidfile, user, group, umask
[daemon] ; "a b\\n" = 1
    daemon."a b\\x0a": unknown key 'a b\\x0a'; known here: pidfile, user, group, umask
# wrong types
listen = 1
    listen: found 1; allowed: one or more tables, each with the header [[listen]]
[listen] ; port = 1
    listen: found a table; allowed: one or more tables, each with the header [[listen]]
listen = []
    listen: found an empty list; allowed: one or more tables, each with the header [[listen]]
listen = [3]
    listen[0]: found 3; allowed: a table
limits = 3
    limits: found 3; allowed: a table
[[listen]] ; port = "80"
    listen[0].port: found "80"; allowed: an integer from 0 to 65535
[[listen]] ; port = true
    listen[0].port: found true; allowed: an integer from 0 to 65535
[[listen]] ; port = 80.0
    listen[0].port: found 80.0; allowed: an integer from 0 to 65535
[[listen]] ; v6_only = 1
    listen[0].v6_only: found 1; allowed: true or false
[[listen]] ; protocols = 'echo'
    listen[0].protocols: found "echo"; allowed: a list, each a protocol's name: letters, digits and
    !#$%&'*+-.^_`|~
[timeouts] ; close_seconds = true
    timeouts.close_seconds: found true; allowed: a number of seconds from 0.1 to 86400
[timeouts] ; close_seconds = 12:00:00
    timeouts.close_seconds: found 12:00:00; allowed: a number of seconds from 0.1 to 86400
[daemon] ; umask = 27
    daemon.umask: found 27; allowed: three octal digits in quotes, such as "0660"
# out of range
[[listen]] ; port = 65536
    listen[0].port: found 65536; allowed: an integer from 0 to 65535
[limits] ; max_connections = -1
    limits.max_connections: found -1; allowed: an integer from 0
[limits] ; max_queue_bytes = 0
    limits.max_queue_bytes: found 0; allowed: an integer of bytes from 1 to 9223372036854775807
[timeouts] ; close_seconds = nan
    timeouts.close_seconds: found nan; allowed: a number of seconds from 0.1 to 86400
[timeouts] ; close_seconds = inf
    timeouts.close_seconds: found inf; allowed: a number of seconds from 0.1 to 86400
[keepalive] ; probes = 128
    keepalive.probes: found 128; allowed: an integer from 1 to 127
[keepalive] ; ping_seconds = -0.5
    keepalive.ping_seconds: found -0.5; allowed: a number of seconds from 0 to 86400
# texts
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
[protocols.chat.timeouts] ; close = 1
    protocols.chat.timeouts.close: unknown key 'close'; did you mean 'close_seconds'?
# what does not go together
[[listen]] ; interface = '::1' ; port = 1 ; unix = '/s'
    listen[0].unix: found interface = "::1" and port = 1 and unix = "/s"; a listener has the one or the other
[[listen]] ; port = 7681 ; unix = '/s'
    listen[0].unix: found port = 7681 and unix = "/s"; a listener has the one or the other
[[listen]] ; interface = ''
    listen[0].interface: found interface = "" and no unix; set one of them
[[listen]] ; unix_mode = '0600'
    listen[0].unix_mode: found unix_mode = "0600" without unix; set both or none
[[listen]] ; v6_only = false
    listen[0].v6_only: found v6_only = false and interface = "127.0.0.1"; it is about an IPv6 address, such as
    interface = "::"
[[listen]] ; protocols = [] ; default_protocol = 'echo'
    listen[0].default_protocol: found "echo", which is not in protocols = []
[[listen]] ; protocols = ['chat'] ; paths = { '/m' = 'chad' }
    listen[0].paths."/m": found "chad", which is not in protocols = ["chat"]; did you mean "chat"?
[[listen]] ; unix = '/s' ; [[listen]] ; unix = '/x/../s'
    listen[1].unix: found unix = "/s"; listen[0] has unix = "/s" already
[[listen]] ; [[listen]] ; interface = '0.0.0.0'
    listen[1].port: found interface = "0.0.0.0" and port = 7681; listen[0] has interface = "127.0.0.1" and port =
    7681 already
[[listen]] ; interface = '::' ; v6_only = false ; [[listen]]
    listen[1].port: found interface = "127.0.0.1" and port = 7681; listen[0] has interface = "::" and port = 7681
    already
[[listen]] ; interface = 'localhost' ; [[listen]] ; interface = 'LOCALHOST'
    listen[1].port: found interface = "LOCALHOST" and port = 7681; listen[0] has interface = "localhost" and port =
    7681 already
[[listen]] ; interface = '0::1' ; [[listen]] ; interface = '::1'
    listen[1].port: found interface = "::1" and port = 7681; listen[0] has interface = "0::1" and port = 7681
    already
"""
"""What is in the file (` ; ` ends a line), and below it what is said about it."""


def cases(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.strip().splitlines() if not line.startswith("# ")]
    found: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith("    "):
            toml, said = found.pop()
            found.append((toml, f"{said} {line.strip()}".strip()))
        else:
            found.append((line.replace(" ; ", "\n"), ""))
    return found


@pytest.mark.parametrize(("text", "message"), cases(WRONG))
def test_what_is_wrong_is_said_to_the_letter(text: str, message: str) -> None:
    assert refused(text) == [message]


def test_a_huge_number_is_not_printed() -> None:
    assert refused(f"[limits]\nmax_headers = 0x{'f' * 5000}") == [
        "limits.max_headers: found a huge number; allowed: an integer from 1 to 10000"
    ]


def test_a_path_longer_than_the_kernel_takes_is_refused() -> None:
    (said,) = refused(f"[[listen]]\nunix = '{'x' * 110}'")
    assert said.endswith('..."; it has 115 bytes as an absolute path; allowed: up to 107, as the kernel wants')
    assert 'found "/etc/' not in said


def test_a_wrong_value_brings_no_clashes_of_its_own() -> None:
    """What is taken out because it is wrong is not missed by others."""
    assert refused("[[listen]]\nprotocols = ['echo', 1]\ndefault_protocol = 'chat'") == [
        "listen[0].protocols[1]: found 1; allowed: a protocol's name: letters, digits and !#$%&'*+-.^_`|~"
    ]
    assert len(refused("[[listen]]\nunix = 3\nunix_mode = '0600'")) == 1
    assert len(refused("[[listen]]\nport = 1\n[[listen]]\nport = 70000\n[[listen]]\ninterface = 3\nport = 1")) == 2
    assert len(refused("[limits]\nmax_head_bytes = '32768'\nmax_uri_bytes = 20000")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[[listen]]\nport = 0\n[[listen]]\nport = 0",
        "[[listen]]\ninterface = '::'\n[[listen]]\ninterface = '0.0.0.0'",
        "[[listen]]\ninterface = '::1'\n[[listen]]\ninterface = '127.0.0.1'",
        "[[listen]]\nunix = '/a'\n[[listen]]\nunix = '/b'\n[[listen]]",
        "[[listen]]\nunix = '/a'\ninterface = ''\nunix_mode = '600'\nunix_owner = 'www-data'",
        "[[listen]]\ninterface = '::'\nv6_only = false",
        "[[listen]]\ninterface = 'localhost'\nprotocols = []",
        "[[listen]]\ninterface = 'fe80::1%eth0'",
        "[[listen]]\ndefault_protocol = 'mine'\npaths = { '/a b' = 'yours' }",
        "[[listen]]\nallowed_origins = ['*', 'https://a.com:8443', 'http://[::1]:80']",
        "[limits]\nmax_head_bytes = 1024",
        "[timeouts]\nclose_seconds = 1\nhandshake_seconds = 0.5",
        "[log]\nlevels = []",
        "[plugins]\nfolders = []",
        "[protocols.echo]\nanything = [1, 2]\nlimits.max_message_bytes = 0\ntimeouts.close_seconds = 3",
    ],
)
def test_what_is_right_is_taken(text: str) -> None:
    check(text)


def test_a_protocols_table_is_the_plugins_but_for_two_sub_tables() -> None:
    table = check(
        """
        [protocols.echo]
        options = 1
        since = 2024-02-29
        nested = { limits = 2 }
        limits = { max_fragments = 3 }
        """
    ).protocols["echo"]
    assert {name: str(value) for name, value in table.options.items()} == {
        "options": "1",
        "since": "2024-02-29",
        "nested": "{'limits': 2}",
    }
    assert table.limits.max_fragments == 3
    assert (table.limits.max_message_bytes, table.timeouts.close_seconds) == (None, None)
    assert ProtocolTable().options == {}


def test_equal_tables_are_equal_whatever_was_typed() -> None:
    """A reload keeps what is unchanged: writing a default down changes nothing."""
    assert check("[[listen]]\nport = 7681\ndefault_protocol = 'echo'").listen == check("").listen
    assert check("[protocols.a]\nx = 1").protocols == check("[protocols.a]\nlimits = {}\nx = 1").protocols
    assert check("[protocols.a]\nx = 1").protocols != check("[protocols.a]\nx = 2").protocols


def test_the_level_names_are_those_of_the_log() -> None:
    assert get_args(Level) == tuple(log.NAMES)
    assert log.parse_levels(Log().levels) == log.DEFAULT


def test_a_program_makes_models_with_names_and_any_sequence() -> None:
    listen = Listen(port=0, protocols=["a"], allowed_origins=[])  # type: ignore[arg-type]
    assert listen.protocols == ("a",)
    assert Plugins().folders == (Path("../plugins"),)  # there is no file to be relative to
    with pytest.raises(ValidationError, match="found max_uri_bytes = 5000 and max_head_bytes = 600"):
        Limits(max_head_bytes=600, max_uri_bytes=5000)


@pytest.mark.parametrize(("model", "name"), [(Limits(), "max_headers"), (Listen(), "port"), (Config(), "limits")])
def test_models_cannot_be_changed(model: Any, name: str) -> None:
    with pytest.raises(ValidationError):
        setattr(model, name, 1)


def test_a_plugins_options_are_closed() -> None:
    with pytest.raises(ValidationError):
        Options(x=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("table", [field.annotation for name, field in Config.model_fields.items() if field.annotation])
def test_every_default_is_allowed(table: Any) -> None:
    if isinstance(table, type):
        table()
