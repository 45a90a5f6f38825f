"""Model the whole head, slightly irregular, and compute the tissue fractions at points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medfuse.phantom.brain import Brain, cavity
from medfuse.phantom.cranium import Cranium, skin
from medfuse.phantom.shapes import Points, Triple, Waves, coverage, ellipsoid
from medfuse.phantom.tissues import TISSUES

LESION: Triple = (33.0, 10.0, 36.0)
"""Centre of the lesion that the MRI does not show: white matter of the right frontal lobe, mm."""

TOWARDS_MARKER: Triple = (-0.97, 0.1, 0.22)
"""Direction from the middle of the head in which the capsule sits on the scalp: left."""

MARKER_RADII: Triple = (4.0, 8.0, 6.0)


class Head:
    """A digital head in its own frame: RAS+ mm, the anterior commissure near the origin.

    Parameters
    ----------
    seed
        Draws the folds of the cortex and every other irregularity; the same seed is the same head.
    """

    def __init__(self, seed: int = 7) -> None:
        generator = np.random.default_rng(seed)
        self._brain = Brain(generator)
        self._cranium = Cranium(generator)
        self._warps = [Waves(generator, wavelength=110, count=6) for _ in range(3)]
        self._ragged = Waves(generator, wavelength=12, count=10)
        self._marker = self._on_skin(TOWARDS_MARKER)

    @property
    def landmarks(self) -> dict[str, npt.NDArray[np.float64]]:
        """Centres of what is easy to find again, by name, (3,) mm: ``lesion``, ``marker`` (on the left), the eyes."""
        warped = Points.of([(31.0, 61.0, -22.0), (-31.0, 61.0, -22.0)])
        # The irregularity says what is seen at a point, so its inverse says where a thing lies; it is small and smooth.
        moved = [
            coordinate - (there - coordinate) for coordinate, there in zip(warped, self._irregular(warped), strict=True)
        ]
        right, left = torch.stack(moved, dim=1).double().numpy()
        return {"lesion": np.array(LESION), "marker": np.array(self._marker), "right eye": right, "left eye": left}

    def tissue_fractions(self, world: npt.ArrayLike, blur: float = 1.0) -> Tensor:
        """Say what the head is made of at N points.

        Parameters
        ----------
        world
            (N, 3) positions in the head's frame, RAS+ mm.
        blur
            Width of the voxel around each point, mm; edges are shared over it.

        Returns
        -------
        Tensor
            (tissues, N) float32 in the order of `TISSUES`, non-negative, summing to 1 over the tissues.
        """
        points = Points.of(world)
        fractions = torch.zeros(len(TISSUES), len(points.x), dtype=torch.float32)
        fractions[TISSUES.index("air")] = 1
        near = torch.nonzero(ellipsoid(points, (0, -5, -25), (116, 138, 136)) < 0).squeeze(1)
        straight = points.where(near)
        bent = self._irregular(straight)
        inner = cavity(bent)
        surface = skin(bent, inner)
        within = torch.nonzero(surface < blur).squeeze(1)
        fractions[:, near[within]] = self._anatomy(bent.where(within), inner[within], surface[within], blur)
        marked = coverage(ellipsoid(straight, self._marker, MARKER_RADII), blur)
        stuck = torch.nonzero(marked).squeeze(1)
        fractions[:, near[stuck]] *= 1 - marked[stuck]
        fractions[TISSUES.index("marker"), near[stuck]] = marked[stuck]
        return fractions

    def lesion_coverage(self, world: npt.ArrayLike, blur: float = 1.0) -> Tensor:
        """Share of the lesion at (N, 3) positions, (N,) in [0, 1]."""
        points = Points.of(world)
        return coverage(ellipsoid(points, LESION, (9, 11, 8)) + 0.8 * self._ragged(points), blur)

    def _anatomy(self, points: Points, inner: Tensor, surface: Tensor, blur: float) -> Tensor:
        fractions = torch.zeros(len(TISSUES), len(inner), dtype=torch.float32)
        share = coverage(inner, blur)
        outside = torch.nonzero(share < 1).squeeze(1)
        cranium = self._cranium.fractions(points.where(outside), inner[outside], surface[outside], blur)
        fractions[:, outside] = cranium * (1 - share[outside])
        inside = torch.nonzero(share > 0).squeeze(1)
        fractions[:, inside] += self._brain.fractions(points.where(inside), blur) * share[inside]
        return fractions

    def _irregular(self, points: Points) -> Points:
        return points.shifted(*(1.3 * warp(points) for warp in self._warps))

    def _on_skin(self, direction: Triple) -> Triple:
        """Where a capsule lies on the scalp in a direction from the origin."""
        distances = torch.linspace(50, 130, 1601, dtype=torch.float32)
        points = Points(*(distances * component for component in direction))
        bent = self._irregular(points)
        inside = skin(bent, cavity(bent)) < 0
        distance = float(distances[inside].max()) + 2.5
        return distance * direction[0], distance * direction[1], distance * direction[2]
