"""Who may come in, and how much of it: doors, passwords, and the budgets of those who are in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.attacks.attempt import Attempt, counted, responses
from tests.attacks.model import Attack, Group, Setup
from tests.support.client import close_frame, upgrade_request
from tests.support.daemon import ECHO
from tests.support.proxies import START_2, block, line, raw_block
from tests.support.secrets import basic, bearer, password_file, token_file

OTHER: Final = "127.0.0.2"
"""Another address of this machine: the proxy that is trusted, or the peer that is not the companion."""

REFUSED: Final = "INFO listener 127.0.0.1:<n>: 127.0.0.<n>:<n> refused: "

# -- proxies ----------------------------------------------------------------------------------------------------------

WHO: Final = """
from wsd import Protocol


class Who(Protocol):
    name = "who"

    def on_established(self, wsi):
        wsi.send(wsi.peer.address)


protocols = [Who]
"""

_TRUSTED = f'port = 0\ntrusted_proxies = ["{OTHER}"]\ndefault_protocol = "who"\n'

PROXIES: Final = Setup(
    "proxies",
    listen=(
        'port = 0\ndefault_protocol = "who"',
        _TRUSTED + "proxy_protocol = true",
        _TRUSTED + 'forwarded = "x-forwarded-for"\ndeny = ["192.0.2.66"]',
        _TRUSTED + 'forwarded = "forwarded"',
        'port = 0\ndefault_protocol = "who"\ndeny = ["127.0.0.2"]',
        'port = 0\ndefault_protocol = "who"\nallow = ["127.0.0.1"]',
    ),
    plugins=(("who", WHO),),
)


def sends(at: int, *pieces: bytes, source: str = "") -> Callable[[Attempt], str]:
    """What comes of these bytes at one of the listeners."""

    def play(attempt: Attempt) -> str:
        client = attempt.client(at, source=source)
        client.send(*pieces)
        return responses(client)

    return play


def each(at: int, *requests: bytes, source: str = "") -> Callable[[Attempt], str]:
    return lambda attempt: counted([sends(at, request, source=source)(attempt) for request in requests])


def who(at: int, *lines: tuple[str, str], source: str = "") -> Callable[[Attempt], str]:
    """Whom the plugin takes one for that sends these header lines."""

    def play(attempt: Attempt) -> str:
        text = "".join(f"{name}: {value}\r\n" for name, value in lines)
        client = attempt.client(at, source=source)
        client.send(upgrade_request().removesuffix(b"\r\n"), text.encode("latin-1"), b"\r\n")
        answer = client.receive_response()
        if answer.status != 101:
            return str(answer.status)
        return f"taken for {client.receive_message()!s}"

    return play


def all_of(*plays: Callable[[Attempt], str]) -> Callable[[Attempt], str]:
    return lambda attempt: counted([play(attempt) for play in plays])


_XFF: Final = "X-Forwarded-For"

SPOOFING: Final = (
    Attack(
        "X-Forwarded-For and Forwarded from a peer that is no trusted proxy",
        "2 x taken for 127.0.0.1",
        all_of(who(2, (_XFF, "192.0.2.7")), who(3, ("Forwarded", "for=192.0.2.7"))),
        known="WebSocket-Node#80; CWE-348",
        setup=PROXIES,
    ),
    Attack(
        "the same where nobody is trusted",
        "2 x taken for 127.0.0.1",
        all_of(who(0, (_XFF, "192.0.2.7")), who(0, ("Forwarded", "for=192.0.2.7"))),
        known="WebSocket-Node#80; CWE-348",
        setup=PROXIES,
    ),
    Attack(
        "addresses in front of the one that the trusted proxy has added: in one line, in two, with a trusted one there",
        "3 x taken for 192.0.2.7",
        all_of(
            who(2, (_XFF, "10.0.0.1, 192.0.2.7"), source=OTHER),
            who(2, (_XFF, "10.0.0.1"), (_XFF, "192.0.2.7"), source=OTHER),
            who(2, (_XFF, f"{OTHER}, 192.0.2.7, {OTHER}"), source=OTHER),
        ),
        known="CWE-348",
        setup=PROXIES,
    ),
    Attack(
        "one that is denied, behind the trusted proxy: 192.0.2.66, and as ::ffff:192.0.2.66",
        "2 x 403",
        all_of(
            who(2, (_XFF, "192.0.2.66"), source=OTHER),
            who(2, (_XFF, "::ffff:192.0.2.66"), source=OTHER),
        ),
        ("INFO <tag>: denied", "INFO <tag>: refused with 403 this address may not connect here"),
        "CWE-290",
        PROXIES,
    ),
    Attack(
        "an address that is none behind the trusted proxy, with control characters as Latin-1",
        "taken for 127.0.0.2",
        who(2, (_XFF, "192.0.2.7\x9b2J, \x85fake"), source=OTHER),
        known="CWE-117",
        setup=PROXIES,
    ),
    Attack(
        "a PROXY header from a peer that is no trusted proxy, and a request without one",
        "2 x closed without a word",
        lambda attempt: counted(
            [closed(attempt, data, source="") for data in (line() + upgrade_request(), upgrade_request())]
        ),
        (REFUSED + "no trusted proxy",),
        "CWE-348",
        PROXIES,
    ),
    Attack(
        "a PROXY header on a listener that expects none, of both versions",
        "2 x 400, end",
        each(0, line() + upgrade_request(), block() + upgrade_request()),
        ("INFO <tag>: refused with 400 the request line is not METHOD TARGET HTTP/1.1", "INFO <tag>: <*> not HTTP"),
        setup=PROXIES,
    ),
    Attack(
        "version 1 with 200 bytes, with an address that is none, with LF alone; a request in its place",
        "4 x closed without a word",
        lambda attempt: counted(
            [
                closed(attempt, data)
                for data in (
                    b"PROXY TCP4 " + b"1" * 200 + b"\r\n",
                    b"PROXY TCP4 1.2.3.400 5.6.7.8 1 2\r\n",
                    line().replace(b"\r\n", b"\n") + b"x" * 100,
                    upgrade_request(),
                )
            ]
        ),
        ("INFO <tag>: refused: a PROXY header with a bad address", "INFO <tag>: refused: no PROXY header"),
        setup=PROXIES,
    ),
    Attack(
        "version 2 with a length of 65535 and no more, of 5 bytes, of an unknown version, command, family",
        "5 x closed without a word",
        lambda attempt: counted(
            [
                closed(attempt, data)
                for data in (
                    raw_block(0x21, 0x11, b"x" * 12, size=65_535) + b"x" * 70_000,
                    raw_block(0x21, 0x11, b"x" * 5),
                    raw_block(0x31, 0x11, b"x" * 12),
                    raw_block(0x2F, 0x11, b"x" * 12),
                    START_2[:-1] + b"x" + bytes(100),
                )
            ]
        ),
        (
            "INFO <tag>: refused: a PROXY header of 65551 bytes; allowed: up to 4096",
            "INFO <tag>: refused: a PROXY header too short for its addresses",
            "INFO <tag>: refused: a PROXY header with version and command 0x2f",
        ),
        setup=PROXIES,
    ),
    Attack(
        "one that is denied; one that is not among those that are allowed",
        "2 x end",
        all_of(sends(4, source=OTHER), sends(5, source=OTHER)),
        (REFUSED + "denied", REFUSED + "not among those that are allowed"),
        setup=PROXIES,
    ),
)


def closed(attempt: Attempt, data: bytes, source: str = OTHER) -> str:
    """What the trusted proxy, or somebody else, gets for that in the place of a PROXY header."""
    client = attempt.client(1, source=source)
    try:
        client.send(data)
    except ConnectionError:
        pass  # it was closed before it was all taken
    told = client.receive_end()
    return "closed without a word" if not told else repr(told)


# -- passwords --------------------------------------------------------------------------------------------------------


def prepare_secrets(folder: Path) -> None:
    # The default costs of one lane are 40 ms: long enough that those behind it wait.
    password_file(folder / "passwords", {"alice": "open-sesame"}, log2_n=14, lanes=1)
    token_file(folder / "tokens", {"bobs-token": "bob"})


SECRETS: Final = Setup(
    "secrets",
    listen=('port = 0\ndefault_protocol = "echo"\nprotocols = ["echo", "secret"]',),
    plugins=(("secret", ECHO.format(name="secret")),),
    # Those that wait are not to be told that they have waited too long, however busy the machine is.
    more="""
