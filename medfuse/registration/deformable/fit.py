"""Fit a smooth displacement to what two studies share: B-splines, coarse to fine, less their bending energy."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from medfuse.registration.deformable.lattice import Splines, bending_energy
from medfuse.registration.deformable.observed import Observed
from medfuse.registration.similarity import shared_share
from medfuse.volume.grid import Grid, Points

CONTROLS_MM = (64.0, 32.0)
"""Between control points, stage after stage; each stage adds to the one before."""

BENDING = 1.7e6
"""Weight of the bending energy, mm², against a thousand times the score."""

STEPS = 25
"""Of L-BFGS on each stage."""


def fit(seen: Observed, grid: Grid, *, offset: float, bending: float) -> Tensor:
    """Find the displacement that lets the studies share most (normalised mutual information).

    Parameters
    ----------
    seen
        What it is fitted to.
    grid
        The lattice of the result.
    offset
        By which share of their spacing control points are displaced.
    bending
        Weight of the bending energy.

    Returns
    -------
    Tensor
        (3, X, Y, Z) displacements on the lattice, mm; 0 at its border.
    """
    index = torch.from_numpy(grid.index(seen.samples.points.double().numpy() + seen.samples.centre))
    unit = (index * 2 / (torch.tensor(grid.shape) - 1) - 1).float().flip(-1)[None, :, None, None]
    total = torch.zeros(3, *grid.shape, dtype=torch.float32)
    for control_mm in CONTROLS_MM:
        total = total + _stage(seen, total, unit, Splines.on(grid, control_mm, offset), bending)
    return total


def _stage(seen: Observed, before: Tensor, unit: Tensor, splines: Splines, bending: float) -> Tensor:
    """What control points of one spacing add to a displacement."""

    def falling(flat: Points) -> tuple[float, Points]:
        with torch.enable_grad():
            control = torch.from_numpy(flat).float().reshape(3, *splines.free.shape).requires_grad_()
            field = before + splines.dense(control)
            moves = functional.grid_sample(field[None], unit, align_corners=True)[0, :, :, 0, 0].T
            loss = bending * bending_energy(field) - 1000 * seen.shared(moves, shared_share)
            (slope,) = torch.autograd.grad(loss, control)
        return loss.item(), slope.double().numpy().ravel()

    start = np.zeros(3 * splines.free.numel())
    end = minimize(falling, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "ftol": 1e-6})
    return splines.dense(torch.from_numpy(end.x).float().reshape(3, *splines.free.shape))
