"""`python -m wsd`: the same as the command `wsd`."""

from __future__ import annotations

from wsd.cli import main

if __name__ == "__main__":
    main()
