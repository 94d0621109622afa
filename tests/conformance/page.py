"""The cases on a page, docs/conformance.md, and the results of a run as a table.

The page is made of the cases alone, so it changes when they do and at no other time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.conformance.model import BOTH, CLIENT, SERVER, Group, Part
from tests.conformance.suite import GROUPS

TARGET: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "conformance.md"

_INTRODUCTION: Final = """\
# Conformance to RFC 6455 and RFC 7692

What wsd is held to, case by case, as a server and as a client.  `make conformance` runs all of it and prints how many
of each group passed; `make test` runs it too, and no case may fail.  This page is written by `make conformance`, out of
the cases in `tests/conformance`.

The peer of wsd is a few hundred lines of sockets and zlib that share no code with it.  What a case describes is sent by
that peer: masked, to wsd the server; unmasked, to wsd the client.  wsd echoes every message.  "Between", "behind" and
"cut" are about the bytes: each segment has been read before the next is sent.

The result is all that may come back until the connection ends: so many echoes and Pongs, each in its order, and one
Close frame with that code, with nothing behind it.  The peer's own Close has 1000 where nothing else is said.  "Before
the rest is sent": the Close must come while the message is not complete.  "End": the stream ended, and no Close need
come.  When a connection was open, the plugin must be told once how it ended, with the code of the peer's Close or 1006.
And whatever the case, it fails when wsd sends a wrong mask, a reserved bit, a length that is not in its shortest form,
text that is no UTF-8, compressed bytes that reach beyond the agreed window, or a TCP reset to end an open connection.
"""


def counted(group: Group, role: str) -> int:
    """How many cases of a group run in this role."""
    return sum(role in case.roles for case in group.cases)


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("*", "\\*") for cell in cells) + " |"


def _part(part: Part) -> Iterator[str]:
    yield f"\n### {part.number} {part.title}\n"
    yield _row("case", "what is sent", "RFC", "wsd is", "result")
    yield "|---|---|---|---|---|"
    for case in part.cases:
        roles = "both" if case.roles == BOTH else " ".join(case.roles)
        yield _row(case.number, case.title, case.section, roles, case.result)


def page() -> str:
    """The whole page."""
    lines = [_INTRODUCTION, _row("group", "server", "client", "together"), "|---|--:|--:|--:|"]
    total: Counter[str] = Counter()
    for group in GROUPS:
        counts = {role: counted(group, role) for role in BOTH}
        total.update(counts)
        lines.append(_row(f"{group.number} {group.title}", counts[SERVER], counts[CLIENT], sum(counts.values())))
    lines.append(_row("all", total[SERVER], total[CLIENT], total.total()))
    for group in GROUPS:
        lines.append(f"\n## {group.number} {group.title}")
        for part in group.parts:
            lines += _part(part)
    return "\n".join(lines) + "\n"


def table(results: Iterable[tuple[str, str, bool]]) -> str:
    """What came out, group by group: of each case that ran its role, number, and whether it passed."""
    ran: Counter[tuple[str, str]] = Counter()
    passed: Counter[tuple[str, str]] = Counter()
    for role, number, is_good in results:
        for name in (number.partition(".")[0], "all"):
            ran[role, name] += 1
            passed[role, name] += is_good
    lines = [f"{'':32}{'server':>16}{'client':>16}", f"{'group':32}{'cases  passed':>16}{'cases  passed':>16}"]
    for name, title in [*((str(group.number), group.title) for group in GROUPS), ("all", "")]:
        cells = "".join(f"{ran[role, name]:>8}{passed[role, name]:>8}" for role in BOTH)
        lines.append(f"{f'{name} {title}':32}{cells}")
    return "\n".join(lines)
