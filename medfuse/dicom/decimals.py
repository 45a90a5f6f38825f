"""Write numbers as decimal strings (VR DS, PS3.5 6.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.valuerep import format_number_as_ds


def decimals(numbers: npt.ArrayLike) -> list[str]:
    """Decimal strings of at most 16 characters; rounding noise around zero becomes 0."""
    return [format_number_as_ds(0.0 if abs(number) < 1e-12 else float(number)) for number in np.asarray(numbers)]
