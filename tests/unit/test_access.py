"""`wsd.access`: whom files and plugins let in, on a wsi that only notes what is done to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.role import Echo, Site, Wsi, bound, upgrade, wsi_with
from tests.support.secrets import basic, bearer, password_file, token_file, write
from tests.support.timing import wait_until
from wsd import access, log, verifier
from wsd.access import Gate, files, hide_tokens, read
from wsd.config import Auth, Config, Listen, ProtocolAuth, ProtocolTable
from wsd.errors import ConfigError, Reject
from wsd.protocol import callback_protocol
from wsd.reasons import CLOSE, Reason
from wsd.wire.http import Response, parse_head

RIGHT, WRONG = basic("alice", "secret"), basic("alice", "wrong")


@pytest.fixture
def auth(tmp_path: Path) -> Auth:
    """alice has a password, bob a token; a URL may carry it."""
    passwords = password_file(tmp_path / "passwords", {"alice": "secret"})
    tokens = token_file(tmp_path / "tokens", {"bobs-token": "bob"})
    return Auth(password_file=str(passwords), token_file=str(tokens), realm="here", token_argument="access_token")


class Verifying(Echo):
    """Notes what it is asked about, and answers what it is told to."""

    answer: Any = None

    def on_verify_authorization(self, wsi: Any, scheme: str, credentials: str) -> Any:
        self.calls.append(f"verify {scheme} {credentials} {wsi.identity} {wsi.session} {wsi.binding.protocol.name}")
        return self.answer(wsi) if callable(self.answer) else self.answer


def served(auth: Auth, *protocols: Any, http: Any = None) -> Wsi:
    wsi = wsi_with(http or Site(), *protocols)
    wsi.menu.config.auth = auth
    return wsi


def header(pair: tuple[str, str]) -> str:
    return ": ".join(pair)


def get(*headers: tuple[str, str], target: str = "/", method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: a", *map(header, headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def settle(wsi: Wsi) -> None:
    """Do what the loop does, until nothing is being verified."""

    def is_settled() -> bool:
        wsi.context.gate.verifier.deliver()
        wsi.serve()
        return not wsi.is_verifying

    wait_until(is_settled)


def ask(wsi: Wsi, request: bytes) -> list[tuple[int, bytes]]:
    wsi.role.receive(request)
    settle(wsi)
    return wsi.answers()


# -- plain HTTP -------------------------------------------------------------------------------------------------------


def test_without_files_or_a_hook_everybody_is_let_in() -> None:
    wsi = served(Auth(), Echo())
    assert ask(wsi, get(WRONG)) == [(200, b"/")]
    assert wsi.identity is None


def test_a_right_password_lets_in_and_says_who_it_is(auth: Auth) -> None:
    seen: list[Any] = []
    site = Site()

    def answer(wsi: Any, request: Any) -> Response:
        seen.append(wsi.identity)
        return Response(body="in")

    site.answer = answer
    wsi = served(auth, http=site)
    assert ask(wsi, get(RIGHT)) == [(200, b"in")]
    assert ask(wsi, get(bearer("bobs-token"))) == [(200, b"in")]
    assert ask(wsi, get(RIGHT, method="HEAD")) == [(200, b"")]
    assert seen == ["alice", "bob", "alice"]


@pytest.mark.parametrize(
    "shown",
    [
        [],
        [WRONG],
        [basic("nobody", "secret")],
        [basic("", "")],
        [basic("bob", "bobs-token")],
        [bearer("secret")],
        [bearer("bobs-tokem")],
        [("Authorization", "Digest username=alice")],
    ],
)
def test_everybody_else_gets_401_before_a_hook_hears_of_it(shown: list[tuple[str, str]], auth: Auth) -> None:
    asked: list[Any] = []
    site = Site()
    site.answer = lambda wsi, request: asked.append(request)
    wsi = served(auth, http=site)
    wsi.role.receive(get(*shown) + get(RIGHT))
    settle(wsi)
    assert wsi.out.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b'\r\nWWW-Authenticate: Basic realm="here", charset="UTF-8"\r\n' in wsi.out
    assert b'\r\nWWW-Authenticate: Bearer realm="here"' in wsi.out
    assert (b'error="invalid_token"' in wsi.out) == any("Bearer" in value for _, value in shown)
    assert (asked, wsi.identity, wsi.ends) == ([], None, ["finish"])
    assert wsi.context.counters.unauthorized == 1


@pytest.mark.parametrize(
    "lines", [[RIGHT, bearer("bobs-token")], [("Authorization", "Basic ?")], [("Authorization", "Basic")]]
)
def test_what_is_not_well_formed_gets_400(lines: list[tuple[str, str]], auth: Auth) -> None:
    wsi = served(auth)
    assert ask(wsi, get(*lines))[0][0] == 400


def test_the_challenge_names_only_what_there_is(auth: Auth) -> None:
    only = auth.model_copy(update={"token_file": ""})
    wsi = served(only)
    wsi.role.receive(get(bearer("bobs-token")))
    assert wsi.out.startswith(b"HTTP/1.1 401 ")
    assert wsi.out.count(b"WWW-Authenticate: ") == wsi.out.count(b"WWW-Authenticate: Basic") == 1


def test_each_request_of_a_connection_says_anew_who_it_is(auth: Auth) -> None:
    wsi = served(auth)
    assert ask(wsi, get(RIGHT)) == [(200, b"/")]
    assert wsi.identity == "alice"
    assert ask(wsi, get())[0][0] == 401
    assert wsi.identity is None


# -- while it is compared ---------------------------------------------------------------------------------------------


class Held:
    """Passwords are compared when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verifier.Verifier, "_start_thread", lambda self: None)

    def decide(self, wsi: Wsi, verdict: verifier.Verdict) -> None:
        it = wsi.context.gate.verifier
        with it._lock:
            it._post(it._waiting.popleft(), verdict)
        it.deliver()
        wsi.serve()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


