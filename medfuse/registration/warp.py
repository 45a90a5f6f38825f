"""Represent a deformation: how far points of the fixed world move before the affine part is applied."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from medfuse.errors import RegistrationError
from medfuse.volume.grid import Grid, Points

SLAB = 16
"""Planes of a lattice looked at together; bounds the memory."""

LEAST_JACOBIAN = 0.2
"""What a deformation may leave of a volume, as a share; at 0 it folds."""

MOST_MOVED_MM = 5000.0
"""How far a map may move anything: no table is longer, and scanners count from somewhere on theirs."""


@dataclass(frozen=True, eq=False)
class Warp:
    """Displacements on a lattice, linear between its points, none outside it.

    Parameters
    ----------
    grid
        The lattice, in the fixed world.
    displacement
        (3, X, Y, Z) float32, RAS+ mm: the point p goes to ``p + displacement(p)``.
    error_mm
        How far two fits that share neither samples nor control points lie apart, typically (the median over the body);
        None where it was not fitted but read. What misleads both fits alike is not in it.

    Raises
    ------
    RegistrationError
        If the shapes disagree, a number is not finite, a point moves by more than 5 m, the lattice is one point thin,
        or the deformation folds.
    """

    grid: Grid
    displacement: npt.NDArray[np.float32]
    error_mm: float | None = None

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.displacement, dtype=np.float32)
        if values.shape != (3, *self.grid.shape) or not np.isfinite(values).all():
            raise RegistrationError(
                f"a deformation needs three finite numbers at each point of its lattice {self.grid.shape}; found the "
                f"shape {values.shape}."
            )
        if min(self.grid.shape) < 2:
            raise RegistrationError(
                f"a deformation needs at least two points along each axis of its lattice; found {self.grid.shape}."
            )
        values.setflags(write=False)
        object.__setattr__(self, "displacement", values)
        # Each by itself first: squares of large numbers overflow.
        largest = float(np.abs(values).max())
        if largest > MOST_MOVED_MM or self.largest_mm > MOST_MOVED_MM:
            raise RegistrationError(
                f"a deformation must not move a point by more than {MOST_MOVED_MM:g} mm; found {largest:.3g} mm along "
                "an axis. Check that it is a field of displacements in mm."
            )
        if self.least_jacobian <= 0:
            raise RegistrationError(
                f"the deformation folds: expected a Jacobian above 0 everywhere, found {self.least_jacobian:.2f}; no "
                "body lies so. Make it smoother, or align affinely."
            )

    @property
    def largest_mm(self) -> float:
        """The longest displacement."""
        return float(np.linalg.norm(self.displacement, axis=0).max())

    @cached_property
    def least_jacobian(self) -> float:
        """Smallest volume, as a share, that the deformation makes of a corner of a cell of the lattice."""
        count = self.grid.shape[0]
        slabs = [self._least_within(x, min(x + SLAB, count - 1)) for x in range(0, count - 1, SLAB)]
        return min(slabs) / abs(float(np.linalg.det(self.grid.affine[:3, :3])))

    def _least_within(self, first: int, last: int) -> float:
        """The same times a cell's volume, for the cells between two planes across x."""
        index = np.stack(np.meshgrid(*map(np.arange, (last - first + 1, *self.grid.shape[1:])), indexing="ij"))
        index[0] += first
        linear, shift = self.grid.affine[:3, :3], self.displacement[:, first : last + 1]
        places = np.einsum("ij,jxyz->ixyz", linear, index) + shift
        edges = [np.diff(places, axis=axis) for axis in (1, 2, 3)]
        sign = np.sign(np.linalg.det(linear))
        least = np.inf
        for corner in product((slice(None, -1), slice(1, None)), repeat=3):
            x, y, z = (
                edge[(slice(None), *(slice(None) if axis == along else side for axis, side in enumerate(corner)))]
                for along, edge in enumerate(edges)
            )
            least = min(least, float((sign * (np.cross(x, y, axis=0) * z).sum(axis=0)).min()))
        return least

    def torn_mm(self, grid: Grid) -> float:
        """How far apart neighbours in a grid are torn where the lattice ends inside it: the longest displacement there.

        Outside its lattice nothing is displaced. Within one of its cells around it the displacement fades out.
        """
        sizes = np.array(self.grid.shape)
        index = self.grid.index(grid.corners())
        torn = 0.0
        for axis in range(3):
            for end, outside in ((0, index[:, axis].min() < -1), (-1, index[:, axis].max() > sizes[axis])):
                if outside:
                    face = np.take(self.displacement, end, axis=axis + 1)
                    torn = max(torn, float(np.linalg.norm(face, axis=0).max()))
        return torn

    def moved(self, points: Points) -> Points:
        """(N, 3) points → where they come to lie, RAS+ mm."""
        return np.asarray(points + self.displaced(torch.from_numpy(self.grid.index(points))).numpy())

    def displaced(self, index: Tensor) -> Tensor:
        """(N, 3) float32 displacements, RAS+ mm, at (N, 3) fractional indices of the lattice."""
        unit = (index * 2 / (torch.tensor(self.grid.shape) - 1) - 1).float().flip(-1)
        field = torch.from_numpy(np.array(self.displacement))[None]
        return functional.grid_sample(field, unit[None, :, None, None], align_corners=True)[0, :, :, 0, 0].T

    def to_dict(self) -> dict[str, object]:
        """Its size, as JSON can hold it."""
        return {
            "spacing_mm": list(self.grid.spacing),
            "largest_mm": self.largest_mm,
            "least_jacobian": self.least_jacobian,
            "error_mm": self.error_mm,
        }
