"""`python -m bench.micro`: frames, masking, UTF-8, deflate, dispatch and timers in small, beside a stored baseline.

Each case in nanoseconds, and in instructions where valgrind is there: these hardly vary, so a regression of a few
percent shows.  The ratio is to `bench/baseline.json`, above 1 where wsd has become dearer; nanoseconds are compared as
parts of what a fixed piece of Python takes, so that the speed of the machine drops out.  `--update` stores a new one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.building import BUILD, HERE, ROOT, Missing, shared_library
from bench.micro_cases import CASES, NOTHING
from bench.micro_count import COUNTED
from bench.results import significant

BASELINE = HERE / "baseline.json"

# With the C functions, and without.
VARIANTS = {"native": "0", "pure": "1"}

# Instructions vary by a percent or two from run to run, with addresses and hashes; times by tens of percent.
_TOLERANCE = {"instructions": 1.05, "ns": 1.3}

Figures = dict[str, Any]


def _environment(pure: str) -> dict[str, str]:
    # One seed for all, so that dictionaries collide in the same way.
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "WSD_PURE": pure}


def measure(pure: str) -> Figures:
    """Nanoseconds of all cases, in a process of its own."""
    command = [sys.executable, "-m", "bench.micro_count"]
    done = subprocess.run(command, env=_environment(pure), cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found: Figures = json.loads(done.stdout)
    return found


def count(pure: str) -> dict[str, int] | None:
    """Instructions of all cases; None: valgrind is not there."""
    if shutil.which("valgrind") is None:
        return None
    library = shared_library("callgrind", ("valgrind/callgrind.h", "valgrind"))
    with TemporaryDirectory(dir=BUILD) as folder:
        out = Path(folder) / "out"
        command = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}"]
        command += [sys.executable, "-m", "bench.micro_count", str(library)]
        subprocess.run(command, env=_environment(pure), cwd=ROOT, check=True)
        counted = dict(_counted(path) for path in Path(folder).glob("out.*"))
    nothing = counted.pop(NOTHING.name)
    units = {case.name: case.units * COUNTED for case in CASES}
    return {name: round((counted[name] - nothing) / units[name]) for name in units}


def _counted(path: Path) -> tuple[str, int]:
    """The case's name, and its instructions, out of what callgrind has written down."""
    text = path.read_text()
    name = re.search(r"^desc: Trigger: Client Request: (\S+)$", text, re.MULTILINE)
    total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
    return (name[1] if name else path.name), int(total[1]) if total else 0


def ratios(figures: Figures, baseline: Figures) -> dict[str, dict[str, float]]:
    """By unit and case: now to then."""
    found: dict[str, dict[str, float]] = {}
    for unit in ("ns", "instructions"):
        now, then = figures.get(unit) or {}, baseline.get(unit) or {}
        scale = baseline["calibration"] / figures["calibration"] if unit == "ns" and then else 1.0
        found[unit] = {name: significant(now[name] * scale / then[name], 3) for name in now if then.get(name)}
    return found


def regressions(found: dict[str, dict[str, float]]) -> list[str]:
    """Cases that have become dearer, by instructions where there are any."""
    unit = "instructions" if found["instructions"] else "ns"
    return [f"{name}: {ratio:.2f} times the {unit}" for name, ratio in found[unit].items() if ratio > _TOLERANCE[unit]]


def lines(figures: Figures, found: dict[str, dict[str, float]]) -> list[str]:
    """The table; a column for each unit, with its ratio beside it where there is a baseline."""
    units = [unit for unit in ("ns", "instructions") if figures[unit]]
    text = [f"wsd {figures['implementation']}", f"{'':44}" + "".join(f"{unit:>14}{'ratio':>7}" for unit in units)]
    for case in CASES:
        line = f"{case.title:44}"
        for unit in units:
            number = f"{figures[unit][case.name]:,.0f}".replace(",", " ")
            line += f"{number:>14}{found[unit].get(case.name, ''):>7}"
        text.append(line)
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.micro", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--update", action="store_true", help="store what is measured as the baseline")
    parser.add_argument("--quick", action="store_true", help="nanoseconds alone")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    stored: Figures = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    dearer: list[str] = []
    measured: dict[str, Figures] = {}
    for variant, pure in VARIANTS.items():
        figures = measure(pure)
        if figures["implementation"] in (other["implementation"] for other in measured.values()):
            print("the C functions are not there: nothing to compare the Python ones with")
            continue
        try:
            figures["instructions"] = None if options.quick else count(pure)
        except Missing as missing:
            figures["instructions"] = None
            print(f"without instructions: {missing}")
        measured[variant] = figures
        found = ratios(figures, stored.get(variant, {}))
        dearer += [f"{variant}: {line}" for line in regressions(found)]
        print(*lines(figures, found), "", sep="\n", flush=True)
    if options.update:
        BASELINE.write_text(json.dumps({"python": platform.python_version(), **measured}, indent=1) + "\n")
        print(f"stored in {BASELINE.relative_to(ROOT)}")
        return 0
    if not stored:
        print(f"there is no {BASELINE.name} to compare with: --update stores one")
        return 0
    if stored["python"] != platform.python_version():
        print(f"the baseline is of Python {stored['python']}: what differs may be Python")
    print(*(dearer or ["nothing has become dearer"]), sep="\n")
    return int(bool(dearer))


if __name__ == "__main__":
    sys.exit(main())