def test_nothing_is_read_and_the_deadline_runs_meanwhile(auth: Auth, held: Held) -> None:
    wsi = served(auth)
    wsi.role.receive(get(RIGHT) + get(RIGHT))
    assert (wsi.is_verifying, wsi.is_paused, wsi.out) == (True, True, b"")
    assert wsi.deadline == wsi.budget.handshake_seconds
    held.decide(wsi, True)
    assert not wsi.is_paused
    assert wsi.answers() == [(200, b"/"), (200, b"/")]  # the second was remembered


def test_a_deadline_that_runs_out_is_503(auth: Auth, held: Held) -> None:
    wsi = served(auth)
    wsi.role.receive(get(RIGHT))
    wsi.role.timed_out()
    assert b"\r\nRetry-After: 5\r\n" in wsi.out
    assert wsi.answers()[0][0] == 503
    held.decide(wsi, True)
    assert (wsi.out, wsi.ends) == (b"", ["finish"])


def test_what_could_not_be_computed_is_503(auth: Auth, held: Held) -> None:
    wsi = served(auth)
    wsi.role.receive(get(RIGHT))
    held.decide(wsi, None)
    assert wsi.answers()[0][0] == 503


def test_a_stop_is_503(auth: Auth, held: Held) -> None:
    wsi = served(auth, Echo())
    wsi.role.receive(upgrade(header(RIGHT)))
    wsi.role.stop()
    assert wsi.answers()[0][0] == 503
    held.decide(wsi, True)
    assert wsi.upgraded is None


def test_one_that_is_gone_is_forgotten(auth: Auth, held: Held) -> None:
    echo = Echo()
    wsi = served(auth, echo)
    before = wsi.menu.bindings["echo"].wsi_count
    wsi.role.receive(upgrade(header(RIGHT)))
    assert wsi.menu.bindings["echo"].wsi_count == before + 1  # a reload leaves it alone
    wsi.role.closed()
    held.decide(wsi, True)
    assert (wsi.upgraded, wsi.out, echo.calls) == (None, b"", [])
    assert wsi.menu.bindings["echo"].wsi_count == before


