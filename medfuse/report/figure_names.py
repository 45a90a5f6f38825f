"""Name what a figure can show, and as what it is written; for commands, which say so before anything is loaded."""

from __future__ import annotations

from typing import Literal, get_args

from medfuse.volume.plane_names import Plane

SUFFIXES = (".png", ".pdf", ".svg")

Column = Literal["mri", "partner", "fused"]
COLUMNS: tuple[Column, ...] = get_args(Column)

FigurePlane = Literal[Plane, "orthogonal"]
FIGURE_PLANES: tuple[FigurePlane, ...] = get_args(FigurePlane)

View = Literal["radiological", "neurological"]
VIEWS: tuple[View, ...] = get_args(View)
"""Whether the patient's left is on the right of a picture, as if seen from the feet, or on its left."""
