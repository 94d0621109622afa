"""`python -m bench`: the whole table side by side, the growth of cost, the start, the plots.

What is asked for: which rows, how long, how often; and where it goes.  A run of everything writes the tables and plots
of docs/performance.md, and the README's if it has the markers; a run of some rows prints, and keeps its figures.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import growth, machine, plot, report, results, side_by_side, startup
from bench.building import BUILD, HERE, ROOT, Missing
from bench.growth import Figure
from bench.rows import MEMORY_ROWS, ROWS, WSD
from bench.servers import Failure, raise_descriptor_limit

RESULTS = HERE / "results.json"
DOCUMENTS = (ROOT / "docs" / "performance.md", ROOT / "README.md")

# Where wsd's side of the curve of growth is, and everything that is not a row of the table.
_GROWTH, _START, _CURVES = "growth", "start", "curves"
_NAMES = (*(row.name for row in ROWS), *(row.name for row in MEMORY_ROWS), _CURVES, _GROWTH, _START)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", default="", help=f"only these, with commas between them: {', '.join(_NAMES)}")
    parser.add_argument("--rounds", type=int, default=3, help="visits of each server; the figure is their median")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each visit")
    parser.add_argument("--out", type=Path, default=BUILD / "results.json", help="where the figures go, as JSON")
    parser.add_argument("--add", action="store_true", help="to the figures that are there, in place of the same rows")
    parser.add_argument("--publish", action="store_true", help="write tables and plots, though not all was measured")
    parser.add_argument("--only-publish", action="store_true", help="what --out holds, without measuring")
    options = parser.parse_args()
    options.publish = options.publish or options.only_publish or not options.rows
    options.names = [name.strip() for name in options.rows.split(",") if name.strip()] or list(_NAMES)
    unknown = [name for name in options.names if name not in _NAMES]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(_NAMES)}")
    return options


def _command(arguments: list[str]) -> str:
    """What was typed, as it stands in the description."""
    return f'`make bench BENCH="{shlex.join(arguments)}"`' if arguments else "`make bench`"


def say(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)


class Run:
    """One run: what is measured goes into the results, and to the terminal as it comes."""

    def __init__(self, options: argparse.Namespace, kept: results.Results) -> None:
        self.options = options
        self.results = kept
        self.limit = raise_descriptor_limit()

    def has_room(self, name: str, connections: int) -> bool:
        """Reports whether so many connections, and what a server needs beside them, are allowed."""
        if connections + 100 <= self.limit:
            return True
        say(f"without {name}: {connections} connections need a higher limit of open files than {self.limit}")
        return False

    def _keep(self, part: str, name: str, figures: dict[str, Any] | None, lines: Callable[[Any], list[str]]) -> None:
        """After each row, so that a run that is interrupted was not for nothing."""
        if figures is not None:
            self.results[part][name] = figures
            say(*lines(figures))
            results.save(self.options.out, self.results)

    def everything(self) -> None:
        for step in (self.rows, self.memory, self.curves, self.growth, self.start):
            step()

    def rows(self) -> None:
        seconds, rounds = self.options.seconds, self.options.rounds
        for row in ROWS:
            if row.name in self.options.names and self.has_room(row.name, row.connections):
                figures = side_by_side.measure_row(row, seconds, rounds, say)
                self._keep("rows", row.name, figures, report.row_lines)

    def memory(self) -> None:
        for row in MEMORY_ROWS:
            if row.name in self.options.names and self.has_room(row.name, row.connections):
                self._keep("memory", row.name, side_by_side.measure_memory(row, say), report.memory_lines)

    def curves(self) -> None:
        if _CURVES in self.options.names:
            say("over the number of connections")
            room = self.limit - 100
            busy = side_by_side.measure_busy_curve(self.options.seconds, self.options.rounds, room, say)
            self._keep("curves", "busy", busy, lambda figures: [report.curves_table(self.results)])
            idle = side_by_side.measure_memory_curve(room, say)
            self._keep("curves", "memory", idle, lambda figures: [])

    def growth(self) -> None:
        if _GROWTH in self.options.names:
            say("how cost grows")
            for name, figure in self._grown():
                if figure is None:
                    say(f"without {name}: it takes more connections than were measured, or may be open")
                self._keep("growth", name, figure, report.figure_lines)

    def _grown(self) -> Iterator[tuple[str, Figure | None]]:
        seconds, rounds, room = self.options.seconds, self.options.rounds, self.limit - 100
        yield "busy", growth.busy(self.results["curves"].get("busy", {}).get("points", {}))
        yield "beside-idle", growth.beside_idle(seconds, rounds, room)
        yield "large-message", growth.large_message(seconds, rounds)
        yield "vanished", growth.vanished(room)
        yield "stopped", growth.stopped(room)
        yield "timers", growth.timers()

    def start(self) -> None:
        if _START in self.options.names:
            say(f"start of {WSD}")
            for name, figure in startup.measure(self.options.rounds).items():
                self._keep("start", name, figure, report.figure_lines)


def publish(kept: results.Results) -> None:
    """Tables, plots, and the figures that both are made of, into the tree."""
    results.save(RESULTS, kept)
    for path in DOCUMENTS:
        if path.exists():
            say(f"{path.relative_to(ROOT)}: {', '.join(report.write_blocks(path, kept)) or 'has no markers'}")
    try:
        say(f"{plot.FOLDER.relative_to(ROOT)}: {', '.join(plot.draw(kept))}")
    except Missing as missing:
        say(f"without plots: {missing}")


def main() -> int:
    options = _options()
    keep = options.add or options.only_publish
    kept = results.load(options.out) if keep else results.empty()
    try:
        if not options.only_publish:
            began = time.monotonic()
            # Rows that are added to others are named by the command of those.
            command = kept["machine"].get("command") or _command(sys.argv[1:])
            kept["machine"] = machine.describe(command)
            Run(options, kept).everything()
            say(f"{time.monotonic() - began:.0f} s; the figures are in {options.out}")
    except (Failure, Missing) as error:
        say(f"bench: {error}")
        return 1
    if options.publish:
        publish(kept)
    wrong = results.complaints(kept)
    say(*(f"WENT WRONG: {line}" for line in wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
