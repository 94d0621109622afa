"""Runs one function on bytes for a while: under atheris (coverage-guided) where that is installed, else on mutated
samples.

Beside the samples that a target's file lists, `corpus/NAME/` keeps inputs as they are: what once failed, and what
atheris found to reach code that the samples do not.  `python tests/fuzz/fuzz_NAME.py SECONDS FOLDER` leaves in FOLDER
what atheris finds.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

Target = Callable[[bytes], None]


def corpus(name: str) -> list[bytes]:
    """The inputs that are kept for a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def mutated(samples: Sequence[bytes], source: random.Random) -> bytes:
    """A sample, or several in a row, with some damage."""
    data = bytearray(b"".join(source.choices(samples, k=source.choice((1, 1, 1, 2, 4)))))
    for _ in range(source.choice((0, 1, 1, 2, 3, 8))):
        at = source.randrange(len(data) + 1)
        match source.randrange(6):
            case 0:
                data[at:at] = source.randbytes(source.choice((1, 2, 4, 30)))
            case 1:
                del data[at : at + source.choice((1, 1, 2, 8))]
            case 2:
                data[at : at + 1] = bytes([source.choice((0, 1, 0x7D, 0x7E, 0x7F, 0x80, 0xFE, 0xFF, 10, 13, 32))])
            case 3 if data:
                data[at % len(data)] ^= 1 << source.randrange(8)
            case 4:
                data[at:at] = data[source.randrange(len(data) + 1) :][:40]
            case _:
                data = data[: max(at, 1)]
    return bytes(data)


def run(target: Target, samples: Sequence[bytes], seconds: float, seed: int | None = None) -> int:
    """Call `target` for `seconds`; what it raises ends the run, after the bytes were printed.  Gives the number of
    calls."""
    seed = random.randrange(1 << 32) if seed is None else seed
    source = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        data = mutated(samples, source)
        try:
            target(data)
        except BaseException:
            print(f"seed {seed}, call {count}, on bytes.fromhex({data.hex()!r})", file=sys.stderr)
            raise
        count += 1
    return count


def main(target: Target, samples: Sequence[bytes]) -> None:
    """`python tests/fuzz/fuzz_NAME.py SECONDS [FOLDER]`."""
    name = Path(sys.argv[0]).stem.removeprefix("fuzz_")
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    if importlib.util.find_spec("atheris") is None:
        print(f"{run(target, [*samples, *corpus(name)], seconds)} calls")
        return
    seeds = ",".join(map(str, sorted((CORPUS / name).glob("*"))))
    arguments = [f"-max_total_time={seconds:g}", *([f"-seed_inputs={seeds}"] if seeds else []), *sys.argv[2:]]
    atheris = importlib.import_module("atheris")
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()
