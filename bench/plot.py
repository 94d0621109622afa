"""Draws the plots out of the results: rate and p99 over busy connections, memory over idle ones, as PNG and SVG.

`python -m bench.plot [RESULTS.json]` draws them again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.building import HERE, ROOT, Missing
from bench.results import Results, load
from bench.rows import LWS, PICOWS, WEBSOCKETS, WSD

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = ROOT / "docs" / "plots"

# Told apart without colour too.
_STYLES: dict[str, dict[str, Any]] = {
    WSD: {"color": "#0b6e4f", "marker": "o", "linewidth": 2.5},
    LWS: {"color": "#444444", "marker": "s", "linestyle": "--"},
    PICOWS: {"color": "#b5651d", "marker": "^", "linestyle": "-."},
    WEBSOCKETS: {"color": "#3a5fcd", "marker": "v", "linestyle": ":"},
}
_LABELS = {LWS: "libwebsockets (C)"}


def _draw(axes: Axes, curves: Mapping[str, Mapping[int, float]], title: str, unit: str) -> None:
    for name, points in curves.items():
        numbers = sorted(points)
        axes.plot(numbers, [points[number] for number in numbers], label=_LABELS.get(name, name), **_STYLES[name])
    axes.set(title=title, xlabel="connections", ylabel=unit, xscale="log")
    axes.grid(alpha=0.3)


def _curves(points: Mapping[str, Mapping[Any, Any]], key: str, scale: float) -> dict[str, dict[int, float]]:
    return {name: {int(at): point[key] / scale for at, point in curve.items()} for name, curve in points.items()}


def _save(figure: Figure, name: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.savefig(FOLDER / f"{name}.png", dpi=110)
    # Without a date, so that the same results are the same file.
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


def draw(results: Results) -> list[str]:
    """Draw what was measured; the names of the plots.

    Raises:
        Missing: matplotlib is not there.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise Missing("matplotlib is not there: pip install matplotlib, or pip install '.[bench]'") from None
    mpl.rcParams["svg.hashsalt"] = "wsd"
    drawn = []
    busy = results["curves"].get("busy", {}).get("points")
    if busy:
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw(left, _curves(busy, "rate", 1000), "echo of 64 B: rate", "thousand messages a second")
        _draw(right, _curves(busy, "p99_us", 1000), "latency that 99 % keep below", "milliseconds")
        left.set_ylim(bottom=0)
        right.set_yscale("log")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(busy))
        _save(figure, "connections")
        drawn.append("connections")
    idle = results["curves"].get("memory", {}).get("points")
    if idle:
        figure = Figure(figsize=(5.8, 4.2), layout="constrained")
        axes = figure.subplots()
        curves = {name: {int(at): held / 1e6 for at, held in curve.items()} for name, curve in idle.items()}
        _draw(axes, curves, "idle connections: private memory of the server", "MB")
        axes.set_ylim(bottom=0)
        axes.legend()
        _save(figure, "memory")
        drawn.append("memory")
    return drawn


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results.json"
    try:
        print(f"drawn into {FOLDER}: {', '.join(draw(load(path))) or 'nothing was measured'}")
    except Missing as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()
