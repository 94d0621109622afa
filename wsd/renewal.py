"""The certificates of a daemon's listeners over time: read at the start, looked at now and then, read again.

Owns when files are read again, what is said when they cannot be used, and the warnings before a certificate ends.  What
is wrong with a file is `certificates`', what is made of it `tls_server`'s.  Must not know the process or its
privileges.

A renewal replaces a certificate and its key one after the other, so that for a moment they do not belong together:
whatever cannot be used leaves in place what is there, is logged once, and is tried again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wsd import log
from wsd.errors import ConfigError, Problem
from wsd.listener import server_tls

if TYPE_CHECKING:
    from wsd.certificates import CertificateInfo, RevocationInfo
    from wsd.config import Config, Listen
    from wsd.context import Context
    from wsd.timers import Timer
    from wsd.tls_server import ServerTls

# How often the calendar is looked at where files are not: the warnings are about days.
_CALENDAR_SECONDS: Final = 6 * 3600.0


class Held(NamedTuple):
    """What speaks TLS on one listener, and the configuration that it was made of."""

    tls: ServerTls
    listen: Listen


Holdings = dict[Hashable, Held]
"""By what tells one listener from the others."""


def read(config: Config, listens: Iterable[tuple[Hashable, Listen]], held: Mapping[Hashable, Held]) -> Holdings:
    """Read what the listeners speak TLS with.

    Args:
        config: Whose file the messages name.
        listens: Its listeners, in order, each with what tells it from the others.
        held: What there is already.  Where neither options nor files have changed it is kept, and with it the sessions
            that clients want to take up again.

    Raises:
        ConfigError: with all that is wrong, of every listener.
    """
    made: Holdings = {}
    problems: list[Problem] = []
    for index, (key, listen) in enumerate(listens):
        old = held.get(key)
        if old is not None and _is_same(old.listen, listen) and not old.tls.changed():
            made[key] = old
            continue
        try:
            tls = server_tls(listen, str(config.path), f"listen[{index}].tls")
        except ConfigError as error:
            problems += error.problems
        else:
            if tls is not None:
                made[key] = Held(tls, listen)
    if problems:
        raise ConfigError(problems)
    return made


def warnings(held: Mapping[Hashable, Held]) -> list[str]:
    """What is not as it should be, and stops nothing."""
    found = [text for item in held.values() for text in item.tls.warnings]
    return list(dict.fromkeys(found + [info.ending for info in _certificates(held) if info.stage]))


def _is_same(old: Listen, new: Listen) -> bool:
    return (old.tls, old.accept) == (new.tls, new.accept)


def _certificates(held: Mapping[Hashable, Held]) -> list[CertificateInfo]:
    return [info for item in held.values() for info in item.tls.certificates]


class Renewal:
    """What a daemon's listeners speak TLS with, kept up to date while it serves."""

    def __init__(self, context: Context) -> None:
        self.held: Holdings = {}
        self._context = context
        self._seconds = 0.0
        self._timer: Timer | None = None
        self._refused: dict[Hashable, str] = {}  # what was said last of files that cannot be used
        self._told: dict[Hashable, int] = {}  # of what, and of which stage before its end

    def take_over(self, held: Holdings, listens: Iterable[tuple[Hashable, Listen]], seconds: float) -> None:
        """Hold these from now on.

        Args:
            held: From `read`.
            listens: As for `read`: a listener may stand elsewhere in the file than before.
            seconds: How often to look for changed files; 0: never.
        """
        for index, (key, _) in enumerate(listens):
            if key in held:
                held[key].tls.key = f"listen[{index}].tls"
        for key, item in held.items():
            if self.held.get(key) is not item:
                _say_warnings(item.tls)
        self.held, self._seconds, self._refused = held, seconds, {}
        self._warn_of_ends()
        self._set_timer()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Read again what has changed, and warn of what ends."""
        for key, item in self.held.items():
            if item.tls.changed():
                self._renew(key, item.tls)
        self._warn_of_ends()

    def status(self) -> list[dict[str, Any]]:
        """Every certificate that is shown, once, for people."""
        shown = {info.file: info for info in _certificates(self.held)}
        return [
            {
                "file": info.file,
                "names": list(info.names),
                "not_after": info.not_after.isoformat(),
                "days_left": info.days_left,
                "warning": info.ending if info.stage else "",
            }
            for info in shown.values()
        ]

    def _set_timer(self) -> None:
        self.close()
        if self.held:
            self._timer = self._context.call_later(self._seconds or _CALENDAR_SECONDS, self._due)

    def _due(self) -> None:
        try:
            if self._seconds:
                self.look()
            else:
                self._warn_of_ends()
        finally:
            self._set_timer()

    def _renew(self, key: Hashable, tls: ServerTls) -> None:
        try:
            tls.renew()
        except ConfigError as error:
            if self._refused.get(key) != str(error):
                self._refused[key] = str(error)
                for problem in error.problems:
                    log.warn("a certificate was replaced, and cannot be used yet: %s", problem)
            return
        self._refused.pop(key, None)
        for info in tls.certificates:
            names = ", ".join(info.names)
            log.notice("certificate read again: %s (%s), good for %d days", info.file, names, info.days_left)
        _say_warnings(tls)

    def _warn_of_ends(self) -> None:
        """Warn of what ends, once in each stage before its end; what was renewed begins anew."""
        infos: list[CertificateInfo | RevocationInfo] = [*_certificates(self.held)]
        infos += [info for item in self.held.values() for info in item.tls.revocations]
        told = {_subject(info): info for info in infos}
        for subject, info in told.items():
            if info.stage > self._told.get(subject, 0):
                log.warn("%s", info.ending)
        self._told = {subject: info.stage for subject, info in told.items()}


def _subject(info: CertificateInfo | RevocationInfo) -> Hashable:
    """What tells one from the others, its renewals excepted; a file may hold the lists of several authorities."""
    crl = getattr(info, "crl", None)
    return info.file, crl.issuer.rfc4514_string() if crl else ""


def _say_warnings(tls: ServerTls) -> None:
    for text in tls.warnings:
        log.warn("%s", text)