def test_one_that_was_closed_meanwhile_gets_nothing(auth: Auth, held: Held) -> None:
    echo = Echo()
    wsi = served(auth, echo)
    wsi.role.receive(upgrade(header(RIGHT)))
    wsi.role.close_asked()
    held.decide(wsi, True)
    assert (wsi.upgraded, wsi.out, echo.calls) == (None, b"", [])


def test_too_many_at_once_are_503_and_counted(auth: Auth, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "MAX_WAITING", 1)
    said: list[str] = []
    before, bits = log.emitter(), log.level()
    log.set_level(log.WARN, lambda level, line: said.append(line))
    monkeypatch.setattr(access, "_warnings", log.Throttle())
    first = served(auth)
    first.role.receive(get(WRONG))
    for _ in range(3):
        wsi = served(auth)
        wsi.context = first.context
        wsi.role.receive(get(basic("alice", "another")))
        assert b"\r\nRetry-After: 5\r\n" in wsi.out
        assert wsi.answers()[0][0] == 503
    log.set_level(bits, before)
    assert first.context.counters.verifier_full == 3
    assert len(said) == 1


def test_a_bug_of_ours_costs_that_connection_alone(auth: Auth, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    wsi = served(auth, http=site)
    wsi.role.receive(get(RIGHT))
    monkeypatch.setattr(type(wsi.role), "_advance", lambda role: 1 / 0)
    held.decide(wsi, True)
    assert (wsi.context.counters.bugs, wsi.ends) == (1, ["abort"])


# -- a WebSocket ------------------------------------------------------------------------------------------------------


def test_an_upgrade_waits_with_what_follows_it(auth: Auth) -> None:
    echo = Echo()
    wsi = served(auth, echo)
    wsi.role.receive(upgrade(header(RIGHT)) + b"\x81\x80abcd")
    assert (wsi.upgraded, echo.calls) == (None, [])
    settle(wsi)
    assert wsi.upgraded is not None
    assert wsi.upgraded[4] == b"\x81\x80abcd"
    assert wsi.identity == "alice"


def test_a_refused_upgrade_never_meets_its_protocol(auth: Auth) -> None:
    echo = Verifying()
    wsi = served(auth, echo)
    assert ask(wsi, upgrade(header(WRONG)))[0][0] == 401
    assert (wsi.upgraded, echo.calls, wsi.session, wsi.binding.protocol.name) == (None, [], None, "site")


def test_the_protocols_table_wins(auth: Auth, tmp_path: Path) -> None:
    other = str(password_file(tmp_path / "other", {"eve": "hers"}))
    cases: list[tuple[ProtocolAuth | None, set[str | None]]] = [
        (None, {"alice", "bob"}),
        (ProtocolAuth(), {"alice", "bob"}),
        (ProtocolAuth(password_file=other), {"eve", "bob"}),
        (ProtocolAuth(password_file=other, token_file=""), {"eve"}),
        (ProtocolAuth(password_file="", token_file=""), {"alice", "bob", "eve", None}),
    ]
    shows = {"alice": [RIGHT], "eve": [basic("eve", "hers")], "bob": [bearer("bobs-token")], None: []}
    for own, names in cases:
        for name, shown in shows.items():
            wsi = served(auth, Echo())
            wsi.menu.bindings["echo"].auth = own
            wsi.role.receive(upgrade(*map(header, shown)))
            settle(wsi)
            assert (wsi.upgraded is not None) == (name in names), (own, name)


# -- the hook ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "call"),
    [
        (RIGHT, "verify basic alice:secret alice None echo"),
        (bearer("bobs-token"), "verify bearer bobs-token bob None echo"),
    ],
)
def test_the_hook_is_asked_about_what_the_files_let_in(shown: tuple[str, str], call: str, auth: Auth) -> None:
    echo = Verifying()
    wsi = served(auth, echo)
    wsi.role.receive(upgrade(header(shown)))
    settle(wsi)
    assert wsi.upgraded is not None
    assert echo.calls == [call, "filter /chat {} echo", "headers"]


