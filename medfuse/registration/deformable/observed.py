"""Prepare what a deformation is fitted to and assessed by: values as ranks, at points that stay comparable.

Fat and muscle differ by a tenth of a CT's window, and by next to nothing beside a tumour's uptake. As ranks among the
values of the body each tissue takes as many bins as it has voxels; of whole distributions the mutual information is the
same.

A point that is taken out of the moving field keeps the value at its border, and the same points count throughout: so
nothing is gained by sliding tissue out of the field.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medfuse.registration.pyramid import PyramidLevel, enlarged, head_mask
from medfuse.registration.search import Pair
from medfuse.registration.similarity import BINS, Measure, Samples, joint
from medfuse.registration.warp import Warp
from medfuse.volume.grid import Points

RANKS = 65
"""Quantiles between which values are ranked linearly."""


@dataclass(frozen=True)
class Observed:
    """Points of the fixed study, and the moving study that they look at through a linear map.

    Parameters
    ----------
    samples
        The points that the map takes into the moving field, their values as bins of ranks.
    moving
        Its values as ranks, 0 to 1.
    to_unit
        (4, 4): points relative to the samples' centre → where `PyramidLevel.sample` reads.
    """

    samples: Samples
    moving: PyramidLevel
    to_unit: Tensor

    @classmethod
    def of(cls, pair: Pair, matrix: Points, moving: PyramidLevel) -> Observed:
        """The fine samples of a pair, seen through a map, fixed → moving, in a moving study made by `ranked`."""
        centred = np.eye(4)
        centred[:3, 3] = pair.centre
        to_unit = torch.from_numpy(moving.to_unit() @ matrix @ centred).float()
        own = torch.from_numpy(pair.fixed.fine.to_unit() @ centred).float()
        points = pair.fine.points
        points = points[(_placed(points, to_unit).abs() <= 1).all(dim=1)]
        values = pair.fixed.fine.sample(_placed(points, own)[None])[0].numpy()
        shares = _ranks(values, values) if len(values) else values
        bins = torch.from_numpy((shares * BINS).astype(np.int64)).clamp_(0, BINS - 1)
        return cls(Samples(points, bins, pair.centre), moving, to_unit)

    def half(self, which: int) -> Observed:
        """Every second point, from the first (0) or the second (1) on."""
        samples = self.samples
        return replace(self, samples=replace(samples, points=samples.points[which::2], bins=samples.bins[which::2]))

    def shared(self, moves: Tensor, measure: Measure) -> Tensor:
        """() how much the studies share where (N, 3) displacements, mm, take the points."""
        values = self.moving.sample(_placed(self.samples.points + moves, self.to_unit)[None])
        return measure(joint(self.samples, values, torch.ones_like(values))).sum()

    def under(self, warp: Warp | None, measure: Measure) -> float:
        """How much they share under a deformation; None for none."""
        with torch.inference_mode():
            moves = torch.zeros_like(self.samples.points)
            if warp is not None:
                world = self.samples.points.double().numpy() + self.samples.centre
                moves = warp.displaced(torch.from_numpy(warp.grid.index(world)))
            return float(self.shared(moves, measure))


def ranked(level: PyramidLevel, coarse: PyramidLevel) -> PyramidLevel:
    """A level whose values are their ranks among those of the body, 0 to 1; ``coarse`` is of the same study."""
    values = level.values[0, 0].numpy()
    ranks = _ranks(values, values[enlarged(head_mask(coarse), level).numpy()])
    return PyramidLevel(torch.from_numpy(ranks)[None, None], level.affine)


def _ranks(values: Points, among: Points) -> Points:
    marks, first = np.unique(np.quantile(among, np.linspace(0, 1, RANKS)), return_index=True)
    # Where many voxels share a value, such as air, it stands for the least of its ranks.
    return np.interp(values, marks, first / (RANKS - 1)).astype(np.float32)


def _placed(points: Tensor, to_unit: Tensor) -> Tensor:
    return points @ to_unit[:3, :3].T + to_unit[:3, 3]
