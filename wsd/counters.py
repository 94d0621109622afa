"""What a context counts.  Owns names and numbers; who counts what is written where it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

# Limits and times whose counters have names of their own; the others are counted as `over_` and the option's name.
_LIMITS: Final = frozenset({"accept_pauses", "hangups", "queue_overflows", "rate_pauses", "slow_readers"})


def is_limit(name: str) -> bool:
    """Reports whether a counter tells how often a peer met a limit or a time of ours."""
    return name.startswith("over_") or name in _LIMITS


class Counters:
    """Plain ints, since the hot path counts here."""

    __slots__ = (
        "accept_pauses",
        "accepted",
        "bad_proxy_headers",
        "bugs",
        "bytes_received",
        "bytes_sent",
        "connect_failures",
        "denied",
        "established",
        "hangups",
        "http_requests",
        "over_body_seconds",
        "over_close_seconds",
        "over_first_message_seconds",
        "over_handshake_seconds",
        "over_idle_seconds",
        "over_max_body_bytes",
        "over_max_bytes_per_second",
        "over_max_connections_per_address",
        "over_max_control_frames_per_second",
        "over_max_fragments",
        "over_max_frame_bytes",
        "over_max_handshakes",
        "over_max_handshakes_per_second",
        "over_max_head_bytes",
        "over_max_headers",
        "over_max_memory_bytes",
        "over_max_message_bytes",
        "over_max_messages_per_second",
        "over_max_uri_bytes",
        "over_session_seconds",
        "over_tls_handshake_seconds",
        "plain_on_tls",
        "plugin_errors",
        "protocol_errors",
        "queue_overflows",
        "rate_pauses",
        "refused",
        "slow_readers",
        "tls_failures",
        "tls_handshakes",
        "turns",
        "unauthorized",
        "verifier_full",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> int: ...
        def __setattr__(self, name: str, value: int) -> None: ...

    def note_over(self, option: str) -> None:
        """A peer was over a limit or a time, and that was its end: count it under the option's name."""
        name = f"over_{option}"
        setattr(self, name, getattr(self, name) + 1)

    def as_dict(self) -> dict[str, int]:
        """Every counter by its name."""
        return {name: getattr(self, name) for name in self.__slots__}