@pytest.mark.parametrize("shown", [[], [WRONG], [bearer("x")]])
def test_and_not_about_what_they_refuse(shown: list[tuple[str, str]], auth: Auth) -> None:
    echo = Verifying()
    assert ask(served(auth, echo), upgrade(*map(header, shown)))[0][0] == 401
    assert echo.calls == []


def test_a_scheme_without_a_file_is_not_the_hooks_where_there_is_a_file(auth: Auth) -> None:
    echo = Verifying()
    only = auth.model_copy(update={"token_file": ""})
    assert ask(served(only, echo), upgrade(header(bearer("anything"))))[0][0] == 401
    assert echo.calls == []


def test_without_files_the_hook_decides_alone() -> None:
    echo = Verifying()
    wsi = served(Auth(), echo)
    assert ask(wsi, upgrade())[0][0] == 401
    assert echo.calls == []

    def name(wsi: Any) -> None:
        wsi.identity = "somebody"

    echo.answer = name
    wsi = served(Auth(), echo)
    wsi.role.receive(upgrade(header(WRONG)))
    assert wsi.upgraded is not None
    assert wsi.identity == "somebody"
    assert echo.calls[0] == "verify basic alice:wrong None None echo"


@pytest.mark.parametrize(
    ("answer", "status"),
    [(CLOSE, 401), (lambda wsi: 1 / 0, 500), (lambda wsi: wsi.FAILED, 500)],
)
def test_a_hook_that_refuses_or_fails(answer: Any, status: int, auth: Auth) -> None:
    echo = Verifying()
    echo.answer = answer
    wsi = served(auth, echo)
    assert ask(wsi, upgrade(header(RIGHT)))[0][0] == status
    assert (len(echo.calls), wsi.identity, wsi.upgraded, wsi.binding.protocol.name) == (1, None, None, "site")


def test_a_hook_may_reject_with_a_status_of_its_own(auth: Auth) -> None:
    echo = Verifying()

    def reject(wsi: Any) -> None:
        raise Reject(429, "slowly", [("Retry-After", "9")])

    echo.answer = reject
    for shown in (RIGHT, bearer("bobs-token")):
        wsi = served(auth, echo)
        wsi.role.receive(upgrade(header(shown)))
        settle(wsi)
        assert wsi.out.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nRetry-After: 9\r\n" in wsi.out
        assert wsi.identity is None


def test_a_hook_may_close(auth: Auth) -> None:
    echo = Verifying()
    echo.answer = lambda wsi: wsi.close()
    for shown in (RIGHT, bearer("bobs-token")):
        wsi = served(auth, echo)
        wsi.role.receive(upgrade(header(shown)))
        settle(wsi)
        assert (wsi.upgraded, wsi.out, wsi.ends) == (None, b"", ["finish"])
    assert not [call for call in echo.calls if not call.startswith("verify")]


def test_a_callback_is_asked_only_about_what_a_file_let_in(auth: Auth) -> None:
    """It gets every reason, and one that answers 0 to those it does not know must let nobody in by that."""
    seen: list[Any] = []

    @callback_protocol("echo")
    def callback(wsi: Any, reason: int, user: Any, data: Any) -> None:
        if reason == Reason.VERIFY_BASIC_AUTHORIZATION:
            seen.append(data)

    wsi = served(Auth(), callback)
    wsi.role.receive(upgrade(header(WRONG)))
    assert wsi.upgraded is not None
    assert (seen, wsi.identity) == ([], None)
    wsi = served(auth, callback)
    wsi.role.receive(upgrade(header(bearer("bobs-token"))))
    assert (wsi.upgraded is not None, seen) == (True, [("bearer", "bobs-token")])


# -- tokens in a URL --------------------------------------------------------------------------------------------------


def test_a_token_in_the_url_lets_in_and_is_seen_by_nobody(auth: Auth) -> None:
    targets: list[str] = []
    said: list[str] = []
    site = Site()

    def answer(wsi: Any, request: Any) -> Response:
        targets.append(request.target)
        return Response(body="in")

    site.answer = answer
    before, bits = log.emitter(), log.level()
    log.set_level(sum(log.NAMES.values()), lambda level, line: said.append(line))
    wsi = served(auth, http=site)
    assert ask(wsi, get(target="/a?x=1&access_token=bobs-token")) == [(200, b"in")]
    log.set_level(bits, before)
    assert wsi.identity == "bob"
    assert targets == ["/a?x=1&access_token=***"]
    assert wsi.request is not None
    assert b"bobs-token" not in wsi.request.raw
    assert said
    assert not [line for line in said if "bobs-token" in line]


