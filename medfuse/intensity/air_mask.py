"""Find the air around the head, and set it to black: noise there is not fused, and engines have less to compute.

The means of blocks decide where air is, for single voxels of air are as bright as dark tissue. A block whose mean does
not stand out of noise, and of which no voxel exceeds a quarter of the window, is taken for air.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from medfuse.intensity import Window, to_unit
from medfuse.volume import grid_of, plain

MEAN_THRESHOLD = 0.05
"""Share of a window that the mean of a block must exceed to be more than noise."""

VOXEL_THRESHOLD = 0.25
"""Share of a window over which a single voxel shows, whatever its block's mean."""

BLOCK_MM, LEAST_VOXELS = 4.0, 2
"""Sides of blocks, about, and of so many voxels at least: means have an eighth of the noise of voxels of 1 mm."""

MARGIN_MM = 8.0
"""Blocks between which and one that shows there is less than this are kept, and all that touch it: skin, its blur."""


@dataclass(frozen=True)
class AirMask:
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
    def of(cls, mri: MetaTensor, window: Window) -> AirMask:
        """Look at a whole MRI, (1, X, Y, Z); window as it is shown."""
        spacing = np.linalg.norm(grid_of(mri).affine[:3, :3], axis=0)
        lengths = zip(mri.shape[1:], spacing, strict=True)
        sizes = tuple(min(length, max(LEAST_VOXELS, round(BLOCK_MM / step))) for length, step in lengths)
        values = plain(mri)[None].float()
        means, most = (
            to_unit(pool(values, sizes, ceil_mode=True)[0, 0], window)
            for pool in (functional.avg_pool3d, functional.max_pool3d)
        )
        across, along, through = (math.ceil(MARGIN_MM / side) for side in spacing * sizes)
        shows = _enclosed(_shown(means, most).cpu().numpy())
        steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in (across, along, through)), indexing="ij"), axis=-1)
        gaps = np.maximum(abs(steps) - 1, 0) * spacing * sizes
        kept = ndimage.binary_dilation(shows, np.linalg.norm(gaps, axis=-1) < MARGIN_MM)
        return cls(torch.from_numpy(kept), (sizes[0], sizes[1], sizes[2]), (across, along))

    def air(self, start: int, stop: int, partner: Tensor) -> Tensor:
        """Where slices are air in both: (X, Y, n) bool, of the partner's (1, X, Y, n) in [0, 1].

        Of the partner, what shows is kept with what lies around it in its own slice.
        """
        layers = torch.arange(start, stop) // self.sizes[2]
        near = self.blocks[:, :, layers].permute(2, 0, 1)[:, None].to(partner.device, torch.float32)
        slices = partner.movedim(-1, 0).contiguous()  # rounding depends on the order in memory
        means, most = (
            pool(slices, self.sizes[:2], ceil_mode=True) for pool in (functional.avg_pool2d, functional.max_pool2d)
        )
        window = 2 * self.reach[0] + 1, 2 * self.reach[1] + 1
        shows = functional.max_pool2d(_shown(means, most).float(), window, stride=1, padding=self.reach)
        # Between the centres of blocks, so that the border is no staircase.
        smooth = functional.interpolate(near.maximum(shows), scale_factor=self.sizes[:2], mode="bilinear")
        kept = smooth[:, 0, : partner.shape[1], : partner.shape[2]] >= 0.5
        return ~kept.permute(1, 2, 0)


def _shown(means: Tensor, most: Tensor) -> Tensor:
    """Which blocks show; one that holds what is no number does, so that it is not hidden."""
    return ~((means <= MEAN_THRESHOLD) & (most <= VOXEL_THRESHOLD))


def _enclosed(shows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """With what is enclosed, in space or in any plane: a volume may end within the head."""
    shows = ndimage.binary_fill_holes(shows)
    for axis in range(3):
        in_plane = ndimage.generate_binary_structure(3, 1)
        in_plane[tuple(slice(None) if each != axis else [0, 2] for each in range(3))] = False
        shows |= ndimage.binary_fill_holes(shows, in_plane)
    return shows


Foreground = AirMask
"""The class's name before, for one release."""
