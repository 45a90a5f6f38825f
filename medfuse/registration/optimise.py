"""Optimise maps by the gradient of a score: many starts together by Adam, one by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from medfuse.registration.similarity import maps, uncentred
from medfuse.volume.grid import Points

RELATIVE_TOLERANCE = 3e-6
"""Share of itself by which a score must still rise, a few micrometres' worth. Float32 sums tell no less apart; where it
is asked for, L-BFGS looks for it ten times and ends where it was."""

Scored = Callable[[Tensor], Tensor]
"""(P,) scores of (P, 4, 4) maps of points relative to a centre."""


def climb_by(centre: Points, start: Points, scored: Scored, steps: int, freedom: int) -> Points:
    """Where L-BFGS ends near ``start``: a shift with 3 degrees of freedom, rigid with 6, affine with 12."""
    unturned = (3, 0) if freedom == 3 else (0, 0)

    def changed(changes: Tensor) -> Tensor:
        return maps(start[None], functional.pad(changes, unturned), centre)

    def falling(changes: Points) -> tuple[float, Points]:
        with torch.enable_grad():
            here = torch.from_numpy(changes[None]).requires_grad_()
            found = scored(changed(here)).sum()
            (slope,) = torch.autograd.grad(found, here)
        # Scores change by a thousandth over a tenth of a millimetre; L-BFGS takes its first step from the slope.
        return -1000 * found.item(), -1000 * slope[0].numpy()

    end = minimize(
        falling,
        np.zeros(freedom),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": steps, "maxfun": 2 * steps, "ftol": RELATIVE_TOLERANCE, "gtol": 1e-3},
    )
    return np.asarray(uncentred(changed(torch.from_numpy(end.x[None])), centre)[0])


def ascend(centre: Points, starts: Points, scored: Scored) -> Points:
    """Ends of many starts, together; strides shrink from 6 mm to under 1 mm.

    Adam (Kingma and Ba, ICLR 2015) written out: `torch.optim` loads PyTorch's compiler, which takes two seconds.
    """
    changes = mean = square = torch.zeros(len(starts), 6, dtype=torch.float64)
    for step in range(1, 25):
        with torch.enable_grad():
            here = changes.clone().requires_grad_()
            found = scored(maps(starts, here, centre))
            (slope,) = torch.autograd.grad(found.sum(), here)
        mean = torch.lerp(slope, mean, 0.7)
        square = torch.lerp(slope.square(), square, 0.95)
        stride = (mean / (1 - 0.7**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-8)
        changes = here.detach() + 6.0 * 0.91 ** (step - 1) * stride
    return uncentred(maps(starts, changes, centre), centre)
