"""List the words that name a way to align two studies, where no registration file is given."""

from __future__ import annotations

from typing import Literal, get_args

Align = Literal["auto", "header", "rigid", "affine", "deformable"]

ALIGNMENTS: tuple[Align, ...] = get_args(Align)
