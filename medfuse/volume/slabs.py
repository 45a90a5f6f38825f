"""Make slices of a volume when they are asked for, and pass slabs of them on as pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse.runtime.torch_settings import default_settings
from medfuse.volume.grid import Grid
from medfuse.volume.metatensor import grid_of, known_of, make_volume, plain


class SlicePairs(NamedTuple):
    """Slices of both sources on one grid: (N, 1, H, W) float32 in [0, 1] each, rows down and columns across.

    ``mri`` and ``luma`` are what the network sees; ``uptake`` is the partner itself, from which the colours come, and
    the same as ``luma`` where there is no palette.
    """

    mri: Tensor
    luma: Tensor
    uptake: Tensor


@dataclass(frozen=True)
class LazyVolume:
    """A volume whose slices are made when they are asked for.

    Parameters
    ----------
    grid
        Where the values lie.
    meta
        Modality, unit and source, as in a loaded volume's ``meta``.
    slices
        Called with the first slice and the one behind the last; returns (C, X, Y, N) float32 in the volume's unit and
        in memory of their own. A slice's values do not depend on which others are asked for with it.
    """

    grid: Grid
    meta: Mapping[str, Any]
    slices: Callable[[int, int], Tensor]

    @classmethod
    def of(cls, volume: MetaTensor) -> LazyVolume:
        """A volume in memory, as it is."""
        return cls(grid_of(volume), known_of(volume), partial(copied_slices, plain(volume)))

    @default_settings()
    def volume(self) -> MetaTensor:
        """All slices, (C, X, Y, Z) float32."""
        return make_volume(self.slices(0, self.grid.shape[2]), self.grid, **self.meta)

    @default_settings()
    def sample(self, most: int) -> MetaTensor:
        """As many evenly spaced slices as hold no more than ``most`` voxels, or the next slice more."""
        count = self.grid.shape[2]
        step = -(-int(np.prod(self.grid.shape)) // most)
        chosen = range(min(step // 2, count - 1), count, step)
        affine = self.grid.affine @ np.diag([1.0, 1.0, step, 1.0])
        affine[:3, 3] = self.grid.world((0, 0, chosen[0]))
        values = torch.cat([self.slices(k, k + 1) for k in chosen], dim=-1)
        return make_volume(values, Grid((*self.grid.shape[:2], len(chosen)), affine), **self.meta)


# A function of the module, not a closure, so that a study can be sent to another process.


@default_settings()
def copied_slices(values: Tensor, start: int, stop: int) -> Tensor:
    """Slices [start, stop) of (C, X, Y, Z) values as float32, in memory of their own."""
    return values[..., start:stop].to(torch.float32, copy=True)
