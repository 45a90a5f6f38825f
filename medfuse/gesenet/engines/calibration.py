"""Picture pairs of the phantom, from which a quantised network learns how large its numbers become."""

from __future__ import annotations

import numpy as np
import torch
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
    """Slices of a phantom's MRI with each partner: (1, 1, H, W) float32 in [0, 1], as the line hands them on."""
    head = Head(seed)
    volumes = {modality: _scaled(head, modality, seed) for modality in MODALITIES}
    mri = volumes.pop("MR")
    return [
        (mri[..., k].mT[None].contiguous(), partner[..., k].mT[None].contiguous())
        for partner in volumes.values()
        for k in range(SHAPE[2])
    ]


def harsh_pairs(seed: int = 7) -> list[tuple[Tensor, Tensor]]:
    """Noise, and blocks of black and white: (1, 1, H, W), with more contrast than pictures of a head have."""
    generator = torch.Generator().manual_seed(seed)
    mri, partner = torch.rand((2, 1, 1, 64, 64), generator=generator).unbind()
    blocks = torch.rand((2, 1, 1, 16, 16), generator=generator).round()
    first, second = blocks.repeat_interleave(8, 3).repeat_interleave(8, 4).unbind()
    return [(mri, partner), (first, second)]


def _scaled(head: Head, modality: Modality, seed: int) -> Tensor:
    """One modality on the grid that all share: (1, X, Y, Z) in [0, 1]."""
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    volume = render(head, modality, Grid(SHAPE, affine), np.eye(4), seed=seed)
    values = plain(scale(volume, choose_window(volume)))
    return values if modality in ("MR", "CT") else colour.split_luma(colour.colourise(values, palette_table(PALETTE)))
