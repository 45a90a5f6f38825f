"""Render a picture pair of the phantom, on which engines are timed and compared."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from medfuse.phantom import Head, render
from medfuse.pipeline.prepare import on_one_grid
from medfuse.volume import LazyVolume, Modality
from medfuse.volume.grid import Grid

SHAPE = (192, 224, 5)
SPACING = (1.0, 1.0, 22.0)
"""Five axial slices of a millimetre a pixel, from the base of the skull to its top."""


def phantom_pair(seed: int = 7) -> tuple[Tensor, Tensor]:
    """A slice through the brain of a phantom's MRI and PET, scaled as by `medfuse.fuse`: (1, 1, H, W) in [0, 1]."""
    head = Head(seed)
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    modalities: tuple[Modality, Modality] = ("MR", "PT")
    mri, partner = (render(head, modality, Grid(SHAPE, affine), np.eye(4), seed=seed) for modality in modalities)
    middle = SHAPE[2] // 2
    pairs = on_one_grid(mri, LazyVolume.of(partner), window=None, palette=None).pairs(middle, middle + 1)
    return pairs.mri.contiguous(), pairs.luma.contiguous()
