"""RFC 6455 section 5.3: masking, by the name under which those look for it who do nothing else with frames."""

from __future__ import annotations

from wsd.wire.fast import mask

__all__ = ["mask"]
