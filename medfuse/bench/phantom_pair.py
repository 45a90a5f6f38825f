"""Render a picture pair of the phantom, on which engines are timed and compared."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from medfuse.dicom.palettes import palette_table
from medfuse.intensity import choose_window, colour, scale
from medfuse.phantom import Head, render
from medfuse.volume import Modality, plain
from medfuse.volume.grid import Grid

SHAPE = (192, 224, 5)
SPACING = (1.0, 1.0, 22.0)
"""Five axial slices of a millimetre a pixel, from the base of the skull to its top."""

PALETTE = "hot-iron"


def phantom_pair(seed: int = 7) -> tuple[Tensor, Tensor]:
    """A slice through the brain of a phantom's MRI and PET, scaled as by `medfuse.fuse`: (1, 1, H, W) in [0, 1]."""
    head = Head(seed)
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    modalities: tuple[Modality, Modality] = ("MR", "PT")
    volumes = [render(head, modality, Grid(SHAPE, affine), np.eye(4), seed=seed) for modality in modalities]
    mri, partner = (plain(scale(volume, choose_window(volume))) for volume in volumes)
    luma = colour.split_luma(colour.colourise(partner, palette_table(PALETTE)))
    first, second = (side[..., SHAPE[2] // 2].mT[None].contiguous() for side in (mri, luma))
    return first, second
