"""libwebsockets' own test client as a program that is run to its end."""

from __future__ import annotations

import signal
import subprocess

from tests.support.programs import require_program


def run_client(*arguments: str, seconds: float = 3, until: str = "") -> str:
    """Run it until it logs `until`, but for at most `seconds`, then interrupt it; gives what it said."""
    program = require_program("libwebsockets-test-client", package="libwebsockets-test-server")
    # SIGINT lets it close its connections in order; `timeout` passes it on.
    with subprocess.Popen(
        ["timeout", "-s", "INT", "-k", "5", str(seconds), program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if until and until.encode() in line:
                process.send_signal(signal.SIGINT)
                until = ""
    return b"".join(said).decode(errors="replace")
