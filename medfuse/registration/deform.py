"""Find the deformation beyond an affine map: smooth, without folds, and of greater similarity.

Cubic B-splines on control points 24 mm apart (Rueckert et al., IEEE Trans. Med. Imaging 18(8), 1999,
doi:10.1109/42.796284) maximise the same normalised mutual information, less their bending energy. The outermost control
points are held still, so that the deformation ends where its lattice does.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from medfuse.registration.pyramid import head_mask
from medfuse.registration.search import Pair
from medfuse.registration.similarity import score, unmoved
from medfuse.registration.warp import LEAST_JACOBIAN, Warp
from medfuse.volume.grid import Grid, Points

CONTROL_MM, LATTICE_MM = 24.0, 4.0
"""Between control points, and between the points of the lattice that the result is stored on."""

BENDING = 8.0
"""Weight of the bending energy, mm², against a thousand times the score; raised until nothing comes near folding."""

HELD = 2
"""Outer layers of control points that are held still: a cubic B-spline reaches over two."""


def deform(pair: Pair, matrix: Points, *, steps: int = 30) -> Warp | None:
    """Find the deformation that, before ``matrix``, lets the pair share most.

    None if even a stiff one would shrink a part of the head to less than a fifth.
    """
    grid, basis = _lattice(pair)
    for stiffness in range(4):
        warp = Warp(grid, _dense(_bend(pair, matrix, grid, basis, BENDING * 4**stiffness, steps), basis).numpy())
        if warp.least_jacobian >= LEAST_JACOBIAN:
            return warp
    return None


def _bend(pair: Pair, matrix: Points, grid: Grid, basis: list[Tensor], bending: float, steps: int) -> Tensor:
    """(3, x, y, z) control points, mm."""
    still = unmoved(matrix[None], pair.centre)
    index = torch.from_numpy(grid.index(pair.fine.points.double().numpy() + pair.centre))
    unit = (index * 2 / (torch.tensor(grid.shape) - 1) - 1).float().flip(-1)[None, :, None, None]
    free = torch.zeros([weights.shape[1] for weights in basis], dtype=torch.float32)
    free[tuple(slice(HELD, -HELD) for _ in range(3))] = 1

    def falling(flat: Points) -> tuple[float, Points]:
        with torch.enable_grad():
            control = torch.from_numpy(flat).float().reshape(3, *free.shape).requires_grad_()
            field = _dense(control * free, basis)[None]
            moves = torch.nn.functional.grid_sample(field, unit, align_corners=True)[0, :, :, 0, 0].T
            shared = score(pair.displaced(moves), pair.moving.fine, still, pair.possible).sum()
            loss = bending * _bending_energy(control * free) - 1000 * shared
            (slope,) = torch.autograd.grad(loss, control)
        return loss.item(), slope.double().numpy().ravel()

    start = np.zeros(3 * free.numel())
    end = minimize(falling, start, jac=True, method="L-BFGS-B", options={"maxiter": steps, "ftol": 1e-6})
    return torch.from_numpy(end.x).float().reshape(3, *free.shape) * free


def _bending_energy(control: Tensor) -> Tensor:
    """Mean square of all second differences of (3, x, y, z) control points, mm²; the mixed ones count twice."""
    energy = torch.zeros((), dtype=torch.float32)
    for one in range(1, 4):
        energy = energy + control.diff(n=2, dim=one).square().mean()
        for other in range(one + 1, 4):
            energy = energy + 2 * control.diff(dim=one).diff(dim=other).square().mean()
    return energy


def _lattice(pair: Pair) -> tuple[Grid, list[Tensor]]:
    """Lattice over the fixed head and the basis functions' values on it, (points, controls) along each axis."""
    level = pair.fixed.coarse
    index = np.argwhere(head_mask(level).numpy())
    places = level.world(index.astype(np.float64))
    spans = np.ceil((np.ptp(places, axis=0) + 4 * CONTROL_MM) / CONTROL_MM)
    shape = (spans * CONTROL_MM / LATTICE_MM).astype(int) + 1
    affine = np.diag([LATTICE_MM, LATTICE_MM, LATTICE_MM, 1])
    affine[:3, 3] = (places.min(axis=0) + places.max(axis=0)) / 2 - LATTICE_MM * (shape - 1) / 2
    basis = []
    for count in shape:
        place = np.arange(count) * LATTICE_MM / CONTROL_MM
        controls = np.arange(round(place[-1]) + 1)
        distance = np.abs(place[:, None] - controls)
        near, far = 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6
        basis.append(torch.from_numpy(np.where(distance < 1, near, far)).float())
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine), basis


def _dense(control: Tensor, basis: list[Tensor]) -> Tensor:
    """(3, X, Y, Z) displacements of (3, x, y, z) control points."""
    return torch.einsum("cxyz,ix,jy,kz->cijk", control, *basis)
