"""`python -m tests.soak SECONDS [SEED]`: what `make soak` runs.  Its exit status is 1 if anything was wrong."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.soak.run import soak


def main(seconds: str = "60", seed: str = "") -> int:
    with tempfile.TemporaryDirectory(prefix="wsd-soak-") as folder:
        say = partial(print, flush=True)
        return bool(soak(Path(folder), float(seconds), say=say, seed=int(seed) if seed else None).wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
