"""All attacks, in the order of their numbers."""

from __future__ import annotations

from typing import Final

from tests.attacks import (
    group_budgets,
    group_crowds,
    group_doors,
    group_frames,
    group_heads,
    group_machine,
    group_pages,
    group_plugins,
    group_tls,
    group_tls_openssl,
)
from tests.attacks.model import Group

GROUPS: Final[tuple[Group, ...]] = (
    *group_heads.GROUPS,
    *group_frames.GROUPS,
    *group_pages.GROUPS,
    *group_crowds.GROUPS,
    *group_machine.GROUPS,
    *group_plugins.GROUPS,
    *group_doors.GROUPS,
    *group_budgets.GROUPS,
    *group_tls.GROUPS,
    *group_tls_openssl.GROUPS,
)
