"""What shows in a study is kept as it is; the air around it, which holds nothing but noise, can be set to black.

Black air is cheap: engines compute none of it. Where it is, the means of blocks decide, for single voxels of air are as
bright as dark tissue; but a voxel that one would see in the picture is never taken for air.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from medfuse.intensity import Window, to_unit
from medfuse.volume import grid_of, plain

SHOWS = 0.05
"""Share of a window that the mean of a block must exceed to be more than noise."""

SEEN = 0.25
"""Share of a window that no voxel of noise exceeds."""

BLOCK_MM, LEAST = 4.0, 2
"""Sides of blocks, about, and of so many voxels at least: means have an eighth of the noise of voxels of 1 mm."""

MARGIN_MM = 8.0
"""What lies so near to something that shows is kept, or the next block: skin, and the edges of blocks."""


@dataclass(frozen=True)
class Foreground:
    """Which voxels of a pair of volumes are not air.

    Parameters
    ----------
    blocks
        (X', Y', Z') bool, true near what shows in the MRI, and in whatever that encloses.
    sizes
        Voxels of a block along each axis.
    reach
        Blocks of a slice, along both axes, around one that shows in the partner.
    """

    blocks: Tensor
    sizes: tuple[int, int, int]
    reach: tuple[int, int]

    @classmethod
    def of(cls, mri: MetaTensor, window: Window) -> Foreground:
        """Look at a whole MRI, (1, X, Y, Z); window as it is shown."""
        spacing = np.linalg.norm(grid_of(mri).affine[:3, :3], axis=0)
        lengths = zip(mri.shape[1:], spacing, strict=True)
        sizes = tuple(min(length, max(LEAST, round(BLOCK_MM / step))) for length, step in lengths)
        values = plain(mri)[None].float()
        means, most = (
            to_unit(pool(values, sizes, ceil_mode=True)[0, 0], window)
            for pool in (functional.avg_pool3d, functional.max_pool3d)
        )
        shows = ndimage.binary_fill_holes(((means > SHOWS) | (most > SEEN)).numpy())
        sides = spacing * sizes
        kept = ndimage.distance_transform_edt(~shows, sampling=sides) <= max(MARGIN_MM, *sides)
        across, along = (math.ceil(MARGIN_MM / side) for side in sides[:2])
        return cls(torch.from_numpy(kept), (sizes[0], sizes[1], sizes[2]), (across, along))

    def air(self, start: int, stop: int, partner: Tensor) -> Tensor:
        """Where slices are air in both: (X, Y, n) bool, of the partner's (1, X, Y, n) in [0, 1]."""
        layers = torch.arange(start, stop) // self.sizes[2]
        near = self.blocks[:, :, layers].permute(2, 0, 1)[:, None].float()
        means, most = (
            pool(partner.movedim(-1, 0), self.sizes[:2], ceil_mode=True)
            for pool in (functional.avg_pool2d, functional.max_pool2d)
        )
        shows = (means > SHOWS) | (most > SEEN)
        window = 2 * self.reach[0] + 1, 2 * self.reach[1] + 1
        near = near.maximum(functional.max_pool2d(shows.float(), window, stride=1, padding=self.reach))
        # Between the centres of blocks, so that the border is no staircase.
        smooth = functional.interpolate(near, scale_factor=self.sizes[:2], mode="bilinear")
        kept = smooth[:, 0, : partner.shape[1], : partner.shape[2]] >= 0.5
        return ~kept.permute(1, 2, 0)
