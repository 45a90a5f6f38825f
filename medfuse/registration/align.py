"""Find where the moving study lies: trust the headers, or search."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import RegistrationError
from medfuse.grid import Grid, Points
from medfuse.registration.search import search
from medfuse.registration.transform import Method, Registration
from medfuse.volume import grid_of, source_of


def register(
    fixed: MetaTensor,
    moving: MetaTensor,
    method: Literal["auto", "header", "rigid"] = "auto",
    *,
    seed: int = 20231,
    progress: Callable[[float], None] | None = None,
) -> Registration:
    """Find where the moving study lies in the fixed one.

    ``"rigid"`` maximises Mattes' mutual information over six degrees of freedom. Three starts (the headers' positions,
    the centres of the fields of view, the centres of the bright parts) are searched by Powell's method on an 8 mm
    grid; the outcome of highest normalised mutual information is refined on 4 mm and, by gradient descent, on 2 mm,
    from random samples. One thread and one seed: the same input gives the same matrix.

    Parameters
    ----------
    fixed, moving
        (1, X, Y, Z) volumes; at least 4 voxels along each axis for ``"rigid"``.
    method
        ``"auto"``: identity where both sources name the same frame of reference, else rigid. ``"header"``: identity,
        whatever the frames say. ``"rigid"``: search.
    seed
        Of the random samples, positive.
    progress
        Called with the share of the work done, 0 to 1.

    Raises
    ------
    RegistrationError
        If the fields of view do not overlap, or a volume is constant, too thin, or shares nothing with the other.

    References
    ----------
    Mattes et al., IEEE Trans. Med. Imaging 22(1), 2003, doi:10.1109/TMI.2003.809072;
    Studholme et al., Pattern Recognition 32(1), 1999, doi:10.1016/S0031-3203(98)00091-0.
    """
    if method not in ("auto", "header", "rigid"):
        raise ValueError(f"method must be 'auto', 'header' or 'rigid'; found {method!r}.")
    if seed < 1:
        raise ValueError(f"seed must be positive, for ITK takes 0 for the clock; found {seed}.")
    began = time.perf_counter()
    report = progress or (lambda share: None)
    report(0.0)
    matrix: Points = np.eye(4)
    found: Method = "header"
    scores: dict[str, float] = {}
    if method == "auto" and _same_frame(fixed, moving):
        found = "identity"
    elif method != "header":
        matrix, found, scores = search(fixed, moving, seed, report)
    report(1.0)
    return judge(Registration(matrix, found, scores, time.perf_counter() - began), fixed, moving)


def judge(registration: Registration, fixed: MetaTensor, moving: MetaTensor) -> Registration:
    """Add the overlap of the fields of view to a registration's scores.

    Raises
    ------
    RegistrationError
        If there is none.
    """
    overlap = _overlap(grid_of(fixed), grid_of(moving), registration.matrix)
    if overlap == 0:
        raise RegistrationError(
            f"the fields of view do not overlap where the alignment ({registration.method}) places them: expected one "
            "patient in one place; check that the studies belong together, or align them by 'rigid'."
        )
    return replace(registration, scores={**registration.scores, "overlap": overlap})


def _same_frame(fixed: MetaTensor, moving: MetaTensor) -> bool:
    frames = [source.frame_of_reference if (source := source_of(volume)) else None for volume in (fixed, moving)]
    return frames[0] is not None and frames[0] == frames[1]


def _overlap(fixed: Grid, moving: Grid, matrix: Points) -> float:
    """Share of the fixed field of view that lies in the moving one, counted on 32³ points."""
    shares = (np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), axis=-1) + 0.5) / 32
    world = fixed.world(shares * fixed.shape - 0.5)
    index = moving.index(world @ matrix[:3, :3].T + matrix[:3, 3])
    return float(((index >= -0.5) & (index < np.array(moving.shape) - 0.5)).all(axis=-1).mean())
