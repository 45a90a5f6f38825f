"""Name the planes whose slices can be fused."""

from __future__ import annotations

from typing import Literal, get_args

Plane = Literal["native", "axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = get_args(Plane)
