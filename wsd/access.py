"""Who a request comes from: passwords and tokens of the operator's files, and what a plugin says to that.

Owns what is asked of whom, in which order, and what a refusal says.  How the header is written is `wire/`'s, what the
files say `credentials.py`'s, the threads are `verifier.py`'s; what happens to the request meanwhile is `http1.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from wsd import faults, log
from wsd.errors import ConfigError, HandshakeError, Problem
from wsd.options_access import Auth, ProtocolAuth
from wsd.verifier import Verifier
from wsd.wire.authorization import (
    Basic,
    Bearer,
    Credentials,
    challenges,
    parse_authorization,
    parse_token,
    take_arguments,
)
from wsd.wire.http import Request

if TYPE_CHECKING:
    from wsd.binding import Binding
    from wsd.config import Config
    from wsd.credentials import Passwords, Tokens
    from wsd.incoming import Menu
    from wsd.verifier import Check, Verdict
    from wsd.wsi import Wsi

# How long one should wait that came when too many passwords were being checked: the queue is done by then.
RETRY_AFTER_SECONDS: Final = 5

_OPEN: Final = Auth.model_construct()

_warnings = log.Throttle()


class Access(NamedTuple):
    """Whom one listener, or one protocol there, lets in: a table of options with its files read."""

    auth: Auth
    passwords: Passwords | None
    tokens: Tokens | None

    @property
    def has_files(self) -> bool:
        """Whether the operator has said who may come in."""
        return self.passwords is not None or self.tokens is not None


class Gate:
    """The files of every table in use, each read once, and the passwords that are being checked.

    Args:
        rouse: Makes the loop call `verifier.deliver()` soon; called from any thread.
    """

    def __init__(self, rouse: Callable[[], None]) -> None:
        self.verifier = Verifier(rouse)
        self._by_tables: dict[tuple[Auth, ProtocolAuth | None], Access] = {}
        self._passwords: dict[str, Passwords] = {}
        self._tokens: dict[str, Tokens] = {}

    def access(self, auth: Auth, own: ProtocolAuth | None = None) -> Access:
        """Who is let in where the listener says `auth` and the protocol `own`.

        Raises:
            ConfigError: a file that was not read before cannot be used.
        """
        key = auth, own
        found = self._by_tables.get(key)
        if found is None:
            found = self._by_tables[key] = self._read(auth if own is None else own.over(auth))
        return found

    def _read(self, auth: Auth) -> Access:
        passwords, tokens = auth.password_file, auth.token_file
        if not passwords and not tokens:
            return Access(auth, None, None)
        from wsd.credentials import Passwords, Tokens  # most listeners let everybody in

        problems: list[Problem] = []
        try:
            if passwords and passwords not in self._passwords:
                self._passwords[passwords] = Passwords(passwords)
        except ConfigError as error:
            problems += error.problems
        try:
            if tokens and tokens not in self._tokens:
                self._tokens[tokens] = Tokens(tokens)
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError(problems)
        return Access(auth, self._passwords.get(passwords), self._tokens.get(tokens))

    def take_over(self, other: Gate) -> None:
        """Let those in that `other` does, which has read all files anew; what is being checked goes on."""
        self._by_tables, self._passwords, self._tokens = other._by_tables, other._passwords, other._tokens

    def close(self) -> None:
        """Tell nobody any more what a thread finds out."""
        self.verifier.close()


def read(config: Config) -> Gate:
    """Read every file that a configuration names.

    Raises:
        ConfigError: with all that is wrong in them.
    """
    gate = Gate(lambda: None)
    problems: dict[Problem, None] = {}  # a dict, for tables may share a file
    for listen in config.listen:
        for own in (None, *(table.auth for table in config.protocols.values())):
            try:
                gate.access(listen.auth, own)
            except ConfigError as error:
                problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))
    return gate


def files(config: Config) -> Iterator[str]:
    """The files that a configuration names; they are read again while the daemon runs."""
    tables: list[Auth | ProtocolAuth] = [listen.auth for listen in config.listen]
    tables += [table.auth for table in config.protocols.values()]
    for table in tables:
        yield from filter(None, (table.password_file, table.token_file))


# -- a request --------------------------------------------------------------------------------------------------------


def hide_tokens(request: Request, menu: Menu | None) -> tuple[Request, dict[str, list[str]]]:
    """The request as everybody may see it, and what stood in the URL arguments that carry tokens on that listener."""
    if menu is None or "?" not in request.target:
        return request, {}
    names = set(_token_arguments(menu))
    if not names:
        return request, {}
    head, tokens = take_arguments(request.raw, names)
    if not tokens:
        return request, {}
    shown = Request(head)
    shown.keep_parsed(True)
    return shown, tokens


def takes_tokens(menu: Menu) -> bool:
    """Reports whether some URL argument carries tokens on that listener."""
    return next(_token_arguments(menu), None) is not None


def is_open(wsi: Wsi, binding: Binding) -> bool:
    """Reports whether nobody wants to know who asks for what `binding` serves, so that `identify` would answer None."""
    menu = wsi.menu
    assert menu is not None  # only a server's wsi gets requests
    if binding.verifies:
        return False
    try:
        return not wsi.context.gate.access(menu.config.auth, binding.auth).has_files
    except ConfigError:
        return False


def _token_arguments(menu: Menu) -> Iterator[str]:
    """Of the listener itself and of each protocol there, whomever the request is for: it may ask wrongly."""
    tables: Iterable[Auth | ProtocolAuth | None] = (
        menu.config.auth,
        menu.http.auth,
        *(binding.auth for binding in menu.bindings.values()),
    )
    for table in tables:
        if table is not None and table.token_argument:
            yield table.token_argument


def identify(
    wsi: Wsi,
    binding: Binding,
    request: Request,
    tokens: Mapping[str, list[str]],
    then: Callable[[HandshakeError | None], None],
) -> Identification | None:
    """Find out who asks for what `binding` serves, and set `wsi.identity`.

    Args:
        tokens: What `hide_tokens` found.
        then: Told later, outside of every hook, with None or with the refusal; only where this answers an
            `Identification`, which can be cancelled.

    Answers None: that is settled, or nobody wants to know.

    Raises:
        HandshakeError: 400, 401, 500 or 503.
    """
    menu = wsi.menu
    assert menu is not None  # only a server's wsi gets requests
    try:
        access = wsi.context.gate.access(menu.config.auth, binding.auth)
    except ConfigError as error:  # of a listener that a reload took away, with a file that is gone as well
        log.err("%s: %s", wsi.tag, error)
        raise unavailable() from None
    if not access.has_files and not binding.verifies:
        return None
    found = Identification(wsi, binding, access, then)
    found.begin(request, tokens.get(access.auth.token_argument, []))
    return found if found.is_waiting else None


class Identification:
    """One request, from what it shows to who that is."""

    __slots__ = ("_access", "_binding", "_check", "_offers", "_shown", "_then", "_wsi")

    def __init__(
        self, wsi: Wsi, binding: Binding, access: Access, then: Callable[[HandshakeError | None], None]
    ) -> None:
        self._wsi = wsi
        self._binding = binding
        self._access = access
        self._then = then
        self._shown: Credentials | None = None
        self._check: Check | None = None
        # Without files a plugin decides alone, about whatever it is shown.
        self._offers = {
            Basic: access.passwords is not None or not access.has_files,
            Bearer: access.tokens is not None or not access.has_files,
        }

    @property
    def is_waiting(self) -> bool:
        """Whether a thread compares the password."""
        return self._check is not None

    def cancel(self) -> None:
        """Tell nobody, where this is waiting: the request is gone, or refused by now."""
        assert self._check is not None
        self._check.cancel()
        self._release()

    def _release(self) -> None:
        self._check = None
        self._binding.wsi_count -= 1

    def begin(self, request: Request, tokens: list[str]) -> None:
        """Look at what the request shows; raises HandshakeError as `identify` does."""
        try:
            shown = self._shown = _read_credentials(request, tokens)
        except HandshakeError as error:
            raise self._refused(400, error.text, "invalid_request") from None
        if shown is None or not self._offers[type(shown)]:
            raise self._refused(401, "who are you?")
        now = self._wsi.context.now
        if isinstance(shown, Basic) and self._access.passwords is not None:
            self._compare(shown, self._access.passwords, now)
            return
        name = None
        if isinstance(shown, Bearer) and self._access.tokens is not None:
            name = self._access.tokens.find(shown.token, now)
            if name is None:
                raise self._wrong()
        self._settle(name)

    def _compare(self, shown: Basic, passwords: Passwords, now: float) -> None:
        """Have a password compared, unless it was not long ago."""
        stored, verifier = passwords.find(shown.name, now), self._wsi.context.gate.verifier
        if verifier.remembers(stored, shown.password):
            self._settle(shown.name)
            return
        self._check = verifier.verify(stored, shown.password, self._found)
        if self._check is None:
            raise self._too_many()
        self._binding.wsi_count += 1  # a reload must not destroy the protocol meanwhile

    def _found(self, verdict: Verdict) -> None:
        """A thread has compared the password."""
        refusal: HandshakeError | None = None
        try:
            if verdict is None:
                raise unavailable()
            if not verdict:
                raise self._wrong()
            assert isinstance(self._shown, Basic)
            self._settle(self._shown.name)
        except HandshakeError as error:
            refusal = error
        try:
            self._then(refusal)
        except Exception as error:  # others wait for their verdict: a bug of our own costs this connection alone
            self._wsi.context.counters.bugs += 1
            faults.report_bug(error)
            self._wsi.abort("a bug in wsd")
        self._release()

    def _settle(self, name: str | None) -> None:
        """The files let this one in, or there are none: the plugin has the last word."""
        wsi, shown = self._wsi, self._shown
        assert shown is not None
        wsi.identity = name
        hook = self._binding.hooks.on_verify_authorization
        if hook is None:
            return
        before = wsi.binding
        wsi.bind(self._binding)  # whose plugin it is, in the log too
        try:
            scheme = "basic" if isinstance(shown, Basic) else "bearer"
            answer = wsi.call("on_verify_authorization", hook, wsi, scheme, shown.text)
        except HandshakeError:  # a Reject
            wsi.identity = None
            raise
        finally:
            wsi.bind(before)
        if answer is wsi.FAILED:
            wsi.identity = None
            raise HandshakeError(500, "something went wrong here; the server's log says more")
        if answer:
            wsi.identity = None
            raise self._wrong()

    def _wrong(self) -> HandshakeError:
        """Whether the name is known is not said."""
        return self._refused(401, "these credentials let nobody in", "invalid_token")

    def _refused(self, status: int, text: str, error: str = "") -> HandshakeError:
        self._wsi.context.counters.unauthorized += 1
        lines = challenges(
            self._access.auth.realm,
            basic=self._offers[Basic],
            bearer=self._offers[Bearer],
            error="" if isinstance(self._shown, Basic) else error,
        )
        return HandshakeError(status, text, lines)

    def _too_many(self) -> HandshakeError:
        context = self._wsi.context
        context.counters.verifier_full += 1
        if _warnings.allow("full", context.now) is not None:
            log.warn("%s: too many passwords wait to be checked; refused with 503", self._wsi.tag)
        return unavailable()


def unavailable() -> HandshakeError:
    """The refusal of one whose password could not be checked now."""
    return HandshakeError(
        503, "too many want to come in at this moment; try again", [("Retry-After", str(RETRY_AFTER_SECONDS))]
    )


def _read_credentials(request: Request, tokens: list[str]) -> Credentials | None:
    """What a request shows, in its header or in its URL."""
    shown = parse_authorization(request.headers.get_all("Authorization"))
    # "Clients MUST NOT use more than one method to transmit the token in each request" (RFC 6750 2).
    if len(tokens) > (shown is None):
        raise HandshakeError(400, "there must be one token, in the header or in the URL")
    return parse_token(tokens[0]) if tokens else shown
