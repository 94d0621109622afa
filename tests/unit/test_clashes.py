"""What does not go together, and what does: the messages to the letter."""

from __future__ import annotations

import pytest

from tests.support.wrong import cases, check, refused

WRONG = """
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
[[listen]] ; accept = 'raw' ; protocols = ['a'] ; paths = { '/m' = 'a' }
    listen[0].paths: found paths beside accept = "raw", which speaks no HTTP; take it out
[[listen]] ; accept = 'raw' ; allowed_origins = ['*']
    listen[0].allowed_origins: found allowed_origins beside accept = "raw", which speaks no HTTP; take it out
[[listen]] ; accept = 'raw' ; static_folder = '/www'
    listen[0].static_folder: found static_folder beside accept = "raw", which speaks no HTTP; take it out
[[listen]] ; accept = 'raw' ; forwarded = 'forwarded' ; trusted_proxies = ['::1']
    listen[0].forwarded: found forwarded beside accept = "raw", which speaks no HTTP; take it out
[[listen]] ; trusted_proxies = ['::1']
    listen[0].trusted_proxies: found trusted_proxies = ["::1"] without proxy_protocol and forwarded; set one of them
[[listen]] ; proxy_protocol = true
    listen[0].proxy_protocol: found proxy_protocol = true without trusted_proxies, from whom alone it would be
    believed
[[listen]] ; forwarded = 'x-forwarded-for'
    listen[0].forwarded: found forwarded = "x-forwarded-for" without trusted_proxies, from whom alone it would be
    believed
[[listen]] ; unix = '/s' ; trusted_proxies = ['::1'] ; proxy_protocol = true
    listen[0].trusted_proxies: found trusted_proxies = ["::1"] beside unix; proxies come by the socket, so add "unix"
[[listen]] ; accept = 'raw' ; http_protocol = 'a'
    listen[0].http_protocol: found http_protocol beside accept = "raw", which speaks no HTTP; take it out
[[listen]] ; accept = 'raw' ; compression = { level = 1 }
    listen[0].compression: found compression beside accept = "raw", which speaks no HTTP; take it out
[limits] ; max_head_bytes = 600 ; max_uri_bytes = 5000
    limits.max_uri_bytes: found max_uri_bytes = 5000 and max_head_bytes = 600; the first is part of the second
"""


@pytest.mark.parametrize(("text", "message"), cases(WRONG))
def test_what_does_not_go_together_is_said_to_the_letter(text: str, message: str) -> None:
    assert refused(text) == [message]


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
        "[[listen]]\naccept = 'raw'\nprotocols = ['a']\ndefault_protocol = 'a'",
        "[[listen]]\naccept = 'http'\nallowed_origins = ['*']",
        "[[listen]]\ndefault_protocol = 'mine'\npaths = { '/a b' = 'yours' }",
        "[limits]\nmax_head_bytes = 1024",
        "[[listen]]\nunix = '/s'\ntrusted_proxies = ['::1', 'unix']\nproxy_protocol = true\nforwarded = 'forwarded'",
        "[[listen]]\naccept = 'raw'\nprotocols = ['a']\ntrusted_proxies = ['::1']\nproxy_protocol = true",
    ],
)
def test_what_is_right_is_taken(text: str) -> None:
    check(text)


def test_a_wrong_value_brings_no_clashes_of_its_own() -> None:
    """What is taken out because it is wrong is not missed by others."""
    assert refused("[[listen]]\nprotocols = ['echo', 1]\ndefault_protocol = 'chat'") == [
        "listen[0].protocols[1]: found 1; allowed: a protocol's name: letters, digits and !#$%&'*+-.^_`|~"
    ]
    assert len(refused("[[listen]]\nunix = 3\nunix_mode = '0600'")) == 1
    assert len(refused("[[listen]]\ntrusted_proxies = ['x']\nproxy_protocol = true")) == 1
    assert len(refused("[[listen]]\nport = 1\n[[listen]]\nport = 70000\n[[listen]]\ninterface = 3\nport = 1")) == 2
    assert len(refused("[limits]\nmax_head_bytes = '32768'\nmax_uri_bytes = 20000")) == 1
