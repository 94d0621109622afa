"""What an attack is: what is sent, by whom it is known, and what has to come of it.

Pure data; must not know sockets or pytest.  What the peer gets and what the log says stand here as the very text that
is compared with what came, so that the table in docs/security.md cannot say anything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tests.attacks.attempt import Attempt

MEMORY_KIB: Final = 1024
"""How much more memory the daemon may need at its peak where an attack says nothing else: enough for a buffer of each
kind and for Python's arenas, and less than any of the attacks takes that are about memory."""

_PLACEHOLDERS: Final = {"<tag>": r"[\w-]+#\d+ \S*", "<n>": r"[\d.]+", "<*>": r".*"}
"""What differs from run to run in a line of the log: the name of a connection, a number, anything."""


class Setup(NamedTuple):
    """A daemon as attacks need it; those with equal ones share it.

    Attributes:
        name: In the ids of tests.
        daemon, log, listen, more: Lines of the configuration, as `Site.configure` has them; in these and in the
            environment FOLDER is the site's.
        plugins: Name and source of each, beside `echo`.
        environment: Variables, beside the test's own.
        prepare: Called with the folder of the site before the daemon starts: for files that it needs.
        is_tls: The first listener speaks TLS, and so does the well-behaved client.
    """

    name: str
    daemon: str = ""
    log: str = ""
    listen: tuple[str, ...] = ("port = 0",)
    more: str = ""
    plugins: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    prepare: Callable[..., None] | None = None
    is_tls: bool = False


class Attack(NamedTuple):
    """One attack.

    Attributes:
        sent: What the peer does, in words; the name of the case.
        gets: What comes of it, in the words in which `play` tells it.
        play: Does it, and tells what came.
        log: Lines that the log must have, with the placeholders `<tag>`, `<n>` and `<*>`; no other line at WARN or
            ERR may be in it.
        known: Advisories, and the class of the attack in their words.
        setup: The daemon that has to stand it.
        memory_kib: How much more memory the daemon may need at its peak.
        kept_kib: How much of that it may keep; None: the same.
    """

    sent: str
    gets: str
    play: Callable[[Attempt], str]
    log: tuple[str, ...] = ()
    known: str = ""
    setup: Setup = Setup("plain")
    memory_kib: int = MEMORY_KIB
    kept_kib: int | None = None


class Group(NamedTuple):
    """Attacks of one kind; `text` is what there is to say about all of them."""

    number: int
    title: str
    attacks: tuple[Attack, ...]
    text: str = ""

    def numbered(self) -> Sequence[tuple[str, Attack]]:
        return [(f"{self.number}.{at}", attack) for at, attack in enumerate(self.attacks, 1)]


def is_line(expected: str, line: str) -> bool:
    """Reports whether `line` is what `expected` says, with its placeholders."""
    pattern = re.escape(expected)
    for placeholder, wanted in _PLACEHOLDERS.items():
        pattern = pattern.replace(re.escape(placeholder), wanted)
    return re.fullmatch(pattern, line) is not None


class Measured(NamedTuple):
    """What an attack cost: resident memory in KiB, open descriptors."""

    before_kib: int
    peak_kib: int
    after_kib: int
    descriptors_before: int
    descriptors_after: int

    def __str__(self) -> str:
        memory = ", ".join(f"{kib / 1024:.1f}" for kib in (self.before_kib, self.peak_kib, self.after_kib))
        return f"{memory}; {self.descriptors_before}, {self.descriptors_after}"
