"""What a context counts.  Owns names and numbers; who counts what is written where it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING


class Counters:
    """Plain ints, since the hot path counts here."""

    __slots__ = (
        "accept_pauses",
        "accepted",
        "bugs",
        "bytes_received",
        "bytes_sent",
        "connect_failures",
        "established",
        "hangups",
        "http_requests",
        "plugin_errors",
        "protocol_errors",
        "queue_overflows",
        "refused",
        "slow_readers",
        "turns",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> int: ...
        def __setattr__(self, name: str, value: int) -> None: ...

    def as_dict(self) -> dict[str, int]:
        """Every counter by its name."""
        return {name: getattr(self, name) for name in self.__slots__}
