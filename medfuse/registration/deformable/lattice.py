"""Lay out the lattice of a deformation, and the cubic B-splines whose control points it is made of.

Rueckert et al., IEEE Trans. Med. Imaging 18(8), 1999, doi:10.1109/42.796284.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medfuse.registration.pyramid import PyramidLevel, head_mask
from medfuse.volume.grid import Grid

LATTICE_MM = 8.0
"""Between the points of the lattice that a deformation is stored on, linear between them."""


@dataclass(frozen=True)
class Splines:
    """Cubic B-splines on control points of one spacing, seen on a lattice.

    Parameters
    ----------
    basis
        For each axis (points, controls): the splines' values on the lattice.
    free
        (x, y, z) 1 where a control point may move, 0 where its spline would reach beyond the lattice.
    """

    basis: tuple[Tensor, ...]
    free: Tensor

    @classmethod
    def on(cls, grid: Grid, control_mm: float, offset: float) -> Splines:
        """Control points ``control_mm`` apart, displaced along all axes by a share ``offset`` of that."""
        basis, free = [], []
        for points in grid.shape:
            place = (np.arange(points) - (points - 1) / 2) * LATTICE_MM / control_mm
            reach = int(np.ceil(place[-1])) + 2
            controls = np.arange(-reach, reach + 1) + offset
            distance = np.abs(place[:, None] - controls)
            near, far = 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6
            basis.append(torch.from_numpy(np.where(distance < 1, near, far)).float())
            free.append(torch.from_numpy(np.abs(controls) + 2 <= place[-1] + 1e-6).float())
        return cls(tuple(basis), torch.einsum("x,y,z->xyz", *free))

    def dense(self, control: Tensor) -> Tensor:
        """(3, X, Y, Z) displacements of (3, x, y, z) control points, both mm."""
        return torch.einsum("cxyz,ix,jy,kz->cijk", control * self.free, *self.basis)


def lattice_over(level: PyramidLevel, around_mm: float) -> Grid:
    """A lattice along the world's axes over what is bright in a study, and so far around it."""
    places = level.world(np.argwhere(head_mask(level).numpy()).astype(np.float64))
    low, high = places.min(axis=0) - around_mm, places.max(axis=0) + around_mm
    shape = np.ceil((high - low) / LATTICE_MM).astype(int) + 1
    affine = np.diag([LATTICE_MM, LATTICE_MM, LATTICE_MM, 1])
    affine[:3, 3] = (low + high) / 2 - LATTICE_MM * (shape - 1) / 2
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def bending_energy(displacement: Tensor) -> Tensor:
    """Mean square of all second derivatives of (3, X, Y, Z) displacements, 1/mm²; the mixed ones count twice."""
    energy = torch.zeros((), dtype=torch.float32)
    for one in range(1, 4):
        energy = energy + displacement.diff(n=2, dim=one).square().mean()
        for other in range(one + 1, 4):
            energy = energy + 2 * displacement.diff(dim=one).diff(dim=other).square().mean()
    return energy / LATTICE_MM**4
