"""What was measured, for people: lines for a terminal, tables for docs/performance.md and the README.

In a file each table stands between two markers, `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`, and nothing outside
of them is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.results import Results, most_verdict, row_verdict
from bench.rows import LWS, PEERS, PICOWS, WEBSOCKETS, WSD


def _grouped(value: float) -> str:
    """A whole number with a thin gap at the thousands, as the rest of the documentation has it."""
    return f"{value:,.0f}".replace(",", " ")


def _cell(verdict: str) -> str:
    return verdict if verdict == "met" else f"**{verdict}**"


# -- for a terminal ---------------------------------------------------------------------------------------------------


def row_lines(row: Mapping[str, Any]) -> list[str]:
    """Everybody's figures, and how ours stand to theirs."""
    lines = [f"{row['title']}"]
    for name, figures in row["servers"].items():
        line = f"  {name:11}{figures['cpu_us']:9.2f} µs{_grouped(figures['rate']):>11}/s"
        if figures["p99_us"]:
            line += f"  p99 {figures['p99_us']:.0f} µs"
        against = row["against"].get(name)
        if against:
            line = (
                f"{line:56} time {against['cpu']:5.2f} of {against['cpu_goal']:g},"
                f" rate {against['rate']:5.2f} of {against['rate_goal']:g}: {row_verdict(against)}"
            )
        lines.append(line)
    return lines + _bad_lines(row)


def memory_lines(row: Mapping[str, Any]) -> list[str]:
    lines = [f"{row['title']}, private memory ({_grouped(row['connections'])} connections)"]
    for name, each in row["servers"].items():
        line = f"  {name:11}{_grouped(each):>9} B"
        lines.append(line + f"   at most {_grouped(row['most'])}: {most_verdict(each, row['most'])}" * (name == WSD))
    return lines + _bad_lines(row)


def figure_lines(figure: Mapping[str, Any]) -> list[str]:
    verdict = most_verdict(figure["value"], figure["most"])
    detail = f" ({figure['detail']})" if figure["detail"] else ""
    return [
        f"{figure['title']}",
        f"  {figure['value']:g}, at most {figure['most']:g}: {verdict}{detail}",
        *_bad_lines(figure),
    ]


def _bad_lines(row: Mapping[str, Any]) -> list[str]:
    return [f"  WENT WRONG: {row['bad']}"] if row.get("bad") else []


# -- for the documentation --------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""
    rule = ["---", *["--:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows))


def machine_table(results: Results) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in results["machine"].items())])


def rows_table(results: Results) -> str:
    """Each workload against each peer; then a sentence on those that are behind."""
    rows, behind, total = [], [], 0
    for row in results["rows"].values():
        ours = row["servers"][row["ours"]]
        for peer, against in row["against"].items():
            theirs, verdict = row["servers"][peer], row_verdict(against)
            total += 1
            if verdict != "met":
                behind.append(f"{row['title']}, against {peer}: {verdict}")
            rows.append(
                [
                    row["title"],
                    peer,
                    f"{ours['cpu_us']:.2f} / {theirs['cpu_us']:.2f}",
                    f"{against['cpu']:.2f}",
                    f"{against['cpu_goal']:.1f}",
                    f"{_grouped(ours['rate'])} / {_grouped(theirs['rate'])}",
                    f"{against['rate']:.2f}",
                    f"{against['rate_goal']:.1f}",
                    _cell(verdict),
                ]
            )
    heads = ["workload", "against", "µs a message, ours / theirs", "ratio", "goal"]
    heads += ["a second, ours / theirs", "ratio", "goal", ""]
    closing = f"{total - len(behind)} of {total} rows meet their goal."
    if behind:
        closing += " Behind it:\n\n" + "\n".join(f"- {line}" for line in behind)
    return f"{_table(heads, rows)}\n\n{closing}"


def memory_table(results: Results) -> str:
    rows = []
    for row in results["memory"].values():
        each = [_grouped(row["servers"][name]) if name in row["servers"] else "" for name in (WSD, *PEERS)]
        verdict = most_verdict(row["servers"][WSD], row["most"])
        rows.append([row["title"], *each, _grouped(row["most"]), _cell(verdict)])
    return _table(["bytes of private memory", WSD, *PEERS, "at most", ""], rows)


def growth_table(results: Results) -> str:
    figures = [*results["growth"].values(), *results["start"].values()]
    rows = []
    for figure in figures:
        verdict = _cell(most_verdict(figure["value"], figure["most"]))
        rows.append([figure["title"], f"{figure['value']:g}", f"{figure['most']:g}", verdict, figure["detail"]])
    return _table(["", "figure", "at most", "", "in detail"], rows)


def curves_table(results: Results) -> str:
    """What the first plot shows, in figures."""
    points = results["curves"].get("busy", {}).get("points", {})
    numbers = sorted({int(number) for curve in points.values() for number in curve})
    rows = []
    for name, curve in points.items():
        for key, unit in (("cpu_us", "µs a message"), ("rate", "a second"), ("p99_us", "p99, µs")):
            cells = []
            for number in numbers:
                value = curve[str(number)][key] if str(number) in curve else curve[number][key]
                cells.append(f"{value:.2f}" if key == "cpu_us" else _grouped(value))
            rows.append([f"{name}: {unit}", *cells])
    return _table(["busy connections", *map(_grouped, numbers)], rows)


def summary_table(results: Results) -> str:
    """For the README: how many times as cheap, and as fast, as each peer."""
    rows = []
    for row in results["rows"].values():
        cells = []
        for peer in (LWS, PICOWS, WEBSOCKETS):
            against = row["against"].get(peer)
            cells.append(f"{against['cpu']:.2f} / {against['rate']:.2f}" if against else "")
        rows.append([row["title"], *cells])
    return _table(["processor time / rate, above 1: wsd is ahead", "libwebsockets (C)", PICOWS, WEBSOCKETS], rows)


BLOCKS: Mapping[str, Callable[[Results], str]] = {
    "machine": machine_table,
    "rows": rows_table,
    "memory": memory_table,
    "growth": growth_table,
    "curves": curves_table,
    "summary": summary_table,
}


def write_blocks(path: Path, results: Results) -> list[str]:
    """Put the tables between their markers in a file; the names of those that it has markers for."""
    text = path.read_text()
    found = []
    for name, make in BLOCKS.items():
        begin, end = f"<!-- bench:{name} -->\n", f"<!-- /bench:{name} -->"
        before, is_there, rest = text.partition(begin)
        if is_there and end in rest:
            text = f"{before}{begin}\n{make(results)}\n\n{end}{rest.partition(end)[2]}"
            found.append(name)
    if found:
        path.write_text(text)
    return found
