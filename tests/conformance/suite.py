"""All cases, in the order of their numbers."""

from __future__ import annotations

from typing import Final

from tests.conformance import (
    group_close,
    group_compression,
    group_fragmentation,
    group_framing,
    group_limits,
    group_negotiation,
    group_opcodes,
    group_opening,
    group_pings,
    group_reserved,
    group_utf8,
)
from tests.conformance.model import Group

GROUPS: Final[tuple[Group, ...]] = (
    group_framing.GROUP,
    group_pings.GROUP,
    group_reserved.GROUP,
    group_opcodes.GROUP,
    group_fragmentation.GROUP,
    group_utf8.GROUP,
    group_close.GROUP,
    group_limits.GROUP,
    group_opening.GROUP,
    group_negotiation.GROUP,
    group_compression.GROUP,
)