@pytest.mark.parametrize("target", ["/?access_token=a&access_token=b", "/?access_token=%0a", "/?access_token="])
def test_a_url_holds_one_token_and_nothing_else(target: str, auth: Auth) -> None:
    assert ask(served(auth), get(target=target))[0][0] == 400


def test_a_token_stands_in_one_place(auth: Auth) -> None:
    assert ask(served(auth), get(RIGHT, target="/?access_token=bobs-token"))[0][0] == 400


def test_an_argument_that_is_none_is_left_alone(auth: Auth) -> None:
    no = auth.model_copy(update={"token_argument": ""})
    wsi = served(no)
    assert ask(wsi, get(target="/?access_token=bobs-token"))[0][0] == 401
    assert wsi.request is not None
    assert wsi.request.arg("access_token") == "bobs-token"


def test_what_carries_a_token_for_one_protocol_is_hidden_from_all() -> None:
    wsi = wsi_with(Site(), Echo())
    wsi.menu.bindings["echo"].auth = ProtocolAuth(token_argument="key")
    wsi.menu.http.auth = ProtocolAuth(token_argument="ticket")
    request = parse_head(get(target="/?key=one&ticket=two&other=three"))
    shown, tokens = hide_tokens(request, wsi.menu)  # type: ignore[arg-type]
    assert shown.target == "/?key=***&ticket=***&other=three"
    assert shown.headers.get("Host") == "a"
    assert tokens == {"key": ["one"], "ticket": ["two"]}
    assert hide_tokens(request, None) == (request, {})
    plain = parse_head(get(target="/?other=three"))
    assert hide_tokens(plain, wsi.menu) == (plain, {})  # type: ignore[arg-type]


# -- files ------------------------------------------------------------------------------------------------------------


def config_of(auth: Auth, **protocols: ProtocolAuth) -> Config:
    tables = {name: ProtocolTable(auth=own) for name, own in protocols.items()}
    return Config(listen=(Listen(auth=auth),), protocols=tables)


def test_every_file_is_read_once_and_what_is_wrong_is_told_at_once(auth: Auth, tmp_path: Path) -> None:
    own = ProtocolAuth(password_file=str(write(tmp_path / "own", "alice:secret")))
    wrong = Auth(password_file=str(tmp_path / "none"), token_file=str(tmp_path / "neither"))
    with pytest.raises(ConfigError) as caught:
        read(config_of(wrong, chat=own))
    assert [problem.file for problem in caught.value.problems] == [
        str(tmp_path / name) for name in ("none", "neither", "own")
    ]
    assert sorted(files(config_of(auth, chat=own))) == sorted(
        [auth.password_file, auth.token_file, str(tmp_path / "own")]
    )
    gate = read(config_of(auth, chat=ProtocolAuth(realm="chat")))
    one, other = gate.access(auth), gate.access(auth, ProtocolAuth(realm="chat"))
    assert one.passwords is other.passwords
    assert one.tokens is other.tokens
    assert (one.auth.realm, other.auth.realm) == ("here", "chat")
    assert gate.access(auth) is one


def test_a_reload_takes_over_what_was_read_anew(auth: Auth) -> None:
    gate = Gate(lambda: None)
    old = gate.access(auth)
    gate.take_over(read(config_of(auth)))
    assert gate.access(auth) is not old
    gate.close()


def test_a_file_that_is_gone_with_its_listener_lets_nobody_in(auth: Auth) -> None:
    wsi = served(auth.model_copy(update={"password_file": "/nowhere"}))
    assert ask(wsi, get(RIGHT))[0][0] == 503


def test_who_binds_what() -> None:
    assert bound(Verifying()).verifies
    assert not bound(Echo()).verifies
