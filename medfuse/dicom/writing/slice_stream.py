"""Hold a fused picture as a stream of slices, which are written while they are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.volume import Source, grid_of, plain, source_of
from medfuse.volume.grid import Grid
from medfuse.volume.plane_names import Plane
from medfuse.volume.planes import turn_of


@dataclass(frozen=True)
class SliceStream:
    """A fused picture that comes slice by slice: it is written while it is made, and never held as a whole.

    Parameters
    ----------
    slices
        One for each index along the last axis of the grid, in order: (3, X, Y) uint8 RGB, or (1, X, Y) floats in
        [0, 1].
    grid
        Where they lie.
    channels
        3 or 1.
    source
        Where the MRI came from.
    """

    slices: Iterable[torch.Tensor]
    grid: Grid
    channels: Literal[1, 3]
    source: Source | None = None

    @classmethod
    def of(cls, volume: MetaTensor) -> SliceStream:
        """The slices of a volume that is there; shares memory."""
        values = plain(volume)
        slices = (values[..., k] for k in range(values.shape[-1]))
        return cls(slices, grid_of(volume), 3 if len(volume) == 3 else 1, source_of(volume))

    def turned(self, plane: Plane) -> Iterator[tuple[int, torch.Tensor]]:
        """The slices with their indices on the grid turned to a plane whose slices these are."""
        order, flipped, grid = turn_of(self.grid, plane)
        within = [1 + axis for axis in flipped if axis < 2]
        for k, values in enumerate(self.slices):
            turned = values.permute(0, 1 + order[0], 1 + order[1]).flip(within)
            yield grid.shape[2] - 1 - k if 2 in flipped else k, turned
