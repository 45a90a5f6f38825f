"""Find the deformation beyond a linear map: smooth, without folds, and kept only where it is better and reproducible.

Two fits share neither samples nor control points; the result is their mean, and how far they lie apart is the estimate
of its error. What is better is decided by samples that neither has seen, and by a measure that neither maximised.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from medfuse.errors import RegistrationError
from medfuse.registration.deformable.fit import BENDING, CONTROLS_MM, fit
from medfuse.registration.deformable.lattice import lattice_over
from medfuse.registration.deformable.observed import Observed, ranked
from medfuse.registration.search import SIGNIFICANT, Pair
from medfuse.registration.similarity import correlation_ratio, shared_share
from medfuse.registration.warp import LEAST_JACOBIAN, Warp
from medfuse.runtime.parallel import parallel_map
from medfuse.volume.grid import Grid, Points

AROUND = 1.5
"""Spacings of the coarsest control points that the lattice goes on around the body: with less, a thin one has none."""

LEAST_POINTS = 4000
"""Samples in the moving field; fewer say too little about a deformation."""

LEAST_BETTER = 1.01
"""Correlation ratio after over before, on samples that nothing was fitted to, from which a deformation is kept."""

MOST_APART = 0.5
"""How far two fits may lie apart, as a share of how far they move things: what noise moves, it moves differently."""

CLEARLY = 1.2
"""Score of fresh samples after over before from which fits need not agree so closely; where nothing was deformed, it
rose by up to 15 %."""

STIFFER = (1.0, 4.0, 16.0, 64.0)
"""Times the bending energy, until nothing comes near folding."""


def deform(pair: Pair, matrix: Points, *, head: bool = True) -> Warp | None:
    """Find the deformation that, before ``matrix``, lets the pair share most.

    Parameters
    ----------
    pair, matrix
        The studies, and the linear map, fixed → moving, RAS+ mm.
    head
        Of a head, mutual information of fresh samples decides alone: most of it does not move, and the verdict on heads
        assesses the deformation anew.

    Returns
    -------
    Warp or None
        With the estimate of its error; None where too little is in both fields, where even a stiff one would shrink a
        part of the body to less than a fifth, and where it is not better than ``matrix`` alone by the correlation ratio
        and by mutual information of fresh samples, or moves things by hardly more than two fits of it differ
        without being clearly better.
    """
    moving = ranked(pair.moving.fine, pair.moving.coarse)
    seen = Observed.of(pair, matrix, moving)
    if len(seen.samples.points) < LEAST_POINTS:
        return None
    grid = lattice_over(pair.fixed.coarse, AROUND * CONTROLS_MM[0])
    for stiffer in STIFFER:
        halves = partial(_fit_of_half, seen, grid, BENDING * stiffer)
        one, other = parallel_map(halves, [0, 1])
        mean = (one + other) / 2
        warp = _warp_of(mean, one - other, seen, grid)
        if warp is not None and warp.least_jacobian >= LEAST_JACOBIAN:
            return warp if _better(warp, seen, Observed.of(pair.redrawn(), matrix, moving), head) else None
    return None


def _fit_of_half(seen: Observed, grid: Grid, bending: float, which: int) -> Tensor:
    return fit(seen.half(which), grid, offset=which / 2, bending=bending)


def _warp_of(mean: Tensor, difference: Tensor, seen: Observed, grid: Grid) -> Warp | None:
    """The deformation with the estimate of its error: how far two fits lie apart; None if it folds."""
    try:
        apart = Warp(grid, (difference / 2).numpy())  # half, for the difference itself may fold
        warp = Warp(grid, mean.numpy())
    except RegistrationError:
        return None
    return replace(warp, error_mm=2 * _typical_mm(apart, seen))


def _better(warp: Warp, seen: Observed, fresh: Observed, head: bool) -> bool:
    """Whether it is by samples that nothing was fitted to, and moves things by more than two fits of it differ."""
    assert warp.error_mm is not None
    ratio, shared = (
        fresh.under(warp, measure) / max(fresh.under(None, measure), 1e-6)
        for measure in (correlation_ratio, shared_share)
    )
    if head:
        return shared >= SIGNIFICANT
    agree = warp.error_mm <= MOST_APART * _typical_mm(warp, seen)
    return ratio >= LEAST_BETTER and shared >= (SIGNIFICANT if agree else CLEARLY)


def _typical_mm(warp: Warp, seen: Observed) -> float:
    """Median length of the displacements of the points."""
    world = seen.samples.points.double().numpy() + seen.samples.centre
    return float(np.median(np.linalg.norm(warp.moved(world) - world, axis=1)))
