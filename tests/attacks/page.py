"""The attacks as a table in docs/security.md, with what each cost when it was last measured, and that on a terminal.

What is sent, what comes of it and what the log says are the attacks' own; the costs are those of one run, which
`python -m tests.attacks` writes, and which are kept as they stand where it has measured nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.attacks.model import Attack, Group, Measured
from tests.attacks.suite import GROUPS

TARGET: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "security.md"

BEGIN: Final = "<!-- written by `python -m tests.attacks` -->"
END: Final = "<!-- end of what it writes -->"

_ROW: Final = re.compile(r"\| (\d+\.\d+) \|.*\| ([^|]*) \|")


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _cost(attack: Attack, measured: Measured | str) -> str:
    """Megabytes before, at the peak and after, with the bound; descriptors before and after."""
    if isinstance(measured, str):
        return measured
    before, peak, after = (f"{kib / 1024:.1f}" for kib in measured[:3])
    bound = f"+{attack.memory_kib / 1024:g}"
    return f"{before}, {peak} (≤ {bound}), {after}; {measured.descriptors_before}, {measured.descriptors_after}"


def _group(group: Group, costs: Mapping[str, Measured | str]) -> Iterator[str]:
    yield f"\n### {group.number} {group.title}\n"
    if group.text:
        yield group.text + "\n"
    yield _row("", "what is sent", "known as", "what comes of it", "in the log", "MiB; descriptors")
    yield "|--:|---|---|---|---|---|"
    for number, attack in group.numbered():
        lines = "<br>".join(f"`{line}`" for line in attack.log)
        yield _row(number, attack.sent, attack.known, attack.gets, lines, _cost(attack, costs.get(number, "")))


def table(costs: Mapping[str, Measured | str]) -> str:
    """The table, with what is known of the costs, by the attacks' numbers."""
    return "\n".join(line for group in GROUPS for line in _group(group, costs)) + "\n"


def kept_costs(text: str) -> dict[str, str]:
    """The costs that stand in a page."""
    return {match[1]: match[2] for match in map(_ROW.fullmatch, text.splitlines()) if match}


def replaced(text: str, costs: Mapping[str, Measured | str]) -> str:
    """A page with the table as it should be; what was measured of an attack is replaced, of the others kept."""
    head, begin, rest = text.partition(BEGIN)
    written, end, tail = rest.partition(END)
    assert begin, f"{TARGET}: the mark before the table is gone"
    assert end, f"{TARGET}: the mark behind the table is gone"
    return f"{head}{begin}\n{table({**kept_costs(written), **costs})}\n{end}{tail}"


def results(measured: Mapping[str, Measured], passed: Mapping[str, bool]) -> str:
    """What came out, an attack a line."""
    lines = [f"{'':7}{'':6} {'KiB before':>10} {'peak':>8} {'after':>8} {'bound':>7} {'fds':>9}  what is sent"]
    for group in GROUPS:
        lines.append(f"{group.number} {group.title}")
        for number, attack in group.numbered():
            if number not in passed:
                continue
            cost = measured.get(number)
            numbers = " " * 46
            if cost is not None:
                grown, kept = cost.peak_kib - cost.before_kib, cost.after_kib - cost.before_kib
                fds = f"{cost.descriptors_before} {cost.descriptors_after}"
                numbers = f"{cost.before_kib:>10} {grown:>+8} {kept:>+8} {attack.memory_kib:>7} {fds:>9}"
            lines.append(f"{number:<7}{'ok' if passed[number] else 'FAILED':6} {numbers}  {attack.sent}")
    lines.append(f"{sum(passed.values())} of {len(passed)} attacks were stood")
    return "\n".join(lines)
