"""Render picture pairs of the phantom, on which engines are timed and compared."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from medfuse.dicom.palettes import palette_table
from medfuse.intensity import choose_window, colour, scale
from medfuse.phantom import Head, render
from medfuse.volume import MODALITIES, Modality, plain
from medfuse.volume.grid import Grid

SHAPE = (192, 224, 5)
SPACING = (1.0, 1.0, 22.0)
"""Five axial slices of a millimetre a pixel, from the base of the skull to its top."""

PALETTE = "hot-iron"


def phantom_pairs(seed: int = 7) -> list[tuple[Tensor, Tensor]]:
    """Slices of a phantom's MRI with each partner, scaled as by `medfuse.fuse`: (1, 1, H, W) float32 in [0, 1]."""
    head = Head(seed)
    volumes = {modality: _scaled(head, modality, seed) for modality in MODALITIES}
    mri = volumes.pop("MR")
    return [
        (mri[..., k].mT[None].contiguous(), partner[..., k].mT[None].contiguous())
        for partner in volumes.values()
        for k in range(SHAPE[2])
    ]


def _scaled(head: Head, modality: Modality, seed: int) -> Tensor:
    """One modality on the grid that all share: (1, X, Y, Z) in [0, 1]."""
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    volume = render(head, modality, Grid(SHAPE, affine), np.eye(4), seed=seed)
    values = plain(scale(volume, choose_window(volume)))
    return values if modality in ("MR", "CT") else colour.split_luma(colour.colourise(values, palette_table(PALETTE)))
