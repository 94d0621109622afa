"""The options: which there are, their defaults and bounds; the messages to the letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from tests.support.wrong import cases, check, refused
from wsd import log
from wsd.kinds import Level
from wsd.options import Compression, Config, Listen, Log, Plugins, ProtocolCompression, ProtocolTable
from wsd.options_limits import Limits
from wsd.table import Options

WRONG = """
# unknown keys
[[listen]] ; prot = 1
    listen[0].prot: unknown key 'prot'; did you mean 'port'?
[plugin]
    plugin: unknown key 'plugin'; did you mean 'plugins'?
port = 1
    port: unknown key 'port'; it belongs into [[listen]]
[daemon] ; max_headers = 1
    daemon.max_headers: unknown key 'max_headers'; it belongs into [limits] or [listen.limits]
[daemon] ; zzz = 1
    daemon.zzz: unknown key 'zzz'; known here: pidfile, user, group, umask, certificate_check_seconds
[daemon] ; "a b\\n" = 1
    daemon."a b\\x0a": unknown key 'a b\\x0a'; known here: pidfile, user, group, umask, certificate_check_seconds
[protocols.chat.timeouts] ; close = 1
    protocols.chat.timeouts.close: unknown key 'close'; did you mean 'close_seconds'?
[protocols.chat.compression] ; levels = 1
    protocols.chat.compression.levels: unknown key 'levels'; did you mean 'level'?
[[listen]] ; window_bits = 9
    listen[0].window_bits: unknown key 'window_bits'; it belongs into [listen.compression]
[[listen]] ; [listen.compression] ; static_folder = '/x'
    listen[0].compression.static_folder: unknown key 'static_folder'; it belongs into [[listen]]
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
[[listen]] ; [listen.compression] ; level = 0
    listen[0].compression.level: found 0; allowed: an integer from 1 to 9
[[listen]] ; [listen.compression] ; memory_level = 10
    listen[0].compression.memory_level: found 10; allowed: an integer from 1 to 9
[[listen]] ; [listen.compression] ; window_bits = 8
    listen[0].compression.window_bits: found 8; allowed: an integer from 9 to 15
[[listen]] ; [listen.compression] ; min_bytes = -1
    listen[0].compression.min_bytes: found -1; allowed: an integer of bytes from 0 to 9223372036854775807
[[listen]] ; [[listen]] ; port = 1 ; [listen.compression] ; window_bits = 16
    listen[1].compression.window_bits: found 16; allowed: an integer from 9 to 15
[protocols.chat.compression] ; window_bits = 16
    protocols.chat.compression.window_bits: found 16; allowed: an integer from 9 to 15
[protocols.chat] ; compression = false
    protocols.chat.compression: found false; allowed: a table
"""


@pytest.mark.parametrize(("text", "message"), cases(WRONG))
def test_what_is_wrong_is_said_to_the_letter(text: str, message: str) -> None:
    assert refused(text) == [message]


def test_a_huge_number_is_not_printed() -> None:
    assert refused(f"[limits]\nmax_headers = 0x{'f' * 5000}") == [
        "limits.max_headers: found a huge number; allowed: an integer from 1 to 10000"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[timeouts]\nclose_seconds = 1\nhandshake_seconds = 0.5",
        "[log]\nlevels = []",
        "[plugins]\nfolders = []",
        "[protocols.echo]\nanything = [1, 2]\nlimits.max_message_bytes = 0\ntimeouts.close_seconds = 3",
        "[[listen]]\n[listen.compression]\nenabled = false\n[[listen]]\nport = 1\ncompression = { window_bits = 9 }",
        "[protocols.echo.compression]\nlevel = 9\nmin_bytes = 0",
    ],
)
def test_what_is_right_is_taken(text: str) -> None:
    check(text)


def test_a_protocols_table_is_the_plugins_but_for_three_sub_tables() -> None:
    table = check(
        """
        [protocols.echo]
        options = 1
        since = 2024-02-29
        nested = { limits = 2 }
        limits = { max_fragments = 3 }
        compression = { enabled = false }
        """
    ).protocols["echo"]
    assert {name: str(value) for name, value in table.options.items()} == {
        "options": "1",
        "since": "2024-02-29",
        "nested": "{'limits': 2}",
    }
    assert table.limits.max_fragments == 3
    assert (table.compression.enabled, table.compression.level) == (False, None)
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


def test_each_listener_has_a_compression_of_its_own() -> None:
    """`[listen.compression]` belongs to the [[listen]] above it."""
    one, two, three = check(
        """
        [[listen]]
        [listen.compression]
        level = 9
        [[listen]]
        port = 1
        [[listen]]
        port = 2
        [listen.compression]
        enabled = false
        """
    ).listen
    assert (one.compression.level, one.compression.enabled) == (9, True)
    assert two.compression == Compression()
    assert three.compression == Compression(enabled=False)


def test_what_a_protocol_says_about_compression_wins() -> None:
    base = Compression(level=3, window_bits=10, min_bytes=7)
    assert ProtocolCompression().over(base) == base
    own = ProtocolCompression(enabled=False, window_bits=15, min_bytes=0, context_takeover=False)
    assert own.over(base) == Compression(enabled=False, level=3, window_bits=15, min_bytes=0, context_takeover=False)
    assert ProtocolCompression(enabled=True).over(Compression(enabled=False)).enabled


def test_a_protocol_can_say_what_a_listener_can() -> None:
    assert list(ProtocolCompression.model_fields) == list(Compression.model_fields)
    assert {field.default for field in ProtocolCompression.model_fields.values()} == {None}
