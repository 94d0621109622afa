"""What is sent, by its size."""

from __future__ import annotations

LARGE = bytes(range(256)) * 300
"""More than one read brings, and more than is copied into one buffer."""

HUGE = bytes(range(256)) * 600
"""More than the sockets' buffers hold, with those of `SMALL`."""

SMALL = {"SO_RCVBUF": 4096}
