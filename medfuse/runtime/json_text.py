"""Write JSON that every reader takes: numbers that the format lacks become null."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(found: Any, indent: int | None = None) -> str:
    """Plain values as JSON text (RFC 8259); Python's own ``NaN`` and ``Infinity`` are refused by other programs."""
    return json.dumps(finite(found), indent=indent, allow_nan=False)


def finite(found: Any) -> Any:
    """The same with null for infinite numbers and NaN, which JSON does not have (RFC 8259, section 6)."""
    if isinstance(found, dict):
        return {key: finite(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [finite(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found