[timeouts]
handshake_seconds = 60
[protocols.secret.auth]
password_file = "passwords"
token_file = "tokens"
token_argument = "access_token"
""",
    prepare=prepare_secrets,
)


def shows(*lines: tuple[str, str], path: str = "/") -> Callable[[Attempt], str]:
    """What comes of an upgrade to `secret` with each of these headers."""

    def play(attempt: Attempt) -> str:
        told = []
        for header in lines or (("X", ""),):
            client = attempt.client()
            client.send(upgrade_request(path, "secret", headers=[header]), close_frame(1000))
            told.append(responses(client))
        return counted(told)

    return play


WRONG_PASSWORDS: Final = 60


def password_flood(attempt: Attempt) -> str:
    """More wrong passwords at once than are compared at once: each costs the daemon what it costs to be slow."""
    clients = [attempt.client() for _ in range(WRONG_PASSWORDS)]
    for at, client in enumerate(clients):
        client.send(upgrade_request(protocols="secret", headers=[basic("alice", f"guess {at}")]))
    attempt.companion.go_round(5)
    told = [responses(client) for client in clients]
    assert told.count("401, end") >= 16, told  # as many may wait
    assert told.count("503, end") >= 16, told  # and how many are done meanwhile depends on the machine
    assert told.count("401, end") + told.count("503, end") == WRONG_PASSWORDS
    return "401 to those that could wait, 503 to the others"


def token_flood(attempt: Attempt) -> str:
    """Wrong tokens, the first and the last byte of which is right."""
    told = []
    for at in range(1000):
        client = attempt.client()
        token = f"bobs-toke{at}" if at % 2 else f"{at}bobs-token"
        client.send(upgrade_request(protocols="secret", headers=[bearer(token)]))
        told.append(responses(client))
        client.disconnect()
    return counted(told)


def tokens_in_the_url(attempt: Attempt) -> str:
    """Right and wrong ones, twice, percent-encoded, in the wrong place; none may be written down."""
    paths = (
        "/?access_token=bobs-token",
        "/?access_token=wrong-token",
        "/?a=1&access_token=bobs-token&access_token=wrong-token",
        "/?%61ccess_token=wrong-token",
        "/?x=y&access%5Ftoken=bobs-token",
    )
    told = [shows(path=path)(attempt) for path in paths]
    assert not [text for text in attempt.lines() if "bobs-token" in text or "wrong-token" in text]
    return counted(told)


_401 = ("INFO <tag>: refused with 401 these credentials let nobody in",)
_400 = "INFO <tag>: refused with 400 "

PASSWORDS: Final = (
    Attack(
        f"{WRONG_PASSWORDS} wrong passwords at once",
        "401 to those that could wait, 503 to the others",
        password_flood,
        (
            *_401,
            "WARN <tag>: too many passwords wait to be checked; refused with 503",
            "INFO <tag>: refused with 503 <*>",
        ),
        "CWE-307",
        SECRETS,
        memory_kib=20_480,
    ),
    Attack(
        "a wrong password, an unknown name, no password, no name",
        "4 x 401, end",
        shows(basic("alice", "wrong"), basic("mallory", "open-sesame"), basic("alice", ""), basic("", "open-sesame")),
        _401,
        "CWE-204",
        SECRETS,
        memory_kib=20_480,
    ),
    Attack(
        "1000 wrong tokens, whose first or last byte is right",
        "1000 x 401, end",
        token_flood,
        _401,
        "CVE-2021-33880; CWE-208",
        SECRETS,
    ),
    Attack(
        "credentials that are none: no base64, no colon, 12,000 bytes, NUL, no UTF-8; two headers' worth in one",
        "6 x 400, end",
        shows(
            ("Authorization", "Basic !!!"),
            ("Authorization", "Basic YWxpY2U="),
            ("Authorization", "Basic " + "A" * 12_001),
            ("Authorization", "Basic YWxpY2U6AA=="),
            ("Authorization", "Basic /////zo="),
            ("Authorization", "Bearer bobs-token, Bearer bobs-token"),
        ),
        (
            _400 + "the Basic credentials are not base64",
            _400 + "the Basic credentials hold a control character",
            _400 + "the Basic credentials are not UTF-8",
        ),
        setup=SECRETS,
    ),
    Attack(
        "none, another scheme, a token as a password, a password as a token",
        "4 x 401, end",
        shows(("X", ""), ("Authorization", "Digest username=alice"), basic("bob", "bobs-token"), bearer("open-sesame")),
        ("INFO <tag>: refused with 401 who are you?",),
        setup=SECRETS,
        memory_kib=20_480,
    ),
    Attack(
        "tokens in the URL: right, wrong, both, percent-encoded names",
        "101, Close 1000, end, 401, end, 400, end, 401, end, 101, Close 1000, end",
        tokens_in_the_url,
        ("INFO <tag>: established, <*>", *_401),
        "CWE-532",
        SECRETS,
    ),
)


GROUPS: Final = (
    Group(13, "Peers that pretend to be somebody else", SPOOFING),
    Group(14, "Passwords and tokens", PASSWORDS),
)
